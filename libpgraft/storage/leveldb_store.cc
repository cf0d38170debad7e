#include "libpgraft/storage/leveldb_store.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "libpgraft/storage/open_checks.h"
#include "libpgraft/storage/record.h"

namespace pgraft::storage {
namespace {

constexpr std::size_t kTailBytesMax = 1u << 20;
constexpr std::size_t kTailEntriesMax = 4096;

leveldb::ReadOptions verified() {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  return options;
}

// LevelDB starts its compaction thread when it first needs one, from whatever thread writes then.
// Started here, it has all signals blocked: the host process's handlers must not run on it.
void start_background_thread(leveldb::Env* env) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  env->Schedule([](void*) {}, nullptr);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// LevelDB makes a new database where CURRENT is missing, whatever else is there. Here that is a log
// that lost a file.
Status check_current_file(const std::filesystem::path& directory) {
  std::error_code error;
  if (std::filesystem::exists(directory / "CURRENT", error)) return Status::ok();
  for (const auto& file : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = file.path().filename().string();
    if (name.ends_with(".ldb") || name.ends_with(".log") || name.starts_with("MANIFEST-")) {
      return {Code::kCorruption, "file CURRENT is missing beside " + name + kWhatToDo};
    }
  }
  return Status::ok();
}

Status open_error(const leveldb::Status& s) {
  const std::string text = s.ToString();
  if (s.IsCorruption()) return {Code::kCorruption, text + kWhatToDo};
  if (s.IsIOError() && text.find("lock ") != std::string::npos) {
    return {Code::kUnavailable, "it is in use by another process: " + text};
  }
  return {Code::kIo, text};
}

Result<std::unique_ptr<leveldb::DB>> open_database(const std::string& directory,
                                                   leveldb::Env* env) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return Status(Code::kIo, error.message());
  if (Status s = check_current_file(directory); !s.is_ok()) return s;

  start_background_thread(env);
  leveldb::Options options;
  options.env = env;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.compression =
      leveldb::kNoCompression;  // entries are small, and processor time is the database's
  options.max_open_files = 64;
  leveldb::DB* db = nullptr;
  const leveldb::Status s = leveldb::DB::Open(options, directory, &db);
  if (!s.ok()) return open_error(s);
  return std::unique_ptr<leveldb::DB>(db);
}

Status write_format(leveldb::DB* db) {
  leveldb::WriteOptions options;
  options.sync = true;
  const leveldb::Status s =
      db->Put(options, record::kFormatKey,
              record::seal(record::kFormatKey, record::encode_format(record::kFormatVersion)));
  return s.ok() ? Status::ok() : Status(Code::kIo, s.ToString());
}

template <class T>
void put(leveldb::WriteBatch* changes, const std::string& key, const T& value) {
  changes->Put(key, record::seal(key, record::encode(value)));
}

void remove_entries(leveldb::WriteBatch* changes, raft::Index first, raft::Index last) {
  for (raft::Index i = first; i <= last; ++i) changes->Delete(record::entry_key(i));
}

}  // namespace

Result<std::unique_ptr<LogStore>> LevelDbStore::open(const std::string& directory,
                                                     leveldb::Env* env) {
  const std::string context = "could not open the raft log in \"" + directory + "\"";
  Result<std::unique_ptr<leveldb::DB>> db = open_database(directory, env);
  if (!db.is_ok()) return db.status().with_context(context);
  Result<CheckedLog> log = check_log(db->get());
  if (!log.is_ok()) return log.status().with_context(context);
  if (log->blank) {
    if (Status s = write_format(db->get()); !s.is_ok()) return s.with_context(context);
  }
  return std::unique_ptr<LogStore>(
      new LevelDbStore(directory, std::move(*db), std::move(log->bounds), log->blank));
}

Result<raft::LogReader::InitialState> LevelDbStore::initial_state() const {
  return InitialState{bounds_.hard, bounds_.conf};
}

