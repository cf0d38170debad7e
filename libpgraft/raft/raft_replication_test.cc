// Sections 5.3, 5.4.2 (figure 8), 7 and 8; durability and flow control.
#include "libpgraft/raft/raft_test_cluster.h"

namespace pgraft::raft {
namespace {

Message append(NodeId from, NodeId to, Term term, Index prev, Term prev_term,
               const std::vector<Term>& terms, Index commit = 0) {
  Message message;
  message.type = MessageType::kAppend;
  message.from = from;
  message.to = to;
  message.term = term;
  message.index = prev;
  message.log_term = prev_term;
  message.commit = commit;
  for (Term t : terms) message.entries.push_back({++prev, t, EntryType::kNormal, ""});
  return message;
}

// A cluster whose nodes start with these terms after the base entry (index 1, term 1).
std::unique_ptr<TestCluster> with_logs(const std::vector<std::vector<Term>>& logs, Term term,
                                       const std::function<void(Config&)>& configure = {}) {
  std::vector<NodeId> ids;
  for (NodeId id = 1; id <= logs.size(); ++id) ids.push_back(id);
  auto cluster = std::make_unique<TestCluster>(ids, std::vector<NodeId>{}, configure);
  for (NodeId id : ids) {
    cluster->log(id).append_terms(logs[id - 1]);
    cluster->log(id).hard.term = term;
    cluster->start(id);
  }
  return cluster;
}

TEST(S53Replication, AnEntryIsCommittedWhenAMajorityStoresItAndThenApplied) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(3);
  cluster.propose(1, "a");
  EXPECT_EQ(cluster.data(1), "a");
  EXPECT_EQ(cluster.data(2), "a");  // without a heartbeat: the commit index is sent at once
  cluster.isolate(2);
  cluster.propose(1, "b");
  EXPECT_EQ(cluster.data(1), "a");
  cluster.heal();
  cluster.tick_all(3);
  for (NodeId id : {1, 2, 3}) EXPECT_EQ(cluster.data(id), "ab");
}

TEST(S53Replication, AReadyInUsedMemoryIsLikeAFreshOne) {
  TestCluster used({1, 2, 3});
  TestCluster fresh({1, 2, 3});
  Ready ready;
  ready.soft_state = SoftState{7, Role::kCandidate};
  ready.hard_state = HardState{9, 9, 9};
  ready.entries.resize(3);
  ready.snapshot = std::make_shared<const Snapshot>();
  ready.committed_entries.resize(3);
  ready.messages.resize(3);
  ready.read_states.resize(3);
  ready.must_sync = true;
  used[2].ready_into(&ready);  // nothing has happened
  EXPECT_FALSE(ready.soft_state);
  EXPECT_FALSE(ready.hard_state);
  EXPECT_TRUE(ready.entries.empty());
  EXPECT_EQ(ready.snapshot, nullptr);
  EXPECT_TRUE(ready.committed_entries.empty());
  EXPECT_TRUE(ready.messages.empty());
  EXPECT_TRUE(ready.read_states.empty());
  EXPECT_FALSE(ready.must_sync);

  ready.messages.resize(3);
  ASSERT_TRUE(used[1].campaign().is_ok());
  ASSERT_TRUE(fresh[1].campaign().is_ok());
  used[1].ready_into(&ready);
  const Ready expected = fresh[1].ready();
  EXPECT_EQ(ready.soft_state, expected.soft_state);
  ASSERT_EQ(ready.messages.size(), expected.messages.size());
  for (std::size_t i = 0; i < expected.messages.size(); ++i) {
    EXPECT_EQ(ready.messages[i].type, expected.messages[i].type);
    EXPECT_EQ(ready.messages[i].to, expected.messages[i].to);
  }
}

TEST(S53Replication, ASoleVoterCommitsOnlyWhatIsDurable) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "drives ready() and advance() itself";
  TestCluster cluster({1});
  cluster.elect(1);
  const Index before = cluster.commit(1);
  ASSERT_TRUE(cluster[1].propose("a").is_ok());
  EXPECT_EQ(cluster.commit(1), before);
  const Ready ready = cluster[1].ready();
  EXPECT_EQ(ready.entries.size(), 1u);
  EXPECT_TRUE(ready.must_sync);
  EXPECT_TRUE(ready.committed_entries.empty());
  EXPECT_EQ(cluster.commit(1), before);
  cluster.log(1).append(ready.entries);
  cluster[1].advance();
  EXPECT_EQ(cluster.commit(1), before + 1);
}

