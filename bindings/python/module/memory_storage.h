// The log of a scripted node, in memory: what raft::RawNode reads, written by the script that
// drives it.
//
// Unlike storage::LogStore it takes hard state, snapshot and entries one by one, as a script has
// them, and keeps to no more than a sequence without gaps: what a protocol that was broken on
// purpose writes must not be refused here.
// Invariant: base index <= snapshot's index <= last index.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "libpgraft/raft/log_reader.h"
#include "libpgraft/raft/raw_node.h"

namespace pgraft::python {

class MemoryStorage final : public raft::LogReader {
 public:
  Result<InitialState> initial_state() const override;
  raft::Index first_index() const override { return base_index_ + 1; }
  raft::Index last_index() const override { return base_index_ + log_.size(); }
  Result<raft::Term> term(raft::Index i) const override;
  Result<std::vector<raft::Entry>> entries(raft::Index lo, raft::Index hi,
                                           std::uint64_t max_bytes) const override;
  Result<std::shared_ptr<const raft::Snapshot>> snapshot() const override { return snapshot_; }

  const raft::HardState& hard_state() const { return hard_; }
  void set_hard_state(const raft::HardState& hard) { hard_ = hard; }
  // Replaces the log.
  Status apply_snapshot(std::shared_ptr<const raft::Snapshot> snapshot);
  // Replaces what the log has at and after the first of them.
  Status append(const std::vector<raft::Entry>& entries);
  // The newest snapshot from now on; the log stays as it is.
  Status create_snapshot(raft::Index index, raft::ConfState conf, std::string data);
  // Drops the entries up to `index`, which must be applied and covered by the snapshot.
  Status compact(raft::Index index);

  // The node that runs on this log: one at a time.
  void attach(const raft::RawNode* node) { node_ = node; }
  void detach(const raft::RawNode* node) {
    if (node_ == node) node_ = nullptr;
  }
  bool is_attached(const raft::RawNode* node) const { return node_ == node; }

 private:
  raft::Index committed() const;

  raft::HardState hard_;
  std::shared_ptr<const raft::Snapshot> snapshot_ = std::make_shared<const raft::Snapshot>();
  raft::Index base_index_ = 0;  // of the entry before the first one that is kept
  raft::Term base_term_ = 0;
  std::deque<raft::Entry> log_;
  const raft::RawNode* node_ = nullptr;
};

}  // namespace pgraft::python
