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
#include "libpgraft/sim/seeds.h"

namespace pgraft::sim {

struct RaftExplorerOptions {
  RaftSwarm swarm;
  RaftControls controls;
};

// The same seed and options give the same run.
RaftRun run_raft_seed(std::uint64_t seed, const RaftExplorerOptions& options = {},
                      bool traced = false);

struct RaftTotals {
  std::uint64_t seeds = 0;
  std::uint64_t recovered = 0, unrecoverable = 0, histories_unknown = 0;
  std::vector<std::uint64_t> violated;  // seeds, ascending
  RaftCounts counts;
  double seconds = 0;

  RaftTotals& operator+=(const RaftTotals& other);
};
// `on_violation` is called by whichever thread has run it, for one at a time; for the first only,
// unless the seeds go on after it.
RaftTotals run_raft_seeds(const Seeds& seeds, const RaftExplorerOptions& options,
                          const std::function<void(const RaftRun&)>& on_violation = {});
std::string describe(const RaftTotals& totals);

inline constexpr int kShrinkRunsMax = 2000;
struct ShrunkRaftPlan {
  RaftPlan plan;
  RaftRun run;   // of it, traced
  int runs = 0;  // that it took
};
// The least of `plan` that still ends in a violation of that kind: fewer nodes, a simpler setup,
// less time, and no step that can be left out. `runs_max` and `stop` bound the search; what it has
// found by then is returned.
ShrunkRaftPlan shrink_raft_plan(const RaftPlan& plan, const std::string& kind,
                                const RaftControls& controls = {}, int runs_max = kShrinkRunsMax,
                                const std::atomic<bool>* stop = nullptr);

// The command that makes the run again.
std::string replay_command(std::uint64_t seed, const RaftExplorerOptions& options);
// The plan, the trace without its noise, and what was violated.
std::string report(const RaftPlan& plan, const RaftRun& run);
// The report of a seed that was run; of a violation, shrunk by at most so many runs, and how to
// replay it.
std::string explain(const RaftRun& run, const RaftExplorerOptions& options,
                    int shrink_runs_max = kShrinkRunsMax, const std::atomic<bool>* stop = nullptr);

}  // namespace pgraft::sim
