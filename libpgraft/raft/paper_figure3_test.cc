// The paper's figure 3: its five properties under random small schedules; and that the checks
// themselves notice when one of them is broken.
#include "libpgraft/raft/figure3.h"

namespace pgraft::raft {
namespace {

// Clusters of two to five nodes, with and without what the thesis adds.
TEST(Figure3Schedules, ThePropertiesHoldInSmallClusters) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    std::vector<NodeId> voters;
    for (NodeId id = 1; id <= 2 + seed % 4; ++id) voters.push_back(id);
    TestCluster cluster(voters, {9}, [seed](Config& c) {
      c.pre_vote = seed % 2 == 0;
      c.check_quorum = seed % 3 == 0;
      c.max_size_per_msg = seed % 5;
      c.max_inflight_msgs = 1 + seed % 3;
      c.seed = seed_of(seed, c.id);
    });
    RandomSchedule schedule(cluster, seed);
    schedule.run(2500);
    schedule.recover();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

// Leaders that come and go without need, by transfer, by giving up and by unfounded hints.
TEST(Figure3Schedules, ThePropertiesHoldWhileLeadershipMoves) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    TestCluster cluster({1, 2, 3, 4}, {}, [seed](Config& c) {
      c.pre_vote = seed % 2 == 0;
      c.seed = seed_of(seed, c.id);
    });
    RandomSchedule schedule(cluster, seed);
    schedule.extra = [&cluster](NodeId id, Random& random) {
      switch (random.below(4)) {
        case 0: (void)cluster[id].transfer_leader(1 + random.below(4)); return;
        case 1: cluster[id].step_down(0); return;
        case 2: cluster[id].report_leader_lost(cluster[id].leader(), 0); return;
        default: (void)cluster[id].campaign();
      }
    };
    schedule.run(2500);
    schedule.recover();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

// --- the checks notice

bool reports(const std::vector<std::string>& violations, const std::string& property) {
  return std::any_of(violations.begin(), violations.end(),
                     [&](const std::string& v) { return v.starts_with(property + ":"); });
}

// With a forged vote.
void crown(TestCluster& cluster, NodeId id) {
  cluster.check_safety = false;
  EXPECT_TRUE(cluster[id].campaign().is_ok());
  process(cluster, id);
  const NodeId other = id == 3 ? 2 : 3;
  const Term term = cluster[id].term();
  EXPECT_TRUE(cluster[id].step(message_of(MessageType::kVoteResponse, other, id, term)).is_ok());
  EXPECT_EQ(cluster[id].role(), Role::kLeader);
  process(cluster, id);
}

TEST(Figure3Checks, NoticeTwoLeadersOfOneTerm) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  Figure3 figure3;
  crown(cluster, 1);
  EXPECT_TRUE(figure3.violations(cluster, 1).empty());
  crown(cluster, 2);
  EXPECT_TRUE(reports(figure3.violations(cluster, 2), "Election Safety"));
}

TEST(Figure3Checks, NoticeALeaderThatChangesItsLog) {
  for (const bool shorter : {false, true}) {
    TestCluster cluster({1, 2, 3}, {}, plain_raft);
    Figure3 figure3;
    cluster.elect(1);
    cluster.propose(1, "a");
    cluster.propose(1, "b");
    EXPECT_TRUE(figure3.violations(cluster, 1).empty());
    Entry changed = stored_entries(cluster.log(1)).at(shorter ? 0 : 2);
    if (!shorter) changed.data = "c";
    cluster.log(1).append({changed});
    EXPECT_TRUE(reports(figure3.violations(cluster, 1), "Leader Append-Only"));
  }
}

TEST(Figure3Checks, NoticeLogsThatAgreeAtAnIndexAndNotBefore) {
  TestCluster cluster = cluster_with_logs({{2, 2, 4}, {2, 3, 4}}, 4);
  Figure3 figure3;
  EXPECT_TRUE(reports(figure3.violations(cluster, 1), "Log Matching"));
  TestCluster differing = cluster_with_logs({{2, 2, 4}, {2, 3, 3}}, 4);
  EXPECT_TRUE(figure3.violations(differing, 1).empty());
}

TEST(Figure3Checks, NoticeALeaderWithoutACommittedEntry) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  Figure3 figure3;
  cluster.elect(1);
  cluster.isolate(3);
  cluster.propose(1, "a");
  EXPECT_TRUE(figure3.violations(cluster, 1).empty());
  while (cluster[3].term() <= cluster[1].term()) {
    cluster[3].step_down(0);
    crown(cluster, 3);
  }
  EXPECT_TRUE(reports(figure3.violations(cluster, 3), "Leader Completeness"));
}

TEST(Figure3Checks, NoticeStateMachinesThatDiffer) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.check_safety = false;
  Figure3 figure3;
  cluster.elect(1);
  cluster.isolate(3);
  cluster.propose(1, "a");
  EXPECT_TRUE(figure3.violations(cluster, 1).empty());
  Message forged = append_of(2, 3, 9, 2, 2, {9}, 3);
  forged.entries[0].data = "b";
  exchange(cluster, forged);
  EXPECT_TRUE(reports(figure3.violations(cluster, 3), "State Machine Safety"));
}

}  // namespace
}  // namespace pgraft::raft
