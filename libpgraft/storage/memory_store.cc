// The log in memory: for the simulator and scripts. Bounds, refusals and threads are those of the
// LevelDB store. A write judges first and then changes everything at once, under the lock.

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>

#include "libpgraft/storage/log_bounds.h"
#include "libpgraft/storage/log_store.h"

namespace pgraft::storage {
namespace {

class MemoryStore final : public LogStore {
 public:
  Result<InitialState> initial_state() const override {
    const std::lock_guard lock(mutex_);
    return InitialState{bounds_.hard, bounds_.conf};
  }
  raft::Index first_index() const override {
    const std::lock_guard lock(mutex_);
    return bounds_.base_index + 1;
  }
  raft::Index last_index() const override {
    const std::lock_guard lock(mutex_);
    return bounds_.last_index;
  }

  Result<raft::Term> term(raft::Index i) const override {
    const std::lock_guard lock(mutex_);
    if (Status s = check_term_index(bounds_, i); !s.is_ok()) return s;
    if (const auto known = known_term(bounds_, i)) return *known;
    return at(i).term;
  }

  Result<std::vector<raft::Entry>> entries(raft::Index lo, raft::Index hi,
                                           std::uint64_t max_bytes) const override {
    std::vector<raft::Entry> found;
    if (Status s = entries_into(lo, hi, max_bytes, &found); !s.is_ok()) return s;
    return found;
  }
  Status entries_into(raft::Index lo, raft::Index hi, std::uint64_t max_bytes,
                      std::vector<raft::Entry>* found) const override {
    found->clear();
    const std::lock_guard lock(mutex_);
    if (Status s = check_range_start(bounds_, lo); !s.is_ok()) return s;
    const raft::Index limit = std::min(hi, bounds_.last_index + 1);
    if (lo >= limit) return Status::ok();
    std::uint64_t bytes = 0;
    raft::Index end = lo;
    for (; end < limit; ++end) {
      bytes += end == lo ? 0 : at(end).data.size();
      if (bytes > max_bytes) break;
    }
    const auto begin = log_.begin() + static_cast<std::ptrdiff_t>(lo - bounds_.base_index - 1);
    found->assign(begin, begin + static_cast<std::ptrdiff_t>(end - lo));
    return Status::ok();
  }

  Result<std::shared_ptr<const raft::Snapshot>> snapshot() const override {
    const std::lock_guard lock(mutex_);
    return snapshot_;
  }

  Status write(const WriteBatch& batch) override {
    Result<LogBounds> next = bounds_after_write(bounds(), *this, batch);
    if (!next.is_ok()) return next.status();
    const std::lock_guard lock(mutex_);
    if (batch.snapshot != nullptr) {
      log_.clear();
      snapshot_ = std::make_shared<const raft::Snapshot>(*batch.snapshot);
    }
    if (!batch.entries.empty()) {
      const raft::Index base = next->base_index;
      log_.resize(batch.entries.front().index - base - 1);
      log_.insert(log_.end(), batch.entries.begin(), batch.entries.end());
    }
    const bool changes = batch.hard_state || batch.snapshot != nullptr || !batch.entries.empty();
    blank_ = blank_ && !changes;
    bounds_ = std::move(*next);
    return Status::ok();
  }

  Status save_snapshot(const raft::Snapshot& snapshot, raft::Index first_kept) override {
    Result<LogBounds> next = bounds_after_snapshot(bounds(), *this, snapshot, first_kept);
    if (!next.is_ok()) return next.status();
    const std::lock_guard lock(mutex_);
    const auto removed = static_cast<std::ptrdiff_t>(next->base_index - bounds_.base_index);
    log_.erase(log_.begin(), log_.begin() + removed);
    snapshot_ = std::make_shared<const raft::Snapshot>(snapshot);
    bounds_ = std::move(*next);
    blank_ = false;
    return Status::ok();
  }

  Status put_value(const std::string& key, const std::string& value) override {
    if (Status s = check_value(key, value); !s.is_ok()) return s;
    const std::lock_guard lock(mutex_);
    values_[key] = value;
    blank_ = false;
    return Status::ok();
  }

  Result<std::string> get_value(const std::string& key) const override {
    const std::lock_guard lock(mutex_);
    const auto found = values_.find(key);
    if (found == values_.end()) return Status(Code::kNotFound, "no value \"" + key + "\"");
    return found->second;
  }

  bool is_blank() const override {
    const std::lock_guard lock(mutex_);
    return blank_;
  }

 private:
  LogBounds bounds() const {
    const std::lock_guard lock(mutex_);
    return bounds_;
  }
  const raft::Entry& at(raft::Index i) const { return log_[i - bounds_.base_index - 1]; }

  mutable std::mutex mutex_;
  LogBounds bounds_;
  std::deque<raft::Entry> log_;  // base_index + 1 .. last_index
  std::shared_ptr<const raft::Snapshot> snapshot_ = std::make_shared<const raft::Snapshot>();
  std::map<std::string, std::string> values_;
  bool blank_ = true;
};

}  // namespace

std::unique_ptr<LogStore> make_memory_store() { return std::make_unique<MemoryStore>(); }

}  // namespace pgraft::storage
