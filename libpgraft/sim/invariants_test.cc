// Each invariant of the failover simulator notices what it is for, and nothing else does.
#include "libpgraft/sim/invariants.h"

#include <gtest/gtest.h>

#include "libpgraft/sim/schedules.h"

namespace pgraft::sim {
namespace {

const Wal kBase = {{1, 1}, {1, 2}, {1, 3}};

// One violation, which begins with `kind`.
void expect_one(const Invariants& invariants, const std::string& kind) {
  ASSERT_EQ(invariants.violations().size(), 1u);
  EXPECT_EQ(invariants.violations().front().find(kind), 0u) << invariants.violations().front();
}

TEST(FailoverInvariants, NoticeNothingInAPlainFailover) {
  Invariants invariants;
  invariants.leads(1, 11, 2);
  invariants.promoted(1, 2, 2, kBase, false);
  const Wal wal = {{1, 1}, {1, 2}, {1, 3}, {2, 4}};
  for (const NodeId id : {1, 2, 3}) invariants.has_record(id, 4, wal.back(), 1);
  invariants.accepted_write(1, "");
  invariants.acknowledged(1, 2, wal.back());
  invariants.reported(2, 3, "");
  invariants.leads(2, 12, 3);
  invariants.promoted(2, 3, 3, wal, false);
  invariants.acknowledged(1, 2, wal.back());  // on its way since before
  EXPECT_TRUE(invariants.violations().empty()) << invariants.violations().front();
}

TEST(FailoverInvariants, NoticeALeaderWithoutAnAcknowledgedRecord) {
  Invariants invariants;
  invariants.promoted(1, 2, 2, kBase, false);
  invariants.acknowledged(1, 2, {2, 4});
  invariants.promoted(2, 3, 3, kBase, false);
  expect_one(invariants, "lost");
}

// Two primaries acknowledge: the first one something that the second does not have.
TEST(FailoverInvariants, NoticeAnAcknowledgementThatComesTooLate) {
  Invariants invariants;
  invariants.promoted(1, 2, 2, kBase, false);
  invariants.promoted(2, 3, 3, kBase, false);
  invariants.acknowledged(2, 3, {3, 5});
  invariants.acknowledged(1, 2, {2, 4});
  expect_one(invariants, "lost");
}

TEST(FailoverInvariants, NoticeAnAcknowledgementOfANodeThatWasNotPromoted) {
  Invariants invariants;
  invariants.promoted(1, 2, 2, kBase, false);
  invariants.acknowledged(2, 2, kBase.front());
  expect_one(invariants, "term 2");
}

TEST(FailoverInvariants, NoticeASecondPromotionOfATerm) {
  Invariants invariants;
  invariants.promoted(1, 2, 2, kBase, false);
  invariants.promoted(2, 2, 3, kBase, false);
  expect_one(invariants, "term 2");
}

TEST(FailoverInvariants, NoticeATimelineThatIsMadeTwice) {
  Invariants invariants;
  invariants.promoted(1, 2, 2, kBase, false);
  invariants.promoted(2, 3, 2, kBase, false);
  expect_one(invariants, "timeline 2 made twice");
}

TEST(FailoverInvariants, NoticeATimelineWithTwoHistories) {
  const auto of = [](const Record& record, Timeline before) {
    Invariants invariants;
    invariants.has_record(1, 4, {2, 4}, 1);
    invariants.has_record(2, 4, record, before);
    return invariants;
  };
  EXPECT_TRUE(of({2, 4}, 1).violations().empty());
  EXPECT_TRUE(of({3, 5}, 1).violations().empty());  // another timeline
  expect_one(of({2, 5}, 1), "timeline 2 has two histories");
  expect_one(of({2, 4}, 2), "timeline 2 has two histories");  // another fork
}

TEST(FailoverInvariants, NoticeTwoLeadersAndTwoLogs) {
  Invariants leaders;
  leaders.leads(1, 11, 2);
  leaders.leads(2, 12, 2);
  expect_one(leaders, "leaders");

  Invariants again;  // the same id, wiped
  again.leads(1, 11, 2);
  again.leads(1, 13, 2);
  expect_one(again, "leaders");

  Invariants log;
  raft::Entry entry;
  entry.index = 5;
  entry.term = 2;
  log.committed(1, entry);
  entry.term = 3;
  log.committed(2, entry);
  expect_one(log, "log");
}

// Rule 7.
TEST(FailoverInvariants, NoticeAWriteInATermOfAnother) {
  expect_only(
      scripted(3), [](ClusterOptions& o) { o.host.close_early = false; }, "fence",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        elect(c, 3, {1, 2, 3});  // 1's server has not executed its new orders
        write(c, 1);
      });
}

TEST(FailoverInvariants, NoticeAWriteBeforeTheQuorumIsInForce) {
  expect_only(
      scripted(3), [](ClusterOptions& o) { o.rules.unfence = false; }, "fence",
      [](Cluster& c) {
        c.database(1).holds().reload = true;
        promote(c, 1, {1, 2, 3});
        c.step(1, [](DatabaseModel& d) { return d.write(); });
      });
}

// Rule 3.
TEST(FailoverInvariants, NoticeAReportBeforeTheStreamHasEnded) {
  expect_only(
      scripted(3), [](ClusterOptions& o) { o.rules.frozen = false; }, "report",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        elect(c, 3, {1, 2, 3});  // no server has executed its new orders
      });
}

TEST(FailoverInvariants, NoticeAReportWhileAPromotionIsInFlight) {
  expect_only(
      scripted(3), [](ClusterOptions& o) { o.rules.cancel = false; }, "report",
      [](Cluster& c) {
        c.database(1).holds().promotion = true;
        elect(c, 1, {1, 2, 3});
        c.run_until({1, 2, 3}, kTicks, [&] { return c.database(1).promote_seen(); });
        ASSERT_TRUE(c.database(1).promote_seen()) << all(c);
        elect(c, 2, {1, 2, 3});
        c.work(1);
        c.pump({1, 2, 3});
      });
}

TEST(FailoverInvariants, NoticeAReportWithoutTheEndOfTheWal) {
  expect_only(
      scripted(3), [](ClusterOptions& o) { o.rules.known_end = false; }, "report",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        c.crash(2);
        c.database(2).holds().replay = true;
        c.start(2);
        elect(c, 3, {2, 3});
        c.work(2);
      });
}

TEST(FailoverInvariants, NoticeAReportOfAnAbstainer) {
  expect_only(
      scripted(3), [](ClusterOptions& o) { o.rules.abstain = false; }, "report",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        c.crash(2);
        c.database(2).request_rejoin(1, end_of(c.database(1).wal()));
        ASSERT_TRUE(c.database(2).begin_rejoin(true)) << all(c);
        ASSERT_TRUE(c.database(2).finish_rejoin(1, 1)) << all(c);
        hold_streams(c, {2});
        c.start(2);
        elect(c, 3, {2, 3});
        c.work(2);
      });
}

}  // namespace
}  // namespace pgraft::sim
