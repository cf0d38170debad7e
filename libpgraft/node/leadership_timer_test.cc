#include "libpgraft/node/leadership_timer.h"

#include <gtest/gtest.h>

namespace pgraft::node {
namespace {

using std::chrono::milliseconds;
using Time = LeadershipTimer::Time;
constexpr raft::NodeId kSelf = 1, kOther = 2;

Time at(int ms) { return Time() + milliseconds(ms); }

LeadershipTimer::View view(raft::Term term, raft::NodeId leader, bool promotion = false,
                           bool done = false, bool writable = false) {
  LeadershipTimer::View v{kSelf, term, leader, {}, writable};
  if (promotion) v.promotions.of_term = failover::Promotion{term, kSelf, 7};
  if (done) v.promotions.done_of_term = failover::PromotionDone{term, kSelf, 7, {}};
  return v;
}

TEST(LeadershipTimer, TellsHowLongEachStepTookWhenTheLeaderIsWritable) {
  LeadershipTimer timer;
  EXPECT_FALSE(timer.update(view(4, kOther), at(0)));
  EXPECT_FALSE(timer.update(view(4, raft::kNoNode), at(1000)));
  EXPECT_FALSE(timer.update(view(5, raft::kNoNode), at(1010)));
  EXPECT_FALSE(timer.update(view(5, kSelf), at(1100)));
  EXPECT_FALSE(timer.update(view(5, kSelf, true), at(1120)));
  EXPECT_FALSE(timer.update(view(5, kSelf, true, true), at(1200)));
  const auto change = timer.update(view(5, kSelf, true, true, true), at(1215));
  ASSERT_TRUE(change);
  EXPECT_EQ(*change, (state::LeaderChange{5, kSelf, 0, 7, 0, 100, 20, 80, 15}));
  EXPECT_FALSE(timer.update(view(5, kSelf, true, true, true), at(1300))) << "once a term";
}

TEST(LeadershipTimer, BeginsAnewWithEachTerm) {
  LeadershipTimer timer;
  EXPECT_FALSE(timer.update(view(5, kSelf, true), at(0)));
  EXPECT_FALSE(timer.update(view(6, raft::kNoNode), at(10)));
  EXPECT_FALSE(timer.update(view(6, kOther), at(20)));
  EXPECT_FALSE(timer.update(view(7, raft::kNoNode), at(50)));
  EXPECT_FALSE(timer.update(view(7, kSelf), at(60)));
  const auto change = timer.update(view(7, kSelf, true, true, true), at(90));
  ASSERT_TRUE(change);
  EXPECT_EQ(*change, (state::LeaderChange{7, kSelf, 0, 7, 0, 10, 30, 0, 0}));
}

TEST(LeadershipTimer, SaysNothingOfALeaderThatNeverBecomesWritable) {
  LeadershipTimer timer;
  EXPECT_FALSE(timer.update(view(5, kSelf, true, true), at(0)));
  EXPECT_FALSE(timer.update(view(6, kOther), at(100)));
  EXPECT_FALSE(timer.update(view(6, kOther), at(200)));
}

}  // namespace
}  // namespace pgraft::node
