// engine.h over node::Node: the database host of a node whose database is the PostgreSQL server
// around it.
//
// Threads: the node's threads call the DatabaseHost methods; the worker's main thread calls the
// pgraft_engine_* functions. What they share is under `mutex_`, which is only ever held for copying
// and for stores to the guard, never while waiting. No exception leaves this file, and nothing of
// PostgreSQL is called.
#include "engine.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "engine_requests.h"
#include "libpgraft/node/member_files.h"
#include "libpgraft/node/node.h"

namespace {

using pgraft::Code;
using pgraft::Result;
using pgraft::Status;
namespace failover = pgraft::failover;
namespace node = pgraft::node;
namespace raft = pgraft::raft;
namespace state = pgraft::state;
namespace transport = pgraft::transport;

static_assert(PGRAFT_MAX_MEMBERS == state::kMaxMembers);
static_assert(PGRAFT_ADDRESS_SIZE == state::kMaxAddressBytes + 1);
static_assert(PGRAFT_ADDRESS_SIZE == state::kMaxPausedByBytes + 1);
static_assert(PGRAFT_DRAIN_END == static_cast<int>(failover::Drain::kEnd));
static_assert(PGRAFT_NAME_SIZE == state::kMaxNameBytes + 1);
static_assert(PGRAFT_KEPT_PROMOTIONS == state::kKeptPromotions);
static_assert(PGRAFT_MESSAGE_TYPES == transport::Traffic::kTypes);
static_assert(static_cast<int>(Code::kOk) == PGRAFT_OK);
static_assert(static_cast<int>(Code::kFailedPrecondition) == PGRAFT_FAILED_PRECONDITION);
static_assert(static_cast<int>(Code::kNoSpace) == PGRAFT_NO_SPACE);

// rule 2: how long the closing of the gate waits for a reply that is on its way, before the
// walreceiver is killed.
constexpr auto kSendPatience = std::chrono::milliseconds(300);
constexpr auto kPoll = std::chrono::microseconds(100);
// rule 11: a main thread that has not been seen for this long is hung.
constexpr std::uint64_t kHungPeriods = 10;
constexpr std::uint64_t kHungNsMin = 5'000'000'000u;
constexpr std::size_t kMaxCompletions = 4096;  // more than commands can be queued at once

// Text for people may be shortened; addresses and names never are (they were refused earlier).
template <std::size_t N>
void copy_text(char (&to)[N], std::string_view from) {
  const std::size_t length = std::min(from.size(), N - 1);
  std::memcpy(to, from.data(), length);
  std::memset(to + length, 0, N - length);
}

void set_error(PgraftError* error, Code code, std::string_view message) {
  if (error == nullptr) return;
  error->code = static_cast<PgraftCode>(code);
  copy_text(error->message, message);
}

void set_error(PgraftError* error, const Status& status) {
  set_error(error, status.code(), status.message());
}

failover::DatabaseView to_view(const PgraftDatabaseView& in) {
  failover::DatabaseView out;
  out.valid = true;
  out.orders_seen = in.orders_seen;
  out.in_recovery = in.in_recovery;
  out.receiver_stopped = in.receiver_stopped;
  out.replay_exhausted = in.replay_exhausted;
  out.end_known = in.end_known;
  out.frozen = in.frozen;
  out.promote_pending = in.promote_pending;
  out.end = {in.end_timeline, in.end_lsn};
  out.replayed = {in.replayed_timeline, in.replayed_lsn};
  out.needed = in.needed_lsn;
  out.oldest = in.oldest_lsn;
  out.highest_history = in.highest_history;
  out.quorum_in_force = in.quorum_in_force;
  out.writers = static_cast<std::size_t>(in.writers);
  out.sessions = static_cast<std::size_t>(in.sessions);
  out.settled = in.settled;
  out.writers_text = in.writers_text;
  out.quorum_waits_for = in.quorum_waits_for;
  for (int i = 0; i < std::min(in.history_count, PGRAFT_HISTORY_MAX); i++) {
    out.history.push_back({in.history[i].timeline, in.history[i].end});
  }
  for (int i = 0; i < std::min(in.streams_count, PGRAFT_MAX_MEMBERS); i++) {
    out.streams[in.streams[i].node] = in.streams[i].flush_lsn;
  }
  return out;
}

// For tests (pgraft.debug_stop_at).
PgraftStopPoint stop_point(node::ChangeStep step, raft::ConfChangeType type) {
  int point = PGRAFT_STOP_LEARNER_PROPOSED;
  if (type == raft::ConfChangeType::kAddVoter) point = PGRAFT_STOP_VOTER_PROPOSED;
  if (type == raft::ConfChangeType::kRemove) point = PGRAFT_STOP_REMOVAL_PROPOSED;
  return static_cast<PgraftStopPoint>(point + static_cast<int>(step));
}

bool needs_rejoin(const failover::Orders& orders) {
  return orders.restart == failover::Restart::kRewind ||
         orders.restart == failover::Restart::kClone;
}

bool exists(const std::string& path) {
  struct stat found;
  return ::stat(path.c_str(), &found) == 0;
}

}  // namespace

