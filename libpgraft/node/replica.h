// One replica: Raft core, state machine and failover controller put together, still deterministic.
//
// The world comes in through three interfaces (durable store, outbox, host), so that the production
// node (threads, LevelDB, TCP, PostgreSQL) and the simulator (virtual time, simulated disks, a
// model of PostgreSQL) run the same code. One thread owns it.
//
// The disk works beside it (LogWriter): the leader replicates while its own disk writes. process()
// does, until nothing is left: take what has been written, and give the answers that were due then;
// ready -> [new term: host closes the gate] -> hand out writes, send, apply what is committed and
// durable here; then one controller update, once the term is durable, whose requests are carried
// out in order and whose orders go to the host.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/failover/controller.h"
#include "libpgraft/node/expirations.h"
#include "libpgraft/node/log_writer.h"
#include "libpgraft/raft/raw_node.h"
#include "libpgraft/state/state_machine.h"
#include "libpgraft/storage/log_store.h"

namespace pgraft::node {

class Outbox {
 public:
  virtual ~Outbox() = default;
  virtual void send(raft::Message message) = 0;
  virtual void send_report(raft::NodeId to, const failover::Report& report) = 0;
  virtual void send_wal_status(raft::NodeId to, const failover::WalStatus& status) = 0;
};

enum class ChangeStep : std::uint8_t {
  kProposed,   // in the leader's log; no other member has it
  kCommitted,  // not applied here
  kApplied,    // in Raft; the controller, and so the commit quorum, do not know
};

// The side that executes orders. All calls come from the replica's thread.
class Host {
 public:
  virtual ~Host() = default;
  // Rule 2: returns only when no reply of an earlier term can be sent any more, the fence is closed
  // and no walsender is admitted; called before the term is persisted.
  virtual void close(const failover::Orders& orders) = 0;
  // To be carried out; answered by Replica::observe() with a view whose orders_seen is >=
  // orders.seq. Must not block.
  virtual void carry_out(const failover::Orders& orders) = 0;
  // The durable rejoin marker has done its work (rule 9).
  virtual Status clear_abstain() = 0;
  // Members, their addresses, promotions or the configuration changed.
  virtual void state_changed(const state::StateMachine& machine, const raft::ConfState& conf) = 0;
  // Leader: the quorum's LSN; no acknowledged commit of this server's time as a primary lies above
  // it. May be called at any time, and must not block.
  virtual failover::Lsn acknowledged_lsn() { return 0; }
  // Around every change of the state machine, in pairs: a host that lets other threads read the
  // machine locks it here.
  virtual void applying() {}
  virtual void applied() {}
  // The leader's membership change has come this far; for tests, which stop it there.
  virtual void change_reached(ChangeStep, raft::ConfChangeType) {}
};

// How a request ended. `value`: for log entries the index, or 0 when the entry had no effect: a key
// to delete that was not there, a comparison that did not hold.
using Completion = std::function<void(const Status& status, std::uint64_t value)>;

class Replica {
 public:
  struct Options {
    raft::Config raft;
    failover::Config failover;
    bool with_database = true;           // false: Raft and key-value only, the controller rests
    raft::Index snapshot_every = 10000;  // applied entries between snapshots of the state machine
    raft::Index keep_tail =
        5000;  // entries kept behind a snapshot for followers that are just behind
    int request_timeout_ticks =
        500;  // a request that is not applied by then completes with kTimeout ("outcome unknown")
    int wal_status_ticks = 50;          // between two that are sent
    bool durable_term_first = true;     // rule 2: a negative control's, see update_controller()
    int priority = raft::kMaxPriority;  // who campaigns first; 0: leads only where nobody else may
    int tick_ms = 20;                   // how long a tick lasts, for times to live
  };

  // The store, its writer, outbox and host must outlive it. Rebuilds the state machine from the
  // store. The writer must have nothing under way.
  static Result<std::unique_ptr<Replica>> create(const Options& options, storage::LogStore* store,
                                                 LogWriter* writer, Outbox* outbox, Host* host);

