// Values with every field set, and their comparison, for the tests of this layer.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "libpgraft/transport/transport.h"

namespace pgraft::transport::test {

inline state::Member some_member(raft::NodeId id) {
  return {id, 100 + id, "name", "10.0.0.1", 8001, "pg.example", 5432, id % 2 == 0};
}

inline Identity some_identity(raft::NodeId id) {
  Identity identity;
  identity.cluster_name = "cluster";
  identity.cluster_id = 77;
  identity.node_id = id;
  identity.incarnation = 100 + id;
  identity.system_identifier = ~0ull;
  identity.member = some_member(id);
  identity.version = "0.1.0";
  return identity;
}

inline failover::Report some_report() { return {1, 5, true, {3, 0x300001234}, 2, true}; }

inline failover::WalStatus some_wal_status() {
  return {1, false, {3, 0x300001234}, {2, 0x300001000}, 0x300000028, 0x200000000, 50};
}

inline ClusterStatus some_status() {
  ClusterStatus s;
  s.identity = some_identity(3);
  s.state = "leader";
  s.term = 1, s.leader_id = 2, s.writable = true;
  s.commit_index = 3, s.applied_index = 4, s.last_index = 5;
  s.timeline = 6, s.lsn = 7, s.in_recovery = true, s.abstaining = true;
  s.phase = "waits for reports";
  s.change_waits_for = "node 2 does not stream";
  s.messages_processed = 8, s.heartbeats_sent = 9, s.elections_triggered = 10;
  s.promoted_timeline = 11;
  s.members = {{some_member(1), true, false, true, 12, 13, some_wal_status(), {}},
               {some_member(2), false, true, false, 14, 15, {}, "node 2 is 1.2 GB behind"}};
  s.promotions = {{16, 17, 18, 19}, {20, 21, 22, 23}};
  return s;
}

inline ClusterStatus some_whole_status() {
  ClusterStatus s = some_status();
  s.more = {true, 24, 25, "somebody", 26, {{27, 28}, {29, 30}}, {{31, "copy", 32, 33, 34}, {}}};
  return s;
}

// One message of each type, with all fields set to different values.
inline std::vector<raft::Message> every_message() {
  std::vector<raft::Message> messages;
  const int last = static_cast<int>(raft::MessageType::kReadIndexResponse);
  for (int type = 0; type <= last; ++type) {
    raft::Message m;
    m.type = static_cast<raft::MessageType>(type);
    m.from = 1, m.to = 2, m.term = 3, m.log_term = 4, m.index = 5;
    m.entries = {{6, 7, raft::EntryType::kNormal, std::string("a\0b", 3)},
                 {8, 9, raft::EntryType::kConfChange, ""}};
    m.commit = 10, m.reject = type % 2 == 0, m.reject_hint = 11, m.transfer = type % 2 == 1;
    m.context = "context";
    if (m.type == raft::MessageType::kSnapshot) {
      auto snapshot = std::make_shared<raft::Snapshot>();
      snapshot->meta = {12, 13, {{1, 2}, {3}, {4}, {5}, true, {{1, 14}, {2, ~0ull}}}};
      snapshot->data = "state";
      m.snapshot = snapshot;
    }
    m.from_incarnation = 15, m.to_incarnation = 16, m.stamp = 17;
    messages.push_back(m);
  }
  return messages;
}

inline void expect_same(const raft::Message& a, const raft::Message& b) {
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.from, b.from);
  EXPECT_EQ(a.to, b.to);
  EXPECT_EQ(a.term, b.term);
  EXPECT_EQ(a.log_term, b.log_term);
  EXPECT_EQ(a.index, b.index);
  EXPECT_EQ(a.entries, b.entries);
  EXPECT_EQ(a.commit, b.commit);
  EXPECT_EQ(a.reject, b.reject);
  EXPECT_EQ(a.reject_hint, b.reject_hint);
  EXPECT_EQ(a.transfer, b.transfer);
  EXPECT_EQ(a.context, b.context);
  ASSERT_EQ(a.snapshot != nullptr, b.snapshot != nullptr);
  if (a.snapshot != nullptr) {
    EXPECT_EQ(*a.snapshot, *b.snapshot);
  }
  EXPECT_EQ(a.from_incarnation, b.from_incarnation);
  EXPECT_EQ(a.to_incarnation, b.to_incarnation);
  EXPECT_EQ(a.stamp, b.stamp);
}

inline void expect_same(const std::vector<raft::Message>& a, const std::vector<raft::Message>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) expect_same(a[i], b[i]);
}

inline void expect_same(const Identity& a, const Identity& b) {
  EXPECT_EQ(a.cluster_name, b.cluster_name);
  EXPECT_EQ(a.cluster_id, b.cluster_id);
  EXPECT_EQ(a.node_id, b.node_id);
  EXPECT_EQ(a.incarnation, b.incarnation);
  EXPECT_EQ(a.system_identifier, b.system_identifier);
  EXPECT_EQ(a.member, b.member);
  EXPECT_EQ(a.version, b.version);
}

inline void expect_same(const ClusterStatus& a, const ClusterStatus& b) {
  expect_same(a.identity, b.identity);
  EXPECT_EQ(a.state, b.state);
  EXPECT_EQ(a.term, b.term);
  EXPECT_EQ(a.leader_id, b.leader_id);
  EXPECT_EQ(a.writable, b.writable);
  EXPECT_EQ(a.commit_index, b.commit_index);
  EXPECT_EQ(a.applied_index, b.applied_index);
  EXPECT_EQ(a.last_index, b.last_index);
  EXPECT_EQ(a.timeline, b.timeline);
  EXPECT_EQ(a.lsn, b.lsn);
  EXPECT_EQ(a.in_recovery, b.in_recovery);
  EXPECT_EQ(a.abstaining, b.abstaining);
  EXPECT_EQ(a.phase, b.phase);
  EXPECT_EQ(a.change_waits_for, b.change_waits_for);
  EXPECT_EQ(a.messages_processed, b.messages_processed);
  EXPECT_EQ(a.heartbeats_sent, b.heartbeats_sent);
  EXPECT_EQ(a.elections_triggered, b.elections_triggered);
  EXPECT_EQ(a.promoted_timeline, b.promoted_timeline);
  EXPECT_EQ(a.more, b.more);
  ASSERT_EQ(a.members.size(), b.members.size());
  for (std::size_t i = 0; i < a.members.size(); ++i) {
    EXPECT_EQ(a.members[i].member, b.members[i].member);
    EXPECT_EQ(a.members[i].voter, b.members[i].voter);
    EXPECT_EQ(a.members[i].learner, b.members[i].learner);
    EXPECT_EQ(a.members[i].answering, b.members[i].answering);
    EXPECT_EQ(a.members[i].match_index, b.members[i].match_index);
    EXPECT_EQ(a.members[i].flush_lsn, b.members[i].flush_lsn);
    EXPECT_EQ(a.members[i].wal, b.members[i].wal);
    EXPECT_EQ(a.members[i].waits_for, b.members[i].waits_for);
  }
  EXPECT_EQ(a.promotions, b.promotions);
}

}  // namespace pgraft::transport::test
