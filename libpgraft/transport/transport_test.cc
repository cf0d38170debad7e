// The transport over real loopback sockets. What is waited for is a condition; only what must not
// happen is waited for by time.

#include "libpgraft/transport/transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "libpgraft/base/crc32c.h"
#include "libpgraft/transport/asio.h"
#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/frame.h"
#include "libpgraft/transport/test_data.h"
#include "libpgraft/transport/test_node.h"

namespace pgraft::transport {
namespace {

using namespace std::chrono_literals;
using asio::ip::tcp;
using raft::Message;
using raft::MessageType;
using raft::NodeId;
using testing::HasSubstr;

using test::connect;
using test::eventually;
using test::kPatience;
using test::kQuiet;
using test::local_config;
using test::message_to;
using test::Node;
using test::Recorder;

// A plain socket, for saying what no transport says.
class RawClient {
 public:
  explicit RawClient(std::uint16_t port) : socket_(io_) {
    socket_.connect({asio::ip::make_address("127.0.0.1"), port});
  }
  void say(const std::string& bytes) {
    asio::error_code ignored;
    asio::write(socket_, asio::buffer(bytes), ignored);
  }
  // What arrives until the other side closes.
  std::string hear_all() {
    std::string out;
    asio::error_code end;
    asio::read(socket_, asio::dynamic_buffer(out), end);
    return out;
  }

