// Every file of the corpus through its target, in every build: what a target checks holds whatever
// compiler and sanitizers it was built with. And the seeds are those of today's formats.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <vector>

#include "libpgraft/fuzz/memory.h"
#include "libpgraft/fuzz/seeds.h"
#include "libpgraft/fuzz/targets.h"

namespace pgraft::fuzz {
namespace {

namespace fs = std::filesystem;

const fs::path kCorpus = PGRAFT_FUZZ_CORPUS;

std::string content(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.is_open()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

int run(const Target& target, const std::string& bytes) {
  // On the heap and no longer than it is: reading past the end is noticed.
  const std::vector<std::uint8_t> exact(bytes.begin(), bytes.end());
  return target.run(exact.data(), exact.size());
}

std::vector<fs::path> files_of(const Target& target) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(kCorpus / target.name)) files.push_back(entry);
  std::sort(files.begin(), files.end());
  return files;
}

bool is_seed(const fs::path& file) { return file.filename().string().starts_with("seed-"); }

TEST(Corpus, EveryFileKeepsWhatItsTargetChecks) {
  for (const Target& target : kTargets) {
    for (const fs::path& file : files_of(target)) {
      std::cout << target.name << "/" << file.filename().string() << std::endl;  // if it stops here
      run(target, content(file));
    }
  }
}

TEST(Corpus, TheSeedsAreThoseOfTodaysFormats) {
  std::vector<fs::path> expected, found;
  for (const Seed& seed : seeds()) {
    const fs::path path = kCorpus / seed.target / seed.name;
    expected.push_back(path);
    EXPECT_TRUE(fs::exists(path) && content(path) == seed.bytes)
        << path << " is not what the seed is now: build the target fuzz_seeds";
  }
  for (const Target& target : kTargets) {
    for (const fs::path& file : files_of(target)) {
      if (is_seed(file)) found.push_back(file);
    }
  }
  std::sort(expected.begin(), expected.end());
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, expected) << "build the target fuzz_seeds";
}

// Otherwise fuzzing would begin with what is refused at its first bytes.
TEST(Seeds, EveryTargetHasSomeAndAcceptsThem) {
  const std::vector<Seed> all = seeds();
  for (const Target& target : kTargets) {
    int count = 0;
    for (const Seed& seed : all) {
      if (seed.target != target.name) continue;
      ++count;
      EXPECT_EQ(run(target, seed.bytes), 1) << target.name << "/" << seed.name;
    }
    EXPECT_GE(count, 10) << target.name;
  }
}

TEST(Targets, RefuseWhatIsNothing) {
  for (const Target& target : kTargets) EXPECT_EQ(run(target, ""), 0) << target.name;
}

TEST(PeakMemory, IsTheMostThatWasTakenAtOneTime) {
  std::vector<char> before(5000);
  const PeakMemory memory;
  EXPECT_EQ(memory.bytes(), 0u);
  std::vector<char>(100000).swap(before);  // both are there for a moment
  EXPECT_GE(memory.bytes(), 100000u);
  EXPECT_LT(memory.bytes(), 110000u);
  std::vector<char>().swap(before);
  std::vector<char>(50000).swap(before);
  EXPECT_GE(memory.bytes(), 100000u);
  EXPECT_LT(memory.bytes(), 110000u);
  EXPECT_LT(PeakMemory().bytes(), 100u);
}

}  // namespace
}  // namespace pgraft::fuzz
