// RawNode: batches the output of the algorithm into Ready, and feeds back what has been dealt with.
#include "libpgraft/raft/raw_node.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "libpgraft/base/check.h"
#include "libpgraft/raft/conf_change_codec.h"
#include "libpgraft/raft/raft.h"

namespace pgraft::raft {

Status Config::validate() const {
  const auto refuse = [](const char* why) { return Status{Code::kInvalidArgument, why}; };
  if (id == kNoNode) return refuse("node id must not be 0");
  if (heartbeat_ticks <= 0) return refuse("heartbeat_ticks must be greater than 0");
  if (election_ticks <= heartbeat_ticks)
    return refuse("election_ticks must be greater than heartbeat_ticks");
  if (max_inflight_msgs == 0) return refuse("max_inflight_msgs must be greater than 0");
  if (max_inflight_bytes != 0 && max_inflight_bytes < max_size_per_msg)
    return refuse("max_inflight_bytes must be at least max_size_per_msg");
  if (priority < 0 || priority > kMaxPriority) return refuse("priority must be 0 to 100");
  if (lease_based_reads && !check_quorum) return refuse("lease_based_reads requires check_quorum");
  return {};
}

// What was handed out: to tell what has changed, and until advance() or complete() what is not
// dealt with.
struct RawNode::Batch {
  HardState hard;
  SoftState soft;
  // Storage is the caller's, one ready at a time.
  bool outstanding = false;
  RaftLog::Position last_entry;  // of Ready::entries
  Index snapshot = 0;
  Index applied = 0;
  std::uint64_t applied_bytes = 0;
  std::vector<Message> self_messages;
  // Asynchronous storage.
  std::uint64_t applying_bytes = 0;  // in kStorageApply messages that are not answered yet
  // Empty lists, whose memory is used again: so that in the steady state the core takes none but
  // for what it sends.
  struct Lists {
    // What the caller left of those of a message; nothing, if it took them.
    void take_back(Message& message) {
      entries = std::move(message.entries);
      entries.clear();
      responses = std::move(message.responses);
      responses.clear();
    }
    void lend(Message& message) {
      message.entries = std::move(entries);
      message.responses = std::move(responses);
    }
    std::vector<Entry> entries;
    std::vector<Message> responses;
  };
  std::vector<Entry> proposal;
  Lists append;
  Lists apply;
};

RawNode::RawNode(std::unique_ptr<Raft> raft)
    : raft_(std::move(raft)), batch_(std::make_unique<Batch>()) {
  batch_->hard = raft_->hard_state();
  batch_->soft = raft_->soft_state();
}

RawNode::~RawNode() = default;

Result<std::unique_ptr<RawNode>> RawNode::create(const Config& config, const LogReader* log) {
  Result<std::unique_ptr<Raft>> raft = Raft::create(config, log);
  if (!raft.is_ok()) return raft.status();
  return std::unique_ptr<RawNode>(new RawNode(std::move(raft).value()));
}

bool RawNode::has_committed() const {
  const Config& config = raft_->config();
  // The state machine gets no further behind than this.
  const bool full = config.async_storage_writes && config.max_committed_bytes_per_ready != 0 &&
                    batch_->applying_bytes >= config.max_committed_bytes_per_ready;
  return !full && raft_->log().has_next_committed(config.async_storage_writes);
}

bool RawNode::has_ready() const {
  if (batch_->outstanding) return false;
  return raft_->soft_state() != batch_->soft || raft_->hard_state() != batch_->hard ||
         raft_->log().has_unwritten() || has_committed() || !raft_->messages().empty() ||
         !raft_->after_append().empty() || !raft_->read_states().empty();
}

Ready RawNode::ready() {
  Ready ready;
  ready_into(&ready);
  return ready;
}

void RawNode::ready_into(Ready* ready) {
  Batch& batch = *batch_;
  PGRAFT_CHECK(!batch.outstanding, "ready() before advance()");
  const RaftLog& log = raft_->log();
  for (Message& message : ready->messages) {
    if (message.to == kAppendThread) batch.append.take_back(message);
    if (message.to == kApplyThread) batch.apply.take_back(message);
  }
  ready->soft_state.reset();
  ready->hard_state.reset();
  ready->entries.clear();
  ready->snapshot.reset();
  ready->committed_entries.clear();
  ready->messages.clear();
  ready->read_states.clear();

  const SoftState soft = raft_->soft_state();
  if (soft != batch.soft) ready->soft_state = soft;
  const HardState hard = raft_->hard_state();
  // A commit index alone may be lost, a change that it commits and that is applied by then
  // included: who forgets that the newest change in its log is committed counts as whoever has only
  // stored it, one step back at most, where majorities meet. It holds no later change, as that one
  // would have brought the commit index along (PROTOCOL.md M4b). That a removed member is not
  // needed any more is another matter: the caller waits until a majority has stored an entry that
  // was proposed after the change was applied.
  ready->must_sync =
      hard.term != batch.hard.term || hard.vote != batch.hard.vote || log.has_unwritten();
  ready->messages.swap(raft_->messages());
  ready->read_states.swap(raft_->read_states());
  if (raft_->config().async_storage_writes) {
    hand_out_writes(ready);
    hand_out_committed(ready);
  } else {
    hand_out_batch(ready);
  }
  raft_->log().writing();
  batch.soft = soft;
  batch.hard = hard;
}

void RawNode::hand_out_batch(Ready* ready) {
  Batch& batch = *batch_;
  const RaftLog& log = raft_->log();
  const HardState hard = raft_->hard_state();
  // The commit index goes with the entries it came with (PROTOCOL.md M4b).
  if (hard != batch.hard) ready->hard_state = hard;
  const std::span<const Entry> entries = log.unwritten_entries();
  ready->entries.assign(entries.begin(), entries.end());
  ready->snapshot = log.unwritten_snapshot();
  if (has_committed()) {
    log.next_committed(raft_->config().max_committed_bytes_per_ready, false,
                       &ready->committed_entries);
  }
  for (Message& message : raft_->after_append()) {
    const bool own = message.to == raft_->config().id;
    (own ? batch.self_messages : ready->messages).push_back(std::move(message));
  }
  raft_->after_append().clear();
  batch.outstanding = true;
  batch.last_entry = {};
  if (!ready->entries.empty())
    batch.last_entry = {ready->entries.back().index, ready->entries.back().term};
  batch.snapshot = ready->snapshot ? ready->snapshot->meta.index : 0;
  batch.applied = ready->committed_entries.empty() ? 0 : ready->committed_entries.back().index;
  batch.applied_bytes = data_bytes(ready->committed_entries);
}

void RawNode::hand_out_writes(Ready* ready) {
  const RaftLog& log = raft_->log();
  const HardState hard = raft_->hard_state();
  const bool changed = hard != batch_->hard;
  if (!changed && !log.has_unwritten() && raft_->after_append().empty()) return;
  Message append;
  batch_->append.lend(append);
  append.type = MessageType::kStorageAppend;
  append.from = raft_->config().id;
  append.to = kAppendThread;
  if (changed) {
    append.term = hard.term;
    append.vote = hard.vote;
    append.commit = hard.commit;
  }
  const std::span<const Entry> entries = log.unwritten_entries();
  append.entries.assign(entries.begin(), entries.end());
  append.snapshot = log.unwritten_snapshot();
  append.responses.reserve(raft_->after_append().size() + (log.has_unstable() ? 1 : 0));
  std::move(raft_->after_append().begin(), raft_->after_append().end(),
            std::back_inserter(append.responses));
  raft_->after_append().clear();
  if (log.has_unstable()) {
    // Of all that is not stable, what was handed out before included: in a new term the answers to
    // earlier writes don't count any more.
    Message response;
    response.type = MessageType::kStorageAppendResponse;
    response.from = kAppendThread;
    response.to = raft_->config().id;
    response.term = raft_->term();
    if (const auto last = log.unstable_end()) {
      response.index = last->index;
      response.log_term = last->term;
    }
    response.snapshot = log.unstable_snapshot();
    append.responses.push_back(std::move(response));
  }
  ready->messages.push_back(std::move(append));
}

void RawNode::hand_out_committed(Ready* ready) {
  if (!has_committed()) return;
  Message apply;
  batch_->apply.lend(apply);
  apply.type = MessageType::kStorageApply;
  apply.from = raft_->config().id;
  apply.to = kApplyThread;
  raft_->log().next_committed(raft_->config().max_committed_bytes_per_ready, true, &apply.entries);
  Message response;
  response.type = MessageType::kStorageApplyResponse;
  response.from = kApplyThread;
  response.to = raft_->config().id;
  response.index = apply.entries.back().index;
  response.commit = data_bytes(apply.entries);  // what the limits are relieved by
  batch_->applying_bytes += response.commit;
  raft_->log().applying(response.index);
  apply.responses.push_back(std::move(response));
  ready->messages.push_back(std::move(apply));
}

void RawNode::advance() {
  Batch& batch = *batch_;
  PGRAFT_CHECK(batch.outstanding, "advance() without ready()");
  batch.outstanding = false;
  if (batch.snapshot != 0) raft_->snapshot_applied(batch.snapshot);
  if (batch.last_entry.index != 0)
    raft_->log().entries_stable(batch.last_entry.index, batch.last_entry.term);
  // Its own vote and entries count from here on.
  for (const Message& message : batch.self_messages) raft_->complete(message);
  batch.self_messages.clear();
  if (batch.applied != 0) raft_->applied_to(batch.applied, batch.applied_bytes);
}

void RawNode::complete(const Message& response) {
  PGRAFT_CHECK(raft_->config().async_storage_writes, "complete() without async_storage_writes");
  if (response.type == MessageType::kStorageApplyResponse)
    batch_->applying_bytes -= std::min(batch_->applying_bytes, response.commit);
  raft_->complete(response);
}

Status RawNode::propose(std::string data) { return propose_all({&data, 1}); }
Status RawNode::propose(std::vector<std::string> data) { return propose_all(data); }

Status RawNode::propose_all(std::span<std::string> data) {
  std::vector<Entry>& entries = batch_->proposal;
  entries.resize(data.size());
  for (std::size_t i = 0; i < data.size(); ++i) entries[i].data = std::move(data[i]);
  Status status = raft_->propose(entries);
  entries.clear();  // what was refused
  return status;
}

Status RawNode::propose_conf_change(const ConfChange& change) {
  if (Status status = validate_conf_change(change); !status) return status;
  std::vector<Entry> entries(1);
  entries[0].type = EntryType::kConfChange;
  entries[0].data = encode_conf_change(change);
  return raft_->propose(entries);
}

void RawNode::tick() { raft_->tick(); }
Status RawNode::campaign() { return raft_->start_campaign(false); }
ConfState RawNode::apply_conf_change(const ConfChange& change) {
  return raft_->apply_conf_change(change);
}
Status RawNode::step(Message message) { return raft_->receive(std::move(message)); }
Status RawNode::transfer_leader(NodeId to) { return raft_->transfer_leader(to); }
void RawNode::report_unreachable(NodeId id) { raft_->report_unreachable(id); }
void RawNode::report_snapshot(NodeId id, bool ok) { raft_->report_snapshot(id, ok); }
Status RawNode::read_index(std::string context) { return raft_->read_index(std::move(context)); }
void RawNode::forget_leader() { raft_->forget_leader(); }
void RawNode::report_leader_lost(NodeId leader, int delay_ticks) {
  raft_->report_leader_lost(leader, delay_ticks);
}
void RawNode::step_down(int hold_off_ticks) { raft_->step_down(hold_off_ticks); }
void RawNode::set_election_delay(int ticks) { raft_->set_election_delay(ticks); }
void RawNode::set_priority(int priority) { raft_->set_priority(priority); }
void RawNode::set_randomized_election_timeout(int ticks) {
  raft_->set_randomized_election_timeout(ticks);
}
std::uint64_t RawNode::now_ticks() const { return raft_->now_ticks(); }
std::uint64_t RawNode::quorum_ack_tick() const { return raft_->quorum_ack_tick(); }
std::uint64_t RawNode::leader_heard_tick() const { return raft_->leader_heard_tick(); }
bool RawNode::own_term_applied() const { return raft_->own_term_applied(); }
bool RawNode::conf_change_pending() const { return raft_->conf_change_pending(); }
Term RawNode::term() const { return raft_->term(); }
NodeId RawNode::leader() const { return raft_->leader(); }
Role RawNode::role() const { return raft_->role(); }
Index RawNode::commit_index() const { return raft_->log().committed(); }
Index RawNode::last_index() const { return raft_->log().last_index(); }
NodeStatus RawNode::status() const { return raft_->status(); }

}  // namespace pgraft::raft
