// Snapshots in chunks between real transports on loopback: what is cut, restarted, refused or
// silent in the middle of a transfer.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <set>
#include <thread>

#include "libpgraft/transport/asio.h"
#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/frame.h"
#include "libpgraft/transport/test_node.h"

namespace pgraft::transport {
namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;
using raft::Message;
using raft::MessageType;
using raft::NodeId;
using test::connect;
using test::eventually;
using test::header_of;
using test::local_config;
using test::message_to;
using test::Node;
using test::snapshot_to;
using test::some_snapshot;
using testing::HasSubstr;
using Reports = std::vector<std::pair<NodeId, bool>>;

constexpr std::size_t kBig = 20u << 20;

Config unlimited() {
  Config config = local_config();
  config.snapshot_bytes_per_second = 0;
  return config;
}

// Slow enough for something to happen in the middle.
Config slow(std::uint64_t bytes_per_second = 2u << 20) {
  Config config = local_config();
  config.snapshot_bytes_per_second = bytes_per_second;
  return config;
}

bool under_way(const Node& node, NodeId to, std::uint64_t bytes) {
  return eventually([&] { return node.transport->peer_stats(to).snapshot_bytes_sent >= bytes; });
}

Reports reports_of(Node& node, std::size_t count) {
  EXPECT_TRUE(node.got.wait([&] { return node.got.snapshots.size() >= count; }));
  Reports reports;
  node.got.wait([&] {
    reports = node.got.snapshots;
    return true;
  });
  return reports;
}

std::vector<Message> snapshots_at(Node& node, std::size_t count) {
  std::vector<Message> found;
  EXPECT_TRUE(node.got.wait([&] {
    found.clear();
    for (const Message& m : node.got.messages) {
      if (m.type == MessageType::kSnapshot) found.push_back(m);
    }
    return found.size() >= count;
  }));
  return found;
}

TEST(SnapshotOverTcp, BigOneArrivesBitByBitWhileHeartbeatsPassIt) {
  Node a(1, slow(10u << 20)), b(2);
  connect(a, b);
  const auto snapshot = some_snapshot(kBig);
  a.transport->send(snapshot_to(1, 2, snapshot, 1));
  ASSERT_TRUE(under_way(a, 2, 1));
  EXPECT_EQ(a.transport->peer_stats(2).snapshot_bytes_total, kBig);
  std::uint64_t heartbeats = 0;
  while (heartbeats < 20 && a.got.wait([&] { return a.got.snapshots.empty(); }, 0ms)) {
    a.transport->send(message_to(1, 2, 2 + ++heartbeats));
    ASSERT_TRUE(b.got.wait_message(2 + heartbeats));
  }
  const std::vector<Message> arrived = snapshots_at(b, 1);
  ASSERT_EQ(arrived.size(), 1u);
  EXPECT_TRUE(*arrived[0].snapshot == *snapshot);
  const auto at = std::find_if(b.got.messages.begin(), b.got.messages.end(),
                               [](const Message& m) { return m.stamp == 1; });
  EXPECT_GE(at - b.got.messages.begin(), 3) << "heartbeats between its chunks";
  EXPECT_EQ(reports_of(a, 1), (Reports{{2, true}}));
  EXPECT_TRUE(eventually([&] { return a.transport->peer_stats(2).snapshot_bytes_total == 0; }));
  EXPECT_TRUE(
      eventually([&] { return a.transport->peer_stats(2).messages_sent == heartbeats + 1; }));
}

// Between a transport and another one's port; can cut what it carries.
class Proxy {
 public:
  // The first connection is cut when it has carried so many bytes from the one that connected.
  Proxy(std::uint16_t target, std::size_t cut_after)
      : acceptor_(io_, {asio::ip::make_address("127.0.0.1"), 0}),
        target_(asio::ip::make_address("127.0.0.1"), target),
        cut_after_(cut_after) {
    accept();
    thread_ = std::thread([this] { io_.run(); });
  }
  ~Proxy() {
    io_.stop();
    thread_.join();
  }
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  std::size_t carried_before_the_cut() const { return before_; }
  std::size_t carried_after_it() const { return after_; }

