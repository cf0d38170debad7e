// Inputs made from real values, for the corpus to begin with: every type, every field, both ends of
// what a format allows.
#pragma once

#include <string>
#include <vector>

namespace pgraft::fuzz {

struct Seed {
  std::string target;  // its name in kTargets
  std::string name;    // of the file, "seed-..."
  std::string bytes;   // the target accepts them
};

std::vector<Seed> seeds();

}  // namespace pgraft::fuzz
