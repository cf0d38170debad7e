#include "libpgraft/sim/simulated_disk.h"

#include <algorithm>
#include <cerrno>

#include "libpgraft/base/check.h"
#include "libpgraft/sim/simulated_disk_env.h"

namespace pgraft::sim {
namespace {

using disk::directory_of;
using disk::failure;
using leveldb::Slice;
using leveldb::Status;

constexpr std::uint64_t kTornBytesMax = 4096;  // a page

}  // namespace

SimulatedDisk::SimulatedDisk(std::uint64_t seed) : random_(seed) { start_process(); }
SimulatedDisk::~SimulatedDisk() = default;

leveldb::Env* SimulatedDisk::env() {
  const std::lock_guard lock(mutex_);
  return processes_.back().get();
}

SimulatedDisk::Counts SimulatedDisk::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

// The work of a dead process is done too, since its database waits for it; it finds that nothing
// works any more.
void SimulatedDisk::run_scheduled() {
  for (;;) {
    std::vector<std::pair<void (*)(void*), void*>> work;
    {
      const std::lock_guard lock(mutex_);
      work.swap(scheduled_);
    }
    if (work.empty()) return;
    for (const auto& [function, argument] : work) function(argument);
  }
}

// --- the end of the process
// -----------------------------------------------------------------------------------

void SimulatedDisk::start_process() {
  if (!processes_.empty()) processes_.back()->dead = true;
  processes_.push_back(std::make_unique<Process>(this));
  power_cut_at_ = 0;
}

void SimulatedDisk::kill() {
  const std::lock_guard lock(mutex_);
  start_process();
}

void SimulatedDisk::crash() {
  const std::lock_guard lock(mutex_);
  make_durable(below(changes_.size() + 1));
  changes_.clear();
  names_ = durable_;
  for (const auto& [name, inode] : names_) settle(inode.get());
  start_process();
}

void SimulatedDisk::settle(Inode* inode) {
  std::string& bytes = inode->bytes;
  if (const std::size_t tail = bytes.size() - inode->durable; tail > 0) {
    const std::uint64_t choice = below(3);
    const bool whole = below(3) == 0;  // drawn evenly it would hardly ever be
    const std::size_t kept = choice == 0 ? 0 : whole ? tail : below(tail + 1);
    bytes.resize(inode->durable + kept);
    if (choice == 2 && kept > 0) {
      const std::size_t torn = 1 + below(std::min<std::uint64_t>(kept, kTornBytesMax));
      const bool zeros = below(2) == 0;
      for (std::size_t i = bytes.size() - torn; i < bytes.size(); ++i) {
        bytes[i] = zeros ? '\0' : static_cast<char>(random_());
      }
    }
  }
  for (const auto& [from, to] : inode->bad) {
    for (std::size_t i = from; i < std::min(to, bytes.size()); ++i) bytes[i] = '\0';
  }
  inode->bad.clear();
  inode->durable = bytes.size();
}

void SimulatedDisk::cut_power_at(std::uint64_t n) {
  const std::lock_guard lock(mutex_);
  power_cut_at_ = n == 0 ? 0 : counts_.operations() + n;
}

bool SimulatedDisk::powered_off() const {
  const std::lock_guard lock(mutex_);
  return processes_.back()->dead;
}

// --- faults
// ---------------------------------------------------------------------------------------------------

void SimulatedDisk::fail_sync_at(std::uint64_t n) {
  const std::lock_guard lock(mutex_);
  failing_sync_ = n == 0 ? 0 : counts_.syncs + n;
}

void SimulatedDisk::fail_writes(bool on) {
  const std::lock_guard lock(mutex_);
  writes_fail_ = on;
}

void SimulatedDisk::fail_reads(bool on) {
  const std::lock_guard lock(mutex_);
  reads_fail_ = on;
}

void SimulatedDisk::set_capacity(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  capacity_ = bytes;
}

std::uint64_t SimulatedDisk::used() const {
  const std::lock_guard lock(mutex_);
  return used_locked();
}

std::uint64_t SimulatedDisk::used_locked() const {
  std::uint64_t bytes = 0;
  for (const auto& [name, inode] : names_) bytes += inode->bytes.size();
  return bytes;
}

void SimulatedDisk::lie_about_syncs(bool on) {
  const std::lock_guard lock(mutex_);
  syncs_lie_ = on;
}

// --- what is on it
// --------------------------------------------------------------------------------------------

SimulatedDisk::Image SimulatedDisk::image() const {
  const std::lock_guard lock(mutex_);
  Image image;
  for (const auto& [name, inode] : names_) image[name] = inode->bytes;
  return image;
}

void SimulatedDisk::load(const Image& image) {
  const std::lock_guard lock(mutex_);
  start_process();
  names_.clear();
  changes_.clear();
  for (const auto& [name, bytes] : image) {
    names_[name] = std::make_shared<Inode>(Inode{bytes, bytes.size(), {}});
    directories_.insert(directory_of(name));
  }
  durable_ = names_;
}

void SimulatedDisk::flip_bit(const std::string& name, std::uint64_t byte, int bit) {
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(name);
  PGRAFT_CHECK(found != names_.end() && byte < found->second->bytes.size(), "no byte in " + name);
  char& value = found->second->bytes[byte];
  value = static_cast<char>(value ^ (1 << bit));
}

void SimulatedDisk::truncate(const std::string& name, std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(name);
  PGRAFT_CHECK(found != names_.end() && size <= found->second->bytes.size(), "no byte in " + name);
  Inode& inode = *found->second;
  inode.bytes.resize(size);
  inode.durable = std::min<std::size_t>(inode.durable, size);
}

// --- open files
// -----------------------------------------------------------------------------------------------

bool SimulatedDisk::cuts_power_now() {
  if (power_cut_at_ == 0 || counts_.operations() < power_cut_at_) return false;
  processes_.back()->dead = true;
  return true;
}

Status SimulatedDisk::write(const Process& process, const std::string& name, Inode* inode,
                            const char* data, std::size_t size) {
  const std::lock_guard lock(mutex_);
  if (Status s = process.check_lives(name); !s.ok()) return s;
  ++counts_.writes;
  std::size_t written = size;
  int error = 0;
  if (cuts_power_now()) {
    error = EIO;
  } else if (writes_fail_) {
    written = below(size + 1);
    error = EIO;
  } else if (capacity_ != kUnlimited) {
    const std::uint64_t used = used_locked();
    const std::uint64_t room = used < capacity_ ? capacity_ - used : 0;
    if (size > room) {
      written = room;
      error = ENOSPC;
    }
  }
  inode->bytes.append(data, written);
  counts_.bytes += written;
  return error == 0 ? Status::OK() : failure(name, error);
}

Status SimulatedDisk::sync(const Process& process, const std::string& name, Inode* inode) {
  const std::lock_guard lock(mutex_);
  if (Status s = process.check_lives(name); !s.ok()) return s;
  ++counts_.syncs;
  if (cuts_power_now()) return failure(name, EIO);
  if (syncs_lie_) return Status::OK();
  const bool fails = counts_.syncs == failing_sync_;
  if (fails && below(2) == 0) {
    inode->bad.emplace_back(inode->durable, inode->bytes.size());
  } else {
    make_durable(inode);
  }
  return fails ? failure(name, EIO) : Status::OK();
}

Status SimulatedDisk::sync_directory(const Process& process, const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (Status s = process.check_lives(name); !s.ok()) return s;
  ++counts_.syncs;
  if (cuts_power_now()) return failure(name, EIO);
  if (syncs_lie_) return Status::OK();
  const bool fails = counts_.syncs == failing_sync_;
  if (!fails || below(2) == 0) make_durable(changes_.size());
  return fails ? failure(name, EIO) : Status::OK();
}

Status SimulatedDisk::read(const Process& process, const std::string& name, const Inode& inode,
                           std::uint64_t offset, std::size_t size, Slice* result,
                           char* scratch) const {
  const std::lock_guard lock(mutex_);
  *result = Slice();
  if (Status s = process.check_lives(name); !s.ok()) return s;
  if (reads_fail_) return failure(name, EIO);
  if (offset >= inode.bytes.size()) return Status::OK();
  const std::size_t n = inode.bytes.copy(scratch, size, offset);
  *result = Slice(scratch, n);
  return Status::OK();
}

// --- names
// ----------------------------------------------------------------------------------------------------

void SimulatedDisk::make_durable(std::size_t changes) {
  for (; changes > 0; --changes) {
    Change& c = changes_.front();
    switch (c.kind) {
      case Change::Kind::kCreate: durable_[c.name] = c.inode; break;
      case Change::Kind::kRename:
        durable_.erase(c.name);
        durable_[c.to] = c.inode;
        break;
      case Change::Kind::kRemove: durable_.erase(c.name); break;
    }
    changes_.pop_front();
  }
}

void SimulatedDisk::make_durable(Inode* inode) {
  inode->durable = inode->bytes.size();
  std::size_t through = changes_.size();
  while (through > 0 && changes_[through - 1].inode.get() != inode) --through;
  make_durable(through);
}

Status SimulatedDisk::find(const Process& process, const std::string& name, InodePtr* inode) const {
  if (Status s = process.check_lives(name); !s.ok()) return s;
  const auto found = names_.find(name);
  if (found == names_.end()) return failure(name, ENOENT);
  *inode = found->second;
  return Status::OK();
}

}  // namespace pgraft::sim
