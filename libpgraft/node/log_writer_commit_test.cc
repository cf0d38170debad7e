// The writer beside the replica: what goes into one write, and what counts as written when.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "libpgraft/node/log_writer.h"

namespace pgraft::node {
namespace {

// In memory; remembers the writes, and makes them wait while it is closed.
class WatchedStore final : public storage::LogStore {
 public:
  struct Write {
    std::optional<raft::HardState> hard_state;
    std::size_t entries = 0;
    bool sync = false;
  };

  void close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  void open() {
    {
      const std::lock_guard lock(mutex_);
      open_ = true;
    }
    opened_.notify_all();
  }
  std::vector<Write> writes() const {
    const std::lock_guard lock(mutex_);
    return writes_;
  }

  Status write(const storage::WriteBatch& batch) override {
    std::unique_lock lock(mutex_);
    writes_.push_back({batch.hard_state, batch.entries.size(), batch.sync});
    begun_.notify_all();
    opened_.wait(lock, [&] { return open_; });
    return store_->write(batch);
  }
  void wait_for_writes(std::size_t count) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(
        begun_.wait_for(lock, std::chrono::seconds(30), [&] { return writes_.size() >= count; }));
  }

  Status save_snapshot(const raft::Snapshot& snapshot, raft::Index first_kept) override {
    const std::lock_guard lock(mutex_);
    return store_->save_snapshot(snapshot, first_kept);
  }
  Status put_value(const std::string& key, const std::string& value) override {
    return store_->put_value(key, value);
  }
  Result<std::string> get_value(const std::string& key) const override {
    return store_->get_value(key);
  }
  bool is_blank() const override { return store_->is_blank(); }
  Result<InitialState> initial_state() const override { return store_->initial_state(); }
  raft::Index first_index() const override { return store_->first_index(); }
  raft::Index last_index() const override { return store_->last_index(); }
  Result<raft::Term> term(raft::Index i) const override { return store_->term(i); }
  Result<std::vector<raft::Entry>> entries(raft::Index lo, raft::Index hi,
                                           std::uint64_t max_bytes) const override {
    return store_->entries(lo, hi, max_bytes);
  }
  Result<std::shared_ptr<const raft::Snapshot>> snapshot() const override {
    return store_->snapshot();
  }

 private:
  std::unique_ptr<storage::LogStore> store_ = storage::make_memory_store();
  mutable std::mutex mutex_;
  std::condition_variable opened_, begun_;
  bool open_ = true;
  std::vector<Write> writes_;
};

class LogWriterCommitTest : public testing::Test {
 protected:
  void start(bool sync = true) {
    writer = std::make_unique<ThreadedLogWriter>(
        &store,
        [this] {
          const std::lock_guard lock(mutex_);
          ++news_;
          written_.notify_all();
        },
        sync);
  }

  // Appends that count as written, until there are `count` since the start.
  void wait_for_written(std::size_t count) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
      std::unique_lock lock(mutex_);
      const std::size_t seen = news_;
      lock.unlock();
      taken += take();
      if (taken >= count) return;
      lock.lock();
      ASSERT_TRUE(written_.wait_until(lock, deadline, [&] { return news_ != seen; }));
    }
  }
  std::size_t take() {
    std::vector<raft::Message> written;
    EXPECT_TRUE(writer->take_written(&written));
    return written.size();
  }

  static raft::Message commit(raft::Index index) {
    raft::Message write;
    write.type = raft::MessageType::kStorageAppend;
    write.term = 1;
    write.vote = 1;
    write.commit = index;
    return write;
  }
  static raft::Message entry(raft::Index index) {
    raft::Message write;
    write.type = raft::MessageType::kStorageAppend;
    write.entries = {{index, 1, raft::EntryType::kNormal, "data"}};
    return write;
  }
  static raft::Message first_entry() {
    raft::Message write = entry(1);
    write.term = 1;
    write.vote = 1;
    return write;
  }
  raft::Index stored_commit() const { return store.initial_state()->hard.commit; }

  WatchedStore store;
  std::unique_ptr<ThreadedLogWriter> writer;
  std::size_t taken = 0;

 private:
  std::mutex mutex_;
  std::condition_variable written_;
  std::size_t news_ = 0;
};

TEST_F(LogWriterCommitTest, WhatWaitsForTheDiskIsOneWriteAndOneSync) {
  start();
  store.close();
  writer->append(first_entry(), true);
  store.wait_for_writes(1);
  for (raft::Index i = 2; i <= 5; ++i) writer->append(entry(i), true);
  store.open();
  wait_for_written(5);
  const auto writes = store.writes();
  ASSERT_EQ(writes.size(), 2u);
  EXPECT_EQ(writes[1].entries, 4u);
  EXPECT_TRUE(writes[1].sync);
}

TEST_F(LogWriterCommitTest, ACommitIndexThatComesAloneGoesWithTheNextWrite) {
  start();
  writer->append(first_entry(), true);
  wait_for_written(1);
  writer->append(commit(1), false);
  EXPECT_EQ(take(), 1u) << "it counts as written at once";
  EXPECT_EQ(store.writes().size(), 1u);
  writer->append(entry(2), true);
  wait_for_written(2);
  ASSERT_EQ(store.writes().size(), 2u);
  EXPECT_EQ(stored_commit(), 1u);
}

TEST_F(LogWriterCommitTest, ACommitIndexDoesNotOvertakeWhatWaits) {
  start();
  store.close();
  writer->append(first_entry(), true);
  store.wait_for_writes(1);
  writer->append(entry(2), true);
  writer->append(commit(2), false);
  EXPECT_EQ(take(), 0u);
  store.open();
  wait_for_written(3);
  EXPECT_EQ(stored_commit(), 2u);
}

TEST_F(LogWriterCommitTest, ACommitIndexOutlivesASnapshotAndIsWrittenAtTheEnd) {
  start();
  writer->append(first_entry(), true);
  writer->append(entry(2), true);
  wait_for_written(2);
  writer->append(commit(2), false);
  raft::Snapshot snapshot;
  snapshot.meta.index = 1;
  snapshot.meta.term = 1;
  writer->save(std::move(snapshot), 1);
  writer.reset();
  EXPECT_EQ(stored_commit(), 2u);
}

TEST_F(LogWriterCommitTest, WithoutSyncNothingIsSynced) {
  start(false);
  writer->append(first_entry(), true);
  wait_for_written(1);
  EXPECT_FALSE(store.writes().at(0).sync);
}

}  // namespace
}  // namespace pgraft::node
