// Sections 5.1, 5.2 and 5.4.1; thesis 3.10 (transfer), 4.2.3 (disruptive servers), 6.2 and 9.6
// (pre-vote).
#include "libpgraft/raft/raft_test_cluster.h"

namespace pgraft::raft {
namespace {

void without_pre_vote(Config& config) {
  config.pre_vote = false;
  config.check_quorum = false;
}

Message vote_request(NodeId from, NodeId to, Term term, Index index, Term log_term) {
  Message message;
  message.type = MessageType::kVote;
  message.from = from;
  message.to = to;
  message.term = term;
  message.index = index;
  message.log_term = log_term;
  return message;
}

// Delivers to the node and returns its answer.
Message answer_to(TestCluster& cluster, const Message& request) {
  cluster.in_flight.clear();
  EXPECT_TRUE(cluster[request.to].step(request).is_ok());
  if (cluster[request.to].has_ready()) cluster.process_ready(request.to);
  if (cluster.in_flight.empty()) return {};
  Message answer = cluster.in_flight.front();
  cluster.in_flight.clear();
  return answer;
}

TEST(S51Terms, ANodeStartsAsFollower) {
  TestCluster cluster({1, 2, 3});
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  EXPECT_EQ(cluster[1].leader(), kNoNode);
}

TEST(S51Terms, ANewerTermMakesAnyRoleAFollowerOfThatTerm) {
  for (Role role : {Role::kFollower, Role::kCandidate, Role::kLeader}) {
    TestCluster cluster({1, 2, 3}, {}, without_pre_vote);
    if (role != Role::kFollower) {
      ASSERT_TRUE(cluster[1].campaign().is_ok());
    }
    if (role == Role::kLeader) cluster.settle();
    ASSERT_EQ(cluster[1].role(), role);
    Message message;
    message.type = MessageType::kAppend;
    message.from = 2;
    message.to = 1;
    message.term = 9;
    ASSERT_TRUE(cluster[1].step(message).is_ok());
    EXPECT_EQ(cluster[1].role(), Role::kFollower);
    EXPECT_EQ(cluster[1].term(), 9u);
    EXPECT_EQ(cluster[1].leader(), 2u);
  }
}

TEST(S51Terms, RequestsOfAnOlderTermChangeNothing) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  const HardState before = cluster.hard(2);
  const Message answer = answer_to(cluster, vote_request(3, 2, before.term - 1, 100, 100));
  EXPECT_EQ(answer.to, kNoNode);
  EXPECT_EQ(cluster.hard(2), before);
}

TEST(S52Election, AFollowerCampaignsAfterARandomTimeWithoutALeader) {
  std::set<int> seen;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    TestCluster cluster({1, 2, 3}, {}, [seed](Config& c) { c.seed = seed; });
    int ticks = 0;
    while (cluster[1].role() == Role::kFollower && ticks < 100) cluster.tick(1), ++ticks;
    seen.insert(ticks);
    EXPECT_GE(ticks, 10);
    EXPECT_LE(ticks, 19);
  }
  EXPECT_EQ(seen.size(), 10u);
}

TEST(S52Election, TheSameSeedGivesTheSameTimeoutsAndNodesDiffer) {
  auto timeout = [](NodeId id, std::uint64_t seed) {
    TestCluster cluster({1, 2, 3, 4, 5, 6, 7, 8}, {}, [seed](Config& c) { c.seed = seed; });
    int ticks = 0;
    while (cluster[id].role() == Role::kFollower) cluster.tick(id), ++ticks;
    return ticks;
  };
  std::set<int> of_nodes;
  for (NodeId id = 1; id <= 8; ++id) {
    EXPECT_EQ(timeout(id, 3), timeout(id, 3));
    of_nodes.insert(timeout(id, 3));
  }
  EXPECT_GT(of_nodes.size(), 1u);
}

