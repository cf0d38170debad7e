// Records of the durable log: the payloads, and the seal around them.
#include "libpgraft/storage/record.h"

#include "libpgraft/fuzz/checks.h"
#include "libpgraft/fuzz/targets.h"

namespace pgraft::fuzz {
namespace {

namespace record = storage::record;

constexpr auto encode = [](const auto& value) { return record::encode(value); };

// The first byte says how long the key is; what follows the key is the value.
int check_open(Input input) {
  const std::string_view key = input.take(input.byte());
  const std::string_view value = input.rest();
  const PeakMemory memory;
  const Result<std::string_view> payload = record::open(key, value);
  check_memory(memory, key.size() + value.size());
  if (!payload) {
    check_refused(payload.status());
  } else {
    PGRAFT_CHECK(record::seal(key, *payload) == value, "sealed again it is another value");
  }

  // The checksum keeps most inputs out, so the same bytes are also sealed here.
  const std::string sealed = record::seal(key, value);
  const Result<std::string_view> opened = record::open(key, sealed);
  PGRAFT_CHECK(opened.is_ok() && *opened == value, "what was sealed does not open");
  return payload.is_ok() ? 1 : 0;
}

}  // namespace

int fuzz_record(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  switch (input.byte() % 6) {
    case 0: return check_codec(input.rest(), record::decode_format, record::encode_format);
    case 1: return check_codec(input.rest(), record::decode_hard_state, encode);
    case 2: return check_codec(input.rest(), record::decode_log_start, encode);
    case 3: return check_codec(input.rest(), record::decode_snapshot, encode);
    case 4: return check_codec(input.rest(), record::decode_entry, encode);
    default: return check_open(input);
  }
}

}  // namespace pgraft::fuzz
