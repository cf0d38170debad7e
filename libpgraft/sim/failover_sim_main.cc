// failover_sim: random walks of the failover simulator from the command line.
#include <cstdio>

#include "libpgraft/sim/command_line.h"
#include "libpgraft/sim/walk_explorer.h"

namespace {

constexpr char kUsage[] =
    "usage: failover_sim [OPTION...]\n"
    "Random walks over clusters of the failover controller and a model of PostgreSQL, each "
    "decided\n"
    "by one seed.\n"
    "  --seed N           run one seed\n"
    "  --seeds FROM..TO   run these\n"
    "  --for SECONDS      run seeds for so long (from --seed, or from a random one)\n"
    "                     without any of the three: until Ctrl-C\n"
    "  --jobs N           threads (default 1)\n"
    "  --keep-going       after a violation\n"
    "  --coverage         print what the walks came through\n"
    "  --rule-off NAME    a negative control: without one of the rules (--rules lists them)\n"
    "Exit status: 1 when there was a violation, 2 for a wrong option.\n";

}  // namespace

int main(int argc, char** argv) {
  using namespace pgraft::sim;
  CommandLine line(argc, argv, "failover_sim", kUsage);
  SeedOptions options;
  FailoverControls controls;
  bool coverage = false;
  while (line.next()) {
    if (options.take(&line)) continue;
    if (line.option() == "--rules") {
      for (const std::string& name : failover_control_names()) std::printf("%s\n", name.c_str());
      return 0;
    }
    if (line.option() == "--coverage") {
      coverage = true;
      continue;
    }
    if (line.option() != "--rule-off") line.refuse();
    const std::string name = line.value();
    if (!switch_off(name, &controls)) line.refuse("no rule " + name + "; --rules lists them");
  }
  Seeds seeds = options.seeds();
  seeds.stop = stop_at_signals();
  const WalkTotals totals = run_walks(seeds, controls, [](const std::string& report) {
    std::printf("%s\n", report.c_str());
    std::fflush(stdout);
  });
  std::printf("from seed %llu: %s\n", static_cast<unsigned long long>(seeds.first),
              describe(totals).c_str());
  if (coverage) std::printf("%s", describe_coverage(totals).c_str());
  return totals.violated.empty() ? 0 : 1;
}
