// The thesis' section 6.4.1, reads by a lease: when there is one, and what voters do for it. See
// thesis_clients_test.cc for random schedules.
#include "libpgraft/raft/paper_test.h"

namespace pgraft::raft {
namespace {

// Three nodes that have been up for longer than the shortest election timeout, 10 ticks.
TestCluster cluster_with_lease(Switches rules = {}) {
  TestCluster cluster({1, 2, 3}, {}, [rules](Config& c) {
    c.lease_based_reads = true;
    c.rules = rules;
  });
  for (NodeId id : {1, 2, 3}) {
    cluster[id].set_randomized_election_timeout(19);
    cluster.tick(id, 11);
  }
  return cluster;
}

// Node 1, which leads but is cut off from a leader of a later term, is asked for a read.
bool reads_stale_at_1(TestCluster& cluster, NodeId new_leader) {
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
  EXPECT_EQ(cluster[new_leader].role(), Role::kLeader);
  cluster.propose(new_leader, "x");
  EXPECT_TRUE(cluster[1].read_index("r").is_ok());
  cluster.settle();
  const std::vector<Index> reads = answered(cluster, 1);
  return !reads.empty() && reads[0] < cluster.commit(new_leader);
}

// It begins when a quorum has answered in this term, so that a new leader has none.
TEST(Thesis6_4_1, ANewLeaderHasNoLeaseBeforeItIsAnswered) {
  TestCluster cluster = cluster_with_lease();
  cluster.elect(1);
  cluster.tick_all(3);
  cluster.lose = [](const Message& m) {
    return m.to == 2 && m.type == MessageType::kAppendResponse;
  };
  ASSERT_TRUE(cluster[1].transfer_leader(2).is_ok());
  cluster.settle();
  ASSERT_EQ(cluster[2].role(), Role::kLeader);
  EXPECT_EQ(cluster[2].quorum_ack_tick(), 0u);
  cluster.heal();
  cluster.tick_all(1);
  ASSERT_TRUE(cluster[2].own_term_applied());
  EXPECT_EQ(cluster[2].quorum_ack_tick(), 15u);
  cluster.isolate(2);
  cluster.tick(2, 10);
  ASSERT_EQ(cluster[2].role(), Role::kLeader);
  ASSERT_TRUE(cluster[2].read_index("r").is_ok());
  cluster.settle();
  EXPECT_TRUE(answered(cluster, 2).empty());
}

// It ends an election timeout after the messages that were answered were sent, not after the
// answers came.
TEST(Thesis6_4_1, TheLeaseIsCountedFromWhenTheMessagesWereSent) {
  TestCluster cluster = cluster_with_lease();
  cluster.elect(1);
  cluster.tick_all(1);
  cluster.tick(1);  // sent at tick 13 ...
  process(cluster, 1);
  cluster.tick(1, 5);  // ... answered at tick 18
  cluster.in_flight.erase(cluster.in_flight.begin() + 2, cluster.in_flight.end());
  while (cluster.deliver_one()) {
  }
  for (NodeId id : {2, 3}) process(cluster, id);
  while (cluster.deliver_one()) {
  }
  EXPECT_EQ(cluster[1].quorum_ack_tick(), 13u);
  cluster.isolate(1);
  for (const auto& [tick, live] : {std::pair<std::uint64_t, bool>{22, true}, {23, false}}) {
    while (cluster[1].now_ticks() < tick) cluster.tick(1);
    ASSERT_EQ(cluster[1].role(), Role::kLeader);
    cluster.nodes.at(1).reads.clear();
    ASSERT_TRUE(cluster[1].read_index("r").is_ok());
    process(cluster, 1);
    EXPECT_EQ(!answered(cluster, 1).empty(), live) << tick;
  }
}

// A transfer lets another one be elected at once, so there is no lease while it is under way.
TEST(Thesis6_4_1, NoLeaseWhileLeadershipIsTransferred) {
  TestCluster cluster = cluster_with_lease();
  cluster.elect(1);
  cluster.tick_all(2);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].transfer_leader(2).is_ok());
  ASSERT_TRUE(cluster[1].read_index("r").is_ok());
  cluster.settle();
  EXPECT_TRUE(answered(cluster, 1).empty());
}

// Nor later in its term: the order to campaign may have been delayed, and whoever gets it is
// elected in spite of every lease.
TEST(Thesis6_4_1, NoLeaseInATermInWhichATransferWasGivenUp) {
  for (const bool rule : {true, false}) {
    for (const bool called_off : {true, false}) {
      Switches rules;
      rules.transfer_ends_lease = rule;
      TestCluster cluster = cluster_with_lease(rules);
      cluster.elect(1);
      cluster.tick_all(2);
      ASSERT_TRUE(cluster[1].transfer_leader(2).is_ok());
      process(cluster, 1);
      const std::vector<Message> order = cluster.take(MessageType::kTimeoutNow);
      ASSERT_EQ(order.size(), 1u);
      if (called_off) {
        ASSERT_TRUE(cluster[1].transfer_leader(1).is_ok());
      }
      cluster.tick_all(12);
      ASSERT_EQ(cluster[1].status().transferee, kNoNode);
      connect_only(cluster, {2, 3});
      cluster.in_flight.push_back(order[0]);
      cluster.cut.erase({1, 2});
      cluster.deliver_one();
      cluster.isolate(1);
      cluster.settle();
      EXPECT_EQ(reads_stale_at_1(cluster, 2), !rule) << called_off;
    }
  }
}

