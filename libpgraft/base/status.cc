#include "libpgraft/base/status.h"

namespace pgraft {

const char* code_name(Code code) {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kInvalidArgument: return "invalid_argument";
    case Code::kNotLeader: return "not_leader";
    case Code::kNoQuorum: return "no_quorum";
    case Code::kTimeout: return "timeout";
    case Code::kNotFound: return "not_found";
    case Code::kAlreadyExists: return "already_exists";
    case Code::kFailedPrecondition: return "failed_precondition";
    case Code::kMismatch: return "mismatch";
    case Code::kResourceExhausted: return "resource_exhausted";
    case Code::kCorruption: return "corruption";
    case Code::kIo: return "io_error";
    case Code::kUnavailable: return "unavailable";
    case Code::kAborted: return "aborted";
    case Code::kNoSpace: return "no_space";
  }
  return "unknown";
}

std::string Status::to_string() const {
  if (is_ok()) return "ok";
  return std::string(code_name(code_)) + ": " + message_;
}

Status Status::with_context(const std::string& context) const {
  if (is_ok()) return *this;
  return {code_, context + ": " + message_};
}

Status newer_format(const std::string& what, std::uint64_t found, std::uint64_t known) {
  return {Code::kMismatch, what + " has format " + std::to_string(found) +
                               ", the newest that this version of pgraft knows is " +
                               std::to_string(known) +
                               ": a newer version has written it, install that one again (nothing "
                               "was changed)"};
}

}  // namespace pgraft
