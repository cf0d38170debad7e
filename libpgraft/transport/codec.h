// Payloads of frames: cereal's portable binary archive (little-endian), with the fields in the
// order of codec.cc.
//
// Decoding takes bytes from strangers: every length and count is checked against the bytes that are
// left before memory is taken, enumerations and booleans must be known values, and nothing may
// follow. What does not fit is kCorruption; no exception leaves this file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/failover/types.h"
#include "libpgraft/raft/types.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::transport {

// The initiator's first word: who it is, and whom it means to talk to.
struct Hello {
  Identity identity;
  raft::NodeId expected_node = 0;
  raft::Incarnation expected_incarnation = 0;  // 0: any
};

// Announces a transfer. The sender counts its announcements on all connections, chunks and
// acknowledgements name the one they belong to.
struct SnapshotHeader {
  std::uint64_t transfer = 0;
  std::uint64_t size = 0;  // of the data
  std::uint32_t crc = 0;   // CRC-32C of the data
  raft::Message message;   // kSnapshot; its snapshot's data is empty
};

struct SnapshotChunk {
  std::uint64_t transfer = 0;
  std::uint64_t offset = 0;
  std::string data;
};

enum class SnapshotAnswer : std::uint8_t {
  kReceiving = 0,  // go on behind `received`
  kDone = 1,       // all is there and was handed over
  kRefused = 2,    // nothing was kept
};

struct SnapshotAck {
  std::uint64_t transfer = 0;
  std::uint64_t received = 0;  // bytes, from the data's begin
  SnapshotAnswer answer = SnapshotAnswer::kReceiving;
  std::string reason;  // of a refusal
};

// Frames hold at most this many; Raft never has more in a batch by far.
inline constexpr std::size_t kMaxMessagesPerFrame = 4096;

std::string encode(const std::vector<raft::Message>& messages);
// The same; `bytes` gets what each of the messages took.
std::string encode_sized(const std::vector<raft::Message>& messages,
                         std::vector<std::size_t>* bytes);
std::string encode(const failover::Report& report);
std::string encode(const failover::WalStatus& status);
std::string encode(const Identity& identity);
std::string encode(const Hello& hello);
std::string encode(const ClusterStatus& status);
std::string encode(const SnapshotHeader& header);
std::string encode_chunk(std::uint64_t transfer, std::uint64_t offset, std::string_view data);
std::string encode(const SnapshotAck& ack);

Result<std::vector<raft::Message>> decode_messages(std::string_view payload);
Result<std::vector<raft::Message>> decode_messages_sized(std::string_view payload,
                                                         std::vector<std::size_t>* bytes);
Result<failover::Report> decode_report(std::string_view payload);
Result<failover::WalStatus> decode_wal_status(std::string_view payload);
Result<Identity> decode_identity(std::string_view payload);
Result<Hello> decode_hello(std::string_view payload);
Result<ClusterStatus> decode_status(std::string_view payload);
Result<SnapshotHeader> decode_snapshot_header(std::string_view payload);
Result<SnapshotChunk> decode_snapshot_chunk(std::string_view payload);
Result<SnapshotAck> decode_snapshot_ack(std::string_view payload);

// No less than what encode() takes for the message, for bounds.
std::size_t encoded_bytes_max(const raft::Message& message);

}  // namespace pgraft::transport
