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

// Frames hold at most this many; Raft never has more in a batch by far.
inline constexpr std::size_t kMaxMessagesPerFrame = 4096;

std::string encode(const std::vector<raft::Message>& messages);
std::string encode(const failover::Report& report);
std::string encode(const Identity& identity);
std::string encode(const Hello& hello);
std::string encode(const ClusterStatus& status);

Result<std::vector<raft::Message>> decode_messages(std::string_view payload);
Result<failover::Report> decode_report(std::string_view payload);
Result<Identity> decode_identity(std::string_view payload);
Result<Hello> decode_hello(std::string_view payload);
Result<ClusterStatus> decode_status(std::string_view payload);

// No less than what encode() takes for the message, for bounds.
std::size_t encoded_bytes_max(const raft::Message& message);

}  // namespace pgraft::transport
