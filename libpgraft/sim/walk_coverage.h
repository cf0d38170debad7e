// What a random walk came through: states of a failover in which something else happened. A walk
// that never gets there says nothing about the rules that are for it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>

#include "libpgraft/sim/cluster.h"

namespace pgraft::sim {

enum class Reached : std::uint8_t {
  // A node crashes ...
  kCrashSignalled,    // with a promotion signalled, not seen by the startup process
  kCrashSeen,         // with one that was seen
  kCrashHalfMade,     // between the history file of its new timeline and the first record on it
  kCrashNotDone,      // as a primary whose PromotionDone is not applied
  kCrashNotInForce,   // promoted, its commit quorum not in force
  kCrashReconciling,  // as a leader that waits for reports or hands over
  kCrashAbstaining,
  kCrashTermUnwritten,  // its gate closed for a term that its disk does not have
  // A promotion ...
  kPromotionByBound,     // that counts an abstainer
  kPromotionNotLongest,  // though a report was greater
  kPromotionLate,        // that ends in a later term than it was signalled in
  kPromotionWithdrawn,
  kPromotionInChange,  // while a voter has another configuration
  kRenewal,
  kHandOver,  // to a node that has more WAL
  // Streaming and commits
  kTwoPrimaries,         // that both admit walsenders
  kAckByDeposed,         // a commit is acknowledged by a primary that no longer leads
  kAckStaleQuorum,       // while some process counts by an older quorum
  kStaleSender,          // a walsender lives on after its standby has gone or come again
  kUnknownEnd,           // an election finds a standby that has not replayed its WAL
  kFormerPrimaryFrozen,  // a former primary reports its position
  // Rejoin
  kRewound,
  kCloned,
  kLeftBehind,
  kSourceLost,    // half done, and the source does not lead any more
  kTwoAbstain,    // at once
  kAbstainsFork,  // an abstainer finds another timeline than that of its target
  kVotesOnly,     // a leader is elected while a voter's data is being rewound or cloned
  kWithdrawn,     // a rejoin that was asked for, once the server follows or leads again
  // Administration
  kSwitchover,        // asked for at a writable leader
  kSwitchoverLoaded,  // while commits wait
  kSwitchoverDone,    // and the other one is writable in the next term but at most one
  kChangeInElection,  // a leader is elected while a membership change is under way
  kLearnerPromoted,
  kRemoved,
  kWiped,  // and added again
  kCount,
};
inline constexpr std::size_t kReachedCount = static_cast<std::size_t>(Reached::kCount);
const char* reached_name(Reached what);

// How often each was reached.
using Coverage = std::array<std::uint64_t, kReachedCount>;

class WalkCoverage {
 public:
  void reach(Reached what) { ++counts_[static_cast<std::size_t>(what)]; }
  const Coverage& counts() const { return counts_; }
  bool has(Reached what) const { return counts_[static_cast<std::size_t>(what)] != 0; }

  // After each step. The node of which the step made a moment, 0 for none: its term, role, server
  // or configuration has changed, so that a fault now has most to break.
  NodeId look(const Cluster& cluster);
  // An administrator has asked `leader` to hand over to `to`.
  void asks_to_switch(const Cluster& cluster, NodeId leader, NodeId to);

 private:
  struct Seen {
    bool up = false;
    bool serves = false;  // and its server runs
    Term term = 0;
    bool leads = false;
    bool writable = false;
    bool primary = false;
    bool signalled = false;
    bool signal_seen = false;
    bool abstains = false;
    bool rejoins = false;
    bool touched = false;  // the data directory, by a rejoin
    bool changing = false;
    bool done = false;  // PromotionDone of this term, of this node
    bool handing_over = false;
    bool unwritten = false;  // its term, or more
    Timeline highest = 0;
    std::size_t voters = 0;
    std::size_t learners = 0;
    bool operator==(const Seen&) const = default;
  };
  static Seen see(const Cluster& cluster, NodeId id);
  void goes_down(const Cluster& cluster, NodeId id, const Seen& before);
  void goes_on(const Cluster& cluster, NodeId id, const Seen& before, const Seen& now);
  void is_promoted(const Cluster& cluster, NodeId id);
  void is_elected(const Cluster& cluster, NodeId id);
  void acknowledges(const Cluster& cluster);

  std::map<NodeId, Seen> seen_;
  std::map<NodeId, Term> signalled_in_;
  std::uint64_t looks_ = 0;
  std::size_t acknowledged_ = 0;
  std::size_t renewals_ = 0;
  NodeId switch_to_ = 0;
  Term switch_term_ = 0;
  Coverage counts_{};
};

}  // namespace pgraft::sim
