// Asynchronous storage: what may be said before a write is durable, and what may not.
#include <gtest/gtest.h>

#include <functional>

#include "libpgraft/raft/raft_test_cluster.h"

namespace pgraft::raft {
namespace {

void asynchronous(Config& config) { config.async_storage_writes = true; }

class AsyncStorage : public testing::Test {
 protected:
  AsyncStorage() : cluster({1, 2, 3}, {}, asynchronous) { cluster.elect(1); }

  std::size_t in_flight(MessageType type, NodeId from) const {
    return static_cast<std::size_t>(
        std::count_if(cluster.in_flight.begin(), cluster.in_flight.end(),
                      [&](const Message& m) { return m.type == type && m.from == from; }));
  }
  static Message append(NodeId from, NodeId to, Term term, Index prev, Term prev_term,
                        const std::vector<Term>& terms, Index commit = 0) {
    Message message;
    message.type = MessageType::kAppend;
    message.from = from;
    message.to = to;
    message.term = term;
    message.index = prev;
    message.log_term = prev_term;
    message.commit = commit;
    for (Term t : terms) message.entries.push_back({++prev, t, EntryType::kNormal, ""});
    return message;
  }
  void step(const Message& message) { ASSERT_TRUE(cluster[message.to].step(message).is_ok()); }

