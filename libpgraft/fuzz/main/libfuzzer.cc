// libFuzzer's entry for the target that the build names.
#include "libpgraft/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pgraft::fuzz::PGRAFT_FUZZ_TARGET(data, size);
  return 0;
}
