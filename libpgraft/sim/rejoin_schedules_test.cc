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

// Node 3 has acknowledged to node 2, and is cloned from node 1, which does not know yet that it
// does not lead any more: what it has is not what node 3 has to wait for.
TEST(RejoinSchedules, AnOutdatedSourceIsRefused) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.host.outdated = false; }, "lost",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        c.partition({1});
        ASSERT_TRUE(promote(c, 2, {2, 3})) << all(c);
        write(c, 2, 2);
        replicate(c, 2, 3);
        c.heal();
        ASSERT_NO_FATAL_FAILURE(begin_clone(c, 3, 1));
        (void)c.database(3).finish_rejoin(1);
        c.crash(2);
        c.start(3);
        promote(c, 3, {1, 3});
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

// PROTOCOL.md, S2 and M8g: what node 3 may have acknowledged is in the directory that its clone is
// to replace, so nobody may be promoted. An administrator takes the clone back: the old directory
// is whole.
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
  EXPECT_FALSE(c.serves(3)) << all(c);
}

// Node 1 has led, and has a tail that nobody else has; 2 has taken over, and 3 has followed it if
// `third_follows`.
void diverge(Cluster& c, bool third_follows) {
  ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
  write(c, 1, 2);
  replicate(c, 1, 2);
  replicate(c, 1, 3);
  hold_streams(c, {2, 3});
  write(c, 1, 2);
  c.crash(1);
  hold_streams(c, {2});
  hold_streams(c, {3}, !third_follows);
  ASSERT_TRUE(promote(c, 2, {2, 3})) << all(c);
  if (third_follows) {
    write(c, 2);
    replicate(c, 2, 3);
  }
}

// Node 1 hears of the promotion, and stops to be rewound.
void stop_for_rewind(Cluster& c) {
  c.start(1);
  for (int i = 0; i < kTicks && c.serves(1); ++i) {
    c.tick(2);
    c.pump({1, 2, 3});
    c.work(1);
  }
  ASSERT_FALSE(c.serves(1)) << all(c);
  ASSERT_TRUE(c.database(1).rejoin_pending()) << all(c);
}

bool leads_again(Cluster& c, const Ids& ids) {
  return c.run_until(ids, 4 * kTicks, [&] {
    for (const NodeId id : ids) {
      if (!c.serves(id) || c.database(id).abstain_until()) return false;
    }
    return c.leader() != 0 && c.writable(c.leader());
  });
}

// Runs `schedule` with elections as they come, with and without a cure of PROTOCOL.md, M8h: what is
// left must become a cluster that acknowledges writes; without, it does not.
void expect_cures(bool HostSwitches::*cure, const Ids& left,
                  const std::function<void(Cluster&)>& schedule) {
  for (const bool on : {true, false}) {
    SCOPED_TRACE(on ? "cure on" : "cure off");
    ClusterOptions options;
    options.host.*cure = on;
    Cluster c(options);
    ASSERT_NO_FATAL_FAILURE(schedule(c));
    EXPECT_EQ(leads_again(c, left), on) << all(c);
    EXPECT_TRUE(c.violations().empty()) << all(c);
    if (!on) continue;
    const std::size_t before = c.invariants().acknowledged_count();
    write(c, c.leader());
    EXPECT_TRUE(c.run_until(left, kTicks, [&] {
      return c.invariants().acknowledged_count() > before;
    })) << all(c);
    expect_recovers(c);
  }
}

// The source dies while node 1 waits for it; 3 can lead, and be the source, if 1 votes.
TEST(RejoinSchedules, WhoWaitsForASourceVotes) {
  expect_cures(&HostSwitches::votes, {1, 3}, [](Cluster& c) {
    ASSERT_NO_FATAL_FAILURE(diverge(c, true));
    ASSERT_NO_FATAL_FAILURE(stop_for_rewind(c));
    ASSERT_TRUE(c.database(1).begin_rejoin(false)) << all(c);
    c.crash(2);
  });
}

// Two of three are rewound or cloned when their source is restarted.
TEST(RejoinSchedules, TwoThatRejoinElectTheirSource) {
  expect_cures(&HostSwitches::votes, {1, 2, 3}, [](Cluster& c) {
    ASSERT_NO_FATAL_FAILURE(diverge(c, true));
    ASSERT_NO_FATAL_FAILURE(stop_for_rewind(c));
    ASSERT_TRUE(c.database(1).begin_rejoin(false)) << all(c);
    ASSERT_NO_FATAL_FAILURE(begin_clone(c, 3, 2));
    c.crash(2);
    c.start(2);
  });
}

// Node 3 has nothing of the timeline that node 1 was to be rewound for, and its only source is
// dead: what 1 may have acknowledged is on 1 and 3, and 1 still has it.
TEST(RejoinSchedules, ARewindThatWasOnlyAskedForIsNotWaitedFor) {
  expect_cures(&HostSwitches::untouched, {1, 3}, [](Cluster& c) {
    ASSERT_NO_FATAL_FAILURE(diverge(c, false));
    ASSERT_NO_FATAL_FAILURE(stop_for_rewind(c));
    c.crash(2);
    hold_streams(c, {3}, false);
  });
}

// It is withdrawn when the reason has gone: the next restart would clone a node that follows.
TEST(RejoinSchedules, ARequestWithoutAReasonIsWithdrawn) {
  Cluster c((ClusterOptions()));
  ASSERT_NO_FATAL_FAILURE(diverge(c, false));
  ASSERT_NO_FATAL_FAILURE(stop_for_rewind(c));
  c.crash(2);
  hold_streams(c, {3}, false);
  ASSERT_TRUE(leads_again(c, {1, 3})) << all(c);
  EXPECT_FALSE(c.database(1).rejoin_pending()) << all(c);
  EXPECT_EQ(c.database(1).wal(), c.database(3).wal()) << all(c);
  expect_recovers(c);
}

}  // namespace
}  // namespace pgraft::sim