struct PgraftEngine final : public node::DatabaseHost {
 public:
  explicit PgraftEngine(const PgraftEngineConfig& config)
      : guard_(config.guard),
        acknowledged_(config.acknowledged),
        data_dir_(config.data_dir),
        started_ns_(pgraft_clock_ns()),
        judges_health_(config.health_period_ms > 0),
        hung_ns_(std::max(kHungNsMin, kHungPeriods * 1'000'000u *
                                          static_cast<std::uint64_t>(config.health_period_ms))) {}
  PgraftEngine(const PgraftEngine&) = delete;
  PgraftEngine& operator=(const PgraftEngine&) = delete;

  ~PgraftEngine() override {
    if (node_ != nullptr) node_->stop();
    node_.reset();
    for (PgraftCompletion& left : completions_) std::free(left.data);
    if (event_fd_ >= 0) ::close(event_fd_);
  }

  Status start(const PgraftEngineConfig& config) {
    event_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd_ < 0) {
      return {Code::kIo, std::string("could not create an eventfd: ") + std::strerror(errno)};
    }
    if (Status s = look_for_membership(); !s) return s;
    Result<std::unique_ptr<node::Node>> started = node::Node::start(node_config(config), this);
    if (!started) return started.status();
    node_ = std::move(started).value();
    notify();
    return Status::ok();
  }

  int event_fd() const { return event_fd_; }

  void drain() {
    std::uint64_t count;
    while (::read(event_fd_, &count, sizeof(count)) > 0) {
    }
  }

  // --- node::DatabaseHost, on the node's thread
  // ---------------------------------------------------

  void close(const failover::Orders& orders) override {
    {
      std::lock_guard lock(mutex_);
      // rule 2: from here on nothing of an earlier term can be opened (open_gate(), lift_fence()).
      pgraft_store(&guard_->current_term, orders.term);
      shut_guard();
      // A term exists only in a cluster, and a server of a cluster is fenced until it leads.
      if (orders.term > 0) pgraft_store(&guard_->standalone, 0);
      queue_orders(orders);
    }
    // A reply whose check was before the gate closed may still be leaving.
    wait_for_sender();
    notify();
  }

  void carry_out(const failover::Orders& orders) override {
    {
      std::lock_guard lock(mutex_);
      if (pgraft_load(&guard_->current_term) < orders.term)
        pgraft_store(&guard_->current_term, orders.term);
      queue_orders(orders);
    }
    notify();
  }

  Status clear_abstain() override { return node::remove_rejoin(data_dir_); }

  void state_changed(const state::StateMachine& machine, const raft::ConfState&) override {
    {
      std::lock_guard lock(mutex_);
      members_ = machine.members();
      if (machine.cluster_id() != 0) member_ = true;
      // Addresses may have become known, or changed, after the orders that need them.
      if (have_orders_) queue_orders(failover::Orders(last_orders_));
    }
    notify();
  }

  void change_reached(node::ChangeStep step, raft::ConfChangeType type) override {
    pgraft_stop_at(guard_, stop_point(step, type));
  }

  void publish_lease(raft::Term term, std::chrono::milliseconds remaining) override {
    std::lock_guard lock(mutex_);
    const bool alive = remaining.count() > 0 && pgraft_load(&guard_->current_term) == term;
    pgraft_store(
        &guard_->lease_until_ns,
        alive ? pgraft_clock_ns() + static_cast<std::uint64_t>(remaining.count()) * 1'000'000u : 0);
    if (alive) pgraft_store(&guard_->leased_ns, pgraft_clock_ns());
  }

  void publish_contact(raft::Term term, std::chrono::milliseconds remaining) override {
    std::lock_guard lock(mutex_);
    const bool alive = remaining.count() > 0 && pgraft_load(&guard_->current_term) == term;
    pgraft_store(
        &guard_->contact_until_ns,
        alive ? pgraft_clock_ns() + static_cast<std::uint64_t>(remaining.count()) * 1'000'000u : 0);
  }

  failover::Lsn acknowledged_lsn() override {
    return acknowledged_ == nullptr ? 0 : pgraft_load(acknowledged_);
  }

  void status_changed() override {
    retry_rejoin();
    notify();
  }

  bool healthy() override {
    if (!judges_health_) return true;
    const std::uint64_t worker = std::max(pgraft_load(&guard_->worker_tick_ns), started_ns_);
    const std::uint64_t database = pgraft_load(&guard_->database_tick_ns);
    return is_recent(worker) && (database == 0 || is_recent(database));
  }
  bool is_recent(std::uint64_t tick_ns) const {
    const std::uint64_t now = pgraft_clock_ns();
    return now < tick_ns || now - tick_ns < hung_ns_;
  }

  bool accepts_writes() override { return pgraft_writes_allowed(guard_); }

  std::vector<transport::RejoinStatus> rejoins() override {
    std::lock_guard lock(mutex_);
    return rejoins_;
  }

  void kv_changed(state::Revision revision) override {
    pgraft_store(&guard_->kv_revision, revision);
    if (pgraft_load(&guard_->kv_watchers) != 0) notify();
  }

  void failed(const Status& status) override {
    {
      std::lock_guard lock(mutex_);
      failure_ = status.to_string();
      shut_guard();
    }
    notify();
  }

  // --- the worker's main thread
  // ---------------------------------------------------------------------

  bool orders(PgraftOrders* out) {
    std::lock_guard lock(mutex_);
    if (!orders_new_) return false;
    orders_new_ = false;
    *out = queued_;
    return true;
  }

  bool open_gate(std::uint64_t term, std::uint32_t timeline, std::uint64_t switch_lsn) {
    std::lock_guard lock(mutex_);
    if (pgraft_load(&guard_->current_term) != term || !failure_.empty()) return false;
    pgraft_store(&guard_->gate_timeline, timeline);
    pgraft_store(&guard_->gate_switch, switch_lsn);
    pgraft_store(&guard_->gate_term, term);
    return true;
  }

  bool lift_fence(std::uint64_t term) {
    std::lock_guard lock(mutex_);
    if (pgraft_load(&guard_->current_term) != term || !failure_.empty()) return false;
    pgraft_store(&guard_->fence_term, term);
    return true;
  }

  void observe(const PgraftDatabaseView& view) { node_->observe(to_view(view)); }

  void set_rejoins(const PgraftRejoin* rejoins, int count) {
    std::vector<transport::RejoinStatus> newest;
    for (const PgraftRejoin* r = rejoins; r < rejoins + count; ++r) {
      newest.push_back({r->node, r->phase, r->bytes_done, r->bytes_total, r->seconds});
    }
    std::lock_guard lock(mutex_);
    rejoins_ = std::move(newest);
  }

  void submit(const PgraftCommand& command) {
    const std::uint64_t id = command.id;
    auto done = [this, id](const Status& status, std::uint64_t value) {
      complete(id, status, value, {});
    };
    if (command.type >= PGRAFT_FIRST_ENTRY_COMMAND) return submit_request(command);
    switch (command.type) {
      case PGRAFT_CMD_INIT: node_->init(done); return;
      case PGRAFT_CMD_ADD_NODE:
        node_->add_node(command.node_id, command.address, static_cast<std::uint16_t>(command.port),
                        done);
        return;
      case PGRAFT_CMD_REMOVE_NODE: node_->remove_node(command.node_id, done); return;
      case PGRAFT_CMD_TRANSFER:
        node_->transfer_leadership(
            {command.node_id, std::chrono::milliseconds(command.limit_ms), command.end_writers},
            done);
        return;
      case PGRAFT_CMD_CHECK_TRANSFER: node_->check_transfer(command.node_id, done); return;
      case PGRAFT_CMD_CANCEL_TRANSFER: node_->cancel_transfer(done); return;
      case PGRAFT_CMD_PAUSE:
        node_->propose(state::Pause{command.until_ms, command.address}, done);
        return;
      default: break;
    }
    complete(id, {Code::kInvalidArgument, "unknown command"}, 0, {});
  }

  void submit_request(const PgraftCommand& command) {
    auto answer = [this, id = command.id, look = command.type >= PGRAFT_FIRST_LOOK,
                   queued = command.queued_ns](const Status& status, std::uint64_t value,
                                               std::string_view data) {
      if (queued != 0 && status) latencies_.add(look, (pgraft_clock_ns() - queued) / 1000);
      complete(id, status, value, data);
    };
    pgraft::extension::submit_request(*node_, command, latencies_, std::move(answer));
  }

  bool completion(PgraftCompletion* out) {
    std::lock_guard lock(mutex_);
    if (completions_.empty()) return false;
    *out = completions_.front();
    completions_.pop_front();
    return true;
  }

  void complete(std::uint64_t id, const Status& status, std::uint64_t value,
                std::string_view data) {
    PgraftCompletion completion{};
    completion.id = id;
    completion.value = value;
    set_error(&completion.error, status);
    if (!data.empty()) {
      completion.data = static_cast<char*>(std::malloc(data.size()));
      if (completion.data == nullptr) {
        set_error(&completion.error, Code::kResourceExhausted, "out of memory for the answer");
      } else {
        std::memcpy(completion.data, data.data(), data.size());
        completion.size = data.size();
      }
    }
    {
      std::lock_guard lock(mutex_);
      if (completions_.size() < kMaxCompletions) {
        completions_.push_back(completion);
        completion.data = nullptr;
      }
    }
    std::free(completion.data);
    notify();
  }

  void status(PgraftEngineStatus* out) const {
    fill_status(node_->status(), out);
    out->raft_port = node_->port();
    const state::Pause pause = node_->pause();
    out->paused_until_ms = pause.until_ms;
    copy_text(out->paused_by, pause.by);
    const auto promotions = node_->promotions();
    const std::size_t skipped =
        promotions.size() > PGRAFT_KEPT_PROMOTIONS ? promotions.size() - PGRAFT_KEPT_PROMOTIONS : 0;
    for (std::size_t i = skipped; i < promotions.size(); i++) {
      PgraftPromotion& to = out->promotions[out->promotions_count++];
      to.timeline = promotions[i].promotion.timeline;
      to.done = promotions[i].done;
      if (!promotions[i].history.empty()) {
        to.parent = promotions[i].history.back().timeline;
        to.switch_lsn = promotions[i].history.back().end;
      }
    }
    std::lock_guard lock(mutex_);
    out->member = member_;
    copy_text(out->failure, failure_);
  }

 private:
  static node::NodeConfig node_config(const PgraftEngineConfig& config) {
    node::NodeConfig out;
    out.data_dir = config.data_dir;
    out.pgdata = config.pgdata;
    out.node_id = config.node_id;
    out.node_name = config.node_name;
    out.cluster_name = config.cluster_name;
    out.listen_address = config.listen_address;
    out.listen_port = static_cast<std::uint16_t>(config.listen_port);
    out.advertise_address = config.advertise_address;
    out.pg_port = static_cast<std::uint16_t>(config.pg_port);
    out.system_identifier = config.system_identifier;
    out.heartbeat_interval = std::chrono::milliseconds(config.heartbeat_interval_ms);
    out.election_timeout = std::chrono::milliseconds(config.election_timeout_ms);
    out.max_log_entries = static_cast<std::size_t>(config.max_log_entries);
    out.failover_priority = config.failover_priority;
    out.nosync = config.nosync;
    out.request_timeout = std::chrono::milliseconds(config.request_timeout_ms);
    out.switches.timeline = !config.timeline_ids_off;
    out.switches.divergence = !config.divergence_off;
    out.switches.wal_end = !config.wal_end_off;
    return out;
  }

  // A member is one from its first moment on, before its log has been read.
  Status look_for_membership() {
    Result<node::IdentityFile> identity = node::read_identity(data_dir_);
    if (identity) {
      member_ = identity->cluster_id != 0;
      return Status::ok();
    }
    return identity.status().code() == Code::kNotFound ? Status::ok() : identity.status();
  }

  void notify() const {
    const std::uint64_t one = 1;
    // It only fails when the counter is full, and then it is readable already.
    (void)!::write(event_fd_, &one, sizeof(one));
  }

  // mutex_ is held.
  void shut_guard() {
    pgraft_store(&guard_->gate_term, 0);
    pgraft_store(&guard_->fence_term, 0);
    pgraft_store(&guard_->lease_until_ns, 0);
    pgraft_store(&guard_->contact_until_ns, 0);
    pgraft_store(&guard_->admit_term, 0);
  }

  // rule 2: after this no reply of an earlier term can be sent any more. A walreceiver that hangs
  // in its send (a full socket) is killed; the server then restarts all its processes, with zeroed
  // shared memory, which is closed too.
  void wait_for_sender() const {
    const auto give_up = std::chrono::steady_clock::now() + kSendPatience;
    bool killed = false;
    while (pgraft_load(&guard_->gate_sending) != 0) {
      const auto pid = static_cast<pid_t>(pgraft_load(&guard_->receiver_pid));
      if (pid <= 0) return;
      if (killed && ::kill(pid, 0) != 0 && errno == ESRCH) return;
      if (!killed && std::chrono::steady_clock::now() >= give_up) {
        if (::kill(pid, SIGKILL) != 0) return;  // it is gone
        killed = true;
      }
      std::this_thread::sleep_for(kPoll);
    }
  }

  // mutex_ is held. Addresses are looked up; a leader whose address is not known yet is not
  // followed.
  void queue_orders(const failover::Orders& orders) {
    last_orders_ = orders;
    have_orders_ = true;
    PgraftOrders out{};
    out.seq = orders.seq;
    out.term = orders.term;
    out.member = member_;
    out.gate_open = orders.gate_open;
    out.gate_timeline = orders.gate_timeline;
    out.gate_switch = orders.gate_switch;
    if (const auto leader = members_.find(orders.follow);
        orders.follow != 0 && leader != members_.end()) {
      out.follow = orders.follow;
      copy_text(out.follow_host, leader->second.pg_host);
      out.follow_port = leader->second.pg_port;
    }
    out.admit_walsenders = orders.admit_walsenders;
    out.lift_fence = orders.lift_fence;
    out.quorum_generation = orders.quorum_generation;
    for (raft::NodeId voter : orders.quorum_voters) {
      if (out.quorum_voters_count == PGRAFT_MAX_MEMBERS) break;
      out.quorum_voters[out.quorum_voters_count++] = voter;
    }
    out.promote = orders.promote;
    out.drain = static_cast<int>(orders.drain);
    out.restart = static_cast<int>(orders.restart);
    copy_text(out.reason, orders.reason);
    // rule 9: a restart for a rewind or clone only with its marker on disk, or the server would
    // come back as it was.
    if (needs_rejoin(orders) && !request_rejoin(orders)) out.restart = 0;

    // Padding may differ: then the same orders count as new ones, which changes nothing.
    // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    if (std::memcmp(&out, &queued_, sizeof(out)) == 0) return;
    queued_ = out;
    orders_new_ = true;
  }

  // mutex_ is held. Leaves rejoin_pending_ set when it must be tried again.
  bool request_rejoin(const failover::Orders& orders) {
    rejoin_pending_ = true;
    node::RejoinFile file;
    file.mode = orders.restart == failover::Restart::kClone ? node::RejoinMode::kClone
                                                            : node::RejoinMode::kRewind;
    file.target = orders.rewind_target;
    file.reason = orders.reason;
    if (orders.rewind_source != 0) {  // 0: whoever leads when `prepare` runs
      const auto source = members_.find(orders.rewind_source);
      if (source == members_.end()) return false;
      file.source_node = orders.rewind_source;
      file.source_host = source->second.pg_host;
      file.source_port = source->second.pg_port;
    }
    if (Status s = node::request_rejoin(data_dir_, file); !s) return false;
    rejoin_pending_ = false;
    return true;
  }

  void retry_rejoin() {
    std::lock_guard lock(mutex_);
    if (!rejoin_pending_) return;
    if (!needs_rejoin(last_orders_)) {
      rejoin_pending_ = false;
      return;
    }
    queue_orders(failover::Orders(last_orders_));
  }

  // Never in the future, and 0 only for "never".
  static std::uint64_t contact_ns(const transport::StatusMore& more, std::uint64_t id) {
    for (const auto& [node, idle_ms] : more.contacts) {
      const std::uint64_t now = pgraft_clock_ns(), idle_ns = idle_ms * 1'000'000u;
      if (node == id) return idle_ns < now ? now - idle_ns : 1;
    }
    return 0;
  }

  static void fill_status(const transport::ClusterStatus& from, PgraftEngineStatus* out) {
    out->node_id = from.identity.node_id;
    out->incarnation = from.identity.incarnation;
    out->cluster_id = from.identity.cluster_id;
    copy_text(out->state, from.state);
    out->term = from.term;
    out->leader_id = from.leader_id;
    out->writable = from.writable;
    out->abstaining = from.abstaining;
    out->commit_index = from.commit_index;
    out->applied_index = from.applied_index;
    out->last_index = from.last_index;
    out->messages_processed = from.messages_processed;
    out->heartbeats_sent = from.heartbeats_sent;
    out->elections_triggered = from.elections_triggered;
    copy_text(out->phase, from.phase);
    copy_text(out->change_waits_for, from.change_waits_for);
    for (const transport::MemberStatus& member : from.members) {
      if (out->members_count == PGRAFT_MAX_MEMBERS) break;
      PgraftMemberStatus& to = out->members[out->members_count++];
      to.id = member.member.id;
      to.incarnation = member.member.incarnation;
      copy_text(to.name, member.member.name);
      copy_text(to.address, member.member.address);
      to.port = member.member.port;
      copy_text(to.pg_host, member.member.pg_host);
      to.pg_port = member.member.pg_port;
      to.voter = member.voter;
      to.learner = member.learner;
      to.answering = member.answering;
      to.match_index = member.match_index;
      to.flush_lsn = member.flush_lsn;
      to.wal_timeline = member.wal.end.timeline;
      to.wal_lsn = member.wal.end.lsn;
      to.replayed_lsn = member.wal.replayed.lsn;
      to.needed_lsn = member.wal.needed;
      to.priority = member.wal.from == 0 ? -1 : member.wal.priority;
      to.nosync = member.member.nosync;
      copy_text(to.waits_for, member.waits_for);
      if (from.more) to.contact_ns = contact_ns(*from.more, to.id);
    }
  }

  PgraftGuard* const guard_;
  const std::uint64_t* const acknowledged_;
  const std::string data_dir_;
  const std::uint64_t started_ns_;
  const bool judges_health_;
  const std::uint64_t hung_ns_;
  int event_fd_ = -1;

  mutable std::mutex mutex_;
  bool member_ = false;
  std::map<raft::NodeId, state::Member> members_;
  failover::Orders last_orders_;
  bool have_orders_ = false;
  PgraftOrders queued_{};  // the newest, and whether the main thread has it
  bool orders_new_ = false;
  bool rejoin_pending_ = false;
  std::deque<PgraftCompletion> completions_;
  pgraft::extension::Latencies latencies_;
  std::string failure_;
  std::vector<transport::RejoinStatus> rejoins_;

  std::unique_ptr<node::Node> node_;  // last: its threads use all of the above
};

