// The replica's requests: what callers ask for, what is refused and why.
#include <algorithm>
#include <utility>

#include "libpgraft/node/replica.h"
#include "libpgraft/node/requests.h"

namespace pgraft::node {

namespace {

std::string node(raft::NodeId id) { return "node " + std::to_string(id); }

}  // namespace

void Replica::propose(state::Operation operation, Completion done) {
  Status refused = check_part_of_cluster();
  if (refused) refused = state::validate(operation);
  if (refused && (std::holds_alternative<failover::Promotion>(operation) ||
                  std::holds_alternative<failover::PromotionDone>(operation))) {
    refused =
        Status(Code::kInvalidArgument, "promotions are proposed by the failover controller only");
  }
  if (refused && requests_->full()) {
    refused = Status(Code::kResourceExhausted,
                     std::to_string(Requests::kMaxWaiting) + " requests are waiting already");
  }
  if (refused && raft_->leader() == raft::kNoNode) refused = no_leader();
  if (!refused) return requests_->finish(std::move(done), refused);

  const std::uint64_t request = requests_->add_command(std::move(done), raft_->now_ticks());
  proposals_.push_back(
      {request, state::encode_command({options_.raft.id, request, std::move(operation)})});
}

// What came in together goes into the log together: one message to each member, one write.
void Replica::flush_proposals() {
  std::vector<Proposal> waiting = std::exchange(proposals_, {});
  for (std::size_t next = 0; next < waiting.size();) {
    const std::size_t first = next;
    std::vector<std::string> group;
    std::uint64_t bytes = 0;
    do {
      bytes += waiting[next].command.size();
      group.push_back(std::move(waiting[next++].command));
    } while (next < waiting.size() &&
             bytes + waiting[next].command.size() <= options_.raft.max_size_per_msg);
    const Status s = raft_->propose(std::move(group));
    for (std::size_t i = first; i < next && !s; ++i) {
      requests_->settle_command(waiting[i].request, s, 0);
    }
  }
}

void Replica::read_barrier(Completion done) { read_barrier(std::move(done), nullptr); }

void Replica::read_barrier(Completion done, std::shared_ptr<failover::Position> position) {
  Status refused = check_part_of_cluster();
  if (refused && requests_->full()) {
    refused = Status(Code::kResourceExhausted,
                     std::to_string(Requests::kMaxWaiting) + " requests are waiting already");
  }
  if (refused && raft_->leader() == raft::kNoNode) refused = no_leader();
  if (!refused) return requests_->finish(std::move(done), refused);
  ask_to_read(requests_->add_read(std::move(done), std::move(position), raft_->now_ticks()));
}

// Without a leader now it is asked again later, and times out in the end.
void Replica::ask_to_read(std::uint64_t id) { (void)raft_->read_index(std::to_string(id)); }

void Replica::add_member(const state::Member& member, Completion done) {
  Status refused = state::validate(member);
  if (refused) refused = check_leads();
  for (const auto& [id, known] : machine_.members()) {
    if (!refused) break;
    if (id == member.id) {
      refused = Status(Code::kAlreadyExists, node(id) + " is a member already");
    } else if (known.address == member.address && known.port == member.port) {
      refused = Status(Code::kAlreadyExists, node(id) + " is a member already with the address " +
                                                 known.address + ":" + std::to_string(known.port));
    }
  }
  if (refused && machine_.members().size() >= state::kMaxMembers) {
    refused = Status(Code::kResourceExhausted,
                     "a cluster has at most " + std::to_string(state::kMaxMembers) + " members");
  }
  if (refused) refused = check_majority_answers(conf_.voters);
  if (refused) refused = check_may_change_members();
  if (refused) refused = propose_change(raft::ConfChangeType::kAddLearner, member);
  if (!refused) return requests_->finish(std::move(done), refused);
  requests_->set_membership({raft::ConfChangeType::kAddLearner, member.id, member.incarnation},
                            std::move(done), raft_->now_ticks());
}

void Replica::remove_member(raft::NodeId id, Completion done) {
  Status refused = check_leads();
  const auto found = machine_.members().find(id);
  if (refused && found == machine_.members().end()) {
    refused = Status(Code::kNotFound, node(id) + " is not a member");
  }
  if (refused && id == options_.raft.id) {
    refused = Status(Code::kFailedPrecondition,
                     node(id) + " is the leader: transfer the leadership to another node first");
  }
  if (refused) {
    std::vector<raft::NodeId> remaining = conf_.voters;
    std::erase(remaining, id);
    refused = check_majority_answers(std::move(remaining));
  }
  if (refused) refused = check_may_change_members();
  if (refused) refused = propose_change(raft::ConfChangeType::kRemove, found->second);
  if (!refused) return requests_->finish(std::move(done), refused);
  requests_->set_membership({raft::ConfChangeType::kRemove, id, found->second.incarnation},
                            std::move(done), raft_->now_ticks());
}

void Replica::transfer_leadership(const Transfer& transfer, Completion done) {
  if (options_.with_database) return switch_over(transfer, std::move(done));
  raft::NodeId to = transfer.to;
  Status refused = check_leads();
  if (refused && requests_->transfer()) {
    refused = Status(Code::kFailedPrecondition, "the leadership is being transferred to " +
                                                    node(requests_->transfer()->to) + " already");
  }
  if (refused && to == raft::kNoNode) {
    to = longest_log();
    if (to == raft::kNoNode) refused = Status(Code::kNoQuorum, "no other voter answers");
  }
  if (refused && to == options_.raft.id) {
    return requests_->finish(std::move(done), Status::ok(), raft_->term());
  }
  if (refused && machine_.members().count(to) == 0) {
    refused = Status(Code::kNotFound, node(to) + " is not a member");
  }
  if (refused && !is_voter(to)) {
    refused =
        Status(Code::kFailedPrecondition, node(to) + " has not caught up yet: it has no vote");
  }
  if (refused && !answers(to)) refused = Status(Code::kUnavailable, node(to) + " does not answer");
  if (refused) refused = raft_->transfer_leader(to);
  if (!refused) return requests_->finish(std::move(done), refused);
  requests_->set_transfer(to, std::move(done), raft_->now_ticks() + limit_ticks(transfer));
}

std::uint64_t Replica::limit_ticks(const Transfer& transfer) const {
  const int limit =
      transfer.limit_ticks > 0 ? transfer.limit_ticks : options_.request_timeout_ticks;
  return static_cast<std::uint64_t>(limit);
}

void Replica::switch_over(const Transfer& transfer, Completion done) {
  if (Status s = check_leads(); !s) return requests_->finish(std::move(done), s);
  const std::uint64_t now = raft_->now_ticks();
  const std::uint64_t deadline = now + limit_ticks(transfer);
  const failover::RaftView view = raft_view();
  const failover::PromotionView promotions = machine_.promotion_view(view.term);
  const Result<failover::NodeId> to = controller_.begin_switchover(
      {view, promotions, database_, now}, {transfer.to, deadline, transfer.end_writers});
  if (!to || *to == options_.raft.id) {
    return requests_->finish(std::move(done), to.status(), raft_->term());
  }
  // The controller gives up first, and knows more; this one only ends the wait for a leader.
  const auto margin = static_cast<std::uint64_t>(2 * options_.raft.election_ticks);
  requests_->set_transfer(*to, std::move(done), deadline + margin);
}

void Replica::check_transfer(raft::NodeId to, Completion done) {
  if (Status s = check_leads(); !s) return requests_->finish(std::move(done), s);
  const failover::RaftView view = raft_view();
  const failover::PromotionView promotions = machine_.promotion_view(view.term);
  const Result<failover::NodeId> chosen =
      controller_.check_switchover({view, promotions, database_, raft_->now_ticks()}, to);
  requests_->finish(std::move(done), chosen.status(), chosen ? *chosen : 0);
}

void Replica::cancel_transfer(Completion done) {
  Status refused;
  if (!requests_->transfer() ||
      !controller_.cancel_switchover({Code::kAborted, "the switchover was canceled"})) {
    refused = Status(Code::kFailedPrecondition, "there is no switchover that could be canceled");
  }
  requests_->finish(std::move(done), refused);
}

// Whoever was removed may be destroyed once that is answered. It is needed until then: without it,
// members that don't know yet, or that forget in a crash, that its removal is committed have too
// few votes left (of two nodes one, of four two and a dead one), for ever. So the answer waits for
// one more entry: with it a majority of those that are left has stored the commit index too
// (PROTOCOL.md, M4b).
void Replica::confirm_removal() {
  auto& removal = requests_->membership();
  if (!removal || removal->applied_at == 0 || raft_->role() != raft::Role::kLeader) return;
  auto& [term, index] = removal->known_with;
  if (term != raft_->term()) {  // not asked for, or lost with the leadership
    const raft::Index next = raft_->status().last_index + 1;
    if (raft_->propose(std::string())) removal->known_with = {raft_->term(), next};
  } else if (machine_.applied_index() >= index) {
    requests_->settle_membership(Status::ok(), removal->applied_at);
  }
}

// A hand-over ends when another node leads, or when Raft gave it up.
void Replica::settle_requests() {
  confirm_removal();
  const std::optional<Status> given_up = controller_.take_switchover_outcome();
  if (!requests_->transfer()) return;
  const raft::NodeId to = requests_->transfer()->to;
  const raft::NodeId leader = raft_->leader();
  if (leader == to) {
    requests_->settle_transfer(Status::ok(), raft_->term());
  } else if (leader != raft::kNoNode && leader != options_.raft.id) {
    requests_->settle_transfer(
        Status(Code::kAborted, node(leader) + " became the leader instead of " + node(to)), 0);
  } else if (given_up) {
    requests_->settle_transfer(*given_up, 0);
  } else if (!options_.with_database && leader == options_.raft.id &&
             raft_->status().transferee == raft::kNoNode) {
    requests_->settle_transfer(
        Status(Code::kTimeout, node(to) + " did not take over in time: this node still leads"), 0);
  }
}

void Replica::stop() {
  requests_->abandon(Status(Code::kUnavailable, "the node is stopping: the outcome is unknown"));
  requests_->deliver();
}

// --- why not
// ------------------------------------------------------------------------------------------------

Status Replica::check_part_of_cluster() const {
  if (is_member()) return Status::ok();
  if (machine_.cluster_id() == 0 && machine_.applied_index() == 0) {
    return {Code::kFailedPrecondition,
            "this node is not part of a cluster: make one (pgraft_init) or add it to one "
            "(pgraft_add_node, on the leader)"};
  }
  return {Code::kFailedPrecondition, "this node was removed from its cluster"};
}

Status Replica::check_leads() const {
  if (Status s = check_part_of_cluster(); !s) return s;
  if (raft_->role() == raft::Role::kLeader) return Status::ok();
  if (raft_->leader() == raft::kNoNode) return no_leader();
  std::string message = "this node is not the leader: " + node(raft_->leader()) + " is";
  const auto found = machine_.members().find(raft_->leader());
  if (found != machine_.members().end()) {
    message += " (" + found->second.address + ":" + std::to_string(found->second.port) + ")";
  }
  return {Code::kNotLeader, message};
}

Status Replica::no_leader() const {
  std::size_t answering = 0;
  for (const raft::NodeId id : conf_.voters) answering += answers(id) ? 1 : 0;
  return {Code::kNoQuorum, "no leader: " + std::to_string(answering) + " of " +
                               std::to_string(conf_.voters.size()) + " voting members answer"};
}

Status Replica::check_may_change_members() const {
  if (Status s = change_under_way(); !s) return s;
  if (!raft_->own_term_applied()) {
    return {Code::kFailedPrecondition, "the leader has only just been elected: try again"};
  }
  if (!options_.with_database) return Status::ok();
  const failover::RaftView view = raft_view();
  const failover::PromotionView promotions = machine_.promotion_view(view.term);
  return controller_.may_change_membership({view, promotions, database_, raft_->now_ticks()});
}

Status Replica::change_under_way() const {
  if (!requests_->membership() && !raft_->conf_change_pending()) return Status::ok();
  std::string message = "another membership change is under way";
  if (const auto& change = requests_->membership()) {
    const bool removes = change->change.type == raft::ConfChangeType::kRemove;
    message += ": " + node(change->change.node_id) + " is being " + (removes ? "removed" : "added");
  }
  return {Code::kFailedPrecondition, message + silent_voters()};
}

Status Replica::change_not_confirmed() const {
  return {Code::kTimeout,
          "no majority confirmed the change in time: its outcome is unknown" + silent_voters()};
}

// What an error may end with.
std::string Replica::silent_voters() const {
  std::string silent;
  for (const raft::NodeId id : conf_.voters) {
    if (!answers(id)) silent += (silent.empty() ? "; no answer from " : ", ") + node(id);
  }
  return silent;
}

std::string Replica::waits_for(raft::NodeId id) const {
  if (raft_->role() != raft::Role::kLeader || is_voter(id)) return "";
  if (!answers(id)) return node(id) + " does not answer";
  if (options_.with_database) {
    const failover::RaftView view = raft_view();
    const failover::PromotionView promotions = machine_.promotion_view(view.term);
    std::string why =
        controller_.learner_waits_for({view, promotions, database_, raft_->now_ticks()}, id);
    if (!why.empty()) return why + told_lag(id);
  }
  const raft::NodeStatus status = raft_->status();
  const auto progress = status.progress.find(id);
  const raft::Index match = progress == status.progress.end() ? 0 : progress->second.match;
  if (match >= status.hard.commit) return "its vote is being committed";
  return node(id) + " lacks " + std::to_string(status.hard.commit - match) +
         " entries of the Raft log";
}

// What a learner says itself while it acknowledges nothing, as after a clone.
std::string Replica::told_lag(raft::NodeId id) const {
  const auto stream = database_.streams.find(id);
  const failover::WalStatus told = wal_status(id);
  const bool silent = stream == database_.streams.end() || stream->second == 0;
  if (!silent || told.from == 0 || told.end.lsn >= database_.end.lsn) return "";
  return ": its WAL ends " + failover::size_text(database_.end.lsn - told.end.lsn) +
         " behind this node's";
}

std::string Replica::change_waits_for() const {
  if (raft_->role() != raft::Role::kLeader) return "";
  return check_may_change_members().message();
}

Status Replica::check_majority_answers(std::vector<raft::NodeId> voters) const {
  const auto answering = static_cast<std::size_t>(
      std::count_if(voters.begin(), voters.end(), [&](raft::NodeId id) { return answers(id); }));
  if (answering * 2 > voters.size()) return Status::ok();
  return {Code::kNoQuorum, std::to_string(answering) + " of " + std::to_string(voters.size()) +
                               " voters would answer: a majority of them is needed"};
}

// A leader asks its progress; anybody else goes by the messages that came in.
bool Replica::answers(raft::NodeId id) const {
  if (id == options_.raft.id) return true;
  const auto within = static_cast<std::uint64_t>(options_.raft.election_ticks);
  if (raft_->role() == raft::Role::kLeader) {
    const raft::NodeStatus status = raft_->status();
    const auto found = status.progress.find(id);
    return found != status.progress.end() && found->second.idle_ticks <= within;
  }
  const auto heard = heard_tick_.find(id);
  return heard != heard_tick_.end() && raft_->now_ticks() - heard->second <= 2 * within;
}

Status Replica::propose_change(raft::ConfChangeType type, const state::Member& member) {
  raft::ConfChange change;
  change.changes = {{type, member.id, member.incarnation}};
  if (type != raft::ConfChangeType::kRemove) change.context = state::encode_member(member);
  Status s = raft_->propose_conf_change(change);
  if (s) host_->change_reached(ChangeStep::kProposed, type);
  return s;
}

// Without a database: the voter that answers and has the longest log.
raft::NodeId Replica::longest_log() const {
  const raft::NodeStatus status = raft_->status();
  raft::NodeId best = raft::kNoNode;
  raft::Index most = 0;
  for (const raft::NodeId id : conf_.voters) {
    const auto progress = status.progress.find(id);
    if (id == options_.raft.id || progress == status.progress.end() || !answers(id)) continue;
    if (best != raft::kNoNode && progress->second.match <= most) continue;
    best = id;
    most = progress->second.match;
  }
  return best;
}

}  // namespace pgraft::node
