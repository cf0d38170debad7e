// Section 6, thesis 4.1 to 4.3; rule 8 (changes), rule 10 (incarnations), PROTOCOL.md M4 and M5.
#include "libpgraft/raft/raft_test_cluster.h"

namespace pgraft::raft {
namespace {

TEST(T41SingleServer, ALearnerIsCaughtUpAndThenPromoted) {
  TestCluster cluster({1});
  cluster.elect(1);
  cluster.propose(1, "a");
  cluster.add_empty(2);
  cluster.change(1, {add_learner(2)});
  cluster.tick_all(2);
  EXPECT_EQ(cluster.data(2), "a");
  EXPECT_EQ(cluster.nodes.at(2).conf.learners, std::vector<NodeId>{2});
  // A learner doesn't count.
  cluster.isolate(2);
  cluster.propose(1, "b");
  EXPECT_EQ(cluster.data(1), "ab");
  cluster.heal();
  cluster.change(1, {add_voter(2)});
  cluster.tick_all(2);
  EXPECT_EQ(cluster.nodes.at(2).conf.voters, (std::vector<NodeId>{1, 2}));
  cluster.isolate(2);
  cluster.propose(1, "c");
  EXPECT_EQ(cluster.data(1), "ab");  // now it does
}

TEST(T41SingleServer, AChangeTakesEffectWhenApplied) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {remove_node(3)}, ""}).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].status().conf.voters, (std::vector<NodeId>{1, 2, 3}));
  EXPECT_TRUE(cluster[1].conf_change_pending());
  cluster.heal();
  cluster.tick_all(2);
  EXPECT_EQ(cluster[1].status().conf.voters, (std::vector<NodeId>{1, 2}));
  EXPECT_FALSE(cluster[1].conf_change_pending());
}

TEST(T41SingleServer, ASecondChangeWhileOneIsPendingBecomesAnEmptyEntry) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {add_learner(8)}, ""}).is_ok());
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {add_learner(9)}, ""}).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].status().conf.learners, std::vector<NodeId>{8});
  EXPECT_EQ(cluster.log(1).terms().size(), 3u);
}

TEST(T41SingleServer, ANewLeaderAdmitsNoneBeforeItsOwnTermIsApplied) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.propose(1, "x");
  cluster.lose = [](const Message& m) { return m.type == MessageType::kAppendResponse; };
  ASSERT_TRUE(cluster[1].transfer_leader(2).is_ok());
  cluster.settle();
  ASSERT_EQ(cluster[2].role(), Role::kLeader);
  EXPECT_FALSE(cluster[2].own_term_applied());
  cluster.heal();
  cluster.tick_all(3);
  EXPECT_TRUE(cluster[2].own_term_applied());
}

TEST(T41SingleServer, WhatCanNeverBeAppliedIsRefused) {
  TestCluster cluster({1});
  cluster.elect(1);
  EXPECT_EQ(cluster[1].propose_conf_change({{}, {remove_node(1)}, ""}).code(),
            Code::kInvalidArgument);
}

TEST(T41SingleServer, AChangeThatTheApplicationRefusesHasNoEffect) {
  TestCluster cluster({1, 2, 3});
  const ConfState before = cluster[1].status().conf;
  EXPECT_EQ(cluster[1].apply_conf_change({}), before);
}

TEST(S6Removal, ARemovedLeaderStepsDownAndTheOthersGoOn) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.change(1, {remove_node(1)});
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  EXPECT_EQ(cluster[2].status().conf.voters, (std::vector<NodeId>{2, 3}));
  cluster[2].forget_leader();
  cluster[3].forget_leader();
  cluster.elect(2);
  cluster.propose(2, "x");
  EXPECT_EQ(cluster.data(3), "x");
}

TEST(S6Removal, WithoutStepDownARemovedLeaderGoesOnUncounted) {
  TestCluster cluster({1, 2, 3}, {}, [](Config& c) { c.step_down_on_removal = false; });
  cluster.elect(1);
  cluster.change(1, {remove_node(1)});
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
  EXPECT_EQ(cluster[1].propose("x").code(), Code::kNotLeader);
}

