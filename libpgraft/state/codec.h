// Writer and Reader: cereal's portable binary archive with a version in front and with bounds.
//
// cereal takes memory for whatever length it reads; stored and received bytes can't be trusted that
// far. So lengths and counts are read and written here, and checked against the bytes that are left
// before anything is allocated. A Reader that failed stays failed and returns zeros; callers check
// status() once, at the end. Byte order is fixed to little-endian, so that the same values give the
// same bytes on every machine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "libpgraft/base/status.h"
#include "libpgraft/state/byte_archive.h"

namespace pgraft::state {

class Writer {
 public:
  explicit Writer(std::uint8_t version) : archive_(&bytes_) { number(version); }

  template <class T>
  void number(T value) {
    static_assert(std::is_integral_v<T>);
    archive_(value);
  }
  void text(const std::string& value) {
    number(static_cast<std::uint32_t>(value.size()));
    archive_(cereal::binary_data(value.data(), value.size()));
  }
  void count(std::size_t n) { number(static_cast<std::uint32_t>(n)); }

  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
  ByteWriter archive_;
};

// `data` must outlive the reader.
class Reader {
 public:
  // `what` names the thing in messages ("command").
  Reader(const std::string& data, std::uint8_t version, const char* what)
      : what_(what), archive_(begins_well(data) ? std::string_view(data) : kNothing) {
    if (!begins_well(data)) fail("it does not begin as it should");
    const auto found = number<std::uint8_t>();
    if (status_ && found == 0) fail("unknown version 0");
    if (found > version) refuse_newer(what_, found, version);
  }

  template <class T>
  T number() {
    static_assert(std::is_integral_v<T>);
    T value = 0;
    if (status_ && remaining() < sizeof(T)) fail("it ends too early");
    if (status_) archive_(value);
    return value;
  }
  bool flag() {
    const auto value = number<std::uint8_t>();
    if (value > 1) fail("a flag that is neither 0 nor 1");
    return value == 1;
  }
  std::string text(std::size_t max_bytes) {
    const auto size = number<std::uint32_t>();
    if (status_ && (size > max_bytes || size > remaining())) {
      fail("a text of " + std::to_string(size) + " bytes where " +
           std::to_string(std::min(max_bytes, remaining())) + " fit");
    }
    if (!status_) return {};
    std::string value(size, '\0');
    archive_(cereal::binary_data(value.data(), value.size()));
    return value;
  }
  // How many elements follow; each takes at least `element_bytes`.
  std::size_t count(std::size_t max, std::size_t element_bytes) {
    const auto n = number<std::uint32_t>();
    if (status_ && (n > max || n > remaining() / element_bytes)) {
      fail(std::to_string(n) + " elements where fewer fit");
    }
    return status_ ? n : 0;
  }

  void fail(const std::string& why) {
    if (status_) status_ = Status(Code::kCorruption, std::string(what_) + " is damaged: " + why);
  }
  void refuse_newer(const std::string& what, std::uint64_t found, std::uint64_t known) {
    if (status_) status_ = newer_format(what, found, known);
  }
  std::size_t remaining() const { return archive_.remaining(); }
  const Status& status() const { return status_; }
  // The end of decoding: all bytes must have been used.
  Status finish() {
    if (status_ && remaining() != 0) fail(std::to_string(remaining()) + " bytes left over");
    return status_;
  }

 private:
  static constexpr std::string_view kNothing{&kLittleEndian, 1};
  static bool begins_well(const std::string& data) {
    return !data.empty() && data[0] == kLittleEndian;
  }

  const char* what_;
  ByteReader archive_;
  Status status_;
};

}  // namespace pgraft::state