 private:
  struct Link {
    explicit Link(asio::io_context& io) : in(io), out(io) {}
    tcp::socket in, out;
    std::array<char, 64 << 10> forth{}, back{};
    bool counts_as_first = false;
  };
  void accept() {
    auto link = std::make_shared<Link>(io_);
    acceptor_.async_accept(link->in, [this, link](asio::error_code error) {
      if (error) return;
      asio::error_code refused;
      link->out.connect(target_, refused);
      link->counts_as_first = !cut_;
      if (!refused) {
        carry(link, &link->in, &link->out, &link->forth);
        carry(link, &link->out, &link->in, &link->back);
      }
      accept();
    });
  }
  void carry(const std::shared_ptr<Link>& link, tcp::socket* from, tcp::socket* to,
             std::array<char, 64 << 10>* buffer) {
    from->async_read_some(asio::buffer(*buffer), [=, this](asio::error_code error, std::size_t n) {
      if (error || (from == &link->in && cuts(link.get(), n))) return close(link.get());
      asio::async_write(*to, asio::buffer(buffer->data(), n),
                        [=, this](asio::error_code failed, std::size_t) {
                          if (failed) return close(link.get());
                          carry(link, from, to, buffer);
                        });
    });
  }
  bool cuts(Link* link, std::size_t n) {
    (link->counts_as_first ? before_ : after_) += n;
    if (!link->counts_as_first || before_ < cut_after_) return false;
    cut_ = true;
    return true;
  }
  static void close(Link* link) {
    asio::error_code ignored;
    link->in.close(ignored);
    link->out.close(ignored);
  }

