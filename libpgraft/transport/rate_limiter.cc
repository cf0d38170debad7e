#include "libpgraft/transport/rate_limiter.h"

#include <algorithm>

namespace pgraft::transport {
namespace {

// Rate that was not used is made up for within this time: a timer that fires late costs nothing, a
// pause doesn't end in a flood.
constexpr std::chrono::milliseconds kMadeUp{100};

}  // namespace

RateLimiter::TimePoint RateLimiter::book(TimePoint now, std::uint64_t bytes) {
  if (bytes_per_second_ == 0) return now;
  const TimePoint turn = std::max(free_at_, now - kMadeUp);
  const std::chrono::duration<double> takes(static_cast<double>(bytes) /
                                            static_cast<double>(bytes_per_second_));
  free_at_ = turn + std::chrono::duration_cast<TimePoint::duration>(takes);
  return turn;
}

}  // namespace pgraft::transport
