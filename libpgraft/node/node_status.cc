// What a node shows of itself. Built on the loop, read by anybody.
#include <algorithm>

#include "libpgraft/node/node_impl.h"

namespace pgraft::node {

namespace {

constexpr std::chrono::seconds kRefusalShown{10};

bool holds(const std::vector<raft::NodeId>& ids, raft::NodeId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

bool is_wildcard(const std::string& address) { return address == "0.0.0.0" || address == "::"; }

// Worth waking a host for.
bool is_news(const transport::ClusterStatus& before, const transport::ClusterStatus& now) {
  return before.state != now.state || before.term != now.term ||
         before.leader_id != now.leader_id || before.writable != now.writable ||
         before.phase != now.phase || before.members.size() != now.members.size();
}

}  // namespace

state::Member NodeImpl::self() const {
  state::Member member;
  member.id = config_.node_id;
  member.incarnation = identity_.incarnation;
  member.name =
      config_.node_name.empty() ? "node" + std::to_string(config_.node_id) : config_.node_name;
  member.address = config_.advertise_address;
  if (member.address.empty()) {
    member.address = is_wildcard(config_.listen_address) ? "127.0.0.1" : config_.listen_address;
  }
  member.port = port_;
  member.pg_host = config_.pg_host.empty() ? member.address : config_.pg_host;
  member.pg_port = config_.pg_port;
  member.nosync = config_.nosync;
  return member;
}

transport::Identity NodeImpl::identity() const {
  transport::Identity identity;
  identity.cluster_name = config_.cluster_name;
  identity.cluster_id = identity_.cluster_id != 0 ? identity_.cluster_id : greeted_cluster_id_;
  identity.node_id = config_.node_id;
  identity.incarnation = identity_.incarnation;
  identity.system_identifier = identity_.system_identifier;
  identity.member = self();
  identity.version = PGRAFT_VERSION;
  return identity;
}

std::string NodeImpl::state_name() const {
  if (!failed_) return "failed";
  if (!replica_->is_member()) {
    return replica_->machine().applied_index() == 0 ? "uninitialized" : "removed";
  }
  return raft::role_name(std::as_const(*replica_).raft().role());
}

// Called with status_mutex_ held. A node that finds no leader shows why it was turned away, if it
// was.
std::string NodeImpl::phase() const {
  if (!failed_) return failed_.message();
  std::string phase = has_controller() ? replica_->controller().phase() : "";
  const bool shows = refused_at_ && Clock::now() - *refused_at_ < kRefusalShown &&
                     std::as_const(*replica_).raft().leader() == raft::kNoNode;
  if (shows) phase += (phase.empty() ? "" : "; ") + ("refused by " + refusal_);
  return phase;
}

// It is copied from many places: made anew at every tick, and at once when something else has
// changed than how far the log has come, which is kept up to date.
void NodeImpl::refresh_status() {
  if (status_due_ || status_is_stale()) return publish_status();
  const raft::RawNode& raft = std::as_const(*replica_).raft();
  const std::lock_guard lock(status_mutex_);
  status_.commit_index = raft.commit_index();
  status_.applied_index = replica_->machine().applied_index();
  status_.last_index = raft.last_index();
}

bool NodeImpl::status_is_stale() const {
  const raft::RawNode& raft = std::as_const(*replica_).raft();
  if (status_.term != raft.term() || status_.leader_id != raft.leader()) return true;
  if (status_.state != state_name()) return true;
  if (!has_controller()) return false;
  const failover::Controller& controller = replica_->controller();
  return shown_phase_ != controller.phase() || status_.abstaining != controller.abstaining() ||
         status_.writable != controller.is_writable_leader();
}

void NodeImpl::publish_status() {
  status_due_ = false;
  if (has_controller()) shown_phase_ = replica_->controller().phase();
  const raft::NodeStatus raft = replica_->raft_status();
  const bool leads = raft.soft.role == raft::Role::kLeader;
  if (leads) count_election(raft.hard.term);  // of a sole voter, who asks nobody

  transport::ClusterStatus now;
  now.identity = identity();
  now.state = state_name();
  now.term = raft.hard.term;
  now.leader_id = raft.soft.leader;
  now.writable = host_ != nullptr && failed_ && leads &&
                 replica_->controller().is_writable_leader() && host_->accepts_writes() &&
                 lease_remaining().count() > 0;
  now.commit_index = raft.hard.commit;
  now.applied_index = replica_->machine().applied_index();
  now.last_index = raft.last_index;
  const failover::DatabaseView& database = replica_->database();
  now.timeline = database.end.timeline;
  now.lsn = database.end.lsn;
  now.in_recovery = database.valid && database.in_recovery;
  now.abstaining = has_controller() && replica_->controller().abstaining();
  if (failed_) now.change_waits_for = replica_->change_waits_for();
  now.messages_processed = messages_processed_;
  now.heartbeats_sent = heartbeats_sent_;
  now.elections_triggered = elections_triggered_;
  if (const auto* done = replica_->machine().latest_done()) {
    now.promoted_timeline = done->promotion.timeline;
  }
  now.more = status_more(raft);
  for (const auto& record : replica_->machine().promotions()) {
    if (!record.done) continue;
    const failover::Promotion& p = record.promotion;
    const failover::Lsn start = record.history.empty() ? 0 : record.history.back().end;
    now.promotions.push_back({p.term, p.node, p.timeline, start});
  }
  for (const auto& [id, member] : replica_->machine().members()) {
    transport::MemberStatus m;
    m.member = member;
    m.voter = holds(raft.conf.voters, id) || holds(raft.conf.voters_outgoing, id);
    m.learner = holds(raft.conf.learners, id) || holds(raft.conf.learners_next, id);
    m.answering = leads && id == config_.node_id;
    const auto progress = raft.progress.find(id);
    if (leads && progress != raft.progress.end()) {
      m.match_index = progress->second.match;
      m.answering =
          m.answering || progress->second.idle_ticks <= static_cast<std::uint64_t>(election_ticks_);
    }
    const auto stream = database.streams.find(id);
    if (leads && stream != database.streams.end()) m.flush_lsn = stream->second;
    m.wal = replica_->wal_status(id);
    if (failed_) m.waits_for = replica_->waits_for(id);
    now.members.push_back(std::move(m));
  }

  bool news;
  {
    const std::lock_guard lock(status_mutex_);
    now.phase = phase();
    news = is_news(status_, now);
    status_ = std::move(now);
  }
  if (host_ == nullptr || (!news && ticks_to_news_ > 0)) return;
  ticks_to_news_ = heartbeat_ticks_;
  host_->status_changed();
}

transport::StatusMore NodeImpl::status_more(const raft::NodeStatus& raft) const {
  transport::StatusMore more;
  const bool leads = raft.soft.role == raft::Role::kLeader;
  const state::Pause& pause = replica_->machine().pause();
  more.paused_until_ms = pause.until_ms;
  more.paused_by = pause.by;
  if (host_ != nullptr) {
    more.fenced = !host_->accepts_writes();
    more.lease_ms = static_cast<std::uint64_t>(lease_remaining().count());
    more.switchover_to = replica_->controller().switching_over_to();
    more.rejoins = host_->rejoins();
  }
  for (const auto& [id, progress] : raft.progress) {
    if (leads) more.contacts.push_back({id, id == config_.node_id ? 0 : idle_ms(progress)});
  }
  return more;
}

std::uint64_t NodeImpl::idle_ms(const raft::ProgressView& progress) const {
  return progress.idle_ticks * static_cast<std::uint64_t>(tick_.count());
}

// How this node became a writable leader goes into the log, where every node finds it.
void NodeImpl::time_leadership() {
  if (host_ == nullptr) return;
  const raft::RawNode& raft = std::as_const(*replica_).raft();
  LeadershipTimer::View view;
  view.self = config_.node_id;
  view.term = raft.term();
  view.leader = raft.leader();
  if (view.leader == view.self) {
    view.promotions = replica_->machine().promotion_view(view.term);
    view.writable = status_.writable;  // written by this thread only
  }
  std::optional<state::LeaderChange> change = leadership_.update(view, Clock::now());
  if (!change) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  change->at_ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
  for (const auto& record : replica_->machine().promotions()) {
    if (record.done && record.promotion.term < change->term)
      change->previous = record.promotion.node;
  }
  replica_->propose(*change, nullptr);
}

Metrics NodeImpl::make_metrics() {
  const raft::NodeStatus raft = replica_->raft_status();
  const state::StateMachine& machine = replica_->machine();
  Metrics m;
  m.first_index = replica_->first_index();
  m.last_index = raft.last_index;
  m.commit_index = raft.hard.commit;
  m.applied_index = machine.applied_index();
  m.snapshot_index = replica_->snapshot_index();
  m.log_appends = machine.log_appends();
  m.writes = writer_->stats();
  m.kv_keys = machine.kv().items().size();
  m.kv_bytes = machine.kv().bytes();
  m.kv_with_ttl = machine.kv().with_ttl();
  m.kv_revision = machine.kv().revision();
  m.kv_changes_kept_after = machine.kv().changes_kept_after();
  m.kv_counts = machine.kv().counts();
  m.tick_delay_us = tick_delay_us_;
  m.lease_ms = static_cast<std::uint64_t>(lease_remaining().count());
  {
    const std::lock_guard lock(queue_mutex_);
    m.queued = queue_.tasks.size() + queue_.proposals.size();
  }
  m.messages_processed = messages_processed_;
  m.heartbeats_sent = heartbeats_sent_;
  m.elections_triggered = elections_triggered_;
  m.leader_changes = machine.leader_changes();
  for (const auto& [id, member] : machine.members()) {
    PeerMetrics peer;
    peer.id = id;
    const auto progress = raft.progress.find(id);
    peer.tracked = raft.soft.role == raft::Role::kLeader && progress != raft.progress.end();
    if (peer.tracked) {
      peer.progress = progress->second;
      peer.idle_ms = id == config_.node_id ? 0 : idle_ms(progress->second);
    }
    if (id != config_.node_id) peer.wire = transport_->peer_stats(id);
    m.peers.push_back(std::move(peer));
  }
  return m;
}

transport::ClusterStatus NodeImpl::status() const {
  const std::lock_guard lock(status_mutex_);
  return status_;
}

}  // namespace pgraft::node
