// RawNode: one member of a Raft group as a deterministic state machine. No I/O, no clock, no
// threads.
//
// The caller's duties, in order, whenever has_ready():
//   1. r = ready()
//   2. make r.snapshot (if any), then r.entries, then r.hard_state durable, in one atomic write; it
//   must be synced if r.must_sync.
//      Entering a new term (r.hard_state.term grew) closes the term gate before this write (rule
//      2).
//   3. send r.messages (only now: they may depend on what was persisted)
//   4. restore the state machine from r.snapshot, apply r.committed_entries in order; for each
//   kConfChange entry
//      call apply_conf_change() (a change that the application refuses: apply_conf_change({}) with
//      no changes).
//   5. advance()
// With Config::async_storage_writes the storage works beside the core instead, and there is no
// advance(). ready() may be called at any time, and its messages are sent at once, but for
//   kStorageAppend (at most one a ready): as 2., in the order in which they were handed out; then
//     its `responses` are due: those to this node to complete(), the others sent. Those that are
//     there before anything else of the message is durable break Raft.
//   kStorageApply (at most one): as 4., in order; then its responses to complete(). What is in it
//     is durable here.
// A snapshot in a kStorageAppend is restored before its responses are given.
// In both modes: tick() at a steady interval, step() for each message received. Not thread-safe:
// one thread owns it.
//
// Reference: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (figure 2,
// sections 5 and 6); Ongaro's thesis, chapters 3, 4, 6 and 9.6 (pre-vote).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/log_reader.h"
#include "libpgraft/raft/types.h"

namespace pgraft::raft {

class Raft;  // the algorithm; raw_node.cc only batches its output

inline constexpr int kMaxPriority = 100;

// Rules that a negative control switches off. Tests and the simulator only.
struct Switches {
  bool one_vote_a_term = true;          // 5.2
  bool complete_log = true;             // 5.4.1: votes only for a log that is as up to date
  bool consistency_check = true;        // 5.3: appends only after an entry that agrees
  bool own_term_commit = true;          // 5.4.2: by counting only entries of the current term
  bool apply_committed = true;          // 5.3: only what the leader says is committed is applied
  bool both_majorities = true;          // 6: a joint configuration decides with both
  bool one_change = true;               // rule 8: the one before is applied first
  bool campaign_after_apply = true;     // PROTOCOL.md, M4b
  bool vote_with_configuration = true;  // PROTOCOL.md, M5
  bool read_quorum = true;              // thesis 6.4, step 3: still the leader
  bool read_after_own_commit = true;    // thesis 6.4, step 1
  bool transfer_ends_lease = true;      // thesis 6.4.1: others may be elected inside it
  bool lease_binds_voters = true;       // thesis 6.4.1: no vote inside a lease, restarts included
};

struct Config {
  NodeId id = kNoNode;          // not 0
  Incarnation incarnation = 0;  // of this node; 0 switches the incarnation check off (tests)

  // A follower campaigns after a random number of ticks in [election_ticks, 2 * election_ticks - 1]
  // without a leader; a leader that has not heard from a quorum for election_ticks steps down; a
  // voter that heard from a leader within election_ticks ignores (pre-)votes.
  int election_ticks = 10;
  int heartbeat_ticks = 1;  // leader's heartbeat interval; less than election_ticks

  std::uint64_t max_size_per_msg = 1
                                   << 20;  // bytes of entry data in one kAppend; 0: one entry each
  std::size_t max_inflight_msgs = 256;     // kAppend messages in flight to one follower
  std::uint64_t max_inflight_bytes = 0;    // 0: no limit
  std::uint64_t max_uncommitted_bytes =
      64u << 20;  // proposals beyond are refused with kResourceExhausted; 0: no limit
  std::uint64_t max_committed_bytes_per_ready = 8u << 20;  // 0: no limit

  bool pre_vote = true;
  bool check_quorum = true;
  bool step_down_on_removal = true;
  bool disable_conf_change_validation = false;  // tests only
  // What is to be written and applied comes as messages; see above.
  bool async_storage_writes = false;
  // Read index answered from the lease instead of a heartbeat round (thesis 6.4.1): right where
  // clocks tick at one rate. Set on all members or on none: then a node gives no vote, and does not
  // campaign, within election_ticks of hearing a leader or of a restart (it may have heard one just
  // before); a leader's transfer excepted.
  bool lease_based_reads = false;

  // Who campaigns first when the leader is gone: a node of priority p waits (100 - p) % of
  // election_ticks longer. 0: never by itself; it may still be told to, votes and can be elected. A
  // hint, never a safety matter.
  int priority = kMaxPriority;

  Switches rules;

  Index applied = 0;       // last entry the state machine already holds (after a restart)
  std::uint64_t seed = 0;  // of the randomized election timeout

