#include "libpgraft/sim/raft_explorer.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace pgraft::sim {
namespace {

constexpr std::size_t kReportedLinesMax = 400;
constexpr std::size_t kRecoveryLinesMax = 60;

// Comes again and again, and says little.
bool is_noise(const TraceLine& line) {
  return line.text.find("heartbeat") != std::string::npos ||
         line.text.find(" 0 entries ") != std::string::npos;
}

std::string rounded(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

}  // namespace

RaftRun run_raft_seed(std::uint64_t seed, const RaftExplorerOptions& options, bool traced) {
  return run_raft_plan(draw_raft_plan(seed, options.swarm), options.controls, traced);
}

// --- many seeds

RaftTotals run_raft_seeds(const Seeds& seeds, const RaftExplorerOptions& options,
                          const std::function<void(const RaftRun&)>& on_violation) {
  RaftTotals totals;
  const auto add = [&](const RaftRun& run) {
    ++totals.seeds;
    totals.recovered += run.recovered ? 1 : 0;
    totals.unrecoverable += run.unrecoverable ? 1 : 0;
    totals.histories_unknown += run.history_unknown ? 1 : 0;
    totals.counts += run.counts;
    if (!run.violation) return true;
    totals.violated.push_back(run.seed);
    if (on_violation && (seeds.keep_going || totals.violated.size() == 1)) on_violation(run);
    return false;
  };
  totals.seconds = run_seeds(seeds, [&](std::uint64_t seed) {
    return [&add, run = run_raft_seed(seed, options)] { return add(run); };
  });
  std::sort(totals.violated.begin(), totals.violated.end());
  return totals;
}

RaftTotals& RaftTotals::operator+=(const RaftTotals& other) {
  seeds += other.seeds;
  recovered += other.recovered;
  unrecoverable += other.unrecoverable;
  histories_unknown += other.histories_unknown;
  violated.insert(violated.end(), other.violated.begin(), other.violated.end());
  counts += other.counts;
  seconds += other.seconds;
  return *this;
}

std::string describe(const RaftTotals& t) {
  const double seconds = std::max(t.seconds, 1e-6);
  return std::to_string(t.seeds) + " seeds, " + std::to_string(t.violated.size()) +
         " with a violation; " + std::to_string(t.recovered) + " recovered, " +
         std::to_string(t.unrecoverable) + " had nothing left to recover from, " +
         std::to_string(t.histories_unknown) + " histories too hard to check\n" +
         describe(t.counts) + "\n" + rounded(t.seconds, 1) +
         " s: " + rounded(static_cast<double>(t.seeds) / seconds, 1) + " seeds/s, " +
         rounded(static_cast<double>(t.counts.node_steps) / seconds, 0) + " node-steps/s";
}

// --- for the reader

std::string replay_command(std::uint64_t seed, const RaftExplorerOptions& options) {
  std::string command = "raft_sim --seed " + std::to_string(seed);
  if (options.swarm.nodes) command += " --nodes " + std::to_string(*options.swarm.nodes);
  if (options.swarm.focus != RaftFocus::kNone) {
    command += std::string(" --focus ") + focus_name(options.swarm.focus);
  }
  for (const std::string& name : switched_off(options.controls)) command += " --rule-off " + name;
  return command;
}

std::string report(const RaftPlan& plan, const RaftRun& run) {
  std::string text = describe(plan);
  std::vector<const TraceLine*> lines;
  std::size_t after_trouble = 0;
  for (const TraceLine& line : run.trace) {
    if (is_noise(line)) continue;
    // What does not recover tries the same again and again.
    if (line.at >= plan.setup.trouble && ++after_trouble > kRecoveryLinesMax) break;
    lines.push_back(&line);
  }
  // Where there is too much, the end tells most.
  const std::size_t left_out =
      lines.size() > kReportedLinesMax ? lines.size() - kReportedLinesMax : 0;
  if (left_out != 0) {
    text += "  (" + std::to_string(left_out) + " events before these are left out)\n";
  }
  for (std::size_t i = left_out; i < lines.size(); ++i) text += describe(*lines[i]) + "\n";
  if (!run.violation) return text;
  text += "violation of " + run.violation->kind + " at " + std::to_string(run.violated_at / 1000) +
          " ms";
  if (run.violation->node != 0) text += ", node " + std::to_string(run.violation->node);
  return text + ": " + run.violation->what + "\n";
}

std::string explain(const RaftRun& run, const RaftExplorerOptions& options, int shrink_runs_max,
                    const std::atomic<bool>* stop) {
  const RaftPlan plan = draw_raft_plan(run.seed, options.swarm);
  if (!run.violation) return report(plan, run_raft_plan(plan, options.controls, true));
  const ShrunkRaftPlan least =
      shrink_raft_plan(plan, run.violation->kind, options.controls, shrink_runs_max, stop);
  std::string text = report(least.plan, least.run);
  if (least.runs != 0) {
    text += std::to_string(least.plan.size()) + " of " + std::to_string(plan.size()) +
            " steps are left after " + std::to_string(least.runs) + " runs\n";
  }
  return text + "replay: " + replay_command(run.seed, options);
}

}  // namespace pgraft::sim