// Nodes that share a seed must not draw one and the same sequence, one of them some draws ahead.
TEST(S52Election, NodesOfOneSeedDrawSequencesOfTheirOwn) {
  constexpr std::size_t kDraws = 40;
  constexpr std::size_t kShift = 10;
  for (const std::uint64_t seed : {0, 7}) {
    const auto timeouts = [seed](NodeId id) {
      TestCluster cluster({1, 2, 3, 4, 5}, {}, [seed](Config& c) {
        without_pre_vote(c);
        c.seed = seed;
      });
      std::vector<int> draws;
      for (int ticks = 1; draws.size() < kDraws; ++ticks) {
        const Term before = cluster[id].term();
        cluster.tick(id);
        if (cluster[id].term() == before) continue;
        draws.push_back(ticks);
        ticks = 0;
      }
      return draws;
    };
    for (NodeId one = 1; one <= 5; ++one) {
      const std::vector<int> ahead = timeouts(one);
      for (NodeId other = 1; other <= 5; ++other) {
        const std::vector<int> behind = timeouts(other);
        for (std::size_t shift = 0; one != other && shift < kShift; ++shift) {
          EXPECT_FALSE(std::equal(ahead.begin() + static_cast<std::ptrdiff_t>(shift), ahead.end(),
                                  behind.begin()))
              << one << " " << other << " " << shift;
        }
      }
    }
  }
}

TEST(S52Election, ACandidateIncrementsItsTermVotesForItselfAndAsksTheOthers) {
  TestCluster cluster({1, 2, 3}, {4}, without_pre_vote);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  EXPECT_EQ(cluster[1].role(), Role::kCandidate);
  cluster.process_ready(1);
  EXPECT_EQ(cluster.log(1).hard, (HardState{2, 1, 1}));  // durable before the requests leave
  const auto requests = cluster.take(MessageType::kVote);
  ASSERT_EQ(requests.size(), 2u);  // not the learner
  EXPECT_EQ(requests[0].to, 2u);
  EXPECT_EQ(requests[1].to, 3u);
  EXPECT_EQ(requests[0].term, 2u);
  EXPECT_EQ(requests[0].index, 1u);
  EXPECT_EQ(requests[0].log_term, 1u);
}

TEST(S52Election, AMajorityElectsAMinorityDoesNot) {
  struct Case {
    std::size_t nodes, down;
    bool wins;
  };
  for (const Case& c : {Case{1, 0, true},
                        {2, 0, true},
                        {2, 1, false},
                        {3, 1, true},
                        {3, 2, false},
                        {5, 2, true},
                        {5, 3, false},
                        {4, 2, false}}) {
    std::vector<NodeId> ids;
    for (NodeId id = 1; id <= c.nodes; ++id) ids.push_back(id);
    TestCluster cluster(ids);
    for (NodeId id = 2; id < 2 + c.down; ++id) cluster.isolate(id);
    ASSERT_TRUE(cluster[1].campaign().is_ok());
    cluster.settle();
    EXPECT_EQ(cluster[1].role() == Role::kLeader, c.wins) << c.nodes << " nodes, " << c.down;
  }
}

TEST(S52Election, RefusedByAMajorityACandidateIsAFollowerAgain) {
  TestCluster cluster({1, 2, 3}, {}, without_pre_vote);
  for (NodeId id : {2, 3}) cluster.log(id).append_terms({1}), cluster.start(id);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  EXPECT_EQ(cluster[1].term(), 2u);
}

TEST(S52Election, OneVoteATermFirstComeFirstServedAndRepeatable) {
  TestCluster cluster({1, 2, 3});
  EXPECT_FALSE(answer_to(cluster, vote_request(1, 3, 5, 1, 1)).reject);
  EXPECT_TRUE(answer_to(cluster, vote_request(2, 3, 5, 1, 1)).reject);
  EXPECT_FALSE(answer_to(cluster, vote_request(1, 3, 5, 1, 1)).reject);
  EXPECT_EQ(cluster.log(3).hard.vote, 1u);
}

