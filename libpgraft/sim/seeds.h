// Runs of many seeds, on several threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace pgraft::sim {

struct Seeds {
  std::uint64_t first = 1;
  std::uint64_t last = UINT64_MAX;  // included
  double seconds = 0;               // of real time, after which no seed is begun; 0: no limit
  unsigned threads = 1;
  bool keep_going = false;                  // after a violation
  const std::atomic<bool>* stop = nullptr;  // no seed is begun once it is set
};

// What a run has found is added up by what it returns, one run's at a time; that is false when
// there was a violation.
using SeedRun = std::function<std::function<bool()>(std::uint64_t seed)>;
// How many seconds it took.
double run_seeds(const Seeds& seeds, const SeedRun& run);

}  // namespace pgraft::sim
