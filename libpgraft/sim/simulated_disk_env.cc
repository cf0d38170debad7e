#include "libpgraft/sim/simulated_disk_env.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "libpgraft/base/check.h"

namespace pgraft::sim {

using leveldb::Slice;
using leveldb::Status;

namespace disk {

Status failure(const std::string& what, int error) {
  if (error == ENOENT) return Status::NotFound(what, std::strerror(error));
  return Status::IOError(what, std::strerror(error));
}

std::string directory_of(const std::string& name) {
  const std::size_t slash = name.rfind('/');
  return slash == std::string::npos ? "." : name.substr(0, slash);
}

}  // namespace disk

namespace {

constexpr std::size_t kBufferBytes = 64u << 10;  // PosixEnv's

bool is_manifest(const std::string& name) {
  return name.substr(name.rfind('/') + 1).starts_with("MANIFEST");
}

}  // namespace

using disk::directory_of;
using disk::failure;

struct SimulatedDisk::Lock final : leveldb::FileLock {
  explicit Lock(std::string name) : name(std::move(name)) {}
  std::string name;
};

class SimulatedDisk::Sequential final : public leveldb::SequentialFile {
 public:
  Sequential(SimulatedDisk* disk, const Process* process, std::string name, InodePtr inode)
      : disk_(disk), process_(process), name_(std::move(name)), inode_(std::move(inode)) {}

  Status Read(std::size_t n, Slice* result, char* scratch) override {
    Status s = disk_->read(*process_, name_, *inode_, offset_, n, result, scratch);
    if (s.ok()) offset_ += result->size();
    return s;
  }
  Status Skip(std::uint64_t n) override {
    offset_ += n;
    return Status::OK();
  }

 private:
  SimulatedDisk* disk_;
  const Process* process_;
  std::string name_;
  InodePtr inode_;
  std::uint64_t offset_ = 0;
};

class SimulatedDisk::RandomAccess final : public leveldb::RandomAccessFile {
 public:
  RandomAccess(SimulatedDisk* disk, const Process* process, std::string name, InodePtr inode)
      : disk_(disk), process_(process), name_(std::move(name)), inode_(std::move(inode)) {}

  Status Read(std::uint64_t offset, std::size_t n, Slice* result, char* scratch) const override {
    return disk_->read(*process_, name_, *inode_, offset, n, result, scratch);
  }

 private:
  SimulatedDisk* disk_;
  const Process* process_;
  std::string name_;
  InodePtr inode_;
};

// Buffers and writes as PosixWritableFile does, so that a write here is one there.
class SimulatedDisk::Writable final : public leveldb::WritableFile {
 public:
  Writable(SimulatedDisk* disk, const Process* process, std::string name, InodePtr inode)
      : disk_(disk), process_(process), name_(std::move(name)), inode_(std::move(inode)) {}
  ~Writable() override { Writable::Close(); }

  Status Append(const Slice& data) override {
    const std::size_t fits = std::min(data.size(), kBufferBytes - buffer_.size());
    buffer_.append(data.data(), fits);
    if (fits == data.size()) return Status::OK();
    if (Status s = Writable::Flush(); !s.ok()) return s;
    const std::size_t left = data.size() - fits;
    if (left < kBufferBytes) {
      buffer_.assign(data.data() + fits, left);
      return Status::OK();
    }
    return disk_->write(*process_, name_, inode_.get(), data.data() + fits, left);
  }

  Status Close() override { return Writable::Flush(); }

  // What could not be written is forgotten, as there.
  Status Flush() override {
    if (buffer_.empty()) return Status::OK();
    Status s = disk_->write(*process_, name_, inode_.get(), buffer_.data(), buffer_.size());
    buffer_.clear();
    return s;
  }

  Status Sync() override {
    if (is_manifest(name_)) {
      if (Status s = disk_->sync_directory(*process_, directory_of(name_)); !s.ok()) return s;
    }
    if (Status s = Writable::Flush(); !s.ok()) return s;
    return disk_->sync(*process_, name_, inode_.get());
  }

