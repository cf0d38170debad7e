// What the core reads of the durable log. Implemented by storage/ (LevelDB, memory).
//
// Everything here has been persisted by the caller before it called RawNode::advance(). Reads must
// see it.
#pragma once

#include <utility>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/types.h"

namespace pgraft::raft {

class LogReader {
 public:
  virtual ~LogReader() = default;

  struct InitialState {
    HardState hard;
    ConfState conf;  // as of the snapshot; later changes are in the log and are applied again
  };
  virtual Result<InitialState> initial_state() const = 0;

  // Index of the first entry that can be read: the snapshot's index + 1, or less where a tail was
  // kept behind the snapshot. Last index: the snapshot's index when the log is empty.
  virtual Index first_index() const = 0;
  virtual Index last_index() const = 0;

  // Term of entry i, for first_index()-1 <= i <= last_index(); kNotFound when compacted or not
  // there yet.
  virtual Result<Term> term(Index i) const = 0;

  // Entries [lo, hi), at least one if there is any, no more than max_bytes of data beyond the
  // first. kNotFound when lo is compacted.
  virtual Result<std::vector<Entry>> entries(Index lo, Index hi, std::uint64_t max_bytes) const = 0;
  // The same in place of what *found holds; in its memory, where a reader can.
  virtual Status entries_into(Index lo, Index hi, std::uint64_t max_bytes,
                              std::vector<Entry>* found) const {
    Result<std::vector<Entry>> read = entries(lo, hi, max_bytes);
    if (!read.is_ok()) return read.status();
    *found = std::move(read).value();
    return {};
  }

  // Newest snapshot; empty() when there is none. May be shared with messages, so it is immutable.
  virtual Result<std::shared_ptr<const Snapshot>> snapshot() const = 0;
};

}  // namespace pgraft::raft
