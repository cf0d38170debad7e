// Directed schedules of rewinds and clones that end half way, or twice (PROTOCOL.md, S1, S2, M8g
// and M8h): nothing is lost by them, and what can go on does.
#include "libpgraft/sim/schedules.h"

namespace pgraft::sim {
namespace {

// Node 2's server is down for a clone of node 1.
void begin_clone(Cluster& c, NodeId id, NodeId source) {
  c.crash(id);
  c.database(id).request_rejoin(source, end_of(c.database(source).wal()));
  ASSERT_TRUE(c.database(id).begin_rejoin(true)) << all(c);
}

// PROTOCOL.md, S1: node 2 has acknowledged, and the clone that is to replace it was interrupted.
TEST(RejoinSchedules, AHalfDoneCloneIsNotStarted) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.host.half_done = false; }, "lost",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        hold_streams(c, {3});
        write(c, 1, 2);
        replicate(c, 1, 2);
        ASSERT_NO_FATAL_FAILURE(begin_clone(c, 2, 1));
        c.crash(1);
        c.start(2);
        promote(c, 3, {2, 3});
      });
}

// PROTOCOL.md, S1: node 2 has acknowledged with its clone, and then what that replaced is there
// again.
TEST(RejoinSchedules, WhatACloneReplacedDoesNotComeBack) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.host.retired = false; }, "lost",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        ASSERT_NO_FATAL_FAILURE(begin_clone(c, 2, 1));
        ASSERT_TRUE(c.database(2).finish_rejoin(1)) << all(c);
        c.start(2);
        ASSERT_TRUE(c.run_until({1, 2, 3}, kTicks, [&] {
          return c.database(2).streaming() && !c.database(2).abstain_until();
        })) << all(c);
        hold_streams(c, {3});
        write(c, 1);
        replicate(c, 1, 2);
        c.crash(1);
        c.crash(2);
        c.database(2).put_back();
        c.start(2);
        promote(c, 3, {2, 3});
      });
}

// A leader whose oldest WAL lay behind its end would have everybody cloned from it again and again.
TEST(RejoinSchedules, ARewoundNodeTellsWhatWalItHas) {
  Cluster c(scripted(3));
  ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
  hold_streams(c, {2, 3});
  write(c, 1, 5);
  c.database(1).remove_wal(c.database(1).wal().size());
  const Lsn oldest = c.database(1).view().oldest;
  c.crash(1);
  hold_streams(c, {2, 3}, false);
  ASSERT_TRUE(promote(c, 2, {2, 3})) << all(c);
  c.start(1);
  ASSERT_TRUE(c.run_until({1, 2, 3}, kTicks, [&] {
    return c.database(1).streaming() && !c.database(1).abstain_until();
  })) << all(c);
  ASSERT_LT(c.database(1).view().end.lsn, oldest) << all(c);
  EXPECT_LE(c.database(1).view().oldest, c.database(1).view().end.lsn) << all(c);
}

// Nodes 2 and 3 are two of three, and 3 has lost what it may have acknowledged: nobody may be
// promoted until node 1 is back.
void lose_the_only_copy(Cluster& c) {
  ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
  hold_streams(c, {2});
  write(c, 1, 2);
  replicate(c, 1, 3);
  ASSERT_NO_FATAL_FAILURE(begin_clone(c, 3, 1));
  ASSERT_TRUE(c.database(3).finish_rejoin(1, 1)) << all(c);
  c.crash(1);
  c.start(3);
  hold_streams(c, {2}, false);
  promote(c, 2, {2, 3});
}

TEST(RejoinSchedules, WithoutTheOnlyCopyNobodyIsPromoted) {
  Cluster c(scripted(3));
  ASSERT_NO_FATAL_FAILURE(lose_the_only_copy(c));
  EXPECT_EQ(c.leader(), 2u) << all(c);
  EXPECT_FALSE(c.database(2).primary()) << all(c);
  EXPECT_TRUE(c.violations().empty()) << all(c);
  expect_recovers(c);  // node 1 is back
}

// PROTOCOL.md, S2 and M8h: while node 3 waits for a clone's source its server does not run, and so
// it doesn't vote. An administrator takes the clone back: the old directory is whole.
void source_dies_during_a_clone(Cluster& c) {
  ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
  write(c, 1, 2);
  replicate(c, 1, 3);
  ASSERT_NO_FATAL_FAILURE(begin_clone(c, 3, 1));
  c.crash(1);
  EXPECT_FALSE(promote(c, 2, {2, 3})) << all(c);
  c.database(3).undo_rejoin();
  c.start(3);
}

TEST(RejoinSchedules, ACloneWhoseSourceDiedCanBeTakenBack) {
  {
    SCOPED_TRACE("rule on");
    Cluster c(scripted(3));
    source_dies_during_a_clone(c);
    EXPECT_TRUE(promote(c, 2, {2, 3}) || c.run_until({2, 3}, kTicks, [&] { return c.writable(3); }))
        << all(c);
    EXPECT_TRUE(c.violations().empty()) << all(c);
    expect_recovers(c);
  }
  SCOPED_TRACE("rule off");
  ClusterOptions options = scripted(3);
  options.host.aside = false;
  Cluster c(options);
  source_dies_during_a_clone(c);
  EXPECT_FALSE(promote(c, 2, {2, 3})) << all(c);
  EXPECT_FALSE(c.up(3)) << all(c);
}

}  // namespace
}  // namespace pgraft::sim
