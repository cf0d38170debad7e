// Directed schedules of planned switchovers, pauses and priorities: what fails in the middle, and
// what must then be true. With everything in order the old leader has exactly the WAL of the new
// one's fork, so that it follows without a rewind.
#include <gtest/gtest.h>

#include "libpgraft/sim/cluster.h"

namespace pgraft::sim {
namespace {

using Ids = std::set<NodeId>;
using Transfer = node::Replica::Transfer;

constexpr int kTicks = 3000;  // many elections, with back-off
const Ids kEverybody = {1, 2, 3};

std::string all(const Cluster& c) {
  std::string text = c.describe();
  for (const std::string& v : c.violations()) text += "violation: " + v + "\n";
  for (const std::string& e : c.trace()) text += e + "\n";
  return text;
}

NodeId writable_of(const Cluster& c, const Ids& ids) {
  for (const NodeId id : ids) {
    if (c.writable(id)) return id;
  }
  return 0;
}

// The outcome of a request, once it has one. The cluster may outlive it.
class Answer {
 public:
  node::Completion completion() {
    return [given = given_](const Status& s, std::uint64_t) { *given = s; };
  }
  bool is_there() const { return given_->has_value(); }
  bool is_ok() const { return is_there() && (*given_)->is_ok(); }
  Code code() const { return is_there() ? (*given_)->code() : Code::kOk; }
  std::string message() const { return is_there() ? (*given_)->message() : "none"; }

