// A seeded random walk over a cluster: every kind of fault and delay, and then the test that it
// works again.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "libpgraft/sim/cluster.h"

namespace pgraft::sim {

class RandomWalk {
 public:
  explicit RandomWalk(std::uint64_t seed, const failover::Switches& rules = {});

  // Phase 1, safety: `steps` random steps with faults. False: an invariant was violated.
  bool run(int steps);
  // Phase 2, liveness: faults end, everything is healed; the cluster must take and acknowledge a
  // write, and every member must have it, within `ticks`.
  bool recovers(int ticks);

  Cluster& cluster() { return cluster_; }
  // It could not recover, and no rule could have made it.
  bool only_copy_gone() const { return only_copy_gone_; }
  // The seed, the last events and the state of every member.
  std::string report() const;

 private:
  struct Action {
    const char* name;
    int weight;
    void (RandomWalk::*act)(NodeId);
  };
  static const std::vector<Action>& actions();
  static ClusterOptions draw(std::uint64_t seed, const failover::Switches& rules,
                             std::mt19937_64& rng);
  std::uint64_t below(std::uint64_t n) { return rng_() % n; }
  bool chance(int percent) { return below(100) < static_cast<std::uint64_t>(percent); }
  NodeId any();
  bool is_certain(NodeId leader) const;
  bool too_few_with_data() const;

  void deliver(NodeId id);
  void tick(NodeId id);
  void tick_all(NodeId id);
  void lose(NodeId id);
  void duplicate(NodeId id);
  void crash(NodeId id);
  void crash_worker(NodeId id);
  void start(NodeId id);
  void partition(NodeId id);
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
  bool only_copy_gone_ = false;
  int loss_percent_ = 0;
  int fault_percent_ = 100;  // of the faults that are drawn, so many happen
};

}  // namespace pgraft::sim
