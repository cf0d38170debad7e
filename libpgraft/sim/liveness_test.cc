// Directed schedules in which a healthy majority once hung (PROTOCOL.md, M8): it must get to a
// writable leader, and what was acknowledged must be there.
#include <gtest/gtest.h>

#include "libpgraft/sim/cluster.h"

namespace pgraft::sim {
namespace {

using Ids = std::set<NodeId>;

constexpr int kTicks = 3000;  // many elections, with back-off

ClusterOptions options(int members) {
  ClusterOptions options;
  options.members = members;
  return options;
}

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

// Node 1 is elected (again, if another one was first), promoted, and everybody has its WAL.
void lead_by_1(Cluster& c, const Ids& ids) {
  for (int i = 0; i < 20 && !c.writable(1); ++i) {
    c.run_until(ids, 200, [&] { return writable_of(c, ids) != 0; });
    const NodeId leader = writable_of(c, ids);
    if (leader == 0 || leader == 1) continue;
    c.replica(leader).transfer_leadership({.to = 1}, [](const Status&, std::uint64_t) {});
    c.observe(leader);
    c.run_until(ids, 200, [&] { return c.writable(1); });
  }
  ASSERT_TRUE(c.writable(1)) << all(c);
  ASSERT_TRUE(c.run_until(ids, kTicks, [&] {
    for (const NodeId id : ids) {
      if (c.database(id).wal() != c.database(1).wal()) return false;
      if (id != 1 && !c.database(id).streaming()) return false;
    }
    return true;
  })) << all(c);
}

void write(Cluster& c, NodeId primary, int n = 1) {
  for (int i = 0; i < n; ++i) c.step(primary, [](DatabaseModel& d) { return d.write(); });
  c.step(primary, [](DatabaseModel& d) { return d.flush(SIZE_MAX); });
}

void expect_writable(Cluster& c, const Ids& ids) {
  ASSERT_TRUE(c.run_until(ids, kTicks, [&] { return writable_of(c, ids) != 0; })) << all(c);
  const std::size_t before = c.invariants().acknowledged_count();
  ASSERT_TRUE(c.run_until(ids, kTicks, [&] {
    const NodeId leader = writable_of(c, ids);
    if (leader != 0) write(c, leader);
    return c.invariants().acknowledged_count() > before;
  })) << all(c);
  const NodeId leader = c.leader();
  EXPECT_TRUE(c.violations().empty()) << all(c);
  EXPECT_EQ(c.invariants().lost_in(c.database(leader).wal()), 0u) << all(c);
}

// A node is rewound or recloned and has `keep` records when its server starts.
void reclone(Cluster& c, NodeId id, NodeId source, Position target, std::size_t keep) {
  c.crash(id);
  c.database(id).request_rejoin(source, target);
  ASSERT_TRUE(c.database(id).begin_rejoin(true));
  ASSERT_TRUE(c.database(id).finish_rejoin(source, keep));
  c.start(id);
}

TEST(Liveness, FollowsTheLossOfALeader) {
  Cluster c(options(3));
  lead_by_1(c, {1, 2, 3});
  write(c, 1, 3);
  c.crash(1);
  expect_writable(c, {2, 3});
  c.start(1);
  EXPECT_TRUE(c.run_until({1, 2, 3}, kTicks, [&] {
    return c.database(1).wal() == c.database(c.leader()).wal() && c.database(1).streaming();
  })) << all(c);
}

// PROTOCOL.md, M8a: the greatest position belongs to a node that has reported and died.
TEST(Liveness, ADeadReporterIsNotWaitedFor) {
  Cluster c(options(5));
  lead_by_1(c, {1, 2, 3, 4, 5});
  for (const NodeId id : {3, 4, 5}) c.database(id).holds().stream = true;
  write(c, 1, 4);
  c.work(2);
  ASSERT_GT(c.database(2).wal().size(), c.database(3).wal().size());
  c.crash(1);
  const Ids living = {2, 3, 4, 5};
  const auto reported = [&] {
    for (const NodeId id : {3, 4, 5}) {
      if (c.leads(id) && c.replica(id).controller().reports().contains(2)) return true;
    }
    return false;
  };
  for (int i = 0; i < 2000 && !reported(); ++i) {
    // Node 2 must not take over itself: it gets no hand-over, and its requests for votes go
    // nowhere.
    c.hold([](const Cluster::Envelope& e) {
      const auto* m = std::get_if<raft::Message>(&e.body);
      return m != nullptr && (m->type == raft::MessageType::kTimeoutNow ||
                              (e.from == 2 && m->type == raft::MessageType::kPreVote));
    });
    if (i % 7 == 0) {
      for (const NodeId id : living) c.tick(id);
    }
    for (const NodeId id : living) c.work(id);
    for (std::size_t n = 0; n < c.network().size(); ++n) {
      if (living.contains(c.network()[n].to) && living.contains(c.network()[n].from)) {
        c.deliver(n);
        break;
      }
    }
  }
  ASSERT_TRUE(reported()) << all(c);
  c.crash(2);
  for (const NodeId id : {3, 4, 5}) c.database(id).holds().stream = false;
  expect_writable(c, {3, 4, 5});
}

// PROTOCOL.md, M8b: with the leader dead only an abstainer is left to count. It never acknowledged
// on the candidate's timeline.
TEST(Liveness, AnAbstainerCountsByItsBound) {
  Cluster c(options(3));
  const Ids everybody = {1, 2, 3};
  c.database(3).holds().stream = true;
  c.partition({3});
  c.run_until({1, 2}, kTicks, [&] { return writable_of(c, {1, 2}) != 0; });
  const NodeId leader = writable_of(c, {1, 2});
  ASSERT_NE(leader, 0u) << all(c);
  const NodeId other = 3 - leader;
  ASSERT_TRUE(c.run_until({1, 2}, kTicks, [&] {
    return c.database(other).wal() == c.database(leader).wal();
  })) << all(c);
  c.heal();
  reclone(c, 3, leader, {0, 0}, 1);
  ASSERT_TRUE(c.database(3).abstain_until().has_value());
  c.crash(leader);
  c.run_until({other, 3}, kTicks, [&] { return c.writable(other); });
  ASSERT_TRUE(c.writable(other)) << all(c);
  ASSERT_TRUE(c.database(3).abstain_until().has_value());
  c.database(3).holds().stream = false;
  expect_writable(c, {other, 3});
}

// PROTOCOL.md, M8c: the abstainer leads first.
TEST(Liveness, ALeaderThatAbstainsHandsOver) {
  Cluster c(options(5));
  lead_by_1(c, {1, 2, 3, 4, 5});
  write(c, 1, 3);
  c.settle({1, 2, 3, 4, 5});
  reclone(c, 5, 1, {0, 0}, 1);
  c.database(5).holds().stream = true;
  c.settle({1, 2, 3, 4, 5});
  c.crash(1);
  const Ids living = {2, 3, 4, 5};
  for (int i = 0; i < 100 && !c.leads(5); ++i) {
    for (const NodeId id : living) {
      if (c.leads(id)) continue;
      c.tick(id);
    }
    c.campaign(5);
    c.pump(living);
  }
  ASSERT_TRUE(c.leads(5)) << all(c);
  expect_writable(c, living);
  EXPECT_FALSE(c.writable(5));
  c.database(5).holds().stream = false;
}

// PROTOCOL.md, M8d: the target was far ahead on a timeline that is dead now; the new one forked
// below it.
TEST(Liveness, AbstentionEndsOnANewerTimelineBelowTheTarget) {
  Cluster c(options(3));
  lead_by_1(c, {1, 2, 3});
  c.database(2).holds().stream = true;
  const Position end = end_of(c.database(1).wal());
  reclone(c, 3, 1, {end.timeline, end.lsn + 1000}, 1);
  c.database(2).holds().stream = false;
  c.run_until({1, 2, 3}, 50, [&] { return c.database(3).wal().size() == end.lsn; });
  ASSERT_TRUE(c.database(3).abstain_until().has_value()) << all(c);
  // 1 goes and comes back on the new timeline that it makes itself: everybody counts, and 3 has
  // never reached the old target.
  c.crash(1);
  c.start(1);
  expect_writable(c, {1, 2, 3});
  EXPECT_TRUE(c.run_until({1, 2, 3}, kTicks, [&] {
    return !c.database(3).abstain_until() && c.database(3).streaming();
  })) << all(c);
  EXPECT_LT(c.database(3).wal().size(), end.lsn + 1000);
}

// PROTOCOL.md, M8e, rule 9: a standby with WAL that nobody acknowledged is rewound without being
// told to.
TEST(Liveness, ADivergedNodeIsRewoundAndCatchesUp) {
  Cluster c(options(3));
  lead_by_1(c, {1, 2, 3});
  c.database(2).holds().stream = true;
  c.database(3).holds().stream = true;
  write(c, 1, 5);
  c.crash(1);
  c.database(2).holds().stream = false;
  c.database(3).holds().stream = false;
  expect_writable(c, {2, 3});
  c.start(1);
  EXPECT_TRUE(c.run_until({1, 2, 3}, kTicks, [&] {
    return c.database(1).wal() == c.database(c.leader()).wal() && !c.database(1).abstain_until() &&
           c.database(1).streaming();
  })) << all(c);
}

// Rule 4, renewal: a primary that loses and regains the leadership goes on without a restart or a
// new timeline.
TEST(Liveness, ALeaderThatIsElectedAgainGoesOn) {
  Cluster c(options(3));
  lead_by_1(c, {1, 2, 3});
  const Timeline timeline = end_of(c.database(1).wal()).timeline;
  c.replica(1).raft().step_down(0);
  c.observe(1);
  c.settle({1, 2, 3});
  ASSERT_FALSE(c.writable(1));
  for (int i = 0; i < 200 && !c.leads(1); ++i) {
    c.tick(2);  // they no longer heard of a leader for a while
    c.tick(3);
    c.campaign(1);
    c.pump({1, 2, 3});
  }
  ASSERT_TRUE(c.run_until({1, 2, 3}, kTicks, [&] { return c.writable(1); })) << all(c);
  EXPECT_EQ(end_of(c.database(1).wal()).timeline, timeline) << all(c);
  expect_writable(c, {1, 2, 3});
}

// A promotion signal that the server can't be talked out of, and that never acts: the node
// restarts, others go on.
TEST(Liveness, APromotionThatHangsDoesNotStopTheOthers) {
  Cluster c(options(3));
  c.database(1).holds().promotion = true;
  const Ids everybody = {1, 2, 3};
  for (int i = 0; i < 50 && !c.database(1).promote_pending(); ++i) {
    c.campaign(1);
    c.run_until(everybody, 30, [&] { return c.database(1).promote_pending(); });
    if (writable_of(c, everybody) != 0) c.crash(writable_of(c, everybody));
    for (const NodeId id : everybody) c.start(id);
  }
  ASSERT_TRUE(c.database(1).promote_pending()) << all(c);
  expect_writable(c, everybody);
  EXPECT_NE(c.leader(), 1u);
}

}  // namespace
}  // namespace pgraft::sim
