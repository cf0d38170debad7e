#include "libpgraft/storage/synced_logs_env.h"

#include <memory>
#include <utility>

namespace pgraft::storage {

// LevelDB closes a log by destroying it.
class SyncedLogsEnv::Log final : public leveldb::WritableFile {
 public:
  Log(SyncedLogsEnv* env, std::unique_ptr<leveldb::WritableFile> file)
      : env_(env), file_(std::move(file)) {}
  ~Log() override {
    if (unsynced_ && !file_->Sync().ok()) env_->failed_ = true;
  }

  leveldb::Status Append(const leveldb::Slice& data) override {
    unsynced_ = true;
    return file_->Append(data);
  }
  leveldb::Status Close() override {
    leveldb::Status s = unsynced_ ? Log::Sync() : leveldb::Status::OK();
    const leveldb::Status closed = file_->Close();
    return s.ok() ? closed : s;
  }
  leveldb::Status Flush() override { return file_->Flush(); }
  leveldb::Status Sync() override {
    leveldb::Status s = file_->Sync();
    if (s.ok()) unsynced_ = false;
    return s;
  }

 private:
  SyncedLogsEnv* env_;
  std::unique_ptr<leveldb::WritableFile> file_;
  bool unsynced_ = false;
};

leveldb::Status SyncedLogsEnv::NewWritableFile(const std::string& name,
                                               leveldb::WritableFile** file) {
  leveldb::Status s = target()->NewWritableFile(name, file);
  if (s.ok() && name.ends_with(".log")) {
    *file = new Log(this, std::unique_ptr<leveldb::WritableFile>(*file));
  }
  return s;
}

}  // namespace pgraft::storage
