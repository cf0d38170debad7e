// The thesis' chapter 4, a test a rule: what raft_membership_test.cc does not show. See
// paper_section6_test.cc for when a configuration counts.
#include "libpgraft/raft/confchange.h"
#include "libpgraft/raft/figure3.h"

namespace pgraft::raft {
namespace {

// --- thesis 4.1

// Any majority before and any after the change of one server have a server in common, which is why
// one step is enough ...
TEST(Thesis4_1, MajoritiesBeforeAndAfterOneChangeOverlap) {
  const auto decides = [](std::size_t voters, std::size_t set) {
    NodeSet ids;
    Votes votes;
    for (NodeId id = 0; id < 6; ++id) {
      if ((voters >> id & 1) != 0) ids.insert(id);
      votes[id] = (set >> id & 1) != 0;
    }
    return majority_vote(ids, votes) == VoteResult::kWon;
  };
  bool two_apart_are_disjoint = false;
  for (std::size_t before = 1; before < 32; ++before) {
    for (std::size_t after = 1; after < 32; ++after) {
      const int changed = __builtin_popcountll(before ^ after);
      if (changed > 2) continue;
      for (std::size_t one = 0; one < 32; ++one) {
        const std::size_t other = 31 & ~one;  // the greatest set that is disjoint
        const bool both = decides(before, one) && decides(after, other);
        if (changed <= 1) {
          EXPECT_FALSE(both) << before << " " << after << " " << one;
        } else {
          two_apart_are_disjoint |= both;
        }
      }
    }
  }
  EXPECT_TRUE(two_apart_are_disjoint);
}

// ... and why two in one step are refused.
TEST(Thesis4_1, TwoVotersAreNotChangedInOneStep) {
  Tracker tracker;
  tracker.config.incoming = {1, 2, 3};
  for (NodeId id : {1, 2, 3}) tracker.progress.emplace(id, Progress(1, false, {}));
  const Changer changer(tracker, 1);
  EXPECT_FALSE(changer.simple({add_voter(4), add_voter(5)}).is_ok());
  EXPECT_FALSE(changer.simple({remove_node(1), remove_node(2)}).is_ok());
  EXPECT_FALSE(changer.simple({remove_node(1), add_voter(4)}).is_ok());
  EXPECT_TRUE(changer.simple({add_voter(4)}).is_ok());
  EXPECT_TRUE(changer.simple({remove_node(1), add_learner(4)}).is_ok());
}

// Leader 1 proposes two changes one after the other; {2, 3} and {1, 4, 5} lose sight of each other
// when node 2 has stored both and knows of neither that it is committed. Returns what is broken
// when both sides go on.
std::vector<std::string> two_changes_under_way(bool validate) {
  TestCluster cluster;
  cluster.check_safety = false;
  const auto configure = [validate](Config& c) {
    plain_raft(c);
    c.disable_conf_change_validation = !validate;
  };
  ConfState conf;
  conf.voters = {1, 2, 3};
  for (NodeId id : {1, 2, 3}) cluster.add(id, conf, configure);
  for (NodeId id : {4, 5}) cluster.add_empty(id, configure);
  cluster.elect(1);
  cluster.cut_link(1, 3);
  const Index committed = cluster.commit(1);
  cluster.lose = [committed](const Message& m) { return m.to == 2 && m.commit > committed; };
  for (NodeId id : {4, 5}) {
    EXPECT_TRUE(cluster[1].propose_conf_change({{}, {add_voter(id)}, ""}).is_ok());
  }
  cluster.settle();
  cluster.tick(1, 3);
  cluster.settle();

  Figure3 figure3;
  std::vector<std::string> broken;
  const auto check = [&] {
    for (const auto& [id, node] : cluster.nodes) {
      for (std::string& line : figure3.violations(cluster, id)) broken.push_back(std::move(line));
    }
  };
  for (const auto& [id, others] :
       {std::pair<NodeId, std::set<NodeId>>{1, {1, 4, 5}}, {2, {2, 3}}}) {
    connect_only(cluster, others);
    if (id == 2) cluster.elect(2);
    EXPECT_TRUE(cluster[id].propose("x").is_ok());
    cluster.settle();
    check();
  }
  return broken;
}

TEST(Thesis4_1, AChangeIsAdmittedOnlyWhenTheOneBeforeIsInEffect) {
  EXPECT_TRUE(two_changes_under_way(true).empty());
}

TEST(Thesis4_1, OtherwiseTwoMajoritiesWouldDecide) {
  EXPECT_FALSE(two_changes_under_way(false).empty());
}

// What a leader has inherited may hold a change: it admits none before all that is applied.
TEST(Thesis4_1, ANewLeaderAdmitsNoChangeWhileAnInheritedOneMayBeUnderWay) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.lose = [](const Message& m) { return m.type == MessageType::kAppendResponse; };
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {add_learner(8)}, ""}).is_ok());
  cluster.settle();
  cluster.elect(2);  // holds it, uncommitted
  EXPECT_TRUE(cluster[2].conf_change_pending());
  ASSERT_TRUE(cluster[2].propose_conf_change({{}, {add_learner(9)}, ""}).is_ok());
  cluster.heal();
  cluster.tick_all(2);
  EXPECT_EQ(cluster[2].status().conf.learners, std::vector<NodeId>{8});
  EXPECT_EQ(stored_entries(cluster.log(2)).back().type, EntryType::kNormal);
  cluster.change(2, {add_learner(9)});
  EXPECT_EQ(cluster[2].status().conf.learners, (std::vector<NodeId>{8, 9}));
}

