#include "libpgraft/transport/environment.h"

namespace pgraft::transport {
namespace {

constexpr std::chrono::seconds kRepeatAfter{30};
constexpr std::size_t kRememberedMax = 256;

}  // namespace

void Refusals::report(const std::string& peer, const std::string& reason) {
  ++count_;
  const auto now = std::chrono::steady_clock::now();
  const auto found = told_.find(peer);
  if (found != told_.end() && found->second.reason == reason &&
      now - found->second.when < kRepeatAfter) {
    return;
  }
  if (told_.size() >= kRememberedMax) told_.clear();
  told_[peer] = {reason, now};
  handler_->on_refused(peer, reason);
}

}  // namespace pgraft::transport
