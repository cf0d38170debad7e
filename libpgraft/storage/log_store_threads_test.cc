// One thread that writes and one that reads, as log_store.h promises it. Worth the most under
// ThreadSanitizer.
#include <gtest/gtest.h>
#include <leveldb/env.h>
#include <stdlib.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <random>
#include <sstream>
#include <thread>

#include "libpgraft/storage/leveldb_store.h"
#include "libpgraft/storage/log_store.h"

#ifdef __SANITIZE_THREAD__
// LevelDB comes without instrumentation, so that the atomics of its memory table are not seen, but
// the copies and comparisons around them are.
extern "C" const char* __tsan_default_suppressions() { return "race:libleveldb.so"; }
#endif

namespace pgraft::storage {
namespace {

using raft::Entry;
using raft::HardState;
using raft::Index;
using raft::Term;

constexpr std::uint64_t kNoLimit = ~0ull;
// Fewer of these than are in a test fit into what a store keeps in memory.
constexpr std::size_t kEntryBytes = 100'000;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "pgraft_threads_XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) abort();
    path_ = pattern;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  std::string log() const { return path_ + "/log"; }

 private:
  std::string path_;
};

// Entries that say which write they came with, and where it began.
struct Origin {
  std::uint64_t write = 0;
  Index first = 0;
};

std::string data_of(const Origin& origin, std::size_t bytes) {
  std::string data = std::to_string(origin.write) + " " + std::to_string(origin.first) + " ";
  data.resize(std::max(data.size(), bytes), 'x');
  return data;
}

Origin origin_of(const Entry& entry) {
  Origin origin;
  std::istringstream(entry.data.str().substr(0, 50)) >> origin.write >> origin.first;
  return origin;
}

std::vector<Entry> run_of(Index first, Index last, Term term, std::uint64_t write,
                          std::size_t bytes = kEntryBytes) {
  std::vector<Entry> entries;
  for (Index i = first; i <= last; ++i) {
    entries.push_back({i, term, raft::EntryType::kNormal, data_of({write, first}, bytes)});
  }
  return entries;
}

Status write(LogStore& store, const std::vector<Entry>& entries, HardState hard, bool sync = true) {
  WriteBatch batch;
  batch.entries = entries;
  batch.hard_state = hard;
  batch.sync = sync;
  return store.write(batch);
}

raft::Snapshot snapshot_at(Index index, Term term) {
  raft::Snapshot snapshot;
  snapshot.meta.index = index;
  snapshot.meta.term = term;
  snapshot.meta.conf.voters = {1, 2, 3};
  snapshot.data = std::to_string(index);
  return snapshot;
}

// --- reads while a write is held

class Gate {
 public:
  void close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    waiting_ = !open_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    waiting_ = false;
  }
  void wait_until_someone_waits() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  bool waiting_ = false;
};

// Log files pass a gate before each sync, and before an append that is told to fail half-way.
class GatedSyncs : public leveldb::EnvWrapper {
 public:
  explicit GatedSyncs(Gate* gate) : EnvWrapper(Env::Default()), gate_(gate) {}

  leveldb::Status NewWritableFile(const std::string& name, leveldb::WritableFile** file) override {
    leveldb::Status s = target()->NewWritableFile(name, file);
    if (s.ok() && name.ends_with(".log")) {
      *file = new File(this, std::unique_ptr<leveldb::WritableFile>(*file));
    }
    return s;
  }

  std::atomic<int> syncs{0};
  std::atomic<bool> fail_next_append{false};

 private:
  class File final : public leveldb::WritableFile {
   public:
    File(GatedSyncs* env, std::unique_ptr<leveldb::WritableFile> file)
        : env_(env), file_(std::move(file)) {}
    leveldb::Status Append(const leveldb::Slice& data) override {
      if (!env_->fail_next_append.exchange(false)) return file_->Append(data);
      env_->gate_->pass();
      (void)file_->Append({data.data(), data.size() / 2});
      return leveldb::Status::IOError("log", "gone");
    }
    leveldb::Status Close() override { return file_->Close(); }
    leveldb::Status Flush() override { return file_->Flush(); }
    leveldb::Status Sync() override {
      env_->gate_->pass();
      ++env_->syncs;
      return file_->Sync();
    }

   private:
    GatedSyncs* env_;
    std::unique_ptr<leveldb::WritableFile> file_;
  };

  Gate* gate_;
};

enum class Held { kBeforeTheSync, kBehindLevelDb };  // LevelDB has it, the store says so next

