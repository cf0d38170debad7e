#include "libpgraft/sim/raft_world.h"

#include <algorithm>
#include <utility>

#include "libpgraft/base/check.h"
#include "libpgraft/sim/raft_recovery.h"
#include "libpgraft/sim/throwing_checks.h"

namespace pgraft::sim {
namespace {

constexpr std::uint64_t kClusterId = 7;
constexpr std::uint64_t kMaxEvents = 5'000'000;  // of a run; one that needs more is stuck

// How long a cluster without faults may take, in election timeouts. Many elections can fail.
constexpr Micros kRecoverWithin = 100;

bool holds(const std::vector<NodeId>& ids, NodeId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

bool is_member(const raft::ConfState& conf, NodeId id) {
  return holds(conf.voters, id) || holds(conf.voters_outgoing, id) || holds(conf.learners, id);
}

}  // namespace

RaftWorld::RaftWorld(const RaftPlan& plan, const RaftControls& controls, bool traced)
    : plan_(plan),
      controls_(controls),
      traced_(traced),
      network_(this),
      clients_(this),
      faults_(this) {
  for (NodeId id = 1; id <= plan_.setup.nodes; ++id) {
    nodes_.push_back(std::make_unique<RaftNode>(this, id));
  }
  bootstrap();
}

// What is still to happen holds on to the nodes.
RaftWorld::~RaftWorld() { queue_.clear(); }

std::vector<NodeId> RaftWorld::ids() const {
  std::vector<NodeId> ids;
  for (NodeId id = 1; id <= setup().nodes; ++id) ids.push_back(id);
  return ids;
}

void RaftWorld::bootstrap() {
  state::StateMachine machine;
  machine.set_cluster_id(kClusterId);
  raft::Snapshot first;
  first.meta.index = 1;
  first.meta.term = 1;
  for (NodeId id = 1; id <= setup().voters; ++id) {
    machine.put_member(node(id).member());
    first.meta.conf.voters.push_back(id);
    if (node(id).incarnation() != 0) first.meta.conf.incarnations[id] = node(id).incarnation();
  }
  machine.set_applied_index(1);
  first.data = machine.snapshot();
  for (NodeId id = 1; id <= setup().voters; ++id) node(id).bootstrap(first);
  configured(1, first.meta.conf);
}

NodeId RaftWorld::leader() const {
  NodeId best = 0;
  for (const NodeId id : ids()) {
    if (!node(id).leads()) continue;
    if (best == 0 || node(best).replica().raft().term() < node(id).replica().raft().term()) {
      best = id;
    }
  }
  return best;
}

void RaftWorld::configured(raft::Index applied, const raft::ConfState& conf) {
  if (applied < newest_conf_index_) return;
  newest_conf_index_ = applied;
  newest_conf_ = conf;
  std::erase_if(lost_, [&](NodeId id) { return !is_member(conf, id); });
}

// --- which disks are still needed

bool RaftWorld::intact(NodeId id) const {
  const auto known = newest_conf_.incarnations.find(id);
  if (known == newest_conf_.incarnations.end()) return !lost_.contains(id);
  return known->second == node(id).incarnation();
}

void RaftWorld::wiped(NodeId id) {
  if (is_member(newest_conf_, id)) lost_.insert(id);
}

// Raft survives the loss of any minority of disks; here so that the next change of the members
// leaves a majority too. A node that was removed is free.
bool RaftWorld::may_wipe(NodeId id) const {
  const auto known = newest_conf_.incarnations.find(id);
  const bool member = known != newest_conf_.incarnations.end()
                          ? known->second == node(id).incarnation()
                          : is_member(newest_conf_, id);
  if (!member && !node(id).blank() && !removed_.contains({id, node(id).incarnation()})) {
    return false;
  }
  const auto enough = [&](const std::vector<NodeId>& voters) {
    if (!holds(voters, id)) return true;
    std::size_t left = 0;
    for (const NodeId voter : voters) left += voter != id && intact(voter) ? 1 : 0;
    return (left - 1) * 2 > voters.size();
  };
  return enough(newest_conf_.voters) && enough(newest_conf_.voters_outgoing);
}

// --- the run

void RaftWorld::until(Micros end) {
  while (!queue_.empty() && queue_.next_at() <= end && !invariants_.violation()) {
    if (++events_ > kMaxEvents) {
      return invariants_.violated("liveness", 0,
                                  "more than " + std::to_string(kMaxEvents) + " events");
    }
    queue_.step();
  }
}

RaftRun RaftWorld::run() {
  const ThrowingChecks throwing;
  RaftRun run;
  run.seed = plan_.seed;
  for (const NodeId id : ids()) node(id).start();
  faults_.start();
  clients_.start();
  until(setup().trouble);
  counts_.trouble = now();
  if (!invariants_.violation()) recover(&run);
  counts_.recovery = now() - counts_.trouble;
  run.violated_at = now();
  run.events = events_;
  run.history = clients_.history();
  if (!invariants_.violation()) check_history(&run);
  run.violation = invariants_.violation();
  counts_.messages = network_.sent();
  counts_.message_bytes = network_.bytes();
  counts_.committed = invariants_.committed();
  counts_.elections = invariants_.elections();
  run.counts = counts_;
  run.hash = mixed(hash_, events_);
  run.trace = std::move(trace_);
  return run;
}

void RaftWorld::recover(RaftRun* run) {
  faults_.stop();
  clients_.stop();
  RaftRecovery recovery(this);
  recovery.heal();
  const Micros election = setup().tick * static_cast<Micros>(setup().election_ticks);
  Micros at = setup().trouble;
  const Micros end = at + kRecoverWithin * election;
  while (!run->recovered && !invariants_.violation()) {
    // Each time: a change to members whose disks are gone may have been under way.
    run->unrecoverable = recovery.impossible();
    if (run->unrecoverable) return;
    at += setup().tick;
    until(at);
    run->recovered = recovery.step();
    if (!run->recovered && at >= end) {
      invariants_.violated("liveness", 0, "the cluster does not recover: " + recovery.why_not());
    }
  }
}

void RaftWorld::check_history(RaftRun* run) {
  const auto report = check_linearizability(run->history);
  PGRAFT_CHECK(report.is_ok(), report.status().to_string());
  run->history_unknown = report->verdict == Verdict::kUnknown;
  if (report->verdict == Verdict::kNotLinearizable) {
    invariants_.violated("linearizability", 0, report->text);
  }
}

RaftRun run_raft_plan(const RaftPlan& plan, const RaftControls& controls, bool traced) {
  return RaftWorld(plan, controls, traced).run();
}

}  // namespace pgraft::sim
