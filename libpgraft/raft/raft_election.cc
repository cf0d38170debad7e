// Leader election (section 5.2), with the election restriction (5.4.1), pre-vote (thesis 9.6) and
// leadership transfer (thesis 3.10).
#include <algorithm>
#include <utility>

#include "libpgraft/base/check.h"
#include "libpgraft/raft/raft.h"

namespace pgraft::raft {
namespace {

// splitmix64
std::uint64_t next_state(std::uint64_t state) { return state + 0x9e3779b97f4a7c15ull; }
std::uint64_t mixed(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

}  // namespace

// --- who may campaign, and when

// Nodes that share a seed start far apart in the sequence: else what one of them draws another one
// would draw next, and votes that were split once could be split again and again.
std::uint64_t Raft::first_random_state(std::uint64_t seed, NodeId id) {
  return mixed(mixed(next_state(seed)) + id);
}

std::uint64_t Raft::next_random() {
  random_state_ = next_state(random_state_);
  return mixed(random_state_);
}

// Random, so that split votes are rare and don't repeat (5.2).
void Raft::reset_election_timeout() {
  const auto span = static_cast<std::uint64_t>(config_.election_ticks);
  election_timeout_ticks_ = config_.election_ticks + static_cast<int>(next_random() % span);
}

// The configuration holds this node, this incarnation of it, as a voter, and no snapshot is about
// to replace it.
bool Raft::promotable() const {
  const Progress* self = tracker_.find(id_);
  const Incarnation known = tracker_.config.incarnation(id_);
  const bool same_incarnation =
      known == 0 || config_.incarnation == 0 || known == config_.incarnation;  // rule 10
  return self != nullptr && !self->is_learner && same_incarnation && !log_.unstable_snapshot();
}

bool Raft::may_campaign_by_time() const {
  return now_ >= hold_off_until_ && priority_ > 0 && !in_a_lease() &&
         election_elapsed_ticks_ >=
             election_timeout_ticks_ + election_delay_ticks_ + priority_delay_ticks() &&
         promotable();
}

void Raft::set_priority(int priority) { priority_ = std::clamp(priority, 0, kMaxPriority); }

// The least priority waits one more election timeout: the others have had their chance by then.
int Raft::priority_delay_ticks() const {
  return config_.election_ticks * (kMaxPriority - priority_) / kMaxPriority;
}

Status Raft::start_campaign(bool transfer) {
  if (role_ == Role::kLeader) return {};
  if (!promotable()) {
    return {Code::kFailedPrecondition,
            "node " + std::to_string(id_) + " is not a voter of the configuration it has applied"};
  }
  // rule 8, PROTOCOL.md M4b: the change may already count for others, whose majority need not meet
  // the one before it.
  if (config_.rules.campaign_after_apply &&
      log_.has_conf_change(log_.applied() + 1, log_.committed() + 1)) {
    return {Code::kFailedPrecondition,
            "a committed configuration change must be applied before a campaign"};
  }
  if (!transfer && in_a_lease()) {
    return {Code::kFailedPrecondition,
            "a leader may still read by its lease: it must be silent for an election timeout "
            "before a campaign"};
  }
  if (transfer) {
    campaign(Campaign::kTransfer);  // the leader asked for it: no pre-vote
  } else {
    campaign(config_.pre_vote ? Campaign::kPreVote : Campaign::kElection);
  }
  return {};
}

void Raft::report_leader_lost(NodeId leader, int delay_ticks) {
  if (role_ != Role::kFollower || leader == kNoNode || leader != lead_) return;
  // Reads by lease rest on every voter waiting out the timeout.
  if (config_.lease_based_reads) return;
  leader_lost_ = true;
  if (priority_ == 0) return;
  const std::uint64_t at =
      now_ + static_cast<std::uint64_t>(std::max(delay_ticks, 0) + priority_delay_ticks());
  if (!lost_campaign_at_ || at < *lost_campaign_at_) lost_campaign_at_ = at;
  if (*lost_campaign_at_ <= now_ && start_campaign(false).is_ok()) lost_campaign_at_.reset();
}

// --- the campaign

void Raft::become_pre_candidate() {
  PGRAFT_CHECK(role_ != Role::kLeader, describe());
  // Neither term nor vote change: losing a pre-vote leaves no trace (9.6).
  role_ = Role::kPreCandidate;
  lead_ = kNoNode;
  lead_incarnation_ = 0;
  leader_lost_ = false;
  lost_campaign_at_.reset();
  tracker_.votes.clear();
  election_elapsed_ticks_ = 0;
}

void Raft::become_candidate() {
  PGRAFT_CHECK(role_ != Role::kLeader, describe());
  reset(term_ + 1);
  role_ = Role::kCandidate;
  vote_ = id_;
  vote_incarnation_ = config_.incarnation;
}

void Raft::become_leader() {
  PGRAFT_CHECK(role_ == Role::kCandidate, describe());
  reset(term_);
  role_ = Role::kLeader;
  lead_ = id_;
  lead_incarnation_ = config_.incarnation;
  hold_off_until_ = 0;
  Progress* self = tracker_.find(id_);
  PGRAFT_CHECK(self != nullptr, "elected without being a member: " + describe());
  self->become_replicate();
  self->recent_active = true;
  // There may be a change among the entries it has inherited: none is added before they are applied
  // (rule 8).
  pending_conf_index_ = log_.last_index();
  own_first_index_ = log_.last_index() + 1;
  // Section 8: the leader learns what is committed by committing an entry of its term (5.4.2).
  std::vector<Entry> own(1);
  const Status status = append_entries(own, false);
  PGRAFT_CHECK(status.is_ok(), status.to_string());
  broadcast_append();
}

void Raft::campaign(Campaign kind) {
  Term election_term = term_ + 1;
  if (kind == Campaign::kPreVote) {
    become_pre_candidate();
  } else {
    become_candidate();
  }
  for (NodeId id : tracker_.config.voters()) request_vote(id, kind, election_term);
}

void Raft::request_vote(NodeId to, Campaign kind, Term election_term) {
  const bool pre_vote = kind == Campaign::kPreVote;
  Message message;
  message.to = to;
  message.term = election_term;
  if (to == id_) {
    // Its own vote counts when it is durable.
    message.type = pre_vote ? MessageType::kPreVoteResponse : MessageType::kVoteResponse;
  } else {
    message.type = pre_vote ? MessageType::kPreVote : MessageType::kVote;
    message.index = log_.last_index();
    message.log_term = log_.last_term();
    message.transfer = kind == Campaign::kTransfer;
  }
  send(std::move(message));
}

// --- votes

// It was heard within the shortest election timeout, and nothing says that it died since.
bool Raft::leader_is_alive() const {
  return lead_ != kNoNode && !leader_lost_ && election_elapsed_ticks_ < config_.election_ticks;
}

// PROTOCOL.md M5: a node that has no configuration, in effect or in its log, may be one that was
// wiped, and has forgotten its vote.
bool Raft::knows_configuration() const {
  return !tracker_.config.empty() ||
         log_.has_conf_change(log_.first_index(), log_.last_index() + 1);
}

// Whether this node is a learner in the configuration it has applied doesn't matter: the candidate
// may know of its promotion already, and may not win without it.
Status Raft::handle_vote_request(const Message& message) {
  const bool pre_vote = message.type == MessageType::kPreVote;
  // rule 10: the vote was given to one incarnation. After a restart it isn't known to which, so
  // there is no repeat.
  const bool repeat = vote_ == message.from && (message.from_incarnation == 0 ||
                                                vote_incarnation_ == message.from_incarnation);
  const bool free = (vote_ == kNoNode && lead_ == kNoNode) || !config_.rules.one_vote_a_term;
  const bool may_vote = repeat || free || (pre_vote && message.term > term_);
  const bool complete =
      log_.up_to_date(message.index, message.log_term) || !config_.rules.complete_log;
  const bool known = knows_configuration() || !config_.rules.vote_with_configuration;
  const bool granted = may_vote && known && complete;

  Message response =
      answer(message, pre_vote ? MessageType::kPreVoteResponse : MessageType::kVoteResponse);
  // A granted pre-vote names the term it was asked for, a refusal this node's own: the candidate
  // may have to catch up.
  response.term = granted ? message.term : term_;
  response.reject = !granted;
  if (!granted && !promotable()) tell_commit(response);
  if (granted && !pre_vote) {
    vote_ = message.from;
    vote_incarnation_ = message.from_incarnation;
    election_elapsed_ticks_ = 0;
  }
  if (response.term != 0) send(std::move(response));
  return {};
}

// A node that knows that it votes no more can't be elected for its longer log. Those that are left
// may not have heard of the change, and ask for its vote in vain: so it tells them what is
// committed, and with that they know their configuration.
void Raft::tell_commit(Message& refusal) const {
  const Result<Term> committed_term = log_.term(log_.committed());
  if (!committed_term.is_ok()) return;
  refusal.commit = log_.committed();
  refusal.log_term = *committed_term;
}

// What anybody knows to be committed is (5.3, log matching).
void Raft::learn_commit(const Message& refusal) {
  if (role_ == Role::kLeader || !log_.matches(refusal.commit, refusal.log_term)) return;
  log_.commit_to(refusal.commit);
}

void Raft::handle_vote_response(const Message& message) {
  const bool pre_vote = role_ == Role::kPreCandidate;
  if (role_ != Role::kCandidate && !pre_vote) return;
  if (message.type != (pre_vote ? MessageType::kPreVoteResponse : MessageType::kVoteResponse))
    return;
  // Granted in an earlier round, for a term that has come since.
  if (pre_vote && !message.reject && message.term != term_ + 1) return;
  switch (tracker_.record_vote(message.from, !message.reject)) {
    case VoteResult::kPending: return;
    case VoteResult::kLost: become_follower(term_, kNoNode); return;
    case VoteResult::kWon:
      if (pre_vote) {
        campaign(Campaign::kElection);
      } else {
        become_leader();
      }
      return;
  }
}

// --- transfer

Status Raft::transfer_leader(NodeId to) {
  if (role_ == Role::kLeader) return handle_transfer_leader(to);
  Message message;
  message.type = MessageType::kTransferLeader;
  message.index = to;
  return forward_to_leader(std::move(message));
}

Status Raft::handle_transfer_leader(NodeId to) {
  const Progress* member = tracker_.find(to);
  if (member == nullptr)
    return {Code::kNotFound, "node " + std::to_string(to) + " is not a member"};
  if (member->is_learner) {
    return {Code::kFailedPrecondition,
            "node " + std::to_string(to) + " is a learner and can't become leader"};
  }
  if (transferee_ == to) return {};
  abort_transfer();
  if (to == id_) {
    maybe_leave_joint();  // was refused while the transfer went on
    return {};
  }
  transferee_ = to;
  transfer_elapsed_ticks_ = 0;
  if (member->match == log_.last_index()) {
    send_timeout_now(to);
  } else {
    send_append(to, true);  // the rest of the log first
  }
  return {};
}

void Raft::send_timeout_now(NodeId to) {
  sent_timeout_now_ = true;
  Message message;
  message.type = MessageType::kTimeoutNow;
  message.to = to;
  send(std::move(message));
}

void Raft::abort_transfer() {
  transferee_ = kNoNode;
  transfer_elapsed_ticks_ = 0;
}

}  // namespace pgraft::raft
