// The paper's figure 2, a test a step: what the tests of the sections do not show.
#include "libpgraft/raft/paper_test.h"

namespace pgraft::raft {
namespace {

// Persistent state: term, vote and log are handed out to be stored together with the answers that
// depend on them, never after.
TEST(Figure2State, WhatAnAnswerRestsOnIsStoredBeforeItLeaves) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "drives ready() and advance() itself";
  struct Case {
    Message request;
    HardState hard;
    std::size_t entries;
  };
  for (const Case& c : {Case{vote_of(MessageType::kVote, 1, 2, 3, 1, 1), {3, 1, 1}, 0},
                        Case{append_of(1, 2, 3, 1, 1, {2, 3}), {3, kNoNode, 1}, 2},
                        Case{message_of(MessageType::kHeartbeat, 1, 2, 3), {3, kNoNode, 1}, 0}}) {
    TestCluster cluster({1, 2, 3}, {}, plain_raft);
    ASSERT_TRUE(cluster[2].step(c.request).is_ok());
    const Ready ready = cluster[2].ready();
    ASSERT_EQ(ready.messages.size(), 1u);
    EXPECT_EQ(ready.messages[0].to, 1u);
    ASSERT_TRUE(ready.hard_state.has_value());
    EXPECT_EQ(*ready.hard_state, c.hard);
    EXPECT_EQ(ready.entries.size(), c.entries);
    EXPECT_TRUE(ready.must_sync);
  }
}

// What a leader knows of the others begins anew with each election: next is the end of its own log,
// match is nothing.
TEST(Figure2State, TheLeadersViewBeginsAnewWithEachElection) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.propose(1, "x");
  cluster.elect(2);
  cluster.elect(1);
  ASSERT_GT(cluster[1].status().progress.at(2).match, 0u);
  cluster.elect(2);
  const Index last = cluster[1].status().last_index;
  connect_only(cluster, {1, 3});
  cluster.lose = [](const Message& m) { return m.type == MessageType::kAppend; };
  cluster.elect(1);
  for (NodeId id : {2, 3}) {
    EXPECT_EQ(cluster[1].status().progress.at(id).match, 0u) << id;
    EXPECT_EQ(cluster[1].status().progress.at(id).next, last + 1) << id;
  }
}

// AppendEntries, receiver, 3 and 4: only what is missing is written; what agrees is left alone.
TEST(Figure2AppendEntries, OnlyWhatIsMissingOrDiffersIsWritten) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "drives ready() and advance() itself";
  struct Case {
    std::vector<Term> own, sent;  // behind the base entry
    std::vector<Index> written;
    std::vector<Term> result;
  };
  for (const Case& c : std::vector<Case>{{{2, 2}, {2, 2}, {}, {2, 2}},
                                         {{2, 2}, {2}, {}, {2, 2}},
                                         {{2, 2}, {2, 2, 3}, {4}, {2, 2, 3}},
                                         {{2, 2, 2}, {2, 3}, {3}, {2, 3}},
                                         {{2, 2, 2}, {3}, {2}, {3}},
                                         {{}, {2, 3}, {2, 3}, {2, 3}}}) {
    TestCluster cluster = cluster_with_logs({{}, c.own}, 4, plain_raft);
    exchange(cluster, append_of(1, 2, 4, 1, 1, c.sent));
    std::vector<Index> written;
    for (const Ready& ready : cluster.nodes.at(2).readies) {
      for (const Entry& entry : ready.entries) written.push_back(entry.index);
    }
    EXPECT_EQ(written, c.written);
    EXPECT_EQ(cluster.log(2).terms(), c.result);
  }
}

// AppendEntries, receiver, 5: the commit index is the lesser of the leader's and of the last entry
// that the message proves, and it never goes back.
TEST(Figure2AppendEntries, TheCommitIndexFollowsTheLeadersAndNeverGoesBack) {
  TestCluster cluster = cluster_with_logs({{}, {2, 2, 2, 2}}, 4, plain_raft);
  struct Step {
    Index prev;
    std::vector<Term> entries;
    Index leader_commit, expected;
  };
  for (const Step& s : std::vector<Step>{{1, {}, 5, 1},
                                         {1, {2}, 5, 2},
                                         {3, {}, 0, 2},
                                         {4, {}, 3, 3},
                                         {2, {2}, 2, 3},
                                         {5, {4}, 9, 6}}) {
    exchange(cluster, append_of(1, 2, 4, s.prev, s.prev == 1 ? 1 : 2, s.entries, s.leader_commit));
    EXPECT_EQ(cluster.commit(2), s.expected) << s.prev << "/" << s.leader_commit;
  }
}

// RequestVote, receiver, 1 and 2: a vote needs a term that is not older, no other vote in that term
// and a log that is up to date.
TEST(Figure2RequestVote, TheTermTheVoteAndTheLogDecide) {
  for (const NodeId voted : {kNoNode, NodeId{1}, NodeId{3}}) {
    for (const Term term : {Term{4}, Term{5}, Term{6}}) {
      for (const Index last : {Index{2}, Index{3}}) {
        TestCluster cluster = cluster_with_logs({{}, {2, 2}, {}}, 5, plain_raft);
        cluster.log(2).hard.vote = voted;
        cluster.start(2);
        const auto answers = exchange(cluster, vote_of(MessageType::kVote, 1, 2, term, last, 2));
        const bool free = term > 5 || (term == 5 && voted != 3);
        const bool expected = free && last == 3;
        const bool granted = !answers.empty() && !answers[0].reject;
        EXPECT_EQ(granted, expected) << voted << " " << term << " " << last;
        EXPECT_EQ(cluster.hard(2).term, std::max<Term>(term, 5));
        const NodeId before = term > 5 ? kNoNode : voted;  // a new term begins without a vote
        EXPECT_EQ(cluster.hard(2).vote, granted ? 1 : before);
      }
    }
  }
}

