// Progress: what a leader knows of one member's log, and how fast it may send to it.
//
// Invariants: match < next; in kReplicate next - 1 is the last entry sent; what is in flight lies
// in (match, next).
//   kProbe      one message at a time, until the follower's log is found to agree at next - 1
//   kReplicate  pipelined: next advances as entries are sent, bounded by the inflight limits
//   kSnapshot   nothing is sent until the snapshot is reported or the follower has caught up
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "libpgraft/raft/raw_node.h"
#include "libpgraft/raft/types.h"

namespace pgraft::raft {

struct InflightLimits {
  std::size_t msgs_max = 256;
  std::uint64_t bytes_max = 0;  // 0: no limit
};

// The kAppend messages on their way to one follower, by the index of their last entry.
class Inflights {
 public:
  explicit Inflights(InflightLimits limits) : limits_(limits) {}

  // May pass the byte limit by one message: a message larger than the limit must get through.
  void add(Index last, std::uint64_t bytes);
  // All messages up to `index` have arrived.
  void free_to(Index index);
  void clear();
  bool full() const;
  std::size_t count() const { return count_; }

 private:
  struct Sent {
    Index last;
    std::uint64_t bytes;
  };
  Sent& at(std::size_t i) { return ring_[(first_ + i) % ring_.size()]; }

  InflightLimits limits_;
  std::vector<Sent> ring_;  // `count_` from `first_` on, ascending
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::uint64_t bytes_ = 0;
};

struct Progress {
  Progress(Index next_index, bool learner, InflightLimits limits)
      : next(next_index), is_learner(learner), inflights(limits) {}

  Index match = 0;        // known to be stored there
  Index next;             // to be sent next
  Index sent_commit = 0;  // greatest commit index in a message that is not known to be lost
  ProgressState state = ProgressState::kProbe;
  Index pending_snapshot = 0;  // kSnapshot only: its index
  bool paused = false;         // kProbe: a probe is out; kReplicate: the inflight limit was reached
  bool recent_active = false;  // answered since the last quorum check
  bool is_learner;
  std::uint64_t stamp = 0;          // greatest own tick that the member has echoed in this term
  std::uint64_t response_tick = 0;  // own tick of its last response in this term
  Inflights inflights;

  void become_probe();
  void become_replicate();
  void become_snapshot(Index index);

  bool blocked() const { return state == ProgressState::kSnapshot || paused; }
  void sent_entries(std::size_t count, std::uint64_t bytes);

  // The member stores everything up to `index`. False when that is nothing new.
  bool acknowledge(Index index);
  // The member refused the entries after `rejected`; `hint` is the last index that may agree. False
  // when the refusal is old.
  bool back_up(Index rejected, Index hint);
  // A message with this commit index would let the member commit entries that it can't have heard
  // of yet.
  bool commit_is_news(Index commit) const { return commit > sent_commit && sent_commit + 1 < next; }

 private:
  void enter(ProgressState new_state);
};

}  // namespace pgraft::raft
