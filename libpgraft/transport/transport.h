// The wire: asio TCP between the members' Raft ports.
//
// One outgoing connection per peer with backed-off reconnect; incoming ones are read only (except
// for answers to requests, and acknowledgements of snapshots). Frames: length-limited, checksummed
// (CRC-32C), versioned; payloads are cereal portable binary. A handshake with cluster name, cluster
// id, node id, incarnation and protocol version comes first; a mismatch is refused with a reason
// that both sides log and show. Each peer's queue is bounded in messages and bytes: a slow peer
// loses messages (Raft repairs that), it never blocks the others.
//
// Snapshots don't queue: they travel in chunks between the other messages (snapshot_sender.h),
// limited in rate, and are taken up where they were when a connection breaks. The receiver
// acknowledges on the connection that carries the chunks: so an acknowledgement never speaks of
// another connection's chunks, and none outlives its own.
//
// Thread rule: the transport runs one thread of its own, with all signals blocked by its creator;
// callbacks are made on it and must not block. All public methods may be called from any thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/failover/types.h"
#include "libpgraft/raft/types.h"
#include "libpgraft/state/state_machine.h"

namespace pgraft::transport {

inline constexpr std::uint32_t kProtocolVersion = 1;
inline constexpr std::size_t kMaxFrameBytes = 64u << 20;

// Who a node is, as told in the handshake and to add_node probes. cluster_id 0: not yet part of a
// cluster.
struct Identity {
  std::string cluster_name;
  std::uint64_t cluster_id = 0;
  raft::NodeId node_id = 0;
  raft::Incarnation incarnation = 0;
  std::uint64_t system_identifier = 0;  // pg_control's; 0 for a node without a database
  state::Member member;                 // its own addresses as it advertises them
  std::string version;                  // of pgraft
};

struct PeerAddress {
  raft::NodeId id = 0;
  raft::Incarnation incarnation = 0;  // expected of the other side; 0: any
  std::string host;
  std::uint16_t port = 0;
  bool operator==(const PeerAddress&) const = default;
};

// Who rejoins, joins or is cloned, as the node that it copies from sees it.
struct RejoinStatus {
  raft::NodeId node = 0;
  std::string phase;                              // "replay", "rewind", "copy", "finish"
  std::uint64_t bytes_done = 0, bytes_total = 0;  // of the copy; 0 and 0: not known
  std::uint64_t seconds = 0;                      // since it began
  bool operator==(const RejoinStatus&) const = default;
};
// What of a node's view versions before 0.2.0 don't know: answered to those that ask for it.
struct StatusMore {
  struct Contact {
    raft::NodeId node = 0;
    std::uint64_t idle_ms = 0;  // leader's view: since its last answer in this term
    bool operator==(const Contact&) const = default;
  };
  bool fenced = false;                // a database whose writes are refused here
  std::uint64_t lease_ms = 0;         // left of the lease to accept writes; 0: none
  std::uint64_t paused_until_ms = 0;  // since 1970, as last asked for: it may be over; 0: never
  std::string paused_by;
  raft::NodeId switchover_to = 0;  // leader: of the planned switchover under way; 0: none is
  std::vector<Contact> contacts;
  std::vector<RejoinStatus> rejoins;
  bool operator==(const StatusMore&) const = default;
};

// One node's view of its cluster, as answered over the Raft port.
struct MemberStatus {
  state::Member member;
  bool voter = false;
  bool learner = false;
  bool answering = false;         // leader's view
  std::uint64_t match_index = 0;  // leader's view
  std::uint64_t flush_lsn = 0;    // leader's view: its live walsender's; 0 none
  failover::WalStatus wal;        // as it told last; from 0: not heard of
  std::string waits_for;          // leader's view: why it has no vote yet
};
// A completed promotion, as the replicated state has it.
struct PromotionStatus {
  std::uint64_t term = 0;
  raft::NodeId node = 0;
  std::uint32_t timeline = 0;
  std::uint64_t switch_lsn = 0;  // where the timeline begins; 0: it has no ancestor
  bool operator==(const PromotionStatus&) const = default;
};
struct ClusterStatus {
  Identity identity;
  std::string state;  // "uninitialized", "follower", "pre_candidate", "candidate", "leader",
                      // "removed", "failed"
  std::uint64_t term = 0;
  std::uint64_t leader_id = 0;
  bool writable = false;  // promoted, fence lifted, lease alive
  std::uint64_t commit_index = 0, applied_index = 0, last_index = 0;
  std::uint32_t timeline = 0;  // of its PostgreSQL's WAL end
  std::uint64_t lsn = 0;
  bool in_recovery = false;
  bool abstaining = false;
  std::string phase;             // what the failover controller does or waits for
  std::string change_waits_for;  // leader: why no change of the members could begin now
  std::uint64_t messages_processed = 0, heartbeats_sent = 0, elections_triggered = 0;
  std::uint32_t promoted_timeline = 0;  // of the newest completed promotion it knows
  std::vector<MemberStatus> members;
  std::vector<PromotionStatus> promotions;  // newest last, at most state::kKeptPromotions
  std::optional<StatusMore> more;           // none: of an older version
};

struct Config {
  std::string listen_address = "0.0.0.0";
  std::uint16_t listen_port = 0;             // 0: any free one, see Transport::port()
  std::size_t max_queued_messages = 4096;    // per peer
  std::size_t max_queued_bytes = 64u << 20;  // per peer
  std::chrono::milliseconds connect_timeout{1000};
  std::chrono::milliseconds reconnect_min{20};
  std::chrono::milliseconds reconnect_max{1000};
  std::size_t max_incoming_connections = 256;
  std::chrono::milliseconds handshake_timeout{
      2000};  // an incoming connection that says nothing is closed