namespace {

Status boot_check(const node::BindingRequest& request, PgraftBoot* boot) {
  Result<node::IdentityFile> identity = node::read_identity(request.data_dir);
  if (!identity && identity.status().code() != Code::kNotFound) return identity.status();
  Result<node::BindingFile> half = node::read_binding(request.pgdata);
  if (!half && half.status().code() != Code::kNotFound) return half.status();

  if (request.node_id == 0) {
    if (!half) return Status::ok();
    return {Code::kMismatch, "the data directory \"" + request.pgdata +
                                 "\" belongs to pgraft node " + std::to_string(half->node_id) +
                                 ", but pgraft.node_id is not set; set it, or remove the file "
                                 "pgraft.binding to run the server on its own for good"};
  }
  // Nothing here yet: the worker makes both halves at its first start.
  const bool has_log = exists(request.data_dir + "/raft/CURRENT");
  if (!identity && !half && !has_log && !exists(request.data_dir + "/rejoin")) return Status::ok();

  Result<node::Binding> bound = node::bind(request);  // rule 10
  if (!bound) return bound.status();
  boot->member = bound->identity.cluster_id != 0;

  Result<node::TimelinesFile> timelines = node::read_timelines(request.data_dir);
  if (!timelines) {
    return timelines.status().code() == Code::kNotFound ? Status::ok() : timelines.status();
  }
  if (timelines->history.size() > PGRAFT_HISTORY_MAX) {
    return {Code::kResourceExhausted,
            "the timeline history has more than " + std::to_string(PGRAFT_HISTORY_MAX) + " lines"};
  }
  boot->max_timeline = timelines->max;
  boot->current_timeline = timelines->current;
  for (const failover::HistoryLine& line : timelines->history) {
    boot->history[boot->history_count++] = {line.timeline, line.end};
  }
  return Status::ok();
}

}  // namespace

