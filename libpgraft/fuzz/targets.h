// Fuzz targets: one function per decoder of bytes that come from strangers or from a disk.
//
// Each takes any bytes, gives them to its decoder, and stops the process (PGRAFT_CHECK, or a
// sanitizer) when a property of that decoder does not hold:
//   - what is refused is refused with the decoder's documented code;
//   - what is accepted encodes to something that decodes to the same value (for the binary forms:
//     to the very same bytes, since one value has one encoding);
//   - decoding takes no more memory than the input is long, times a constant.
// The result says whether the bytes were accepted. Inputs of several decoders begin with a byte
// that chooses one.
//
// libFuzzer drives the targets (`./dev fuzz`); the tests of this layer run the corpus through them
// in every build. corpus/<target>/ holds `seed-*`, made from real values by seeds.cc (target
// `fuzz_seeds` writes them anew), and what fuzzing has found.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pgraft::fuzz {

int fuzz_wire(const std::uint8_t* data, std::size_t size);
int fuzz_frame(const std::uint8_t* data, std::size_t size);
int fuzz_conf_change(const std::uint8_t* data, std::size_t size);
int fuzz_command(const std::uint8_t* data, std::size_t size);
int fuzz_snapshot(const std::uint8_t* data, std::size_t size);
int fuzz_record(const std::uint8_t* data, std::size_t size);
int fuzz_member_files(const std::uint8_t* data, std::size_t size);

struct Target {
  const char* name;  // of the directory in corpus/
  int (*run)(const std::uint8_t* data, std::size_t size);
};

inline constexpr Target kTargets[] = {
    {"wire", fuzz_wire},
    {"frame", fuzz_frame},
    {"command", fuzz_command},
    {"conf_change", fuzz_conf_change},
    {"snapshot", fuzz_snapshot},
    {"record", fuzz_record},
    {"member_files", fuzz_member_files},
};

}  // namespace pgraft::fuzz
