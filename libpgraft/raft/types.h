// The vocabulary of the consensus core: entries, configurations, messages, hard and soft state.
//
// Names are those of the Raft paper and of etcd's raft. Plain values, no behaviour beyond
// comparison. The shapes hold joint consensus (voters_outgoing, learners_next), read index
// (context) and flow control from the start, so that the wire and stored formats don't change when
// those are used.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "libpgraft/raft/payload.h"

namespace pgraft::raft {

using NodeId = std::uint64_t;  // 1.. ; 0 is "none"
using Term = std::uint64_t;    // 0 before the first election
using Index = std::uint64_t;   // of a log entry, 1.. ; 0 is "before the log"
using Incarnation =
    std::uint64_t;  // random, made with a node's Raft state; 0 is "not known" (rule 10)

inline constexpr NodeId kNoNode = 0;
// No log gets there. What claims to is damaged, and sums with it would wrap.
inline constexpr Index kMaxIndex = ~Index{0} / 2;
// Where storage work goes, as receivers of kStorageAppend and kStorageApply. No node has these ids.
inline constexpr NodeId kAppendThread = ~std::uint64_t{0};
inline constexpr NodeId kApplyThread = kAppendThread - 1;

enum class EntryType : std::uint8_t { kNormal = 0, kConfChange = 1 };

struct Entry {
  Index index = 0;
  Term term = 0;
  EntryType type = EntryType::kNormal;
  Payload data;  // empty: the entry a new leader appends (section 5.4.2, 8)
  bool operator==(const Entry&) const = default;
};

enum class ConfChangeType : std::uint8_t {
  kAddVoter = 0,
  kAddLearner = 1,
  kRemove = 2,
  kUpdate = 3
};

struct ConfChangeSingle {
  ConfChangeType type = ConfChangeType::kAddVoter;
  NodeId node_id = kNoNode;
  Incarnation incarnation = 0;  // of the node that is added; messages of another one are dropped
  bool operator==(const ConfChangeSingle&) const = default;
};

// kAuto: joint consensus only for more than one change, left automatically. kImplicit: joint, left
// automatically. kExplicit: joint, left by an empty ConfChange.
enum class ConfChangeTransition : std::uint8_t { kAuto = 0, kImplicit = 1, kExplicit = 2 };

struct ConfChange {
  ConfChangeTransition transition = ConfChangeTransition::kAuto;
  std::vector<ConfChangeSingle> changes;  // empty: leave the joint configuration
  std::string context;  // opaque to the core; pgraft keeps the member's addresses here
  bool operator==(const ConfChange&) const = default;
};

// The members of a cluster as of some index. Ids are sorted. `voters_outgoing` is non-empty only in
// a joint configuration.
struct ConfState {
  std::vector<NodeId> voters;
  std::vector<NodeId> learners;
  std::vector<NodeId> voters_outgoing;
  std::vector<NodeId> learners_next;
  bool auto_leave = false;
  std::map<NodeId, Incarnation> incarnations;  // of every member whose incarnation is known
  bool operator==(const ConfState&) const = default;
};

struct SnapshotMeta {
  Index index = 0;  // last entry the snapshot covers
  Term term = 0;    // its term
  ConfState conf;   // configuration as of that index
  bool operator==(const SnapshotMeta&) const = default;
};

struct Snapshot {
  SnapshotMeta meta;
  std::string data;  // the state machine's
  bool empty() const { return meta.index == 0; }
  bool operator==(const Snapshot&) const = default;
};

// What must be durable before any message that depends on it is sent (figure 2, "persistent
// state").
struct HardState {
  Term term = 0;
  NodeId vote = kNoNode;
  Index commit = 0;
  bool operator==(const HardState&) const = default;
};

enum class Role : std::uint8_t { kFollower = 0, kPreCandidate = 1, kCandidate = 2, kLeader = 3 };
const char* role_name(Role role);  // "follower", "pre_candidate", ...

struct SoftState {
  NodeId leader = kNoNode;
  Role role = Role::kFollower;
  bool operator==(const SoftState&) const = default;
};

enum class MessageType : std::uint8_t {
  kAppend = 0,  // AppendEntries
  kAppendResponse,
  kVote,  // RequestVote
  kVoteResponse,
  kPreVote,  // thesis 9.6
  kPreVoteResponse,
  kHeartbeat,
  kHeartbeatResponse,
  kSnapshot,        // InstallSnapshot
  kTimeoutNow,      // thesis 3.10: the transfer target campaigns at once
  kPropose,         // a proposal forwarded to the leader
  kTransferLeader,  // a transfer request forwarded to the leader; `index` is the id of the target
  kReadIndex,       // a read request forwarded to the leader
  kReadIndexResponse,
  // The rest never leaves the process (Config::async_storage_writes): what is to be written or
  // applied, and the report that it is done.
  kStorageAppend,  // `responses` are due once entries, snapshot and hard state are durable
  kStorageAppendResponse,
  kStorageApply,  // `responses` are due once the entries are applied
  kStorageApplyResponse,
};
const char* message_type_name(MessageType type);

struct Message {
  MessageType type = MessageType::kAppend;
  NodeId from = kNoNode;
  NodeId to = kNoNode;
  Term term = 0;
  Term log_term = 0;  // kAppend: term of the entry before; vote requests: term of the candidate's
                      // last entry; rejected kAppendResponse: term at reject_hint; refused votes:
                      // term at commit, which is told by who has no vote itself
  Index index =
      0;  // kAppend: entry before; vote requests: candidate's last; responses: last matching entry
  std::vector<Entry> entries;
  Index commit = 0;
  bool reject = false;
  Index reject_hint =
      0;  // kAppendResponse: where the follower's log may match (conflict back-up by term)
  bool transfer = false;  // vote requests: campaign by leader transfer, leader stickiness is waived
  std::string context;    // read index
  std::shared_ptr<const Snapshot> snapshot;  // kSnapshot and storage only; immutable
  Incarnation from_incarnation = 0;
  Incarnation to_incarnation = 0;  // a receiver of another incarnation drops the message (rule 10)
  std::uint64_t stamp = 0;  // sender's tick count at kHeartbeat / kAppend, echoed in the response:
                            // measures the lease without clocks
  // kStorageAppend: `term` (0: the hard state has not changed), `vote` and `commit` are the hard
  // state to be stored.
  NodeId vote = kNoNode;
  std::vector<Message> responses;
};

}  // namespace pgraft::raft
