#include "libpgraft/node/replica.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <set>

namespace pgraft::node {
namespace {

using testing::HasSubstr;

state::Member member(raft::NodeId id, raft::Incarnation incarnation = 0) {
  return {id,
          incarnation != 0 ? incarnation : 1000 + id,
          "node" + std::to_string(id),
          "10.0.0." + std::to_string(id),
          8001,
          "10.0.0." + std::to_string(id),
          5432};
}

// A store that writes down what is asked of it, and fails when told to.
class RecordingStore final : public storage::LogStore {
 public:
  RecordingStore(std::unique_ptr<storage::LogStore> store, std::vector<std::string>* calls)
      : store_(std::move(store)), calls_(calls) {}

  Result<InitialState> initial_state() const override { return store_->initial_state(); }
  raft::Index first_index() const override { return store_->first_index(); }
  raft::Index last_index() const override { return store_->last_index(); }
  Result<raft::Term> term(raft::Index i) const override { return store_->term(i); }
  Result<std::vector<raft::Entry>> entries(raft::Index lo, raft::Index hi,
                                           std::uint64_t max_bytes) const override {
    return store_->entries(lo, hi, max_bytes);
  }
  Result<std::shared_ptr<const raft::Snapshot>> snapshot() const override {
    return store_->snapshot();
  }
  Status write(const storage::WriteBatch& batch) override {
    if (fails) return {Code::kIo, "disk full"};
    calls_->push_back("write term " +
                      std::to_string(batch.hard_state ? batch.hard_state->term : 0));
    return store_->write(batch);
  }
  Status save_snapshot(const raft::Snapshot& snapshot, raft::Index first_kept) override {
    ++snapshots_saved;
    return store_->save_snapshot(snapshot, first_kept);
  }
  Status put_value(const std::string& key, const std::string& value) override {
    calls_->push_back("put " + key);
    return store_->put_value(key, value);
  }
  Result<std::string> get_value(const std::string& key) const override {
    return store_->get_value(key);
  }
  bool is_blank() const override { return store_->is_blank(); }

  bool fails = false;
  int snapshots_saved = 0;

 private:
  std::unique_ptr<storage::LogStore> store_;
  std::vector<std::string>* calls_;
};

// One node with everything around it; `calls` is what it asked of the world, in order.
struct TestNode : Outbox, Host {
  TestNode(raft::NodeId node, raft::Incarnation inc) : id(node), incarnation(inc) {}

  void send(raft::Message message) override {
    calls.push_back("send term " + std::to_string(message.term));
    out.push_back(std::move(message));
  }
  void send_report(raft::NodeId to, const failover::Report& report) override {
    reports.emplace_back(to, report);
  }
  void send_wal_status(raft::NodeId to, const failover::WalStatus& status) override {
    wal_statuses.emplace_back(to, status);
  }
  void close(const failover::Orders& orders) override {
    calls.push_back("close term " + std::to_string(orders.term));
  }
  void carry_out(const failover::Orders& orders) override {
    calls.push_back("carry out");
    newest_orders = orders;
  }
  Status clear_abstain() override { return Status::ok(); }
  void state_changed(const state::StateMachine&, const raft::ConfState& conf) override {
    newest_conf = conf;
  }
  void applying() override { EXPECT_FALSE(std::exchange(in_apply, true)); }
  void applied() override { EXPECT_TRUE(std::exchange(in_apply, false)); }

  const raft::NodeId id;
  const raft::Incarnation incarnation;
  std::vector<std::string> calls;
  std::unique_ptr<RecordingStore> store =
      std::make_unique<RecordingStore>(storage::make_memory_store(), &calls);
  std::deque<raft::Message> out;
  std::vector<std::pair<raft::NodeId, failover::Report>> reports;
  std::vector<std::pair<raft::NodeId, failover::WalStatus>> wal_statuses;
  failover::Orders newest_orders;
  raft::ConfState newest_conf;
  bool in_apply = false;
  std::unique_ptr<HeldLogWriter> writer;
  std::unique_ptr<Replica> replica;
};

// The end of a request; checks that it ends once.
struct Answer {
  Completion completion() {
    return [this](const Status& s, std::uint64_t v) {
      ++times;
      status = s;
      value = v;
    };
  }
  int times = 0;
  Status status;
  std::uint64_t value = 0;
};

class ReplicaTest : public testing::Test {
 protected:
  static constexpr int kElectionTicks = 10;

