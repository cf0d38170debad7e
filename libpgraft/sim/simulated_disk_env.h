// The parts of a simulated disk that its two sources share: what is on it, and a process's Env.
#pragma once

#include <leveldb/env.h>

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libpgraft/sim/simulated_disk.h"

namespace pgraft::sim {

namespace disk {

// As PosixEnv says it.
leveldb::Status failure(const std::string& what, int error);
std::string directory_of(const std::string& name);

}  // namespace disk

struct SimulatedDisk::Inode {
  std::string bytes;                                     // as the process sees them
  std::size_t durable = 0;                               // so many of them survive a crash
  std::vector<std::pair<std::size_t, std::size_t>> bad;  // [from, to): a failed sync lost them
};

struct SimulatedDisk::Change {
  enum class Kind : std::uint8_t { kCreate, kRename, kRemove };
  Kind kind;
  std::string name;
  std::string to;
  InodePtr inode;
};

// What it holds is guarded by the disk's mutex.
class SimulatedDisk::Process final : public leveldb::Env {
 public:
  explicit Process(SimulatedDisk* disk) : disk_(disk) {}

  leveldb::Status check_lives(const std::string& name) const {
    return dead ? leveldb::Status::IOError(name, "the process that opened it is gone")
                : leveldb::Status::OK();
  }

  leveldb::Status NewSequentialFile(const std::string& name,
                                    leveldb::SequentialFile** file) override;
  leveldb::Status NewRandomAccessFile(const std::string& name,
                                      leveldb::RandomAccessFile** file) override;
  leveldb::Status NewWritableFile(const std::string& name, leveldb::WritableFile** file) override;
  leveldb::Status NewAppendableFile(const std::string& name, leveldb::WritableFile** file) override;
  bool FileExists(const std::string& name) override;
  leveldb::Status GetChildren(const std::string& directory,
                              std::vector<std::string>* names) override;
  leveldb::Status RemoveFile(const std::string& name) override;
  leveldb::Status CreateDir(const std::string& name) override;
  leveldb::Status RemoveDir(const std::string& name) override;
  leveldb::Status GetFileSize(const std::string& name, std::uint64_t* size) override;
  leveldb::Status RenameFile(const std::string& from, const std::string& to) override;
  leveldb::Status LockFile(const std::string& name, leveldb::FileLock** lock) override;
  leveldb::Status UnlockFile(leveldb::FileLock* lock) override;
  void Schedule(void (*function)(void*), void* argument) override;
  void StartThread(void (*function)(void*), void* argument) override;
  leveldb::Status GetTestDirectory(std::string* path) override;
  leveldb::Status NewLogger(const std::string& name, leveldb::Logger** logger) override;
  std::uint64_t NowMicros() override;
  void SleepForMicroseconds(int micros) override;

  bool dead = false;
  std::set<std::string> locks;

 private:
  SimulatedDisk* disk_;
};

}  // namespace pgraft::sim
