#include "bindings/python/module/memory_storage.h"

#include <algorithm>
#include <utility>

namespace pgraft::python {

namespace {

std::string number(std::uint64_t n) { return std::to_string(n); }

Status refused(std::string why) { return {Code::kInvalidArgument, std::move(why)}; }

}  // namespace

Result<raft::LogReader::InitialState> MemoryStorage::initial_state() const {
  return InitialState{hard_, snapshot_->meta.conf};
}

Result<raft::Term> MemoryStorage::term(raft::Index i) const {
  if (i == base_index_) return base_term_;
  if (i < base_index_) {
    return Status(Code::kNotFound, "entry " + number(i) + " is compacted, the log starts after " +
                                       number(base_index_));
  }
  if (i > last_index()) {
    return Status(Code::kNotFound,
                  "entry " + number(i) + " is not there, the last one is " + number(last_index()));
  }
  return log_[i - base_index_ - 1].term;
}

Result<std::vector<raft::Entry>> MemoryStorage::entries(raft::Index lo, raft::Index hi,
                                                        std::uint64_t max_bytes) const {
  if (lo <= base_index_) {
    return Status(Code::kNotFound, "entry " + number(lo) + " is compacted, the log starts after " +
                                       number(base_index_));
  }
  std::vector<raft::Entry> found;
  std::uint64_t bytes = 0;
  for (raft::Index i = lo; i < hi && i <= last_index(); ++i) {
    const raft::Entry& entry = log_[i - base_index_ - 1];
    bytes += entry.data.size();
    if (!found.empty() && bytes > max_bytes) break;
    found.push_back(entry);
  }
  return found;
}

Status MemoryStorage::apply_snapshot(std::shared_ptr<const raft::Snapshot> snapshot) {
  const raft::SnapshotMeta& meta = snapshot->meta;
  if (snapshot->empty()) return refused("a snapshot at index 0 holds nothing");
  if (meta.index > raft::kMaxIndex) return refused("no log reaches entry " + number(meta.index));
  if (meta.index <= snapshot_->meta.index || meta.index < hard_.commit) {
    return refused("snapshot at " + number(meta.index) + " is behind: the log has one at " +
                   number(snapshot_->meta.index) + ", and commit index " + number(hard_.commit));
  }
  base_index_ = meta.index;
  base_term_ = meta.term;
  log_.clear();
  snapshot_ = std::move(snapshot);
  return {};
}

Status MemoryStorage::append(const std::vector<raft::Entry>& entries) {
  if (entries.empty()) return {};
  const raft::Index first = entries.front().index;
  if (first <= base_index_)
    return refused("entry " + number(first) + " is compacted, the log starts after " +
                   number(base_index_));
  if (first <= snapshot_->meta.index)
    return refused("entry " + number(first) + " is covered by the snapshot at " +
                   number(snapshot_->meta.index));
  if (first > last_index() + 1)
    return refused("entry " + number(first) + " after " + number(last_index()) + " leaves a gap");
  raft::Term before = *term(first - 1);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].index != first + i)
      return refused("entry " + number(entries[i].index) + " where " + number(first + i) +
                     " was expected");
    if (entries[i].term < before)
      return refused("entry " + number(entries[i].index) + " of term " + number(entries[i].term) +
                     " after one of term " + number(before));
    before = entries[i].term;
  }
  log_.resize(first - base_index_ - 1);
  log_.insert(log_.end(), entries.begin(), entries.end());
  return {};
}

// As far as is known here: a node may know of more than it has stored.
raft::Index MemoryStorage::committed() const {
  if (node_ != nullptr) return node_->status().hard.commit;
  return std::max(hard_.commit, snapshot_->meta.index);
}

Status MemoryStorage::create_snapshot(raft::Index index, raft::ConfState conf, std::string data) {
  if (index == 0) return refused("a snapshot at index 0 holds nothing");
  if (index < snapshot_->meta.index)
    return refused("snapshot at " + number(index) + " is older than the one at " +
                   number(snapshot_->meta.index));
  if (index > committed())
    return refused("snapshot at " + number(index) + " is beyond the commit index " +
                   number(committed()));
  const Result<raft::Term> at = term(index);
  if (!at.is_ok()) return at.status().with_context("snapshot");
  snapshot_ = std::make_shared<const raft::Snapshot>(
      raft::Snapshot{{index, *at, std::move(conf)}, std::move(data)});
  return {};
}

Status MemoryStorage::compact(raft::Index index) {
  if (index <= base_index_) return {};
  if (index > snapshot_->meta.index) {
    return refused("entry " + number(index) + " is not covered by the snapshot at " +
                   number(snapshot_->meta.index) + ": call create_snapshot() first");
  }
  if (node_ != nullptr && index > node_->status().applied) {
    return refused("entry " + number(index) + " is not applied yet, the last one applied is " +
                   number(node_->status().applied));
  }
  base_term_ = *term(index);
  log_.erase(log_.begin(), log_.begin() + static_cast<std::ptrdiff_t>(index - base_index_));
  base_index_ = index;
  return {};
}

}  // namespace pgraft::python
