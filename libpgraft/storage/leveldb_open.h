// Opens LevelDB for the log, after making sure that it may: directory, lock, room, files.
#pragma once

#include <leveldb/db.h>
#include <leveldb/env.h>
#include <leveldb/status.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "libpgraft/base/status.h"
#include "libpgraft/storage/log_store.h"

namespace pgraft::storage {

struct OpenOptions {
  // So many bytes must be writable, and are written and removed again to see it: LevelDB writes its
  // newest log once more when it opens, and a store that came back with the last free bytes would
  // be closed again by its next write. 0: not checked.
  std::uint64_t reserve_bytes = kReserveBytes;
  // LevelDB goes on in a new log file after so many bytes; 64 KiB at least.
  std::size_t write_buffer_bytes = 4u << 20;
  // Called where LevelDB has just been called and holds no lock of this thread, and before it is
  // closed: a simulated disk does background work then.
  std::function<void()> after_each_call = [] {};
};

// kNoSpace when there is no room, kUnavailable when another process has it open, kCorruption with
// what to do, kIo. `env` must outlive the database.
Result<std::unique_ptr<leveldb::DB>> open_database(const std::string& directory, leveldb::Env* env,
                                                   const OpenOptions& options);

// kNoSpace, kCorruption or kIo.
Status to_status(const leveldb::Status& s);

}  // namespace pgraft::storage
