// The controller alone: events in, orders and requests out. Each test is a scenario of one rule; a
// `Desk` plays the Raft side and a database that obeys at once unless told otherwise.
#include "libpgraft/failover/controller.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace pgraft::failover {
namespace {

constexpr int kElectionTicks = 10;
constexpr int kPatience = 6;

Config config(NodeId self = 1) {
  Config config;
  config.self = self;
  config.election_ticks = kElectionTicks;
  config.patience = kPatience;
  return config;
}

// A member (node 1 of {1,2,3}) as the replica and the host show it to the controller.
struct Desk {
  explicit Desk(const Config& c = config()) : controller(c) {
    raft.self = c.self;
    raft.term = 2;
    raft.voters = {1, 2, 3};
    promotions.max_timeline = 1;
    database.valid = true;
    database.receiver_stopped = true;
    database.replay_exhausted = true;
    database.end_known = true;
    database.end = {1, 100};
    database.replayed = {1, 100};
    database.highest_history = 1;
    database.frozen = true;
  }

  // Updates until the orders stay the same, carried out at once when `obeys`. Returns the requests
  // of all updates, the first of each kind.
  Requests run() {
    Requests all;
    for (int i = 0; i < 10; ++i) {
      const Controller::Outputs out =
          controller.update({raft, promotions, database, now, oldest_of_leader});
      collect(out.requests, all);
      if (!obeys || !out.orders_changed) break;
      database.orders_seen = controller.orders().seq;
      database.quorum_in_force = controller.orders().quorum_generation;
    }
    return all;
  }

  Requests after(int ticks) {
    Requests all;
    for (int i = 0; i < ticks; ++i) {
      ++now;
      collect(run(), all);
    }
    return all;
  }

  static void collect(const Requests& from, Requests& all) {
    if (!all.persist_bound) all.persist_bound = from.persist_bound;
    all.clear_abstain |= from.clear_abstain;
    if (!all.propose_promotion) all.propose_promotion = from.propose_promotion;
    if (!all.propose_done) all.propose_done = from.propose_done;
    if (all.transfer_to == 0) all.transfer_to = from.transfer_to;
    if (!all.step_down) all.hold_off_ticks = from.hold_off_ticks;
    all.step_down |= from.step_down;
    if (!all.election_delay) all.election_delay = from.election_delay;
    if (!all.send_report) all.send_report = from.send_report;
    if (all.promote_learner == 0) all.promote_learner = from.promote_learner;
  }

  void follow(NodeId leader) {
    raft.role = Role::kFollower;
    raft.leader = leader;
    raft.own_term_applied = false;
    raft.answering.clear();
  }

  void lead() {
    raft.role = Role::kLeader;
    raft.leader = raft.self;
    raft.own_term_applied = true;
    raft.answering = raft.voters;
  }

  void next_term() {
    ++raft.term;
    promotions.of_term.reset();
    promotions.done_of_term.reset();
    follow(0);
  }

  // Reports come when the term has been entered.
  void hears(NodeId from, Position position) {
    if (orders().term != raft.term) run();
    controller.receive({from, raft.term, false, position, 0});
  }
  void hears_abstention(NodeId from, Timeline bound) {
    if (orders().term != raft.term) run();
    controller.receive({from, raft.term, true, {}, bound});
  }

  void commit(const Promotion& promotion) {
    promotions.of_term = promotion;
    promotions.max_timeline = std::max(promotions.max_timeline, promotion.timeline);
  }
  void commit_done(NodeId node, Timeline timeline, History history) {
    commit({raft.term, node, timeline});
    promotions.done_of_term = PromotionDone{raft.term, node, timeline, std::move(history)};
  }

  // The database has become a primary on `timeline`.
  void become_primary(Timeline timeline) {
    database.in_recovery = false;
    database.promote_pending = false;
    database.history.push_back({database.end.timeline, database.end.lsn});
    database.end = {timeline, database.end.lsn + 1};
    database.replayed = database.end;
    database.highest_history = timeline;
    database.frozen = true;
    database.orders_seen = controller.orders().seq;
  }

  // Node 1 leads, promoted to timeline 2 in this term, fence lifted.
  void rule() {
    lead();
    hears(2, {1, 100});
    const Requests r = run();
    ASSERT_TRUE(r.propose_promotion.has_value()) << controller.phase();
    commit(*r.propose_promotion);
    run();
    become_primary(controller.orders().promote);
    const Requests done = run();
    ASSERT_TRUE(done.propose_done.has_value()) << controller.phase();
    promotions.done_of_term = done.propose_done;
    run();
    database.frozen = false;
    ASSERT_TRUE(controller.is_writable_leader()) << controller.phase();
  }

  const Orders& orders() const { return controller.orders(); }

