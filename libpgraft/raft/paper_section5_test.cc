// The paper's sections 5.1, 5.2 and 5.4, a test a rule: what raft_election_test.cc does not show.
#include "libpgraft/raft/paper_test.h"

namespace pgraft::raft {
namespace {

// Node 1 of three in this role, in term 2 or later; the others' messages are lost.
TestCluster in_role(Role role) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  if (role == Role::kFollower) cluster.elect(2);
  if (role == Role::kLeader) cluster.elect(1);
  if (role == Role::kCandidate) {
    EXPECT_TRUE(cluster[1].campaign().is_ok());
    process(cluster, 1);
    cluster.in_flight.clear();
  }
  EXPECT_EQ(cluster[1].role(), role);
  return cluster;
}

constexpr Role kPaperRoles[] = {Role::kFollower, Role::kCandidate, Role::kLeader};

// Of each kind that has a term, to node 1.
std::vector<Message> one_of_each(Term term) {
  std::vector<Message> messages;
  for (MessageType type :
       {MessageType::kAppend, MessageType::kAppendResponse, MessageType::kVote,
        MessageType::kVoteResponse, MessageType::kPreVote, MessageType::kPreVoteResponse,
        MessageType::kHeartbeat, MessageType::kHeartbeatResponse, MessageType::kTimeoutNow,
        MessageType::kTransferLeader, MessageType::kReadIndexResponse}) {
    messages.push_back(message_of(type, 2, 1, term));
    messages.back().index = 1;
    messages.back().log_term = 1;
  }
  messages.push_back(snapshot_of(2, 1, term, {50, 1, {{1, 2, 3}, {}, {}, {}, false, {}}}));
  return messages;
}

// --- 5.1

// The three roles; in normal operation there is one leader, and the others follow it.
TEST(Section5_1, InNormalOperationOneLeadsAndTheOthersFollow) {
  TestCluster cluster({1, 2, 3, 4, 5}, {}, plain_raft);
  ASSERT_TRUE(tick_until(cluster, [&] { return leader_of(cluster) != kNoNode; }));
  const NodeId leader = leader_of(cluster);
  cluster.tick_all(50);
  for (const auto& [id, node] : cluster.nodes) {
    EXPECT_EQ(node.raw->role(), id == leader ? Role::kLeader : Role::kFollower) << id;
    EXPECT_EQ(node.raw->leader(), leader) << id;
  }
}

// Followers issue no requests of their own.
TEST(Section5_1, AFollowerSpeaksOnlyWhenItIsAsked) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.tick(2, 9);
  EXPECT_FALSE(cluster[2].has_ready());
}

// Terms are consecutive numbers, and each begins with an election.
TEST(Section5_1, EachElectionBeginsTheNextTerm) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.isolate(1);
  for (Term term = 2; term < 6; ++term) {
    ASSERT_TRUE(cluster[1].campaign().is_ok());
    cluster.settle();
    EXPECT_EQ(cluster[1].term(), term);
    EXPECT_EQ(cluster.log(1).hard.term, term);
  }
}

// A server may miss an election, and whole terms.
TEST(Section5_1, AServerMaySleepThroughTerms) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.isolate(3);
  cluster.elect(1);
  cluster.elect(2);
  cluster.elect(1);
  EXPECT_EQ(cluster[3].term(), 1u);
  cluster.heal();
  cluster.tick_all(2);
  EXPECT_EQ(cluster[3].term(), 4u);
  EXPECT_EQ(cluster[3].leader(), 1u);
}

// The term goes with every message, and the smaller one is raised to the larger; a candidate or
// leader whose term is out of date follows. Pre-votes are the exception (thesis 9.6).
TEST(Section5_1, EveryMessageOfANewerTermMakesAFollowerOfThatTerm) {
  for (const Role role : kPaperRoles) {
    for (const Message& message : one_of_each(9)) {
      if (message.type == MessageType::kPreVote || message.type == MessageType::kPreVoteResponse)
        continue;
      TestCluster cluster = in_role(role);
      ASSERT_TRUE(cluster[1].step(message).is_ok());
      const std::string what = std::string(role_name(role)) + " " + message_type_name(message.type);
      if (message.type == MessageType::kTimeoutNow) {  // and campaigns at once (thesis 3.10)
        EXPECT_EQ(cluster[1].role(), Role::kCandidate) << what;
        EXPECT_EQ(cluster[1].term(), 10u) << what;
        continue;
      }
      EXPECT_EQ(cluster[1].role(), Role::kFollower) << what;
      EXPECT_EQ(cluster[1].term(), 9u) << what;
      process(cluster, 1);
      EXPECT_EQ(cluster.log(1).hard.term, 9u) << what;
    }
  }
}

