// One peer's outgoing snapshot: which frame comes next, and what became of it. No socket and no
// clock; event loop thread only.
//
//   kSumming    its checksum is being computed, a slice at a time: the event loop waits for none
//   kAnnounce   the header comes next
//   kAnnounced  the receiver is to say how much of this content it has, from an earlier connection
//   kSending    chunks from there on, no more than the window beyond what is acknowledged
//
// A connection that breaks leads back to kAnnounce. The transfer is given up when the receiver has
// been owing an answer, or has been away, for longer than the limit.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/types.h"
#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/rate_limiter.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::transport {

// How a transfer ended.
struct SnapshotOutcome {
  std::size_t messages = 0;  // each to be reported; 0: nothing has ended
  bool arrived = false;
  std::string reason;  // when it has not
};

class SnapshotSender {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // Both must outlive it. The limiter is shared by all senders of a node.
  SnapshotSender(const Config* config, RateLimiter* rate) : config_(config), rate_(rate) {}

  // Takes a kSnapshot message; its data is shared, not copied. With the content of the one that is
  // under way it continues that transfer with the new message, and both messages end with it;
  // otherwise it takes its place, which is that one's end.
  SnapshotOutcome start(raft::Message message, TimePoint now);
  SnapshotOutcome give_up(const std::string& reason);
  SnapshotOutcome give_up_if_overdue(TimePoint now);

  void connected();
  void disconnected(TimePoint now);

  // The header or a chunk; empty when nothing is to be sent now.
  std::string next_frame(TimePoint now);
  // kCorruption: it acknowledges what was never sent. Those of earlier announcements are ignored.
  Result<SnapshotOutcome> acknowledged(const SnapshotAck& ack, TimePoint now);

  // When next_frame() should be tried again, if an acknowledgement doesn't come first.
  std::optional<TimePoint> next_turn() const;
  // When give_up_if_overdue() will, unless something happens.
  std::optional<TimePoint> deadline() const;

  std::uint64_t bytes_acknowledged() const { return acknowledged_; }
  std::uint64_t bytes_total() const { return data().size(); }

 private:
  enum class State : std::uint8_t { kIdle, kSumming, kAnnounce, kAnnounced, kSending };

  std::string_view data() const;
  bool same_content(const raft::Message& message) const;
  void announce_again();
  void sum_slice();
  std::string header();
  std::string next_chunk(TimePoint now);
  void await_answer(TimePoint now);
  SnapshotOutcome end(bool arrived, const std::string& reason);

  const Config* config_;
  RateLimiter* rate_;
  State state_ = State::kIdle;
  bool connected_ = false;
  raft::Message message_;       // the newest; none when idle
  std::size_t messages_ = 0;    // that end with this transfer
  std::uint64_t transfer_ = 0;  // number of the announcement
  std::uint64_t summed_ = 0;    // bytes of the data that crc_ covers
  std::uint32_t crc_ = 0;
  std::uint64_t sent_ = 0;  // bytes, counted from what the receiver had when it was announced
  std::uint64_t acknowledged_ = 0;          // acknowledged_ <= sent_ <= size
  std::optional<TimePoint> turn_;           // kSending: booked for the next chunk
  std::optional<TimePoint> waiting_since_;  // for the receiver
};

}  // namespace pgraft::transport
