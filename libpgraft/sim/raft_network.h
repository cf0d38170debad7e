// The network of a simulated cluster: each message is encoded, may be lost, doubled, late or out of
// order, and is decoded where it arrives.
//
// On an ordered network messages are what TCP makes of them: those from one node to another keep
// their order, one that is late holds up those behind it, and those on their way to a process end
// with it or with the connection.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "libpgraft/raft/types.h"
#include "libpgraft/sim/raft_plan.h"

namespace pgraft::sim {

class RaftWorld;

class RaftNetwork {
 public:
  explicit RaftNetwork(RaftWorld* world) : world_(world) {}

  void send(const raft::Message& message);

  // --- faults; heal() ends those that last
  void partition(std::uint64_t set);  // bits 1 << id
  void end_partition(std::uint64_t set);
  void cut(NodeId from, NodeId to, int more);  // -1: one cut fewer
  struct Weather {
    Fate fate = Fate::kLost;
    std::uint64_t percent = 0;
    Micros late_max = 0;
    std::uint32_t step = 0;
  };
  void add_weather(const Weather& weather) { weather_.push_back(weather); }
  void end_weather(std::uint32_t step);
  struct Fated {
    NodeId from = 0, to = 0;
    raft::MessageType type = raft::MessageType::kAppend;
    Fate fate = Fate::kLost;
    std::uint64_t left = 0;  // so many messages
    Micros late = 0;
  };
  void add_fated(const Fated& fated) { fated_.push_back(fated); }
  void heal();

  // The connections between the two are reset; whoever is up and can hear of it is told.
  void reset(NodeId a, NodeId b);
  // A process ended. `noticed`: its peers' connections were closed.
  void process_ended(NodeId id, bool noticed);

  bool blocked(NodeId from, NodeId to) const;
  std::uint64_t sent() const { return sent_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  struct Link {
    std::uint64_t sent = 0;
    Micros last = 0;          // when the last message arrives
    std::uint64_t epoch = 0;  // counts its connections
  };
  struct Journey {
    bool lost = false;
    bool doubled = false;
    Micros late = 0;
  };
  Link& link(NodeId from, NodeId to) { return links_[from][to]; }
  Journey journey(const raft::Message& message, std::uint64_t n);
  void carry(const raft::Message& message, Micros delay);
  void arrive(NodeId from, NodeId to, std::uint64_t epoch, const std::string& bytes);
  void tell_lost(NodeId who, NodeId lost);
  void report_snapshot(const raft::Message& message, bool lost, std::uint64_t n);

  RaftWorld* world_;
  std::array<std::array<Link, kMaxSimulatedNodes + 1>, kMaxSimulatedNodes + 1> links_;
  std::array<std::array<int, kMaxSimulatedNodes + 1>, kMaxSimulatedNodes + 1> cuts_{};
  std::vector<std::uint64_t> partitions_;
  std::vector<Weather> weather_;
  std::vector<Fated> fated_;
  std::uint64_t sent_ = 0;
  std::uint64_t bytes_ = 0;
};

// "append 2>3 t4 after 7/3: 2 entries, commit 6"
std::string describe(const raft::Message& message);

}  // namespace pgraft::sim
