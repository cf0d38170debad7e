// Is what clients of a replicated key-value store saw explained by one store that does their
// operations one at a time, each at a moment between its call and its return?
//
// Keys don't influence one another, so each is checked alone (a register is a key), and a history
// is linearizable when every key's part of it is: Horn and Kroening, "Faster linearizability
// checking via P-compositionality" (2015), after Wing and Gong (1993) and Lowe (2017). Nothing but
// the history and the options decides the result and the steps it takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libpgraft/base/status.h"

namespace pgraft::sim {

inline constexpr std::uint64_t kNeverReturned = UINT64_MAX;

// One operation as its client saw it. One that is known to have had no effect (refused before it
// was proposed) does not belong in a history.
struct ClientOperation {
  enum class Kind : std::uint8_t {
    kGet,
    kPut,
    kAppend,  // to what the key holds; an absent key holds nothing to append to: it gets `value`
    kCas,     // compare and set: `value` if the key holds `expected`
    kDelete,
  };

  std::uint64_t client = 0;  // for the reader: operations of one client may overlap like any others
  Kind kind = Kind::kGet;
  std::string key;
  std::string value;                    // put, cas: the new value; append: what is appended
  std::optional<std::string> expected;  // cas; nothing: the key must be absent

  // In any unit that grows. An operation that is called when another returns overlaps it: use a
  // number that grows with every event where that matters.
  std::uint64_t called = 0;
  // kNeverReturned: the outcome is unknown. It takes effect at any moment after the call, or never;
  // what follows then means nothing.
  std::uint64_t returned = kNeverReturned;

  std::optional<std::string> read;  // get: what it gave; nothing: the key was absent
  std::optional<bool> succeeded;    // cas: it matched; delete: the key was there; nothing: not told
};

// `client 3 get "x" = "1" [40, 44]`; long values are shortened and say their length.
std::string describe(const ClientOperation& operation);

struct LinearizabilityOptions {
  // A get of an absent key gives "", so that an absent key and one that holds "" are the same.
  bool absent_is_empty = false;
  // For each key: how often an operation may be tried at a place in the order; a try that needs
  // much memory counts as several. Bounds time and memory: a million take some 0.1 s and at most
  // 100 MB.
  std::uint64_t max_steps = 1'000'000;
};

enum class Verdict : std::uint8_t {
  kLinearizable,
  kNotLinearizable,
  kUnknown,  // max_steps was reached for a key, and no other key is at fault
};

struct LinearizabilityReport {
  Verdict verdict = Verdict::kLinearizable;
  std::uint64_t steps = 0;  // over all keys

  // Not linearizable: the key at fault with the fewest operations. Unknown: the first key whose
  // limit was reached.
  std::string key;
  // Not linearizable; numbers of operations in the history. An order of operations that explains
  // all returns up to some moment, the latest there is; and the other operations that were called
  // by then, first the one that returned at that moment, which no order explains.
  std::vector<std::size_t> explained;
  std::vector<std::size_t> unexplained;
  // The same for reading; empty when linearizable.
  std::string text;
};

// kInvalidArgument: an operation returned before it was called, or the history is too long.
//
// The history begins with an empty store. For one that held something, put it there by operations
// that returned before the others were called.
Result<LinearizabilityReport> check_linearizability(std::span<const ClientOperation> history,
                                                    const LinearizabilityOptions& options = {});

}  // namespace pgraft::sim
