#include "libpgraft/sim/raft_recovery.h"

#include <algorithm>

#include "libpgraft/sim/raft_world.h"

namespace pgraft::sim {
namespace {

constexpr NodeId kProbe = 100;  // the client that asks

bool holds(const std::vector<NodeId>& ids, NodeId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

void RaftRecovery::heal() {
  world_->note(0, [] { return "trouble is over"; });
  world_->network().heal();
  for (const NodeId id : world_->ids()) world_->node(id).heal();
  switch_off_strangers();
}

// Without pre-votes, and voters that stay with the leader they hear, a node that was removed
// deposes the leader again and again (thesis 4.2.3): somebody has to switch it off, once nobody can
// need its vote any more.
void RaftRecovery::switch_off_strangers() {
  if (world_->setup().pre_vote && world_->setup().check_quorum) return;
  const std::vector<NodeId> stay = members();
  for (const NodeId id : world_->ids()) {
    RaftNode& node = world_->node(id);
    const bool stranger = std::find(stay.begin(), stay.end(), id) == stay.end();
    if (stranger && !is_needed(id)) node.retire();
    if (!stranger && !node.up()) node.start_after(0);
  }
}

// A voter that lost power may have forgotten that the removal was committed.
bool RaftRecovery::is_needed(NodeId id) const {
  const raft::ConfState& newest = world_->newest_conf();
  const auto counts_on_it = [&](NodeId voter) {
    if (!world_->intact(voter)) return false;
    const RaftNode& node = world_->node(voter);
    if (!node.up()) return true;
    const raft::ConfState& conf = node.replica().conf();
    return holds(conf.voters, id) || holds(conf.voters_outgoing, id);
  };
  return std::any_of(newest.voters.begin(), newest.voters.end(), counts_on_it) ||
         std::any_of(newest.voters_outgoing.begin(), newest.voters_outgoing.end(), counts_on_it);
}

std::vector<NodeId> RaftRecovery::members() const {
  const raft::ConfState& conf = world_->newest_conf();
  std::vector<NodeId> all;
  for (const auto* list : {&conf.voters, &conf.voters_outgoing, &conf.learners}) {
    for (const NodeId id : *list) {
      if (world_->intact(id) && std::find(all.begin(), all.end(), id) == all.end()) {
        all.push_back(id);
      }
    }
  }
  return all;
}

bool RaftRecovery::impossible() const {
  const raft::ConfState& conf = world_->newest_conf();
  for (const auto* voters : {&conf.voters, &conf.voters_outgoing}) {
    const auto intact = std::count_if(voters->begin(), voters->end(),
                                      [&](NodeId id) { return world_->intact(id); });
    if (!voters->empty() && static_cast<std::size_t>(intact) * 2 <= voters->size()) return true;
  }
  return false;
}

std::string RaftRecovery::not_settled() const {
  const NodeId leader = world_->leader();
  if (leader == 0) return "nobody leads";
  const raft::ConfState& conf = world_->newest_conf();
  if (!conf.voters_outgoing.empty()) return "the joint configuration is not left";
  for (const NodeId id : conf.learners) {
    if (world_->intact(id)) return "node " + std::to_string(id) + " is a learner still";
  }
  const raft::Index applied = world_->node(leader).replica().machine().applied_index();
  if (applied < world_->invariants().committed()) return "the leader has not applied everything";
  for (const NodeId id : members()) {
    const RaftNode& node = world_->node(id);
    if (!node.up()) return "node " + std::to_string(id) + " is down";
    if (node.replica().machine().applied_index() < applied) {
      return "node " + std::to_string(id) + " has not applied everything";
    }
  }
  return {};
}

void RaftRecovery::plan_requests() {
  using Kind = ClientOperation::Kind;
  for (const NodeId id : members()) requests_.push_back({id, Kind::kPut, "k0"});
  for (const NodeId id : members()) {
    for (int key = 0; key < world_->setup().keys; ++key) {
      requests_.push_back({id, Kind::kGet, "k" + std::to_string(key)});
    }
  }
}

void RaftRecovery::ask() {
  const RaftSetup& setup = world_->setup();
  const Request& request = requests_[next_];
  waiting_ = true;
  ask_again_ = world_->now() + 2 * setup.tick * static_cast<Micros>(setup.election_ticks);
  const std::string value = request.kind == ClientOperation::Kind::kPut
                                ? "end" + std::to_string(world_->event_number())
                                : std::string();
  world_->clients().ask(kProbe, request.via, request.kind, request.key, value,
                        [this, asked = next_](const Status& status) {
                          if (asked != next_) return;  // it was asked again
                          waiting_ = false;
                          if (status) ++next_;
                        });
}

bool RaftRecovery::step() {
  switch_off_strangers();
  if (!not_settled().empty()) return false;
  if (requests_.empty()) plan_requests();
  // A removal may have been under way.
  const std::vector<NodeId> all = members();
  while (next_ < requests_.size() &&
         std::find(all.begin(), all.end(), requests_[next_].via) == all.end()) {
    ++next_;
    waiting_ = false;
  }
  if (next_ == requests_.size()) return true;
  if (!waiting_ || world_->now() >= ask_again_) ask();
  return false;
}

std::string RaftRecovery::why_not() const {
  std::string why = not_settled();
  if (why.empty() && next_ < requests_.size()) {
    why = "a request through node " + std::to_string(requests_[next_].via) + " gets no answer";
  }
  for (const NodeId id : world_->ids()) why += "\n  " + world_->node(id).text();
  return why;
}

}  // namespace pgraft::sim
