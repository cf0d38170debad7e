// The paper's section 7, a test a rule: what raft_replication_test.cc does not show.
#include "libpgraft/raft/figure3.h"

namespace pgraft::raft {
namespace {

SnapshotMeta meta(Index index, Term term, std::vector<NodeId> voters = {1, 2, 3}) {
  return {index, term, {std::move(voters), {}, {}, {}, false, {}}};
}

// Drops what the log holds up to `index`.
void compact_to(TestCluster& cluster, NodeId id, Index index) {
  Snapshot snapshot;
  snapshot.meta = meta(index, 0);
  cluster.log(id).compact(snapshot);
}

// Each server compacts on its own; nobody else needs to know.
TEST(Section7, ServersCompactTheirLogsIndependently) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  for (NodeId id : {2, 3, 1}) {
    cluster.propose(1, "x");
    cluster.compact(id);
  }
  cluster.propose(1, "y");
  cluster.tick_all(2);
  EXPECT_EQ(cluster.log(2).first_index(), 4u);
  EXPECT_EQ(cluster.log(3).first_index(), 5u);
  EXPECT_EQ(cluster.log(1).first_index(), 6u);
  for (NodeId id : {1, 2, 3}) EXPECT_EQ(cluster.data(id), "xxxy") << id;
}

// Index and term of the last entry that was dropped are kept: the consistency check of the first
// entry behind it needs them, and so does the comparison of logs in an election.
TEST(Section7, TheLastEntryThatIsDroppedStillTakesPartInTheChecks) {
  TestCluster cluster = cluster_with_logs({{}, {2, 3}}, 4, plain_raft);
  exchange(cluster, append_of(1, 2, 4, 3, 3, {}, 3));
  ASSERT_EQ(cluster.commit(2), 3u);
  compact_to(cluster, 2, 3);
  cluster.start(2);
  const auto vote = exchange(cluster, vote_of(MessageType::kVote, 1, 2, 5, 9, 2));
  EXPECT_TRUE(vote.at(0).reject);
  const auto accepted = exchange(cluster, append_of(1, 2, 5, 3, 3, {5}));
  EXPECT_FALSE(accepted.at(0).reject);
  EXPECT_EQ(accepted.at(0).index, 4u);
  EXPECT_EQ(cluster.log(2).terms(), std::vector<Term>{5});
}

// A leader sends entries as long as it has them, and a snapshot to whoever needs one that is gone.
TEST(Section7, ASnapshotIsSentOnlyWhenTheNextEntryIsGone) {
  for (const Index kept_from : {3, 4, 5}) {
    TestCluster cluster({1, 2, 3}, {}, plain_raft);
    cluster.elect(1);
    cluster.isolate(3);  // stores the entry at 2, and lacks 3
    for (int i = 0; i < 4; ++i) cluster.propose(1, "x");
    compact_to(cluster, 1, kept_from - 1);
    int snapshots = 0;
    cluster.heal();
    cluster.lose = [&snapshots](const Message& m) {
      snapshots += m.type == MessageType::kSnapshot;
      return false;
    };
    cluster.tick(1, 2);
    cluster.settle();
    EXPECT_EQ(snapshots > 0, kept_from > 3) << kept_from;
    EXPECT_EQ(cluster.log(3).last_index(), cluster.log(1).last_index());
  }
}

// InstallSnapshot, receiver: one of an older term is not taken.
TEST(Section7Install, ASnapshotOfAnOlderTermChangesNothing) {
  TestCluster cluster = cluster_with_logs({{}, {2, 2}}, 4, plain_raft);
  exchange(cluster, snapshot_of(1, 2, 3, meta(9, 3)));
  EXPECT_EQ(cluster.log(2).terms(), (std::vector<Term>{2, 2}));
  EXPECT_EQ(cluster.commit(2), 1u);
}

// It replaces a log that ends before it, or that differs from it, entirely; a log that holds its
// last entry keeps what follows.
TEST(Section7Install, TheLogIsReplacedUnlessItHoldsTheSnapshotsLastEntry) {
  struct Case {
    std::vector<Term> own;  // behind the base entry
    bool replaced;
    std::vector<Term> left;
  };
  for (const Case& c : std::vector<Case>{{{}, true, {}},
                                         {{2}, true, {}},
                                         {{2, 2, 2}, true, {}},  // another entry at its index
                                         {{2, 2, 3, 3}, false, {2, 2, 3, 3}},
                                         {{2, 2, 3}, false, {2, 2, 3}}}) {
    TestCluster cluster = cluster_with_logs({{}, c.own, {}}, 4, plain_raft);
    const auto answers = exchange(cluster, snapshot_of(1, 2, 4, meta(4, 3), "state"));
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0].type, MessageType::kAppendResponse);
    EXPECT_FALSE(answers[0].reject);
    EXPECT_EQ(answers[0].index, 4u);
    EXPECT_EQ(cluster.log(2).terms(), c.left);
    EXPECT_EQ(cluster.commit(2), 4u);
    EXPECT_EQ(cluster.data(2) == "state", c.replaced);
    EXPECT_EQ(cluster.log(2).first_index(), c.replaced ? 5u : 2u);
    // Either way the next entry goes on from there.
    const Index next = cluster.log(2).last_index();
    const Term term = c.left.empty() ? 3 : c.left.back();
    EXPECT_FALSE(exchange(cluster, append_of(1, 2, 4, next, term, {4})).at(0).reject);
  }
}

