#include "libpgraft/node/expirations.h"

#include <gtest/gtest.h>

namespace pgraft::node {
namespace {

constexpr std::uint64_t kTickMs = 20, kRetry = 10;
using Due = std::vector<state::KvExpire>;

class ExpirationsTest : public ::testing::Test {
 protected:
  void put(const std::string& key, std::uint64_t ttl_ms, std::uint64_t now) {
    ASSERT_TRUE(kv_.apply(state::KvPut{key, "v", ttl_ms}, ++revision_).changed);
    times_.changed(key, kv_, now);
  }
  Due due(std::uint64_t now) { return times_.due(kv_, now, 100); }

  state::KvStore kv_;
  state::Revision revision_ = 0;
  Expirations times_{kTickMs, kRetry};
};

TEST_F(ExpirationsTest, AKeyIsDueWhenItsWholeTimeHasPassedAndNotBefore) {
  times_.begin(kv_, 0);
  put("k", 100, 50);
  put("stays", 0, 50);
  EXPECT_EQ(due(54), Due{});
  EXPECT_EQ(due(55), Due{}) << "the tick in which it was put had begun before";
  EXPECT_EQ(due(56), (Due{{"k", 1}}));
}

TEST_F(ExpirationsTest, APutAnewBeginsAnew) {
  times_.begin(kv_, 0);
  put("k", 100, 0);
  put("k", 100, 5);
  EXPECT_EQ(due(6), Due{});
  EXPECT_EQ(due(11), (Due{{"k", 2}}));
  put("k", 0, 12);
  EXPECT_EQ(due(1000), Due{}) << "it stays now";
}

TEST_F(ExpirationsTest, ANewLeaderGivesTheWholeTimeAgain) {
  put("k", 100, 0);  // nobody leads
  EXPECT_EQ(due(1000), Due{});
  EXPECT_FALSE(times_.remaining_ms("k", 1000));
  times_.begin(kv_, 1000);
  EXPECT_EQ(times_.remaining_ms("k", 1000), 120u);
  EXPECT_EQ(due(1005), Due{});
  EXPECT_EQ(due(1006), (Due{{"k", 1}}));
  times_.end();
  EXPECT_EQ(due(9999), Due{});
}

TEST_F(ExpirationsTest, WhatWasProposedInVainIsProposedAgain) {
  times_.begin(kv_, 0);
  put("k", 20, 0);
  EXPECT_EQ(due(2), (Due{{"k", 1}}));
  EXPECT_EQ(due(3), Due{});
  EXPECT_EQ(due(2 + kRetry), (Due{{"k", 1}}));
  ASSERT_TRUE(kv_.apply(state::KvExpire{"k", 1}, ++revision_).changed);
  times_.changed("k", kv_, 13);
  EXPECT_EQ(due(9999), Due{});
}

TEST_F(ExpirationsTest, NoMoreAtOnceThanAskedFor) {
  times_.begin(kv_, 0);
  for (int i = 0; i < 5; ++i) put("k" + std::to_string(i), 20, 0);
  EXPECT_EQ(times_.due(kv_, 2, 3).size(), 3u);
  EXPECT_EQ(times_.due(kv_, 2, 3).size(), 2u);
}

}  // namespace
}  // namespace pgraft::node
