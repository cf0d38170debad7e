// Frames: what the byte stream between two nodes is cut into.
//
//   offset size
//        0    4  magic "PGRF"
//        4    2  protocol version, little-endian
//        6    1  frame type
//        7    1  0
//        8    4  payload length, little-endian, at most the reader's limit
//       12    4  CRC-32C of bytes 0 to 11 and the payload, little-endian
//       16       payload
//
// The header keeps this layout in every protocol version, and a kRefused frame its payload too (it
// is plain text): so two versions that can't talk can still tell each other why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "libpgraft/base/status.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::transport {

enum class FrameType : std::uint8_t {
  kHello = 1,     // initiator's first frame on a connection for messages
  kWelcome = 2,   // the acceptor's answer: messages may follow
  kRefused = 3,   // the acceptor's other answer: a reason; it closes then
  kMessages = 4,  // a batch of raft::Message
  kReport = 5,    // a failover::Report
  kQueryIdentity =
      6,  // requests: the first frame of a connection, answered, then the connection is closed
  kIdentity = 7,
  kQueryStatus = 8,  // nothing, or the byte kStatusForm: then with StatusMore
  kStatus = 9,
  kSnapshotHeader = 10,  // a snapshot message without its data, which follows in chunks
  kSnapshotChunk = 11,
  kSnapshotAck = 12,  // the acceptor's answer to both, on the same connection
  kWalStatus = 13,    // a failover::WalStatus
};
inline constexpr std::uint8_t kLastFrameType = 13;
inline constexpr std::uint8_t kStatusForm = 2;  // the newest that this version knows; 0.1.0's is 1

inline constexpr std::size_t kFrameHeaderBytes = 16;
inline constexpr std::size_t kMaxHandshakeBytes =
    64u << 10;  // before the other side is known, and for what is small anyway
inline constexpr std::size_t kMaxReasonBytes = 1024;  // of a refusal's text; a longer one is cut

struct Frame {
  FrameType type = FrameType::kHello;
  std::string payload;
};

// The frame's bytes. The payload must be no longer than kMaxFrameBytes.
std::string encode_frame(FrameType type, std::string_view payload);

// Takes a byte stream in pieces of any size and gives frames. After an error the stream is lost:
// every later call returns the same error.
class FrameReader {
 public:
  explicit FrameReader(std::size_t max_payload = kMaxHandshakeBytes) : max_payload_(max_payload) {}

  // Applies to frames whose header has not been read yet.
  void set_max_payload(std::size_t bytes) { max_payload_ = bytes; }

  // Takes bytes off the front of `input` until a frame is complete (then it is returned) or the
  // input is used up. kCorruption: not a frame or a damaged one; kMismatch: another protocol
  // version; kResourceExhausted: longer than the limit.
  Result<std::optional<Frame>> read(std::string_view* input);

  // A frame has begun and is not complete.
  bool in_frame() const { return !header_.empty(); }

 private:
  Status check_header();
  Status fail(Code code, std::string message);

  std::size_t max_payload_;
  std::string header_;   // up to kFrameHeaderBytes
  std::string payload_;  // grows as bytes arrive, never ahead of them
  std::size_t length_ = 0;
  Status error_;
};

}  // namespace pgraft::transport
