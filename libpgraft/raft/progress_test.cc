#include "libpgraft/raft/progress.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <utility>

namespace pgraft::raft {
namespace {

// Against a plain queue, through every size and place in memory that a pipeline goes through.
TEST(Inflights, CountsWhatIsNotFreedYet) {
  constexpr std::size_t kMessagesMax = 40;
  constexpr std::uint64_t kBytesMax = 1000;
  Inflights inflights({kMessagesMax, kBytesMax});
  std::deque<std::pair<Index, std::uint64_t>> expected;
  std::uint64_t bytes = 0;
  Index last = 0;
  std::mt19937 random(1);
  for (int step = 0; step < 20000; ++step) {
    const bool full = expected.size() >= kMessagesMax || bytes >= kBytesMax;
    ASSERT_EQ(inflights.full(), full) << step;
    ASSERT_EQ(inflights.count(), expected.size()) << step;
    const auto dice = random() % 100;
    if (dice == 0) {
      inflights.clear();
      expected.clear();
      bytes = 0;
    } else if (dice < 60 && !full) {
      last += 1 + random() % 3;
      const std::uint64_t size = random() % 60;
      inflights.add(last, size);
      expected.emplace_back(last, size);
      bytes += size;
    } else if (!expected.empty()) {
      const Index up_to = expected[random() % expected.size()].first + random() % 2;
      inflights.free_to(up_to);
      while (!expected.empty() && expected.front().first <= up_to) {
        bytes -= expected.front().second;
        expected.pop_front();
      }
    }
  }
}

// A member that lost what it had acknowledged refuses for ever: asked again at once, it would be
// asked as fast as the network carries it.
TEST(Progress, ARefusalOfWhatWasMatchedLeavesThePause) {
  Progress member(1, false, {});
  ASSERT_TRUE(member.acknowledge(5));
  member.become_probe();
  member.sent_entries(1, 10);
  ASSERT_TRUE(member.paused);
  EXPECT_FALSE(member.back_up(5, 0));
  EXPECT_TRUE(member.paused);
  EXPECT_EQ(member.next, 6u);
}

TEST(Progress, ARefusalBehindTheMatchProbesFurtherBack) {
  Progress member(9, false, {});
  member.sent_entries(1, 10);
  ASSERT_TRUE(member.paused);
  EXPECT_TRUE(member.back_up(8, 3));
  EXPECT_FALSE(member.paused);
  EXPECT_EQ(member.next, 4u);
}

}  // namespace
}  // namespace pgraft::raft
