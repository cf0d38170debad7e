#include "libpgraft/sim/seeds.h"

#include <chrono>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace pgraft::sim {

double run_seeds(const Seeds& seeds, const SeedRun& run) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  std::mutex mutex;  // of what follows, and of what runs have found
  std::uint64_t next = seeds.first;
  bool ended = seeds.first > seeds.last;
  const auto take = [&]() -> std::optional<std::uint64_t> {
    const std::lock_guard lock(mutex);
    ended = ended || (seeds.stop != nullptr && *seeds.stop) ||
            (seeds.seconds > 0 && elapsed() >= seeds.seconds);
    if (ended) return std::nullopt;
    ended = next == seeds.last;
    return next++;
  };
  const auto work = [&] {
    while (const auto seed = take()) {
      const std::function<bool()> add = run(*seed);
      const std::lock_guard lock(mutex);
      if (!add() && !seeds.keep_going) ended = true;
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < seeds.threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return elapsed();
}

}  // namespace pgraft::sim
