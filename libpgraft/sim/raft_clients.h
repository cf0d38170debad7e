// The clients of a simulated cluster. Each makes its requests one after the other, through any
// node; what they saw is the history that must be linearizable.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/sim/linearizability.h"
#include "libpgraft/sim/raft_plan.h"

namespace pgraft::sim {

class RaftWorld;

class RaftClients {
 public:
  explicit RaftClients(RaftWorld* world) : world_(world) {}

  void start();  // with the requests of the plan
  void stop();   // no new ones

  // One request outside of the plan. `done`: it was answered; at most once, and never when the node
  // ends before.
  void ask(NodeId client, NodeId via, ClientOperation::Kind kind, const std::string& key,
           const std::string& value, std::function<void(const Status&)> done);

  // Without what had no effect, and without reads that gave nothing.
  std::vector<ClientOperation> history() const;

 private:
  struct Client {
    std::vector<const RequestStep*> steps;
    std::size_t next = 0;
    std::size_t operation = 0;  // in history_; of the step under way
    bool busy = false;
    NodeId node = 0;  // that answered last
  };
  struct Recorded {
    ClientOperation operation;
    bool refused = false;
  };
  void go_on(NodeId client);
  void issue(NodeId client);
  void ended(NodeId client, std::size_t operation, const Status& status);
  void deliver(NodeId via, std::size_t operation, const std::function<void(const Status&)>& done);
  void answered(std::size_t operation, NodeId via, const Status& status,
                const std::function<void(const Status&)>& done);
  Micros latency(std::size_t operation, std::uint64_t way) const;

  RaftWorld* world_;
  std::vector<Client> clients_;
  std::vector<Recorded> history_;
  bool stopped_ = false;
};

}  // namespace pgraft::sim
