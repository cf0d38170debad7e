#include "libpgraft/sim/cluster.h"

#include <algorithm>

#include "libpgraft/base/check.h"

namespace pgraft::sim {

namespace {

constexpr std::uint64_t kClusterId = 7;

std::string numbers(const std::vector<NodeId>& ids) {
  std::string text;
  for (const NodeId id : ids) text += (text.empty() ? "" : " ") + std::to_string(id);
  return "{" + text + "}";
}

}  // namespace

struct Cluster::Wire final : node::Outbox {
  Wire(Cluster* cluster, NodeId self) : cluster(cluster), self(self) {}
  void send(raft::Message message) override {
    const NodeId to = message.to;
    put(to, std::move(message));
  }
  void send_report(raft::NodeId to, const failover::Report& report) override {
    const std::string wrong = cluster->at(self).database->unfit_to_report(report);
    cluster->invariants_.reported(self, report.term, wrong);
    put(to, report);
  }
  void send_wal_status(raft::NodeId to, const failover::WalStatus& status) override {
    put(to, status);
  }

  template <class Body>
  void put(NodeId to, Body body) {
    if (cluster->is_dead(self)) return;
    const auto peer = cluster->nodes_.find(to);
    const raft::Incarnation theirs = peer == cluster->nodes_.end() ? 0 : peer->second.incarnation;
    cluster->network_.push_back({self, to, cluster->at(self).incarnation, theirs, std::move(body)});
  }
  Cluster* cluster;
  NodeId self;
};

// The host as its replica sees it: what a process that has died asks for does not come.
struct Cluster::Door final : node::Host {
  Door(Cluster* cluster, NodeId self) : cluster(cluster), self(self) {}
  void close(const failover::Orders& orders) override {
    if (DatabaseModel* d = reach()) d->close(orders);
  }
  void carry_out(const failover::Orders& orders) override {
    if (DatabaseModel* d = reach()) d->carry_out(orders);
  }
  Status clear_abstain() override {
    DatabaseModel* d = reach();
    return d == nullptr ? Status::ok() : d->clear_abstain();
  }
  void state_changed(const state::StateMachine& machine, const raft::ConfState& conf) override {
    if (DatabaseModel* d = reach()) d->state_changed(machine, conf);
  }
  DatabaseModel* reach() const {
    return cluster->is_dead(self) ? nullptr : cluster->at(self).database.get();
  }
  Cluster* cluster;
  NodeId self;
};

bool Cluster::is_dead(NodeId id) {
  Node& node = at(id);
  if (node.outputs_left == 0 || --node.outputs_left > 0) return node.dead;
  node.dead = true;
  if (node.writer) node.writer->hold(true);  // what it hands out now is lost
  return true;
}

void Cluster::crash_inside(NodeId id, int n) {
  if (up(id) || n == 0) at(id).outputs_left = n;
}

Cluster::Cluster(const ClusterOptions& options) : options_(options) {
  for (NodeId id = 1; id <= static_cast<NodeId>(options.members); ++id) make_node(id);
  bootstrap();
  for (const NodeId id : ids()) start(id);
}

// Replicas first: their completions may look at the rest.
Cluster::~Cluster() {
  for (auto& [id, node] : nodes_) node.replica.reset();
}

void Cluster::make_node(NodeId id) {
  Node node;
  node.incarnation = options_.incarnations ? 1000 * ++incarnations_ + id : 0;
  node.store = std::make_unique<FaultyStore>(options_.store);
  node.database = std::make_unique<DatabaseModel>(id, this, options_.host);
  node.wire = std::make_unique<Wire>(this, id);
  node.door = std::make_unique<Door>(this, id);
  nodes_[id] = std::move(node);
}

void Cluster::bootstrap() {
  std::vector<NodeId> voters = options_.first_voters.empty() ? ids() : options_.first_voters;
  state::StateMachine machine;
  machine.set_cluster_id(kClusterId);
  raft::Snapshot snapshot;
  snapshot.meta.index = 1;
  snapshot.meta.term = 1;
  snapshot.meta.conf.voters = voters;
  for (const NodeId id : voters) {
    machine.put_member(member(id));
    if (at(id).incarnation != 0) snapshot.meta.conf.incarnations[id] = at(id).incarnation;
  }
  machine.set_applied_index(1);
  snapshot.data = machine.snapshot();
  const Wal base = {{1, next_record()}};  // all are copies of the same initdb
  for (const NodeId id : ids()) at(id).database->initialize(base);
  for (const NodeId id : voters) {
    storage::WriteBatch batch;
    batch.hard_state = raft::HardState{1, raft::kNoNode, 1};
    batch.snapshot = &snapshot;
    const Status s = at(id).store->write(batch);
    PGRAFT_CHECK(s.is_ok(), s.to_string());
  }
}

std::vector<NodeId> Cluster::ids() const {
  std::vector<NodeId> ids;
  for (const auto& [id, node] : nodes_) ids.push_back(id);
  return ids;
}

state::Member Cluster::member(NodeId id) const {
  state::Member member;
  member.id = id;
  member.incarnation = at(id).incarnation;
  member.name = "node" + std::to_string(id);
  member.address = "10.0.0." + std::to_string(id);
  member.port = 8001;
  member.pg_host = member.address;
  member.pg_port = 5432;
  return member;
}

bool Cluster::leads(NodeId id) const {
  return up(id) && at(id).replica->raft().role() == raft::Role::kLeader;
}

NodeId Cluster::leader() const {
  NodeId best = 0;
  for (const auto& [id, node] : nodes_) {
    if (leads(id) && (best == 0 || at(best).replica->raft().term() < node.replica->raft().term())) {
      best = id;
    }
  }
  return best;
}

bool Cluster::writable(NodeId id) const {
  return leads(id) && at(id).replica->controller().is_writable_leader() &&
         at(id).database->fence_lifted();
}

std::vector<NodeId> Cluster::voters(NodeId id) const {
  return up(id) ? at(id).replica->raft_status().conf.voters : std::vector<NodeId>{};
}

// --- faults

void Cluster::crash(NodeId id) {
  if (!up(id)) return;
  note("crash " + std::to_string(id));
  at(id).database->crash();
  at(id).replica.reset();
  at(id).outputs_left = 0;
  at(id).dead = false;
}

void Cluster::crash_worker(NodeId id) {
  if (!up(id)) return;
  note("worker of " + std::to_string(id) + " crashes");
  at(id).replica.reset();
  start_worker(id);
}

void Cluster::start(NodeId id) {
  if (serves(id)) return;
  if (!at(id).database->may_start()) return vote(id);
  note("start " + std::to_string(id));
  at(id).replica.reset();
  at(id).database->start();
  start_worker(id);
}

// `prepare` while it rewinds, clones or waits for whom to do it from.
void Cluster::vote(NodeId id) {
  if (up(id) || !options_.host.votes) return;
  note("node " + std::to_string(id) + " votes only");
  at(id).waited = 0;
  start_worker(id);
}

void Cluster::start_worker(NodeId id) {
  Node& node = at(id);
  // A crash that was still to come was the last worker's: this one's first order would be lost.
  node.outputs_left = 0;
  node.dead = false;
  node.database->worker_started();
  node.without_data = !node.database->running();
  node::Replica::Options options;
  options.raft.id = id;
  options.raft.incarnation = node.incarnation;
  options.raft.election_ticks = options_.election_ticks;
  options.raft.pre_vote = options_.elections;
  options.raft.check_quorum = options_.elections;
  options.raft.seed = options_.seed * 1000003 + id * 1009 + ++node.starts;
  options.failover.switches = options_.rules;
  options.failover.abstain_until = node.database->abstain_until();
  options.failover.without_data = node.without_data;
  options.failover.rejoin_requested = !node.without_data && node.database->rejoin_pending();
  options.snapshot_every = options_.snapshot_every;
  options.keep_tail = options_.snapshot_every / 2;
  if (options_.priorities.contains(id)) options.priority = options_.priorities.at(id);
  if (node.without_data) options.priority = 0;
  options.durable_term_first = options_.durable_term_first;
  options.wal_status_ticks = options_.wal_status_ticks;
  node.writer = std::make_unique<node::HeldLogWriter>(node.store.get());
  Result<std::unique_ptr<node::Replica>> replica = node::Replica::create(
      options, node.store.get(), node.writer.get(), node.wire.get(), node.door.get());
  PGRAFT_CHECK(replica.is_ok(), replica.status().to_string());
  node.replica = std::move(replica).value();
  node.checked = 0;
  node.wal_checked = 0;
  if (!options_.elections) node.replica->raft().set_election_delay(1 << 20);
  observe(id);
}

void Cluster::wipe(NodeId id) {
  crash(id);
  make_node(id);
  note("wipe " + std::to_string(id));
  at(id).database->initialize({{1, 1}});
  start(id);
}

// --- steps

void Cluster::process(NodeId id) {
  if (!up(id)) return;
  const Status s = at(id).replica->process();
  PGRAFT_CHECK(s.is_ok(), "node " + std::to_string(id) + ": " + s.to_string());
  if (at(id).dead) return crash(id);
  check(id);
}

void Cluster::check(NodeId id) {
  Node& node = at(id);
  const node::Replica& replica = *node.replica;
  if (replica.raft().role() == raft::Role::kLeader) {
    invariants_.leads(id, node.incarnation, replica.raft().term());
  }
  const raft::Index applied = replica.machine().applied_index();
  if (applied <= node.checked) return;
  const raft::Index from = std::max(node.checked + 1, node.store->first_index());
  node.checked = applied;
  if (from > applied) return;
  const Result<std::vector<raft::Entry>> entries =
      node.store->entries(from, applied + 1, UINT64_MAX);
  PGRAFT_CHECK(entries.is_ok(), entries.status().to_string());
  for (const raft::Entry& entry : *entries) invariants_.committed(id, entry);
}

void Cluster::check_wal(NodeId id) {
  Node& node = at(id);
  const Wal& wal = node.database->wal();
  for (std::size_t i = std::min(node.wal_checked, wal.size()); i < wal.size(); ++i) {
    invariants_.has_record(id, i + 1, wal[i], i == 0 ? 0 : wal[i - 1].timeline);
  }
  node.wal_checked = wal.size();
}

void Cluster::tick(NodeId id) {
  if (!up(id)) return;
  ++at(id).waited;
  at(id).replica->tick();
  process(id);
}

void Cluster::campaign(NodeId id) {
  if (!up(id)) return;
  note("campaign " + std::to_string(id));
  (void)at(id).replica->raft().campaign();  // refused where it must not campaign: then nothing
                                            // happens
  process(id);
}

void Cluster::observe(NodeId id) {
  if (!up(id)) return;
  at(id).replica->observe(at(id).database->view());
  process(id);
}

bool Cluster::step(NodeId id, const std::function<bool(DatabaseModel&)>& what) {
  const bool was_running = database(id).running();
  const bool did = what(database(id));
  if (was_running && at(id).database->stopped_for() != failover::Restart::kNone) {
    at(id).replica.reset();
  }
  if (was_running && !database(id).running()) crash(id);  // in the middle of it
  if (did) check_wal(id);
  if (did) observe(id);
  return did;
}

bool Cluster::work(NodeId id) {
  if (!serves(id)) return supervise(id);
  return step(id, [](DatabaseModel& database) { return database.work(); });
}

void Cluster::hold_writes(NodeId id, bool held) {
  if (!up(id)) return;
  if (at(id).dead) return;
  at(id).writer->hold(held);
  process(id);
}

bool Cluster::write_log(NodeId id) {
  if (!up(id) || !at(id).writer->write_one()) return false;
  process(id);
  return true;
}

NodeId Cluster::rejoin_source(NodeId id) {
  for (const NodeId other : ids()) {
    if (other != id && writable(other) && connected(id, other)) return other;
  }
  return 0;
}

// What runs a server: it starts again what asked for a restart, after `prepare`. A crash is not its
// business: the schedule starts what it crashed.
bool Cluster::supervise(NodeId id) {
  DatabaseModel& database = this->database(id);
  if (database.stopped_for() == failover::Restart::kNone && !database.rejoin_pending())
    return false;
  if (database.rejoin_pending()) {
    const NodeId source = rejoin_source(id);
    if (source == 0) return wait_for_source(id);
    database.begin_rejoin(false);
    if (!database.finish_rejoin(source)) return false;
    note("node " + std::to_string(id) + " rewound from " + std::to_string(source));
  }
  start(id);
  return true;
}

// What has not been touched is of more use running: it knows where its WAL ends.
bool Cluster::wait_for_source(NodeId id) {
  const bool waited = up(id) && at(id).waited > 10 * options_.election_ticks;
  if ((waited || !options_.host.votes) && database(id).may_start()) {
    start(id);
    return true;
  }
  const bool was_up = up(id);
  vote(id);
  return up(id) != was_up;
}

void Cluster::deliver(std::size_t i) {
  Envelope envelope = std::move(network_[i]);
  network_.erase(network_.begin() + static_cast<std::ptrdiff_t>(i));
  const NodeId from = envelope.from;
  const NodeId to = envelope.to;
  const auto* message = std::get_if<raft::Message>(&envelope.body);
  const bool snapshot = message != nullptr && message->type == raft::MessageType::kSnapshot;
  const bool arrives = nodes_.contains(to) && up(to) && connected(from, to);
  if (arrives && message != nullptr) {
    at(to).replica->receive(std::get<raft::Message>(envelope.body));
  } else if (arrives && at(from).incarnation == envelope.from_incarnation &&
             at(to).incarnation == envelope.to_incarnation) {
    if (const auto* report = std::get_if<failover::Report>(&envelope.body)) {
      at(to).replica->receive_report(*report);
    } else {
      at(to).replica->receive_wal_status(std::get<failover::WalStatus>(envelope.body));
    }
  }
  if (arrives) process(to);
  if (snapshot && up(from)) {
    at(from).replica->snapshot_sent(to, arrives);
    process(from);
  }
}

void Cluster::drop(std::size_t i) {
  const Envelope envelope = std::move(network_[i]);
  network_.erase(network_.begin() + static_cast<std::ptrdiff_t>(i));
  const auto* message = std::get_if<raft::Message>(&envelope.body);
  if (message != nullptr && message->type == raft::MessageType::kSnapshot && up(envelope.from)) {
    at(envelope.from).replica->snapshot_sent(envelope.to, false);
    process(envelope.from);
  }
}

std::vector<Cluster::Envelope> Cluster::hold(const std::function<bool(const Envelope&)>& which) {
  std::vector<Envelope> held;
  for (std::size_t i = 0; i < network_.size();) {
    if (!which(network_[i])) {
      ++i;
      continue;
    }
    held.push_back(std::move(network_[i]));
    network_.erase(network_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return held;
}

void Cluster::put_back(std::vector<Envelope> envelopes) {
  for (Envelope& envelope : envelopes) network_.push_back(std::move(envelope));
}

void Cluster::pump(const std::set<NodeId>& ids) {
  for (std::size_t i = 0; i < network_.size();) {
    if (ids.contains(network_[i].from) && ids.contains(network_[i].to)) {
      deliver(i);
      i = 0;
    } else {
      ++i;
    }
  }
}

void Cluster::settle(const std::set<NodeId>& ids) {
  constexpr int kRounds = 500;  // a server that never comes to rest is a defect of the model
  for (int round = 0; round < kRounds; ++round) {
    pump(ids);
    bool did = false;
    for (const NodeId id : ids) did = work(id) || did;
    if (!did && std::none_of(network_.begin(), network_.end(), [&](const Envelope& e) {
          return ids.contains(e.from) && ids.contains(e.to);
        })) {
      return;
    }
  }
  PGRAFT_CHECK(false, "the servers never come to rest: " + describe());
}

bool Cluster::run_until(const std::set<NodeId>& ids, int ticks, const std::function<bool()>& done) {
  for (int t = 0; t < ticks; ++t) {
    settle(ids);
    if (done()) return true;
    for (const NodeId id : ids) tick(id);
  }
  settle(ids);
  return done();
}

// --- requests

// What was refused at once; ok when it was proposed. The completion may outlive this call.
Status Cluster::refusal(NodeId leader, const std::function<void(node::Completion)>& request) {
  const auto result = std::make_shared<Status>();
  request([result](const Status& s, std::uint64_t) { *result = s; });
  process(leader);
  return *result;
}

Status Cluster::add_member(NodeId leader, NodeId id) {
  if (!up(leader)) return {Code::kUnavailable, "it is down"};
  return refusal(leader, [&](node::Completion done) {
    replica(leader).add_member(member(id), std::move(done));
  });
}

Status Cluster::remove_member(NodeId leader, NodeId id) {
  if (!up(leader)) return {Code::kUnavailable, "it is down"};
  return refusal(
      leader, [&](node::Completion done) { replica(leader).remove_member(id, std::move(done)); });
}

// --- World

DatabaseModel* Cluster::reach(NodeId from, NodeId id) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end() || !connected(from, id)) return nullptr;
  DatabaseModel* database = found->second.database.get();
  return database->running() ? database : nullptr;
}

void Cluster::promoted(NodeId node, Term term, Timeline timeline, const Wal& wal, bool renewal) {
  note((renewal ? "renewal of " : "promotion of ") + std::to_string(node) + " in term " +
       std::to_string(term) + " timeline " + std::to_string(timeline) + " at " +
       std::to_string(wal.size()));
  invariants_.promoted(node, term, timeline, wal, renewal);
}

void Cluster::acknowledged(NodeId node, Term term, const Record& record) {
  invariants_.acknowledged(node, term, record);
}

// Rule 7: by the leader of its term alone, promoted in it.
void Cluster::accepted_write(NodeId id, const std::string& wrong) {
  std::string why = wrong;
  if (!up(id) || replica(id).raft().term() != database(id).admitted_term()) {
    why = "in another term than it was promoted in";
  }
  invariants_.accepted_write(id, why);
}

Timeline Cluster::bound(NodeId id) const {
  const Result<std::string> stored = at(id).store->get_value("max_ack_timeline");
  return stored ? static_cast<Timeline>(std::stoul(*stored)) : 0;
}

void Cluster::note(std::string event) {
  constexpr std::size_t kKept = 4000;
  if (trace_.size() >= kKept) trace_.erase(trace_.begin(), trace_.begin() + kKept / 2);
  trace_.push_back(std::move(event));
}

std::string Cluster::describe() const {
  std::string text;
  for (const auto& [id, node] : nodes_) {
    text += "node " + std::to_string(id) + ": " + node.database->describe();
    if (node.replica) {
      const raft::NodeStatus status = node.replica->raft_status();
      text += "; " + std::string(raft::role_name(status.soft.role)) + " of term " +
              std::to_string(status.hard.term) + ", applied " + std::to_string(status.applied) +
              ", leader " + std::to_string(status.soft.leader) + ", " +
              numbers(status.conf.voters) + " vote; " + node.replica->controller().phase();
    }
    text += "\n";
  }
  return text;
}

}  // namespace pgraft::sim
