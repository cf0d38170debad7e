#include "libpgraft/node/node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#ifdef __SANITIZE_THREAD__
// LevelDB comes without instrumentation: the atomics of its memory table are not seen, but the
// copies and comparisons around them are.
extern "C" const char* __tsan_default_suppressions() { return "race:libleveldb.so"; }
#endif

namespace pgraft::node {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr seconds kPatience{60};  // a loaded machine is slow; nothing here should need it

template <class Condition>
bool eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return true;
}

struct Answer {
  Status status;
  std::uint64_t value = 0;
};

// Makes a request and waits for its end.
template <class Request>
Answer ask(Request request) {
  auto promise = std::make_shared<std::promise<Answer>>();
  std::future<Answer> future = promise->get_future();
  request([promise](const Status& status, std::uint64_t value) {
    promise->set_value({status, value});
  });
  if (future.wait_for(kPatience) != std::future_status::ready) {
    return {Status(Code::kTimeout, "the completion was never called"), 0};
  }
  return future.get();
}

class NodeTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "pgraft_node_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override {
    nodes.clear();
    fs::remove_all(root_);
  }

  NodeConfig config(raft::NodeId id) const {
    NodeConfig c;
    c.data_dir = root_ + "/n" + std::to_string(id);
    c.node_id = id;
    c.cluster_name = "test";
    c.listen_address = "127.0.0.1";
    const auto port = ports_.find(id);
    c.listen_port = port == ports_.end() ? 0 : port->second;  // a restarted node keeps its port
    c.heartbeat_interval = milliseconds(50);
    c.election_timeout = milliseconds(500);
    return c;
  }
  Node& start(const NodeConfig& c) {
    Result<std::unique_ptr<Node>> node = Node::start(c, nullptr);
    EXPECT_TRUE(node) << node.status().to_string();
    if (!node) std::abort();
    ports_[c.node_id] = (*node)->port();
    nodes[c.node_id] = std::move(node).value();
    return *nodes[c.node_id];
  }
  Node& start(raft::NodeId id) { return start(config(id)); }

  Answer init(Node& node) {
    return ask([&](Completion done) { node.init(std::move(done)); });
  }
  Answer add(Node& leader, raft::NodeId expected, std::uint16_t port) {
    return ask(
        [&](Completion done) { leader.add_node(expected, "127.0.0.1", port, std::move(done)); });
  }
  Answer put(Node& node, const std::string& key, const std::string& value) {
    return ask([&](Completion done) { node.propose(state::KvPut{key, value}, std::move(done)); });
  }
  bool holds(Node& node, const std::string& key, const std::string& value) {
    const Result<std::string> found = node.kv_get(key);
    return found && *found == value;
  }
  Node* leader() {
    for (auto& [id, node] : nodes) {
      if (node->status().state == "leader") return node.get();
    }
    return nullptr;
  }
  std::size_t voters(const Node& node) {
    std::size_t n = 0;
    for (const transport::MemberStatus& m : node.status().members) n += m.voter ? 1 : 0;
    return n;
  }
  // Nodes 1 to 3, all voters that know each other.
  void make_cluster() {
    const Answer made = init(start(1));
    ASSERT_TRUE(made.status) << made.status.to_string();
    for (raft::NodeId id : {2, 3}) {
      start(id);
      Answer added;
      ASSERT_TRUE(eventually([&] {
        added = add(*nodes[1], id, nodes[id]->port());
        return added.status.code() != Code::kFailedPrecondition;  // the change before
      }));
      ASSERT_TRUE(added.status) << added.status.to_string();
      ASSERT_TRUE(eventually([&] { return voters(*nodes[1]) == id; })) << id;
    }
    for (auto& [id, node] : nodes) {
      ASSERT_TRUE(eventually([&, n = node.get()] { return voters(*n) == 3; })) << id;
    }
  }

  std::string root_;
  std::map<raft::NodeId, std::uint16_t> ports_;
  std::map<raft::NodeId, std::unique_ptr<Node>> nodes;
};

TEST_F(NodeTest, ANewNodeWaitsForAClusterAndSaysSo) {
  Node& node = start(1);
  EXPECT_EQ(node.status().state, "uninitialized");
  EXPECT_FALSE(node.is_member());
  EXPECT_NE(node.port(), 0);
  EXPECT_EQ(put(node, "k", "v").status.code(), Code::kFailedPrecondition);
  EXPECT_EQ(node.kv_get("k").status().code(), Code::kNotFound);
}