  Controller controller;
  RaftView raft;
  PromotionView promotions;
  DatabaseView database;
  std::uint64_t now = 1;
  Lsn oldest_of_leader = 0;
  bool obeys = true;
};

// --- rule 2: the gate

TEST(Gate, ClosesWhenATermIsEnteredBeforeAnythingElse) {
  Desk desk;
  desk.follow(2);
  desk.commit_done(2, 2, {{1, 100}});
  desk.run();
  ASSERT_TRUE(desk.orders().gate_open) << desk.controller.phase();
  const Orders& closed = desk.controller.enter_term(3);
  EXPECT_EQ(closed.term, 3u);
  EXPECT_FALSE(closed.gate_open);
  EXPECT_EQ(closed.follow, 0u);
  EXPECT_FALSE(closed.admit_walsenders);
  EXPECT_FALSE(closed.lift_fence);
}

TEST(Gate, OpensForThePromotionOfTheTermPastItsSwitchOnly) {
  Desk desk;
  desk.follow(2);
  desk.run();
  EXPECT_FALSE(desk.orders().gate_open);
  desk.commit({2, 2, 5});
  desk.run();
  EXPECT_FALSE(desk.orders().gate_open) << "committed is not reached";
  EXPECT_EQ(desk.orders().follow, 0u);
  desk.commit_done(2, 5, {{1, 120}});
  desk.run();
  EXPECT_TRUE(desk.orders().gate_open);
  EXPECT_EQ(desk.orders().gate_timeline, 5u);
  EXPECT_EQ(desk.orders().gate_switch, 120u);
  EXPECT_EQ(desk.orders().follow, 2u);
}

TEST(Gate, OpensOnlyAfterTheBoundIsRaised) {
  Desk desk;
  desk.follow(2);
  desk.commit_done(2, 5, {{1, 120}});
  const Requests r = desk.run();
  EXPECT_EQ(r.persist_bound, Timeline{5});
  EXPECT_FALSE(desk.after(3).persist_bound.has_value()) << "once is enough";
}

TEST(Gate, StaysClosedUntilLocalWalIsReplayed) {
  Desk desk;
  desk.follow(2);
  desk.database.replay_exhausted = false;
  desk.commit_done(2, 5, {{1, 120}});
  desk.run();
  EXPECT_EQ(desk.orders().follow, 0u);
  desk.database.replay_exhausted = true;
  desk.run();
  EXPECT_EQ(desk.orders().follow, 2u);
}

// --- rule 3: reports

TEST(Reports, FollowOnlyWhenTheViewShowsTheOrdersOfTheTerm) {
  Desk desk;
  desk.obeys = false;
  desk.follow(2);
  EXPECT_FALSE(desk.run().send_report.has_value());
  desk.database.orders_seen = desk.orders().seq;
  const Requests r = desk.run();
  ASSERT_TRUE(r.send_report.has_value());
  EXPECT_EQ(r.send_report->term, 2u);
  EXPECT_EQ(r.send_report->position, (Position{1, 100}));
  desk.next_term();
  desk.follow(3);
  EXPECT_FALSE(desk.run().send_report.has_value()) << "the view is of the term before";
}

TEST(Reports, AreRepeatedSinceTheyMayBeLost) {
  Desk desk;
  desk.follow(2);
  ASSERT_TRUE(desk.run().send_report.has_value());
  EXPECT_TRUE(desk.after(kElectionTicks).send_report.has_value());
}

struct Withheld {
  const char* why;
  void (*change)(DatabaseView&);
};

TEST(Reports, AreWithheldUntilThePositionIsFrozenAndKnown) {
  const Withheld cases[] = {
      {"the receiver may still write", [](DatabaseView& d) { d.receiver_stopped = false; }},
      {"the end of WAL is not known", [](DatabaseView& d) { d.end_known = false; }},
      {"a primary that is not frozen",
       [](DatabaseView& d) {
         d.in_recovery = false;
         d.frozen = false;
       }},
      {"a promotion is in flight", [](DatabaseView& d) { d.promote_pending = true; }},
      {"nobody has looked yet", [](DatabaseView& d) { d.valid = false; }},
  };
  for (const Withheld& c : cases) {
    SCOPED_TRACE(c.why);
    Desk desk;
    desk.follow(2);
    c.change(desk.database);
    EXPECT_FALSE(desk.after(30).send_report.has_value());
  }
}

TEST(Reports, OfAFormerPrimaryAreSentOnceItIsFrozen) {
  Desk desk;
  desk.database.in_recovery = false;
  desk.follow(2);
  EXPECT_TRUE(desk.run().send_report.has_value());
}

TEST(Abstention, ReportsTheBoundAndDelaysCampaigns) {
  Config c = config();
  c.abstain_until = Position{3, 500};
  c.max_ack_timeline = 2;
  Desk desk(c);
  desk.follow(2);
  const Requests r = desk.run();
  ASSERT_TRUE(r.send_report.has_value());
  EXPECT_TRUE(r.send_report->abstains);
  EXPECT_EQ(r.send_report->bound, 2u);
  EXPECT_EQ(r.election_delay, kElectionTicks);
  desk.commit_done(2, 3, {{1, 100}});
  desk.run();
  EXPECT_EQ(desk.orders().follow, 2u);
  EXPECT_FALSE(desk.orders().gate_open) << "it does not acknowledge what it lacks";
}

// After a rewind the WAL that makes the pages consistent comes only through the stream.
TEST(Abstention, FollowsToBecomeConsistentAndAcknowledgesNothingBefore) {
  Config c = config();
  c.abstain_until = Position{2, 500};
  Desk desk(c);
  desk.database.end_known = false;
  desk.database.end = desk.database.replayed = {1, 90};
  desk.follow(2);
  desk.commit_done(2, 2, {{1, 100}});
  desk.run();
  EXPECT_EQ(desk.orders().follow, 2u);
  EXPECT_FALSE(desk.orders().gate_open);
  desk.database.end = desk.database.replayed = {2, 600};
  desk.run();
  EXPECT_TRUE(desk.controller.abstaining()) << "not consistent yet";
  desk.database.end_known = true;
  EXPECT_TRUE(desk.run().clear_abstain);
  EXPECT_TRUE(desk.orders().gate_open);
}

// The source of a rewind died and the next leader forked off below what had been copied: the pages
// hold a branch that is gone, although no WAL of it is replayed here.
TEST(Abstention, ACopyThatGoesPastTheNextForkIsMadeAgain) {
  Config c = config();
  c.abstain_until = Position{2, 500};
  Desk desk(c);
  desk.database.end_known = false;
  desk.database.end = desk.database.replayed = {1, 90};
  desk.follow(3);
  desk.commit_done(3, 3, {{1, 100}, {2, 400}});
  desk.run();
  EXPECT_EQ(desk.orders().restart, Restart::kRewind);
  EXPECT_EQ(desk.orders().rewind_source, 3u);
  EXPECT_EQ(desk.orders().follow, 0u);
}

// PROTOCOL.md, M8d
TEST(Abstention, EndsAtTheTargetByTimelineThenLsn) {
  struct Case {
    Position end;
    bool ends;
  };
  const Case cases[] = {{{3, 499}, false}, {{2, 9000}, false}, {{3, 500}, true}, {{4, 10}, true}};
  for (const Case& c : cases) {
    Config with = config();
    with.abstain_until = Position{3, 500};
    Desk desk(with);
    desk.follow(2);
    desk.database.end = c.end;
    EXPECT_EQ(desk.run().clear_abstain, c.ends) << c.end.timeline << "/" << c.end.lsn;
    EXPECT_EQ(desk.controller.abstaining(), !c.ends);
  }
}

// A data directory that was put back from a copy lacks what the node acknowledged since.
TEST(Abstention, AnOlderCopyOfTheDataAbstainsUntilItHasItsWalAgain) {
  Config c = config();
  c.wal_end = Position{3, 500};
  c.max_ack_timeline = 3;
  Desk desk(c);
  desk.database.end_known = false;
  desk.database.end = desk.database.replayed = {3, 400};
  desk.follow(2);
  EXPECT_FALSE(desk.run().send_report.has_value()) << "its end is not known yet";
  desk.database.end_known = true;
  Requests r = desk.run();
  ASSERT_TRUE(r.send_report.has_value());
  EXPECT_TRUE(r.send_report->abstains);
  EXPECT_EQ(r.send_report->bound, 3u);

  desk.commit_done(2, 4, {{1, 100}, {3, 450}});  // forked off before what was lost
  desk.run();
  EXPECT_EQ(desk.orders().restart, Restart::kNone) << "it is behind, not diverged";
  EXPECT_EQ(desk.orders().follow, 2u);
  EXPECT_FALSE(desk.orders().gate_open);
  desk.database.end = desk.database.replayed = {4, 460};
  r = desk.run();
  EXPECT_FALSE(r.clear_abstain) << "there is no rejoin marker to be removed";
  EXPECT_FALSE(desk.controller.abstaining());
  EXPECT_TRUE(desk.orders().gate_open);
}

TEST(Abstention, WithoutTheMemoryOfItsWalAnOlderCopyIsTakenForTheData) {
  Config c = config();
  c.wal_end = Position{3, 500};
  c.switches.wal_end = false;
  Desk desk(c);
  desk.database.end = desk.database.replayed = {3, 400};
  desk.follow(2);
  const Requests r = desk.run();
  ASSERT_TRUE(r.send_report.has_value());
  EXPECT_FALSE(r.send_report->abstains);
}

TEST(Abstention, DataThatHasAllItsWalReportsIt) {
  for (const Position end : {Position{3, 500}, Position{3, 501}, Position{4, 10}}) {
    Config c = config();
    c.wal_end = Position{3, 500};
    Desk desk(c);
    desk.database.end = desk.database.replayed = end;
    desk.follow(2);
    const Requests r = desk.run();
    ASSERT_TRUE(r.send_report.has_value());
    EXPECT_FALSE(r.send_report->abstains) << end.timeline << "/" << end.lsn;
  }
}

TEST(Abstention, ALeaderWithAnOlderCopyHandsOver) {
  Config c = config();
  c.wal_end = Position{3, 500};
  Desk desk(c);
  desk.database.end = desk.database.replayed = {3, 400};
  desk.lead();
  desk.hears(2, {3, 300});
  EXPECT_EQ(desk.run().transfer_to, 2u);
}

// --- rule 4: reconcile

TEST(Reconcile, WaitsForAMajorityOfReports) {
  Desk desk;
  desk.lead();
  EXPECT_FALSE(desk.after(20).propose_promotion.has_value());
  EXPECT_EQ(desk.controller.phase(), "waiting for position reports: 1 of 3, 2 needed");
  desk.hears(3, {1, 90});
  const Requests r = desk.run();
  ASSERT_TRUE(r.propose_promotion.has_value());
  EXPECT_EQ(*r.propose_promotion, (Promotion{2, 1, 2}));
}

TEST(Reconcile, WaitsForTheOwnTermEntry) {
  Desk desk;
  desk.lead();
  desk.raft.own_term_applied = false;
  desk.hears(3, {1, 90});
  EXPECT_FALSE(desk.run().propose_promotion.has_value());
}

TEST(Reconcile, DropsReportsOfAnotherTerm) {
  Desk desk;
  desk.lead();
  desk.run();
  desk.controller.receive({3, 1, false, {1, 90}, 0});
  EXPECT_FALSE(desk.run().propose_promotion.has_value());
}

TEST(Reconcile, HandsOverToTheGreatestByTimelineThenLsn) {
  Desk desk;
  desk.lead();
  desk.database.end = {1, 9000};
  desk.hears(2, {1, 5000});
  desk.hears(3, {2, 120});
  const Requests r = desk.run();
  EXPECT_EQ(r.transfer_to, 3u);
  EXPECT_FALSE(r.propose_promotion.has_value());
}

TEST(Reconcile, AfterOneFailedHandOverAnyMajorityIsEnough) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  desk.hears(3, {1, 200});
  EXPECT_EQ(desk.run().transfer_to, 3u);
  desk.raft.transferring = true;
  EXPECT_FALSE(desk.run().propose_promotion.has_value());
  desk.raft.transferring = false;
  EXPECT_TRUE(desk.run().propose_promotion.has_value());
}