  Replica::Options options(const TestNode& node) const {
    Replica::Options o;
    o.raft.id = node.id;
    o.raft.incarnation = node.incarnation;
    o.raft.election_ticks = kElectionTicks;
    o.raft.heartbeat_ticks = 1;
    o.raft.seed = node.id;
    o.with_database = with_database;
    o.request_timeout_ticks = 50;
    o.snapshot_every = snapshot_every;
    o.keep_tail = keep_tail;
    return o;
  }
  TestNode& add(raft::NodeId id, raft::Incarnation incarnation = 0) {
    auto node = std::make_unique<TestNode>(id, incarnation != 0 ? incarnation : 1000 + id);
    TestNode& added = *node;
    nodes[id] = std::move(node);
    return added;
  }
  void start(TestNode& node) {
    node.replica.reset();
    node.out.clear();
    node.writer = std::make_unique<HeldLogWriter>(node.store.get());
    auto made = Replica::create(options(node), node.store.get(), node.writer.get(), &node, &node);
    ASSERT_TRUE(made) << made.status().to_string();
    node.replica = std::move(made).value();
    process(node);
  }
  void process(TestNode& node) {
    const Status s = node.replica->process();
    EXPECT_TRUE(s) << "node " << node.id << ": " << s.to_string();
  }
  // Delivers until nothing moves. Nodes that are `cut` neither send nor receive.
  void deliver() {
    for (bool moved = true; moved;) {
      moved = false;
      for (auto& [id, node] : nodes) {
        while (!node->out.empty()) {
          raft::Message message = std::move(node->out.front());
          node->out.pop_front();
          moved = true;
          const auto to = nodes.find(message.to);
          const bool is_snapshot = message.type == raft::MessageType::kSnapshot;
          const bool arrives = to != nodes.end() && to->second->replica && cut.count(id) == 0 &&
                               cut.count(message.to) == 0;
          if (arrives) {
            to->second->replica->receive(message);
            process(*to->second);
          }
          if (is_snapshot && node->replica) {
            node->replica->snapshot_sent(message.to, arrives);
            process(*node);
          }
        }
      }
    }
  }
  void tick(int times = 1) {
    for (int i = 0; i < times; ++i) {
      for (auto& [id, node] : nodes) {
        if (!node->replica) continue;
        node->replica->tick();
        process(*node);
      }
      deliver();
    }
  }
  template <class Condition>
  bool tick_until(Condition condition, int most = 500) {
    for (int i = 0; i < most && !condition(); ++i) tick();
    return condition();
  }
  TestNode* leader() {
    for (auto& [id, node] : nodes) {
      if (node->replica && cut.count(id) == 0 &&
          std::as_const(*node->replica).raft().role() == raft::Role::kLeader) {
        return node.get();
      }
    }
    return nullptr;
  }
  // A cluster of nodes 1 .. n, made the way users make one; node 1 leads.
  void make_cluster(raft::NodeId n) {
    TestNode& first = add(1);
    ASSERT_TRUE(Replica::bootstrap(first.store.get(), member(1), 77));
    start(first);
    ASSERT_TRUE(tick_until([&] { return leader() == &first; }));
    for (raft::NodeId id = 2; id <= n; ++id) {
      start(add(id));
      Answer& answer = answers.emplace_back();
      first.replica->add_member(member(id), answer.completion());
      process(first);
      ASSERT_TRUE(tick_until([&] { return answer.times == 1; })) << id;
      ASSERT_TRUE(answer.status) << answer.status.to_string();
      ASSERT_TRUE(tick_until([&] { return first.replica->conf().voters.size() == id; })) << id;
    }
    ASSERT_TRUE(tick_until([&] { return agree(); }));
  }
  bool agree() {
    for (auto& [id, node] : nodes) {
      if (!node->replica || cut.count(id) != 0) continue;
      if (node->replica->machine().snapshot() != leader()->replica->machine().snapshot()) {
        return false;
      }
    }
    return true;
  }
  Answer put(TestNode& node, const std::string& key, const std::string& value) {
    Answer& answer = answers.emplace_back();
    node.replica->propose(state::KvPut{key, value}, answer.completion());
    process(node);
    deliver();
    EXPECT_EQ(answer.times, 1);
    return answer;
  }