  asio::io_context io_;
  tcp::acceptor acceptor_;
  const tcp::endpoint target_;
  const std::size_t cut_after_;
  bool cut_ = false;
  std::atomic<std::size_t> before_{0}, after_{0};
  std::thread thread_;
};

TEST(SnapshotOverTcp, CutInTheMiddleGoesOnWhereItWas) {
  Node a(1, unlimited()), b(2);
  Proxy proxy(b.transport->port(), 8u << 20);
  a.transport->set_peers({{2, b.self.incarnation, "127.0.0.1", proxy.port()}});
  ASSERT_TRUE(eventually([&] { return a.connected(2); }));
  const auto snapshot = some_snapshot(kBig);
  a.transport->send(snapshot_to(1, 2, snapshot));
  const std::vector<Message> arrived = snapshots_at(b, 1);
  ASSERT_EQ(arrived.size(), 1u);
  EXPECT_TRUE(*arrived[0].snapshot == *snapshot);
  EXPECT_EQ(reports_of(a, 1), (Reports{{2, true}}));
  EXPECT_GE(proxy.carried_before_the_cut(), 8u << 20);
  // The rest, and what was on its way when the connection broke.
  EXPECT_GT(proxy.carried_after_it(), 11u << 20);
  EXPECT_LT(proxy.carried_after_it(), 15u << 20);
}

TEST(SnapshotOverTcp, RestartedReceiverGetsTheWhole) {
  Node a(1, slow(8u << 20));
  auto b = std::make_unique<Node>(2);
  connect(a, *b);
  const auto snapshot = some_snapshot(4u << 20);
  a.transport->send(snapshot_to(1, 2, snapshot));
  ASSERT_TRUE(under_way(a, 2, 1u << 20));
  const Config same_port = local_config(b->transport->port());
  b.reset();
  b = std::make_unique<Node>(2, same_port);
  const std::vector<Message> arrived = snapshots_at(*b, 1);
  ASSERT_EQ(arrived.size(), 1u);
  EXPECT_TRUE(*arrived[0].snapshot == *snapshot);
  EXPECT_EQ(reports_of(a, 1), (Reports{{2, true}}));
  EXPECT_GE(a.transport->peer_stats(2).bytes_sent, 5u << 20);
}

TEST(SnapshotOverTcp, RestartedSenderGoesOnWhereItWas) {
  Node b(2);
  auto a = std::make_unique<Node>(1, slow(8u << 20));
  connect(*a, b);
  const auto snapshot = some_snapshot(4u << 20);
  a->transport->send(snapshot_to(1, 2, snapshot, 5));
  ASSERT_TRUE(under_way(*a, 2, 2u << 20));
  a = std::make_unique<Node>(1, unlimited());
  connect(*a, b);
  a->transport->send(snapshot_to(1, 2, std::make_shared<const raft::Snapshot>(*snapshot), 6));
  const std::vector<Message> arrived = snapshots_at(b, 1);
  ASSERT_EQ(arrived.size(), 1u);
  EXPECT_TRUE(*arrived[0].snapshot == *snapshot);
  EXPECT_EQ(arrived[0].term, 6u);
  EXPECT_EQ(reports_of(*a, 1), (Reports{{2, true}}));
  EXPECT_LT(a->transport->peer_stats(2).bytes_sent, 3u << 20);
}

TEST(SnapshotOverTcp, OneOfAnotherIncarnationStartsFromTheBeginning) {
  Node b(2);
  auto a = std::make_unique<Node>(1, slow(8u << 20));
  connect(*a, b);
  const auto snapshot = some_snapshot(4u << 20);
  a->transport->send(snapshot_to(1, 2, snapshot));
  ASSERT_TRUE(under_way(*a, 2, 2u << 20));
  Identity anew = a->self;
  anew.incarnation = 4711;
  a = std::make_unique<Node>(anew, unlimited());
  connect(*a, b);
  a->transport->send(snapshot_to(1, 2, snapshot));
  const std::vector<Message> arrived = snapshots_at(b, 1);
  ASSERT_EQ(arrived.size(), 1u);
  EXPECT_TRUE(*arrived[0].snapshot == *snapshot);
  EXPECT_EQ(reports_of(*a, 1), (Reports{{2, true}}));
  EXPECT_TRUE(eventually([&] { return a->transport->peer_stats(2).bytes_sent >= 4u << 20; }));
}

TEST(SnapshotOverTcp, RateHolds) {
  Node a(1, slow(8u << 20)), b(2);
  connect(a, b);
  const auto began = std::chrono::steady_clock::now();
  a.transport->send(snapshot_to(1, 2, some_snapshot(8u << 20)));
  EXPECT_EQ(reports_of(a, 1), (Reports{{2, true}}));
  // Without the last chunk, and what the bucket holds at first, 0.87 s.
  EXPECT_GT(std::chrono::steady_clock::now() - began, 800ms);
}

TEST(SnapshotOverTcp, RemovedOrMovedPeerEndsItAtOnce) {
  for (const bool moved : {false, true}) {
    Node a(1, slow()), b(2), c(3);
    connect(a, b);
    a.transport->send(snapshot_to(1, 2, some_snapshot(kBig)));
    ASSERT_TRUE(under_way(a, 2, 1));
    PeerAddress elsewhere = b.address();
    elsewhere.incarnation = 0;
    a.transport->set_peers(moved ? std::vector<PeerAddress>{elsewhere, c.address()}
                                 : std::vector<PeerAddress>{c.address()});
    EXPECT_EQ(reports_of(a, 1), (Reports{{2, false}}));
    EXPECT_EQ(a.transport->peer_stats(2).snapshot_bytes_total, 0u);
    a.transport->send(snapshot_to(1, 3, some_snapshot(10)));
    EXPECT_EQ(reports_of(a, 2), (Reports{{2, false}, {3, true}}));
  }
}

TEST(SnapshotOverTcp, RefusalIsToldOnBothSidesAndTheConnectionStays) {
  Config config = local_config();
  config.max_snapshot_bytes = 1000;
  Node a(1), b(2, config);
  connect(a, b);
  a.transport->send(snapshot_to(1, 2, some_snapshot(1001)));
  EXPECT_EQ(reports_of(a, 1), (Reports{{2, false}}));
  const std::string reason = "the snapshot has 1001 bytes, the limit is 1000";
  EXPECT_THAT(a.transport->peer_stats(2).last_error, HasSubstr(reason));
  EXPECT_TRUE(a.got.wait_refused(reason));
  EXPECT_TRUE(b.got.wait_refused(reason));
  a.transport->send(message_to(1, 2, 7));
  EXPECT_TRUE(b.got.wait_message(7));
  EXPECT_TRUE(b.got.wait([&] { return b.got.lost.empty(); }));
}

TEST(SnapshotOverTcp, SecondMessageContinuesOrReplacesTheFirst) {
  Node a(1, slow(8u << 20)), b(2);
  connect(a, b);
  const auto older = some_snapshot(4u << 20, 12), newer = some_snapshot(4u << 20, 15);
  a.transport->send(snapshot_to(1, 2, older, 5));
  ASSERT_TRUE(under_way(a, 2, 1));
  a.transport->send(snapshot_to(1, 2, newer, 6));
  EXPECT_EQ(reports_of(a, 1), (Reports{{2, false}}));
  ASSERT_TRUE(under_way(a, 2, 1));
  a.transport->send(snapshot_to(1, 2, newer, 7));
  EXPECT_EQ(reports_of(a, 3), (Reports{{2, false}, {2, true}, {2, true}}));
  const std::vector<Message> arrived = snapshots_at(b, 1);
  ASSERT_EQ(arrived.size(), 1u);
  EXPECT_EQ(arrived[0].term, 7u);
  EXPECT_TRUE(*arrived[0].snapshot == *newer);
}

TEST(SnapshotOverTcp, ManyAtOnceInBothDirections) {
  std::vector<std::unique_ptr<Node>> nodes;
  for (NodeId id = 1; id <= 5; ++id) nodes.push_back(std::make_unique<Node>(id, unlimited()));
  std::vector<PeerAddress> all;
  for (const auto& node : nodes) all.push_back(node->address());
  for (const auto& node : nodes) node->transport->set_peers(all);
  const auto size = [](NodeId from, NodeId to) { return (3u << 20) + 1000 * from + to; };
  for (NodeId from = 1; from <= 5; ++from) {
    for (NodeId to = 1; to <= 5; ++to) {
      if (from == to) continue;
      nodes[from - 1]->transport->send(
          snapshot_to(from, to, some_snapshot(size(from, to), 10 * from + to)));
    }
  }
  for (NodeId id = 1; id <= 5; ++id) {
    Node& node = *nodes[id - 1];
    const Reports reports = reports_of(node, 4);
    EXPECT_EQ((std::set<std::pair<NodeId, bool>>(reports.begin(), reports.end()).size()), 4u);
    for (const auto& [to, arrived] : reports) EXPECT_TRUE(arrived) << id << " to " << to;
    const std::vector<Message> got = snapshots_at(node, 4);
    EXPECT_EQ(got.size(), 4u);
    for (const Message& m : got) {
      EXPECT_TRUE(*m.snapshot == *some_snapshot(size(m.from, id), 10 * m.from + id));
    }
  }
}

// The other side, by hand: one connection, frames as they come.
class RawReceiver {
 public:
  RawReceiver() : acceptor_(io_, {asio::ip::make_address("127.0.0.1"), 0}), socket_(io_) {}
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  void welcome(NodeId as) {
    acceptor_.accept(socket_);
    ASSERT_EQ(next().type, FrameType::kHello);
    say(FrameType::kWelcome, encode(test::some_identity(as)));
  }
  Frame next() {
    for (;;) {
      Result<std::optional<Frame>> frame = reader_.read(&unread_);
      if (!frame.is_ok()) ADD_FAILURE() << frame.status().to_string();
      if (!frame.is_ok()) return {};
      if (frame->has_value()) return std::move(**frame);
      unread_ = {buffer_.data(), socket_.read_some(asio::buffer(buffer_))};
    }
  }
  void wait_readable() { socket_.wait(tcp::socket::wait_read); }
  void say(FrameType type, const std::string& payload) {
    asio::write(socket_, asio::buffer(encode_frame(type, payload)));
  }
  void acknowledge(std::uint64_t transfer, std::uint64_t received) {
    say(FrameType::kSnapshotAck,
        encode(SnapshotAck{transfer, received, SnapshotAnswer::kReceiving, ""}));
  }