// The flaw of one-step changes that was found after the thesis: the unfinished change of one
// leader, and the finished one of the next, which has committed nothing of its own term, have
// majorities that don't meet. No change is in effect before an entry of its leader's term is
// committed.
TEST(Thesis4_1, NoChangeIsInEffectBeforeAnEntryOfItsLeadersTermIsCommitted) {
  TestCluster cluster({1, 2, 3, 4}, {}, plain_raft);
  cluster.add_empty(5, plain_raft);
  Figure3 figure3;
  const auto check = [&] {
    for (const auto& [id, node] : cluster.nodes)
      EXPECT_TRUE(figure3.violations(cluster, id).empty()) << id;
  };
  cluster.elect(1);
  cluster.tick_all(2);
  // The change of leader 1 reaches nobody.
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {add_voter(5)}, ""}).is_ok());
  cluster.settle();
  check();
  // Leader 2 removes node 1 before it has committed anything.
  cluster.lose = [](const Message& m) {
    return m.type == MessageType::kAppendResponse && m.from == 4;
  };
  ASSERT_TRUE(cluster[2].campaign().is_ok());
  while (cluster[2].role() != Role::kLeader) {
    for (NodeId id : {2, 3, 4}) process(cluster, id);
    ASSERT_TRUE(cluster.deliver_one());
  }
  ASSERT_TRUE(cluster[2].propose_conf_change({{}, {remove_node(1)}, ""}).is_ok());
  cluster.settle();
  // Two of the four that count have it.
  EXPECT_EQ(cluster[2].status().conf.voters, (std::vector<NodeId>{1, 2, 3, 4}));
  EXPECT_FALSE(cluster[2].own_term_applied());
  cluster.lose = {};
  cluster.tick(2, 2);
  cluster.settle();
  EXPECT_TRUE(cluster[2].own_term_applied());
  EXPECT_EQ(cluster[2].status().conf.voters, (std::vector<NodeId>{2, 3, 4}));
  check();
  // Node 1 is back, hears node 4 and the one it had wanted to add, and can't lead.
  cluster.start(1);
  connect_only(cluster, {1, 4, 5});
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(cluster[1].campaign().is_ok());
    cluster.settle();
    EXPECT_NE(cluster[1].role(), Role::kLeader);
    check();
  }
}

// --- a change is in effect when it is applied: a crash right after that

// A commit index that comes alone need not be synced, not even when it is a change that it commits
// (PROTOCOL.md M4b). Node 2 has applied the change, loses its power and counts as before it. That
// is one step back at most, and majorities one step apart meet: what was committed since, on nodes
// that node 2 needs, keeps it from winning.
TEST(M4bCommitDurability, ANodeThatForgotThatTheLastChangeIsCommittedHarmsNobody) {
  struct Case {
    std::vector<NodeId> before;
    ConfChangeSingle change;
    std::set<NodeId> decide;  // without node 2, after the change
    std::set<NodeId> campaign;
  };
  for (const Case& c : {Case{{1, 2, 3}, add_voter(4), {1, 3, 4}, {2, 3}},
                        Case{{1, 2, 3, 4}, remove_node(4), {1, 3}, {2, 3, 4}},
                        Case{{1, 2, 3, 4, 5}, remove_node(5), {1, 3, 4}, {2, 3, 5}}}) {
    TestCluster cluster(c.before, {}, plain_raft);
    cluster.loses_power = true;
    if (c.change.type == ConfChangeType::kAddVoter) {
      cluster.add_empty(c.change.node_id, plain_raft);
      cluster.elect(1);
      cluster.change(1, {add_learner(c.change.node_id)});
    } else {
      cluster.elect(1);
    }
    cluster.change(1, {c.change});
    cluster.tick_all(2);
    ASSERT_NE(cluster.nodes.at(2).conf.voters, c.before);
    connect_only(cluster, c.decide);
    cluster.propose(1, "x");
    ASSERT_EQ(cluster.data(1), "x");
    cluster.start(2);
    connect_only(cluster, c.campaign);
    cluster.settle();
    ASSERT_EQ(cluster[2].status().conf.voters, c.before);
    ASSERT_TRUE(cluster[2].conf_change_pending());
    ASSERT_TRUE(cluster[2].campaign().is_ok());
    cluster.settle();
    EXPECT_NE(cluster[2].role(), Role::kLeader);
  }
}

