// The node's loop: queue, ticks, what the replica asks of the world.
#include <pthread.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "libpgraft/node/node_impl.h"

namespace pgraft::node {

namespace {

// What the transport hands over faster than the disk takes it is dropped; Raft repeats it.
constexpr std::size_t kMaxQueuedMessages = 65536;
constexpr std::size_t kMaxQueuedBytes = 256u << 20;
// A process that was suspended must not live through its election timeout at once, before it has
// read what waits in its sockets.
constexpr int kMaxTicksAtOnce = 3;
// An unhealthy leader stays away from the next elections for so many election timeouts (rule 11).
constexpr int kHoldOffElections = 4;
constexpr std::chrono::seconds kReopenInterval{1};

Status not_taken() {
  return {Code::kUnavailable, "the node is stopping or has too many requests waiting"};
}

Status has_failed(const Status& why) {
  return {Code::kUnavailable, "the node has failed: " + why.message()};
}

template <class T>
void take_up_to(std::size_t count, std::deque<T>* from, std::deque<T>* to) {
  if (from->size() <= count && to->empty()) return to->swap(*from);
  for (; count > 0 && !from->empty(); --count) {
    to->push_back(std::move(from->front()));
    from->pop_front();
  }
}

std::size_t bytes_of(const std::vector<raft::Message>& messages) {
  std::size_t bytes = 0;
  for (const raft::Message& m : messages) {
    for (const raft::Entry& entry : m.entries) bytes += entry.data.size();
    if (m.snapshot) bytes += m.snapshot->data.size();
  }
  return bytes;
}

}  // namespace

// --- the queue
// ----------------------------------------------------------------------------------------------

bool NodeImpl::post(Task task) {
  {
    const std::lock_guard lock(queue_mutex_);
    if (stopping_ || is_full()) return false;
    queue_.tasks.push_back(std::move(task));
  }
  queue_wake_.notify_one();
  return true;
}

void NodeImpl::post_request(Completion done, std::function<void(Completion)> request) {
  const auto shared = std::make_shared<Completion>(std::move(done));
  const bool taken = post([this, shared, request = std::move(request)] {
    if (failed_) return request(std::move(*shared));
    (*shared)(has_failed(failed_), 0);
  });
  if (!taken) (*shared)(not_taken(), 0);
}

void NodeImpl::propose(state::Operation operation, Completion done) {
  if (Status s = state::validate(operation); !s) return done(s, 0);
  {
    const std::lock_guard lock(queue_mutex_);
    if (!stopping_ && !is_full()) {
      queue_.proposals.push_back({std::move(operation), std::move(done)});
      done = nullptr;
    }
  }
  if (done) return done(not_taken(), 0);
  queue_wake_.notify_one();
}

void NodeImpl::on_messages(std::vector<raft::Message> messages) {
  const std::size_t count = messages.size();
  const std::size_t bytes = bytes_of(messages);
  {
    const std::lock_guard lock(queue_mutex_);
    if (stopping_ || queued_messages_ + count > kMaxQueuedMessages ||
        (queued_bytes_ > 0 && queued_bytes_ + bytes > kMaxQueuedBytes)) {
      return;
    }
    queued_messages_ += count;
    queued_bytes_ += bytes;
    queue_.tasks.push_back([this, bytes, messages = std::move(messages)]() mutable {
      {
        const std::lock_guard taken(queue_mutex_);
        queued_messages_ -= messages.size();
        queued_bytes_ -= bytes;
      }
      if (!failed_) return;
      messages_processed_ += messages.size();
      for (raft::Message& message : messages) replica_->receive(std::move(message));
    });
  }
  queue_wake_.notify_one();
}

void NodeImpl::on_report(const failover::Report& report) {
  post([this, report] {
    if (failed_) replica_->receive_report(report);
  });
}

void NodeImpl::on_wal_status(const failover::WalStatus& status) {
  post([this, status] {
    if (failed_) replica_->receive_wal_status(status);
  });
}

void NodeImpl::on_peer_lost(raft::NodeId id, const std::string&) {
  post([this, id] {
    if (!failed_) return;
    replica_->peer_lost(id);
    if (strangers_.erase(id) != 0) connect_members(replica_->machine());
  });
}

void NodeImpl::on_greeted(const transport::Identity& peer) {
  post([this, peer] {
    if (failed_) meet(peer);
  });
}

void NodeImpl::on_snapshot_sent(raft::NodeId id, bool ok) {
  post([this, id, ok] {
    if (failed_) replica_->snapshot_sent(id, ok);
  });
}

void NodeImpl::on_refused(const std::string& peer, const std::string& reason) {
  const std::lock_guard lock(status_mutex_);
  refusal_ = peer + ": " + reason;
  refused_at_ = Clock::now();
}

// Only the newest view counts.
void NodeImpl::observe(const failover::DatabaseView& view) {
  {
    const std::lock_guard lock(queue_mutex_);
    newest_view_ = view;
  }
  queue_wake_.notify_one();
}

NodeImpl::Work NodeImpl::wait_for_work(Clock::time_point until) {
  Work work;
  std::unique_lock lock(queue_mutex_);
  queue_wake_.wait_until(lock, until, [&] {
    return stopping_ || written_ || newest_view_ || !queue_.tasks.empty() ||
           !queue_.proposals.empty();
  });
  written_ = false;
  if (newest_view_ && replica_) {
    work.tasks.push_back([this, view = std::move(*newest_view_)] {
      replica_->observe(view);
      status_due_ = true;
    });
    newest_view_.reset();
  }
  // Bounded, so that one append holds at most that many entries and a flood doesn't keep the ticks
  // waiting.
  take_up_to(config_.max_log_entries, &queue_.tasks, &work.tasks);
  take_up_to(config_.max_log_entries, &queue_.proposals, &work.proposals);
  return work;
}

// --- the loop
// -----------------------------------------------------------------------------------------------

void NodeImpl::run() {
  pthread_setname_np(pthread_self(), "pgraft-node");
  next_tick_ = Clock::now() + tick_;
  for (;;) {
    Work work = wait_for_work(next_tick_);
    {
      const std::lock_guard lock(queue_mutex_);
      if (stopping_) break;
    }
    try {
      step(work);
    } catch (const std::exception& e) {  // the allocator, a library
      fail(Status(Code::kAborted, std::string("unexpected failure: ") + e.what()));
    }
  }
  // Requests that came too late to be tried: their completions are in the tasks.
  Work left;
  {
    const std::lock_guard lock(queue_mutex_);
    left = std::exchange(queue_, {});
  }
  if (failed_) failed_ = Status(Code::kUnavailable, "the node is stopping");
  answer_inits();
  do_work(left);
}

void NodeImpl::do_work(Work& work) {
  for (Task& task : work.tasks) task();
  for (Proposal& proposal : work.proposals) {
    if (failed_) {
      replica_->propose(std::move(proposal.operation), std::move(proposal.done));
    } else {
      proposal.done(has_failed(failed_), 0);
    }
  }
}

// What arrived comes before the ticks: a heartbeat that waited in the queue must be seen before the
// time without one is counted.
void NodeImpl::step(Work& work) {
  do_work(work);
  if (failed_.code() == Code::kNoSpace) recover();
  if (!failed_) {
    next_tick_ = Clock::now() + kReopenInterval;
    return;
  }
  tick_due();
  Status processed = replica_->process();
  if (processed) processed = write_failed_;
  is_member_ = replica_->is_member();
  if (!processed) {
    fail(processed);
  } else {
    refresh_status();
    time_leadership();
  }
  answer_inits();
}

void NodeImpl::answer_inits() {
  if (inits_.empty()) return;
  const bool leads = std::as_const(*replica_).raft().own_term_applied();
  if (failed_ && !leads) return;
  for (const Completion& done : std::exchange(inits_, {})) {
    done(failed_, failed_ ? identity_.cluster_id : 0);
  }
}

void NodeImpl::tick_due() {
  const Clock::time_point now = Clock::now();
  if (now < next_tick_) return;
  tick_delay_us_.add(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(now - next_tick_).count()));
  const auto due = (now - next_tick_) / tick_ + 1;
  const int run = static_cast<int>(std::min<std::int64_t>(due, kMaxTicksAtOnce));
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  replica_->set_wall_clock(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(since_1970).count()));
  for (int i = 0; i < run; ++i) {
    replica_->tick();
    tick_times_.push_back(now);
  }
  while (tick_times_.size() > static_cast<std::size_t>(4 * election_ticks_)) {
    tick_times_.pop_front();
  }
  next_tick_ = due > kMaxTicksAtOnce ? now + tick_ : next_tick_ + run * tick_;
  keep_healthy_lead();
  publish_lease();
  publish_contact();
  status_due_ = true;
  if (ticks_to_news_ > 0) --ticks_to_news_;
}

