// An Env for LevelDB that syncs a log file before it is closed.
//
// LevelDB closes a full log and goes on in a new one without a sync: what was written with
// sync = false to the old one could be lost although later, synced writes are there. With this,
// what a synced write left behind holds everything before it, and only the newest log can end in
// the middle of a record.
#pragma once

#include <leveldb/env.h>

#include <atomic>
#include <string>

namespace pgraft::storage {

class SyncedLogsEnv final : public leveldb::EnvWrapper {
 public:
  // `env` must outlive it, and it whatever is open.
  explicit SyncedLogsEnv(leveldb::Env* env) : EnvWrapper(env) {}

  leveldb::Status NewWritableFile(const std::string& name, leveldb::WritableFile** file) override;

  // A log could not be synced when it was closed, so that what was written before is not certain.
  bool failed() const { return failed_; }

 private:
  class Log;
  std::atomic<bool> failed_{false};
};

}  // namespace pgraft::storage
