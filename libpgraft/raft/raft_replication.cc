// Log replication (section 5.3), commitment (5.4.2), heartbeats, and snapshots for followers that
// are behind the log (section 7).
#include <algorithm>
#include <utility>

#include "libpgraft/base/check.h"
#include "libpgraft/raft/raft.h"

namespace pgraft::raft {
namespace {

// A kAppend from the network is one run of entries after its previous one, in terms that don't
// fall.
bool well_formed(const Message& message) {
  Index index = message.index;
  Term term = message.log_term;
  for (const Entry& entry : message.entries) {
    if (entry.index != ++index || entry.term < term || entry.term > message.term) return false;
    term = entry.term;
  }
  return true;
}

}  // namespace

// --- proposals

Status Raft::propose(std::vector<Entry>& entries) {
  if (role_ == Role::kLeader) return append_proposals(entries);
  Message message;
  message.type = MessageType::kPropose;
  message.entries = std::move(entries);
  return forward_to_leader(std::move(message));
}

Status Raft::append_proposals(std::vector<Entry>& entries) {
  if (entries.empty()) return {Code::kInvalidArgument, "proposal without entries"};
  if (!is_self_member())
    return {Code::kNotLeader, "this node is leader, but was removed from the configuration"};
  if (transferee_ != kNoNode) {
    return {Code::kNotLeader,
            "leadership is being transferred to node " + std::to_string(transferee_)};
  }
  Index pending = pending_conf_index_;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].type != EntryType::kConfChange) continue;
    if (Status status = admit_conf_change(entries[i], pending); !status) return status;
    if (entries[i].type == EntryType::kConfChange) pending = log_.last_index() + 1 + i;
  }
  if (Status status = append_entries(entries, true); !status) return status;
  pending_conf_index_ = pending;
  broadcast_append();
  return {};
}

// `bounded`: refused when too much waits to be committed. The leader's own entries are not.
Status Raft::append_entries(std::vector<Entry>& entries, bool bounded) {
  const std::uint64_t bytes = data_bytes(entries);
  // One proposal of any size passes when there is no other.
  if (bounded && config_.max_uncommitted_bytes != 0 && bytes > 0 && uncommitted_bytes_ > 0 &&
      uncommitted_bytes_ + bytes > config_.max_uncommitted_bytes) {
    return {Code::kResourceExhausted,
            std::to_string(uncommitted_bytes_) +
                " bytes of proposals are not committed yet, the limit is " +
                std::to_string(config_.max_uncommitted_bytes)};
  }
  uncommitted_bytes_ += bytes;
  Index index = log_.last_index();
  for (Entry& entry : entries) {
    entry.index = ++index;
    entry.term = term_;
  }
  log_.append(entries);
  // The leader counts itself when the entries are durable here.
  Message message;
  message.type = MessageType::kAppendResponse;
  message.to = id_;
  message.index = index;
  send(std::move(message));
  return {};
}

void Raft::applied_to(Index index, std::uint64_t bytes) {
  log_.applied_to(index);
  // Inherited entries were not counted, so this may be more than there is.
  uncommitted_bytes_ -= std::min(uncommitted_bytes_, bytes);
  maybe_leave_joint();
}

void Raft::snapshot_applied(Index index) {
  log_.snapshot_stable(index);
  applied_to(index, 0);
}

// --- leader: sending

void Raft::broadcast_append() {
  for (const auto& [id, member] : tracker_.progress) {
    if (id != id_) send_append(id, true);
  }
}

void Raft::broadcast_heartbeat() {
  const std::string context = read_context();
  for (auto& [id, member] : tracker_.progress) {
    if (id == id_) continue;
    Message message;
    message.type = MessageType::kHeartbeat;
    message.to = id;
    // The follower has nothing certain behind its match.
    message.commit = std::min(member.match, log_.committed());
    message.context = context;
    message.stamp = now_;
    member.sent_commit = std::max(member.sent_commit, message.commit);
    send(std::move(message));
  }
}

