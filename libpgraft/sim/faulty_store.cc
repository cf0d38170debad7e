#include "libpgraft/sim/faulty_store.h"

#include <algorithm>

namespace pgraft::sim {

Result<raft::LogReader::InitialState> FaultyStore::initial_state() const {
  Result<InitialState> state = store_->initial_state();
  if (state && faults_.forgets_commit) {
    const Result<std::shared_ptr<const raft::Snapshot>> newest = store_->snapshot();
    if (newest) state->hard.commit = (*newest)->meta.index;
  }
  return state;
}

// The store under it knows the commit index and refuses one that goes back; a forgetful one has to
// learn it again.
Status FaultyStore::write(const storage::WriteBatch& batch) {
  storage::WriteBatch kept = batch;
  if (faults_.forgets_commit && kept.hard_state) {
    commit_ = std::max(commit_, kept.hard_state->commit);
    kept.hard_state->commit = commit_;
  }
  return store_->write(kept);
}

Status FaultyStore::put_value(const std::string& key, const std::string& value) {
  if (faults_.forgets_values && key == "max_ack_timeline") return Status::ok();
  return store_->put_value(key, value);
}

}  // namespace pgraft::sim
