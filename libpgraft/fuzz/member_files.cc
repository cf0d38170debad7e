// The small text files of a member: node/text_file.h and the parse_*() of node/member_files.h.
#include "libpgraft/node/member_files.h"

#include "libpgraft/fuzz/checks.h"
#include "libpgraft/fuzz/targets.h"
#include "libpgraft/node/text_file.h"

namespace pgraft::fuzz {
namespace {

constexpr std::size_t kMemoryPerTextByte = 64;  // a line of five bytes is kept as two strings

template <class T>
using Parse = Result<T> (*)(node::TextReader*);

template <class T>
Result<T> parse_text(const std::string& text, Parse<T> parse) {
  Result<node::TextReader> in = node::TextReader::parse("file", text);
  if (!in) return in.status();
  return parse(&*in);
}

// What is written must be read again.
template <class T>
void check_written(const T& value, Parse<T> parse) {
  const std::string text = node::to_text(value);
  const Result<T> again = parse_text(text, parse);
  PGRAFT_CHECK(again.is_ok(), "refused, though written so: " + again.status().to_string() + text);
  PGRAFT_CHECK(*again == value, "read as another value: " + text);
}

// A text has room for the same value to be written otherwise (order, leading zeros of an LSN), so
// the value is compared.
template <class T>
int check_text(const std::string& text, Parse<T> parse) {
  const PeakMemory memory;
  const Result<T> value = parse_text(text, parse);
  check_memory(memory, text.size(), kMemoryPerTextByte);
  if (!value) {
    const Code code = value.status().code();
    PGRAFT_CHECK(code == Code::kCorruption || code == Code::kMismatch,
                 "refused with " + value.status().to_string());
    return 0;
  }
  check_written(*value, parse);
  return 1;
}

// A member that may be proposed can be written to the file, and read.
int check_member(const std::string& bytes) {
  Result<state::Member> member = state::decode_member(bytes);
  if (!member || !state::validate(*member)) return 0;
  member->nosync = false;                // of no use to who looks for addresses: not in the file
  if (member->pg_host == "-") return 0;  // stands for none in the file
  check_written<std::vector<state::Member>>({*member}, node::parse_members);
  return 1;
}

}  // namespace

int fuzz_member_files(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const int kind = input.byte() % 7;
  const std::string bytes(input.rest());
  switch (kind) {
    case 0: return check_text(bytes, node::parse_identity);
    case 1: return check_text(bytes, node::parse_binding);
    case 2: return check_text(bytes, node::parse_rejoin);
    case 3: return check_text(bytes, node::parse_timelines);
    case 4: return check_text(bytes, node::parse_members);
    case 5: return check_member(bytes);
    default: return check_text(bytes, node::parse_wal_end);
  }
}

}  // namespace pgraft::fuzz
