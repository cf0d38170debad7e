// What a run of the Raft simulator is asked for, and what it gives.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libpgraft/raft/raw_node.h"
#include "libpgraft/sim/event_queue.h"
#include "libpgraft/sim/linearizability.h"
#include "libpgraft/sim/raft_invariants.h"
#include "libpgraft/sim/raft_plan.h"

namespace pgraft::sim {

// What a negative control switches off. A run with any of it is expected to find a violation.
struct RaftControls {
  raft::Switches rules;
  bool incarnations = true;       // rule 10
  bool honest_disks = true;       // a sync that says it is done is
  bool write_then_answer = true;  // votes and acknowledgements leave after their write
};
// By the names of the members above ("one_vote_a_term", "honest_disks"); false: there is no such.
bool switch_off(const std::string& name, RaftControls* controls);
std::vector<std::string> control_names();
std::vector<std::string> switched_off(const RaftControls& controls);

struct RaftCounts {
  std::uint64_t node_steps = 0;  // ticks, messages, disk completions, requests that a node took
  std::uint64_t messages = 0, message_bytes = 0, messages_lost = 0;
  std::uint64_t elections = 0;  // terms that had a leader
  std::uint64_t committed = 0;  // entries
  std::uint64_t faults = 0;     // steps of the plan that were carried out
  std::uint64_t starts = 0, power_cuts = 0;
  std::uint64_t snapshots_sent = 0, membership_changes = 0;
  std::uint64_t requests = 0, requests_done = 0, requests_unknown = 0, requests_refused = 0;
  Micros trouble = 0, recovery = 0;  // how long each phase lasted

  RaftCounts& operator+=(const RaftCounts& other);
};
std::string describe(const RaftCounts& counts);

struct TraceLine {
  Micros at = 0;
  NodeId node = 0;  // 0: the world
  std::string text;
};
std::string describe(const TraceLine& line);

struct RaftRun {
  std::uint64_t seed = 0;
  // Kinds besides those of the invariants: "check" (a PGRAFT_CHECK fired), "start" (a node can't
  // start from its disk), "node" (it ends with an error that is not its disk's), "codec",
  // "liveness", "linearizability".
  std::optional<RaftViolation> violation;
  Micros violated_at = 0;
  std::uint64_t events = 0;  // that happened; a violation was at the last
  bool recovered = false;
  bool unrecoverable = false;    // a majority's disks are gone: nothing to recover from
  bool history_unknown = false;  // checking it would have taken too long
  RaftCounts counts;
  std::uint64_t hash = 0;  // of all that happened
  std::vector<ClientOperation> history;
  std::vector<TraceLine> trace;  // when asked for
};

RaftRun run_raft_plan(const RaftPlan& plan, const RaftControls& controls = {}, bool traced = false);

}  // namespace pgraft::sim
