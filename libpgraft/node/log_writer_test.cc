// Writes beside the replica: order, group commit, merging, failure.
#include "libpgraft/node/log_writer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace pgraft::node {
namespace {

using raft::Index;
using raft::Message;
using raft::Term;

Message append(Index first, const std::vector<Term>& terms, raft::HardState hard = {}) {
  Message write;
  write.type = raft::MessageType::kStorageAppend;
  write.to = raft::kAppendThread;
  write.term = hard.term;
  write.vote = hard.vote;
  write.commit = hard.commit;
  for (Term term : terms) write.entries.push_back({first++, term, raft::EntryType::kNormal, "x"});
  Message response;
  response.type = raft::MessageType::kAppendResponse;
  response.index = first - 1;
  write.responses.push_back(response);
  return write;
}

std::vector<Term> terms(const storage::LogStore& store) {
  std::vector<Term> found;
  for (Index i = store.first_index(); i <= store.last_index(); ++i) found.push_back(*store.term(i));
  return found;
}

// Every way of cutting a run of writes into merged ones leaves the same log.
TEST(MergedWrite, LeavesTheLogAsItsPartsInOrder) {
  const auto writes = [] {
    return std::vector<Message>{append(1, {1, 1, 1}, {1, 2, 0}), append(4, {1}),
                                append(3, {2, 2}, {2, 0, 2}),    append(2, {}, {2, 3, 2}),
                                append(3, {3}, {3, 0, 2}),       append(4, {3, 3}, {3, 0, 4})};
  };
  const std::size_t n = writes().size();
  for (unsigned cuts = 0; cuts < 1u << (n - 1); ++cuts) {
    const auto store = storage::make_memory_store();
    std::vector<Message> all = writes();
    MergedWrite merged;
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_TRUE(merged.add(&all[i], true));
      if (i + 1 == n || (cuts >> i & 1) != 0) {
        ASSERT_TRUE(merged.write_to(store.get()));
        merged = MergedWrite();
      }
    }
    EXPECT_EQ(terms(*store), (std::vector<Term>{1, 1, 3, 3, 3})) << cuts;
    EXPECT_EQ(store->initial_state()->hard, (raft::HardState{3, 0, 4})) << cuts;
  }
}

TEST(MergedWrite, KeepsASnapshotApart) {
  auto snapshot = std::make_shared<raft::Snapshot>();
  snapshot->meta = {9, 2, {{1, 2, 3}, {}, {}, {}, false, {}}};
  Message with_snapshot = append(10, {2}, {2, 0, 9});
  with_snapshot.snapshot = snapshot;
  Message before = append(1, {1}, {1, 0, 0});
  Message after = append(11, {2});
  MergedWrite merged;
  EXPECT_TRUE(merged.add(&before, true));
  EXPECT_FALSE(merged.add(&with_snapshot, true));
  const auto store = storage::make_memory_store();
  ASSERT_TRUE(merged.write_to(store.get()));
  MergedWrite second;
  EXPECT_TRUE(second.add(&with_snapshot, true));
  EXPECT_FALSE(second.add(&after, true));
  ASSERT_TRUE(second.write_to(store.get()));
  EXPECT_EQ(store->first_index(), 10u);
  EXPECT_EQ(store->last_index(), 10u);
}

TEST(HeldLogWriter, WritesOnlyWhatItIsToldTo) {
  const auto store = storage::make_memory_store();
  HeldLogWriter writer(store.get());
  writer.hold(true);
  writer.append(append(1, {1}, {1, 0, 0}), true);
  writer.append(append(2, {1}), true);
  std::vector<Message> written;
  ASSERT_TRUE(writer.take_written(&written));
  EXPECT_TRUE(written.empty());
  EXPECT_TRUE(writer.write_one());
  ASSERT_TRUE(writer.take_written(&written));
  EXPECT_EQ(written.size(), 1u);
  EXPECT_EQ(store->last_index(), 1u);
  writer.hold(false);
  EXPECT_EQ(store->last_index(), 2u);
}