// rule 11
void NodeImpl::keep_healthy_lead() {
  if (replica_->raft().role() != raft::Role::kLeader) return;
  const bool healthy = (host_ == nullptr || host_->healthy()) && !replica_->is_disk_stalled();
  if (healthy) return;
  replica_->raft().step_down(kHoldOffElections * election_ticks_);
}

// Measured from the time at which the tick happened, not by counting ticks: a process that was
// suspended finds its lease ended.
std::chrono::milliseconds NodeImpl::remaining_since(std::uint64_t start_tick,
                                                    std::chrono::milliseconds duration) const {
  const std::uint64_t age = std::as_const(*replica_).raft().now_ticks() - start_tick;
  if (start_tick == 0 || age >= tick_times_.size()) return {};
  const Clock::time_point ends = tick_times_[tick_times_.size() - 1 - age] + duration;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(ends - Clock::now());
  return std::max(left, std::chrono::milliseconds(0));
}

std::chrono::milliseconds NodeImpl::lease_remaining() const {
  if (std::as_const(*replica_).raft().role() != raft::Role::kLeader) return {};
  // A tick of margin.
  return remaining_since(replica_->lease_start_tick(), (election_ticks_ - 1) * tick_);
}

std::chrono::milliseconds NodeImpl::contact_remaining() const {
  return remaining_since(replica_->leader_heard_tick(), config_.election_timeout);
}