TEST(S52Election, AVoteSurvivesARestart) {
  TestCluster cluster({1, 2, 3});
  EXPECT_FALSE(answer_to(cluster, vote_request(1, 3, 5, 1, 1)).reject);
  EXPECT_TRUE(cluster.nodes.at(3).readies.back().must_sync);
  cluster.start(3);
  EXPECT_TRUE(answer_to(cluster, vote_request(2, 3, 5, 1, 1)).reject);
  EXPECT_FALSE(answer_to(cluster, vote_request(1, 3, 5, 1, 1)).reject);
}

TEST(S52Election, ACandidateThatHearsTheLeaderOfItsTermFollowsIt) {
  TestCluster cluster({1, 2, 3}, {}, without_pre_vote);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  ASSERT_TRUE(cluster[2].campaign().is_ok());
  cluster.cut_link(1, 3);
  cluster.cut_link(1, 2);
  cluster.settle();
  ASSERT_EQ(cluster[2].role(), Role::kLeader);
  ASSERT_EQ(cluster[1].role(), Role::kCandidate);
  ASSERT_EQ(cluster[1].term(), cluster[2].term());
  cluster.heal();
  cluster.tick(2);
  cluster.settle();
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  EXPECT_EQ(cluster[1].leader(), 2u);
}

TEST(S52Election, ASplitVoteIsFollowedByAnotherElection) {
  TestCluster cluster({1, 2, 3}, {}, without_pre_vote);
  for (NodeId id : {1, 2, 3}) ASSERT_TRUE(cluster[id].campaign().is_ok());
  cluster.settle();
  for (NodeId id : {1, 2, 3}) EXPECT_NE(cluster[id].role(), Role::kLeader);
  for (int i = 0; i < 200; ++i) {
    cluster.tick_all();
    for (NodeId id : {1, 2, 3}) {
      if (cluster[id].role() == Role::kLeader) return;
    }
  }
  FAIL() << "no leader";
}

TEST(S52Election, ASoleVoterLeadsOnceItsVoteIsDurable) {
  TestCluster cluster({1}, {}, without_pre_vote);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  EXPECT_EQ(cluster[1].role(), Role::kCandidate);
  cluster.process_ready(1);
  EXPECT_EQ(cluster.log(1).hard.vote, 1u);
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
}

TEST(S541Restriction, AVoterRefusesALogThatIsLessUpToDate) {
  struct Case {
    std::vector<Term> own;  // after the base entry (index 1, term 1)
    Index index;
    Term term;
    bool granted;
  };
  for (const Case& c : std::vector<Case>{{{2}, 2, 2, true},
                                         {{2}, 5, 1, false},     // longer, but an older last term
                                         {{2, 2}, 2, 3, true},   // shorter, but a newer one
                                         {{2, 2}, 2, 2, false},  // same term, shorter
                                         {{2}, 3, 2, true}}) {
    TestCluster cluster({1, 2});
    cluster.log(2).append_terms(c.own);
    cluster.log(2).hard.term = 3;
    cluster.start(2);
    const Message answer = answer_to(cluster, vote_request(1, 2, 7, c.index, c.term));
    EXPECT_EQ(!answer.reject, c.granted) << c.index << "/" << c.term;
  }
}

TEST(S541Restriction, ALeaderHasAllCommittedEntries) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(3);
  cluster.propose(1, "a");
  cluster.heal();
  cluster.isolate(1);
  cluster[2].forget_leader();
  ASSERT_TRUE(cluster[3].campaign().is_ok());
  cluster.settle();
  EXPECT_NE(cluster[3].role(), Role::kLeader);
  cluster[3].forget_leader();
  cluster.elect(2);
  EXPECT_EQ(cluster.data(3), "a");
}