// Two steps back it must never be: so the next change is not stored without the commit index that
// it came with. Returns what is broken when node 2 forgets even that.
std::vector<std::string> two_changes_forgotten(bool all) {
  TestCluster cluster({1, 2, 3}, {4, 5}, plain_raft);
  cluster.check_safety = false;
  cluster.loses_power = true;
  cluster.elect(1);
  cluster.tick_all(2);
  connect_only(cluster, {1, 2, 4, 5});
  cluster.change(1, {add_voter(4)});
  cluster.change(1, {add_voter(5)});
  cluster.tick_all(2);
  EXPECT_EQ(cluster.nodes.at(2).conf.voters.size(), 5u);
  connect_only(cluster, {1, 4, 5});
  cluster.propose(1, "x");
  EXPECT_EQ(cluster.data(1), "x");
  Figure3 figure3;
  std::vector<std::string> broken = figure3.violations(cluster, 1);
  if (all) cluster.nodes.at(2).synced_commit = TestCluster::kBase;
  cluster.start(2);
  connect_only(cluster, {2, 3});
  cluster.settle();
  EXPECT_EQ(cluster[2].status().conf.voters.size(), all ? 3u : 4u);
  EXPECT_TRUE(cluster[2].campaign().is_ok());
  cluster.settle();
  for (std::string& line : figure3.violations(cluster, 2)) broken.push_back(std::move(line));
  return broken;
}

TEST(M4bCommitDurability, WhoeverStoresAChangeKnowsThatTheOneBeforeIsCommitted) {
  EXPECT_TRUE(two_changes_forgotten(false).empty());
  EXPECT_FALSE(two_changes_forgotten(true).empty());
}

// --- thesis 4.2

// 4.2.1, the gap in availability: a server added with an empty log as a voter stops a cluster that
// has lost another one, until it has caught up. As a learner it does not.
TEST(Thesis4_2_1, AnEmptyServerIsCaughtUpBeforeItCounts) {
  for (const bool learner_first : {false, true}) {
    TestCluster cluster({1, 2, 3}, {}, plain_raft);
    cluster.add_empty(4, plain_raft);
    cluster.elect(1);
    cluster.isolate(4);  // slow
    cluster.change(1, {learner_first ? add_learner(4) : add_voter(4)});
    cluster.isolate(3);  // ... and another one fails
    cluster.propose(1, "x");
    EXPECT_EQ(cluster.data(1) == "x", learner_first);
    cluster.heal();
    cluster.isolate(3);
    cluster.tick_all(3);
    EXPECT_EQ(cluster.data(4), "x");
    EXPECT_EQ(cluster.data(1), "x");
  }
}

// 4.2.2: a leader that removes itself leads until that is committed, and for that the old
// configuration counts.
TEST(Thesis4_2_2, ALeaderThatRemovesItselfLeadsUntilThatIsCommitted) {
  TestCluster cluster({1, 2, 3}, {}, plain_raft);
  cluster.elect(1);
  cluster.isolate(1);
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {remove_node(1)}, ""}).is_ok());
  cluster.settle();
  EXPECT_EQ(cluster[1].role(), Role::kLeader);
  EXPECT_EQ(cluster[1].status().conf.voters, (std::vector<NodeId>{1, 2, 3}));
  cluster.heal();
  cluster.isolate(3);
  cluster.tick(1, 2);
  cluster.settle();
  EXPECT_EQ(cluster[1].role(), Role::kFollower);
  // The other one knows that it is committed, and can go on.
  EXPECT_EQ(cluster[2].status().conf.voters, (std::vector<NodeId>{2, 3}));
}

