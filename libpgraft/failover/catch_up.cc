#include "libpgraft/failover/catch_up.h"

#include <array>
#include <cstdio>

namespace pgraft::failover {

void CatchUp::observe(Lsn leader, Lsn learner, std::uint64_t now) {
  if (!round_) round_ = Round{leader, now};
  const bool is_short = now - round_->since <= limit_ticks_;
  if (learner >= round_->target) {
    done_ = is_short;
    round_ = Round{leader, now};
  } else if (!is_short) {
    done_ = false;
  }
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::array kUnits = {"kB", "MB", "GB", "TB"};
  if (bytes < 1024) return std::to_string(bytes) + " bytes";
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  (void)std::snprintf(text.data(), text.size(), "%.1f %s", value, kUnits.at(unit));
  return text.data();
}

}  // namespace pgraft::failover
