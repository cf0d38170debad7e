// Random walks of the failover simulator, by many seeds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "libpgraft/sim/failover_controls.h"
#include "libpgraft/sim/seeds.h"
#include "libpgraft/sim/walk_coverage.h"

namespace pgraft::sim {

inline constexpr int kWalkSteps = 20'000;
inline constexpr int kTicksToRecover = 4'000;  // many elections, with back-off

struct WalkTotals {
  std::uint64_t walks = 0;
  std::uint64_t nobody_may_lead = 0;    // RandomWalk::Excuse
  std::vector<std::uint64_t> violated;  // seeds, ascending
  std::size_t acknowledged = 0;         // writes
  std::size_t promotions = 0;
  Coverage coverage{};            // how often, in all
  Coverage walks_that_reached{};  // in how many
  double seconds = 0;

  WalkTotals& operator+=(const WalkTotals& other);
};
// `on_violation` gets the report of a walk that violated an invariant or did not recover; of the
// first only, unless the seeds go on after it.
WalkTotals run_walks(const Seeds& seeds, const FailoverControls& controls = {},
                     const std::function<void(const std::string&)>& on_violation = {});
std::string describe(const WalkTotals& totals);
// A line for each state that a walk can reach.
std::string describe_coverage(const WalkTotals& totals);

}  // namespace pgraft::sim
