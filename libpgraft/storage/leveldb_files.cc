#include "libpgraft/storage/leveldb_files.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "libpgraft/base/crc32c.h"
#include "libpgraft/storage/leveldb_open.h"

namespace pgraft::storage {
namespace {

Status corrupt(const std::string& what) { return {Code::kCorruption, what}; }

std::string number(std::uint64_t n) { return std::to_string(n); }

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t result = 0;
  for (std::size_t i = bytes.size(); i > 0; --i) {
    result = result << 8 | static_cast<unsigned char>(bytes[i - 1]);
  }
  return result;
}

// --- the log format (LevelDB, doc/log_format.md): blocks of fragments, each with checksum(4)
// length(2) type(1). Less than a header at the end of a block is not used.

constexpr std::size_t kBlockBytes = 32u << 10;
constexpr std::size_t kHeaderBytes = 7;

enum FragmentType : std::uint8_t { kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

struct Fragment {
  std::uint8_t type;
  std::string_view data;
};

std::uint32_t masked(std::uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

// None when what is there is not whole.
std::optional<Fragment> fragment_at(std::string_view block, std::size_t at) {
  if (block.size() < at + kHeaderBytes) return std::nullopt;
  const std::uint64_t length = little_endian(block.substr(at + 4, 2));
  const auto type = static_cast<std::uint8_t>(block[at + 6]);
  if (type < kFull || type > kLast || length > block.size() - at - kHeaderBytes) {
    return std::nullopt;
  }
  const std::uint32_t crc = crc32c(block.substr(at + 6, 1 + length));
  if (masked(crc) != little_endian(block.substr(at, 4))) return std::nullopt;
  return Fragment{type, block.substr(at + kHeaderBytes, length)};
}

// Damage can hide where fragments begin, so every place is tried.
bool holds_fragment(std::string_view block, std::size_t from) {
  for (std::size_t at = from; at + kHeaderBytes <= block.size(); ++at) {
    if (fragment_at(block, at)) return true;
  }
  return false;
}

// Gives each whole record to `on_record`; returns where the last one ends, or the file's size when
// nothing but that is there.
Result<std::size_t> scan(std::string_view file,
                         const std::function<Status(std::string_view)>& on_record) {
  std::size_t end = 0;
  std::string record;
  bool inside = false;
  std::optional<std::size_t> damage;
  for (std::size_t start = 0; start < file.size(); start += kBlockBytes) {
    const std::string_view block = file.substr(start, kBlockBytes);
    std::size_t at = 0;
    while (!damage && block.size() - at >= kHeaderBytes) {
      const std::optional<Fragment> fragment = fragment_at(block, at);
      const bool begins = fragment && (fragment->type == kFull || fragment->type == kFirst);
      if (!fragment || begins == inside) {
        damage = start + at;
        break;
      }
      record.append(fragment->data);
      at += kHeaderBytes + fragment->data.size();
      inside = fragment->type == kFirst || fragment->type == kMiddle;
      if (inside) continue;
      if (Status s = on_record(record); !s.is_ok()) return s;
      record.clear();
      end = start + at;
    }
    if (damage && holds_fragment(block, at)) {
      return corrupt("is damaged at byte " + number(*damage) + ", before whole records");
    }
  }
  const bool only_unused = !damage && !inside && file.size() % kBlockBytes == 0;
  return only_unused ? file.size() : end;
}

// --- a record of the MANIFEST (LevelDB, version_edit.cc): fields, each with a tag before it

class EditReader {
 public:
  explicit EditReader(std::string_view bytes) : bytes_(bytes) {}

  std::uint64_t varint() {
    std::uint64_t result = 0;
    for (int shift = 0; shift < 64 && !bytes_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes_.front());
      bytes_.remove_prefix(1);
      result |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return result;
    }
    ok_ = false;
    return 0;
  }
  void skip_text() {
    const std::uint64_t length = varint();
    if (length > bytes_.size()) ok_ = false;
    if (ok_) bytes_.remove_prefix(length);
  }
  bool more() const { return ok_ && !bytes_.empty(); }
  bool ok() const { return ok_; }

 private:
  std::string_view bytes_;
  bool ok_ = true;
};

struct Version {
  std::optional<std::uint64_t> log;               // the oldest that is needed; 0: none is there yet
  std::map<std::uint64_t, std::uint64_t> tables;  // number -> bytes
};

Status apply_edit(std::string_view record, Version* version) {
  EditReader edit(record);
  while (edit.more()) {
    switch (edit.varint()) {
      case 1: edit.skip_text(); break;  // comparator
      case 2: version->log = edit.varint(); break;
      case 3:                        // next file
      case 4:                        // last sequence
      case 9: edit.varint(); break;  // previous log
      case 5:                        // compaction pointer: level, key
        edit.varint();
        edit.skip_text();
        break;
      case 6:  // removed table: level, number
        edit.varint();
        version->tables.erase(edit.varint());
        break;
      case 7: {  // new table: level, number, bytes, first and last key
        edit.varint();
        const std::uint64_t table = edit.varint();
        version->tables[table] = edit.varint();
        edit.skip_text();
        edit.skip_text();
        break;
      }
      default: return corrupt("has a field that this program does not know");
    }
  }
  return edit.ok() ? Status::ok() : corrupt("has a record whose fields do not fit its length");
}

// --- the files of a directory

// "000012.log"
std::string file_name(std::uint64_t n, const char* suffix) {
  std::string digits = number(n);
  if (digits.size() < 6) digits.insert(0, 6 - digits.size(), '0');
  return digits + suffix;
}

std::optional<std::uint64_t> log_number(std::string_view name) {
  if (!name.ends_with(".log")) return std::nullopt;
  std::uint64_t result = 0;
  const char* end = name.data() + name.size() - 4;
  const auto parsed = std::from_chars(name.data(), end, result);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return result;
}

class FileChecker {
 public:
  FileChecker(leveldb::Env* env, const std::string& directory)
      : env_(env), directory_(directory + "/") {}