// PROTOCOL.md, M8c2: it may be the first to report in every term.
TEST(Reconcile, WhoWasAskedInVainIsAskedAgainOnlyOnceTheOthersAreHeard) {
  for (const bool other_reports : {true, false}) {
    Desk desk;
    desk.lead();
    desk.hears(3, {1, 200});
    EXPECT_EQ(desk.run().transfer_to, 3u);
    desk.next_term();
    desk.lead();
    desk.hears(3, {1, 200});
    EXPECT_EQ(desk.after(config().election_ticks - 1).transfer_to, 0u);
    if (other_reports) desk.hears(2, {1, 100});
    const Requests r = desk.after(2);
    EXPECT_EQ(r.propose_promotion.has_value(), other_reports);
    EXPECT_EQ(r.transfer_to, other_reports ? 0u : 3u);
  }
}

// A stream shows that the one who leads has opened its fence: the next failover begins anew.
TEST(Reconcile, AHandOverThatLedToAWriterIsForgotten) {
  Desk desk;
  desk.lead();
  desk.hears(3, {1, 200});
  EXPECT_EQ(desk.run().transfer_to, 3u);
  desk.next_term();
  desk.follow(3);
  desk.commit_done(3, 2, {{1, 200}});
  desk.run();
  ASSERT_EQ(desk.orders().follow, 3u);
  desk.database.end = desk.database.replayed = {2, 300};
  desk.run();
  desk.next_term();
  desk.lead();
  desk.hears(2, {2, 400});
  EXPECT_EQ(desk.run().transfer_to, 2u);
}