// A request with a term of the past is not served.
TEST(Section5_1, AMessageOfAnOlderTermChangesNothing) {
  for (const Role role : kPaperRoles) {
    for (Message message : one_of_each(1)) {
      TestCluster cluster = in_role(role);
      message.entries = {{2, 1, EntryType::kNormal, "old"}};
      message.commit = 2;
      const NodeStatus before = cluster[1].status();
      const std::string what = std::string(role_name(role)) + " " + message_type_name(message.type);
      exchange(cluster, message);
      const NodeStatus after = cluster[1].status();
      EXPECT_EQ(after.hard, before.hard) << what;
      EXPECT_EQ(after.soft, before.soft) << what;
      EXPECT_EQ(after.last_index, before.last_index) << what;
      EXPECT_EQ(after.transferee, before.transferee) << what;
      EXPECT_TRUE(cluster.nodes.at(1).reads.empty()) << what;
      for (const auto& [id, view] : before.progress)
        EXPECT_EQ(after.progress.at(id).match, view.match) << what;
    }
  }
}

// ... but its sender learns the term from the answer. Votes of an old term are left unanswered: the
// candidate's next term, or the leader, will do.
TEST(Section5_1, ALeaderWithAnOldTermIsToldTheNewOneAndFollows) {
  for (MessageType type : {MessageType::kAppend, MessageType::kHeartbeat}) {
    TestCluster cluster({1, 2, 3}, {}, [](Config& c) { c.pre_vote = false; });
    cluster.elect(1);
    cluster.isolate(1);
    for (NodeId id : {2, 3}) cluster[id].forget_leader();
    cluster.elect(2);
    cluster.heal();
    const auto answers = exchange(cluster, message_of(type, 1, 3, cluster[1].term()));
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0].term, cluster[2].term());
    cluster.deliver(answers[0]);
    EXPECT_EQ(cluster[1].role(), Role::kFollower);
    EXPECT_EQ(cluster[1].term(), cluster[2].term());
  }
}

// --- 5.2

// What keeps a follower a follower: valid requests of the leader, and a vote that it gave.
TEST(Section5_2, RequestsOfTheLeaderAndAVoteGivenRestartTheElectionTimer) {
  const auto campaigns_at = [](const Message& message) {
    TestCluster cluster({1, 2, 3}, {}, plain_raft);
    cluster.log(2).hard.term = 3;
    cluster.start(2);
    // A leader of term 3 that is known already, unless a vote is wanted: the timer alone restarts.
    if (message.type != MessageType::kVote)
      exchange(cluster, message_of(MessageType::kHeartbeat, 1, 2, 3));
    cluster[2].set_randomized_election_timeout(10);
    cluster.tick(2, 9);
    exchange(cluster, message);
    int ticks = 9;
    while (cluster[2].role() == Role::kFollower && ticks < 50) cluster.tick(2), ++ticks;
    return ticks;
  };
  const SnapshotMeta newer{5, 2, {{1, 2, 3}, {}, {}, {}, false, {}}};
  EXPECT_EQ(campaigns_at(append_of(1, 2, 3, 1, 1, {3})), 19);
  EXPECT_EQ(campaigns_at(append_of(1, 2, 3, 9, 3, {3})), 19);  // refused, but it is the leader's
  EXPECT_EQ(campaigns_at(message_of(MessageType::kHeartbeat, 1, 2, 3)), 19);
  EXPECT_EQ(campaigns_at(snapshot_of(1, 2, 3, newer)), 19);
  EXPECT_EQ(campaigns_at(vote_of(MessageType::kVote, 1, 2, 3, 1, 1)), 19);
  // Not: a vote that is refused, a pre-vote, what an old leader sends, an answer.
  EXPECT_EQ(campaigns_at(vote_of(MessageType::kVote, 1, 2, 3, 0, 0)), 10);
  EXPECT_EQ(campaigns_at(vote_of(MessageType::kPreVote, 1, 2, 4, 1, 1)), 10);
  EXPECT_EQ(campaigns_at(append_of(1, 2, 2, 1, 1, {2})), 10);
  EXPECT_EQ(campaigns_at(message_of(MessageType::kHeartbeat, 1, 2, 2)), 10);
  EXPECT_EQ(campaigns_at(snapshot_of(1, 2, 2, newer)), 10);
  EXPECT_EQ(campaigns_at(acknowledgement_of(3, 2, 3, 1)), 10);
}

