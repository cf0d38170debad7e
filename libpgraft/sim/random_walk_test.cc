// Random walks with all rules on: no violation, and the cluster works again once the faults end.
// PGRAFT_SIM_SEED replays one walk, PGRAFT_SIM_WALKS sets how many there are.
#include "libpgraft/sim/random_walk.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace pgraft::sim {
namespace {

constexpr int kSteps = 20000;
constexpr int kTicksToRecover = 4000;  // many elections, with back-off

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(RandomWalks, KeepTheInvariantsAndRecover) {
  const std::uint64_t one = from_environment("PGRAFT_SIM_SEED", 0);
  const std::uint64_t first = one != 0 ? one : 1;
  const std::uint64_t last = one != 0 ? one : from_environment("PGRAFT_SIM_WALKS", 1500);
  std::size_t acknowledged = 0;
  std::size_t promotions = 0;
  std::uint64_t given_up = 0;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    RandomWalk walk(seed);
    ASSERT_TRUE(walk.run(kSteps)) << walk.report();
    ASSERT_TRUE(walk.recovers(kTicksToRecover)) << "does not recover\n" << walk.report();
    given_up += walk.only_copy_gone() ? 1 : 0;
    acknowledged += walk.cluster().invariants().acknowledged_count();
    promotions += walk.cluster().invariants().promotion_count();
  }
  RecordProperty("acknowledged", static_cast<int>(acknowledged));
  RecordProperty("promotions", static_cast<int>(promotions));
  EXPECT_LE(given_up, 1 + (last - first + 1) / 100);
  // A walk in which nothing happens proves nothing.
  EXPECT_GT(acknowledged, (last - first + 1) * 5);
  EXPECT_GT(promotions, last - first);
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
      found = !walk.run(kSteps);
    }
    EXPECT_TRUE(found) << c.name;
  }
}

TEST(RandomWalks, AreTheSameForTheSameSeed) {
  RandomWalk a(11);
  RandomWalk b(11);
  a.run(kSteps);
  b.run(kSteps);
  EXPECT_EQ(a.report(), b.report());
}

}  // namespace
}  // namespace pgraft::sim