TEST(S53Replication, TheLeaderCountsItselfOnlyWhenItsEntryIsDurable) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "drives ready() and advance() itself";
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  const Index before = cluster.commit(1);
  ASSERT_TRUE(cluster[1].propose("a").is_ok());
  const Ready ready = cluster[1].ready();
  Message acked;
  acked.type = MessageType::kAppendResponse;
  acked.from = 2;
  acked.to = 1;
  acked.term = cluster[1].term();
  acked.index = ready.entries.back().index;
  ASSERT_TRUE(cluster[1].step(acked).is_ok());
  EXPECT_EQ(cluster.commit(1), before);
  cluster.log(1).append(ready.entries);
  cluster[1].advance();
  EXPECT_EQ(cluster.commit(1), before + 1);
}

TEST(S53Consistency, AFollowerRefusesEntriesWithoutTheOneBefore) {
  for (const auto& [prev, prev_term, accepted] :
       {std::tuple<Index, Term, bool>{1, 1, true}, {3, 2, true}, {3, 3, false}, {4, 2, false}}) {
    auto cluster = with_logs({{}, {2, 2}}, 3);
    ASSERT_TRUE((*cluster)[2].step(append(1, 2, 3, prev, prev_term, {3})).is_ok());
    cluster->process_ready(2);
    ASSERT_EQ(cluster->in_flight.size(), 1u);
    EXPECT_EQ(!cluster->in_flight.front().reject, accepted) << prev << "/" << prev_term;
  }
}

TEST(S53Consistency, ConflictingEntriesAndAllBehindThemAreReplaced) {
  auto cluster = with_logs({{}, {2, 2, 2}}, 4);
  ASSERT_TRUE((*cluster)[2].step(append(1, 2, 4, 2, 2, {3})).is_ok());
  cluster->process_ready(2);
  EXPECT_EQ(cluster->log(2).terms(), (std::vector<Term>{2, 3}));
}

TEST(S53Consistency, ADelayedMessageDoesNotTruncateWhatAgrees) {
  auto cluster = with_logs({{}, {2, 2, 2}}, 4);
  ASSERT_TRUE((*cluster)[2].step(append(1, 2, 4, 1, 1, {2})).is_ok());
  cluster->process_ready(2);
  EXPECT_EQ(cluster->log(2).terms(), (std::vector<Term>{2, 2, 2}));
  EXPECT_EQ(cluster->in_flight.front().index, 2u);  // acknowledges what the message proves, no more
}

TEST(S53Consistency, TheCommitIndexIsBoundedByWhatTheMessageProves) {
  auto cluster = with_logs({{}, {2, 2, 2}}, 4);
  ASSERT_TRUE((*cluster)[2].step(append(1, 2, 4, 1, 1, {2}, 4)).is_ok());
  EXPECT_EQ(cluster->commit(2), 2u);
}

TEST(S53Consistency, MalformedEntriesAreRefused) {
  auto cluster = with_logs({{}, {}}, 4);
  Message gap = append(1, 2, 4, 1, 1, {2, 2});
  gap.entries[1].index = 7;
  EXPECT_EQ((*cluster)[2].step(gap).code(), Code::kCorruption);
  EXPECT_EQ((*cluster)[2].step(append(1, 2, 4, 1, 1, {3, 2})).code(), Code::kCorruption);
  EXPECT_EQ((*cluster)[2].step(append(1, 2, 4, 1, 1, {5})).code(), Code::kCorruption);
  EXPECT_EQ((*cluster)[2].status().last_index, 1u);
}

