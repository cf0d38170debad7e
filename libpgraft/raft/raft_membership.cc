// Changes of the configuration (section 6, thesis chapter 4). Rule 8: one at a time, in effect when
// applied.
#include <utility>

#include "libpgraft/raft/conf_change_codec.h"
#include "libpgraft/raft/raft.h"

namespace pgraft::raft {

// Turns a change that is not allowed now into an empty entry, so that what else was proposed with
// it keeps its place. Refuses what could never be applied. `pending`: the newest change in the log
// is at or before.
Status Raft::admit_conf_change(Entry& entry, Index pending) const {
  Result<ConfChange> change = decode_conf_change(entry.data);
  if (!change.is_ok()) return change.status();
  if (config_.disable_conf_change_validation) return {};
  if (!allowed_now(*change, pending)) {
    entry = Entry{};
    return {};
  }
  // No change comes in between, so this is the configuration it will be applied to.
  return Changer(tracker_, log_.last_index()).change(*change).status();
}

bool Raft::allowed_now(const ConfChange& change, Index pending) const {
  if (config_.rules.one_change && pending > log_.applied()) return false;
  const bool leaves_joint = change.changes.empty();
  return tracker_.config.joint() == leaves_joint;
}

// Every member computes the same from the same log. A change that is impossible has no effect on
// any of them.
ConfState Raft::apply_conf_change(const ConfChange& change) {
  Result<Membership> next = Changer(tracker_, log_.last_index()).change(change);
  if (!next.is_ok()) return tracker_.config.to_conf_state();
  return adopt(std::move(next).value());
}

ConfState Raft::adopt(Membership next) {
  for (auto& [id, member] : next.progress) {
    if (!tracker_.progress.contains(id)) member.response_tick = now_;
  }
  tracker_.config = std::move(next.config);
  tracker_.progress = std::move(next.progress);
  ConfState conf = tracker_.config.to_conf_state();
  if (role_ != Role::kLeader) {
    // A refused vote may have told a candidate that its own removal is committed (learn_commit).
    if (role_ != Role::kFollower && !promotable()) become_follower(term_, kNoNode);
    return conf;
  }

  const Progress* self = tracker_.find(id_);
  if (self == nullptr || self->is_learner) {
    // Section 6, "the leader may not be part of the new configuration".
    if (config_.step_down_on_removal) become_follower(term_, kNoNode);
    return conf;
  }
  // A smaller quorum may be one already.
  if (maybe_commit()) {
    broadcast_append();
  } else {
    for (const auto& [id, member] : tracker_.progress) {
      if (id != id_) send_append(id, false);
    }
  }
  release_reads();
  if (transferee_ != kNoNode && !tracker_.config.is_voter(transferee_)) abort_transfer();
  return conf;
}

// The leader leaves a joint configuration by itself once entering it is applied. Again with every
// applied entry until it succeeds: a transfer may be in its way.
void Raft::maybe_leave_joint() {
  if (role_ != Role::kLeader || !tracker_.config.auto_leave) return;
  if (log_.applied() < pending_conf_index_ || transferee_ != kNoNode || !is_self_member()) return;
  std::vector<Entry> entries(1);
  entries[0].type = EntryType::kConfChange;
  entries[0].data = encode_conf_change({});
  const Index index = log_.last_index() + 1;
  if (!append_entries(entries, false)) return;
  pending_conf_index_ = index;
  broadcast_append();
}

bool Raft::own_term_applied() const {
  return role_ == Role::kLeader && log_.applied() >= own_first_index_;
}

bool Raft::conf_change_pending() const {
  // A leader counts what it inherited as a change until it is applied, the same as when a change is
  // proposed.
  if (role_ == Role::kLeader) return pending_conf_index_ > log_.applied();
  return log_.has_conf_change(log_.applied() + 1, log_.last_index() + 1);
}

}  // namespace pgraft::raft