class ReadsDuringAWrite : public testing::TestWithParam<Held> {
 protected:
  // Entries 1 to 30, of which the store remembers about ten; committed up to 3.
  ReadsDuringAWrite() : env_(&sync_gate_) {
    OpenOptions options;
    options.after_each_call = [this] {
      const bool has_synced = env_.syncs > syncs_before_;  // else it reads, to judge the write
      if (std::this_thread::get_id() == writer_id_ && has_synced) end_gate_.pass();
    };
    store_ = std::move(*LevelDbStore::open(directory_.log(), &env_, options));
    for (Index i = 1; i <= 30; ++i) {
      EXPECT_TRUE(write(*store_, run_of(i, i, 1, 1), {1, 1, i < 3 ? i : 3}).is_ok());
    }
    EXPECT_TRUE(store_->put_value("bound", "1").is_ok());
  }
  ~ReadsDuringAWrite() override { (void)finish(); }

  // Runs it in a thread as far as it is let.
  void begin(std::function<Status()> write) {
    Gate& gate = GetParam() == Held::kBeforeTheSync ? sync_gate_ : end_gate_;
    syncs_before_ = env_.syncs.load();
    writer_ = std::thread([this, &gate, write = std::move(write)] {
      writer_id_ = std::this_thread::get_id();
      gate.close();
      result_ = write();
      writer_id_ = std::thread::id();
    });
    gate.wait_until_someone_waits();
  }
  Status finish() {
    sync_gate_.open();
    end_gate_.open();
    if (writer_.joinable()) writer_.join();
    return result_;
  }

  void expect_old(Index i) {
    EXPECT_EQ(*store_->term(i), 1u) << i;
    const auto entries = store_->entries(i, i + 1, kNoLimit);
    ASSERT_TRUE(entries.is_ok()) << entries.status().to_string();
    EXPECT_EQ(origin_of(entries->front()).write, 1u) << i;
  }
  void expect_old_or_not_found(Index i) {
    if (store_->term(i).is_ok()) {
      EXPECT_EQ(*store_->term(i), 1u) << i;
    } else {
      EXPECT_EQ(store_->term(i).status().code(), Code::kNotFound) << i;
    }
    const auto entries = store_->entries(i, i + 1, kNoLimit);
    if (entries.is_ok()) {
      EXPECT_EQ(origin_of(entries->front()).write, 1u) << i;
    } else {
      EXPECT_EQ(entries.status().code(), Code::kNotFound) << i << entries.status().to_string();
    }
  }

  TemporaryDirectory directory_;
  Gate sync_gate_, end_gate_;
  GatedSyncs env_;
  std::atomic<std::thread::id> writer_id_;
  std::atomic<int> syncs_before_{0};
  std::unique_ptr<LogStore> store_;
  std::thread writer_;
  Status result_;
};

INSTANTIATE_TEST_SUITE_P(Held, ReadsDuringAWrite,
                         testing::Values(Held::kBeforeTheSync, Held::kBehindLevelDb),
                         [](const auto& info) {
                           return info.param == Held::kBeforeTheSync ? "BeforeTheSync"
                                                                     : "BehindLevelDb";
                         });

TEST_P(ReadsDuringAWrite, SeeNothingOfWhatIsNotDurable) {
  begin([&] { return write(*store_, run_of(31, 33, 2, 2), {2, 2, 20}); });
  EXPECT_EQ(store_->last_index(), 30u);
  EXPECT_EQ(store_->term(31).status().code(), Code::kNotFound);
  EXPECT_EQ(store_->entries(1, 99, kNoLimit)->size(), 30u);
  EXPECT_EQ(store_->entries(30, 99, kNoLimit)->size(), 1u);
  EXPECT_EQ(store_->initial_state()->hard, (HardState{1, 1, 3}));
  EXPECT_EQ(*store_->get_value("bound"), "1");
  for (Index i = 1; i <= 30; ++i) expect_old(i);
  EXPECT_TRUE(finish().is_ok());
  EXPECT_EQ(store_->entries(30, 99, kNoLimit)->size(), 4u);
  EXPECT_EQ(store_->initial_state()->hard, (HardState{2, 2, 20}));
}

TEST_P(ReadsDuringAWrite, SeeTheOldLogWhileItsTailIsReplaced) {
  begin([&] { return write(*store_, run_of(10, 12, 2, 2), {2, 2, 5}); });
  EXPECT_EQ(store_->last_index(), 30u);
  EXPECT_EQ(*store_->term(30), 1u);
  for (Index i = 1; i <= 9; ++i) expect_old(i);
  for (Index i = 10; i <= 30; ++i) expect_old_or_not_found(i);
  EXPECT_EQ(store_->entries(5, 31, kNoLimit)->size(), 5u);  // as far as they stay
  EXPECT_TRUE(finish().is_ok());
  EXPECT_EQ(store_->last_index(), 12u);
  EXPECT_EQ(*store_->term(10), 2u);
}

