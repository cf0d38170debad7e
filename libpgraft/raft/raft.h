// Raft: the algorithm behind RawNode. Its parts, in the order of the paper:
//   raft.cc              state, roles, time, the first look at every message
//   raft_election.cc     5.2, 5.4.1, thesis 3.10 (transfer), 9.6 (pre-vote): campaigns and votes
//   raft_replication.cc  5.3, 5.4.2, 7: appends, commit, heartbeats, snapshots
//   raft_membership.cc   6, thesis 4: changes of the configuration
//   raft_read.cc         thesis 6.4: read index, and the lease
//
// Effects are collected in messages(), after_append() and read_states(); raw_node.cc hands them
// out. What is in after_append() says something of this node's durable state (votes, stored
// entries, also to itself): it is sent, or counted, only once everything up to now is written.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/confchange.h"
#include "libpgraft/raft/log.h"
#include "libpgraft/raft/raw_node.h"
#include "libpgraft/raft/tracker.h"

namespace pgraft::raft {

class Raft {
 public:
  static Result<std::unique_ptr<Raft>> create(const Config& config, const LogReader* reader);

  void tick();
  // From the network: checks identity and membership, then step().
  Status receive(Message&& message);
  // Any message, the node's own ones too.
  Status step(Message&& message);
  // The report that storage work is done.
  void complete(const Message& response);

  enum class Campaign : std::uint8_t { kPreVote, kElection, kTransfer };
  // kFailedPrecondition when this node may not campaign.
  Status start_campaign(bool transfer);
  // Takes the entries, unless it fails.
  Status propose(std::vector<Entry>& entries);
  Status transfer_leader(NodeId to);
  Status read_index(std::string context);
  ConfState apply_conf_change(const ConfChange& change);
  void report_unreachable(NodeId id);
  void report_snapshot(NodeId id, bool ok);
  void forget_leader();
  void report_leader_lost(NodeId leader, int delay_ticks);
  void step_down(int hold_off_ticks);
  void set_election_delay(int ticks) { election_delay_ticks_ = ticks > 0 ? ticks : 0; }
  void set_priority(int priority);
  void set_randomized_election_timeout(int ticks) { election_timeout_ticks_ = ticks; }

  // Everything up to `index`, with `bytes` of data, is in the state machine.
  void applied_to(Index index, std::uint64_t bytes);
  void snapshot_applied(Index index);

  std::uint64_t now_ticks() const { return now_; }
  std::uint64_t quorum_ack_tick() const;
  std::uint64_t leader_heard_tick() const;
  bool own_term_applied() const;
  bool conf_change_pending() const;
  Term term() const { return term_; }
  NodeId leader() const { return lead_; }
  Role role() const { return role_; }
  HardState hard_state() const { return {term_, vote_, log_.committed()}; }
  SoftState soft_state() const { return {lead_, role_}; }
  NodeStatus status() const;

  const Config& config() const { return config_; }
  RaftLog& log() { return log_; }
  const RaftLog& log() const { return log_; }
  std::vector<Message>& messages() { return messages_; }
  std::vector<Message>& after_append() { return after_append_; }
  std::vector<ReadState>& read_states() { return read_states_; }

 private:
  Raft(const Config& config, const LogReader* reader);
  Status restore_configuration(const ConfState& conf);
  std::string describe() const;

  // raft.cc
  void reset(Term term);
  void become_follower(Term term, NodeId leader, Incarnation leader_incarnation = 0);
  void tick_follower();
  void tick_leader();
  void send(Message message);
  Message answer(const Message& request, MessageType type) const;
  bool wrong_incarnation(const Message& message) const;
  bool accept_newer_term(const Message& message);
  void answer_older_term(const Message& message);
  Status step_leader(Message&& message);
  Status step_other(Message&& message);
  Status forward_to_leader(Message message);
  Status not_leader() const;
  bool is_self_member() const;

  // raft_election.cc
  void become_pre_candidate();
  void become_candidate();
  void become_leader();
  bool may_campaign_by_time() const;
  int priority_delay_ticks() const;
  bool promotable() const;
  bool leader_is_alive() const;
  bool knows_configuration() const;
  void campaign(Campaign kind);
  void request_vote(NodeId to, Campaign kind, Term term);
  void tell_commit(Message& refusal) const;
  void learn_commit(const Message& refusal);
  Status handle_vote_request(const Message& message);
  void handle_vote_response(const Message& message);
  void reset_election_timeout();
  static std::uint64_t first_random_state(std::uint64_t seed, NodeId id);
  std::uint64_t next_random();
  Status handle_transfer_leader(NodeId to);
  void send_timeout_now(NodeId to);
  void abort_transfer();

