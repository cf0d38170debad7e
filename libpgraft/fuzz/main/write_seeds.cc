// Writes the seeds into the corpus, in place of those of earlier formats; or all into one file,
// which a release leaves for those after it (../released): a line for each, its target, its name
// and its bytes in hexadecimal.
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <string_view>

#include "libpgraft/fuzz/seeds.h"
#include "libpgraft/fuzz/targets.h"

namespace {

namespace fs = std::filesystem;

void write(const fs::path& corpus) {
  for (const pgraft::fuzz::Target& target : pgraft::fuzz::kTargets) {
    fs::create_directories(corpus / target.name);
    for (const fs::path& file :
         std::set<fs::path>(fs::directory_iterator(corpus / target.name), {})) {
      if (file.filename().string().starts_with("seed-")) fs::remove(file);
    }
  }
  for (const pgraft::fuzz::Seed& seed : pgraft::fuzz::seeds()) {
    const fs::path path = corpus / seed.target / seed.name;
    std::ofstream file(path, std::ios::binary);
    file << seed.bytes;
    if (!file.flush()) throw std::runtime_error("could not write " + path.string());
  }
}

void record(const fs::path& path) {
  std::ofstream file(path);
  for (const pgraft::fuzz::Seed& seed : pgraft::fuzz::seeds()) {
    file << seed.target << '/' << seed.name << ' ';
    for (const char byte : seed.bytes) {
      constexpr char kDigits[] = "0123456789abcdef";
      const auto number = static_cast<unsigned char>(byte);
      file << kDigits[number >> 4] << kDigits[number & 15];
    }
    file << '\n';
  }
  if (!file.flush()) throw std::runtime_error("could not write " + path.string());
}

}  // namespace

int main(int argc, char** argv) {
  const bool to_one_file = argc == 3 && std::string_view(argv[1]) == "--record";
  if (argc != 2 && !to_one_file) {
    std::cerr << "usage: write_seeds CORPUS\n       write_seeds --record FILE\n";
    return 2;
  }
  try {
    to_one_file ? record(argv[2]) : write(argv[1]);
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
  return 0;
}
