// WAL as the simulator sees it: a vector of records. A record's LSN is its place in the vector, so
// that the end of a WAL is the number of its records, and two WALs agree exactly as far as their
// vectors do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "libpgraft/failover/types.h"

namespace pgraft::sim {

using failover::History;
using failover::Lsn;
using failover::NodeId;
using failover::Position;
using failover::Term;
using failover::Timeline;

struct Record {
  Timeline timeline = 0;
  std::uint64_t id = 0;  // unique over the whole run
  bool operator==(const Record&) const = default;
};
using Wal = std::vector<Record>;

inline Position end_of(const Wal& wal, std::size_t n) {
  return n == 0 ? Position{} : Position{wal[n - 1].timeline, n};
}
inline Position end_of(const Wal& wal) { return end_of(wal, wal.size()); }

// The ancestors of the timeline that `wal` ends on, as PostgreSQL's history file of it says.
inline History history_of(const Wal& wal) {
  History history;
  for (std::size_t i = 1; i < wal.size(); ++i) {
    if (wal[i].timeline != wal[i - 1].timeline) history.push_back({wal[i - 1].timeline, i});
  }
  return history;
}

inline std::size_t common_prefix(const Wal& a, const Wal& b) {
  std::size_t n = 0;
  while (n < a.size() && n < b.size() && a[n] == b[n]) ++n;
  return n;
}

}  // namespace pgraft::sim