 private:
  asio::io_context io_;
  tcp::socket socket_;
};

// Snapshots come when their last chunk does, the others in their order.
TEST(Transport, CarriesEveryFieldOfEveryMessageType) {
  Node a(1), b(2);
  connect(a, b);
  const std::vector<Message> all = test::every_message();
  for (const Message& m : all) a.transport->send(m);
  ASSERT_TRUE(b.got.wait([&] { return b.got.messages.size() == all.size(); }));
  const auto by_type = [](const Message& x, const Message& y) {
    return x.type == MessageType::kSnapshot && y.type != MessageType::kSnapshot;
  };
  std::vector<Message> expected = all;
  std::stable_sort(expected.begin(), expected.end(), by_type);
  std::stable_sort(b.got.messages.begin(), b.got.messages.end(), by_type);
  test::expect_same(b.got.messages, expected);
  EXPECT_TRUE(a.got.wait([&] { return !a.got.snapshots.empty(); }));
  EXPECT_EQ(a.got.snapshots, (std::vector<std::pair<NodeId, bool>>{{2, true}}));
  a.transport->send_report(2, test::some_report());
  ASSERT_TRUE(b.got.wait([&] { return !b.got.reports.empty(); }));
  EXPECT_EQ(b.got.reports[0], test::some_report());
  a.transport->send_wal_status(2, test::some_wal_status());
  ASSERT_TRUE(b.got.wait([&] { return !b.got.wal_statuses.empty(); }));
  EXPECT_EQ(b.got.wal_statuses[0], test::some_wal_status());
}

TEST(Transport, SendsManyMessagesInFewWritesAndLosesNone) {
  Node a(1), b(2);
  a.transport->set_peers({b.address()});
  for (std::uint64_t i = 1; i <= 3000; ++i) a.transport->send(message_to(1, 2, i));
  ASSERT_TRUE(b.got.wait([&] { return b.got.messages.size() == 3000; }));
  for (std::uint64_t i = 1; i <= 3000; ++i) ASSERT_EQ(b.got.messages[i - 1].stamp, i);
  EXPECT_TRUE(eventually([&] { return a.transport->peer_stats(2).messages_sent == 3000; }));
  EXPECT_EQ(a.transport->peer_stats(2).messages_dropped, 0u);
}

TEST(Transport, CountsMessagesAndBytesByTypeAlikeAtBothEnds) {
  Node a(1), b(2);
  connect(a, b);
  b.transport->set_peers({a.address()});
  std::uint64_t sent = 0;
  for (const Message& m : test::every_message()) {
    for (int copies = 0; copies <= static_cast<int>(m.type); ++copies) {
      if (m.type == MessageType::kSnapshot && copies > 0) break;  // it would take the first's place
      a.transport->send(m);
      ++sent;
    }
  }
  a.transport->send_report(2, test::some_report());
  a.transport->send_wal_status(2, test::some_wal_status());
  ASSERT_TRUE(eventually([&] { return a.transport->peer_stats(2).messages_sent == sent + 2; }));
  const PeerStats out = a.transport->peer_stats(2);
  EXPECT_EQ(out.sent.bytes(), out.bytes_sent);
  const auto arrived = [&] { return b.transport->peer_stats(1).received; };
  ASSERT_TRUE(eventually([&] { return arrived().messages() == sent + 2; }));
  const Traffic in = arrived();
  for (std::size_t type = 0; type < Traffic::kTypes; ++type) {
    const bool once = type >= Traffic::kReport || type == Traffic::of(MessageType::kSnapshot);
    EXPECT_EQ(out.sent.types[type].messages, once ? 1 : type + 1) << Traffic::type_name(type);
    EXPECT_EQ(in.types[type].messages, out.sent.types[type].messages) << Traffic::type_name(type);
    EXPECT_EQ(in.types[type].bytes, out.sent.types[type].bytes) << Traffic::type_name(type);
    EXPECT_GT(in.types[type].bytes, 0u) << Traffic::type_name(type);
  }
  EXPECT_EQ(b.transport->peer_stats(1).sent.messages(), 0u);
}

TEST(Transport, TooBigAMessageIsDroppedAndSaidSo) {
  Node a(1), b(2);
  connect(a, b);
  const std::string too_big(kMaxFrameBytes, 'x');
  Message m = message_to(1, 2, 1, MessageType::kAppend);
  m.entries.push_back({1, 1, raft::EntryType::kNormal, too_big});
  a.transport->send(m);
  EXPECT_EQ(a.transport->peer_stats(2).messages_dropped, 1u);
  EXPECT_THAT(a.transport->peer_stats(2).last_error, HasSubstr("over the limit of a frame"));
  m = message_to(1, 2, 1, MessageType::kSnapshot);
  m.context = too_big;
  a.transport->send(m);
  ASSERT_TRUE(a.got.wait([&] { return !a.got.snapshots.empty(); }));
  EXPECT_FALSE(a.got.snapshots[0].second);
  EXPECT_THAT(a.transport->peer_stats(2).last_error, HasSubstr("over the limit of a frame"));
  a.transport->send(message_to(1, 2, 2));
  EXPECT_TRUE(b.got.wait_message(2));
}

TEST(Transport, SnapshotToNobodyIsReportedAsNotSent) {
  Node a(1);
  a.transport->send(message_to(1, 9, 1, MessageType::kSnapshot));
  ASSERT_TRUE(a.got.wait([&] { return !a.got.snapshots.empty(); }));
  EXPECT_EQ(a.got.snapshots[0], (std::pair<NodeId, bool>{9, false}));
  a.transport->send(message_to(1, 1, 1));  // to itself: dropped
  EXPECT_FALSE(a.got.wait([&] { return !a.got.messages.empty(); }, kQuiet));
}

struct Mismatch {
  const char* name;
  std::function<void(Identity*, Identity*, PeerAddress*)>
      change;  // initiator, acceptor, what the initiator expects
  const char* reason;
};

TEST(Transport, MismatchIsRefusedWithTheSameReasonOnBothSides) {
  const Mismatch mismatches[] = {
      {"cluster name", [](Identity*, Identity* b, PeerAddress*) { b->cluster_name = "other"; },
       "node 1 is of cluster \"cluster\", node 2 is of cluster \"other\""},
      {"cluster id", [](Identity*, Identity* b, PeerAddress*) { b->cluster_id = 78; },
       "node 1 has cluster id 77, node 2 has cluster id 78"},
      {"incarnation", [](Identity*, Identity*, PeerAddress* to) { to->incarnation = 999; },
       "node 1 knows node 2 with incarnation 999, it has 102"},
      {"node id", [](Identity*, Identity*, PeerAddress* to) { to->id = 3; },
       "node 1 looks for node 3 at the address of node 2"},
      {"same id", [](Identity*, Identity* b, PeerAddress*) { b->node_id = 1; },
       "two nodes have the same id"},
      {"no cluster, incarnation not named",
       [](Identity*, Identity* b, PeerAddress* to) { b->cluster_id = 0, to->incarnation = 0; },
       "node 2 is not part of a cluster yet"},
  };
  for (const Mismatch& m : mismatches) {
    SCOPED_TRACE(m.name);
    Identity one = test::some_identity(1), two = test::some_identity(2);
    PeerAddress to{2, two.incarnation, "127.0.0.1", 0};
    m.change(&one, &two, &to);
    Node a(one, local_config()), b(two, local_config());
    to.port = b.transport->port();
    a.transport->set_peers({to});
    EXPECT_TRUE(a.got.wait_refused(m.reason));
    EXPECT_TRUE(b.got.wait_refused(m.reason));
    EXPECT_FALSE(a.connected(to.id));
    EXPECT_GE(a.transport->refused_connections(), 1u);
    EXPECT_GE(b.transport->refused_connections(), 1u);
  }
}

TEST(Transport, AcceptorKnowingAnotherIncarnationRefuses) {
  Node a(1), b(2);
  PeerAddress stale = a.address();
  stale.incarnation = 555;
  b.transport->set_peers({stale});
  ASSERT_TRUE(eventually([&] { return b.transport->refused_connections() > 0; }));
  a.transport->set_peers({b.address()});
  EXPECT_TRUE(a.got.wait_refused("node 2 knows node 1 with incarnation 555, it has 101"));
}

TEST(Transport, SameRefusalIsNotRepeated) {
  Identity other = test::some_identity(2);
  other.cluster_name = "other";
  Node a(1), b(other, local_config());
  a.transport->set_peers({b.address()});
  ASSERT_TRUE(eventually([&] { return a.transport->refused_connections() >= 3; }));
  EXPECT_TRUE(a.got.wait([&] { return a.got.refused.size() == 1; }));
}

TEST(Transport, NodeWithoutAClusterIsReachedByItsIncarnation) {
  Identity fresh = test::some_identity(2);
  fresh.cluster_id = 0;
  Node a(1), b(fresh, local_config());
  connect(a, b);
  a.transport->send(message_to(1, 2, 5));
  EXPECT_TRUE(b.got.wait_message(5));
}

TEST(Transport, OtherProtocolVersionIsToldWhy) {
  Node a(1);
  std::string hello = encode_frame(FrameType::kHello, encode(Hello{test::some_identity(2), 1, 0}));
  hello[4] = 9;
  RawClient client(a.transport->port());
  client.say(hello);
  EXPECT_TRUE(a.got.wait_refused("speaks protocol version 9, this one speaks 1"));
  EXPECT_THAT(client.hear_all(), HasSubstr("speaks protocol version 9"));
}

// A server that says `answer` to whoever connects.
class RawServer {
 public:
  explicit RawServer(std::string answer)
      : acceptor_(io_, {asio::ip::make_address("127.0.0.1"), 0}), answer_(std::move(answer)) {
    accept();
    thread_ = std::thread([this] { io_.run(); });
  }
  ~RawServer() {
    io_.stop();
    thread_.join();
  }
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

