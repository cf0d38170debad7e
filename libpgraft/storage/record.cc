#include "libpgraft/storage/record.h"

#include "libpgraft/base/crc32c.h"
#include "libpgraft/storage/log_store.h"

namespace pgraft::storage::record {
namespace {

constexpr std::size_t kSealBytes = 1 + 4;  // version and checksum

template <class T>
void put(std::string* out, T number) {
  char bytes[sizeof(T)];
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    bytes[i] = static_cast<char>(static_cast<std::uint64_t>(number) >> (8 * i));
  }
  out->append(bytes, sizeof(T));
}

void put_ids(std::string* out, const std::vector<raft::NodeId>& ids) {
  put(out, static_cast<std::uint32_t>(ids.size()));
  for (const raft::NodeId id : ids) put(out, id);
}

// Takes fields off the front of a payload. After the first that does not fit everything reads as
// zero and ok() is false.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <class T>
  T number() {
    if (!has(sizeof(T))) return 0;
    std::uint64_t result = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      result |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes_[i])) << (8 * i);
    }
    bytes_.remove_prefix(sizeof(T));
    return static_cast<T>(result);
  }

  std::string text(std::uint64_t length) {
    if (!has(length)) return {};
    std::string result(bytes_.substr(0, length));
    bytes_.remove_prefix(length);
    return result;
  }

  void skip(std::uint64_t length) {
    if (has(length)) bytes_.remove_prefix(length);
  }

  // A count of things that take `each` bytes; 0 when they can't all be there.
  std::uint32_t count(std::size_t each) {
    const auto n = number<std::uint32_t>();
    return has(static_cast<std::uint64_t>(n) * each) ? n : 0;
  }

  std::vector<raft::NodeId> ids() {
    std::vector<raft::NodeId> result(count(8));
    for (raft::NodeId& id : result) id = number<raft::NodeId>();
    return result;
  }

  void refuse() { ok_ = false; }
  bool ok_to_end() const { return ok_ && bytes_.empty(); }

 private:
  bool has(std::uint64_t length) {
    if (length > bytes_.size()) ok_ = false;
    return ok_;
  }

  std::string_view bytes_;
  bool ok_ = true;
};

Status malformed() { return {Code::kCorruption, "its fields do not fit its length"}; }

template <class T>
Result<T> checked(const Reader& reader, T value) {
  if (!reader.ok_to_end()) return malformed();
  return value;
}

}  // namespace

std::string entry_key(raft::Index index) {
  std::string key = "E";
  for (int shift = 56; shift >= 0; shift -= 8) key.push_back(static_cast<char>(index >> shift));
  return key;
}

std::string value_key(std::string_view name) { return "V" + std::string(name); }

std::string describe(std::string_view key) {
  if (key == kFormatKey) return "format version";
  if (key == kHardStateKey) return "hard state";
  if (key == kLogStartKey) return "log start";
  if (key == kSnapshotKey) return "snapshot";
  if (key.size() == 9 && key[0] == 'E') {
    std::uint64_t index = 0;
    for (const char byte : key.substr(1)) index = index << 8 | static_cast<unsigned char>(byte);
    return "entry " + std::to_string(index);
  }
  if (key.size() > 1 && key[0] == 'V') return "value \"" + std::string(key.substr(1)) + "\"";
  return "unknown record (key of " + std::to_string(key.size()) + " bytes)";
}

std::string seal(std::string_view key, std::string_view payload) {
  std::string value;
  value.reserve(payload.size() + kSealBytes);
  value.push_back(static_cast<char>(kValueVersion));
  value.append(payload);
  put(&value, crc32c(value, crc32c(key)));
  return value;
}

Result<std::string_view> open_unverified(std::string_view key, std::string_view value) {
  if (value.size() < kSealBytes) return Status(Code::kCorruption, describe(key) + " is cut short");
  const auto version = static_cast<std::uint8_t>(value[0]);
  if (version > kValueVersion) return newer_format(describe(key), version, kValueVersion);
  if (version == 0) return Status(Code::kCorruption, describe(key) + " has record version 0");
  return value.substr(1, value.size() - kSealBytes);
}

Result<std::string_view> open(std::string_view key, std::string_view value) {
  if (value.size() < kSealBytes) return Status(Code::kCorruption, describe(key) + " is cut short");
  const std::string_view body = value.substr(0, value.size() - 4);
  Reader crc(value.substr(body.size()));
  if (crc.number<std::uint32_t>() != crc32c(body, crc32c(key))) {
    return Status(Code::kCorruption, describe(key) + " fails its checksum");
  }
  return open_unverified(key, value);
}

std::string encode_format(std::uint32_t version) {
  std::string out;
  put(&out, version);
  return out;
}

std::string encode(const raft::HardState& hard) {
  std::string out;
  put(&out, hard.term);
  put(&out, hard.vote);
  put(&out, hard.commit);
  return out;
}