extern "C" {

PgraftEngine* pgraft_engine_start(const PgraftEngineConfig* config, PgraftError* error) {
  try {
    auto engine = std::make_unique<PgraftEngine>(*config);
    if (Status s = engine->start(*config); !s) {
      set_error(error, s);
      return nullptr;
    }
    return engine.release();
  } catch (const std::exception& e) {
    set_error(error, Code::kIo, e.what());
  } catch (...) {
    set_error(error, Code::kIo, "unknown exception");
  }
  return nullptr;
}

void pgraft_engine_stop(PgraftEngine* engine) {
  try {
    delete engine;
  } catch (...) {  // NOLINT: it is going away
  }
}

int pgraft_engine_event_fd(const PgraftEngine* engine) { return engine->event_fd(); }

void pgraft_engine_drain(PgraftEngine* engine) { engine->drain(); }

bool pgraft_engine_orders(PgraftEngine* engine, PgraftOrders* orders) {
  return engine->orders(orders);
}

bool pgraft_engine_open_gate(PgraftEngine* engine, uint64_t term, uint32_t timeline,
                             uint64_t switch_lsn) {
  return engine->open_gate(term, timeline, switch_lsn);
}

bool pgraft_engine_lift_fence(PgraftEngine* engine, uint64_t term) {
  return engine->lift_fence(term);
}

void pgraft_engine_observe(PgraftEngine* engine, const PgraftDatabaseView* view) {
  try {
    engine->observe(*view);
  } catch (const std::exception& e) {
    engine->failed({Code::kIo, e.what()});
  }
}

void pgraft_engine_rejoins(PgraftEngine* engine, const PgraftRejoin* rejoins, int count) {
  try {
    engine->set_rejoins(rejoins, count);
  } catch (const std::exception& e) {
    engine->failed({Code::kIo, e.what()});
  }
}

void pgraft_engine_submit(PgraftEngine* engine, const PgraftCommand* command) {
  try {
    engine->submit(*command);
  } catch (const std::exception& e) {
    engine->failed({Code::kIo, e.what()});
  }
}

bool pgraft_engine_completion(PgraftEngine* engine, PgraftCompletion* completion) {
  return engine->completion(completion);
}

void pgraft_engine_free(PgraftCompletion* completion) {
  std::free(completion->data);
  completion->data = nullptr;
  completion->size = 0;
}

void pgraft_engine_status(PgraftEngine* engine, PgraftEngineStatus* status) {
  try {
    engine->status(status);
  } catch (const std::exception& e) {
    copy_text(status->failure, e.what());
  }
}

PgraftCode pgraft_boot_check(const char* data_dir, const char* pgdata, uint64_t node_id,
                             const char* cluster_name, uint64_t system_identifier, PgraftBoot* boot,
                             PgraftError* error) {
  try {
    std::memset(static_cast<void*>(boot), 0, sizeof(*boot));
    const Status s = boot_check({data_dir, pgdata, node_id, cluster_name, system_identifier}, boot);
    set_error(error, s);
    return static_cast<PgraftCode>(s.code());
  } catch (const std::exception& e) {
    set_error(error, Code::kIo, e.what());
    return PGRAFT_IO;
  }
}

PgraftCode pgraft_wal_end_keep(const char* data_dir, const char* pgdata, uint32_t timeline,
                               uint64_t lsn, PgraftError* error) {
  try {
    const Status s = node::keep_wal_end(data_dir, pgdata, {timeline, lsn});
    set_error(error, s);
    return static_cast<PgraftCode>(s.code());
  } catch (const std::exception& e) {
    set_error(error, Code::kIo, e.what());
    return PGRAFT_IO;
  }
}

PgraftCode pgraft_write_file(const char* path, const char* content, PgraftError* error) {
  try {
    const Status s = node::write_file_atomically(path, content);
    set_error(error, s);
    return static_cast<PgraftCode>(s.code());
  } catch (const std::exception& e) {
    set_error(error, Code::kIo, e.what());
    return PGRAFT_IO;
  }
}

}  // extern "C"