// The state machine begins with the snapshot's state, and goes on with the entries behind it.
TEST(Section7Install, TheStateMachineIsResetToTheSnapshot) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  Message entries = append_of(1, 2, 2, 1, 1, {2}, 2);
  entries.entries[0].data = "old";
  exchange(cluster, entries);
  EXPECT_EQ(cluster.data(2), "old");
  exchange(cluster, snapshot_of(1, 2, 2, meta(9, 2), "new"));
  EXPECT_EQ(cluster.data(2), "new");
  EXPECT_EQ(cluster[2].status().applied, 9u);
  entries = append_of(1, 2, 2, 9, 2, {2}, 10);
  entries.entries[0].data = "er";
  exchange(cluster, entries);
  EXPECT_EQ(cluster.data(2), "newer");
}

// The configuration as of its last entry comes with it and is in effect, also after a restart.
TEST(Section7Install, TheConfigurationIsTheSnapshots) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  SnapshotMeta joint = meta(9, 2, {1, 2, 4});
  joint.conf.voters_outgoing = {1, 2, 3};
  joint.conf.learners = {5};
  exchange(cluster, snapshot_of(1, 2, 2, joint));
  EXPECT_EQ(cluster[2].status().conf, joint.conf);
  cluster.start(2);
  EXPECT_EQ(cluster[2].status().conf, joint.conf);
  ASSERT_TRUE(cluster[2].campaign().is_ok());
  process(cluster, 2);
  std::set<NodeId> asked;
  for (const Message& m : cluster.take(MessageType::kVote)) asked.insert(m.to);
  EXPECT_EQ(asked, (std::set<NodeId>{1, 3, 4}));
}

// A smaller one that comes late does not take the place of a greater one.
TEST(Section7Install, AnOlderSnapshotDoesNotReplaceANewerOne) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  exchange(cluster, snapshot_of(1, 2, 2, meta(9, 2), "nine"));
  const auto answers = exchange(cluster, snapshot_of(1, 2, 2, meta(5, 2), "five"));
  EXPECT_EQ(answers.at(0).index, 9u);  // what the leader may count on
  EXPECT_EQ(cluster.data(2), "nine");
  EXPECT_EQ((*cluster.log(2).snapshot())->meta.index, 9u);
}

// Until it is stored and restored nothing is applied, and the node does not campaign: what it knows
// is about to be replaced.
TEST(Section7Install, NothingElseHappensWhileASnapshotWaits) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "drives ready() and advance() itself";
  TestCluster cluster = cluster_with_logs({{}, {2, 2}, {}}, 2, plain_raft);
  ASSERT_TRUE(cluster[2].step(append_of(1, 2, 2, 1, 1, {2}, 2)).is_ok());
  ASSERT_TRUE(cluster[2].step(snapshot_of(1, 2, 2, meta(9, 2), "state")).is_ok());
  EXPECT_EQ(cluster[2].campaign().code(), Code::kFailedPrecondition);
  const Ready ready = cluster[2].ready();
  ASSERT_NE(ready.snapshot, nullptr);
  EXPECT_TRUE(ready.must_sync);
  EXPECT_TRUE(ready.committed_entries.empty());
  EXPECT_TRUE(ready.entries.empty());
}

// While a follower restores one, the others go on; behind it the follower gets the rest.
TEST(Section7Install, ASlowSnapshotHoldsUpNobodyElse) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.isolate(3);
  for (int i = 0; i < 5; ++i) cluster.propose(1, "x");
  cluster.compact(1);
  cluster.heal();
  cluster.nodes.at(3).hold_apply = true;
  for (int i = 0; i < 5; ++i) {
    cluster.tick_all(1);
    cluster.propose(1, "y");
  }
  EXPECT_EQ(cluster.data(2), "xxxxxyyyyy");
  EXPECT_EQ(cluster.data(3), "");
  cluster.nodes.at(3).hold_apply = false;
  cluster.tick_all(4);
  EXPECT_EQ(cluster.data(3), "xxxxxyyyyy");
}

}  // namespace
}  // namespace pgraft::raft
