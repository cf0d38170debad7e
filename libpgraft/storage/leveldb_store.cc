#include "libpgraft/storage/leveldb_store.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "libpgraft/storage/open_checks.h"
#include "libpgraft/storage/record.h"

namespace pgraft::storage {
namespace {

constexpr std::size_t kTailBytesMax = 1u << 20;
constexpr std::size_t kTailEntriesMax = 4096;

Status write_format(leveldb::DB* db) {
  leveldb::WriteOptions options;
  options.sync = true;
  const leveldb::Status s =
      db->Put(options, record::kFormatKey,
              record::seal(record::kFormatKey, record::encode_format(record::kFormatVersion)));
  return to_status(s);
}

template <class T>
void put(leveldb::WriteBatch* changes, const std::string& key, const T& value) {
  changes->Put(key, record::seal(key, record::encode(value)));
}

Status being_replaced(raft::Index i) {
  return {Code::kNotFound, "entry " + std::to_string(i) + " is being replaced"};
}

void remove_entries(leveldb::WriteBatch* changes, raft::Index first, raft::Index last) {
  for (raft::Index i = first; i <= last; ++i) changes->Delete(record::entry_key(i));
}

std::string open_context(const std::string& directory) {
  return "could not open the raft log in \"" + directory + "\"";
}

}  // namespace

class LevelDbStore::View {
 public:
  explicit View(leveldb::DB* db) : db_(db), snapshot_(db->GetSnapshot()) {}
  ~View() { db_->ReleaseSnapshot(snapshot_); }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  const leveldb::Snapshot* get() const { return snapshot_; }

