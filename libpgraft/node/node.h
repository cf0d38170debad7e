// Node: a running member. A replica with its run loop on a thread of its own, LevelDB under it and
// TCP beside it.
//
// Thread rule: public methods may be called from any thread and don't block on I/O, but stop() and
// start(). Callbacks of requests are called on the node's thread and must not block. All threads
// are created with all signals blocked (the caller need not do it) and are joined by stop().
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/node/member_files.h"
#include "libpgraft/node/metrics.h"
#include "libpgraft/node/replica.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::node {

struct NodeConfig {
  std::string data_dir;  // holds identity, raft/ and the other member files
  std::string pgdata;    // empty: a node without a database
  // The database is being rewound or cloned: the node votes, so that the others can elect a leader
  // to rejoin from, and does nothing else. pgdata is empty. Refused unless a rejoin is asked for or
  // under way, and while the server runs, whose log it is.
  bool without_data = false;
  raft::NodeId node_id = 0;  // 1..; not 0
  std::string node_name;     // default: "node<id>"
  std::string cluster_name = "pgraft";
  std::string listen_address = "0.0.0.0";
  std::uint16_t listen_port = 8001;  // 0: any free one
  std::string advertise_address;  // default: listen_address, or 127.0.0.1 when that is a wildcard
  std::string pg_host;            // default: advertise_address
  std::uint16_t pg_port = 0;
  std::uint64_t system_identifier = 0;  // of the database
  std::chrono::milliseconds heartbeat_interval{100};
  std::chrono::milliseconds election_timeout{1000};  // the longest a silent leader goes unnoticed;
                                                     // campaigns come between half and all of it
  std::size_t max_log_entries = 1000;                // per append batch
  std::chrono::milliseconds request_timeout{10000};
  // false: for benchmarks and tests. A crash of the machine may lose what was acknowledged.
  bool sync_writes = true;
  int failover_priority = 100;  // 0..100: who shall lead rather; 0: only where nobody else may
  bool nosync = false;     // when it is added: it stays a learner, has no vote and is never counted
  std::uint64_t seed = 0;  // 0: from the operating system
  failover::Switches switches;  // for tests
  Status validate() const;      // every field; the message names the setting and the allowed range
};

// What the host of a database implements on top of Host. Calls come from the node's thread.
class DatabaseHost : public Host {
 public:
  // Rule 7: writes allowed until this many milliseconds from now, for `term`; 0: no lease. Called
  // at least every heartbeat while there is one.
  virtual void publish_lease(raft::Term term, std::chrono::milliseconds remaining) = 0;
  // Rule 7, reads: a follower in contact with the leader of `term` until this many milliseconds
  // from now; 0: it is not. Called at least every heartbeat while it is.
  virtual void publish_contact(raft::Term, std::chrono::milliseconds) {}
  // status() has news.
  virtual void status_changed() = 0;
  // Is the database side alive (it ticks and passes its health check)? A leader whose database is
  // not steps down (rule 11).
  virtual bool healthy() = 0;
  // Does a session that begins now find the fence lifted, and the lease alive? Until then status()
  // does not say `writable`: one that began behind the fence would be ended.
  virtual bool accepts_writes() { return true; }
  // Who copies from the server at the moment, in order to join or rejoin.
  virtual std::vector<transport::RejoinStatus> rejoins() { return {}; }
  // The key-value store has changed here, up to this revision. Called under the state machine's
  // lock: it must only leave a word.
  virtual void kv_changed(state::Revision) {}
  // The node can't go on (disk failure, corruption); it has stopped itself.
  virtual void failed(const Status& status) = 0;
};

class Node {
 public:
  // Binds, opens the store, listens and starts the run loop. `host` may be null when config.pgdata
  // is empty; it must outlive the node.
  static Result<std::unique_ptr<Node>> start(const NodeConfig& config, DatabaseHost* host);
  virtual ~Node() = default;  // stops

  // Makes this node the first of a new cluster (pgraft_init). kFailedPrecondition when it is part
  // of one.
  virtual void init(Completion done) = 0;
  // Asks the node at host:port who it is and adds it as a learner. Refused: unreachable
  // (kUnavailable), not `expected_id` (kMismatch; 0: any), another system identifier or cluster
  // name (kMismatch), already part of a cluster (kFailedPrecondition), duplicate id
  // (kAlreadyExists), not the leader (kNotLeader, names it), no quorum (kNoQuorum: how many of how
  // many answered).
  virtual void add_node(raft::NodeId expected_id, std::string host, std::uint16_t port,
                        Completion done) = 0;
  virtual void remove_node(raft::NodeId id, Completion done) = 0;
  // A planned switchover, see Replica. `limit`: 0 is request_timeout.
  struct Transfer {
    raft::NodeId to = 0;  // 0: the best one
    std::chrono::milliseconds limit{0};
    bool end_writers = false;
  };
  virtual void transfer_leadership(const Transfer& transfer, Completion done) = 0;
  virtual void check_transfer(raft::NodeId to, Completion done) = 0;
  virtual void cancel_transfer(Completion done) = 0;
  virtual void propose(state::Operation operation, Completion done) = 0;
  // Completes once everything that was committed when it was asked is applied here (thesis 6.4): a
  // kv_get() after it is linearizable. kTimeout: no leader confirmed it, nothing was read.
  virtual void read_barrier(Completion done) = 0;
  // The same for the database: `position` is where the acknowledged WAL ended. kTimeout, too, while
  // the leader is not promoted.
  using PositionCompletion = std::function<void(const Status& status, failover::Position position)>;
  virtual void database_barrier(PositionCompletion done) = 0;
  virtual Result<std::string> kv_get(
      const std::string& key) const = 0;  // local, as applied here; kNotFound

  // Calls `reader` once on the node's thread, with the replica to look at; nullptr on an error.
  // `barrier`: after read_barrier(), so that what it sees is linearizable.
  using Reader = std::function<void(const Status& status, const Replica* replica)>;
  virtual void read(bool barrier, Reader reader) = 0;
  using MetricsReader = std::function<void(const Status& status, const Metrics& metrics)>;
  virtual void metrics(MetricsReader reader) = 0;

  virtual void observe(const failover::DatabaseView& view) = 0;
  virtual transport::ClusterStatus status() const = 0;
  virtual std::vector<state::StateMachine::PromotionRecord> promotions() const = 0;
  virtual std::uint16_t port() const = 0;
  virtual const Binding& binding() const = 0;
  virtual state::Pause pause() const = 0;  // as last asked for; it may be over
  virtual bool is_member() const = 0;      // initialized: has a cluster
  virtual void stop() = 0;                 // idempotent; no callback after it returns
};

}  // namespace pgraft::node
