// The vocabulary of the failover controller: positions, reports, promotions, what the controller
// sees and what it orders.
//
// Plain values; nothing of PostgreSQL, of the Raft core or of clocks. Time is in ticks, given by
// the caller.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace pgraft::failover {

using NodeId = std::uint64_t;
using Term = std::uint64_t;
using Timeline = std::uint32_t;  // PostgreSQL's TimeLineID; 0 is none
using Lsn = std::uint64_t;       // PostgreSQL's XLogRecPtr: a byte position in the WAL

inline constexpr int kMaxPriority = 100;

// Where a node's WAL ends. Ordered by timeline first, then LSN: LSN first would let a long dead
// branch win (PROTOCOL.md, section 4).
struct Position {
  Timeline timeline = 0;
  Lsn lsn = 0;
  auto operator<=>(const Position&) const = default;
};

// One line of a timeline history: `timeline` ended, and its successor began, at `end`.
struct HistoryLine {
  Timeline timeline = 0;
  Lsn end = 0;
  bool operator==(const HistoryLine&) const = default;
};
using History = std::vector<HistoryLine>;  // ancestors of a timeline, oldest first

// Committed through Raft before the promotion is started (rules 4, 5).
struct Promotion {
  Term term = 0;
  NodeId node = 0;
  Timeline timeline = 0;
  bool operator==(const Promotion&) const = default;
};

// Committed once the promoted node is a primary on exactly that timeline: the timeline's true
// history. Followers judge by it whether they agree or have diverged (rules 2, 9); Promotion alone
// can't say where the fork is (POSTGRES.md, M16).
struct PromotionDone {
  Term term = 0;
  NodeId node = 0;
  Timeline timeline = 0;
  History history;  // of `timeline`; its last line's end is the switch point
  bool operator==(const PromotionDone&) const = default;
  Lsn switch_lsn() const { return history.empty() ? 0 : history.back().end; }
};

// A node's answer to "where does your WAL end?", valid for one term (rule 3).
struct Report {
  NodeId from = 0;
  Term term = 0;
  bool abstains = false;  // then only `bound` is meant
  Position position;      // end of valid WAL, frozen
  Timeline bound = 0;     // max_ack_timeline: nothing was acknowledged on a timeline above it
  bool yields = false;    // it shall lead only where nobody else may: it has just handed over, or
                          // its priority is 0
  bool operator==(const Report&) const = default;
};

// What a member tells all others about once a second of its WAL, for replication slots and for
// people. Advice: it may be old, be lost or come twice, and no rule rests on it.
struct WalStatus {
  NodeId from = 0;
  bool in_recovery = true;
  Position end;       // of valid WAL
  Position replayed;  // primary: same as end
  Lsn needed = 0;     // the oldest WAL that this node may ask another one for; 0: not known
  Lsn oldest = 0;     // the oldest WAL that it still has itself; 0: not known
  int priority = kMaxPriority;  // who shall lead rather; 0: only where nobody else may
  bool operator==(const WalStatus&) const = default;
};

// --- what the controller sees
// -------------------------------------------------------------------------------

enum class Role : std::uint8_t { kFollower, kLeader };  // candidates are followers here

struct RaftView {
  NodeId self = 0;
  Term term = 0;
  Role role = Role::kFollower;
  NodeId leader = 0;              // of `term`; 0 unknown
  bool own_term_applied = false;  // leader: its first entry is applied (rule 4)
  bool conf_change_pending = false;
  std::vector<NodeId> voters;  // configuration as applied, of both halves of a joint one
  std::vector<NodeId> learners;
  std::vector<NodeId> answering;  // leader: members heard from in this term lately (rule 3: a
                                  // report counts while its node answers)
  bool transferring = false;
  std::map<NodeId, int> priorities;  // as the others told (WalStatus); absent: not heard of
};

// The part of the replicated state that concerns promotions, as applied.
struct PromotionView {
  Timeline max_timeline = 0;                  // greatest over all promotions ever
  std::optional<Promotion> of_term;           // of RaftView::term
  std::optional<PromotionDone> done_of_term;  // of RaftView::term
};

