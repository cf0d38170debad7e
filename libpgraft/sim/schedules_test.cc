// Directed schedules: each loses data, makes a timeline twice or elects two leaders with its rule
// switched off, and none of it with the rules on. Random walks do not find most of these
// (PROTOCOL.md, section 5). With the rules on a schedule often just stalls; then everything is
// healed and the cluster must be writable, with nothing lost.
#include "libpgraft/sim/schedules.h"

namespace pgraft::sim {
namespace {

using raft::MessageType;

// --- rule 2: the term gate

// Node 2 votes for 3 and reports its position while its old connection still acknowledges to 1.
void acknowledge_after_the_report(Cluster& c) {
  ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
  c.campaign(3);
  c.pump({2, 3});  // 1 does not hear of it; 2's server has not executed its new orders
  c.database(3).holds().promotion = true;
  c.run_until({3}, 5, [&] { return false; });
  c.pump({2, 3});
  c.run_until({3}, 5, [&] { return false; });
  c.pump({2, 3});
  c.run_until({3}, 5, [&] { return false; });
  write(c, 1);
  replicate(c, 1, 2);
  c.database(3).holds().promotion = false;
  c.run_until({3}, 5, [&] { return false; });
}

// Without the gate rule the old connection goes on; without rule 3's "only once the orders of the
// term are carried out" the report does not wait for that. Each covers for the other, so both are
// off: gate + frozen.
TEST(Schedules, GateClosesBeforeAPositionIsReported) {
  const ClusterOptions on = scripted(3);
  expect_needed(
      on,
      [](ClusterOptions& o) {
        o.rules.gate = false;
        o.rules.frozen = false;
      },
      "lost", acknowledge_after_the_report);
  expect_covered(
      on, [](ClusterOptions& o) { o.rules.gate = false; }, acknowledge_after_the_report);
  expect_covered(
      on, [](ClusterOptions& o) { o.rules.frozen = false; }, acknowledge_after_the_report);
}

// The same with the order of closing and persisting turned round: the host closes when it carries
// out the orders. Again rule 3's wait covers for it: close_early + frozen.
TEST(Schedules, GateClosesBeforeTheTermIsPersisted) {
  const ClusterOptions on = scripted(3);
  expect_needed(
      on,
      [](ClusterOptions& o) {
        o.host.close_early = false;
        o.rules.frozen = false;
      },
      "lost", acknowledge_after_the_report);
  expect_covered(
      on, [](ClusterOptions& o) { o.host.close_early = false; }, acknowledge_after_the_report);
}

// PROTOCOL.md, M7: a bare LSN of a diverged standby is ahead of all that the new leader wrote.
// With storage that works beside the core: node 4 reports its position in a term that a crash takes
// back. Restarted, it goes on in the term before, and its acknowledgement makes a majority with
// node 2's, which came before node 2's vote.
void report_before_the_term_is_durable(Cluster& c) {
  ASSERT_TRUE(promote(c, 1, {1, 2, 3, 4, 5})) << all(c);
  hold_streams(c, {2, 3, 4, 5});
  write(c, 1);
  replicate(c, 1, 2);
  const auto disconnect = [](DatabaseModel& d) {
    d.disconnect();
    return true;
  };
  c.step(4, disconnect);
  c.step(1, [](DatabaseModel& d) { return d.reap_senders(); });
  c.hold_writes(4, true);
  c.campaign(3);  // elected by 2 and 5, promoted by the positions of 4 and 5
  const auto report_of_2 = [](const Cluster::Envelope& e) {
    return e.from == 2 && std::holds_alternative<failover::Report>(e.body);
  };
  for (int i = 0; i < 20; ++i) {
    for (std::size_t k = 0; k < c.network().size();) {
      if (report_of_2(c.network()[k])) {
        c.drop(k);
      } else if (c.network()[k].from == 1 || c.network()[k].to == 1) {
        ++k;
      } else {
        c.deliver(k);
        k = 0;
      }
    }
    for (const NodeId id : {2, 3, 4, 5}) {
      c.work(id);
      c.tick(id);
    }
  }
  c.crash(4);
  c.drop_all();
  c.start(4);
  for (int i = 0; i < 5; ++i) {
    c.tick(1);
    c.pump({1, 4});
    c.work(4);
    c.step(4, [](DatabaseModel& d) { return d.connect(); });
  }
  replicate(c, 1, 4);
}

TEST(Schedules, ATermIsDurableBeforeAPositionIsReportedInIt) {
  expect_needed(
      scripted(5), [](ClusterOptions& o) { o.durable_term_first = false; }, "lacks",
      report_before_the_term_is_durable);
}

TEST(Schedules, OnlyWalOfThePromotionsTimelineIsAcknowledged) {
  expect_needed(
      scripted(5), [](ClusterOptions& o) { o.rules.current = false; }, "lost",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3, 4, 5})) << all(c);
        write(c, 1, 9);
        receive(c, 2);  // nine records that nobody acknowledged
        c.crash(1);
        c.crash(2);
        ASSERT_TRUE(promote(c, 3, {3, 4, 5})) << all(c);
        hold_streams(c, {4, 5});
        c.start(2);
        c.run_until({2, 3}, 20, [&] { return false; });
        write(c, 3, 3);
        c.run_until({2, 3}, 20, [&] { return false; });
        replicate(c, 3, 4);
        c.crash(3);
        c.crash(4);
        c.start(1);
        hold_streams(c, {4, 5}, false);
        if (!promote(c, 5, {1, 2, 5}) && !promote(c, 2, {1, 2, 5})) promote(c, 1, {1, 2, 5});
      });
}

