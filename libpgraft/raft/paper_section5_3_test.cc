// The paper's section 5.3, a test a rule: what raft_replication_test.cc does not show.
#include "libpgraft/raft/paper_test.h"

namespace pgraft::raft {
namespace {

// An entry is made by the leader of its term, at the end of its log, and sent to all in parallel.
TEST(Section5_3, AProposalBecomesTheNextEntryOfTheTermAndGoesToAllAtOnce) {
  TestCluster cluster({1, 2, 3}, {4}, plain_raft);
  cluster.elect(1);
  const Index last = cluster[1].status().last_index;
  ASSERT_TRUE(cluster[1].propose("a").is_ok());
  ASSERT_TRUE(cluster[1].propose("b").is_ok());
  process(cluster, 1);
  EXPECT_EQ(stored_entries(cluster.log(1)).back(), (Entry{last + 2, 2, EntryType::kNormal, "b"}));
  std::map<NodeId, std::string> sent;
  for (const Message& m : cluster.take(MessageType::kAppend)) {
    for (const Entry& entry : m.entries) sent[m.to] += entry.data;
  }
  EXPECT_EQ(sent, (std::map<NodeId, std::string>{{2, "ab"}, {3, "ab"}, {4, "ab"}}));
}

// A server that is slow or gone does not hold up what a majority can do: one round, no timeout.
TEST(Section5_3, OneRoundToAMajorityCommits) {
  TestCluster cluster({1, 2, 3, 4, 5}, {}, plain_raft);
  cluster.elect(1);
  cluster.isolate(4);
  cluster.isolate(5);
  const std::uint64_t before = cluster[1].now_ticks();
  cluster.propose(1, "a");
  EXPECT_EQ(cluster[1].now_ticks(), before);
  for (NodeId id : {1, 2, 3}) EXPECT_EQ(cluster.data(id), "a") << id;
}

// What was lost is sent again until every follower has it, long after the entry was committed.
TEST(Section5_3, LostAppendsAreRepeatedAlsoWhenTheEntryIsCommitted) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  int lost = 0;
  cluster.lose = [&lost](const Message& m) {
    return m.type == MessageType::kAppend && m.to == 3 && lost < 7 && ++lost > 0;
  };
  cluster.propose(1, "a");
  EXPECT_EQ(cluster.data(1), "a");
  EXPECT_EQ(cluster.data(3), "");
  cluster.tick_all(20);
  EXPECT_EQ(lost, 7);
  EXPECT_EQ(cluster.data(3), "a");
}

// With an entry of the leader's term all before it are committed, those of other leaders too.
TEST(Section5_3, AnEntryCommitsAllThatPrecedesItInTheLeadersLog) {
  TestCluster cluster = cluster_with_logs({{2, 2, 3}, {2}, {}}, 3, plain_raft);
  cluster.elect(1);
  for (NodeId id : {1, 2, 3}) {
    EXPECT_EQ(cluster.commit(id), 5u) << id;
    EXPECT_EQ(cluster.log(id).terms(), (std::vector<Term>{2, 2, 3, 4})) << id;
  }
}

// Figure 6: logs of five servers; everything up to the seventh entry is on three of them.
TEST(Section5_3, Figure6TheCommitIndexIsWhatAMajorityHolds) {
  TestCluster cluster = cluster_with_logs({{1, 1, 2}, {}, {}, {}, {}}, 2, plain_raft);
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  process(cluster, 1);
  for (NodeId id : {2, 3}) exchange(cluster, message_of(MessageType::kVoteResponse, id, 1, 3));
  ASSERT_EQ(cluster[1].role(), Role::kLeader);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(cluster[1].propose("x").is_ok());
  process(cluster, 1);
  ASSERT_EQ(cluster.log(1).terms(), (std::vector<Term>{1, 1, 2, 3, 3, 3, 3}));
  for (const auto& [from, match] : {std::pair<NodeId, Index>{2, 5}, {3, 8}, {4, 2}}) {
    exchange(cluster, acknowledgement_of(from, 1, 3, match));
  }
  EXPECT_EQ(cluster.commit(1), 5u);
  exchange(cluster, acknowledgement_of(5, 1, 3, 7));
  EXPECT_EQ(cluster.commit(1), 7u);
}

// Followers learn the commit index from whatever the leader sends next.
TEST(Section5_3, AppendsAndHeartbeatsCarryTheCommitIndex) {
  for (const bool heartbeat : {false, true}) {
    TestCluster cluster = cluster_with_logs({{}, {2, 2, 2}, {}}, 2, plain_raft);
    Message message = append_of(1, 2, 2, 3, 2, {}, 3);
    if (heartbeat) message.type = MessageType::kHeartbeat;
    exchange(cluster, message);
    EXPECT_EQ(cluster.commit(2), 3u);
    EXPECT_EQ(cluster[2].status().applied, 3u);
  }
}

// A heartbeat is not checked against the log, so it commits no more than the follower is known to
// hold.
TEST(Section5_3, AHeartbeatCommitsOnlyWhatTheFollowerIsKnownToStore) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.lose = [](const Message& m) { return m.type == MessageType::kAppend && m.to == 3; };
  cluster.propose(1, "a");
  cluster.tick(1);
  process(cluster, 1);
  for (const Message& m : cluster.take(MessageType::kHeartbeat))
    EXPECT_EQ(m.commit, m.to == 2 ? 3u : 2u) << m.to;
}

