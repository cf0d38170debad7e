#include "libpgraft/raft/log.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>
#include <utility>

#include "libpgraft/base/check.h"

namespace pgraft::raft {
namespace {

constexpr std::uint64_t kScanBytes = 1u << 20;

// Cuts to `bytes_max` of data, but leaves the first entry. 0: one entry.
void limit_bytes(std::vector<Entry>& entries, std::uint64_t bytes_max) {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    bytes += entries[i].data.size();
    if (i > 0 && (bytes > bytes_max || bytes_max == 0)) {
      entries.resize(i);
      return;
    }
  }
}

Status compacted(Index index) {
  return {Code::kNotFound, "entry " + std::to_string(index) + " is compacted"};
}

}  // namespace

std::uint64_t data_bytes(const std::vector<Entry>& entries) {
  std::uint64_t bytes = 0;
  for (const Entry& entry : entries) bytes += entry.data.size();
  return bytes;
}

RaftLog::RaftLog(const LogReader* reader)
    : reader_(reader),
      unstable_offset_(reader->last_index() + 1),
      unwritten_offset_(unstable_offset_),
      committed_(reader->first_index() - 1),
      applying_(committed_),
      applied_(committed_) {}

Index RaftLog::first_index() const {
  return unstable_snapshot_ ? unstable_snapshot_->meta.index + 1 : reader_->first_index();
}

Index RaftLog::last_index() const { return unstable_offset_ + unstable_.size() - 1; }

std::optional<Term> RaftLog::unstable_term(Index index) const {
  if (index >= unstable_offset_) {
    if (index > last_index()) return std::nullopt;
    return unstable_[index - unstable_offset_].term;
  }
  if (unstable_snapshot_ && unstable_snapshot_->meta.index == index)
    return unstable_snapshot_->meta.term;
  return std::nullopt;
}

// What the reader has there is of the past.
bool RaftLog::covered_by_unstable_snapshot(Index index) const {
  return unstable_snapshot_ && index <= unstable_snapshot_->meta.index;
}

// nullopt when compacted or not there.
std::optional<Term> RaftLog::find_term(Index index) const {
  if (const auto known = unstable_term(index)) return known;
  if (index > last_index() || covered_by_unstable_snapshot(index)) return std::nullopt;
  if (index == 0) return first_index() == 1 ? std::optional(Term{0}) : std::nullopt;
  const Result<Term> stored = reader_->term(index);
  if (stored.is_ok()) return *stored;
  PGRAFT_CHECK(
      stored.status().code() == Code::kNotFound,
      "can't read the term of entry " + std::to_string(index) + ": " + stored.status().to_string());
  return std::nullopt;
}

Result<Term> RaftLog::term(Index index) const {
  if (const auto found = find_term(index)) return *found;
  if (index > last_index())
    return Status{Code::kNotFound, "entry " + std::to_string(index) + " is not there yet"};
  return compacted(index);
}

Term RaftLog::last_term() const {
  const Result<Term> last = term(last_index());
  PGRAFT_CHECK(last.is_ok(), "the last entry has no term: " + last.status().to_string());
  return *last;
}

bool RaftLog::matches(Index index, Term term_there) const { return find_term(index) == term_there; }

bool RaftLog::up_to_date(Index index, Term term_there) const {
  const Term own = last_term();
  return term_there > own || (term_there == own && index >= last_index());
}

RaftLog::Position RaftLog::find_conflict_by_term(Index index, Term term_there) const {
  for (; index > 0; --index) {
    const Result<Term> own = term(index);
    if (!own.is_ok()) return {index, 0};
    if (*own <= term_there) return {index, *own};
  }
  return {0, 0};
}

Result<std::vector<Entry>> RaftLog::entries(Index lo, Index hi, std::uint64_t bytes_max) const {
  std::vector<Entry> found;
  if (Status status = entries_into(lo, hi, bytes_max, &found); !status) return status;
  return found;
}