TEST(S6Removal, ANodeThatItsConfigurationDoesNotHoldNeverCampaigns) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.change(1, {remove_node(3)});
  cluster.tick_all(2);
  ASSERT_EQ(cluster[3].status().conf.voters, (std::vector<NodeId>{1, 2}));
  cluster.isolate(3);
  cluster.tick(3, 100);
  EXPECT_EQ(cluster[3].role(), Role::kFollower);
  EXPECT_EQ(cluster[3].campaign().code(), Code::kFailedPrecondition);
}

TEST(S6Removal, AnswersOfARemovedNodeAreNotFound) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  Message message;
  message.type = MessageType::kAppendResponse;
  message.from = 9;
  message.to = 1;
  message.term = cluster[1].term();
  EXPECT_EQ(cluster[1].step(message).code(), Code::kNotFound);
}

TEST(S6Removal, ATransferToARemovedNodeIsGivenUp) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(3);
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {remove_node(3)}, ""}).is_ok());
  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].status().transferee, kNoNode);
}

TEST(M4Campaign, NobodyCampaignsWithACommittedChangeThatIsNotApplied) {
  TestCluster cluster({1, 2, 3});
  Message message;
  message.type = MessageType::kAppend;
  message.from = 1;
  message.to = 2;
  message.term = 2;
  message.index = 1;
  message.log_term = 1;
  message.commit = 2;
  message.entries = {
      {2, 2, EntryType::kConfChange, encode_conf_change({{}, {add_learner(4)}, ""})}};
  ASSERT_TRUE(cluster[2].step(message).is_ok());
  EXPECT_TRUE(cluster[2].conf_change_pending());
  EXPECT_EQ(cluster[2].campaign().code(), Code::kFailedPrecondition);
  cluster.tick(2, 100);
  EXPECT_EQ(cluster[2].role(), Role::kFollower);
  Message transfer;
  transfer.type = MessageType::kTimeoutNow;
  transfer.from = 1;
  transfer.to = 2;
  transfer.term = 2;
  ASSERT_TRUE(cluster[2].step(transfer).is_ok());
  EXPECT_EQ(cluster[2].role(), Role::kFollower);
  cluster.settle();
  EXPECT_FALSE(cluster[2].conf_change_pending());
  EXPECT_TRUE(cluster[2].campaign().is_ok());
}

TEST(M4bCommitDurability, ARestartedNodeStillKnowsThatAChangeIsCommitted) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "drives ready() and advance() itself";
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(2);
  cluster.change(1, {add_learner(4)});
  cluster.heal();
  // Node 2 gets the entry together with the commit index, and crashes before it applies it.
  cluster.nodes.at(2).hold_apply = true;
  for (int i = 0; i < 4; ++i) {
    cluster.tick(1);
    cluster.settle();
    if (!cluster[2].has_ready()) continue;
    const Ready ready = cluster[2].ready();
    cluster.log(2).append(ready.entries);
    if (ready.hard_state) cluster.log(2).hard = *ready.hard_state;
    for (const Message& m : ready.messages) cluster.in_flight.push_back(m);
    if (!ready.entries.empty()) break;
    cluster[2].advance();
  }
  ASSERT_EQ(cluster.log(2).last_index(), cluster.log(1).last_index());
  cluster.start(2);
  EXPECT_TRUE(cluster[2].conf_change_pending());
  EXPECT_EQ(cluster[2].campaign().code(), Code::kFailedPrecondition);
}

TEST(T43Joint, AutomaticLeaveSwapsSeveralVotersAtOnce) {
  for (ConfChangeTransition transition :
       {ConfChangeTransition::kAuto, ConfChangeTransition::kImplicit}) {
    TestCluster cluster({1, 2, 3});
    for (NodeId id : {4, 5}) cluster.add_empty(id);
    cluster.elect(1);
    cluster.change(1, {remove_node(2), remove_node(3), add_voter(4), add_voter(5)}, transition);
    cluster.tick_all(3);
    ConfState expected;
    expected.voters = {1, 4, 5};
    for (NodeId id : {1, 4, 5}) EXPECT_EQ(cluster[id].status().conf, expected) << id;
    cluster.propose(1, "x");
    EXPECT_EQ(cluster.data(5), "x");
  }
}