  ~Replica();
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  // Makes `store` the first node of a new cluster: a snapshot at index 1, term 1, whose only voter
  // is `self`. kFailedPrecondition unless the store is blank. `cluster_id` goes into that snapshot,
  // so that whoever joins learns it with the first thing that it persists (rule 10).
  static Status bootstrap(storage::LogStore* store, const state::Member& self,
                          std::uint64_t cluster_id = 0);

  // Inputs; each is followed by process().
  void tick();
  void receive(raft::Message message);
  void receive_report(const failover::Report& report);
  void receive_wal_status(const failover::WalStatus& status);
  void observe(const failover::DatabaseView& view);
  void peer_lost(
      raft::NodeId id);  // connection reset or refused; campaigns staggered by rank (see .cc)
  void snapshot_sent(raft::NodeId id, bool ok);

  // When the writer has news, only process() is due.

  // Requests. Completions are called from process(), exactly once, or from the destructor with
  // kUnavailable. Not the leader: kNotLeader naming it (kv and log operations are forwarded by Raft
  // and need no leader here).
  void propose(state::Operation operation, Completion done);
  // Completes once this node's state machine holds everything that was committed when it was asked
  // (thesis 6.4): what is read here from then on is linearizable. `value`: the index.
  void read_barrier(Completion done);
  // The same; and `position` has been set, by a promoted leader, to where the acknowledged WAL
  // ends: a database that has replayed it holds all that was acknowledged before the call
  // (PROTOCOL.md, M9).
  void read_barrier(Completion done, std::shared_ptr<failover::Position> position);
  void add_member(const state::Member& member,
                  Completion done);  // as a learner; becomes a voter when its WAL has caught up
                                     // (rule 8); without a database when its log has
  void remove_member(raft::NodeId id, Completion done);
  // With a database a planned switchover (failover/switchover.h): refused with kFailedPrecondition
  // when `to` (0: the best one) can't take over; given up after `limit_ticks` (0:
  // request_timeout_ticks), with kFailedPrecondition, or kTimeout when the outcome is not known.
  struct Transfer {
    raft::NodeId to = raft::kNoNode;
    int limit_ticks = 0;
    bool end_writers = false;  // abort the transactions that are in the way at half of the time
  };
  void transfer_leadership(const Transfer& transfer, Completion done);
  // Whether it would be begun; `value`: the node that was chosen.
  void check_transfer(raft::NodeId to, Completion done);
  // The switchover that this node's caller waits for is given up: kAborted, for that caller too.
  // kFailedPrecondition: there is none, or the target may already be taking over.
  void cancel_transfer(Completion done);

  // No failover by itself until then (state::Pause): nobody campaigns for want of a leader but the
  // node that was promoted last. Advice: it makes nobody who leads stop, and no rule rests on it.
  // The wall clock is the caller's to tell, as milliseconds since 1970.
  void set_wall_clock(std::uint64_t unix_ms) { wall_clock_ms_ = unix_ms; }
  bool is_paused() const { return machine_.pause().until_ms > wall_clock_ms_; }

  // Completes what still waits with kUnavailable. Nothing but the destructor may follow, and what
  // only reads.
  void stop();

  // kIo / kCorruption here is fatal: the node must stop.
  Status process();