// --- rule 3: frozen positions, abstention

// Node 1 reports in 3's term, and then a walsender of before releases one more commit.
TEST(Schedules, AFormerPrimaryReportsOnlyOnceItIsFrozen) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.rules.frozen = false; }, "lost",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        c.step(1, [](DatabaseModel& d) { return d.write(); });
        c.campaign(3);
        c.database(3).holds().promotion = true;
        for (int i = 0; i < 3; ++i) {
          c.pump({1, 3});  // 1's server has not executed its new orders
          c.run_until({3}, 5, [&] { return false; });
        }
        c.step(1, [](DatabaseModel& d) { return d.flush(SIZE_MAX); });
        replicate(c, 1, 2);
        c.database(3).holds().promotion = false;
        c.run_until({3}, 5, [&] { return false; });
      });
}

// PROTOCOL.md, S3: node 2 has acknowledged, was restarted, and has not found the end of its WAL.
TEST(Schedules, APositionIsReportedOnceTheEndOfTheWalIsKnown) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.rules.known_end = false; }, "lost",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        hold_streams(c, {3});
        write(c, 1);
        replicate(c, 1, 2);
        c.crash(2);
        c.database(2).holds().replay = true;
        c.start(2);
        c.crash(1);
        promote(c, 3, {2, 3});
      });
}

// Node 2 has acknowledged, is recloned and has not streamed again what it had.
void recloned_after_acknowledging(Cluster& c) {
  ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
  hold_streams(c, {3});
  write(c, 1, 2);
  replicate(c, 1, 2);
  ASSERT_EQ(c.invariants().lost_in(c.database(1).wal()), 0u);
  c.crash(2);
  c.database(2).request_rejoin(1, end_of(c.database(1).wal()));
  ASSERT_TRUE(c.database(2).begin_rejoin(true));
  ASSERT_TRUE(c.database(2).finish_rejoin(1, 1));
  c.crash(1);
  c.start(2);
  promote(c, 3, {2, 3});
}

TEST(Schedules, ANodeThatWasReclonedAbstains) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.rules.abstain = false; }, "lost",
      recloned_after_acknowledging);
}

TEST(Schedules, TheRejoinMarkerOutlivesARestart) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.host.marker = false; }, "lost",
      recloned_after_acknowledging);
}

TEST(Schedules, TheBoundOfAnAbstainerOutlivesARestart) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.store.forgets_values = true; }, "lost",
      recloned_after_acknowledging);
}

// --- rule 4

TEST(Schedules, APositionIsReconciledBeforeAPromotion) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.rules.reconcile = false; }, "lost",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        hold_streams(c, {3});
        write(c, 1);
        replicate(c, 1, 2);
        c.crash(1);
        elect(c, 3, {2, 3});
        c.run_until({2, 3}, kTicks, [&] { return c.writable(2) || c.writable(3); });
      });
}

