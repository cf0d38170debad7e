#include "libpgraft/raft/quorum.h"

#include <gtest/gtest.h>

namespace pgraft::raft {
namespace {

// By definition: the greatest v that a majority has reached.
Index slow_acked(const NodeSet& voters, const std::map<NodeId, Index>& acked) {
  Index best = 0;
  for (const auto& [candidate, value] : acked) {
    std::size_t reached = 0;
    for (NodeId id : voters) reached += acked.contains(id) && acked.at(id) >= value;
    if (reached > voters.size() / 2) best = std::max(best, value);
  }
  return best;
}

TEST(Majority, AckedIsTheGreatestValueThatAMajorityHasReached) {
  std::uint64_t random = 1;
  for (int round = 0; round < 2000; ++round) {
    NodeSet voters;
    std::map<NodeId, Index> acked;
    random = random * 6364136223846793005ull + 1442695040888963407ull;
    for (NodeId id = 1; id <= 1 + (random >> 60) % 7; ++id) {
      voters.insert(id);
      if ((random >> id) & 1) acked[id] = (random >> (8 + 3 * id)) % 8;
    }
    const auto by = [&](NodeId id) { return acked.contains(id) ? acked.at(id) : Index{0}; };
    EXPECT_EQ(majority_acked(voters, by), slow_acked(voters, acked));
    EXPECT_EQ(joint_acked(voters, voters, by), majority_acked(voters, by));
    EXPECT_EQ(joint_acked(voters, {}, by), majority_acked(voters, by));
  }
}

TEST(Majority, AnyNumberOfVotersCounts) {
  for (NodeId count = 1; count <= 40; ++count) {
    NodeSet voters;
    for (NodeId id = 1; id <= count; ++id) voters.insert(id);
    // A majority has reached the value of the lowest of the upper half.
    EXPECT_EQ(majority_acked(voters, [](NodeId id) { return Index{id}; }), count - count / 2);
  }
}

TEST(Majority, VotesAreDecidedAsSoonAsTheyCanBe) {
  EXPECT_EQ(majority_vote({}, {}), VoteResult::kWon);
  EXPECT_EQ(majority_vote({1, 2, 3}, {{1, true}}), VoteResult::kPending);
  EXPECT_EQ(majority_vote({1, 2, 3}, {{1, true}, {3, true}}), VoteResult::kWon);
  EXPECT_EQ(majority_vote({1, 2, 3}, {{1, false}, {3, false}}), VoteResult::kLost);
  EXPECT_EQ(majority_vote({1, 2}, {{1, false}}), VoteResult::kLost);
  EXPECT_EQ(majority_vote({1, 2, 3}, {{1, true}, {9, true}}), VoteResult::kPending);
}

TEST(S6Joint, BothHalvesMustAgree) {
  EXPECT_EQ(joint_vote({1, 2, 3}, {4, 5, 6}, {{1, true}, {2, true}}), VoteResult::kPending);
  EXPECT_EQ(joint_vote({1, 2, 3}, {4, 5, 6}, {{1, true}, {2, true}, {4, false}, {5, false}}),
            VoteResult::kLost);
  EXPECT_EQ(joint_vote({1, 2}, {2, 3}, {{1, true}, {2, true}, {3, true}}), VoteResult::kWon);
  const auto by = [](NodeId id) { return Index{id * 10}; };
  EXPECT_EQ(joint_acked({1, 2, 3}, {4, 5, 6}, by), 20u);
}

}  // namespace
}  // namespace pgraft::raft