  raft::NodeStatus raft_status() const;
  const raft::RawNode& raft() const { return *raft_; }
  raft::RawNode& raft() { return *raft_; }
  const state::StateMachine& machine() const { return machine_; }
  const failover::Controller& controller() const { return controller_; }
  const failover::DatabaseView& database() const { return database_; }
  // As a member, this node too, told last; from 0: it has not.
  failover::WalStatus wal_status(raft::NodeId id) const;
  Status check_leads() const;  // ok when this node leads; else who does, or why nobody does
  // Writes are under way.
  bool is_writing() const { return !writes_.empty(); }
  // The disk has not done the oldest write for longer than an election timeout (rule 11).
  bool is_disk_stalled() const;
  // Leader: why a member has no vote yet; empty: it has one, or this node does not lead (rule 8).
  std::string waits_for(raft::NodeId id) const;
  // Leader: why no change of the members could begin now; empty: one could.
  std::string change_waits_for() const;
  // A committed entry, as it is in the log. kNotFound: not there any more, or not yet.
  Result<raft::Entry> committed_entry(raft::Index index) const;
  raft::Index first_index() const { return store_->first_index(); }
  raft::Index snapshot_index() const { return snapshot_index_; }
  // How long a key with a time to live is still there, at least; known to the leader alone.
  std::optional<std::uint64_t> expires_in_ms(const std::string& key) const;
  bool is_member() const;  // the applied configuration holds this node
  const raft::ConfState& conf() const { return conf_; }  // as applied
  // Ticks (raft().now_ticks()) at which the current leader lease began; 0: none. The lease lasts
  // election_ticks from there.
  std::uint64_t lease_start_tick() const { return raft_->quorum_ack_tick(); }
  // Likewise when this follower last heard the leader of its term; 0: it knows of none.
  std::uint64_t leader_heard_tick() const { return raft_->leader_heard_tick(); }

 private:
  Replica(const Options& options, storage::LogStore* store, LogWriter* writer, Outbox* outbox,
          Host* host);
  class Requests;

  // process(), from the inside out.
  Status drain_ready();
  Status take_written();
  Status hand_out();
  Status write(raft::Message write, bool sync);
  void restore(const raft::Snapshot& snapshot);
  Status apply(const raft::Message& work);
  Status apply(const raft::Entry& entry);
  void flush_proposals();
  void ask_to_read(std::uint64_t id);
  void send(raft::Message message);
  std::optional<failover::Position> acknowledged() const;
  Status save_snapshot_if_due();
  void close_for(raft::Term term);
  void report_changes();
  Status update_controller();
  Status carry_out(const failover::Requests& requests);
  void promote_learners();
  void settle_requests();
  void send_wal_status();
  void expire_keys();
  void confirm_removal();

  // Why a request can't be served; ok when it can.
  Status check_part_of_cluster() const;
  Status check_may_change_members() const;
  Status change_under_way() const;
  Status change_not_confirmed() const;
  std::string silent_voters() const;
  std::string told_lag(raft::NodeId id) const;
  Status check_majority_answers(std::vector<raft::NodeId> voters) const;
  Status no_leader() const;
  Status propose_change(raft::ConfChangeType type, const state::Member& member);
  raft::NodeId longest_log() const;
  void keep_priority();
  void switch_over(const Transfer& transfer, Completion done);
  std::uint64_t limit_ticks(const Transfer& transfer) const;
  failover::RaftView raft_view() const;
  bool is_voter(raft::NodeId id) const;
  bool answers(raft::NodeId id) const;

  Options options_;
  storage::LogStore* store_;
  LogWriter* writer_;
  Outbox* outbox_;
  Host* host_;
  std::unique_ptr<raft::RawNode> raft_;
  raft::Ready ready_;                   // the newest; its memory is used again
  std::vector<raft::Message> written_;  // likewise
  state::StateMachine machine_;
  Expirations expirations_;
  raft::Term expirations_term_ = 0;
  failover::Controller controller_;
  failover::DatabaseView database_;
  std::unique_ptr<Requests> requests_;
  raft::ConfState conf_;              // as applied
  raft::Term term_ = 0;               // highest one persisted
  raft::Term closed_term_ = 0;        // highest one that the host has closed for
  std::deque<std::uint64_t> writes_;  // ticks at which those under way were handed out
  std::map<raft::Index, state::StateMachine> restoring_;  // from snapshots being written
  struct Proposal {
    std::uint64_t request = 0;
    std::string command;
  };
  std::vector<Proposal> proposals_;  // since the last process()
  raft::Index snapshot_index_ = 0;   // of the newest snapshot in the store
  bool changed_ = true;              // the host has not seen the newest members or promotions
  std::uint64_t wall_clock_ms_ = 0;
  int priority_ = -1;                                         // that the core has
  std::map<raft::NodeId, std::uint64_t> heard_tick_;          // last message of each node
  std::map<raft::NodeId, failover::WalStatus> wal_statuses_;  // of the others
  Status failed_;
};

}  // namespace pgraft::node
