// The durable log on a disk that has faults: what was acknowledged is there afterwards, or the
// store is refused; never silently less.
#include <gtest/gtest.h>
#include <leveldb/db.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "libpgraft/sim/simulated_disk.h"
#include "libpgraft/storage/leveldb_store.h"
#include "libpgraft/storage/log_store.h"

namespace pgraft::sim {
namespace {

using raft::Entry;
using raft::HardState;
using raft::Index;
using raft::Term;
using storage::LogStore;

const char kDirectory[] = "/member/raft";
constexpr std::uint64_t kReserve = 4096;

// --- a run of a store, and what it must hold after each step

struct Step {
  std::string name;
  std::function<Status(LogStore&)> act;  // none: the store is closed and opened
  bool synced = true;
  bool kill = false;  // the store is not closed, its process ends
};
using Script = std::vector<Step>;

std::vector<Entry> run_of(Index first, Index last, Term term, std::size_t bytes = 20) {
  std::vector<Entry> entries;
  for (Index i = first; i <= last; ++i) {
    const std::string text = std::to_string(i) + "/" + std::to_string(term) + " ";
    std::string data;
    while (data.size() < bytes) data += text;
    entries.push_back({i, term, raft::EntryType::kNormal, std::move(data)});
  }
  return entries;
}

raft::Snapshot snapshot_at(Index index, Term term) {
  raft::Snapshot snapshot;
  snapshot.meta.index = index;
  snapshot.meta.term = term;
  snapshot.meta.conf.voters = {1, 2, 3};
  snapshot.data = "state at " + std::to_string(index);
  return snapshot;
}

Step append(std::vector<Entry> entries, std::optional<HardState> hard = {}, bool sync = true) {
  const std::string name =
      "append " + std::to_string(entries.front().index) + (sync ? "" : " unsynced");
  return {name,
          [=](LogStore& store) {
            storage::WriteBatch batch;
            batch.entries = entries;
            batch.hard_state = hard;
            batch.sync = sync;
            return store.write(batch);
          },
          sync};
}

Step hard_state(HardState hard, bool sync) {
  return {"hard state",
          [=](LogStore& store) {
            storage::WriteBatch batch;
            batch.hard_state = hard;
            batch.sync = sync;
            return store.write(batch);
          },
          sync};
}

Step install(Index index, Term term, HardState hard) {
  return {"install a snapshot", [=](LogStore& store) {
            const raft::Snapshot snapshot = snapshot_at(index, term);
            storage::WriteBatch batch;
            batch.snapshot = &snapshot;
            batch.hard_state = hard;
            return store.write(batch);
          }};
}

Step save(Index index, Term term, Index first_kept) {
  return {"save a snapshot", [=](LogStore& store) {
            return store.save_snapshot(snapshot_at(index, term), first_kept);
          }};
}

Step value(const std::string& text) {
  return {"value", [=](LogStore& store) { return store.put_value("bound", text); }};
}

Step reopen() { return {"reopen", nullptr}; }
Step kill() { return {"kill", nullptr, true, true}; }

// Every kind of write, some twice, with a log that is opened with records of each kind in it.
Script short_script() {
  return {append(run_of(1, 3, 1), HardState{1, 1, 0}),
          hard_state({1, 1, 2}, false),
          append(run_of(4, 6, 1), HardState{1, 1, 3}),
          value("1"),
          hard_state({3, 2, 3}, true),
          append(run_of(5, 5, 3), HardState{3, 2, 4}),  // over a tail that conflicts
          hard_state({3, 2, 5}, false),
          reopen(),
          append(run_of(6, 9, 3)),
          value("2"),
          hard_state({3, 2, 8}, false),
          kill(),
          save(8, 3, 5),
          append(run_of(10, 11, 3), {}, false),
          append(run_of(12, 12, 3), HardState{3, 2, 10}),
          reopen(),
          install(20, 4, HardState{5, 1, 20}),
          append(run_of(21, 24, 5), HardState{5, 1, 21}),
          save(21, 5, 21),
          value("3"),
          append(run_of(22, 22, 6), HardState{6, 0, 21}),
          reopen(),
          reopen(),
          append(run_of(23, 25, 6), HardState{6, 0, 24}),
          save(24, 6, 25),
          reopen(),
          reopen()};
}

// Long enough that LevelDB changes logs and compacts, with unsynced writes where it does.
Script long_script() {
  Script script;
  Index last = 0;
  for (Term term = 1; term <= 10; ++term) {
    for (int i = 0; i < 6; ++i) {
      const Index commit = last;
      script.push_back(
          append(run_of(last + 1, last + 2, term, 5'000), HardState{term, 1, commit}, i % 3 != 1));
      last += 2;
      script.push_back(hard_state({term, 1, last - 1}, false));
    }
    script.push_back(save(last - 1, term, last - 3));
    script.push_back(append(run_of(last + 1, last + 1, term), {}, false));
    ++last;
    if (term % 3 == 0) script.push_back(term % 2 == 0 ? reopen() : kill());
  }
  return script;
}

std::string text_of(const Status& s) { return "<" + s.to_string() + ">"; }

// Everything that can be read, as text.
std::string contents(const LogStore& store) {
  const auto state = store.initial_state();
  std::string out = "term " + std::to_string(state->hard.term) + " vote " +
                    std::to_string(state->hard.vote) + " commit " +
                    std::to_string(state->hard.commit) + " log after " +
                    std::to_string(store.first_index() - 1);
  for (Index i = store.first_index(); i <= store.last_index(); ++i) {
    const auto entries = store.entries(i, i + 1, 0);
    const auto term = store.term(i);
    if (!entries.is_ok()) return text_of(entries.status());
    if (entries->size() != 1) return "<no entry " + std::to_string(i) + ">";
    const Entry& e = entries->front();
    out += " " + std::to_string(e.index) + "/" + std::to_string(e.term) + "/" +
           (term.is_ok() ? std::to_string(*term) : text_of(term.status())) + ":" + e.data;
  }
  const auto snapshot = store.snapshot();
  if (!snapshot.is_ok()) return text_of(snapshot.status());
  out += " snapshot " + std::to_string((*snapshot)->meta.index) + " " + (*snapshot)->data;
  const auto bound = store.get_value("bound");
  if (!bound.is_ok() && bound.status().code() != Code::kNotFound) return text_of(bound.status());
  return out + " bound " + (bound.is_ok() ? *bound : "none");
}

// Before the first step and after each.
std::vector<std::string> states_of(const Script& script) {
  const auto model = storage::make_memory_store();
  std::vector<std::string> states = {contents(*model)};
  for (const Step& step : script) {
    if (step.act) {
      const Status s = step.act(*model);
      EXPECT_TRUE(s.is_ok()) << step.name << ": " << s.to_string();
    }
    states.push_back(contents(*model));
  }
  return states;
}

Result<std::unique_ptr<LogStore>> open(SimulatedDisk& disk, std::uint64_t reserve = kReserve) {
  storage::OpenOptions options;
  options.reserve_bytes = reserve;
  options.write_buffer_bytes = 64u << 10;
  options.after_each_call = [&disk] { disk.run_scheduled(); };
  return storage::LevelDbStore::open(kDirectory, disk.env(), std::move(options));
}

// A run of a script on a disk. What it must hold is a range of states: everything up to the last
// synced step, and whatever of the later ones it has.
class Play {
 public:
  Play(SimulatedDisk* disk, const Script* script, const std::vector<std::string>* states,
       std::uint64_t reserve = kReserve)
      : disk_(disk), script_(script), states_(states), reserve_(reserve) {}

  // Goes on until so many steps are done, or the store fails.
  Status go_on(std::size_t steps = ~std::size_t{0}) {
    while (done_ < std::min(steps, script_->size())) {
      const Step& step = (*script_)[done_];
      if (step.kill) disk_->kill();
      if (!step.act) store_.reset();
      if (store_ == nullptr) {
        if (Status s = open_store(); !s.is_ok()) return s;
      }
      if (step.act) {
        if (Status s = step.act(*store_); !s.is_ok()) return s;
      }
      ++done_;
      if (step.synced) synced_ = done_;
    }
    return Status::ok();
  }

  Status open_store() {
    auto store = open(*disk_, reserve_);
    opened_ = store.status();
    if (store.is_ok()) store_ = std::move(*store);
    return opened_;
  }

  // After a fault: opens and compares. Returns what is wrong; empty when nothing is.
  std::string check() {
    store_.reset();
    if (Status s = open_store(); !s.is_ok()) return "refused: " + s.to_string();
    const std::string found = contents(*store_);
    const std::size_t last = std::min(done_ + 1, script_->size());
    for (std::size_t i = synced_; i <= last; ++i) {
      if (found != (*states_)[i]) continue;
      done_ = synced_ = i;  // an open makes durable what it finds
      return {};
    }
    return "after step " + std::to_string(done_) + " (synced: " + std::to_string(synced_) +
           ") it holds " + found + "\ninstead of " + (*states_)[done_];
  }

  const Status& opened() const { return opened_; }  // how the last open ended
  void close() { store_.reset(); }
  LogStore* store() { return store_.get(); }
  std::size_t done() const { return done_; }

 private:
  SimulatedDisk* disk_;
  const Script* script_;
  const std::vector<std::string>* states_;
  std::uint64_t reserve_;
  std::unique_ptr<LogStore> store_;
  Status opened_;
  std::size_t done_ = 0;
  std::size_t synced_ = 0;
};

// What a run without faults takes.
SimulatedDisk::Counts counts_of(const Script& script) {
  SimulatedDisk disk(1);
  const std::vector<std::string> states = states_of(script);
  Play run(&disk, &script, &states);
  const Status s = run.go_on();
  EXPECT_TRUE(s.is_ok()) << s.to_string();
  const SimulatedDisk::Counts counts = disk.counts();
  EXPECT_EQ(run.check(), "");
  run.close();
  return counts;
}

struct Faults {
  std::uint64_t cut_power_at = 0;
  std::uint64_t fail_sync_at = 0;
  bool lies_about_syncs = false;
};

// Plays a script to its end, through these faults and power cuts soon after them; returns what is
// wrong.
std::string play(const Faults& faults, std::uint64_t seed, const Script& script,
                 const std::vector<std::string>& states) {
  std::mt19937_64 random(seed);
  SimulatedDisk disk(seed);
  disk.lie_about_syncs(faults.lies_about_syncs);
  disk.cut_power_at(faults.cut_power_at);
  disk.fail_sync_at(faults.fail_sync_at);
  const auto expected = [&](const Status& s) {
    return disk.powered_off() || (faults.fail_sync_at != 0 && s.code() == Code::kIo);
  };
  Play run(&disk, &script, &states);
  for (;;) {
    const Status s = run.go_on();
    if (s.is_ok()) break;
    if (!expected(s)) return "step " + std::to_string(run.done()) + ": " + s.to_string();
    for (;;) {
      run.close();
      if (disk.powered_off() || random() % 2 == 0) {
        disk.crash();
      } else {
        disk.kill();
      }
      if (random() % 2 == 0) disk.cut_power_at(1 + random() % 30);
      std::string wrong = run.check();
      if (wrong.empty()) break;
      if (!expected(run.opened())) return wrong;
    }
  }
  run.close();
  disk.crash();
  return run.check();
}

void crash_everywhere(const Script& script, std::uint64_t seeds) {
  const std::vector<std::string> states = states_of(script);
  const std::uint64_t operations = counts_of(script).operations();
  ASSERT_GT(operations, script.size());
  for (std::uint64_t n = 1; n <= operations; ++n) {
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      ASSERT_EQ(play({n, 0, false}, n * seeds + seed, script, states), "")
          << "crash at operation " << n << ", seed " << seed;
    }
  }
}

TEST(StoreFaults, CrashAtEveryWriteAndSyncLosesNothingAcknowledged) {
  crash_everywhere(short_script(), 20);
}

TEST(StoreFaults, CrashAtEveryWriteAndSyncOfALongRunLosesNothingAcknowledged) {
  crash_everywhere(long_script(), 2);
}

// The negative control of the two above.
TEST(StoreFaults, DiskThatLiesAboutSyncIsFoundOut) {
  const Script script = short_script();
  const std::vector<std::string> states = states_of(script);
  int losses = 0;
  for (std::uint64_t n = 20; n <= 60; ++n) {
    losses += play({n, 0, true}, n, script, states).empty() ? 0 : 1;
  }
  EXPECT_GT(losses, 20);
}

// Unsynced writes until a second log has been begun, and a synced one behind them. Returns how many
// there were.
int write_into_two_logs(const SimulatedDisk& disk, const std::function<Status(int, bool)>& write) {
  const auto logs = [&] {
    int n = 0;
    for (const auto& [name, bytes] : disk.image()) n += name.ends_with(".log") ? 1 : 0;
    return n;
  };
  int last = 0;
  while (logs() < 2 && last < 1000) EXPECT_TRUE(write(++last, false).is_ok());
  EXPECT_EQ(logs(), 2);
  EXPECT_TRUE(write(++last, true).is_ok());
  return last;
}

TEST(StoreFaults, SyncedWriteMakesEarlierOnesDurableThatAreInAnOlderLog) {
  for (int seed = 0; seed < 20; ++seed) {
    SimulatedDisk disk(seed);
    storage::OpenOptions options;  // background work waits: it would write all of the old log again
    options.reserve_bytes = 0;
    options.write_buffer_bytes = 64u << 10;
    auto store = *storage::LevelDbStore::open(kDirectory, disk.env(), options);
    const int last = write_into_two_logs(disk, [&](int i, bool sync) {
      return append(run_of(i, i, 1, 1000), HardState{1, 0, 0}, sync).act(*store);
    });
    disk.crash();
    disk.run_scheduled();
    store.reset();
    auto reopened = open(disk);
    ASSERT_TRUE(reopened.is_ok()) << reopened.status().to_string();
    EXPECT_EQ((*reopened)->last_index(), static_cast<Index>(last)) << seed;
  }
}

// The negative control: LevelDB alone, which goes on in a new log without a sync of the full one.
TEST(StoreFaults, LevelDbAloneLosesWhatIsUnsyncedInAnOlderLog) {
  int lost = 0;
  for (int seed = 0; seed < 20; ++seed) {
    SimulatedDisk disk(seed);
    disk.env()->CreateDir("/member");
    std::unique_ptr<leveldb::DB> db;
    const auto open_database = [&] {
      leveldb::Options options;
      options.env = disk.env();
      options.create_if_missing = true;
      options.write_buffer_size = 64u << 10;
      leveldb::DB* opened = nullptr;
      ASSERT_TRUE(leveldb::DB::Open(options, kDirectory, &opened).ok());
      db.reset(opened);
    };
    open_database();
    const int last = write_into_two_logs(disk, [&](int i, bool sync) {
      leveldb::WriteOptions options;
      options.sync = sync;
      return storage::to_status(db->Put(options, std::to_string(i), std::string(1000, 'x')));
    });
    disk.crash();
    disk.run_scheduled();
    open_database();
    std::string ignored;
    EXPECT_TRUE(db->Get({}, std::to_string(last), &ignored).ok());
    for (int i = 1; i < last; ++i) lost += db->Get({}, std::to_string(i), &ignored).ok() ? 0 : 1;
    disk.run_scheduled();
  }
  EXPECT_GT(lost, 0);
}

// --- faults that are not the end

// After a write that failed: nothing can be written, everything acknowledged can be read.
void expect_poisoned(LogStore& store, Code code, const std::string& acknowledged) {
  EXPECT_EQ(contents(store), acknowledged);
  const Index next = store.last_index() + 1;
  const HardState hard{99, 0, store.initial_state()->hard.commit};
  for (const Step& step : {value("later"), append(run_of(next, next, 99), hard)}) {
    const Status s = step.act(store);
    EXPECT_EQ(s.code(), code) << s.to_string();
    EXPECT_NE(s.message().find("an earlier write failed"), std::string::npos) << s.message();
  }
}

TEST(StoreFaults, FailedSyncPoisonsTheStoreAndLosesNothingAcknowledged) {
  for (const Script& script : {short_script(), long_script()}) {
    const std::vector<std::string> states = states_of(script);
    const std::uint64_t syncs = counts_of(script).syncs;
    std::uint64_t failures = 0;
    for (std::uint64_t n = 1; n <= syncs; ++n) {
      SCOPED_TRACE("sync " + std::to_string(n));
      SimulatedDisk disk(n);
      disk.fail_sync_at(n);
      Play run(&disk, &script, &states);
      if (const Status s = run.go_on(); !s.is_ok()) {  // else a log that was closed with the store
        ++failures;
        EXPECT_EQ(s.code(), Code::kIo) << s.to_string();
        if (run.store() != nullptr) expect_poisoned(*run.store(), Code::kIo, states[run.done()]);
        n % 2 == 0 ? disk.crash() : disk.kill();
        ASSERT_EQ(run.check(), "");
        ASSERT_TRUE(run.go_on().is_ok());
      }
      run.close();
      disk.crash();
      ASSERT_EQ(run.check(), "");
      run.close();
    }
    EXPECT_GT(failures, syncs * 9 / 10);
  }
}

TEST(StoreFaults, CrashesAfterAFailedSyncLoseNothingAcknowledged) {
  const Script script = short_script();
  const std::vector<std::string> states = states_of(script);
  const std::uint64_t syncs = counts_of(script).syncs;
  for (std::uint64_t n = 1; n <= syncs; ++n) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      ASSERT_EQ(play({0, n, false}, n * 20 + seed, script, states), "")
          << "failed sync " << n << ", seed " << seed;
    }
  }
}

TEST(StoreFaults, FailedWritePoisonsTheStoreAndLosesNothingAcknowledged) {
  const Script script = short_script();
  const std::vector<std::string> states = states_of(script);
  for (std::size_t at = 0; at < script.size(); ++at) {
    if (!script[at].act) continue;
    SCOPED_TRACE(script[at].name + ", step " + std::to_string(at));
    SimulatedDisk disk(at);
    Play run(&disk, &script, &states);
    ASSERT_TRUE(run.open_store().is_ok());
    ASSERT_TRUE(run.go_on(at).is_ok());
    ASSERT_TRUE(run.store() != nullptr || run.open_store().is_ok());
    disk.fail_writes(true);
    EXPECT_EQ(run.go_on(at + 1).code(), Code::kIo);
    disk.fail_writes(false);
    expect_poisoned(*run.store(), Code::kIo, states[at]);
    run.close();
    disk.crash();
    ASSERT_EQ(run.check(), "");
    ASSERT_TRUE(run.go_on().is_ok());
    run.close();
  }
}

TEST(StoreFaults, UnreadableDiskIsAnErrorOfTheDisk) {
  const Script script = short_script();
  const std::vector<std::string> states = states_of(script);
  SimulatedDisk disk(1);
  Play run(&disk, &script, &states);
  ASSERT_TRUE(run.go_on().is_ok());
  run.close();
  disk.fail_reads(true);
  EXPECT_EQ(open(disk).status().code(), Code::kIo) << open(disk).status().to_string();
  disk.fail_reads(false);
  EXPECT_EQ(run.check(), "");
}

// --- a full disk

TEST(StoreFaults, FullDiskIsToldApartAndTheStoreGoesOnOnceThereIsRoom) {
  const struct {
    Script script;
    std::uint64_t step;
  } cases[] = {{short_script(), 17}, {long_script(), 1009}};
  for (const auto& [script, step] : cases) {
    const std::vector<std::string> states = states_of(script);
    int refused_open = 0, refused_write = 0;
    for (std::uint64_t room = 0;; room += step) {
      SCOPED_TRACE("room " + std::to_string(room));
      SimulatedDisk disk(room);
      disk.set_capacity(room);
      Play run(&disk, &script, &states, 0);  // so that it gets as far as there is room
      const Status s = run.go_on();
      if (s.is_ok()) break;
      ASSERT_EQ(s.code(), Code::kNoSpace) << s.to_string();
      if (run.store() != nullptr) {
        ++refused_write;
        expect_poisoned(*run.store(), Code::kNoSpace, states[run.done()]);
      } else {
        ++refused_open;
      }
      // No room to come back yet: refused as often as it is tried, and nothing is lost by it.
      run.close();
      disk.set_capacity(disk.used() + kReserve - 1);
      for (int i = 0; i < 3; ++i) {
        const Status again = open(disk).status();
        EXPECT_EQ(again.code(), Code::kNoSpace) << again.to_string();
      }
      disk.set_capacity(SimulatedDisk::kUnlimited);
      ASSERT_EQ(run.check(), "");
      ASSERT_TRUE(run.go_on().is_ok());
      run.close();
      disk.crash();
      ASSERT_EQ(run.check(), "");
      run.close();
    }
    EXPECT_GT(refused_open, 10);
    EXPECT_GT(refused_write, 10);
  }
}

TEST(StoreFaults, TooLargeAnEntryIsNotAFullDisk) {
  SimulatedDisk disk(1);
  auto store = *open(disk);
  const Status s =
      append(run_of(1, 1, 1, storage::kMaxEntryBytes + 1), HardState{1, 0, 0}).act(*store);
  EXPECT_EQ(s.code(), Code::kResourceExhausted);
  EXPECT_TRUE(append(run_of(1, 1, 1), HardState{1, 0, 0}).act(*store).is_ok());
}

// --- damage

// What a script leaves, closed, and what was there before its last step.
struct Closed {
  SimulatedDisk::Image image;
  std::vector<std::string> states;
  std::string newest_log;
  std::size_t last_record = 0;  // where that of the last step begins in it
};

Closed closed_after(Script script) {
  Closed result;
  result.states = states_of(script);
  const Step last = script.back();
  script.pop_back();
  SimulatedDisk disk(1);
  Play run(&disk, &script, &result.states);
  EXPECT_TRUE(run.go_on().is_ok());
  for (const auto& [name, bytes] : disk.image()) {
    if (name.ends_with(".log")) result.newest_log = name;
  }
  result.last_record = disk.image().at(result.newest_log).size();
  EXPECT_TRUE(last.act(*run.store()).is_ok());
  run.close();
  result.image = disk.image();
  EXPECT_GT(result.image.at(result.newest_log).size(), result.last_record);
  return result;
}

enum class Found { kAll, kRefused, kRefusedLater, kLess };

// Opens what is on the disk. kLess: without a word, though `found` is not what it must hold.
Found look(SimulatedDisk& disk, const std::string& expected, std::string* found) {
  auto opened = open(disk);
  if (!opened.is_ok()) {
    *found = opened.status().to_string();
    EXPECT_EQ(opened.status().code(), Code::kCorruption) << *found;
    EXPECT_NE(found->find("remove this node from the cluster"), std::string::npos) << *found;
    return Found::kRefused;
  }
  *found = contents(**opened);
  if (*found == expected) return Found::kAll;
  return found->starts_with("<corruption") ? Found::kRefusedLater : Found::kLess;
}

// The script ends in an open log, over tables, a log start, a snapshot, values.
Script damaged_script() {
  Script script = short_script();
  while (!script.back().act) script.pop_back();
  script.push_back(reopen());
  script.push_back(append(run_of(26, 28, 6), HardState{6, 0, 25}));
  script.push_back(hard_state({6, 3, 26}, true));
  script.push_back(value("4"));
  script.push_back(append(run_of(29, 29, 7), HardState{7, 3, 27}));
  return script;
}

TEST(StoreFaults, FlippedBitAnywhereIsHarmlessOrRefused) {
  int last_record = 0;
  for (const Script& script : {damaged_script(), long_script()}) {
    const Closed closed = closed_after(script);
    std::mt19937_64 random(1);
    int refused = 0;
    for (const auto& [name, bytes] : closed.image) {
      const std::size_t step = bytes.size() < 4096 ? 1 : bytes.size() / 200;
      for (std::size_t byte = 0; byte < bytes.size(); byte += step) {
        SimulatedDisk disk(1);
        disk.load(closed.image);
        disk.flip_bit(name, byte, static_cast<int>(random() % 8));
        std::string text;
        const Found found = look(disk, closed.states.back(), &text);
        refused += found == Found::kRefused || found == Found::kRefusedLater ? 1 : 0;
        if (found != Found::kLess) continue;
        // A last record that is damaged looks like one that a crash left torn.
        ++last_record;
        ASSERT_EQ(name, closed.newest_log) << byte;
        ASSERT_GE(byte, closed.last_record);
        ASSERT_EQ(text, closed.states[closed.states.size() - 2]);
      }
    }
    EXPECT_GT(refused, 500);
  }
  EXPECT_GT(last_record, 0);
}

TEST(StoreFaults, TruncatedFileIsRefusedUnlessItIsTheNewestLog) {
  const Closed closed = closed_after(damaged_script());
  int refused = 0;
  for (const auto& [name, bytes] : closed.image) {
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      SCOPED_TRACE(name + " cut to " + std::to_string(size));
      SimulatedDisk disk(1);
      disk.load(closed.image);
      disk.truncate(name, size);
      std::string text;
      const Found found = look(disk, closed.states.back(), &text);
      if (name == closed.newest_log) {
        // What a crash before the sync leaves: it can't be told. But it is a state that was.
        EXPECT_NE(std::find(closed.states.begin(), closed.states.end(), text), closed.states.end())
            << text;
      } else {
        EXPECT_EQ(found, Found::kRefused) << text;
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(StoreFaults, LostFileIsRefused) {
  const Closed closed = closed_after(damaged_script());
  for (const auto& [name, bytes] : closed.image) {
    SCOPED_TRACE(name);
    SimulatedDisk disk(1);
    SimulatedDisk::Image image = closed.image;
    image.erase(name);
    disk.load(image);
    std::string text;
    EXPECT_EQ(look(disk, closed.states.back(), &text), Found::kRefused) << text;
    EXPECT_NE(text.find(name.substr(name.rfind('/') + 1)), std::string::npos) << text;
  }
}

// Two logs are needed after a crash that came before the older one was a table.
TEST(StoreFaults, DamageInAnOlderLogIsRefused) {
  SimulatedDisk disk(1);
  storage::OpenOptions options;  // background work waits
  options.reserve_bytes = 0;
  options.write_buffer_bytes = 64u << 10;
  auto store = *storage::LevelDbStore::open(kDirectory, disk.env(), options);
  write_into_two_logs(disk, [&](int i, bool sync) {
    return append(run_of(i, i, 1, 1000), HardState{1, 0, 0}, sync).act(*store);
  });
  const std::string expected = contents(*store);
  const SimulatedDisk::Image image = disk.image();
  disk.kill();
  disk.run_scheduled();
  store.reset();

  std::string text;
  disk.load(image);
  ASSERT_EQ(look(disk, expected, &text), Found::kAll) << text;
  const auto older = std::find_if(image.begin(), image.end(),
                                  [](const auto& file) { return file.first.ends_with(".log"); });
  const std::size_t size = older->second.size();
  for (const std::size_t cut : {std::size_t{0}, size / 2, size - 1}) {
    disk.load(image);
    disk.truncate(older->first, cut);
    EXPECT_EQ(look(disk, expected, &text), Found::kRefused) << text;
  }
  for (const std::size_t byte : {std::size_t{0}, size / 2, size - 1}) {
    disk.load(image);
    disk.flip_bit(older->first, byte, 3);
    EXPECT_EQ(look(disk, expected, &text), Found::kRefused) << text;
  }
}

}  // namespace
}  // namespace pgraft::sim
