// What callers wait for: log operations, one membership change, one hand-over. Internal to the
// replica.
//
// Invariant: every completion is called exactly once: by deliver(), or by the destructor with
// kUnavailable. The settle functions only move a completion to the finished ones, so that a
// completion may make new requests without finding this in the middle of something.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "libpgraft/node/replica.h"

namespace pgraft::node {

class Replica::Requests {
 public:
  // `first`: the number of the first request. Unlike any of an earlier start or incarnation of this
  // node: their commands may commit late, or come back with the log, and are not to be mistaken for
  // those of this one.
  Requests(std::uint64_t first, int timeout_ticks)
      : next_(first), timeout_ticks_(static_cast<std::uint64_t>(timeout_ticks)) {}
  ~Requests();

  static constexpr std::size_t kMaxWaiting = 65536;
  bool full() const { return commands_.size() + reads_.size() >= kMaxWaiting; }
  std::uint64_t add_command(Completion done, std::uint64_t now);
  void settle_command(std::uint64_t request, const Status& status, std::uint64_t value);

  // Reads wait for the leader's answer, then for the state machine. Their ids are the contexts of
  // read_index().
  std::uint64_t add_read(Completion done, std::shared_ptr<failover::Position> position,
                         std::uint64_t now);
  // An answer without a position does not count where one is wanted.
  void confirm_read(std::uint64_t id, raft::Index index,
                    const std::optional<failover::Position>& acknowledged);
  void settle_read(std::uint64_t id, const Status& status);
  void settle_reads(raft::Index applied);
  // Those that were asked at least `age` ticks ago and have no answer: the question or the answer
  // may be lost. They count as asked now.
  std::vector<std::uint64_t> unconfirmed_reads(std::uint64_t now, std::uint64_t age);

  struct Membership {
    raft::ConfChangeSingle change;
    Completion done;
    std::uint64_t deadline = 0;
    raft::Index applied_at = 0;                          // 0: it is not
    std::pair<raft::Term, raft::Index> known_with = {};  // see Replica::confirm_removal()
  };
  std::optional<Membership>& membership() { return membership_; }
  void set_membership(const raft::ConfChangeSingle& change, Completion done, std::uint64_t now);
  void settle_membership(const Status& status, std::uint64_t value);

  struct Transfer {
    raft::NodeId to = 0;
    Completion done;
    std::uint64_t deadline = 0;
  };
  const std::optional<Transfer>& transfer() const { return transfer_; }
  void set_transfer(raft::NodeId to, Completion done, std::uint64_t deadline);
  void settle_transfer(const Status& status, std::uint64_t value);

  void finish(Completion done, Status status, std::uint64_t value = 0);
  void expire(std::uint64_t now);   // all but the membership change
  void abandon(const Status& why);  // finishes everything
  void deliver();                   // calls what is finished

 private:
  struct Waiting {
    Completion done;
    std::uint64_t deadline = 0;
  };
  struct Read {
    Completion done;
    std::uint64_t deadline = 0;
    std::uint64_t asked = 0;
    std::optional<raft::Index> index;
    std::shared_ptr<failover::Position> position;  // null: not wanted
  };
  struct Finished {
    Completion done;
    Status status;
    std::uint64_t value = 0;
  };
  std::uint64_t next_;
  const std::uint64_t timeout_ticks_;
  std::map<std::uint64_t, Waiting> commands_;  // deadlines grow with the key
  std::map<std::uint64_t, Read> reads_;        // likewise
  std::optional<Membership> membership_;
  std::optional<Transfer> transfer_;
  std::vector<Finished> finished_;
};

}  // namespace pgraft::node
