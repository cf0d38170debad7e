// Incoming snapshots, put together from their chunks: at most one per peer, and no more of them
// than a cluster has members. No socket and no clock; event loop thread only.
//
// What has arrived outlives the connection: a header that announces the same content (index and
// term of the snapshot, size and checksum of its data) is answered with how much of it is here
// already. Memory is taken as bytes arrive, after the size has been checked against the limit.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "libpgraft/raft/types.h"
#include "libpgraft/transport/codec.h"

namespace pgraft::transport {

class SnapshotReceiver {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  SnapshotReceiver(std::uint64_t bytes_max, std::chrono::milliseconds stall_timeout)
      : bytes_max_(bytes_max), stall_timeout_(stall_timeout) {}

  struct Step {
    SnapshotAck ack;                       // to be sent back
    std::optional<raft::Message> message;  // complete: to be handed over
  };
  // Takes the place of what the peer has sent before, unless that is the same content of the same
  // incarnation of the peer.
  Step on_header(raft::NodeId peer, raft::Incarnation incarnation, SnapshotHeader header,
                 TimePoint now);
  // The announced transfer's next piece. Any other is refused, and ends the transfer.
  Step on_chunk(raft::NodeId peer, const SnapshotChunk& chunk, TimePoint now);

  void drop_stalled(TimePoint now);
  std::optional<TimePoint> next_deadline() const;  // of drop_stalled()

 private:
  struct Incoming {
    raft::Incarnation incarnation = 0;
    SnapshotHeader header;
    std::string data;
    std::uint32_t crc = 0;  // of the data
    TimePoint heard;
  };
  static bool same_content(const Incoming& incoming, raft::Incarnation incarnation,
                           const SnapshotHeader& header);
  Status admit(const SnapshotHeader& header) const;
  Step go_on(raft::NodeId peer);
  Step refuse(raft::NodeId peer, std::uint64_t transfer, std::string reason);

  const std::uint64_t bytes_max_;
  const std::chrono::milliseconds stall_timeout_;
  std::map<raft::NodeId, Incoming> incoming_;
};

}  // namespace pgraft::transport
