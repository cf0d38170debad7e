// The thesis' chapter 6, a test a rule: what raft_read_test.cc does not show. How clients reach the
// leader, and reads that cost no log entry. The lease is in thesis_lease_test.cc.
#include "libpgraft/raft/figure3.h"

namespace pgraft::raft {
namespace {

// --- 6.2: routing requests to the leader

// Whoever does not lead passes proposals and changes on; the leader's log takes them once.
TEST(Thesis6_2, FollowersPassProposalsAndChangesOnToTheLeader) {
  TestCluster cluster({1, 2, 3}, {4});
  cluster.elect(1);
  for (NodeId id : {2, 3, 4}) cluster.propose(id, std::to_string(id));
  cluster.change(3, {add_learner(5)});
  for (NodeId id : {1, 2, 3, 4}) EXPECT_EQ(cluster.data(id), "234") << id;
  EXPECT_EQ(cluster[2].status().conf.learners, (std::vector<NodeId>{4, 5}));
}

// A candidate knows no leader and says so; nothing is kept for later.
TEST(Thesis6_2, WhoeverKnowsNoLeaderRefuses) {
  TestCluster cluster({1, 2, 3});
  cluster.isolate(2);
  for (const bool campaigning : {false, true}) {
    if (campaigning) {
      ASSERT_TRUE(cluster[2].campaign().is_ok());
    }
    EXPECT_EQ(cluster[2].propose("x").code(), Code::kNotLeader);
    EXPECT_EQ(cluster[2].propose_conf_change({{}, {add_learner(5)}, ""}).code(), Code::kNotLeader);
    EXPECT_EQ(cluster[2].read_index("r").code(), Code::kNotLeader);
    EXPECT_EQ(cluster[2].transfer_leader(3).code(), Code::kNotLeader);
  }
  cluster.heal();
  cluster.elect(1);
  cluster.tick_all(2);
  EXPECT_EQ(cluster.data(2), "");
  EXPECT_TRUE(answered(cluster, 2).empty());
}

// A request that reaches a server which leads no longer ends there: passed on again it could go in
// circles.
TEST(Thesis6_2, ARequestThatFindsNoLeaderIsNotPassedOnAgain) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  Message proposal = message_of(MessageType::kPropose, 3, 2, 0);
  proposal.entries.resize(1);
  EXPECT_TRUE(exchange(cluster, proposal).empty());
  EXPECT_TRUE(exchange(cluster, message_of(MessageType::kReadIndex, 3, 2, 0)).empty());
  EXPECT_EQ(cluster[1].status().last_index, cluster[2].status().last_index);
}

// A leader that is cut off gives up within two election timeouts, so that its clients look for
// another one; their reads are not answered, then or later.
TEST(Thesis6_2, ALeaderThatIsCutOffGivesUpSoThatItsClientsDoNotWait) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.tick_all(3);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].propose("lost").is_ok());
  ASSERT_TRUE(cluster[1].read_index("r").is_ok());
  cluster.tick_all(20);
  EXPECT_NE(cluster[1].role(), Role::kLeader);
  EXPECT_EQ(cluster[1].propose("x").code(), Code::kNotLeader);
  EXPECT_EQ(cluster[1].read_index("s").code(), Code::kNotLeader);
  ASSERT_TRUE(tick_until(cluster, [&] { return leader_of(cluster) > 1; }));
  cluster.propose(leader_of(cluster), "x");
  cluster.heal();
  cluster.tick_all(5);
  EXPECT_EQ(cluster.data(1), "x");
  EXPECT_TRUE(answered(cluster, 1).empty());
}

// The quorum that a leader must hear is that of elections: of voters, and of both halves of a joint
// configuration.
TEST(Thesis6_2, ALeaderMustHearTheQuorumThatElectsIt) {
  struct Case {
    ConfState conf;
    std::set<NodeId> up;
    bool stays;
  };
  const ConfState joint{{1, 4, 5}, {}, {1, 2, 3}, {}, false, {}};
  for (const Case& c :
       {Case{{{1, 2, 3}, {4, 5}, {}, {}, false, {}}, {1, 4, 5}, false},
        Case{{{1, 2, 3}, {4, 5}, {}, {}, false, {}}, {1, 3}, true}, Case{joint, {1, 2, 3}, false},
        Case{joint, {1, 4, 5}, false}, Case{joint, {1, 2, 4}, true}}) {
    TestCluster cluster;
    for (NodeId id : {1, 2, 3, 4, 5}) cluster.add(id, c.conf);
    cluster.elect(1);
    connect_only(cluster, c.up);
    cluster.tick_all(20);
    EXPECT_EQ(cluster[1].role() == Role::kLeader, c.stays) << testing::PrintToString(c.up);
  }
}

// --- 6.3: what is proposed again is another entry

// A client that repeats itself, because no answer came, is served twice: telling the two apart is
// up to the state machine.
TEST(Thesis6_3, ARepeatedProposalIsAnotherEntry) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  ASSERT_TRUE(cluster[2].propose("x").is_ok());
  process(cluster, 2);
  cluster.in_flight.push_back(cluster.in_flight.front());
  cluster.settle();
  EXPECT_EQ(cluster.data(1), "xx");
}

