#include "libpgraft/raft/tracker.h"

namespace pgraft::raft {

NodeSet MemberConfig::voters() const {
  NodeSet all = incoming;
  all.insert(outgoing.begin(), outgoing.end());
  return all;
}

Incarnation MemberConfig::incarnation(NodeId id) const {
  const auto it = incarnations.find(id);
  return it == incarnations.end() ? 0 : it->second;
}

ConfState MemberConfig::to_conf_state() const {
  ConfState conf;
  conf.voters.assign(incoming.begin(), incoming.end());
  conf.learners.assign(learners.begin(), learners.end());
  conf.voters_outgoing.assign(outgoing.begin(), outgoing.end());
  conf.learners_next.assign(learners_next.begin(), learners_next.end());
  conf.auto_leave = auto_leave;
  conf.incarnations = incarnations;
  return conf;
}

Progress* Tracker::find(NodeId id) {
  const auto it = progress.find(id);
  return it == progress.end() ? nullptr : &it->second;
}

const Progress* Tracker::find(NodeId id) const {
  const auto it = progress.find(id);
  return it == progress.end() ? nullptr : &it->second;
}

const NodeSet& Tracker::outgoing() const {
  static const NodeSet kNone;
  return both_majorities ? config.outgoing : kNone;
}

Index Tracker::committed() const {
  return acked([this](NodeId id) {
    const Progress* member = find(id);
    return member == nullptr ? Index{0} : member->match;
  });
}

VoteResult Tracker::record_vote(NodeId id, bool granted) {
  votes.emplace(id, granted);
  return joint_vote(config.incoming, outgoing(), votes);
}

bool Tracker::check_quorum_active(NodeId self) {
  const AckedBy answered = [this, self](NodeId id) {
    const Progress* member = find(id);
    return Index{id == self || (member != nullptr && member->recent_active)};
  };
  const bool active = acked(answered) != 0;
  for (auto& [id, member] : progress) member.recent_active = id == self;
  return active;
}

}  // namespace pgraft::raft
