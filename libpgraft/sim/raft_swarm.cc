#include "libpgraft/sim/raft_swarm.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "libpgraft/sim/draws.h"

namespace pgraft::sim {
namespace {

constexpr std::array<const char*, 5> kFocusNames = {"none", "elections", "membership", "reads",
                                                    "disks"};

enum class Part : std::uint64_t { kSetup = 100, kMix, kFault, kRequest };

Draws draws_of(std::uint64_t seed, Part part, std::uint64_t n = 0) {
  return {seed, {static_cast<std::uint64_t>(part), n}};
}

template <class T, std::size_t N>
T one_of(Draws& draws, const std::array<T, N>& values) {
  return values[draws.below(N)];
}

// --- the cluster

NodeId draw_nodes(Draws& draws) {
  // Three and five are what is run; the others have their own corners.
  return one_of<NodeId, 16>(draws, {1, 2, 3, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 6, 7, 3});
}

void apply_focus(Draws& draws, RaftFocus focus, RaftSetup* s) {
  switch (focus) {
    case RaftFocus::kElections:  // many, and few entries at a time between them
      s->pre_vote = draws.chance(50);
      s->check_quorum = draws.chance(60);
      s->max_size_per_msg = draws.chance(75) ? 0 : s->max_size_per_msg;
      s->max_inflight_msgs = draws.chance(50) ? 1 : s->max_inflight_msgs;
      break;
    case RaftFocus::kReads:
      s->clients = draws.between(4, 6);
      s->keys = static_cast<int>(draws.between(1, 2));
      break;
    default: break;
  }
}

RaftSetup draw_setup(std::uint64_t seed, const RaftSwarm& swarm) {
  Draws draws = draws_of(seed, Part::kSetup);
  RaftSetup s;
  s.nodes = draw_nodes(draws);
  const bool membership = swarm.focus == RaftFocus::kMembership;
  if (membership) s.nodes = draws.between(4, 7);
  if (swarm.nodes) s.nodes = std::clamp<NodeId>(*swarm.nodes, 1, kMaxSimulatedNodes);
  s.voters = draws.chance(membership ? 30 : 60) ? s.nodes : draws.between(1, s.nodes);
  s.tick = one_of<Micros, 4>(draws, {2'000, 5'000, 5'000, 10'000});
  s.election_ticks = static_cast<int>(one_of<std::uint64_t, 4>(draws, {10, 10, 5, 20}));
  s.heartbeat_ticks = static_cast<int>(draws.between(1, 3));
  s.pre_vote = !draws.chance(15);
  s.check_quorum = !draws.chance(10);
  s.snapshot_every = one_of<raft::Index, 5>(draws, {3, 10, 30, 100, 1000});
  s.keep_tail = draws.below(s.snapshot_every + 1);
  s.max_size_per_msg = one_of<std::uint64_t, 4>(draws, {0, 200, 4096, 1u << 20});
  s.max_inflight_msgs = one_of<std::size_t, 4>(draws, {1, 4, 256, 256});
  s.request_timeout_ticks = static_cast<int>(draws.between(2, 6)) * s.election_ticks;
  const Micros election = s.tick * static_cast<Micros>(s.election_ticks);
  s.latency_min = draws.scaled(20, 1'000);
  s.latency_max = s.latency_min * one_of<Micros, 4>(draws, {1, 2, 4, 20});
  s.latency_max = std::min<Micros>(s.latency_max, election / 8);
  s.latency_min = std::min(s.latency_min, s.latency_max);
  s.ordered = draws.chance(60);
  s.disk_min = draws.scaled(10, 500);
  s.disk_max = std::min(s.disk_min * one_of<Micros, 4>(draws, {1, 2, 8, 40}), election / 4);
  s.wake_max = one_of<Micros, 4>(draws, {0, 20, 100, 1'000});
  s.clients = draws.between(1, 6);
  s.keys = static_cast<int>(draws.between(1, 4));
  // So many election timeouts, whatever a tick is.
  s.trouble = election * draws.between(6, 30);
  apply_focus(draws, swarm.focus, &s);
  return s;
}

// --- faults

struct Kind {
  Action action;
  int weight;
};

// Each group of faults is there in a part of the runs.
struct Group {
  std::uint64_t percent;
  RaftFocus focus;  // in which it is there always
  std::vector<Kind> kinds;
};

const std::vector<Group>& groups() {
  static const std::vector<Group> kGroups = {
      {50, RaftFocus::kNone, {{Action::kKill, 4}}},
      {50,
       RaftFocus::kDisks,
       {{Action::kPowerCut, 4}, {Action::kCutInside, 3}, {Action::kCutAtDisk, 3}}},
      {30, RaftFocus::kDisks, {{Action::kFailSync, 2}, {Action::kFullDisk, 2}}},
      {30, RaftFocus::kNone, {{Action::kSlowDisk, 3}}},
      {40, RaftFocus::kReads, {{Action::kPartition, 5}}},
      {30, RaftFocus::kElections, {{Action::kCutLink, 5}}},
      {40, RaftFocus::kElections, {{Action::kWeather, 4}}},
      {40, RaftFocus::kElections, {{Action::kMessages, 8}}},
      {30, RaftFocus::kNone, {{Action::kSuspend, 3}}},
      {30, RaftFocus::kNone, {{Action::kClockRate, 3}, {Action::kClockJump, 2}}},
      {30, RaftFocus::kNone, {{Action::kBreak, 4}}},
      {30, RaftFocus::kElections, {{Action::kCampaign, 5}}},
      {45,
       RaftFocus::kMembership,
       {{Action::kAdd, 8}, {Action::kRemove, 6}, {Action::kTransfer, 2}, {Action::kWipe, 1}}},
      {15, RaftFocus::kMembership, {{Action::kReshape, 5}}},
      {25, RaftFocus::kReads, {{Action::kTransfer, 4}}},
  };
  return kGroups;
}

struct Mix {
  std::vector<Kind> kinds;
  std::uint64_t set = 0;  // of nodes, that some faults have in common
  std::uint64_t faults = 0;
  std::uint64_t at_moments_percent = 0;
};

std::uint64_t draw_set(Draws& draws, const RaftSetup& setup) {
  return draws.between(1, (1u << setup.nodes) - 1) << 1;
}

Mix draw_mix(std::uint64_t seed, const RaftSwarm& swarm, const RaftSetup& setup) {
  Draws draws = draws_of(seed, Part::kMix);
  Mix mix;
  for (const Group& group : groups()) {
    const bool focused = swarm.focus != RaftFocus::kNone && group.focus == swarm.focus;
    if (!draws.chance(group.percent) && !focused) continue;
    const int factor = static_cast<int>(one_of<std::uint64_t, 3>(draws, {1, 1, 3}));
    for (Kind kind : group.kinds) {
      kind.weight *= factor;
      mix.kinds.push_back(kind);
    }
  }
  const Micros elections = setup.trouble / (setup.tick * static_cast<Micros>(setup.election_ticks));
  const std::uint64_t least = swarm.focus == RaftFocus::kNone ? 1 : elections / 2;
  mix.faults = mix.kinds.empty() ? 0 : draws.scaled(least, 4 * elections);
  mix.set = draw_set(draws, setup);
  mix.at_moments_percent = one_of<std::uint64_t, 3>(draws, {0, 40, 80});
  return mix;
}

Who draw_who(Draws& draws, const RaftSetup& setup, bool at_moment) {
  const std::uint64_t kind = draws.below(10);
  if (at_moment && kind < 4) return {Who::Kind::kHere, 0};
  if (kind < 6) return {Who::Kind::kLeader, 0};
  if (kind < 8) return {Who::Kind::kOther, draws.below(setup.nodes)};
  return {Who::Kind::kNode, draws.between(1, setup.nodes)};
}

Who some_node(Draws& draws, const RaftSetup& setup) {
  return {Who::Kind::kNode, draws.between(1, setup.nodes)};
}

raft::MessageType draw_type(Draws& draws) {
  using Type = raft::MessageType;
  return one_of<Type, 14>(
      draws, {Type::kAppend, Type::kAppend, Type::kAppend, Type::kAppendResponse,
              Type::kAppendResponse, Type::kVote, Type::kVoteResponse, Type::kVoteResponse,
              Type::kHeartbeat, Type::kHeartbeatResponse, Type::kSnapshot, Type::kTimeoutNow,
              Type::kPropose, Type::kReadIndexResponse});
}

FaultStep draw_fault(std::uint64_t seed, std::uint32_t number, const Mix& mix,
                     const RaftSetup& setup) {
  Draws draws = draws_of(seed, Part::kFault, number);
  const Micros election = setup.tick * static_cast<Micros>(setup.election_ticks);
  FaultStep step;
  step.number = number;
  step.at = draws.below(setup.trouble);
  if (draws.chance(mix.at_moments_percent)) {
    step.moment = static_cast<Moment>(draws.between(1, kMoments - 1));
    step.delay = draws.chance(30) ? 0 : draws.scaled(1, election);
  }
  int total = 0;
  for (const Kind& kind : mix.kinds) total += kind.weight;
  int chosen = static_cast<int>(draws.below(static_cast<std::uint64_t>(total)));
  std::size_t i = 0;
  while (chosen >= mix.kinds[i].weight) chosen -= mix.kinds[i++].weight;
  step.action = mix.kinds[i].action;
  const bool at_moment = step.moment != Moment::kNow;
  step.who = draw_who(draws, setup, at_moment);
  step.whom = draw_who(draws, setup, at_moment);
  step.lasts = draws.scaled(setup.tick / 4, 8 * election);
  switch (step.action) {
    case Action::kCutInside:
    case Action::kCutAtDisk: step.amount = draws.scaled(1, 32); break;
    case Action::kFailSync: step.amount = draws.scaled(1, 16); break;
    case Action::kClockRate:
      step.amount = one_of<std::uint64_t, 4>(draws, {50, 80, 125, 300});
      break;
    case Action::kSlowDisk: step.amount = draws.scaled(2, 200); break;
    case Action::kPartition:
      step.amount = draws.chance(40) ? 0 : draws.chance(50) ? mix.set : draw_set(draws, setup);
      break;
    case Action::kWeather:
      step.fate = one_of<Fate, 3>(draws, {Fate::kLost, Fate::kDoubled, Fate::kLate});
      step.percent = draws.scaled(1, 60);
      step.amount = draws.scaled(setup.latency_max, 4 * election);
      break;
    case Action::kClockJump:
      step.amount = draws.between(1, 3 * static_cast<std::uint64_t>(setup.election_ticks));
      break;
    case Action::kMessages:
      step.fate = one_of<Fate, 3>(draws, {Fate::kLost, Fate::kDoubled, Fate::kLate});
      step.type = draw_type(draws);
      step.amount = draws.scaled(1, 8);
      break;
    case Action::kAdd: step.who = some_node(draws, setup); break;
    case Action::kReshape:
      step.amount = draws.chance(50) ? mix.set : draw_set(draws, setup);
      step.percent = draws.below(2);
      break;
    case Action::kWipe: step.who = some_node(draws, setup); break;
    default: break;
  }
  return step;
}

// --- requests

RequestStep draw_request(std::uint64_t seed, std::uint32_t number, NodeId client, Micros at,
                         const RaftSetup& setup, std::uint64_t get_percent) {
  Draws draws = draws_of(seed, Part::kRequest, number);
  const Micros election = setup.tick * static_cast<Micros>(setup.election_ticks);
  RequestStep step;
  step.number = number;
  step.client = client;
  step.kind = draws.chance(get_percent) ? RequestStep::Kind::kGet
              : draws.chance(85)        ? RequestStep::Kind::kPut
                                        : RequestStep::Kind::kDelete;
  step.key = static_cast<int>(draws.below(static_cast<std::uint64_t>(setup.keys)));
  step.value_bytes = draws.chance(5) ? draws.scaled(64, 16'384) : 0;
  step.via = draws.chance(40) ? draws.between(1, setup.nodes) : 0;
  step.at = at;
  step.patience = draws.between(election / 2, 4 * election);
  return step;
}

}  // namespace

const char* focus_name(RaftFocus focus) { return kFocusNames[static_cast<std::size_t>(focus)]; }

std::vector<std::string> focus_names() { return {kFocusNames.begin(), kFocusNames.end()}; }

std::optional<RaftFocus> focus_named(const std::string& name) {
  const auto found = std::find(kFocusNames.begin(), kFocusNames.end(), name);
  if (found == kFocusNames.end()) return std::nullopt;
  return static_cast<RaftFocus>(found - kFocusNames.begin());
}

RaftPlan draw_raft_plan(std::uint64_t seed, const RaftSwarm& swarm) {
  RaftPlan plan;
  plan.seed = seed;
  plan.setup = draw_setup(seed, swarm);
  const Mix mix = draw_mix(seed, swarm, plan.setup);
  std::uint32_t number = 0;
  for (std::uint64_t i = 0; i < mix.faults; ++i) {
    plan.faults.push_back(draw_fault(seed, ++number, mix, plan.setup));
  }
  std::stable_sort(plan.faults.begin(), plan.faults.end(),
                   [](const FaultStep& a, const FaultStep& b) { return a.at < b.at; });

  Draws draws = draws_of(seed, Part::kRequest);
  const Micros think_mean = draws.scaled(plan.setup.tick / 4, 4 * plan.setup.tick);
  const std::uint64_t get_percent =
      swarm.focus == RaftFocus::kReads ? 60 : one_of<std::uint64_t, 3>(draws, {20, 40, 70});
  for (NodeId client = 1; client <= plan.setup.clients; ++client) {
    for (Micros at = draws.below(think_mean + 1); at < plan.setup.trouble;
         at += draws.below(2 * think_mean + 1) + 2 * plan.setup.latency_min) {
      plan.requests.push_back(draw_request(seed, ++number, client, at, plan.setup, get_percent));
    }
  }
  return plan;
}

}  // namespace pgraft::sim