// Leaders keep their authority by heartbeats at a steady interval.
TEST(Section5_2, HeartbeatsGoToAllAtTheirInterval) {
  TestCluster cluster({1, 2, 3}, {4}, [](Config& c) {
    plain_raft(c);
    c.heartbeat_ticks = 3;
  });
  cluster.elect(1);
  for (int tick = 1; tick <= 12; ++tick) {
    cluster.tick(1);
    process(cluster, 1);
    const auto heartbeats = cluster.take(MessageType::kHeartbeat);
    EXPECT_EQ(heartbeats.size(), tick % 3 == 0 ? 3u : 0u) << tick;
    EXPECT_TRUE(cluster.in_flight.empty());
  }
}

// The winner tells everybody at once, so that nobody else campaigns.
TEST(Section5_2, AnElectedLeaderTellsAllOthersAtOnce) {
  TestCluster cluster({1, 2, 3, 4, 5}, {6}, plain_raft);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  process(cluster, 1);
  cluster.in_flight.clear();
  for (NodeId id : {2, 3})
    ASSERT_TRUE(cluster[1].step(message_of(MessageType::kVoteResponse, id, 1, 2)).is_ok());
  ASSERT_EQ(cluster[1].role(), Role::kLeader);
  process(cluster, 1);
  std::set<NodeId> told;
  for (const Message& m : cluster.take(MessageType::kAppend)) told.insert(m.to);
  EXPECT_EQ(told, (std::set<NodeId>{2, 3, 4, 5, 6}));
}

// A majority of the full membership, of votes for this very term; each server's counts once, and
// only a voter's.
TEST(Section5_2, OnlyVotesOfThisTermFromVotersCountAndEachOnce) {
  TestCluster cluster({1, 2, 3, 4, 5}, {6}, plain_raft);
  cluster.isolate(1);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(cluster[1].campaign().is_ok());
    cluster.settle();
  }
  ASSERT_EQ(cluster[1].term(), 3u);
  const auto vote = [&](NodeId from, Term term) {
    return cluster[1].step(message_of(MessageType::kVoteResponse, from, 1, term));
  };
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(vote(2, 3).is_ok());
  EXPECT_TRUE(vote(6, 3).is_ok());                               // a learner
  EXPECT_EQ(vote(9, 3).code(), Code::kNotFound);                 // a stranger
  for (NodeId id : {3, 4, 5}) EXPECT_TRUE(vote(id, 2).is_ok());  // of its last election
  // A pre-vote is no vote.
  EXPECT_TRUE(cluster[1].step(message_of(MessageType::kPreVoteResponse, 3, 1, 3)).is_ok());
  EXPECT_EQ(cluster[1].role(), Role::kCandidate);
  EXPECT_TRUE(vote(4, 3).is_ok());
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
}

// Whoever claims to lead an older term does not end a candidacy.
TEST(Section5_2, ACandidateIgnoresALeaderOfAnOlderTerm) {
  TestCluster cluster = in_role(Role::kCandidate);
  const Term term = cluster[1].term();
  for (const Message& message : {append_of(2, 1, term - 1, 1, 1, {1}),
                                 message_of(MessageType::kHeartbeat, 2, 1, term - 1)}) {
    exchange(cluster, message);
    EXPECT_EQ(cluster[1].role(), Role::kCandidate);
    EXPECT_EQ(cluster[1].status().last_index, 1u);
  }
}

