#include "libpgraft/storage/open_checks.h"

#include <memory>

#include "libpgraft/storage/leveldb_open.h"
#include "libpgraft/storage/record.h"

namespace pgraft::storage {

const char kWhatToDo[] =
    "; remove this node from the cluster and add it again with an empty directory "
    "(do not put an older copy in its place)";

namespace {

Status corrupt(const std::string& what) { return {Code::kCorruption, what}; }

std::string number(std::uint64_t n) { return std::to_string(n); }

std::string_view view(const leveldb::Slice& slice) { return {slice.data(), slice.size()}; }

leveldb::ReadOptions verified() {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = false;
  return options;
}

class Checker {
 public:
  explicit Checker(leveldb::DB* db) : db_(db) {}

  Result<CheckedLog> run() {
    if (Status s = check_format(); !s.is_ok()) return s;
    if (Status s = read_fixed_records(); !s.is_ok()) return s;
    if (Status s = scan(); !s.is_ok()) return s;
    if (Status s = check_last_entry(); !s.is_ok()) return s;
    if (Status s = check_fit(); !s.is_ok()) return s;
    log_.blank = !has_hard_state_ && !has_snapshot_ && !has_entries_ && !has_values_;
    return log_;
  }

 private:
  // Sets `found` and `payload` (which lives in `value_`).
  Status get(const std::string& key, bool* found, std::string_view* payload) {
    const leveldb::Status s = db_->Get(verified(), key, &value_);
    *found = s.ok();
    if (s.IsNotFound()) return Status::ok();
    if (!s.ok()) return to_status(s).with_context(record::describe(key) + " can't be read");
    Result<std::string_view> opened = record::open(key, value_);
    if (!opened.is_ok()) return opened.status();
    *payload = *opened;
    return Status::ok();
  }

  template <class T>
  Status fill(const std::string& key, Result<T> (*decode)(std::string_view), bool* found, T* out) {
    std::string_view payload;
    if (Status s = get(key, found, &payload); !s.is_ok() || !*found) return s;
    Result<T> decoded = decode(payload);
    if (!decoded.is_ok()) return decoded.status().with_context(record::describe(key));
    *out = std::move(decoded).value();
    return Status::ok();
  }

  Status check_format() {
    std::uint32_t version = 0;
    bool found = false;
    if (Status s = fill(record::kFormatKey, record::decode_format, &found, &version); !s.is_ok()) {
      return s;
    }
    if (found && version > record::kFormatVersion) {
      return newer_format("the log", version, record::kFormatVersion);
    }
    if (found && version == 0) return corrupt("format version 0 is unknown");
    std::unique_ptr<leveldb::Iterator> it(db_->NewIterator(verified()));
    it->SeekToFirst();
    if (!found && it->Valid()) return corrupt("format version is missing");
    return Status::ok();
  }

  Status read_fixed_records() {
    LogBounds& bounds = log_.bounds;
    if (Status s =
            fill(record::kHardStateKey, record::decode_hard_state, &has_hard_state_, &bounds.hard);
        !s.is_ok()) {
      return s;
    }
    record::LogStart start;
    bool has_start = false;
    if (Status s = fill(record::kLogStartKey, record::decode_log_start, &has_start, &start);
        !s.is_ok()) {
      return s;
    }
    raft::Snapshot snapshot;
    if (Status s = fill(record::kSnapshotKey, record::decode_snapshot, &has_snapshot_, &snapshot);
        !s.is_ok()) {
      return s;
    }
    if (has_start && !has_snapshot_)
      return corrupt("snapshot is missing, but there is a log start");
    if (!has_start && has_snapshot_)
      return corrupt("log start is missing, but there is a snapshot");
    bounds.base_index = bounds.last_index = start.index;
    bounds.base_term = bounds.last_term = start.term;
    bounds.snapshot_index = snapshot.meta.index;
    bounds.snapshot_term = snapshot.meta.term;
    bounds.conf = std::move(snapshot.meta.conf);
    return Status::ok();
  }

