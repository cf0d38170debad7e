#include "libpgraft/sim/command_line.h"

#include <signal.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace pgraft::sim {
namespace {

constexpr std::uint64_t kMaxThreads = 256;

std::atomic<bool> stop{false};

}  // namespace

CommandLine::CommandLine(int argc, char** argv, const char* program, const char* usage)
    : argc_(argc), argv_(argv), program_(program), usage_(usage) {}

bool CommandLine::next() {
  if (++at_ >= argc_) return false;
  option_ = argv_[at_];
  if (option_ == "--help") {
    std::printf("%s", usage_);
    std::exit(0);
  }
  return true;
}

std::string CommandLine::value() {
  if (++at_ >= argc_) refuse(option_ + " needs a value");
  return argv_[at_];
}

std::uint64_t CommandLine::number() { return number(value()); }

std::uint64_t CommandLine::number(std::string_view text) const {
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
    refuse("not a number: " + std::string(text));
  }
  return value;
}

void CommandLine::refuse(const std::string& why) const {
  std::fprintf(stderr, "%s: %s\n%s", program_, why.c_str(), usage_);
  std::exit(2);
}

bool SeedOptions::take(CommandLine* line) {
  if (line->option() == "--seed") {
    seeds_.first = line->number();
    one_ = true;
  } else if (line->option() == "--seeds") {
    const std::string range = line->value();
    const std::size_t dots = range.find("..");
    if (dots == std::string::npos) line->refuse("expected FROM..TO, not " + range);
    seeds_.first = line->number(std::string_view(range).substr(0, dots));
    seeds_.last = line->number(std::string_view(range).substr(dots + 2));
    if (seeds_.first > seeds_.last) line->refuse("no seeds in " + range);
    range_ = true;
  } else if (line->option() == "--for") {
    seeds_.seconds = static_cast<double>(line->number());
  } else if (line->option() == "--jobs") {
    seeds_.threads =
        static_cast<unsigned>(std::clamp<std::uint64_t>(line->number(), 1, kMaxThreads));
  } else if (line->option() == "--keep-going") {
    seeds_.keep_going = true;
  } else {
    return false;
  }
  return true;
}

Seeds SeedOptions::seeds() const {
  Seeds seeds = seeds_;
  if (!one_ && !range_) seeds.first = random_seed();
  if (one_ && !range_ && seeds.seconds == 0) seeds.last = seeds.first;
  return seeds;
}

std::uint64_t random_seed() { return std::random_device()() % 1'000'000'000 * 1000ull + 1; }

const std::atomic<bool>* stop_at_signals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stop = true; };
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  return &stop;
}

}  // namespace pgraft::sim
