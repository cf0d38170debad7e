// The failover controller: rules 1 to 10 of the design as a deterministic state machine.
//
// update() is called whenever anything that it sees may have changed, and at every tick. It
// compares what is with what the rules allow and returns the orders for the database and requests
// for the Raft side. It owns no thread, no clock and no I/O; the production worker and the
// simulator run this very code.
//
// Invariants: the gate is open, the fence lifted or a promotion under way only in Orders whose term
// is RaftView::term; a report is made only from a DatabaseView that shows the orders of its term
// carried out.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "libpgraft/base/status.h"
#include "libpgraft/failover/catch_up.h"
#include "libpgraft/failover/switchover.h"
#include "libpgraft/failover/types.h"

namespace pgraft::failover {

// Rules that tests switch off, one at a time, to show that each is needed. All on in production.
struct Switches {
  bool gate = true;       // rule 2: an earlier term's connections don't acknowledge
  bool current = true;    // rule 2: only past the switch, on the promotion's timeline
  bool frozen = true;     // rule 3: freeze before reporting
  bool abstain = true;    // rule 3: a node that is rewound or recloned reports no position
  bool wal_end = true;    // rule 3: nor does one whose data directory was put back from a copy
  bool reconcile = true;  // rule 4
  bool own_term = true;   // rule 4: only with the own-term entry applied (PROTOCOL.md, M4f)
  bool timeline = true;   // rule 5: ids from consensus
  bool cancel = true;     // rule 5: nothing streams or is reported while a promotion is in flight
  bool unfence = true;    // rule 7: quorum in force before the fence is lifted
  bool settle = true;     // rule 8: everything acknowledged is on a majority before the next change
  bool promoted = true;   // rule 8: only a promoted leader changes membership
  bool known_end = true;  // rule 3: no report before the end of local WAL is known
  bool newest = true;     // rule 4: a primary renews the newest timeline only (PROTOCOL.md, S7)
  bool in_force = true;   // rule 8: the quorum of one change is in force before the next one
  bool divergence = true;  // rule 9: a diverged node is rewound
  bool drain = true;       // a switchover hands over only what the target has all WAL of

  // What keeps a healthy majority from hanging (PROTOCOL.md, M8).
  bool answering = true;       // a: a report counts while its node answers
  bool any_majority = true;    // a: after a hand-over that failed any majority will do
  bool bound = true;           // b: an abstainer counts by its bound
  bool hand_over = true;       // c: to a reporter that has more WAL, or does not abstain
  bool give_way = true;        // c: a leader that is not promoted in time steps down
  bool left_behind = true;     // c3: who needs WAL that is gone is cloned
  bool timeline_first = true;  // d: an abstention ends on a newer timeline
  bool copied = true;          // d: a copy that goes past the next fork is made again
};

struct Config {
  NodeId self = 0;
  int election_ticks = 25;  // half of the election timeout (the Raft core's unit)
  int patience = 6;         // a leader not promoted within this many election_ticks gives way
  std::optional<Position> abstain_until;  // from the rejoin marker (rule 9)
  std::optional<Position> wal_end;        // the data directory had WAL at least this far (rule 3)
  // The data directory is being rewound or cloned, so there is no server: this node votes, and
  // reports its bound (rule 3; PROTOCOL.md, M8h).
  bool without_data = false;
  // A rejoin was asked for and nothing has been touched. It is withdrawn once a promotion shows
  // that this node has not diverged from it.
  bool rejoin_requested = false;
  Timeline max_ack_timeline = 0;       // durable bound (rule 3)
  int priority = kMaxPriority;         // 0: leads only where nobody else may
  Lsn switchover_lag_max = 16u << 20;  // bytes that a target may lack when a switchover begins
  Switches switches;
};

class Controller {
 public:
  explicit Controller(const Config& config);

  struct Inputs {
    const RaftView& raft;
    const PromotionView& promotions;
    const DatabaseView& database;
    std::uint64_t now_ticks;
    Lsn oldest_of_leader = 0;  // the oldest WAL that RaftView::leader has, as it told; 0: not known
  };
  struct Outputs {
    Requests requests;
    bool orders_changed = false;  // then orders() has a new sequence number
  };
  Outputs update(const Inputs& in);

  // Entering `term`: what must be tightened before the term is persisted or any message of it is
  // sent (rule 2). Returns the new orders.
  const Orders& enter_term(Term term);

  // A position report of another node; dropped when it is of another term.
  void receive(const Report& report);

  const Orders& orders() const { return orders_; }

  // Promoted in the current term, quorum in force, fence lifted.
  bool is_writable_leader() const { return orders_.lift_fence; }
  // Leader, with the quorum of its term and configuration in force: nothing that was acknowledged
  // before it was lies above.
  std::optional<Lsn> settle_lsn() const { return settle_lsn_; }
  // Rule 8: may a membership change be proposed now? The message says what it waits for.
  Status may_change_membership(const Inputs& in) const;

  // Rule 8, leader: why `learner` has no vote yet as far as its WAL is concerned; empty: it may
  // have one.
  std::string learner_waits_for(const Inputs& in, NodeId learner) const;

