// The replica's machine: from ready to applied, and the controller after it. Requests of callers
// are in replica_requests.cc.
#include "libpgraft/node/replica.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "libpgraft/node/requests.h"

namespace pgraft::node {

namespace {

constexpr const char* kBoundKey = "max_ack_timeline";  // rule 3
constexpr const char* kStartsKey = "starts";
constexpr std::size_t kExpiredAtOnce = 256;  // keys a tick

// A number from the store; `absent` when it was never written.
Result<std::uint64_t> stored_number(const storage::LogStore& store, const std::string& key,
                                    std::uint64_t absent) {
  const Result<std::string> text = store.get_value(key);
  if (!text && text.status().code() == Code::kNotFound) return absent;
  if (!text) return text.status();
  std::uint64_t value = 0;
  const char* end = text->data() + text->size();
  const auto parsed = std::from_chars(text->data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    return Status(Code::kCorruption, "the stored value of " + key + " is not a number");
  }
  return value;
}

// Each start of a node with a log gets a number of its own. A blank store stays blank, so that it
// can still become the first node of a cluster; it holds no command of an earlier start either.
Result<std::uint64_t> count_start(storage::LogStore* store) {
  if (store->is_blank()) return std::uint64_t{0};
  Result<std::uint64_t> starts = stored_number(*store, kStartsKey, 0);
  if (!starts) return starts.status();
  if (Status s = store->put_value(kStartsKey, std::to_string(*starts + 1)); !s) return s;
  return *starts + 1;
}

// splitmix64. Half of the numbers are left above it.
std::uint64_t first_request(raft::Incarnation incarnation, std::uint64_t starts) {
  std::uint64_t z = incarnation + starts * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return ((z ^ (z >> 31)) >> 1) + 1;
}

Status restore_from(const raft::Snapshot& snapshot, state::StateMachine* machine) {
  if (Status s = machine->restore(snapshot.data); !s) return s;
  if (machine->applied_index() == snapshot.meta.index) return Status::ok();
  return {Code::kCorruption, "the snapshot at index " + std::to_string(snapshot.meta.index) +
                                 " holds the state as of index " +
                                 std::to_string(machine->applied_index())};
}

bool changes_promotions(const state::Command& command) {
  return std::holds_alternative<failover::Promotion>(command.operation) ||
         std::holds_alternative<failover::PromotionDone>(command.operation);
}

// The key that a command may have changed; nullptr: none.
const std::string* changed_key(const state::Command& command) {
  return std::visit(
      [](const auto& op) -> const std::string* {
        if constexpr (requires { op.key; }) {
          return &op.key;
        } else {
          return nullptr;
        }
      },
      command.operation);
}

template <class T>
void append_new(std::vector<T>* to, const std::vector<T>& from) {
  for (const T& value : from) {
    if (std::find(to->begin(), to->end(), value) == to->end()) to->push_back(value);
  }
}

// The context of a read_index(): the id of the read; a promoted leader adds where the acknowledged
// WAL ends, "id@timeline:lsn".
struct ReadContext {
  std::uint64_t id = 0;
  std::optional<failover::Position> acknowledged;
};

template <class T>
bool take_number(const char** from, const char* end, T* to) {
  const auto parsed = std::from_chars(*from, end, *to);
  *from = parsed.ptr;
  return parsed.ec == std::errc();
}

bool take_char(const char** from, const char* end, char expected) {
  if (*from == end || **from != expected) return false;
  ++*from;
  return true;
}

std::optional<ReadContext> decode_read(const std::string& context) {
  const char* from = context.data();
  const char* end = from + context.size();
  ReadContext read;
  if (!take_number(&from, end, &read.id)) return std::nullopt;
  if (from == end) return read;
  failover::Position position;
  if (!take_char(&from, end, '@') || !take_number(&from, end, &position.timeline) ||
      !take_char(&from, end, ':') || !take_number(&from, end, &position.lsn) || from != end)
    return std::nullopt;
  read.acknowledged = position;
  return read;
}

bool holds(const std::vector<raft::NodeId>& ids, raft::NodeId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Replica::Replica(const Options& options, storage::LogStore* store, LogWriter* writer,
                 Outbox* outbox, Host* host)
    : options_(options),
      store_(store),
      writer_(writer),
      outbox_(outbox),
      host_(host),
      expirations_(static_cast<std::uint64_t>(std::max(1, options.tick_ms)),
                   static_cast<std::uint64_t>(options.raft.election_ticks)),
      controller_(options.failover) {
  if (!options.failover.without_data) return;
  database_.valid = true;  // a standby that neither streams nor knows where its WAL ends
  database_.receiver_stopped = true;
}

Replica::~Replica() = default;

Result<std::unique_ptr<Replica>> Replica::create(const Options& options, storage::LogStore* store,
                                                 LogWriter* writer, Outbox* outbox, Host* host) {
  Options complete = options;
  complete.raft.async_storage_writes = true;
  complete.failover.self = options.raft.id;
  complete.failover.election_ticks = options.raft.election_ticks;
  complete.failover.priority = options.priority;
  const Result<std::uint64_t> bound = stored_number(*store, kBoundKey, 0);
  if (!bound) return bound.status();
  complete.failover.max_ack_timeline =
      std::max(options.failover.max_ack_timeline, static_cast<failover::Timeline>(*bound));
  const Result<std::uint64_t> starts = count_start(store);
  if (!starts) return starts.status();
  const Result<std::shared_ptr<const raft::Snapshot>> snapshot = store->snapshot();
  if (!snapshot) return snapshot.status();
  const Result<raft::LogReader::InitialState> initial = store->initial_state();
  if (!initial) return initial.status();

  std::unique_ptr<Replica> replica(new Replica(complete, store, writer, outbox, host));
  if (*snapshot && !(*snapshot)->empty()) {
    if (Status s = restore_from(**snapshot, &replica->machine_); !s) return s;
    replica->snapshot_index_ = (*snapshot)->meta.index;
  }
  complete.raft.applied = replica->machine_.applied_index();
  Result<std::unique_ptr<raft::RawNode>> raft = raft::RawNode::create(complete.raft, store);
  if (!raft) return raft.status();
  replica->raft_ = std::move(raft).value();
  replica->requests_ = std::make_unique<Requests>(first_request(options.raft.incarnation, *starts),
                                                  options.request_timeout_ticks);
  replica->conf_ = replica->raft_->status().conf;
  replica->term_ = initial->hard.term;
  // The host may still be as an earlier start of this node left it: nothing of that counts any more
  // (rule 2).
  replica->close_for(replica->term_);
  return replica;
}

Status Replica::bootstrap(storage::LogStore* store, const state::Member& self,
                          std::uint64_t cluster_id) {
  if (Status s = state::validate(self); !s) return s;
  if (!store->is_blank()) {
    return {Code::kFailedPrecondition, "this node is part of a cluster, or was part of one"};
  }
  state::StateMachine machine;
  machine.set_cluster_id(cluster_id);
  machine.put_member(self);
  machine.set_applied_index(1);
  raft::Snapshot snapshot;
  snapshot.meta.index = 1;
  snapshot.meta.term = 1;
  snapshot.meta.conf.voters = {self.id};
  if (self.incarnation != 0) snapshot.meta.conf.incarnations[self.id] = self.incarnation;
  snapshot.data = machine.snapshot();
  storage::WriteBatch batch;
  batch.hard_state = raft::HardState{1, raft::kNoNode, 1};
  batch.snapshot = &snapshot;
  return store->write(batch);
}

// --- inputs
// -------------------------------------------------------------------------------------------------

void Replica::tick() {
  keep_priority();
  raft_->tick();
  const std::uint64_t now = raft_->now_ticks();
  requests_->expire(now);
  if (requests_->membership() && requests_->membership()->deadline <= now) {
    requests_->settle_membership(change_not_confirmed(), 0);
  }
  const auto again = static_cast<std::uint64_t>(options_.raft.election_ticks);
  for (const std::uint64_t id : requests_->unconfirmed_reads(now, again)) ask_to_read(id);
  if (now % static_cast<std::uint64_t>(options_.wal_status_ticks) == 0) send_wal_status();
  expire_keys();
}

// The leader, once it knows all that was committed before it.
void Replica::expire_keys() {
  if (raft_->role() != raft::Role::kLeader || !raft_->own_term_applied()) return expirations_.end();
  const std::uint64_t now = raft_->now_ticks();
  if (!expirations_.active() || expirations_term_ != raft_->term()) {
    expirations_.begin(machine_.kv(), now);
    expirations_term_ = raft_->term();
  }
  std::vector<std::string> commands;
  for (state::KvExpire& expired : expirations_.due(machine_.kv(), now, kExpiredAtOnce)) {
    commands.push_back(state::encode_command({options_.raft.id, 0, std::move(expired)}));
  }
  // What is refused now is proposed again.
  if (!commands.empty()) (void)raft_->propose(std::move(commands));
}

std::optional<std::uint64_t> Replica::expires_in_ms(const std::string& key) const {
  return expirations_.remaining_ms(key, raft_->now_ticks());
}

Result<raft::Entry> Replica::committed_entry(raft::Index index) const {
  const raft::Index applied = machine_.applied_index();
  if (index == 0 || index > applied) {
    return Status(Code::kNotFound, "there is no entry " + std::to_string(index) +
                                       " yet: this node has applied those up to " +
                                       std::to_string(applied));
  }
  const raft::Index first = store_->first_index();
  if (index < first) {
    return Status(Code::kNotFound, "entry " + std::to_string(index) +
                                       " is not kept any more: the log of this node begins at " +
                                       std::to_string(first));
  }
  Result<std::vector<raft::Entry>> found = store_->entries(index, index + 1, 0);
  if (!found) return found.status();
  if (found->empty()) return Status(Code::kNotFound, "there is no entry " + std::to_string(index));
  return std::move(found->front());
}

void Replica::receive(raft::Message message) {
  if (machine_.members().count(message.from) != 0) heard_tick_[message.from] = raft_->now_ticks();
  // What the core refuses (strangers, other incarnations) is dropped; the sender repeats what
  // matters.
  (void)raft_->step(std::move(message));
}

void Replica::receive_report(const failover::Report& report) {
  if (options_.with_database) controller_.receive(report);
}

void Replica::receive_wal_status(const failover::WalStatus& status) {
  if (machine_.members().count(status.from) != 0) wal_statuses_[status.from] = status;
}

failover::WalStatus Replica::wal_status(raft::NodeId id) const {
  if (id == options_.raft.id) {
    if (!database_.valid || options_.failover.without_data) return {};
    const failover::DatabaseView& d = database_;
    return {id, d.in_recovery, d.end, d.replayed, d.needed, d.oldest, options_.priority};
  }
  const auto found = wal_statuses_.find(id);
  return found == wal_statuses_.end() ? failover::WalStatus{} : found->second;
}

void Replica::send_wal_status() {
  std::erase_if(wal_statuses_,
                [&](const auto& entry) { return !machine_.members().contains(entry.first); });
  const failover::WalStatus own = wal_status(options_.raft.id);
  if (own.from == 0) return;
  for (const auto& [id, member] : machine_.members()) {
    if (id != own.from) outbox_->send_wal_status(id, own);
  }
}

// The core's priority 0 would never campaign: whose log is the longest must, should nobody else
// come (rule 4 decides then who is promoted). While failover is paused that is what is wanted of
// all but the node that was promoted last: it may have been restarted.
void Replica::keep_priority() {
  const state::StateMachine::PromotionRecord* last = machine_.latest_done();
  const bool may_campaign =
      !is_paused() || (last != nullptr && last->promotion.node == options_.raft.id);
  const int priority = may_campaign ? std::max(options_.priority, 1) : 0;
  if (priority == priority_) return;
  priority_ = priority;
  raft_->set_priority(priority);
}

void Replica::observe(const failover::DatabaseView& view) {
  if (!options_.failover.without_data) database_ = view;
}

// The first voter behind the lost leader campaigns at once, each further one two ticks later, so
// that they don't split the vote. A tick is some 20 ms: enough for the first one's election to be
// seen.
void Replica::peer_lost(raft::NodeId id) {
  heard_tick_.erase(id);
  keep_priority();
  if (raft_->role() == raft::Role::kLeader) {
    raft_->report_unreachable(id);
    return;
  }
  if (id == raft::kNoNode || id != raft_->leader() || !is_voter(options_.raft.id)) return;
  const auto rank = std::count_if(conf_.voters.begin(), conf_.voters.end(),
                                  [&](raft::NodeId v) { return v != id && v < options_.raft.id; });
  raft_->report_leader_lost(id, 2 * static_cast<int>(rank));
}

void Replica::snapshot_sent(raft::NodeId id, bool ok) { raft_->report_snapshot(id, ok); }

raft::NodeStatus Replica::raft_status() const { return raft_->status(); }

bool Replica::is_member() const {
  const raft::NodeId self = options_.raft.id;
  return is_voter(self) || holds(conf_.learners, self) || holds(conf_.learners_next, self);
}

bool Replica::is_voter(raft::NodeId id) const {
  return holds(conf_.voters, id) || holds(conf_.voters_outgoing, id);
}

// --- process
// ------------------------------------------------------------------------------------------------

Status Replica::process() {
  if (!failed_) return failed_;
  flush_proposals();
  do {
    failed_ = drain_ready();
    if (failed_) failed_ = update_controller();
    if (failed_) {
      settle_requests();
    } else {
      requests_->abandon(Status(Code::kUnavailable, "the node has failed (" + failed_.message() +
                                                        "): the outcome is unknown"));
    }
    requests_->deliver();
    flush_proposals();  // a completion may have asked for more
  } while (failed_ && raft_->has_ready());
  return failed_;
}

Status Replica::drain_ready() {
  for (;;) {
    if (Status s = take_written(); !s) return s;
    if (!raft_->has_ready()) break;
    raft_->ready_into(&ready_);
    if (Status s = hand_out(); !s) return s;
    if (Status s = save_snapshot_if_due(); !s) return s;
  }
  requests_->settle_reads(machine_.applied_index());
  report_changes();
  return Status::ok();
}

// What waited for its write: the term counts, a snapshot is restored, votes and acknowledgements
// leave.
Status Replica::take_written() {
  if (Status s = writer_->take_written(&written_); !s) return s;
  for (raft::Message& write : written_) {
    writes_.pop_front();
    term_ = std::max(term_, write.term);
    if (write.snapshot) restore(*write.snapshot);
    for (raft::Message& response : write.responses) {
      if (response.to == options_.raft.id) {
        raft_->complete(response);
      } else {
        send(std::move(response));
      }
    }
  }
  return Status::ok();
}

Status Replica::hand_out() {
  // rule 2: before the term is durable or any message of it is sent
  if (raft_->term() > closed_term_) close_for(raft_->term());
  for (raft::Message& message : ready_.messages) {
    Status s;
    if (message.to == raft::kAppendThread) {
      s = write(std::move(message), ready_.must_sync);
    } else if (message.to == raft::kApplyThread) {
      s = apply(message);
    } else {
      send(std::move(message));
    }
    if (!s) return s;
  }
  for (const raft::ReadState& read : ready_.read_states) {
    const std::optional<ReadContext> asked = decode_read(read.context);
    if (!asked) continue;
    const bool own = raft_->role() == raft::Role::kLeader;
    requests_->confirm_read(asked->id, read.index, own ? acknowledged() : asked->acknowledged);
  }
  return Status::ok();
}

// The answer to a read takes along where the acknowledged WAL ends, as of after the question.
void Replica::send(raft::Message message) {
  if (message.type == raft::MessageType::kReadIndexResponse) {
    if (const auto position = acknowledged()) {
      message.context +=
          '@' + std::to_string(position->timeline) + ':' + std::to_string(position->lsn);
    }
  }
  outbox_->send(std::move(message));
}

// Nothing that was acknowledged in this term or before lies above it (PROTOCOL.md, M9). Only a
// promoted leader knows, once the quorum is in force; what one without other voters acknowledges is
// covered by no quorum's LSN.
std::optional<failover::Position> Replica::acknowledged() const {
  const auto* done = machine_.latest_done();
  const std::optional<failover::Lsn> before = controller_.settle_lsn();
  if (!controller_.is_writable_leader() || done == nullptr || !before) return std::nullopt;
  if (controller_.orders().quorum_voters != conf_.voters) return std::nullopt;
  if (conf_.voters.size() < 2 && !conf_.learners.empty()) return std::nullopt;
  return failover::Position{done->promotion.timeline, std::max(*before, host_->acknowledged_lsn())};
}

Status Replica::write(raft::Message write, bool sync) {
  if (write.snapshot) {
    // Read before it is written: what can't be restored, or is another cluster's, must not replace
    // what is here.
    state::StateMachine restored;
    restored.set_cluster_id(machine_.cluster_id());
    if (Status s = restore_from(*write.snapshot, &restored); !s) return s;
    restoring_.insert_or_assign(write.snapshot->meta.index, std::move(restored));
  }
  writes_.push_back(raft_->now_ticks());
  writer_->append(std::move(write), sync);
  return Status::ok();
}

void Replica::restore(const raft::Snapshot& snapshot) {
  const auto restored = restoring_.find(snapshot.meta.index);
  if (restored == restoring_.end()) return;
  host_->applying();
  machine_ = std::move(restored->second);
  host_->applied();
  restoring_.erase(restored);
  conf_ = snapshot.meta.conf;
  snapshot_index_ = snapshot.meta.index;
  changed_ = true;
}

bool Replica::is_disk_stalled() const {
  return !writes_.empty() && raft_->now_ticks() - writes_.front() >
                                 static_cast<std::uint64_t>(options_.raft.election_ticks);
}

void Replica::close_for(raft::Term term) {
  closed_term_ = term;
  if (options_.with_database) host_->close(controller_.enter_term(term));
}

Status Replica::apply(const raft::Message& work) {
  host_->applying();
  Status applied;
  for (const raft::Entry& entry : work.entries) {
    applied = apply(entry);
    if (!applied) break;
  }
  host_->applied();
  if (!applied) return applied;
  for (const raft::Message& response : work.responses) raft_->complete(response);
  return Status::ok();
}

Status Replica::apply(const raft::Entry& entry) {
  if (entry.type == raft::EntryType::kNormal) {
    std::optional<state::Command> command;
    state::StateMachine::Outcome outcome;
    if (Status s = machine_.apply(entry, &command, &outcome); !s) return s;
    if (command && expirations_.active()) {
      if (const std::string* key = changed_key(*command); key != nullptr && outcome.changed) {
        expirations_.changed(*key, machine_.kv(), raft_->now_ticks());
      }
    }
    if (command && changes_promotions(*command)) changed_ = true;
    if (command && command->proposer == options_.raft.id) {
      requests_->settle_command(command->request, outcome.status,
                                outcome.changed ? entry.index : 0);
    }
    return Status::ok();
  }
  raft::ConfChange change;  // without data: joint consensus is left
  if (!entry.data.empty()) {
    Result<raft::ConfChange> decoded = raft::decode_conf_change(entry.data);
    if (!decoded) return decoded.status().with_context("entry " + std::to_string(entry.index));
    change = std::move(decoded).value();
  }
  const auto reached = [&](ChangeStep step) {
    if (raft_->role() != raft::Role::kLeader || change.changes.empty()) return;
    host_->change_reached(step, change.changes.front().type);
  };
  reached(ChangeStep::kCommitted);
  conf_ = raft_->apply_conf_change(change);
  reached(ChangeStep::kApplied);
  if (Status s = machine_.apply_conf_change(change, conf_); !s) {
    return s.with_context("entry " + std::to_string(entry.index));
  }
  machine_.set_applied_index(entry.index);
  changed_ = true;
  auto& waiting = requests_->membership();
  if (waiting && std::find(change.changes.begin(), change.changes.end(), waiting->change) !=
                     change.changes.end()) {
    waiting->applied_at = entry.index;
    if (waiting->change.type != raft::ConfChangeType::kRemove) {
      requests_->settle_membership(Status::ok(), entry.index);
    }
  }
  return Status::ok();
}

Status Replica::save_snapshot_if_due() {
  const raft::Index applied = machine_.applied_index();
  if (options_.snapshot_every == 0 || applied < snapshot_index_ + options_.snapshot_every) {
    return Status::ok();
  }
  const Result<raft::Term> term = store_->term(applied);
  if (!term) return term.status().with_context("could not take a snapshot");
  raft::Snapshot snapshot{{applied, *term, conf_}, machine_.snapshot()};
  const raft::Index kept = applied > options_.keep_tail ? applied - options_.keep_tail + 1 : 1;
  writer_->save(std::move(snapshot), std::max(kept, store_->first_index()));
  snapshot_index_ = applied;
  return Status::ok();
}

void Replica::report_changes() {
  if (!changed_) return;
  changed_ = false;
  host_->state_changed(machine_, conf_);
}

failover::RaftView Replica::raft_view() const {
  const raft::NodeStatus status = raft_->status();
  failover::RaftView view;
  view.self = options_.raft.id;
  view.term = status.hard.term;
  view.role =
      status.soft.role == raft::Role::kLeader ? failover::Role::kLeader : failover::Role::kFollower;
  view.leader = status.soft.leader;
  view.own_term_applied = raft_->own_term_applied();
  view.conf_change_pending = raft_->conf_change_pending();
  view.voters = conf_.voters;
  append_new(&view.voters, conf_.voters_outgoing);
  view.learners = conf_.learners;
  append_new(&view.learners, conf_.learners_next);
  if (view.role == failover::Role::kLeader) {
    view.answering = {view.self};
    for (const auto& [id, progress] : status.progress) {
      if (id != view.self &&
          progress.idle_ticks <= static_cast<std::uint64_t>(options_.raft.election_ticks)) {
        view.answering.push_back(id);
      }
    }
  }
  view.transferring = status.transferee != raft::kNoNode;
  for (const auto& [id, told] : wal_statuses_) view.priorities[id] = told.priority;
  return view;
}

Status Replica::update_controller() {
  if (!options_.with_database) {
    promote_learners();
    return Status::ok();
  }
  // A removed node's controller goes on: it takes back what it allowed. One that never was a member
  // has nothing to decide.
  if (!is_member() && machine_.applied_index() == 0) return Status::ok();
  // rule 2, close, persist, send: a report of a term that a crash could take back would promise
  // what this node no longer knows.
  if (options_.durable_term_first && raft_->term() != term_) return Status::ok();
  const failover::RaftView view = raft_view();
  const failover::PromotionView promotions = machine_.promotion_view(view.term);
  const failover::Controller::Outputs out = controller_.update(
      {view, promotions, database_, raft_->now_ticks(), wal_status(raft_->leader()).oldest});
  if (Status s = carry_out(out.requests); !s) return s;
  if (out.orders_changed) host_->carry_out(controller_.orders());
  return Status::ok();
}

Status Replica::carry_out(const failover::Requests& r) {
  if (r.persist_bound) {  // rule 3: durable before the orders that open the gate
    if (Status s = store_->put_value(kBoundKey, std::to_string(*r.persist_bound)); !s) return s;
  }
  if (r.clear_abstain) {
    if (Status s = host_->clear_abstain(); !s) return s.with_context("could not end the rejoin");
  }
  // A proposal that Raft refuses now is proposed again: the controller sees that nothing of it was
  // committed.
  const auto propose = [&](state::Operation operation) {
    (void)raft_->propose(state::encode_command({options_.raft.id, 0, std::move(operation)}));
  };
  if (r.propose_promotion) propose(*r.propose_promotion);
  if (r.propose_done) propose(*r.propose_done);
  if (r.transfer_to != raft::kNoNode) (void)raft_->transfer_leader(r.transfer_to);
  if (r.step_down) raft_->step_down(r.hold_off_ticks);
  if (r.election_delay) raft_->set_election_delay(*r.election_delay);
  if (r.send_report && raft_->leader() != raft::kNoNode) {
    outbox_->send_report(raft_->leader(), *r.send_report);
  }
  if (r.promote_learner != raft::kNoNode) {
    const auto found = machine_.members().find(r.promote_learner);
    // Its log too must be there: a voter without one could stop commits (rule 8).
    const raft::NodeStatus status = raft_->status();
    const auto progress = status.progress.find(r.promote_learner);
    const bool has_log = progress != status.progress.end() &&
                         progress->second.match >= status.hard.commit && answers(r.promote_learner);
    if (found != machine_.members().end() && has_log && !found->second.nosync) {
      (void)propose_change(raft::ConfChangeType::kAddVoter, found->second);
    }
  }
  return Status::ok();
}

// Without a database there is no WAL to catch up with: a learner becomes a voter when it has what
// is committed (rule 8).
void Replica::promote_learners() {
  if (raft_->role() != raft::Role::kLeader || conf_.learners.empty()) return;
  if (!raft_->own_term_applied() || raft_->conf_change_pending()) return;
  const raft::NodeStatus status = raft_->status();
  for (const raft::NodeId id : conf_.learners) {
    const auto progress = status.progress.find(id);
    const auto member = machine_.members().find(id);
    if (progress == status.progress.end() || member == machine_.members().end()) continue;
    if (progress->second.match < status.hard.commit || !answers(id)) continue;
    if (member->second.nosync) continue;
    (void)propose_change(raft::ConfChangeType::kAddVoter, member->second);
    return;  // one step at a time
  }
}

}  // namespace pgraft::node
