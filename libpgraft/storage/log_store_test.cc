// What both stores promise, on both; then what only the one on disk can.

#include "libpgraft/storage/log_store.h"

#include <gtest/gtest.h>
#include <leveldb/db.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "libpgraft/base/crc32c.h"
#include "libpgraft/storage/leveldb_store.h"
#include "libpgraft/storage/record.h"

namespace pgraft::storage {
namespace {

using raft::Entry;
using raft::EntryType;
using raft::HardState;
using raft::Index;
using raft::Snapshot;
using raft::Term;

constexpr std::uint64_t kNoLimit = ~0ull;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "pgraft_log_XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) abort();
    path_ = pattern;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  std::string log() const { return path_ + "/a/log"; }

 private:
  std::string path_;
};

Entry entry(Index index, Term term, std::string data = "data") {
  return {index, term, EntryType::kNormal, std::move(data)};
}

std::vector<Entry> run_of(Index first, Index last, Term term) {
  std::vector<Entry> entries;
  for (Index i = first; i <= last; ++i) entries.push_back(entry(i, term, "e" + std::to_string(i)));
  return entries;
}

Snapshot snapshot_at(Index index, Term term, std::string data = "state") {
  Snapshot snapshot;
  snapshot.meta.index = index;
  snapshot.meta.term = term;
  snapshot.meta.conf.voters = {1, 2, 3};
  snapshot.meta.conf.learners = {4};
  snapshot.meta.conf.voters_outgoing = {1, 2, 5};
  snapshot.meta.conf.learners_next = {5};
  snapshot.meta.conf.auto_leave = true;
  snapshot.meta.conf.incarnations = {{1, 11}, {2, ~0ull}};
  snapshot.data = std::move(data);
  return snapshot;
}

Status write(LogStore& store, std::vector<Entry> entries, std::optional<HardState> hard = {},
             const Snapshot* snapshot = nullptr) {
  WriteBatch batch;
  batch.entries = entries;
  batch.hard_state = hard;
  batch.snapshot = snapshot;
  return store.write(batch);
}

void expect_ok(const Status& s) { EXPECT_TRUE(s.is_ok()) << s.to_string(); }

// Everything a reader can see, as text.
std::string contents(const LogStore& store) {
  std::string out;
  const auto state = store.initial_state();
  out += "term " + std::to_string(state->hard.term) + " vote " + std::to_string(state->hard.vote) +
         " commit " + std::to_string(state->hard.commit) + " voters " +
         std::to_string(state->conf.voters.size()) + " log";
  for (Index i = store.first_index() - 1; i <= store.last_index(); ++i) {
    const auto term = store.term(i);
    out += " " + std::to_string(i) + "/" + (term.is_ok() ? std::to_string(*term) : "?");
  }
  const auto entries = store.entries(store.first_index(), store.last_index() + 1, kNoLimit);
  out += " data";
  for (const Entry& e : *entries) {
    out += " " + std::to_string(e.index) + "/" + std::to_string(e.term) + ":" + e.data;
  }
  const auto snapshot = *store.snapshot();
  return out + " snapshot " + std::to_string(snapshot->meta.index) + ":" + snapshot->data;
}

enum class Kind { kMemory, kLevelDb };

class AnyStore : public testing::TestWithParam<Kind> {
 protected:
  AnyStore() { open(); }

  void open() {
    store_.reset();
    if (GetParam() == Kind::kMemory) {
      store_ = make_memory_store();
      return;
    }
    auto opened = open_leveldb_store(directory_.log());
    ASSERT_TRUE(opened.is_ok()) << opened.status().to_string();
    store_ = std::move(*opened);
  }

  // What was written must be there after a restart too. Memory has none.
  void expect_contents(const std::string& expected) {
    EXPECT_EQ(contents(*store_), expected);
    if (GetParam() == Kind::kMemory) return;
    open();
    EXPECT_EQ(contents(*store_), expected);
  }

  void expect_refused(const Status& s, const std::string& part) {
    EXPECT_EQ(s.code(), Code::kInvalidArgument) << s.to_string();
    EXPECT_NE(s.message().find(part), std::string::npos) << s.message();
  }

