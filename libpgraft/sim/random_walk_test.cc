// Random walks with all rules on: no violation, and the cluster works again once the faults end.
// PGRAFT_SIM_SEED replays one walk (so does failover_sim --seed), PGRAFT_SIM_WALKS sets how many
// there are. What they come through is counted: a walk that never gets where a rule is needed says
// nothing about it.
#include "libpgraft/sim/random_walk.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "libpgraft/sim/walk_explorer.h"

namespace pgraft::sim {
namespace {

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(RandomWalks, KeepTheInvariantsAndRecover) {
  const std::uint64_t one = from_environment("PGRAFT_SIM_SEED", 0);
  const std::uint64_t walks = from_environment("PGRAFT_SIM_WALKS", 600);
  Seeds seeds;
  seeds.first = one != 0 ? one : 1;
  seeds.last = one != 0 ? one : walks;
  const WalkTotals totals =
      run_walks(seeds, {}, [](const std::string& report) { ADD_FAILURE() << report; });
  ASSERT_EQ(totals.walks, seeds.last - seeds.first + 1);
  RecordProperty("acknowledged", static_cast<int>(totals.acknowledged));
  RecordProperty("promotions", static_cast<int>(totals.promotions));
  if (totals.walks < 600) return;  // too few to say more
  // Excused, by what the disks hold.
  EXPECT_LE(totals.nobody_may_lead, totals.walks / 100);
  // A walk in which nothing happens proves nothing.
  EXPECT_GT(totals.acknowledged, totals.walks * 30);
  EXPECT_GT(totals.promotions, totals.walks * 3);
  for (std::size_t i = 0; i < kReachedCount; ++i) {
    EXPECT_GT(totals.walks_that_reached[i], 0u) << reached_name(static_cast<Reached>(i));
  }
}

struct MissingRule {
  const char* name;
  std::uint64_t within;  // so many seeds; several times what it takes
  std::string as;        // how the violation begins; "recovery": there is none, it hangs
};

class RandomWalksWithout : public testing::TestWithParam<MissingRule> {};

// Rarer ones: docs/simulator.md. Those that no walk finds: schedules_test.cc, liveness_test.cc.
TEST_P(RandomWalksWithout, NoticeIt) {
  FailoverControls controls;
  ASSERT_TRUE(switch_off(GetParam().name, &controls));
  bool found = false;
  for (std::uint64_t seed = 1; seed <= GetParam().within && !found; ++seed) {
    RandomWalk walk(seed, controls);
    const bool kept = walk.run(kWalkSteps);
    found = GetParam().as == "recovery"
                ? kept && !walk.recovers(kTicksToRecover)
                : !kept && walk.cluster().violations().front().starts_with(GetParam().as);
  }
  EXPECT_TRUE(found);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, RandomWalksWithout,
    testing::Values(MissingRule{"gate", 80, "report"}, MissingRule{"current", 10, "recovery"},
                    MissingRule{"frozen", 10, "report"}, MissingRule{"abstain", 40, "report"},
                    MissingRule{"reconcile", 20, "lost"}, MissingRule{"timeline", 20, "timeline"},
                    MissingRule{"cancel", 600, "report"}, MissingRule{"unfence", 10, "fence"},
                    MissingRule{"known_end", 40, "report"},
                    MissingRule{"left_behind", 20, "recovery"},
                    MissingRule{"votes", 400, "recovery"}, MissingRule{"close_early", 20, "fence"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(RandomWalks, AreTheSameForTheSameSeed) {
  RandomWalk a(11);
  RandomWalk b(11);
  a.run(kWalkSteps);
  b.run(kWalkSteps);
  EXPECT_EQ(a.report(), b.report());
}

}  // namespace
}  // namespace pgraft::sim
