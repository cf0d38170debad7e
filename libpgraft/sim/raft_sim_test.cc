// The Raft simulator with all rules on, without one of them, and twice with the same seed.
// PGRAFT_RAFT_SEEDS sets how many seeds there are; `raft_sim --seed N` replays one.
#include <gtest/gtest.h>

#include <cstdlib>

#include "libpgraft/sim/raft_explorer.h"

namespace pgraft::sim {
namespace {

std::uint64_t seeds() {
  const char* text = std::getenv("PGRAFT_RAFT_SEEDS");
  return text == nullptr ? 4000 : std::strtoull(text, nullptr, 10);
}

TEST(RaftSimulation, KeepsRaftsPromisesAndRecovers) {
  Seeds range;
  range.last = seeds();
  const RaftTotals totals = run_raft_seeds(range, {}, [](const RaftRun& run) {
    const RaftPlan plan = draw_raft_plan(run.seed);
    const ShrunkRaftPlan shrunk = shrink_raft_plan(plan, run.violation->kind);
    ADD_FAILURE() << replay_command(run.seed, {}) << "\n" << report(shrunk.plan, shrunk.run);
  });
  EXPECT_EQ(totals.seeds, seeds());
  // A run in which nothing happens proves nothing.
  EXPECT_GT(totals.counts.committed, 20 * totals.seeds);
  EXPECT_GT(totals.counts.requests_done, 50 * totals.seeds);
  EXPECT_GT(totals.counts.starts, totals.seeds);
  EXPECT_LT(totals.unrecoverable * 20, totals.seeds + 20);
}

TEST(RaftSimulation, IsTheSameForTheSameSeed) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    EXPECT_EQ(run_raft_seed(seed).hash, run_raft_seed(seed).hash) << seed;
  }
}

struct Control {
  const char* rule;
  RaftFocus focus;
  std::uint64_t seeds;  // within which it is found
};

class RaftNegativeControls : public testing::TestWithParam<Control> {};

// The other switches (own_term_commit, both_majorities, campaign_after_apply,
// vote_with_configuration and incarnations) are in raft_schedules_test.cc: chance seldom finds
// them.
TEST_P(RaftNegativeControls, AreNoticed) {
  RaftExplorerOptions options;
  options.swarm.focus = GetParam().focus;
  ASSERT_TRUE(switch_off(GetParam().rule, &options.controls));
  Seeds range;
  range.last = GetParam().seeds;
  const RaftTotals totals = run_raft_seeds(range, options);
  EXPECT_FALSE(totals.violated.empty());
}

INSTANTIATE_TEST_SUITE_P(, RaftNegativeControls,
                         testing::Values(Control{"one_vote_a_term", RaftFocus::kNone, 50},
                                         Control{"complete_log", RaftFocus::kNone, 100},
                                         Control{"consistency_check", RaftFocus::kNone, 500},
                                         Control{"apply_committed", RaftFocus::kNone, 50},
                                         Control{"one_change", RaftFocus::kNone, 1500},
                                         Control{"read_quorum", RaftFocus::kElections, 2000},
                                         Control{"read_after_own_commit", RaftFocus::kNone, 2500},
                                         Control{"honest_disks", RaftFocus::kNone, 50},
                                         Control{"write_then_answer", RaftFocus::kNone, 50}),
                         [](const auto& test) { return std::string(test.param.rule); });

// A violation is cut down to a plan that is shorter and ends the same way.
TEST(RaftShrinking, KeepsTheKindOfViolationAndDropsWhatItDoesNotNeed) {
  RaftExplorerOptions options;
  ASSERT_TRUE(switch_off("one_vote_a_term", &options.controls));
  Seeds range;
  range.last = 50;
  const RaftTotals totals = run_raft_seeds(range, options);
  ASSERT_FALSE(totals.violated.empty());
  const std::uint64_t seed = totals.violated.front();
  const RaftRun found = run_raft_seed(seed, options);
  ASSERT_TRUE(found.violation.has_value());
  const RaftPlan plan = draw_raft_plan(seed, options.swarm);
  const ShrunkRaftPlan shrunk =
      shrink_raft_plan(plan, found.violation->kind, options.controls, 300);
  ASSERT_TRUE(shrunk.run.violation.has_value());
  EXPECT_EQ(shrunk.run.violation->kind, found.violation->kind);
  EXPECT_LT(shrunk.plan.size(), plan.size());
  EXPECT_NE(report(shrunk.plan, shrunk.run).find(found.violation->kind), std::string::npos);
}

}  // namespace
}  // namespace pgraft::sim