  TestCluster cluster;
};

// Thesis 10.2.1.
TEST_F(AsyncStorage, TheLeaderReplicatesAndCommitsWhileItsOwnDiskWrites) {
  cluster.nodes.at(1).hold_writes = true;
  cluster.propose(1, "a");
  EXPECT_EQ(cluster.data(2), "a");
  EXPECT_EQ(cluster.data(3), "a");
  EXPECT_EQ(cluster.data(1), "");  // not durable here
  cluster.nodes.at(1).hold_writes = false;
  cluster.settle();
  EXPECT_EQ(cluster.data(1), "a");
}

TEST_F(AsyncStorage, TheLeaderDoesNotCountItselfBeforeItsWrite) {
  cluster.isolate(3);
  cluster.nodes.at(1).hold_writes = true;
  cluster.nodes.at(2).hold_writes = true;
  const Index before = cluster.commit(1);
  cluster.propose(1, "a");
  EXPECT_EQ(cluster.commit(1), before);
  cluster.nodes.at(2).hold_writes = false;
  cluster.settle();
  EXPECT_EQ(cluster.commit(1), before);  // one of three
  cluster.nodes.at(1).hold_writes = false;
  cluster.settle();
  EXPECT_EQ(cluster.commit(1), before + 1);
}

TEST_F(AsyncStorage, AFollowerAnswersHeartbeatsButAcknowledgesNothingWhileItsDiskWrites) {
  cluster.nodes.at(2).hold_writes = true;
  cluster.cut_link(1, 3);
  ASSERT_TRUE(cluster[1].propose("a").is_ok());
  cluster.process_ready(1);
  while (cluster.deliver_one()) {
  }
  cluster.tick(1);
  cluster.process_ready(1);
  while (cluster.deliver_one()) {
  }
  cluster.process_ready(2);
  EXPECT_EQ(in_flight(MessageType::kAppendResponse, 2), 0u);
  EXPECT_EQ(in_flight(MessageType::kHeartbeatResponse, 2), 1u);
  while (cluster.process_append(2)) {
  }
  EXPECT_EQ(in_flight(MessageType::kAppendResponse, 2), 1u);
}

TEST_F(AsyncStorage, AVoteIsSentOnlyWhenItIsDurable) {
  cluster.isolate(1);
  cluster.nodes.at(2).hold_writes = true;
  Message request;
  request.type = MessageType::kVote;
  request.from = 3;
  request.to = 2;
  request.term = 9;
  request.transfer = true;  // the leader is alive
  request.index = cluster[3].status().last_index;
  request.log_term = 2;
  step(request);
  cluster.process_ready(2);
  EXPECT_EQ(in_flight(MessageType::kVoteResponse, 2), 0u);
  while (cluster.process_append(2)) {
  }
  EXPECT_EQ(cluster.log(2).hard, (HardState{9, 3, cluster.commit(2)}));
  EXPECT_EQ(in_flight(MessageType::kVoteResponse, 2), 1u);
}

// What the candidate says of its log must outlive its crash: else it could come back with less, ask
// again in the same term, and win with the vote that it was given for more.
TEST_F(AsyncStorage, ACandidateAsksForVotesOnlyWhenItsTermAndItsLogAreDurable) {
  cluster.nodes.at(2).hold_writes = true;
  cluster.propose(1, "a");  // with node 3; node 2's write waits
  ASSERT_EQ(cluster.data(1), "a");
  cluster.isolate(1);
  Message told;
  told.type = MessageType::kTimeoutNow;
  told.from = 1;
  told.to = 2;
  told.term = cluster[2].term();
  step(told);
  ASSERT_EQ(cluster[2].role(), Role::kCandidate);
  cluster.process_ready(2);
  EXPECT_EQ(in_flight(MessageType::kVote, 2), 0u);
  cluster.nodes.at(2).hold_writes = false;
  while (cluster.process_append(2)) {
  }
  EXPECT_EQ(in_flight(MessageType::kVote, 2), 2u);
  EXPECT_EQ(cluster.log(2).last_index(), cluster[2].status().last_index);
}

// An entry is overwritten and comes back with the same index and term, by the logs of two later
// leaders. The report of its first write must not count for the last one, which is under way.
TEST_F(AsyncStorage, TheReportOfAnOverwrittenWriteIsNotTakenForTheNewOne) {
  auto& node = cluster.nodes.at(2);
  const Index base = cluster[2].status().last_index;
  node.hold_writes = true;
  step(append(3, 2, 3, base, 2, {3}));
  cluster.process_ready(2);
  step(append(1, 2, 4, base, 2, {4}));
  cluster.process_ready(2);
  step(append(3, 2, 5, base, 2, {3}));
  cluster.process_ready(2);
  ASSERT_EQ(node.appends.size(), 3u);
  cluster.in_flight.clear();
  cluster.process_append(2);  // base+1 with term 3, of the first leader
  cluster.process_append(2);  // base+1 with term 4
  // On disk is the entry of term 4: the core must still read its own copy.
  ASSERT_EQ(*cluster.log(2).term(base + 1), 4u);
  step(append(3, 2, 5, base + 1, 3, {}, base + 1));
  cluster.process_ready(2);
  EXPECT_TRUE(node.applies.empty()) << "applies an entry that is not durable";
  EXPECT_EQ(cluster.commit(2), base + 1);
  while (cluster.process_append(2)) {
  }
  EXPECT_EQ(*cluster.log(2).term(base + 1), 3u);
  cluster.settle();
  EXPECT_EQ(cluster[2].status().applied, base + 1);
}

// The same leader's term, another write: what is not overwritten is reported once more with it.
TEST_F(AsyncStorage, TheFirstWriteOfATermReportsWhatWasUnderWayBefore) {
  auto& node = cluster.nodes.at(2);
  const Index base = cluster[2].status().last_index;
  node.hold_writes = true;
  step(append(1, 2, cluster[2].term(), base, 2, {2, 2}));
  cluster.process_ready(2);
  step(append(3, 2, 7, base + 2, 2, {}, base + 2));  // a new leader with the same entries
  cluster.process_ready(2);
  cluster.process_append(2);  // reported in a term that is over
  if (cluster[2].has_ready()) cluster.process_ready(2);
  EXPECT_TRUE(node.applies.empty());
  cluster.process_append(2);
  cluster.settle();
  EXPECT_EQ(cluster[2].status().applied, base + 2);
}

TEST_F(AsyncStorage, NothingIsHandedOutTwice) {
  auto& node = cluster.nodes.at(2);
  node.hold_writes = true;
  node.hold_applies = true;
  std::vector<Index> written;
  std::vector<Index> applied;
  for (int i = 0; i < 4; ++i) cluster.propose(1, std::string(1, static_cast<char>('a' + i)));
  for (const Message& write : node.appends)
    for (const Entry& entry : write.entries) written.push_back(entry.index);
  EXPECT_EQ(std::set<Index>(written.begin(), written.end()).size(), written.size());
  EXPECT_EQ(written.size(), 4u);
  node.hold_writes = false;
  cluster.settle();
  for (const Message& work : node.applies)
    for (const Entry& entry : work.entries) applied.push_back(entry.index);
  EXPECT_EQ(std::set<Index>(applied.begin(), applied.end()).size(), applied.size());
  EXPECT_EQ(applied.size(), 4u);
  node.hold_applies = false;
  cluster.settle();
  EXPECT_EQ(cluster.data(2), "abcd");
}

TEST_F(AsyncStorage, WhatWaitsToBeAppliedIsBoundedInBytes) {
  TestCluster small({1, 2, 3}, {}, [](Config& config) {
    config.async_storage_writes = true;
    config.max_committed_bytes_per_ready = 10;
  });
  small.elect(1);
  small.nodes.at(2).hold_applies = true;
  for (int i = 0; i < 5; ++i) small.propose(1, "12345678");
  std::size_t waiting = 0;
  for (const Message& work : small.nodes.at(2).applies) waiting += work.entries.size();
  EXPECT_EQ(waiting, 2u);  // 8 bytes are below the limit, 16 are not
  small.nodes.at(2).hold_applies = false;
  small.settle();
  EXPECT_EQ(small.data(2).size(), 40u);
}

TEST_F(AsyncStorage, NothingIsAppliedWhileASnapshotIsWritten) {
  cluster.isolate(3);
  for (const char* data : {"a", "b", "c"}) cluster.propose(1, data);
  cluster.compact(1);
  cluster.nodes.at(3).hold_writes = true;
  cluster.heal();
  cluster.tick_all(3);
  cluster.propose(1, "d");
  ASSERT_FALSE(cluster.nodes.at(3).appends.empty());
  EXPECT_TRUE(cluster.nodes.at(3).applies.empty());
  EXPECT_EQ(cluster.data(3), "");
  EXPECT_EQ(cluster[3].campaign().code(), Code::kFailedPrecondition);
  cluster.nodes.at(3).hold_writes = false;
  cluster.settle();
  cluster.tick_all(3);
  EXPECT_EQ(cluster.data(3), "abcd");
}

// A crash loses what was handed out and not written; nothing of it may have been promised.
TEST_F(AsyncStorage, AWriteThatACrashLostWasNeverAcknowledged) {
  cluster.isolate(3);
  cluster.nodes.at(2).hold_writes = true;
  cluster.propose(1, "a");
  EXPECT_EQ(cluster.data(1), "");
  cluster.start(2);
  cluster.nodes.at(2).hold_writes = false;
  cluster.tick_all(5);
  EXPECT_EQ(cluster.data(1), "a");  // sent again
  EXPECT_EQ(cluster.data(2), "a");
}

TEST(Priority, TheLeastWaitsOneMoreElectionTimeoutAndZeroNeverCampaignsByItself) {
  for (const auto& [priority, campaigns_by] : {std::pair{100, 20}, {50, 25}, {1, 30}, {0, 0}}) {
    TestCluster cluster({1, 2, 3}, {}, [p = priority](Config& config) { config.priority = p; });
    cluster.isolate(2);
    int ticks = 0;
    while (cluster[2].role() == Role::kFollower && ticks < 1000) {
      cluster.tick(2);
      ++ticks;
    }
    if (campaigns_by == 0) {
      EXPECT_EQ(cluster[2].role(), Role::kFollower);
      EXPECT_TRUE(cluster[2].campaign().is_ok());  // told to
    } else {
      EXPECT_LE(ticks, campaigns_by) << priority;
      EXPECT_GE(ticks, campaigns_by - 10) << priority;
    }
  }
}

TEST(Priority, ItIsNoMatterOfSafety) {
  TestCluster cluster({1, 2, 3}, {}, [](Config& config) { config.priority = 0; });
  cluster.elect(2);  // told to: elected with the votes of the others
  cluster.propose(2, "a");
  EXPECT_EQ(cluster.data(3), "a");
  cluster[3].set_priority(kMaxPriority);
  cluster.isolate(2);
  for (int i = 0; i < 60 && cluster[3].role() != Role::kLeader; ++i) cluster.tick_all();
  EXPECT_EQ(cluster[3].role(), Role::kLeader);
}

TEST(Priority, OutOfRangeIsRefused) {
  for (int priority : {-1, 101}) {
    Config config = TestCluster::default_config(1);
    config.priority = priority;
    EXPECT_EQ(config.validate().code(), Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace pgraft::raft