// Figure 7: the leader of term 8 and followers a to f.
TEST(S53Consistency, Figure7AllFollowersConvergeToTheLeadersLog) {
  const std::vector<Term> leader = {1, 1, 4, 4, 5, 5, 6, 6, 6};
  for (const std::vector<Term>& follower :
       std::vector<std::vector<Term>>{{1, 1, 4, 4, 5, 5, 6, 6},
                                      {1, 1, 4},
                                      {1, 1, 4, 4, 5, 5, 6, 6, 6, 6},
                                      {1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7},
                                      {1, 1, 4, 4, 4, 4},
                                      {1, 1, 2, 2, 2, 3, 3, 3, 3, 3}}) {
    // A third node votes for the leader in every case.
    auto cluster = with_logs({leader, follower, {}}, 7);
    cluster->elect(1);
    cluster->tick_all(3);
    EXPECT_EQ(cluster->log(2).terms(), cluster->log(1).terms());
    EXPECT_EQ(cluster->commit(2), cluster->commit(1));
  }
}

// A refused message backs up over a whole term, by the follower's terms as well as by the leader's.
TEST(S53BackUp, OneProbeATermNotOneAnEntry) {
  struct Case {
    std::vector<Term> leader, follower;
  };
  const std::vector<Term> many_two(200, 2), many_three(200, 3);
  for (const Case& c : {Case{many_three, many_two}, Case{many_two, std::vector<Term>(150, 1)},
                        Case{std::vector<Term>(200, 4), many_three}}) {
    auto cluster = with_logs({c.leader, c.follower, {}}, 5);
    int refusals = 0;
    cluster->lose = [&refusals](const Message& m) {
      refusals += m.type == MessageType::kAppendResponse && m.from == 2 && m.reject;
      return false;
    };
    cluster->elect(1);
    cluster->tick_all(3);
    EXPECT_EQ(cluster->log(2).terms(), cluster->log(1).terms());
    EXPECT_LE(refusals, 3);
    EXPECT_GE(refusals, 1);
  }
}

TEST(S542Commit, Figure8AnOldEntryIsNotCommittedByCountingAndMayBeOverwritten) {
  // S1 led term 2 and stored its entry on S1 and S2; S5 led term 3 and stored another on itself
  // alone.
  const auto start = [] {
    auto cluster = with_logs({{2}, {2}, {}, {}, {3}}, 3);
    // (c) S1 leads term 4 and brings its old entry to S3; its new one reaches nobody.
    cluster->isolate(5);
    cluster->lose = [](const Message& m) {
      if (m.type != MessageType::kAppend || m.entries.empty()) return false;
      return m.to == 4 || m.entries.back().term == 4;
    };
    return cluster;
  };
  {
    auto cluster = start();
    ASSERT_TRUE((*cluster)[1].campaign().is_ok());
    cluster->settle();
    ASSERT_EQ((*cluster)[1].role(), Role::kLeader);
    ASSERT_EQ((*cluster)[1].term(), 4u);
    // Now by hand, so that only the old entry arrives.
    cluster->lose = {};
    for (NodeId to : {2, 3}) {
      ASSERT_TRUE((*cluster)[to].step(append(1, to, 4, 1, 1, {2})).is_ok());
      cluster->process_ready(to);
    }
    while (cluster->deliver_one()) {
    }
    EXPECT_EQ(cluster->log(3).terms(), (std::vector<Term>{2}));
    EXPECT_EQ((*cluster)[1].status().progress.at(3).match, 2u);
    EXPECT_EQ((*cluster)[1].status().progress.at(2).match, 2u);
    EXPECT_EQ(cluster->commit(1), 1u);  // on a majority, but of an older term
    // (d) S1 dies; S5 wins with the votes of S3 and S4 and overwrites it.
    cluster->in_flight.clear();
    cluster->heal();
    cluster->isolate(1);
    for (NodeId id : {2, 3, 4}) (*cluster)[id].forget_leader();
    ASSERT_TRUE((*cluster)[5].campaign().is_ok());  // learns of term 4
    cluster->settle();
    cluster->elect(5);
    cluster->tick_all(3);
    EXPECT_EQ(cluster->log(3).terms()[0], 3u);
    EXPECT_EQ(cluster->log(2).terms()[0], 3u);
  }
  {
    // (e) With an entry of its own term on a majority both are committed, and S5 can't win.
    auto cluster = start();
    cluster->lose = [](const Message& m) { return m.type == MessageType::kAppend && m.to == 4; };
    cluster->elect(1);
    EXPECT_EQ(cluster->commit(1), 3u);
    cluster->heal();
    cluster->isolate(1);
    for (NodeId id : {2, 3, 4}) (*cluster)[id].forget_leader();
    ASSERT_TRUE((*cluster)[5].campaign().is_ok());
    cluster->settle();
    EXPECT_NE((*cluster)[5].role(), Role::kLeader);
    EXPECT_EQ(cluster->log(3).terms(), (std::vector<Term>{2, 4}));
  }
}