// --- 6.4: reads

// Step 1, before its first commit in the term a leader does not know what is committed: reads wait,
// those of followers too, and see what the leaders before have committed.
TEST(Thesis6_4, Step1ReadsWaitForTheFirstCommitOfTheTerm) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  // Committed by leader 1; node 2 stores it and does not know.
  cluster.lose = [](const Message& m) { return m.to != 1 && m.commit >= 3; };
  cluster.propose(1, "x");
  ASSERT_EQ(cluster.data(1), "x");
  cluster.isolate(1);
  cluster.lose = [](const Message& m) {
    return m.type == MessageType::kAppendResponse && m.index >= 3;
  };
  cluster.elect(2);
  ASSERT_EQ(cluster.commit(2), 2u);
  for (NodeId id : {2, 3}) ASSERT_TRUE(cluster[id].read_index("r").is_ok());
  for (int i = 0; i < 3; ++i) cluster.tick(2), cluster.settle();
  for (NodeId id : {2, 3}) EXPECT_TRUE(answered(cluster, id).empty());
  cluster.lose = {};
  for (int i = 0; i < 3; ++i) cluster.tick(2), cluster.settle();
  for (NodeId id : {2, 3}) EXPECT_EQ(answered(cluster, id), std::vector<Index>{4}) << id;
}

// Step 2, a read gets the commit index of the time when it was asked, whatever is committed while
// it waits.
TEST(Thesis6_4, Step2AReadGetsTheCommitIndexOfWhenItWasAsked) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.propose(1, "a");
  const Index committed = cluster.commit(1);
  cluster.lose = [](const Message& m) { return m.type == MessageType::kHeartbeatResponse; };
  ASSERT_TRUE(cluster[1].read_index("r").is_ok());
  cluster.settle();
  cluster.propose(1, "b");
  EXPECT_EQ(cluster.commit(1), committed + 1);
  EXPECT_TRUE(answered(cluster, 1).empty());
  cluster.heal();
  cluster.tick_all(1);
  EXPECT_EQ(answered(cluster, 1), std::vector<Index>{committed});
}

// Step 3, a round of heartbeats that was sent after the read was asked, answered by a quorum of
// voters: learners don't count, and in a joint configuration it takes both halves.
TEST(Thesis6_4, Step3AQuorumOfVotersConfirmsThatTheLeaderStillLeads) {
  struct Case {
    ConfState conf;
    std::set<NodeId> up;
    bool expected;
  };
  const ConfState joint{{1, 4, 5}, {}, {1, 2, 3}, {}, false, {}};
  const ConfState learners{{1, 2, 3}, {4, 5}, {}, {}, false, {}};
  for (const Case& c : {Case{learners, {1, 4, 5}, false}, Case{learners, {1, 2}, true},
                        Case{joint, {1, 2, 3}, false}, Case{joint, {1, 4, 5}, false},
                        Case{joint, {1, 3, 5}, true}}) {
    TestCluster cluster;
    for (NodeId id : {1, 2, 3, 4, 5}) cluster.add(id, c.conf);
    cluster.elect(1);
    connect_only(cluster, c.up);
    ASSERT_TRUE(cluster[1].read_index("r").is_ok());
    cluster.settle();
    EXPECT_EQ(!answered(cluster, 1).empty(), c.expected) << testing::PrintToString(c.up);
  }
}

// Answers that were given to an earlier term's heartbeats confirm nothing.
TEST(Thesis6_4, Step3AnswersOfAnEarlierTermConfirmNothing) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  ASSERT_TRUE(cluster[1].read_index("r").is_ok());
  process(cluster, 1);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(cluster.deliver_one());
  for (NodeId id : {2, 3}) process(cluster, id);
  const std::vector<Message> late = cluster.take(MessageType::kHeartbeatResponse);
  ASSERT_EQ(late.size(), 2u);
  cluster.elect(2);
  cluster.elect(1);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].read_index("s").is_ok());
  cluster.settle();
  for (const Message& message : late) exchange(cluster, message);
  EXPECT_TRUE(answered(cluster, 1).empty());
}

// One round answers all reads that came before it.
TEST(Thesis6_4, Step3OneRoundConfirmsAllReadsBeforeIt) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.lose = [](const Message& m) { return m.type == MessageType::kHeartbeat; };
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(cluster[1].read_index(std::to_string(i)).is_ok());
  cluster.settle();
  EXPECT_TRUE(answered(cluster, 1).empty());
  cluster.heal();
  cluster.tick(1);
  process(cluster, 1);
  EXPECT_EQ(cluster.in_flight.size(), 2u);  // a heartbeat to each
  cluster.settle();
  EXPECT_EQ(answered(cluster, 1).size(), 20u);
}

