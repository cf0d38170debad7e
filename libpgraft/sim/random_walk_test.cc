// Random walks with all rules on: no violation, and the cluster works again once the faults end.
// PGRAFT_SIM_SEED replays one walk (so does failover_sim --seed), PGRAFT_SIM_WALKS sets how many
// there are.
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
  const std::uint64_t first = one != 0 ? one : 1;
  const std::uint64_t last = one != 0 ? one : from_environment("PGRAFT_SIM_WALKS", 1500);
  Seeds seeds;
  seeds.first = first;
  seeds.last = last;
  const WalkTotals totals =
      run_walks(seeds, [](const std::string& report) { ADD_FAILURE() << report; });
  ASSERT_EQ(totals.walks, last - first + 1);
  RecordProperty("acknowledged", static_cast<int>(totals.acknowledged));
  RecordProperty("promotions", static_cast<int>(totals.promotions));
  EXPECT_LE(totals.given_up, 1 + totals.walks / 100);
  // A walk in which nothing happens proves nothing.
  EXPECT_GT(totals.acknowledged, totals.walks * 5);
  EXPECT_GT(totals.promotions, totals.walks - 1);
}

// The commonest holes are found by chance too: the walk is not blind. (The rest:
// schedules_test.cc.)
TEST(RandomWalks, FindAMissingRule) {
  struct Case {
    const char* name;
    bool failover::Switches::*rule;
  };
  const Case cases[] = {{"reconcile", &failover::Switches::reconcile},
                        {"timeline", &failover::Switches::timeline}};
  for (const Case& c : cases) {
    failover::Switches rules;
    rules.*c.rule = false;
    bool found = false;
    for (std::uint64_t seed = 1; seed <= 500 && !found; ++seed) {
      RandomWalk walk(seed, rules);
      found = !walk.run(kWalkSteps);
    }
    EXPECT_TRUE(found) << c.name;
  }
}

TEST(RandomWalks, AreTheSameForTheSameSeed) {
  RandomWalk a(11);
  RandomWalk b(11);
  a.run(kWalkSteps);
  b.run(kWalkSteps);
  EXPECT_EQ(a.report(), b.report());
}

}  // namespace
}  // namespace pgraft::sim