// Rules for all servers: what is committed is applied, all of it, in order.
TEST(Figure2Servers, WhatIsCommittedIsHandedOutToBeApplied) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "drives ready() and advance() itself";
  TestCluster cluster = cluster_with_logs({{}, {2, 2, 2, 2}}, 2, plain_raft);
  ASSERT_TRUE(cluster[2].step(append_of(1, 2, 2, 4, 2, {}, 4)).is_ok());
  const Ready ready = cluster[2].ready();
  std::vector<Index> applied;
  for (const Entry& entry : ready.committed_entries) applied.push_back(entry.index);
  EXPECT_EQ(applied, (std::vector<Index>{2, 3, 4}));
  EXPECT_EQ(cluster[2].status().applied, 1u);  // not before the caller says so
  cluster[2].advance();
  EXPECT_EQ(cluster[2].status().applied, 4u);
}

// Rules for candidates: a new election restarts the timer, so that it gets its whole time.
TEST(Figure2Servers, ACampaignRestartsTheElectionTimer) {
  for (const bool pre_vote : {false, true}) {
    TestCluster cluster({1, 2, 3}, {}, [pre_vote](Config& c) {
      plain_raft(c);
      c.pre_vote = pre_vote;
    });
    cluster.isolate(1);
    cluster.tick(1, 9);
    ASSERT_TRUE(cluster[1].campaign().is_ok());
    process(cluster, 1);
    cluster.take(MessageType::kVote);
    cluster.take(MessageType::kPreVote);
    cluster[1].set_randomized_election_timeout(10);
    cluster.tick(1, 9);
    EXPECT_FALSE(cluster[1].has_ready());
    cluster.tick(1);
    EXPECT_TRUE(cluster[1].has_ready());
  }
}

// Rules for leaders: entries are sent from next on; success moves match and next, a refusal next
// alone.
TEST(Figure2Servers, SuccessMovesMatchAndNextARefusalOnlyNext) {
  TestCluster cluster = cluster_with_logs({{2, 2, 2}, {2}, {}}, 2, plain_raft);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  process(cluster, 1);
  exchange(cluster, message_of(MessageType::kVoteResponse, 3, 1, 3));
  ASSERT_EQ(cluster[1].role(), Role::kLeader);
  EXPECT_EQ(cluster[1].status().progress.at(2).next, 5u);

  Message refusal = acknowledgement_of(2, 1, 3, 4);
  refusal.reject = true;
  refusal.reject_hint = 2;
  refusal.log_term = 2;
  const auto retried = exchange(cluster, refusal);
  EXPECT_EQ(cluster[1].status().progress.at(2).match, 0u);
  EXPECT_EQ(cluster[1].status().progress.at(2).next, 3u);
  ASSERT_EQ(retried.size(), 1u);
  EXPECT_EQ(retried[0].index, 2u);
  ASSERT_EQ(retried[0].entries.size(), 3u);
  EXPECT_EQ(retried[0].entries[0].index, 3u);

  exchange(cluster, acknowledgement_of(2, 1, 3, 5));
  EXPECT_EQ(cluster[1].status().progress.at(2).match, 5u);
  EXPECT_EQ(cluster[1].status().progress.at(2).next, 6u);
}

// Rules for leaders: the commit index is the greatest index above the old one that a majority
// matches and whose term is the leader's own. All ways in which four followers can match, in any
// order, against that definition.
TEST(Figure2Servers, TheCommitIndexIsTheGreatestOfTheOwnTermThatAMajorityMatches) {
  // Indexes 1 to 3 are of older terms, 4 (the empty entry) to 6 of the leader's.
  constexpr Index kFirstOwn = 4;
  constexpr Index kLast = 6;
  for (Index code = 0; code < Index{6} * 6 * 6 * 6; ++code) {
    TestCluster cluster = cluster_with_logs({{2, 2}, {}, {}, {}, {}}, 2, plain_raft);
    ASSERT_TRUE(cluster[1].campaign().is_ok());
    process(cluster, 1);
    for (NodeId id : {2, 3}) exchange(cluster, message_of(MessageType::kVoteResponse, id, 1, 3));
    ASSERT_EQ(cluster[1].role(), Role::kLeader);
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(cluster[1].propose("").is_ok());
    process(cluster, 1);
    ASSERT_EQ(cluster[1].status().last_index, kLast);
    std::vector<Index> match = {kLast};
    for (Index rest = code; match.size() < 5; rest /= 6) {
      match.push_back(1 + rest % 6);
      exchange(cluster, acknowledgement_of(match.size(), 1, 3, match.back()));
    }
    Index expected = 1;
    for (Index n = kFirstOwn; n <= kLast; ++n) {
      if (std::count_if(match.begin(), match.end(), [n](Index m) { return m >= n; }) >= 3)
        expected = n;
    }
    ASSERT_EQ(cluster.commit(1), expected) << testing::PrintToString(match);
  }
}

// A server that claims to hold more than the leader has is not counted for it.
TEST(Figure2Servers, AMatchBehindTheLeadersLogIsNotBelieved) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].propose("x").is_ok());
  cluster.settle();
  const Index before = cluster.commit(1);
  exchange(cluster, acknowledgement_of(2, 1, 2, 100));
  EXPECT_EQ(cluster.commit(1), before);
}

}  // namespace
}  // namespace pgraft::raft
