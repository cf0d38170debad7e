// Every file of the corpus through its target, in every build: what a target checks holds whatever
// compiler and sanitizers it was built with. And the seeds are those of today's formats.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "libpgraft/fuzz/memory.h"
#include "libpgraft/fuzz/seeds.h"
#include "libpgraft/fuzz/targets.h"
#include "libpgraft/state/state_machine.h"
#include "libpgraft/storage/record.h"
#include "libpgraft/transport/frame.h"

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

// --- what released versions have written: released/VERSION, made by fuzz_write_seeds --record

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// By target and name.
std::map<std::string, std::string> forms_of(const fs::path& release) {
  std::map<std::string, std::string> forms;
  std::ifstream in(release);
  std::string name, hex;
  while (in >> name && std::getline(in, hex)) {
    forms[name] = from_hex(hex.substr(std::min<std::size_t>(1, hex.size())));
  }
  return forms;
}

std::vector<fs::path> releases() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(PGRAFT_FUZZ_RELEASED)) found.push_back(entry);
  std::sort(found.begin(), found.end());
  return found;
}

// A target takes what it accepts apart, puts it together again and compares.
TEST(Released, EveryFormThatAReleaseWroteIsRead) {
  ASSERT_FALSE(releases().empty());
  for (const fs::path& release : releases()) {
    const auto forms = forms_of(release);
    EXPECT_GE(forms.size(), 150u) << release;
    for (const Target& target : kTargets) {
      int count = 0;
      for (const auto& [name, bytes] : forms) {
        if (!name.starts_with(std::string(target.name) + "/")) continue;
        ++count;
        EXPECT_EQ(run(target, bytes), 1) << release << ": " << name;
      }
      EXPECT_GE(count, 10) << release << ": " << target.name;
    }
  }
}

// While members of an older release are there, all must write what it reads.
TEST(Released, TheSameValuesAreWrittenAsTheReleaseWroteThem) {
  for (const fs::path& release : releases()) {
    std::map<std::string, std::string> forms = forms_of(release);
    for (const Seed& seed : seeds()) {
      const auto found = forms.find(seed.target + "/" + seed.name);
      if (found == forms.end()) continue;  // of something that it did not have
      EXPECT_EQ(found->second, seed.bytes)
          << release << " does not read " << found->first << " (docs/upgrading.md)";
      forms.erase(found);
    }
    for (const auto& [name, bytes] : forms) ADD_FAILURE() << release << ": no seed " << name;
  }
}

// A member of an older release stops at an operation, and closes the connection at a frame or a
// message, that it doesn't know. Whoever adds one sees to it that it is used only when all members
// know it (docs/upgrading.md), and says so here.
TEST(Released, NothingIsWrittenThatTheOldestReleaseDoesNotKnow) {
  EXPECT_EQ(std::variant_size_v<state::Operation>, 9u);
  EXPECT_EQ(transport::kLastFrameType, 13);
  EXPECT_EQ(raft::MessageType::kReadIndexResponse, static_cast<raft::MessageType>(13));
  EXPECT_EQ(transport::kProtocolVersion, 1u);
  EXPECT_EQ(storage::record::kFormatVersion, 1u);
  EXPECT_EQ(storage::record::kValueVersion, 1);
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
