// Text files of `key = value` lines, strictly read and written; the form of the member files.
// Internal to this layer.
//
// The first line is `format = 1`. Every key must be there exactly once, unless it is read as a
// list; nothing else may be. A message about a damaged file names the file and the line.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "libpgraft/base/status.h"

namespace pgraft::node {

// kNotFound when there is no such file; kResourceExhausted above 1 MB (nothing of ours is that
// large).
Result<std::string> read_file(const std::string& path);

// Strict decimal: digits only, no sign, no blanks, no leading zeros, within `max`.
bool parse_number(const std::string& text, std::uint64_t max, std::uint64_t* value);

// An LSN as PostgreSQL writes it: "16/B374D848".
std::string format_lsn(std::uint64_t lsn);
bool parse_lsn(const std::string& text, std::uint64_t* lsn);

class TextWriter {
 public:
  TextWriter() { field("format", "1"); }
  // Control characters would break the lines: they become blanks.
  void field(const std::string& key, const std::string& value);
  void field(const std::string& key, std::uint64_t value) { field(key, std::to_string(value)); }
  const std::string& content() const { return content_; }

 private:
  std::string content_;
};

class TextReader {
 public:
  // Splits the file into its lines. kMismatch: of another format.
  static Result<TextReader> open(const std::string& path);
  // The same of what the file at `path` (for messages) holds.
  static Result<TextReader> parse(const std::string& path, const std::string& content);

  std::string text(const std::string& key);
  template <class T>
  T number(const std::string& key) {
    return static_cast<T>(number(key, static_cast<T>(~T{0})));
  }
  std::uint64_t lsn(const std::string& key);
  // Every value of a key that may be there any number of times, in order.
  std::vector<std::string> list(const std::string& key);

  // Something is wrong with the value of `key`.
  void fail(const std::string& key, const std::string& why);

  // kCorruption when anything above failed or a key was not asked for.
  Status finish();

 private:
  struct Line {
    std::string key, value;
    int number = 0;
    bool used = false;
  };
  std::uint64_t number(const std::string& key, std::uint64_t max);
  Line* take(const std::string& key);
  void fail_at(int line, const std::string& why);

  std::string path_;
  std::vector<Line> lines_;
  Status status_;
};

}  // namespace pgraft::node
