// Delta debugging of plans (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing
// input", 2002).
#include <algorithm>
#include <set>
#include <vector>

#include "libpgraft/sim/raft_explorer.h"

namespace pgraft::sim {
namespace {

using Numbers = std::vector<std::uint32_t>;

class Shrinker {
 public:
  Shrinker(RaftPlan plan, std::string kind, const RaftControls& controls, int runs_max,
           const std::atomic<bool>* stop)
      : plan_(std::move(plan)),
        kind_(std::move(kind)),
        controls_(controls),
        runs_left_(runs_max),
        stop_(stop) {}

  RaftPlan shrink() {
    fewer_nodes();
    less_time();
    fewer_steps();
    simpler_setup();
    fewer_nodes();
    less_time();
    fewer_steps();
    return plan_;
  }
  int runs() const { return runs_; }

 private:
  // Takes `plan` when the violation is still there.
  bool try_plan(const RaftPlan& plan) {
    if (stop_ != nullptr && *stop_) runs_left_ = 0;
    if (runs_left_ == 0) return false;
    --runs_left_;
    ++runs_;
    const RaftRun run = run_raft_plan(plan, controls_);
    if (!run.violation || run.violation->kind != kind_) return false;
    plan_ = plan;
    violated_at_ = run.violated_at;
    return true;
  }

  void fewer_nodes() {
    for (NodeId nodes = 1; nodes < plan_.setup.nodes; ++nodes) {
      RaftPlan plan = plan_;
      plan.setup.nodes = nodes;
      plan.setup.voters = std::min(plan.setup.voters, nodes);
      if (try_plan(plan)) return;
    }
  }

  // What comes after the violation is not needed; of what is needed, maybe less will do.
  void less_time() {
    if (violated_at_ != 0 && violated_at_ < plan_.setup.trouble) {
      RaftPlan plan = plan_;
      plan.setup.trouble = violated_at_ + 1;
      try_plan(plan);
    }
    while (plan_.setup.trouble > 0) {
      RaftPlan plan = plan_;
      plan.setup.trouble = plan.setup.trouble * 3 / 4;
      if (!try_plan(plan)) return;
    }
  }

  void simpler_setup() {
    const RaftSetup plain;
    const auto with = [this](auto change) {
      RaftPlan plan = plan_;
      change(plan.setup);
      try_plan(plan);
    };
    with([](RaftSetup& s) { s.voters = s.nodes; });
    with([](RaftSetup& s) { s.ordered = true; });
    with([](RaftSetup& s) { s.pre_vote = s.check_quorum = true; });
    with([&](RaftSetup& s) { s.wake_max = 0; });
    with([&](RaftSetup& s) { s.snapshot_every = 10'000; });
    with([&](RaftSetup& s) { s.max_size_per_msg = plain.max_size_per_msg; });
    with([&](RaftSetup& s) { s.max_inflight_msgs = plain.max_inflight_msgs; });
    with([](RaftSetup& s) { s.latency_max = s.latency_min; });
    with([](RaftSetup& s) { s.disk_max = s.disk_min; });
    with([](RaftSetup& s) { s.keys = 1; });
  }

  void fewer_steps() {
    const std::set<std::uint32_t> all = plan_.numbers();
    Numbers left(all.begin(), all.end());
    for (std::size_t parts = 2; !left.empty() && runs_left_ > 0;) {
      if (without_a_part(&left, parts)) {
        parts = std::max<std::size_t>(parts - 1, 2);
      } else if (parts >= left.size()) {
        return;
      } else {
        parts = std::min(parts * 2, left.size());
      }
    }
  }

  bool without_a_part(Numbers* left, std::size_t parts) {
    const std::size_t size = (left->size() + parts - 1) / parts;
    for (std::size_t from = 0; from < left->size(); from += size) {
      const std::size_t to = std::min(from + size, left->size());
      Numbers rest(left->begin(), left->begin() + static_cast<std::ptrdiff_t>(from));
      rest.insert(rest.end(), left->begin() + static_cast<std::ptrdiff_t>(to), left->end());
      if (!try_plan(plan_.only({rest.begin(), rest.end()}))) continue;
      *left = std::move(rest);
      return true;
    }
    return false;
  }

  RaftPlan plan_;
  const std::string kind_;
  const RaftControls controls_;
  int runs_left_;
  const std::atomic<bool>* stop_;
  int runs_ = 0;
  Micros violated_at_ = 0;
};

}  // namespace

ShrunkRaftPlan shrink_raft_plan(const RaftPlan& plan, const std::string& kind,
                                const RaftControls& controls, int runs_max,
                                const std::atomic<bool>* stop) {
  Shrinker shrinker(plan, kind, controls, runs_max, stop);
  ShrunkRaftPlan shrunk;
  shrunk.plan = shrinker.shrink();
  shrunk.runs = shrinker.runs();
  shrunk.run = run_raft_plan(shrunk.plan, controls, true);
  return shrunk;
}

}  // namespace pgraft::sim