TEST(S8NewLeader, AppendsAnEmptyEntryAndKnowsWhenItIsApplied) {
  TestCluster cluster({1, 2, 3});
  ASSERT_TRUE(cluster[1].campaign().is_ok());
  bool led_before_applied = false;
  for (int i = 0; i < 100 && !cluster[1].own_term_applied(); ++i) {
    led_before_applied |= cluster[1].role() == Role::kLeader;
    for (NodeId id : {1, 2, 3}) {
      if (cluster[id].has_ready()) cluster.process_ready(id);
    }
    cluster.deliver_one();
  }
  EXPECT_TRUE(led_before_applied);
  EXPECT_TRUE(cluster[1].own_term_applied());
  EXPECT_FALSE(cluster[2].own_term_applied());
  EXPECT_EQ(cluster.log(1).terms(), (std::vector<Term>{2}));
}

TEST(S8Proposals, AFollowerForwardsThemAndWithoutALeaderTheyAreRefused) {
  TestCluster cluster({1, 2, 3});
  EXPECT_EQ(cluster[2].propose("x").code(), Code::kNotLeader);
  cluster.elect(1);
  cluster.propose(2, "a");
  for (NodeId id : {1, 2, 3}) EXPECT_EQ(cluster.data(id), "a");
}

TEST(S7Snapshot, AFollowerBehindTheLogIsCaughtUpByOneAndGoesOn) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(3);
  for (int i = 0; i < 10; ++i) cluster.propose(1, "x");
  cluster.compact(1);
  cluster.propose(1, "y");
  cluster.heal();
  cluster.tick_all(4);
  EXPECT_EQ(cluster.data(3), std::string(10, 'x') + "y");
  EXPECT_GT(cluster.log(3).first_index(), 2u);
  EXPECT_EQ(cluster[1].status().progress.at(3).state, ProgressState::kReplicate);
  cluster.propose(1, "z");
  EXPECT_EQ(cluster.data(3), std::string(10, 'x') + "yz");
  cluster.start(3);  // what it stored is enough
  cluster.tick_all(2);
  EXPECT_EQ(cluster.data(3), std::string(10, 'x') + "yz");
}

TEST(S7Snapshot, OneThatFailedIsTriedAgain) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.isolate(3);
  for (int i = 0; i < 5; ++i) cluster.propose(1, "x");
  cluster.compact(1);
  cluster.heal();
  int lost = 0;
  cluster.lose = [&](const Message& m) {
    if (m.type != MessageType::kSnapshot || lost == 2) return false;
    ++lost;
    cluster[1].report_snapshot(3, false);
    return true;
  };
  cluster.tick_all(8);
  EXPECT_EQ(lost, 2);
  EXPECT_EQ(cluster.data(3), "xxxxx");
}

Message snapshot_message(Term term, SnapshotMeta meta) {
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->meta = std::move(meta);
  Message message;
  message.type = MessageType::kSnapshot;
  message.from = 1;
  message.to = 2;
  message.term = term;
  message.snapshot = snapshot;
  return message;
}

TEST(S7Snapshot, AnOldOneIsIgnoredAndAnswered) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.propose(1, "x");
  const Index committed = cluster.commit(2);
  ASSERT_TRUE(
      cluster[2]
          .step(snapshot_message(cluster[1].term(), {1, 1, {{1, 2, 3}, {}, {}, {}, false, {}}}))
          .is_ok());
  cluster.process_ready(2);
  EXPECT_EQ(cluster.commit(2), committed);
  EXPECT_EQ(cluster.in_flight.back().index, committed);
}