TEST_F(NodeTest, OneNodeIsAClusterThatSurvivesARestart) {
  Node& node = start(1);
  const Answer made = init(node);
  ASSERT_TRUE(made.status) << made.status.to_string();
  EXPECT_EQ(node.status().state, "leader") << "init answers when it leads";
  EXPECT_EQ(node.status().identity.cluster_id, made.value);
  EXPECT_EQ(init(node).status.code(), Code::kFailedPrecondition);
  const Answer answer = put(node, "k", "v");
  ASSERT_TRUE(answer.status) << answer.status.to_string();
  EXPECT_TRUE(holds(node, "k", "v"));

  nodes.clear();
  Node& again = start(1);
  EXPECT_TRUE(again.is_member());
  EXPECT_TRUE(
      eventually([&] { return again.status().state == "leader" && holds(again, "k", "v"); }));
  EXPECT_EQ(again.status().identity.cluster_id, made.value);
  EXPECT_EQ(read_identity(config(1).data_dir)->cluster_id, made.value);
  EXPECT_GE(again.status().elections_triggered, 1u);
}

TEST_F(NodeTest, ThreeNodesFormAClusterAndWriteThroughAnyOfThem) {
  make_cluster();
  ASSERT_TRUE(put(*nodes[1], "through", "leader").status);
  const Answer forwarded = put(*nodes[3], "and", "follower");
  ASSERT_TRUE(forwarded.status) << forwarded.status.to_string();
  for (auto& [id, node] : nodes) {
    EXPECT_TRUE(eventually([&, n = node.get()] {
      return holds(*n, "through", "leader") && holds(*n, "and", "follower");
    })) << id;
    EXPECT_EQ(node->status().identity.cluster_id, nodes[1]->status().identity.cluster_id);
    EXPECT_EQ(read_members(config(id).data_dir)->size(), 3u);
    EXPECT_EQ(read_identity(config(id).data_dir)->cluster_id,
              nodes[1]->status().identity.cluster_id);
  }
  const Answer appended =
      ask([&](Completion done) { nodes[2]->propose(state::LogAppend{"line"}, std::move(done)); });
  EXPECT_TRUE(appended.status);
  EXPECT_GT(appended.value, forwarded.value);
  ASSERT_TRUE(ask([&](Completion done) {
                nodes[2]->propose(state::KvDelete{"and"}, std::move(done));
              }).status);
  EXPECT_EQ(nodes[2]->kv_get("and").status().code(), Code::kNotFound);
  EXPECT_TRUE(eventually([&] {
    const transport::ClusterStatus s = nodes[1]->status();
    return s.heartbeats_sent > 0 && s.messages_processed > 0;
  }));
}

TEST_F(NodeTest, AfterTheLeaderStopsAnotherLeadsAndTheOldOneCatchesUp) {
  make_cluster();
  ASSERT_TRUE(put(*nodes[1], "before", "1").status);
  nodes.erase(1);
  ASSERT_TRUE(eventually([&] { return leader() != nullptr; }));
  ASSERT_TRUE(eventually([&] { return put(*nodes[2], "after", "2").status.is_ok(); }));
  Node& back = start(1);
  EXPECT_TRUE(eventually([&] { return holds(back, "before", "1") && holds(back, "after", "2"); }));
  EXPECT_TRUE(eventually([&] { return back.status().leader_id != 0; }));
}

TEST_F(NodeTest, WithoutAMajorityNothingIsAcknowledged) {
  make_cluster();
  nodes.erase(2);
  nodes.erase(3);
  ASSERT_TRUE(eventually([&] { return nodes[1]->status().state != "leader"; }));
  const Status status = put(*nodes[1], "k", "v").status;
  EXPECT_EQ(status.code(), Code::kNoQuorum) << status.to_string();
  EXPECT_THAT(status.message(), HasSubstr("of 3"));
  EXPECT_EQ(nodes[1]->kv_get("k").status().code(), Code::kNotFound);
}

TEST_F(NodeTest, LeadershipIsHandedOver) {
  make_cluster();
  const Answer answer =
      ask([&](Completion done) { nodes[1]->transfer_leadership({.to = 2}, std::move(done)); });
  ASSERT_TRUE(answer.status) << answer.status.to_string();
  EXPECT_TRUE(eventually([&] { return nodes[2]->status().state == "leader"; }));
}

