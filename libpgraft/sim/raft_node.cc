#include "libpgraft/sim/raft_node.h"

#include <algorithm>
#include <utility>

#include "libpgraft/base/check.h"
#include "libpgraft/sim/raft_world.h"
#include "libpgraft/sim/throwing_checks.h"
#include "libpgraft/storage/leveldb_store.h"

namespace pgraft::sim {
namespace {

constexpr const char* kDirectory = "/raft";
// What node/node_loop.cc has under the same names.
constexpr std::uint64_t kMaxTicksAtOnce = 3;
constexpr int kHoldOffElections = 4;
// So small that a run sees LevelDB change its log file, and compact.
constexpr std::size_t kWriteBufferBytes = 64u << 10;
constexpr std::uint64_t kReserveBytes = 4096;
constexpr std::uint64_t kRoomOnFullDisk = 2000;
constexpr Micros kReportMicros = 20;
constexpr Micros kRetryStart = 20'000;

storage::OpenOptions open_options(SimulatedDisk* disk) {
  storage::OpenOptions options;
  options.reserve_bytes = kReserveBytes;
  options.write_buffer_bytes = kWriteBufferBytes;
  options.after_each_call = [disk] { disk->run_scheduled(); };
  return options;
}

}  // namespace

RaftNode::RaftNode(RaftWorld* world, NodeId id) : world_(world), id_(id) { make_disk(); }

RaftNode::~RaftNode() = default;

void RaftNode::make_disk() {
  ++incarnations_;
  if (world_->controls().incarnations) incarnation_ = 1000 * incarnations_ + id_;
  const std::uint64_t contents = world_->draws(Draw::kDiskContents, id_, incarnations_).next();
  disk_ = std::make_unique<SimulatedDisk>(contents);
  world_->invariants().wiped(id_, incarnation_);
}

state::Member RaftNode::member() const {
  const std::string host = "10.0.0." + std::to_string(id_);
  return {id_, incarnation_, "node" + std::to_string(id_), host, 8001, host, 5432};
}

std::string RaftNode::text() const {
  if (!up()) return "node " + std::to_string(id_) + ": down";
  const raft::NodeStatus status = replica_->raft_status();
  std::string text = "node " + std::to_string(id_) + ": " + raft::role_name(status.soft.role) +
                     " in term " + std::to_string(status.hard.term) + ", leader " +
                     std::to_string(status.soft.leader) + ", log ends at " +
                     std::to_string(status.last_index) + ", committed " +
                     std::to_string(status.hard.commit) + ", applied " +
                     std::to_string(status.applied) + ", voters";
  for (const NodeId id : status.conf.voters) text += " " + std::to_string(id);
  if (!status.conf.voters_outgoing.empty()) text += ", outgoing";
  for (const NodeId id : status.conf.voters_outgoing) text += " " + std::to_string(id);
  if (!status.conf.learners.empty()) text += ", learners";
  for (const NodeId id : status.conf.learners) text += " " + std::to_string(id);
  return text;
}

// --- life

void RaftNode::bootstrap(const raft::Snapshot& first) {
  auto store = storage::LevelDbStore::open(kDirectory, disk_->env(), open_options(disk_.get()));
  PGRAFT_CHECK(store.is_ok(), store.status().to_string());
  storage::WriteBatch batch;
  batch.hard_state = raft::HardState{first.meta.term, raft::kNoNode, first.meta.index};
  batch.snapshot = &first;
  const Status s = (*store)->write(batch);
  PGRAFT_CHECK(s.is_ok(), s.to_string());
  blank_ = false;
  world_->invariants().bootstrapped(id_, first);
}

node::Replica::Options RaftNode::options() const {
  const RaftSetup& setup = world_->setup();
  node::Replica::Options options;
  options.raft.id = id_;
  options.raft.incarnation = incarnation_;
  options.raft.election_ticks = setup.election_ticks;
  options.raft.heartbeat_ticks = setup.heartbeat_ticks;
  options.raft.max_size_per_msg = setup.max_size_per_msg;
  options.raft.max_inflight_msgs = setup.max_inflight_msgs;
  options.raft.pre_vote = setup.pre_vote;
  options.raft.check_quorum = setup.check_quorum;
  options.raft.rules = world_->controls().rules;
  options.raft.seed = world_->draws(Draw::kElectionTimeouts, id_, boot_).next();
  options.with_database = false;
  options.snapshot_every = setup.snapshot_every;
  options.keep_tail = setup.keep_tail;
  options.request_timeout_ticks = setup.request_timeout_ticks;
  return options;
}

Status RaftNode::open() {
  auto store = storage::LevelDbStore::open(kDirectory, disk_->env(), open_options(disk_.get()));
  if (!store) return store.status();
  store_ = std::move(store).value();
  world_->invariants().started(id_, *store_);
  writer_ = std::make_unique<SimulatedLogWriter>(
      store_.get(),
      [this](bool write, std::function<void()> what) { wait_for_disk(write, std::move(what)); },
      [this] {
        ++world_->counts().node_steps;
        wake();
      },
      !world_->controls().write_then_answer);
  auto replica = node::Replica::create(options(), store_.get(), this, this, this);
  if (!replica) return replica.status();
  replica_ = std::move(replica).value();
  return Status::ok();
}

void RaftNode::start() {
  if (up()) return;
  ++boot_;
  ++world_->counts().starts;
  disk_->lie_about_syncs(!world_->controls().honest_disks);
  Status opened;
  try {
    opened = open();
  } catch (const BrokenCheck& broken) {
    return world_->invariants().violated("check", id_, broken.what);
  }
  if (!opened) {
    writer_.reset();
    store_.reset();
    world_->note(id_, [&] { return "can't start: " + opened.to_string(); });
    if (disk_->powered_off()) {
      disk_->crash();
    } else {
      disk_->kill();
    }
    const bool again = opened.code() == Code::kIo || opened.code() == Code::kNoSpace;
    if (again) return start_after(kRetryStart);
    return world_->invariants().violated("start", id_, opened.to_string());
  }
  role_ = raft::Role::kFollower;
  term_ = replica_->raft().term();
  log_end_ = store_->last_index();
  world_->note(id_, [&] { return "starts: " + text(); });
  world_->mark(id_, term_);
  later(world_->draws(Draw::kTick, id_, boot_, 0).below(world_->setup().tick), [this] { tick(); });
  world_->happened(Moment::kStarted, id_);
}

void RaftNode::start_after(Micros delay) {
  world_->queue().after(delay, [this, boot = boot_] {
    if (boot == boot_) start();
  });
}

void RaftNode::stop(bool power, const std::string& why, Micros restart_after) {
  if (!up()) return;
  world_->note(id_, [&] { return why; });
  world_->mark(id_, power ? 1 : 0);
  if (power) ++world_->counts().power_cuts;
  // The disk first: what the process still does in its end reaches nothing.
  if (power) {
    disk_->crash();
  } else {
    disk_->kill();
  }
  inputs_.clear();
  const std::unique_ptr<node::Replica> ended = std::move(replica_);  // its requests end
  writer_.reset();
  store_.reset();
  turn_due_ = suspended_ = false;
  due_ticks_ = jump_ticks_ = power_cut_in_ = 0;
  world_->invariants().stopped(id_);
  world_->network().process_ended(id_, !power);
  start_after(restart_after);
}

void RaftNode::wipe() {
  stop(true, "loses its disk", 0);
  ++boot_;  // whatever was to start it
  world_->wiped(id_);
  make_disk();
  blank_ = true;
  world_->note(id_, [&] { return "is made anew, incarnation " + std::to_string(incarnation_); });
  start_after(world_->draws(Draw::kRestart, id_, boot_).between(1'000, 20'000));
}

// --- inputs, and the node's turns

void RaftNode::later(Micros delay, std::function<void()> what) {
  world_->queue().after(delay, [this, boot = boot_, what = std::move(what)] {
    if (boot == boot_ && up()) what();
  });
}

void RaftNode::receive(raft::Message message) {
  if (!up()) return;
  inputs_.emplace_back(std::move(message));
  wake();
}

void RaftNode::post(std::function<void(node::Replica&)> what) {
  if (!up()) return;
  inputs_.emplace_back(std::move(what));
  wake();
}

void RaftNode::jump(std::uint64_t ticks) {
  if (!up()) return;
  jump_ticks_ += ticks;
  wake();
}

void RaftNode::tick() {
  ++due_ticks_;
  const Micros tick = world_->setup().tick * 100 / clock_percent_;
  const Micros jitter = world_->draws(Draw::kTick, id_, boot_, ++ticks_).below(tick / 16 + 1);
  later(tick - tick / 32 + jitter, [this] { this->tick(); });
  wake();
}

void RaftNode::wake() {
  if (turn_due_ || suspended_) return;
  turn_due_ = true;
  const Micros delay =
      world_->draws(Draw::kTurn, id_, ++turns_).below(world_->setup().wake_max + 1);
  later(delay, [this] { turn(); });
}

void RaftNode::turn() {
  turn_due_ = false;
  if (suspended_) return;
  Status status;
  try {
    status = take_inputs();
    if (status) note_role();
    if (status) world_->invariants().processed(id_, *replica_);
  } catch (const PowerCut&) {
    return stop(true, "loses power in the middle of its turn", restart_after_);
  } catch (const BrokenCheck& broken) {
    world_->invariants().violated("check", id_, broken.what);
    return stop(true, "ends: " + broken.what, restart_after_);
  }
  if (!status) failed(status);
}

// As NodeImpl::step(): what arrived comes before the ticks.
Status RaftNode::take_inputs() {
  std::vector<Input> inputs = std::exchange(inputs_, {});
  for (Input& input : inputs) {
    if (auto* message = std::get_if<raft::Message>(&input)) {
      replica_->receive(*message);
    } else {
      std::get<std::function<void(node::Replica&)>>(input)(*replica_);
    }
  }
  const std::uint64_t ticks =
      std::min(std::exchange(due_ticks_, 0), kMaxTicksAtOnce) + std::exchange(jump_ticks_, 0);
  for (std::uint64_t i = 0; i < ticks; ++i) replica_->tick();
  world_->counts().node_steps += inputs.size() + ticks;
  if (ticks != 0 && leads() && replica_->is_disk_stalled()) {  // rule 11
    replica_->raft().step_down(kHoldOffElections * world_->setup().election_ticks);
  }
  return replica_->process();
}

void RaftNode::failed(const Status& status) {
  const bool power = disk_->powered_off();
  const Micros restart = power ? restart_after_ : kRetryStart;
  const bool disk = status.code() == Code::kIo || status.code() == Code::kNoSpace;
  if (!disk) world_->invariants().violated("node", id_, "it fails: " + status.to_string());
  stop(power, "fails: " + status.to_string(), restart);
}

void RaftNode::note_role() {
  const raft::RawNode& raft = std::as_const(*replica_).raft();
  const raft::Role role = raft.role();
  if (role == role_ && raft.term() == term_) return;
  role_ = role;
  term_ = raft.term();
  world_->mark(id_, mixed(term_, static_cast<std::uint64_t>(role)));
  world_->note(id_, [&] {
    return std::string("is ") + raft::role_name(role) + " in term " + std::to_string(term_);
  });
  if (role == raft::Role::kLeader) world_->happened(Moment::kElected, id_);
}

// --- what the replica asks for

void RaftNode::output() {
  if (power_cut_in_ != 0 && --power_cut_in_ == 0) throw PowerCut();
}

void RaftNode::send(raft::Message message) {
  output();
  world_->invariants().sent(id_, message);
  if (message.type == raft::MessageType::kVote) world_->happened(Moment::kCampaign, id_);
  if (message.type == raft::MessageType::kSnapshot) {
    ++world_->counts().snapshots_sent;
    world_->happened(Moment::kSnapshotSent, id_);
  }
  world_->network().send(message);
}

void RaftNode::append(raft::Message write, bool sync) {
  output();
  world_->invariants().handed_out(id_, write, sync, leads());
  if (write.term != 0 || write.snapshot || !write.entries.empty()) blank_ = false;
  observe_append(write);
  writer_->append(std::move(write), sync);
}

void RaftNode::observe_append(const raft::Message& write) {
  if (write.snapshot) {
    log_end_ = write.snapshot->meta.index;
    world_->note(id_, [&] { return "takes a snapshot at " + std::to_string(log_end_); });
    world_->happened(Moment::kSnapshotReceived, id_);
  }
  if (write.entries.empty()) return;
  const raft::Index from = write.entries.front().index;
  const raft::Index to = write.entries.back().index;
  world_->note(id_, [&] {
    return "hands out entries " + std::to_string(from) + ".." + std::to_string(to) +
           (from <= log_end_ ? " in place of ..." + std::to_string(log_end_) : "");
  });
  if (from <= log_end_) world_->happened(Moment::kOverwritten, id_);
  log_end_ = to;
  world_->happened(Moment::kEntriesHandedOut, id_);
  const bool changes = std::any_of(
      write.entries.begin(), write.entries.end(),
      [](const raft::Entry& entry) { return entry.type == raft::EntryType::kConfChange; });
  if (changes && leads()) world_->happened(Moment::kChangeAppended, id_);
}

void RaftNode::save(raft::Snapshot snapshot, raft::Index first_kept) {
  output();
  world_->invariants().snapshot_taken(id_, snapshot);
  world_->note(id_, [&] {
    return "saves a snapshot at " + std::to_string(snapshot.meta.index) + ", keeps entries from " +
           std::to_string(first_kept);
  });
  world_->happened(Moment::kSnapshotSaved, id_);
  writer_->save(std::move(snapshot), first_kept);
}

Status RaftNode::take_written(std::vector<raft::Message>* written) {
  Status status = writer_->take_written(written);
  world_->invariants().written(id_, written->size());
  return status;
}

void RaftNode::wait_for_disk(bool write, std::function<void()> what) {
  const RaftSetup& setup = world_->setup();
  Draws draws = world_->draws(Draw::kDisk, id_, ++disk_waits_);
  const Micros delay = write ? draws.between(setup.disk_min, setup.disk_max) * disk_factor_
                             : draws.below(kReportMicros);
  later(delay, [this, what = std::move(what)] {
    what();
    if (disk_->powered_off()) stop(true, "loses power while it writes", restart_after_);
  });
}

void RaftNode::state_changed(const state::StateMachine& machine, const raft::ConfState& conf) {
  world_->configured(machine.applied_index(), conf);
  world_->happened(Moment::kChangeApplied, id_);
}

// --- faults

void RaftNode::suspend() {
  if (!up()) return;
  suspended_ = true;
}

void RaftNode::resume() {
  if (!std::exchange(suspended_, false)) return;
  world_->note(id_, [] { return "goes on"; });
  wake();
}

void RaftNode::set_disk_full(bool full) {
  disk_->set_capacity(full ? disk_->used() + kRoomOnFullDisk : SimulatedDisk::kUnlimited);
}

void RaftNode::cut_power_inside(std::uint64_t outputs, Micros restart_after) {
  if (!up()) return;
  power_cut_in_ = outputs;
  restart_after_ = restart_after;
}

void RaftNode::cut_power_at_disk(std::uint64_t operations, Micros restart_after) {
  if (!up()) return;
  disk_->cut_power_at(operations);
  restart_after_ = restart_after;
}

void RaftNode::heal() {
  power_cut_in_ = 0;
  clock_percent_ = 100;
  disk_factor_ = 1;
  disk_->fail_sync_at(0);
  if (!disk_->powered_off()) disk_->cut_power_at(0);
  set_disk_full(false);
  resume();
  if (!up()) start_after(0);
}

void RaftNode::retire() {
  if (!up()) return;
  stop(true, "is switched off", 0);
  ++boot_;  // nothing starts it
}

}  // namespace pgraft::sim
