// What a store must know of its log to judge the next write, and the judgement. Shared by all
// stores, so that they refuse the same.
#pragma once

#include <optional>
#include <string>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/log_reader.h"
#include "libpgraft/raft/types.h"
#include "libpgraft/storage/log_store.h"

namespace pgraft::storage {

// Invariants: base_index <= snapshot_index <= last_index; snapshot_index <= hard.commit <=
// last_index; last_term <= hard.term.
struct LogBounds {
  raft::HardState hard;
  raft::Index base_index = 0;  // of the entry before the first one that is kept
  raft::Term base_term = 0;
  raft::Index last_index = 0;  // base_index when no entry is kept
  raft::Term last_term = 0;
  raft::Index snapshot_index = 0;
  raft::Term snapshot_term = 0;
  raft::ConfState conf;  // as of the snapshot
};

// The bounds after `batch`, or why it must not be written. `log` is the log before it.
Result<LogBounds> bounds_after_write(const LogBounds& now, const raft::LogReader& log,
                                     const WriteBatch& batch);

// The same for LogStore::save_snapshot().
Result<LogBounds> bounds_after_snapshot(const LogBounds& now, const raft::LogReader& log,
                                        const raft::Snapshot& snapshot, raft::Index first_kept);

// Term of entry i out of the bounds alone, where they have it.
std::optional<raft::Term> known_term(const LogBounds& bounds, raft::Index i);

// kNotFound for an index that is not in base..last.
Status check_term_index(const LogBounds& bounds, raft::Index i);

// kNotFound when a range that starts at lo begins before the first entry that is kept.
Status check_range_start(const LogBounds& bounds, raft::Index lo);

Status check_value(const std::string& key, const std::string& value);

}  // namespace pgraft::storage
