// A memory store that can forget in a restart what a correct one keeps: for negative controls.
#pragma once

#include <memory>
#include <string>

#include "libpgraft/storage/log_store.h"

namespace pgraft::sim {

struct StoreFaults {
  bool forgets_commit = false;  // rule 8: the commit index of the entries it came with
  bool forgets_values = false;  // rule 3: the bound max_ack_timeline
};

class FaultyStore final : public storage::LogStore {
 public:
  explicit FaultyStore(const StoreFaults& faults)
      : faults_(faults), store_(storage::make_memory_store()) {}

  Result<InitialState> initial_state() const override;
  raft::Index first_index() const override { return store_->first_index(); }
  raft::Index last_index() const override { return store_->last_index(); }
  Result<raft::Term> term(raft::Index i) const override { return store_->term(i); }
  Result<std::vector<raft::Entry>> entries(raft::Index lo, raft::Index hi,
                                           std::uint64_t max_bytes) const override {
    return store_->entries(lo, hi, max_bytes);
  }
  Result<std::shared_ptr<const raft::Snapshot>> snapshot() const override {
    return store_->snapshot();
  }
  Status write(const storage::WriteBatch& batch) override;
  Status save_snapshot(const raft::Snapshot& snapshot, raft::Index first_kept) override {
    return store_->save_snapshot(snapshot, first_kept);
  }
  Status put_value(const std::string& key, const std::string& value) override;
  Result<std::string> get_value(const std::string& key) const override {
    return store_->get_value(key);
  }
  bool is_blank() const override { return store_->is_blank(); }

 private:
  StoreFaults faults_;
  std::unique_ptr<storage::LogStore> store_;
  raft::Index commit_ = 0;  // of the newest hard state
};

}  // namespace pgraft::sim
