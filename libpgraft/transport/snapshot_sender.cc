#include "libpgraft/transport/snapshot_sender.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "libpgraft/base/crc32c.h"
#include "libpgraft/transport/frame.h"
#include "libpgraft/transport/handshake.h"

namespace pgraft::transport {
namespace {

constexpr std::size_t kSliceBytes = 4u << 20;  // some milliseconds of the event loop's time

}  // namespace

std::string_view SnapshotSender::data() const {
  return message_.snapshot == nullptr ? std::string_view() : message_.snapshot->data;
}

// Index and term determine the state that a snapshot holds. The receiver compares the checksum,
// too.
bool SnapshotSender::same_content(const raft::Message& message) const {
  if (message_.snapshot == nullptr || message.snapshot == nullptr) return false;
  return message_.snapshot->meta == message.snapshot->meta &&
         message_.snapshot->data.size() == message.snapshot->data.size();
}

SnapshotOutcome SnapshotSender::start(raft::Message message, TimePoint now) {
  SnapshotOutcome replaced;
  const bool same = state_ != State::kIdle && same_content(message);
  if (!same && state_ != State::kIdle) replaced = end(false, "another snapshot took its place");
  if (!same || message_.snapshot != message.snapshot) summed_ = crc_ = 0;
  message_ = std::move(message);
  ++messages_;
  announce_again();
  waiting_since_.reset();
  if (!connected_) await_answer(now);
  return replaced;
}

void SnapshotSender::connected() {
  connected_ = true;
  if (state_ != State::kIdle) announce_again();
}

// It may be told more than once, after each attempt to connect.
void SnapshotSender::disconnected(TimePoint now) {
  connected_ = false;
  if (state_ != State::kIdle) await_answer(now);
}

// Under a new number: what answers the announcement before is void. That may be the whole's
// acknowledgement, but it was for the message before.
void SnapshotSender::announce_again() {
  ++transfer_;
  turn_.reset();
  state_ = summed_ < data().size() ? State::kSumming : State::kAnnounce;
}

std::string SnapshotSender::next_frame(TimePoint now) {
  if (!connected_) return {};
  if (state_ == State::kSumming) sum_slice();
  switch (state_) {
    case State::kAnnounce:
      state_ = State::kAnnounced;
      await_answer(now);
      return header();
    case State::kSending: return next_chunk(now);
    case State::kIdle:
    case State::kSumming:
    case State::kAnnounced: return {};
  }
  return {};
}

void SnapshotSender::sum_slice() {
  const std::string_view slice = data().substr(summed_, kSliceBytes);
  crc_ = crc32c(slice, crc_);
  summed_ += slice.size();
  if (summed_ == data().size()) state_ = State::kAnnounce;
}

std::string SnapshotSender::header() {
  SnapshotHeader header{transfer_, data().size(), crc_, message_};
  if (message_.snapshot != nullptr) {
    header.message.snapshot =
        std::make_shared<raft::Snapshot>(raft::Snapshot{message_.snapshot->meta, ""});
  }
  return encode_frame(FrameType::kSnapshotHeader, encode(header));
}

std::string SnapshotSender::next_chunk(TimePoint now) {
  const std::size_t window = config_->snapshot_chunk_bytes * config_->snapshot_window_chunks;
  if (sent_ == data().size() || sent_ - acknowledged_ >= window) return {};
  const std::string_view chunk = data().substr(sent_, config_->snapshot_chunk_bytes);
  if (!turn_) turn_ = rate_->book(now, chunk.size());
  if (now < *turn_) return {};
  turn_.reset();
  std::string frame =
      encode_frame(FrameType::kSnapshotChunk, encode_chunk(transfer_, sent_, chunk));
  sent_ += chunk.size();
  await_answer(now);
  return frame;
}

// Since when it is waited for, not since the last thing that was sent: only the receiver's answers
// move the deadline.
void SnapshotSender::await_answer(TimePoint now) {
  if (!waiting_since_) waiting_since_ = now;
}

Result<SnapshotOutcome> SnapshotSender::acknowledged(const SnapshotAck& ack, TimePoint now) {
  const bool announced = state_ == State::kAnnounced || state_ == State::kSending;
  if (!announced || ack.transfer != transfer_) return SnapshotOutcome();
  if (ack.answer == SnapshotAnswer::kRefused) {
    return end(false, "the snapshot was refused: " + clean_reason(ack.reason));
  }
  const std::uint64_t size = data().size();
  const std::uint64_t least = state_ == State::kSending ? acknowledged_ : 0;
  const std::uint64_t most = state_ == State::kSending ? sent_ : size;
  const bool done = ack.answer == SnapshotAnswer::kDone;
  if (ack.received < least || ack.received > most || (done && ack.received != size)) {
    return Status(Code::kCorruption, "received an acknowledgement of " +
                                         std::to_string(ack.received) + " bytes of a snapshot, " +
                                         std::to_string(least) + " to " + std::to_string(most) +
                                         " were possible");
  }
  if (state_ == State::kAnnounced) sent_ = ack.received;
  state_ = State::kSending;
  acknowledged_ = ack.received;
  if (done) return end(true, "");
  waiting_since_.reset();
  if (acknowledged_ < sent_ || sent_ == size) await_answer(now);
  return SnapshotOutcome();
}

std::optional<SnapshotSender::TimePoint> SnapshotSender::next_turn() const {
  if (!connected_) return {};
  if (state_ == State::kSumming) return TimePoint();
  return turn_;
}

std::optional<SnapshotSender::TimePoint> SnapshotSender::deadline() const {
  if (!waiting_since_) return {};
  return *waiting_since_ + config_->snapshot_stall_timeout;
}

SnapshotOutcome SnapshotSender::give_up_if_overdue(TimePoint now) {
  const std::optional<TimePoint> at = deadline();
  if (!at || now < *at) return {};
  return give_up(connected_ ? "the snapshot was given up: no acknowledgement came"
                            : "the snapshot was given up: the connection did not come back");
}

SnapshotOutcome SnapshotSender::give_up(const std::string& reason) {
  return state_ == State::kIdle ? SnapshotOutcome() : end(false, reason);
}

SnapshotOutcome SnapshotSender::end(bool arrived, const std::string& reason) {
  SnapshotOutcome outcome{messages_, arrived, reason};
  state_ = State::kIdle;
  message_ = raft::Message();
  messages_ = 0;
  sent_ = acknowledged_ = 0;
  turn_.reset();
  waiting_since_.reset();
  return outcome;
}

}  // namespace pgraft::transport
