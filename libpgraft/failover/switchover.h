// A planned switchover, as the leader carries it out: hold the writers, let the transactions that
// have begun to write end, end the sessions, close the fence, give the target the last of the WAL,
// hand leadership over. Nothing of it is needed for safety: it only leaves the target with all WAL
// there is, so that nothing is lost, nobody has more than the next leader, and the old one can
// follow it as it is. Until the hand-over it can be given up at any moment.
//
// Deterministic, as the controller that owns it; it exists while a switchover is under way in the
// term that it was asked for in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "libpgraft/base/status.h"
#include "libpgraft/failover/types.h"

namespace pgraft::failover {

class Switchover {
 public:
  struct Request {
    NodeId to = 0;                    // 0: whoever is best
    std::uint64_t deadline_tick = 0;  // given up then
    bool end_writers = false;  // at half of the time, transactions that have not ended are aborted
  };

  Switchover(const Request& request, std::uint64_t now_ticks)
      : request_(request), half_tick_((now_ticks + request.deadline_tick) / 2) {}

  // What the orders are to say, after update().
  Drain drain() const { return stage_ == Stage::kHold ? Drain::kHold : Drain::kEnd; }
  bool fenced() const { return stage_ >= Stage::kFlush; }
  // From here on the target may take over at any moment, given up or not.
  bool handing_over() const { return stage_ == Stage::kHandOver; }

  // Goes on as far as the view allows. Not ok: it is given up, for that reason.
  Status update(const RaftView& raft, const DatabaseView& database, std::uint64_t now_ticks);
  // The orders that update() asked for have this sequence number.
  void ordered(std::uint64_t seq) {
    if (seq_ == 0) seq_ = seq;
  }

  NodeId to() const { return request_.to; }
  std::string phase() const;

 private:
  enum class Stage : std::uint8_t {
    kHold,      // new write transactions wait, the others end
    kEnd,       // the sessions end; what they still write is allowed
    kFlush,     // fenced: the last of the WAL goes to the target
    kHandOver,  // the target has been told to campaign
  };
  void enter(Stage stage) {
    stage_ = stage;
    seq_ = 0;
  }
  Status late(const DatabaseView& database) const;

  Request request_;
  std::uint64_t half_tick_;
  Stage stage_ = Stage::kHold;
  std::uint64_t seq_ = 0;         // of the orders of this stage; 0: not known yet
  std::optional<Lsn> quiet_lsn_;  // where WAL ended when no transaction was running any more
};

// May `to` take over from this leader? Not ok: the reason, for people (kNotFound: no voter,
// kFailedPrecondition). `lag_max`: bytes of WAL that it may lack when the switchover begins.
Status may_take_over(NodeId to, const RaftView& raft, const DatabaseView& database, Lsn lag_max);

// The voter that may take over, of the greatest priority, with the most WAL. kFailedPrecondition:
// there is none; the message has each one's reason.
Result<NodeId> best_successor(const RaftView& raft, const DatabaseView& database, Lsn lag_max);

}  // namespace pgraft::failover
