// State, roles, time, and the first look at every message: identity, membership, term (figure 2,
// "rules for servers").
#include "libpgraft/raft/raft.h"

#include <algorithm>
#include <utility>

#include "libpgraft/base/check.h"

namespace pgraft::raft {
namespace {

bool is_vote_request(MessageType type) {
  return type == MessageType::kVote || type == MessageType::kPreVote;
}

bool is_vote_response(MessageType type) {
  return type == MessageType::kVoteResponse || type == MessageType::kPreVoteResponse;
}

bool is_response(MessageType type) {
  return is_vote_response(type) || type == MessageType::kAppendResponse ||
         type == MessageType::kHeartbeatResponse;
}

bool is_from_leader(MessageType type) {
  return type == MessageType::kAppend || type == MessageType::kHeartbeat ||
         type == MessageType::kSnapshot;
}

// Figure 2, "persistent state: updated on stable storage before responding to RPCs". A request for
// a vote too: what the candidate says of its log, and that it votes for itself, would otherwise not
// outlive a crash, while the votes it gained do. Pre-votes and refusals promise nothing.
bool needs_durability(const Message& message) {
  const bool promise =
      message.type == MessageType::kAppendResponse || message.type == MessageType::kVoteResponse;
  return message.type == MessageType::kVote || (promise && !message.reject);
}

// Forwarded requests have no term: they are as good in a later one.
bool has_no_term(MessageType type) {
  return type == MessageType::kPropose || type == MessageType::kReadIndex;
}

// Configuration changes up to config.applied that the stored snapshot doesn't cover.
Status replay_conf_changes(const RaftLog& log, Index applied, Tracker& tracker) {
  constexpr std::uint64_t kPageBytes = 1u << 20;
  for (Index next = log.first_index(); next <= applied;) {
    const Result<std::vector<Entry>> page = log.entries(next, applied + 1, kPageBytes);
    if (!page.is_ok()) return page.status();
    for (const Entry& entry : *page) {
      ++next;
      if (entry.type != EntryType::kConfChange) continue;
      const Result<ConfChange> change = decode_conf_change(entry.data);
      if (!change.is_ok()) return change.status();
      Result<Membership> changed = Changer(tracker, log.last_index()).change(*change);
      if (!changed.is_ok()) continue;  // had no effect when it was first applied either
      tracker.config = std::move(changed->config);
      tracker.progress = std::move(changed->progress);
    }
  }
  return {};
}

}  // namespace

Raft::Raft(const Config& config, const LogReader* reader)
    : config_(config),
      id_(config.id),
      log_(reader),
      priority_(config.priority),
      random_state_(first_random_state(config.seed, config.id)) {
  tracker_.limits = {config.max_inflight_msgs, config.max_inflight_bytes};
  tracker_.both_majorities = config.rules.both_majorities;
}

Result<std::unique_ptr<Raft>> Raft::create(const Config& config, const LogReader* reader) {
  if (Status status = config.validate(); !status) return status;
  Result<LogReader::InitialState> initial = reader->initial_state();
  if (!initial.is_ok()) return initial.status();
  std::unique_ptr<Raft> raft(new Raft(config, reader));
  RaftLog& log = raft->log_;
  const HardState& hard = initial->hard;
  if (hard.commit > log.last_index() || config.applied > log.last_index()) {
    return Status{Code::kCorruption, "the log ends at " + std::to_string(log.last_index()) +
                                         ", but commit index " + std::to_string(hard.commit) +
                                         " and applied index " + std::to_string(config.applied) +
                                         " are recorded"};
  }
  log.restore_committed(hard.commit);
  // What was applied was committed, even if the last commit index was not synced.
  log.restore_committed(config.applied);
  raft->term_ = hard.term;
  raft->vote_ = hard.vote;
  // Who has stored no term has answered no leader. With asynchronous storage heartbeats are
  // answered before the term is stored.
  if (hard.term != 0 || config.async_storage_writes) raft->heard_leader_at_ = 0;
  if (Status status = raft->restore_configuration(initial->conf); !status)
    return status.with_context("stored configuration");
  log.applied_to(config.applied);
  raft->become_follower(hard.term, kNoNode);
  return raft;
}

Status Raft::restore_configuration(const ConfState& conf) {
  Result<Membership> restored = restore_membership(conf, log_.last_index(), tracker_.limits);
  if (!restored.is_ok()) return restored.status();
  tracker_.config = std::move(restored->config);
  tracker_.progress = std::move(restored->progress);
  return replay_conf_changes(log_, config_.applied, tracker_);
}

std::string Raft::describe() const {
  return "node " + std::to_string(id_) + ", " + role_name(role_) + " in term " +
         std::to_string(term_) + ", leader " + std::to_string(lead_) + ", log " +
         std::to_string(log_.first_index()) + ".." + std::to_string(log_.last_index()) +
         ", committed " + std::to_string(log_.committed()) + ", applied " +
         std::to_string(log_.applied());
}

// --- roles

void Raft::reset(Term new_term) {
  if (term_ != new_term) {
    PGRAFT_CHECK(new_term > term_, "term " + std::to_string(new_term) + ": " + describe());
    term_ = new_term;
    vote_ = kNoNode;
    vote_incarnation_ = 0;
  }
  lead_ = kNoNode;
  lead_incarnation_ = 0;
  leader_lost_ = false;
  lost_campaign_at_.reset();
  election_elapsed_ticks_ = 0;
  heartbeat_elapsed_ticks_ = 0;
  reset_election_timeout();
  abort_transfer();
  sent_timeout_now_ = false;
  own_first_index_ = 0;
  pending_conf_index_ = 0;
  uncommitted_bytes_ = 0;
  reads_.clear();
  deferred_reads_.clear();
  read_acks_.clear();
  tracker_.votes.clear();
  for (auto& [id, member] : tracker_.progress) {
    member = Progress(log_.last_index() + 1, member.is_learner, tracker_.limits);
    member.response_tick = now_;
    if (id == id_) member.match = log_.last_index();
  }
}

void Raft::become_follower(Term new_term, NodeId leader, Incarnation leader_incarnation) {
  reset(new_term);
  role_ = Role::kFollower;
  lead_ = leader;
  lead_incarnation_ = leader_incarnation;
}

void Raft::forget_leader() {
  // A follower that answers for the leader's lease must keep to it.
  if (role_ != Role::kFollower || config_.lease_based_reads) return;
  lead_ = kNoNode;
  lead_incarnation_ = 0;
  leader_lost_ = false;
  lost_campaign_at_.reset();
}

void Raft::step_down(int hold_off_ticks) {
  if (role_ != Role::kLeader) return;
  become_follower(term_, kNoNode);
  hold_off_until_ = now_ + static_cast<std::uint64_t>(std::max(election_timeout_ticks_, 0)) +
                    static_cast<std::uint64_t>(std::max(hold_off_ticks, 0));
}

// --- time

void Raft::tick() {
  ++now_;
  if (role_ == Role::kLeader) {
    tick_leader();
  } else {
    tick_follower();
  }
}

void Raft::tick_follower() {
  ++election_elapsed_ticks_;
  if (lost_campaign_at_ && now_ >= *lost_campaign_at_) {
    // Tried again at the next tick while a committed change is not applied.
    if (start_campaign(false).is_ok()) lost_campaign_at_.reset();
    return;
  }
  if (!may_campaign_by_time()) return;
  election_elapsed_ticks_ = 0;
  (void)start_campaign(false);
}

void Raft::tick_leader() {
  ++heartbeat_elapsed_ticks_;
  ++election_elapsed_ticks_;
  if (transferee_ != kNoNode && ++transfer_elapsed_ticks_ >= config_.election_ticks) {
    abort_transfer();
    maybe_leave_joint();  // was refused while the transfer went on
  }
  if (election_elapsed_ticks_ >= config_.election_ticks) {
    election_elapsed_ticks_ = 0;
    // Section 6.2 of the thesis: a leader that is cut off must not keep its clients waiting.
    if (config_.check_quorum && !tracker_.check_quorum_active(id_)) {
      become_follower(term_, kNoNode);
      return;
    }
  }
  if (heartbeat_elapsed_ticks_ >= config_.heartbeat_ticks) {
    heartbeat_elapsed_ticks_ = 0;
    broadcast_heartbeat();
  }
}

// --- messages

void Raft::send(Message message) {
  message.from = id_;
  if (message.term == 0 && !has_no_term(message.type)) message.term = term_;
  if (message.to == id_) {
    after_append_.push_back(std::move(message));
    return;
  }
  message.from_incarnation = config_.incarnation;
  if (message.to_incarnation == 0) {
    message.to_incarnation = message.to == lead_ && lead_incarnation_ != 0
                                 ? lead_incarnation_
                                 : tracker_.config.incarnation(message.to);
  }
  std::vector<Message>& out = needs_durability(message) ? after_append_ : messages_;
  out.push_back(std::move(message));
}

// An answer goes to the very process that asked, whichever incarnation the configuration knows so
// far.
Message Raft::answer(const Message& request, MessageType type) const {
  Message message;
  message.type = type;
  message.to = request.from;
  message.to_incarnation = request.from_incarnation;
  message.stamp = request.stamp;
  return message;
}

// rule 10: servers are (id, incarnation). What is meant for another incarnation of this id is
// dropped: a wiped server must not answer for what it has forgotten. What comes from another
// incarnation than the configuration's is dropped if it is an answer (it would count for a member
// that did not give it) or of this term or an older one. A request of a newer term is no less valid
// than one of any server outside the configuration (thesis 4.2.3): if it were dropped, a node that
// slept while the leader's id was given to a new incarnation could never learn of it.
bool Raft::wrong_incarnation(const Message& message) const {
  if (message.to_incarnation != 0 && config_.incarnation != 0 &&
      message.to_incarnation != config_.incarnation) {
    return true;
  }
  if (message.from_incarnation == 0) return false;
  const Incarnation known = tracker_.config.incarnation(message.from);
  if (known == 0 || known == message.from_incarnation) return false;
  if (is_from_leader(message.type) && message.term == term_) {
    const bool is_the_leader =
        lead_ == message.from && lead_incarnation_ == message.from_incarnation;
    return lead_ != kNoNode && !is_the_leader;
  }
  const bool is_request = is_from_leader(message.type) || is_vote_request(message.type);
  return !is_request || message.term <= term_;
}

Status Raft::receive(Message&& message) {
  if (message.from == kNoNode || message.from == id_)
    return {Code::kInvalidArgument, "message from node " + std::to_string(message.from)};
  if (message.to != kNoNode && message.to != id_) {
    return {Code::kMismatch, "message for node " + std::to_string(message.to) + ", this is node " +
                                 std::to_string(id_)};
  }
  if (wrong_incarnation(message)) return {};
  if (is_response(message.type) && tracker_.find(message.from) == nullptr)
    return {Code::kNotFound, "node " + std::to_string(message.from) + " is not a member"};
  return step(std::move(message));
}

Status Raft::step(Message&& message) {
  // In any term.
  if (is_vote_response(message.type) && message.reject) learn_commit(message);
  if (is_vote_request(message.type) && message.term >= term_ && !message.transfer && in_a_lease())
    return {};
  if (has_no_term(message.type)) {
    // goes to whoever leads
  } else if (message.term > term_) {
    if (!accept_newer_term(message)) return {};
  } else if (message.term < term_ || message.term == 0) {
    answer_older_term(message);
    return {};
  }
  if (is_vote_request(message.type)) return handle_vote_request(message);
  if (is_from_leader(message.type)) return handle_leader_message(std::move(message));
  return role_ == Role::kLeader ? step_leader(std::move(message)) : step_other(std::move(message));
}

void Raft::complete(const Message& response) {
  switch (response.type) {
    case MessageType::kStorageAppendResponse:
      // Entries with this index and term may have been overwritten and come back since, by the logs
      // of two later leaders, and the last write may still be under way: what was handed out in an
      // earlier term tells nothing. The first write of each term covers all that is not stable.
      if (response.index != 0 && response.term == term_)
        log_.entries_stable(response.index, response.log_term);
      // What a snapshot holds is committed, whatever the term is.
      if (response.snapshot) snapshot_applied(response.snapshot->meta.index);
      return;
    case MessageType::kStorageApplyResponse: applied_to(response.index, response.commit); return;
    default: {
      const Status status = step(Message(response));  // this node's own vote, its own entries
      PGRAFT_CHECK(status.is_ok(), status.to_string());
    }
  }
}

// False when the message is to be ignored.
bool Raft::accept_newer_term(const Message& message) {
  const bool pre_vote = message.type == MessageType::kPreVote;
  if (is_vote_request(message.type)) {
    // Section 6, "disruptive servers": whoever hears a leader does not help to depose it; the
    // leader's own transfer excepted.
    if (!message.transfer && config_.check_quorum && leader_is_alive()) return false;
  }
  // A pre-vote is about a term that nobody has entered yet (9.6).
  if (pre_vote) return true;
  if (message.type == MessageType::kPreVoteResponse && !message.reject) return true;
  if (is_from_leader(message.type)) {
    become_follower(message.term, message.from, message.from_incarnation);
  } else {
    become_follower(message.term, kNoNode);
  }
  return true;
}

void Raft::answer_older_term(const Message& message) {
  const bool from_old_leader =
      message.type == MessageType::kHeartbeat || message.type == MessageType::kAppend;
  if (from_old_leader && (config_.check_quorum || config_.pre_vote)) {
    // A leader that missed an election whose winner it can't hear, while this node's campaigns are
    // ignored or its pre-votes lost, would stay leader of the others for ever: tell it the term.
    Message nudge = answer(message, MessageType::kAppendResponse);
    nudge.stamp = 0;
    send(std::move(nudge));
  } else if (message.type == MessageType::kPreVote) {
    // A pre-candidate with an old term must learn the new one, or it may wait for ever.
    Message refusal = answer(message, MessageType::kPreVoteResponse);
    refusal.reject = true;
    send(std::move(refusal));
  }
}

Status Raft::step_leader(Message&& message) {
  switch (message.type) {
    case MessageType::kPropose: return append_proposals(message.entries);
    case MessageType::kAppendResponse: handle_append_response(message); return {};
    case MessageType::kHeartbeatResponse: handle_heartbeat_response(message); return {};
    case MessageType::kTransferLeader: return handle_transfer_leader(message.index);
    case MessageType::kReadIndex: {
      PendingRead read;
      read.from = message.from;
      read.from_incarnation = message.from_incarnation;
      read.context = std::move(message.context);
      return handle_read_request(std::move(read));
    }
    default: return {};  // late votes, a transfer that is done
  }
}

Status Raft::step_other(Message&& message) {
  switch (message.type) {
    case MessageType::kVoteResponse:
    case MessageType::kPreVoteResponse: handle_vote_response(message); return {};
    case MessageType::kTimeoutNow:
      if (role_ == Role::kFollower) (void)start_campaign(true);
      return {};
    case MessageType::kReadIndexResponse:
      read_states_.push_back({message.index, std::move(message.context)});
      return {};
    // Forwarded to a node that leads no longer. Passing it on could go in circles; the client asks
    // again.
    default: return {};
  }
}

Status Raft::not_leader() const {
  if (lead_ == kNoNode) return {Code::kNotLeader, "there is no leader"};
  return {Code::kNotLeader, "node " + std::to_string(lead_) + " leads"};
}

Status Raft::forward_to_leader(Message message) {
  if (role_ != Role::kFollower || lead_ == kNoNode) return not_leader();
  message.to = lead_;
  send(std::move(message));
  return {};
}

bool Raft::is_self_member() const { return tracker_.find(id_) != nullptr; }

NodeStatus Raft::status() const {
  NodeStatus status;
  status.id = id_;
  status.hard = hard_state();
  status.soft = soft_state();
  status.applied = log_.applied();
  status.last_index = log_.last_index();
  status.transferee = transferee_;
  status.conf = tracker_.config.to_conf_state();
  if (role_ != Role::kLeader) return status;
  for (const auto& [id, member] : tracker_.progress) {
    ProgressView& view = status.progress[id];
    view.match = member.match;
    view.next = member.next;
    view.state = member.state;
    view.recent_active = member.recent_active;
    view.is_learner = member.is_learner;
    view.idle_ticks = id == id_ ? 0 : now_ - member.response_tick;
  }
  return status;
}

}  // namespace pgraft::raft
