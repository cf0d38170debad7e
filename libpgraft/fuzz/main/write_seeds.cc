// Writes the seeds into the corpus, in place of those of earlier formats.
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>

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

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: write_seeds CORPUS\n";
    return 2;
  }
  try {
    write(argv[1]);
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
  return 0;
}
