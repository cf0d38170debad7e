// Planned switchovers in the controller: on the leader, and on the former leader until it follows.
#include <utility>

#include "libpgraft/failover/controller.h"

namespace pgraft::failover {

Result<NodeId> Controller::check_switchover(const Inputs& in, NodeId to) const {
  const auto refused = [](std::string why) {
    return Status(Code::kFailedPrecondition, std::move(why));
  };
  if (switchover_) {
    return refused("the leadership is being transferred to node " +
                   std::to_string(switchover_->to()) + " already");
  }
  if (!is_writable_leader()) return refused("the leader does not accept writes yet: " + phase_);
  // The change may decide who has a vote; the target would have to wait for it (rule 8).
  if (in.raft.conf_change_pending) return refused("a membership change is not finished yet");
  if (to == 0) return best_successor(in.raft, in.database, config_.switchover_lag_max);
  if (to == config_.self) return to;
  if (Status s = may_take_over(to, in.raft, in.database, config_.switchover_lag_max); !s) return s;
  return to;
}

Result<NodeId> Controller::begin_switchover(const Inputs& in, const Switchover::Request& request) {
  Result<NodeId> to = check_switchover(in, request.to);
  if (!to || *to == config_.self) return to;
  Switchover::Request chosen = request;
  chosen.to = *to;
  given_up_.reset();
  switchover_.emplace(chosen, in.now_ticks);
  return to;
}

bool Controller::cancel_switchover(const Status& why) {
  if (!switchover_ || switchover_->handing_over()) return false;
  end_switchover(why);
  return true;
}

void Controller::end_switchover(const Status& why) {
  switchover_.reset();
  given_up_ = why;
}

void Controller::switch_over(const Inputs& in, Orders& next, Requests& requests) {
  if (!config_.switches.drain) {  // negative control
    if (!in.raft.transferring) requests.transfer_to = switchover_->to();
    return;
  }
  if (Status s = switchover_->update(in.raft, in.database, in.now_ticks); !s) {
    return end_switchover(s);
  }
  phase_ = switchover_->phase();
  next.drain = switchover_->drain();
  next.lift_fence = !switchover_->fenced();
  // Raft gives a transfer up after a while; the order to campaign may have been lost.
  if (switchover_->handing_over() && !in.raft.transferring)
    requests.transfer_to = switchover_->to();
}

// Not the leader any more: from the hand-over on because the target is, or may become it.
void Controller::leave_switchover() {
  if (!switchover_) return;
  handed_over_ = switchover_->handing_over();
  handed_over_tick_.reset();
  switchover_.reset();
}

// Priority 0: it leads because nobody else could (rule 4), and only until somebody else can.
void Controller::look_for_better_leader(const Inputs& in) {
  const auto patience = static_cast<std::uint64_t>(config_.patience) * config_.election_ticks;
  if (config_.priority > 0 || switchover_ || in.now_ticks - look_tick_ < patience) return;
  look_tick_ = in.now_ticks;
  (void)begin_switchover(in, {0, in.now_ticks + 4 * patience, false});
}

// Until the target is promoted, and this server restarts to follow it, nothing shall be written:
// it would lie past the fork, and this node would have to be rewound. But not for ever.
void Controller::stay_drained(const Inputs& in, Orders& next) {
  if (!handed_over_) return;
  if (!handed_over_tick_) handed_over_tick_ = in.now_ticks;
  const auto patience = static_cast<std::uint64_t>(config_.patience) * config_.election_ticks;
  if (in.database.in_recovery || in.now_ticks - *handed_over_tick_ >= patience) {
    handed_over_ = false;
  } else {
    next.drain = Drain::kEnd;
  }
}

}  // namespace pgraft::failover
