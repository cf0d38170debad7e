// A whole cluster in one process: the production replica of each member over a simulated network,
// store and PostgreSQL.
//
// Nothing happens by itself: a schedule delivers messages, ticks members and lets servers work, one
// step at a time. The same options and the same calls give the same run. After every step the
// invariants are checked; what they found is in violations().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "libpgraft/node/replica.h"
#include "libpgraft/sim/database_model.h"
#include "libpgraft/sim/faulty_store.h"
#include "libpgraft/sim/invariants.h"

namespace pgraft::sim {

struct ClusterOptions : FailoverControls {
  int members = 3;                   // ids 1..members
  std::vector<NodeId> first_voters;  // empty: all; the others start blank
  std::uint64_t seed = 1;
  int election_ticks = 10;
  bool elections = true;  // false: nobody campaigns unless told to; no pre-vote, no check quorum
  raft::Index snapshot_every = 1000;  // and half of it is kept
  int wal_status_ticks = 50;
  std::map<NodeId, int> priorities;  // Replica::Options::priority; absent: the greatest
};

class Cluster final : public World {
 public:
  explicit Cluster(const ClusterOptions& options);
  ~Cluster() override;
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  struct Envelope {
    NodeId from = 0;
    NodeId to = 0;
    raft::Incarnation from_incarnation =
        0;  // as known when it was sent: connections are made with them
    raft::Incarnation to_incarnation = 0;
    std::variant<raft::Message, failover::Report, failover::WalStatus> body;
  };

  // --- members
  std::vector<NodeId> ids() const;
  bool up(NodeId id) const { return at(id).replica != nullptr; }
  // Its server is down, and its replica votes (PROTOCOL.md, M8h).
  bool votes_only(NodeId id) const { return up(id) && at(id).without_data; }
  bool serves(NodeId id) const { return up(id) && !votes_only(id); }
  DatabaseModel& database(NodeId id) { return *at(id).database; }
  const DatabaseModel& database(NodeId id) const { return *at(id).database; }
  node::Replica& replica(NodeId id) { return *at(id).replica; }  // while it is up
  const node::Replica& replica(NodeId id) const { return *at(id).replica; }
  bool leads(NodeId id) const;
  NodeId leader() const;           // the one of the highest term; 0: none
  bool writable(NodeId id) const;  // leads, fence lifted, quorum in force

  // --- faults
  void crash(NodeId id);         // server and worker together
  void crash_worker(NodeId id);  // the server goes on; start_worker() follows
  // The power goes at the n-th thing from here on that its replica does to the world around it, in
  // the middle of whatever it does then.
  void crash_inside(NodeId id, int n);
  void start(NodeId id);  // where the server may not run: to vote
  void wipe(NodeId id);   // disk erased, started with a new incarnation (rule 10)
  void partition(std::set<NodeId> group) { group_ = std::move(group); }  // from everybody else
  void heal() { group_.clear(); }
  bool connected(NodeId a, NodeId b) const { return group_.contains(a) == group_.contains(b); }

  // --- steps
  void tick(NodeId id);
  void campaign(NodeId id);
  void observe(NodeId id);  // the controller sees its server as it is
  bool step(NodeId id, const std::function<bool(DatabaseModel&)>& what);  // then observes
  bool work(NodeId id);  // DatabaseModel::work(), restarts and rejoins included
  // The disk of the Raft log: held, it writes only what it is told to. A start ends it.
  void hold_writes(NodeId id, bool held);
  bool write_log(NodeId id);  // the oldest write that waits
  void deliver(std::size_t i);
  void drop(std::size_t i);
  void duplicate(std::size_t i) { network_.push_back(network_[i]); }
  const std::vector<Envelope>& network() const { return network_; }
  void drop_all() {
    while (!network_.empty()) drop(0);
  }
  std::vector<Envelope> hold(const std::function<bool(const Envelope&)>& which);  // taken out
  void put_back(std::vector<Envelope> envelopes);

  // Messages among `ids` until there are none; servers don't move. Others' are left in the network.
  void pump(const std::set<NodeId>& ids);
  // Messages and servers of `ids` until nothing changes.
  void settle(const std::set<NodeId>& ids);
  // Ticks and settles `ids` until `done`, at most `ticks` times; returns whether it came true.
  bool run_until(const std::set<NodeId>& ids, int ticks, const std::function<bool()>& done);

  // --- requests, at the leader
  Status add_member(NodeId leader, NodeId id);  // as a learner
  Status remove_member(NodeId leader, NodeId id);
  state::Member member(NodeId id) const;
  std::vector<NodeId> voters(NodeId id) const;  // as `id` has applied them
  Timeline bound(NodeId id) const;              // rule 3, as its disk has it

  const std::vector<std::string>& violations() const { return invariants_.violations(); }
  const Invariants& invariants() const { return invariants_; }
  const std::vector<std::string>& trace() const { return trace_; }
  void note(std::string event);
  std::string describe() const;

  // --- World
  DatabaseModel* reach(NodeId from, NodeId id) override;
  std::uint64_t next_record() override { return ++records_; }
  void promoted(NodeId node, Term term, Timeline timeline, const Wal& wal, bool renewal) override;
  void acknowledged(NodeId node, Term term, const Record& record) override;
  void accepted_write(NodeId node, const std::string& wrong) override;

 private:
  struct Wire;
  struct Door;
  struct Node {
    raft::Incarnation incarnation = 0;
    std::unique_ptr<storage::LogStore> store;
    std::unique_ptr<DatabaseModel> database;
    std::unique_ptr<Wire> wire;
    std::unique_ptr<node::HeldLogWriter> writer;
    std::unique_ptr<node::Replica> replica;  // null: down
    std::uint64_t starts = 0;
    bool without_data = false;
    int waited = 0;           // ticks, without data and for a source
    raft::Index checked = 0;  // committed entries compared so far
    std::size_t wal_checked = 0;
    std::unique_ptr<Door> door;
    int outputs_left = 0;  // 0: no end
    bool dead = false;     // nothing of it leaves any more; it is crashed when its step is over
  };

  Node& at(NodeId id) { return nodes_.at(id); }
  const Node& at(NodeId id) const { return nodes_.at(id); }
  void make_node(NodeId id);
  void bootstrap();
  void start_worker(NodeId id);
  void process(NodeId id);
  Status refusal(NodeId leader, const std::function<void(node::Completion)>& request);
  void check(NodeId id);
  void check_wal(NodeId id);
  bool is_dead(NodeId id);    // counts an output
  bool supervise(NodeId id);  // a stopped server: rejoin, start
  bool wait_for_source(NodeId id);
  void vote(NodeId id);
  NodeId rejoin_source(NodeId id);

  ClusterOptions options_;
  std::map<NodeId, Node> nodes_;
  std::vector<Envelope> network_;
  std::set<NodeId> group_;
  std::uint64_t records_ = 0;
  std::uint64_t incarnations_ = 0;
  Invariants invariants_;
  std::vector<std::string> trace_;
};

}  // namespace pgraft::sim
