// Carries out the steps of a plan: what goes wrong in a run, and what its administrator does.
#pragma once

#include <cstdint>
#include <vector>

#include "libpgraft/sim/raft_plan.h"

namespace pgraft::sim {

class RaftWorld;

class RaftFaults {
 public:
  explicit RaftFaults(RaftWorld* world) : world_(world) {}

  void start();
  // Steps that wait for it are carried out soon, never at once: it is told in the middle of a
  // node's turn.
  void happened(Moment moment, NodeId id);
  void stop();  // nothing more of the plan

 private:
  NodeId resolve(const Who& who, NodeId here) const;
  void carry_out(const FaultStep& step, NodeId here);
  void fault(const FaultStep& step, NodeId who, NodeId whom);
  void network_fault(const FaultStep& step, NodeId who, NodeId whom);
  void administer(const FaultStep& step, NodeId who);
  bool make_blank(NodeId id);
  void ask_leader(const FaultStep& step, NodeId who);
  template <class F>
  void later(Micros delay, F what);

  RaftWorld* world_;
  std::vector<const FaultStep*> waiting_;  // for their moments
  bool stopped_ = false;
};

}  // namespace pgraft::sim