  // A planned switchover, on a leader that accepts writes. The node that was chosen; or why not
  // (kFailedPrecondition, kNotFound). How it ends, unless leadership is lost: see
  // take_switchover_outcome().
  Result<NodeId> begin_switchover(const Inputs& in, const Switchover::Request& request);
  Result<NodeId> check_switchover(const Inputs& in, NodeId to) const;  // without beginning one
  // Given up; false: there is none, or the target has been told to take over already.
  bool cancel_switchover(const Status& why);
  bool switching_over() const { return switchover_.has_value(); }
  NodeId switching_over_to() const { return switchover_ ? switchover_->to() : 0; }
  // Why the last switchover was given up, once.
  std::optional<Status> take_switchover_outcome() { return std::exchange(given_up_, {}); }

  bool abstaining() const {
    return abstain_until_.has_value() || lost_wal_ || config_.without_data;
  }
  // One line for status: what the controller is doing or waiting for ("waiting for position
  // reports: 1 of 2").
  const std::string& phase() const { return phase_; }
  // Leader: reports of this term so far, own one included; for status.
  const std::map<NodeId, Report>& reports() const { return reports_; }

 private:
  void lead(const Inputs& in, Orders& next, Requests& requests);
  void reconcile(const Inputs& in, Orders& next, Requests& requests);
  void promote(const Inputs& in, const Promotion& promotion, Orders& next, Requests& requests);
  void rule(const Inputs& in, Orders& next, Requests& requests);
  void promote_learners(const Inputs& in, Requests& requests);
  void switch_over(const Inputs& in, Orders& next, Requests& requests);
  void end_switchover(const Status& why);
  void leave_switchover();
  void look_for_better_leader(const Inputs& in);
  void stay_drained(const Inputs& in, Orders& next);
  void follow(const Inputs& in, Orders& next, Requests& requests);
  void follow_as_standby(const Inputs& in, Orders& next, Requests& requests);
  bool is_left_behind(const Inputs& in);
  void send_report(const Inputs& in, Requests& requests);
  void watch_promotion(const Inputs& in, Orders& next);
  void hand_over(const Inputs& in, NodeId to, Requests& requests);
  void give_way_when_late(const Inputs& in, Requests& requests);
  void raise_bound(Timeline timeline, Requests& requests);
  void update_abstention(const DatabaseView& database, Requests& requests);
  void look_for_lost_wal(const DatabaseView& database);
  void withdraw_rejoin(Requests& requests);
  std::optional<Report> own_report(const Inputs& in) const;
  bool view_is_current(const DatabaseView& database) const;
  Lsn quorum_flush(const Inputs& in) const;
  void publish(Orders next);

  Config config_;
  Orders orders_;
  std::string phase_ = "starting";
  Term term_ = 0;
  std::uint64_t term_seq_ =
      0;  // orders that closed everything for this term; views must have seen them

  // Rules 3 and 9; durable, kept by the caller.
  std::optional<Position> abstain_until_;
  Timeline max_ack_timeline_ = 0;
  std::optional<Position> wal_end_;  // until the database was seen to have that much
  bool lost_wal_ = false;            // it has less: abstains until it has it again
  bool rejoin_requested_ = false;

  // Reports of this term, and the own one as last sent.
  std::map<NodeId, Report> reports_;
  std::optional<Report> last_report_;
  std::uint64_t last_report_tick_ = 0;

  // Leadership of this term.
  bool leading_ = false;
  std::uint64_t leader_since_tick_ = 0;
  std::optional<std::uint64_t> proposed_tick_;       // Promotion proposed
  std::optional<std::uint64_t> proposed_done_tick_;  // PromotionDone proposed
  std::optional<std::uint64_t> handover_tick_;  // leadership handed over, without success so far
  bool ruling_ = false;                         // promoted, and a primary on that timeline
  bool admitted_ = false;  // quorum was in force once: walsenders admitted, fence lifted
  std::uint64_t quorum_generation_ = 0;  // never goes back while this controller lives
  bool quorum_is_of_term_ = false;
  std::optional<Lsn> settle_lsn_;       // rule 8: must be on a majority before the next change
  std::map<NodeId, CatchUp> catch_up_;  // learners that stream

  std::optional<Position> followed_from_;  // standby: its WAL ended here when it began to follow

  // Standby: its WAL ends here, before all WAL that the leader has, since that tick.
  Position left_behind_at_;
  std::optional<std::uint64_t> left_behind_tick_;

  std::optional<Switchover> switchover_;
  std::optional<Status> given_up_;
  std::uint64_t look_tick_ = 0;  // priority 0: last looked for a better leader
  // Handed over in an earlier term: still a primary, which shall write no more WAL and not be asked
  // to lead.
  bool handed_over_ = false;
  std::optional<std::uint64_t> handed_over_tick_;

  // Across terms, until a promotion is completed.
  int handovers_ = 0;
  int gave_way_ = 0;  // exponent of the back-off
  int election_delay_ = 0;

  // A promotion signalled to this server, until its outcome is known (rule 5). It may outlive its
  // term.
  struct InFlight {
    Term term = 0;
    Timeline timeline = 0;
    std::uint64_t seq = 0;  // of the orders that asked for it; 0 until they are published
    std::uint64_t tick = 0;
  };
  std::optional<InFlight> in_flight_;
};

// Does a WAL that ends (has been replayed to) at `position` contain something that `timeline`,
// whose ancestors are `history`, has not? (rule 9)
bool has_diverged(Position position, Timeline timeline, const History& history);

}  // namespace pgraft::failover