TEST(T43Joint, ExplicitStaysJointNeedsBothMajoritiesAndIsLeftByAnEmptyChange) {
  TestCluster cluster({1, 2, 3});
  for (NodeId id : {4, 5}) cluster.add_empty(id);
  cluster.elect(1);
  cluster.change(1, {remove_node(2), remove_node(3), add_voter(4), add_voter(5)},
                 ConfChangeTransition::kExplicit);
  cluster.tick_all(3);
  EXPECT_EQ(cluster[1].status().conf.voters_outgoing, (std::vector<NodeId>{1, 2, 3}));
  EXPECT_EQ(cluster[1].status().conf.voters, (std::vector<NodeId>{1, 4, 5}));

  cluster.isolate(2);
  cluster.isolate(3);  // a majority of the new half, not of the old
  ASSERT_TRUE(cluster[1].propose("x").is_ok());
  cluster.settle();
  EXPECT_EQ(cluster.data(1), "");
  cluster.heal();
  cluster.tick_all(3);
  EXPECT_EQ(cluster.data(1), "x");

  cluster.change(1, {add_learner(9)});  // not allowed now: an empty entry
  EXPECT_TRUE(cluster[1].status().conf.learners.empty());
  cluster.change(1, {});
  EXPECT_TRUE(cluster[1].status().conf.voters_outgoing.empty());
  EXPECT_EQ(cluster[1].status().conf.voters, (std::vector<NodeId>{1, 4, 5}));
}

TEST(T43Joint, ADemotedVoterIsALearnerWhenTheJointConfigurationIsLeft) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.change(1, {add_learner(3)}, ConfChangeTransition::kExplicit);
  EXPECT_EQ(cluster[1].status().conf.learners_next, std::vector<NodeId>{3});
  cluster.change(1, {});
  EXPECT_EQ(cluster[1].status().conf.learners, std::vector<NodeId>{3});
  EXPECT_TRUE(cluster[1].status().conf.learners_next.empty());
}

TEST(T43Joint, AutomaticLeaveIsFinishedByTheNextLeaderAndAfterAFailedTransfer) {
  TestCluster cluster({1, 2, 3});
  cluster.add_empty(4);
  cluster.elect(1);
  cluster.isolate(3);
  ASSERT_TRUE(cluster[1]
                  .propose_conf_change({ConfChangeTransition::kImplicit, {add_voter(4)}, ""})
                  .is_ok());
  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  cluster.settle();
  EXPECT_TRUE(cluster[1].status().conf.auto_leave);
  cluster.tick_all(12);
  EXPECT_FALSE(cluster[1].status().conf.auto_leave);
  EXPECT_TRUE(cluster[1].status().conf.voters_outgoing.empty());
}

// ... and when the transfer is called off: nothing else may come that is applied.
TEST(T43Joint, AutomaticLeaveGoesOnWhenATransferIsCalledOff) {
  TestCluster cluster({1, 2, 3});
  cluster.add_empty(4);
  cluster.elect(1);
  cluster.isolate(3);
  ASSERT_TRUE(cluster[1]
                  .propose_conf_change({ConfChangeTransition::kImplicit, {add_voter(4)}, ""})
                  .is_ok());
  ASSERT_TRUE(cluster[1].transfer_leader(3).is_ok());
  cluster.settle();
  ASSERT_TRUE(cluster[1].status().conf.auto_leave);
  ASSERT_TRUE(cluster[1].transfer_leader(1).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].status().transferee, kNoNode);
  EXPECT_TRUE(cluster[1].status().conf.voters_outgoing.empty());
}