void NodeImpl::publish_lease() {
  if (host_ == nullptr) return;
  const std::chrono::milliseconds remaining = lease_remaining();
  if (remaining.count() == 0 && !lease_published_) return;
  host_->publish_lease(replica_->raft().term(), remaining);
  lease_published_ = remaining.count() != 0;
}

void NodeImpl::publish_contact() {
  if (host_ == nullptr) return;
  const std::chrono::milliseconds remaining = contact_remaining();
  if (remaining.count() == 0 && !contact_published_) return;
  host_->publish_contact(replica_->raft().term(), remaining);
  contact_published_ = remaining.count() != 0;
}

// A full disk is the one failure that ends by itself. What was acknowledged is in the store, so it
// is as after a restart: the log is opened again, which fails as long as there is no room. With a
// database the worker does it, which is started again by the server.
void NodeImpl::recover() {
  if (host_ != nullptr || Clock::now() < reopen_at_) return;
  reopen_at_ = Clock::now() + kReopenInterval;
  writer_.reset();
  store_.reset();
  Status s = open_log();
  if (s) s = create_replica();
  if (s) {
    failed_ = Status::ok();
    next_tick_ = Clock::now() + tick_;
    connect_members(replica_->machine());
  } else if (s.code() != Code::kNoSpace) {
    failed_ = s;
  }
  publish_status();
}

void NodeImpl::fail(const Status& why) {
  failed_ = why;
  reopen_at_ = Clock::now() + kReopenInterval;
  transport_->set_peers({});  // the others notice closed connections at once
  if (host_ != nullptr) {
    host_->publish_lease(replica_->raft().term(), std::chrono::milliseconds(0));
    host_->failed(why);
  }
  publish_status();
}

// --- what the replica asks for
// --------------------------------------------------------------------------------

void NodeImpl::send(raft::Message message) {
  if (message.type == raft::MessageType::kHeartbeat) ++heartbeats_sent_;
  if (message.type == raft::MessageType::kVote) count_election(message.term);
  if (transport_) transport_->send(std::move(message));
}

void NodeImpl::count_election(raft::Term term) {
  if (term == election_term_) return;
  election_term_ = term;
  ++elections_triggered_;
}