// PROTOCOL.md, M8a
TEST(Reconcile, ForgetsAReporterThatNoLongerAnswers) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  desk.hears(3, {1, 200});
  desk.raft.answering = {1, 2};
  EXPECT_TRUE(desk.run().propose_promotion.has_value());
}

TEST(Reconcile, CountsAnAbstainerBelowItsOwnTimelineOnly) {
  struct Case {
    Timeline own, bound;
    bool counts;
  };
  const Case cases[] = {{2, 1, true}, {2, 2, false}, {2, 3, false}, {3, 2, true}};
  for (const Case& c : cases) {
    Desk desk;
    desk.database.end = desk.database.replayed = {c.own, 100};
    desk.promotions.max_timeline = c.own;
    desk.lead();
    desk.hears_abstention(3, c.bound);
    EXPECT_EQ(desk.run().propose_promotion.has_value(), c.counts) << c.own << " " << c.bound;
  }
}

// PROTOCOL.md, M8c
TEST(Reconcile, ALeaderThatAbstainsHandsOverToAnyReporter) {
  Config c = config();
  c.abstain_until = Position{3, 500};
  Desk desk(c);
  desk.lead();
  desk.hears(3, {1, 1});
  desk.hears(2, {1, 2});
  EXPECT_EQ(desk.run().transfer_to, 2u);
}

TEST(Reconcile, GivesWayAfterPatienceWithBackOff) {
  Desk desk;
  int last = 0;
  for (int round = 0; round < 3; ++round) {
    desk.next_term();
    desk.lead();
    desk.run();
    EXPECT_FALSE(desk.after(kPatience * kElectionTicks - 1).step_down);
    const Requests r = desk.after(2);
    EXPECT_TRUE(r.step_down);
    EXPECT_GT(r.hold_off_ticks, last);
    last = r.hold_off_ticks;
  }
}

// --- rule 5: timeline ids

