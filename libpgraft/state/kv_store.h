// The replicated key-value store: a map with a bound, and the newest changes for those that watch.
//
// Deterministic in everything that a snapshot holds. A revision is the index of the entry that made
// a change. No clock: a time to live is a number here, and ends by an operation that a leader
// proposes (node/expirations.h). What is kept for watchers, and what is counted, is of this node
// alone and goes into no snapshot. One thread writes it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/state/codec.h"

namespace pgraft::state {

// Bounds; what is over one is refused with kInvalidArgument or kResourceExhausted.
inline constexpr std::size_t kMaxKeyBytes = 1024;
inline constexpr std::size_t kMaxValueBytes = 1u << 20;
// Keys and values with the overhead of each pair: in memory, and in each snapshot, which is one
// stored value.
inline constexpr std::size_t kMaxKvBytes = 32u << 20;
inline constexpr std::size_t kPairOverheadBytes = 4 + 4 + 8 + 8 + 8;
inline constexpr std::uint64_t kMaxTtlMs = 100ull * 366 * 24 * 3600 * 1000;
// What is kept for watchers.
inline constexpr std::size_t kKeptChanges = 10000;
inline constexpr std::size_t kKeptChangeBytes = 8u << 20;

using Revision = std::uint64_t;  // 0: none

struct KvPut {
  std::string key, value;
  std::uint64_t ttl_ms = 0;  // 0: it stays
  bool operator==(const KvPut&) const = default;
};
struct KvDelete {
  std::string key;
  bool operator==(const KvDelete&) const = default;
};
// A put that has no effect unless the key is as expected: with an expected value, of that value;
// else last changed at `revision`, where 0 means that there is no such key.
struct KvCompareAndSet {
  std::string key;
  Revision revision = 0;
  std::optional<std::string> expected;
  std::string value;
  std::uint64_t ttl_ms = 0;
  bool operator==(const KvCompareAndSet&) const = default;
};
// The key's time is over, if it has not been changed since.
struct KvExpire {
  std::string key;
  Revision revision = 0;
  bool operator==(const KvExpire&) const = default;
};

struct KvItem {
  std::string value;
  Revision created = 0, modified = 0;
  std::uint64_t ttl_ms = 0;
  bool operator==(const KvItem&) const = default;
};

struct KvChange {
  enum class Kind : std::uint8_t { kPut = 1, kDelete, kExpire };
  Revision revision = 0;
  Kind kind = Kind::kPut;
  std::string key, value;
};

class KvStore {
 public:
  // How an operation ended. Refused (status), or without an effect (a key that is not there, a
  // comparison that does not hold), or done.
  struct Effect {
    Status status;
    bool changed = false;
  };
  Effect apply(const KvPut& op, Revision revision);
  Effect apply(const KvDelete& op, Revision revision);
  Effect apply(const KvCompareAndSet& op, Revision revision);
  Effect apply(const KvExpire& op, Revision revision);

  const std::map<std::string, KvItem>& items() const { return items_; }
  const KvItem* find(const std::string& key) const;  // nullptr: there is none
  std::size_t bytes() const { return bytes_; }
  Revision revision() const { return revision_; }  // of the newest change

  // Keys with the prefix that come after `after` (empty: from the first), ascending, `max` at most.
  std::vector<std::string> keys(const std::string& prefix, const std::string& after,
                                std::size_t max) const;

  // The changes after a revision of keys with the prefix, oldest first, `max` at most.
  // kFailedPrecondition when some of them may not be kept any more.
  Result<std::vector<KvChange>> changes(const std::string& prefix, Revision after,
                                        std::size_t max) const;
  // All changes after this one are kept.
  Revision changes_kept_after() const { return forgotten_; }

  // Of this node, since it started.
  struct Counts {
    std::uint64_t puts = 0, deletes = 0, expirations = 0, conflicts = 0, refused = 0;
  };
  const Counts& counts() const { return counts_; }
  std::size_t with_ttl() const { return with_ttl_; }

  void write(Writer& out) const;
  static KvStore read(Reader& in);  // earlier changes are not known
  void keep_counts_of(const KvStore& other) { counts_ = other.counts_; }

 private:
  Effect put(const std::string& key, const std::string& value, std::uint64_t ttl_ms,
             Revision revision);
  Effect erase(const std::string& key, Revision revision, KvChange::Kind kind);
  void remember(KvChange change);

  std::map<std::string, KvItem> items_;
  std::size_t bytes_ = 0;  // what all pairs take in a snapshot
  Revision revision_ = 0;
  std::size_t with_ttl_ = 0;
  std::deque<KvChange> changes_;
  std::size_t change_bytes_ = 0;
  Revision forgotten_ = 0;
  Counts counts_;
};

}  // namespace pgraft::state
