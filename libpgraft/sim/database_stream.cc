// WAL streaming and the commit quorum: walreceiver, walsenders, ANY k.
#include <algorithm>

#include "libpgraft/sim/database_model.h"

namespace pgraft::sim {
namespace {

bool contains(const std::vector<NodeId>& ids, NodeId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

// --- standby

bool DatabaseModel::connect() {
  if (!running_ || primary_ || follow_ == 0 || receiver_) return false;
  DatabaseModel* upstream = world_->reach(self_, follow_);
  if (upstream == nullptr || !upstream->primary()) return false;
  const Position end = end_of(wal_);
  const std::optional<std::uint64_t> connection = upstream->admit(self_, end);
  if (!connection) return false;
  for (const Record& record : upstream->wal_) history_files_.insert(record.timeline);
  // The stream is on the timeline of what comes next; a diverged standby is put on the newest one,
  // the worst that can happen (PROTOCOL.md, M7).
  const std::size_t n = wal_.size();
  const bool agrees =
      n <= upstream->wal_.size() && (n == 0 || upstream->wal_[n - 1] == wal_[n - 1]);
  const Timeline timeline = agrees && n < upstream->wal_.size() ? upstream->wal_[n].timeline
                                                                : end_of(upstream->wal_).timeline;
  receiver_ = Receiver{*connection, follow_, follow_term_, timeline};
  return true;
}

bool DatabaseModel::receive(std::size_t n) {
  if (!running_ || !receiver_) return false;
  DatabaseModel* upstream = world_->reach(self_, receiver_->primary);
  if (upstream == nullptr) return false;
  if (upstream->sender_of(receiver_->connection) == nullptr) {
    stop_receiver();
    return true;
  }
  bool got = false;
  for (; n > 0; --n) {
    const std::size_t have = wal_.size() + unflushed_.size();
    if (have >= upstream->wal_.size()) break;
    if (have < upstream->kept_from_) break;  // removed there: it asks for it again and again
    if (have > 0) {
      const Record& last = unflushed_.empty() ? wal_.back() : unflushed_.back();
      if (!(upstream->wal_[have - 1] == last)) break;  // diverged: connected, nothing new
    }
    unflushed_.push_back(upstream->wal_[have]);
    receiver_->timeline = upstream->wal_[have].timeline;
    got = true;
  }
  return got;
}

void DatabaseModel::stop_receiver() {
  if (receiver_) flush(unflushed_.size());  // a walreceiver flushes what it has before it exits
  receiver_.reset();
}

void DatabaseModel::disconnect() { stop_receiver(); }

bool DatabaseModel::flush(std::size_t n) {
  n = std::min(n, unflushed_.size());
  if (!running_ || n == 0) return false;
  wal_.insert(wal_.end(), unflushed_.begin(), unflushed_.begin() + static_cast<std::ptrdiff_t>(n));
  unflushed_.erase(unflushed_.begin(), unflushed_.begin() + static_cast<std::ptrdiff_t>(n));
  if (changed()) return true;
  if (primary_) count(server_voters_);
  return true;
}

// Rule 2, as the gate in the walreceiver has it.
bool DatabaseModel::passes_gate() const {
  if (!gate_open_) return false;
  if (switches_.connection_term && receiver_->term != gate_term_) return false;
  if (gate_timeline_ != 0 && receiver_->timeline != gate_timeline_) return false;
  return gate_timeline_ == 0 || wal_.size() > gate_switch_;
}

bool DatabaseModel::reply() {
  if (!running_ || !receiver_) return false;
  DatabaseModel* upstream = world_->reach(self_, receiver_->primary);
  Sender* sender = upstream == nullptr ? nullptr : upstream->sender_of(receiver_->connection);
  if (sender == nullptr) return false;
  const Lsn flushed = passes_gate() ? wal_.size() : 0;
  const Lsn last = sender->in_flight.empty() ? sender->flush : sender->in_flight.back();
  if (flushed == last) return false;
  sender->in_flight.push_back(flushed);
  return true;
}

// --- primary

// A walsender for `member`, whose WAL ends at `end`. A standby that has diverged is taken when its
// timeline is known here: streaming starts at a segment's beginning.
std::optional<std::uint64_t> DatabaseModel::admit(NodeId member, Position end) {
  if (!primary() || !admitted_ || !members_.contains(member)) return std::nullopt;
  const bool known = std::any_of(wal_.begin(), wal_.end(),
                                 [&](const Record& r) { return r.timeline == end.timeline; });
  if (end.timeline != 0 && !known) return std::nullopt;
  if (switches_.unique) {  // rule 6: the slot's owner of before is terminated first
    std::erase_if(senders_, [&](const Sender& s) { return s.member == member; });
  }
  const std::uint64_t connection = world_->next_record();
  senders_.push_back({connection, member, 0, {}, server_generation_, server_voters_});
  return connection;
}

DatabaseModel::Sender* DatabaseModel::sender_of(std::uint64_t connection) {
  for (Sender& sender : senders_) {
    if (sender.connection == connection) return &sender;
  }
  return nullptr;
}

bool DatabaseModel::is_stale(const Sender& sender) const {
  DatabaseModel* peer = world_->reach(self_, sender.member);
  return peer == nullptr || !peer->receiver_ || peer->receiver_->connection != sender.connection;
}

bool DatabaseModel::has_stale_sender() const {
  return std::any_of(senders_.begin(), senders_.end(),
                     [&](const Sender& sender) { return is_stale(sender); });
}

bool DatabaseModel::reap_senders() {
  return std::erase_if(senders_, [&](const Sender& sender) { return is_stale(sender); }) != 0;
}

bool DatabaseModel::write() {
  if (!running_ || !primary_ || !fence_lifted_) return false;  // rule 7
  if (drain_ != Drain::kNone) return false;
  world_->accepted_write(self_, was_in_force_ ? "" : "before its commit quorum was in force");
  return write_in_background();
}

bool DatabaseModel::write_in_background() {
  if (!running_ || !primary_) return false;
  unflushed_.push_back({end_of(wal_).timeline, world_->next_record()});
  return true;
}

bool DatabaseModel::end_transaction() {
  if (!running_ || !primary_ || transactions_ == 0) return false;
  --transactions_;
  if (!fence_lifted_) return true;
  world_->accepted_write(self_, was_in_force_ ? "" : "before its commit quorum was in force");
  return write_in_background();
}

bool DatabaseModel::take_reply(std::size_t sender) {
  if (!running_ || !primary_ || sender >= senders_.size()) return false;
  Sender& s = senders_[sender];
  if (s.in_flight.empty()) return false;
  s.flush = s.in_flight.front();
  s.in_flight.pop_front();
  count(s.voters);
  return true;
}

bool DatabaseModel::reload(std::size_t sender) {
  if (!running_ || !primary_) return false;
  const bool is_sender = sender < senders_.size();
  std::uint64_t& generation = is_sender ? senders_[sender].generation : server_generation_;
  if (generation == generation_) return false;
  generation = generation_;
  (is_sender ? senders_[sender].voters : server_voters_) = voters_;
  return true;
}

// ANY k over walsenders by name: PostgreSQL counts walsenders, not members (PROTOCOL.md, M1).
void DatabaseModel::count(const std::vector<NodeId>& voters) {
  if (voters.empty()) {  // nobody to wait for (PROTOCOL.md, M2)
    if (admitted_) release(wal_.size());
    return;
  }
  const std::size_t k = voters.size() / 2 + 1 - (contains(voters, self_) ? 1 : 0);
  if (k == 0) {
    if (admitted_) release(wal_.size());
    return;
  }
  std::vector<Lsn> flushed;
  for (const Sender& sender : senders_) {
    if (sender.flush != 0 && contains(voters, sender.member)) flushed.push_back(sender.flush);
  }
  if (flushed.size() < k) return;
  std::sort(flushed.begin(), flushed.end(), std::greater<>());
  release(std::min<std::size_t>(flushed[k - 1], wal_.size()));
}

void DatabaseModel::release(std::size_t n) {
  for (; released_ < n; ++released_) world_->acknowledged(self_, admitted_term_, wal_[released_]);
}

}  // namespace pgraft::sim
