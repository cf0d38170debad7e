#include "libpgraft/raft/confchange.h"

#include <algorithm>
#include <string>
#include <utility>

namespace pgraft::raft {
namespace {

Status refused(std::string message) { return {Code::kInvalidArgument, std::move(message)}; }

std::size_t symmetric_difference(const NodeSet& a, const NodeSet& b) {
  std::vector<NodeId> different;
  std::set_symmetric_difference(a.begin(), a.end(), b.begin(), b.end(),
                                std::back_inserter(different));
  return different.size();
}

// Leaves the progress when the outgoing half still needs it.
void remove(Membership& next, NodeId id) {
  MemberConfig& config = next.config;
  config.incoming.erase(id);
  config.learners.erase(id);
  config.learners_next.erase(id);
  if (config.outgoing.contains(id)) return;
  next.progress.erase(id);
  config.incarnations.erase(id);
}

Status contradiction(NodeId id, const char* what) {
  return {Code::kCorruption,
          "configuration contradicts itself: node " + std::to_string(id) + " " + what};
}

Status check_invariants(const Membership& next) {
  const MemberConfig& config = next.config;
  for (NodeId id : config.voters()) {
    if (id == kNoNode) return contradiction(id, "is a voter");
    if (!next.progress.contains(id)) return contradiction(id, "is a voter without progress");
  }
  for (NodeId id : config.learners_next) {
    if (!config.outgoing.contains(id)) return contradiction(id, "is demoted but was no voter");
    if (config.incoming.contains(id)) return contradiction(id, "is demoted and a voter");
    if (next.progress.at(id).is_learner) return contradiction(id, "is already a learner");
  }
  for (NodeId id : config.learners) {
    if (id == kNoNode) return contradiction(id, "is a learner");
    if (config.is_voter(id)) return contradiction(id, "is both voter and learner");
    const auto member = next.progress.find(id);
    if (member == next.progress.end() || !member->second.is_learner)
      return contradiction(id, "is a learner without a learner's progress");
  }
  if (!config.joint() && config.auto_leave)
    return {Code::kCorruption, "configuration contradicts itself: automatic leave, but not joint"};
  for (const auto& [id, incarnation] : config.incarnations) {
    if (!next.progress.contains(id))
      return contradiction(id, "has an incarnation, but is no member");
  }
  return {};
}

}  // namespace

Result<Membership> Changer::simple(const std::vector<ConfChangeSingle>& changes) const {
  if (tracker_.config.joint()) return refused("can't apply simple config change in joint config");
  Membership next = current();
  if (Status status = apply(next, changes); !status) return status;
  if (symmetric_difference(tracker_.config.incoming, next.config.incoming) > 1)
    return refused("more than one voter changed without entering joint config");
  return checked(std::move(next));
}

Result<Membership> Changer::enter_joint(bool auto_leave,
                                        const std::vector<ConfChangeSingle>& changes) const {
  if (tracker_.config.joint()) return refused("config is already joint");
  if (tracker_.config.incoming.empty()) return refused("can't make a zero-voter config joint");
  Membership next = current();
  next.config.outgoing = next.config.incoming;
  if (Status status = apply(next, changes); !status) return status;
  next.config.auto_leave = auto_leave;
  return checked(std::move(next));
}

Result<Membership> Changer::leave_joint() const {
  if (!tracker_.config.joint()) return refused("can't leave a non-joint config");
  Membership next = current();
  MemberConfig& config = next.config;
  for (NodeId id : config.learners_next) {
    config.learners.insert(id);
    next.progress.at(id).is_learner = true;
  }
  config.learners_next.clear();
  const NodeSet outgoing = std::exchange(config.outgoing, {});
  for (NodeId id : outgoing) {
    if (config.incoming.contains(id) || config.learners.contains(id)) continue;
    remove(next, id);
  }
  config.auto_leave = false;
  return checked(std::move(next));
}

Result<Membership> Changer::change(const ConfChange& change) const {
  if (change.changes.empty() && change.transition == ConfChangeTransition::kAuto)
    return leave_joint();
  if (change.changes.size() > 1 || change.transition != ConfChangeTransition::kAuto)
    return enter_joint(change.transition != ConfChangeTransition::kExplicit, change.changes);
  return simple(change.changes);
}

Status Changer::apply(Membership& next, const std::vector<ConfChangeSingle>& changes) const {
  for (const ConfChangeSingle& single : changes) {
    if (single.node_id == kNoNode) continue;  // the application has refused this one
    switch (single.type) {
      case ConfChangeType::kAddVoter: make_voter(next, single.node_id); break;
      case ConfChangeType::kAddLearner: make_learner(next, single.node_id); break;
      case ConfChangeType::kRemove: remove(next, single.node_id); continue;
      case ConfChangeType::kUpdate: continue;  // concerns what the application keeps of the member
    }
    if (single.incarnation != 0) next.config.incarnations[single.node_id] = single.incarnation;
  }
  if (next.config.incoming.empty()) return refused("removed all voters");
  return {};
}

void Changer::add_progress(Membership& next, NodeId id, bool is_learner) const {
  Progress member(std::max<Index>(last_index_, 1), is_learner, tracker_.limits);
  // A quorum check that comes before its first answer must not depose the leader that added it.
  member.recent_active = true;
  next.progress.emplace(id, std::move(member));
}

void Changer::make_voter(Membership& next, NodeId id) const {
  const auto member = next.progress.find(id);
  if (member == next.progress.end()) {
    add_progress(next, id, false);
  } else {
    member->second.is_learner = false;
  }
  next.config.learners.erase(id);
  next.config.learners_next.erase(id);
  next.config.incoming.insert(id);
}

void Changer::make_learner(Membership& next, NodeId id) const {
  const auto member = next.progress.find(id);
  if (member == next.progress.end()) {
    add_progress(next, id, true);
    next.config.learners.insert(id);
    return;
  }
  if (member->second.is_learner) return;
  next.config.incoming.erase(id);
  next.config.learners_next.erase(id);
  // Its vote still counts in the outgoing half: it becomes a learner when that half is left.
  if (next.config.outgoing.contains(id)) {
    next.config.learners_next.insert(id);
  } else {
    member->second.is_learner = true;
    next.config.learners.insert(id);
  }
}

Result<Membership> Changer::checked(Membership next) const {
  // rule 10: a member that lost its disk is another server. It leaves and joins by two changes,
  // never in place.
  for (const auto& [id, incarnation] : next.config.incarnations) {
    const Incarnation before = tracker_.config.incarnation(id);
    if (before != 0 && before != incarnation) {
      return refused("node " + std::to_string(id) +
                     " is a member with another incarnation, which must be removed first");
    }
  }
  if (Status status = check_invariants(next); !status) return status;
  return next;
}

Result<Membership> restore_membership(const ConfState& conf, Index last_index,
                                      InflightLimits limits) {
  Membership next;
  MemberConfig& config = next.config;
  config.incoming.insert(conf.voters.begin(), conf.voters.end());
  config.outgoing.insert(conf.voters_outgoing.begin(), conf.voters_outgoing.end());
  config.learners.insert(conf.learners.begin(), conf.learners.end());
  config.learners_next.insert(conf.learners_next.begin(), conf.learners_next.end());
  config.auto_leave = conf.auto_leave;
  config.incarnations = conf.incarnations;
  std::erase_if(config.incarnations, [](const auto& known) { return known.second == 0; });
  NodeSet members = config.voters();
  members.insert(config.learners.begin(), config.learners.end());
  for (NodeId id : members) {
    Progress member(std::max<Index>(last_index, 1), config.learners.contains(id), limits);
    member.recent_active = true;
    next.progress.emplace(id, std::move(member));
  }
  if (Status status = check_invariants(next); !status) return status;
  return next;
}

}  // namespace pgraft::raft