// Step 4, the state machine must have got there before the read is served: a follower may be told
// an index that it has not applied yet.
TEST(Thesis6_4, Step4TheIndexMayBeAheadOfTheStateMachine) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.lose = [](const Message& m) { return m.type == MessageType::kAppend && m.to == 3; };
  cluster.propose(1, "x");
  ASSERT_TRUE(cluster[3].read_index("r").is_ok());
  cluster.settle();
  ASSERT_EQ(answered(cluster, 3), std::vector<Index>{cluster.commit(1)});
  EXPECT_LT(cluster[3].status().applied, answered(cluster, 3)[0]);
  EXPECT_EQ(cluster.data(3), "");
  cluster.heal();
  cluster.tick_all(3);
  EXPECT_GE(cluster[3].status().applied, answered(cluster, 3)[0]);
  EXPECT_EQ(cluster.data(3), "x");
}

// A leader that was deposed without noticing never answers: neither before it hears of it nor
// after.
TEST(Thesis6_4, ADeposedLeaderNeverServesAReadItWasAskedLater) {
  TestCluster cluster({1, 2, 3}, {4}, plain_raft);
  cluster.elect(1);
  connect_only(cluster, {2, 3});
  cluster.elect(2);
  cluster.propose(2, "x");
  connect_only(cluster, {1, 4});
  for (NodeId id : {1, 4}) ASSERT_TRUE(cluster[id].read_index("r").is_ok());
  for (int i = 0; i < 30; ++i) cluster.tick(1), cluster.settle();
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
  cluster.heal();
  cluster.tick_all(5);
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  for (NodeId id : {1, 4}) EXPECT_TRUE(answered(cluster, id).empty()) << id;
}

// --- all of it

// Reads under random schedules; each must be given an index that covers all that was committed
// anywhere when it was asked.
class ReadCheck {
 public:
  explicit ReadCheck(TestCluster& cluster) : cluster_(cluster) {}

  void ask(NodeId id) {
    const std::string context = std::to_string(floors_.size());
    Index floor = 0;
    for (const auto& [other, node] : cluster_.nodes)
      floor = std::max(floor, node.raw->status().hard.commit);
    if (cluster_[id].read_index(context).is_ok()) floors_[context] = floor;
  }
  // Number of answers that are older than they may be.
  int stale() {
    int found = 0;
    for (const auto& [id, node] : cluster_.nodes) {
      for (const ReadState& read : node.reads) found += read.index < floors_.at(read.context);
    }
    return found;
  }
  std::size_t answers() {
    std::size_t found = 0;
    for (const auto& [id, node] : cluster_.nodes) found += node.reads.size();
    return found;
  }

 private:
  TestCluster& cluster_;
  std::map<std::string, Index> floors_;  // by context
};

struct ReadRun {
  int stale = 0;
  std::size_t answers = 0;
};

struct ReadFaults {
  bool restarts_and_transfers = false;
  bool slow_clock = false;  // of a node that is cut off
};

// Partitions, loss, delay and reordering.
ReadRun random_reads(bool lease, ReadFaults faults) {
  ReadRun run;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    TestCluster cluster({1, 2, 3}, {}, [=](Config& c) {
      c.seed = seed_of(seed, c.id);
      c.lease_based_reads = lease;
    });
    Random random(seed);
    ReadCheck reads(cluster);
    NodeId alone = kNoNode;
    for (int tick = 0; tick < 400; ++tick) {
      if (tick % 25 == 0) {
        cluster.heal();
        alone = random.below(4);  // 0: nobody
        if (alone != kNoNode) cluster.isolate(alone);
        const NodeId id = 1 + random.below(3);
        const bool rough = faults.restarts_and_transfers;
        if (rough && random.one_in(4)) cluster.start(id);
        if (rough && random.one_in(4)) (void)cluster[id].transfer_leader(1 + random.below(3));
      }
      for (NodeId id : {1, 2, 3}) {
        if (!faults.slow_clock || id != alone || random.one_in(4)) cluster.tick(id);
      }
      for (int step = 0; step < 12; ++step) {
        const NodeId id = 1 + random.below(3);
        process(cluster, id);
        if (random.one_in(4)) (void)cluster[id].propose("x");
        if (random.one_in(3)) reads.ask(id);
        if (cluster.in_flight.empty()) continue;
        std::swap(cluster.in_flight.front(),
                  cluster.in_flight[random.below(cluster.in_flight.size())]);
        random.one_in(20) ? cluster.lose_one() : (void)cluster.deliver_one();
      }
    }
    run.stale += reads.stale();
    run.answers += reads.answers();
  }
  return run;
}

TEST(Thesis6_4, ReadsAreNeverStaleWhateverTheScheduleAndTheClocks) {
  const ReadRun run = random_reads(false, {true, true});
  EXPECT_EQ(run.stale, 0);
  EXPECT_GT(run.answers, 1000u);
}

// With clocks of one rate reads by lease are as good ...
TEST(Thesis6_4_1, ReadsByLeaseAreNotStaleWhereClocksAgree) {
  const ReadRun run = random_reads(true, {true, false});
  EXPECT_EQ(run.stale, 0);
  EXPECT_GT(run.answers, 1000u);
}

// ... and else they are not, which shows that the check notices.
TEST(Thesis6_4_1, ReadsByLeaseMayBeStaleElsewhere) {
  EXPECT_GT(random_reads(true, {false, true}).stale, 0);
}

}  // namespace
}  // namespace pgraft::raft
