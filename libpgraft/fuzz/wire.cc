// Payloads of frames: every decode_*() of transport/codec.h.
#include "libpgraft/fuzz/checks.h"
#include "libpgraft/fuzz/targets.h"
#include "libpgraft/transport/codec.h"

namespace pgraft::fuzz {
namespace {

constexpr auto encode = [](const auto& value) { return transport::encode(value); };
constexpr auto encode_chunk = [](const transport::SnapshotChunk& chunk) {
  return transport::encode_chunk(chunk.transfer, chunk.offset, chunk.data);
};

int check_messages(std::string_view payload) {
  if (check_codec(payload, transport::decode_messages, encode) == 0) return 0;
  // Peers' queues are bounded by this estimate.
  const auto messages = transport::decode_messages(payload);
  for (const raft::Message& message : *messages) {
    const std::size_t alone = transport::encode(std::vector<raft::Message>{message}).size();
    const std::size_t frame = transport::encode(std::vector<raft::Message>{}).size();
    PGRAFT_CHECK(alone - frame <= transport::encoded_bytes_max(message),
                 "a message of " + std::to_string(alone - frame) + " bytes is estimated at " +
                     std::to_string(transport::encoded_bytes_max(message)));
  }
  return 1;
}

}  // namespace

int fuzz_wire(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  switch (input.byte() % 9) {
    case 0: return check_messages(input.rest());
    case 1: return check_codec(input.rest(), transport::decode_report, encode);
    case 2: return check_codec(input.rest(), transport::decode_identity, encode);
    case 3: return check_codec(input.rest(), transport::decode_hello, encode);
    case 4: return check_codec(input.rest(), transport::decode_status, encode);
    case 5: return check_codec(input.rest(), transport::decode_wal_status, encode);
    case 6: return check_codec(input.rest(), transport::decode_snapshot_header, encode);
    case 7: return check_codec(input.rest(), transport::decode_snapshot_chunk, encode_chunk);
    default: return check_codec(input.rest(), transport::decode_snapshot_ack, encode);
  }
}

}  // namespace pgraft::fuzz
