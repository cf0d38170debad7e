#include "libpgraft/transport/transport.h"

namespace pgraft::transport {

const char* Traffic::type_name(std::size_t type) {
  if (type == kReport) return "report";
  if (type == kWalStatus) return "wal_status";
  return raft::message_type_name(static_cast<raft::MessageType>(type));
}

void Traffic::count(std::size_t type, std::uint64_t bytes) {
  ++types[type].messages;
  types[type].bytes += bytes;
}

void Traffic::count_frame(const std::vector<raft::Message>& messages,
                          const std::vector<std::size_t>& bytes, std::uint64_t frame_bytes) {
  if (messages.empty()) return;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    count(of(messages[i].type), bytes[i]);
    frame_bytes -= bytes[i];
  }
  types[of(messages.front().type)].bytes += frame_bytes;
}

Traffic& Traffic::operator+=(const Traffic& more) {
  for (std::size_t type = 0; type < kTypes; ++type) {
    types[type].messages += more.types[type].messages;
    types[type].bytes += more.types[type].bytes;
  }
  return *this;
}

std::uint64_t Traffic::messages() const {
  std::uint64_t sum = 0;
  for (const Count& count : types) sum += count.messages;
  return sum;
}

std::uint64_t Traffic::bytes() const {
  std::uint64_t sum = 0;
  for (const Count& count : types) sum += count.bytes;
  return sum;
}

}  // namespace pgraft::transport
