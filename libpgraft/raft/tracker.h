// Tracker: the configuration in effect, the leader's progress of each member, and the votes of an
// election.
//
// Invariant: `progress` has exactly the members of `config`. Sorted containers only: the order of
// messages must not depend on hashing.
#pragma once

#include <map>

#include "libpgraft/raft/progress.h"
#include "libpgraft/raft/quorum.h"
#include "libpgraft/raft/types.h"

namespace pgraft::raft {

// ConfState in the form that changes are computed on.
//   joint: outgoing is non-empty; both halves must agree
//   learners_next: voters of outgoing only that become learners when the joint configuration is
//   left
struct MemberConfig {
  NodeSet incoming;
  NodeSet outgoing;
  NodeSet learners;
  NodeSet learners_next;
  bool auto_leave = false;
  std::map<NodeId, Incarnation> incarnations;

  bool joint() const { return !outgoing.empty(); }
  bool empty() const { return incoming.empty() && outgoing.empty() && learners.empty(); }
  bool is_voter(NodeId id) const { return incoming.contains(id) || outgoing.contains(id); }
  NodeSet voters() const;
  Incarnation incarnation(NodeId id) const;  // 0 when not known
  ConfState to_conf_state() const;
};

using ProgressMap = std::map<NodeId, Progress>;

struct Tracker {
  InflightLimits limits;
  MemberConfig config;
  ProgressMap progress;
  Votes votes;
  bool both_majorities = true;  // Switches

  Progress* find(NodeId id);
  const Progress* find(NodeId id) const;

  Index acked(const AckedBy& by) const { return joint_acked(config.incoming, outgoing(), by); }
  Index committed() const;  // greatest index that a quorum stores
  // The first answer of a node counts.
  VoteResult record_vote(NodeId id, bool granted);
  // A quorum answered since the last check. Starts the next period: all but `self` count as silent.
  bool check_quorum_active(NodeId self);

 private:
  const NodeSet& outgoing() const;
};

}  // namespace pgraft::raft
