// The durable log: hard state, entries, the newest snapshot, and a few small values, behind one
// interface.
//
// write() is atomic: after a crash either all of it or nothing is there. After a write with
// sync = true everything that was written before is durable too.
//
// A write that fails poisons the store: every later one fails with the same code, since what the
// disk holds is no longer known. It may be there or not when the store is opened the next time,
// whole or not at all.
//   kIo, kCorruption: the node must stop.
//   kNoSpace: the disk is full. Everything acknowledged is safe, nothing more can be written. The
//   owner destroys the store and opens it again, which gives kNoSpace as long as there is no room;
//   then it goes on from what the new store holds.
//
// Threads: one thread writes (write(), save_snapshot()), and another one may call everything else
// meanwhile, put_value() too, which waits for a write under way. Reads see a write once it has
// returned, values and snapshots maybe as soon as they are durable, nothing before. Of entries that
// a write under way replaces or removes reads give the old ones, as the log was, or kNotFound; what
// one call returns belongs together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/log_reader.h"
#include "libpgraft/raft/types.h"

namespace pgraft::storage {

// Bounds. What is over one is refused with kResourceExhausted when it is written and is kCorruption
// when it is read.
inline constexpr std::size_t kMaxEntryBytes =
    32u << 20;  // of an entry's data; an append of it must fit into a frame
inline constexpr std::size_t kMaxStoredNameBytes = 255;
inline constexpr std::size_t kMaxStoredValueBytes = 1u << 20;

// What must be free for a log to be opened.
inline constexpr std::uint64_t kReserveBytes = 16u << 20;

// One ready's worth. Entries replace what the log has at and after their first index. A snapshot
// replaces the whole log.
struct WriteBatch {
  std::optional<raft::HardState> hard_state;
  std::span<const raft::Entry> entries;
  const raft::Snapshot* snapshot = nullptr;
  bool sync = true;
};

class LogStore : public raft::LogReader {
 public:
  // A batch that would break what Raft relies on (a gap, a term or commit index that goes back, a
  // second vote in a term, a committed entry replaced, commit beyond the log) is refused with
  // kInvalidArgument and nothing is written. A snapshot is committed by definition: it raises the
  // stored commit index.
  virtual Status write(const WriteBatch& batch) = 0;

  // Saves the state machine's snapshot as of meta.index (which is applied) and removes the entries
  // before `first_kept` (a tail stays for followers that are just behind). Entries after meta.index
  // stay.
  virtual Status save_snapshot(const raft::Snapshot& snapshot, raft::Index first_kept) = 0;

  // Small values that are not in the log: "max_ack_timeline", ... Synced. kNotFound from get.
  virtual Status put_value(const std::string& key, const std::string& value) = 0;
  virtual Result<std::string> get_value(const std::string& key) const = 0;

  // Nothing was ever written (a node without a cluster).
  virtual bool is_blank() const = 0;
};

// Opens or creates. Start-up checks LevelDB's files and what the log says of itself: format
// version, gaps between entries, terms that go back, commit beyond the log, checksums, snapshot and
// log that do not fit; kCorruption says which and what to do, nothing is repaired by guessing. An
// entry's own checksum, which covers what those of LevelDB cover again, is checked whenever it is
// read. kMismatch when a newer version has written it: nothing is changed then. kUnavailable when
// another process has it open, kNoSpace when less than `reserve_bytes` can
// be written.
Result<std::unique_ptr<LogStore>> open_leveldb_store(const std::string& directory,
                                                     std::uint64_t reserve_bytes = kReserveBytes);

// The same behaviour in memory, for the simulator and scripts.
std::unique_ptr<LogStore> make_memory_store();

}  // namespace pgraft::storage