TEST_P(ReadsDuringAWrite, SeeTheOldLogWhileItIsCompacted) {
  EXPECT_TRUE(write(*store_, {}, {1, 1, 15}).is_ok());
  begin([&] { return store_->save_snapshot(snapshot_at(15, 1), 11); });
  EXPECT_EQ(store_->first_index(), 1u);
  // A snapshot may be seen as soon as it is durable; this is the first one.
  EXPECT_TRUE((*store_->snapshot())->empty());
  for (Index i = 1; i <= 10; ++i) expect_old_or_not_found(i);
  for (Index i = 11; i <= 30; ++i) expect_old(i);
  EXPECT_TRUE(finish().is_ok());
  EXPECT_EQ(store_->first_index(), 11u);
  EXPECT_EQ((*store_->snapshot())->meta.index, 15u);
}

TEST_P(ReadsDuringAWrite, SeeTheOldLogWhileASnapshotReplacesIt) {
  const raft::Snapshot snapshot = snapshot_at(50, 2);
  begin([&] {
    WriteBatch batch;
    batch.snapshot = &snapshot;
    batch.hard_state = HardState{2, 0, 50};
    return store_->write(batch);
  });
  EXPECT_EQ(store_->first_index(), 1u);
  EXPECT_EQ(store_->last_index(), 30u);
  for (Index i = 1; i <= 30; ++i) expect_old_or_not_found(i);
  EXPECT_TRUE(finish().is_ok());
  EXPECT_EQ(store_->first_index(), 51u);
}

// LevelDB lets the next writer go on behind what one that failed has left torn.
TEST(TwoWriters, SecondIsNotAcknowledgedBehindAFailedFirst) {
  for (int round = 0; round < 20; ++round) {
    TemporaryDirectory directory;
    Gate gate;
    GatedSyncs env(&gate);
    OpenOptions options;
    options.reserve_bytes = 0;
    auto store = *LevelDbStore::open(directory.log(), &env, options);
    gate.close();
    env.fail_next_append = true;
    Status first, second;
    std::thread writer([&] { first = write(*store, run_of(1, 1, 1, 1, 10), {1, 1, 0}); });
    gate.wait_until_someone_waits();
    std::thread other([&] { second = store->put_value("bound", "1"); });
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();  // most likely it waits by now
    gate.open();
    writer.join();
    other.join();
    EXPECT_EQ(first.code(), Code::kIo) << first.to_string();
    EXPECT_EQ(second.code(), Code::kIo) << second.to_string();
    store.reset();
    auto reopened = LevelDbStore::open(directory.log(), &env, options);
    ASSERT_TRUE(reopened.is_ok()) << reopened.status().to_string();
    EXPECT_EQ((*reopened)->last_index(), 0u);
  }
}

// --- and at random

enum class Kind { kMemory, kLevelDb };

class WriterAndReader : public testing::TestWithParam<Kind> {
 protected:
  WriterAndReader() {
    store_ = GetParam() == Kind::kMemory ? make_memory_store()
                                         : std::move(*open_leveldb_store(directory_.log(), 0));
  }

  void expect_ok(const Status& s) { EXPECT_TRUE(s.is_ok()) << s.to_string(); }