  Status scan() {
    std::unique_ptr<leveldb::Iterator> it(db_->NewIterator(verified()));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      const std::string_view key = view(it->key());
      if (key == record::kFormatKey || key == record::kHardStateKey ||
          key == record::kLogStartKey || key == record::kSnapshotKey) {
        continue;  // read before
      }
      if (key.size() == 9 && key[0] == 'E') {
        if (Status s = check_entry(key, view(it->value())); !s.is_ok()) return s;
      } else if (key.size() > 1 && key[0] == 'V') {
        const Result<std::string_view> payload = record::open(key, view(it->value()));
        if (!payload.is_ok()) return payload.status();
        has_values_ = true;
      } else {
        return corrupt(record::describe(key) + " in the log");
      }
    }
    return to_status(it->status()).with_context("log can't be read");
  }

  Status check_entry(std::string_view key, std::string_view value) {
    LogBounds& bounds = log_.bounds;
    const raft::Index expected = bounds.last_index + 1;
    const Result<std::string_view> payload = expected > bounds.hard.commit
                                                 ? record::open(key, value)
                                                 : record::open_unverified(key, value);
    if (!payload.is_ok()) return payload.status();
    const Result<record::EntryMeta> entry = record::decode_entry_meta(*payload);
    // Made only for a message: a log has millions of entries.
    const auto name = [&] { return record::describe(key); };
    if (!entry.is_ok()) return entry.status().with_context(name());
    if (key != record::entry_key(entry->index)) {
      return corrupt(name() + " says that it is entry " + number(entry->index));
    }
    if (entry->index < expected) {
      return corrupt(name() + " is before the start of the log, which is after " +
                     number(bounds.base_index));
    }
    if (entry->index > expected) {
      return corrupt("entries " + number(expected) + " to " + number(entry->index - 1) +
                     " are missing before " + name());
    }
    if (entry->term < bounds.last_term) {
      return corrupt(name() + " has term " + number(entry->term) + ", the one before it has " +
                     number(bounds.last_term));
    }
    if (has_snapshot_ && entry->index == bounds.snapshot_index &&
        entry->term != bounds.snapshot_term) {
      return corrupt(name() + " has term " + number(entry->term) +
                     ", the snapshot that covers it has " + number(bounds.snapshot_term));
    }
    bounds.last_index = entry->index;
    bounds.last_term = entry->term;
    has_entries_ = true;
    return Status::ok();
  }

  Status check_last_entry() {
    if (!has_entries_) return Status::ok();
    bool found = false;
    std::string_view payload;
    return get(record::entry_key(log_.bounds.last_index), &found, &payload);
  }

  Status check_fit() const {
    const LogBounds& b = log_.bounds;
    if (has_snapshot_ && (b.snapshot_index < b.base_index || b.snapshot_index > b.last_index)) {
      return corrupt("snapshot at " + number(b.snapshot_index) +
                     " does not fit the log, which has " + number(b.base_index + 1) + " to " +
                     number(b.last_index));
    }
    if (has_snapshot_ && b.snapshot_index == b.base_index && b.snapshot_term != b.base_term) {
      return corrupt("snapshot has term " + number(b.snapshot_term) + ", the log start has " +
                     number(b.base_term));
    }
    if (!has_hard_state_ && (has_snapshot_ || has_entries_)) {
      return corrupt("hard state is missing");
    }
    if (b.hard.commit > b.last_index) {
      return corrupt("hard state: commit index " + number(b.hard.commit) +
                     " is beyond the last entry " + number(b.last_index));
    }
    if (b.hard.commit < b.snapshot_index) {
      return corrupt("hard state: commit index " + number(b.hard.commit) +
                     " is behind the snapshot at " + number(b.snapshot_index));
    }
    if (b.hard.term < b.last_term) {
      return corrupt("hard state: term " + number(b.hard.term) +
                     " is older than the last entry's term " + number(b.last_term));
    }
    return Status::ok();
  }

  leveldb::DB* db_;
  CheckedLog log_;
  std::string value_;
  bool has_hard_state_ = false, has_snapshot_ = false, has_entries_ = false, has_values_ = false;
};

}  // namespace

Result<CheckedLog> check_log(leveldb::DB* db) {
  Result<CheckedLog> log = Checker(db).run();
  if (log.status().code() != Code::kCorruption) return log;
  return Status(log.status().code(), log.status().message() + kWhatToDo);
}

}  // namespace pgraft::storage
