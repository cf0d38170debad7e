#include "libpgraft/node/leadership_timer.h"

#include <algorithm>

namespace pgraft::node {

namespace {

std::uint32_t ms_between(LeadershipTimer::Time from, LeadershipTimer::Time to) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(to - from).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(ms, 0, UINT32_MAX));
}

}  // namespace

std::optional<state::LeaderChange> LeadershipTimer::update(const View& view, Time now) {
  if (view.leader != view.self || view.leader == raft::kNoNode) {
    if (view.leader != raft::kNoNode) {
      lost_.reset();
    } else if (!lost_) {
      lost_ = now;
    }
    return std::nullopt;
  }
  if (view.term != term_) {
    term_ = view.term;
    elected_ = now;
    election_ms_ = lost_ ? ms_between(*lost_, now) : 0;
    lost_.reset();
    has_agreed_ = is_promoted_ = is_done_ = false;
  }
  if (is_done_) return std::nullopt;
  if (!has_agreed_ && view.promotions.of_term) {
    has_agreed_ = true;
    agreed_ = now;
  }
  if (has_agreed_ && !is_promoted_ && view.promotions.done_of_term) {
    is_promoted_ = true;
    promoted_ = now;
  }
  if (!is_promoted_ || !view.writable) return std::nullopt;
  is_done_ = true;
  state::LeaderChange change;
  change.term = view.term;
  change.node = view.self;
  change.timeline = view.promotions.done_of_term->timeline;
  change.election_ms = election_ms_;
  change.agreement_ms = ms_between(elected_, agreed_);
  change.promotion_ms = ms_between(agreed_, promoted_);
  change.opening_ms = ms_between(promoted_, now);
  return change;
}

}  // namespace pgraft::node
