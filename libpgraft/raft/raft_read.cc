// Reads without log entries (thesis 6.4): the commit index at the time of the request, once it is
// certain that this node still led then, by a round of heartbeats or by the lease; and what the
// lease is measured by.
#include <limits>
#include <utility>

#include "libpgraft/raft/raft.h"

namespace pgraft::raft {
namespace {

constexpr std::size_t kReadsMax = 65536;  // waiting at the leader

constexpr std::size_t kReadIdBytes = 8;

std::string encode_read_id(std::uint64_t id) {
  std::string out;
  for (std::size_t i = 0; i < kReadIdBytes; ++i) out.push_back(static_cast<char>(id >> (8 * i)));
  return out;
}

// 0 when it is none.
std::uint64_t decode_read_id(const std::string& context) {
  if (context.size() != kReadIdBytes) return 0;
  std::uint64_t id = 0;
  for (std::size_t i = 0; i < kReadIdBytes; ++i)
    id |= std::uint64_t{static_cast<unsigned char>(context[i])} << (8 * i);
  return id;
}

}  // namespace

Status Raft::read_index(std::string context) {
  if (role_ == Role::kLeader) {
    PendingRead read;
    read.from = id_;
    read.context = std::move(context);
    return handle_read_request(std::move(read));
  }
  Message message;
  message.type = MessageType::kReadIndex;
  message.context = std::move(context);
  return forward_to_leader(std::move(message));
}

bool Raft::own_term_committed() const {
  if (role_ == Role::kLeader && !config_.rules.read_after_own_commit) return true;
  return role_ == Role::kLeader && log_.committed() >= own_first_index_;
}

Status Raft::handle_read_request(PendingRead read) {
  if (reads_.size() + deferred_reads_.size() >= kReadsMax) {
    return {Code::kResourceExhausted,
            "more than " + std::to_string(kReadsMax) + " reads wait for the leader"};
  }
  // Thesis 6.4, step 1: before its first commit a leader doesn't know what is committed.
  if (!own_term_committed()) {
    deferred_reads_.push_back(std::move(read));
  } else {
    start_read(std::move(read));
  }
  return {};
}

void Raft::start_read(PendingRead read) {
  read.index = log_.committed();
  if ((config_.lease_based_reads && lease_is_live()) || !config_.rules.read_quorum) {
    answer_read(std::move(read));
    return;
  }
  read.id = ++last_read_id_;
  reads_.push_back(std::move(read));
  broadcast_heartbeat();
  release_reads();  // a sole voter needs no answers
}

void Raft::start_deferred_reads() {
  if (deferred_reads_.empty() || !own_term_committed()) return;
  std::deque<PendingRead> ready = std::exchange(deferred_reads_, {});
  for (PendingRead& read : ready) start_read(std::move(read));
}

// Of the newest read: an answer to it is one to all before it.
std::string Raft::read_context() const {
  return reads_.empty() ? std::string() : encode_read_id(reads_.back().id);
}

void Raft::record_read_ack(NodeId from, const std::string& context) {
  const std::uint64_t id = decode_read_id(context);
  if (id == 0 || id > last_read_id_) return;
  std::uint64_t& acked = read_acks_[from];
  if (id <= acked) return;
  acked = id;
  release_reads();
}

void Raft::release_reads() {
  if (reads_.empty()) return;
  const std::uint64_t confirmed = tracker_.acked([this](NodeId id) {
    if (id == id_) return last_read_id_;
    const auto acked = read_acks_.find(id);
    return acked == read_acks_.end() ? std::uint64_t{0} : acked->second;
  });
  while (!reads_.empty() && reads_.front().id <= confirmed) {
    answer_read(std::move(reads_.front()));
    reads_.pop_front();
  }
}

void Raft::answer_read(PendingRead read) {
  if (read.from == id_) {
    read_states_.push_back({read.index, std::move(read.context)});
    return;
  }
  Message message;
  message.type = MessageType::kReadIndexResponse;
  message.to = read.from;
  message.to_incarnation = read.from_incarnation;
  message.index = read.index;
  message.context = std::move(read.context);
  send(std::move(message));
}

// Nobody else can be elected before the voters that answered have been silent for the shortest
// election timeout. A transfer waives that, and goes on waiving it when it is given up: the order
// to campaign may still be on its way.
bool Raft::lease_is_live() const {
  const bool transferred = transferee_ != kNoNode || sent_timeout_now_;
  if (transferred && config_.rules.transfer_ends_lease) return false;
  const std::uint64_t start = quorum_ack_tick();
  return start != 0 && now_ - start < static_cast<std::uint64_t>(config_.election_ticks);
}

// A leader that has this node's answer may be reading by its lease. Whether it is known here does
// not matter: a newer term, or a restart, makes a node forget it. One tick more than the lease has,
// as the first may come at once.
bool Raft::in_a_lease() const {
  if (!config_.lease_based_reads || !config_.rules.lease_binds_voters) return false;
  return heard_leader_at_ &&
         now_ - *heard_leader_at_ <= static_cast<std::uint64_t>(config_.election_ticks);
}

std::uint64_t Raft::leader_heard_tick() const {
  return role_ == Role::kFollower && lead_ != kNoNode ? heard_leader_at_.value_or(0) : 0;
}

std::uint64_t Raft::quorum_ack_tick() const {
  if (role_ != Role::kLeader) return 0;
  const std::uint64_t tick = tracker_.acked([this](NodeId id) {
    if (id == id_) return now_;
    const Progress* member = tracker_.find(id);
    return member == nullptr ? std::uint64_t{0} : member->stamp;
  });
  return tick == std::numeric_limits<std::uint64_t>::max() ? 0 : tick;
}

}  // namespace pgraft::raft