TEST(S7Snapshot, OneThatTheLogAgreesWithKeepsTheEntriesBehindIt) {
  auto cluster = with_logs({{}, {2, 2, 2}}, 3);
  ASSERT_TRUE(
      (*cluster)[2].step(snapshot_message(3, {3, 2, {{1, 2}, {}, {}, {}, false, {}}})).is_ok());
  EXPECT_EQ(cluster->commit(2), 3u);
  EXPECT_EQ((*cluster)[2].status().last_index, 4u);
}

TEST(S7Snapshot, OneWhoseConfigurationContradictsItselfIsRefused) {
  TestCluster cluster({1, 2});
  EXPECT_EQ(cluster[2].step(snapshot_message(3, {9, 2, {{1, 2}, {2}, {}, {}, false, {}}})).code(),
            Code::kCorruption);
  EXPECT_EQ(cluster[2].status().last_index, 1u);
}

TEST(M4bCommitDurability, TheCommitIndexIsStoredWithTheEntriesItCameWith) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "drives ready() and advance() itself";
  auto cluster = with_logs({{}, {}}, 2);
  ASSERT_TRUE((*cluster)[2].step(append(1, 2, 2, 1, 1, {2, 2, 2}, 3)).is_ok());
  const Ready ready = (*cluster)[2].ready();
  EXPECT_EQ(ready.entries.size(), 3u);
  ASSERT_TRUE(ready.hard_state.has_value());
  EXPECT_EQ(ready.hard_state->commit, 3u);
  EXPECT_TRUE(ready.must_sync);
  EXPECT_EQ(ready.committed_entries.size(), 2u);
}

TEST(M4bCommitDurability, ACommitIndexAloneNeedsNoSync) {
  if (TestCluster::asynchronous()) GTEST_SKIP() << "drives ready() and advance() itself";
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.propose(1, "x");
  const Ready& last = cluster.nodes.at(2).readies.back();
  ASSERT_TRUE(last.hard_state.has_value());
  EXPECT_TRUE(last.entries.empty());
  EXPECT_FALSE(last.must_sync);
}

TEST(Restart, GoesOnFromWhatIsStored) {
  TestCluster cluster({1, 2, 3});
  cluster.elect(1);
  cluster.propose(1, "a");
  const HardState before = cluster.hard(2);
  cluster.start(2);
  EXPECT_EQ(cluster.hard(2), before);
  cluster.settle();
  EXPECT_EQ(cluster.data(2), "a");
  cluster.propose(1, "b");
  cluster.tick_all(2);
  EXPECT_EQ(cluster.data(2), "ab");
}

TEST(Restart, ALogThatIsShorterThanItsCommitIndexIsRefused) {
  TestCluster cluster({1});
  cluster.log(1).hard.commit = 9;
  const auto created = RawNode::create(cluster.nodes.at(1).config, &cluster.log(1));
  ASSERT_FALSE(created.is_ok());
  EXPECT_EQ(created.status().code(), Code::kCorruption);
}

TEST(FlowControl, UncommittedProposalsAreBounded) {
  TestCluster cluster({1, 2, 3}, {}, [](Config& c) { c.max_uncommitted_bytes = 100; });
  cluster.elect(1);
  cluster.isolate(1);
  EXPECT_TRUE(cluster[1].propose(std::string(200, 'x')).is_ok());  // one always passes
  EXPECT_EQ(cluster[1].propose("y").code(), Code::kResourceExhausted);
  cluster.settle();
  cluster.heal();
  cluster.tick_all(3);
  EXPECT_EQ(cluster.data(2), std::string(200, 'x'));
  EXPECT_TRUE(cluster[1].propose("y").is_ok());
}

TEST(FlowControl, MessagesInFlightAreBoundedAndAllArrives) {
  struct Case {
    std::size_t msgs;
    std::uint64_t bytes;
  };
  for (const Case& c : {Case{4, 0}, Case{256, 40}}) {
    TestCluster cluster({1, 2}, {}, [&c](Config& config) {
      config.max_inflight_msgs = c.msgs;
      config.max_inflight_bytes = c.bytes;
      config.max_size_per_msg = 10;
    });
    cluster.elect(1);
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(cluster[1].propose("0123456789").is_ok());
    cluster.process_ready(1);
    EXPECT_EQ(cluster.take(MessageType::kAppend).size(), 4u);  // and these are lost
    cluster.tick_all(3);
    EXPECT_EQ(cluster.data(2).size(), 500u);
  }
}