TEST_F(NodeTest, ARemovedNodeIsNoMemberAndCanNotComeBackAsItWas) {
  make_cluster();
  const Answer answer = ask([&](Completion done) { nodes[1]->remove_node(3, std::move(done)); });
  ASSERT_TRUE(answer.status) << answer.status.to_string();
  // The request ends when the change is applied; the copy that status() gives follows a moment
  // later.
  EXPECT_TRUE(eventually([&] { return nodes[1]->status().members.size() == 2; }));
  const Status back = add(*nodes[1], 3, ports_[3]).status;
  EXPECT_EQ(back.code(), Code::kFailedPrecondition) << back.to_string();
  EXPECT_THAT(back.message(), HasSubstr("old state"));
  EXPECT_TRUE(put(*nodes[1], "k", "v").status);
}

TEST_F(NodeTest, OnlyTheLeaderChangesMembershipAndOthersNameIt) {
  make_cluster();
  Node& stranger = start(4);
  ASSERT_TRUE(eventually([&] { return nodes[2]->status().leader_id == 1; }));
  const Status status = add(*nodes[2], 4, stranger.port()).status;
  EXPECT_EQ(status.code(), Code::kNotLeader);
  EXPECT_THAT(status.message(), HasSubstr("node 1"));
  EXPECT_THAT(status.message(), HasSubstr(std::to_string(ports_[1])));
}

TEST_F(NodeTest, NodesThatDoNotFitAreNotAdded) {
  ASSERT_TRUE(init(start(1)).status);
  Node& leader = *nodes[1];
  start(2);

  NodeConfig other_name = config(5);
  other_name.cluster_name = "other";
  start(other_name);
  ASSERT_TRUE(init(start(6)).status);  // a cluster of its own

  std::uint16_t free_port = 0;
  {
    Node& gone = start(7);
    free_port = gone.port();
    nodes.erase(7);
  }
  const struct {
    const char* name;
    raft::NodeId expected;
    std::uint16_t port;
    Code code;
    const char* says;
  } cases[] = {
      {"nobody there", 7, free_port, Code::kUnavailable, ""},
      {"another node than expected", 3, ports_[2], Code::kMismatch, "expected node 3"},
      {"another cluster name", 5, ports_[5], Code::kMismatch, "cluster other"},
      {"of another cluster", 6, ports_[6], Code::kFailedPrecondition, "another cluster"},
      {"itself", 0, ports_[1], Code::kAlreadyExists, "node 1"},
      {"an id that is taken", 1, ports_[2], Code::kAlreadyExists, "node 1"},
  };
  for (const auto& c : cases) {
    const Status status = add(leader, c.expected, c.port).status;
    EXPECT_EQ(status.code(), c.code) << c.name << ": " << status.to_string();
    EXPECT_THAT(status.message(), HasSubstr(c.says)) << c.name;
  }
  EXPECT_EQ(leader.status().members.size(), 1u);
}

TEST_F(NodeTest, ADirectoryThatIsDamagedOrAnothersIsRefused) {
  ASSERT_TRUE(init(start(1)).status);
  nodes.clear();

  NodeConfig wrong_id = config(1);
  wrong_id.node_id = 2;
  EXPECT_EQ(Node::start(wrong_id, nullptr).status().code(), Code::kMismatch);
  NodeConfig wrong_name = config(1);
  wrong_name.cluster_name = "other";
  EXPECT_EQ(Node::start(wrong_name, nullptr).status().code(), Code::kMismatch);

  std::ofstream(config(1).data_dir + "/raft/CURRENT") << "garbage";
  const Status damaged = Node::start(config(1), nullptr).status();
  EXPECT_FALSE(damaged);
  fs::remove_all(config(1).data_dir + "/raft");
  EXPECT_EQ(Node::start(config(1), nullptr).status().code(), Code::kMismatch);

  NodeConfig file_in_the_way = config(8);
  std::ofstream(file_in_the_way.data_dir) << "not a directory";
  EXPECT_FALSE(Node::start(file_in_the_way, nullptr));
}

TEST_F(NodeTest, ASecondStartOnTheSameDirectoryIsRefused) {
  start(1);
  NodeConfig second = config(1);
  second.listen_port = 0;
  EXPECT_FALSE(Node::start(second, nullptr));
}

TEST_F(NodeTest, AnInterruptedInitBeginsAgain) {
  start(1);
  nodes.clear();
  IdentityFile identity = *read_identity(config(1).data_dir);
  identity.cluster_id = 4711;  // the file was written, the first snapshot was not
  ASSERT_TRUE(write_identity(config(1).data_dir, identity));
  Node& node = start(1);
  EXPECT_EQ(node.status().identity.cluster_id, 0u);
  const Answer made = init(node);
  EXPECT_TRUE(made.status) << made.status.to_string();
}