Status RaftLog::entries_into(Index lo, Index hi, std::uint64_t bytes_max,
                             std::vector<Entry>* found) const {
  found->clear();
  hi = std::min(hi, last_index() + 1);
  if (lo >= hi) return {};
  if (covered_by_unstable_snapshot(lo)) return compacted(lo);
  if (lo < unstable_offset_) {
    const Index stable_end = std::min(hi, unstable_offset_);
    if (Status status = reader_->entries_into(lo, stable_end, bytes_max, found); !status) {
      PGRAFT_CHECK(status.code() == Code::kNotFound,
                   "can't read entries from " + std::to_string(lo) + ": " + status.to_string());
      found->clear();
      return status;
    }
    PGRAFT_CHECK(!found->empty() && found->front().index == lo &&
                     found->back().index == lo + found->size() - 1,
                 "the reader returned other entries than [" + std::to_string(lo) + ", " +
                     std::to_string(stable_end) + ")");
    limit_bytes(*found, bytes_max);
    if (found->size() < stable_end - lo) return {};
  }
  std::uint64_t bytes = data_bytes(*found);
  const Index first = std::max(lo, unstable_offset_);
  Index end = first;
  for (; end < hi; ++end) {
    bytes += unstable_[end - unstable_offset_].data.size();
    if (end > lo && (bytes > bytes_max || bytes_max == 0)) break;
  }
  const auto begin = unstable_.begin() + static_cast<std::ptrdiff_t>(first - unstable_offset_);
  found->insert(found->end(), begin, begin + static_cast<std::ptrdiff_t>(end - first));
  return {};
}

bool RaftLog::has_conf_change(Index lo, Index hi) const {
  lo = std::max(lo, first_index());
  while (lo < hi) {
    const Result<std::vector<Entry>> page = entries(lo, hi, kScanBytes);
    if (!page.is_ok() || page->empty()) return false;
    for (const Entry& entry : *page) {
      if (entry.type == EntryType::kConfChange) return true;
    }
    lo += page->size();
  }
  return false;
}

void RaftLog::append(std::vector<Entry>& entries) {
  if (entries.empty()) return;
  PGRAFT_CHECK(entries.front().index == last_index() + 1,
               "append of " + std::to_string(entries.front().index) + " after " +
                   std::to_string(last_index()));
  truncate_and_append(entries);
}

bool RaftLog::maybe_append(Index prev, Term prev_term, std::vector<Entry>& entries, Index commit) {
  if (!matches(prev, prev_term)) return false;
  const Index last_new = prev + entries.size();
  const Index conflict = first_conflict(entries);
  if (conflict != 0) {
    PGRAFT_CHECK(conflict > committed_, "entry " + std::to_string(conflict) +
                                            " conflicts with a committed one, commit index " +
                                            std::to_string(committed_));
    entries.erase(entries.begin(),
                  entries.begin() + static_cast<std::ptrdiff_t>(conflict - prev - 1));
    truncate_and_append(entries);
  }
  commit_to(std::min(commit, last_new));
  return true;
}

// Index of the first entry that this log has not, or has with another term; 0 when it has them all.
// Entries that agree must stay: the message may be older than what follows them (figure 2,
// AppendEntries 3 and 4).
Index RaftLog::first_conflict(const std::vector<Entry>& entries) const {
  for (const Entry& entry : entries) {
    if (!matches(entry.index, entry.term)) return entry.index;
  }
  return 0;
}

void RaftLog::truncate_and_append(std::vector<Entry>& entries) {
  const Index from = entries.front().index;
  unwritten_offset_ = std::min(unwritten_offset_, from);
  if (from < unstable_offset_) {
    unstable_offset_ = from;
    unstable_.clear();
  } else {
    unstable_.resize(from - unstable_offset_);
  }
  // The larger memory stays here.
  if (unstable_.empty() && entries.capacity() > unstable_.capacity()) {
    unstable_.swap(entries);
  } else {
    unstable_.insert(unstable_.end(), std::make_move_iterator(entries.begin()),
                     std::make_move_iterator(entries.end()));
  }
  entries.clear();
}