std::string encode(const LogStart& start) {
  std::string out;
  put(&out, start.index);
  put(&out, start.term);
  return out;
}

std::string encode(const raft::Snapshot& snapshot) {
  std::string out;
  out.reserve(snapshot.data.size() + 256);
  put(&out, snapshot.meta.index);
  put(&out, snapshot.meta.term);
  const raft::ConfState& conf = snapshot.meta.conf;
  put_ids(&out, conf.voters);
  put_ids(&out, conf.learners);
  put_ids(&out, conf.voters_outgoing);
  put_ids(&out, conf.learners_next);
  put(&out, static_cast<std::uint8_t>(conf.auto_leave));
  put(&out, static_cast<std::uint32_t>(conf.incarnations.size()));
  for (const auto& [id, incarnation] : conf.incarnations) {
    put(&out, id);
    put(&out, incarnation);
  }
  put(&out, static_cast<std::uint64_t>(snapshot.data.size()));
  out.append(snapshot.data);
  return out;
}

std::string encode(const raft::Entry& entry) {
  std::string out;
  out.reserve(entry.data.size() + 21);
  put(&out, entry.index);
  put(&out, entry.term);
  put(&out, static_cast<std::uint8_t>(entry.type));
  put(&out, static_cast<std::uint32_t>(entry.data.size()));
  out.append(entry.data.str());
  return out;
}

Result<std::uint32_t> decode_format(std::string_view payload) {
  Reader reader(payload);
  const auto version = reader.number<std::uint32_t>();
  return checked(reader, version);
}

Result<raft::HardState> decode_hard_state(std::string_view payload) {
  Reader reader(payload);
  raft::HardState hard;
  hard.term = reader.number<raft::Term>();
  hard.vote = reader.number<raft::NodeId>();
  hard.commit = reader.number<raft::Index>();
  return checked(reader, hard);
}

Result<LogStart> decode_log_start(std::string_view payload) {
  Reader reader(payload);
  LogStart start;
  start.index = reader.number<raft::Index>();
  start.term = reader.number<raft::Term>();
  return checked(reader, start);
}

Result<raft::Snapshot> decode_snapshot(std::string_view payload) {
  Reader reader(payload);
  raft::Snapshot snapshot;
  snapshot.meta.index = reader.number<raft::Index>();
  snapshot.meta.term = reader.number<raft::Term>();
  raft::ConfState& conf = snapshot.meta.conf;
  conf.voters = reader.ids();
  conf.learners = reader.ids();
  conf.voters_outgoing = reader.ids();
  conf.learners_next = reader.ids();
  const auto auto_leave = reader.number<std::uint8_t>();
  if (auto_leave > 1) reader.refuse();
  conf.auto_leave = auto_leave == 1;
  for (std::uint32_t left = reader.count(16); left > 0; --left) {
    const auto id = reader.number<raft::NodeId>();
    if (!conf.incarnations.empty() && id <= conf.incarnations.rbegin()->first) reader.refuse();
    conf.incarnations[id] = reader.number<raft::Incarnation>();
  }
  snapshot.data = reader.text(reader.number<std::uint64_t>());
  return checked(reader, std::move(snapshot));
}

namespace {

// Everything but the data, whose length it returns. kCorruption when that can't be.
Result<std::uint32_t> read_entry_head(Reader* reader, raft::Entry* entry) {
  entry->index = reader->number<raft::Index>();
  entry->term = reader->number<raft::Term>();
  const auto type = reader->number<std::uint8_t>();
  if (type > static_cast<std::uint8_t>(raft::EntryType::kConfChange)) {
    return Status(Code::kCorruption, "its type " + std::to_string(type) + " is unknown");
  }
  entry->type = static_cast<raft::EntryType>(type);
  const auto length = reader->number<std::uint32_t>();
  if (length > kMaxEntryBytes) {
    return Status(Code::kCorruption, "it claims " + std::to_string(length) +
                                         " bytes of data, the limit is " +
                                         std::to_string(kMaxEntryBytes));
  }
  return length;
}

}  // namespace

Result<raft::Entry> decode_entry(std::string_view payload) {
  Reader reader(payload);
  raft::Entry entry;
  const Result<std::uint32_t> length = read_entry_head(&reader, &entry);
  if (!length.is_ok()) return length.status();
  entry.data = reader.text(*length);
  return checked(reader, std::move(entry));
}

Result<EntryMeta> decode_entry_meta(std::string_view payload) {
  Reader reader(payload);
  raft::Entry entry;
  const Result<std::uint32_t> length = read_entry_head(&reader, &entry);
  if (!length.is_ok()) return length.status();
  reader.skip(*length);
  return checked(reader, EntryMeta{entry.index, entry.term});
}

}  // namespace pgraft::storage::record
