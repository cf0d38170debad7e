#include "libpgraft/transport/outbox.h"

#include <algorithm>

namespace pgraft::transport {
namespace {

constexpr std::size_t kFrameMarginBytes =
    64;  // archive and count around a message alone in its frame

std::size_t count_snapshots(const std::deque<OutboxItem>& items) {
  return static_cast<std::size_t>(std::count_if(
      items.begin(), items.end(), [](const OutboxItem& item) { return item.is_snapshot(); }));
}

}  // namespace

bool OutboxItem::is_snapshot() const {
  const auto* message = std::get_if<raft::Message>(&content);
  return message != nullptr && message->type == raft::MessageType::kSnapshot;
}

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

Outboxes::PutResult Outboxes::put(raft::NodeId id, OutboxItem item) {
  const std::lock_guard<std::mutex> lock(mutex_);
  PutResult result;
  const auto found = boxes_.find(id);
  if (found == boxes_.end()) {
    result.snapshots_dropped = item.is_snapshot() ? 1 : 0;
    return result;
  }
  Box& box = found->second;
  if (item.bytes + kFrameMarginBytes > kMaxFrameBytes) {
    box.stats.last_error = "message of " + std::to_string(item.bytes) +
                           " bytes is over the limit of a frame, " + std::to_string(kMaxFrameBytes);
  }
  if (item.bytes + kFrameMarginBytes > kMaxFrameBytes || !make_room(&box, item)) {
    ++box.stats.messages_dropped;
    result.snapshots_dropped = item.is_snapshot() ? 1 : 0;
    return result;
  }
  box.bytes += item.bytes;
  box.items.push_back(std::move(item));
  result.wake = !box.woken;
  box.woken = true;
  return result;
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

void Outboxes::remove_all_but(const std::vector<raft::NodeId>& ids,
                              std::vector<raft::NodeId>* snapshots_of) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto it = boxes_.begin(); it != boxes_.end();) {
    if (std::find(ids.begin(), ids.end(), it->first) != ids.end()) {
      ++it;
      continue;
    }
    snapshots_of->insert(snapshots_of->end(), count_snapshots(it->second.items), it->first);
    it = boxes_.erase(it);
  }
}

std::size_t Outboxes::disconnected(raft::NodeId id, const std::string& error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  if (found == boxes_.end()) return 0;
  Box& box = found->second;
  const std::size_t snapshots = count_snapshots(box.items);
  box.stats.messages_dropped += box.items.size();
  box.stats.connected = false;
  box.stats.last_error = error;
  box.items.clear();
  box.bytes = 0;
  return snapshots;
}

void Outboxes::connected(raft::NodeId id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  if (found != boxes_.end()) found->second.stats.connected = true;
}

void Outboxes::sent(raft::NodeId id, std::size_t messages, std::size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  if (found == boxes_.end()) return;
  found->second.stats.messages_sent += messages;
  found->second.stats.bytes_sent += bytes;
}

PeerStats Outboxes::stats(raft::NodeId id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = boxes_.find(id);
  return found == boxes_.end() ? PeerStats() : found->second.stats;
}

}  // namespace pgraft::transport