void RaftLog::commit_to(Index index) {
  if (index <= committed_) return;
  PGRAFT_CHECK(index <= last_index(), "commit of " + std::to_string(index) +
                                          " behind the end of the log at " +
                                          std::to_string(last_index()));
  committed_ = index;
}

bool RaftLog::maybe_commit(Index index, Term term_there) {
  if (index <= committed_ || !matches(index, term_there)) return false;
  commit_to(index);
  return true;
}

void RaftLog::restore(std::shared_ptr<const Snapshot> snapshot) {
  PGRAFT_CHECK(snapshot->meta.index >= committed_,
               "snapshot at " + std::to_string(snapshot->meta.index) + " before the commit index " +
                   std::to_string(committed_));
  committed_ = snapshot->meta.index;
  unstable_.clear();
  unstable_offset_ = snapshot->meta.index + 1;
  unwritten_offset_ = unstable_offset_;
  unstable_snapshot_ = std::move(snapshot);
  writing_snapshot_ = false;
}

std::shared_ptr<const Snapshot> RaftLog::snapshot() const {
  if (unstable_snapshot_) return unstable_snapshot_;
  Result<std::shared_ptr<const Snapshot>> stored = reader_->snapshot();
  if (!stored.is_ok() || *stored == nullptr || (*stored)->empty()) return nullptr;
  return *stored;
}

std::span<const Entry> RaftLog::unwritten_entries() const {
  return std::span(unstable_).subspan(unwritten_offset_ - unstable_offset_);
}

std::shared_ptr<const Snapshot> RaftLog::unwritten_snapshot() const {
  return writing_snapshot_ ? nullptr : unstable_snapshot_;
}

bool RaftLog::has_unwritten() const {
  return unwritten_offset_ <= last_index() || unwritten_snapshot() != nullptr;
}

std::optional<RaftLog::Position> RaftLog::unstable_end() const {
  if (unstable_.empty()) return std::nullopt;
  return Position{unstable_.back().index, unstable_.back().term};
}

void RaftLog::writing() {
  unwritten_offset_ = last_index() + 1;
  writing_snapshot_ = unstable_snapshot_ != nullptr;
}

void RaftLog::entries_stable(Index index, Term term_there) {
  // Entries that were overwritten since they were handed out are not the ones that are stable.
  if (index < unstable_offset_ || unstable_term(index) != term_there) return;
  const auto count = static_cast<std::ptrdiff_t>(index - unstable_offset_ + 1);
  unstable_.erase(unstable_.begin(), unstable_.begin() + count);
  unstable_offset_ = index + 1;
  unwritten_offset_ = std::max(unwritten_offset_, unstable_offset_);
}

void RaftLog::snapshot_stable(Index index) {
  if (!unstable_snapshot_ || unstable_snapshot_->meta.index != index) return;
  unstable_snapshot_.reset();
  writing_snapshot_ = false;
}

Index RaftLog::applicable(bool stable_only) const {
  return stable_only ? std::min(committed_, unstable_offset_ - 1) : committed_;
}

bool RaftLog::has_next_committed(bool stable_only) const {
  return !unstable_snapshot_ && applicable(stable_only) > applying_;
}

void RaftLog::next_committed(std::uint64_t bytes_max, bool stable_only,
                             std::vector<Entry>* next) const {
  next->clear();
  if (!has_next_committed(stable_only)) return;
  if (bytes_max == 0) bytes_max = std::numeric_limits<std::uint64_t>::max();
  const Status status = entries_into(applying_ + 1, applicable(stable_only) + 1, bytes_max, next);
  PGRAFT_CHECK(status.is_ok(), "committed entries after " + std::to_string(applying_) +
                                   " can't be read: " + status.to_string());
}

void RaftLog::applying(Index index) { applying_ = std::max(applying_, index); }

void RaftLog::applied_to(Index index) {
  if (index <= applied_) return;
  PGRAFT_CHECK(index <= committed_, "applied " + std::to_string(index) +
                                        " behind the commit index " + std::to_string(committed_));
  applied_ = index;
  applying(index);
}

}  // namespace pgraft::raft
