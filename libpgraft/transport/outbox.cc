#include "libpgraft/transport/outbox.h"

#include <algorithm>
#include <utility>

namespace pgraft::transport {
namespace {

constexpr std::size_t kFrameMarginBytes =
    64;  // archive and count around a message alone in its frame

}  // namespace

bool OutboxItem::is_repeated() const {
  const auto* message = std::get_if<raft::Message>(&content);
  if (message == nullptr) return false;
  switch (message->type) {
    case raft::MessageType::kAppend:
    case raft::MessageType::kAppendResponse:
    case raft::MessageType::kHeartbeat:
    case raft::MessageType::kHeartbeatResponse: return true;
    default: return false;
  }
}

bool Outboxes::put(raft::NodeId id, OutboxItem item) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  if (found == boxes_.end()) return false;
  Box& box = found->second;
  if (item.bytes + kFrameMarginBytes > kMaxFrameBytes) {
    box.stats.last_error = "message of " + std::to_string(item.bytes) +
                           " bytes is over the limit of a frame, " + std::to_string(kMaxFrameBytes);
  }
  if (item.bytes + kFrameMarginBytes > kMaxFrameBytes || !make_room(&box, item)) {
    ++box.stats.messages_dropped;
    return false;
  }
  box.bytes += item.bytes;
  box.items.push_back(std::move(item));
  return !std::exchange(box.woken, true);
}

bool Outboxes::fits(const Box& box, const OutboxItem& item) const {
  return box.items.size() < messages_max_ && box.bytes + item.bytes <= bytes_max_;
}

bool Outboxes::make_room(Box* box, const OutboxItem& item) {
  if (fits(*box, item)) return true;
  if (item.is_repeated() || item.bytes > bytes_max_) return false;
  for (std::size_t i = box->items.size(); i > 0 && !fits(*box, item); --i) {
    const auto at = box->items.begin() + static_cast<std::ptrdiff_t>(i - 1);
    if (!at->is_repeated()) continue;
    box->bytes -= at->bytes;
    box->items.erase(at);
    ++box->stats.messages_dropped;
  }
  return fits(*box, item);
}

std::vector<OutboxItem> Outboxes::take(raft::NodeId id, std::size_t bytes_max,
                                       std::size_t messages_max) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<OutboxItem> taken;
  const auto found = boxes_.find(id);
  if (found == boxes_.end()) return taken;
  Box& box = found->second;
  box.woken = false;
  std::size_t bytes = 0;
  while (!box.items.empty() && taken.size() < messages_max) {
    OutboxItem& item = box.items.front();
    if (!taken.empty() && bytes + item.bytes > bytes_max) break;
    bytes += item.bytes;
    box.bytes -= item.bytes;
    taken.push_back(std::move(item));
    box.items.pop_front();
  }
  return taken;
}

void Outboxes::add(raft::NodeId id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  boxes_.try_emplace(id);
}

void Outboxes::remove_all_but(const std::vector<raft::NodeId>& ids) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(boxes_, [&](const auto& box) {
    return std::find(ids.begin(), ids.end(), box.first) == ids.end();
  });
}

void Outboxes::disconnected(raft::NodeId id, const std::string& error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  if (found == boxes_.end()) return;
  Box& box = found->second;
  box.stats.messages_dropped += box.items.size();
  box.stats.connected = false;
  box.stats.last_error = error;
  box.items.clear();
  box.bytes = 0;
}

void Outboxes::connected(raft::NodeId id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  if (found != boxes_.end()) found->second.stats.connected = true;
}

void Outboxes::sent(raft::NodeId id, const Traffic& traffic) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  if (found == boxes_.end()) return;
  PeerStats& stats = found->second.stats;
  stats.messages_sent += traffic.messages();
  stats.bytes_sent += traffic.bytes();
  stats.sent += traffic;
}

void Outboxes::received(raft::NodeId id, const Traffic& traffic) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  if (found != boxes_.end()) found->second.stats.received += traffic;
}

void Outboxes::dropped(raft::NodeId id, std::size_t messages, const std::string& error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  if (found == boxes_.end()) return;
  found->second.stats.messages_dropped += messages;
  found->second.stats.last_error = error;
}

void Outboxes::snapshot_progress(raft::NodeId id, std::uint64_t bytes_sent,
                                 std::uint64_t bytes_total) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  if (found == boxes_.end()) return;
  found->second.stats.snapshot_bytes_sent = bytes_sent;
  found->second.stats.snapshot_bytes_total = bytes_total;
}

PeerStats Outboxes::stats(raft::NodeId id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  return found == boxes_.end() ? PeerStats() : found->second.stats;
}

}  // namespace pgraft::transport