// PROTOCOL.md, S7: node 2 was promoted to a newer timeline, which nobody else has a record of. Node
// 1 knows of that from its log alone when it is elected, still the primary of the one before.
void renew_after_a_newer_promotion(Cluster& c) {
  ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
  c.run_until({1, 2, 3}, kTicks, [&] { return c.database(3).wal() == c.database(1).wal(); });
  hold_streams(c, {3});
  ASSERT_TRUE(elect(c, 2, {1, 2, 3})) << all(c);  // 1's server has not executed its new orders
  const auto without_its_commit = [](const Cluster::Envelope& e) {
    const auto* m = std::get_if<raft::Message>(&e.body);
    return e.to == 1 && m != nullptr && !m->entries.empty() && m->commit < m->entries.back().index;
  };
  for (int i = 0; i < 10 && (c.work(2), !c.database(2).primary()); ++i) {
    c.work(3);
    c.pump({2, 3});
  }
  std::vector<Cluster::Envelope> promotion = c.hold(without_its_commit);
  ASSERT_FALSE(promotion.empty()) << all(c);
  c.drop_all();
  ASSERT_TRUE(c.database(2).primary()) << all(c);
  c.put_back({promotion.front()});
  c.deliver(0);
  c.drop_all();
  c.crash(2);
  promote(c, 1, {1, 3});
  hold_streams(c, {3}, false);
  c.run_until({1, 3}, 20, [&] { return c.database(3).streaming(); });
  write(c, 1);
  replicate(c, 1, 3);
  c.crash(1);
  c.start(2);
  elect(c, 3, {2, 3});
  c.run_until({2, 3}, kTicks, [&] { return c.writable(2) || c.writable(3); });
}

TEST(Schedules, APrimaryRenewsTheNewestTimelineOnly) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.rules.newest = false; }, "lost",
      renew_after_a_newer_promotion);
}

// --- rule 5

// Node 1 makes a timeline and dies before anybody has a record of it.
TEST(Schedules, TimelineIdsComeFromConsensus) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.rules.timeline = false; }, "made twice",
      [](Cluster& c) {
        hold_streams(c, {2, 3});
        elect(c, 1, {1, 2, 3});
        c.run_until({1, 2, 3}, kTicks, [&] { return c.database(1).primary(); });
        ASSERT_TRUE(c.database(1).primary()) << all(c);
        c.crash(1);
        hold_streams(c, {2, 3}, false);
        promote(c, 2, {2, 3});
      });
}

// PROTOCOL.md, M3: the signal of an earlier term acts after the server has streamed a newer
// timeline.
TEST(Schedules, NothingStreamsWhileAPromotionIsInFlight) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.rules.cancel = false; }, "made twice",
      [](Cluster& c) {
        c.database(1).holds().promotion = true;
        elect(c, 1, {1, 2, 3});
        c.run_until({1, 2, 3}, kTicks, [&] { return c.database(1).promote_pending(); });
        ASSERT_TRUE(c.database(1).promote_pending()) << all(c);
        ASSERT_TRUE(promote(c, 2, {1, 2, 3})) << all(c);
        c.run_until({1, 2, 3}, 20, [&] { return false; });
        c.step(1, [](DatabaseModel& d) { return d.finish_promotion(); });
        c.crash(1);
        c.crash(2);
        c.start(2);
        promote(c, 2, {2, 3});
      });
}

// --- rule 6

// PROTOCOL.md, M1: ANY k counts walsenders; node 2's old one still lives beside its new one.
TEST(Schedules, AReconnectedStandbyCountsOnce) {
  expect_needed(
      scripted(5), [](ClusterOptions& o) { o.host.unique = false; }, "lost",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3, 4, 5})) << all(c);
        write(c, 1);
        replicate(c, 1, 2);
        c.database(2).disconnect();
        c.step(2, [](DatabaseModel& d) { return d.connect(); });
        replicate(c, 1, 2);
        c.crash(1);
        c.crash(2);
        promote(c, 3, {3, 4, 5});
      });
}

