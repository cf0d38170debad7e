// One PostgreSQL server as a model: WAL, streaming, promotion, commit quorum, rewind and clone, in
// steps as small as the real server's.
//
// It is the Host of a replica: orders are remembered by carry_out() and executed by the step
// execute(), so that a schedule decides how late the server obeys. Every step is atomic and does
// nothing where the server could not do it. What a crash keeps: flushed WAL, history files, the
// commit quorum's members, the rejoin marker. The world (the cluster) must outlive it. Not
// thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "libpgraft/node/replica.h"
#include "libpgraft/sim/failover_controls.h"
#include "libpgraft/sim/wal.h"

namespace pgraft::sim {

using failover::Drain;

class DatabaseModel;

// The other servers, and whoever checks what this one does.
class World {
 public:
  virtual ~World() = default;
  // The server of node `id`, if `from` can reach it and it runs; else null.
  virtual DatabaseModel* reach(NodeId from, NodeId id) = 0;
  virtual std::uint64_t next_record() = 0;
  // `node` became a primary on `timeline` by a promotion (or renewal) of `term`, with this WAL.
  virtual void promoted(NodeId node, Term term, Timeline timeline, const Wal& wal,
                        bool renewal) = 0;
  // A client, or whoever waits, is told that `record` is committed; `term`: walsenders were
  // admitted in.
  virtual void acknowledged(NodeId node, Term term, const Record& record) = 0;
  virtual void accepted_write(NodeId node, const std::string& wrong) = 0;
};

class DatabaseModel final : public node::Host {
 public:
  DatabaseModel(NodeId self, World* world, const HostSwitches& switches)
      : self_(self), world_(world), switches_(switches) {}

  // --- node::Host
  void close(const failover::Orders& orders) override;
  void carry_out(const failover::Orders& orders) override;
  Status clear_abstain() override;
  void state_changed(const state::StateMachine& machine, const raft::ConfState& conf) override;
  failover::DatabaseView view() const;

  // --- life of the server
  void initialize(Wal wal);  // the data directory as initdb or a base backup left it
  void start();              // always as a standby (rule 1)
  void crash();              // unflushed WAL and connections are gone
  void worker_started();     // a new worker, maybe on a running server: earlier orders mean nothing
  bool running() const { return running_; }
  bool primary() const { return running_ && primary_; }
  // The orders ask for a restart that has been executed up to the stop: the supervisor's turn.
  failover::Restart stopped_for() const { return stopped_for_; }

  // --- `prepare`, while the server is down (rule 9). Each returns whether there was something to
  // do.
  bool rejoin_pending() const { return rejoin_.has_value(); }
  bool begin_rejoin(bool clone);  // marks, then touches the data directory
  // `source` must be reachable and a primary. At most `keep` records are there when the server
  // starts; the rest comes by streaming.
  bool finish_rejoin(NodeId source, std::size_t keep = SIZE_MAX);
  // The data directory is what it was, whatever is asked for; false: half done, or an operator does
  // not want it used.
  bool has_data() const { return !rejoin_ || (!rejoin_->touched && rejoin_->startable); }
  bool may_start() const {
    if (!rejoin_ || !switches_.half_done) return true;
    return has_data() && switches_.untouched;
  }
  // An administrator takes it back: nothing was touched, or it was a clone, made beside the old
  // directory.
  bool undo_rejoin();
  // Wrongly: what a clone replaced comes back after the clone ran.
  bool put_back();
  void request_rejoin(NodeId source, Position target);  // by an operator, the server being down
  bool rejoin_clones() const { return rejoin_ && rejoin_->clone; }
  bool rejoin_touched() const { return rejoin_ && rejoin_->touched; }
  const std::optional<Position>& abstain_until() const { return abstain_until_; }

  // --- steps of a running server; true: something changed
  bool execute();  // the newest orders
  bool replay(std::size_t n);
  bool see_promote_signal();  // from here on it can't be withdrawn
  bool finish_promotion();
  bool connect();  // the walreceiver, to the node it is told to follow
  bool receive(std::size_t n);
  bool flush(std::size_t n);
  bool reply();  // rule 2 is kept here
  bool write();  // a client; false: refused by the fence, or it waits
  void begin_transaction() { ++transactions_; }  // that has written and does not end by itself
  bool end_transaction();
  bool write_in_background();           // what the server itself writes, fenced or not
  bool take_reply(std::size_t sender);  // of the sender'th walsender
  bool reload(
      std::size_t sender);  // that walsender reads the new commit quorum; senders(): the postmaster
  bool reap_senders();      // walsenders whose peer has gone, noticed at last
  void disconnect();  // the walreceiver loses its connection and the walsender does not notice
  bool work();        // everything that can be done now, once

  // The server loses power at the n-th of its durable changes from here on, in the middle of
  // whatever step makes it; 0: not.
  void crash_at_change(int n) { changes_left_ = n; }

  // Rule 3, by what is: why `report` must not be made now; empty: it may.
  std::string unfit_to_report(const failover::Report& report) const;
  // A walsender or the server still counts by an older commit quorum.
  bool quorum_is_stale() const { return !counts_by(generation_); }
  bool has_unacknowledged() const { return released_ < wal_.size() + unflushed_.size(); }
  // Some walsender's peer is gone, or has another connection.
  bool has_stale_sender() const;

