// The end of a run: faults are over, and the cluster must work again. Within a bound of virtual
// time it must elect a leader, make every learner a voter, take a write through every member, have
// all of it on every member, and give every key through every member; the reads are part of the
// history.
#pragma once

#include <string>
#include <vector>

#include "libpgraft/sim/linearizability.h"
#include "libpgraft/sim/raft_plan.h"

namespace pgraft::sim {

class RaftWorld;

class RaftRecovery {
 public:
  explicit RaftRecovery(RaftWorld* world) : world_(world) {}

  void heal();
  // A majority of the newest configuration has lost its disks: there is nothing to recover from.
  bool impossible() const;
  // Looks, and asks for what is to come next. True: all is as it must be.
  bool step();
  std::string why_not() const;

 private:
  struct Request {
    NodeId via = 0;
    ClientOperation::Kind kind = ClientOperation::Kind::kGet;
    std::string key;
  };
  std::vector<NodeId> members() const;  // whose disks are there
  std::string not_settled() const;      // empty: it is
  void switch_off_strangers();
  bool is_needed(NodeId id) const;
  void plan_requests();
  void ask();

  RaftWorld* world_;
  std::vector<Request> requests_;
  std::size_t next_ = 0;
  bool waiting_ = false;
  Micros ask_again_ = 0;
};

}  // namespace pgraft::sim
