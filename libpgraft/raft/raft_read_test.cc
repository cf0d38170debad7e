// Thesis 6.4: reads without log entries; the lease and what it is measured by.
#include "libpgraft/raft/raft_test_cluster.h"

namespace pgraft::raft {
namespace {

TEST(T64ReadIndex, AReadSeesWhatWasCommittedBeforeIt) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.propose(1, "a");
  const Index committed = cluster.commit(1);
  for (NodeId id : {1, 2}) {  // on the leader, and forwarded by a follower
    ASSERT_TRUE(cluster[id].read_index("ctx").is_ok());
    cluster.settle();
    ASSERT_EQ(cluster.nodes.at(id).reads.size(), 1u);
    EXPECT_EQ(cluster.nodes.at(id).reads[0].index, committed);
    EXPECT_EQ(cluster.nodes.at(id).reads[0].context, "ctx");
  }
}

TEST(T64ReadIndex, ALeaderThatIsCutOffDoesNotAnswer) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].read_index("ctx").is_ok());
  cluster.settle();
  EXPECT_TRUE(cluster.nodes.at(1).reads.empty());
  cluster.heal();
  cluster.tick_all(2);  // the next heartbeat asks again
  EXPECT_EQ(cluster.nodes.at(1).reads.size(), 1u);
}

TEST(T64ReadIndex, AnOldHeartbeatsAnswerConfirmsNothing) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  ASSERT_TRUE(cluster[1].read_index("one").is_ok());
  cluster.process_ready(1);
  while (cluster.deliver_one()) {
  }
  for (NodeId id : {2, 3}) cluster.process_ready(id);  // answers to the first read, on their way
  ASSERT_TRUE(cluster[1].read_index("two").is_ok());
  while (cluster.deliver_one()) {
  }
  cluster.isolate(1);
  cluster.settle();
  ASSERT_EQ(cluster.nodes.at(1).reads.size(), 1u);
  EXPECT_EQ(cluster.nodes.at(1).reads[0].context, "one");
}

TEST(T64ReadIndex, ANewLeaderAnswersOnlyAfterItsFirstCommit) {
  TestCluster cluster({1, 2, 3});
  cluster.lose = [](const Message& m) { return m.type == MessageType::kAppend; };
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  cluster.settle();
  ASSERT_EQ(cluster[1].role(), Role::kLeader);
  ASSERT_TRUE(cluster[1].read_index("ctx").is_ok());
  cluster.tick_all(2);
  EXPECT_TRUE(cluster.nodes.at(1).reads.empty());
  cluster.heal();
  cluster.tick_all(2);
  ASSERT_EQ(cluster.nodes.at(1).reads.size(), 1u);
  EXPECT_GE(cluster.nodes.at(1).reads[0].index, 2u);
}

TEST(T64ReadIndex, TwoFollowersMayUseTheSameContext) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  for (NodeId id : {2, 3}) ASSERT_TRUE(cluster[id].read_index("same").is_ok());
  cluster.settle();
  for (NodeId id : {2, 3}) EXPECT_EQ(cluster.nodes.at(id).reads.size(), 1u);
}

TEST(T64ReadIndex, ASoleVoterAnswersItselfAndWithoutALeaderItIsRefused) {
  TestCluster cluster({1}, {2});
  EXPECT_EQ(cluster[2].read_index("x").code(), Code::kNotLeader);
  cluster.elect(1);
  cluster.isolate(2);
  ASSERT_TRUE(cluster[1].read_index("x").is_ok());
  cluster.settle();
  EXPECT_EQ(cluster.nodes.at(1).reads.size(), 1u);
}

TEST(T64Lease, AnswersWithoutARoundWhileTheLeaseIsLive) {
  TestCluster cluster({1, 2, 3}, {}, [](Config& c) {
    c.lease_based_reads = true;
    c.priority = 0;
  });
  EXPECT_EQ(cluster[1].campaign().code(), Code::kFailedPrecondition);  // has just started
  cluster.tick_all(11);
  cluster.elect(1);
  cluster.tick_all(2);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].read_index("live").is_ok());
  cluster.settle();
  EXPECT_EQ(cluster.nodes.at(1).reads.size(), 1u);
  cluster.tick(1, 10);
  if (cluster[1].role() == Role::kLeader) {
    ASSERT_TRUE(cluster[1].read_index("expired").is_ok());
    cluster.settle();
    EXPECT_EQ(cluster.nodes.at(1).reads.size(), 1u);
  }
  // Voters keep to the lease: they don't forget the leader on a hint.
  cluster[2].report_leader_lost(1, 0);
  EXPECT_EQ(cluster[2].role(), Role::kFollower);
}

