// PGRAFT_CHECK: a broken invariant stops the process, with the state in the message.
//
// For what can only be a defect of this program or storage that lost what it had acknowledged. What
// the caller or the network can get wrong is a Status. Kept on in release builds.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

namespace pgraft {

// Called before the process is stopped. The simulator's throws, so that a core that was broken on
// purpose is a finding and not the end of the run.
using CheckHandler = void (*)(const std::string& message);
inline CheckHandler check_handler = nullptr;

[[noreturn]] inline void check_failed(const char* file, int line, const char* condition,
                                      const std::string& message) {
  if (check_handler != nullptr) check_handler(std::string(condition) + ": " + message);
  std::fprintf(stderr, "%s:%d: invariant broken: %s: %s\n", file, line, condition, message.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace pgraft

// `message` is evaluated only when the condition does not hold.
#define PGRAFT_CHECK(condition, message)                                 \
  do {                                                                   \
    if (!(condition)) [[unlikely]]                                       \
      ::pgraft::check_failed(__FILE__, __LINE__, #condition, (message)); \
  } while (false)
