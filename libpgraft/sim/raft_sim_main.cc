// raft_sim: runs the Raft simulator from the command line.
#include <signal.h>

#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <string_view>

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
    "  --trace            print what happened, whatever it was\n"
    "  --no-shrink        leave the plan of a violation as it is\n"
    "  --keep-going       after a violation\n"
    "Exit status: 1 when there was a violation, 2 for a wrong option.\n";

std::atomic<bool> stop{false};

struct Arguments {
  RaftSeeds seeds;
  RaftExplorerOptions options;
  bool trace = false;
  bool shrink = true;
};

[[noreturn]] void refuse(const std::string& why) {
  std::fprintf(stderr, "raft_sim: %s\n%s", why.c_str(), kUsage);
  std::exit(2);
}

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
    refuse("not a number: " + std::string(text));
  }
  return value;
}

void set_range(std::string_view text, RaftSeeds* seeds) {
  const std::size_t dots = text.find("..");
  if (dots == std::string_view::npos) refuse("expected FROM..TO, not " + std::string(text));
  seeds->first = number(text.substr(0, dots));
  seeds->last = number(text.substr(dots + 2));
  if (seeds->first > seeds->last) refuse("no seeds in " + std::string(text));
}

void set_controls(const std::string& name, RaftControls* controls) {
  if (switch_off(name, controls)) return;
  std::string all;
  for (const std::string& known : control_names()) all += " " + known;
  refuse("no rule " + name + "; there are:" + all);
}

Arguments parse(int argc, char** argv) {
  Arguments a;
  std::optional<std::uint64_t> seed;
  bool range = false;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&]() -> std::string {
      if (++i == argc) refuse(option + " needs a value");
      return argv[i];
    };
    if (option == "--help") {
      std::printf("%s", kUsage);
      std::exit(0);
    } else if (option == "--rules") {
      for (const std::string& name : control_names()) std::printf("%s\n", name.c_str());
      std::exit(0);
    } else if (option == "--seed") {
      seed = number(value());
    } else if (option == "--seeds") {
      set_range(value(), &a.seeds);
      range = true;
    } else if (option == "--for") {
      a.seeds.seconds = static_cast<double>(number(value()));
    } else if (option == "--jobs") {
      a.seeds.threads = static_cast<unsigned>(std::clamp<std::uint64_t>(number(value()), 1, 256));
    } else if (option == "--nodes") {
      a.options.swarm.nodes = number(value());
      if (*a.options.swarm.nodes < 1 || *a.options.swarm.nodes > kMaxSimulatedNodes) {
        refuse("--nodes is 1 to " + std::to_string(kMaxSimulatedNodes));
      }
    } else if (option == "--focus") {
      const auto focus = focus_named(value());
      if (!focus) refuse(std::string("no focus ") + argv[i]);
      a.options.swarm.focus = *focus;
    } else if (option == "--rule-off") {
      set_controls(value(), &a.options.controls);
    } else if (option == "--trace") {
      a.trace = true;
    } else if (option == "--no-shrink") {
      a.shrink = false;
    } else if (option == "--keep-going") {
      a.seeds.keep_going = true;
    } else {
      refuse("no option " + option);
    }
  }
  if (range) return a;
  // Seeds that are easy to copy.
  a.seeds.first = seed ? *seed : std::random_device()() % 1'000'000'000 * 1000ull + 1;
  if (seed && a.seeds.seconds == 0) a.seeds.last = *seed;
  a.seeds.stop = &stop;
  return a;
}

void show(const Arguments& a, const RaftRun& run) {
  RaftPlan plan = draw_raft_plan(run.seed, a.options.swarm);
  RaftRun shown;
  if (run.violation && a.shrink) {
    std::printf("seed %llu: %s; %zu steps are being shrunk ...\n",
                static_cast<unsigned long long>(run.seed), run.violation->kind.c_str(),
                plan.size());
    std::fflush(stdout);
    ShrunkRaftPlan shrunk = shrink_raft_plan(plan, run.violation->kind, a.options.controls);
    std::printf("%zu are left after %d runs\n", shrunk.plan.size(), shrunk.runs);
    plan = std::move(shrunk.plan);
    shown = std::move(shrunk.run);
  } else {
    shown = run_raft_plan(plan, a.options.controls, true);
  }
  std::printf("%s", report(plan, shown).c_str());
  if (run.violation) {
    std::printf("replay: %s\n", replay_command(run.seed, a.options).c_str());
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments a = parse(argc, argv);
  a.seeds.stop = &stop;
  struct sigaction action = {};
  action.sa_handler = [](int) { stop = true; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);

  if (a.trace && a.seeds.first == a.seeds.last) {
    show(a, run_raft_seed(a.seeds.first, a.options));
  }
  const RaftTotals totals = run_raft_seeds(a.seeds, a.options, [&](const RaftRun& run) {
    if (!a.trace || a.seeds.first != a.seeds.last) show(a, run);
  });
  std::printf("from seed %llu: %s\n", static_cast<unsigned long long>(a.seeds.first),
              describe(totals).c_str());
  return totals.violated.empty() ? 0 : 1;
}