TEST(T96PreVote, ACutOffNodeDoesNotRaiseItsTermAndDoesNotDisturbOnReturn) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  const Term term = cluster[1].term();
  cluster.isolate(3);
  cluster.tick_all(100);
  EXPECT_EQ(cluster[3].role(), Role::kPreCandidate);
  EXPECT_EQ(cluster[3].term(), term);
  cluster.heal();
  cluster.tick_all(3);
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
  EXPECT_EQ(cluster[1].term(), term);
  EXPECT_EQ(cluster[3].leader(), 1u);
}

TEST(T96PreVote, APreVoteChangesNeitherTermNorVoteOfTheVoter) {
  TestCluster cluster({1, 2, 3});
  const HardState before = cluster.hard(2);
  Message request = vote_request(1, 2, before.term + 1, 1, 1);
  request.type = MessageType::kPreVote;
  const Message answer = answer_to(cluster, request);
  EXPECT_EQ(answer.type, MessageType::kPreVoteResponse);
  EXPECT_FALSE(answer.reject);
  EXPECT_EQ(answer.term, before.term + 1);
  EXPECT_EQ(cluster.hard(2), before);
}

TEST(T96PreVote, APreCandidateWithAnOldTermLearnsTheNewOne) {
  TestCluster cluster({1, 2, 3});
  cluster.isolate(3);
  cluster.elect(1);
  cluster.heal();
  // Node 3 knows nothing of the leader; the others lost it.
  cluster.isolate(1);
  cluster[2].forget_leader();
  ASSERT_TRUE(cluster[3].campaign().is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[3].role(), Role::kFollower);
  EXPECT_EQ(cluster[3].term(), cluster[2].term());
}

TEST(S6Disruption, AVoterThatHearsALeaderIgnoresCampaignsAndKeepsItsTerm) {
  TestCluster cluster({1, 2, 3}, {}, [](Config& c) { c.pre_vote = false; });
  cluster.elect(1);
  const HardState before = cluster.hard(2);
  EXPECT_EQ(answer_to(cluster, vote_request(3, 2, before.term + 5, 99, 99)).to, kNoNode);
  EXPECT_EQ(cluster.hard(2), before);
  cluster.tick(2, 10);
  EXPECT_FALSE(answer_to(cluster, vote_request(3, 2, before.term + 5, 99, 99)).reject);
  EXPECT_EQ(cluster.hard(2).vote, 3u);
}

TEST(T62CheckQuorum, ALeaderThatHearsNoQuorumStepsDown) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(1);
  for (int i = 0; i < 20 && cluster[1].role() == Role::kLeader; ++i) cluster.tick(1);
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  EXPECT_EQ(cluster[1].leader(), kNoNode);
}

TEST(T62CheckQuorum, ALeaderThatHearsAQuorumStays) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(3);
  cluster.tick_all(100);
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
}

TEST(T310Transfer, ATargetThatIsUpToDateTakesOverAtOnceInSpiteOfStickiness) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[3].role(), Role::kLeader);
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
}

TEST(T310Transfer, AFollowerForwardsTheRequestToTheLeader) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  ASSERT_TRUE(cluster[2].transfer_leader(3).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[3].role(), Role::kLeader);
}

TEST(T310Transfer, ATargetThatIsBehindIsCaughtUpFirst) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(3);
  for (int i = 0; i < 20; ++i) cluster.propose(1, "x");
  cluster.heal();
  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  cluster.settle();
  cluster.tick_all(3);
  EXPECT_EQ(cluster[3].role(), Role::kLeader);
  EXPECT_EQ(cluster.data(3), std::string(20, 'x'));
}

TEST(T310Transfer, ProposalsAreRefusedMeanwhileAndItIsGivenUpAfterAnElectionTimeout) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(3);
  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].propose("x").code(), Code::kNotLeader);
  EXPECT_EQ(cluster[1].status().transferee, 3u);
  cluster.tick_all(10);
  EXPECT_EQ(cluster[1].status().transferee, kNoNode);
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
  EXPECT_TRUE(cluster[1].propose("x").is_ok());
}

