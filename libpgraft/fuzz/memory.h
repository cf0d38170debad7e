// How much memory a piece of code takes, frees counted or not: the most that was taken at one time.
//
// Counted where all containers get theirs: memory.cc replaces operator new and delete of the
// program that it is linked into. Only of the calling thread, one meter at a time.
#pragma once

#include <cstddef>

namespace pgraft::fuzz {

class PeakMemory {
 public:
  PeakMemory();               // counts from here on
  std::size_t bytes() const;  // the most above what was taken before

 private:
  std::size_t before_;
};

}  // namespace pgraft::fuzz