// A store whose writes wait until they are let through, and can fail.
class GatedStore final : public storage::LogStore {
 public:
  Result<InitialState> initial_state() const override { return store_->initial_state(); }
  Index first_index() const override { return store_->first_index(); }
  Index last_index() const override { return store_->last_index(); }
  Result<Term> term(Index i) const override { return store_->term(i); }
  Result<std::vector<raft::Entry>> entries(Index lo, Index hi, std::uint64_t max) const override {
    return store_->entries(lo, hi, max);
  }
  Result<std::shared_ptr<const raft::Snapshot>> snapshot() const override {
    return store_->snapshot();
  }
  Status write(const storage::WriteBatch& batch) override {
    std::unique_lock lock(mutex_);
    ++writes_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    if (fails_) return {Code::kIo, "no space"};
    return store_->write(batch);
  }
  Status save_snapshot(const raft::Snapshot& snapshot, Index first_kept) override {
    return store_->save_snapshot(snapshot, first_kept);
  }
  Status put_value(const std::string& key, const std::string& value) override {
    return store_->put_value(key, value);
  }
  Result<std::string> get_value(const std::string& key) const override {
    return store_->get_value(key);
  }
  bool is_blank() const override { return store_->is_blank(); }

  void wait_for_write() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return writes_ > 0; });
  }
  void open(bool fails = false) {
    const std::lock_guard lock(mutex_);
    open_ = true;
    fails_ = fails;
    changed_.notify_all();
  }
  int writes() {
    const std::lock_guard lock(mutex_);
    return writes_;
  }

 private:
  std::unique_ptr<storage::LogStore> store_ = storage::make_memory_store();
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  bool fails_ = false;
  int writes_ = 0;
};

class ThreadedLogWriterTest : public testing::Test {
 protected:
  void told() {
    const std::lock_guard lock(mutex_);
    ++told_;
    wake_.notify_all();
  }
  // Until so many writes are reported, or the store has failed.
  Status wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    for (;;) {
      std::vector<Message> news;
      const Status s = writer_->take_written(&news);
      for (Message& m : news) written_.push_back(std::move(m));
      if (!s || written_.size() >= count) return s;
      const int seen = told_;
      wake_.wait(lock, [&] { return told_ != seen; });
    }
  }

  GatedStore store_;
  std::mutex mutex_;
  std::condition_variable wake_;
  int told_ = 0;
  std::vector<Message> written_;
  std::unique_ptr<ThreadedLogWriter> writer_ =
      std::make_unique<ThreadedLogWriter>(&store_, [this] { told(); });
};

TEST_F(ThreadedLogWriterTest, WhatWaitsGoesIntoOneWriteAndIsReportedInOrder) {
  writer_->append(append(1, {1}, {1, 0, 0}), true);
  store_.wait_for_write();  // the disk is busy with the first
  for (Index i = 2; i <= 100; ++i) writer_->append(append(i, {1}), true);
  std::vector<Message> written;
  ASSERT_TRUE(writer_->take_written(&written));
  EXPECT_TRUE(written.empty());
  store_.open();
  ASSERT_TRUE(wait_for(100));
  EXPECT_EQ(store_.writes(), 2);
  for (Index i = 1; i <= 100; ++i) EXPECT_EQ(written_[i - 1].responses[0].index, i);
  EXPECT_EQ(store_.last_index(), 100u);
}

// An answer that depends on no write under way does not wait for one that doesn't concern it.
TEST_F(ThreadedLogWriterTest, WhatHasNothingToWriteIsReportedAtOnceWhenTheDiskIsIdle) {
  writer_->append(append(1, {}), false);
  std::vector<Message> written;
  ASSERT_TRUE(writer_->take_written(&written));
  EXPECT_EQ(written.size(), 1u);
  EXPECT_EQ(store_.writes(), 0);
  store_.open();
}

TEST_F(ThreadedLogWriterTest, NothingIsReportedAfterAFailure) {
  writer_->append(append(1, {1}, {1, 0, 0}), true);
  store_.wait_for_write();
  writer_->append(append(2, {1}), true);
  store_.open(true);
  EXPECT_EQ(wait_for(2).code(), Code::kIo);
  writer_->append(append(3, {1}), true);
  EXPECT_EQ(wait_for(1).code(), Code::kIo);
  EXPECT_TRUE(written_.empty());
  EXPECT_EQ(store_.writes(), 1);
}

TEST_F(ThreadedLogWriterTest, WhatWaitsAtTheEndIsWritten) {
  writer_->append(append(1, {1}, {1, 0, 0}), true);
  store_.wait_for_write();
  writer_->append(append(2, {1}), true);
  store_.open();
  writer_.reset();
  EXPECT_EQ(store_.last_index(), 2u);
}

}  // namespace
}  // namespace pgraft::node
