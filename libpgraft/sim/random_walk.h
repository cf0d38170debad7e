// A seeded random walk over a cluster, and then the test that it works again.
//
// Each seed draws its own mix of faults and delays, and how often a fault follows right after a
// moment at which there is most to break: a change of term, role, server or configuration.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "libpgraft/sim/cluster.h"
#include "libpgraft/sim/walk_coverage.h"

namespace pgraft::sim {

class RandomWalk {
 public:
  explicit RandomWalk(std::uint64_t seed, const FailoverControls& controls = {});

  // Phase 1, safety: `steps` random steps with faults. False: an invariant was violated.
  bool run(int steps);
  // Phase 2, liveness: faults end, everything is healed; the cluster must take and acknowledge a
  // write, and every member must have it, within `ticks`.
  bool recovers(int ticks);

  // Why it did not recover by itself, and was not to.
  enum class Excuse : std::uint8_t {
    kNone,
    // No voter has a WAL of which a majority can say that nothing acknowledged is missing
    // (rule 4, PROTOCOL.md, M8g).
    kNobodyMayLead,
  };
  Excuse excused() const { return excuse_; }
  const Coverage& coverage() const { return coverage_.counts(); }
  Cluster& cluster() { return cluster_; }
  // The seed, the last events and the state of every member.
  std::string report() const;

 private:
  enum class Kind : std::uint8_t { kWorld, kStep, kFault };
  struct Action {
    const char* name;
    int weight;
    Kind kind;
    void (RandomWalk::*act)(NodeId);
  };
  // Of a node, that can stand still.
  enum class Part : std::uint8_t { kExecute, kReplay, kPromotion, kStream, kTake, kReload, kClock };
  static constexpr int kParts = 7;
  struct Due {
    std::uint64_t step = 0;
    const Action* action = nullptr;
    NodeId id = 0;
  };

  static const std::vector<Action>& actions();
  static ClusterOptions draw(std::uint64_t seed, const FailoverControls& controls,
                             std::mt19937_64& rng);
  void draw_mix();
  const Action& draw_action(bool fault);
  bool has_faults() const;
  void strike(NodeId where);
  void let_go();
  bool holds(NodeId id, Part part) const { return held_.contains({id, part}); }
  std::uint64_t below(std::uint64_t n) { return rng_() % n; }
  bool chance(int percent) { return below(100) < static_cast<std::uint64_t>(percent); }
  NodeId any();
  bool is_certain(NodeId leader) const;
  void end_faults();
  bool has_all() const;
  Excuse excuse() const;

  void deliver(NodeId id);
  void tick(NodeId id);
  void tick_all(NodeId id);
  void lose(NodeId id);
  void duplicate(NodeId id);
  void crash(NodeId id);
  void crash_inside(NodeId id);
  void crash_at_change(NodeId id);
  void crash_worker(NodeId id);
  void campaign(NodeId id);
  void hold(NodeId id);
  void reclone(NodeId id);
  void take_back(NodeId id);
  void remove_wal(NodeId id);
  void start(NodeId id);
  void partition(NodeId id);
  void island(NodeId id);
  void heal(NodeId id);
  void work(NodeId id);
  void execute(NodeId id);
  void replay(NodeId id);
  void signal(NodeId id);
  void finish(NodeId id);
  void connect(NodeId id);
  void receive(NodeId id);
  void flush(NodeId id);
  void reply(NodeId id);
  void take(NodeId id);
  void reload(NodeId id);
  void reap(NodeId id);
  void disconnect(NodeId id);
  void write(NodeId id);
  void rejoin(NodeId id);
  void membership(NodeId id);
  void transfer(NodeId id);
  void reset(NodeId id);
  void write_log(NodeId id);
  void hold_log(NodeId id);

  std::uint64_t seed_;
  std::mt19937_64 rng_;
  Cluster cluster_;
  WalkCoverage coverage_;
  Excuse excuse_ = Excuse::kNone;
  std::uint64_t step_ = 0;
  std::vector<int> mix_;  // weights of actions()
  int total_ = 0;
  std::string mix_text_;
  int loss_percent_ = 0;
  int fault_percent_ = 100;  // of the faults that are drawn, so many happen
  int moment_percent_ = 0;   // of the moments, so many are followed by a fault
  std::vector<Due> due_;
  std::map<std::pair<NodeId, Part>, std::uint64_t> held_;  // until that step
};

}  // namespace pgraft::sim
