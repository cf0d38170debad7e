// The replicated state: members with their addresses, promotions (timelines), and the key-value
// map.
//
// Deterministic: the same entries give the same state and the same snapshot bytes on every node.
// Nothing here is persisted by itself; a node rebuilds it from the newest snapshot and the log
// after it. One thread owns it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/failover/types.h"
#include "libpgraft/raft/types.h"
#include "libpgraft/state/kv_store.h"

namespace pgraft::state {

// Bounds; what is over one is refused with kInvalidArgument or kResourceExhausted.
inline constexpr std::size_t kMaxMembers = 32;
inline constexpr std::size_t kMaxAddressBytes = 255;
inline constexpr std::size_t kMaxNameBytes = 63;
inline constexpr std::size_t kMaxPausedByBytes = 255;
inline constexpr std::size_t kMaxHistoryLines = 4096;
inline constexpr std::size_t kKeptPromotions =
    256;  // older ones are only remembered by max_timeline
inline constexpr std::size_t kKeptLeaderChanges = 64;

struct Member {
  raft::NodeId id = 0;
  raft::Incarnation incarnation = 0;
  std::string name;
  std::string address;  // of the Raft port
  std::uint16_t port = 0;
  std::string pg_host;  // of the PostgreSQL server
  std::uint16_t pg_port = 0;
  bool nosync = false;  // stays a learner, never counts
  bool operator==(const Member&) const = default;
};

// What an entry of the log does. The key-value operations are in kv_store.h; Promotion and
// PromotionDone are the failover controller's (rules 4, 5).
struct LogAppend {
  std::string data;
  bool operator==(const LogAppend&) const = default;
};
// No failover by itself until then: advice, no rule rests on it, and each member compares it with
// its own wall clock.
struct Pause {
  std::uint64_t until_ms = 0;  // since 1970; 0: not, or no longer
  std::string by;              // who asked for it, for people
  bool operator==(const Pause&) const = default;
};
// For people: how a node became the writable leader, and how long each step took by its own clock.
// Proposed by that leader once it is writable; no rule rests on it.
struct LeaderChange {
  raft::Term term = 0;
  raft::NodeId node = 0;
  raft::NodeId previous = 0;  // of the newest promotion before; 0: none
  failover::Timeline timeline = 0;
  std::uint64_t at_ms = 0;         // Unix time at which it was writable
  std::uint32_t election_ms = 0;   // from the loss of the leader before, as this node saw it
  std::uint32_t agreement_ms = 0;  // elected to Promotion committed: reports, reconciliation
  std::uint32_t promotion_ms = 0;  // to PromotionDone committed: the server is a primary
  std::uint32_t opening_ms = 0;    // to writable: commit quorum in force, fence lifted
  bool operator==(const LeaderChange&) const = default;
};
using Operation =
    std::variant<KvPut, KvDelete, LogAppend, failover::Promotion, failover::PromotionDone, Pause,
                 KvCompareAndSet, KvExpire, LeaderChange>;

// An operation with the identity of the request that proposed it, so that its proposer recognizes
// it when it is applied.
struct Command {
  raft::NodeId proposer = 0;
  std::uint64_t request = 0;  // unique per proposer and start; 0: nobody waits
  Operation operation;
  bool operator==(const Command&) const = default;
};

// Stored and wire forms (cereal portable binary, version first). Decoding checks every count and
// length before memory is taken: kCorruption. kMismatch: a newer version has written it.
std::string encode_command(const Command& command);
Result<Command> decode_command(const std::string& data);
std::string encode_member(const Member& member);  // ConfChange::context
Result<Member> decode_member(const std::string& data);

// The kind of an operation, for people: "kv_put".
const char* operation_name(const Operation& operation);

// Refuses what is malformed or over a bound, before it is proposed.
Status validate(const Operation& operation);
Status validate(const Member& member);

class StateMachine {
 public:
  // What an operation came to, on every node alike; no error of the node. Refused
  // (kResourceExhausted: the key-value store is full), or without an effect (`changed` is false: a
  // key that is not there, a comparison that does not hold).
  using Outcome = KvStore::Effect;

  // Applies a committed entry. A damaged one is kCorruption: the node must stop, since going on
  // would let nodes differ. `index` must be the one after applied_index(). Configuration changes go
  // to apply_conf_change() instead.
  Status apply(const raft::Entry& entry, std::optional<Command>* applied = nullptr,
               Outcome* outcome = nullptr);

  // A configuration change as it takes effect: `change.context` holds the encoded Member of an
  // addition. Members that `result` doesn't hold are dropped. The applied index is the caller's to
  // set.
  Status apply_conf_change(const raft::ConfChange& change, const raft::ConfState& result);

  std::string snapshot() const;
  Status restore(const std::string& data);  // on an error the state is unchanged

  raft::Index applied_index() const { return applied_; }
  void set_applied_index(raft::Index i) { applied_ = i; }

  const std::map<raft::NodeId, Member>& members() const { return members_; }
  void put_member(const Member& member);  // bootstrap of the first node

  // Chosen at bootstrap, never changed; 0 on a node that has not joined yet. A joining node learns
  // it from its first snapshot, in the same atomic write as everything it may acknowledge or vote
  // with (rule 10). restore() of another cluster's snapshot is kMismatch.
  std::uint64_t cluster_id() const { return cluster_id_; }
  void set_cluster_id(std::uint64_t id) { cluster_id_ = id; }
  const KvStore& kv() const { return kv_; }
  std::uint64_t log_appends() const { return log_appends_; }
  const Pause& pause() const { return pause_; }  // as last asked for; it may be over

  // Promotions, newest last; at most kKeptPromotions.
  struct PromotionRecord {
    failover::Promotion promotion;
    bool done = false;
    failover::History history;  // when done
    bool operator==(const PromotionRecord&) const = default;
  };
  const std::vector<PromotionRecord>& promotions() const { return promotions_; }
  failover::Timeline max_timeline() const { return max_timeline_; }
  failover::PromotionView promotion_view(raft::Term term) const;
  const PromotionRecord* latest_done() const;
  const std::vector<LeaderChange>& leader_changes() const {
    return leader_changes_;
  }  // newest last

 private:
  void record(const failover::Promotion& promotion);
  void record(const failover::PromotionDone& done);
  void record(const LogAppend& append);
  void record(const Pause& pause) { pause_ = pause; }
  void record(const LeaderChange& change);
  template <class Op>
  Outcome carry_out(const Op& op, raft::Index index) {
    if constexpr (requires { kv_.apply(op, index); }) {
      return kv_.apply(op, index);
    } else {
      record(op);
      return {Status::ok(), true};
    }
  }

  raft::Index applied_ = 0;
  std::uint64_t cluster_id_ = 0;
  std::map<raft::NodeId, Member> members_;
  KvStore kv_;
  std::uint64_t log_appends_ = 0;
  Pause pause_;
  std::vector<PromotionRecord> promotions_;
  failover::Timeline max_timeline_ = 0;
  std::vector<LeaderChange> leader_changes_;
};

}  // namespace pgraft::state
