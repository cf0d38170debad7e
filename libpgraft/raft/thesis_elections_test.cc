// The thesis' 3.10 (leadership transfer) and 9.6 (pre-vote), a test a rule: what
// raft_election_test.cc does not show.
#include "libpgraft/raft/figure3.h"

namespace pgraft::raft {
namespace {

// --- 3.10

// The target is told to campaign when it has all of the leader's log, and not before.
TEST(Thesis3_10, TheTargetIsToldWhenItsLogIsComplete) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(3);
  for (int i = 0; i < 3; ++i) cluster.propose(1, "x");
  const Index last = cluster[1].status().last_index;
  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  const Term term = cluster[1].term();
  for (Index match = 2; match <= last; ++match) {
    bool told = false;
    for (const Message& m : exchange(cluster, acknowledgement_of(3, 1, term, match)))
      told |= m.type == MessageType::kTimeoutNow && m.to == 3;
    EXPECT_EQ(told, match == last) << match;
  }
}

// It campaigns at once: no timeout, no pre-vote, in the next term.
TEST(Thesis3_10, TheTargetCampaignsAtOnceInTheNextTerm) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  const Term term = cluster[1].term();
  const auto sent = exchange(cluster, message_of(MessageType::kTimeoutNow, 1, 3, term));
  EXPECT_EQ(cluster[3].role(), Role::kCandidate);
  EXPECT_EQ(cluster[3].term(), term + 1);
  ASSERT_EQ(sent.size(), 2u);
  for (const Message& m : sent) {
    EXPECT_EQ(m.type, MessageType::kVote);
    EXPECT_TRUE(m.transfer);
  }
}

// What the leader had accepted is not lost, and there is no gap: the new leader holds all of it.
TEST(Thesis3_10, WhatWasAcceptedBeforeATransferSurvivesIt) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  for (const char* data : {"a", "b", "c"}) ASSERT_TRUE(cluster[1].propose(data).is_ok());
  ASSERT_TRUE(cluster[1].transfer_leader(2).is_ok());
  cluster.settle();
  ASSERT_EQ(cluster[2].role(), Role::kLeader);
  cluster.tick_all(2);
  for (NodeId id : {1, 2, 3}) EXPECT_EQ(cluster.data(id), "abc") << id;
}

// The other rules of elections stand: a target that is told too early is not elected.
TEST(Thesis3_10, ATargetThatLacksCommittedEntriesIsNotElected) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(3);
  cluster.propose(1, "x");
  cluster.heal();
  const Term term = cluster[1].term();
  ASSERT_TRUE(cluster[3].step(message_of(MessageType::kTimeoutNow, 1, 3, term)).is_ok());
  cluster.settle();
  EXPECT_NE(cluster[3].role(), Role::kLeader);
}

// A target that does not make it within an election timeout is given up, wherever it failed, and
// the leader takes proposals again, in the same term.
TEST(Thesis3_10, AFailedTransferEndsAfterAnElectionTimeout) {
  for (const MessageType lost : {MessageType::kTimeoutNow, MessageType::kAppend}) {
    TestCluster cluster({1, 2, 3});
    cluster.elect(1);
    const Term term = cluster[1].term();
    cluster.lose = [lost](const Message& m) { return m.to == 3 && m.type == lost; };
    cluster.propose(1, "a");
    ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
    cluster.settle();
    cluster.tick_all(9);
    EXPECT_EQ(cluster[1].status().transferee, 3u);
    EXPECT_EQ(cluster[1].propose("b").code(), Code::kNotLeader);
    cluster.tick_all(1);
    EXPECT_EQ(cluster[1].status().transferee, kNoNode);
    cluster.propose(1, "c");
    EXPECT_EQ(cluster.data(2), "ac");
    EXPECT_EQ(cluster[1].term(), term);
  }
}

// Asking for the same again does not prolong it, or a client that repeats itself would stop the
// leader for good; another target begins anew; the leader itself calls it off.
TEST(Thesis3_10, ATransferIsNotProlongedButMayBeRedirectedOrCalledOff) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.lose = [](const Message& m) { return m.type == MessageType::kTimeoutNow; };
  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  for (int i = 0; i < 9; ++i) {
    cluster.tick_all(1);
    EXPECT_EQ(cluster[1].status().transferee, 3u);
    ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  }
  cluster.tick_all(1);
  EXPECT_EQ(cluster[1].status().transferee, kNoNode);

  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  cluster.tick_all(9);
  ASSERT_TRUE(cluster[1].transfer_leader(2).is_ok());
  cluster.tick_all(9);
  EXPECT_EQ(cluster[1].status().transferee, 2u);
  ASSERT_TRUE(cluster[1].transfer_leader(1).is_ok());
  EXPECT_EQ(cluster[1].status().transferee, kNoNode);
  EXPECT_TRUE(cluster[1].propose("x").is_ok());
}

