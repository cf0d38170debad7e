// Stored and wire form of a configuration change, little-endian:
//   u8 version = 1 | u8 transition | u32 n | n * (u8 type | u64 node id | u64 incarnation) | u32
//   length | context
#include "libpgraft/raft/conf_change_codec.h"

#include <cstdint>
#include <string>
#include <string_view>

#include "libpgraft/raft/raw_node.h"

namespace pgraft::raft {
namespace {

constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kSingleBytes = 1 + 8 + 8;

void put(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
}

class Reader {
 public:
  explicit Reader(std::string_view data) : rest_(data) {}
  // False, and `value` untouched, when there are fewer bytes left.
  bool get(std::uint64_t& value, std::size_t bytes) {
    if (rest_.size() < bytes) return false;
    value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
      value |= std::uint64_t{static_cast<unsigned char>(rest_[i])} << (8 * i);
    rest_.remove_prefix(bytes);
    return true;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

Status corrupt(const char* what) {
  return {Code::kCorruption, std::string("configuration change: ") + what};
}

bool get_single(Reader& reader, ConfChangeSingle& single) {
  std::uint64_t type = 0;
  if (!reader.get(type, 1) || type > static_cast<std::uint64_t>(ConfChangeType::kUpdate))
    return false;
  single.type = static_cast<ConfChangeType>(type);
  return reader.get(single.node_id, 8) && reader.get(single.incarnation, 8);
}

}  // namespace

Status validate_conf_change(const ConfChange& change) {
  if (change.changes.size() > kConfChangesMax) {
    return {Code::kResourceExhausted,
            "a configuration change holds at most " + std::to_string(kConfChangesMax) + " changes"};
  }
  if (change.context.size() > kConfChangeContextMax) {
    return {Code::kResourceExhausted, "the context of a configuration change holds at most " +
                                          std::to_string(kConfChangeContextMax) + " bytes"};
  }
  return {};
}

std::string encode_conf_change(const ConfChange& change) {
  std::string out;
  put(out, kVersion, 1);
  put(out, static_cast<std::uint64_t>(change.transition), 1);
  put(out, change.changes.size(), 4);
  for (const ConfChangeSingle& single : change.changes) {
    put(out, static_cast<std::uint64_t>(single.type), 1);
    put(out, single.node_id, 8);
    put(out, single.incarnation, 8);
  }
  put(out, change.context.size(), 4);
  out += change.context;
  return out;
}

Result<ConfChange> decode_conf_change(const std::string& data) {
  Reader reader(data);
  ConfChange change;
  std::uint64_t version = 0;
  std::uint64_t transition = 0;
  std::uint64_t count = 0;
  if (!reader.get(version, 1) || version == 0) return corrupt("unknown version");
  if (version > kVersion) return newer_format("configuration change", version, kVersion);
  if (!reader.get(transition, 1) ||
      transition > static_cast<std::uint64_t>(ConfChangeTransition::kExplicit)) {
    return corrupt("unknown transition");
  }
  change.transition = static_cast<ConfChangeTransition>(transition);
  // The count is checked against what is there before anything is allocated for it.
  if (!reader.get(count, 4) || count > kConfChangesMax ||
      count * kSingleBytes > reader.rest().size()) {
    return corrupt("bad number of changes");
  }
  change.changes.resize(count);
  for (ConfChangeSingle& single : change.changes) {
    if (!get_single(reader, single)) return corrupt("unknown kind of change");
  }
  std::uint64_t length = 0;
  if (!reader.get(length, 4) || length != reader.rest().size() || length > kConfChangeContextMax)
    return corrupt("bad length of the context");
  change.context = reader.rest();
  return change;
}

}  // namespace pgraft::raft