void NodeImpl::send_report(raft::NodeId to, const failover::Report& report) {
  if (transport_) transport_->send_report(to, report);
}

void NodeImpl::send_wal_status(raft::NodeId to, const failover::WalStatus& status) {
  if (transport_) transport_->send_wal_status(to, status);
}

void NodeImpl::close(const failover::Orders& orders) {
  if (host_ == nullptr) return;
  if (lease_published_) {  // a lease of the term before is over
    host_->publish_lease(orders.term, std::chrono::milliseconds(0));
    lease_published_ = false;
  }
  host_->close(orders);
}

void NodeImpl::carry_out(const failover::Orders& orders) {
  if (host_ != nullptr) host_->carry_out(orders);
}

void NodeImpl::applied() {
  const state::Revision revision = replica_ ? replica_->machine().kv().revision() : 0;
  if (host_ != nullptr && revision != kv_revision_) host_->kv_changed(revision);
  kv_revision_ = revision;
  machine_mutex_.unlock();
}

Status NodeImpl::clear_abstain() {
  if (Status s = remove_rejoin(config_.data_dir); !s) return s;
  return host_ == nullptr ? Status::ok() : host_->clear_abstain();
}

void NodeImpl::state_changed(const state::StateMachine& machine, const raft::ConfState& conf) {
  if (Status s = write_files(machine); !s) write_failed_ = s;
  connect_members(machine);
  if (host_ != nullptr) host_->state_changed(machine, conf);
  // Whoever is told next that a change is done must find it in the status.
  if (replica_) publish_status();
}

void NodeImpl::change_reached(ChangeStep step, raft::ConfChangeType type) {
  if (host_ != nullptr) host_->change_reached(step, type);
}

Status NodeImpl::write_files(const state::StateMachine& machine) {
  if (machine.cluster_id() != identity_.cluster_id) {
    // A joining node has just been told. The log knows it already, so that a crash here loses
    // nothing (rule 10).
    identity_.cluster_id = machine.cluster_id();
    if (Status s = write_identity(config_.data_dir, identity_); !s) return s;
    if (transport_) transport_->set_identity(identity());
  }
  std::vector<state::Member> members;
  for (const auto& [id, member] : machine.members()) members.push_back(member);
  if (members_ != members) {
    if (Status s = write_members(config_.data_dir, members); !s) return s;
    members_ = std::move(members);
  }
  TimelinesFile timelines;
  timelines.max = machine.max_timeline();
  if (const auto* done = machine.latest_done()) {
    timelines.current = done->promotion.timeline;
    timelines.history = done->history;
  }
  if (timelines_ != timelines) {
    if (Status s = write_timelines(config_.data_dir, timelines); !s) return s;
    timelines_ = std::move(timelines);
  }
  return Status::ok();
}

// A node that joins doesn't know who adds it; one that was away for long may know none of those
// that lead it now. Both must be able to answer. The handshake has checked cluster and incarnation:
// who greets a node without a cluster knows its incarnation, so it was asked to add it.
void NodeImpl::meet(const transport::Identity& peer) {
  if (identity_.cluster_id == 0 && greeted_cluster_id_ == 0 && peer.cluster_id != 0) {
    greeted_cluster_id_ = peer.cluster_id;
    transport_->set_identity(identity());
  }
  if (peer.cluster_id == 0 || peer.cluster_id != identity().cluster_id) return;
  if (replica_->machine().members().count(peer.node_id) != 0) return;
  if (strangers_.size() >= state::kMaxMembers) return;
  strangers_[peer.node_id] = {peer.node_id, peer.incarnation, peer.member.address,
                              peer.member.port};
  connect_members(replica_->machine());
}

void NodeImpl::connect_members(const state::StateMachine& machine) {
  if (!transport_) return;
  std::erase_if(strangers_, [&](const auto& s) { return machine.members().count(s.first) != 0; });
  std::vector<transport::PeerAddress> peers;
  for (const auto& [id, address] : strangers_) peers.push_back(address);
  for (const auto& [id, member] : machine.members()) {
    if (id != config_.node_id)
      peers.push_back({id, member.incarnation, member.address, member.port});
  }
  transport_->set_peers(peers);
}

}  // namespace pgraft::node
