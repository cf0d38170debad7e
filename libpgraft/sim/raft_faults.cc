#include "libpgraft/sim/raft_faults.h"

#include <algorithm>
#include <utility>

#include "libpgraft/sim/raft_world.h"

namespace pgraft::sim {

namespace {

Status reshape(const FaultStep& step, node::Replica& replica) {
  std::vector<raft::ConfChange> changes(1);
  changes.front().transition = raft::ConfChangeTransition::kImplicit;
  std::size_t left = replica.conf().voters.size();
  for (const NodeId id : replica.conf().voters) {
    if ((step.amount >> id & 1) == 0 || --left == 0) continue;
    const auto known = replica.conf().incarnations.find(id);
    const raft::Incarnation incarnation =
        known == replica.conf().incarnations.end() ? 0 : known->second;
    if (step.percent != 0) changes.emplace_back();
    changes.back().changes.push_back({raft::ConfChangeType::kAddLearner, id, incarnation});
  }
  Status last(Code::kNotFound, "none of them is a voter");
  for (const raft::ConfChange& change : changes) {
    if (!change.changes.empty()) last = replica.raft().propose_conf_change(change);
  }
  return last;
}

}  // namespace

// Of what lasts: ended by heal() when the run's trouble is over before.
template <class F>
void RaftFaults::later(Micros delay, F what) {
  world_->queue().after(delay, [this, what] {
    if (!stopped_) what();
  });
}

void RaftFaults::start() {
  for (const FaultStep& step : world_->plan().faults) {
    later(step.at, [this, &step] {
      if (step.moment == Moment::kNow) return carry_out(step, 0);
      waiting_.push_back(&step);
    });
  }
}

void RaftFaults::stop() {
  stopped_ = true;
  waiting_.clear();
}

void RaftFaults::happened(Moment moment, NodeId id) {
  if (waiting_.empty()) return;
  std::erase_if(waiting_, [&](const FaultStep* step) {
    if (step->moment != moment) return false;
    later(step->delay, [this, step, id] { carry_out(*step, id); });
    return true;
  });
}

NodeId RaftFaults::resolve(const Who& who, NodeId here) const {
  const NodeId leader = world_->leader();
  switch (who.kind) {
    case Who::Kind::kNode: return who.number <= world_->setup().nodes ? who.number : 0;
    case Who::Kind::kHere: return here;
    case Who::Kind::kLeader: return leader;
    case Who::Kind::kOther: {
      std::vector<NodeId> others = world_->ids();
      std::erase_if(others, [&](NodeId id) { return id == here || id == leader; });
      return others.empty() ? 0 : others[who.number % others.size()];
    }
  }
  return 0;
}

void RaftFaults::carry_out(const FaultStep& step, NodeId here) {
  const NodeId who = resolve(step.who, here);
  const NodeId whom = resolve(step.whom, here);
  if (who == 0 || whom == 0) return;
  ++world_->counts().faults;
  world_->mark(step.number, who);
  switch (step.action) {
    case Action::kPartition:
    case Action::kCutLink:
    case Action::kWeather:
    case Action::kBreak:
    case Action::kMessages: return network_fault(step, who, whom);
    case Action::kAdd:
    case Action::kRemove:
    case Action::kTransfer:
    case Action::kReshape:
    case Action::kWipe: return administer(step, who);
    default: return fault(step, who, whom);
  }
}

void RaftFaults::fault(const FaultStep& step, NodeId who, NodeId) {
  RaftNode& node = world_->node(who);
  world_->note(who, [&] { return "fault: " + describe(step); });
  switch (step.action) {
    case Action::kKill: return node.stop(false, "is killed", step.lasts);
    case Action::kPowerCut: return node.stop(true, "loses power", step.lasts);
    case Action::kCutInside: return node.cut_power_inside(step.amount, step.lasts);
    case Action::kCutAtDisk: return node.cut_power_at_disk(step.amount, step.lasts);
    case Action::kSuspend: node.suspend(); return later(step.lasts, [&node] { node.resume(); });
    case Action::kClockRate:
      node.set_clock_percent(step.amount);
      return later(step.lasts, [&node] { node.set_clock_percent(100); });
    case Action::kSlowDisk:
      node.set_disk_factor(step.amount);
      return later(step.lasts, [&node] { node.set_disk_factor(1); });
    case Action::kFullDisk:
      node.set_disk_full(true);
      return later(step.lasts, [&node] { node.set_disk_full(false); });
    case Action::kClockJump: return node.jump(step.amount);
    case Action::kFailSync: return node.fail_sync_at(step.amount);
    case Action::kCampaign:
      if (!node.up()) return;
      return node.post([](node::Replica& replica) { (void)replica.raft().campaign(); });
    default: return;
  }
}

void RaftFaults::network_fault(const FaultStep& step, NodeId who, NodeId whom) {
  RaftNetwork& network = world_->network();
  world_->note(0, [&] { return "fault: " + describe(step); });
  switch (step.action) {
    case Action::kPartition: {
      const std::uint64_t set = step.amount != 0 ? step.amount : std::uint64_t{1} << who;
      network.partition(set);
      return later(step.lasts, [&network, set] { network.end_partition(set); });
    }
    case Action::kCutLink:
      network.cut(who, whom, 1);
      return later(step.lasts, [&network, who, whom] { network.cut(who, whom, -1); });
    case Action::kWeather:
      network.add_weather({step.fate, step.percent, step.amount, step.number});
      return later(step.lasts, [&network, &step] { network.end_weather(step.number); });
    case Action::kBreak: return network.reset(who, whom);
    case Action::kMessages:
      return network.add_fated({who, whom, step.type, step.fate, step.amount, step.lasts});
    default: return;
  }
}

// --- membership

// As it must be to join: without the log of an earlier membership.
bool RaftFaults::make_blank(NodeId id) {
  RaftNode& node = world_->node(id);
  const raft::ConfState& conf = world_->newest_conf();
  const auto known = conf.incarnations.find(id);
  const bool is_member =
      world_->controls().incarnations
          ? known != conf.incarnations.end() && known->second == node.incarnation()
          : std::find(conf.voters.begin(), conf.voters.end(), id) != conf.voters.end();
  if (is_member) return false;
  if (!node.blank()) {
    if (!world_->may_wipe(id)) return false;
    node.wipe();
  }
  return true;
}

void RaftFaults::administer(const FaultStep& step, NodeId who) {
  if (step.action == Action::kWipe) {
    if (world_->may_wipe(who)) world_->node(who).wipe();
    return;
  }
  if (step.action == Action::kAdd && !make_blank(who)) return;
  ask_leader(step, who);
}

void RaftFaults::ask_leader(const FaultStep& step, NodeId who) {
  const NodeId leader = world_->leader();
  if (leader == 0) return;
  world_->note(leader, [&] { return "is asked: " + describe(step); });
  const state::Member member = world_->node(who).member();
  const auto done = [this, leader, &step, member](const Status& status, std::uint64_t) {
    if (status && step.action == Action::kRemove) world_->removed(member.id, member.incarnation);
    if (status && step.action != Action::kTransfer) ++world_->counts().membership_changes;
    world_->note(leader, [&] {
      return std::string(action_name(step.action)) +
             (status ? " is done" : ": " + status.to_string());
    });
  };
  world_->node(leader).post([&step, member, done](node::Replica& replica) {
    switch (step.action) {
      case Action::kAdd: return replica.add_member(member, done);
      case Action::kRemove: return replica.remove_member(member.id, done);
      case Action::kTransfer: return replica.transfer_leadership({.to = member.id}, done);
      default: return done(reshape(step, replica), 0);
    }
  });
}

}  // namespace pgraft::sim