// --- rule 7

// PROTOCOL.md, M2: node 1 leads again with the commit quorum of a smaller cluster still set.
TEST(Schedules, TheFenceOpensWhenTheCommitQuorumIsInForce) {
  expect_needed(
      scripted(5, {1, 2, 3}), [](ClusterOptions& o) { o.rules.unfence = false; }, "lost",
      [](Cluster& c) {
        const Ids everybody = {1, 2, 3, 4, 5};
        ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
        ASSERT_TRUE(promote(c, 2, {1, 2, 3})) << all(c);
        for (const NodeId id : {4, 5}) {
          ASSERT_TRUE(c.run_until(everybody, kTicks, [&] { return c.add_member(2, id).is_ok(); }))
              << all(c);
          ASSERT_TRUE(c.run_until(everybody, kTicks, [&] { return c.voters(2).size() == id; }))
              << all(c);
        }
        c.database(1).holds().reload = true;
        elect(c, 1, everybody);
        hold_streams(c, {3, 4, 5});
        c.run_until(everybody, kTicks, [&] { return c.writable(1); });
        c.run_until({1, 2}, 20, [&] { return c.database(2).streaming(); });
        write(c, 1);
        replicate(c, 1, 2);
        c.crash(1);
        c.crash(2);
        hold_streams(c, {3, 4, 5}, false);
        promote(c, 3, {3, 4, 5});
      });
}

// PROTOCOL.md, M2: without a quorum a commit waits for nobody, and the first promotion finds none.
TEST(Schedules, TheFirstCommitWaitsForTheQuorum) {
  expect_needed(
      scripted(3), [](ClusterOptions& o) { o.rules.unfence = false; }, "lost",
      [](Cluster& c) {
        c.database(1).holds().reload = true;
        hold_streams(c, {2, 3});
        promote(c, 1, {1, 2, 3});
        write(c, 1);
        c.crash(1);
        hold_streams(c, {2, 3}, false);
        promote(c, 2, {2, 3});
      });
}

// --- rule 8

// Acknowledged on {1,2,3} of five; 2 and 3 are removed before 4 and 5 have it.
TEST(Schedules, WhatWasAcknowledgedIsOnAMajorityBeforeTheNextChange) {
  expect_needed(
      scripted(5), [](ClusterOptions& o) { o.rules.settle = false; }, "lost",
      [](Cluster& c) {
        const Ids everybody = {1, 2, 3, 4, 5};
        ASSERT_TRUE(promote(c, 1, everybody)) << all(c);
        hold_streams(c, {4, 5});
        write(c, 1);
        replicate(c, 1, 2);
        replicate(c, 1, 3);
        ASSERT_TRUE(c.remove_member(1, 2).is_ok()) << all(c);
        c.run_until(everybody, 20, [&] { return false; });
        (void)c.remove_member(1, 3);  // refused with the rule on
        c.run_until(everybody, 20, [&] { return false; });
        c.crash(1);
        hold_streams(c, {4, 5}, false);
        promote(c, 4, {4, 5});
      });
}

// PROTOCOL.md, M4c: the same by a leader that is not promoted, and so does not know what was
// acknowledged.
TEST(Schedules, OnlyAPromotedLeaderChangesMembership) {
  expect_needed(
      scripted(5), [](ClusterOptions& o) { o.rules.promoted = false; }, "lost",
      [](Cluster& c) {
        ASSERT_TRUE(promote(c, 1, {1, 2, 3, 4, 5})) << all(c);
        hold_streams(c, {4, 5});
        write(c, 1);
        replicate(c, 1, 2);
        replicate(c, 1, 3);
        c.crash(1);
        ASSERT_TRUE(elect(c, 4, {2, 3, 4, 5})) << all(c);  // no server has executed its orders
        (void)c.remove_member(4, 2);
        c.pump({2, 3, 4, 5});
        (void)c.remove_member(4, 3);
        c.pump({2, 3, 4, 5});
        c.run_until({4, 5}, kTicks, [&] { return c.writable(4); });
      });
}

