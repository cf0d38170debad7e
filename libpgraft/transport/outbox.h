// What waits to be sent, per peer, bounded in messages and bytes; and each peer's statistics. All
// methods may be called from any thread.
//
// Snapshots don't queue here (snapshot_sender.h). Over the bound heartbeats and appends go first,
// the newest ones: Raft sends them again, while a lost vote or TimeoutNow costs an election.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "libpgraft/failover/types.h"
#include "libpgraft/raft/types.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::transport {

struct OutboxItem {
  std::variant<raft::Message, failover::Report, failover::WalStatus> content;
  std::size_t bytes = 0;
  bool is_repeated() const;  // heartbeats, appends and their responses
};

class Outboxes {
 public:
  Outboxes(std::size_t messages_max, std::size_t bytes_max)
      : messages_max_(messages_max), bytes_max_(bytes_max) {}

  // True when the sender sleeps: tell it.
  bool put(raft::NodeId id, OutboxItem item);

  // The oldest items, at least one if there is any, no more than `bytes_max` beyond the first.
  std::vector<OutboxItem> take(raft::NodeId id, std::size_t bytes_max, std::size_t messages_max);

  void add(raft::NodeId id);
  void remove_all_but(const std::vector<raft::NodeId>& ids);
  // Messages do not outlive the connection (attempt) they waited for.
  void disconnected(raft::NodeId id, const std::string& error);

  void connected(raft::NodeId id);
  void sent(raft::NodeId id, const Traffic& traffic);
  void received(raft::NodeId id, const Traffic& traffic);  // from a peer that has an outbox
  void dropped(raft::NodeId id, std::size_t messages, const std::string& error);
  void snapshot_progress(raft::NodeId id, std::uint64_t bytes_sent, std::uint64_t bytes_total);
  PeerStats stats(raft::NodeId id) const;

 private:
  struct Box {
    std::deque<OutboxItem> items;
    std::size_t bytes = 0;
    bool woken = false;
    PeerStats stats;
  };
  bool fits(const Box& box, const OutboxItem& item) const;
  bool make_room(Box* box, const OutboxItem& item);

  const std::size_t messages_max_;
  const std::size_t bytes_max_;
  mutable std::mutex mutex_;
  std::map<raft::NodeId, Box> boxes_;
};

}  // namespace pgraft::transport