// Neither won nor lost within its timeout, a candidate begins another election, in another term; it
// draws the time anew for each.
TEST(Section5_2, AnElectionThatIsNotDecidedIsFollowedByAnotherAfterANewRandomTime) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  std::set<int> waits;
  for (int round = 0; round < 60; ++round) {
    const Term term = cluster[1].term();
    int ticks = 0;
    while (cluster[1].term() == term && ticks < 100) cluster.tick(1), ++ticks;
    EXPECT_EQ(cluster[1].term(), term + 1);
    EXPECT_EQ(cluster[1].role(), Role::kCandidate);
    EXPECT_GE(ticks, 10);
    EXPECT_LE(ticks, 19);
    waits.insert(ticks);
  }
  EXPECT_EQ(waits.size(), 10u);
}

// Because the timeouts are spread, in most cases one server alone times out and wins; split votes
// are soon over.
TEST(Section5_2, SplitVotesAreRareAndSoonResolved) {
  int undivided = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    TestCluster cluster({1, 2, 3, 4}, {}, [seed](Config& c) {
      plain_raft(c);
      c.seed = seed_of(seed, c.id);
    });
    ASSERT_TRUE(tick_until(
        cluster, [&] { return leader_of(cluster) != kNoNode; }, 400))
        << seed;
    undivided += cluster[leader_of(cluster)].term() == 2;
  }
  EXPECT_GT(undivided, 100);
}

// --- 5.4.1

// The later term of the last entry is more up to date; with equal terms, the longer log. The same
// for votes and pre-votes, whatever the own log.
TEST(Section5_4_1, LogsAreComparedByTheLastTermAndThenByLength) {
  int granted = 0;
  for (const std::vector<Term>& own :
       std::vector<std::vector<Term>>{{}, {2}, {2, 2}, {3}, {2, 3}, {3, 3, 3}}) {
    for (Index index = 1; index <= 5; ++index) {
      for (Term term = 1; term <= 4; ++term) {
        for (MessageType type : {MessageType::kVote, MessageType::kPreVote}) {
          TestCluster cluster = cluster_with_logs({{}, own}, 4, plain_raft);
          const auto answers = exchange(cluster, vote_of(type, 1, 2, 7, index, term));
          ASSERT_EQ(answers.size(), 1u);
          const Term own_term = own.empty() ? 1 : own.back();
          const bool up_to_date =
              std::pair(term, index) >= std::pair(own_term, Index{own.size() + 1});
          EXPECT_EQ(!answers[0].reject, up_to_date) << index << "/" << term << " " << own.size();
          granted += up_to_date;
        }
      }
    }
  }
  EXPECT_GT(granted, 0);
}

// A majority holds each committed entry, so a candidate without it finds somebody in any majority
// who refuses: whichever one committed with the leader.
TEST(Section5_4_1, WhoeverLacksACommittedEntryIsNotElectedByAnyMajority) {
  for (const std::set<NodeId>& holders :
       std::vector<std::set<NodeId>>{{2, 3}, {2, 4}, {2, 5}, {3, 4}, {3, 5}, {4, 5}}) {
    for (NodeId candidate : {2, 3, 4, 5}) {
      TestCluster cluster({1, 2, 3, 4, 5}, {}, plain_raft);
      cluster.elect(1);
      connect_only(cluster, {1, *holders.begin(), *holders.rbegin()});
      cluster.propose(1, "x");
      ASSERT_EQ(cluster.data(1), "x");
      connect_only(cluster, {2, 3, 4, 5});  // the leader is gone
      ASSERT_TRUE(cluster[candidate].campaign().is_ok());
      cluster.settle();
      const bool has_it = holders.contains(candidate);
      EXPECT_EQ(cluster[candidate].role() == Role::kLeader, has_it) << candidate;
      EXPECT_EQ(cluster.data(candidate) == "x", has_it) << candidate;
    }
  }
}

// --- 5.4.2, figure 8

// The figure's servers S1 to S5, whose steps are taken by the nodes themselves. One entry a
// message, so that an entry of an old term can arrive without what follows it.
struct Figure8 : testing::Test {
  Figure8()
      : cluster({1, 2, 3, 4, 5}, {}, [](Config& c) {
          plain_raft(c);
          c.max_size_per_msg = 0;
        }) {}

