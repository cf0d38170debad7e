// Commands of the key-value store, the log and the measurements: from the form of engine.h to the
// node, and the answers back. Includes no PostgreSQL header.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>

#include "engine.h"
#include "libpgraft/base/histogram.h"
#include "libpgraft/node/node.h"

namespace pgraft::extension {

// How long commands took. Any thread.
class Latencies {
 public:
  void add(bool look, std::uint64_t us) {
    const std::lock_guard lock(mutex_);
    (look ? looks_ : entries_).add(us);
  }
  Histogram entries() const {
    const std::lock_guard lock(mutex_);
    return entries_;
  }
  Histogram looks() const {
    const std::lock_guard lock(mutex_);
    return looks_;
  }

 private:
  mutable std::mutex mutex_;
  Histogram entries_, looks_;
};

// Called once, on the node's thread, or by submit_request() itself. `data` lives as long as the
// call.
using Answer =
    std::function<void(const Status& status, std::uint64_t value, std::string_view data)>;

// `latencies` must outlive the node.
void submit_request(node::Node& node, const PgraftCommand& command, const Latencies& latencies,
                    Answer answer);

}  // namespace pgraft::extension