  Status run() {
    std::vector<std::string> names;
    if (const leveldb::Status s =
            env_->GetChildren(directory_.substr(0, directory_.size() - 1), &names);
        !s.ok()) {
      return to_status(s);
    }
    if (!env_->FileExists(directory_ + "CURRENT")) return check_is_new(names);
    if (Status s = check_manifest(); !s.is_ok()) return s;
    if (Status s = check_tables(); !s.is_ok()) return s;
    if (Status s = check_logs(names); !s.is_ok()) return s;
    for (const WholePart& part : rewrites_) {
      if (Status s = rewrite(part); !s.is_ok()) return s;
    }
    return Status::ok();
  }

 private:
  struct WholePart {
    std::string name;
    std::string bytes;
    bool torn = false;  // there was more
  };

  // LevelDB makes a new database where CURRENT is missing, whatever else is there. Here that is a
  // log that lost a file. A crash before the first start had made CURRENT leaves the first MANIFEST
  // alone.
  static Status check_is_new(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      const bool is_manifest = name.starts_with("MANIFEST-") && name != "MANIFEST-000001";
      if (is_manifest || name.ends_with(".ldb") || name.ends_with(".log")) {
        return corrupt("file CURRENT is missing beside " + name);
      }
    }
    return Status::ok();
  }

  Result<std::string> contents(const std::string& name) {
    std::string bytes;
    const leveldb::Status s = leveldb::ReadFileToString(env_, directory_ + name, &bytes);
    if (s.IsNotFound()) return corrupt("file " + name + " is missing");
    if (!s.ok()) return to_status(s);
    return bytes;
  }

  Result<WholePart> scan_file(const std::string& name,
                              const std::function<Status(std::string_view)>& on_record) {
    Result<std::string> bytes = contents(name);
    if (!bytes.is_ok()) return bytes.status();
    const Result<std::size_t> end = scan(*bytes, on_record);
    if (!end.is_ok()) {
      return Status(end.status().code(), "file " + name + " " + end.status().message());
    }
    const bool torn = *end < bytes->size();
    bytes->resize(*end);
    return WholePart{name, std::move(*bytes), torn};
  }

