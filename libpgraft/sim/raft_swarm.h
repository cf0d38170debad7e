// Draws the plan of a run from its seed. Each seed has its own mix: which kinds of faults there are
// at all, how many, how long, how the cluster is made (Groce et al., "Swarm testing", 2012): a run
// with everything in it seldom gets far.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libpgraft/sim/raft_plan.h"

namespace pgraft::sim {

// What a plan is to have more of than others.
enum class RaftFocus : std::uint8_t { kNone, kElections, kMembership, kReads, kDisks };
std::optional<RaftFocus> focus_named(const std::string& name);
const char* focus_name(RaftFocus focus);
std::vector<std::string> focus_names();  // in the order of the enumeration

struct RaftSwarm {
  std::optional<NodeId> nodes;
  RaftFocus focus = RaftFocus::kNone;
};

RaftPlan draw_raft_plan(std::uint64_t seed, const RaftSwarm& swarm = {});

}  // namespace pgraft::sim
