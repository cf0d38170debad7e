// While one of these lives on a thread, a PGRAFT_CHECK that does not hold there throws BrokenCheck
// in place of ending the process. Other threads go on as before: the process may run real nodes,
// too.
#pragma once

#include <mutex>
#include <string>
#include <utility>

#include "libpgraft/base/check.h"

namespace pgraft::sim {

struct BrokenCheck {
  std::string what;
};

class ThrowingChecks {
 public:
  ThrowingChecks() {
    std::call_once(installed_, [] { otherwise_ = std::exchange(check_handler, &handle); });
    ++living_;
  }
  ~ThrowingChecks() { --living_; }
  ThrowingChecks(const ThrowingChecks&) = delete;
  ThrowingChecks& operator=(const ThrowingChecks&) = delete;

 private:
  static void handle(const std::string& what) {
    if (living_ > 0) throw BrokenCheck{what};
    if (otherwise_ != nullptr) otherwise_(what);
  }

  static inline std::once_flag installed_;
  static inline CheckHandler otherwise_ = nullptr;
  static inline thread_local int living_ = 0;
};

}  // namespace pgraft::sim
