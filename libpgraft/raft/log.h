// RaftLog: the durable log (LogReader) and what is not durable yet, as one sequence of entries.
//
// Invariants: applied <= applying <= committed <= last_index(); committed entries never change;
// entries before unstable_offset_ are read from the reader, the others (and a snapshot on its way
// to disk) are here. Those of them before unwritten_offset_ have been handed out to be written.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/log_reader.h"
#include "libpgraft/raft/types.h"

namespace pgraft::raft {

std::uint64_t data_bytes(const std::vector<Entry>& entries);

class RaftLog {
 public:
  // `reader` must outlive the log.
  explicit RaftLog(const LogReader* reader);

  Index first_index() const;
  Index last_index() const;
  Index committed() const { return committed_; }
  Index applied() const { return applied_; }

  // kNotFound when compacted or not there.
  Result<Term> term(Index index) const;
  Term last_term() const;
  bool matches(Index index, Term term) const;
  // A log that ends with this entry is at least as complete as this one (section 5.4.1).
  bool up_to_date(Index index, Term term) const;

  struct Position {
    Index index = 0;
    Term term = 0;  // 0 when it is not known
  };
  // Greatest position at or before `index` whose term is at most `term`: where a log that has
  // `term` at `index` can still agree.
  Position find_conflict_by_term(Index index, Term term) const;

  // Entries [lo, hi), at least one if there is any, up to `bytes_max` of data in all. kNotFound
  // when lo is compacted.
  Result<std::vector<Entry>> entries(Index lo, Index hi, std::uint64_t bytes_max) const;
  // The same in place of what *found holds, which is the empty list after an error.
  Status entries_into(Index lo, Index hi, std::uint64_t bytes_max, std::vector<Entry>* found) const;
  // A configuration change in [lo, hi); false for what is compacted.
  bool has_conf_change(Index lo, Index hi) const;

  // Leader: entries that follow the last one. They are taken, the list stays the caller's.
  void append(std::vector<Entry>& entries);
  // Follower: the entries after (prev, prev_term); drops own ones that conflict. False when there
  // is no such previous entry. Commits what it can. Takes entries as append() does.
  bool maybe_append(Index prev, Term prev_term, std::vector<Entry>& entries, Index commit);

  void commit_to(Index index);
  // Only an entry of the current term is committed by counting (5.4.2). True when the commit index
  // moved.
  bool maybe_commit(Index index, Term term);

  // A snapshot replaces everything.
  void restore(std::shared_ptr<const Snapshot> snapshot);
  // Newest snapshot; null when there is none.
  std::shared_ptr<const Snapshot> snapshot() const;

  // To be made durable: what is not handed out yet, that it is handed out now, and the report that
  // it is durable. Entries that were overwritten since are to be handed out again.
  std::span<const Entry> unwritten_entries() const;  // until the log changes
  std::shared_ptr<const Snapshot> unwritten_snapshot() const;
  bool has_unwritten() const;
  void writing();
  void entries_stable(Index index, Term term);
  void snapshot_stable(Index index);
  // Something is not durable yet, handed out or not.
  bool has_unstable() const { return unstable_snapshot_ != nullptr || !unstable_.empty(); }
  std::optional<Position> unstable_end() const;
  const std::shared_ptr<const Snapshot>& unstable_snapshot() const { return unstable_snapshot_; }

  // To be applied: what is not handed out yet, that it is, and the report that it is applied.
  // Nothing while a snapshot waits to be restored. `stable_only`: nothing that is not durable here.
  bool has_next_committed(bool stable_only) const;
  void next_committed(std::uint64_t bytes_max, bool stable_only, std::vector<Entry>* next) const;
  void applying(Index index);
  void applied_to(Index index);

  // Commit index as stored before the restart.
  void restore_committed(Index index) { commit_to(index); }

 private:
  Index first_conflict(const std::vector<Entry>& entries) const;
  void truncate_and_append(std::vector<Entry>& entries);
  bool covered_by_unstable_snapshot(Index index) const;
  std::optional<Term> unstable_term(Index index) const;
  std::optional<Term> find_term(Index index) const;
  Index applicable(bool stable_only) const;

  const LogReader* reader_;
  std::shared_ptr<const Snapshot> unstable_snapshot_;
  std::vector<Entry> unstable_;  // unstable_[i] has index unstable_offset_ + i
  Index unstable_offset_;
  Index unwritten_offset_;
  bool writing_snapshot_ = false;
  Index committed_;
  Index applying_;
  Index applied_;
};

}  // namespace pgraft::raft