// True when something was sent. Without entries to send, only if `even_if_empty`: that carries the
// commit index.
bool Raft::send_append(NodeId to, bool even_if_empty) {
  Progress* member = tracker_.find(to);
  if (member == nullptr || member->blocked()) return false;
  const Index prev = member->next - 1;
  const Result<Term> prev_term = log_.term(prev);
  if (!prev_term.is_ok()) return send_snapshot(to, *member);

  std::vector<Entry> entries;
  // With a full pipeline only an empty message goes out: its answer tells whether the others
  // arrived.
  if (member->state != ProgressState::kReplicate || !member->inflights.full()) {
    Result<std::vector<Entry>> next =
        log_.entries(member->next, log_.last_index() + 1, config_.max_size_per_msg);
    if (!next.is_ok()) return send_snapshot(to, *member);
    entries = std::move(next).value();
  }
  if (entries.empty() && !even_if_empty) return false;

  member->sent_entries(entries.size(), data_bytes(entries));
  member->sent_commit = log_.committed();
  Message message;
  message.type = MessageType::kAppend;
  message.to = to;
  message.index = prev;
  message.log_term = *prev_term;
  message.entries = std::move(entries);
  message.commit = log_.committed();
  message.stamp = now_;
  send(std::move(message));
  return true;
}

bool Raft::send_snapshot(NodeId to, Progress& member) {
  // Snapshots are costly; one that nobody receives is a waste.
  if (!member.recent_active) return false;
  std::shared_ptr<const Snapshot> snapshot = log_.snapshot();
  if (snapshot == nullptr) return false;  // being made: tried again with the next message
  member.become_snapshot(snapshot->meta.index);
  Message message;
  message.type = MessageType::kSnapshot;
  message.to = to;
  message.snapshot = std::move(snapshot);
  message.stamp = now_;
  send(std::move(message));
  return true;
}

void Raft::report_unreachable(NodeId id) {
  Progress* member = role_ == Role::kLeader && id != id_ ? tracker_.find(id) : nullptr;
  // What is in flight is likely lost.
  if (member != nullptr && member->state == ProgressState::kReplicate) member->become_probe();
}

void Raft::report_snapshot(NodeId id, bool ok) {
  Progress* member = role_ == Role::kLeader ? tracker_.find(id) : nullptr;
  if (member == nullptr || member->state != ProgressState::kSnapshot) return;
  if (!ok) member->pending_snapshot = 0;  // probe behind what it had before
  member->become_probe();
  // Sent: its answer comes when it is restored. Failed: not again before the next heartbeat's
  // answer.
  member->paused = true;
}

// --- follower

Status Raft::handle_leader_message(Message&& message) {
  if (role_ == Role::kLeader || (lead_ != kNoNode && lead_ != message.from)) {
    return {Code::kCorruption, "node " + std::to_string(message.from) + " claims to lead term " +
                                   std::to_string(term_) + ", which node " + std::to_string(lead_) +
                                   " leads"};
  }
  // An election was won by another candidate (5.2), or the pre-vote came too early.
  if (role_ != Role::kFollower) become_follower(term_, message.from);
  heard_from_leader(message);
  switch (message.type) {
    case MessageType::kAppend: return handle_append(std::move(message));
    case MessageType::kHeartbeat: return handle_heartbeat(message);
    default: return handle_snapshot(message);
  }
}

void Raft::heard_from_leader(const Message& message) {
  lead_ = message.from;
  lead_incarnation_ = message.from_incarnation;
  heard_leader_at_ = now_;
  election_elapsed_ticks_ = 0;
  hold_off_until_ = 0;
  leader_lost_ = false;
  lost_campaign_at_.reset();
}

Status Raft::handle_append(Message&& message) {
  if (!well_formed(message)) {
    return {Code::kCorruption, "append of node " + std::to_string(message.from) + " after entry " +
                                   std::to_string(message.index) + " is not one run of entries"};
  }
  Message response = answer(message, MessageType::kAppendResponse);
  Term prev_term = message.log_term;
  if (!config_.rules.consistency_check) {
    if (const Result<Term> own = log_.term(message.index); own.is_ok()) prev_term = *own;
  }
  const Index last_new = message.index + message.entries.size();
  if (message.index < log_.committed()) {
    response.index = log_.committed();
  } else if (log_.maybe_append(message.index, prev_term, message.entries, message.commit)) {
    if (!config_.rules.apply_committed) log_.commit_to(log_.last_index());
    response.index = last_new;
  } else {
    // 5.3, "optimized to reduce the number of rejected AppendEntries": the last entry here that can
    // agree, so that a whole term is skipped at once.
    const RaftLog::Position hint =
        log_.find_conflict_by_term(std::min(message.index, log_.last_index()), message.log_term);
    response.index = message.index;
    response.reject = true;
    response.reject_hint = hint.index;
    response.log_term = hint.term;
  }
  send(std::move(response));
  return {};
}

Status Raft::handle_heartbeat(const Message& message) {
  if (message.commit > log_.last_index()) {
    return {Code::kCorruption, "node " + std::to_string(message.from) + " knows entry " +
                                   std::to_string(message.commit) +
                                   " to be stored here, but the log ends at " +
                                   std::to_string(log_.last_index())};
  }
  log_.commit_to(message.commit);
  Message response = answer(message, MessageType::kHeartbeatResponse);
  response.context = message.context;
  send(std::move(response));
  return {};
}

