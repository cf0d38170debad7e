#include "libpgraft/fuzz/seeds.h"

#include <iterator>
#include <memory>

#include "libpgraft/node/member_files.h"
#include "libpgraft/raft/raw_node.h"
#include "libpgraft/state/state_machine.h"
#include "libpgraft/storage/record.h"
#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/frame.h"

namespace pgraft::fuzz {
namespace {

constexpr std::uint64_t kMost = ~0ull;

// The seeds of one target.
class Maker {
 public:
  Maker(std::vector<Seed>* seeds, std::string target) : seeds_(seeds), target_(std::move(target)) {}

  void add(const std::string& name, std::string bytes) {
    seeds_->push_back({target_, "seed-" + name, std::move(bytes)});
  }
  // For a target of several decoders.
  void add(const std::string& name, char decoder, const std::string& bytes) {
    add(name, decoder + bytes);
  }

 private:
  std::vector<Seed>* seeds_;
  std::string target_;
};

// --- values that several targets have in common

state::Member full_member() { return {1, 101, "n1", "10.0.0.1", 8001, "db1.example", 5432}; }

state::Member largest_member() {
  return {kMost,  kMost, std::string(state::kMaxNameBytes, 'n'), "2001:db8::1",
          0xffff, "::1", static_cast<std::uint16_t>(0xffffu)};
}

std::vector<raft::ConfState> configurations() {
  return {{},
          {{1}, {}, {}, {}, false, {{1, 101}}},
          {{1, 2, 3}, {4}, {}, {}, false, {{1, 101}, {2, 102}, {3, 103}, {4, kMost}}},
          {{1, 2, 4}, {}, {1, 2, 3}, {3}, true, {{1, 101}, {2, 102}}}};
}

std::vector<raft::Entry> entries() {
  return {
      {7, 3, raft::EntryType::kNormal, ""},
      {8, 3, raft::EntryType::kNormal, state::encode_command({1, 9, state::KvPut{"key", "value"}})},
      {9, 3, raft::EntryType::kConfChange, raft::encode_conf_change({})},
      {kMost, kMost, raft::EntryType::kNormal, std::string(300, 'x')}};
}

// A state machine after some life.
state::StateMachine machine() {
  state::StateMachine machine;
  machine.set_cluster_id(42);
  machine.put_member(full_member());
  machine.put_member({2, 102, "n2", "10.0.0.2", 8001, "", 0, true});
  const state::Operation operations[] = {
      state::KvPut{"a", "1"},       state::KvPut{std::string("b\0c", 3), ""},
      state::LogAppend{"x"},        failover::Promotion{3, 1, 2},
      state::KvPut{"key", "value"}, failover::PromotionDone{3, 1, 2, {{1, 0x3000060}}},
      failover::Promotion{5, 2, 3}, state::Pause{1790000000000, "me"},
  };
  for (const state::Operation& operation : operations) {
    const Status applied = machine.apply({machine.applied_index() + 1, 1, raft::EntryType::kNormal,
                                          state::encode_command({1, 1, operation})});
    if (!applied) return {};
  }
  return machine;
}

raft::Snapshot full_snapshot() {
  return {{machine().applied_index(), 5, configurations()[2]}, machine().snapshot()};
}

// --- the wire

raft::Message message_of(raft::MessageType type) {
  raft::Message m;
  m.type = type;
  m.from = 1, m.to = 2, m.term = 5, m.log_term = 4, m.index = 6, m.commit = 5;
  m.from_incarnation = 101, m.to_incarnation = 102, m.stamp = 77;
  switch (type) {
    case raft::MessageType::kAppend:
    case raft::MessageType::kPropose: m.entries = entries(); break;
    case raft::MessageType::kAppendResponse: m.reject = true, m.reject_hint = 3; break;
    case raft::MessageType::kVote:
    case raft::MessageType::kPreVote: m.transfer = true; break;
    case raft::MessageType::kSnapshot:
      m.snapshot = std::make_shared<raft::Snapshot>(full_snapshot());
      break;
    case raft::MessageType::kReadIndex:
    case raft::MessageType::kReadIndexResponse: m.context = "context"; break;
    default: break;
  }
  return m;
}

std::vector<raft::Message> one_of_each() {
  std::vector<raft::Message> messages;
  for (int type = 0; type <= static_cast<int>(raft::MessageType::kReadIndexResponse); ++type) {
    messages.push_back(message_of(static_cast<raft::MessageType>(type)));
  }
  return messages;
}

std::vector<failover::Report> reports() {
  return {{},
          {1, 5, true, {}, 2},
          {2, 5, false, {3, 0x300001234}, 3, true},
          {kMost, kMost, true, {0xffffffff, kMost}, 0xffffffff}};
}

failover::WalStatus wal_status() {
  return {1, false, {3, 0x300001234}, {2, 0x300001000}, 0x28, 0x10, 50};
}

transport::Identity full_identity() {
  return {"cluster", 42, 1, 101, 7123456789012345678, full_member(), "0.1.0"};
}

transport::ClusterStatus full_status() {
  transport::ClusterStatus s;
  s.identity = full_identity();
  s.state = "leader";
  s.term = 5, s.leader_id = 1, s.writable = true;
  s.commit_index = 8, s.applied_index = 7, s.last_index = 9;
  s.timeline = 2, s.lsn = 0x3000060, s.in_recovery = true, s.abstaining = true;
  s.phase = "waits for reports";
  s.change_waits_for = "node 2 does not stream";
  s.messages_processed = 10, s.heartbeats_sent = 11, s.elections_triggered = 12;
  s.promoted_timeline = 2;
  s.members = {{full_member(), true, false, true, 9, 0x3000060, wal_status(), {}},
               {largest_member(), false, true, false, kMost, kMost, {}, "node 2 is 1.2 GB behind"}};
  s.promotions = {{1, 1, 1, 0}, {kMost, kMost, 0xffffffff, kMost}};
  return s;
}

// A snapshot's message travels without its data, which follows in chunks.
transport::SnapshotHeader snapshot_header() {
  raft::Message message = message_of(raft::MessageType::kSnapshot);
  raft::Snapshot without_data = *message.snapshot;
  without_data.data.clear();
  message.snapshot = std::make_shared<raft::Snapshot>(std::move(without_data));
  return {7, full_snapshot().data.size(), 0x12345678, std::move(message)};
}

transport::SnapshotAck snapshot_ack(transport::SnapshotAnswer answer) {
  return {7, 4096, answer, answer == transport::SnapshotAnswer::kRefused ? "too big" : ""};
}

void wire(Maker maker) {
  constexpr char kMessages = 0, kReport = 1, kIdentity = 2, kHello = 3, kStatus = 4, kWalStatus = 5,
                 kSnapshotHeader = 6, kSnapshotChunk = 7, kSnapshotAck = 8;
  using Messages = std::vector<raft::Message>;
  maker.add("messages-none", kMessages, transport::encode(Messages{}));
  maker.add("messages-of-each-type", kMessages, transport::encode(one_of_each()));
  for (const raft::Message& m : one_of_each()) {
    maker.add(std::string("message-") + raft::message_type_name(m.type), kMessages,
              transport::encode(Messages{m}));
  }
  for (const raft::ConfState& conf : configurations()) {
    raft::Message m;
    m.snapshot = std::make_shared<raft::Snapshot>(raft::Snapshot{{9, 5, conf}, "state"});
    maker.add("snapshot-with-" + std::to_string(conf.incarnations.size()) + "-incarnations",
              kMessages, transport::encode(Messages{m, m}));
  }
  int n = 0;
  for (const failover::Report& report : reports()) {
    maker.add("report-" + std::to_string(n++), kReport, transport::encode(report));
  }
  maker.add("identity-blank", kIdentity, transport::encode(transport::Identity{}));
  maker.add("identity", kIdentity, transport::encode(full_identity()));
  maker.add("hello", kHello, transport::encode(transport::Hello{full_identity(), 2, 102}));
  maker.add("hello-to-any", kHello, transport::encode(transport::Hello{full_identity(), 2, 0}));
  maker.add("status-blank", kStatus, transport::encode(transport::ClusterStatus{}));
  maker.add("status", kStatus, transport::encode(full_status()));
  transport::ClusterStatus newer = full_status();
  newer.more = {true, 900, 1700000000000, "ops", 2, {{2, 15}}, {{3, "copy", 5, kMost, 60}, {}}};
  maker.add("status-with-more", kStatus, transport::encode(newer));
  maker.add("wal-status-blank", kWalStatus, transport::encode(failover::WalStatus{}));
  maker.add("wal-status", kWalStatus, transport::encode(wal_status()));
  maker.add("snapshot-header", kSnapshotHeader, transport::encode(snapshot_header()));
  maker.add("snapshot-chunk", kSnapshotChunk, transport::encode_chunk(7, 4096, "data"));
  for (int answer = 0; answer <= static_cast<int>(transport::SnapshotAnswer::kRefused); ++answer) {
    maker.add("snapshot-ack-" + std::to_string(answer), kSnapshotAck,
              transport::encode(snapshot_ack(static_cast<transport::SnapshotAnswer>(answer))));
  }
}

void frame(Maker maker) {
  using transport::FrameType;
  const std::string payloads[] = {
      transport::encode(transport::Hello{full_identity(), 2, 102}),
      transport::encode(full_identity()),
      "another cluster",
      transport::encode(one_of_each()),
      transport::encode(reports()[2]),
      "",
      transport::encode(full_identity()),
      "",
      transport::encode(full_status()),
      transport::encode(snapshot_header()),
      transport::encode_chunk(7, 4096, "data"),
      transport::encode(snapshot_ack(transport::SnapshotAnswer::kRefused)),
      transport::encode(wal_status()),
  };
  static_assert(std::size(payloads) == transport::kLastFrameType);
  const std::string at_once(1, '\0');
  const std::string byte_by_byte("\1\0", 2);
  const std::string uneven("\3\0\20\2", 4);
  std::string all;
  int type = 0;
  for (const std::string& payload : payloads) {
    const std::string bytes = transport::encode_frame(static_cast<FrameType>(++type), payload);
    all += bytes;
    maker.add("type-" + std::to_string(type), at_once + bytes);
    maker.add("type-" + std::to_string(type) + "-in-pieces", uneven + bytes);
  }
  maker.add("one-after-the-other", at_once + all);
  maker.add("one-after-the-other-byte-by-byte", byte_by_byte + all);
  maker.add("one-after-the-other-in-pieces", uneven + all);
  maker.add("unfinished", at_once + all.substr(0, all.size() - 1));
}

// --- Raft and the state machine

void conf_change(Maker maker) {
  using raft::ConfChangeTransition;
  using raft::ConfChangeType;
  for (const auto transition : {ConfChangeTransition::kAuto, ConfChangeTransition::kImplicit,
                                ConfChangeTransition::kExplicit}) {
    const std::string of = std::to_string(static_cast<int>(transition));
    raft::ConfChange change{transition, {}, ""};
    maker.add("leave-" + of, raft::encode_conf_change(change));
    for (const auto type : {ConfChangeType::kAddVoter, ConfChangeType::kAddLearner,
                            ConfChangeType::kRemove, ConfChangeType::kUpdate}) {
      change.changes = {{type, 2, 102}};
      change.context = type == ConfChangeType::kRemove ? "" : state::encode_member(full_member());
      maker.add("type-" + std::to_string(static_cast<int>(type)) + "-" + of,
                raft::encode_conf_change(change));
    }
    change.changes = {{ConfChangeType::kRemove, 1, 0},
                      {ConfChangeType::kAddVoter, kMost, kMost},
                      {ConfChangeType::kAddLearner, 3, 103}};
    maker.add("several-" + of, raft::encode_conf_change(change));
  }
}

void command(Maker maker) {
  constexpr char kCommand = 0, kMember = 1;
  const std::pair<const char*, state::Operation> operations[] = {
      {"put", state::KvPut{"key", "value"}},
      {"put-empty", state::KvPut{"key", ""}},
      {"put-longest-key", state::KvPut{std::string(state::kMaxKeyBytes, 'k'), "v"}},
      {"delete", state::KvDelete{"key"}},
      {"append", state::LogAppend{"data"}},
      {"append-nothing", state::LogAppend{""}},
      {"promotion", failover::Promotion{9, 3, 4}},
      {"promotion-of-most", failover::Promotion{kMost, kMost, 0xffffffff}},
      {"done", failover::PromotionDone{9, 3, 4, {{1, 0x3000000}, {3, 0x5000000}}}},
      {"done-without-history", failover::PromotionDone{9, 3, 4, {}}},
      {"pause", state::Pause{1790000000000, "somebody on node 1"}},
      {"resume", state::Pause{}},
      {"put-with-ttl", state::KvPut{"key", "value", 5000}},
      {"compare-revision", state::KvCompareAndSet{"key", 17, {}, "value", 5000}},
      {"compare-value", state::KvCompareAndSet{"key", 0, "old", "value", 0}},
      {"expire", state::KvExpire{"key", 17}},
      {"leader-change", state::LeaderChange{9, 3, 2, 4, 1700000000000, 100, 20, 80, 15}},
  };
  for (const auto& [name, operation] : operations) {
    maker.add(name, kCommand, state::encode_command({1, 7, operation}));
    maker.add(std::string(name) + "-nobody-waits", kCommand,
              state::encode_command({kMost, 0, operation}));
  }
  maker.add("member-blank", kMember, state::encode_member({}));
  maker.add("member-nosync", kMember, state::encode_member({2, 2, "n", "a", 1, "", 0, true}));
  maker.add("member", kMember, state::encode_member(full_member()));
  maker.add("member-largest", kMember, state::encode_member(largest_member()));
}

void snapshot(Maker maker) {
  state::StateMachine grown;
  maker.add("blank", grown.snapshot());
  grown.set_applied_index(kMost);
  maker.add("applied", grown.snapshot());
  grown = {};
  grown.put_member(full_member());
  maker.add("without-a-cluster", grown.snapshot());
  maker.add("full", machine().snapshot());
  grown = machine();
  grown.set_cluster_id(43);
  maker.add("another-cluster", grown.snapshot());
  grown = machine();
  for (raft::NodeId id = 1; id <= state::kMaxMembers; ++id)
    grown.put_member({id, 1, "", "", 0, "", 0});
  maker.add("most-members", grown.snapshot());
  // Every prefix of one node's life.
  const state::Operation life[] = {
      failover::Promotion{1, 1, 1},
      failover::PromotionDone{1, 1, 1, {}},
      state::KvPut{"", ""},
      state::KvPut{"a", std::string(100, 'v')},
      state::KvPut{"b", "v"},
      state::LogAppend{"x"},
      failover::Promotion{2, 2, 2},
      failover::Promotion{3, 1, 3},
      state::KvDelete{"a"},
      failover::PromotionDone{3, 1, 3, {{1, 0x3000000}, {2, 0x3000060}}},
      state::KvCompareAndSet{"b", 0, "v", "w", 1000},
      state::LeaderChange{3, 1, 2, 3, 1700000000000, 100, 20, 80, 15},
      state::KvExpire{"b", 11},
  };
  state::StateMachine living;
  living.set_cluster_id(42);
  for (const state::Operation& operation : life) {
    const raft::Index next = living.applied_index() + 1;
    if (!living.apply(
            {next, 1, raft::EntryType::kNormal, state::encode_command({1, 1, operation})})) {
      return;
    }
    maker.add("life-" + std::to_string(next), living.snapshot());
  }
}

// --- what is stored

void record(Maker maker) {
  namespace record = storage::record;
  constexpr char kFormat = 0, kHardState = 1, kLogStart = 2, kSnapshot = 3, kEntry = 4, kOpen = 5;
  maker.add("format", kFormat, record::encode_format(record::kFormatVersion));
  maker.add("hard-state-blank", kHardState, record::encode(raft::HardState{}));
  maker.add("hard-state", kHardState, record::encode(raft::HardState{5, 1, 8}));
  maker.add("log-start", kLogStart, record::encode(record::LogStart{7, 3}));
  int n = 0;
  for (const raft::ConfState& conf : configurations()) {
    maker.add("snapshot-" + std::to_string(n++), kSnapshot,
              record::encode(raft::Snapshot{{9, 5, conf}, "state"}));
  }
  maker.add("snapshot-full", kSnapshot, record::encode(full_snapshot()));
  for (const raft::Entry& entry : entries()) {
    maker.add("entry-" + std::to_string(entry.index), kEntry, record::encode(entry));
  }
  const std::pair<std::string, std::string> sealed[] = {
      {record::kFormatKey, record::encode_format(record::kFormatVersion)},
      {record::kHardStateKey, record::encode(raft::HardState{5, 1, 8})},
      {record::kLogStartKey, record::encode(record::LogStart{7, 3})},
      {record::kSnapshotKey, record::encode(full_snapshot())},
      {record::entry_key(8), record::encode(entries()[1])},
      {record::value_key("starts"), "3"},
      {record::value_key("blank"), ""},
  };
  n = 0;
  for (const auto& [key, payload] : sealed) {
    const std::string length(1, static_cast<char>(key.size()));
    maker.add("sealed-" + std::to_string(n++), kOpen, length + key + record::seal(key, payload));
  }
}

void member_files(Maker maker) {
  constexpr char kIdentity = 0, kBinding = 1, kRejoin = 2, kTimelines = 3, kMembers = 4,
                 kMember = 5, kWalEnd = 6;
  using node::to_text;
  maker.add("identity", kIdentity,
            to_text(node::IdentityFile{"cluster", 42, 1, 101, 7123456789012345678, 77}));
  maker.add("identity-without-a-cluster", kIdentity,
            to_text(node::IdentityFile{"", 0, kMost, kMost, 0, 0}));
  maker.add("binding", kBinding, to_text(node::BindingFile{1, 101, 77}));
  for (const auto state : {node::RejoinState::kRequested, node::RejoinState::kWorking,
                           node::RejoinState::kCatchingUp}) {
    for (const auto mode : {node::RejoinMode::kRewind, node::RejoinMode::kClone}) {
      const std::string name = "rejoin-" + std::to_string(static_cast<int>(state)) +
                               std::to_string(static_cast<int>(mode));
      maker.add(
          name, kRejoin,
          to_text(node::RejoinFile{
              state, mode, 2, "10.0.0.2", 5432, {3, 0x2A00000028}, 77, "diverged at 0/3000060"}));
    }
  }
  maker.add("rejoin-blank", kRejoin, to_text(node::RejoinFile{}));
  maker.add("timelines-blank", kTimelines, to_text(node::TimelinesFile{}));
  maker.add("timelines-one", kTimelines, to_text(node::TimelinesFile{2, 2, {{1, 0x3000060}}}));
  maker.add(
      "timelines", kTimelines,
      to_text(node::TimelinesFile{0xffffffff, 7, {{1, 0x3000000}, {5, 0x1200000000}, {6, kMost}}}));
  using Members = std::vector<state::Member>;
  maker.add("members-none", kMembers, to_text(Members{}));
  maker.add("members-one", kMembers, to_text(Members{full_member()}));
  maker.add("members", kMembers,
            to_text(Members{full_member(), largest_member(), {2, 0, "n2", "::1", 1, "", 0}}));
  maker.add("member", kMember, state::encode_member(full_member()));
  maker.add("member-largest", kMember, state::encode_member(largest_member()));
  maker.add("wal-end", kWalEnd, to_text(node::WalEndFile{77, {7, 0x1200000000}}));
}

}  // namespace

std::vector<Seed> seeds() {
  std::vector<Seed> seeds;
  wire({&seeds, "wire"});
  frame({&seeds, "frame"});
  conf_change({&seeds, "conf_change"});
  command({&seeds, "command"});
  snapshot({&seeds, "snapshot"});
  record({&seeds, "record"});
  member_files({&seeds, "member_files"});
  return seeds;
}

}  // namespace pgraft::fuzz