// On a file system of its own, which is filled up behind the leader's back.
TEST_F(NodeTest, ALeaderWhoseDiskIsFullGivesWayAndComesBackWhenThereIsSpace) {
  const std::string small = root_ + "/small";
  fs::create_directory(small);
  if (::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=64m") != 0) {
    GTEST_SKIP() << "mounting a file system needs root: " << std::strerror(errno);
  }
  const auto unmount = [&](void*) { ::umount2(small.c_str(), MNT_DETACH); };
  const std::unique_ptr<void, decltype(unmount)> mounted(this, unmount);
  NodeConfig first = config(1);
  first.data_dir = small + "/n1";
  Node& full = start(first);
  ASSERT_TRUE(init(full).status);
  for (raft::NodeId id : {2, 3}) {
    start(id);
    ASSERT_TRUE(add(full, id, nodes[id]->port()).status);
    ASSERT_TRUE(eventually([&] { return voters(full) == id; }));
  }
  ASSERT_TRUE(put(full, "before", "1").status);

  const std::string filler = small + "/filler";
  {
    std::ofstream out(filler, std::ios::binary);
    const std::string block(1u << 20, 'x');
    while (out.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  // Written on every node; this one's disk takes no more at some point.
  const std::string big(64u << 10, 'y');
  ASSERT_TRUE(eventually([&] {
    Node* at = leader();
    if (at != nullptr) (void)put(*at, "big", big);
    return full.status().state == "failed";
  }));
  EXPECT_THAT(full.status().phase, HasSubstr("No space left on device"));
  ASSERT_TRUE(eventually([&] { return leader() != nullptr && leader() != &full; }));
  ASSERT_TRUE(eventually([&] { return bool(put(*leader(), "meanwhile", "2").status); }));
  EXPECT_EQ(put(full, "refused", "").status.code(), Code::kUnavailable);

  fs::remove(filler);
  ASSERT_TRUE(eventually([&] { return holds(full, "meanwhile", "2"); })) << full.status().phase;
  EXPECT_TRUE(holds(full, "before", "1"));
  EXPECT_EQ(full.status().state, "follower");
  nodes.clear();  // before the file system goes
}

TEST_F(NodeTest, RequestsAfterAStopAreAnsweredAndStopMayBeRepeated) {
  ASSERT_TRUE(init(start(1)).status);
  nodes[1]->stop();
  nodes[1]->stop();
  EXPECT_EQ(put(*nodes[1], "k", "v").status.code(), Code::kUnavailable);
}

TEST(NodeConfigTest, EveryFieldIsValidatedByName) {
  NodeConfig good;
  good.data_dir = "/tmp/x";
  good.node_id = 1;
  EXPECT_TRUE(good.validate()) << good.validate().to_string();
  const struct {
    const char* names;
    std::function<void(NodeConfig&)> change;
  } cases[] = {
      {"data_dir", [](NodeConfig& c) { c.data_dir.clear(); }},
      {"node_id", [](NodeConfig& c) { c.node_id = 0; }},
      {"node_name", [](NodeConfig& c) { c.node_name = "two words"; }},
      {"node_name", [](NodeConfig& c) { c.node_name = std::string(64, 'n'); }},
      {"cluster_name", [](NodeConfig& c) { c.cluster_name.clear(); }},
      {"listen_address", [](NodeConfig& c) { c.listen_address.clear(); }},
      {"advertise_address", [](NodeConfig& c) { c.advertise_address = "a b"; }},
      {"pg_host", [](NodeConfig& c) { c.pg_host = std::string(256, 'h'); }},
      {"heartbeat_interval", [](NodeConfig& c) { c.heartbeat_interval = milliseconds(5); }},
      {"election_timeout", [](NodeConfig& c) { c.election_timeout = milliseconds(50); }},
      {"election_timeout", [](NodeConfig& c) { c.heartbeat_interval = milliseconds(300); }},
      {"max_log_entries", [](NodeConfig& c) { c.max_log_entries = 0; }},
      {"request_timeout", [](NodeConfig& c) { c.request_timeout = milliseconds(0); }},
  };
  for (const auto& c : cases) {
    NodeConfig changed = good;
    c.change(changed);
    const Status status = changed.validate();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << c.names;
    EXPECT_THAT(status.message(), HasSubstr(c.names));
  }
}

// --- with a database
// ------------------------------------------------------------------------------------------

// Does what it is ordered at once, on the node's thread; enough to be promoted.
class FakeDatabase final : public DatabaseHost {
 public:
  void close(const failover::Orders& orders) override { obey(orders); }
  void carry_out(const failover::Orders& orders) override { obey(orders); }
  Status clear_abstain() override { return Status::ok(); }
  void state_changed(const state::StateMachine&, const raft::ConfState&) override {}
  void publish_lease(raft::Term, milliseconds remaining) override {
    lease_ms = remaining.count();
    if (remaining.count() > 0) ++leases;
  }
  void status_changed() override { ++news; }
  bool healthy() override { return is_healthy; }
  void failed(const Status& status) override { failures.push_back(status); }

  failover::DatabaseView view() {
    const std::lock_guard lock(mutex_);
    return view_;
  }

  std::atomic<bool> is_healthy{true};
  std::atomic<long> lease_ms{0}, leases{0}, news{0};
  std::vector<Status> failures;

 private:
  void obey(const failover::Orders& orders) {
    const std::lock_guard lock(mutex_);
    if (orders.promote != 0 && view_.in_recovery) {
      view_.history = {{view_.end.timeline, view_.end.lsn}};
      view_.end = {orders.promote, view_.end.lsn + 100};
      view_.in_recovery = false;
    }
    view_.orders_seen = orders.seq;
    view_.valid = true;
    view_.receiver_stopped = orders.follow == 0;
    view_.replay_exhausted = view_.in_recovery;
    view_.end_known = true;
    view_.frozen = !orders.admit_walsenders;
    if (view_.end.timeline == 0) view_.end = {1, 1000};
    view_.replayed = view_.end;
    view_.highest_history = view_.end.timeline;
    view_.quorum_in_force = orders.quorum_generation;
  }
  std::mutex mutex_;
  failover::DatabaseView view_;
};

class NodeWithDatabaseTest : public NodeTest {
 protected:
  NodeConfig config_with_database() {
    NodeConfig c = config(1);
    c.pgdata = root_ + "/pgdata";
    c.system_identifier = 4711;
    fs::create_directories(c.pgdata);
    return c;
  }
  template <class Condition>
  bool eventually_watched(Node& node, FakeDatabase& database, Condition condition) {
    return eventually([&] {
      node.observe(database.view());
      return condition();
    });
  }
};

TEST_F(NodeWithDatabaseTest, ADatabaseNeedsItsHost) {
  EXPECT_EQ(Node::start(config_with_database(), nullptr).status().code(), Code::kInvalidArgument);
}

TEST_F(NodeWithDatabaseTest, APromotedNodeHasALeaseUntilItsDatabaseIsUnhealthy) {
  FakeDatabase database;
  Result<std::unique_ptr<Node>> started = Node::start(config_with_database(), &database);
  ASSERT_TRUE(started) << started.status().to_string();
  Node& node = **started;
  ASSERT_TRUE(init(node).status);
  ASSERT_TRUE(eventually_watched(node, database, [&] { return node.status().writable; }))
      << node.status().phase;
  EXPECT_GT(database.leases, 0);
  EXPECT_GT(database.news, 0);
  ASSERT_EQ(node.promotions().size(), 1u);
  EXPECT_TRUE(node.promotions()[0].done);
  ASSERT_TRUE(eventually([&] { return read_timelines(config(1).data_dir)->current == 2; }));

  database.is_healthy = false;  // rule 11
  EXPECT_TRUE(eventually_watched(node, database, [&] { return !node.status().writable; }));
  EXPECT_TRUE(eventually_watched(node, database, [&] { return database.lease_ms == 0; }));
  database.is_healthy = true;
  EXPECT_TRUE(eventually_watched(node, database, [&] { return node.status().writable; }))
      << node.status().phase;
  started->reset();
  EXPECT_TRUE(database.failures.empty());
}

TEST_F(NodeWithDatabaseTest, AFailedWriteOfAMemberFileStopsTheNodeAndIsTold) {
  FakeDatabase database;
  const NodeConfig c = config_with_database();
  Result<std::unique_ptr<Node>> started = Node::start(c, &database);
  ASSERT_TRUE(started) << started.status().to_string();
  Node& node = **started;
  ASSERT_TRUE(init(node).status);
  ASSERT_TRUE(eventually([&] { return read_members(c.data_dir).is_ok(); }));
  fs::create_directories(c.data_dir + "/timelines.tmp");  // fails the next write of the file
  ASSERT_TRUE(eventually_watched(node, database, [&] { return node.status().state == "failed"; }));
  EXPECT_EQ(put(node, "k", "v").status.code(), Code::kUnavailable);
  EXPECT_EQ(database.lease_ms, 0);
  started->reset();
  ASSERT_EQ(database.failures.size(), 1u);
  EXPECT_EQ(database.failures[0].code(), Code::kIo);
}

}  // namespace
}  // namespace pgraft::node
