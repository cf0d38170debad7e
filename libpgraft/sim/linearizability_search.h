// The search for an order of one key's operations that explains what their clients saw. Internal to
// the linearizability checker.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "libpgraft/sim/linearizability.h"

namespace pgraft::sim {

// So many operations can be searched: numbers of their calls and returns fit 32 bits.
inline constexpr std::size_t kMaxOperations = std::size_t{1} << 28;

struct SearchResult {
  Verdict verdict = Verdict::kUnknown;
  std::uint64_t steps = 0;
  // As in LinearizabilityReport.
  std::vector<std::size_t> explained;
  std::vector<std::size_t> unexplained;
};

// `numbers`: which operations of the history are the key's; no gets that never returned.
SearchResult search_order(std::span<const ClientOperation> history,
                          std::vector<std::size_t> numbers, const LinearizabilityOptions& options);

}  // namespace pgraft::sim
