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

using Scenario = std::function<void(Cluster&)>;
using Off = std::function<void(failover::Switches&)>;

// Without what `off` switches off, `done` never comes true after `scenario`; nothing is lost by
// that.
void expect_hangs_without(const ClusterOptions& on, const Off& off, const Scenario& scenario,
                          const Ids& ids, const std::function<bool(const Cluster&)>& done) {
  SCOPED_TRACE("rule off");
  ClusterOptions options = on;
  off(options.rules);
  Cluster c(options);
  scenario(c);
  EXPECT_FALSE(c.run_until(ids, kTicks, [&] { return done(c); }))
      << "the scenario does not show that the rule is needed\n"
      << all(c);
  EXPECT_TRUE(c.violations().empty()) << all(c);
}

void expect_hangs_without(const ClusterOptions& on, const Off& off, const Scenario& scenario,
                          const Ids& ids) {
  expect_hangs_without(on, off, scenario, ids,
                       [&](const Cluster& c) { return writable_of(c, ids) != 0; });
}

// One of several that cover for each other is off.
void expect_writable_without(const ClusterOptions& on, const Off& off, const Scenario& scenario,
                             const Ids& ids) {
  SCOPED_TRACE("some rules off");
  ClusterOptions options = on;
  off(options.rules);
  Cluster c(options);
  scenario(c);
  expect_writable(c, ids);
}

