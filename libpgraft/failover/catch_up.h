// Has a learner's WAL caught up, so that it may vote? (rule 8)
//
// In rounds, as Raft's thesis has it for logs (4.2.1): a round lasts until the learner has what the
// leader had when the round began. One that took long leaves as much again to be caught up with:
// the leader went on writing. Only after a short one the learner is about a round trip behind.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "libpgraft/failover/types.h"

namespace pgraft::failover {

class CatchUp {
 public:
  // `limit_ticks`: the longest that a round may take.
  explicit CatchUp(int limit_ticks) : limit_ticks_(static_cast<std::uint64_t>(limit_ticks)) {}

  // What the leader and the learner have flushed at `now` (ticks, never less than before).
  void observe(Lsn leader, Lsn learner, std::uint64_t now);
  // The last round was short, and the one since has not become long.
  bool done() const { return done_; }

 private:
  struct Round {
    Lsn target = 0;
    std::uint64_t since = 0;
  };
  std::uint64_t limit_ticks_;
  std::optional<Round> round_;
  bool done_ = false;
};

// An amount of WAL for people: "512 bytes", "1.2 GB" (powers of 1024, as PostgreSQL has it).
std::string size_text(std::uint64_t bytes);

}  // namespace pgraft::failover
