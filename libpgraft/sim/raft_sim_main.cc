// raft_sim: runs the Raft simulator from the command line.
#include <cstdio>
#include <string>

#include "libpgraft/sim/command_line.h"
#include "libpgraft/sim/raft_explorer.h"

namespace {

using namespace pgraft::sim;

constexpr char kUsage[] =
    "usage: raft_sim [OPTION...]\n"
    "Runs clusters of the production code in virtual time, each decided by one seed.\n"
    "  --seed N           run one seed\n"
    "  --seeds FROM..TO   run these\n"
    "  --for SECONDS      run seeds for so long (from --seed, or from a random one)\n"
    "                     without any of the three: until Ctrl-C\n"
    "  --jobs N           threads (default 1)\n"
    "  --nodes N          the same number of nodes in each run\n"
    "  --focus WHAT       more of elections, membership, reads or disks\n"
    "  --rule-off NAME    a negative control: without one of the rules (--rules lists them)\n"
    "  --trace            with --seed: print what happened, whatever it was\n"
    "  --no-shrink        leave the plan of a violation as it is\n"
    "  --keep-going       after a violation\n"
    "Exit status: 1 when there was a violation, 2 for a wrong option.\n";

struct Arguments {
  Seeds seeds;
  RaftExplorerOptions options;
  bool trace = false;
  bool shrink = true;
};

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += " " + name;
  return text;
}

Arguments parse(int argc, char** argv) {
  CommandLine line(argc, argv, "raft_sim", kUsage);
  Arguments a;
  SeedOptions seeds;
  while (line.next()) {
    const std::string& option = line.option();
    if (seeds.take(&line)) continue;
    if (option == "--rules") {
      for (const std::string& name : control_names()) std::printf("%s\n", name.c_str());
      std::exit(0);
    } else if (option == "--nodes") {
      a.options.swarm.nodes = line.number();
      if (*a.options.swarm.nodes < 1 || *a.options.swarm.nodes > kMaxSimulatedNodes) {
        line.refuse("--nodes is 1 to " + std::to_string(kMaxSimulatedNodes));
      }
    } else if (option == "--focus") {
      const std::string name = line.value();
      const auto focus = focus_named(name);
      if (!focus) line.refuse("no focus " + name + "; there are:" + list(focus_names()));
      a.options.swarm.focus = *focus;
    } else if (option == "--rule-off") {
      const std::string name = line.value();
      if (!switch_off(name, &a.options.controls)) {
        line.refuse("no rule " + name + "; there are:" + list(control_names()));
      }
    } else if (option == "--trace") {
      a.trace = true;
    } else if (option == "--no-shrink") {
      a.shrink = false;
    } else {
      line.refuse();
    }
  }
  a.seeds = seeds.seeds();
  if (a.trace && a.seeds.first != a.seeds.last) line.refuse("--trace is for one seed");
  return a;
}

void show(const Arguments& a, const RaftRun& run) {
  if (run.violation && a.shrink) {
    std::printf("seed %llu: %s; the plan is being shrunk ...\n",
                static_cast<unsigned long long>(run.seed), run.violation->kind.c_str());
    std::fflush(stdout);
  }
  const int runs_max = a.shrink ? kShrinkRunsMax : 0;
  std::printf("%s\n", explain(run, a.options, runs_max, a.seeds.stop).c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments a = parse(argc, argv);
  a.seeds.stop = stop_at_signals();
  if (a.trace) show(a, run_raft_seed(a.seeds.first, a.options));
  const RaftTotals totals = run_raft_seeds(a.seeds, a.options, [&](const RaftRun& run) {
    if (!a.trace) show(a, run);
  });
  std::printf("from seed %llu: %s\n", static_cast<unsigned long long>(a.seeds.first),
              describe(totals).c_str());
  return totals.violated.empty() ? 0 : 1;
}