Result<raft::Term> LevelDbStore::term(raft::Index i) const {
  if (Status s = check_term_index(bounds_, i); !s.is_ok()) return s;
  if (const auto known = known_term(bounds_, i)) return *known;
  if (const raft::Entry* entry = remembered(i)) return entry->term;
  const Result<raft::Entry> entry = read_entry(i);
  if (!entry.is_ok()) return entry.status();
  return entry->term;
}

Result<std::vector<raft::Entry>> LevelDbStore::entries(raft::Index lo, raft::Index hi,
                                                       std::uint64_t max_bytes) const {
  if (Status s = check_range_start(bounds_, lo); !s.is_ok()) return s;
  std::vector<raft::Entry> result;
  std::uint64_t bytes = 0;
  for (raft::Index i = lo; i < hi && i <= bounds_.last_index; ++i) {
    const raft::Entry* known = remembered(i);
    Result<raft::Entry> entry = known != nullptr ? Result<raft::Entry>(*known) : read_entry(i);
    if (!entry.is_ok()) return entry.status();
    bytes += i == lo ? 0 : entry->data.size();
    if (bytes > max_bytes) break;
    result.push_back(std::move(*entry));
  }
  return result;
}

Result<std::shared_ptr<const raft::Snapshot>> LevelDbStore::snapshot() const {
  if (bounds_.snapshot_index == 0) return std::make_shared<const raft::Snapshot>();
  if (auto shared = shared_snapshot_.lock()) return shared;
  const Result<std::string> payload = read(record::kSnapshotKey);
  if (!payload.is_ok()) return payload.status();
  Result<raft::Snapshot> snapshot = record::decode_snapshot(*payload);
  if (!snapshot.is_ok()) return snapshot.status().with_context("snapshot");
  auto shared = std::make_shared<const raft::Snapshot>(std::move(*snapshot));
  shared_snapshot_ = shared;
  return shared;
}

Status LevelDbStore::write(const WriteBatch& batch) {
  Result<LogBounds> next = bounds_after_write(bounds_, *this, batch);
  if (!next.is_ok()) return next.status();

  leveldb::WriteBatch changes;
  if (batch.snapshot != nullptr) {
    remove_entries(&changes, bounds_.base_index + 1, bounds_.last_index);
    put(&changes, record::kSnapshotKey, *batch.snapshot);
    put(&changes, record::kLogStartKey, record::LogStart{next->base_index, next->base_term});
  } else if (!batch.entries.empty()) {
    // Stale entries behind the new end go in the same write: left there, they would come back as
    // the log's after a restart.
    remove_entries(&changes, next->last_index + 1, bounds_.last_index);
  }
  for (const raft::Entry& entry : batch.entries) {
    put(&changes, record::entry_key(entry.index), entry);
  }
  if (batch.hard_state || !(next->hard == bounds_.hard)) {
    put(&changes, record::kHardStateKey, next->hard);
  }
  if (Status s = commit(&changes, batch.sync); !s.is_ok()) return s;

  if (batch.snapshot != nullptr) {
    tail_.clear();
    tail_bytes_ = 0;
    shared_snapshot_.reset();
  }
  bounds_ = std::move(*next);
  remember(batch.entries);
  return Status::ok();
}

Status LevelDbStore::save_snapshot(const raft::Snapshot& snapshot, raft::Index first_kept) {
  Result<LogBounds> next = bounds_after_snapshot(bounds_, *this, snapshot, first_kept);
  if (!next.is_ok()) return next.status();

  leveldb::WriteBatch changes;
  remove_entries(&changes, bounds_.base_index + 1, next->base_index);
  put(&changes, record::kSnapshotKey, snapshot);
  put(&changes, record::kLogStartKey, record::LogStart{next->base_index, next->base_term});
  put(&changes, record::kHardStateKey, next->hard);
  if (Status s = commit(&changes, true); !s.is_ok()) return s;

  shared_snapshot_.reset();
  bounds_ = std::move(*next);
  while (!tail_.empty() && tail_.front().index <= bounds_.base_index) {
    tail_bytes_ -= tail_.front().data.size();
    tail_.pop_front();
  }
  return Status::ok();
}

