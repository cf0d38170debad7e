// The stored format, byte by byte. Numbers are little-endian, except in keys.
//
// Keys
//   'F'                          format of the directory
//   'H'                          hard state
//   'L'                          log start: the entry before the first one that is kept
//   'S'                          newest snapshot
//   'E' index(8, big-endian)     entry: big-endian, so that LevelDB's order is the log's
//   'V' name(1..)                small value
//
// Values: version(1) payload(n) crc(4). `crc` is CRC-32C over key, version and payload: a value
// under another record's key fails it.
//
// Payloads, version 1
//   F  format(4)
//   H  term(8) vote(8) commit(8)
//   L  index(8) term(8)
//   S  index(8) term(8) conf data_length(8) data
//   E  index(8) term(8) type(1) data_length(4) data
//   V  the value
//   conf  voters learners voters_outgoing learners_next auto_leave(1) count(4) {id(8)
//   incarnation(8)}...
//         each of the four lists: count(4) {id(8)}...
//
// 'L' and 'S' are there together or not at all; L.index <= S.index <= index of the last entry (or
// L.index without entries). A payload is exactly as long as its fields say. Decoding checks every
// count against the bytes that are left before it takes memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/types.h"

namespace pgraft::storage::record {

inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::uint8_t kValueVersion = 1;

inline constexpr char kFormatKey[] = "F";
inline constexpr char kHardStateKey[] = "H";
inline constexpr char kLogStartKey[] = "L";
inline constexpr char kSnapshotKey[] = "S";

std::string entry_key(raft::Index index);
std::string value_key(std::string_view name);

// "entry 7", "hard state", ...: for messages.
std::string describe(std::string_view key);

// Wraps a payload into a value, and back. open() gives kCorruption that names the record, kMismatch
// when a newer version has written it; open_unverified() leaves out the checksum.
std::string seal(std::string_view key, std::string_view payload);
Result<std::string_view> open(std::string_view key, std::string_view value);
Result<std::string_view> open_unverified(std::string_view key, std::string_view value);

struct LogStart {
  raft::Index index = 0;
  raft::Term term = 0;
};

std::string encode_format(std::uint32_t version);
std::string encode(const raft::HardState& hard);
std::string encode(const LogStart& start);
std::string encode(const raft::Snapshot& snapshot);
std::string encode(const raft::Entry& entry);

// kCorruption without the record's name, which the caller knows.
Result<std::uint32_t> decode_format(std::string_view payload);
Result<raft::HardState> decode_hard_state(std::string_view payload);
Result<LogStart> decode_log_start(std::string_view payload);
Result<raft::Snapshot> decode_snapshot(std::string_view payload);
Result<raft::Entry> decode_entry(std::string_view payload);

// The same without a copy of the data, whose length is checked.
struct EntryMeta {
  raft::Index index = 0;
  raft::Term term = 0;
};
Result<EntryMeta> decode_entry_meta(std::string_view payload);

}  // namespace pgraft::storage::record
