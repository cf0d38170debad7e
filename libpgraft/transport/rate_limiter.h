// A token bucket that hands out turns instead of tokens: who wants to send books the next free time
// for its bytes, and sends then. So those that share a limiter take turns in the order in which
// they asked.
#pragma once

#include <chrono>
#include <cstdint>

namespace pgraft::transport {

class RateLimiter {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // 0: no limit.
  explicit RateLimiter(std::uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}

  // When these bytes may be sent; at once if that is no later than `now`.
  TimePoint book(TimePoint now, std::uint64_t bytes);

 private:
  std::uint64_t bytes_per_second_;
  TimePoint free_at_{};
};

}  // namespace pgraft::transport
