// How long each step from a lost leader to a writable one took, as the new leader sees it.
//
// For people only. Times come in as values.
#pragma once

#include <chrono>
#include <optional>

#include "libpgraft/state/state_machine.h"

namespace pgraft::node {

class LeadershipTimer {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct View {
    raft::NodeId self = 0;
    raft::Term term = 0;
    raft::NodeId leader = 0;
    failover::PromotionView promotions;  // of `term`
    bool writable = false;
  };
  // A value when this node has just become writable in its term; but for `previous` and `at_ms`.
  std::optional<state::LeaderChange> update(const View& view, Time now);

 private:
  std::optional<Time> lost_;  // since when no other leader is known
  raft::Term term_ = 0;       // that this node leads, or led last
  Time elected_, agreed_, promoted_;
  std::uint32_t election_ms_ = 0;
  bool has_agreed_ = false, is_promoted_ = false, is_done_ = false;
};

}  // namespace pgraft::node
