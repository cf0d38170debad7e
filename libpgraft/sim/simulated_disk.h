// A disk with a file system in memory, for LevelDB: deterministic under one seed, with the faults
// that disks have. A process reaches it through env(). When that process ends, by a crash of the
// machine or alone, its Env, its files and its locks are dead for good: whatever still holds them
// can't write to the disk of the process that comes after it.
//
// It keeps no more than ext4 and xfs do, and no less than LevelDB relies on:
//   - Written bytes are in the page cache. Those of a file are durable once it is synced. What a
//     crash leaves of the rest is drawn for each file: nothing, a prefix, or a prefix whose last
//     bytes are torn (zeros or garbage).
//   - Creating, renaming and removing a file are durable in the order in which they were done, as
//     in a journal. A crash keeps a drawn prefix of those that are not durable yet. A sync of the
//     directory makes all of them durable; a sync of a file those up to the newest one of that
//     file, so that what was synced can be found (ext4 and xfs commit all that came before; others
//     need not). LevelDB, which syncs the directory before a MANIFEST and at no other time, does
//     not promise to survive on less: with unordered changes it would lose CURRENT.
//   - A file that is created over another one takes its place as a new one does: a crash leaves the
//     old one or the new one.
//   - Directories are durable at once; nothing depends on them.
//   - After a failed sync what was to be synced is durable or is not, and a later sync of the file
//     does not bring it back: reads still see it, and after a crash there are zeros.
// Like PosixEnv, a file keeps up to 64 KiB in the process before it writes, and NewLogger has
// nothing to log to.
//
// Background work: LevelDB holds its lock when it calls Schedule(), so the work can't be done
// there. It is kept until run_scheduled() is called from outside LevelDB: so there is no thread,
// and compactions happen at fixed points. A database that is used directly must be given that
// chance before it is closed, or its destructor waits for ever; a store does it by
// storage::OpenOptions::after_each_call.
//
// Safe for several threads; runs are the same for the same seed only with one. Time is virtual and
// nothing sleeps. The disk outlives whatever has it open.
#pragma once

#include <leveldb/env.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace pgraft::sim {

class SimulatedDisk final {
 public:
  explicit SimulatedDisk(std::uint64_t seed);
  ~SimulatedDisk();
  SimulatedDisk(const SimulatedDisk&) = delete;
  SimulatedDisk& operator=(const SimulatedDisk&) = delete;

  // Of the process that runs now. Owned by the disk, also when it is dead.
  leveldb::Env* env();

  // Does what was scheduled, and what that schedules in turn. Not from inside LevelDB.
  void run_scheduled();

  struct Counts {
    std::uint64_t writes = 0;  // calls of write(2), those that fail included
    std::uint64_t syncs = 0;   // of files and of directories
    std::uint64_t bytes = 0;   // written
    std::uint64_t operations() const { return writes + syncs; }
  };
  Counts counts() const;

  // --- the end of the process; another one runs afterwards
  void crash();  // of the machine: what is not durable is lost
  void kill();   // of the process alone: what was written stays, and may be lost later
  // The n-th write or sync from now (1: the next) is the last thing that happens: a write may or
  // may not get there, a sync is not done. From then on every call fails until crash(). 0: none.
  void cut_power_at(std::uint64_t n);
  bool powered_off() const;

  // --- faults
  void fail_sync_at(std::uint64_t n);  // the n-th from now (1: the next), once; 0: none
  void fail_writes(bool on);           // each writes a drawn prefix and fails
  void fail_reads(bool on);
  static constexpr std::uint64_t kUnlimited = ~0ull;
  // Bytes that fit into all files. What goes beyond is written as far as it fits and fails with
  // the text of ENOSPC.
  void set_capacity(std::uint64_t bytes);
  std::uint64_t used() const;
  void lie_about_syncs(bool on);  // a negative control: syncs succeed and do nothing

  // --- what is on it, by full name. Damage is durable.
  using Image = std::map<std::string, std::string>;
  Image image() const;
  void load(const Image& image);  // replaces everything; ends the process like kill()
  void flip_bit(const std::string& name, std::uint64_t byte, int bit);
  void truncate(const std::string& name, std::uint64_t size);

 private:
  struct Inode;
  using InodePtr = std::shared_ptr<Inode>;
  struct Change;  // of a directory, not durable yet
  class Process;  // the Env
  class Sequential;
  class RandomAccess;
  class Writable;
  struct Lock;

  // All with mutex_ held.
  leveldb::Status find(const Process& process, const std::string& name, InodePtr* inode) const;
  void make_durable(std::size_t changes);
  void make_durable(Inode* inode);
  bool cuts_power_now();
  void settle(Inode* inode);  // as a crash leaves it
  void start_process();
  std::uint64_t used_locked() const;
  std::uint64_t below(std::uint64_t n) { return random_() % n; }

  // The calls of an open file.
  leveldb::Status write(const Process& process, const std::string& name, Inode* inode,
                        const char* data, std::size_t size);
  leveldb::Status sync(const Process& process, const std::string& name, Inode* inode);
  leveldb::Status sync_directory(const Process& process, const std::string& name);
  leveldb::Status read(const Process& process, const std::string& name, const Inode& inode,
                       std::uint64_t offset, std::size_t size, leveldb::Slice* result,
                       char* scratch) const;

  mutable std::mutex mutex_;
  std::mt19937_64 random_;
  std::map<std::string, InodePtr> names_;    // as the process sees them
  std::map<std::string, InodePtr> durable_;  // as a crash would leave them
  std::deque<Change> changes_;               // from durable_ to names_
  std::set<std::string> directories_;
  std::vector<std::unique_ptr<Process>> processes_;  // the last one runs, unless power is off
  std::vector<std::pair<void (*)(void*), void*>> scheduled_;

  Counts counts_;
  std::uint64_t power_cut_at_ = 0;
  std::uint64_t failing_sync_ = 0;
  bool writes_fail_ = false;
  bool reads_fail_ = false;
  bool syncs_lie_ = false;
  std::uint64_t capacity_ = kUnlimited;
  std::uint64_t now_micros_ = 0;
};

}  // namespace pgraft::sim
