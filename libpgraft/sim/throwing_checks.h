// While one of these lives, a PGRAFT_CHECK that does not hold throws BrokenCheck in place of ending
// the process, in any thread.
#pragma once

#include <mutex>
#include <string>

#include "libpgraft/base/check.h"

namespace pgraft::sim {

struct BrokenCheck {
  std::string what;
};

class ThrowingChecks {
 public:
  ThrowingChecks() {
    const std::lock_guard lock(mutex_);
    if (++living_ == 1) check_handler = [](const std::string& what) { throw BrokenCheck{what}; };
  }
  ~ThrowingChecks() {
    const std::lock_guard lock(mutex_);
    if (--living_ == 0) check_handler = nullptr;
  }
  ThrowingChecks(const ThrowingChecks&) = delete;
  ThrowingChecks& operator=(const ThrowingChecks&) = delete;

 private:
  static inline std::mutex mutex_;
  static inline int living_ = 0;
};

}  // namespace pgraft::sim