 private:
  asio::io_context io_;
  tcp::acceptor acceptor_;
  tcp::socket socket_;
  FrameReader reader_{kMaxFrameBytes};
  std::array<char, 64 << 10> buffer_{};
  std::string_view unread_;
};

TEST(SnapshotOverTcp, SilentReceiverGetsTheWindowAndHeartbeatsAndNoMore) {
  const Config config = unlimited();
  Node a(1, config);
  RawReceiver b;
  a.transport->set_peers({{2, 102, "127.0.0.1", b.port()}});
  b.welcome(2);
  a.transport->send(snapshot_to(1, 2, some_snapshot(kBig)));
  const Frame header = b.next();
  ASSERT_EQ(header.type, FrameType::kSnapshotHeader);
  const std::uint64_t transfer = decode_snapshot_header(header.payload)->transfer;

  a.transport->send(message_to(1, 2, 1));  // it doesn't wait for the answer
  EXPECT_EQ(b.next().type, FrameType::kMessages);

  b.acknowledge(transfer, 0);
  for (std::size_t i = 0; i < config.snapshot_window_chunks; ++i) {
    ASSERT_EQ(b.next().type, FrameType::kSnapshotChunk);
  }
  a.transport->send(message_to(1, 2, 2));  // nor for the window
  EXPECT_EQ(b.next().type, FrameType::kMessages);

  b.acknowledge(transfer, config.snapshot_chunk_bytes);
  const Frame chunk = b.next();
  ASSERT_EQ(chunk.type, FrameType::kSnapshotChunk);
  EXPECT_EQ(decode_snapshot_chunk(chunk.payload)->offset,
            config.snapshot_window_chunks * config.snapshot_chunk_bytes);
}

// The chunk is bigger than what the kernel takes of it while nobody reads.
TEST(SnapshotOverTcp, MessageWaitsForNoMoreThanTheChunkThatIsBeingWritten) {
  Config config = unlimited();
  config.snapshot_chunk_bytes = 8u << 20;
  Node a(1, config);
  RawReceiver b;
  a.transport->set_peers({{2, 102, "127.0.0.1", b.port()}});
  b.welcome(2);
  a.transport->send(snapshot_to(1, 2, some_snapshot(kBig)));
  const Frame header = b.next();
  b.acknowledge(decode_snapshot_header(header.payload)->transfer, 0);
  b.wait_readable();
  a.transport->send(message_to(1, 2, 2));
  EXPECT_EQ(b.next().type, FrameType::kSnapshotChunk);
  EXPECT_EQ(b.next().type, FrameType::kMessages);
  EXPECT_EQ(b.next().type, FrameType::kSnapshotChunk);
}

TEST(SnapshotOverTcp, IsGivenUpWhenNoAnswerComes) {
  Config config = unlimited();
  config.snapshot_stall_timeout = 100ms;
  Node a(1, config);
  RawReceiver b;
  a.transport->set_peers({{2, 102, "127.0.0.1", b.port()}});
  b.welcome(2);
  a.transport->send(snapshot_to(1, 2, some_snapshot(10)));
  EXPECT_EQ(reports_of(a, 1), (Reports{{2, false}}));
  EXPECT_THAT(a.transport->peer_stats(2).last_error, HasSubstr("no acknowledgement came"));
  EXPECT_TRUE(a.connected(2));
}

TEST(SnapshotOverTcp, FalseAcknowledgementClosesTheConnection) {
  Node a(1);
  RawReceiver b;
  a.transport->set_peers({{2, 102, "127.0.0.1", b.port()}});
  b.welcome(2);
  a.transport->send(snapshot_to(1, 2, some_snapshot(1000)));
  const std::uint64_t transfer = decode_snapshot_header(b.next().payload)->transfer;
  b.acknowledge(transfer, 1001);
  EXPECT_TRUE(a.got.wait_refused("received an acknowledgement of 1001 bytes"));
}

// Asking keeps it alive, so the pauses between the questions grow.
TEST(SnapshotOverTcp, ReceiverForgetsWhatStalls) {
  Config config = unlimited();
  config.snapshot_stall_timeout = 50ms;
  Node b(2, config);
  asio::io_context io;
  tcp::socket socket(io);
  socket.connect({asio::ip::make_address("127.0.0.1"), b.transport->port()});
  FrameReader reader(kMaxFrameBytes);
  std::array<char, 4096> buffer{};
  const auto say = [&](FrameType type, const std::string& payload) {
    asio::write(socket, asio::buffer(encode_frame(type, payload)));
    for (;;) {
      std::string_view bytes(buffer.data(), socket.read_some(asio::buffer(buffer)));
      Result<std::optional<Frame>> frame = reader.read(&bytes);
      if (frame->has_value()) return std::move(**frame);
    }
  };
  const auto received = [](const Frame& frame) {
    return decode_snapshot_ack(frame.payload)->received;
  };
  say(FrameType::kHello, encode(Hello{test::some_identity(1), 2, 0}));
  const auto snapshot = some_snapshot(20);
  bool forgotten = false;
  for (std::uint64_t transfer = 1; transfer < 10 && !forgotten; ++transfer) {
    const std::uint64_t has =
        received(say(FrameType::kSnapshotHeader, encode(header_of(*snapshot, transfer))));
    forgotten = transfer > 1 && has == 0;
    if (transfer == 1) {
      const Frame ack =
          say(FrameType::kSnapshotChunk, encode_chunk(transfer, 0, snapshot->data.substr(0, 5)));
      EXPECT_EQ(received(ack), 5u);
    }
    if (!forgotten) std::this_thread::sleep_for(50ms * (1 << transfer));
  }
  EXPECT_TRUE(forgotten);
}

TEST(SnapshotOverTcp, SnapshotInAnothersNameClosesTheConnection) {
  Node b(2);
  asio::io_context io;
  tcp::socket socket(io);
  socket.connect({asio::ip::make_address("127.0.0.1"), b.transport->port()});
  SnapshotHeader header = header_of(*some_snapshot(20));
  header.message.from = 3;
  asio::write(socket, asio::buffer(encode_frame(FrameType::kHello,
                                                encode(Hello{test::some_identity(1), 2, 0})) +
                                   encode_frame(FrameType::kSnapshotHeader, encode(header))));
  EXPECT_TRUE(b.got.wait_refused("sent a snapshot in the name of another node"));
}

}  // namespace
}  // namespace pgraft::transport