// A lease holds although a voter has forgotten the leader whom it answered: in a restart, or by a
// late message of a newer term. Node 3 has heard nobody for long; node 2 has answered just now.
TEST(Thesis6_4_1, AVoterKeepsToALeaseOfALeaderThatItHasForgotten) {
  for (const bool rule : {true, false}) {
    for (const bool restarted : {true, false}) {
      Switches rules;
      rules.lease_binds_voters = rule;
      TestCluster cluster = cluster_with_lease(rules);
      cluster.elect(1);
      cluster.isolate(3);
      cluster.tick(3, 11);
      cluster.tick(1);
      cluster.settle();
      if (restarted) {
        cluster.start(2);
      } else {
        Message refusal = message_of(MessageType::kVoteResponse, 3, 2, cluster[2].term() + 1);
        refusal.reject = true;
        exchange(cluster, refusal);
      }
      ASSERT_EQ(cluster[2].leader(), kNoNode);
      connect_only(cluster, {2, 3});
      for (int i = 0; i < 3 && cluster[3].role() != Role::kLeader; ++i) {
        ASSERT_TRUE(cluster[3].campaign().is_ok());
        cluster.settle();
      }
      if (rule) {
        EXPECT_NE(cluster[3].role(), Role::kLeader) << restarted;
        EXPECT_EQ(cluster[2].campaign().code(), Code::kFailedPrecondition);
        ASSERT_TRUE(cluster[1].read_index("r").is_ok());
        process(cluster, 1);
        EXPECT_EQ(answered(cluster, 1).size(), 1u);
      } else {
        EXPECT_TRUE(reads_stale_at_1(cluster, 3)) << restarted;
      }
    }
  }
}

// The first tick that a voter counts may come at once: it waits for one more than the lease has.
TEST(Thesis6_4_1, AVoterWaitsForAsLongAsTheLeaseWhereverItsTicksFall) {
  TestCluster cluster = cluster_with_lease();
  cluster.elect(1);
  cluster.tick_all(2);
  cluster.isolate(1);
  for (NodeId id : {2, 3}) cluster.tick(id, 10);
  cluster.tick(1, 9);
  EXPECT_EQ(cluster[2].campaign().code(), Code::kFailedPrecondition);
  ASSERT_TRUE(cluster[1].read_index("r").is_ok());
  process(cluster, 1);
  EXPECT_EQ(std::exchange(cluster.nodes.at(1).reads, {}).size(), 1u);
  for (NodeId id : {1, 2, 3}) cluster.tick(id);
  cluster.elect(2);
  EXPECT_FALSE(reads_stale_at_1(cluster, 2));
}

// Whoever has stored no term has answered no leader; where storage works beside the core it may
// have.
TEST(Thesis6_4_1, AVoterThatHasNeverBeenInATermKeepsToNoLease) {
  for (const Term stored : {0, 1}) {
    TestCluster cluster({1, 2, 3}, {}, [](Config& c) { c.lease_based_reads = true; });
    for (NodeId id : {1, 2, 3}) {
      cluster.log(id).hard.term = stored;
      cluster.start(id);
    }
    const bool at_once = stored == 0 && !TestCluster::asynchronous();
    EXPECT_EQ(cluster[1].campaign().is_ok(), at_once) << stored;
    cluster.settle();
    EXPECT_EQ(cluster[1].role() == Role::kLeader, at_once) << stored;
  }
}

// What it costs: nodes that all start at once elect a leader one tick later at worst. A transfer is
// not held up.
TEST(Thesis6_4_1, VotersThatHaveJustStartedElectALeaderAndFollowATransfer) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    TestCluster cluster({1, 2, 3}, {}, [seed](Config& c) {
      c.lease_based_reads = true;
      c.seed = seed_of(seed, c.id);
    });
    ASSERT_TRUE(tick_until(
        cluster, [&] { return leader_of(cluster) != kNoNode; }, 100))
        << seed;
    const NodeId leader = leader_of(cluster);
    const NodeId to = leader % 3 + 1;
    const NodeId other = to % 3 + 1;
    cluster.tick_all(2);
    cluster.start(to);
    cluster.start(other);
    cluster.tick(leader);
    cluster.settle();
    ASSERT_TRUE(cluster[leader].transfer_leader(to).is_ok());
    cluster.settle();
    EXPECT_EQ(cluster[to].role(), Role::kLeader) << seed;
  }
}

// It takes a bound on how clocks differ: where the others' run faster a read may be stale. That is
// why the lease is an option, and off.
TEST(Thesis6_4_1, WithClocksThatDifferAReadByLeaseMayBeStale) {
  for (const bool same_rate : {true, false}) {
    TestCluster cluster = cluster_with_lease();
    cluster.elect(1);
    cluster.tick_all(2);
    cluster.isolate(1);
    for (int tick = 0; tick < 8; ++tick) {
      cluster.tick(1);
      for (NodeId id : {2, 3}) cluster.tick(id, same_rate ? 1 : 5);
      cluster.settle();
    }
    ASSERT_EQ(cluster[1].role(), Role::kLeader);
    const bool other = cluster[2].role() == Role::kLeader || cluster[3].role() == Role::kLeader;
    EXPECT_EQ(other, !same_rate);
    if (other) cluster.propose(leader_of(cluster), "x");
    const Index committed = cluster.commit(leader_of(cluster));
    ASSERT_TRUE(cluster[1].read_index("r").is_ok());
    cluster.settle();
    ASSERT_EQ(answered(cluster, 1).size(), 1u);
    EXPECT_EQ(answered(cluster, 1)[0] >= committed, same_rate);
  }
}

}  // namespace
}  // namespace pgraft::raft