TEST(FlowControl, OneEntryAMessageWhenTheSizeIsZero) {
  TestCluster cluster({1, 2}, {}, [](Config& c) { c.max_size_per_msg = 0; });
  cluster.elect(1);
  std::size_t most = 0;
  cluster.lose = [&most](const Message& m) {
    if (m.type == MessageType::kAppend) most = std::max(most, m.entries.size());
    return false;
  };
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(cluster[1].propose("x").is_ok());
  cluster.settle();
  EXPECT_EQ(most, 1u);
  EXPECT_EQ(cluster.data(2), "xxxxx");
}

TEST(FlowControl, CommittedEntriesComeInBoundedPortions) {
  TestCluster cluster({1}, {}, [](Config& c) { c.max_committed_bytes_per_ready = 3; });
  cluster.elect(1);
  for (int i = 0; i < 7; ++i) ASSERT_TRUE(cluster[1].propose("x").is_ok());
  cluster.settle();
  EXPECT_EQ(cluster.data(1), "xxxxxxx");
  for (const Ready& ready : cluster.nodes.at(1).readies)
    EXPECT_LE(ready.committed_entries.size(), 3u);
}

TEST(FlowControl, AnUnreachableFollowerIsProbed) {
  TestCluster cluster({1, 2});
  cluster.elect(1);
  EXPECT_EQ(cluster[1].status().progress.at(2).state, ProgressState::kReplicate);
  cluster[1].report_unreachable(2);
  EXPECT_EQ(cluster[1].status().progress.at(2).state, ProgressState::kProbe);
  cluster.propose(1, "x");
  EXPECT_EQ(cluster[1].status().progress.at(2).state, ProgressState::kReplicate);
}

// Loss, duplication, reordering, restarts: the cluster's checks (figure 3) must hold, and once they
// end all converge.
TEST(Figure3, PropertiesHoldUnderAnUnreliableNetwork) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    TestCluster cluster({1, 2, 3, 4, 5}, {}, [seed](Config& c) {
      c.seed = seed;
      c.pre_vote = c.check_quorum = seed % 2 == 0;
      c.max_inflight_msgs = 3;
      c.max_size_per_msg = 4;
    });
    std::uint64_t state = seed;
    const auto random = [&state](std::uint64_t n) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      return (state >> 33) % n;
    };
    for (int i = 0; i < 3000; ++i) {
      const NodeId id = 1 + random(5);
      switch (random(8)) {
        case 0: cluster.tick(id); break;
        case 1: (void)cluster[id].propose(std::string(1, static_cast<char>('a' + i % 26))); break;
        case 2:
          if (random(20) == 0) cluster.start(id);
          if (random(20) == 0) cluster.compact(id);
          break;
        default:
          if (cluster[id].has_ready()) cluster.process_ready(id);
          if (cluster.in_flight.empty()) break;
          std::swap(cluster.in_flight.front(), cluster.in_flight[random(cluster.in_flight.size())]);
          if (random(10) == 0) cluster.in_flight.push_back(cluster.in_flight.front());
          if (random(10) == 0) cluster.lose_one();
          cluster.deliver_one();
      }
    }
    cluster.settle();
    std::string last;
    for (int i = 0; i < 500 && last.empty(); ++i) {
      cluster.tick_all();
      for (NodeId id = 1; id <= 5; ++id) {
        if (cluster[id].role() == Role::kLeader && cluster[id].propose("!").is_ok()) last = "!";
      }
    }
    cluster.settle();
    cluster.tick_all(10);
    for (NodeId id = 2; id <= 5; ++id) EXPECT_EQ(cluster.data(id), cluster.data(1)) << seed;
    EXPECT_EQ(cluster.data(1).back(), '!') << seed;
  }
}

}  // namespace
}  // namespace pgraft::raft