// A candidate may be told, with a refusal, that its own removal is committed: the votes that others
// gave it elect nobody.
TEST(Thesis4_2_2, ACandidateThatLearnsOfItsRemovalGivesUp) {
  TestCluster cluster({1, 2, 3, 4}, {}, plain_raft);
  cluster.elect(1);
  cluster.lose = [](const Message& m) { return m.type == MessageType::kAppendResponse; };
  ASSERT_TRUE(cluster[1].propose_conf_change({{}, {remove_node(2)}, ""}).is_ok());
  cluster.settle();
  connect_only(cluster, {1, 3, 4});
  ASSERT_TRUE(cluster[2].campaign().is_ok());
  process(cluster, 2);
  ASSERT_EQ(cluster[2].role(), Role::kCandidate);
  const Term term = cluster[2].term();
  Message refusal = message_of(MessageType::kVoteResponse, 4, 2, term);
  refusal.reject = true;
  refusal.commit = cluster[2].status().last_index;
  refusal.log_term = cluster[1].term();
  exchange(cluster, refusal);
  EXPECT_EQ(cluster[2].status().conf.voters, (std::vector<NodeId>{1, 3, 4}));
  EXPECT_EQ(cluster[2].role(), Role::kFollower);
  for (NodeId id : {1, 3}) exchange(cluster, message_of(MessageType::kVoteResponse, id, 2, term));
  EXPECT_EQ(cluster[2].role(), Role::kFollower);
}

// 4.3: several servers at once, while entries keep coming and leaders change.
struct RandomChanges {
  explicit RandomChanges(std::uint64_t seed)
      : configure([seed](Config& c) {
          c.pre_vote = seed % 2 == 0;
          c.max_size_per_msg = seed % 4;
          c.seed = seed_of(seed, c.id);
        }),
        cluster({1, 2, 3}, {}, configure),
        schedule(cluster, seed) {
    for (NodeId id : {4, 5, 6}) cluster.add_empty(id, configure);
  }

  // One that the leader may refuse, or turn into an empty entry.
  void propose(NodeId leader, Random& random, const std::set<NodeId>& fixed = {}) {
    ConfChange change;
    if (cluster[leader].status().conf.voters_outgoing.empty()) {
      change.transition = static_cast<ConfChangeTransition>(random.below(3));
      for (std::uint64_t more = 1 + random.below(3); more > 0; --more) {
        auto type = static_cast<ConfChangeType>(random.below(3));
        const NodeId id = 1 + random.below(6);
        if (fixed.contains(id)) continue;
        // An empty node gives no vote (PROTOCOL.md M5), so it learns first.
        if (type == ConfChangeType::kAddVoter && cluster[id].status().conf.voters.empty())
          type = ConfChangeType::kAddLearner;
        change.changes.push_back({type, id, 0});
      }
      if (change.changes.empty()) return;
    }
    proposed += cluster[leader].propose_conf_change(change).is_ok();
  }

  std::function<void(Config&)> configure;
  TestCluster cluster;
  RandomSchedule schedule;
  int proposed = 0;
};

// The properties of figure 3 hold for whatever mixture of configurations is about, also where nodes
// lose their power and with it what they were not told to sync.
TEST(Thesis4_3, ThePropertiesHoldWhileTheMembershipChanges) {
  int proposed = 0;
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    RandomChanges changes(seed);
    changes.cluster.loses_power = seed % 2 == 0;
    changes.schedule.extra = [&changes](NodeId, Random& random) {
      const NodeId leader = leader_of(changes.cluster);
      if (leader == kNoNode) return;
      if (random.one_in(8)) {
        (void)changes.cluster[leader].transfer_leader(1 + random.below(6));
      } else {
        changes.propose(leader, random);
      }
    };
    changes.schedule.run(2500);
    changes.schedule.recover();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
    proposed += changes.proposed;
  }
  EXPECT_GT(proposed, 200);
}

// Once the faults end, changes are finished and all members agree; servers that stay lead.
TEST(Thesis4_3, AClusterWhoseMembershipChangedGoesOnWhenTheFaultsEnd) {
  int proposed = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    RandomChanges changes(seed);
    for (NodeId id : {4, 5, 6}) changes.cluster[id].set_election_delay(1000000);
    changes.schedule.extra = [&changes](NodeId, Random& random) {
      for (NodeId id : {4, 5, 6}) changes.cluster[id].set_election_delay(1000000);  // restarted
      const NodeId leader = leader_of(changes.cluster);
      if (leader != kNoNode) changes.propose(leader, random, {1, 2, 3});
    };
    changes.schedule.run(2500);
    changes.schedule.recover();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
    proposed += changes.proposed;
  }
  EXPECT_GT(proposed, 200);
}

}  // namespace
}  // namespace pgraft::raft
