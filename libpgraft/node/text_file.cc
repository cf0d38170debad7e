#include "libpgraft/node/text_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace pgraft::node {

namespace {

constexpr std::size_t kMaxFileBytes = 1u << 20;
constexpr std::uint64_t kTextFormat = 1;

Status damaged(const std::string& path, int line, const std::string& why) {
  return {Code::kCorruption, path + ", line " + std::to_string(line) + ": " + why};
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

}  // namespace

Result<std::string> read_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const int error = errno;
    return Status(error == ENOENT || error == ENOTDIR ? Code::kNotFound : Code::kIo,
                  "could not open file \"" + path + "\": " + std::strerror(error));
  }
  std::string content;
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      ::close(fd);
      return Status(Code::kIo, "could not read file \"" + path + "\": " + std::strerror(error));
    }
    if (n == 0) break;
    content.append(buffer, static_cast<std::size_t>(n));
    if (content.size() > kMaxFileBytes) {
      ::close(fd);
      return Status(Code::kResourceExhausted, "file \"" + path + "\" is larger than " +
                                                  std::to_string(kMaxFileBytes) + " bytes");
    }
  }
  ::close(fd);
  return content;
}

bool parse_number(const std::string& text, std::uint64_t max, std::uint64_t* value) {
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return false;
  std::uint64_t result = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (result > (max - digit) / 10) return false;
    result = result * 10 + digit;
  }
  *value = result;
  return true;
}

std::string format_lsn(std::uint64_t lsn) {
  char text[32];
  std::snprintf(text, sizeof(text), "%X/%X", static_cast<unsigned>(lsn >> 32),
                static_cast<unsigned>(lsn));
  return text;
}

bool parse_lsn(const std::string& text, std::uint64_t* lsn) {
  std::uint64_t halves[2] = {0, 0};
  int half = 0, digits = 0;
  for (const char c : text) {
    if (c == '/' && half == 0 && digits > 0) {
      half = 1;
      digits = 0;
      continue;
    }
    const char* kDigits = "0123456789ABCDEF";
    const char* found = std::strchr(kDigits, c);
    if (c == '\0' || found == nullptr || ++digits > 8) return false;
    halves[half] = halves[half] * 16 + static_cast<std::uint64_t>(found - kDigits);
  }
  if (half != 1 || digits == 0) return false;
  *lsn = halves[0] << 32 | halves[1];
  return true;
}

void TextWriter::field(const std::string& key, const std::string& value) {
  std::string line = value;
  for (char& c : line) {
    if (is_control(c)) c = ' ';
  }
  content_ += key + " = " + line + "\n";
}

Result<TextReader> TextReader::open(const std::string& path) {
  Result<std::string> content = read_file(path);
  if (!content) return content.status();
  return parse(path, *content);
}

Result<TextReader> TextReader::parse(const std::string& path, const std::string& content) {
  TextReader reader;
  reader.path_ = path;
  int number = 0;
  for (std::size_t at = 0; at < content.size();) {
    ++number;
    const std::size_t end = content.find('\n', at);
    if (end == std::string::npos) return damaged(path, number, "the line is not ended");
    const std::string line = content.substr(at, end - at);
    at = end + 1;
    if (std::any_of(line.begin(), line.end(), is_control)) {  // never written; see field()
      return damaged(path, number, "a control character");
    }
    const std::size_t equals = line.find(" = ");
    if (equals == std::string::npos || equals == 0) {
      return damaged(path, number, "not of the form \"key = value\"");
    }
    reader.lines_.push_back({line.substr(0, equals), line.substr(equals + 3), number, false});
  }
  if (reader.lines_.empty() || reader.lines_[0].key != "format") {
    return damaged(path, 1, "\"format\" must come first");
  }
  std::uint64_t format = 0;
  if (!parse_number(reader.lines_[0].value, ~0ull, &format) || format == 0) {
    return damaged(path, 1, "\"format\" is not a number above 0");
  }
  if (format > kTextFormat) return newer_format("file \"" + path + "\"", format, kTextFormat);
  reader.lines_[0].used = true;
  return reader;
}

void TextReader::fail_at(int line, const std::string& why) {
  if (status_) status_ = damaged(path_, line, why);
}

void TextReader::fail(const std::string& key, const std::string& why) {
  const std::string message = "\"" + key + "\" " + why;
  for (const Line& line : lines_) {
    if (line.key == key) return fail_at(line.number, message);
  }
  fail_at(static_cast<int>(lines_.size()), message);
}

TextReader::Line* TextReader::take(const std::string& key) {
  for (Line& line : lines_) {
    if (line.key != key || line.used) continue;
    line.used = true;
    return &line;
  }
  return nullptr;
}

std::string TextReader::text(const std::string& key) {
  if (const Line* line = take(key)) return line->value;
  fail_at(static_cast<int>(lines_.size()), "\"" + key + "\" is missing");
  return {};
}

std::uint64_t TextReader::number(const std::string& key, std::uint64_t max) {
  const std::string value = text(key);
  std::uint64_t result = 0;
  if (status_ && !parse_number(value, max, &result)) {
    fail(key, "is not a number from 0 to " + std::to_string(max));
  }
  return result;
}

std::uint64_t TextReader::lsn(const std::string& key) {
  const std::string value = text(key);
  std::uint64_t result = 0;
  if (status_ && !parse_lsn(value, &result)) fail(key, "is not an LSN");
  return result;
}

std::vector<std::string> TextReader::list(const std::string& key) {
  std::vector<std::string> values;
  for (Line& line : lines_) {
    if (line.key != key || line.used) continue;
    line.used = true;
    values.push_back(line.value);
  }
  return values;
}

Status TextReader::finish() {
  for (const Line& line : lines_) {
    if (!line.used) fail_at(line.number, "\"" + line.key + "\" is not expected here");
  }
  return status_;
}

}  // namespace pgraft::node