// `id` has all that the leader has, and what it says counts.
bool has_caught_up(const Cluster& c, NodeId id) {
  const NodeId leader = c.leader();
  return leader != 0 && c.database(id).wal() == c.database(leader).wal() &&
         !c.database(id).abstain_until() && c.database(id).streaming();
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
void lose_the_greatest_reporter(Cluster& c) {
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
}

TEST(Liveness, ADeadReporterIsNotWaitedFor) {
  const Ids living = {3, 4, 5};
  Cluster c(options(5));
  lose_the_greatest_reporter(c);
  expect_writable(c, living);
  using Rules = failover::Switches;
  const auto all_off = [](Rules& r) { r.answering = r.any_majority = r.give_way = false; };
  expect_hangs_without(options(5), all_off, lose_the_greatest_reporter, living);
  for (bool Rules::*one : {&Rules::answering, &Rules::any_majority, &Rules::give_way}) {
    const auto all_but_one = [&](Rules& r) {
      all_off(r);
      r.*one = true;
    };
    expect_writable_without(options(5), all_but_one, lose_the_greatest_reporter, living);
  }
}

// PROTOCOL.md, M8b: with the leader dead only an abstainer is left to count. It never acknowledged
// on the candidate's timeline.
void lose_all_but_an_abstainer(Cluster& c) {
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
}

TEST(Liveness, AnAbstainerCountsByItsBound) {
  Cluster c(options(3));
  lose_all_but_an_abstainer(c);
  const NodeId other = c.up(1) ? 1 : 2;
  c.run_until({other, 3}, kTicks, [&] { return c.writable(other); });
  ASSERT_TRUE(c.writable(other)) << all(c);
  ASSERT_TRUE(c.database(3).abstain_until().has_value());
  c.database(3).holds().stream = false;
  expect_writable(c, {other, 3});
  expect_hangs_without(options(3), [](failover::Switches& r) { r.bound = false; },
                       lose_all_but_an_abstainer, {other, 3});
}

// PROTOCOL.md, M8b: node 1 is still the primary of the timeline on which the abstainer may have
// acknowledged, and is elected again. Nobody else is there.
void elect_the_primary_of_an_abstainer(Cluster& c) {
  lead_by_1(c, {1, 2, 3});
  write(c, 1, 3);
  c.settle({1, 2, 3});
  c.crash(2);
  c.database(3).holds().stream = true;
  reclone(c, 3, 1, {0, 0}, 1);
  c.settle({1, 3});
  c.replica(1).raft().step_down(0);
  c.observe(1);
}

TEST(Liveness, ThePrimaryOfATimelineCountsWhoAbstainsBecauseOfIt) {
  Cluster c(options(3));
  elect_the_primary_of_an_abstainer(c);
  const Timeline timeline = end_of(c.database(1).wal()).timeline;
  ASSERT_TRUE(c.run_until({1, 3}, kTicks, [&] { return c.writable(1); })) << all(c);
  ASSERT_TRUE(c.database(3).abstain_until().has_value()) << all(c);
  EXPECT_EQ(end_of(c.database(1).wal()).timeline, timeline) << all(c);
  c.database(3).holds().stream = false;
  expect_writable(c, {1, 3});
  EXPECT_TRUE(c.run_until({1, 3}, kTicks, [&] { return has_caught_up(c, 3); })) << all(c);
  expect_hangs_without(options(3), [](failover::Switches& r) { r.bound = false; },
                       elect_the_primary_of_an_abstainer, {1, 3});
}

// PROTOCOL.md, M8c: the abstainer leads first.
void elect_an_abstainer(Cluster& c) {
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
}

TEST(Liveness, ALeaderThatAbstainsHandsOver) {
  const Ids living = {2, 3, 4, 5};
  Cluster c(options(5));
  elect_an_abstainer(c);
  expect_writable(c, living);
  EXPECT_FALSE(c.writable(5));
  using Rules = failover::Switches;
  expect_hangs_without(
      options(5), [](Rules& r) { r.hand_over = r.give_way = false; }, elect_an_abstainer, living);
  expect_writable_without(
      options(5), [](Rules& r) { r.hand_over = false; }, elect_an_abstainer, living);
  expect_writable_without(
      options(5), [](Rules& r) { r.give_way = false; }, elect_an_abstainer, living);
}

// PROTOCOL.md, M8c2: node 1 has the longest WAL and leads, and a process of its server never loads
// the quorum.
void lead_without_a_quorum(Cluster& c) {
  lead_by_1(c, {1, 2, 3});
  c.database(2).holds().stream = true;
  c.database(3).holds().stream = true;
  write(c, 1, 3);
  c.database(1).holds().reload = true;
  c.replica(1).raft().step_down(0);
  c.observe(1);
  for (int i = 0; i < 200 && !c.leads(1); ++i) {
    c.tick(2);
    c.tick(3);
    c.campaign(1);
    c.pump({1, 2, 3});
  }
  ASSERT_TRUE(c.leads(1)) << all(c);
  c.database(2).holds().stream = false;
  c.database(3).holds().stream = false;
}

TEST(Liveness, ALeaderThatCanNotOpenItsFenceGivesWay) {
  Cluster c(options(3));
  lead_without_a_quorum(c);
  expect_writable(c, {1, 2, 3});
  EXPECT_FALSE(c.writable(1)) << all(c);
  expect_hangs_without(options(3), [](failover::Switches& r) { r.give_way = false; },
                       lead_without_a_quorum, {1, 2, 3});
}

// PROTOCOL.md, M8c3: what node 3 needs next has been removed everywhere while it was away.
void leave_3_behind(Cluster& c) {
  lead_by_1(c, {1, 2, 3});
  c.crash(3);
  write(c, 1, 5);
  c.settle({1, 2});
  for (const NodeId id : {1, 2}) c.database(id).remove_wal(c.database(id).wal().size());
  c.start(3);
}

TEST(Liveness, AStandbyThatWasLeftBehindIsCloned) {
  const auto caught_up = [](const Cluster& c) { return has_caught_up(c, 3); };
  Cluster c(options(3));
  leave_3_behind(c);
  EXPECT_TRUE(c.run_until({1, 2, 3}, kTicks, [&] { return caught_up(c); })) << all(c);
  expect_writable(c, {1, 2, 3});
  expect_hangs_without(
      options(3), [](failover::Switches& r) { r.left_behind = false; }, leave_3_behind, {1, 2, 3},
      caught_up);
}

// PROTOCOL.md, M8d: the target was far ahead on a timeline that is dead now; the new one forked
// below it.
void fork_below_the_target(Cluster& c) {
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
}

TEST(Liveness, AbstentionEndsOnANewerTimelineBelowTheTarget) {
  const auto caught_up = [](const Cluster& c) { return has_caught_up(c, 3); };
  Cluster c(options(3));
  fork_below_the_target(c);
  EXPECT_TRUE(c.run_until({1, 2, 3}, kTicks, [&] { return caught_up(c); })) << all(c);
  EXPECT_LT(c.database(3).wal().size(), 1000u);
  expect_hangs_without(
      options(3), [](failover::Switches& r) { r.timeline_first = r.copied = false; },
      fork_below_the_target, {1, 2, 3}, caught_up);
  for (bool failover::Switches::*one :
       {&failover::Switches::timeline_first, &failover::Switches::copied}) {
    ClusterOptions one_off = options(3);
    one_off.rules.*one = false;
    Cluster covered(one_off);
    fork_below_the_target(covered);
    EXPECT_TRUE(covered.run_until({1, 2, 3}, kTicks, [&] { return caught_up(covered); }))
        << all(covered);
  }
}

// PROTOCOL.md, M8e, rule 9: a standby with WAL that nobody acknowledged is rewound without being
// told to.
void diverge(Cluster& c) {
  lead_by_1(c, {1, 2, 3});
  c.database(2).holds().stream = true;
  c.database(3).holds().stream = true;
  write(c, 1, 5);
  c.crash(1);
  c.database(2).holds().stream = false;
  c.database(3).holds().stream = false;
  expect_writable(c, {2, 3});
  c.start(1);
}

TEST(Liveness, ADivergedNodeIsRewoundAndCatchesUp) {
  const auto caught_up = [](const Cluster& c) { return has_caught_up(c, 1); };
  Cluster c(options(3));
  diverge(c);
  EXPECT_TRUE(c.run_until({1, 2, 3}, kTicks, [&] { return caught_up(c); })) << all(c);
  expect_hangs_without(
      options(3), [](failover::Switches& r) { r.current = false; }, diverge, {1, 2, 3}, caught_up);
}

// PROTOCOL.md, M8f: the longest WAL is a learner's. It is not asked for, and it is rewound.
TEST(Liveness, ALearnerWithTheLongestWalIsNotWaitedFor) {
  ClusterOptions with_learner = options(4);
  with_learner.first_voters = {1, 2, 3};
  Cluster c(with_learner);
  lead_by_1(c, {1, 2, 3});
  for (const NodeId id : {2, 3, 4}) c.database(id).holds().stream = true;
  ASSERT_TRUE(c.add_member(1, 4).is_ok());
  c.run_until({1, 2, 3, 4}, 30, [&] { return false; });
  write(c, 1, 5);
  c.step(4, [](DatabaseModel& d) { return d.connect(); });
  c.step(4, [](DatabaseModel& d) { return d.receive(SIZE_MAX); });
  c.step(4, [](DatabaseModel& d) { return d.flush(SIZE_MAX); });
  ASSERT_GT(c.database(4).wal().size(), c.database(2).wal().size()) << all(c);
  ASSERT_EQ(c.voters(1).size(), 3u) << all(c);
  c.crash(1);
  for (const NodeId id : {2, 3, 4}) c.database(id).holds().stream = false;
  expect_writable(c, {2, 3, 4});
  EXPECT_TRUE(c.run_until({2, 3, 4}, kTicks, [&] { return has_caught_up(c, 4); })) << all(c);
}

// A crash that was to come dies with its worker: the next one, in the term in which the server
// was started, would lose its first orders and wait for them for ever.
TEST(Liveness, TheFirstOrdersOfANewWorkerAreCarriedOut) {
  Cluster c(options(3));
  lead_by_1(c, {1, 2, 3});
  c.crash(3);
  c.start(3);
  c.crash_inside(3, 1);
  c.crash_worker(3);
  EXPECT_TRUE(c.run_until({1, 2, 3}, kTicks, [&] { return has_caught_up(c, 3); })) << all(c);
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
void hang_a_promotion(Cluster& c) {
  c.database(1).holds().promotion = true;
  const Ids everybody = {1, 2, 3};
  for (int i = 0; i < 50 && !c.database(1).promote_pending(); ++i) {
    c.campaign(1);
    c.run_until(everybody, 30, [&] { return c.database(1).promote_pending(); });
    if (writable_of(c, everybody) != 0) c.crash(writable_of(c, everybody));
    for (const NodeId id : everybody) c.start(id);
  }
  ASSERT_TRUE(c.database(1).promote_pending()) << all(c);
}

TEST(Liveness, APromotionThatHangsDoesNotStopTheOthers) {
  Cluster c(options(3));
  hang_a_promotion(c);
  expect_writable(c, {1, 2, 3});
  EXPECT_NE(c.leader(), 1u);
  expect_hangs_without(options(3), [](failover::Switches& r) { r.give_way = false; },
                       hang_a_promotion, {1, 2, 3});
}

}  // namespace
}  // namespace pgraft::sim
