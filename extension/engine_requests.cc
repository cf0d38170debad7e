#include "engine_requests.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "libpgraft/raft/conf_change_codec.h"

namespace pgraft::extension {

namespace {

static_assert(PGRAFT_MAX_KEY_BYTES == state::kMaxKeyBytes);
static_assert(PGRAFT_MAX_VALUE_BYTES == state::kMaxValueBytes);
static_assert(PGRAFT_MAX_KV_BYTES == state::kMaxKvBytes);
static_assert(PGRAFT_MESSAGE_TYPES == transport::Traffic::kTypes);
static_assert(PGRAFT_KEPT_LEADER_CHANGES == state::kKeptLeaderChanges);

// The texts of a command, by value: its memory is the caller's.
struct Request {
  explicit Request(const PgraftCommand& command)
      : type(command.type),
        number(command.number),
        revision(command.revision),
        flags(command.flags) {
    const char* next = command.data;
    for (std::size_t i = 0; i < 3 && next != nullptr; ++i) {
      texts[i].assign(next, command.sizes[i]);
      next += command.sizes[i];
    }
  }
  PgraftCommandType type;
  std::uint64_t number, revision;
  std::uint32_t flags;
  std::string texts[3];
};

void append_row(std::string* out, std::initializer_list<std::uint64_t> numbers,
                const std::string& first, const std::string& second) {
  PgraftRow row{};
  std::copy(numbers.begin(), numbers.end(), row.numbers);
  row.sizes[0] = static_cast<std::uint32_t>(first.size());
  row.sizes[1] = static_cast<std::uint32_t>(second.size());
  out->append(reinterpret_cast<const char*>(&row), sizeof(row));
  out->append(first);
  out->append(second);
}

// --- entries of the log

state::Operation operation_of(Request& r) {
  switch (r.type) {
    case PGRAFT_CMD_KV_PUT:
      return state::KvPut{std::move(r.texts[0]), std::move(r.texts[1]), r.number};
    case PGRAFT_CMD_KV_DELETE: return state::KvDelete{std::move(r.texts[0])};
    case PGRAFT_CMD_KV_COMPARE_AND_SET: {
      state::KvCompareAndSet op;
      op.key = std::move(r.texts[0]);
      op.value = std::move(r.texts[1]);
      if ((r.flags & PGRAFT_BY_VALUE) != 0) op.expected = std::move(r.texts[2]);
      op.revision = r.revision;
      op.ttl_ms = r.number;
      return op;
    }
    default: return state::LogAppend{std::move(r.texts[0])};
  }
}

// --- looking

Status look_up(const node::Replica& replica, const Request& r, std::string* data) {
  const std::string& key = r.texts[0];
  const state::KvItem* item = replica.machine().kv().find(key);
  if (item == nullptr) return Status::ok();
  const auto left = replica.expires_in_ms(key);
  append_row(data, {item->modified, item->created, item->ttl_ms, left ? *left + 1 : 0}, key,
             item->value);
  return Status::ok();
}

Status list_keys(const node::Replica& replica, const Request& r, std::string* data) {
  for (const std::string& key : replica.machine().kv().keys(r.texts[0], r.texts[1], r.number)) {
    append_row(data, {}, key, "");
  }
  return Status::ok();
}

Status list_changes(const node::Replica& replica, const Request& r, std::string* data) {
  auto changes = replica.machine().kv().changes(r.texts[0], r.revision, r.number);
  if (!changes) return changes.status();
  for (const state::KvChange& change : *changes) {
    append_row(data, {change.revision, static_cast<std::uint64_t>(change.kind)}, change.key,
               change.value);
  }
  return Status::ok();
}

// What an entry holds, as people would write it. The text of log_append comes back as it was given.
struct Describe {
  std::string operator()(const state::KvPut& op) const { return op.key; }
  std::string operator()(const state::KvDelete& op) const { return op.key; }
  std::string operator()(const state::KvCompareAndSet& op) const { return op.key; }
  std::string operator()(const state::KvExpire& op) const { return op.key; }
  std::string operator()(const state::LogAppend& op) const { return op.data; }
  std::string operator()(const failover::Promotion& op) const {
    return "node " + std::to_string(op.node) + " to timeline " + std::to_string(op.timeline);
  }
  std::string operator()(const failover::PromotionDone& op) const {
    return (*this)(failover::Promotion{op.term, op.node, op.timeline});
  }
  std::string operator()(const state::Pause& op) const { return op.by; }
  std::string operator()(const state::LeaderChange& op) const {
    return "node " + std::to_string(op.node) + " on timeline " + std::to_string(op.timeline);
  }
};

Status describe_change(const raft::Entry& entry, std::string* text) {
  if (entry.data.empty()) {
    *text = "leave joint configuration";
    return Status::ok();
  }
  const Result<raft::ConfChange> change = raft::decode_conf_change(entry.data);
  if (!change) return change.status();
  for (const raft::ConfChangeSingle& single : change->changes) {
    const char* what = single.type == raft::ConfChangeType::kAddVoter     ? "voter"
                       : single.type == raft::ConfChangeType::kAddLearner ? "learner"
                       : single.type == raft::ConfChangeType::kRemove     ? "remove"
                                                                          : "update";
    if (!text->empty()) *text += ", ";
    *text += std::string(what) + " " + std::to_string(single.node_id);
  }
  return Status::ok();
}

Status show_entry(const node::Replica& replica, const Request& r, std::string* data) {
  const Result<raft::Entry> entry = replica.committed_entry(r.number);
  if (!entry) return entry.status();
  std::string kind = "empty", text;
  std::uint64_t request = 0, proposer = 0;
  if (entry->type != raft::EntryType::kNormal) {
    kind = "configuration";
    if (Status s = describe_change(*entry, &text); !s) return s;
  } else if (!entry->data.empty()) {
    const Result<state::Command> command = state::decode_command(entry->data);
    if (!command) return command.status();
    kind = state::operation_name(command->operation);
    text = std::visit(Describe{}, command->operation);
    request = command->request;
    proposer = command->proposer;
  }
  append_row(data, {entry->index, entry->term, request, proposer, entry->data.size()}, kind, text);
  return Status::ok();
}

// --- measurements

PgraftLatency latency_of(const Histogram& h) {
  return {h.count(), h.mean(), h.percentile(0.5), h.percentile(0.9), h.percentile(0.99), h.max()};
}

// Of this process; 0 when the system does not tell.
std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t all = 0, resident = 0;
  if (!(statm >> all >> resident)) return 0;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

PgraftPeerMetrics peer_of(const node::PeerMetrics& from) {
  PgraftPeerMetrics to{};
  to.id = from.id;
  to.tracked = from.tracked;
  if (from.tracked) {
    std::strncpy(to.state, raft::progress_state_name(from.progress.state), sizeof(to.state) - 1);
    to.match_index = from.progress.match;
    to.next_index = from.progress.next;
    to.idle_ms = from.idle_ms;
  }
  to.connected = from.wire.connected;
  to.messages_sent = from.wire.messages_sent;
  to.bytes_sent = from.wire.bytes_sent;
  to.messages_dropped = from.wire.messages_dropped;
  to.snapshot_bytes_sent = from.wire.snapshot_bytes_sent;
  to.snapshot_bytes_total = from.wire.snapshot_bytes_total;
  for (std::size_t type = 0; type < transport::Traffic::kTypes; ++type) {
    const auto& [sent, sent_bytes] = from.wire.sent.types[type];
    const auto& [received, received_bytes] = from.wire.received.types[type];
    to.sent[type] = {sent, sent_bytes};
    to.received[type] = {received, received_bytes};
  }
  return to;
}

PgraftMetrics metrics_of(const node::Metrics& m, const Latencies& latencies) {
  PgraftMetrics to{};
  to.first_index = m.first_index;
  to.last_index = m.last_index;
  to.commit_index = m.commit_index;
  to.applied_index = m.applied_index;
  to.snapshot_index = m.snapshot_index;
  to.log_appends = m.log_appends;
  to.kv_keys = m.kv_keys;
  to.kv_bytes = m.kv_bytes;
  to.kv_with_ttl = m.kv_with_ttl;
  to.kv_revision = m.kv_revision;
  to.kv_changes_kept_after = m.kv_changes_kept_after;
  to.kv_puts = m.kv_counts.puts;
  to.kv_deletes = m.kv_counts.deletes;
  to.kv_expirations = m.kv_counts.expirations;
  to.kv_conflicts = m.kv_counts.conflicts;
  to.kv_refused = m.kv_counts.refused;
  to.disk_write = latency_of(m.writes.write_us);
  to.disk_sync = latency_of(m.writes.sync_us);
  to.disk_entries = m.writes.entries;
  to.disk_syncs = m.writes.synced;
  to.tick_delay = latency_of(m.tick_delay_us);
  to.entries = latency_of(latencies.entries());
  to.looks = latency_of(latencies.looks());
  to.lease_ms = m.lease_ms;
  to.queued = m.queued;
  to.resident_bytes = resident_bytes();
  to.messages_processed = m.messages_processed;
  to.heartbeats_sent = m.heartbeats_sent;
  to.elections_triggered = m.elections_triggered;
  for (const node::PeerMetrics& peer : m.peers) {
    if (to.peers_count < PGRAFT_MAX_MEMBERS) to.peers[to.peers_count++] = peer_of(peer);
  }
  for (const state::LeaderChange& c : m.leader_changes) {
    to.leader_changes[to.leader_changes_count++] = {c.term,         c.node,         c.previous,
                                                    c.at_ms,        c.timeline,     c.election_ms,
                                                    c.agreement_ms, c.promotion_ms, c.opening_ms};
  }
  return to;
}

}  // namespace

void submit_request(node::Node& node, const PgraftCommand& command, const Latencies& latencies,
                    Answer answer) {
  Request request(command);
  if (request.type == PGRAFT_CMD_METRICS) {
    node.metrics([&latencies, answer = std::move(answer)](const Status& status,
                                                          const node::Metrics& metrics) {
      if (!status) return answer(status, 0, {});
      const PgraftMetrics out = metrics_of(metrics, latencies);
      answer(status, 0, {reinterpret_cast<const char*>(&out), sizeof(out)});
    });
    return;
  }
  if (request.type == PGRAFT_CMD_READ_BARRIER) {
    node.database_barrier(
        [answer = std::move(answer)](const Status& status, failover::Position position) {
          if (!status) return answer(status, 0, {});
          PgraftRow row{};
          row.numbers[0] = position.lsn;
          row.numbers[1] = position.timeline;
          answer(status, 0, {reinterpret_cast<const char*>(&row), sizeof(row)});
        });
    return;
  }
  if (request.type < PGRAFT_FIRST_LOOK) {
    node.propose(operation_of(request),
                 [answer = std::move(answer)](const Status& status, std::uint64_t value) {
                   answer(status, value, {});
                 });
    return;
  }
  const bool of_kv = request.type == PGRAFT_CMD_KV_GET || request.type == PGRAFT_CMD_KV_LIST;
  const bool barrier = of_kv && (request.flags & PGRAFT_STALE) == 0;
  node.read(barrier, [request = std::move(request), answer = std::move(answer)](
                         const Status& status, const node::Replica* replica) {
    if (!status) return answer(status, 0, {});
    std::string data;
    Status done;
    switch (request.type) {
      case PGRAFT_CMD_KV_GET: done = look_up(*replica, request, &data); break;
      case PGRAFT_CMD_KV_LIST: done = list_keys(*replica, request, &data); break;
      case PGRAFT_CMD_KV_CHANGES: done = list_changes(*replica, request, &data); break;
      case PGRAFT_CMD_LOG_ENTRY: done = show_entry(*replica, request, &data); break;
      default: done = Status(Code::kInvalidArgument, "unknown command");
    }
    answer(done, replica->machine().applied_index(), data);
  });
}

}  // namespace pgraft::extension

extern "C" const char* pgraft_message_type_name(int type) {
  return pgraft::transport::Traffic::type_name(static_cast<std::size_t>(type));
}
