// soak: both simulators in turn over ever new seeds, until a violation or the end that was asked
// for.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#include "libpgraft/sim/command_line.h"
#include "libpgraft/sim/raft_explorer.h"
#include "libpgraft/sim/walk_explorer.h"

namespace {

using namespace pgraft::sim;

constexpr char kUsage[] =
    "usage: soak [SECONDS] [OPTION...]\n"
    "Runs the Raft simulator, without a focus and with each of them, and the failover simulator "
    "in\n"
    "turn over ever new seeds, for SECONDS or until Ctrl-C. A violation ends it: the plan is\n"
    "shrunk and printed, with the command that replays it.\n"
    "  --seed N           begin there (default: a random one)\n"
    "  --jobs N           threads (default 1)\n"
    "  --turn N           seconds until the next one's turn (default 10)\n"
    "  --rule-off NAME    does it find a missing rule? (raft_sim --rules lists them)\n"
    "Exit status: 1 when there was a violation, 2 for a wrong option.\n";

struct Arguments {
  Seeds seeds;       // `seconds`: in all
  double turn = 10;  // seconds
  RaftControls controls;
};

Arguments parse(int argc, char** argv) {
  CommandLine line(argc, argv, "soak", kUsage);
  Arguments a;
  a.seeds.first = random_seed();
  while (line.next()) {
    if (line.option() == "--seed") {
      a.seeds.first = line.number();
    } else if (line.option() == "--jobs") {
      a.seeds.threads = static_cast<unsigned>(std::clamp<std::uint64_t>(line.number(), 1, 256));
    } else if (line.option() == "--turn") {
      a.turn = static_cast<double>(std::max<std::uint64_t>(line.number(), 1));
    } else if (line.option() == "--rule-off") {
      const std::string name = line.value();
      if (!switch_off(name, &a.controls)) line.refuse("no rule " + name);
    } else if (line.option().starts_with("-")) {
      line.refuse();
    } else {
      a.seeds.seconds = static_cast<double>(line.number(line.option()));
    }
  }
  return a;
}

class Soak {
 public:
  explicit Soak(const Arguments& arguments)
      : arguments_(arguments),
        raft_next_(arguments.seeds.first),
        walks_next_(arguments.seeds.first),
        stop_(stop_at_signals()) {}

  // The exit status.
  int run() {
    std::printf("from seed %llu\n", static_cast<unsigned long long>(raft_next_));
    const std::vector<std::string> focuses = focus_names();
    for (std::size_t turn = 0; !is_over(); turn = (turn + 1) % (focuses.size() + 1)) {
      if (turn < focuses.size()) {
        run_raft(focuses[turn]);
      } else {
        run_walks();
      }
    }
    std::printf("%s\nfailover: %s\n", describe(raft_).c_str(), describe(walks_).c_str());
    return violations() == 0 ? 0 : 1;
  }

 private:
  double elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  double left() const { return arguments_.seeds.seconds - elapsed(); }
  bool is_over() const {
    return *stop_ || violations() != 0 || (arguments_.seeds.seconds > 0 && left() <= 0);
  }
  std::size_t violations() const { return raft_.violated.size() + walks_.violated.size(); }

  Seeds next_turn(std::uint64_t first) const {
    Seeds seeds;
    seeds.first = first;
    seeds.seconds =
        arguments_.seeds.seconds > 0 ? std::min(arguments_.turn, left()) : arguments_.turn;
    seeds.seconds = std::max(seeds.seconds, 0.001);  // 0 is no limit
    seeds.threads = arguments_.seeds.threads;
    seeds.stop = stop_;
    return seeds;
  }

  void run_raft(const std::string& focus) {
    RaftExplorerOptions options;
    options.controls = arguments_.controls;
    options.swarm.focus = *focus_named(focus);
    const RaftTotals totals =
        run_raft_seeds(next_turn(raft_next_), options, [&](const RaftRun& run) {
          std::printf("violation of %s: %s\nreplay: %s\nthe plan is being shrunk ...\n",
                      run.violation->kind.c_str(), run.violation->what.c_str(),
                      replay_command(run.seed, options).c_str());
          std::fflush(stdout);
          std::printf("%s\n", explain(run, options, kShrinkRunsMax, stop_).c_str());
        });
    raft_next_ += totals.seeds;
    raft_ += totals;
    const double rate =
        static_cast<double>(totals.counts.node_steps) / std::max(totals.seconds, 1e-6);
    progress("raft, focus " + focus + ": " + std::to_string(totals.seeds) + " seeds, " +
             std::to_string(static_cast<std::uint64_t>(rate)) + " node-steps/s");
  }

  void run_walks() {
    const WalkTotals totals = pgraft::sim::run_walks(
        next_turn(walks_next_), {},
        [](const std::string& report) { std::printf("%s\n", report.c_str()); });
    walks_next_ += totals.walks;
    walks_ += totals;
    progress("failover: " + std::to_string(totals.walks) + " walks");
  }

  void progress(const std::string& turn) const {
    std::printf("%7.0f s  %s; in all %llu seeds, %llu walks, %zu violations\n", elapsed(),
                turn.c_str(), static_cast<unsigned long long>(raft_.seeds),
                static_cast<unsigned long long>(walks_.walks), violations());
    std::fflush(stdout);
  }

  const Arguments arguments_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::uint64_t raft_next_, walks_next_;
  const std::atomic<bool>* stop_;
  RaftTotals raft_;
  WalkTotals walks_;
};

}  // namespace

int main(int argc, char** argv) { return Soak(parse(argc, argv)).run(); }
