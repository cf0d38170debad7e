#include "libpgraft/failover/controller.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <utility>

namespace pgraft::failover {
namespace {

bool contains(const std::vector<NodeId>& ids, NodeId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

std::size_t majority(const std::vector<NodeId>& voters) { return voters.size() / 2 + 1; }

std::string of(std::size_t n, std::size_t total) {
  return std::to_string(n) + " of " + std::to_string(total);
}

std::string to_text(Lsn lsn) {  // as PostgreSQL prints it
  std::array<char, 20> text{};
  (void)std::snprintf(text.data(), text.size(), "%X/%X", static_cast<unsigned>(lsn >> 32),
                      static_cast<unsigned>(lsn));
  return text.data();
}

// As the live walsender of a member says; 0: it has none, or has acknowledged nothing.
Lsn flushed_by(const DatabaseView& database, NodeId node) {
  const auto stream = database.streams.find(node);
  return stream == database.streams.end() ? 0 : stream->second;
}

// How far a member's WAL is behind that of this primary.
std::string lag_text(const DatabaseView& database, NodeId node) {
  const std::string name = "node " + std::to_string(node);
  if (!database.streams.contains(node)) return name + " does not stream";
  const Lsn flushed = flushed_by(database, node);
  if (flushed == 0) return name + " has not acknowledged any WAL yet";
  const Lsn lag = database.end.lsn > flushed ? database.end.lsn - flushed : 0;
  return name + " is " + size_text(lag) + " behind";
}

}  // namespace

bool has_diverged(Position position, Timeline timeline, const History& history) {
  if (position.timeline == timeline) return false;
  for (const HistoryLine& line : history) {
    if (line.timeline == position.timeline) return position.lsn > line.end;
  }
  return true;  // on a branch that the timeline doesn't descend from
}

Controller::Controller(const Config& config)
    : config_(config),
      abstain_until_(config.abstain_until),
      max_ack_timeline_(config.max_ack_timeline),
      wal_end_(config.switches.wal_end ? config.wal_end : std::nullopt),
      rejoin_requested_(config.rejoin_requested) {}

// --- entry points ------------------------------------------------------------------------------

const Orders& Controller::enter_term(Term term) {
  if (term <= term_) return orders_;
  term_ = term;
  reports_.clear();
  last_report_.reset();
  leading_ = false;
  proposed_tick_.reset();
  proposed_done_tick_.reset();
  handover_tick_.reset();
  admitted_ = false;
  ruling_ = false;
  quorum_is_of_term_ = false;
  settle_lsn_.reset();
  catch_up_.clear();
  left_behind_tick_.reset();
  followed_from_.reset();
  leave_switchover();

  Orders next;
  next.term = term;
  next.quorum_generation = orders_.quorum_generation;  // the setting stays; it is never emptied
  next.quorum_voters = orders_.quorum_voters;
  next.restart = orders_.restart;
  next.rewind_target = orders_.rewind_target;
  next.rewind_source = orders_.rewind_source;
  next.reason = orders_.restart == Restart::kNone ? "new term" : orders_.reason;
  if (handed_over_) next.drain = Drain::kEnd;
  if (!config_.switches.gate) {
    next.gate_open = orders_.gate_open;
    next.gate_timeline = orders_.gate_timeline;
    next.gate_switch = orders_.gate_switch;
    next.follow = orders_.follow;
  }
  publish(std::move(next));
  term_seq_ = orders_.seq;
  return orders_;
}

void Controller::receive(const Report& report) {
  if (report.term != term_) return;  // rule 3: a position is of one term
  reports_[report.from] = report;
}

Controller::Outputs Controller::update(const Inputs& in) {
  const std::uint64_t seq_before = orders_.seq;
  enter_term(in.raft.term);
  Outputs out;

  Orders next;
  next.term = term_;
  next.quorum_generation = orders_.quorum_generation;
  next.quorum_voters = orders_.quorum_voters;

  const bool member =
      contains(in.raft.voters, config_.self) || contains(in.raft.learners, config_.self);
  if (orders_.restart != Restart::kNone) {
    // Under way; nothing but the restart ends it.
    next = orders_;
  } else if (!member) {
    phase_ = "removed from the cluster";
  } else if (!in.database.valid) {
    phase_ = "waiting for a first look at the database";
  } else {
    watch_promotion(in, next);
    look_for_lost_wal(in.database);
    update_abstention(in.database, out.requests);
    if (in.raft.role == Role::kLeader) {
      if (!leading_) {
        leading_ = true;
        handed_over_ = false;
        leader_since_tick_ = in.now_ticks;
      }
      lead(in, next, out.requests);
    } else {
      leading_ = false;
      admitted_ = false;
      leave_switchover();
      stay_drained(in, next);
      follow(in, next, out.requests);
    }
  }

  // Nobody who can't be promoted should campaign first. Only a hint.
  const int delay = abstaining() ? config_.election_ticks : 0;
  if (delay != election_delay_) {
    election_delay_ = delay;
    out.requests.election_delay = delay;
  }
  publish(std::move(next));
  if (switchover_) switchover_->ordered(orders_.seq);
  out.orders_changed = orders_.seq != seq_before;
  return out;
}

void Controller::publish(Orders next) {
  next.seq = orders_.seq;
  if (next.reason.empty()) next.reason = phase_;
  Orders same = next;
  same.reason = orders_.reason;  // words alone are no news
  const bool changed = same != orders_ || orders_.seq == 0;
  if (changed) next.seq = orders_.seq + 1;
  if (in_flight_ && in_flight_->seq == 0 && next.promote != 0) in_flight_->seq = next.seq;
  if (changed) orders_ = std::move(next);
}

bool Controller::view_is_current(const DatabaseView& database) const {
  return database.orders_seen >= term_seq_ || !config_.switches.frozen;
}

// --- rule 5: a promotion in flight ---------------------------------------------------------------

// The signal is asynchronous: it may act terms later. Until the outcome is known this server
// neither streams nor reports (PROTOCOL.md, M3).
void Controller::watch_promotion(const Inputs& in, Orders& next) {
  if (!in_flight_ || in_flight_->seq == 0 || in.database.orders_seen < in_flight_->seq) return;
  if (!in.database.in_recovery || !in.database.promote_pending) {
    in_flight_.reset();
    return;
  }
  const auto limit = static_cast<std::uint64_t>(config_.patience) * config_.election_ticks;
  if (in_flight_->term != term_ && in.now_ticks - in_flight_->tick > 4 * limit) {
    next.restart = Restart::kStandby;  // a restart forgets the signal
    next.reason = "a promotion of an earlier term does not end";
  }
}

// --- rule 3: reports and abstention
// -----------------------------------------------------------------

void Controller::update_abstention(const DatabaseView& database, Requests& requests) {
  if (!abstain_until_ || !database.end_known || !database.in_recovery) return;
  // Timeline first: a bare LSN would never be reached on a new timeline that forked below it
  // (PROTOCOL.md, M8d).
  const bool reached = config_.switches.timeline_first ? database.end >= *abstain_until_
                                                       : database.end.lsn >= abstain_until_->lsn;
  if (!reached) return;
  abstain_until_.reset();
  requests.clear_abstain = true;
}

// WAL that was on disk is not there any more: this is an older copy of the data directory, which
// lacks what the node acknowledged since. It abstains until it has streamed that again.
void Controller::look_for_lost_wal(const DatabaseView& database) {
  if (!wal_end_ || !database.end_known) return;
  lost_wal_ = database.end < *wal_end_;
  if (!lost_wal_) wal_end_.reset();
}

// rule 9: what was asked for because of another leader has lost its reason.
void Controller::withdraw_rejoin(Requests& requests) {
  if (!std::exchange(rejoin_requested_, false)) return;
  requests.clear_abstain = true;
}

std::optional<Report> Controller::own_report(const Inputs& in) const {
  const DatabaseView& database = in.database;
  Report report;
  report.from = config_.self;
  report.term = term_;
  report.yields = handed_over_ || config_.priority <= 0;
  if ((in_flight_ || database.promote_pending) && config_.switches.cancel)
    return std::nullopt;  // rule 5
  if (abstaining() && config_.switches.abstain) {
    report.abstains = true;
    report.bound = max_ack_timeline_;
    return report;
  }
  if (!view_is_current(database)) return std::nullopt;  // the gate may still have been open then
  if (database.in_recovery) {
    if (!database.end_known && config_.switches.known_end) return std::nullopt;
    if (!database.receiver_stopped && config_.switches.frozen) return std::nullopt;
  } else if (!database.frozen && config_.switches.frozen) {
    return std::nullopt;
  }
  report.position = database.end;
  return report;
}

void Controller::send_report(const Inputs& in, Requests& requests) {
  if (in.raft.leader == 0 || in.raft.leader == config_.self) return;
  const std::optional<Report> report = own_report(in);
  if (!report) return;
  const auto interval = static_cast<std::uint64_t>(std::max(1, config_.election_ticks / 4));
  if (last_report_ == report && in.now_ticks - last_report_tick_ < interval) return;
  last_report_ = report;
  last_report_tick_ = in.now_ticks;
  requests.send_report = report;
}

void Controller::raise_bound(Timeline timeline, Requests& requests) {
  if (max_ack_timeline_ >= timeline) return;
  max_ack_timeline_ = timeline;
  requests.persist_bound = timeline;
}

// --- follower
// ----------------------------------------------------------------------------------------

void Controller::follow(const Inputs& in, Orders& next, Requests& requests) {
  if (config_.without_data) {
    phase_ = "votes only: the data directory is being rewound or cloned";
    if (!in.promotions.done_of_term) send_report(in, requests);
    return;
  }
  if ((in_flight_ || in.database.promote_pending) && config_.switches.cancel) {
    phase_ = "waiting for the outcome of a promotion";
    return;
  }
  if (in.database.in_recovery) {
    follow_as_standby(in, next, requests);
    return;
  }
  const std::optional<Promotion>& promotion = in.promotions.of_term;
  if (promotion && promotion->node != config_.self) {
    phase_ = "restarting as a standby of node " + std::to_string(promotion->node);
    next.restart = Restart::kStandby;  // an extension can't turn a primary into a standby
    next.reason = "node " + std::to_string(promotion->node) + " was promoted in term " +
                  std::to_string(term_);
    return;
  }
  phase_ = in.database.frozen ? "former primary, waiting for a leader" : "freezing";
  send_report(in, requests);
}

void Controller::follow_as_standby(const Inputs& in, Orders& next, Requests& requests) {
  const DatabaseView& database = in.database;
  const std::optional<PromotionDone>& done = in.promotions.done_of_term;
  if (!done) {
    phase_ = in.raft.leader == 0 ? "no leader" : "waiting for the leader's promotion";
    send_report(in, requests);
    return;
  }
  if (done->node == config_.self) {
    phase_ = "was promoted in this term and restarted; waiting for an election";
    return;
  }
  // Rule 9: decided from the history, with all local WAL replayed; not from a stream that fails.
  // What a rewind or clone has copied counts as replayed: pages may be as new as its target, and
  // PostgreSQL compares bare LSNs when it decides that they are consistent.
  const bool checked = config_.switches.current && config_.switches.divergence;
  const bool replayed_diverged = database.replayed.timeline != 0 &&
                                 has_diverged(database.replayed, done->timeline, done->history);
  const bool copy_diverged = abstain_until_ && config_.switches.copied &&
                             has_diverged(*abstain_until_, done->timeline, done->history);
  if (checked && (replayed_diverged || copy_diverged)) {
    if (in.raft.leader != done->node) {
      // After a restart the stored term may be older than the WAL, which has followed a later
      // promotion since: only a leader that was heard can tell.
      phase_ = "WAL does not fit node " + std::to_string(done->node) + ", waiting for a leader";
      return;
    }
    const Position end = replayed_diverged ? database.replayed : *abstain_until_;
    phase_ = "diverged";
    next.restart = Restart::kRewind;
    next.rewind_source = done->node;
    next.rewind_target = {done->timeline, done->switch_lsn()};
    next.reason = "local WAL on timeline " + std::to_string(end.timeline) +
                  " goes past the point where timeline " + std::to_string(done->timeline) +
                  " of node " + std::to_string(done->node) + " forked off";
    return;
  }
  const bool following = orders_.term == term_ && orders_.follow == done->node;
  if (!following && (!view_is_current(database) || !database.replay_exhausted)) {
    phase_ = "replaying local WAL before following node " + std::to_string(done->node);
    return;
  }
  if (following && is_left_behind(in)) {
    phase_ = "left behind";
    next.restart = Restart::kClone;
    next.rewind_source = done->node;
    next.rewind_target = {done->timeline, in.oldest_of_leader};
    next.reason = "node " + std::to_string(done->node) + " no longer has the WAL from " +
                  to_text(database.end.lsn) +
                  " on, where the local WAL ends; the oldest it has is " +
                  to_text(in.oldest_of_leader);
    return;
  }
  next.follow = done->node;
  phase_ = "following node " + std::to_string(done->node);
  if (!followed_from_) followed_from_ = database.end;
  if (*followed_from_ < database.end) handovers_ = 0;  // it streams, so its fence is open
  if (abstain_until_ && config_.switches.abstain) {
    phase_ += ", catching up after a rewind or clone";
    return;
  }
  if (lost_wal_) {
    phase_ += ", catching up: the data directory is an older copy";
    return;
  }
  if (!database.end_known) {
    phase_ += ", not consistent yet";
    return;
  }
  withdraw_rejoin(requests);
  raise_bound(done->timeline, requests);  // rule 3: before the first acknowledgement
  next.gate_open = true;                  // rule 2
  next.gate_timeline = config_.switches.current ? done->timeline : 0;
  next.gate_switch = config_.switches.current ? done->switch_lsn() : 0;
}

// The leader has removed what comes next, so no stream can go on: an archive would pass by the
// gate, and the leader itself will not get it back. It may still be sending from a file that it has
// open, so this counts only while nothing comes.
bool Controller::is_left_behind(const Inputs& in) {
  const Position end = in.database.end;
  if (in.oldest_of_leader <= end.lsn || in.raft.leader == 0 || !config_.switches.left_behind) {
    left_behind_tick_.reset();
    return false;
  }
  if (!left_behind_tick_ || end != left_behind_at_) left_behind_tick_ = in.now_ticks;
  left_behind_at_ = end;
  const int patience = config_.patience * config_.election_ticks;
  return in.now_ticks - *left_behind_tick_ >= static_cast<std::uint64_t>(patience);
}

// --- leader
// -------------------------------------------------------------------------------------------

void Controller::lead(const Inputs& in, Orders& next, Requests& requests) {
  if (in.promotions.done_of_term && in.promotions.done_of_term->node == config_.self) {
    rule(in, next, requests);
    return;
  }
  if (in_flight_ && in_flight_->term != term_ && config_.switches.cancel) {
    phase_ = "waiting for the outcome of an earlier promotion";
    give_way_when_late(in, requests);
    return;
  }
  const std::optional<Promotion>& promotion = in.promotions.of_term;
  if (promotion && promotion->node == config_.self) {
    promote(in, *promotion, next, requests);
    return;
  }
  reconcile(in, next, requests);
}

// Rule 4. Two logs: this node has the longest Raft log of a majority, another one may have the
// longest WAL, and both may hold committed data.
void Controller::reconcile(const Inputs& in, Orders& next, Requests& requests) {
  const DatabaseView& database = in.database;
  if (!in.raft.own_term_applied && config_.switches.own_term) {
    phase_ = "committing the first entry of the term";
    give_way_when_late(in, requests);
    return;
  }
  const std::optional<Report> own = own_report(in);
  if (!own) {
    phase_ = database.in_recovery ? "finding the end of local WAL" : "freezing";
    give_way_when_late(in, requests);
    return;
  }
  reports_[config_.self] = *own;
  if (!database.in_recovery && in.promotions.max_timeline > database.end.timeline &&
      config_.switches.newest) {
    // A primary can't be promoted to another timeline (PROTOCOL.md, S7); as a standby it can.
    next.restart = Restart::kStandby;
    next.reason = "primary on timeline " + std::to_string(database.end.timeline) +
                  " while timeline " + std::to_string(in.promotions.max_timeline) + " was promoted";
    phase_ = "restarting as a standby";
    return;
  }

  std::size_t covered = own->abstains ? 0 : 1;
  std::size_t known = 1;
  std::size_t missing = 0;  // reports of who answers
  const Report* greatest = nullptr;
  const Report* willing = nullptr;  // the greatest of those that do not yield
  for (const NodeId voter : in.raft.voters) {
    if (voter == config_.self) continue;
    const auto it = reports_.find(voter);
    if (config_.switches.answering && !contains(in.raft.answering, voter)) continue;
    if (it == reports_.end()) {
      ++missing;
      continue;
    }
    const Report& report = it->second;
    ++known;
    const bool more = own->abstains || report.position > own->position;
    const bool may_lead = more || (own->yields && report.position == own->position);
    if (!report.abstains && !report.yields && may_lead &&
        (willing == nullptr || report.position > willing->position)) {
      willing = &report;
    }
    if (report.abstains) {
      // All that it acknowledged is on older timelines, which a WAL on this one contains
      // (PROTOCOL.md, section 4, lemma 2).
      // And all that anybody has of this timeline comes from here, while this is still its primary.
      const Timeline above = own->position.timeline + (database.in_recovery ? 0 : 1);
      const bool counts = config_.switches.bound && !own->abstains;
      if (counts && above > report.bound) ++covered;
    } else if (!own->abstains && report.position <= own->position) {
      ++covered;
    } else if (greatest == nullptr || report.position > greatest->position) {
      greatest = &report;
    }
  }

  const std::size_t needed = majority(in.raft.voters);
  phase_ = "waiting for position reports: " + of(known, in.raft.voters.size()) + ", " +
           std::to_string(needed) + " needed";
  if (!config_.switches.reconcile) {
    greatest = willing = nullptr;
    covered = needed;
  }
  // Any majority is safe; the greatest of all spares the others a rewind. It is asked once.
  const bool asked = handovers_ > 0 && !in.raft.transferring && config_.switches.any_majority;
  const auto patience = static_cast<std::uint64_t>(config_.election_ticks);
  const bool patient = in.now_ticks - leader_since_tick_ >= patience;
  // Who yields is asked only where the positions allow nobody else, all of them known.
  const bool all_known = missing == 0 || patient;
  const Report* better = willing != nullptr && !asked ? willing : nullptr;
  if (better == nullptr && covered < needed && greatest != nullptr &&
      (all_known || !greatest->yields)) {
    better = greatest;
  }
  if (better != nullptr) {
    phase_ = "handing over to node " + std::to_string(better->from) + ", which has " +
             (better->position > own->position ? "more WAL" : "priority");
    // One that was asked in vain may be the first to report in every term (PROTOCOL.md, M8c2): the
    // others are heard before it is asked again.
    if (!asked || patient) hand_over(in, better->from, requests);
    give_way_when_late(in, requests);
    return;
  }
  if (own->abstains || covered < needed) {
    if (lost_wal_) {
      phase_ += "; the data directory here is an older copy, its WAL had reached " +
                to_text(wal_end_->lsn) + " on timeline " + std::to_string(wal_end_->timeline) +
                ": put the newer one back, or start the member that has it";
    }
    give_way_when_late(in, requests);
    return;
  }

  phase_ = "committing the promotion";
  const auto retry = static_cast<std::uint64_t>(config_.election_ticks);
  if (proposed_tick_ && in.now_ticks - *proposed_tick_ < retry) return;
  proposed_tick_ = in.now_ticks;
  Promotion promotion;
  promotion.term = term_;
  promotion.node = config_.self;
  if (!database.in_recovery) {
    promotion.timeline = database.end.timeline;  // renewal
  } else if (config_.switches.timeline) {
    promotion.timeline =
        1 + std::max({in.promotions.max_timeline, database.highest_history, database.end.timeline});
  } else {
    promotion.timeline = 1 + database.end.timeline;
  }
  requests.propose_promotion = promotion;
}

void Controller::hand_over(const Inputs& in, NodeId to, Requests& requests) {
  const auto retry = static_cast<std::uint64_t>(2 * config_.election_ticks);
  if (in.raft.transferring || !config_.switches.hand_over) return;
  if (handover_tick_ && in.now_ticks - *handover_tick_ < retry) return;
  handover_tick_ = in.now_ticks;
  ++handovers_;
  requests.transfer_to = to;
}

// A leader that can't be promoted must not stand in the way of one that can; the back-off ends
// ping-pong (PROTOCOL.md, M8c).
void Controller::give_way_when_late(const Inputs& in, Requests& requests) {
  const auto patience = static_cast<std::uint64_t>(config_.patience) * config_.election_ticks;
  if (in.raft.voters.size() == 1 || in.now_ticks - leader_since_tick_ < patience) return;
  if (!config_.switches.give_way) return;
  requests.step_down = true;
  requests.hold_off_ticks = config_.election_ticks << std::min(gave_way_, 4);
  ++gave_way_;
  leader_since_tick_ = in.now_ticks;
}

// The promotion of this term is committed: make it true, then say so.
void Controller::promote(const Inputs& in, const Promotion& promotion, Orders& next,
                         Requests& requests) {
  const DatabaseView& database = in.database;
  raise_bound(promotion.timeline, requests);  // rule 3: before the own promotion
  const std::string timeline = std::to_string(promotion.timeline);
  if (database.in_recovery) {
    if (!in_flight_ && promotion.timeline <= database.highest_history) {
      // PostgreSQL would take another id (POSTGRES.md, M3): this promotion can't come true here any
      // more.
      phase_ = "timeline " + timeline + " exists already";
      requests.step_down = true;
      requests.hold_off_ticks = config_.election_ticks;
      return;
    }
    phase_ = "promoting to timeline " + timeline;
    if (!in_flight_) in_flight_ = InFlight{term_, promotion.timeline, 0, in.now_ticks};
    // The host could not signal it, or the startup process does not act on it.
    const auto limit = static_cast<std::uint64_t>(config_.patience) * config_.election_ticks;
    if (!database.promote_pending || in.now_ticks - in_flight_->tick > 4 * limit)
      give_way_when_late(in, requests);
    next.promote = promotion.timeline;
    return;
  }
  if (database.end.timeline != promotion.timeline) {
    // Rule 5: an id that consensus did not choose. Nothing was acknowledged on it; its WAL must not
    // be compared with anybody's.
    phase_ = "promoted to the wrong timeline";
    next.restart = Restart::kRewind;
    next.rewind_target = {promotion.timeline, 0};  // all that it acknowledged is on older ones
    next.reason =
        "promoted to timeline " + std::to_string(database.end.timeline) + " instead of " + timeline;
    return;
  }
  phase_ = "committing that timeline " + timeline + " was reached";
  const auto retry = static_cast<std::uint64_t>(config_.election_ticks);
  if (proposed_done_tick_ && in.now_ticks - *proposed_done_tick_ < retry) return;
  proposed_done_tick_ = in.now_ticks;
  requests.propose_done = PromotionDone{term_, config_.self, promotion.timeline, database.history};
}

// Promoted. Rule 7, in this order: frozen, quorum set, quorum in force, walsenders admitted, fence
// lifted.
void Controller::rule(const Inputs& in, Orders& next, Requests& requests) {
  const DatabaseView& database = in.database;
  handovers_ = 0;
  if (!ruling_) leader_since_tick_ = in.now_ticks;  // however long the promotion took
  ruling_ = true;
  withdraw_rejoin(requests);
  if (database.in_recovery || in.promotions.done_of_term->timeline != database.end.timeline) {
    phase_ = "promoted, but the database is not that primary any more";
    requests.step_down = true;
    return;
  }
  if (!quorum_is_of_term_ || orders_.quorum_voters != in.raft.voters) {
    if (!admitted_ && !database.frozen && config_.switches.unfence) {
      phase_ = "freezing before the commit quorum is set";
      give_way_when_late(in, requests);
      return;
    }
    quorum_is_of_term_ = true;
    settle_lsn_.reset();
    next.quorum_generation = ++quorum_generation_;
    next.quorum_voters = in.raft.voters;
  }
  const bool in_force = database.quorum_in_force == next.quorum_generation;
  if (in_force && !settle_lsn_) settle_lsn_ = database.end.lsn;
  if (in_force || !config_.switches.unfence) admitted_ = true;
  phase_ = in_force ? "leading" : "waiting for the commit quorum to be in force";
  next.admit_walsenders = admitted_;
  next.lift_fence = admitted_;
  // rule 11: a process that never says that it has loaded the quorum must not cost the cluster its
  // writer.
  if (!admitted_) return give_way_when_late(in, requests);
  gave_way_ = 0;
  look_for_better_leader(in);
  if (switchover_) {
    switch_over(in, next, requests);
  } else {
    promote_learners(in, requests);
  }
}

// --- rule 8
// ---------------------------------------------------------------------------------------------

Lsn Controller::quorum_flush(const Inputs& in) const {
  std::vector<Lsn> flushed;
  for (const NodeId voter : in.raft.voters) {
    if (voter == config_.self) {
      flushed.push_back(in.database.end.lsn);
      continue;
    }
    flushed.push_back(flushed_by(in.database, voter));
  }
  if (flushed.empty()) return 0;
  std::sort(flushed.begin(), flushed.end(), std::greater<>());
  return flushed[majority(in.raft.voters) - 1];
}

Status Controller::may_change_membership(const Inputs& in) const {
  const auto wait = [](std::string why) {
    return Status(Code::kFailedPrecondition, std::move(why));
  };
  if (in.raft.role != Role::kLeader) return {Code::kNotLeader, "this node is not the leader"};
  if (!in.raft.own_term_applied)
    return wait("the leader has not committed an entry of its term yet");
  if (in.raft.conf_change_pending) return wait("another membership change is not finished yet");
  if (switchover_) return wait("the leadership is being transferred");
  if (!config_.switches.promoted) return Status::ok();
  if (!in.promotions.done_of_term || in.promotions.done_of_term->node != config_.self) {
    return wait("the leader is not promoted yet");
  }
  const bool in_force =
      in.database.quorum_in_force == orders_.quorum_generation && settle_lsn_.has_value();
  if (!quorum_is_of_term_ || orders_.quorum_voters != in.raft.voters ||
      (!in_force && config_.switches.in_force)) {
    return wait("the commit quorum of the last change is not in force yet" +
                (in.database.quorum_waits_for == 0
                     ? std::string()
                     : ": the connection of node " + std::to_string(in.database.quorum_waits_for) +
                           " counts by the old one"));
  }
  // What was acknowledged under the configuration before must be on a majority of this one, since
  // the one after this shares no majority with that (PROTOCOL.md, section 4).
  if (config_.switches.settle && settle_lsn_ && quorum_flush(in) < *settle_lsn_) {
    std::string behind;
    for (const NodeId voter : in.raft.voters) {
      if (voter == config_.self || flushed_by(in.database, voter) >= *settle_lsn_) continue;
      behind += (behind.empty() ? ": " : ", ") + lag_text(in.database, voter);
    }
    return wait("a majority of the members does not have all of the leader's WAL yet" + behind);
  }
  return Status::ok();
}

std::string Controller::learner_waits_for(const Inputs& in, NodeId learner) const {
  const auto found = catch_up_.find(learner);
  if (ruling_ && (found == catch_up_.end() || !found->second.done())) {
    return lag_text(in.database, learner);
  }
  return may_change_membership(in).message();
}

void Controller::promote_learners(const Inputs& in, Requests& requests) {
  std::erase_if(catch_up_, [&](const auto& entry) {
    return !contains(in.raft.learners, entry.first) || flushed_by(in.database, entry.first) == 0;
  });
  for (const NodeId learner : in.raft.learners) {
    const Lsn flushed = flushed_by(in.database, learner);
    if (flushed == 0) continue;
    const int election_timeout = 2 * config_.election_ticks;
    CatchUp& catch_up = catch_up_.try_emplace(learner, election_timeout).first->second;
    catch_up.observe(in.database.end.lsn, flushed, in.now_ticks);
    if (!catch_up.done() || requests.promote_learner != 0) continue;
    if (may_change_membership(in).is_ok()) requests.promote_learner = learner;
  }
}

}  // namespace pgraft::failover
