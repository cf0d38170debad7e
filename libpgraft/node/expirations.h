// Which keys' time is over: the leader's part in times to live.
//
// A key lives at least its time, measured in the ticks of one leader; a new leader gives all keys
// their whole time again. So no clocks are compared, and a key is never gone too early. What ends a
// key is an entry of the log (state::KvExpire).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libpgraft/state/kv_store.h"

namespace pgraft::node {

class Expirations {
 public:
  // `tick_ms`: milliseconds a tick, at least 1. `retry`: ticks until an expiry that was proposed
  // and had no effect is proposed again.
  Expirations(std::uint64_t tick_ms, std::uint64_t retry) : tick_ms_(tick_ms), retry_(retry) {}

  // This node began to lead with this state; all times begin.
  void begin(const state::KvStore& kv, std::uint64_t now);
  void end();
  bool active() const { return active_; }

  // The key was changed, or is gone. Nothing unless active.
  void changed(const std::string& key, const state::KvStore& kv, std::uint64_t now);

  // What to propose now, `max` at most.
  std::vector<state::KvExpire> due(const state::KvStore& kv, std::uint64_t now, std::size_t max);

  // How long the key will live, at least; absent where that is not known.
  std::optional<std::uint64_t> remaining_ms(const std::string& key, std::uint64_t now) const;

 private:
  void watch(const std::string& key, const state::KvItem& item, std::uint64_t now);
  void forget(const std::string& key);

  const std::uint64_t tick_ms_;
  const std::uint64_t retry_;
  bool active_ = false;
  std::map<std::string, std::uint64_t> ends_;              // tick
  std::set<std::pair<std::uint64_t, std::string>> queue_;  // the same, by time
};

}  // namespace pgraft::node
