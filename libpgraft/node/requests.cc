#include "libpgraft/node/requests.h"

namespace pgraft::node {

namespace {

Status outcome_unknown() {
  return {Code::kTimeout, "no majority confirmed the request in time: its outcome is unknown"};
}

}  // namespace

Replica::Requests::~Requests() {
  abandon(Status(Code::kUnavailable, "the node is stopping: the outcome is unknown"));
  deliver();
}

void Replica::Requests::abandon(const Status& why) {
  for (auto& [request, waiting] : commands_) finish(std::move(waiting.done), why);
  commands_.clear();
  for (auto& [id, read] : reads_) finish(std::move(read.done), why);
  reads_.clear();
  if (membership_) settle_membership(why, 0);
  if (transfer_) settle_transfer(why, 0);
}

std::uint64_t Replica::Requests::add_command(Completion done, std::uint64_t now) {
  const std::uint64_t request = next_++;
  commands_.emplace(request, Waiting{std::move(done), now + timeout_ticks_});
  return request;
}

void Replica::Requests::settle_command(std::uint64_t request, const Status& status,
                                       std::uint64_t value) {
  const auto found = commands_.find(request);
  if (found == commands_.end()) return;  // timed out before
  finish(std::move(found->second.done), status, value);
  commands_.erase(found);
}

std::uint64_t Replica::Requests::add_read(Completion done,
                                          std::shared_ptr<failover::Position> position,
                                          std::uint64_t now) {
  const std::uint64_t id = next_++;
  reads_.emplace(
      id, Read{std::move(done), now + timeout_ticks_, now, std::nullopt, std::move(position)});
  return id;
}

void Replica::Requests::confirm_read(std::uint64_t id, raft::Index index,
                                     const std::optional<failover::Position>& acknowledged) {
  const auto found = reads_.find(id);
  // Asked twice, the first answer will do: it is of a time after the question.
  if (found == reads_.end() || found->second.index) return;
  if (found->second.position) {
    if (!acknowledged) return;  // the leader is not promoted yet; it is asked again
    *found->second.position = *acknowledged;
  }
  found->second.index = index;
}

void Replica::Requests::settle_read(std::uint64_t id, const Status& status) {
  const auto found = reads_.find(id);
  if (found == reads_.end()) return;
  finish(std::move(found->second.done), status, found->second.index.value_or(0));
  reads_.erase(found);
}

void Replica::Requests::settle_reads(raft::Index applied) {
  for (auto it = reads_.begin(); it != reads_.end();) {
    const auto next = std::next(it);
    if (it->second.index && *it->second.index <= applied) settle_read(it->first, Status::ok());
    it = next;
  }
}

std::vector<std::uint64_t> Replica::Requests::unconfirmed_reads(std::uint64_t now,
                                                                std::uint64_t age) {
  std::vector<std::uint64_t> ids;
  for (auto& [id, read] : reads_) {
    if (read.index || now < read.asked + age) continue;
    read.asked = now;
    ids.push_back(id);
  }
  return ids;
}

void Replica::Requests::set_membership(const raft::ConfChangeSingle& change, Completion done,
                                       std::uint64_t now) {
  membership_ = Membership{change, std::move(done), now + timeout_ticks_};
}

void Replica::Requests::settle_membership(const Status& status, std::uint64_t value) {
  finish(std::move(membership_->done), status, value);
  membership_.reset();
}

void Replica::Requests::set_transfer(raft::NodeId to, Completion done, std::uint64_t deadline) {
  transfer_ = Transfer{to, std::move(done), deadline};
}

void Replica::Requests::settle_transfer(const Status& status, std::uint64_t value) {
  finish(std::move(transfer_->done), status, value);
  transfer_.reset();
}

void Replica::Requests::finish(Completion done, Status status, std::uint64_t value) {
  if (done) finished_.push_back({std::move(done), std::move(status), value});
}

void Replica::Requests::expire(std::uint64_t now) {
  while (!commands_.empty() && commands_.begin()->second.deadline <= now) {
    settle_command(commands_.begin()->first, outcome_unknown(), 0);
  }
  while (!reads_.empty() && reads_.begin()->second.deadline <= now) {
    settle_read(reads_.begin()->first,
                Status(Code::kTimeout, "no leader confirmed the read in time: ask again"));
  }
  if (transfer_ && transfer_->deadline <= now) settle_transfer(outcome_unknown(), 0);
}

void Replica::Requests::deliver() {
  while (!finished_.empty()) {
    std::vector<Finished> batch;
    batch.swap(finished_);
    for (Finished& f : batch) f.done(f.status, f.value);
  }
}

}  // namespace pgraft::node
