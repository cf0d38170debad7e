// Status and Result<T>: how every boundary of libpgraft reports failure.
//
// A Status is a code (what kind of thing went wrong, so that callers can branch and the extension
// can choose an SQLSTATE) and a message that says what to do. Messages are in PostgreSQL's style:
// lower case, no full stop. Exceptions of libraries end at the adapter that called them and become
// a Status there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace pgraft {

enum class Code : std::uint8_t {
  kOk = 0,
  kInvalidArgument,  // the caller's input is malformed or out of range
  kNotLeader,        // only the leader can do this; the message names the leader when it is known
  kNoQuorum,         // too few members answer
  kTimeout,          // the outcome is unknown
  kNotFound,         // no such member, key, entry
  kAlreadyExists,    // duplicate member, key
  kFailedPrecondition,  // right request, wrong moment: the message says what must come first
  kMismatch,  // identity differs: cluster, incarnation, system identifier, protocol version; or a
              // newer version of pgraft has written it
  kResourceExhausted,  // a bound was reached: the message names the bound
  kCorruption,         // stored or received data fails its checks
  kIo,                 // the operating system said no
  kUnavailable,        // the other side can't be reached, or is shutting down
  kAborted,            // given up because something newer took its place
  kNoSpace,            // the disk is full: possible again once there is room
};

// Name of a code for logs ("not_leader").
const char* code_name(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status ok() { return {}; }
  bool is_ok() const { return code_ == Code::kOk; }
  explicit operator bool() const { return is_ok(); }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  // "not_leader: node 2 leads"
  std::string to_string() const;

  // The same code with `context` put before the message: "open log: disk full".
  Status with_context(const std::string& context) const;

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// What a newer version has written: sound, but not to be understood here. kMismatch, so that nobody
// takes it for damage and throws it away.
Status newer_format(const std::string& what, std::uint64_t found, std::uint64_t known);

// A value, or the Status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT: implicit by design
  Result(Status status) : status_(std::move(status)) {}  // NOLINT: implicit by design

  bool is_ok() const { return value_.has_value(); }
  explicit operator bool() const { return is_ok(); }
  const Status& status() const { return status_; }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace pgraft
