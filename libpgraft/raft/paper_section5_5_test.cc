// The paper's sections 5.5 and 5.6, a test a rule: crashes, repeated messages, and time.
#include "libpgraft/raft/figure3.h"

namespace pgraft::raft {
namespace {

// --- 5.5

// The same request twice has the effect of one, and is answered again.
TEST(Section5_5, RequestsMayArriveTwice) {
  const SnapshotMeta newer{5, 2, {{1, 2, 3}, {}, {}, {}, false, {}}};
  for (const Message& message :
       {append_of(1, 2, 3, 1, 1, {2, 3}, 2), append_of(1, 2, 3, 7, 3, {3}),
        vote_of(MessageType::kVote, 1, 2, 3, 1, 1), vote_of(MessageType::kPreVote, 1, 2, 4, 1, 1),
        message_of(MessageType::kHeartbeat, 1, 2, 3), snapshot_of(1, 2, 3, newer, "state")}) {
    TestCluster cluster({1, 2, 3}, {}, plain_raft);
    const auto first = exchange(cluster, message);
    const HardState hard = cluster.hard(2);
    const std::vector<Entry> log = stored_entries(cluster.log(2));
    const std::string data = cluster.data(2);
    const auto second = exchange(cluster, message);
    const char* what = message_type_name(message.type);
    EXPECT_EQ(cluster.hard(2), hard) << what;
    EXPECT_EQ(stored_entries(cluster.log(2)), log) << what;
    EXPECT_EQ(cluster.data(2), data) << what;
    ASSERT_EQ(first.size(), 1u) << what;
    ASSERT_EQ(second.size(), 1u) << what;
    EXPECT_EQ(second[0].reject, first[0].reject) << what;
    // An append before the commit index is answered with that.
    EXPECT_LE(second[0].index, first[0].index) << what;
    EXPECT_GE(second[0].index, std::min(first[0].index, hard.commit)) << what;
    EXPECT_EQ(second[0].term, first[0].term) << what;
  }
}

// So may answers: the leader counts a server once.
TEST(Section5_5, AnswersMayArriveTwice) {
  TestCluster cluster({1, 2, 3, 4, 5}, {}, plain_raft);
  cluster.elect(1);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].propose("x").is_ok());
  cluster.settle();
  const Index last = cluster[1].status().last_index;
  for (int i = 0; i < 5; ++i) exchange(cluster, acknowledgement_of(2, 1, 2, last));
  EXPECT_EQ(cluster.commit(1), last - 1);
  exchange(cluster, acknowledgement_of(3, 1, 2, last));
  EXPECT_EQ(cluster.commit(1), last);
  // A late refusal of what has been acknowledged since takes nothing back.
  Message refusal = acknowledgement_of(2, 1, 2, last - 1);
  refusal.reject = true;
  refusal.reject_hint = 1;
  exchange(cluster, refusal);
  EXPECT_EQ(cluster[1].status().progress.at(2).match, last);
}

// Requests to a server that is down are repeated until it is up again.
TEST(Section5_5, AFollowerThatWasDownIsBroughtUpToDateWhenItIsBack) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.isolate(3);
  for (int i = 0; i < 10; ++i) {
    cluster.propose(1, "x");
    cluster.tick(1, 2);
    cluster.settle();
  }
  cluster.start(3);
  cluster.heal();
  cluster.tick(1, 2);
  cluster.settle();
  EXPECT_EQ(cluster.log(3).terms(), cluster.log(1).terms());
  EXPECT_EQ(cluster.data(3), cluster.data(1));
}

// A crash after the write and before the answer: the repeat finds the work done.
TEST(Section5_5, ACrashBeforeTheAnswerIsMendedByTheRepeat) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  const Message request = append_of(1, 2, 3, 1, 1, {2, 3});
  exchange(cluster, request);  // the answer is lost
  cluster.start(2);
  EXPECT_EQ(cluster.log(2).terms(), (std::vector<Term>{2, 3}));
  const auto answers = exchange(cluster, request);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_FALSE(answers[0].reject);
  EXPECT_EQ(answers[0].index, 3u);
  EXPECT_TRUE(cluster.nodes.at(2).readies.back().entries.empty());
}