TEST(T421Learners, ALearnerVotesWhenAskedButDoesNotCampaign) {
  TestCluster cluster({1, 2}, {3});
  cluster.tick(3, 100);
  EXPECT_EQ(cluster[3].role(), Role::kFollower);
  Message request;
  request.type = MessageType::kVote;
  request.from = 1;
  request.to = 3;
  request.term = 9;
  request.index = 1;
  request.log_term = 1;
  ASSERT_TRUE(cluster[3].step(request).is_ok());
  cluster.process_ready(3);
  ASSERT_EQ(cluster.in_flight.size(), 1u);
  EXPECT_FALSE(cluster.in_flight.front().reject);
}

TEST(Validation, SwitchedOffLetsAChangeIn) {
  TestCluster cluster({1}, {}, [](Config& c) { c.disable_conf_change_validation = true; });
  cluster.elect(1);
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {add_learner(8)}, ""}).is_ok());
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {add_learner(9)}, ""}).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].status().conf.learners, (std::vector<NodeId>{8, 9}));
}

// --- rule 10

void with_incarnation(Config& config) { config.incarnation = 100 + config.id; }

ConfState members(std::vector<NodeId> voters) {
  ConfState conf;
  for (NodeId id : voters) conf.incarnations[id] = 100 + id;
  conf.voters = std::move(voters);
  return conf;
}

TEST(Rule10Incarnation, MessagesCarryBothEndsAndTheConfigurationKeepsThem) {
  TestCluster cluster;
  for (NodeId id : {1, 2, 3}) cluster.add(id, members({1, 2, 3}), with_incarnation);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  cluster.process_ready(1);
  for (const Message& m : cluster.in_flight) {
    EXPECT_EQ(m.from_incarnation, 101u);
    EXPECT_EQ(m.to_incarnation, 100 + m.to);
  }
  cluster.settle();
  ASSERT_EQ(cluster[1].role(), Role::kLeader);
  cluster.change(1, {add_learner(4, 777)});
  EXPECT_EQ(cluster[2].status().conf.incarnations.at(4), 777u);
  cluster.change(1, {remove_node(4)});
  EXPECT_FALSE(cluster[2].status().conf.incarnations.contains(4));
}

TEST(Rule10Incarnation, WhatIsMeantForAnotherIncarnationIsDropped) {
  TestCluster cluster;
  for (NodeId id : {1, 2, 3}) cluster.add(id, members({1, 2, 3}), with_incarnation);
  Message message;
  message.type = MessageType::kAppend;
  message.from = 1;
  message.to = 2;
  message.term = 9;
  message.from_incarnation = 101;
  message.to_incarnation = 555;
  EXPECT_TRUE(cluster[2].step(message).is_ok());
  EXPECT_EQ(cluster[2].term(), 1u);
  message.to_incarnation = 102;
  EXPECT_TRUE(cluster[2].step(message).is_ok());
  EXPECT_EQ(cluster[2].term(), 9u);
}

TEST(Rule10Incarnation, AnAnswerOfAnotherIncarnationDoesNotCount) {
  TestCluster cluster;
  for (NodeId id : {1, 2, 3}) cluster.add(id, members({1, 2, 3}), with_incarnation);
  cluster.elect(1);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].propose("x").is_ok());
  cluster.settle();
  const Index before = cluster.commit(1);
  Message message;
  message.type = MessageType::kAppendResponse;
  message.from = 2;
  message.to = 1;
  message.term = cluster[1].term();
  message.index = cluster[1].status().last_index;
  message.from_incarnation = 555;
  EXPECT_TRUE(cluster[1].step(message).is_ok());
  EXPECT_EQ(cluster.commit(1), before);
  message.from_incarnation = 102;
  EXPECT_TRUE(cluster[1].step(message).is_ok());
  EXPECT_EQ(cluster.commit(1), before + 1);
}