// All state machines see the same entries in the order of the log, none twice, none left out.
TEST(Section5_3, EntriesAreAppliedInTheOrderOfTheLogEachOnce) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "looks at what a ready holds";
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  Random random(5);
  for (int i = 0; i < 300; ++i) {
    if (i % 3 == 0) {
      ASSERT_TRUE(cluster[1].propose(std::to_string(i) + ",").is_ok());
    }
    if (i % 7 == 0) cluster.tick(1);
    for (NodeId id : {1, 2, 3}) process(cluster, id);
    if (cluster.in_flight.empty()) continue;
    std::swap(cluster.in_flight.front(), cluster.in_flight[random.below(cluster.in_flight.size())]);
    if (random.one_in(4)) cluster.in_flight.push_back(cluster.in_flight.front());
    cluster.deliver_one();
  }
  cluster.settle();
  cluster.tick_all(5);
  for (NodeId id : {1, 2, 3}) {
    Index next = TestCluster::kBase + 1;
    for (const Ready& ready : cluster.nodes.at(id).readies) {
      for (const Entry& entry : ready.committed_entries) EXPECT_EQ(entry.index, next++) << id;
    }
    EXPECT_EQ(next, cluster[1].status().last_index + 1) << id;
    EXPECT_EQ(cluster.data(id), cluster.data(1)) << id;
  }
}

// --- a new leader and a follower whose log differs

// What node 1, leader of a term of its own, sends to node 2, and what that answers.
struct Repair {
  std::vector<Index> refused;  // the entries before which appends were refused, in order
  Index accepted = 0;          // ... and the first that was accepted
  int refused_later = 0;
  std::vector<Term> leader_log, follower_log;
};

Repair repair(const std::vector<Term>& leader, const std::vector<Term>& follower) {
  const Term term = std::max(leader.back(), follower.empty() ? Term{1} : follower.back());
  // The third server makes the majority.
  TestCluster cluster = cluster_with_logs({leader, follower, {}}, term, plain_raft);
  Repair seen;
  cluster.lose = [&seen](const Message& m) {
    if (m.type != MessageType::kAppendResponse || m.from != 2) return false;
    if (seen.accepted != 0) {
      seen.refused_later += m.reject;
    } else if (m.reject) {
      seen.refused.push_back(m.index);
    } else {
      seen.accepted = m.index;
    }
    return false;
  };
  cluster.elect(1);
  for (int i = 0; i < 5; ++i) cluster.propose(1, "x");
  cluster.tick_all(3);
  EXPECT_EQ(cluster.commit(2), cluster.commit(1));
  seen.leader_log = cluster.log(1).terms();
  seen.follower_log = cluster.log(2).terms();
  return seen;
}

struct DifferingLogs {
  const char* name;
  std::vector<Term> follower;
  std::size_t refusals;  // at most
};

// Figure 7: the leader of term 8 and six followers. Each ends with the leader's log, whatever it
// lacked and whatever it had too much; once the logs meet, nothing is refused in that term.
class Figure7 : public testing::TestWithParam<DifferingLogs> {};

TEST_P(Figure7, TheFollowersLogBecomesTheLeaders) {
  const std::vector<Term> leader = {1, 1, 4, 4, 5, 5, 6, 6, 6};  // behind the base entry, 1
  const Repair seen = repair(leader, GetParam().follower);
  EXPECT_EQ(seen.follower_log, seen.leader_log);
  std::vector<Term> kept(seen.leader_log.begin(), seen.leader_log.begin() + 9);
  EXPECT_EQ(kept, leader);
  EXPECT_LE(seen.refused.size(), GetParam().refusals);
  EXPECT_EQ(seen.refused_later, 0);
}