TEST(Promotion, TakesOneMoreThanEveryIdThatIsKnown) {
  struct Case {
    const char* known_by;
    Timeline log, file, wal, id;
  };
  const Case cases[] = {
      {"the log", 7, 1, 1, 8}, {"a history file", 2, 9, 1, 10}, {"the WAL", 2, 2, 4, 5}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.known_by);
    Desk desk;
    desk.promotions.max_timeline = c.log;
    desk.database.highest_history = c.file;
    desk.database.end = desk.database.replayed = {c.wal, 100};
    desk.lead();
    desk.hears(2, {1, 100});
    const Requests r = desk.run();
    ASSERT_TRUE(r.propose_promotion.has_value());
    EXPECT_EQ(r.propose_promotion->timeline, c.id);
  }
}

TEST(Promotion, IsSignalledOnlyWhenCommitted) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  const Requests r = desk.run();
  ASSERT_TRUE(r.propose_promotion.has_value());
  EXPECT_EQ(desk.orders().promote, 0u);
  desk.commit(*r.propose_promotion);
  const Requests committed = desk.run();
  EXPECT_EQ(desk.orders().promote, 2u);
  EXPECT_EQ(committed.persist_bound, Timeline{2}) << "the bound is raised before the own promotion";
}

TEST(Promotion, ThatTookAnotherIdIsRewound) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  desk.commit(*desk.run().propose_promotion);
  desk.run();
  desk.become_primary(3);
  const Requests r = desk.run();
  EXPECT_FALSE(r.propose_done.has_value());
  EXPECT_EQ(desk.orders().restart, Restart::kRewind);
  EXPECT_FALSE(desk.orders().lift_fence);
  EXPECT_GE(desk.orders().rewind_target.timeline, 2u) << "it abstains on every older timeline";
}

TEST(Promotion, WhoseIdExistsAlreadyIsGivenUp) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  desk.commit(*desk.run().propose_promotion);
  desk.database.highest_history = 2;
  const Requests r = desk.run();
  EXPECT_TRUE(r.step_down);
  EXPECT_EQ(desk.orders().promote, 0u);
}

// PROTOCOL.md, M3
TEST(Promotion, InFlightKeepsTheServerFromStreamingAndReporting) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  desk.commit(*desk.run().propose_promotion);
  desk.run();
  desk.database.promote_pending = true;
  desk.next_term();
  desk.follow(2);
  EXPECT_FALSE(desk.after(5).send_report.has_value());
  desk.commit_done(2, 3, {{1, 100}});
  desk.run();
  EXPECT_EQ(desk.orders().follow, 0u);
  EXPECT_FALSE(desk.orders().gate_open);
  desk.database.promote_pending = false;  // withdrawn, and confirmed
  desk.run();
  EXPECT_EQ(desk.orders().follow, 2u);
}

TEST(Promotion, ThatNeverEndsIsEndedByARestart) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  desk.commit(*desk.run().propose_promotion);
  desk.run();
  desk.database.promote_pending = true;
  desk.next_term();
  desk.follow(2);
  desk.after(5 * kPatience * kElectionTicks);
  EXPECT_EQ(desk.orders().restart, Restart::kStandby);
}

TEST(Promotion, ThatNeverEndsMakesTheLeaderGiveWay) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  desk.commit(*desk.run().propose_promotion);
  desk.run();
  desk.database.promote_pending = true;
  EXPECT_FALSE(desk.after(2 * kPatience * kElectionTicks).step_down) << "replay may take its time";
  EXPECT_TRUE(desk.after(4 * kPatience * kElectionTicks).step_down);
}

TEST(Promotion, ThatComesTooLateMakesAFormerPrimary) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  desk.commit(*desk.run().propose_promotion);
  desk.run();
  desk.database.promote_pending = true;
  desk.next_term();
  desk.follow(2);
  desk.commit_done(2, 3, {{1, 100}});
  desk.run();
  desk.become_primary(2);
  desk.run();
  EXPECT_EQ(desk.orders().restart, Restart::kStandby);
  EXPECT_FALSE(desk.orders().admit_walsenders);
}

// --- rule 4: renewal

TEST(Renewal, KeepsTheTimelineOfAFrozenPrimary) {
  Desk desk;
  ASSERT_NO_FATAL_FAILURE(desk.rule());
  desk.next_term();
  desk.lead();
  desk.hears(3, {2, 101});
  EXPECT_FALSE(desk.run().propose_promotion.has_value()) << "not frozen yet";
  desk.database.frozen = true;
  const Requests r = desk.run();
  ASSERT_TRUE(r.propose_promotion.has_value());
  EXPECT_EQ(*r.propose_promotion, (Promotion{3, 1, 2}));
  EXPECT_EQ(desk.orders().restart, Restart::kNone);
}

// PROTOCOL.md, M8b: all that an abstainer can have acknowledged on its timeline was written here.
TEST(Renewal, CountsAnAbstainerOfItsOwnTimeline) {
  for (const Timeline bound : {2u, 3u}) {
    Desk desk;
    ASSERT_NO_FATAL_FAILURE(desk.rule());
    desk.next_term();
    desk.lead();
    desk.database.frozen = true;
    desk.hears_abstention(3, bound);
    EXPECT_EQ(desk.run().propose_promotion.has_value(), bound == 2);
  }
}