TEST(Rule10Incarnation, AMemberIsNotReplacedInPlace) {
  TestCluster cluster;
  for (NodeId id : {1, 2, 3}) cluster.add(id, members({1, 2, 3}), with_incarnation);
  cluster.elect(1);
  EXPECT_EQ(cluster[1].propose_conf_change({{}, {add_voter(3, 555)}, ""}).code(),
            Code::kInvalidArgument);
  EXPECT_EQ(cluster[1]
                .propose_conf_change(
                    {ConfChangeTransition::kImplicit, {remove_node(3), add_voter(3, 555)}, ""})
                .code(),
            Code::kInvalidArgument);
}

TEST(Rule10Incarnation, ANodeThatSleptThroughAReplacementOfTheLeaderCatchesUp) {
  TestCluster cluster;
  for (NodeId id : {1, 2, 3, 4, 5}) cluster.add(id, members({1, 2, 3, 4, 5}), with_incarnation);
  cluster.elect(2);
  cluster.isolate(3);
  cluster.change(2, {remove_node(1)});
  cluster.nodes.erase(1);
  cluster.add_empty(1, [](Config& c) { c.incarnation = 501; });
  cluster.change(2, {add_learner(1, 501)});
  cluster.tick_all(2);
  cluster.change(2, {add_voter(1, 501)});
  cluster.tick_all(2);
  ASSERT_TRUE(cluster[2].transfer_leader(1).is_ok());
  cluster.settle();
  ASSERT_EQ(cluster[1].role(), Role::kLeader);
  ASSERT_EQ(cluster[3].status().conf.incarnations.at(1), 101u);
  cluster.heal();
  cluster.tick_all(5);
  EXPECT_EQ(cluster[3].leader(), 1u);
  EXPECT_EQ(cluster[3].status().applied, cluster[1].status().applied);
  EXPECT_EQ(cluster[3].status().conf.incarnations.at(1), 501u);
}

// A leader that votes no more itself has stepped down before the other voter heard that the change
// is committed. The other one's log is shorter, so it gets no vote; but it is told.
TEST(CommittedChange, IsLearnedFromWhoRefusesItsVote) {
  for (bool pre_vote : {false, true}) {
    TestCluster cluster({1, 2}, {}, [&](Config& c) { c.pre_vote = pre_vote; });
    cluster.elect(2);
    const Index change = cluster[2].status().last_index + 1;
    ASSERT_TRUE(cluster[2].propose_conf_change({{}, {add_learner(2)}, ""}).is_ok());
    ASSERT_TRUE(cluster[2].propose("x").is_ok());
    cluster.lose = [&](const Message& m) {
      return m.type == MessageType::kAppend && (m.index >= change || m.commit >= change);
    };
    cluster.settle();
    ASSERT_EQ(cluster[2].status().conf.learners, (std::vector<NodeId>{2}));
    ASSERT_EQ(cluster[2].role(), Role::kFollower);
    ASSERT_EQ(cluster[1].status().last_index, change);
    ASSERT_LT(cluster.commit(1), change);
    cluster.heal();
    cluster.tick_all(60);
    EXPECT_EQ(cluster[1].role(), Role::kLeader);
    EXPECT_EQ(cluster[1].status().conf.voters, (std::vector<NodeId>{1}));
    EXPECT_EQ(cluster.data(2), cluster.data(1));
  }
}

TEST(CommittedChange, OfAnotherLogIsNotLearned) {
  TestCluster cluster({1, 2});
  cluster.elect(1);
  const HardState before = cluster.hard(1);
  ASSERT_TRUE(cluster[1].propose("x").is_ok());
  cluster.process_ready(1);
  cluster.in_flight.clear();
  cluster[1].step_down(0);
  Message refusal;
  refusal.type = MessageType::kVoteResponse;
  refusal.from = 2;
  refusal.to = 1;
  refusal.term = before.term;
  refusal.reject = true;
  refusal.commit = before.commit + 1;
  refusal.log_term = before.term - 1;
  ASSERT_TRUE(cluster[1].step(refusal).is_ok());
  EXPECT_EQ(cluster.commit(1), before.commit);
  refusal.log_term = before.term;
  ASSERT_TRUE(cluster[1].step(refusal).is_ok());
  EXPECT_EQ(cluster.commit(1), before.commit + 1);
}

