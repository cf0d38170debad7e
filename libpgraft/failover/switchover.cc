#include "libpgraft/failover/switchover.h"

#include <algorithm>
#include <utility>

namespace pgraft::failover {
namespace {

bool contains(const std::vector<NodeId>& ids, NodeId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

std::string node(NodeId id) { return "node " + std::to_string(id); }

Status no(std::string why) { return {Code::kFailedPrecondition, std::move(why)}; }

int priority_of(const RaftView& raft, NodeId id) {
  const auto told = raft.priorities.find(id);
  return told == raft.priorities.end() ? kMaxPriority : told->second;
}

Lsn flushed_by(const DatabaseView& database, NodeId id) {
  const auto stream = database.streams.find(id);
  return stream == database.streams.end() ? 0 : stream->second;
}

// What may change while a switchover is under way.
Status is_there(NodeId to, const RaftView& raft, const DatabaseView& database) {
  if (!contains(raft.voters, to)) {
    return contains(raft.learners, to) ? no(node(to) + " is a learner: it has no vote (yet)")
                                       : Status(Code::kNotFound, node(to) + " is not a member");
  }
  if (!contains(raft.answering, to)) return no(node(to) + " does not answer");
  if (!database.streams.contains(to)) return no(node(to) + " does not stream WAL from this node");
  return Status::ok();
}

}  // namespace

Status may_take_over(NodeId to, const RaftView& raft, const DatabaseView& database, Lsn lag_max) {
  if (Status s = is_there(to, raft, database); !s) return s;
  if (priority_of(raft, to) <= 0) return no(node(to) + " has pgraft.failover_priority 0");
  const Lsn flushed = flushed_by(database, to);
  if (flushed == 0) {  // the gate: it abstains, or has not joined the stream of this term yet
    return no(node(to) + " does not acknowledge WAL yet: it is catching up");
  }
  const Lsn lag = database.end.lsn - std::min(flushed, database.end.lsn);
  if (lag > lag_max) {
    return no(node(to) + " lacks " + std::to_string(lag) + " bytes of WAL, " +
              std::to_string(lag_max) + " are allowed");
  }
  return Status::ok();
}

Result<NodeId> best_successor(const RaftView& raft, const DatabaseView& database, Lsn lag_max) {
  NodeId best = 0;
  std::pair<int, Lsn> most;
  std::string reasons;
  for (const NodeId id : raft.voters) {
    if (id == raft.self) continue;
    if (const Status s = may_take_over(id, raft, database, lag_max); !s) {
      reasons += (reasons.empty() ? "" : "; ") + s.message();
      continue;
    }
    const std::pair has{priority_of(raft, id), flushed_by(database, id)};
    if (best != 0 && has <= most) continue;
    best = id;
    most = has;
  }
  if (best != 0) return best;
  return no("no other member can take over" + (reasons.empty() ? "" : ": " + reasons));
}

Status Switchover::update(const RaftView& raft, const DatabaseView& database,
                          std::uint64_t now_ticks) {
  if (Status s = is_there(request_.to, raft, database); !s && !handing_over()) return s;
  if (now_ticks >= request_.deadline_tick) return late(database);
  const bool seen = seq_ != 0 && database.orders_seen >= seq_;
  const Lsn flushed = flushed_by(database, request_.to);
  const bool complete = database.settled && flushed >= database.end.lsn;
  switch (stage_) {
    case Stage::kHold:
      // Sessions are ended only for a target that keeps up. Reading, too, writes a little WAL, so
      // it need not have all at one moment.
      if (seen && database.writers == 0 && !quiet_lsn_) quiet_lsn_ = database.end.lsn;
      if (seen && database.writers == 0 && flushed >= *quiet_lsn_) enter(Stage::kEnd);
      if (seen && request_.end_writers && now_ticks >= half_tick_) enter(Stage::kEnd);
      break;
    case Stage::kEnd:
      if (seen && database.writers == 0 && database.sessions == 0) enter(Stage::kFlush);
      break;
    case Stage::kFlush:
      if (seen && complete) enter(Stage::kHandOver);
      break;
    case Stage::kHandOver: break;
  }
  return Status::ok();
}

Status Switchover::late(const DatabaseView& database) const {
  switch (stage_) {
    case Stage::kHold:
    case Stage::kEnd:
      if (database.writers != 0) {
        return no("given up in time: " + std::to_string(database.writers) +
                  " transactions had not ended: " + database.writers_text);
      }
      if (database.sessions != 0) {
        return no("given up in time: " + std::to_string(database.sessions) +
                  " sessions could not be ended");
      }
      [[fallthrough]];
    case Stage::kFlush: {
      const Lsn flushed = std::min(flushed_by(database, request_.to), database.end.lsn);
      return no("given up in time: " + node(request_.to) + " still lacked " +
                std::to_string(database.end.lsn - flushed) + " bytes of WAL");
    }
    case Stage::kHandOver: break;
  }
  return {Code::kTimeout, node(request_.to) + " did not take over in time: this node still leads"};
}

std::string Switchover::phase() const {
  const std::string to = node(request_.to);
  switch (stage_) {
    case Stage::kHold: return "switching over to " + to + ": waiting for running transactions";
    case Stage::kEnd: return "switching over to " + to + ": ending sessions";
    case Stage::kFlush: return "switching over to " + to + ": sending the last WAL";
    case Stage::kHandOver: return "switching over to " + to + ": handing over";
  }
  return {};
}

}  // namespace pgraft::failover