 private:
  void accept() {
    acceptor_.async_accept([this](asio::error_code error, tcp::socket socket) {
      if (error) return;
      asio::error_code ignored;
      asio::write(socket, asio::buffer(answer_), ignored);
      sockets_.push_back(std::move(socket));
      accept();
    });
  }
  asio::io_context io_;
  tcp::acceptor acceptor_;
  const std::string answer_;
  std::vector<tcp::socket> sockets_;
  std::thread thread_;
};

TEST(Transport, RefusalByAnotherProtocolVersionIsUnderstood) {
  std::string refusal = encode_frame(FrameType::kRefused, "too old");
  refusal[4] = 9;
  const std::uint32_t crc = crc32c("too old", crc32c(refusal.substr(0, 12)));
  for (int i = 0; i < 4; ++i)
    refusal[12 + static_cast<std::size_t>(i)] = static_cast<char>(crc >> (8 * i));
  RawServer server(refusal);
  Node a(1);
  a.transport->set_peers({{2, 0, "127.0.0.1", server.port()}});
  EXPECT_TRUE(a.got.wait_refused("): too old"));
}

TEST(Transport, AcceptorOfAnotherProtocolVersionIsNoticed) {
  std::string welcome = encode_frame(FrameType::kWelcome, "");
  welcome[4] = 9;
  RawServer server(welcome);
  Node a(1);
  a.transport->set_peers({{2, 0, "127.0.0.1", server.port()}});
  EXPECT_TRUE(a.got.wait_refused("speaks protocol version 9"));
}

TEST(Transport, GarbageClosesTheConnectionAndNothingElse) {
  Node a(1), b(2);
  connect(b, a);
  for (const char* garbage :
       {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02", "PGRFxxxxxxxxxxxxxxxxxxxx"}) {
    RawClient client(a.transport->port());
    client.say(garbage);
    client.hear_all();  // returns: it was closed
  }
  EXPECT_TRUE(a.got.wait_refused("127.0.0.1: received bytes that are not pgraft's protocol"));
  b.transport->send(message_to(2, 1, 3));
  EXPECT_TRUE(a.got.wait_message(3));
  EXPECT_TRUE(a.got.wait([&] { return a.got.lost.empty(); }));
}

TEST(Transport, OversizedFrameIsRefusedBeforeItArrives) {
  Node a(1);
  std::string header = encode_frame(FrameType::kHello, "");
  header.replace(8, 4, "\xff\xff\xff\x7f");
  RawClient client(a.transport->port());
  client.say(header);
  EXPECT_EQ(client.hear_all(), "");
  EXPECT_TRUE(a.got.wait_refused("2147483647 bytes, the limit is"));
}

TEST(Transport, MessageInAnothersNameClosesTheConnection) {
  Node a(1);
  RawClient client(a.transport->port());
  client.say(encode_frame(FrameType::kHello, encode(Hello{test::some_identity(2), 1, 0})) +
             encode_frame(FrameType::kMessages, encode(std::vector<Message>{message_to(3, 1, 1)})));
  client.hear_all();
  EXPECT_TRUE(a.got.wait_refused("in the name of another node"));
  EXPECT_TRUE(a.got.wait([&] { return a.got.messages.empty(); }));
}

TEST(Transport, SnapshotAmongOtherMessagesClosesTheConnection) {
  Node a(1);
  RawClient client(a.transport->port());
  client.say(encode_frame(FrameType::kHello, encode(Hello{test::some_identity(2), 1, 0})) +
             encode_frame(FrameType::kMessages, encode(std::vector<Message>{
                                                    message_to(2, 1, 1, MessageType::kSnapshot)})));
  client.hear_all();
  EXPECT_TRUE(a.got.wait_refused("sent a snapshot that it had not announced"));
  EXPECT_TRUE(a.got.wait([&] { return a.got.messages.empty(); }));
}

TEST(Transport, SilentConnectionIsClosed) {
  Config config = local_config();
  config.handshake_timeout = 50ms;
  Node a(1, config);
  RawClient client(a.transport->port());
  EXPECT_EQ(client.hear_all(), "");
}

TEST(Transport, ConnectionsOverTheLimitAreClosed) {
  Config config = local_config();
  config.max_incoming_connections = 2;
  Node a(1, config);
  RawClient first(a.transport->port()), second(a.transport->port()), third(a.transport->port());
  EXPECT_EQ(third.hear_all(), "");
  EXPECT_TRUE(a.got.wait_refused("too many incoming connections, the limit is 2"));
}

TEST(Transport, LostPeerIsToldAtOnceOnBothKindsOfConnection) {
  Node a(1), c(3);
  {
    Node b(2);
    connect(a, b);
    connect(b, c);
  }
  EXPECT_TRUE(a.got.wait([&] { return !a.got.lost.empty() && a.got.lost[0].first == 2; }));
  EXPECT_TRUE(c.got.wait([&] { return !c.got.lost.empty() && c.got.lost[0].first == 2; }));
  // And once more when its port is found closed.
  EXPECT_TRUE(a.got.wait([&] { return a.got.lost.size() == 2; }));
  EXPECT_THAT(a.got.lost[1].second, HasSubstr("connection refused"));
}

TEST(Transport, SilenceIsNotLoss) {
  RawServer silent("");
  Config config = local_config();
  config.handshake_timeout = 30ms;
  Node a(1, config), b(2);
  a.transport->set_peers({b.address(), {3, 0, "127.0.0.1", silent.port()}});
  ASSERT_TRUE(eventually([&] { return a.connected(2); }));
  ASSERT_TRUE(eventually([&] {
    return a.transport->peer_stats(3).last_error.find("timed out") != std::string::npos;
  }));
  EXPECT_FALSE(a.got.wait([&] { return !a.got.lost.empty(); }, kQuiet));
}

TEST(Transport, ReconnectsAfterThePeerRestartedOnItsPort) {
  Node a(1);
  auto b = std::make_unique<Node>(2);
  connect(a, *b);
  const Config same_port = local_config(b->transport->port());
  b.reset();
  ASSERT_TRUE(eventually([&] { return !a.connected(2); }));
  b = std::make_unique<Node>(2, same_port);
  ASSERT_TRUE(eventually([&] { return a.connected(2); }));
  a.transport->send(message_to(1, 2, 8));
  EXPECT_TRUE(b->got.wait_message(8));
}

TEST(Transport, GreetingFromAPeerEndsTheBackOff) {
  Config patient = local_config();
  patient.reconnect_min = patient.reconnect_max = 10min;
  Node a(1, patient);
  auto b = std::make_unique<Node>(2);
  connect(a, *b);
  const Config same_port = local_config(b->transport->port());
  b.reset();
  ASSERT_TRUE(eventually([&] { return !a.connected(2); }));
  b = std::make_unique<Node>(2, same_port);
  b->transport->set_peers({a.address()});
  EXPECT_TRUE(eventually([&] { return a.connected(2); }));
}

TEST(Transport, UnchangedPeersKeepTheirConnections) {
  Node a(1), b(2), c(3);
  connect(a, b);
  a.transport->set_peers({b.address(), c.address()});
  ASSERT_TRUE(eventually([&] { return a.connected(3); }));
  EXPECT_TRUE(b.got.wait([&] { return b.got.lost.empty(); }));
  a.transport->set_peers({c.address()});
  EXPECT_TRUE(
      b.got.wait([&] { return !b.got.lost.empty(); }));  // that is what a dropped one looks like
  EXPECT_TRUE(c.got.wait([&] { return c.got.lost.empty(); }));
  EXPECT_TRUE(a.got.wait([&] { return a.got.lost.empty(); }));
}

TEST(Transport, PeerThatStopsReadingIsBoundedAndBlocksNobody) {
  const std::string welcome = [] {
    return encode_frame(FrameType::kWelcome, encode(test::some_identity(2)));
  }();
  RawServer stuck(welcome);
  Config config = local_config();
  config.max_queued_messages = 50;
  Node a(1, config), c(3);
  a.transport->set_peers({{2, 102, "127.0.0.1", stuck.port()}, c.address()});
  ASSERT_TRUE(eventually([&] { return a.connected(2) && a.connected(3); }));
  Message big = message_to(1, 2, 1, MessageType::kAppend);
  big.entries.push_back({1, 1, raft::EntryType::kNormal, std::string(1 << 20, 'x')});
  ASSERT_TRUE(eventually([&] {
    a.transport->send(big);
    return a.transport->peer_stats(2).messages_dropped >= 20;
  }));
  a.transport->send(message_to(1, 3, 9));
  EXPECT_TRUE(c.got.wait_message(9));
}

TEST(Transport, SnapshotThatCanNotLeaveIsReportedAsNotSent) {
  Config config = local_config();
  config.snapshot_stall_timeout = 1s;
  Node a(1, config);
  std::uint16_t closed = 0;
  {
    Node b(2);
    closed = b.transport->port();
  }
  a.transport->set_peers({{2, 0, "127.0.0.1", closed}});
  a.transport->send(message_to(1, 2, 1, MessageType::kSnapshot));
  ASSERT_TRUE(a.got.wait([&] { return !a.got.snapshots.empty(); }));
  EXPECT_EQ(a.got.snapshots[0], (std::pair<NodeId, bool>{2, false}));
}

TEST(Transport, HostNamesAreResolved) {
  Node a(1), b(2);
  PeerAddress to = b.address();
  to.host = "localhost";
  a.transport->set_peers({to});
  EXPECT_TRUE(eventually([&] { return a.connected(2); }));
}

TEST(Transport, PortInUseIsSaid) {
  Node a(1);
  Recorder got;
  const auto second = Transport::start(local_config(a.transport->port()), a.self, &got);
  EXPECT_EQ(second.status().code(), Code::kIo);
  EXPECT_EQ(second.status().message(),
            "could not listen on 127.0.0.1:" + std::to_string(a.transport->port()) +
                ": address already in use");
}

TEST(Transport, StopIsFinalAndMayBeRepeated) {
  Node a(1), b(2);
  connect(a, b);
  a.transport->stop();
  a.transport->stop();
  a.transport->send(message_to(1, 2, 1));
  a.transport->set_peers({});
  EXPECT_TRUE(b.got.wait([&] { return !b.got.lost.empty(); }));
  EXPECT_TRUE(a.got.wait([&] { return a.got.lost.empty(); }));
}

TEST(Transport, SendingFromManyThreadsWhilePeersChange) {
  Node a(1), b(2), c(3);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (std::uint64_t i = 0; i < 500; ++i) a.transport->send(message_to(1, 2 + i % 2, i + 1));
    });
  }
  for (int i = 0; i < 50; ++i) {
    a.transport->set_peers(i % 2 == 0 ? std::vector<PeerAddress>{b.address(), c.address()}
                                      : std::vector<PeerAddress>{b.address()});
    a.transport->set_identity(a.self);
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(eventually([&] { return a.connected(2); }));
  a.transport->send(message_to(1, 2, 4711));
  EXPECT_TRUE(b.got.wait_message(4711));
}

TEST(Query, GivesIdentityAndStatus) {
  Node a(3);
  const auto identity = query_identity("127.0.0.1", a.transport->port(), kPatience);
  ASSERT_TRUE(identity.is_ok()) << identity.status().to_string();
  test::expect_same(*identity, a.self);
  const auto status = query_status("localhost", a.transport->port(), kPatience);
  ASSERT_TRUE(status.is_ok()) << status.status().to_string();
  test::expect_same(*status, test::some_whole_status());
  EXPECT_TRUE(a.got.wait([&] { return a.got.refused.empty(); }));
  EXPECT_TRUE(a.got.wait([&] { return a.got.lost.empty(); }));
}

// 0.1.0 asks with an empty frame, and takes bytes that it does not expect for damage.
TEST(Query, WhoAsksAsOlderVersionsDoIsAnsweredInTheirForm) {
  Node a(3);
  for (const std::string& request : {std::string(), std::string("\1")}) {
    RawClient client(a.transport->port());
    client.say(encode_frame(FrameType::kQueryStatus, request));
    EXPECT_EQ(client.hear_all(), encode_frame(FrameType::kStatus, encode(test::some_status())));
  }
}

TEST(Query, ClosedPortIsUnavailableWithAddressAndCause) {
  std::uint16_t closed = 0;
  {
    Node a(1);
    closed = a.transport->port();
  }
  const auto answer = query_status("127.0.0.1", closed, kPatience);
  EXPECT_EQ(answer.status().code(), Code::kUnavailable);
  EXPECT_EQ(answer.status().message(),
            "could not reach 127.0.0.1:" + std::to_string(closed) + ": connection refused");
}

TEST(Query, SilentPortTimesOut) {
  RawServer silent("");
  const auto answer = query_identity("127.0.0.1", silent.port(), 50ms);
  EXPECT_EQ(answer.status().code(), Code::kUnavailable);
  EXPECT_THAT(answer.status().message(), HasSubstr("no answer within 50 ms"));
}

TEST(Query, AnotherProtocolIsSaid) {
  RawServer other("SSH-2.0-OpenSSH\r\n");
  const auto answer = query_identity("127.0.0.1", other.port(), kPatience);
  EXPECT_EQ(answer.status().code(), Code::kUnavailable);
  EXPECT_THAT(answer.status().message(), HasSubstr("not pgraft's protocol"));
}

TEST(Query, UnknownHostIsUnavailable) {
  const auto answer = query_identity("no-such-host.invalid", 1, kPatience);
  EXPECT_EQ(answer.status().code(), Code::kUnavailable);
  EXPECT_THAT(answer.status().message(), HasSubstr("no-such-host.invalid"));
}

}  // namespace
}  // namespace pgraft::transport
