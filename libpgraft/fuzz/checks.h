// What the targets have in common. Internal to this layer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "libpgraft/base/check.h"
#include "libpgraft/base/status.h"
#include "libpgraft/fuzz/memory.h"

namespace pgraft::fuzz {

// Takes an input apart from its front. The bytes must outlive it.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size)
      : rest_(reinterpret_cast<const char*>(data), size) {}

  std::uint8_t byte() {  // 0 at the end
    const std::string_view one = take(1);
    return one.empty() ? 0 : static_cast<std::uint8_t>(one[0]);
  }
  std::string_view take(std::size_t bytes) {  // fewer at the end
    const std::string_view front = rest_.substr(0, bytes);
    rest_.remove_prefix(front.size());
    return front;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

// Values take more room decoded than encoded, and containers grow by doubling; a number of the
// input that were trusted could claim gigabytes.
inline constexpr std::size_t kMemoryPerByte = 16;
inline constexpr std::size_t kMemoryForNothing = 2048;  // messages of errors, empty containers

inline void check_memory(const PeakMemory& memory, std::size_t input_bytes,
                         std::size_t per_byte = kMemoryPerByte) {
  const std::size_t limit = per_byte * input_bytes + kMemoryForNothing;
  PGRAFT_CHECK(memory.bytes() <= limit, std::to_string(memory.bytes()) + " bytes taken for " +
                                            std::to_string(input_bytes) + " of input");
}

inline void check_refused(const Status& status) {
  // kMismatch: as what a newer version has written.
  PGRAFT_CHECK(status.code() == Code::kCorruption || status.code() == Code::kMismatch,
               "refused with " + status.to_string());
}

// For the binary forms. `Bytes` is what `decode` takes: a string or a view of one.
template <class Bytes, class Decode, class Encode>
int check_codec(const Bytes& bytes, Decode decode, Encode encode) {
  const PeakMemory memory;
  const auto decoded = decode(bytes);
  check_memory(memory, bytes.size());
  if (!decoded) {
    check_refused(decoded.status());
    return 0;
  }
  const std::string again = encode(*decoded);
  PGRAFT_CHECK(again == bytes, "accepted " + std::to_string(bytes.size()) +
                                   " bytes that are not the encoding of their value, which has " +
                                   std::to_string(again.size()));
  return 1;
}

}  // namespace pgraft::fuzz