  // raft_replication.cc
  Status append_proposals(std::vector<Entry>& entries);
  Status append_entries(std::vector<Entry>& entries, bool bounded);
  void broadcast_append();
  void broadcast_heartbeat();
  bool send_append(NodeId to, bool even_if_empty);
  bool send_snapshot(NodeId to, Progress& member);
  bool maybe_commit();
  Status handle_leader_message(Message&& message);
  void heard_from_leader(const Message& message);
  Status handle_append(Message&& message);
  Status handle_heartbeat(const Message& message);
  Status handle_snapshot(const Message& message);
  bool restore_snapshot(const Message& message, Membership membership);
  void note_response(Progress& member, const Message& message);
  void handle_append_response(const Message& message);
  void handle_acknowledged(NodeId from, Progress& member, Index match);
  void handle_heartbeat_response(const Message& message);

  // raft_membership.cc
  Status admit_conf_change(Entry& entry, Index pending) const;
  bool allowed_now(const ConfChange& change, Index pending) const;
  ConfState adopt(Membership next);
  void maybe_leave_joint();

  // raft_read.cc
  struct PendingRead {
    std::uint64_t id = 0;  // of the heartbeat round that proves leadership; 0 while deferred
    NodeId from = kNoNode;
    Incarnation from_incarnation = 0;
    std::string context;
    Index index = 0;  // commit index when it was asked
  };
  Status handle_read_request(PendingRead read);
  void start_read(PendingRead read);
  void answer_read(PendingRead read);
  void start_deferred_reads();
  void release_reads();
  void record_read_ack(NodeId from, const std::string& context);
  std::string read_context() const;
  bool lease_is_live() const;
  bool in_a_lease() const;
  bool own_term_committed() const;

  const Config config_;
  const NodeId id_;

  // Persistent state (figure 2); the commit index is the log's.
  Term term_ = 0;
  NodeId vote_ = kNoNode;
  RaftLog log_;

  // Volatile state.
  Role role_ = Role::kFollower;
  NodeId lead_ = kNoNode;             // leader of term_, as far as known
  Incarnation lead_incarnation_ = 0;  // as it says in its messages
  Incarnation vote_incarnation_ = 0;  // of the candidate that vote_ was given to; 0 after a restart
  Tracker tracker_;

  // Time, in ticks.
  std::uint64_t now_ = 0;                         // since the start
  std::optional<std::uint64_t> heard_leader_at_;  // a leader of whatever term; 0, too: perhaps just
                                                  // before the start
  int election_elapsed_ticks_ =
      0;  // since the leader was heard or a vote given; leader: since the quorum check
  int heartbeat_elapsed_ticks_ = 0;  // leader: since its last heartbeat
  int election_timeout_ticks_ = 0;   // randomized, drawn anew at every change of role or term
  int election_delay_ticks_ = 0;     // added to it
  int priority_;
  std::uint64_t hold_off_until_ = 0;  // no campaign by time before (step_down)
  bool leader_lost_ = false;  // the connection to the leader broke, and it was not heard since
  std::optional<std::uint64_t> lost_campaign_at_;  // ... and then campaign
  std::uint64_t random_state_;

  // Leader.
  Index own_first_index_ = 0;            // of the empty entry of its term
  Index pending_conf_index_ = 0;         // the newest change in the log is at or before
  std::uint64_t uncommitted_bytes_ = 0;  // of proposals in this term that are not applied yet
  NodeId transferee_ = kNoNode;
  int transfer_elapsed_ticks_ = 0;
  bool sent_timeout_now_ = false;  // in this term
  std::uint64_t last_read_id_ = 0;
  std::deque<PendingRead> reads_;              // waiting for a heartbeat round, ids ascending
  std::deque<PendingRead> deferred_reads_;     // waiting for the first commit of the term
  std::map<NodeId, std::uint64_t> read_acks_;  // greatest read id a member has answered

  // Output.
  std::vector<Message> messages_;
  std::vector<Message> after_append_;
  std::vector<ReadState> read_states_;
};

}  // namespace pgraft::raft