// PROTOCOL.md M5: five voters, term 2. 4's vote request to 3 is delayed; 1 wins, removes 3, 3 is
// wiped and comes back. Returns whether the old request then gets a second vote of node 3 in that
// term.
bool second_vote(bool check_incarnation) {
  TestCluster cluster;
  cluster.check_safety = false;
  const auto configure = [](Config& c) {
    c.incarnation = 100 + c.id;
    c.pre_vote = c.check_quorum = false;
  };
  for (NodeId id : {1, 2, 3, 4, 5}) cluster.add(id, members({1, 2, 3, 4, 5}), configure);
  EXPECT_TRUE(cluster[4].campaign().is_ok());
  cluster.process_ready(4);
  Message delayed;
  for (const Message& m : cluster.take(MessageType::kVote)) {
    if (m.to == 3) delayed = m;
    if (m.to == 5) cluster.deliver(m);
  }
  EXPECT_EQ(delayed.to_incarnation, 103u);
  cluster.isolate(4);
  cluster.isolate(5);
  EXPECT_TRUE(cluster[1].campaign().is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
  EXPECT_EQ(cluster[1].term(), delayed.term);
  EXPECT_EQ(cluster.log(3).hard.vote, 1u);
  cluster.change(1, {remove_node(3)});
  EXPECT_EQ(cluster[1].status().conf.voters, (std::vector<NodeId>{1, 2, 4, 5}));
  cluster.nodes.erase(3);
  // It has the old configuration again, as from an old base backup: only the incarnation tells.
  cluster.add(3, members({1, 2, 3, 4, 5}), [&](Config& c) {
    configure(c);
    c.incarnation = 999;
  });
  if (!check_incarnation) delayed.to_incarnation = 0;
  EXPECT_TRUE(cluster[3].step(delayed).is_ok());
  if (!cluster[3].has_ready()) return false;
  cluster.process_ready(3);
  return cluster.log(3).hard.vote == 4;
}

TEST(M5NewId, ADelayedVoteRequestGivesNoSecondVote) { EXPECT_FALSE(second_vote(true)); }

TEST(M5NewId, ItWouldWithoutTheCheck) { EXPECT_TRUE(second_vote(false)); }

TEST(M5NewId, ANodeThatHoldsNoConfigurationNeverGrantsAVote) {
  for (MessageType type : {MessageType::kVote, MessageType::kPreVote}) {
    TestCluster cluster;
    cluster.add_empty(3);
    Message request;
    request.type = type;
    request.from = 4;
    request.to = 3;
    request.term = 9;
    request.index = 100;
    request.log_term = 8;
    EXPECT_TRUE(cluster[3].step(request).is_ok());
    if (cluster[3].has_ready()) cluster.process_ready(3);
    EXPECT_EQ(cluster.hard(3).vote, kNoNode);
    for (const Message& m : cluster.in_flight) EXPECT_TRUE(m.reject);
  }
}

TEST(M5NewId, OneVoteATermForTwoIncarnationsOfACandidate) {
  TestCluster cluster;
  cluster.add(3, {{1, 2, 3}, {}, {}, {}, false, {}}, with_incarnation);
  Message request;
  request.type = MessageType::kVote;
  request.from = 1;
  request.to = 3;
  request.term = 9;
  request.index = 1;
  request.log_term = 1;
  for (const auto& [incarnation, granted] :
       {std::pair<Incarnation, bool>{501, true}, {101, false}, {501, true}}) {
    request.from_incarnation = incarnation;
    EXPECT_TRUE(cluster[3].step(request).is_ok());
    cluster.process_ready(3);
    EXPECT_EQ(!cluster.in_flight.back().reject, granted) << incarnation;
    EXPECT_EQ(cluster.in_flight.back().to_incarnation, incarnation);
  }
}

}  // namespace
}  // namespace pgraft::raft
