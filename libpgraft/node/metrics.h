// Metrics: what a node counts and measures of itself since it started. A copy, made on the loop.
#pragma once

#include <cstdint>
#include <vector>

#include "libpgraft/base/histogram.h"
#include "libpgraft/node/log_writer.h"
#include "libpgraft/raft/raw_node.h"
#include "libpgraft/state/state_machine.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::node {

struct PeerMetrics {
  raft::NodeId id = 0;
  bool tracked = false;  // the rest of the line: this node leads
  raft::ProgressView progress;
  std::uint64_t idle_ms = 0;  // since its last answer in this term
  transport::PeerStats wire;
};

struct Metrics {
  // The log.
  raft::Index first_index = 0, last_index = 0, commit_index = 0, applied_index = 0;
  raft::Index snapshot_index = 0;
  std::uint64_t log_appends = 0;
  WriteStats writes;

  // Key-value.
  std::size_t kv_keys = 0, kv_bytes = 0, kv_with_ttl = 0;
  state::Revision kv_revision = 0, kv_changes_kept_after = 0;
  state::KvStore::Counts kv_counts;

  // The loop.
  Histogram tick_delay_us;
  std::uint64_t lease_ms = 0;  // left; 0: none
  std::uint64_t queued = 0;    // tasks and proposals that wait
  std::uint64_t messages_processed = 0, heartbeats_sent = 0, elections_triggered = 0;

  std::vector<PeerMetrics> peers;
  std::vector<state::LeaderChange> leader_changes;
};

}  // namespace pgraft::node