INSTANTIATE_TEST_SUITE_P(Followers, Figure7,
                         testing::Values(DifferingLogs{"a", {1, 1, 4, 4, 5, 5, 6, 6}, 1},
                                         DifferingLogs{"b", {1, 1, 4}, 1},
                                         DifferingLogs{"c", {1, 1, 4, 4, 5, 5, 6, 6, 6, 6}, 0},
                                         DifferingLogs{"d", {1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7}, 0},
                                         DifferingLogs{"e", {1, 1, 4, 4, 4, 4}, 2},
                                         DifferingLogs{"f", {1, 1, 2, 2, 2, 3, 3, 3, 3, 3}, 2}),
                         [](const auto& info) { return std::string(info.param.name); });

// A new leader first tries the end of its own log.
TEST(Section5_3, ANewLeaderTriesTheEndOfItsOwnLogFirst) {
  EXPECT_EQ(repair({2, 2, 2}, {2}).refused.front(), 4u);
  EXPECT_TRUE(repair({2, 2, 2}, {2, 2, 2}).refused.empty());
}

// Each refusal moves the try further back, to where the logs agree at the latest, so that it ends.
TEST(Section5_3, RefusedAppendsAreRetriedFurtherBackUntilTheLogsMeet) {
  for (const auto& [leader, follower] :
       std::vector<std::pair<std::vector<Term>, std::vector<Term>>>{
           {{2, 2, 2, 5, 5}, {}},
           {{2, 4, 4, 6}, {2, 2, 3, 3, 3}},
           {{2, 3, 4, 5, 6}, {1, 1, 1, 1, 1, 1}},
           {{1, 3, 5, 7, 9}, {1, 2, 4, 6, 8}},
           {{9}, {2, 3, 4, 5, 6, 7, 8}}}) {
    const Repair seen = repair(leader, follower);
    // Strictly falling.
    EXPECT_EQ(std::adjacent_find(seen.refused.begin(), seen.refused.end(), std::less_equal<>()),
              seen.refused.end());
    EXPECT_EQ(seen.refused.front(), leader.size() + 1);
    EXPECT_EQ(seen.follower_log, seen.leader_log);
    EXPECT_EQ(seen.refused_later, 0);
  }
}

// A leader never deletes or overwrites entries of its own log; it only appends.
TEST(Section5_3, NobodyMakesALeaderChangeItsOwnLog) {
  TestCluster cluster = cluster_with_logs({{2, 2, 3}, {2}, {2}}, 3, plain_raft);
  cluster.elect(1);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].propose("x").is_ok());
  cluster.settle();
  const std::vector<Entry> log = stored_entries(cluster.log(1));
  const Term term = cluster[1].term();
  Message refusal = acknowledgement_of(2, 1, term, 2);
  refusal.reject = true;
  for (const Message& message :
       {append_of(2, 1, term - 1, 1, 1, {1, 1, 1}), append_of(2, 1, term, 1, 1, {1, 1, 1}),
        vote_of(MessageType::kVote, 2, 1, term, 99, 99), refusal,
        snapshot_of(2, 1, term, {99, term, {{1, 2, 3}, {}, {}, {}, false, {}}})}) {
    exchange(cluster, message);
    EXPECT_EQ(cluster[1].role(), Role::kLeader) << message_type_name(message.type);
    EXPECT_EQ(stored_entries(cluster.log(1)), log) << message_type_name(message.type);
    // Somebody who claims to lead the same term is a defect that must be told.
    if (message.term == term && (message.type == MessageType::kAppend || message.snapshot)) {
      EXPECT_EQ(cluster.last_status.code(), Code::kCorruption);
    }
  }
}

// An entry that is acknowledged stays, even when the answer of another append comes late.
TEST(Section5_3, ALateRefusalOfTheSameTermDoesNotMoveTheLeaderBack) {
  TestCluster cluster({1, 2}, {}, plain_raft);
  cluster.elect(1);
  cluster.propose(1, "x");
  const ProgressView before = cluster[1].status().progress.at(2);
  Message refusal = acknowledgement_of(2, 1, 2, before.match);
  refusal.reject = true;
  exchange(cluster, refusal);
  const ProgressView after = cluster[1].status().progress.at(2);
  EXPECT_EQ(after.match, before.match);
  EXPECT_GT(after.next, after.match);
  EXPECT_EQ(after.state, ProgressState::kReplicate);
}

}  // namespace
}  // namespace pgraft::raft