  // Appends, replaced tails, compactions, installed snapshots: some, and until every kind of read
  // was there a few times.
  void write_at_random() {
    std::mt19937 random(1);
    HardState hard{1, 0, 0};
    for (int step = 1; step <= 200 || rounds_.load(std::memory_order_relaxed) < 4 * kKinds;
         ++step) {
      const Index last = store_->last_index();
      const std::uint64_t choice = random() % 40;
      if (choice == 0) {
        const raft::Snapshot snapshot = snapshot_at(last + 5, hard.term);
        hard.commit = last + 5;
        WriteBatch batch;
        batch.snapshot = &snapshot;
        batch.hard_state = hard;
        expect_ok(store_->write(batch));
      } else if (choice < 4 && hard.commit >= store_->first_index()) {
        const Index kept = hard.commit + 1 - random() % 50 % hard.commit;
        expect_ok(
            store_->save_snapshot(snapshot_at(hard.commit, *store_->term(hard.commit)), kept));
      } else {
        const bool replaces = choice < 20 && last > hard.commit;
        const Index first = replaces ? hard.commit + 1 + random() % (last - hard.commit) : last + 1;
        if (replaces) ++hard.term;
        const Index end = first + random() % 8;
        hard.commit = std::max(hard.commit, std::min(first, end > 12 ? end - 12 : 0));
        expect_ok(write(*store_,
                        run_of(first, end, hard.term, static_cast<std::uint64_t>(step), 40'000),
                        hard, step % 10 == 0));
      }
      committed_.store(hard.commit, std::memory_order_relaxed);
      step_.store(step, std::memory_order_relaxed);
    }
    done_ = true;
  }

  // One kind of read while something is written, then another: so that nothing orders the threads
  // but what that kind does.
  void read_at_random() {
    std::mt19937 random(2);
    for (; !done_; rounds_.fetch_add(1, std::memory_order_relaxed)) {
      const int kind = rounds_.load(std::memory_order_relaxed) % kKinds;
      const int step = step_.load(std::memory_order_relaxed);
      do {
        read(kind, random());
      } while (step_.load(std::memory_order_relaxed) < step + 2 && !done_);
    }
  }

  // From 45 before it to 15 behind it.
  Index near_committed(std::uint64_t random) const {
    const Index before = committed();
    return before + 1 + random % 60 - std::min<Index>(before, 45);
  }
  Index committed() const { return committed_.load(std::memory_order_relaxed); }

  void read(int kind, std::uint64_t random) {
    switch (kind) {
      case 0: {
        const Index before = committed();
        EXPECT_GE(store_->initial_state()->hard.commit, before);
        break;
      }
      case 1: {
        const Index before = committed();
        EXPECT_GE(store_->last_index(), before);
        break;
      }
      case 2: {
        const auto term = store_->term(near_committed(random));
        EXPECT_TRUE(term.is_ok() || term.status().code() == Code::kNotFound)
            << term.status().to_string();
        break;
      }
      case 3: {
        const Index lo = near_committed(random);
        const auto entries = store_->entries(lo, lo + 1 + random / 64 % 20, kNoLimit);
        if (entries.is_ok()) {
          expect_belong_together(lo, *entries);
          reads_ += entries->empty() ? 0 : 1;
        } else {
          EXPECT_EQ(entries.status().code(), Code::kNotFound) << entries.status().to_string();
        }
        break;
      }
      case 4: {
        const auto snapshot = store_->snapshot();
        ASSERT_TRUE(snapshot.is_ok()) << snapshot.status().to_string();
        EXPECT_EQ((*snapshot)->data,
                  (*snapshot)->empty() ? "" : std::to_string((*snapshot)->meta.index));
        break;
      }
      case 5: {
        const std::string value = std::to_string(random);
        if (random % 8 == 0) expect_ok(store_->put_value("bound", value));
        const auto found = store_->get_value("bound");
        EXPECT_TRUE(found.is_ok() || found.status().code() == Code::kNotFound);
        if (random % 8 == 0) {
          EXPECT_EQ(*found, value);
        }
        break;
      }
      default: EXPECT_TRUE(committed() == 0 || !store_->is_blank());
    }
  }

  // As some log had them: no gap, and none that a write had replaced of which there are others.
  static void expect_belong_together(Index lo, const std::vector<Entry>& entries) {
    std::vector<Origin> origins;
    for (const Entry& entry : entries) {
      ASSERT_EQ(entry.index, lo + origins.size());
      const Origin origin = origin_of(entry);
      for (std::size_t i = 0; i < origins.size(); ++i) {
        ASSERT_LE(entries[i].term, entry.term);
        ASSERT_TRUE(origins[i].write >= origin.write || entries[i].index < origin.first)
            << "entry " << entries[i].index << " was replaced with entry " << entry.index;
      }
      origins.push_back(origin);
    }
  }

  TemporaryDirectory directory_;
  std::unique_ptr<LogStore> store_;
  std::atomic<Index> committed_{0};
  static constexpr int kKinds = 7;  // of reads
  std::atomic<int> rounds_{0};
  std::atomic<int> step_{0};
  std::atomic<bool> done_{false};
  int reads_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Stores, WriterAndReader, testing::Values(Kind::kMemory, Kind::kLevelDb),
                         [](const auto& info) {
                           return info.param == Kind::kMemory ? "Memory" : "LevelDb";
                         });

TEST_P(WriterAndReader, DoNotDisturbEachOther) {
  std::thread reader([this] { read_at_random(); });
  write_at_random();
  reader.join();
  EXPECT_GT(reads_, 0);
}

}  // namespace
}  // namespace pgraft::storage
