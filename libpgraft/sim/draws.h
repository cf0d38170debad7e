// Randomness that can be taken apart: a draw is a hash of what it is for (a link and the number of
// the message on it, a disk and the number of the write), not the next one of a shared stream. So a
// fault that is left out of a run changes what depends on it, and no other draw.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace pgraft::sim {

// splitmix64's finalizer.
inline std::uint64_t mixed(std::uint64_t z) {
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}
inline std::uint64_t mixed(std::uint64_t a, std::uint64_t b) { return mixed(mixed(a) ^ b); }

// A stream of draws for one purpose.
class Draws {
 public:
  Draws(std::uint64_t seed, std::initializer_list<std::uint64_t> purpose) : state_(seed) {
    for (const std::uint64_t part : purpose) state_ = mixed(state_, part);
  }

  std::uint64_t next() { return mixed(state_++); }
  std::uint64_t below(std::uint64_t n) { return n == 0 ? 0 : next() % n; }
  std::uint64_t between(std::uint64_t least, std::uint64_t most) {
    return least + below(most - least + 1);
  }
  // Small ones as likely as great ones: each power of two in the range has the same chance.
  std::uint64_t scaled(std::uint64_t least, std::uint64_t most) {
    int steps = 0;
    while ((least << (steps + 1)) <= most) ++steps;
    const std::uint64_t from = least << below(static_cast<std::uint64_t>(steps) + 1);
    const std::uint64_t to = from * 2 - 1 < most ? from * 2 - 1 : most;
    return between(from, to < from ? from : to);
  }
  bool chance(std::uint64_t percent) { return below(100) < percent; }

 private:
  std::uint64_t state_;
};

}  // namespace pgraft::sim
