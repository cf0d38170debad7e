// Transports on loopback with a recording handler, and snapshots for them to send, for the tests of
// this layer. What is waited for is a condition; only what must not happen is waited for by time.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "libpgraft/base/crc32c.h"
#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/test_data.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::transport::test {

using namespace std::chrono_literals;
using raft::Message;
using raft::MessageType;
using raft::NodeId;

inline constexpr auto kPatience = 30s;  // for what must happen
inline constexpr auto kQuiet = 300ms;   // for what must not

class Recorder final : public Handler {
 public:
  void on_messages(std::vector<Message> got) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Message& m : got) messages.push_back(std::move(m));
    changed_.notify_all();
  }
  void on_report(const failover::Report& report) override {
    record([&] { reports.push_back(report); });
  }
  void on_wal_status(const failover::WalStatus& status) override {
    record([&] { wal_statuses.push_back(status); });
  }
  void on_peer_lost(NodeId id, const std::string& reason) override {
    record([&] { lost.emplace_back(id, reason); });
  }
  void on_refused(const std::string& peer, const std::string& reason) override {
    record([&] { refused.push_back(peer + ": " + reason); });
  }
  void on_snapshot_sent(NodeId id, bool ok) override {
    record([&] { snapshots.emplace_back(id, ok); });
  }
  ClusterStatus on_status_request() override { return some_whole_status(); }

  // Waits until `condition`, evaluated under the lock, holds.
  template <class F>
  bool wait(F condition, std::chrono::milliseconds patience = kPatience) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, patience, condition);
  }
  bool wait_refused(const std::string& part) {
    return wait([&] {
      return std::any_of(refused.begin(), refused.end(),
                         [&](const std::string& r) { return r.find(part) != std::string::npos; });
    });
  }
  bool wait_message(std::uint64_t stamp) {
    return wait([&] {
      return std::any_of(messages.begin(), messages.end(),
                         [&](const Message& m) { return m.stamp == stamp; });
    });
  }

  std::vector<Message> messages;
  std::vector<failover::Report> reports;
  std::vector<failover::WalStatus> wal_statuses;
  std::vector<std::pair<NodeId, std::string>> lost;
  std::vector<std::string> refused;
  std::vector<std::pair<NodeId, bool>> snapshots;

 private:
  template <class F>
  void record(F f) {
    const std::lock_guard<std::mutex> lock(mutex_);
    f();
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
};

inline bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    if (condition()) return true;
    std::this_thread::sleep_for(2ms);
  }
  return condition();
}

inline Config local_config(std::uint16_t port = 0) {
  Config config;
  config.listen_address = "127.0.0.1";
  config.listen_port = port;
  return config;
}

struct Node {
  explicit Node(NodeId id, Config config = local_config()) : Node(some_identity(id), config) {}
  Node(Identity identity, Config config) : self(std::move(identity)) {
    auto started = Transport::start(config, self, &got);
    if (!started.is_ok()) ADD_FAILURE() << started.status().to_string();
    if (started.is_ok()) transport = std::move(*started);
  }
  PeerAddress address() const {
    return {self.node_id, self.incarnation, "127.0.0.1", transport->port()};
  }
  bool connected(NodeId id) const { return transport->peer_stats(id).connected; }

  Identity self;
  Recorder got;
  std::unique_ptr<Transport> transport;
};

inline Message message_to(NodeId from, NodeId to, std::uint64_t stamp,
                          MessageType type = MessageType::kHeartbeat) {
  Message m;
  m.type = type;
  m.from = from;
  m.to = to;
  m.stamp = stamp;
  return m;
}

// No two stretches of it are alike.
inline std::string some_data(std::size_t size, std::uint32_t seed = 1) {
  std::string data(size, '\0');
  for (char& c : data) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return data;
}

inline std::shared_ptr<const raft::Snapshot> some_snapshot(std::size_t size,
                                                           raft::Index index = 12) {
  auto snapshot = std::make_shared<raft::Snapshot>();
  snapshot->meta = {index, 13, {{1, 2}, {3}, {}, {}, false, {{1, 14}}}};
  snapshot->data = some_data(size, static_cast<std::uint32_t>(index));
  return snapshot;
}

inline Message snapshot_to(NodeId from, NodeId to, std::shared_ptr<const raft::Snapshot> snapshot,
                           std::uint64_t stamp = 1) {
  Message m = message_to(from, to, stamp, MessageType::kSnapshot);
  m.term = stamp;
  m.snapshot = std::move(snapshot);
  return m;
}

inline std::shared_ptr<const raft::Snapshot> without_data(const raft::Snapshot& snapshot,
                                                          raft::Index index, raft::Term term) {
  auto result = std::make_shared<raft::Snapshot>();
  result->meta = snapshot.meta;
  result->meta.index = index;
  result->meta.term = term;
  return result;
}

inline SnapshotHeader header_of(const raft::Snapshot& snapshot, std::uint64_t transfer = 1) {
  SnapshotHeader header;
  header.transfer = transfer;
  header.size = snapshot.data.size();
  header.crc = crc32c(snapshot.data);
  header.message =
      snapshot_to(1, 2, without_data(snapshot, snapshot.meta.index, snapshot.meta.term), transfer);
  return header;
}

inline void connect(Node& a, Node& b) {
  a.transport->set_peers({b.address()});
  ASSERT_TRUE(eventually([&] { return a.connected(b.self.node_id); }))
      << a.transport->peer_stats(b.self.node_id).last_error;
}

}  // namespace pgraft::transport::test