 private:
  leveldb::DB* db_;
  const leveldb::Snapshot* snapshot_;
};

LevelDbStore::LevelDbStore(std::string directory, OpenOptions options, leveldb::Env* env)
    : directory_(std::move(directory)),
      options_(std::move(options)),
      env_(std::make_unique<SyncedLogsEnv>(env)) {}

LevelDbStore::~LevelDbStore() { options_.after_each_call(); }

Result<std::unique_ptr<LogStore>> LevelDbStore::open(const std::string& directory,
                                                     leveldb::Env* env, OpenOptions options) {
  std::unique_ptr<LevelDbStore> store(new LevelDbStore(directory, std::move(options), env));
  if (Status s = store->start(); !s.is_ok()) return s.with_context(open_context(directory));
  return std::unique_ptr<LogStore>(std::move(store));
}

Status LevelDbStore::start() {
  Result<std::unique_ptr<leveldb::DB>> db = open_database(directory_, env_.get(), options_);
  if (!db.is_ok()) return db.status();
  db_ = std::move(*db);
  Result<CheckedLog> log = check_log(db_.get());
  options_.after_each_call();
  if (!log.is_ok()) return log.status();
  blank_ = log->blank;
  bounds_ = std::move(log->bounds);
  readable_ = all_of(bounds_);
  return blank_ ? write_format(db_.get()) : Status::ok();
}

LogBounds LevelDbStore::bounds() const {
  const std::lock_guard lock(mutex_);
  return bounds_;
}

Result<raft::LogReader::InitialState> LevelDbStore::initial_state() const {
  const std::lock_guard lock(mutex_);
  return InitialState{bounds_.hard, bounds_.conf};
}

raft::Index LevelDbStore::first_index() const {
  const std::lock_guard lock(mutex_);
  return bounds_.base_index + 1;
}

raft::Index LevelDbStore::last_index() const {
  const std::lock_guard lock(mutex_);
  return bounds_.last_index;
}

Result<raft::Term> LevelDbStore::term(raft::Index i) const {
  std::unique_lock lock(mutex_);
  if (Status s = check_term_index(bounds_, i); !s.is_ok()) return s;
  if (const auto known = known_term(bounds_, i)) return *known;
  if (const raft::Entry* entry = remembered(i)) return entry->term;
  if (!readable_.holds(i)) return being_replaced(i);
  const View view(db_.get());
  lock.unlock();
  const Result<raft::Entry> entry = read_entry(i, view);
  if (!entry.is_ok()) return entry.status();
  return entry->term;
}

Result<std::vector<raft::Entry>> LevelDbStore::entries(raft::Index lo, raft::Index hi,
                                                       std::uint64_t max_bytes) const {
  std::vector<raft::Entry> found;
  if (Status s = entries_into(lo, hi, max_bytes, &found); !s.is_ok()) return s;
  return found;
}

Status LevelDbStore::entries_into(raft::Index lo, raft::Index hi, std::uint64_t max_bytes,
                                  std::vector<raft::Entry>* found) const {
  found->clear();
  std::unique_lock lock(mutex_);
  if (Status s = check_range_start(bounds_, lo); !s.is_ok()) return s;
  std::uint64_t bytes = 0;
  // False: it is beyond the limit.
  const auto add = [&](auto&& entry) {
    bytes += found->empty() ? 0 : entry.data.size();
    if (bytes > max_bytes) return false;
    found->push_back(std::forward<decltype(entry)>(entry));
    return true;
  };
  if (lo >= hi || lo > bounds_.last_index) return Status::ok();
  if (remembered(lo) != nullptr) {
    for (raft::Index i = lo; i < hi && i <= bounds_.last_index && add(*remembered(i));) ++i;
    return Status::ok();
  }
  if (!readable_.holds(lo)) return being_replaced(lo);
  const raft::Index last = std::min(hi - 1, readable_.last);
  const View view(db_.get());
  lock.unlock();
  for (raft::Index i = lo; i <= last; ++i) {
    Result<raft::Entry> entry = read_entry(i, view);
    if (!entry.is_ok()) return entry.status();
    if (!add(std::move(*entry))) break;
  }
  return Status::ok();
}

Result<std::shared_ptr<const raft::Snapshot>> LevelDbStore::snapshot() const {
  std::unique_lock lock(mutex_);
  if (bounds_.snapshot_index == 0) return std::make_shared<const raft::Snapshot>();
  if (auto shared = shared_snapshot_.lock()) return shared;
  const std::uint64_t before = snapshots_;
  lock.unlock();
  const Result<std::string> payload = read(record::kSnapshotKey, nullptr);
  if (!payload.is_ok()) return payload.status();
  Result<raft::Snapshot> snapshot = record::decode_snapshot(*payload);
  if (!snapshot.is_ok()) return snapshot.status().with_context("snapshot");
  auto shared = std::make_shared<const raft::Snapshot>(std::move(*snapshot));
  lock.lock();
  if (snapshots_ == before) shared_snapshot_ = shared;
  return shared;
}

Status LevelDbStore::write(const WriteBatch& batch) {
  const LogBounds now = bounds();
  Result<LogBounds> next = bounds_after_write(now, *this, batch);
  if (!next.is_ok()) return next.status();

  leveldb::WriteBatch changes;
  Range kept = all_of(now);
  if (batch.snapshot != nullptr) {
    kept = {};
    remove_entries(&changes, now.base_index + 1, now.last_index);
    put(&changes, record::kSnapshotKey, *batch.snapshot);
    put(&changes, record::kLogStartKey, record::LogStart{next->base_index, next->base_term});
  } else if (!batch.entries.empty()) {
    kept.last = batch.entries.front().index - 1;
    // Stale entries behind the new end go in the same write: left there, they would come back as
    // the log's after a restart.
    remove_entries(&changes, next->last_index + 1, now.last_index);
  }
  for (const raft::Entry& entry : batch.entries) {
    put(&changes, record::entry_key(entry.index), entry);
  }
  if (batch.hard_state || !(next->hard == now.hard)) {
    put(&changes, record::kHardStateKey, next->hard);
  }
  return commit_and_publish(&changes, batch.sync, kept, std::move(*next), batch.entries,
                            batch.snapshot != nullptr);
}

Status LevelDbStore::save_snapshot(const raft::Snapshot& snapshot, raft::Index first_kept) {
  const LogBounds now = bounds();
  Result<LogBounds> next = bounds_after_snapshot(now, *this, snapshot, first_kept);
  if (!next.is_ok()) return next.status();

  leveldb::WriteBatch changes;
  remove_entries(&changes, now.base_index + 1, next->base_index);
  put(&changes, record::kSnapshotKey, snapshot);
  put(&changes, record::kLogStartKey, record::LogStart{next->base_index, next->base_term});
  put(&changes, record::kHardStateKey, next->hard);
  const Range kept = all_of(*next);
  return commit_and_publish(&changes, true, kept, std::move(*next), {}, true);
}

Status LevelDbStore::put_value(const std::string& key, const std::string& value) {
  if (Status s = check_value(key, value); !s.is_ok()) return s;
  leveldb::WriteBatch changes;
  const std::string stored = record::value_key(key);
  changes.Put(stored, record::seal(stored, value));
  return commit(&changes, true);
}

Result<std::string> LevelDbStore::get_value(const std::string& key) const {
  Result<std::string> value = read(record::value_key(key), nullptr);
  if (value.status().code() == Code::kNotFound) {
    return Status(Code::kNotFound, "no value \"" + key + "\"");
  }
  return value;
}

Status LevelDbStore::commit_and_publish(leveldb::WriteBatch* changes, bool sync, Range kept,
                                        LogBounds next, std::span<const raft::Entry> appended,
                                        bool new_snapshot) {
  {
    const std::lock_guard lock(mutex_);
    readable_ = kept;
  }
  Status s = commit(changes, sync);
  const std::lock_guard lock(mutex_);
  if (s.is_ok()) {
    bounds_ = std::move(next);
    remember(kept, appended);
    if (new_snapshot) {
      ++snapshots_;
      shared_snapshot_.reset();
    }
  }
  readable_ = all_of(bounds_);
  return s;
}

Status LevelDbStore::commit(leveldb::WriteBatch* changes, bool sync) {
  const std::string context = "could not write to the raft log in \"" + directory_ + "\"";
  const std::lock_guard lock(commit_mutex_);
  if (!failed_.is_ok()) return failed_.with_context(context);
  const bool empty = changes->ApproximateSize() == leveldb::WriteBatch().ApproximateSize();
  if (empty && !sync) return Status::ok();
  leveldb::WriteOptions options;
  options.sync = sync;
  Status s = to_status(db_->Write(options, changes));
  options_.after_each_call();
  if (s.is_ok() && env_->failed()) s = {Code::kIo, "a full log file could not be synced"};
  if (s.is_ok()) {
    if (!empty) blank_ = false;
    return s;
  }
  failed_ = s.code() == Code::kNoSpace
                ? Status(s.code(),
                         "an earlier write failed for lack of space; the log must be "
                         "closed, and opened again when there is some")
                : Status(s.code(), "an earlier write failed, and what the disk holds is not known");
  return s.with_context(context);
}

Result<std::string> LevelDbStore::read(const std::string& key,
                                       const leveldb::Snapshot* view) const {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  options.snapshot = view;
  std::string value;
  const leveldb::Status s = db_->Get(options, key, &value);
  options_.after_each_call();
  if (s.IsNotFound()) return Status(Code::kNotFound, record::describe(key) + " is not there");
  if (!s.ok()) return to_status(s).with_context(record::describe(key) + " can't be read");
  const Result<std::string_view> payload = record::open(key, value);
  if (!payload.is_ok()) return payload.status();
  return std::string(*payload);
}

Result<raft::Entry> LevelDbStore::read_entry(raft::Index i, const View& view) const {
  const std::string key = record::entry_key(i);
  const Result<std::string> payload = read(key, view.get());
  // Within the bounds every entry was there when the store was opened.
  if (payload.status().code() == Code::kNotFound) {
    return Status(Code::kCorruption, payload.status().message());
  }
  if (!payload.is_ok()) return payload.status();
  Result<raft::Entry> entry = record::decode_entry(*payload);
  if (!entry.is_ok()) return entry.status().with_context(record::describe(key));
  return entry;
}

void LevelDbStore::remember(Range kept, std::span<const raft::Entry> appended) {
  while (!tail_.empty() && tail_.back().index > kept.last) {
    tail_bytes_ -= tail_.back().data.size();
    tail_.pop_back();
  }
  const auto forget_first = [this] {
    tail_bytes_ -= tail_.front().data.size();
    tail_.pop_front();
  };
  while (!tail_.empty() && tail_.front().index < kept.first) forget_first();
  for (const raft::Entry& entry : appended) {
    tail_bytes_ += entry.data.size();
    tail_.push_back(entry);
  }
  while (tail_.size() > kTailEntriesMax || (tail_bytes_ > kTailBytesMax && tail_.size() > 1)) {
    forget_first();
  }
}

const raft::Entry* LevelDbStore::remembered(raft::Index i) const {
  if (tail_.empty() || i < tail_.front().index || i > tail_.back().index) return nullptr;
  return &tail_[i - tail_.front().index];
}

// The file system is asked before the reserve is written, so that a node that waits for room does
// not take the last bytes from others again and again. A directory that is not there yet has no
// answer.
Result<std::unique_ptr<LogStore>> open_leveldb_store(const std::string& directory,
                                                     std::uint64_t reserve_bytes) {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(directory, error);
  if (!error && space.available < reserve_bytes) {
    return Status(Code::kNoSpace, open_context(directory) + ": " + std::to_string(space.available) +
                                      " bytes are free, " + std::to_string(reserve_bytes) +
                                      " are needed");
  }
  OpenOptions options;
  options.reserve_bytes = reserve_bytes;
  return LevelDbStore::open(directory, leveldb::Env::Default(), std::move(options));
}

}  // namespace pgraft::storage