 private:
  std::shared_ptr<std::optional<Status>> given_ = std::make_shared<std::optional<Status>>();
};

void ask(Cluster& c, NodeId leader, const Transfer& transfer, Answer& answer) {
  c.replica(leader).transfer_leadership(transfer, answer.completion());
  c.observe(leader);
}

// `answer` as it was given at once: refused, or begun (no status yet).
Answer& asked(Cluster& c, NodeId leader, NodeId to, Answer& answer, int limit = 200) {
  ask(c, leader, {to, limit, false}, answer);
  return answer;
}

bool follow(const Cluster& c, NodeId leader, const Ids& ids) {
  for (const NodeId id : ids) {
    if (!c.up(id) || c.database(id).wal() != c.database(leader).wal()) return false;
    if (id != leader && !c.database(id).streaming()) return false;
  }
  return true;
}

bool rewound(const Cluster& c, NodeId id) {
  for (const std::string& event : c.trace()) {
    if (event.starts_with("node " + std::to_string(id) + " rewound")) return true;
  }
  return false;
}

void write(Cluster& c, NodeId primary, int n = 1) {
  for (int i = 0; i < n; ++i) c.step(primary, [](DatabaseModel& d) { return d.write(); });
  c.step(primary, [](DatabaseModel& d) { return d.flush(SIZE_MAX); });
}

// Whoever is elected first, everybody has its WAL.
NodeId lead(Cluster& c, const Ids& ids = kEverybody) {
  c.run_until(ids, kTicks, [&] {
    const NodeId leader = writable_of(c, ids);
    return leader != 0 && follow(c, leader, ids);
  });
  const NodeId leader = writable_of(c, ids);
  EXPECT_NE(leader, 0u) << all(c);
  write(c, leader, 3);
  c.settle(ids);
  return leader;
}

NodeId other_than(NodeId a, NodeId b = 0) {
  for (const NodeId id : kEverybody) {
    if (id != a && id != b) return id;
  }
  return 0;
}

// Some member can be written to, nothing is lost, and all come to follow it.
void expect_works(Cluster& c, const Ids& ids = kEverybody) {
  ASSERT_TRUE(c.run_until(ids, kTicks, [&] {
    const NodeId leader = writable_of(c, ids);
    return leader != 0 && follow(c, leader, ids);
  })) << all(c);
  const NodeId leader = writable_of(c, ids);
  const std::size_t before = c.invariants().acknowledged_count();
  write(c, leader);
  EXPECT_TRUE(c.run_until(ids, kTicks, [&] {
    return c.invariants().acknowledged_count() > before;
  })) << all(c);
  EXPECT_TRUE(c.violations().empty()) << all(c);
  EXPECT_EQ(c.invariants().lost_in(c.database(leader).wal()), 0u) << all(c);
}

struct SwitchoverTest : testing::Test {
  explicit SwitchoverTest(const ClusterOptions& options = {}) : c(options) {
    leader = lead(c);
    to = other_than(leader);
    third = other_than(leader, to);
  }
  Cluster c;
  NodeId leader = 0, to = 0, third = 0;
  Answer answer;
};

using Switchover = SwitchoverTest;

TEST_F(Switchover, HandsOverAndTheOldLeaderFollowsAsItIs) {
  for (int round = 0; round < 3; ++round) {
    const NodeId old = writable_of(c, kEverybody);
    const NodeId next = other_than(old);
    Answer done;
    ask(c, old, {next, 200, false}, done);
    ASSERT_TRUE(c.run_until(kEverybody, kTicks, [&] { return c.writable(next); })) << all(c);
    EXPECT_TRUE(done.is_ok()) << done.message();
    expect_works(c);
    EXPECT_TRUE(c.writable(next)) << all(c);
    EXPECT_FALSE(rewound(c, old)) << all(c);
  }
}

TEST_F(Switchover, WaitsForTransactionsThatHaveBegunToWrite) {
  c.database(leader).begin_transaction();
  ask(c, leader, {to, 200, false}, answer);
  c.run_until(kEverybody, 50, [&] { return !c.leads(leader); });
  ASSERT_TRUE(c.leads(leader)) << all(c);
  EXPECT_EQ(c.database(leader).drain(), Drain::kHold);
  EXPECT_FALSE(c.step(leader, [](DatabaseModel& d) { return d.write(); })) << "it must wait";
  const std::size_t before = c.invariants().acknowledged_count();
  EXPECT_TRUE(c.step(leader, [](DatabaseModel& d) { return d.end_transaction(); }));
  ASSERT_TRUE(c.run_until(kEverybody, kTicks, [&] { return c.writable(to); })) << all(c);
  EXPECT_GT(c.invariants().acknowledged_count(), before) << "its commit was not answered";
  expect_works(c);
  EXPECT_FALSE(rewound(c, leader)) << all(c);
}

TEST_F(Switchover, IsGivenUpInTimeAndWritesGoOn) {
  c.database(leader).begin_transaction();
  ask(c, leader, {to, 30, false}, answer);
  c.run_until(kEverybody, 60, [&] { return answer.is_there(); });
  EXPECT_EQ(answer.code(), Code::kFailedPrecondition) << answer.message();
  EXPECT_NE(answer.message().find("1 transactions"), std::string::npos) << answer.message();
  EXPECT_TRUE(c.writable(leader)) << all(c);
  EXPECT_EQ(c.database(leader).drain(), Drain::kNone);
  EXPECT_TRUE(c.step(leader, [](DatabaseModel& d) { return d.end_transaction(); }));
  expect_works(c);
  Answer again;
  ask(c, leader, {to, 200, false}, again);
  EXPECT_TRUE(c.run_until(kEverybody, kTicks, [&] { return c.writable(to); })) << all(c);
  expect_works(c);
}

TEST_F(Switchover, AbortsTransactionsAtHalfOfTheTimeIfToldTo) {
  c.database(leader).begin_transaction();
  ask(c, leader, {to, 60, true}, answer);
  c.run_until(kEverybody, 25, [&] { return !c.leads(leader); });
  EXPECT_TRUE(c.leads(leader)) << "too early";
  ASSERT_TRUE(c.run_until(kEverybody, kTicks, [&] { return c.writable(to); })) << all(c);
  expect_works(c);
  EXPECT_FALSE(rewound(c, leader)) << all(c);
}

TEST_F(Switchover, CanBeCanceledUntilTheHandOver) {
  c.database(leader).begin_transaction();
  ask(c, leader, {to, 200, false}, answer);
  c.run_until(kEverybody, 5, [] { return false; });
  Answer canceled;
  c.replica(leader).cancel_transfer(canceled.completion());
  c.observe(leader);
  EXPECT_TRUE(canceled.is_ok()) << canceled.message();
  EXPECT_EQ(answer.code(), Code::kAborted) << answer.message();
  Answer nothing;
  c.replica(leader).cancel_transfer(nothing.completion());
  c.observe(leader);
  EXPECT_EQ(nothing.code(), Code::kFailedPrecondition);
  c.settle(kEverybody);
  EXPECT_TRUE(c.step(leader, [](DatabaseModel& d) { return d.end_transaction(); }));
  expect_works(c);
  EXPECT_TRUE(c.writable(leader));
}

TEST_F(Switchover, IsGivenUpWhenTheTargetDies) {
  c.database(leader).begin_transaction();
  ask(c, leader, {to, 2000, false}, answer);
  c.run_until(kEverybody, 5, [] { return false; });
  c.crash(to);
  const Ids living = {leader, third};
  EXPECT_TRUE(c.run_until(living, 200, [&] { return answer.is_there(); })) << all(c);
  EXPECT_EQ(answer.code(), Code::kFailedPrecondition) << answer.message();
  EXPECT_TRUE(c.writable(leader)) << all(c);
  c.start(to);
  expect_works(c);
}

// The order to campaign has been sent, and nobody is there to take it.
TEST_F(Switchover, ATargetThatDiesAtTheHandOverCostsNothing) {
  ask(c, leader, {to, 100, false}, answer);
  const auto handing_over = [&] {
    return c.leads(leader) && c.replica(leader).raft_status().transferee == to;
  };
  for (int i = 0; i < 200 && !handing_over(); ++i) {
    for (const NodeId id : kEverybody) c.work(id);
    if (c.network().empty()) continue;
    c.deliver(0);
  }
  ASSERT_TRUE(handing_over()) << all(c);
  c.crash(to);
  const Ids living = {leader, third};
  c.run_until(living, 300, [&] { return answer.is_there() && c.writable(leader); });
  EXPECT_EQ(answer.code(), Code::kTimeout) << "the outcome was open: " << answer.message();
  EXPECT_TRUE(c.writable(leader)) << all(c);
  expect_works(c, living);
  c.start(to);
  expect_works(c);
}

TEST_F(Switchover, ALeaderThatDiesInTheMiddleIsReplaced) {
  for (const int steps : {0, 1, 2, 4, 8, 16}) {
    const NodeId old = writable_of(c, kEverybody);
    const NodeId next = other_than(old);
    Answer lost;
    c.database(old).begin_transaction();
    ask(c, old, {next, 2000, false}, lost);
    c.step(old, [](DatabaseModel& d) { return d.end_transaction(); });
    for (int i = 0; i < steps; ++i) {
      for (const NodeId id : kEverybody) c.work(id);
      if (!c.network().empty()) c.deliver(0);
    }
    c.crash(old);
    Ids living = kEverybody;
    living.erase(old);
    ASSERT_TRUE(c.run_until(living, kTicks, [&] { return writable_of(c, living) != 0; }))
        << steps << "\n"
        << all(c);
    c.start(old);
    expect_works(c);
  }
}

TEST_F(Switchover, IsGivenUpWhenTheLinkIsCut) {
  c.database(leader).begin_transaction();
  ask(c, leader, {to, 2000, false}, answer);
  c.run_until(kEverybody, 5, [] { return false; });
  c.partition({to});
  EXPECT_TRUE(c.run_until(kEverybody, 200, [&] { return answer.is_there(); })) << all(c);
  EXPECT_EQ(answer.code(), Code::kFailedPrecondition) << answer.message();
  c.heal();
  c.step(leader, [](DatabaseModel& d) { return d.end_transaction(); });
  expect_works(c);
}

TEST_F(Switchover, WaitsForATargetThatFallsBehind) {
  c.database(to).holds().stream = true;
  write(c, leader, 5);
  ask(c, leader, {to, 40, false}, answer);
  c.run_until(kEverybody, 80, [&] { return answer.is_there(); });
  EXPECT_EQ(answer.code(), Code::kFailedPrecondition) << answer.message();
  EXPECT_NE(answer.message().find("5 bytes of WAL"), std::string::npos) << answer.message();
  EXPECT_TRUE(c.writable(leader)) << all(c);
  c.database(to).holds().stream = false;
  expect_works(c);
}

// Its sessions are ended only once the target has all WAL of that moment.
TEST_F(Switchover, EndsNoSessionForATargetThatDoesNotKeepUp) {
  c.database(to).holds().stream = true;
  write(c, leader, 5);
  ask(c, leader, {to, 100, false}, answer);
  c.run_until(kEverybody, 20, [&] { return c.database(leader).drain() == Drain::kEnd; });
  EXPECT_EQ(c.database(leader).drain(), Drain::kHold) << all(c);
}

TEST_F(Switchover, RefusesWhoCannotTakeOver) {
  Answer itself, stranger;
  EXPECT_EQ(asked(c, leader, 9, stranger).code(), Code::kNotFound) << stranger.message();
  ask(c, leader, {leader, 100, false}, itself);
  EXPECT_TRUE(itself.is_ok()) << itself.message();
  Answer follower;
  ask(c, to, {third, 100, false}, follower);
  EXPECT_EQ(follower.code(), Code::kNotLeader) << follower.message();
  Answer first, second;
  c.database(leader).begin_transaction();
  ask(c, leader, {to, 100, false}, first);
  EXPECT_EQ(asked(c, leader, third, second).code(), Code::kFailedPrecondition);
}

TEST(SwitchoverMembership, IsRefusedDuringAChangeAndTheOtherWayRound) {
  ClusterOptions options;
  options.members = 4;
  options.first_voters = {1, 2, 3};
  Cluster c(options);
  const NodeId leader = lead(c);
  const NodeId to = other_than(leader);
  Answer learner;
  ASSERT_TRUE(c.run_until(kEverybody, 200, [&] { return c.add_member(leader, 4).is_ok(); }));
  Answer pending;
  ask(c, leader, {to, 100, false}, pending);
  EXPECT_EQ(pending.code(), Code::kFailedPrecondition) << pending.message();
  c.crash(4);
  c.run_until(kEverybody, 20, [] { return false; });
  EXPECT_EQ(asked(c, leader, 4, learner).code(), Code::kFailedPrecondition) << learner.message();
  Answer begun;
  c.database(leader).begin_transaction();
  ask(c, leader, {to, 100, false}, begun);
  EXPECT_FALSE(begun.is_there()) << begun.message();
  EXPECT_EQ(c.remove_member(leader, 4).code(), Code::kFailedPrecondition);
}

// The server writes by itself what no fence holds back (a snapshot of the running transactions).
// It comes too late for the target, so it is lost, and the old leader must not get the leadership
// back for it.
TEST_F(Switchover, WhatTheServerWritesAfterTheHandOverDoesNotBringLeadershipBack) {
  for (const NodeId id : kEverybody) c.database(id).holds().promotion = true;
  ask(c, leader, {to, 200, false}, answer);
  for (int i = 0; i < 500 && !c.leads(to); ++i) {
    for (const NodeId id : kEverybody) c.work(id);
    if (!c.network().empty()) c.deliver(0);
  }
  ASSERT_TRUE(c.leads(to)) << all(c);
  c.database(leader).write_in_background();
  c.step(leader, [](DatabaseModel& d) { return d.flush(SIZE_MAX); });
  for (const NodeId id : kEverybody) c.database(id).holds().promotion = false;
  ASSERT_TRUE(c.run_until(kEverybody, kTicks, [&] { return c.writable(to); })) << all(c);
  EXPECT_EQ(c.leader(), to);
  expect_works(c);
  EXPECT_TRUE(c.writable(to));
  EXPECT_TRUE(rewound(c, leader)) << all(c);
}

// Negative control: handed over without a drain, what is written meanwhile is on the old leader
// alone, and the leadership comes back or it has to be rewound.
TEST(SwitchoverControl, WithoutTheDrainTheOldLeaderDiverges) {
  for (const bool drain : {true, false}) {
    ClusterOptions options;
    options.rules.drain = drain;
    Cluster c(options);
    const NodeId leader = lead(c);
    const NodeId to = other_than(leader);
    for (const NodeId id : kEverybody) c.database(id).holds().stream = id != leader;
    Answer answer;
    ask(c, leader, {to, 200, false}, answer);
    write(c, leader, 2);  // held, or not
    c.run_until(kEverybody, 50, [&] { return c.leads(to); });
    for (const NodeId id : kEverybody) c.database(id).holds().stream = false;
    ASSERT_TRUE(c.run_until(kEverybody, kTicks, [&] {
      return writable_of(c, kEverybody) != 0 && follow(c, writable_of(c, kEverybody), kEverybody);
    })) << all(c);
    EXPECT_EQ(c.writable(to) && !rewound(c, leader), drain) << all(c);
  }
}

// --- pause

void set_pause(Cluster& c, NodeId at, std::uint64_t until_ms) {
  Answer done;
  c.replica(at).propose(state::Pause{until_ms, "test"}, done.completion());
  c.observe(at);
  ASSERT_TRUE(c.run_until(kEverybody, 200, [&] { return done.is_ok(); })) << done.message();
}

void set_clock(Cluster& c, std::uint64_t unix_ms) {
  for (const NodeId id : kEverybody) {
    if (c.up(id)) c.replica(id).set_wall_clock(unix_ms);
  }
}

using Paused = SwitchoverTest;

TEST_F(Paused, OnlyTheSameLeaderComesBack) {
  set_pause(c, to, 1000);
  c.crash(leader);
  const Ids living = {to, third};
  c.replica(to).peer_lost(leader);
  EXPECT_FALSE(c.run_until(living, 500, [&] { return writable_of(c, living) != 0; })) << all(c);
  c.start(leader);
  ASSERT_TRUE(c.run_until(kEverybody, kTicks, [&] { return c.writable(leader); })) << all(c);
  expect_works(c);
  EXPECT_TRUE(c.writable(leader)) << all(c);
}

TEST_F(Paused, EndsByItselfOrWhenItIsTold) {
  for (const bool by_itself : {true, false}) {
    const NodeId old = writable_of(c, kEverybody);
    set_clock(c, 0);
    set_pause(c, old, 1000);
    if (!by_itself) set_pause(c, old, 0);
    c.crash(old);
    Ids living = kEverybody;
    living.erase(old);
    const auto replaced = [&] { return writable_of(c, living) != 0; };
    if (by_itself) {
      EXPECT_FALSE(c.run_until(living, 500, replaced)) << all(c);
      set_clock(c, 1001);
    }
    EXPECT_TRUE(c.run_until(living, kTicks, replaced)) << all(c);
    c.start(old);
    set_clock(c, 1001);
    expect_works(c);
  }
}

TEST_F(Paused, ASwitchoverWorksAndTheNewLeaderIsTheOneThatComesBack) {
  set_pause(c, leader, 1000);
  ask(c, leader, {to, 200, false}, answer);
  ASSERT_TRUE(c.run_until(kEverybody, kTicks, [&] { return c.writable(to); })) << all(c);
  expect_works(c);
  c.crash(to);
  const Ids living = {leader, third};
  EXPECT_FALSE(c.run_until(living, 500, [&] { return writable_of(c, living) != 0; })) << all(c);
  c.start(to);
  ASSERT_TRUE(c.run_until(kEverybody, kTicks, [&] { return c.writable(to); })) << all(c);
  expect_works(c);
}

// --- priorities

TEST(Priority, ZeroLeadsOnlyWhereNobodyElseMay) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    ClusterOptions options;
    options.seed = seed;
    options.priorities = {{3, 0}};
    Cluster c(options);
    const NodeId leader = lead(c);
    ASSERT_NE(leader, 3u) << all(c);
    c.crash(leader);
    const Ids living = {other_than(leader, 3), 3};
    ASSERT_TRUE(c.run_until(living, kTicks, [&] { return writable_of(c, living) != 0; })) << all(c);
    EXPECT_FALSE(c.writable(3)) << all(c);
    c.start(leader);
    expect_works(c);
  }
}

// Only node 3 has what was acknowledged: it takes over, and gives way when another has it too.
TEST(Priority, ZeroWithTheMostWalLeadsUntilAnotherHasCaughtUp) {
  ClusterOptions options;
  options.priorities = {{3, 0}};
  Cluster c(options);
  const NodeId leader = lead(c);
  const NodeId other = other_than(leader, 3);
  c.database(other).holds().stream = true;
  write(c, leader, 5);
  c.settle({leader, 3});
  ASSERT_EQ(c.invariants().lost_in(c.database(3).wal()), 0u);
  c.crash(leader);
  const Ids living = {other, 3};
  ASSERT_TRUE(c.run_until(living, kTicks, [&] { return c.database(3).primary(); })) << all(c);
  c.database(other).holds().stream = false;
  ASSERT_TRUE(c.run_until(living, kTicks, [&] { return c.writable(other); })) << all(c);
  c.start(leader);
  expect_works(c);
  EXPECT_FALSE(c.writable(3)) << all(c);
  EXPECT_FALSE(rewound(c, 3)) << all(c);
}

}  // namespace
}  // namespace pgraft::sim
