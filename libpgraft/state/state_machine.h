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

namespace pgraft::state {

// Bounds; what is over one is refused with kInvalidArgument or kResourceExhausted.
inline constexpr std::size_t kMaxMembers = 32;
inline constexpr std::size_t kMaxKeyBytes = 1024;
inline constexpr std::size_t kMaxValueBytes = 1u << 20;
inline constexpr std::size_t kMaxAddressBytes = 255;
inline constexpr std::size_t kMaxNameBytes = 63;
// Keys and values with 8 bytes a pair: in memory, and in each snapshot, which is one stored value.
inline constexpr std::size_t kMaxKvBytes = 32u << 20;
inline constexpr std::size_t kMaxPausedByBytes = 255;
inline constexpr std::size_t kMaxHistoryLines = 4096;
inline constexpr std::size_t kKeptPromotions =
    256;  // older ones are only remembered by max_timeline

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

// What an entry of the log does. Promotion and PromotionDone are the failover controller's (rules
// 4, 5).
struct KvPut {
  std::string key, value;
  bool operator==(const KvPut&) const = default;
};
struct KvDelete {
  std::string key;
  bool operator==(const KvDelete&) const = default;
};
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
using Operation =
    std::variant<KvPut, KvDelete, LogAppend, failover::Promotion, failover::PromotionDone, Pause>;

// An operation with the identity of the request that proposed it, so that its proposer recognizes
// it when it is applied.
struct Command {
  raft::NodeId proposer = 0;
  std::uint64_t request = 0;  // unique per proposer and start; 0: nobody waits
  Operation operation;
  bool operator==(const Command&) const = default;
};

// Stored and wire forms (cereal portable binary, version first). Decoding checks every count and
// length before memory is taken: kCorruption.
std::string encode_command(const Command& command);
Result<Command> decode_command(const std::string& data);
std::string encode_member(const Member& member);  // ConfChange::context
Result<Member> decode_member(const std::string& data);

// Refuses what is malformed or over a bound, before it is proposed.
Status validate(const Operation& operation);
Status validate(const Member& member);

class StateMachine {
 public:
  // Applies a committed entry. A damaged one is kCorruption: the node must stop, since going on
  // would let nodes differ. `index` must be the one after applied_index(). Configuration changes go
  // to apply_conf_change() instead. `outcome` tells an operation that was applied without effect,
  // on every node alike (kResourceExhausted: the key-value store is full); that is no error of the
  // node.
  Status apply(const raft::Entry& entry, std::optional<Command>* applied = nullptr,
               Status* outcome = nullptr);

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
  const std::map<std::string, std::string>& kv() const { return kv_; }
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

 private:
  void record(const failover::Promotion& promotion);
  void record(const failover::PromotionDone& done);
  Status put(const KvPut& operation);
  void erase(const KvDelete& operation);

  raft::Index applied_ = 0;
  std::uint64_t cluster_id_ = 0;
  std::map<raft::NodeId, Member> members_;
  std::map<std::string, std::string> kv_;
  std::size_t kv_bytes_ = 0;  // what all pairs take in a snapshot
  std::uint64_t log_appends_ = 0;
  Pause pause_;
  std::vector<PromotionRecord> promotions_;
  failover::Timeline max_timeline_ = 0;
};

}  // namespace pgraft::state