TEST(Renewal, IsImpossibleWhenAGreaterTimelineWasPromoted) {
  Desk desk;
  ASSERT_NO_FATAL_FAILURE(desk.rule());
  desk.database.frozen = true;
  desk.next_term();
  desk.promotions.max_timeline = 3;
  desk.lead();
  desk.hears(3, {2, 101});
  EXPECT_FALSE(desk.run().propose_promotion.has_value());
  EXPECT_EQ(desk.orders().restart, Restart::kStandby);
}

// --- rule 7: the fence

TEST(Fence, IsLiftedOnlyWithTheQuorumInForceAndAdmittedWithIt) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  desk.commit(*desk.run().propose_promotion);
  desk.run();
  desk.become_primary(2);
  desk.promotions.done_of_term = desk.run().propose_done;
  ASSERT_TRUE(desk.promotions.done_of_term.has_value());
  desk.obeys = false;
  desk.run();
  const Orders first = desk.orders();
  EXPECT_EQ(first.quorum_voters, (std::vector<NodeId>{1, 2, 3}));
  EXPECT_FALSE(first.admit_walsenders);
  EXPECT_FALSE(first.lift_fence);
  desk.database.orders_seen = first.seq;
  desk.run();
  EXPECT_FALSE(desk.orders().lift_fence) << "set is not in force";
  desk.database.quorum_in_force = first.quorum_generation;
  desk.run();
  EXPECT_TRUE(desk.orders().admit_walsenders);
  EXPECT_TRUE(desk.orders().lift_fence);
}

// A process that stands still never says that it has loaded the quorum.
TEST(Fence, ALeaderThatCanNotOpenItGivesWay) {
  Desk desk;
  desk.lead();
  desk.hears(2, {1, 100});
  desk.commit(*desk.run().propose_promotion);
  desk.run();
  desk.become_primary(2);
  desk.promotions.done_of_term = desk.run().propose_done;
  desk.obeys = false;
  const int patience = config().patience * config().election_ticks;
  EXPECT_FALSE(desk.after(patience).step_down);
  desk.database.orders_seen = desk.orders().seq;
  const Requests late = desk.after(2);
  EXPECT_TRUE(late.step_down);
  EXPECT_GT(late.hold_off_ticks, 0);
}

TEST(Fence, ClosesWithTheLeadership) {
  Desk desk;
  ASSERT_NO_FATAL_FAILURE(desk.rule());
  desk.follow(0);
  desk.run();
  EXPECT_FALSE(desk.orders().lift_fence);
  EXPECT_FALSE(desk.orders().admit_walsenders);
}

TEST(Fence, NeverOpensWhenTheServerIsNotThePrimaryThatWasPromoted) {
  Desk desk;
  ASSERT_NO_FATAL_FAILURE(desk.rule());
  desk.database.in_recovery = true;
  const Requests r = desk.run();
  EXPECT_TRUE(r.step_down);
  EXPECT_FALSE(desk.orders().lift_fence);
}

// --- rule 1, rule 9: former primaries and diverged standbys

TEST(Rejoin, AFormerPrimaryRestartsAsAStandbyWhenAnotherIsPromoted) {
  Desk desk;
  ASSERT_NO_FATAL_FAILURE(desk.rule());
  desk.next_term();
  desk.follow(2);
  desk.run();
  EXPECT_EQ(desk.orders().restart, Restart::kNone) << "it may be renewed yet";
  desk.commit({3, 2, 3});
  desk.run();
  EXPECT_EQ(desk.orders().restart, Restart::kStandby);
}

TEST(Rejoin, DivergenceIsDecidedByTheHistory) {
  struct Case {
    const char* name;
    Position position;
    bool diverged;
  };
  const History history = {{1, 100}, {2, 200}};  // of timeline 4
  const Case cases[] = {
      {"at the fork", {2, 200}, false},
      {"behind it", {2, 150}, false},
      {"past it", {2, 201}, true},
      {"an ancestor, past its end", {1, 101}, true},
      {"on the timeline itself", {4, 900}, false},
      {"on a branch it does not descend from", {3, 50}, true},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(has_diverged(c.position, 4, history), c.diverged) << c.name;
  }
}

// Its WAL fits, but what comes next is nowhere any more.
TEST(Rejoin, AStandbyThatWasLeftBehindIsCloned) {
  Desk desk;
  const std::uint64_t patience = config().patience * kElectionTicks;
  desk.follow(2);
  desk.database.end = desk.database.replayed = {1, 100};
  desk.commit_done(2, 2, {{1, 300}});
  desk.run();
  desk.oldest_of_leader = 100;
  desk.after(patience);
  EXPECT_EQ(desk.orders().restart, Restart::kNone) << "the leader has all from 100 on";

  desk.oldest_of_leader = 250;
  desk.after(patience - 1);
  EXPECT_EQ(desk.orders().restart, Restart::kNone);
  desk.database.end.lsn = 101;  // something came: from a file that the leader had open
  desk.after(patience - 1);
  EXPECT_EQ(desk.orders().restart, Restart::kNone);
  desk.raft.leader = 0;
  desk.after(patience);
  desk.raft.leader = 2;
  desk.after(1);
  EXPECT_EQ(desk.orders().restart, Restart::kNone) << "what a leader told that is gone is old";

  desk.after(patience + 1);
  EXPECT_EQ(desk.orders().restart, Restart::kClone);
  EXPECT_EQ(desk.orders().rewind_source, 2u);
  EXPECT_EQ(desk.orders().rewind_target, (Position{2, 250}));
  EXPECT_FALSE(desk.orders().gate_open);
  EXPECT_EQ(
      desk.orders().reason,
      "node 2 no longer has the WAL from 0/65 on, where the local WAL ends; the oldest it has "
      "is 0/FA");
}