TEST(T310Transfer, ALearnerOrAStrangerIsNoTarget) {
  TestCluster cluster({1, 2}, {3});
  cluster.elect(1);
  EXPECT_EQ(cluster[1].transfer_leader(3).code(), Code::kFailedPrecondition);
  EXPECT_EQ(cluster[1].transfer_leader(9).code(), Code::kNotFound);
  EXPECT_EQ(cluster[1].status().transferee, kNoNode);
}

TEST(LeaderLost, TheNodeCampaignsAtOnceAndThoseThatSawItTooGrant) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(1);
  cluster[3].report_leader_lost(1, 5);
  cluster[2].report_leader_lost(1, 0);
  cluster.settle();
  EXPECT_EQ(cluster[2].role(), Role::kLeader);
  EXPECT_EQ(cluster[3].leader(), 2u);
}

TEST(LeaderLost, OneFlakyConnectionDoesNotDeposeAHealthyLeader) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  const Term term = cluster[1].term();
  cluster[2].report_leader_lost(1, 0);
  cluster.settle();
  EXPECT_EQ(cluster[2].role(), Role::kPreCandidate);
  cluster.tick_all(2);
  EXPECT_EQ(cluster[2].leader(), 1u);
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
  EXPECT_EQ(cluster[1].term(), term);
}

TEST(LeaderLost, TheDelayIsKeptAndHearingTheLeaderCallsItOff) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster[2].report_leader_lost(1, 3);
  cluster.tick(2, 2);
  EXPECT_EQ(cluster[2].role(), Role::kFollower);
  cluster.tick(2);
  EXPECT_EQ(cluster[2].role(), Role::kPreCandidate);

  cluster[3].report_leader_lost(1, 3);
  cluster.tick(3, 2);
  cluster.tick(1);  // a heartbeat
  cluster.in_flight.clear();
  cluster.process_ready(1);
  cluster.settle();
  cluster.tick(3, 5);
  EXPECT_EQ(cluster[3].role(), Role::kFollower);
  // Its stickiness is back, too.
  EXPECT_EQ(answer_to(cluster, vote_request(2, 3, 50, 99, 99)).to, kNoNode);
}

TEST(LeaderLost, AnotherNodeThanTheLeaderChangesNothing) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster[2].report_leader_lost(3, 0);
  EXPECT_EQ(cluster[2].role(), Role::kFollower);
  EXPECT_FALSE(cluster[2].has_ready());
}

TEST(StepDown, TheLeaderFollowsAndHoldsOffLongerThanItsTimeout) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster[1].step_down(50);
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  EXPECT_EQ(cluster[1].leader(), kNoNode);
  cluster.isolate(1);
  cluster.tick(1, 59);  // 50 and the shortest timeout
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  cluster.tick(1, 10);
  EXPECT_EQ(cluster[1].role(), Role::kPreCandidate);
  cluster.tick_all(60);
  EXPECT_TRUE(cluster[2].role() == Role::kLeader || cluster[3].role() == Role::kLeader);
}

TEST(ElectionDelay, IsAddedToTheTimeout) {
  TestCluster cluster({1, 2, 3});
  cluster[1].set_randomized_election_timeout(10);
  cluster[1].set_election_delay(7);
  cluster.tick(1, 16);
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  cluster.tick(1);
  EXPECT_EQ(cluster[1].role(), Role::kPreCandidate);
}

TEST(ForgetLeader, TheFollowerMayVoteAgainAndFollowsWhenItHears) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster[2].forget_leader();
  EXPECT_EQ(cluster[2].leader(), kNoNode);
  cluster.tick_all(1);
  EXPECT_EQ(cluster[2].leader(), 1u);
}

}  // namespace
}  // namespace pgraft::raft