 private:
  SimulatedDisk* disk_;
  const Process* process_;
  std::string name_;
  InodePtr inode_;
  std::string buffer_;
};

// --- names
// ----------------------------------------------------------------------------------------------------

Status SimulatedDisk::Process::NewSequentialFile(const std::string& name,
                                                 leveldb::SequentialFile** file) {
  const std::lock_guard lock(disk_->mutex_);
  *file = nullptr;
  InodePtr inode;
  if (Status s = disk_->find(*this, name, &inode); !s.ok()) return s;
  *file = new Sequential(disk_, this, name, std::move(inode));
  return Status::OK();
}

Status SimulatedDisk::Process::NewRandomAccessFile(const std::string& name,
                                                   leveldb::RandomAccessFile** file) {
  const std::lock_guard lock(disk_->mutex_);
  *file = nullptr;
  InodePtr inode;
  if (Status s = disk_->find(*this, name, &inode); !s.ok()) return s;
  *file = new RandomAccess(disk_, this, name, std::move(inode));
  return Status::OK();
}

Status SimulatedDisk::Process::NewWritableFile(const std::string& name,
                                               leveldb::WritableFile** file) {
  const std::lock_guard lock(disk_->mutex_);
  *file = nullptr;
  if (Status s = check_lives(name); !s.ok()) return s;
  if (disk_->directories_.count(directory_of(name)) == 0) return failure(name, ENOENT);
  auto inode = std::make_shared<Inode>();
  disk_->names_[name] = inode;
  disk_->changes_.push_back({Change::Kind::kCreate, name, {}, inode});
  *file = new Writable(disk_, this, name, std::move(inode));
  return Status::OK();
}

Status SimulatedDisk::Process::NewAppendableFile(const std::string& name,
                                                 leveldb::WritableFile** file) {
  {
    const std::lock_guard lock(disk_->mutex_);
    *file = nullptr;
    InodePtr inode;
    Status s = disk_->find(*this, name, &inode);
    if (s.ok()) *file = new Writable(disk_, this, name, std::move(inode));
    if (!s.IsNotFound()) return s;
  }
  return NewWritableFile(name, file);
}

bool SimulatedDisk::Process::FileExists(const std::string& name) {
  const std::lock_guard lock(disk_->mutex_);
  return !dead && (disk_->names_.count(name) != 0 || disk_->directories_.count(name) != 0);
}

Status SimulatedDisk::Process::GetChildren(const std::string& directory,
                                           std::vector<std::string>* names) {
  const std::lock_guard lock(disk_->mutex_);
  names->clear();
  if (Status s = check_lives(directory); !s.ok()) return s;
  if (disk_->directories_.count(directory) == 0) return failure(directory, ENOENT);
  for (const auto& [name, inode] : disk_->names_) {
    if (directory_of(name) == directory) names->push_back(name.substr(directory.size() + 1));
  }
  return Status::OK();
}

Status SimulatedDisk::Process::RemoveFile(const std::string& name) {
  const std::lock_guard lock(disk_->mutex_);
  InodePtr inode;
  if (Status s = disk_->find(*this, name, &inode); !s.ok()) return s;
  disk_->names_.erase(name);
  disk_->changes_.push_back({Change::Kind::kRemove, name, {}, std::move(inode)});
  return Status::OK();
}

Status SimulatedDisk::Process::CreateDir(const std::string& name) {
  const std::lock_guard lock(disk_->mutex_);
  if (Status s = check_lives(name); !s.ok()) return s;
  return disk_->directories_.insert(name).second ? Status::OK() : failure(name, EEXIST);
}

Status SimulatedDisk::Process::RemoveDir(const std::string& name) {
  const std::lock_guard lock(disk_->mutex_);
  if (Status s = check_lives(name); !s.ok()) return s;
  for (const auto& [file, inode] : disk_->names_) {
    if (directory_of(file) == name) return failure(name, ENOTEMPTY);
  }
  return disk_->directories_.erase(name) != 0 ? Status::OK() : failure(name, ENOENT);
}

Status SimulatedDisk::Process::GetFileSize(const std::string& name, std::uint64_t* size) {
  const std::lock_guard lock(disk_->mutex_);
  InodePtr inode;
  if (Status s = disk_->find(*this, name, &inode); !s.ok()) return s;
  *size = inode->bytes.size();
  return Status::OK();
}

Status SimulatedDisk::Process::RenameFile(const std::string& from, const std::string& to) {
  const std::lock_guard lock(disk_->mutex_);
  InodePtr inode;
  if (Status s = disk_->find(*this, from, &inode); !s.ok()) return s;
  disk_->names_.erase(from);
  disk_->names_[to] = inode;
  disk_->changes_.push_back({Change::Kind::kRename, from, to, std::move(inode)});
  return Status::OK();
}

Status SimulatedDisk::Process::LockFile(const std::string& name, leveldb::FileLock** lock) {
  const std::lock_guard guard(disk_->mutex_);
  *lock = nullptr;
  if (Status s = check_lives(name); !s.ok()) return s;
  if (disk_->directories_.count(directory_of(name)) == 0) return failure(name, ENOENT);
  if (!locks.insert(name).second) {
    return Status::IOError("lock " + name, "already held by process");
  }
  *lock = new Lock(name);
  return Status::OK();
}

Status SimulatedDisk::Process::UnlockFile(leveldb::FileLock* lock) {
  const std::lock_guard guard(disk_->mutex_);
  const std::unique_ptr<Lock> held(static_cast<Lock*>(lock));
  locks.erase(held->name);
  return Status::OK();
}

// --- the rest
// -------------------------------------------------------------------------------------------------

void SimulatedDisk::Process::Schedule(void (*function)(void*), void* argument) {
  const std::lock_guard lock(disk_->mutex_);
  disk_->scheduled_.emplace_back(function, argument);
}

void SimulatedDisk::Process::StartThread(void (*)(void*), void*) {
  PGRAFT_CHECK(false, "the simulated disk starts no threads");
}

Status SimulatedDisk::Process::GetTestDirectory(std::string* path) {
  *path = "/test";
  CreateDir(*path);
  return Status::OK();
}

Status SimulatedDisk::Process::NewLogger(const std::string& name, leveldb::Logger** logger) {
  *logger = nullptr;
  return Status::NotSupported(name, "nothing is logged");
}

std::uint64_t SimulatedDisk::Process::NowMicros() {
  const std::lock_guard lock(disk_->mutex_);
  return disk_->now_micros_;
}

void SimulatedDisk::Process::SleepForMicroseconds(int micros) {
  const std::lock_guard lock(disk_->mutex_);
  disk_->now_micros_ += static_cast<std::uint64_t>(micros);
}

}  // namespace pgraft::sim
