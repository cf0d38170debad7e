#include "libpgraft/storage/leveldb_open.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include "libpgraft/storage/leveldb_files.h"
#include "libpgraft/storage/open_checks.h"

namespace pgraft::storage {
namespace {

// LevelDB starts its compaction thread when it first needs one, from whatever thread writes then.
// Started here, it has all signals blocked: the host process's handlers must not run on it.
void start_background_thread(leveldb::Env* env) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  env->Schedule([](void*) {}, nullptr);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Status create_directories(const std::string& directory, leveldb::Env* env) {
  leveldb::Status made;
  for (std::size_t slash = directory.find('/', 1);; slash = directory.find('/', slash + 1)) {
    made = env->CreateDir(directory.substr(0, slash));  // most are there
    if (slash == std::string::npos) break;
  }
  return env->FileExists(directory) ? Status::ok() : to_status(made);
}

// Not zeros: a file system that compresses would store nothing.
std::string incompressible(std::size_t bytes) {
  std::mt19937_64 random(bytes);
  std::string result(bytes, '\0');
  for (std::size_t i = 0; i < bytes; i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(result.data() + i, &word, std::min(bytes - i, sizeof(word)));
  }
  return result;
}

// Not synced: file systems account for space when they take a write, and a start should not wait
// for the disk.
Status check_room(const std::string& directory, leveldb::Env* env, std::uint64_t bytes) {
  if (bytes == 0) return Status::ok();
  const std::string name = directory + "/reserve";
  const std::string chunk = incompressible(std::min<std::uint64_t>(bytes, 1u << 20));
  leveldb::WritableFile* opened = nullptr;
  leveldb::Status s = env->NewWritableFile(name, &opened);
  std::unique_ptr<leveldb::WritableFile> file(opened);
  for (std::uint64_t left = bytes; s.ok() && left > 0; left -= std::min(left, chunk.size())) {
    s = file->Append({chunk.data(), std::min(left, chunk.size())});
  }
  if (s.ok()) s = file->Close();
  file.reset();
  env->RemoveFile(name);  // written anew next time, if this fails
  return to_status(s).with_context("could not write " + std::to_string(bytes) +
                                   " bytes that must be free");
}

Status lock_error(const leveldb::Status& s) {
  if (s.ToString().find("lock ") == std::string::npos) return to_status(s);
  return {Code::kUnavailable, "it is in use by another process: " + s.ToString()};
}

// LevelDB takes the lock itself: it can't be handed over. Whoever comes in between finds the same.
Status check_directory(const std::string& directory, leveldb::Env* env, std::uint64_t reserve) {
  leveldb::FileLock* lock = nullptr;
  const leveldb::Status locked = env->LockFile(directory + "/LOCK", &lock);
  if (!locked.ok()) return lock_error(locked);
  Status s = check_room(directory, env, reserve);
  if (s.is_ok()) s = check_files(env, directory);
  env->UnlockFile(lock);
  return s;
}

Result<std::unique_ptr<leveldb::DB>> open_checked(const std::string& directory, leveldb::Env* env,
                                                  const OpenOptions& options) {
  if (Status s = create_directories(directory, env); !s.is_ok()) return s;
  if (Status s = check_directory(directory, env, options.reserve_bytes); !s.is_ok()) return s;

  start_background_thread(env);
  leveldb::Options database;
  database.env = env;
  database.create_if_missing = true;
  database.paranoid_checks = true;
  database.compression =
      leveldb::kNoCompression;  // entries are small, and processor time is the database's
  database.max_open_files = 64;
  database.write_buffer_size = options.write_buffer_bytes;
  leveldb::DB* db = nullptr;
  const leveldb::Status s = leveldb::DB::Open(database, directory, &db);
  if (!s.ok()) return lock_error(s);
  return std::unique_ptr<leveldb::DB>(db);
}

}  // namespace

Status to_status(const leveldb::Status& s) {
  if (s.ok()) return Status::ok();
  const std::string text = s.ToString();
  if (s.IsCorruption()) return {Code::kCorruption, text};
  // LevelDB hands on the text alone.
  for (const int full : {ENOSPC, EDQUOT}) {
    if (text.find(std::strerror(full)) != std::string::npos) return {Code::kNoSpace, text};
  }
  return {Code::kIo, text};
}

Result<std::unique_ptr<leveldb::DB>> open_database(const std::string& directory, leveldb::Env* env,
                                                   const OpenOptions& options) {
  Result<std::unique_ptr<leveldb::DB>> db = open_checked(directory, env, options);
  options.after_each_call();
  if (db.status().code() != Code::kCorruption) return db;
  return Status(Code::kCorruption, db.status().message() + kWhatToDo);
}

}  // namespace pgraft::storage
