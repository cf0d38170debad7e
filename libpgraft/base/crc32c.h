// CRC-32C (Castagnoli), as used by iSCSI, LevelDB and PostgreSQL's WAL. Guards stored records and
// frames against damage, not against forgery.
#pragma once

#include <cstdint>
#include <string_view>

namespace pgraft {

// Checksum of `data` appended to what gave `previous`: crc32c(b, crc32c(a)) == crc32c(a + b).
std::uint32_t crc32c(std::string_view data, std::uint32_t previous = 0);

// The same on a processor without an instruction for it.
std::uint32_t crc32c_by_tables(std::string_view data, std::uint32_t previous = 0);

}  // namespace pgraft
