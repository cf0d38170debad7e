// Runs of the Raft simulator: by seed, by many seeds, cut down to what a violation needs, and told
// to a reader.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "libpgraft/sim/raft_run.h"
#include "libpgraft/sim/raft_swarm.h"

namespace pgraft::sim {

struct RaftExplorerOptions {
  RaftSwarm swarm;
  RaftControls controls;
};

// The same seed and options give the same run.
RaftRun run_raft_seed(std::uint64_t seed, const RaftExplorerOptions& options = {},
                      bool traced = false);

struct RaftSeeds {
  std::uint64_t first = 1;
  std::uint64_t last = UINT64_MAX;  // included
  double seconds = 0;               // of real time, after which no seed is begun; 0: no limit
  unsigned threads = 1;
  bool keep_going = false;                  // after a violation
  const std::atomic<bool>* stop = nullptr;  // no seed is begun once it is set
};
struct RaftTotals {
  std::uint64_t seeds = 0;
  std::uint64_t recovered = 0, unrecoverable = 0, histories_unknown = 0;
  std::vector<std::uint64_t> violated;  // seeds, ascending
  RaftCounts counts;
  double seconds = 0;
};
// `on_violation` is called by whichever thread has run it, for one at a time.
RaftTotals run_raft_seeds(const RaftSeeds& seeds, const RaftExplorerOptions& options,
                          const std::function<void(const RaftRun&)>& on_violation = {});
std::string describe(const RaftTotals& totals);

struct ShrunkRaftPlan {
  RaftPlan plan;
  RaftRun run;   // of it, traced
  int runs = 0;  // that it took
};
// The least of `plan` that still ends in a violation of that kind: fewer nodes, a simpler setup,
// less time, and no step that can be left out. `runs_max` bounds the search; what it has found by
// then is returned.
ShrunkRaftPlan shrink_raft_plan(const RaftPlan& plan, const std::string& kind,
                                const RaftControls& controls = {}, int runs_max = 2000);

// The command that makes the run again.
std::string replay_command(std::uint64_t seed, const RaftExplorerOptions& options);
// The plan, the trace without its noise, and what was violated.
std::string report(const RaftPlan& plan, const RaftRun& run);

}  // namespace pgraft::sim
