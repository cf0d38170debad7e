// The log in LevelDB. open_leveldb_store() in log_store.h is what callers use; here so that tests
// can put a failing Env below it.
//
// Only first and last index, the hard state and the newest entries are in memory; the rest is read
// when it is asked for.
#pragma once

#include <leveldb/db.h>
#include <leveldb/env.h>
#include <leveldb/write_batch.h>

#include <deque>
#include <memory>
#include <string>

#include "libpgraft/storage/log_bounds.h"
#include "libpgraft/storage/log_store.h"

namespace pgraft::storage {

class LevelDbStore final : public LogStore {
 public:
  // `env` must outlive the store.
  static Result<std::unique_ptr<LogStore>> open(const std::string& directory, leveldb::Env* env);

  Result<InitialState> initial_state() const override;
  raft::Index first_index() const override { return bounds_.base_index + 1; }
  raft::Index last_index() const override { return bounds_.last_index; }
  Result<raft::Term> term(raft::Index i) const override;
  Result<std::vector<raft::Entry>> entries(raft::Index lo, raft::Index hi,
                                           std::uint64_t max_bytes) const override;
  Result<std::shared_ptr<const raft::Snapshot>> snapshot() const override;

  Status write(const WriteBatch& batch) override;
  Status save_snapshot(const raft::Snapshot& snapshot, raft::Index first_kept) override;
  Status put_value(const std::string& key, const std::string& value) override;
  Result<std::string> get_value(const std::string& key) const override;
  bool is_blank() const override { return blank_; }

 private:
  LevelDbStore(std::string directory, std::unique_ptr<leveldb::DB> db, LogBounds bounds, bool blank)
      : directory_(std::move(directory)),
        db_(std::move(db)),
        bounds_(std::move(bounds)),
        blank_(blank) {}

  Status commit(leveldb::WriteBatch* changes, bool sync);
  Result<std::string> read(const std::string& key) const;  // payload
  Result<raft::Entry> read_entry(raft::Index i) const;
  void remember(std::span<const raft::Entry> entries);
  const raft::Entry* remembered(raft::Index i) const;

  std::string directory_;
  std::unique_ptr<leveldb::DB> db_;
  LogBounds bounds_;
  bool blank_;
  bool poisoned_ = false;

  std::deque<raft::Entry> tail_;  // the newest entries, up to last_index: what followers are sent
                                  // and terms are asked of
  std::size_t tail_bytes_ = 0;
  mutable std::weak_ptr<const raft::Snapshot>
      shared_snapshot_;  // while some message holds it, others get the same
};

}  // namespace pgraft::storage