TEST(Rejoin, ADivergedStandbyIsRewound) {
  Desk desk;
  desk.database.end = desk.database.replayed = {1, 150};
  desk.follow(2);
  desk.commit_done(2, 2, {{1, 100}});
  desk.run();
  EXPECT_EQ(desk.orders().restart, Restart::kRewind);
  EXPECT_EQ(desk.orders().rewind_source, 2u);
  EXPECT_EQ(desk.orders().rewind_target, (Position{2, 100}));
  EXPECT_FALSE(desk.orders().gate_open);
}

// POSTGRES.md, M16: a follower of a killed primary often holds part of a record; it is not
// replayed.
TEST(Rejoin, PartOfARecordPastTheForkIsNoDivergence) {
  Desk desk;
  desk.database.end = {1, 130};
  desk.database.replayed = {1, 100};
  desk.follow(2);
  desk.commit_done(2, 2, {{1, 100}});
  desk.run();
  EXPECT_EQ(desk.orders().restart, Restart::kNone);
  EXPECT_EQ(desk.orders().follow, 2u);
}

// A node that restarts knows the term that it stored. Its WAL may have followed a later promotion;
// nothing is erased before a leader is heard.
TEST(Rejoin, NothingIsRewoundForALeaderThatWasNotHeard) {
  Desk desk;
  desk.database.end = desk.database.replayed = {5, 150};
  desk.follow(0);
  desk.commit_done(2, 2, {{1, 100}});
  desk.after(50);
  EXPECT_EQ(desk.orders().restart, Restart::kNone);
  EXPECT_EQ(desk.orders().follow, 0u);
  EXPECT_FALSE(desk.orders().gate_open);
}

TEST(Rejoin, ARestartUnderWayIsNotTakenBack) {
  Desk desk;
  desk.database.end = desk.database.replayed = {1, 150};
  desk.follow(2);
  desk.commit_done(2, 2, {{1, 100}});
  desk.run();
  desk.next_term();
  desk.run();
  EXPECT_EQ(desk.orders().restart, Restart::kRewind);
}

TEST(Rejoin, WithoutItsDataANodeReportsItsBoundAndNothingElse) {
  Config without = config();
  without.without_data = true;
  without.max_ack_timeline = 2;
  Desk desk(without);
  desk.database = DatabaseView{};
  desk.database.valid = true;
  desk.database.receiver_stopped = true;
  desk.follow(2);
  const Requests r = desk.run();
  ASSERT_TRUE(r.send_report.has_value());
  EXPECT_TRUE(r.send_report->abstains);
  EXPECT_EQ(r.send_report->bound, 2u);
  EXPECT_GT(r.election_delay.value_or(0), 0) << "the others campaign first";
  desk.commit_done(2, 3, {{2, 100}});
  const Requests later = desk.after(50);
  EXPECT_EQ(desk.orders().follow, 0u);
  EXPECT_EQ(desk.orders().restart, Restart::kNone);
  EXPECT_FALSE(desk.orders().gate_open);
  EXPECT_FALSE(later.clear_abstain) << "the marker is of a rejoin under way";
  EXPECT_EQ(desk.controller.phase(), "votes only: the data directory is being rewound or cloned");
}

TEST(Rejoin, WithoutItsDataALeaderHandsOver) {
  Config without = config();
  without.without_data = true;
  Desk desk(without);
  desk.lead();
  desk.hears(2, {1, 100});
  const Requests r = desk.run();
  EXPECT_EQ(r.transfer_to, 2u);
  EXPECT_FALSE(r.propose_promotion.has_value());
}

TEST(Rejoin, ARequestIsWithdrawnOnceTheNodeFollowsOrRules) {
  Config requested = config();
  requested.rejoin_requested = true;
  {
    Desk desk(requested);
    desk.follow(2);
    EXPECT_FALSE(desk.run().clear_abstain) << "no promotion to compare with";
    desk.commit_done(2, 2, {{1, 100}});
    EXPECT_TRUE(desk.run().clear_abstain);
    EXPECT_TRUE(desk.orders().gate_open);
    EXPECT_FALSE(desk.after(50).clear_abstain) << "once";
  }
  {
    SCOPED_TRACE("diverged");
    Desk desk(requested);
    desk.database.end = desk.database.replayed = {1, 150};
    desk.follow(2);
    desk.commit_done(2, 2, {{1, 100}});
    EXPECT_FALSE(desk.run().clear_abstain);
    EXPECT_EQ(desk.orders().restart, Restart::kRewind);
  }
  {
    SCOPED_TRACE("rules");
    Desk desk(requested);
    ASSERT_NO_FATAL_FAILURE(desk.rule());
    desk.next_term();
    desk.follow(2);
    desk.commit_done(2, 3, {{1, 100}, {2, 101}});
    EXPECT_FALSE(desk.run().clear_abstain) << "it was withdrawn already";
  }
}

