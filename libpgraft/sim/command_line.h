// What the simulators' programs have in common: options, and an end at Ctrl-C.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "libpgraft/sim/seeds.h"

namespace pgraft::sim {

class CommandLine {
 public:
  CommandLine(int argc, char** argv, const char* program, const char* usage);

  // The next option or argument; false: there is none. --help prints the usage and ends.
  bool next();
  const std::string& option() const { return option_; }
  std::string value();  // of the option
  std::uint64_t number();
  std::uint64_t number(std::string_view text) const;
  // Says why, and how it is meant; ends with status 2.
  [[noreturn]] void refuse(const std::string& why) const;
  [[noreturn]] void refuse() const { refuse("no option " + option_); }

 private:
  int argc_;
  char** argv_;
  int at_ = 0;
  const char* program_;
  const char* usage_;
  std::string option_;
};

// --seed N, --seeds FROM..TO, --for SECONDS, --jobs N, --keep-going.
class SeedOptions {
 public:
  bool take(CommandLine* line);  // false: it is none of these
  // Without a seed: from a random one.
  Seeds seeds() const;

 private:
  Seeds seeds_;
  bool one_ = false;
  bool range_ = false;
};

// One that is easy to copy.
std::uint64_t random_seed();

// Set by the first SIGINT or SIGTERM after this was called; the second ends the process.
const std::atomic<bool>* stop_at_signals();

}  // namespace pgraft::sim
