#include "libpgraft/base/crc32c.h"

#ifdef __x86_64__
#include <nmmintrin.h>
#endif

#include <array>
#include <cstddef>
#include <cstring>

namespace pgraft {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78u;  // 0x1edc6f41 with its bits reversed
constexpr std::size_t kSlices = 8;                  // bytes taken in one step

using Tables = std::array<std::array<std::uint32_t, 256>, kSlices>;

constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (std::size_t slice = 1; slice < kSlices; ++slice) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[slice - 1][byte];
      tables[slice][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

std::uint32_t by_tables(std::string_view data, std::uint32_t crc) {
  const auto byte_at = [&](std::size_t i) -> std::uint32_t {
    return static_cast<unsigned char>(data[i]);
  };
  std::size_t i = 0;
  for (; i + kSlices <= data.size(); i += kSlices) {
    crc ^= byte_at(i) | byte_at(i + 1) << 8 | byte_at(i + 2) << 16 | byte_at(i + 3) << 24;
    crc = kTables[7][crc & 0xff] ^ kTables[6][(crc >> 8) & 0xff] ^ kTables[5][(crc >> 16) & 0xff] ^
          kTables[4][crc >> 24] ^ kTables[3][byte_at(i + 4)] ^ kTables[2][byte_at(i + 5)] ^
          kTables[1][byte_at(i + 6)] ^ kTables[0][byte_at(i + 7)];
  }
  for (; i < data.size(); ++i) crc = (crc >> 8) ^ kTables[0][(crc ^ byte_at(i)) & 0xff];
  return crc;
}

#ifdef __x86_64__
// The processor's instruction for this polynomial.
__attribute__((target("sse4.2"))) std::uint32_t by_instruction(std::string_view data,
                                                               std::uint32_t crc) {
  std::uint64_t wide = crc;
  std::size_t i = 0;
  for (; i + sizeof(wide) <= data.size(); i += sizeof(wide)) {
    std::uint64_t word = 0;
    std::memcpy(&word, data.data() + i, sizeof(word));
    wide = _mm_crc32_u64(wide, word);
  }
  crc = static_cast<std::uint32_t>(wide);
  for (; i < data.size(); ++i) crc = _mm_crc32_u8(crc, static_cast<unsigned char>(data[i]));
  return crc;
}

bool has_instruction() { return __builtin_cpu_supports("sse4.2") != 0; }
#else
std::uint32_t by_instruction(std::string_view data, std::uint32_t crc) {
  return by_tables(data, crc);
}

bool has_instruction() { return false; }
#endif

}  // namespace

std::uint32_t crc32c(std::string_view data, std::uint32_t previous) {
  static const bool fast = has_instruction();
  return ~(fast ? by_instruction(data, ~previous) : by_tables(data, ~previous));
}

std::uint32_t crc32c_by_tables(std::string_view data, std::uint32_t previous) {
  return ~by_tables(data, ~previous);
}

}  // namespace pgraft
