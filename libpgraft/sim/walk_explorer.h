// Random walks of the failover simulator, by many seeds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "libpgraft/sim/seeds.h"

namespace pgraft::sim {

inline constexpr int kWalkSteps = 20'000;
inline constexpr int kTicksToRecover = 4'000;  // many elections, with back-off

struct WalkTotals {
  std::uint64_t walks = 0;
  std::uint64_t given_up = 0;           // no rule could have made them recover
  std::vector<std::uint64_t> violated;  // seeds, ascending
  std::size_t acknowledged = 0;         // writes
  std::size_t promotions = 0;
  double seconds = 0;

  WalkTotals& operator+=(const WalkTotals& other);
};
// `on_violation` gets the report of a walk that violated an invariant or did not recover; of the
// first only, unless the seeds go on after it.
WalkTotals run_walks(const Seeds& seeds,
                     const std::function<void(const std::string&)>& on_violation = {});
std::string describe(const WalkTotals& totals);

}  // namespace pgraft::sim
