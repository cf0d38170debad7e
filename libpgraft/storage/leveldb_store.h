// The log in LevelDB. open_leveldb_store() in log_store.h is what callers use; here so that tests
// can put another Env below it.
//
// Only first and last index, the hard state and the newest entries are in memory; the rest is read
// when it is asked for.
//
// Locks: `mutex_` guards what reads start from, and is not held while LevelDB writes or reads.
// Before a write that replaces or removes entries, those are taken out of what can be read; after
// it the new bounds are published. Reads from LevelDB go to a snapshot of it that is taken with the
// bounds, so that they find every entry within them. `commit_mutex_` lets one writer after the
// other into LevelDB, which would else go on with the next one behind the torn record of one that
// failed.
#pragma once

#include <leveldb/db.h>
#include <leveldb/env.h>
#include <leveldb/write_batch.h>

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "libpgraft/storage/leveldb_open.h"
#include "libpgraft/storage/log_bounds.h"
#include "libpgraft/storage/log_store.h"
#include "libpgraft/storage/synced_logs_env.h"

namespace pgraft::storage {

class LevelDbStore final : public LogStore {
 public:
  // `env` must outlive the store.
  static Result<std::unique_ptr<LogStore>> open(const std::string& directory, leveldb::Env* env,
                                                OpenOptions options = {});
  ~LevelDbStore() override;

  Result<InitialState> initial_state() const override;
  raft::Index first_index() const override;
  raft::Index last_index() const override;
  Result<raft::Term> term(raft::Index i) const override;
  Result<std::vector<raft::Entry>> entries(raft::Index lo, raft::Index hi,
                                           std::uint64_t max_bytes) const override;
  Status entries_into(raft::Index lo, raft::Index hi, std::uint64_t max_bytes,
                      std::vector<raft::Entry>* found) const override;
  Result<std::shared_ptr<const raft::Snapshot>> snapshot() const override;

  Status write(const WriteBatch& batch) override;
  Status save_snapshot(const raft::Snapshot& snapshot, raft::Index first_kept) override;
  Status put_value(const std::string& key, const std::string& value) override;
  Result<std::string> get_value(const std::string& key) const override;
  bool is_blank() const override { return blank_; }

 private:
  struct Range {  // of entries; empty when last < first
    raft::Index first = 1;
    raft::Index last = 0;
    bool holds(raft::Index i) const { return first <= i && i <= last; }
  };
  class View;  // a snapshot of LevelDB

  LevelDbStore(std::string directory, OpenOptions options, leveldb::Env* env);
  Status start();

  Status commit(leveldb::WriteBatch* changes, bool sync);
  // Commits `changes`, which leave the entries `kept` as they are and the others out, and publishes
  // the log as it is then.
  Status commit_and_publish(leveldb::WriteBatch* changes, bool sync, Range kept, LogBounds next,
                            std::span<const raft::Entry> appended, bool new_snapshot);
  LogBounds bounds() const;
  Result<std::string> read(const std::string& key, const leveldb::Snapshot* view) const;
  Result<raft::Entry> read_entry(raft::Index i, const View& view) const;

  // With mutex_ held.
  static Range all_of(const LogBounds& bounds) {
    return {bounds.base_index + 1, bounds.last_index};
  }
  void remember(Range kept, std::span<const raft::Entry> appended);
  const raft::Entry* remembered(raft::Index i) const;

  const std::string directory_;
  const OpenOptions options_;
  std::unique_ptr<SyncedLogsEnv> env_;
  std::unique_ptr<leveldb::DB> db_;
  std::atomic<bool> blank_{true};

  std::mutex commit_mutex_;
  Status failed_;  // the first write that did; guarded by commit_mutex_

  mutable std::mutex mutex_;  // guards the rest
  LogBounds bounds_;
  Range readable_;                // in LevelDB: all of them, less what is being replaced
  std::deque<raft::Entry> tail_;  // the newest entries, up to last_index: what followers are sent
                                  // and terms are asked of
  std::size_t tail_bytes_ = 0;
  std::uint64_t snapshots_ = 0;  // saved so far
  mutable std::weak_ptr<const raft::Snapshot>
      shared_snapshot_;  // while some message holds it, others get the same
};

}  // namespace pgraft::storage