  Status check_manifest() {
    const Result<std::string> current = contents("CURRENT");
    if (!current.is_ok()) return current.status();
    if (!current->starts_with("MANIFEST-") || !current->ends_with("\n")) {
      return corrupt("file CURRENT names no MANIFEST");
    }
    const std::string name = current->substr(0, current->size() - 1);
    Result<WholePart> part =
        scan_file(name, [&](std::string_view record) { return apply_edit(record, &version_); });
    if (!part.is_ok()) return part.status();
    if (!version_.log) return corrupt("file " + name + " has no whole record that names a log");
    if (part->torn) rewrites_.push_back(std::move(*part));
    return Status::ok();
  }

  Status check_tables() {
    for (const auto& [table, bytes] : version_.tables) {
      const std::string name = file_name(table, ".ldb");
      std::uint64_t size = 0;
      const leveldb::Status s = env_->GetFileSize(directory_ + name, &size);
      if (s.IsNotFound()) return corrupt("file " + name + " is missing");
      if (!s.ok()) return to_status(s);
      if (size != bytes) {
        return corrupt("file " + name + " has " + number(size) + " bytes instead of " +
                       number(bytes));
      }
    }
    return Status::ok();
  }

  Status check_logs(const std::vector<std::string>& names) {
    std::vector<std::uint64_t> logs;
    for (const std::string& name : names) {
      const std::optional<std::uint64_t> n = log_number(name);
      if (n && *n >= *version_.log) logs.push_back(*n);
    }
    std::sort(logs.begin(), logs.end());
    // It is there before a MANIFEST names it.
    if (*version_.log != 0 && (logs.empty() || logs.front() != *version_.log)) {
      return corrupt("file " + file_name(*version_.log, ".log") + " is missing");
    }
    std::string torn;
    for (const std::uint64_t n : logs) {
      Result<WholePart> part = scan_file(
          file_name(n, ".log"), [this](std::string_view record) { return check_batch(record); });
      if (!part.is_ok()) return part.status();
      if (part->bytes.empty() && !part->torn) continue;
      // A log is synced before the next one is written to (SyncedLogsEnv).
      if (!torn.empty()) {
        return corrupt("file " + torn + " is damaged at its end, before " + part->name);
      }
      if (part->torn) torn = part->name;
      rewrites_.push_back(std::move(*part));
    }
    return Status::ok();
  }

  // A batch begins with the sequence number(8) of its first change and their count(4). The next
  // batch goes on from there, also in the next log.
  Status check_batch(std::string_view record) {
    if (record.size() < 12) return corrupt("has a record that is too short");
    const std::uint64_t sequence = little_endian(record.substr(0, 8));
    if (next_sequence_ && sequence != *next_sequence_) {
      return corrupt("lacks what was written before change " + number(sequence) + ", from " +
                     number(*next_sequence_) + " on");
    }
    next_sequence_ = sequence + little_endian(record.substr(8, 4));
    return Status::ok();
  }

  // LevelDB removes the temporary file if this does not get to the end.
  Status rewrite(const WholePart& part) {
    const std::string temporary = directory_ + file_name(0, ".dbtmp");
    leveldb::WritableFile* opened = nullptr;
    leveldb::Status s = env_->NewWritableFile(temporary, &opened);
    const std::unique_ptr<leveldb::WritableFile> file(opened);
    if (s.ok()) s = file->Append(part.bytes);
    if (s.ok()) s = file->Sync();
    if (s.ok()) s = file->Close();
    if (s.ok()) s = env_->RenameFile(temporary, directory_ + part.name);
    return to_status(s);
  }

  leveldb::Env* env_;
  std::string directory_;
  Version version_;
  std::optional<std::uint64_t> next_sequence_;
  std::vector<WholePart> rewrites_;
};

}  // namespace

Status check_files(leveldb::Env* env, const std::string& directory) {
  return FileChecker(env, directory).run();
}

}  // namespace pgraft::storage