  Status validate() const;
};

struct ReadState {
  Index index = 0;      // the state machine must have applied this before it answers
  std::string context;  // as given to read_index()
};

struct Ready {
  std::optional<SoftState> soft_state;  // set when it changed; need not be stored
  std::optional<HardState> hard_state;  // set when it changed
  std::vector<Entry> entries;  // to be made durable; they overwrite what the log has at and after
                               // their first index
  std::shared_ptr<const Snapshot>
      snapshot;                          // to be made durable and restored; null when there is none
  std::vector<Entry> committed_entries;  // to be applied
  std::vector<Message>
      messages;  // to be sent after the write; kSnapshot needs report_snapshot() afterwards
  std::vector<ReadState> read_states;
  bool must_sync = false;  // hard_state's term or vote changed, or there are entries or a snapshot
};

enum class ProgressState : std::uint8_t { kProbe, kReplicate, kSnapshot };
const char* progress_state_name(ProgressState state);

// The leader's view of one member; for status only.
struct ProgressView {
  Index match = 0;
  Index next = 0;
  ProgressState state = ProgressState::kProbe;
  bool recent_active = false;  // heard from since the last quorum check
  bool is_learner = false;
  std::uint64_t idle_ticks = 0;  // ticks since its last response in this term
};

struct NodeStatus {
  NodeId id = kNoNode;
  HardState hard;
  SoftState soft;
  Index applied = 0;
  Index last_index = 0;
  NodeId transferee = kNoNode;              // leader transfer under way
  ConfState conf;                           // in effect (as applied)
  std::map<NodeId, ProgressView> progress;  // leader only
};

class RawNode {
 public:
  // `log` must outlive the node and hold what earlier runs persisted.
  static Result<std::unique_ptr<RawNode>> create(const Config& config, const LogReader* log);
  ~RawNode();
  RawNode(const RawNode&) = delete;
  RawNode& operator=(const RawNode&) = delete;

  void tick();
  // Starts an election now (pre-vote first when configured). kFailedPrecondition for a node that is
  // not a voter, has a committed change to apply, or must wait for a lease (lease_based_reads).
  Status campaign();

  // kNotLeader when there is no leader to forward to or a transfer is under way; kResourceExhausted
  // by max_uncommitted_bytes.
  Status propose(std::string data);
  // All of them or none, in this order, in as few messages as can be.
  Status propose(std::vector<std::string> data);
  Status propose_conf_change(const ConfChange& change);

  // The committed change takes effect now; returns the configuration that results. Rule 8:
  // configurations take effect when applied.
  ConfState apply_conf_change(const ConfChange& change);

  // Messages of another incarnation, of removed members and of terms that don't matter are dropped
  // with kOk. kNotFound: response of a node that is not a member.
  Status step(Message message);

  bool has_ready() const;
  Ready ready();
  void ready_into(Ready* ready);  // the same, in the memory that *ready had before
  void advance();  // the last ready() has been dealt with; not with async_storage_writes
  // A response to this node of a kStorageAppend or kStorageApply whose work is done. Not for what
  // comes from the network: that is step()'s.
  void complete(const Message& response);

  Status transfer_leader(
      NodeId to);  // leader, or forwarded; ends by success, or after election_ticks without it
  void report_unreachable(NodeId id);
  void report_snapshot(NodeId id, bool ok);
  Status read_index(std::string context);  // answered in Ready::read_states
  void forget_leader();

  // The connection to the leader's process was reset or refused (a hint, not proof: PROTOCOL.md,
  // S6). This node no longer counts the leader as alive when it is asked for its (pre-)vote, and
  // campaigns after `delay_ticks` unless the leader is heard from before. No-op when `leader` is
  // not the current leader.
  void report_leader_lost(NodeId leader, int delay_ticks);

  // A leader gives up: becomes a follower without a leader and doesn't campaign for
  // `hold_off_ticks` beyond its election timeout.
  void step_down(int hold_off_ticks);

  // Added to every election timeout of this node from now on (a hint who campaigns first; never a
  // safety matter).
  void set_election_delay(int ticks);

  void set_priority(int priority);  // as Config::priority, from now on

  void set_randomized_election_timeout(int ticks);  // tests

  // Ticks since the start. Own tick count such that a quorum of voters has answered a message sent
  // at or after it: the leader's lease starts there. 0 when not the leader, or nothing was answered
  // in this term. A sole voter: the current tick count.
  std::uint64_t now_ticks() const;
  std::uint64_t quorum_ack_tick() const;
  // Follower: own tick count when it last heard the leader of its term; 0: it knows of none.
  std::uint64_t leader_heard_tick() const;

  // Leader: its own term's first entry is applied (rule 4, PROTOCOL.md M4f).
  bool own_term_applied() const;
  // The log holds a committed change that is not applied yet, or an uncommitted one (rule 8: no
  // next change).
  bool conf_change_pending() const;

  Term term() const;
  NodeId leader() const;
  Role role() const;
  Index commit_index() const;
  Index last_index() const;
  NodeStatus status() const;

 private:
  explicit RawNode(std::unique_ptr<Raft> raft);
  Status propose_all(std::span<std::string> data);
  bool has_committed() const;
  void hand_out_batch(Ready* ready);
  void hand_out_writes(Ready* ready);
  void hand_out_committed(Ready* ready);
  std::unique_ptr<Raft> raft_;
  struct Batch;
  std::unique_ptr<Batch> batch_;
};

// Stored and wire form of a configuration change (Entry::data of kConfChange); fixed little-endian,
// version byte first.
std::string encode_conf_change(const ConfChange& change);
Result<ConfChange> decode_conf_change(const std::string& data);

}  // namespace pgraft::raft