// A crash before the write: nothing was answered, so nothing is owed.
TEST(Section5_5, ACrashBeforeTheWriteLeavesNoTraceAndNoAnswer) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "drives ready() and advance() itself";
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  ASSERT_TRUE(cluster[2].step(vote_of(MessageType::kVote, 1, 2, 3, 1, 1)).is_ok());
  const Ready ready = cluster[2].ready();
  ASSERT_EQ(ready.messages.size(), 1u);  // leaves with the vote, to be sent after it is stored
  ASSERT_TRUE(ready.hard_state.has_value());
  EXPECT_EQ(*ready.hard_state, (HardState{3, 1, 1}));
  EXPECT_TRUE(ready.must_sync);
  cluster.start(2);
  EXPECT_EQ(cluster.hard(2), (HardState{1, kNoNode, 1}));
  const auto answers = exchange(cluster, vote_of(MessageType::kVote, 3, 2, 3, 1, 1));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_FALSE(answers[0].reject);
}

// A candidate's vote for itself binds it after a crash as well.
TEST(Section5_5, ACandidateThatCrashedHasVotedInItsTerm) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  ASSERT_TRUE(cluster[2].campaign().is_ok());
  process(cluster, 2);
  cluster.in_flight.clear();
  cluster.start(2);
  EXPECT_EQ(cluster[2].role(), Role::kFollower);
  const auto answers = exchange(cluster, vote_of(MessageType::kVote, 1, 2, 2, 1, 1));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_TRUE(answers[0].reject);
}

// --- 5.6

// No result depends on when things happen: clocks that run at any rate, messages that are older
// than several elections.
TEST(Section5_6, SafetyDoesNotDependOnTiming) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    TestCluster cluster({1, 2, 3, 4, 5}, {}, [seed](Config& c) {
      c.pre_vote = seed % 2 == 0;
      c.check_quorum = seed % 3 == 0;
      c.seed = seed_of(seed, c.id);
    });
    Random rates(seed);
    std::deque<Message> late;
    RandomSchedule schedule(cluster, seed);
    schedule.extra = [&](NodeId id, Random& random) {
      cluster.tick(id, static_cast<int>(1 + random.below(40)));
      // A third of what is on its way is held back, and comes when nobody expects it.
      for (Message& message : std::exchange(cluster.in_flight, {}))
        (random.one_in(3) ? late : cluster.in_flight).push_back(std::move(message));
      if (!random.one_in(8)) return;
      cluster.in_flight.insert(cluster.in_flight.end(), late.begin(), late.end());
      late.clear();
    };
    schedule.run(2000);
    cluster.in_flight.insert(cluster.in_flight.end(), late.begin(), late.end());
    schedule.recover();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

// Availability does: with messages slower than the election timeout a leader doesn't last. As soon
// as they are fast enough again there is progress, by the nodes alone.
TEST(Section5_6, SlowMessagesCostAvailabilityOnly) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.propose(1, "a");
  std::deque<std::pair<int, Message>> slow;
  Term most = 0;
  for (int tick = 0; tick < 400; ++tick) {
    for (NodeId id : {1, 2, 3}) {
      cluster.tick(id);
      process(cluster, id);
      most = std::max(most, cluster[id].term());
    }
    for (Message& message : std::exchange(cluster.in_flight, {}))
      slow.emplace_back(tick + 25, std::move(message));
    while (!slow.empty() && slow.front().first <= tick) {
      cluster.deliver(std::move(slow.front().second));
      slow.pop_front();
    }
  }
  EXPECT_GT(most, 5u);  // many elections
  for (auto& [due, message] : slow) cluster.in_flight.push_back(std::move(message));
  cluster.settle();
  ASSERT_TRUE(tick_until(cluster, [&] { return leader_of(cluster) != kNoNode; }));
  cluster.propose(leader_of(cluster), "b");
  cluster.tick_all(2);
  for (NodeId id : {1, 2, 3}) EXPECT_EQ(cluster.data(id), "ab");
}

}  // namespace
}  // namespace pgraft::raft