// Node 2 leads with {2,3} in the configuration {1,2,3}; 3's answers to appends come after its
// report.
void lead_in_the_old_configuration(Cluster& c) {
  c.drop_all();
  c.campaign(2);
  const auto append_response = [](const Cluster::Envelope& e) {
    const auto* m = std::get_if<raft::Message>(&e.body);
    return e.from == 3 && m != nullptr && m->type == MessageType::kAppendResponse;
  };
  std::vector<Cluster::Envelope> late;
  for (int i = 0; i < 20; ++i) {
    for (Cluster::Envelope& e : c.hold(append_response)) late.push_back(std::move(e));
    bool did = c.work(2);
    did = c.work(3) || did;
    for (std::size_t n = 0; n < c.network().size(); ++n) {
      if (Ids{2, 3}.contains(c.network()[n].from) && Ids{2, 3}.contains(c.network()[n].to)) {
        c.deliver(n);
        did = true;
        break;
      }
    }
    if (!did) break;
  }
  c.put_back(std::move(late));
  c.run_until({2, 3}, kTicks, [&] { return c.writable(2); });
}

// C0 = {1,2,3}; 4 and 5 are learners; nothing of it is in the servers of 4 and 5 yet.
void lead_with_two_learners(Cluster& c) {
  const Ids everybody = {1, 2, 3, 4, 5};
  ASSERT_TRUE(promote(c, 1, {1, 2, 3})) << all(c);
  hold_streams(c, {4, 5});
  for (const NodeId id : {4, 5}) {
    ASSERT_TRUE(c.run_until(everybody, kTicks, [&] { return c.add_member(1, id).is_ok(); }))
        << all(c);
    c.run_until(everybody, 20, [&] { return false; });
  }
  c.drop_all();
}

// PROTOCOL.md, M4e: node 2's walsender still counts by the quorum of {1,2,3}. One step later that
// is harmless; two steps later {3,4,5} are a majority.
TEST(Schedules, TheQuorumOfOneChangeIsInForceBeforeTheNext) {
  expect_needed(
      scripted(5, {1, 2, 3}), [](ClusterOptions& o) { o.rules.in_force = false; }, "lost",
      [](Cluster& c) {
        const Ids everybody = {1, 2, 3, 4, 5};
        ASSERT_NO_FATAL_FAILURE(lead_with_two_learners(c));
        c.database(1).holds().reload = true;
        hold_streams(c, {4}, false);
        ASSERT_TRUE(c.run_until(everybody, kTicks, [&] { return c.voters(1).size() == 4; }))
            << all(c);
        hold_streams(c, {5}, false);
        c.run_until(everybody, kTicks, [&] { return c.voters(1).size() == 5; });
        hold_streams(c, {3, 4, 5});
        write(c, 1);
        replicate(c, 1, 2);
        ASSERT_EQ(c.invariants().lost_in(c.database(3).wal()), 1u) << all(c);
        c.crash(1);
        c.crash(2);
        hold_streams(c, {3, 4, 5}, false);
        promote(c, 3, {3, 4, 5});
      });
}