// An order of an earlier term is void.
TEST(Thesis3_10, ALateOrderToCampaignIsIgnored) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  const Message late = message_of(MessageType::kTimeoutNow, 1, 3, cluster[1].term());
  for (NodeId id : {2, 3}) cluster[id].forget_leader();
  cluster.isolate(1);
  cluster.elect(2);
  const Term term = cluster[2].term();
  ASSERT_TRUE(cluster[3].step(late).is_ok());
  EXPECT_EQ(cluster[3].role(), Role::kFollower);
  EXPECT_EQ(cluster[3].term(), term);
}

// A leader that is deposed meanwhile has no transfer under way when it leads again.
TEST(Thesis3_10, ATransferEndsWithTheLeadersTerm) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.isolate(3);
  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  cluster.elect(2);
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  EXPECT_EQ(cluster[1].status().transferee, kNoNode);
  cluster.elect(1);
  EXPECT_TRUE(cluster[1].propose("x").is_ok());
}

// Inside a joint configuration a voter of either half may be the target; the configuration is left
// when the transfer is over, by whoever leads then.
TEST(Thesis3_10, InsideAJointConfigurationAVoterOfEitherHalfMayBeTheTarget) {
  for (const NodeId target : {2, 3, 4}) {
    for (const bool works : {true, false}) {
      TestCluster cluster({1, 2, 3}, {}, plain_raft);
      cluster.add_empty(4, plain_raft);
      cluster.elect(1);
      cluster.change(1, {remove_node(3), add_voter(4)}, ConfChangeTransition::kExplicit);
      cluster.tick_all(2);
      cluster.lose = [works](const Message& m) {
        return !works && m.type == MessageType::kTimeoutNow;
      };
      ASSERT_TRUE(cluster[1].transfer_leader(target).is_ok());
      cluster.settle();
      const NodeId leader = works ? target : 1;
      ASSERT_EQ(cluster[leader].role(), Role::kLeader) << target;
      if (!works) {
        EXPECT_EQ(cluster[1].propose_conf_change({}).code(), Code::kNotLeader);
        cluster.tick_all(10);
      }
      cluster.change(leader, {});
      cluster.tick_all(2);
      for (NodeId id : {1, 2, 4})
        EXPECT_EQ(cluster[id].status().conf.voters, (std::vector<NodeId>{1, 2, 4})) << target;
      EXPECT_EQ(cluster[3].role(), Role::kFollower);
    }
  }
}

// A target that only learns in the new configuration, or is gone from it, is given up when that is
// in effect.
TEST(Thesis3_10, ATransferToAVoterThatIsDemotedIsGivenUp) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.isolate(3);
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {add_learner(3)}, ""}).is_ok());
  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].status().conf.learners, std::vector<NodeId>{3});
  EXPECT_EQ(cluster[1].status().transferee, kNoNode);
  EXPECT_TRUE(cluster[1].propose("x").is_ok());
}

// --- 9.6

Message pre_vote(NodeId from, NodeId to, Term term, Index index, Term log_term) {
  return vote_of(MessageType::kPreVote, from, to, term, index, log_term);
}

// A candidate raises its term when a majority has said that it would vote for it.
TEST(Thesis9_6, TheTermIsRaisedOnlyWhenAMajorityWouldVote) {
  TestCluster cluster({1, 2, 3, 4, 5}, {6});
  const HardState before = cluster.hard(1);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  process(cluster, 1);
  std::set<NodeId> asked;
  for (const Message& m : cluster.take(MessageType::kPreVote)) {
    EXPECT_EQ(m.term, before.term + 1);
    asked.insert(m.to);
  }
  EXPECT_EQ(asked, (std::set<NodeId>{2, 3, 4, 5}));
  const auto grant = [&](NodeId from) {
    exchange(cluster, message_of(MessageType::kPreVoteResponse, from, 1, before.term + 1));
  };
  for (NodeId id : {2, 2, 6}) grant(id);  // one voter, twice, and a learner
  EXPECT_EQ(cluster[1].role(), Role::kPreCandidate);
  EXPECT_EQ(cluster.hard(1), before);
  grant(3);
  EXPECT_EQ(cluster[1].role(), Role::kCandidate);
  EXPECT_EQ(cluster.hard(1), (HardState{before.term + 1, 1, before.commit}));
}