  TemporaryDirectory directory_;
  std::unique_ptr<LogStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Stores, AnyStore, testing::Values(Kind::kMemory, Kind::kLevelDb),
                         [](const auto& info) {
                           return info.param == Kind::kMemory ? "Memory" : "LevelDb";
                         });

TEST_P(AnyStore, NewOneIsBlankAndEmpty) {
  EXPECT_TRUE(store_->is_blank());
  EXPECT_EQ(store_->first_index(), 1u);
  EXPECT_EQ(store_->last_index(), 0u);
  EXPECT_EQ(*store_->term(0), 0u);
  EXPECT_EQ(store_->term(1).status().code(), Code::kNotFound);
  EXPECT_TRUE((*store_->snapshot())->empty());
  expect_contents("term 0 vote 0 commit 0 voters 0 log 0/0 data snapshot 0:");
  EXPECT_TRUE(store_->is_blank());
}

TEST_P(AnyStore, IsNotBlankOnceSomethingIsWritten) {
  expect_ok(write(*store_, {}, HardState{1, 2, 0}));
  EXPECT_FALSE(store_->is_blank());
  open();
  EXPECT_EQ(store_->is_blank(), GetParam() == Kind::kMemory);
}

TEST_P(AnyStore, GivesBackEveryFieldOfAnEntry) {
  std::string bytes("\0\xff binary", 9);
  std::vector<Entry> entries = {{1, 1, EntryType::kNormal, ""},
                                {2, 1, EntryType::kConfChange, bytes},
                                {3, 7, EntryType::kNormal, std::string(100'000, 'x')}};
  expect_ok(write(*store_, entries, HardState{9, 3, 2}));
  EXPECT_EQ(*store_->entries(1, 4, kNoLimit), entries);
  EXPECT_EQ(store_->initial_state()->hard, (HardState{9, 3, 2}));
  if (GetParam() == Kind::kMemory) return;
  open();
  EXPECT_EQ(*store_->entries(1, 4, kNoLimit), entries);
  EXPECT_EQ(store_->initial_state()->hard, (HardState{9, 3, 2}));
}

TEST_P(AnyStore, OverwritingRemovesWhatIsBehindTheNewEnd) {
  expect_ok(write(*store_, run_of(1, 10, 1), HardState{1, 0, 3}));
  expect_ok(write(*store_, {entry(4, 2, "new"), entry(5, 2, "new")}, HardState{2, 0, 3}));
  EXPECT_EQ(store_->term(6).status().code(), Code::kNotFound);
  expect_contents(
      "term 2 vote 0 commit 3 voters 0 log 0/0 1/1 2/1 3/1 4/2 5/2 "
      "data 1/1:e1 2/1:e2 3/1:e3 4/2:new 5/2:new snapshot 0:");
  expect_ok(write(*store_, {entry(6, 2, "after")}));
  EXPECT_EQ((*store_->entries(5, 7, kNoLimit)).size(), 2u);
}

TEST_P(AnyStore, ReadsRangesWithinTheByteLimitButAlwaysOneEntry) {
  std::vector<Entry> entries;
  for (Index i = 1; i <= 5; ++i) entries.push_back(entry(i, 1, std::string(100, 'x')));
  expect_ok(write(*store_, entries, HardState{1, 0, 0}));
  const struct {
    Index lo, hi;
    std::uint64_t max_bytes;
    std::size_t expected;
  } cases[] = {{1, 6, kNoLimit, 5}, {1, 6, 0, 1},   {1, 6, 99, 1},        {1, 6, 100, 2},
               {2, 4, kNoLimit, 2}, {3, 3, 100, 0}, {4, 99, kNoLimit, 2}, {6, 9, kNoLimit, 0}};
  for (const auto& c : cases) {
    EXPECT_EQ(store_->entries(c.lo, c.hi, c.max_bytes)->size(), c.expected)
        << c.lo << " " << c.hi << " " << c.max_bytes;
  }
  EXPECT_EQ(store_->entries(0, 2, 1).status().code(), Code::kNotFound);
}

TEST_P(AnyStore, InstalledSnapshotReplacesTheLog) {
  expect_ok(write(*store_, run_of(1, 5, 1), HardState{1, 0, 2}));
  const Snapshot snapshot = snapshot_at(20, 3);
  expect_ok(write(*store_, {}, HardState{3, 0, 20}, &snapshot));
  EXPECT_EQ(store_->first_index(), 21u);
  EXPECT_EQ(**store_->snapshot(), snapshot);
  EXPECT_EQ(store_->initial_state()->conf, snapshot.meta.conf);
  expect_contents("term 3 vote 0 commit 20 voters 3 log 20/3 data snapshot 20:state");
  EXPECT_EQ(**store_->snapshot(), snapshot);
  expect_ok(write(*store_, {entry(21, 3, "next")}));
  expect_contents(
      "term 3 vote 0 commit 20 voters 3 log 20/3 21/3 data 21/3:next snapshot 20:state");
}

TEST_P(AnyStore, SnapshotAndEntriesBehindItMayComeTogether) {
  const Snapshot snapshot = snapshot_at(10, 2);
  expect_ok(write(*store_, run_of(11, 12, 3), HardState{3, 1, 0}, &snapshot));
  expect_contents(
      "term 3 vote 1 commit 10 voters 3 log 10/2 11/3 12/3 data 11/3:e11 12/3:e12 "
      "snapshot 10:state");
}

TEST_P(AnyStore, SavedSnapshotKeepsTheTailForFollowersJustBehind) {
  expect_ok(write(*store_, run_of(1, 10, 2), HardState{2, 0, 8}));
  expect_ok(store_->save_snapshot(snapshot_at(8, 2), 6));
  EXPECT_EQ(store_->first_index(), 6u);
  EXPECT_EQ(store_->term(4).status().code(), Code::kNotFound);
  EXPECT_EQ(store_->entries(5, 7, kNoLimit).status().code(), Code::kNotFound);
  expect_contents(
      "term 2 vote 0 commit 8 voters 3 log 5/2 6/2 7/2 8/2 9/2 10/2 "
      "data 6/2:e6 7/2:e7 8/2:e8 9/2:e9 10/2:e10 snapshot 8:state");
  // Asking to keep what is gone already changes nothing; keeping nothing is possible.
  if (GetParam() == Kind::kMemory) return;
  expect_ok(store_->save_snapshot(snapshot_at(8, 2, "again"), 2));
  EXPECT_EQ(store_->first_index(), 6u);
  expect_ok(store_->save_snapshot(snapshot_at(8, 2, "again"), 9));
  expect_contents(
      "term 2 vote 0 commit 8 voters 3 log 8/2 9/2 10/2 data 9/2:e9 10/2:e10 snapshot 8:again");
}

TEST_P(AnyStore, WholeLogCanBeCompacted) {
  expect_ok(write(*store_, run_of(1, 4, 1), HardState{1, 0, 4}));
  expect_ok(store_->save_snapshot(snapshot_at(4, 1), 5));
  expect_contents("term 1 vote 0 commit 4 voters 3 log 4/1 data snapshot 4:state");
  expect_ok(write(*store_, {entry(5, 1, "five")}));
  expect_contents("term 1 vote 0 commit 4 voters 3 log 4/1 5/1 data 5/1:five snapshot 4:state");
}

TEST_P(AnyStore, SnapshotRaisesACommitIndexThatIsBehind) {
  expect_ok(write(*store_, run_of(1, 4, 1), HardState{1, 0, 1}));
  expect_ok(store_->save_snapshot(snapshot_at(3, 1), 4));
  expect_contents("term 1 vote 0 commit 3 voters 3 log 3/1 4/1 data 4/1:e4 snapshot 3:state");
}

TEST_P(AnyStore, SnapshotHeldByAMessageOutlivesTheNextOne) {
  expect_ok(write(*store_, run_of(1, 4, 1), HardState{1, 0, 4}));
  expect_ok(store_->save_snapshot(snapshot_at(2, 1, "old"), 2));
  const auto held = *store_->snapshot();
  EXPECT_EQ(held, *store_->snapshot());  // shared, not copied
  expect_ok(store_->save_snapshot(snapshot_at(3, 1, "new"), 2));
  EXPECT_EQ(held->data, "old");
  EXPECT_EQ((*store_->snapshot())->data, "new");
}

TEST_P(AnyStore, KeepsSmallValues) {
  EXPECT_EQ(store_->get_value("bound").status().code(), Code::kNotFound);
  expect_ok(store_->put_value("bound", "1"));
  expect_ok(store_->put_value("bound", std::string("2\0", 2)));
  expect_ok(store_->put_value("empty", ""));
  EXPECT_EQ(store_->put_value("", "x").code(), Code::kInvalidArgument);
  EXPECT_EQ(store_->put_value(std::string(256, 'k'), "x").code(), Code::kInvalidArgument);
  EXPECT_EQ(store_->put_value("k", std::string(kMaxStoredValueBytes + 1, 'x')).code(),
            Code::kResourceExhausted);
  if (GetParam() == Kind::kLevelDb) open();
  EXPECT_EQ(*store_->get_value("bound"), std::string("2\0", 2));
  EXPECT_EQ(*store_->get_value("empty"), "");
  EXPECT_FALSE(store_->is_blank());
}

TEST_P(AnyStore, RefusesWhatRaftNeverWrites) {
  expect_ok(write(*store_, run_of(1, 6, 2), HardState{3, 1, 4}));
  const std::string before = contents(*store_);
  const Snapshot behind = snapshot_at(3, 2), empty;
  expect_refused(write(*store_, {entry(8, 3)}), "leaves a gap");
  expect_refused(write(*store_, {entry(7, 3), entry(9, 3)}), "where 8 was expected");
  expect_refused(write(*store_, {entry(7, 1)}), "of term 1 after term 2");
  expect_refused(write(*store_, {entry(6, 1)}), "of term 1 after term 2");
  expect_refused(write(*store_, {entry(7, 4)}), "older than the last entry's term 4");
  expect_refused(write(*store_, {entry(4, 3)}), "would replace a committed one");
  expect_refused(write(*store_, {}, HardState{2, 1, 4}), "term 2 after 3");
  expect_refused(write(*store_, {}, HardState{3, 2, 4}), "vote for node 2 after one for node 1");
  expect_refused(write(*store_, {}, HardState{3, 0, 4}), "vote for node 0 after one for node 1");
  expect_refused(write(*store_, {}, HardState{3, 1, 3}), "commit index 3 after 4");
  expect_refused(write(*store_, {}, HardState{3, 1, 7}), "beyond the last entry 6");
  expect_refused(write(*store_, {}, {}, &behind), "behind the commit index 4");
  expect_refused(write(*store_, {}, {}, &empty), "empty snapshot");
  expect_refused(store_->save_snapshot(snapshot_at(4, 1), 2), "has term 1, the log has 2");
  expect_refused(store_->save_snapshot(snapshot_at(4, 2), 6), "is not covered");
  EXPECT_EQ(store_->save_snapshot(snapshot_at(7, 2), 2).code(), Code::kNotFound);
  EXPECT_EQ(write(*store_, {entry(7, 3, std::string(kMaxEntryBytes + 1, 'x'))}).code(),
            Code::kResourceExhausted);
  expect_contents(before);
  expect_ok(write(*store_, {entry(7, 3)}, HardState{4, 2, 7}));
}

// A random history of writes leaves both stores with the same contents, whatever is cached, and
// after restarts.
TEST(Stores, AgreeAfterRandomHistories) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    TemporaryDirectory directory;
    auto memory = make_memory_store();
    auto disk = *open_leveldb_store(directory.log());
    HardState hard;
    for (int step = 0; step < 60; ++step) {
      std::vector<Entry> entries;
      std::optional<Snapshot> snapshot;
      if (random() % 4 == 0) hard = {hard.term + 1, random() % 3, hard.commit};
      if (hard.term == 0) hard.term = 1;
      const Index last = memory->last_index();
      if (random() % 10 == 0) {
        snapshot = snapshot_at(last + 5, hard.term, "s" + std::to_string(step));
        hard.commit = last + 5;
      } else {
        const Index first = hard.commit + 1 + random() % (last - hard.commit + 1);
        const Index count = random() % 5;
        for (Index i = first; i < first + count; ++i) {
          entries.push_back(entry(i, hard.term, std::to_string(random())));
        }
        const Index end = count == 0 ? last : first + count - 1;
        hard.commit += random() % (end - hard.commit + 1);
      }
      expect_ok(write(*memory, entries, hard, snapshot ? &*snapshot : nullptr));
      expect_ok(write(*disk, entries, hard, snapshot ? &*snapshot : nullptr));
      if (random() % 8 == 0 && hard.commit >= memory->first_index()) {
        const Snapshot saved = snapshot_at(hard.commit, *memory->term(hard.commit));
        const Index kept = hard.commit + 1 - random() % 3;
        expect_ok(memory->save_snapshot(saved, kept));
        expect_ok(disk->save_snapshot(saved, kept));
      }
      if (random() % 10 == 0) {
        disk.reset();
        auto reopened = open_leveldb_store(directory.log());
        ASSERT_TRUE(reopened.is_ok()) << reopened.status().to_string();
        disk = std::move(*reopened);
      }
      ASSERT_EQ(contents(*memory), contents(*disk));
    }
  }
}

// --- only on disk
// -------------------------------------------------------------------------------------------

class DiskStore : public testing::Test {
 protected:
  // A log with every kind of record: snapshot at 5, entries 4 to 9, a value.
  void fill() {
    auto store = *open_leveldb_store(directory_.log());
    expect_ok(write(*store, run_of(1, 7, 2), HardState{2, 1, 6}));
    expect_ok(write(*store, run_of(8, 9, 3), HardState{3, 1, 7}));
    expect_ok(store->save_snapshot(snapshot_at(5, 2), 4));
    expect_ok(store->put_value("bound", "17"));
  }

  void damage(const std::function<void(leveldb::DB*)>& change) {
    leveldb::DB* db = nullptr;
    ASSERT_TRUE(leveldb::DB::Open({}, directory_.log(), &db).ok());
    change(db);
    delete db;
  }

  static void put(leveldb::DB* db, const std::string& key, const std::string& payload) {
    ASSERT_TRUE(db->Put({}, key, record::seal(key, payload)).ok());
  }

  void expect_corrupt(const std::string& part) {
    const auto opened = open_leveldb_store(directory_.log());
    ASSERT_FALSE(opened.is_ok());
    EXPECT_EQ(opened.status().code(), Code::kCorruption);
    EXPECT_NE(opened.status().message().find(part), std::string::npos) << opened.status().message();
    EXPECT_NE(opened.status().message().find("remove this node from the cluster"),
              std::string::npos)
        << opened.status().message();
  }

  TemporaryDirectory directory_;
};

TEST_F(DiskStore, SoundOneOpens) {
  fill();
  const auto opened = open_leveldb_store(directory_.log());
  ASSERT_TRUE(opened.is_ok()) << opened.status().to_string();
  EXPECT_EQ((*opened)->first_index(), 4u);
}

TEST_F(DiskStore, FlippedBitInAnyRecordIsRefusedByItsName) {
  const std::pair<std::string, std::string> records[] = {
      {record::kFormatKey, "format version"}, {record::kHardStateKey, "hard state"},
      {record::kLogStartKey, "log start"},    {record::kSnapshotKey, "snapshot"},
      {record::entry_key(8), "entry 8"},      {record::value_key("bound"), "value \"bound\""}};
  fill();
  for (const auto& [key, name] : records) {
    std::string sound;
    damage([&, key = key](leveldb::DB* db) {
      ASSERT_TRUE(db->Get({}, key, &sound).ok());
      std::string value = sound;
      value[value.size() / 2] ^= 0x10;
      ASSERT_TRUE(db->Put({}, key, value).ok());
    });
    expect_corrupt(name + " fails its checksum");
    damage([&, key = key](leveldb::DB* db) { ASSERT_TRUE(db->Put({}, key, "\1ab").ok()); });
    expect_corrupt(name + " is cut short");
    damage([&, key = key](leveldb::DB* db) { ASSERT_TRUE(db->Put({}, key, sound).ok()); });
  }
  EXPECT_TRUE(open_leveldb_store(directory_.log()).is_ok());
}

// Committed entries are the bulk of a log: their own checksum is for whoever reads them.
TEST_F(DiskStore, FlippedBitInACommittedEntryIsFoundByWhoReadsIt) {
  fill();
  damage([](leveldb::DB* db) {
    std::string value;
    ASSERT_TRUE(db->Get({}, record::entry_key(6), &value).ok());
    value[value.size() - 5] ^= 0x10;  // its data
    ASSERT_TRUE(db->Put({}, record::entry_key(6), value).ok());
  });
  auto store = *open_leveldb_store(directory_.log());
  EXPECT_EQ(store->entries(4, 6, kNoLimit)->size(), 2u);
  for (const Status& s : {store->entries(4, 7, kNoLimit).status(), store->term(6).status()}) {
    EXPECT_EQ(s.code(), Code::kCorruption);
    EXPECT_NE(s.message().find("entry 6 fails its checksum"), std::string::npos) << s.message();
  }
}

TEST_F(DiskStore, LastEntryIsCheckedAlsoWhenItIsCommitted) {
  fill();
  {
    auto store = *open_leveldb_store(directory_.log());
    expect_ok(write(*store, {}, HardState{3, 1, 9}));
  }
  damage([](leveldb::DB* db) {
    std::string value;
    ASSERT_TRUE(db->Get({}, record::entry_key(9), &value).ok());
    value[9] ^= 0x10;  // its term
    ASSERT_TRUE(db->Put({}, record::entry_key(9), value).ok());
  });
  expect_corrupt("entry 9 fails its checksum");
}

TEST_F(DiskStore, RecordUnderAnothersKeyIsRefused) {
  fill();
  damage([](leveldb::DB* db) {
    std::string value;
    ASSERT_TRUE(db->Get({}, record::entry_key(6), &value).ok());
    ASSERT_TRUE(db->Put({}, record::entry_key(7), value).ok());
  });
  expect_corrupt("entry 7 says that it is entry 6");
}

struct Damage {
  const char* name;
  std::function<void(leveldb::DB*)> change;
  const char* message;
};

std::function<void(leveldb::DB*)> set_version(const std::string& key, char version,
                                              const std::string& payload) {
  return [=](leveldb::DB* db) {
    std::string value = version + payload;
    const std::uint32_t crc = crc32c(value, crc32c(key));
    for (int shift = 0; shift < 32; shift += 8) value.push_back(static_cast<char>(crc >> shift));
    ASSERT_TRUE(db->Put({}, key, value).ok());
  };
}

// Told from damage: "add it again with an empty directory" would be the wrong advice.
TEST_F(DiskStore, WhatANewerVersionHasWrittenIsRefusedAndKept) {
  using record::encode;
  const Damage newer[] = {
      {"format", [](leveldb::DB* db) { put(db, record::kFormatKey, record::encode_format(2)); },
       "the log has format 2"},
      {"record", set_version(record::kHardStateKey, 2, encode(HardState{3, 1, 7})),
       "hard state has format 2"},
      {"entry", set_version(record::entry_key(8), 2, encode(entry(8, 3))), "entry 8 has format 2"},
  };
  const Damage back[] = {
      {"format", [](leveldb::DB* db) { put(db, record::kFormatKey, record::encode_format(1)); },
       ""},
      {"record",
       [](leveldb::DB* db) {
         put(db, record::kHardStateKey, encode(HardState{3, 1, 7}));
       },
       ""},
      {"entry", [](leveldb::DB* db) { put(db, record::entry_key(8), encode(entry(8, 3))); }, ""},
  };
  fill();
  for (std::size_t i = 0; i < std::size(newer); ++i) {
    SCOPED_TRACE(newer[i].name);
    damage(newer[i].change);
    const auto opened = open_leveldb_store(directory_.log());
    ASSERT_FALSE(opened.is_ok());
    EXPECT_EQ(opened.status().code(), Code::kMismatch) << opened.status().to_string();
    for (const char* part : {newer[i].message, "install that one again"}) {
      EXPECT_NE(opened.status().message().find(part), std::string::npos)
          << opened.status().message();
    }
    EXPECT_EQ(opened.status().message().find("empty directory"), std::string::npos);
    damage(back[i].change);  // for the newer version all is there
    EXPECT_TRUE(open_leveldb_store(directory_.log()).is_ok());
  }
}

TEST_F(DiskStore, WhatDoesNotFitIsRefusedByItsName) {
  using record::encode;
  using record::entry_key;
  const auto remove = [](std::string key) {
    return [key](leveldb::DB* db) { ASSERT_TRUE(db->Delete({}, key).ok()); };
  };
  const auto set = [](std::string key, std::string payload) {
    return [=](leveldb::DB* db) { put(db, key, payload); };
  };
  const std::string hard = record::kHardStateKey, start = record::kLogStartKey,
                    snapshot = record::kSnapshotKey;
  Snapshot other_term = snapshot_at(5, 1);
  std::string long_entry = encode(entry(6, 2));
  long_entry[17] = '\x7f', long_entry[20] = '\x7f';
  Snapshot incarnations = snapshot_at(5, 2);
  incarnations.meta.conf.incarnations = {{0x7071, 1}, {0x7072, 2}};
  std::string twice = encode(incarnations);
  twice[twice.rfind("\x72\x70")] = '\x71';
  const Damage damages[] = {
      {"gap", remove(entry_key(6)), "entries 6 to 6 are missing before entry 7"},
      {"first entry", remove(entry_key(4)), "entries 4 to 4 are missing before entry 5"},
      {"committed end",
       [&](leveldb::DB* db) {
         for (Index i : {7, 8, 9}) ASSERT_TRUE(db->Delete({}, entry_key(i)).ok());
       },
       "commit index 7 is beyond the last entry 6"},
      {"old entry", set(entry_key(3), encode(entry(3, 2))),
       "entry 3 is before the start of the log"},
      {"term back", set(entry_key(8), encode(entry(8, 1))),
       "entry 8 has term 1, the one before it has 2"},
      {"other index", set(entry_key(8), encode(entry(9, 3))), "entry 8 says that it is entry 9"},
      {"trailing byte", set(entry_key(8), encode(entry(8, 3)) + "x"),
       "entry 8: its fields do not fit"},
      {"entry type",
       [&](leveldb::DB* db) {
         std::string e = encode(entry(8, 3));
         e[16] = 9;
         put(db, entry_key(8), e);
       },
       "entry 8: its type 9 is unknown"},
      {"entry length", set(entry_key(6), long_entry), "entry 6: it claims"},
      {"no hard state", remove(hard), "hard state is missing"},
      {"commit ahead", set(hard, encode(HardState{3, 1, 10})),
       "commit index 10 is beyond the last entry 9"},
      {"commit behind", set(hard, encode(HardState{3, 1, 4})),
       "commit index 4 is behind the snapshot at 5"},
      {"old hard state", set(hard, encode(HardState{2, 1, 7})),
       "term 2 is older than the last entry's term 3"},
      {"no snapshot", remove(snapshot), "snapshot is missing"},
      {"no log start", remove(start), "log start is missing"},
      {"snapshot ahead", set(snapshot, encode(snapshot_at(10, 3))),
       "snapshot at 10 does not fit the log"},
      {"snapshot behind", set(snapshot, encode(snapshot_at(2, 2))),
       "snapshot at 2 does not fit the log"},
      {"snapshot term", set(snapshot, encode(other_term)), "the snapshot that covers it has 1"},
      {"snapshot count", set(snapshot, std::string(16, '\1') + "\xff\xff\xff\xff"),
       "snapshot: its fields do not fit"},
      {"incarnation twice", set(snapshot, twice), "snapshot: its fields do not fit"},
      {"unknown format", set(record::kFormatKey, record::encode_format(0)),
       "format version 0 is unknown"},
      {"no format", remove(record::kFormatKey), "format version is missing"},
      {"unknown record", set("Z", "?"), "unknown record"},
      {"record version", set_version(hard, 0, encode(HardState{3, 1, 7})),
       "hard state has record version 0"},
  };
  for (const Damage& d : damages) {
    SCOPED_TRACE(d.name);
    std::filesystem::remove_all(directory_.log());
    fill();
    damage(d.change);
    expect_corrupt(d.message);
  }
}

TEST_F(DiskStore, LostCurrentFileIsNotTakenForANewLog) {
  fill();
  std::filesystem::remove(directory_.log() + "/CURRENT");
  expect_corrupt("file CURRENT is missing");
}

TEST_F(DiskStore, SecondOpenerInThisProcessIsRefused) {
  const auto first = open_leveldb_store(directory_.log());
  ASSERT_TRUE(first.is_ok());
  const auto second = open_leveldb_store(directory_.log());
  EXPECT_EQ(second.status().code(), Code::kUnavailable) << second.status().to_string();
}

TEST_F(DiskStore, OpenerInAnotherProcessIsRefused) {
  int ready[2], done[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(done), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto store = open_leveldb_store(directory_.log());
    char byte = store.is_ok() ? 'y' : 'n';
    if (::write(ready[1], &byte, 1) != 1) _exit(1);
    _exit(::read(done[0], &byte, 1) == 1 ? 0 : 1);  // the lock goes with the process
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'y');
  const auto mine = open_leveldb_store(directory_.log());
  EXPECT_EQ(mine.status().code(), Code::kUnavailable) << mine.status().to_string();
  ASSERT_EQ(::write(done[1], "x", 1), 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(open_leveldb_store(directory_.log()).is_ok());
  for (const int fd : {ready[0], ready[1], done[0], done[1]}) close(fd);
}

TEST_F(DiskStore, UnusableDirectoryIsAnIoError) {
  const auto opened = open_leveldb_store("/dev/null/log");
  EXPECT_EQ(opened.status().code(), Code::kIo);
  EXPECT_NE(opened.status().message().find("/dev/null/log"), std::string::npos);
}

// Counts syncs, and fails them when told to.
class FaultyEnv : public leveldb::EnvWrapper {
 public:
  FaultyEnv() : EnvWrapper(Env::Default()) {}

  leveldb::Status NewWritableFile(const std::string& name, leveldb::WritableFile** file) override {
    leveldb::WritableFile* inner = nullptr;
    const leveldb::Status s = target()->NewWritableFile(name, &inner);
    if (s.ok()) *file = new File(this, std::unique_ptr<leveldb::WritableFile>(inner));
    return s;
  }

  std::atomic<bool> fail_syncs{false};
  std::atomic<int> syncs{0};

 private:
  struct File final : leveldb::WritableFile {
    File(FaultyEnv* env, std::unique_ptr<leveldb::WritableFile> inner)
        : env(env), inner(std::move(inner)) {}
    leveldb::Status Append(const leveldb::Slice& data) override { return inner->Append(data); }
    leveldb::Status Close() override { return inner->Close(); }
    leveldb::Status Flush() override { return inner->Flush(); }
    leveldb::Status Sync() override {
      ++env->syncs;
      return env->fail_syncs ? leveldb::Status::IOError("disk", "gone") : inner->Sync();
    }
    FaultyEnv* env;
    std::unique_ptr<leveldb::WritableFile> inner;
  };
};

TEST_F(DiskStore, SyncsWhenAskedToAndNotOtherwise) {
  FaultyEnv env;
  auto store = *LevelDbStore::open(directory_.log(), &env);
  std::vector<Entry> entries = run_of(1, 1, 1);
  WriteBatch batch;
  batch.hard_state = HardState{1, 0, 0};
  batch.entries = entries;
  int before = env.syncs;
  expect_ok(store->write(batch));
  EXPECT_EQ(env.syncs, before + 1);
  before = env.syncs;
  batch.sync = false;
  batch.entries = {};
  batch.hard_state->commit = 1;
  expect_ok(store->write(batch));
  EXPECT_EQ(env.syncs, before);
  expect_ok(store->put_value("k", "v"));
  EXPECT_EQ(env.syncs, before + 1);
}

TEST_F(DiskStore, FailedWritePoisonsTheStore) {
  FaultyEnv env;
  auto store = *LevelDbStore::open(directory_.log(), &env);
  expect_ok(write(*store, run_of(1, 2, 1), HardState{1, 1, 1}));
  const std::string before = contents(*store);
  env.fail_syncs = true;
  EXPECT_EQ(write(*store, run_of(3, 4, 1)).code(), Code::kIo);
  env.fail_syncs = false;
  EXPECT_EQ(write(*store, run_of(3, 4, 1)).code(), Code::kIo);
  EXPECT_EQ(store->save_snapshot(snapshot_at(1, 1), 1).code(), Code::kIo);
  EXPECT_EQ(store->put_value("k", "v").code(), Code::kIo);
  EXPECT_NE(store->put_value("k", "v").message().find("an earlier write failed"),
            std::string::npos);
  EXPECT_EQ(contents(*store), before);
}

TEST_F(DiskStore, LongLogIsReadFromDiskBehindTheCache) {
  auto store = *open_leveldb_store(directory_.log());
  for (Index first = 1; first < 10'000; first += 500) {
    expect_ok(write(*store, run_of(first, first + 499, first), HardState{first, 0, 0}));
  }
  EXPECT_EQ(store->last_index(), 10'000u);
  for (const Index i : {1u, 499u, 5'000u, 5'900u, 5'905u, 9'999u}) {
    EXPECT_EQ((*store->entries(i, i + 1, 0))[0].data, "e" + std::to_string(i));
    EXPECT_EQ(*store->term(i), (i - 1) / 500 * 500 + 1);
  }
  EXPECT_EQ(store->entries(1, 10'001, kNoLimit)->size(), 10'000u);
}

// Memory of this process that is no file's, in bytes.
std::size_t anonymous_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stoull(line.substr(8)) << 10;
  }
  return 0;
}

TEST_F(DiskStore, LongLogIsOpenedSoonAndNotLoaded) {
  constexpr std::size_t kLogBytes = 64u << 20, kEntryBytes = 4096, kBatch = 256;
  {
    auto store = *open_leveldb_store(directory_.log());
    const std::string data(kEntryBytes, 'x');
    for (Index first = 1; first < kLogBytes / kEntryBytes; first += kBatch) {
      std::vector<Entry> entries;
      for (Index i = first; i < first + kBatch; ++i) entries.push_back(entry(i, 1, data));
      expect_ok(write(*store, entries, HardState{1, 0, first - 1}));
    }
  }
  [[maybe_unused]] const std::size_t before = anonymous_memory();
  const auto start = std::chrono::steady_clock::now();
  const auto store = *open_leveldb_store(directory_.log());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_EQ(store->last_index(), kLogBytes / kEntryBytes);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_GT(before, 0u);
  EXPECT_LT(anonymous_memory(), before + kLogBytes / 2);
#endif
}

}  // namespace
}  // namespace pgraft::storage
