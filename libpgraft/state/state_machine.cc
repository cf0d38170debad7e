#include "libpgraft/state/state_machine.h"

#include <algorithm>

#include "libpgraft/state/codec.h"
#include "libpgraft/state/state_codec.h"

namespace pgraft::state {

namespace {

constexpr std::uint8_t kSnapshotVersion = 1;
// Least encoded sizes, against which counts are checked.
constexpr std::size_t kLeastMemberBytes = 8 + 8 + 4 + 4 + 2 + 4 + 2 + 1;
constexpr std::size_t kLeastRecordBytes = 8 + 8 + 4 + 1 + 4;
constexpr std::size_t kLeaderChangeBytes = 8 + 8 + 8 + 4 + 8 + 4 * 4;

bool holds(const std::vector<raft::NodeId>& ids, raft::NodeId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

bool holds(const raft::ConfState& conf, raft::NodeId id) {
  return holds(conf.voters, id) || holds(conf.voters_outgoing, id) || holds(conf.learners, id) ||
         holds(conf.learners_next, id);
}

// A snapshot lists members as a map does, ascending: the same state, the same bytes.
template <class Map>
bool follows(const Map& map, const typename Map::key_type& key) {
  return map.empty() || map.rbegin()->first < key;
}

}  // namespace

Status StateMachine::apply(const raft::Entry& entry, std::optional<Command>* applied,
                           Outcome* outcome) {
  if (applied != nullptr) applied->reset();
  if (outcome != nullptr) *outcome = {Status::ok(), true};
  if (entry.index != applied_ + 1) {
    return {Code::kCorruption, "entry " + std::to_string(entry.index) +
                                   " is to be applied after entry " + std::to_string(applied_)};
  }
  if (entry.type != raft::EntryType::kNormal) {
    return {Code::kInvalidArgument, "a configuration change is not applied as an operation"};
  }
  if (entry.data.empty()) {  // a new leader's first entry
    applied_ = entry.index;
    return Status::ok();
  }
  Result<Command> command = decode_command(entry.data);
  if (!command) return command.status().with_context("entry " + std::to_string(entry.index));

  Outcome result =
      std::visit([&](const auto& op) { return carry_out(op, entry.index); }, command->operation);
  applied_ = entry.index;
  if (applied != nullptr) *applied = std::move(command).value();
  if (outcome != nullptr) *outcome = std::move(result);
  return Status::ok();
}

// rule 5: whatever was ever promoted keeps its id, recorded here or not.
void StateMachine::record(const failover::Promotion& promotion) {
  max_timeline_ = std::max(max_timeline_, promotion.timeline);
  promotions_.push_back({promotion, false, {}});
  if (promotions_.size() > kKeptPromotions) promotions_.erase(promotions_.begin());
}

void StateMachine::record(const LeaderChange& change) {
  leader_changes_.push_back(change);
  if (leader_changes_.size() > kKeptLeaderChanges) leader_changes_.erase(leader_changes_.begin());
}

void StateMachine::record(const LogAppend&) { ++log_appends_; }

void StateMachine::record(const failover::PromotionDone& done) {
  max_timeline_ = std::max(max_timeline_, done.timeline);
  for (const failover::HistoryLine& line : done.history) {
    max_timeline_ = std::max(max_timeline_, line.timeline);
  }
  const failover::Promotion promotion{done.term, done.node, done.timeline};
  const auto found = std::find_if(promotions_.rbegin(), promotions_.rend(),
                                  [&](const auto& r) { return r.promotion == promotion; });
  if (found == promotions_.rend()) return;
  found->done = true;
  found->history = done.history;
}

Status StateMachine::apply_conf_change(const raft::ConfChange& change,
                                       const raft::ConfState& result) {
  if (!change.context.empty()) {
    Result<Member> member = decode_member(change.context);
    if (!member) return member.status();
    const bool named =
        std::any_of(change.changes.begin(), change.changes.end(), [&](const auto& c) {
          return c.node_id == member->id && c.type != raft::ConfChangeType::kRemove;
        });
    if (named) members_[member->id] = *member;
  }
  std::erase_if(members_, [&](const auto& m) { return !holds(result, m.first); });
  return Status::ok();
}

void StateMachine::put_member(const Member& member) { members_[member.id] = member; }

failover::PromotionView StateMachine::promotion_view(raft::Term term) const {
  failover::PromotionView view;
  view.max_timeline = max_timeline_;
  const auto found = std::find_if(promotions_.rbegin(), promotions_.rend(),
                                  [&](const auto& r) { return r.promotion.term == term; });
  if (found == promotions_.rend()) return view;
  const failover::Promotion& p = found->promotion;
  view.of_term = p;
  if (found->done) {
    view.done_of_term = failover::PromotionDone{p.term, p.node, p.timeline, found->history};
  }
  return view;
}

const StateMachine::PromotionRecord* StateMachine::latest_done() const {
  const auto found =
      std::find_if(promotions_.rbegin(), promotions_.rend(), [](const auto& r) { return r.done; });
  return found == promotions_.rend() ? nullptr : &*found;
}

std::string StateMachine::snapshot() const {
  Writer out(kSnapshotVersion);
  out.number(cluster_id_);
  out.number(applied_);
  out.count(members_.size());
  for (const auto& [id, member] : members_) write_member(out, member);
  kv_.write(out);
  out.number(log_appends_);
  out.number(pause_.until_ms);
  out.text(pause_.by);
  out.number(max_timeline_);
  out.count(promotions_.size());
  for (const PromotionRecord& r : promotions_) {
    write_promotion(out, r.promotion);
    out.number(static_cast<std::uint8_t>(r.done));
    write_history(out, r.history);
  }
  out.count(leader_changes_.size());
  for (const LeaderChange& change : leader_changes_) write_leader_change(out, change);
  return out.take();
}

Status StateMachine::restore(const std::string& data) {
  Reader in(data, kSnapshotVersion, "a snapshot of the state machine");
  StateMachine next;
  next.cluster_id_ = in.number<std::uint64_t>();
  next.applied_ = in.number<raft::Index>();
  for (std::size_t n = in.count(kMaxMembers, kLeastMemberBytes); n > 0; --n) {
    Member member = read_member(in);
    const raft::NodeId id = member.id;
    if (!follows(next.members_, id)) in.fail("members out of order");
    next.members_.emplace(id, std::move(member));
  }
  next.kv_ = KvStore::read(in);
  next.kv_.keep_counts_of(kv_);
  next.log_appends_ = in.number<std::uint64_t>();
  next.pause_.until_ms = in.number<std::uint64_t>();
  next.pause_.by = in.text(kMaxPausedByBytes);
  next.max_timeline_ = in.number<failover::Timeline>();
  for (std::size_t n = in.count(kKeptPromotions, kLeastRecordBytes); n > 0; --n) {
    PromotionRecord record;
    record.promotion = read_promotion(in);
    record.done = in.flag();
    record.history = read_history(in);
    next.promotions_.push_back(std::move(record));
  }
  for (std::size_t n = in.count(kKeptLeaderChanges, kLeaderChangeBytes); n > 0; --n) {
    next.leader_changes_.push_back(read_leader_change(in));
  }
  if (Status s = in.finish(); !s) return s;
  if (cluster_id_ != 0 && next.cluster_id_ != cluster_id_) {  // rule 10
    return {Code::kMismatch, "the snapshot is of cluster " + std::to_string(next.cluster_id_) +
                                 ", this node belongs to cluster " + std::to_string(cluster_id_)};
  }
  *this = std::move(next);
  return Status::ok();
}

}  // namespace pgraft::state