// Pre-votes that were given for one election don't count for a later one: a grant for the term that
// the node has entered meanwhile, or for one before, is void.
TEST(Thesis9_6, PreVotesOfAnEarlierElectionDoNotCount) {
  for (const Term entered : {Term{2}, Term{5}}) {
    TestCluster cluster({1, 2, 3});
    ASSERT_TRUE(cluster[1].campaign().is_ok());
    process(cluster, 1);
    const Message late = message_of(MessageType::kPreVoteResponse, 2, 1, 2);
    exchange(cluster, message_of(MessageType::kHeartbeat, 3, 1, entered));
    ASSERT_TRUE(cluster[1].campaign().is_ok());
    exchange(cluster, late);
    EXPECT_EQ(cluster[1].role(), Role::kPreCandidate);
    EXPECT_EQ(cluster[1].term(), entered);
    exchange(cluster, message_of(MessageType::kPreVoteResponse, 2, 1, entered + 1));
    EXPECT_EQ(cluster[1].role(), Role::kCandidate);
  }
}

// A majority of refusals ends the attempt without a trace.
TEST(Thesis9_6, ALostPreVoteLeavesTermAndVoteAsTheyWere) {
  TestCluster cluster = cluster_with_logs({{}, {2}, {2}}, 2);
  const HardState before = cluster.hard(1);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  EXPECT_EQ(cluster[1].role(), Role::kPreCandidate);
  cluster.settle();
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  EXPECT_EQ(cluster.hard(1), before);
  for (NodeId id : {2, 3}) EXPECT_EQ(cluster[id].term(), 2u);
}

// A server that hears a leader would not vote. It does not answer either.
TEST(Thesis9_6, NoPreVoteWhereTheLeaderIsHeard) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  const Message request = pre_vote(3, 2, cluster[2].term() + 1, 99, 99);
  EXPECT_TRUE(exchange(cluster, request).empty());
  EXPECT_TRUE(exchange(cluster, pre_vote(3, 1, cluster[1].term() + 1, 99, 99)).empty());
  cluster.tick(2, 9);
  EXPECT_TRUE(exchange(cluster, request).empty());
  cluster.tick(2);
  const auto answers = exchange(cluster, request);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_FALSE(answers[0].reject);
}

// A pre-vote binds to nothing: any number of servers may get one, and each may still be refused the
// vote.
TEST(Thesis9_6, PreVotesAreGivenToAnyNumberOfServers) {
  TestCluster cluster({1, 2, 3});
  for (NodeId id : {1, 3, 1}) {
    const auto answers = exchange(cluster, pre_vote(id, 2, 2, 1, 1));
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_FALSE(answers[0].reject);
  }
  EXPECT_FALSE(exchange(cluster, vote_of(MessageType::kVote, 1, 2, 2, 1, 1)).at(0).reject);
  EXPECT_TRUE(exchange(cluster, vote_of(MessageType::kVote, 3, 2, 2, 1, 1)).at(0).reject);
}

// What it is for: without it a server that was cut off comes back with a great term and deposes a
// leader that serves everybody else.
TEST(Thesis9_6, WithoutPreVoteAServerThatWasCutOffDeposesTheLeader) {
  for (const bool pre_vote : {true, false}) {
    TestCluster cluster({1, 2, 3}, {}, [pre_vote](Config& c) { c.pre_vote = pre_vote; });
    cluster.elect(1);
    const Term term = cluster[1].term();
    cluster.isolate(3);
    cluster.tick_all(100);
    cluster.heal();
    cluster.tick_all(50);
    const NodeId leader = leader_of(cluster);
    ASSERT_NE(leader, kNoNode);
    EXPECT_EQ(cluster[leader].term() == term, pre_vote);
  }
}

// It does not stand in the way: whoever is up elects a leader, though all time out together, again
// and again, and though terms differ.
TEST(Thesis9_6, AMajorityThatIsUpElectsALeader) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    TestCluster cluster({1, 2, 3, 4, 5}, {}, [seed](Config& c) { c.seed = seed_of(seed, c.id); });
    Random random(seed);
    for (NodeId id = 1; id <= 5; ++id) {
      cluster.log(id).hard.term = 1 + random.below(4);
      cluster.start(id);
      cluster[id].set_randomized_election_timeout(10);
    }
    cluster.isolate(1 + random.below(5));
    EXPECT_TRUE(tick_until(
        cluster, [&] { return leader_of(cluster) != kNoNode; }, 300))
        << seed;
  }
}

}  // namespace
}  // namespace pgraft::raft
