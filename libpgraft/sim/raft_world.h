// One run: the simulated cluster with its network, clients and faults, in virtual time. What
// happens is decided by the plan; the invariants are checked after every event.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libpgraft/sim/draws.h"
#include "libpgraft/sim/event_queue.h"
#include "libpgraft/sim/raft_clients.h"
#include "libpgraft/sim/raft_faults.h"
#include "libpgraft/sim/raft_invariants.h"
#include "libpgraft/sim/raft_network.h"
#include "libpgraft/sim/raft_node.h"
#include "libpgraft/sim/raft_plan.h"
#include "libpgraft/sim/raft_run.h"

namespace pgraft::sim {

// What draws are for, as the first part of their purpose.
enum class Draw : std::uint64_t {
  kPlan = 1,
  kMessage,
  kSnapshotReport,
  kTick,
  kTurn,
  kDisk,
  kDiskContents,
  kElectionTimeouts,
  kRestart,
  kRequest,
  kTarget,
};

class RaftWorld {
 public:
  RaftWorld(const RaftPlan& plan, const RaftControls& controls, bool traced);
  ~RaftWorld();
  RaftWorld(const RaftWorld&) = delete;
  RaftWorld& operator=(const RaftWorld&) = delete;

  RaftRun run();

  // --- for its parts
  const RaftPlan& plan() const { return plan_; }
  const RaftSetup& setup() const { return plan_.setup; }
  const RaftControls& controls() const { return controls_; }
  EventQueue& queue() { return queue_; }
  RaftNetwork& network() { return network_; }
  RaftInvariants& invariants() { return invariants_; }
  RaftClients& clients() { return clients_; }
  RaftCounts& counts() { return counts_; }
  RaftNode& node(NodeId id) { return *nodes_[id - 1]; }
  const RaftNode& node(NodeId id) const { return *nodes_[id - 1]; }
  std::vector<NodeId> ids() const;

  Draws draws(Draw what, std::uint64_t a, std::uint64_t b = 0, std::uint64_t c = 0) const {
    return {plan_.seed, {static_cast<std::uint64_t>(what), a, b, c}};
  }
  Micros now() const { return queue_.now(); }
  std::uint64_t event_number() const { return events_; }
  bool in_trouble() const { return now() < setup().trouble; }
  NodeId leader() const;  // the one of the highest term; 0: none

  // The newest configuration that any node has applied.
  void configured(raft::Index applied, const raft::ConfState& conf);
  const raft::ConfState& newest_conf() const { return newest_conf_; }
  // A member whose disk, and vote, is there.
  bool intact(NodeId id) const;
  bool may_wipe(NodeId id) const;
  void wiped(NodeId id);  // its disk is about to be lost
  // Its removal was answered: whoever asked may destroy it.
  void removed(NodeId id, raft::Incarnation incarnation) { removed_.insert({id, incarnation}); }

  void happened(Moment moment, NodeId id) { faults_.happened(moment, id); }
  // Part of what makes two runs the same.
  void mark(std::uint64_t a, std::uint64_t b) { hash_ = mixed(hash_ ^ a, b); }
  // For whoever reads the trace; `text` is made only if there is one.
  template <class Text>
  void note(NodeId id, Text text) {
    if (traced_) trace_.push_back({now(), id, text()});
  }

 private:
  void bootstrap();
  void until(Micros end);
  void recover(RaftRun* run);
  void check_history(RaftRun* run);

  const RaftPlan plan_;
  const RaftControls controls_;
  const bool traced_;
  EventQueue queue_;
  RaftInvariants invariants_;
  RaftNetwork network_;
  RaftClients clients_;
  RaftFaults faults_;
  RaftCounts counts_;
  std::uint64_t events_ = 0;
  std::uint64_t hash_ = 0;
  raft::ConfState newest_conf_;
  raft::Index newest_conf_index_ = 0;
  std::set<std::pair<NodeId, raft::Incarnation>> removed_;
  std::set<NodeId> lost_;  // members that were wiped, and not removed since
  std::vector<TraceLine> trace_;
  std::vector<std::unique_ptr<RaftNode>> nodes_;  // last: requests end with them
};

}  // namespace pgraft::sim
