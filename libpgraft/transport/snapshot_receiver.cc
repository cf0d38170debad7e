#include "libpgraft/transport/snapshot_receiver.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>

#include "libpgraft/base/crc32c.h"
#include "libpgraft/state/state_machine.h"

namespace pgraft::transport {
namespace {

constexpr std::size_t kMaxTransfers = state::kMaxMembers;

// Grows by doubling, and never beyond what the whole takes.
Status append(std::string* data, const std::string& piece, std::uint64_t whole) {
  try {
    const std::size_t needed = data->size() + piece.size();
    if (needed > data->capacity()) {
      data->reserve(std::max<std::size_t>(
          needed, std::min<std::uint64_t>(whole, std::uint64_t{2} * data->capacity())));
    }
    data->append(piece);
    return Status::ok();
  } catch (const std::exception& e) {  // the allocator's
    return {Code::kResourceExhausted,
            "no memory for a snapshot of " + std::to_string(whole) + " bytes: " + e.what()};
  }
}

}  // namespace

bool SnapshotReceiver::same_content(const Incoming& incoming, raft::Incarnation incarnation,
                                    const SnapshotHeader& header) {
  const auto& one = incoming.header.message.snapshot;
  const auto& other = header.message.snapshot;
  return incoming.incarnation == incarnation && one != nullptr && other != nullptr &&
         one->meta == other->meta && incoming.header.size == header.size &&
         incoming.header.crc == header.crc;
}

Status SnapshotReceiver::admit(const SnapshotHeader& header) const {
  if (header.size > bytes_max_) {
    return {Code::kResourceExhausted, "the snapshot has " + std::to_string(header.size) +
                                          " bytes, the limit is " + std::to_string(bytes_max_)};
  }
  if (incoming_.size() >= kMaxTransfers) {
    return {Code::kResourceExhausted,
            "too many snapshots are being received, the limit is " + std::to_string(kMaxTransfers)};
  }
  return Status::ok();
}

SnapshotReceiver::Step SnapshotReceiver::on_header(raft::NodeId peer, raft::Incarnation incarnation,
                                                   SnapshotHeader header, TimePoint now) {
  const auto found = incoming_.find(peer);
  if (found == incoming_.end() || !same_content(found->second, incarnation, header)) {
    if (found != incoming_.end()) incoming_.erase(found);
    if (Status s = admit(header); !s) return refuse(peer, header.transfer, s.message());
    incoming_[peer].incarnation = incarnation;
  }
  Incoming& incoming = incoming_[peer];
  incoming.header = std::move(header);
  incoming.heard = now;
  return go_on(peer);
}

SnapshotReceiver::Step SnapshotReceiver::on_chunk(raft::NodeId peer, const SnapshotChunk& chunk,
                                                  TimePoint now) {
  const auto found = incoming_.find(peer);
  if (found == incoming_.end() || found->second.header.transfer != chunk.transfer) {
    return {{chunk.transfer, 0, SnapshotAnswer::kRefused, "it is not (or no longer) announced"},
            {}};
  }
  Incoming& incoming = found->second;
  const std::uint64_t received = incoming.data.size();
  if (chunk.offset != received) {
    return refuse(peer, chunk.transfer,
                  "a chunk begins at byte " + std::to_string(chunk.offset) + ", not at " +
                      std::to_string(received));
  }
  if (chunk.data.empty() || chunk.data.size() > incoming.header.size - received) {
    return refuse(peer, chunk.transfer,
                  "a chunk has " + std::to_string(chunk.data.size()) + " bytes, " +
                      std::to_string(incoming.header.size - received) + " are missing");
  }
  if (Status s = append(&incoming.data, chunk.data, incoming.header.size); !s) {
    return refuse(peer, chunk.transfer, s.message());
  }
  incoming.crc = crc32c(chunk.data, incoming.crc);
  incoming.heard = now;
  return go_on(peer);
}

SnapshotReceiver::Step SnapshotReceiver::go_on(raft::NodeId peer) {
  Incoming& incoming = incoming_[peer];
  const SnapshotHeader& header = incoming.header;
  const std::uint64_t received = incoming.data.size();
  if (received < header.size) {
    return {{header.transfer, received, SnapshotAnswer::kReceiving, ""}, {}};
  }
  if (incoming.crc != header.crc) {
    return refuse(peer, header.transfer, "the data does not match its checksum");
  }
  Step done;
  done.ack = {header.transfer, received, SnapshotAnswer::kDone, ""};
  raft::Message& message = done.message.emplace(header.message);
  if (message.snapshot != nullptr) {
    message.snapshot = std::make_shared<raft::Snapshot>(
        raft::Snapshot{message.snapshot->meta, std::move(incoming.data)});
  }
  incoming_.erase(peer);
  return done;
}

SnapshotReceiver::Step SnapshotReceiver::refuse(raft::NodeId peer, std::uint64_t transfer,
                                                std::string reason) {
  incoming_.erase(peer);
  return {{transfer, 0, SnapshotAnswer::kRefused, std::move(reason)}, {}};
}

void SnapshotReceiver::drop_stalled(TimePoint now) {
  std::erase_if(incoming_,
                [&](const auto& entry) { return now - entry.second.heard >= stall_timeout_; });
}

std::optional<SnapshotReceiver::TimePoint> SnapshotReceiver::next_deadline() const {
  std::optional<TimePoint> next;
  for (const auto& [peer, incoming] : incoming_) {
    const TimePoint at = incoming.heard + stall_timeout_;
    if (!next || at < *next) next = at;
  }
  return next;
}

}  // namespace pgraft::transport
