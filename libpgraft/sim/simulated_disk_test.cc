#include "libpgraft/sim/simulated_disk.h"

#include <gtest/gtest.h>
#include <leveldb/db.h>
#include <leveldb/write_batch.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <set>

namespace pgraft::sim {
namespace {

using leveldb::Env;
using leveldb::Slice;
using leveldb::Status;

constexpr int kSeeds = 200;

std::unique_ptr<leveldb::WritableFile> create(SimulatedDisk& disk, const std::string& name) {
  disk.env()->CreateDir("/d");
  leveldb::WritableFile* file = nullptr;
  const Status s = disk.env()->NewWritableFile(name, &file);
  EXPECT_TRUE(s.ok()) << s.ToString();
  return std::unique_ptr<leveldb::WritableFile>(file);
}

void put(leveldb::WritableFile& file, const std::string& bytes) {
  EXPECT_TRUE(file.Append(bytes).ok());
  EXPECT_TRUE(file.Flush().ok());
}

// A new file with these bytes, on the disk or only in the page cache.
void put(SimulatedDisk& disk, const std::string& name, const std::string& bytes, bool sync) {
  const auto file = create(disk, name);
  put(*file, bytes);
  if (!sync) return;
  EXPECT_TRUE(file->Sync().ok());
}

TEST(SimulatedDisk, CrashKeepsWhatIsSyncedAndADrawnPartOfTheRest) {
  const std::string synced(100, 's');
  const std::string rest(100, 'r');
  bool nothing = false, part = false, all = false, zeros = false, garbage = false;
  for (int seed = 0; seed < kSeeds; ++seed) {
    SimulatedDisk disk(seed);
    const auto file = create(disk, "/d/f");
    put(*file, synced);
    ASSERT_TRUE(file->Sync().ok());
    put(*file, rest);
    EXPECT_EQ(disk.image().at("/d/f"), synced + rest);
    disk.crash();
    const std::string left = disk.image().at("/d/f");
    ASSERT_GE(left.size(), synced.size());
    ASSERT_LE(left.size(), synced.size() + rest.size());
    ASSERT_EQ(left.substr(0, 100), synced);
    const std::string tail = left.substr(100);
    const std::size_t torn_at = tail.find_first_not_of('r');
    nothing |= tail.empty();
    part |= !tail.empty() && tail.size() < rest.size();
    all |= tail == rest;
    if (torn_at == std::string::npos) continue;
    const bool is_zero = tail.find_first_not_of('\0', torn_at) == std::string::npos;
    zeros |= is_zero;
    garbage |= !is_zero;
  }
  EXPECT_TRUE(nothing && part && all && zeros && garbage)
      << nothing << part << all << zeros << garbage;
}

TEST(SimulatedDisk, DirectoryChangesAreDurableInTheirOrder) {
  std::set<std::set<std::string>> seen;
  for (int seed = 0; seed < kSeeds; ++seed) {
    SimulatedDisk disk(seed);
    put(disk, "/d/a", "a", false);
    put(disk, "/d/b", "b", false);
    ASSERT_TRUE(disk.env()->RenameFile("/d/b", "/d/c").ok());
    ASSERT_TRUE(disk.env()->RemoveFile("/d/a").ok());
    disk.crash();
    std::set<std::string> names;
    for (const auto& [name, bytes] : disk.image()) names.insert(name);
    seen.insert(names);
  }
  const std::set<std::set<std::string>> expected = {
      {}, {"/d/a"}, {"/d/a", "/d/b"}, {"/d/a", "/d/c"}, {"/d/c"}};
  EXPECT_EQ(seen, expected);
}

TEST(SimulatedDisk, SyncOfAFileMakesItsNameAndWhatWasBeforeDurable) {
  for (int seed = 0; seed < kSeeds; ++seed) {
    SimulatedDisk disk(seed);
    put(disk, "/d/old", "old", false);
    put(disk, "/d/f", "bytes", true);
    disk.crash();
    EXPECT_EQ(disk.image().at("/d/f"), "bytes");
    EXPECT_TRUE(disk.env()->FileExists("/d/old"));
  }
}

TEST(SimulatedDisk, SyncOfAManifestMakesTheWholeDirectoryDurable) {
  for (int seed = 0; seed < kSeeds; ++seed) {
    SimulatedDisk disk(seed);
    const auto manifest = create(disk, "/d/MANIFEST-1");
    put(disk, "/d/f", "bytes", true);
    ASSERT_TRUE(disk.env()->RenameFile("/d/f", "/d/g").ok());
    const auto before = disk.counts();
    ASSERT_TRUE(manifest->Sync().ok());
    EXPECT_EQ(disk.counts().syncs, before.syncs + 2);
    disk.crash();
    EXPECT_EQ(disk.image().at("/d/g"), "bytes");
    EXPECT_FALSE(disk.env()->FileExists("/d/f"));
  }
}

TEST(SimulatedDisk, ReplacedFileIsTheOldOrTheNewOneAfterACrash) {
  std::set<std::string> seen;
  for (int seed = 0; seed < kSeeds; ++seed) {
    SimulatedDisk disk(seed);
    put(disk, "/d/f", "old", true);
    put(disk, "/d/temporary", "new", true);
    ASSERT_TRUE(disk.env()->RenameFile("/d/temporary", "/d/f").ok());
    disk.crash();
    seen.insert(disk.image().at("/d/f"));
  }
  EXPECT_EQ(seen, (std::set<std::string>{"old", "new"}));
}

TEST(SimulatedDisk, BuffersAsPosixFilesDo) {
  SimulatedDisk disk(1);
  const auto file = create(disk, "/d/f");
  ASSERT_TRUE(file->Append(std::string(60'000, 'a')).ok());
  EXPECT_EQ(disk.counts().writes, 0u);
  ASSERT_TRUE(file->Append(std::string(60'000, 'b')).ok());
  EXPECT_EQ(disk.counts().writes, 1u);
  EXPECT_EQ(disk.counts().bytes, 65'536u);
  ASSERT_TRUE(file->Append(std::string(200'000, 'c')).ok());  // fills the buffer, then by itself
  EXPECT_EQ(disk.counts().writes, 3u);
  ASSERT_TRUE(file->Close().ok());
  EXPECT_EQ(disk.counts().bytes, 320'000u);
}

// Everything that a process can do after its end.
void expect_dead(Env* env, leveldb::WritableFile& file, leveldb::FileLock* lock) {
  EXPECT_TRUE(file.Append("x").ok());  // into its own buffer
  EXPECT_FALSE(file.Flush().ok());
  EXPECT_FALSE(file.Sync().ok());
  leveldb::WritableFile* made = nullptr;
  EXPECT_FALSE(env->NewWritableFile("/d/new", &made).ok());
  EXPECT_FALSE(env->RemoveFile("/d/f").ok());
  EXPECT_FALSE(env->RenameFile("/d/f", "/d/g").ok());
  EXPECT_FALSE(env->CreateDir("/e").ok());
  EXPECT_FALSE(env->FileExists("/d/f"));
  std::vector<std::string> names;
  EXPECT_FALSE(env->GetChildren("/d", &names).ok());
  EXPECT_TRUE(env->UnlockFile(lock).ok());
}

TEST(SimulatedDisk, WhatADeadProcessHoldsCanNotTouchTheDiskOfTheNext) {
  for (const bool crash : {false, true}) {
    SimulatedDisk disk(1);
    Env* const before = disk.env();
    const auto file = create(disk, "/d/f");
    put(*file, "bytes");
    ASSERT_TRUE(file->Sync().ok());
    leveldb::FileLock* lock = nullptr;
    leveldb::FileLock* second = nullptr;
    ASSERT_TRUE(before->LockFile("/d/LOCK", &lock).ok());
    EXPECT_FALSE(before->LockFile("/d/LOCK", &second).ok());

    crash ? disk.crash() : disk.kill();
    ASSERT_TRUE(disk.env()->LockFile("/d/LOCK", &second).ok());
    const SimulatedDisk::Image image = disk.image();
    expect_dead(before, *file, lock);
    EXPECT_EQ(disk.image(), image);
    EXPECT_TRUE(disk.env()->FileExists("/d/f"));
    leveldb::FileLock* third = nullptr;
    EXPECT_FALSE(disk.env()->LockFile("/d/LOCK", &third).ok()) << "freed by the dead process";
    EXPECT_TRUE(disk.env()->UnlockFile(second).ok());
  }
}

TEST(SimulatedDisk, KillKeepsWhatWasWrittenAndItCanStillBeLost) {
  std::set<std::size_t> sizes;
  for (int seed = 0; seed < kSeeds; ++seed) {
    SimulatedDisk disk(seed);
    put(disk, "/d/f", "synced", true);
    put(disk, "/d/g", "written", false);
    disk.kill();
    EXPECT_EQ(disk.image().at("/d/g"), "written");
    disk.crash();
    EXPECT_EQ(disk.image().at("/d/f"), "synced");
    sizes.insert(disk.image().size());
  }
  EXPECT_EQ(sizes, (std::set<std::size_t>{1, 2}));
}

TEST(SimulatedDisk, PowerIsCutAtTheOperationThatWasNamed) {
  for (std::uint64_t n = 1; n <= 4; ++n) {
    SimulatedDisk disk(n);
    const auto file = create(disk, "/d/f");
    disk.cut_power_at(n);
    std::uint64_t done = 0;
    const auto step = [&](const Status& s) { done += s.ok() ? 1 : 0; };
    ASSERT_TRUE(file->Append("one").ok());
    step(file->Flush());
    step(file->Sync());
    file->Append("two");
    step(file->Flush());
    step(file->Sync());
    EXPECT_EQ(done, n - 1);
    EXPECT_TRUE(disk.powered_off());
    EXPECT_FALSE(disk.env()->FileExists("/d/f"));
    disk.crash();
    EXPECT_FALSE(disk.powered_off());
    if (n > 2) {
      EXPECT_EQ(disk.image().at("/d/f").substr(0, 3), "one");
    }
    put(disk, "/d/g", "goes on", true);
  }
}

TEST(SimulatedDisk, FailedSyncMayOrMayNotHaveDoneItAndIsNotMadeUpForLater) {
  std::set<std::string> seen;
  for (int seed = 0; seed < kSeeds; ++seed) {
    SimulatedDisk disk(seed);
    const auto file = create(disk, "/d/f");
    put(*file, "a");
    disk.fail_sync_at(2);
    ASSERT_TRUE(file->Sync().ok());
    put(*file, "b");
    const Status failed = file->Sync();
    EXPECT_TRUE(failed.IsIOError()) << failed.ToString();
    EXPECT_EQ(disk.image().at("/d/f"), "ab");  // the page cache has it
    put(*file, "c");
    ASSERT_TRUE(file->Sync().ok());
    disk.crash();
    seen.insert(disk.image().at("/d/f"));
  }
  EXPECT_EQ(seen, (std::set<std::string>{"abc", std::string("a\0c", 3)}));
}

TEST(SimulatedDisk, FullDiskTakesWhatFitsAndSaysSo) {
  SimulatedDisk disk(1);
  disk.set_capacity(10);
  const auto file = create(disk, "/d/f");
  put(*file, "1234567");
  ASSERT_TRUE(file->Append("890abc").ok());
  const Status full = file->Flush();
  EXPECT_NE(full.ToString().find(std::strerror(ENOSPC)), std::string::npos) << full.ToString();
  EXPECT_EQ(disk.image().at("/d/f"), "1234567890");
  EXPECT_EQ(disk.used(), 10u);
  disk.set_capacity(12);
  put(*file, "ab");
  ASSERT_TRUE(disk.env()->RemoveFile("/d/f").ok());
  EXPECT_EQ(disk.used(), 0u);
}

TEST(SimulatedDisk, WritesAndReadsFailWhileTheyAreToldTo) {
  SimulatedDisk disk(1);
  const auto file = create(disk, "/d/f");
  put(*file, "bytes");
  disk.fail_writes(true);
  ASSERT_TRUE(file->Append("more").ok());
  EXPECT_TRUE(file->Flush().IsIOError());
  disk.fail_writes(false);
  put(*file, "!");

  leveldb::SequentialFile* opened = nullptr;
  ASSERT_TRUE(disk.env()->NewSequentialFile("/d/f", &opened).ok());
  const std::unique_ptr<leveldb::SequentialFile> reader(opened);
  char scratch[5];
  Slice result;
  disk.fail_reads(true);
  EXPECT_TRUE(reader->Read(5, &result, scratch).IsIOError());
  disk.fail_reads(false);
  ASSERT_TRUE(reader->Read(5, &result, scratch).ok());
  EXPECT_EQ(result.ToString(), "bytes");
}

TEST(SimulatedDisk, DamageIsThereAfterACrashToo) {
  SimulatedDisk disk(1);
  put(disk, "/d/f", "bytes", true);
  put(disk, "/d/g", "bytes", true);
  disk.flip_bit("/d/f", 1, 0);
  disk.truncate("/d/g", 2);
  disk.crash();
  const SimulatedDisk::Image damaged = {{"/d/f", "bxtes"}, {"/d/g", "by"}};
  EXPECT_EQ(disk.image(), damaged);

  SimulatedDisk other(2);
  other.load(damaged);
  other.crash();
  EXPECT_EQ(other.image(), damaged);
}

TEST(SimulatedDisk, LyingOneLosesWhatWasSynced) {
  bool lost = false;
  for (int seed = 0; seed < kSeeds; ++seed) {
    SimulatedDisk disk(seed);
    disk.lie_about_syncs(true);
    put(disk, "/d/f", "bytes", true);
    disk.crash();
    lost |= !disk.env()->FileExists("/d/f");
  }
  EXPECT_TRUE(lost);
}

// --- with LevelDB on it
// ---------------------------------------------------------------------------------------

std::unique_ptr<leveldb::DB> open(SimulatedDisk& disk) {
  leveldb::Options options;
  options.env = disk.env();
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.write_buffer_size = 64 << 10;
  leveldb::DB* db = nullptr;
  const Status s = leveldb::DB::Open(options, "/d", &db);
  EXPECT_TRUE(s.ok()) << s.ToString();
  disk.run_scheduled();
  return std::unique_ptr<leveldb::DB>(db);
}

struct History {
  SimulatedDisk::Image image;
  SimulatedDisk::Counts counts;
};

// Writes enough that LevelDB compacts, over several opens.
History fill(std::uint64_t seed) {
  SimulatedDisk disk(seed);
  leveldb::WriteOptions synced;
  synced.sync = true;
  for (int run = 0; run < 10; ++run) {
    auto db = open(disk);
    for (int i = 0; i < 100; ++i) {
      EXPECT_TRUE(db->Put(synced, std::to_string(i % 17), std::string(3000, 'a')).ok());
      disk.run_scheduled();
    }
    std::string files;
    EXPECT_TRUE(db->GetProperty("leveldb.num-files-at-level0", &files));
    EXPECT_LT(std::stoi(files), 4) << "nothing was compacted";
    db.reset();
    disk.crash();
  }
  return {disk.image(), disk.counts()};
}

TEST(SimulatedDisk, LevelDbCompactsOnItWithoutAThreadAndAlikeForOneSeed) {
  const History a = fill(7);
  const History b = fill(7);
  EXPECT_EQ(a.image, b.image);
  EXPECT_EQ(a.counts.operations(), b.counts.operations());
  EXPECT_EQ(a.counts.bytes, b.counts.bytes);
}

// What the disk is for: enough opens and writes in a second.
TEST(SimulatedDisk, ManyOpensAndSmallWrites) {
  SimulatedDisk disk(1);
  leveldb::WriteOptions synced;
  synced.sync = true;
  for (int run = 0; run < 500; ++run) {
    auto db = open(disk);
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(db->Put(synced, std::to_string(i), "value").ok());
      disk.run_scheduled();
    }
    db.reset();
    disk.kill();
  }
  auto db = open(disk);
  for (int i = 0; i < 50'000; ++i) {
    ASSERT_TRUE(db->Put(synced, std::to_string(i % 100), "value").ok());
    disk.run_scheduled();
  }
  std::string value;
  EXPECT_TRUE(db->Get({}, "99", &value).ok());
  disk.run_scheduled();
}

}  // namespace
}  // namespace pgraft::sim
