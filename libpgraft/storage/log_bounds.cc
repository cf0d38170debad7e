#include "libpgraft/storage/log_bounds.h"

#include <algorithm>

namespace pgraft::storage {
namespace {

Status invalid(std::string message) {
  return {Code::kInvalidArgument, "log write refused: " + std::move(message)};
}

std::string number(std::uint64_t n) { return std::to_string(n); }

void set_snapshot(LogBounds* bounds, const raft::SnapshotMeta& meta) {
  bounds->snapshot_index = meta.index;
  bounds->snapshot_term = meta.term;
  bounds->conf = meta.conf;
  bounds->hard.commit = std::max(bounds->hard.commit, meta.index);
}

Status check_hard_state(const raft::HardState& now, const raft::HardState& next) {
  if (next.term < now.term) {
    return invalid("term " + number(next.term) + " after " + number(now.term));
  }
  // Section 5.2: one vote a term, whatever happens in between.
  if (next.term == now.term && now.vote != raft::kNoNode && next.vote != now.vote) {
    return invalid("vote for node " + number(next.vote) + " after one for node " +
                   number(now.vote) + " in term " + number(now.term));
  }
  if (next.commit < now.commit) {
    return invalid("commit index " + number(next.commit) + " after " + number(now.commit));
  }
  return Status::ok();
}

// Appends `entries` to `bounds`, which has its last entry replaced if they begin before its end.
Status append(LogBounds* bounds, const raft::LogReader& log, raft::Index commit,
              std::span<const raft::Entry> entries) {
  const raft::Index first = entries.front().index;
  if (first <= commit || first <= bounds->base_index) {
    return invalid("entry " + number(first) + " would replace a committed one (commit index " +
                   number(std::max(commit, bounds->base_index)) + ")");
  }
  if (first > bounds->last_index + 1) {
    return invalid("entry " + number(first) + " after " + number(bounds->last_index) +
                   " leaves a gap");
  }
  raft::Term before = bounds->last_term;
  if (first <= bounds->last_index) {
    const Result<raft::Term> term = log.term(first - 1);
    if (!term.is_ok()) return term.status();
    before = *term;
  }
  raft::Index expected = first;
  for (const raft::Entry& entry : entries) {
    if (entry.index != expected) {
      return invalid("entry " + number(entry.index) + " where " + number(expected) +
                     " was expected");
    }
    if (entry.term < before || entry.term == 0) {
      return invalid("entry " + number(entry.index) + " of term " + number(entry.term) +
                     " after term " + number(before));
    }
    if (entry.data.size() > kMaxEntryBytes) {
      return {Code::kResourceExhausted,
              "entry " + number(entry.index) + " has " + number(entry.data.size()) +
                  " bytes of data, the limit is " + number(kMaxEntryBytes)};
    }
    before = entry.term;
    ++expected;
  }
  bounds->last_index = entries.back().index;
  bounds->last_term = entries.back().term;
  return Status::ok();
}

Status check_invariants(const LogBounds& bounds) {
  if (bounds.hard.commit > bounds.last_index) {
    return invalid("commit index " + number(bounds.hard.commit) + " is beyond the last entry " +
                   number(bounds.last_index));
  }
  if (bounds.hard.term < bounds.last_term) {
    return invalid("hard state of term " + number(bounds.hard.term) +
                   " is older than the last entry's term " + number(bounds.last_term));
  }
  return Status::ok();
}

}  // namespace

Result<LogBounds> bounds_after_write(const LogBounds& now, const raft::LogReader& log,
                                     const WriteBatch& batch) {
  LogBounds next = now;
  if (batch.hard_state) {
    if (Status s = check_hard_state(now.hard, *batch.hard_state); !s.is_ok()) return s;
    next.hard = *batch.hard_state;
  }
  if (batch.snapshot != nullptr) {
    const raft::SnapshotMeta& meta = batch.snapshot->meta;
    if (meta.index == 0 || meta.term == 0) return invalid("empty snapshot");
    // It replaces the log: one that is behind the commit index would forget committed entries.
    if (meta.index < now.hard.commit) {
      return invalid("snapshot at " + number(meta.index) + " is behind the commit index " +
                     number(now.hard.commit));
    }
    next.base_index = next.last_index = meta.index;
    next.base_term = next.last_term = meta.term;
    set_snapshot(&next, meta);
  }
  if (!batch.entries.empty()) {
    if (Status s = append(&next, log, now.hard.commit, batch.entries); !s.is_ok()) return s;
  }
  if (Status s = check_invariants(next); !s.is_ok()) return s;
  return next;
}

Result<LogBounds> bounds_after_snapshot(const LogBounds& now, const raft::LogReader& log,
                                        const raft::Snapshot& snapshot, raft::Index first_kept) {
  const raft::SnapshotMeta& meta = snapshot.meta;
  if (meta.index == 0) return invalid("empty snapshot");
  if (meta.index < now.snapshot_index) {
    return invalid("snapshot at " + number(meta.index) + " is older than the one at " +
                   number(now.snapshot_index));
  }
  const Result<raft::Term> term = log.term(meta.index);
  if (!term.is_ok()) return term.status().with_context("snapshot at " + number(meta.index));
  if (*term != meta.term) {
    return invalid("snapshot at " + number(meta.index) + " has term " + number(meta.term) +
                   ", the log has " + number(*term));
  }
  if (first_kept > meta.index + 1) {
    return invalid("first kept entry " + number(first_kept) +
                   " is not covered by the snapshot at " + number(meta.index));
  }
  LogBounds next = now;
  set_snapshot(&next, meta);
  if (first_kept > now.base_index + 1) {
    const Result<raft::Term> base_term = log.term(first_kept - 1);
    if (!base_term.is_ok()) return base_term.status();
    next.base_index = first_kept - 1;
    next.base_term = *base_term;
  }
  if (Status s = check_invariants(next); !s.is_ok()) return s;
  return next;
}

std::optional<raft::Term> known_term(const LogBounds& bounds, raft::Index i) {
  if (i == bounds.last_index) return bounds.last_term;
  if (i == bounds.base_index) return bounds.base_term;
  if (i == bounds.snapshot_index) return bounds.snapshot_term;
  return std::nullopt;
}

Status check_term_index(const LogBounds& bounds, raft::Index i) {
  if (i < bounds.base_index) {
    return {Code::kNotFound, "entry " + number(i) + " is compacted, the log starts after " +
                                 number(bounds.base_index)};
  }
  if (i > bounds.last_index) {
    return {Code::kNotFound,
            "entry " + number(i) + " is not there, the last one is " + number(bounds.last_index)};
  }
  return Status::ok();
}

Status check_range_start(const LogBounds& bounds, raft::Index lo) {
  if (lo > bounds.base_index) return Status::ok();
  return {Code::kNotFound, "entry " + number(lo) + " is compacted, the log starts after " +
                               number(bounds.base_index)};
}

Status check_value(const std::string& key, const std::string& value) {
  if (key.empty() || key.size() > kMaxStoredNameBytes) {
    return {Code::kInvalidArgument,
            "name of a stored value must have 1 to " + number(kMaxStoredNameBytes) + " bytes"};
  }
  if (value.size() > kMaxStoredValueBytes) {
    return {Code::kResourceExhausted, "value \"" + key + "\" has " + number(value.size()) +
                                          " bytes, the limit is " + number(kMaxStoredValueBytes)};
  }
  return Status::ok();
}

}  // namespace pgraft::storage
