// Payload: the bytes of a log entry.
//
// Immutable, and shared by its copies: the log, the messages to every member and what is being
// written and applied hold the same bytes. Reads like a std::string; to change it, assign another
// one. Copies may be used by different threads.
#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pgraft::raft {

class Payload {
 public:
  Payload() = default;
  // From whatever makes a std::string; one that is moved here is not copied.
  template <class T>
  requires(!std::same_as<std::remove_cvref_t<T>, Payload> && std::convertible_to<T, std::string>)
      Payload(T&& bytes)  // NOLINT: implicit by design
      : Payload(adopt(std::forward<T>(bytes))) {}

  const std::string& str() const { return bytes_ == nullptr ? kNothing : *bytes_; }
  operator const std::string&() const { return str(); }  // NOLINT: implicit by design
  std::size_t size() const { return bytes_ == nullptr ? 0 : bytes_->size(); }
  bool empty() const { return bytes_ == nullptr; }
  const char* data() const { return str().data(); }

  friend bool operator==(const Payload& a, const Payload& b) {
    return a.bytes_ == b.bytes_ || a.str() == b.str();
  }
  template <class T>
  requires std::convertible_to<const T&, std::string_view>
  friend bool operator==(const Payload& a, const T& b) {
    return std::string_view(a.str()) == std::string_view(b);
  }
  friend std::string operator+(std::string a, const Payload& b) { return std::move(a += b.str()); }

 private:
  using Bytes = std::shared_ptr<const std::string>;
  explicit Payload(Bytes&& bytes) : bytes_(std::move(bytes)) {}
  static Bytes adopt(std::string bytes) {
    return bytes.empty() ? nullptr : std::make_shared<const std::string>(std::move(bytes));
  }

  static inline const std::string kNothing;
  Bytes bytes_;  // null: empty
};

}  // namespace pgraft::raft