  std::size_t snapshot_chunk_bytes = 256u << 10;        // other messages wait for no more than one
  std::size_t snapshot_window_chunks = 4;               // sent to a peer and not acknowledged yet
  std::uint64_t snapshot_bytes_per_second = 32u << 20;  // to all peers together; 0: no limit
  std::uint64_t max_snapshot_bytes = 1u << 30;          // a bigger one is refused by its receiver
  // Without progress for that long the sender gives a transfer up, and the receiver forgets it.
  std::chrono::milliseconds snapshot_stall_timeout{30000};

  Status validate() const;  // kInvalidArgument
};

class Handler {
 public:
  virtual ~Handler() = default;
  virtual void on_messages(std::vector<raft::Message> messages) = 0;
  virtual void on_report(const failover::Report& report) = 0;
  virtual void on_wal_status(const failover::WalStatus& status) = 0;
  // The connection to or from the peer's process was reset, closed or refused (not merely slow): a
  // hint to the failure detector.
  virtual void on_peer_lost(raft::NodeId id, const std::string& reason) = 0;
  // A handshake or a snapshot was refused, by this side or by the other.
  virtual void on_refused(const std::string& peer, const std::string& reason) = 0;
  // A snapshot has arrived as a whole, or was given up. Called once for each kSnapshot message.
  virtual void on_snapshot_sent(raft::NodeId id, bool ok) = 0;
  virtual ClusterStatus on_status_request() = 0;
  // An incoming connection passed the handshake; `peer` tells its address. A node that joins, or
  // was away for long, doesn't know all members that talk to it yet, and can answer only those that
  // are its peers.
  virtual void on_greeted(const Identity& /*peer*/) {}
};

// What has travelled between two members, by type. The bytes are those on the wire: what a frame
// takes around its messages counts for the first of them, chunks of a snapshot for the snapshot.
struct Traffic {
  static constexpr std::size_t kReport =
      static_cast<std::size_t>(raft::MessageType::kReadIndexResponse) + 1;  // after Raft's own
  static constexpr std::size_t kWalStatus = kReport + 1;
  static constexpr std::size_t kTypes = kWalStatus + 1;
  static constexpr std::size_t of(raft::MessageType type) { return static_cast<std::size_t>(type); }
  static const char* type_name(std::size_t type);  // below kTypes

  struct Count {
    std::uint64_t messages = 0, bytes = 0;
  };
  std::array<Count, kTypes> types{};

  void count(std::size_t type, std::uint64_t bytes);  // one message
  // A frame of messages, each of which took so many of its bytes.
  void count_frame(const std::vector<raft::Message>& messages,
                   const std::vector<std::size_t>& bytes, std::uint64_t frame_bytes);
  Traffic& operator+=(const Traffic& more);
  std::uint64_t messages() const;
  std::uint64_t bytes() const;
};

struct PeerStats {
  bool connected = false;
  // Handshakes and acknowledgements of snapshots are not counted.
  std::uint64_t messages_sent = 0, bytes_sent = 0, messages_dropped = 0;
  Traffic sent, received;  // sent: written to the connection
  std::string last_error;
  // Of the snapshot on its way there, of which the peer has acknowledged so much; 0 and 0: none.
  std::uint64_t snapshot_bytes_sent = 0, snapshot_bytes_total = 0;
};

class Transport {
 public:
  // Listens at once; kIo with the address when that fails ("could not listen on 10.0.0.1:8001:
  // address already in use"), kInvalidArgument when the configuration is not valid.
  static Result<std::unique_ptr<Transport>> start(const Config& config, const Identity& self,
                                                  Handler* handler);
  virtual ~Transport() = default;  // stops

  virtual std::uint16_t port() const = 0;
  virtual void set_identity(const Identity& self) = 0;  // after joining a cluster
  virtual void set_peers(
      const std::vector<PeerAddress>& peers) = 0;  // opens and closes connections to match
  // To message.to; dropped when there is no such peer. A kSnapshot message to a peer that is being
  // sent one already takes its place, and goes on where that one was if the snapshot is the same.
  virtual void send(raft::Message message) = 0;
  virtual void send_report(raft::NodeId to, const failover::Report& report) = 0;
  virtual void send_wal_status(raft::NodeId to, const failover::WalStatus& status) = 0;
  virtual PeerStats peer_stats(raft::NodeId id) const = 0;
  virtual std::uint64_t refused_connections()
      const = 0;  // handshakes and snapshots refused and garbage received, in either direction
  virtual void stop() = 0;  // no callback after it returns; not to be called from one
};

// Clients of the Raft port: synchronous, with a timeout; usable without a running node.
// kUnavailable names address and cause.
Result<Identity> query_identity(const std::string& host, std::uint16_t port,
                                std::chrono::milliseconds timeout);
Result<ClusterStatus> query_status(const std::string& host, std::uint16_t port,
                                   std::chrono::milliseconds timeout);

}  // namespace pgraft::transport
