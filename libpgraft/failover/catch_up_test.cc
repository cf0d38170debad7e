#include "libpgraft/failover/catch_up.h"

#include <gtest/gtest.h>

namespace pgraft::failover {
namespace {

TEST(CatchUp, WhoHasEverythingHasCaughtUp) {
  CatchUp catch_up(20);
  catch_up.observe(100, 100, 7);
  EXPECT_TRUE(catch_up.done());
}

TEST(CatchUp, ALongRoundIsFollowedByAnother) {
  CatchUp catch_up(20);
  catch_up.observe(1000, 0, 0);
  EXPECT_FALSE(catch_up.done());
  catch_up.observe(3000, 999, 99);
  EXPECT_FALSE(catch_up.done());
  catch_up.observe(3100, 1000, 100);  // what the leader had at 0; it is 2100 behind
  EXPECT_FALSE(catch_up.done());
  catch_up.observe(3200, 3100, 115);
  EXPECT_TRUE(catch_up.done());
}

// A link that carries less than is written never gets a learner its vote.
TEST(CatchUp, WhoFallsBehindHasNotCaughtUpAnyMore) {
  CatchUp catch_up(20);
  catch_up.observe(100, 100, 0);
  ASSERT_TRUE(catch_up.done());
  for (Lsn now = 1; now <= 20; ++now) catch_up.observe(100 + now * 10, 100 + now * 2, now);
  EXPECT_TRUE(catch_up.done()) << "for now";
  catch_up.observe(500, 145, 25);
  EXPECT_TRUE(catch_up.done()) << "its second round is short so far";
  for (Lsn now = 26; now <= 100; ++now) catch_up.observe(now * 20, 145 + now, now);
  EXPECT_FALSE(catch_up.done());
}

TEST(CatchUp, SizesAreForPeople) {
  EXPECT_EQ(size_text(0), "0 bytes");
  EXPECT_EQ(size_text(1023), "1023 bytes");
  EXPECT_EQ(size_text(1536), "1.5 kB");
  EXPECT_EQ(size_text(1288490189), "1.2 GB");
  EXPECT_EQ(size_text(~0ull), "16777216.0 TB");
}

}  // namespace
}  // namespace pgraft::failover
