#include "libpgraft/sim/walk_coverage.h"

#include <algorithm>

namespace pgraft::sim {
namespace {

constexpr std::array<const char*, kReachedCount> kNames = {
    "crash with a promotion signalled",
    "crash with a promotion signal seen",
    "crash between history file and first record",
    "crash before PromotionDone is applied",
    "crash before the quorum is in force",
    "crash while reconciling",
    "crash while abstaining",
    "crash with the term unwritten",
    "promotion by an abstainer's bound",
    "promotion of not the longest WAL",
    "promotion that ends in a later term",
    "promotion withdrawn",
    "promotion while a voter has another configuration",
    "renewal",
    "hand-over to a longer WAL",
    "two primaries that admit walsenders",
    "acknowledgement by a deposed primary",
    "acknowledgement with a stale quorum",
    "stale walsender",
    "election with an unknown end of WAL",
    "election with a frozen former primary",
    "rewound",
    "cloned",
    "left behind",
    "source of a rejoin lost half way",
    "two abstain",
    "abstainer on a fork",
    "election by a voter without data",
    "rejoin withdrawn",
    "switchover asked for",
    "switchover while commits wait",
    "switchover done",
    "election during a membership change",
    "learner promoted",
    "member removed",
    "wiped and added again",
};

std::size_t majority(const std::vector<NodeId>& voters) { return voters.size() / 2 + 1; }

bool contains(const std::vector<NodeId>& ids, NodeId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

const char* reached_name(Reached what) { return kNames[static_cast<std::size_t>(what)]; }

WalkCoverage::Seen WalkCoverage::see(const Cluster& cluster, NodeId id) {
  Seen seen;
  const DatabaseModel& database = cluster.database(id);
  seen.up = cluster.up(id);
  seen.serves = cluster.serves(id);
  seen.primary = database.primary();
  seen.signalled = database.promote_pending();
  seen.signal_seen = database.promote_seen();
  seen.abstains = database.abstain_until().has_value();
  seen.rejoins = database.rejoin_pending();
  seen.touched = database.rejoin_touched();
  seen.highest = database.highest_history();
  if (!seen.up) return seen;
  const node::Replica& replica = cluster.replica(id);
  seen.term = replica.raft().term();
  seen.leads = cluster.leads(id);
  seen.writable = cluster.writable(id);
  seen.changing = seen.leads && replica.raft().conf_change_pending();
  seen.handing_over = seen.leads && replica.controller().phase().starts_with("handing over");
  seen.unwritten = replica.is_writing();
  seen.voters = replica.conf().voters.size();
  seen.learners = replica.conf().learners.size();
  if (seen.primary) {
    const auto promotions = replica.machine().promotion_view(seen.term);
    seen.done = promotions.done_of_term && promotions.done_of_term->node == id;
  }
  return seen;
}

void WalkCoverage::goes_down(const Cluster& cluster, NodeId id, const Seen& before) {
  const DatabaseModel& database = cluster.database(id);
  if (before.signalled) reach(before.signal_seen ? Reached::kCrashSeen : Reached::kCrashSignalled);
  if (before.signal_seen && before.highest < database.highest_history() &&
      end_of(database.wal()).timeline < database.highest_history()) {
    reach(Reached::kCrashHalfMade);
  }
  if (before.leads && before.primary && !before.done) reach(Reached::kCrashNotDone);
  if (before.leads && before.done && !before.writable) reach(Reached::kCrashNotInForce);
  if (before.leads && !before.primary && !before.signalled) reach(Reached::kCrashReconciling);
  if (before.abstains) reach(Reached::kCrashAbstaining);
  if (before.unwritten) reach(Reached::kCrashTermUnwritten);
}

void WalkCoverage::is_promoted(const Cluster& cluster, NodeId id) {
  const node::Replica& replica = cluster.replica(id);
  if (const auto in = signalled_in_.find(id);
      in != signalled_in_.end() && in->second < replica.raft().term()) {
    reach(Reached::kPromotionLate);
    return;
  }
  const Wal& wal = cluster.database(id).wal();
  const Position own = end_of(wal, wal.size() - 1);  // without the switch
  std::size_t exact = 1;
  bool longer = false;
  bool abstainer = false;
  for (const auto& [from, report] : replica.controller().reports()) {
    if (from == id || !contains(replica.conf().voters, from)) continue;
    if (report.abstains) {
      abstainer = true;
    } else if (report.position <= own) {
      ++exact;
    } else {
      longer = true;
    }
  }
  if (abstainer && exact < majority(replica.conf().voters)) reach(Reached::kPromotionByBound);
  if (longer) reach(Reached::kPromotionNotLongest);
  for (const NodeId other : replica.conf().voters) {
    if (cluster.up(other) && cluster.replica(other).conf().voters != replica.conf().voters) {
      reach(Reached::kPromotionInChange);
    }
  }
}

void WalkCoverage::is_elected(const Cluster& cluster, NodeId id) {
  if (cluster.replica(id).raft().conf_change_pending()) reach(Reached::kChangeInElection);
  for (const NodeId other : cluster.ids()) {
    const DatabaseModel& database = cluster.database(other);
    if (other == id || !cluster.up(other)) continue;
    if (cluster.votes_only(other) && contains(cluster.replica(id).conf().voters, other)) {
      reach(Reached::kVotesOnly);
      continue;
    }
    if (!database.primary() && !database.end_known()) reach(Reached::kUnknownEnd);
    if (database.primary() && database.frozen()) reach(Reached::kFormerPrimaryFrozen);
  }
}

void WalkCoverage::goes_on(const Cluster& cluster, NodeId id, const Seen& before, const Seen& now) {
  if (now.signalled && !before.signalled) signalled_in_[id] = now.term;
  if (before.signalled && !now.signalled && !now.primary) reach(Reached::kPromotionWithdrawn);
  if (now.primary && !before.primary) is_promoted(cluster, id);
  if (now.leads && !before.leads) is_elected(cluster, id);
  if (before.serves && now.serves && before.rejoins && !now.rejoins) reach(Reached::kWithdrawn);
  if (now.handing_over && !before.handing_over) reach(Reached::kHandOver);
  if (now.writable && !before.writable && id == switch_to_ && now.term <= switch_term_ + 2) {
    reach(Reached::kSwitchoverDone);
    switch_to_ = 0;
  }
  if (now.leads && before.leads) {
    if (now.voters > before.voters && now.learners < before.learners) {
      reach(Reached::kLearnerPromoted);
    }
    if (now.voters < before.voters) reach(Reached::kRemoved);
  }
}

void WalkCoverage::acknowledges(const Cluster& cluster) {
  const NodeId by = cluster.invariants().acknowledged_last_by();
  if (by == 0 || !cluster.up(by)) return;
  if (!cluster.leads(by)) reach(Reached::kAckByDeposed);
  for (const NodeId id : cluster.ids()) {
    if (cluster.leads(id) && cluster.replica(id).raft().term() > cluster.replica(by).raft().term())
      reach(Reached::kAckByDeposed);
  }
  if (cluster.database(by).quorum_is_stale()) reach(Reached::kAckStaleQuorum);
}

NodeId WalkCoverage::look(const Cluster& cluster) {
  NodeId moment = 0;
  const bool seldom = looks_++ % 64 == 0;
  std::size_t admitting = 0;
  std::size_t abstaining = 0;
  for (const NodeId id : cluster.ids()) {
    Seen& before = seen_[id];
    const Seen now = see(cluster, id);
    admitting += cluster.database(id).primary() && cluster.database(id).admitted_term() != 0;
    abstaining += now.abstains || now.touched;
    if (seldom && cluster.database(id).has_stale_sender()) reach(Reached::kStaleSender);
    if (now == before) continue;
    moment = id;
    if (now.rejoins && !before.rejoins) {
      if (before.abstains) reach(Reached::kAbstainsFork);
      if (cluster.database(id).stopped_for() == failover::Restart::kClone) {
        reach(Reached::kLeftBehind);
      }
    }
    if (before.up && !now.up && !now.rejoins) goes_down(cluster, id, before);
    if (before.up && now.up) goes_on(cluster, id, before, now);
    before = now;
  }
  if (admitting > 1) reach(Reached::kTwoPrimaries);
  if (abstaining > 1) reach(Reached::kTwoAbstain);
  if (cluster.invariants().acknowledged_count() != acknowledged_) {
    acknowledged_ = cluster.invariants().acknowledged_count();
    acknowledges(cluster);
  }
  if (cluster.invariants().renewal_count() != renewals_) {
    renewals_ = cluster.invariants().renewal_count();
    reach(Reached::kRenewal);
  }
  return moment;
}

void WalkCoverage::asks_to_switch(const Cluster& cluster, NodeId leader, NodeId to) {
  if (!cluster.writable(leader)) return;
  reach(Reached::kSwitchover);
  if (cluster.database(leader).has_unacknowledged()) reach(Reached::kSwitchoverLoaded);
  switch_to_ = to;
  switch_term_ = cluster.replica(leader).raft().term();
}

}  // namespace pgraft::sim
