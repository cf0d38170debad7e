// `prepare`: rewind and clone while the server is down (rule 9, PROTOCOL.md S1 and S2).
#include <algorithm>

#include "libpgraft/sim/database_model.h"

namespace pgraft::sim {

bool DatabaseModel::begin_rejoin(bool clone) {
  if (running_ || !rejoin_ || rejoin_->touched) return false;
  DatabaseModel* source = world_->reach(self_, rejoin_->source);
  rejoin_->touched = true;  // durable before the first byte is touched
  rejoin_->saved_wal = wal_;
  rejoin_->saved_history = history_files_;
  rejoin_->saved_abstain = abstain_until_;
  rejoin_->clone = rejoin_->clone || clone || source == nullptr;
  if (rejoin_->clone) {
    wal_.clear();
  } else {
    wal_.resize(common_prefix(wal_, source->wal_));
  }
  return true;
}

void DatabaseModel::request_rejoin(NodeId source, Position target) {
  if (!running_ && !rejoin_) rejoin_ = Rejoin{source, target, false, false, false, {}, {}, {}};
}

// The target is the later of what was asked for and what the source has now: a source that has
// fallen behind the leader must not end the abstention early.
bool DatabaseModel::finish_rejoin(NodeId from, std::size_t keep) {
  if (running_ || !rejoin_ || !rejoin_->touched) return false;
  DatabaseModel* source = world_->reach(self_, from);
  if (source == nullptr || !source->primary() || source->admitted_term() == 0) return false;
  if (switches_.outdated && end_of(source->wal_).timeline < newest_done_) return false;
  if (wal_.empty()) {
    wal_ = source->wal_;
  } else {
    wal_.resize(common_prefix(wal_, source->wal_));
  }
  if (keep < wal_.size()) wal_.resize(keep);
  history_files_.clear();
  for (const Record& record : source->wal_) history_files_.insert(record.timeline);
  abstain_until_ = std::max(rejoin_->target, end_of(source->wal_));
  if (rejoin_->clone) retired_ = rejoin_->saved_wal;
  if (rejoin_->clone) kept_from_ = source->kept_from_;
  kept_from_ = std::min(kept_from_, wal_.size());  // what a rewind cut off is gone
  rejoin_.reset();
  stopped_for_ = failover::Restart::kNone;
  return true;
}

// Safe only because the half-done directory was never started. A rewind is made in place.
bool DatabaseModel::undo_rejoin() {
  if (running_ || !rejoin_) return false;
  if (rejoin_->touched) {
    if (!rejoin_->clone || !switches_.aside) return false;
    wal_ = rejoin_->saved_wal;
    history_files_ = rejoin_->saved_history;
    abstain_until_ = rejoin_->saved_abstain;
  }
  rejoin_.reset();
  stopped_for_ = failover::Restart::kNone;
  return true;
}

bool DatabaseModel::put_back() {
  if (running_ || switches_.retired || retired_.empty()) return false;
  wal_ = std::move(retired_);
  retired_.clear();
  history_files_.clear();
  for (const Record& record : wal_) history_files_.insert(record.timeline);
  abstain_until_.reset();
  return true;
}

}  // namespace pgraft::sim
