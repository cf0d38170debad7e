#include "libpgraft/raft/quorum.h"

#include <algorithm>
#include <vector>

namespace pgraft::raft {

Index majority_acked(const NodeSet& voters, const AckedBy& acked) {
  if (voters.empty()) return kUnlimitedIndex;
  std::vector<Index> values;
  values.reserve(voters.size());
  for (NodeId id : voters) values.push_back(acked(id));
  // n - n/2 - 1 voters are below the one at this place, so n/2 + 1 are at or above it.
  const auto place = static_cast<std::ptrdiff_t>(values.size() - values.size() / 2 - 1);
  std::nth_element(values.begin(), values.begin() + place, values.end());
  return values[static_cast<std::size_t>(place)];
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