// What the host last saw of its PostgreSQL. `orders_seen` is the sequence number of the newest
// Orders that had been carried out (or begun, for what takes time) before everything else here was
// read; older views don't prove anything about newer orders.
struct DatabaseView {
  std::uint64_t orders_seen = 0;
  bool valid = false;       // false until the host has looked for the first time
  bool in_recovery = true;  // standby; false: primary
  bool receiver_stopped =
      false;  // no walreceiver that streams, and the last one's final flush is done
  bool replay_exhausted = false;  // standby: all valid local WAL has been replayed, it asks for
                                  // streaming; it may need a stream to become consistent
  bool end_known = false;         // `end` is the end of valid WAL: standby: consistent, and
                                  // exhausted once since the server started; primary: always
  bool frozen = false;            // no walsender, none admitted, none being admitted
  bool promote_pending = false;  // promotion signalled; neither finished nor confirmed as withdrawn
  Position end;                  // standby: received and flushed, or replayed; primary: flushed
  Position replayed;             // standby: replayed; primary: same as end
  Lsn needed = 0, oldest = 0;    // as in WalStatus
  Timeline highest_history =
      0;            // greatest timeline id of a history file on disk, or the current timeline
  History history;  // of the timeline this server is on (valid for a primary)
  std::uint64_t quorum_in_force =
      0;  // quorum generation that every process concerned has published (rule 7)
  NodeId quorum_waits_for = 0;    // not in force: a member whose walsender counts by an older
                                  // setting; 0: no walsender is known that does
  std::map<NodeId, Lsn> streams;  // primary: flush position of each member's live walsender
  // Primary, and only while Orders::drain asks for it:
  std::size_t writers = 0;   // sessions with a transaction that has begun to write
  std::size_t sessions = 0;  // sessions that are to be ended and live
  bool settled = false;      // all WAL there was had been flushed when `end` was read
  std::string writers_text;  // who they are, for people
};

// --- what the controller orders
// -----------------------------------------------------------------------------

enum class Restart : std::uint8_t {
  kNone,
  kStandby,  // stop at once (an immediate stop writes no WAL); the supervisor starts the server
             // again, as a standby
  kRewind,   // the same, and `prepare` rewinds or reclones it first (rule 9)
  kClone,    // the same, and `prepare` reclones it first: a rewind would not help
};

// A planned switchover, on the leader: what becomes of the sessions. What is ended and what waits
// gets no WAL written any more.
enum class Drain : std::uint8_t {
  kNone,
  kHold,  // new write transactions wait, those that have begun to write go on
  kEnd,   // all sessions are ended and none is let in
};

// The state the host shall bring its PostgreSQL into. Level-triggered: the newest one counts, and
// carrying it out twice changes nothing. Tightening (closing the gate, fencing, freezing, stopping
// the receiver) is done before loosening. Orders only ask for a loosening once a DatabaseView has
// shown that what must come first is done.
struct Orders {
  std::uint64_t seq = 0;
  Term term = 0;

  // rule 2. While open: a standby's replies pass unchanged if the connection was made in `term`,
  // the stream is on `gate_timeline`, and the flushed LSN is past `gate_switch`.
  bool gate_open = false;
  Timeline gate_timeline = 0;
  Lsn gate_switch = 0;

  NodeId follow = 0;  // stream from this node, the leader promoted in `term`; 0: no walreceiver
  bool admit_walsenders = false;  // false: freeze (rule 3)
  bool lift_fence = false;        // writes are allowed while the lease of `term` lives (rule 7)
  std::uint64_t quorum_generation = 0;  // 0: leave the setting alone
  std::vector<NodeId>
      quorum_voters;     // commit quorum: a majority of these, this node counted by its own flush
  Timeline promote = 0;  // signal the promotion to exactly this timeline (rule 5)
  Drain drain = Drain::kNone;
  Restart restart = Restart::kNone;
  Position rewind_target;    // with kRewind and kClone: what the leader's WAL had at least reached;
                             // abstain until past it
  NodeId rewind_source = 0;  // with them: the leader
  std::string reason;        // for logs: why this differs from the orders before
  bool operator==(const Orders&) const = default;
};

// Requests to the Raft side and to durable state; carried out at once, in order, before the Orders
// are handed to the host.
struct Requests {
  std::optional<Timeline>
      persist_bound;           // make max_ack_timeline durable (before the gate may open, rule 3)
  bool clear_abstain = false;  // the rejoin marker has done its work, or lost its reason
  std::optional<Promotion> propose_promotion;
  std::optional<PromotionDone> propose_done;
  NodeId transfer_to = 0;  // hand leadership over (rule 4)
  bool step_down = false;
  int hold_off_ticks = 0;             // with step_down
  std::optional<int> election_delay;  // hint for the election timeout
  std::optional<Report> send_report;  // to RaftView::leader
  NodeId promote_learner = 0;         // caught up: make it a voter (rule 8)
};

}  // namespace pgraft::failover
