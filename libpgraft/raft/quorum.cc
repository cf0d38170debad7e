#include "libpgraft/raft/quorum.h"

#include <algorithm>
#include <array>
#include <vector>

namespace pgraft::raft {

Index majority_acked(const NodeSet& voters, const AckedBy& acked) {
  if (voters.empty()) return kUnlimitedIndex;
  // Asked with every answer: without taking memory for as many voters as there ever are.
  std::array<Index, 16> few;
  std::vector<Index> many(voters.size() > few.size() ? voters.size() : 0);
  Index* const values = many.empty() ? few.data() : many.data();
  Index* end = values;
  for (NodeId id : voters) *end++ = acked(id);
  // n - n/2 - 1 voters are below the one at this place, so n/2 + 1 are at or above it.
  Index* const place = values + (voters.size() - voters.size() / 2 - 1);
  std::nth_element(values, place, end);
  return *place;
}

Index joint_acked(const NodeSet& incoming, const NodeSet& outgoing, const AckedBy& acked) {
  return std::min(majority_acked(incoming, acked), majority_acked(outgoing, acked));
}

VoteResult majority_vote(const NodeSet& voters, const Votes& votes) {
  if (voters.empty()) return VoteResult::kWon;
  std::size_t granted = 0;
  std::size_t missing = 0;
  for (NodeId id : voters) {
    const auto vote = votes.find(id);
    if (vote == votes.end()) {
      ++missing;
    } else if (vote->second) {
      ++granted;
    }
  }
  const std::size_t needed = voters.size() / 2 + 1;
  if (granted >= needed) return VoteResult::kWon;
  if (granted + missing >= needed) return VoteResult::kPending;
  return VoteResult::kLost;
}

VoteResult joint_vote(const NodeSet& incoming, const NodeSet& outgoing, const Votes& votes) {
  const VoteResult one = majority_vote(incoming, votes);
  const VoteResult other = majority_vote(outgoing, votes);
  if (one == other) return one;
  if (one == VoteResult::kLost || other == VoteResult::kLost) return VoteResult::kLost;
  return VoteResult::kPending;
}

}  // namespace pgraft::raft