  std::size_t senders() const { return senders_.size(); }
  const Wal& wal() const { return wal_; }
  std::size_t unflushed() const { return unflushed_.size(); }
  bool streaming() const { return receiver_.has_value(); }
  bool end_known() const { return primary_ || end_known_; }
  bool frozen() const { return !admitted_ && senders_.empty(); }
  bool promote_pending() const { return signal_.has_value(); }
  Drain drain() const { return drain_; }
  Timeline highest_history() const;  // of the files, and of its WAL
  bool promote_seen() const { return signal_ && signal_->seen; }
  bool fence_lifted() const { return running_ && primary_ && fence_lifted_; }
  Term admitted_term() const { return admitted_ ? admitted_term_ : 0; }
  const std::vector<NodeId>& quorum_voters() const { return voters_; }
  std::string describe() const;

  void remove_wal(Lsn before);  // what a checkpoint recycles

  // Negative control: a commit quorum other than the one ordered, in force at once (rule 8).
  void force_quorum(const std::vector<NodeId>& voters);
  // What work() leaves alone, so that a schedule can do it later.
  struct Holds {
    bool reload = false;     // processes don't read the new commit quorum
    bool promotion = false;  // the startup process has seen the signal and takes its time
    bool stream = false;     // the walreceiver neither receives nor replies
    bool sessions = false;   // one of them does not end
    bool replay = false;     // the startup process waits
  };
  Holds& holds() { return holds_; }

 private:
  struct Sender {
    std::uint64_t connection = 0;
    NodeId member = 0;
    Lsn flush = 0;              // as last replied; 0: not counted
    std::deque<Lsn> in_flight;  // replies on their way
    std::uint64_t generation = 0;
    std::vector<NodeId> voters;  // its own copy of the commit quorum
  };
  struct Receiver {
    std::uint64_t connection = 0;
    NodeId primary = 0;
    Term term = 0;          // the connection was made in
    Timeline timeline = 0;  // of the stream
  };
  struct Signal {
    Timeline timeline = 0;
    Term term = 0;
    bool seen = false;
  };
  struct Rejoin {
    NodeId source = 0;
    Position target;
    bool clone = false;
    bool startable = false;  // the server may run as long as nothing is touched
    bool touched = false;
    Wal saved_wal;
    std::set<Timeline> saved_history;
    std::optional<Position> saved_abstain;
  };

  Sender* sender_of(std::uint64_t connection);
  std::optional<std::uint64_t> admit(NodeId member, Position end);
  void stop_receiver();
  bool passes_gate() const;
  void count(const std::vector<NodeId>& voters);
  void release(std::size_t n);
  bool counts_by(std::uint64_t generation) const;  // every process, or a newer quorum
  bool changed();                                  // durably; true: and the power is gone
  bool is_stale(const Sender& sender) const;
  void tighten(const failover::Orders& orders);
  void loosen(const failover::Orders& orders);

  NodeId self_;
  World* world_;
  HostSwitches switches_;

  // Durable.
  Wal wal_;
  std::set<Timeline> history_files_;
  std::vector<NodeId> voters_;  // commit quorum, as the file says
  std::optional<Position> abstain_until_;
  std::optional<Rejoin> rejoin_;
  Timeline newest_done_ = 0;   // of the completed promotions that it has heard of
  Wal retired_;                // what the last clone replaced
  std::size_t kept_from_ = 0;  // WAL before it has been removed

  // Of the running server.
  bool running_ = false;
  failover::Restart stopped_for_ = failover::Restart::kNone;
  Wal unflushed_;
  std::size_t replayed_ = 0;
  bool end_known_ = false;
  bool primary_ = false;
  std::optional<Signal> signal_;
  Timeline reserved_ = 0;  // a history file put there so that the promotion takes the id it must
  std::vector<Sender> senders_;
  std::optional<Receiver> receiver_;
  std::size_t released_ = 0;

  // Orders: wanted, and as executed.
  failover::Orders wanted_;
  std::uint64_t seen_ = 0;
  Term gate_term_ = 0;
  bool gate_open_ = false;
  Timeline gate_timeline_ = 0;
  Lsn gate_switch_ = 0;
  NodeId follow_ = 0;
  Term follow_term_ = 0;
  bool admitted_ = false;
  Term admitted_term_ = 0;
  bool fence_lifted_ = false;
  Drain drain_ = Drain::kNone;
  std::size_t transactions_ = 0;
  std::uint64_t generation_ = 0;        // of voters_
  std::uint64_t first_generation_ = 0;  // of the term of the last orders for it
  Term generation_term_ = 0;
  // What the postmaster and the checkpointer have read; new processes begin with it.
  std::vector<NodeId> server_voters_;
  std::uint64_t server_generation_ = 0;
  Holds holds_;
  int changes_left_ = 0;
  bool was_in_force_ = false;  // the quorum, since walsenders were admitted in their term
  std::set<NodeId> members_;
  std::uint64_t next_connection_ = 1;
};

}  // namespace pgraft::sim
