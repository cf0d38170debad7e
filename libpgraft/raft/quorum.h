// Majorities: what a set of voters, or two sets that must both agree, has acknowledged or decided.
//
// Pure functions. Joint consensus (section 6) asks both halves; an empty half agrees to everything,
// so that a configuration that is not joint is one whose outgoing half is empty.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "libpgraft/raft/types.h"

namespace pgraft::raft {

using NodeSet = std::set<NodeId>;

// What an empty set of voters has acknowledged.
inline constexpr Index kUnlimitedIndex = std::numeric_limits<Index>::max();

enum class VoteResult : std::uint8_t { kPending, kLost, kWon };

// The greatest value that a voter has acknowledged; 0 when nothing is known of it.
using AckedBy = std::function<std::uint64_t(NodeId)>;
// true: granted, false: refused; a voter that has not answered is missing.
using Votes = std::map<NodeId, bool>;

// The greatest value v such that a majority has acknowledged v or more.
Index majority_acked(const NodeSet& voters, const AckedBy& acked);
Index joint_acked(const NodeSet& incoming, const NodeSet& outgoing, const AckedBy& acked);

VoteResult majority_vote(const NodeSet& voters, const Votes& votes);
VoteResult joint_vote(const NodeSet& incoming, const NodeSet& outgoing, const Votes& votes);

}  // namespace pgraft::raft
