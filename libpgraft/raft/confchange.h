// Changes of the configuration as pure functions: from (configuration, progress) and a change to
// the next pair, or a Status that says why the change is impossible.
//
// simple() changes at most one voter, so that majorities before and after intersect (thesis 4.1);
// enter_joint() and leave_joint() are the two steps of joint consensus (section 6, thesis 4.3). In
// a joint configuration removed voters stay tracked and demoted ones stay voters until it is left.
#pragma once

#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/tracker.h"
#include "libpgraft/raft/types.h"

namespace pgraft::raft {

struct Membership {
  MemberConfig config;
  ProgressMap progress;
};

class Changer {
 public:
  // `last_index` of the leader's log: where the probing of a new member starts. The tracker must
  // outlive the changer.
  Changer(const Tracker& tracker, Index last_index) : tracker_(tracker), last_index_(last_index) {}

  Result<Membership> simple(const std::vector<ConfChangeSingle>& changes) const;
  Result<Membership> enter_joint(bool auto_leave,
                                 const std::vector<ConfChangeSingle>& changes) const;
  Result<Membership> leave_joint() const;

  // Whichever of the three the change asks for.
  Result<Membership> change(const ConfChange& change) const;

 private:
  Membership current() const { return {tracker_.config, tracker_.progress}; }
  Status apply(Membership& next, const std::vector<ConfChangeSingle>& changes) const;
  void make_voter(Membership& next, NodeId id) const;
  void make_learner(Membership& next, NodeId id) const;
  void add_progress(Membership& next, NodeId id, bool is_learner) const;
  Result<Membership> checked(Membership next) const;

  const Tracker& tracker_;
  Index last_index_;
};

// The configuration of a snapshot, with fresh progress for each member. kCorruption when it
// contradicts itself.
Result<Membership> restore_membership(const ConfState& conf, Index last_index,
                                      InflightLimits limits);

}  // namespace pgraft::raft