// PROTOCOL.md, M4a: the commit quorum of a change that is appended only. Rule 4's "own-term entry
// applied first" covers for it (PROTOCOL.md, M4f), so both are off: the host takes the quorum at
// append, own_term.
TEST(Schedules, TheCommitQuorumChangesWhenTheConfigurationIsApplied) {
  const auto schedule = [](bool at_append) {
    return [at_append](Cluster& c) {
      ASSERT_NO_FATAL_FAILURE(lead_with_two_learners(c));
      // C1 = + 4, committed by {1,2}; 2 does not know that, 3 has nothing of it.
      hold_streams(c, {4}, false);
      c.settle({1, 4});
      const auto tells_the_commit = [](const Cluster::Envelope& e) {
        const auto* m = std::get_if<raft::Message>(&e.body);
        return e.to == 2 && m != nullptr && m->entries.empty();
      };
      while (c.voters(1).size() == 3) {
        c.hold(tells_the_commit);
        bool delivered = false;
        for (std::size_t i = 0; i < c.network().size() && !delivered; ++i) {
          if (!Ids{1, 2}.contains(c.network()[i].from) || !Ids{1, 2}.contains(c.network()[i].to)) {
            continue;
          }
          c.deliver(i);
          delivered = true;
        }
        if (!delivered) break;
      }
      c.drop_all();
      ASSERT_EQ(c.voters(1).size(), 4u) << all(c);
      ASSERT_EQ(c.voters(2).size(), 3u) << all(c);
      c.settle({1, 4});
      // C2 = + 5, appended only.
      hold_streams(c, {5}, false);
      c.settle({1, 5});
      c.drop_all();
      if (at_append) c.database(1).force_quorum({1, 2, 3, 4, 5});
      hold_streams(c, {2, 3});
      write(c, 1);
      replicate(c, 1, 4);
      replicate(c, 1, 5);
      c.crash(1);
      lead_in_the_old_configuration(c);
    };
  };
  const ClusterOptions on = scripted(5, {1, 2, 3});
  {
    Cluster c(on);
    schedule(false)(c);
    EXPECT_TRUE(c.violations().empty()) << all(c);
    expect_recovers(c);
  }
  expect_covered(
      on, [](ClusterOptions& o) { o.rules.own_term = false; }, schedule(false));
  expect_covered(
      on, [](ClusterOptions&) {}, schedule(true));
  ClusterOptions off = on;
  off.rules.own_term = false;
  Cluster c(off);
  schedule(true)(c);
  EXPECT_TRUE(violates(c, "lost")) << all(c);
}

// PROTOCOL.md, M4b: a node that forgot that a change was committed campaigns in the configuration
// before. Again own_term covers for it: both are off.
TEST(Schedules, TheCommitIndexIsAsDurableAsTheEntries) {
  const auto schedule = [](Cluster& c) {
    ASSERT_NO_FATAL_FAILURE(lead_with_two_learners(c));
    hold_streams(c, {4, 5}, false);
    const Ids without_3 = {1, 2, 4, 5};
    ASSERT_TRUE(c.run_until(without_3, kTicks, [&] { return c.voters(2).size() == 5; })) << all(c);
    hold_streams(c, {2, 3});
    write(c, 1);
    replicate(c, 1, 4);
    replicate(c, 1, 5);
    c.crash(1);
    c.crash(2);
    c.start(2);
    c.database(2).holds() = {};
    lead_in_the_old_configuration(c);
  };
  const ClusterOptions on = scripted(5, {1, 2, 3});
  expect_needed(
      on,
      [](ClusterOptions& o) {
        o.store.forgets_commit = true;
        o.rules.own_term = false;
      },
      "lost", schedule);
  expect_covered(
      on, [](ClusterOptions& o) { o.rules.own_term = false; }, schedule);
  expect_covered(
      on, [](ClusterOptions& o) { o.store.forgets_commit = true; }, schedule);
}

// --- rule 10

// PROTOCOL.md, M5: node 3 voted, was wiped, and gets an old request for its vote. That a node
// without any configuration never votes covers for most of it: here it has just been sent its first
// one.
TEST(Schedules, AWipedNodeHasNoSecondVote) {
  expect_needed(
      scripted(5), [](ClusterOptions& o) { o.incarnations = false; }, "two leaders",
      [](Cluster& c) {
        c.campaign(4);
        std::vector<Cluster::Envelope> late =
            c.hold([](const Cluster::Envelope& e) { return e.to == 3; });
        c.pump({4, 5});
        c.drop_all();
        c.campaign(1);
        while (!c.leads(1) && !c.network().empty()) {
          Ids{1, 2, 3}.contains(c.network()[0].to) ? c.deliver(0) : c.drop(0);
        }
        ASSERT_TRUE(c.leads(1)) << all(c);
        c.drop_all();
        c.wipe(3);
        // Its first snapshot, and a crash right after it.
        for (int i = 0; i < 20 && c.voters(3).empty(); ++i) {
          c.tick(1);
          while (c.voters(3).empty() && !c.network().empty()) {
            Ids{1, 3}.contains(c.network()[0].to) ? c.deliver(0) : c.drop(0);
          }
        }
        c.drop_all();
        c.crash(3);
        c.start(3);
        c.put_back(std::move(late));
        c.pump({3, 4});
      });
}

}  // namespace
}  // namespace pgraft::sim