Status Raft::handle_snapshot(const Message& message) {
  if (message.snapshot == nullptr || message.snapshot->empty())
    return {Code::kCorruption, "snapshot message without a snapshot"};
  const Snapshot& snapshot = *message.snapshot;
  if (snapshot.meta.index > kMaxIndex) {
    return {Code::kCorruption,
            "received snapshot: no log reaches entry " + std::to_string(snapshot.meta.index)};
  }
  Result<Membership> membership =
      restore_membership(snapshot.meta.conf, snapshot.meta.index, tracker_.limits);
  if (!membership.is_ok()) return membership.status().with_context("received snapshot");
  const bool restored = restore_snapshot(message, std::move(membership).value());
  Message response = answer(message, MessageType::kAppendResponse);
  response.index = restored ? log_.last_index() : log_.committed();
  send(std::move(response));
  return {};
}

// False when the snapshot has nothing that the log doesn't hold. Its configuration may lack this
// node: whoever is added after the snapshot was made finds itself in the entries that follow, and
// is no voter until then.
bool Raft::restore_snapshot(const Message& message, Membership membership) {
  const SnapshotMeta& meta = message.snapshot->meta;
  if (meta.index <= log_.committed()) return false;
  if (log_.matches(meta.index, meta.term)) {
    // Section 7: an entry that agrees with the snapshot's last; what follows it is kept.
    log_.commit_to(meta.index);
    return false;
  }
  log_.restore(message.snapshot);
  tracker_.votes.clear();
  tracker_.config = std::move(membership.config);
  tracker_.progress = std::move(membership.progress);
  return true;
}

// --- leader: answers

void Raft::note_response(Progress& member, const Message& message) {
  member.recent_active = true;
  member.response_tick = now_;
  // Nobody can have heard what is not sent yet.
  member.stamp = std::max(member.stamp, std::min(message.stamp, now_));
}

void Raft::handle_append_response(const Message& message) {
  Progress* member = tracker_.find(message.from);
  if (member == nullptr) return;
  note_response(*member, message);
  if (!message.reject) {
    // A node that claims more than the log has is not to be counted for what it never got.
    if (message.index <= log_.last_index())
      handle_acknowledged(message.from, *member, message.index);
    return;
  }
  Index hint = message.reject_hint;
  // Skip all that the follower's term at the hint rules out here, too.
  if (message.log_term > 0) hint = log_.find_conflict_by_term(hint, message.log_term).index;
  if (!member->back_up(message.index, hint)) return;
  if (member->state == ProgressState::kReplicate) member->become_probe();
  send_append(message.from, true);
}

void Raft::handle_acknowledged(NodeId from, Progress& member, Index match) {
  const bool answers_probe = member.match == match && member.state == ProgressState::kProbe;
  if (!member.acknowledge(match) && !answers_probe) return;
  switch (member.state) {
    case ProgressState::kProbe: member.become_replicate(); break;
    case ProgressState::kReplicate: member.inflights.free_to(match); break;
    case ProgressState::kSnapshot:
      // Caught up by whatever means: the log reaches it again.
      if (member.match + 1 >= log_.first_index()) {
        member.pending_snapshot = 0;
        member.become_replicate();
      }
      break;
  }
  if (maybe_commit()) {
    broadcast_append();
  } else if (from != id_ && member.commit_is_news(log_.committed())) {
    send_append(from, true);  // sooner than with the next heartbeat
  }
  if (from == id_) return;
  while (send_append(from, false)) {
  }
  if (from == transferee_ && member.match == log_.last_index()) send_timeout_now(from);
}

// 5.4.2: by counting only what is of the current term; older entries are committed with it.
bool Raft::maybe_commit() {
  const Index stored = tracker_.committed();
  if (stored == kUnlimitedIndex) return false;
  if (!config_.rules.own_term_commit && stored > log_.committed()) {
    log_.commit_to(stored);
  } else if (!log_.maybe_commit(stored, term_)) {
    return false;
  }
  start_deferred_reads();
  return true;
}

void Raft::handle_heartbeat_response(const Message& message) {
  Progress* member = tracker_.find(message.from);
  if (member == nullptr) return;
  note_response(*member, message);
  // Whatever was out is lost or answered by now: probe again.
  member->paused = false;
  if (member->match < log_.last_index() || member->state == ProgressState::kProbe)
    send_append(message.from, true);
  record_read_ack(message.from, message.context);
}

}  // namespace pgraft::raft