  bool with_database = false;
  raft::Index snapshot_every = 10000;
  raft::Index keep_tail = 5000;
  std::deque<Answer> answers;  // outlive the nodes, which may answer late
  std::map<raft::NodeId, std::unique_ptr<TestNode>> nodes;
  std::set<raft::NodeId> cut;
};

TEST_F(ReplicaTest, ABootstrappedNodeLeadsItselfAndServes) {
  make_cluster(1);
  const Answer answer = put(*nodes[1], "k", "v");
  EXPECT_TRUE(answer.status) << answer.status.to_string();
  EXPECT_EQ(answer.value, nodes[1]->replica->machine().applied_index());
  EXPECT_EQ(nodes[1]->replica->machine().kv().find("k")->value, "v");
  EXPECT_EQ(nodes[1]->replica->machine().cluster_id(), 77u);
}

TEST_F(ReplicaTest, OnlyABlankStoreBecomesAFirstNode) {
  make_cluster(1);
  EXPECT_EQ(Replica::bootstrap(nodes[1]->store.get(), member(1), 78).code(),
            Code::kFailedPrecondition);
}

TEST_F(ReplicaTest, ANodeWithoutAClusterWaitsAndRefuses) {
  TestNode& node = add(5);
  start(node);
  tick(10 * kElectionTicks);
  EXPECT_EQ(node.replica->raft_status().soft.role, raft::Role::kFollower);
  EXPECT_EQ(node.replica->raft_status().hard.term, 0u);
  EXPECT_FALSE(node.replica->is_member());
  EXPECT_EQ(put(node, "k", "v").status.code(), Code::kFailedPrecondition);
  Answer answer;
  node.replica->add_member(member(6), answer.completion());
  process(node);
  EXPECT_EQ(answer.status.code(), Code::kFailedPrecondition);
}

TEST_F(ReplicaTest, JoiningNodesBecomeVotersAndLearnTheCluster) {
  make_cluster(3);
  for (auto& [id, node] : nodes) {
    EXPECT_EQ(node->newest_conf.voters, (std::vector<raft::NodeId>{1, 2, 3}));
    EXPECT_EQ(node->replica->machine().cluster_id(), 77u) << id;
    EXPECT_EQ(node->replica->machine().members().at(2), member(2));
    EXPECT_TRUE(node->replica->is_member());
  }
}

TEST_F(ReplicaTest, ALearnerFarBehindIsFedByASnapshot) {
  snapshot_every = 20;
  keep_tail = 5;
  make_cluster(1);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(put(*nodes[1], "k" + std::to_string(i), "v").status);
  EXPECT_GE(nodes[1]->store->snapshots_saved, 4);
  EXPECT_GT(nodes[1]->store->first_index(), 50u) << "the log is cut behind the snapshot";

  TestNode& joiner = add(2);
  start(joiner);
  Answer answer;
  nodes[1]->replica->add_member(member(2), answer.completion());
  process(*nodes[1]);
  ASSERT_TRUE(tick_until([&] { return nodes[1]->replica->conf().voters.size() == 2; }));
  EXPECT_EQ(answer.times, 1);
  ASSERT_TRUE(tick_until([&] { return agree(); }));
  EXPECT_EQ(joiner.replica->machine().kv().items().size(), 100u);
  EXPECT_GT(joiner.store->first_index(), 50u);
}

TEST_F(ReplicaTest, AProposalOnAFollowerIsForwardedAndCompletesThere) {
  make_cluster(3);
  Answer answer;
  nodes[3]->replica->propose(state::KvPut{"k", "v"}, answer.completion());
  process(*nodes[3]);
  EXPECT_EQ(answer.times, 0);
  ASSERT_TRUE(tick_until([&] { return answer.times > 0; }));
  EXPECT_TRUE(answer.status) << answer.status.to_string();
  EXPECT_EQ(nodes[3]->replica->machine().kv().find("k")->value, "v");
  tick(200);
  EXPECT_EQ(answer.times, 1);
}

TEST_F(ReplicaTest, WithoutAMajorityARequestTimesOutOnceWithAnUnknownOutcome) {
  make_cluster(3);
  cut = {2, 3};
  Answer answer;
  nodes[1]->replica->propose(state::KvPut{"k", "v"}, answer.completion());
  process(*nodes[1]);
  deliver();
  EXPECT_EQ(answer.times, 0);
  for (int i = 0; i < 200; ++i) {
    nodes[1]->replica->tick();
    process(*nodes[1]);
  }
  EXPECT_EQ(answer.times, 1);
  EXPECT_EQ(answer.status.code(), Code::kTimeout);
  EXPECT_THAT(answer.status.message(), HasSubstr("unknown"));

  const Answer later = put(*nodes[1], "k", "w");
  EXPECT_EQ(later.status.code(), Code::kNoQuorum);
  EXPECT_THAT(later.status.message(), HasSubstr("1 of 3"));
  cut.clear();
  ASSERT_TRUE(tick_until([&] { return leader() != nullptr && agree(); }));
  EXPECT_EQ(answer.times, 1) << "what commits after all isn't answered again";
}

TEST_F(ReplicaTest, RequestsThatWaitAreToldWhenTheReplicaEnds) {
  make_cluster(3);
  cut = {2, 3};
  Answer answer;
  nodes[1]->replica->propose(state::KvPut{"k", "v"}, answer.completion());
  nodes[1]->replica.reset();
  EXPECT_EQ(answer.times, 1);
  EXPECT_EQ(answer.status.code(), Code::kUnavailable);
}

TEST_F(ReplicaTest, ACompletionMayMakeTheNextRequest) {
  make_cluster(1);
  Answer second;
  nodes[1]->replica->propose(state::KvPut{"a", "1"}, [&](const Status& s, std::uint64_t) {
    EXPECT_TRUE(s);
    nodes[1]->replica->propose(state::KvPut{"b", "2"}, second.completion());
  });
  process(*nodes[1]);
  EXPECT_EQ(second.times, 1);
  EXPECT_TRUE(second.status);
}

TEST_F(ReplicaTest, ACommandOfAnEarlierStartIsNotTakenForOneOfThisStart) {
  make_cluster(1);
  ASSERT_TRUE(put(*nodes[1], "a", "1").status);  // the first request of its start
  start(*nodes[1]);
  Answer answer;
  // Waits while the restarted node applies its old log, where that first request is.
  nodes[1]->replica->propose(state::KvPut{"b", "2"}, answer.completion());
  process(*nodes[1]);
  EXPECT_EQ(answer.times, 1) << "there is no leader yet, so it is refused";
  EXPECT_EQ(answer.status.code(), Code::kNoQuorum);
  EXPECT_EQ(*nodes[1]->store->get_value("starts"), "2");
}

TEST_F(ReplicaTest, OperationsOverABoundAndPromotionsOfCallersAreRefused) {
  make_cluster(1);
  EXPECT_EQ(put(*nodes[1], "", "v").status.code(), Code::kInvalidArgument);
  Answer answer;
  nodes[1]->replica->propose(failover::Promotion{1, 1, 2}, answer.completion());
  process(*nodes[1]);
  EXPECT_EQ(answer.status.code(), Code::kInvalidArgument);
  EXPECT_TRUE(nodes[1]->replica->machine().promotions().empty());
}

TEST_F(ReplicaTest, ARestartRebuildsAnEqualState) {
  snapshot_every = 7;
  keep_tail = 3;
  make_cluster(3);
  for (int i = 0; i < 25; ++i) {
    ASSERT_TRUE(put(*leader(), "k" + std::to_string(i), std::to_string(i)).status);
  }
  ASSERT_TRUE(tick_until([&] { return agree(); }));
  const auto kv = nodes[2]->replica->machine().kv().items();
  for (auto& [id, node] : nodes) start(*node);
  ASSERT_TRUE(tick_until([&] { return leader() != nullptr && agree(); }));
  for (auto& [id, node] : nodes) {
    EXPECT_EQ(node->replica->machine().kv().items(), kv) << id;
    EXPECT_EQ(node->replica->conf().voters, (std::vector<raft::NodeId>{1, 2, 3}));
  }
}

TEST_F(ReplicaTest, WhenTheLeaderIsLostAnotherOneLeads) {
  make_cluster(3);
  cut = {1};
  nodes[2]->replica->peer_lost(1);
  nodes[3]->replica->peer_lost(1);
  process(*nodes[2]);
  process(*nodes[3]);
  int ticks = 0;
  while (leader() == nullptr && ticks < 200) {
    tick();
    ++ticks;
  }
  EXPECT_EQ(leader(), nodes[2].get()) << "the first one behind the lost leader";
  EXPECT_LT(ticks, kElectionTicks) << "without waiting for the election timeout";
  EXPECT_TRUE(put(*nodes[2], "k", "v").status.is_ok());
}

TEST_F(ReplicaTest, MembershipRequestsAreRefusedWithTheReason) {
  make_cluster(3);
  state::Member same_address = member(9);
  same_address.address = member(2).address;
  state::Member nameless = member(9);
  nameless.name.clear();
  const struct {
    const char* name;
    raft::NodeId on;
    std::function<void(Replica&, Completion)> request;
    Code code;
    const char* says;
  } cases[] = {
      {"add on a follower", 2,
       [](Replica& r, Completion d) { r.add_member(member(9), std::move(d)); }, Code::kNotLeader,
       "node 1 is (10.0.0.1:8001)"},
      {"remove on a follower", 2,
       [](Replica& r, Completion d) { r.remove_member(3, std::move(d)); }, Code::kNotLeader,
       "node 1"},
      {"transfer on a follower", 2,
       [](Replica& r, Completion d) { r.transfer_leadership({.to = 3}, std::move(d)); },
       Code::kNotLeader, "node 1"},
      {"duplicate id", 1, [](Replica& r, Completion d) { r.add_member(member(2), std::move(d)); },
       Code::kAlreadyExists, "node 2"},
      {"duplicate address", 1,
       [&](Replica& r, Completion d) { r.add_member(same_address, std::move(d)); },
       Code::kAlreadyExists, "10.0.0.2:8001"},
      {"malformed", 1, [&](Replica& r, Completion d) { r.add_member(nameless, std::move(d)); },
       Code::kInvalidArgument, "name"},
      {"remove a stranger", 1, [](Replica& r, Completion d) { r.remove_member(9, std::move(d)); },
       Code::kNotFound, "node 9"},
      {"remove the leader", 1, [](Replica& r, Completion d) { r.remove_member(1, std::move(d)); },
       Code::kFailedPrecondition, "transfer the leadership"},
      {"transfer to a stranger", 1,
       [](Replica& r, Completion d) { r.transfer_leadership({.to = 9}, std::move(d)); },
       Code::kNotFound, "node 9"},
  };
  for (const auto& c : cases) {
    Answer answer;
    c.request(*nodes[c.on]->replica, answer.completion());
    process(*nodes[c.on]);
    EXPECT_EQ(answer.times, 1) << c.name;
    EXPECT_EQ(answer.status.code(), c.code) << c.name << ": " << answer.status.to_string();
    EXPECT_THAT(answer.status.message(), HasSubstr(c.says)) << c.name;
  }
}

TEST_F(ReplicaTest, TheNumberOfMembersIsBounded) {
  make_cluster(1);
  for (raft::NodeId id = 2; id <= state::kMaxMembers; ++id) {  // learners that never answer
    Answer answer;
    nodes[1]->replica->add_member(member(id), answer.completion());
    process(*nodes[1]);
    ASSERT_TRUE(answer.status) << answer.status.to_string();
  }
  Answer answer;
  nodes[1]->replica->add_member(member(99), answer.completion());
  process(*nodes[1]);
  EXPECT_EQ(answer.status.code(), Code::kResourceExhausted);
}

TEST_F(ReplicaTest, OneMembershipChangeAtATime) {
  make_cluster(3);
  start(add(4));
  Answer first, second;
  nodes[1]->replica->add_member(member(4), first.completion());
  nodes[1]->replica->remove_member(3, second.completion());
  process(*nodes[1]);
  EXPECT_EQ(second.status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(second.status.message(), HasSubstr("under way: node 4 is being added"));
  ASSERT_TRUE(tick_until([&] { return first.times == 1; }));
  EXPECT_TRUE(first.status) << first.status.to_string();
}

TEST_F(ReplicaTest, ALeaderSaysWhatIsWaitedFor) {
  make_cluster(3);
  Replica& leader = *nodes[1]->replica;
  Answer added;
  leader.add_member(member(4), added.completion());  // which is not there
  ASSERT_TRUE(tick_until([&] { return added.times == 1; }));
  tick(kElectionTicks + 5);
  EXPECT_EQ(leader.waits_for(4), "node 4 does not answer");
  EXPECT_EQ(leader.waits_for(2), "");
  EXPECT_EQ(leader.change_waits_for(), "");
  EXPECT_EQ(nodes[2]->replica->waits_for(4), "") << "a follower does not know";

  cut = {2, 3};
  Answer removed;
  leader.remove_member(4, removed.completion());
  process(*nodes[1]);
  EXPECT_EQ(leader.change_waits_for(),
            "another membership change is under way: node 4 is being removed");
  ASSERT_TRUE(tick_until([&] { return removed.times == 1; }));
  EXPECT_EQ(removed.status.code(), Code::kTimeout);
  EXPECT_THAT(removed.status.message(), HasSubstr("no answer from node 2, node 3"));
}

TEST_F(ReplicaTest, ARemovedMemberIsGoneEverywhereAndTheRestGoesOn) {
  make_cluster(3);
  Answer answer;
  nodes[1]->replica->remove_member(3, answer.completion());
  process(*nodes[1]);
  ASSERT_TRUE(tick_until([&] { return answer.times == 1; }));
  EXPECT_TRUE(answer.status) << answer.status.to_string();
  nodes[3]->replica.reset();
  ASSERT_TRUE(tick_until([&] { return agree(); }));
  for (raft::NodeId id : {1, 2}) {
    EXPECT_EQ(nodes[id]->replica->machine().members().count(3), 0u);
    EXPECT_EQ(nodes[id]->replica->conf().voters, (std::vector<raft::NodeId>{1, 2}));
  }
  EXPECT_TRUE(put(*nodes[1], "k", "v").status.is_ok());
}

TEST_F(ReplicaTest, ADeadMemberCanBeRemovedButNotTheLiveMajority) {
  make_cluster(3);
  cut = {3};
  tick(kElectionTicks + 5);
  Answer refused;
  nodes[1]->replica->remove_member(2, refused.completion());  // {1, 3} with 3 dead
  process(*nodes[1]);
  EXPECT_EQ(refused.status.code(), Code::kNoQuorum);
  EXPECT_THAT(refused.status.message(), HasSubstr("1 of 2"));
  Answer removed;
  nodes[1]->replica->remove_member(3, removed.completion());
  process(*nodes[1]);
  ASSERT_TRUE(tick_until([&] { return removed.times == 1; }));
  EXPECT_TRUE(removed.status) << removed.status.to_string();
}

// Whoever is told that a member is removed may destroy it, and the leader may lose power at that
// moment: what it forgets must not be what makes it need that member's vote.
TEST_F(ReplicaTest, AMemberIsNotNeededAnyMoreWhenItsRemovalIsAnswered) {
  make_cluster(2);
  nodes[1]->writer->hold(true);
  Answer removed;
  nodes[1]->replica->remove_member(2, removed.completion());
  process(*nodes[1]);
  deliver();
  for (int writes = 0; removed.times == 0 && writes < 10; ++writes) {
    nodes[1]->writer->write_one();
    process(*nodes[1]);
    if (removed.times == 0) deliver();
  }
  ASSERT_EQ(removed.times, 1);
  ASSERT_TRUE(removed.status) << removed.status.to_string();
  nodes.erase(2);
  start(*nodes[1]);  // without what waits to be written
  EXPECT_TRUE(tick_until([&] { return leader() == nodes[1].get(); }));
  EXPECT_EQ(nodes[1]->replica->conf().voters, (std::vector<raft::NodeId>{1}));
}

TEST_F(ReplicaTest, ARemovalIsAnsweredWhenAMajorityOfTheRestHasStoredIt) {
  make_cluster(4);
  Answer removed;
  nodes[1]->replica->remove_member(4, removed.completion());
  process(*nodes[1]);
  // One link at a time, so that the answer is seen at the first moment.
  for (int round = 0; removed.times == 0 && round < 1000; ++round) {
    bool moved = false;
    for (auto& [id, node] : nodes) {
      if (node->out.empty() || removed.times != 0) continue;
      const raft::Message message = std::move(node->out.front());
      node->out.pop_front();
      nodes[message.to]->replica->receive(message);
      process(*nodes[message.to]);
      moved = true;
    }
    if (!moved) tick();
  }
  ASSERT_TRUE(removed.status) << removed.status.to_string();
  int know = 0;
  for (const raft::NodeId id : {1, 2, 3}) {
    know += nodes[id]->store->initial_state()->hard.commit >= removed.value ? 1 : 0;
  }
  EXPECT_GE(know, 2);
}

TEST_F(ReplicaTest, AWipedNodeIsNotItsOldSelf) {
  make_cluster(3);
  nodes.erase(3);
  start(add(3, 5555));  // the same id, new Raft state: rule 10
  tick(10 * kElectionTicks);
  EXPECT_FALSE(nodes[3]->replica->is_member());
  EXPECT_EQ(nodes[3]->replica->machine().applied_index(), 0u);

  Answer removed;
  nodes[1]->replica->remove_member(3, removed.completion());
  process(*nodes[1]);
  ASSERT_TRUE(tick_until([&] { return removed.times == 1; }));
  ASSERT_TRUE(removed.status) << removed.status.to_string();
  Answer added;
  nodes[1]->replica->add_member(member(3, 5555), added.completion());
  process(*nodes[1]);
  ASSERT_TRUE(tick_until([&] { return nodes[1]->replica->conf().voters.size() == 3; }));
  EXPECT_TRUE(added.status) << added.status.to_string();
  ASSERT_TRUE(tick_until([&] { return agree(); }));
  EXPECT_TRUE(nodes[3]->replica->is_member());
}

TEST_F(ReplicaTest, LeadershipIsTransferredToWhomItIsAskedOrToTheBest) {
  make_cluster(3);
  Answer asked;
  nodes[1]->replica->transfer_leadership({.to = 3}, asked.completion());
  process(*nodes[1]);
  ASSERT_TRUE(tick_until([&] { return asked.times == 1; }));
  EXPECT_TRUE(asked.status) << asked.status.to_string();
  EXPECT_EQ(leader(), nodes[3].get());

  Answer any;
  ASSERT_TRUE(tick_until([&] { return nodes[3]->replica->raft().own_term_applied(); }));
  tick(3);
  nodes[3]->replica->transfer_leadership({.to = 0}, any.completion());
  process(*nodes[3]);
  ASSERT_TRUE(tick_until([&] { return any.times == 1; }));
  EXPECT_TRUE(any.status) << any.status.to_string();
  ASSERT_NE(leader(), nullptr);
  EXPECT_NE(leader(), nodes[3].get());
}

TEST_F(ReplicaTest, ATransferToANodeThatDiedIsGivenUp) {
  make_cluster(3);
  cut = {3};
  Answer answer;
  nodes[1]->replica->transfer_leadership({.to = 3}, answer.completion());
  process(*nodes[1]);
  ASSERT_TRUE(tick_until([&] { return answer.times == 1; }));
  EXPECT_FALSE(answer.status);
  EXPECT_EQ(leader(), nodes[1].get());
  tick(kElectionTicks);
  Answer again;
  nodes[1]->replica->transfer_leadership({.to = 3}, again.completion());
  process(*nodes[1]);
  EXPECT_EQ(again.status.code(), Code::kUnavailable) << again.status.to_string();
}

TEST_F(ReplicaTest, AFailedWriteStopsTheReplicaAndTellsWhoWaits) {
  make_cluster(1);
  nodes[1]->store->fails = true;
  nodes[1]->calls.clear();
  Answer answer;
  nodes[1]->replica->propose(state::KvPut{"k", "v"}, answer.completion());
  const Status failed = nodes[1]->replica->process();
  EXPECT_EQ(failed.code(), Code::kIo);
  EXPECT_EQ(answer.times, 1);
  EXPECT_EQ(answer.status.code(), Code::kUnavailable);
  EXPECT_EQ(nodes[1]->replica->machine().kv().items().count("k"), 0u);
  nodes[1]->store->fails = false;
  EXPECT_EQ(nodes[1]->replica->process().code(), Code::kIo) << "it stays failed";
}

TEST_F(ReplicaTest, ASnapshotOfAnotherClusterReplacesNothing) {
  make_cluster(1);
  state::StateMachine other;
  other.set_cluster_id(78);
  other.set_applied_index(1000);
  auto snapshot = std::make_shared<raft::Snapshot>();
  snapshot->meta = {1000, 50, {}};
  snapshot->meta.conf.voters = {1, 2};
  snapshot->data = other.snapshot();
  raft::Message message;
  message.type = raft::MessageType::kSnapshot;
  message.from = 2;
  message.to = 1;
  message.term = 50;
  message.snapshot = snapshot;
  message.to_incarnation = nodes[1]->incarnation;
  nodes[1]->replica->receive(message);
  EXPECT_EQ(nodes[1]->replica->process().code(), Code::kMismatch);
  EXPECT_LT((*nodes[1]->store->snapshot())->meta.index, 1000u);
}

// --- reads

TEST_F(ReplicaTest, AReadBarrierEndsWhenWhatWasCommittedBeforeItIsApplied) {
  make_cluster(3);
  for (raft::NodeId id : {1, 2, 3}) {
    put(*nodes[1], "key", std::to_string(id));
    Answer read;
    nodes[id]->replica->read_barrier(read.completion());
    process(*nodes[id]);
    ASSERT_TRUE(tick_until([&] { return read.times == 1; }));
    EXPECT_TRUE(read.status) << read.status.to_string();
    EXPECT_EQ(nodes[id]->replica->machine().kv().find("key")->value, std::to_string(id));
    EXPECT_LE(read.value, nodes[id]->replica->machine().applied_index());
  }
}

TEST_F(ReplicaTest, AReadOnALeaderThatIsCutOffNeverSucceeds) {
  make_cluster(3);
  cut = {1};
  Answer read;
  nodes[1]->replica->read_barrier(read.completion());
  process(*nodes[1]);
  ASSERT_TRUE(tick_until([&] { return read.times == 1; }));
  EXPECT_EQ(read.status.code(), Code::kTimeout);
}

TEST_F(ReplicaTest, AReadThatWasLostIsAskedAgain) {
  make_cluster(3);
  Answer read;
  nodes[2]->replica->read_barrier(read.completion());
  process(*nodes[2]);
  nodes[2]->out.clear();  // the question
  ASSERT_TRUE(tick_until([&] { return read.times == 1; }));
  EXPECT_TRUE(read.status) << read.status.to_string();
}

// --- the disk beside it

TEST_F(ReplicaTest, ALeaderWhoseDiskStandsStillSaysSo) {
  make_cluster(3);
  EXPECT_FALSE(nodes[1]->replica->is_disk_stalled());
  nodes[1]->writer->hold(true);
  nodes[1]->replica->propose(state::KvPut{"a", "1"}, [](const Status&, std::uint64_t) {});
  process(*nodes[1]);
  EXPECT_TRUE(nodes[1]->replica->is_writing());
  for (int i = 0; i <= kElectionTicks + 1; ++i) {
    nodes[1]->replica->tick();
    process(*nodes[1]);
    deliver();
  }
  EXPECT_TRUE(nodes[1]->replica->is_disk_stalled());
  EXPECT_EQ(nodes[2]->replica->machine().kv().items().count("a"), 1u);  // the others went on
  EXPECT_EQ(nodes[1]->replica->machine().kv().items().count("a"), 0u);
  nodes[1]->writer->hold(false);
  process(*nodes[1]);
  EXPECT_FALSE(nodes[1]->replica->is_disk_stalled());
  EXPECT_EQ(nodes[1]->replica->machine().kv().items().count("a"), 1u);
}

TEST_F(ReplicaTest, WhatIsProposedTogetherIsOneMessageToEachMember) {
  make_cluster(3);
  nodes[1]->out.clear();
  int done = 0;
  for (int i = 0; i < 50; ++i) {
    nodes[1]->replica->propose(state::LogAppend{"x"},
                               [&](const Status& s, std::uint64_t) { done += s ? 1 : 0; });
  }
  process(*nodes[1]);
  EXPECT_EQ(std::count_if(nodes[1]->out.begin(), nodes[1]->out.end(),
                          [](const raft::Message& m) {
                            return m.type == raft::MessageType::kAppend && m.entries.size() == 50;
                          }),
            2);
  deliver();
  EXPECT_EQ(done, 50);
}

TEST_F(ReplicaTest, MembersTellEachOtherWhereTheirWalIs) {
  make_cluster(3);
  nodes[1]->wal_statuses.clear();
  tick(options(*nodes[1]).wal_status_ticks);
  EXPECT_TRUE(nodes[1]->wal_statuses.empty()) << "nothing is known of its database yet";

  failover::DatabaseView view;
  view.valid = true;
  view.in_recovery = false;
  view.end = view.replayed = {2, 700};
  view.needed = 300;
  view.oldest = 100;
  nodes[1]->replica->observe(view);
  const failover::WalStatus own{1, false, {2, 700}, {2, 700}, 300, 100};
  EXPECT_EQ(nodes[1]->replica->wal_status(1), own);
  tick(options(*nodes[1]).wal_status_ticks);
  ASSERT_EQ(nodes[1]->wal_statuses.size(), 2u);
  for (const auto& [to, status] : nodes[1]->wal_statuses) {
    EXPECT_EQ(status, own);
    nodes[to]->replica->receive_wal_status(status);
    EXPECT_EQ(nodes[to]->replica->wal_status(1), own);
  }

  failover::WalStatus stranger = own;
  stranger.from = 9;
  nodes[2]->replica->receive_wal_status(stranger);
  EXPECT_EQ(nodes[2]->replica->wal_status(9).from, 0u);
}

// --- with a database
// ------------------------------------------------------------------------------------------

class ReplicaWithDatabaseTest : public ReplicaTest {
 protected:
  ReplicaWithDatabaseTest() { with_database = true; }

  // The first position of each in the calls made since; -1: not there.
  static std::ptrdiff_t position(const std::vector<std::string>& calls, const std::string& call) {
    const auto found = std::find(calls.begin(), calls.end(), call);
    return found == calls.end() ? -1 : found - calls.begin();
  }
};

TEST_F(ReplicaWithDatabaseTest, TheGateClosesBeforeATermIsPersistedOrSent) {
  TestNode& node = add(1);
  raft::Snapshot snapshot;
  {
    // A member of three, so that its campaign sends messages.
    state::StateMachine machine;
    machine.set_cluster_id(77);
    machine.set_applied_index(1);
    for (raft::NodeId id : {1, 2, 3}) machine.put_member(member(id));
    snapshot.meta = {1, 1, {}};
    snapshot.meta.conf.voters = {1, 2, 3};
    snapshot.data = machine.snapshot();
  }
  storage::WriteBatch batch;
  batch.hard_state = raft::HardState{1, 0, 1};
  batch.snapshot = &snapshot;
  ASSERT_TRUE(node.store->write(batch));
  start(node);
  EXPECT_EQ(position(node.calls, "close term 1") >= 0, true)
      << "what an earlier start allowed is closed at the start";

  node.calls.clear();
  raft::Message vote;  // rule 2, a term learned from another node
  vote.type = raft::MessageType::kVote;
  vote.from = 2;
  vote.to = 1;
  vote.term = 9;
  vote.index = 100;
  vote.log_term = 8;
  vote.to_incarnation = node.incarnation;
  for (int i = 0; i < 3 * kElectionTicks; ++i) {
    node.replica->tick();
    process(node);
  }
  node.calls.clear();
  node.replica->receive(vote);
  process(node);
  const std::ptrdiff_t close = position(node.calls, "close term 9");
  const std::ptrdiff_t write = position(node.calls, "write term 9");
  const std::ptrdiff_t send = position(node.calls, "send term 9");
  ASSERT_GE(close, 0) << testing::PrintToString(node.calls);
  ASSERT_GE(write, 0) << testing::PrintToString(node.calls);
  ASSERT_GE(send, 0) << testing::PrintToString(node.calls);
  EXPECT_LT(close, write) << testing::PrintToString(node.calls);
  EXPECT_LT(write, send) << testing::PrintToString(node.calls);
}

TEST_F(ReplicaWithDatabaseTest, TheGateClosesBeforeANodesOwnCampaignIsPersisted) {
  TestNode& node = add(1);
  ASSERT_TRUE(Replica::bootstrap(node.store.get(), member(1), 77));
  start(node);
  node.calls.clear();
  ASSERT_TRUE(tick_until([&] { return leader() == &node; }));
  const raft::Term term = node.replica->raft_status().hard.term;
  const std::ptrdiff_t close = position(node.calls, "close term " + std::to_string(term));
  const std::ptrdiff_t write = position(node.calls, "write term " + std::to_string(term));
  ASSERT_GE(close, 0) << testing::PrintToString(node.calls);
  ASSERT_GE(write, 0) << testing::PrintToString(node.calls);
  EXPECT_LT(close, write) << testing::PrintToString(node.calls);
}

// A host that does at once what it is ordered: enough for one node to be promoted.
class ObedientDatabase {
 public:
  failover::DatabaseView view(const failover::Orders& orders) {
    if (orders.promote != 0 && in_recovery_) {
      history_ = {{end_.timeline, end_.lsn}};
      end_ = {orders.promote, end_.lsn + 100};
      in_recovery_ = false;
    }
    failover::DatabaseView v;
    v.orders_seen = orders.seq;
    v.valid = true;
    v.in_recovery = in_recovery_;
    v.receiver_stopped = orders.follow == 0;
    v.replay_exhausted = in_recovery_;
    v.end_known = true;
    v.frozen = !orders.admit_walsenders;
    v.end = v.replayed = end_;
    v.highest_history = end_.timeline;
    v.history = history_;
    v.quorum_in_force = orders.quorum_generation;
    return v;
  }

 private:
  bool in_recovery_ = true;
  failover::Position end_{1, 1000};
  failover::History history_;
};

TEST_F(ReplicaWithDatabaseTest, ASingleNodeIsPromotedAndItsBoundIsDurableFirst) {
  TestNode& node = add(1);
  ASSERT_TRUE(Replica::bootstrap(node.store.get(), member(1), 77));
  start(node);
  ObedientDatabase database;
  ASSERT_TRUE(tick_until([&] {
    node.replica->observe(database.view(node.replica->controller().orders()));
    process(node);
    return node.replica->controller().is_writable_leader();
  })) << node.replica->controller().phase();
  ASSERT_NE(node.replica->machine().latest_done(), nullptr);
  EXPECT_EQ(node.replica->machine().latest_done()->promotion.timeline, 2u);
  EXPECT_TRUE(node.newest_orders.lift_fence);
  EXPECT_EQ(*node.store->get_value("max_ack_timeline"), "2");  // rule 3

  // PROTOCOL.md, M9: all that was acknowledged before lies below the end of the WAL by now.
  Answer read;
  const auto position = std::make_shared<failover::Position>();
  node.replica->read_barrier(read.completion(), position);
  process(node);
  EXPECT_EQ(read.times, 1);
  EXPECT_TRUE(read.status) << read.status.to_string();
  EXPECT_EQ(*position, database.view(node.replica->controller().orders()).end);

  Answer added;
  node.replica->add_member(member(2), added.completion());
  process(node);
  EXPECT_EQ(added.times, 1);
  EXPECT_TRUE(added.status) << added.status.to_string();
}

TEST_F(ReplicaWithDatabaseTest, ALeaderThatIsNotPromotedDoesNotKnowWhatWasAcknowledged) {
  TestNode& node = add(1);
  ASSERT_TRUE(Replica::bootstrap(node.store.get(), member(1), 77));
  start(node);
  ASSERT_TRUE(tick_until([&] { return leader() == &node; }));
  Answer plain, read;
  node.replica->read_barrier(plain.completion());
  node.replica->read_barrier(read.completion(), std::make_shared<failover::Position>());
  process(node);
  EXPECT_EQ(plain.times, 1);
  EXPECT_EQ(read.times, 0);
  ASSERT_TRUE(tick_until([&] { return read.times == 1; }));
  EXPECT_EQ(read.status.code(), Code::kTimeout);
}

TEST_F(ReplicaWithDatabaseTest, ALeaderThatIsNotPromotedDoesNotChangeMembership) {
  TestNode& node = add(1);
  ASSERT_TRUE(Replica::bootstrap(node.store.get(), member(1), 77));
  start(node);
  ASSERT_TRUE(tick_until([&] { return leader() == &node; }));
  Answer answer;
  node.replica->add_member(member(2), answer.completion());
  process(node);
  EXPECT_EQ(answer.times, 1);
  EXPECT_FALSE(answer.status);  // rule 8
  EXPECT_EQ(node.replica->machine().members().size(), 1u);
}

// --- times to live

TEST_F(ReplicaTest, AKeyGoesEverywhereWhenItsTimeIsOverAndNotBefore) {
  make_cluster(3);
  Answer& answer = answers.emplace_back();
  nodes[3]->replica->propose(state::KvPut{"k", "v", 20 * 20}, answer.completion());
  process(*nodes[3]);
  deliver();
  ASSERT_TRUE(answer.status);
  EXPECT_TRUE(nodes[1]->replica->expires_in_ms("k"));
  EXPECT_FALSE(nodes[2]->replica->expires_in_ms("k")) << "the leader alone measures";
  const auto is_there = [&](raft::NodeId id) {
    return nodes[id]->replica->machine().kv().find("k") != nullptr;
  };
  tick(19);
  for (const raft::NodeId id : {1, 2, 3}) EXPECT_TRUE(is_there(id)) << id;
  EXPECT_TRUE(tick_until([&] { return !is_there(1) && !is_there(2) && !is_there(3); }, 10));
  EXPECT_TRUE(agree());
}

TEST_F(ReplicaTest, ANewLeaderGivesAKeyItsWholeTimeAgain) {
  make_cluster(3);
  nodes[1]->replica->propose(state::KvPut{"k", "v", 100 * 20}, nullptr);
  process(*nodes[1]);
  deliver();
  tick(90);
  nodes[1]->replica->transfer_leadership({.to = 2}, nullptr);
  process(*nodes[1]);
  deliver();
  ASSERT_TRUE(tick_until([&] { return leader() == nodes[2].get(); }, 5));
  tick(90);
  EXPECT_NE(nodes[1]->replica->machine().kv().find("k"), nullptr);
  EXPECT_TRUE(
      tick_until([&] { return nodes[1]->replica->machine().kv().find("k") == nullptr; }, 50));
  EXPECT_TRUE(agree());
}

TEST_F(ReplicaTest, WhatHadNoEffectIsAnsweredWithoutAnIndex) {
  make_cluster(3);
  const auto value_of = [&](const state::Operation& operation) {
    Answer& answer = answers.emplace_back();
    nodes[2]->replica->propose(operation, answer.completion());
    process(*nodes[2]);
    deliver();
    EXPECT_EQ(answer.times, 1);
    EXPECT_TRUE(answer.status) << answer.status.to_string();
    return answer.value;
  };
  EXPECT_EQ(value_of(state::KvDelete{"k"}), 0u);
  const std::uint64_t made = value_of(state::KvCompareAndSet{"k", 0, {}, "1"});
  EXPECT_GT(made, 0u);
  EXPECT_EQ(value_of(state::KvCompareAndSet{"k", 0, {}, "2"}), 0u);
  EXPECT_GT(value_of(state::KvCompareAndSet{"k", made, {}, "2"}), made);
  EXPECT_GT(value_of(state::KvDelete{"k"}), made);
}

TEST_F(ReplicaTest, OnlyCommittedEntriesAreShown) {
  make_cluster(3);
  const Answer answer = put(*nodes[1], "k", "v");
  const auto shown = nodes[3]->replica->committed_entry(answer.value);
  ASSERT_TRUE(shown) << shown.status().to_string();
  EXPECT_EQ(shown->index, answer.value);
  cut = {1};
  nodes[1]->replica->propose(state::KvPut{"k", "w"}, nullptr);
  process(*nodes[1]);
  EXPECT_GT(nodes[1]->store->last_index(), answer.value);
  for (const raft::Index index : {raft::Index{0}, answer.value + 1, answer.value + 100}) {
    EXPECT_EQ(nodes[1]->replica->committed_entry(index).status().code(), Code::kNotFound);
  }
  EXPECT_EQ(nodes[1]->replica->committed_entry(1).status().code(), Code::kNotFound)
      << "it is in the first snapshot";
}

}  // namespace
}  // namespace pgraft::node