  // Campaigns until it wins, with what these nodes can hear.
  void lead(NodeId id, const std::set<NodeId>& hearing, Term term) {
    cluster.cut.clear();
    for (const auto& [other, node] : cluster.nodes) {
      if (!hearing.contains(other)) cluster.isolate(other);
    }
    for (int i = 0; i < 3 && cluster[id].role() != Role::kLeader; ++i) {
      ASSERT_TRUE(cluster[id].campaign().is_ok());
      cluster.settle();
    }
    ASSERT_EQ(cluster[id].role(), Role::kLeader);
    ASSERT_EQ(cluster[id].term(), term);
  }
  void crash(NodeId id) {
    cluster.isolate(id);
    cluster.in_flight.clear();
    cluster.start(id);
  }
  std::vector<Term> terms(NodeId id) { return cluster.log(id).terms(); }

  // (a) S1 leads term 2; its entry at index 2 gets to S2 alone. (b) S5 leads term 3 by the votes of
  // S3 and S4, and stores another entry there on itself alone.
  void a_and_b() {
    cluster.lose = [](const Message& m) { return m.type == MessageType::kAppend && m.to != 2; };
    lead(1, {1, 2, 3, 4, 5}, 2);
    cluster.settle();
    crash(1);
    cluster.lose = [](const Message& m) { return m.type == MessageType::kAppend; };
    lead(5, {3, 4, 5}, 3);
    crash(5);
    EXPECT_EQ(terms(1), (std::vector<Term>{2}));
    EXPECT_EQ(terms(2), (std::vector<Term>{2}));
    EXPECT_EQ(terms(3), (std::vector<Term>{}));
    EXPECT_EQ(terms(4), (std::vector<Term>{}));
    EXPECT_EQ(terms(5), (std::vector<Term>{3}));
  }
  // (c) S1 leads term 4 and brings its old entry to S3, and to S4, as it counts only what is
  // acknowledged in its term: the old entry is on a majority. None of term 4 is accepted by
  // anybody.
  void c() {
    a_and_b();
    cluster.lose = [this](const Message& m) {
      if (m.type != MessageType::kAppend || m.entries.empty()) return false;
      return m.entries.back().term == 4 && cluster.log(m.to).last_index() >= m.index;
    };
    lead(1, {1, 2, 3, 4}, 4);
    cluster.tick(1, 3);
    cluster.settle();
    EXPECT_EQ(terms(1), (std::vector<Term>{2, 4}));
    for (NodeId id : {2, 3, 4}) EXPECT_EQ(terms(id), (std::vector<Term>{2})) << id;
  }

  TestCluster cluster;
};

// An entry of an earlier term is not committed because it is stored on a majority.
TEST_F(Figure8, CAnEntryOfAnOldTermOnAMajorityIsNotCommitted) {
  c();
  for (NodeId id : {3, 4}) EXPECT_EQ(cluster[1].status().progress.at(id).match, 2u) << id;
  for (NodeId id : {1, 2, 3, 4}) EXPECT_EQ(cluster.commit(id), 1u) << id;
}

// For it may be overwritten yet: S5 can be elected by S2, S3 and S4.
TEST_F(Figure8, DTheNextLeaderMayOverwriteIt) {
  c();
  crash(1);
  cluster.lose = {};
  lead(5, {2, 3, 4, 5}, 5);
  cluster.tick(5, 3);
  cluster.settle();
  for (NodeId id : {2, 3, 4, 5}) EXPECT_EQ(terms(id), (std::vector<Term>{3, 5})) << id;
  EXPECT_EQ(cluster.commit(5), 3u);
}

// Once an entry of S1's own term is on a majority, both are committed and S5 can't win.
TEST_F(Figure8, EWithAnEntryOfTheLeadersTermBothAreCommittedForGood) {
  c();
  cluster.lose = [](const Message& m) { return m.type == MessageType::kAppend && m.to == 4; };
  cluster.tick(1, 3);
  cluster.settle();
  EXPECT_EQ(cluster.commit(1), 3u);
  EXPECT_EQ(terms(3), (std::vector<Term>{2, 4}));
  crash(1);
  cluster.lose = {};
  connect_only(cluster, {2, 3, 4, 5});
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(cluster[5].campaign().is_ok());
    cluster.settle();
    EXPECT_NE(cluster[5].role(), Role::kLeader);
  }
  EXPECT_EQ(terms(2), (std::vector<Term>{2, 4}));
}

}  // namespace
}  // namespace pgraft::raft
