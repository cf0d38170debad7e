// Everything that a run of the Raft simulator does to the cluster, written down before it begins:
// the cluster itself, what goes wrong and when, who asks for what. A run is decided by its plan; a
// plan can be cut down to the steps that a violation needs.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "libpgraft/raft/raw_node.h"
#include "libpgraft/sim/event_queue.h"

namespace pgraft::sim {

using raft::NodeId;

inline constexpr NodeId kMaxSimulatedNodes = 7;

// The cluster and its surroundings while nothing is wrong.
struct RaftSetup {
  NodeId nodes = 3;   // 1..nodes; at most kMaxSimulatedNodes
  NodeId voters = 3;  // 1..voters are the first configuration, the others are blank
  Micros tick = 5'000;
  int election_ticks = 10;
  int heartbeat_ticks = 2;
  bool pre_vote = true;
  bool check_quorum = true;
  raft::Index snapshot_every = 100;
  raft::Index keep_tail = 20;
  std::uint64_t max_size_per_msg = 1u << 20;
  std::size_t max_inflight_msgs = 256;
  int request_timeout_ticks = 40;
  Micros latency_min = 100, latency_max = 400;  // of a message
  bool ordered = true;  // messages from one node to another keep their order, as on TCP, and
                        // end with the process that they were sent to
  Micros disk_min = 50, disk_max = 400;  // of a write
  Micros wake_max = 50;  // from an input to the node's turn; what comes meanwhile is taken with it
  NodeId clients = 3;
  int keys = 2;
  Micros trouble = 1'000'000;  // faults begin, and requests are made, until then; then all heals
};

// When a step happens: at `at`, or some time after the first `moment` that comes then.
enum class Moment : std::uint8_t {
  kNow,
  kCampaign,          // a node asks for votes
  kElected,           // a node leads
  kEntriesHandedOut,  // a node has entries for its disk
  kOverwritten,       // ... that replace others
  kChangeAppended,    // a leader has a membership change for its log
  kChangeApplied,     // a node applies one
  kSnapshotSent,
  kSnapshotReceived,  // handed out to be written
  kSnapshotSaved,     // of a node's own, handed out
  kStarted,
};
inline constexpr int kMoments = static_cast<int>(Moment::kStarted) + 1;

struct Who {
  enum class Kind : std::uint8_t {
    kNode,    // `number` is its id
    kHere,    // the node of the moment
    kLeader,  // of the highest term
    kOther,   // one that is neither kHere nor kLeader; `number` says which
  };
  Kind kind = Kind::kNode;
  NodeId number = 1;
};

enum class Action : std::uint8_t {
  // A process ends and starts again after `lasts`.
  kKill,       // alone: what it wrote is there, and its connections break at once
  kPowerCut,   // with its machine: what is not synced is lost, and nobody is told
  kCutInside,  // power, in the middle of what it does: before its `amount`-th output from now
  kCutAtDisk,  // power, at its `amount`-th disk operation from now, which is done in part
  // For `lasts`.
  kSuspend,    // the process stands still
  kClockRate,  // its clock runs at `amount` percent
  kSlowDisk,   // its disk takes `amount` times as long
  kFullDisk,   // no room for more
  kPartition,  // those in the set of bits `amount` (1 << id; empty: `who`) are cut off from the
               // rest
  kCutLink,    // messages from `who` to `whom` are lost
  kWeather,    // of all messages `percent` are lost, or doubled, or late by up to `amount`: `fate`
  // Once.
  kClockJump,  // `amount` ticks at once
  kFailSync,   // the `amount`-th sync from now fails
  kBreak,      // the connections between `who` and `whom`
  kMessages,   // the next `amount` messages of `type` from `who` to `whom`: `fate`, by `lasts`
  kCampaign,
  // Membership, as its administrator would do it, through the leader.
  kAdd,  // made anew if it was a member before
  kRemove,
  kTransfer,  // of the leadership, to `who`
  kReshape,   // the voters in the set `amount` become learners: by one joint change, or (`percent`)
              // by a change each, all at once, of which one is admitted. Not by the replica,
              // which makes single changes, but straight through the core
  kWipe,      // the disk is lost, its node comes back as a new incarnation
};
inline constexpr int kActions = static_cast<int>(Action::kWipe) + 1;
const char* action_name(Action action);
std::optional<Action> action_named(const std::string& name);

enum class Fate : std::uint8_t { kLost, kDoubled, kLate };

struct FaultStep {
  std::uint32_t number = 0;  // in the plan as it was drawn
  Micros at = 0;
  Moment moment = Moment::kNow;
  Micros delay = 0;  // after the moment
  Action action = Action::kKill;
  Who who, whom;
  Micros lasts = 0;
  std::uint64_t amount = 0;
  std::uint64_t percent = 0;
  Fate fate = Fate::kLost;
  raft::MessageType type = raft::MessageType::kAppend;
};
std::string describe(const FaultStep& step);

// Each client makes its requests one after the other: none before `at`, nor before the end of the
// one before it.
struct RequestStep {
  std::uint32_t number = 0;
  NodeId client = 0;
  enum class Kind : std::uint8_t { kPut, kGet, kDelete } kind = Kind::kPut;
  int key = 0;
  std::size_t value_bytes = 0;  // at least
  NodeId via = 0;               // 0: the node that answered last
  Micros at = 0;
  Micros patience = 0;  // then the outcome is unknown
};
std::string describe(const RequestStep& step);

struct RaftPlan {
  std::uint64_t seed = 0;
  RaftSetup setup;
  std::vector<FaultStep> faults;      // by `at`
  std::vector<RequestStep> requests;  // of one client in their order

  std::size_t size() const { return faults.size() + requests.size(); }
  std::set<std::uint32_t> numbers() const;
  // Without all other steps.
  RaftPlan only(const std::set<std::uint32_t>& numbers) const;
};
std::string describe(const RaftSetup& setup);
std::string describe(const RaftPlan& plan);

}  // namespace pgraft::sim