TEST(LeaseMeasure, IsTheTickThatAQuorumHasAnsweredAndNoLater) {
  TestCluster cluster({1, 2, 3, 4, 5});
  EXPECT_EQ(cluster[1].quorum_ack_tick(), 0u);
  cluster.tick(1, 3);
  cluster.elect(1);
  cluster.tick(1, 2);
  cluster.settle();
  EXPECT_EQ(cluster[1].now_ticks(), 5u);
  EXPECT_EQ(cluster[1].quorum_ack_tick(), 5u);
  EXPECT_EQ(cluster[2].quorum_ack_tick(), 0u);
  // One of five less than a quorum goes on answering.
  for (NodeId id : {3, 4, 5}) cluster.isolate(id);
  cluster.tick(1, 2);
  cluster.settle();
  EXPECT_EQ(cluster[1].quorum_ack_tick(), 5u);
  cluster.heal();
  cluster.isolate(4);
  cluster.isolate(5);
  cluster.tick(1);
  cluster.settle();
  EXPECT_EQ(cluster[1].quorum_ack_tick(), 8u);
  EXPECT_EQ(cluster[1].status().progress.at(5).idle_ticks, 3u);
  EXPECT_EQ(cluster[1].status().progress.at(3).idle_ticks, 0u);
}

TEST(LeaseMeasure, AFollowerKnowsWhenItHeardTheLeaderOfItsTerm) {
  TestCluster cluster({1, 2, 3});
  EXPECT_EQ(cluster[2].leader_heard_tick(), 0u);
  cluster.tick(2, 3);
  cluster.elect(1);
  EXPECT_EQ(cluster[2].leader_heard_tick(), 3u);
  EXPECT_EQ(cluster[1].leader_heard_tick(), 0u);
  cluster.tick(2, 2);
  cluster.tick(1);
  cluster.settle();
  EXPECT_EQ(cluster[2].leader_heard_tick(), 5u);
  cluster.isolate(2);
  cluster.tick(2, 4);
  cluster.tick(1);
  cluster.settle();
  EXPECT_EQ(cluster[2].leader_heard_tick(), 5u);
  // As soon as it asks for votes it knows of no leader.
  ASSERT_TRUE(cluster[2].campaign().is_ok());
  EXPECT_EQ(cluster[2].leader_heard_tick(), 0u);
}

TEST(LeaseMeasure, StartsAfreshInEachTermAndIsNotTakenFromTheFuture) {
  TestCluster cluster({1, 2, 3});
  cluster.tick(1, 5);
  cluster.elect(1);
  cluster.tick(1, 3);
  cluster.settle();
  EXPECT_EQ(cluster[1].quorum_ack_tick(), 8u);
  ASSERT_TRUE(cluster[1].transfer_leader(2).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].quorum_ack_tick(), 0u);
  cluster.cut_link(1, 2);
  cluster.cut_link(1, 3);
  Message message;
  message.type = MessageType::kHeartbeatResponse;
  message.from = 3;
  message.to = 2;
  message.term = cluster[2].term();
  message.stamp = 1000000;
  ASSERT_TRUE(cluster[2].step(message).is_ok());
  EXPECT_LE(cluster[2].quorum_ack_tick(), cluster[2].now_ticks());
}

TEST(LeaseMeasure, ASoleVoterIsItsOwnQuorumAndAJointOneNeedsBoth) {
  TestCluster sole({1});
  sole.tick(1, 4);
  sole.elect(1);
  EXPECT_EQ(sole[1].quorum_ack_tick(), sole[1].now_ticks());

  TestCluster cluster({1, 2, 3});
  cluster.add_empty(4);
  cluster.add_empty(5);
  cluster.tick(1, 5);
  cluster.elect(1);
  cluster.change(1, {remove_node(2), remove_node(3), add_voter(4), add_voter(5)},
                 ConfChangeTransition::kExplicit);
  cluster.tick_all(2);
  const std::uint64_t before = cluster[1].quorum_ack_tick();
  EXPECT_EQ(before, cluster[1].now_ticks());
  for (NodeId id : {4, 5}) cluster.isolate(id);
  cluster.tick(1, 2);
  cluster.settle();
  EXPECT_EQ(cluster[1].quorum_ack_tick(), before);
}

}  // namespace
}  // namespace pgraft::raft