// --- rule 8: membership

TEST(Membership, WaitsForAPromotedLeaderWithAllBeforeSettled) {
  Desk desk;
  const auto allowed = [&] {
    return desk.controller.may_change_membership(
        {desk.raft, desk.promotions, desk.database, desk.now});
  };
  desk.follow(2);
  EXPECT_EQ(allowed().code(), Code::kNotLeader);
  desk.lead();
  EXPECT_EQ(allowed().code(), Code::kFailedPrecondition) << "not promoted";
  ASSERT_NO_FATAL_FAILURE(desk.rule());
  EXPECT_FALSE(allowed().is_ok()) << "nobody has what was acknowledged before";
  desk.database.streams[3] = desk.database.end.lsn;
  EXPECT_TRUE(allowed().is_ok()) << allowed().to_string();
  desk.raft.conf_change_pending = true;
  EXPECT_FALSE(allowed().is_ok());
  desk.raft.conf_change_pending = false;
  desk.obeys = false;
  desk.raft.voters = {1, 2, 3, 4};  // applied: the quorum follows, and is in force later
  desk.run();
  EXPECT_FALSE(allowed().is_ok());
  EXPECT_EQ(desk.orders().quorum_voters.size(), 4u);
  EXPECT_TRUE(desk.orders().lift_fence) << "writes go on";
}

TEST(Membership, ALearnerBecomesAVoterWhenItsWalHasCaughtUp) {
  Desk desk;
  ASSERT_NO_FATAL_FAILURE(desk.rule());
  desk.raft.learners = {4};
  desk.database.streams[3] = desk.database.end.lsn;
  EXPECT_EQ(desk.run().promote_learner, 0u);
  desk.database.streams[4] = 50;
  EXPECT_EQ(desk.run().promote_learner, 0u);
  desk.database.streams[4] = desk.database.end.lsn;
  EXPECT_EQ(desk.run().promote_learner, 4u);
}

// Having at last what the leader had long ago is not enough: the leader went on.
TEST(Membership, ALearnerThatTookLongHasMoreToCatchUpWith) {
  Desk desk;
  ASSERT_NO_FATAL_FAILURE(desk.rule());
  desk.raft.learners = {4};
  const Position begin = desk.database.end;
  desk.database.streams = {{3, begin.lsn}, {4, 50}};
  EXPECT_EQ(desk.run().promote_learner, 0u);
  desk.after(3 * kElectionTicks);
  desk.database.end = desk.database.replayed = {begin.timeline, 5000};
  desk.database.streams = {{3, 5000}, {4, begin.lsn}};
  EXPECT_EQ(desk.run().promote_learner, 0u);
  desk.database.streams[4] = 5000;
  EXPECT_EQ(desk.run().promote_learner, 4u);
}

TEST(Membership, WhatAChangeWaitsForIsNamed) {
  Desk desk;
  const auto change_waits_for = [&] {
    return desk.controller
        .may_change_membership({desk.raft, desk.promotions, desk.database, desk.now})
        .message();
  };
  const auto learner_waits_for = [&](NodeId learner) {
    return desk.controller.learner_waits_for({desk.raft, desk.promotions, desk.database, desk.now},
                                             learner);
  };
  desk.lead();
  EXPECT_EQ(learner_waits_for(4), "the leader is not promoted yet");
  ASSERT_NO_FATAL_FAILURE(desk.rule());
  desk.raft.learners = {4};
  desk.database.streams = {{2, desk.database.end.lsn - 10}};
  EXPECT_EQ(change_waits_for(),
            "a majority of the members does not have all of the leader's WAL yet: node 2 is 10 "
            "bytes behind, node 3 does not stream");
  EXPECT_EQ(learner_waits_for(4), "node 4 does not stream");
  desk.database.streams[4] = 0;
  EXPECT_EQ(learner_waits_for(4), "node 4 has not acknowledged any WAL yet");
  desk.database.streams[4] = desk.database.end.lsn;
  desk.run();
  EXPECT_EQ(learner_waits_for(4), change_waits_for());
  desk.database.streams[2] = desk.database.end.lsn;
  EXPECT_EQ(learner_waits_for(4), "");

  desk.obeys = false;
  desk.raft.voters = {1, 2, 3, 4};
  desk.run();
  desk.database.quorum_waits_for = 2;
  EXPECT_EQ(change_waits_for(),
            "the commit quorum of the last change is not in force yet: the connection of node 2 "
            "counts by the old one");
}

TEST(Membership, ARemovedNodeTakesEverythingBack) {
  Desk desk;
  desk.follow(2);
  desk.commit_done(2, 2, {{1, 100}});
  desk.run();
  ASSERT_TRUE(desk.orders().gate_open);
  desk.raft.voters = {2, 3};
  desk.run();
  EXPECT_FALSE(desk.orders().gate_open);
  EXPECT_EQ(desk.orders().follow, 0u);
}

}  // namespace
}  // namespace pgraft::failover