Status LevelDbStore::put_value(const std::string& key, const std::string& value) {
  if (Status s = check_value(key, value); !s.is_ok()) return s;
  leveldb::WriteBatch changes;
  const std::string stored = record::value_key(key);
  changes.Put(stored, record::seal(stored, value));
  return commit(&changes, true);
}

Result<std::string> LevelDbStore::get_value(const std::string& key) const {
  Result<std::string> value = read(record::value_key(key));
  if (value.status().code() == Code::kNotFound) {
    return Status(Code::kNotFound, "no value \"" + key + "\"");
  }
  return value;
}

Status LevelDbStore::commit(leveldb::WriteBatch* changes, bool sync) {
  const std::string context = "could not write to the raft log in \"" + directory_ + "\"";
  if (poisoned_) {
    return {Code::kIo, context + ": an earlier write failed, and what the disk holds is not known"};
  }
  if (changes->ApproximateSize() == leveldb::WriteBatch().ApproximateSize() && !sync) {
    return Status::ok();
  }
  leveldb::WriteOptions options;
  options.sync = sync;
  const leveldb::Status s = db_->Write(options, changes);
  if (!s.ok()) {
    poisoned_ = true;
    return {Code::kIo, context + ": " + s.ToString()};
  }
  if (changes->ApproximateSize() != leveldb::WriteBatch().ApproximateSize()) blank_ = false;
  return Status::ok();
}

Result<std::string> LevelDbStore::read(const std::string& key) const {
  std::string value;
  const leveldb::Status s = db_->Get(verified(), key, &value);
  if (s.IsNotFound()) return Status(Code::kNotFound, record::describe(key) + " is not there");
  if (!s.ok()) {
    return Status(s.IsCorruption() ? Code::kCorruption : Code::kIo,
                  record::describe(key) + " can't be read: " + s.ToString());
  }
  const Result<std::string_view> payload = record::open(key, value);
  if (!payload.is_ok()) return payload.status();
  return std::string(*payload);
}

Result<raft::Entry> LevelDbStore::read_entry(raft::Index i) const {
  const std::string key = record::entry_key(i);
  const Result<std::string> payload = read(key);
  // Within the bounds every entry was there when the store was opened.
  if (payload.status().code() == Code::kNotFound) {
    return Status(Code::kCorruption, payload.status().message());
  }
  if (!payload.is_ok()) return payload.status();
  Result<raft::Entry> entry = record::decode_entry(*payload);
  if (!entry.is_ok()) return entry.status().with_context(record::describe(key));
  return entry;
}

void LevelDbStore::remember(std::span<const raft::Entry> entries) {
  if (entries.empty()) return;
  while (!tail_.empty() && tail_.back().index >= entries.front().index) {
    tail_bytes_ -= tail_.back().data.size();
    tail_.pop_back();
  }
  for (const raft::Entry& entry : entries) {
    tail_bytes_ += entry.data.size();
    tail_.push_back(entry);
  }
  while (tail_.size() > kTailEntriesMax || (tail_bytes_ > kTailBytesMax && tail_.size() > 1)) {
    tail_bytes_ -= tail_.front().data.size();
    tail_.pop_front();
  }
}

const raft::Entry* LevelDbStore::remembered(raft::Index i) const {
  if (tail_.empty() || i < tail_.front().index || i > tail_.back().index) return nullptr;
  return &tail_[i - tail_.front().index];
}

Result<std::unique_ptr<LogStore>> open_leveldb_store(const std::string& directory) {
  return LevelDbStore::open(directory, leveldb::Env::Default());
}

}  // namespace pgraft::storage
