#include "libpgraft/raft/progress.h"

#include <algorithm>
#include <string>

#include "libpgraft/base/check.h"

namespace pgraft::raft {
namespace {

constexpr std::size_t kLeastRing = 8;

}  // namespace

void Inflights::add(Index last, std::uint64_t bytes) {
  PGRAFT_CHECK(!full(), "append of " + std::to_string(last) + " beyond the inflight limit");
  if (count_ == ring_.size()) {
    std::rotate(ring_.begin(), ring_.begin() + static_cast<std::ptrdiff_t>(first_), ring_.end());
    first_ = 0;
    ring_.resize(std::max(kLeastRing, 2 * ring_.size()));
  }
  at(count_++) = {last, bytes};
  bytes_ += bytes;
}

void Inflights::free_to(Index index) {
  for (; count_ > 0 && at(0).last <= index; --count_) {
    bytes_ -= at(0).bytes;
    first_ = (first_ + 1) % ring_.size();
  }
}

void Inflights::clear() {
  count_ = 0;
  bytes_ = 0;
}

bool Inflights::full() const {
  return count_ >= limits_.msgs_max || (limits_.bytes_max != 0 && bytes_ >= limits_.bytes_max);
}

void Progress::enter(ProgressState new_state) {
  state = new_state;
  paused = false;
  pending_snapshot = 0;
  inflights.clear();
}

void Progress::become_probe() {
  // After a snapshot that was reported as sent, probe behind it, not behind the old match.
  const Index sent_to = state == ProgressState::kSnapshot ? pending_snapshot : 0;
  enter(ProgressState::kProbe);
  next = std::max(match, sent_to) + 1;
  sent_commit = std::min(sent_commit, next - 1);
}

void Progress::become_replicate() {
  enter(ProgressState::kReplicate);
  next = match + 1;
}

void Progress::become_snapshot(Index index) {
  enter(ProgressState::kSnapshot);
  pending_snapshot = index;
  next = index + 1;
  sent_commit = index;
}

void Progress::sent_entries(std::size_t count, std::uint64_t bytes) {
  switch (state) {
    case ProgressState::kProbe:
      if (count > 0) paused = true;
      return;
    case ProgressState::kReplicate:
      if (count > 0) {
        next += count;
        inflights.add(next - 1, bytes);
      }
      // A full pipeline turns the last message into a probe: a heartbeat response lifts the pause,
      // so that a follower that lost all of them is not forgotten.
      paused = inflights.full();
      return;
    case ProgressState::kSnapshot:
      PGRAFT_CHECK(false, "entries sent to a member that waits for a snapshot");
  }
}

bool Progress::acknowledge(Index index) {
  if (index <= match) return false;
  match = index;
  next = std::max(next, index + 1);
  paused = false;
  return true;
}

bool Progress::back_up(Index rejected, Index hint) {
  // Messages may be reordered: what was matched stays matched. A member that has lost it (an old
  // copy of its log) is probed with the heartbeats, not as fast as it can refuse.
  if (rejected <= match) return false;
  if (state == ProgressState::kReplicate) {
    next = match + 1;
  } else {
    if (next - 1 != rejected) return false;
    next = std::max(std::min(rejected, hint + 1), match + 1);
    paused = false;
  }
  sent_commit = std::min(sent_commit, next - 1);
  return true;
}

}  // namespace pgraft::raft
