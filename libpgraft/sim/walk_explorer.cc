#include "libpgraft/sim/walk_explorer.h"

#include <algorithm>
#include <utility>

#include "libpgraft/sim/random_walk.h"
#include "libpgraft/sim/throwing_checks.h"

namespace pgraft::sim {
namespace {

struct Walked {
  RandomWalk::Excuse excused = RandomWalk::Excuse::kNone;
  Coverage coverage{};
  std::size_t acknowledged = 0;
  std::size_t promotions = 0;
  std::string violation;  // its report; empty: none
};

Walked walk(std::uint64_t seed, const FailoverControls& controls) {
  const ThrowingChecks throwing;
  RandomWalk walk(seed, controls);
  Walked walked;
  try {
    if (!walk.run(kWalkSteps)) {
      walked.violation = walk.report();
    } else if (!walk.recovers(kTicksToRecover)) {
      walked.violation = walk.report() + "\nit does not recover";
    }
  } catch (const BrokenCheck& broken) {
    walked.violation = walk.report() + "\nbroken invariant: " + broken.what;
  }
  walked.excused = walk.excused();
  walked.coverage = walk.coverage();
  walked.acknowledged = walk.cluster().invariants().acknowledged_count();
  walked.promotions = walk.cluster().invariants().promotion_count();
  return walked;
}

}  // namespace

WalkTotals run_walks(const Seeds& seeds, const FailoverControls& controls,
                     const std::function<void(const std::string&)>& on_violation) {
  WalkTotals totals;
  const auto add = [&](std::uint64_t seed, const Walked& walked) {
    ++totals.walks;
    totals.nobody_may_lead += walked.excused == RandomWalk::Excuse::kNobodyMayLead ? 1 : 0;
    for (std::size_t i = 0; i < kReachedCount; ++i) {
      totals.coverage[i] += walked.coverage[i];
      totals.walks_that_reached[i] += walked.coverage[i] != 0 ? 1 : 0;
    }
    totals.acknowledged += walked.acknowledged;
    totals.promotions += walked.promotions;
    if (walked.violation.empty()) return true;
    totals.violated.push_back(seed);
    if (on_violation && (seeds.keep_going || totals.violated.size() == 1)) {
      on_violation(walked.violation + "\nreplay: failover_sim --seed " + std::to_string(seed));
    }
    return false;
  };
  totals.seconds = run_seeds(seeds, [&](std::uint64_t seed) {
    return [&add, seed, walked = walk(seed, controls)] { return add(seed, walked); };
  });
  std::sort(totals.violated.begin(), totals.violated.end());
  return totals;
}

WalkTotals& WalkTotals::operator+=(const WalkTotals& other) {
  walks += other.walks;
  nobody_may_lead += other.nobody_may_lead;
  for (std::size_t i = 0; i < kReachedCount; ++i) {
    coverage[i] += other.coverage[i];
    walks_that_reached[i] += other.walks_that_reached[i];
  }
  violated.insert(violated.end(), other.violated.begin(), other.violated.end());
  acknowledged += other.acknowledged;
  promotions += other.promotions;
  seconds += other.seconds;
  return *this;
}

std::string describe(const WalkTotals& t) {
  const double rate = static_cast<double>(t.walks) / std::max(t.seconds, 1e-6);
  return std::to_string(t.walks) + " walks of " + std::to_string(kWalkSteps) + " steps, " +
         std::to_string(t.violated.size()) + " with a violation; " +
         std::to_string(t.acknowledged) + " writes acknowledged, " + std::to_string(t.promotions) +
         " promotions, " + std::to_string(t.nobody_may_lead) +
         " in which nobody may lead any more, " + std::to_string(static_cast<std::uint64_t>(rate)) +
         " walks/s";
}

std::string describe_coverage(const WalkTotals& t) {
  std::string text;
  for (std::size_t i = 0; i < kReachedCount; ++i) {
    std::string line = "  " + std::to_string(t.walks_that_reached[i]);
    line += " walks, " + std::to_string(t.coverage[i]) + " times";
    line.resize(std::max<std::size_t>(line.size(), 30), ' ');
    text += line + " " + reached_name(static_cast<Reached>(i)) + "\n";
  }
  return text;
}

}  // namespace pgraft::sim
