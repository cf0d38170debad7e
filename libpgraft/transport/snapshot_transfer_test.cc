// Snapshots in chunks: the two state machines and the rate limiter by themselves, with a time of
// their own. Between real transports: snapshot_tcp_test.cc.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/frame.h"
#include "libpgraft/transport/rate_limiter.h"
#include "libpgraft/transport/snapshot_receiver.h"
#include "libpgraft/transport/snapshot_sender.h"
#include "libpgraft/transport/test_node.h"

namespace pgraft::transport {
namespace {

using namespace std::chrono_literals;
using raft::Message;
using raft::MessageType;
using raft::NodeId;
using test::header_of;
using test::local_config;
using test::snapshot_to;
using test::some_data;
using test::some_snapshot;
using test::without_data;
using testing::HasSubstr;
using TimePoint = std::chrono::steady_clock::time_point;

constexpr TimePoint kStart = TimePoint(1h);

Frame only_frame(std::string_view bytes) {
  FrameReader reader(kMaxFrameBytes);
  Result<std::optional<Frame>> frame = reader.read(&bytes);
  EXPECT_TRUE(frame.is_ok() && frame->has_value() && bytes.empty());
  return std::move(**frame);
}

// --- the two state machines
// ---------------------------------------------------------------------------------------------

constexpr std::size_t kChunk = 3, kWindow = 2;
constexpr NodeId kPeer = 1;
constexpr raft::Incarnation kIncarnation = 101;

Config small_config() {
  Config config;
  config.snapshot_chunk_bytes = kChunk;
  config.snapshot_window_chunks = kWindow;
  config.snapshot_bytes_per_second = 0;
  config.snapshot_stall_timeout = 10s;
  return config;
}

// A sender and a receiver, and what is on its way between them.
struct Pair {
  explicit Pair(const Config& with = small_config())
      : config(with), rate(config.snapshot_bytes_per_second) {
    sender.connected();
  }

  void start(const Message& message) { note(sender.start(message, now)); }
  // All that the sender will send before it hears anything.
  void send() {
    for (;;) {
      std::string frame = sender.next_frame(now);
      if (!frame.empty()) {
        frames.push_back(std::move(frame));
      } else if (!sender.next_turn() || *sender.next_turn() > now) {
        return;
      }
    }
  }
  // The oldest frame arrives, and its answer.
  void carry_one() {
    const SnapshotAck ack = arrive();
    const Result<SnapshotOutcome> outcome = sender.acknowledged(ack, now);
    ASSERT_TRUE(outcome.is_ok()) << outcome.status().to_string();
    note(*outcome);
  }
  SnapshotAck arrive() {
    const Frame frame = only_frame(frames.front());
    frames.erase(frames.begin());
    SnapshotReceiver::Step step;
    if (frame.type == FrameType::kSnapshotHeader) {
      step = receiver->on_header(kPeer, kIncarnation, *decode_snapshot_header(frame.payload), now);
    } else {
      const SnapshotChunk chunk = *decode_snapshot_chunk(frame.payload);
      bytes_received += chunk.data.size();
      step = receiver->on_chunk(kPeer, chunk, now);
    }
    if (step.message) delivered.push_back(*step.message);
    return step.ack;
  }
  void run() {
    for (send(); !frames.empty(); send()) carry_one();
  }
  void cut() {
    frames.clear();
    sender.disconnected(now);
  }
  void restart_receiver() {
    receiver = std::make_unique<SnapshotReceiver>(config.max_snapshot_bytes,
                                                  config.snapshot_stall_timeout);
  }
  void note(const SnapshotOutcome& outcome) {
    if (outcome.messages > 0) outcomes.push_back(outcome);
  }

  const Config config;
  RateLimiter rate;
  SnapshotSender sender{&config, &rate};
  std::unique_ptr<SnapshotReceiver> receiver =
      std::make_unique<SnapshotReceiver>(config.max_snapshot_bytes, config.snapshot_stall_timeout);
  TimePoint now = kStart;
  std::vector<std::string> frames;
  std::uint64_t bytes_received = 0;
  std::vector<Message> delivered;
  std::vector<SnapshotOutcome> outcomes;
};

void expect_arrived(const Pair& pair, std::size_t messages = 1) {
  ASSERT_EQ(pair.outcomes.size(), 1u);
  EXPECT_EQ(pair.outcomes[0].messages, messages);
  EXPECT_TRUE(pair.outcomes[0].arrived) << pair.outcomes[0].reason;
  EXPECT_EQ(pair.sender.deadline(), std::nullopt);
  EXPECT_EQ(pair.sender.next_turn(), std::nullopt);
  EXPECT_EQ(pair.receiver->next_deadline(), std::nullopt);
}

TEST(SnapshotTransfer, GivesBackEveryFieldAndByteOfAnySize) {
  for (std::size_t size = 0; size <= 4 * kChunk; ++size) {
    Message message = test::every_message()[static_cast<int>(MessageType::kSnapshot)];
    auto snapshot = std::make_shared<raft::Snapshot>(*message.snapshot);
    snapshot->data = some_data(size);
    message.snapshot = snapshot;
    Pair pair;
    pair.start(message);
    pair.run();
    expect_arrived(pair);
    EXPECT_EQ(pair.bytes_received, size);
    ASSERT_EQ(pair.delivered.size(), 1u);
    test::expect_same(pair.delivered[0], message);
  }
}

TEST(SnapshotTransfer, MessageWithoutASnapshotArrivesToo) {
  Pair pair;
  pair.start(snapshot_to(1, 2, nullptr));
  pair.run();
  expect_arrived(pair);
  ASSERT_EQ(pair.delivered.size(), 1u);
  EXPECT_EQ(pair.delivered[0].snapshot, nullptr);
}

TEST(SnapshotTransfer, NothingIsSentAheadOfTheAnswerAndNoMoreThanTheWindow) {
  Pair pair;
  pair.start(snapshot_to(1, 2, some_snapshot(100)));
  pair.send();
  EXPECT_EQ(pair.frames.size(), 1u);  // the header
  pair.carry_one();
  for (int i = 0; i < 20; ++i) {
    pair.send();
    EXPECT_EQ(pair.frames.size(), kWindow);
    EXPECT_EQ(pair.sender.bytes_acknowledged(), i * kChunk);
    EXPECT_EQ(pair.sender.bytes_total(), 100u);
    pair.carry_one();
  }
}

TEST(SnapshotTransfer, DataIsSharedNotCopied) {
  const auto snapshot = some_snapshot(100);
  Pair pair;
  pair.start(snapshot_to(1, 2, snapshot));
  pair.send();
  EXPECT_EQ(snapshot.use_count(), 2);
  pair.run();
  EXPECT_EQ(snapshot.use_count(), 1);  // and let go at the end
}

TEST(SnapshotTransfer, ResumesFromEveryOffset) {
  constexpr std::size_t kSize = 20;
  const auto snapshot = some_snapshot(kSize);
  // So many frames arrive, the rest of the window is lost with the connection.
  for (std::size_t frames = 0; frames <= kSize / kChunk + 1; ++frames) {
    Pair pair;
    pair.start(snapshot_to(1, 2, snapshot));
    for (std::size_t i = 0; i < frames; ++i) {
      pair.send();
      pair.carry_one();
    }
    pair.send();
    pair.cut();
    pair.sender.connected();
    pair.run();
    expect_arrived(pair);
    EXPECT_EQ(pair.bytes_received, kSize) << "each byte once, cut after " << frames;
    ASSERT_EQ(pair.delivered.size(), 1u);
    EXPECT_EQ(*pair.delivered[0].snapshot, *snapshot);
  }
}

// The connection breaks under an acknowledgement: what it was for has arrived nevertheless.
TEST(SnapshotTransfer, ResumesBehindWhatArrivedWithoutItsAcknowledgement) {
  Pair pair;
  pair.start(snapshot_to(1, 2, some_snapshot(20)));
  pair.send();
  pair.carry_one();
  pair.send();
  pair.arrive();
  pair.arrive();
  pair.cut();
  pair.sender.connected();
  pair.run();
  expect_arrived(pair);
  EXPECT_EQ(pair.bytes_received, 20u);
}

TEST(SnapshotTransfer, ReceiverThatLostItsMemoryGetsTheWhole) {
  Pair pair;
  pair.start(snapshot_to(1, 2, some_snapshot(20)));
  for (int i = 0; i < 4; ++i) {
    pair.send();
    pair.carry_one();
  }
  ASSERT_EQ(pair.bytes_received, 3 * kChunk);
  pair.cut();
  pair.restart_receiver();
  pair.sender.connected();
  pair.run();
  expect_arrived(pair);
  EXPECT_EQ(pair.bytes_received, 3 * kChunk + 20);
}

TEST(SnapshotTransfer, SameContentInANewMessageContinuesUnderItsEnvelope) {
  const auto snapshot = some_snapshot(20);
  const auto read_again = std::make_shared<const raft::Snapshot>(*snapshot);
  for (const auto& second : {snapshot, read_again}) {
    Pair pair;
    pair.start(snapshot_to(1, 2, snapshot, 5));
    for (int i = 0; i < 4; ++i) {
      pair.send();
      pair.carry_one();
    }
    pair.send();
    pair.start(snapshot_to(1, 2, second, 6));  // with chunks on their way
    EXPECT_TRUE(pair.outcomes.empty());
    pair.run();
    expect_arrived(pair, 2);  // one report for each message
    EXPECT_EQ(pair.bytes_received, 20u);
    ASSERT_EQ(pair.delivered.size(), 1u);
    EXPECT_EQ(pair.delivered[0].term, 6u);
  }
}

TEST(SnapshotTransfer, AcknowledgementOfTheMessageBeforeIsNotThatOfTheNewOne) {
  const auto snapshot = some_snapshot(2);
  Pair pair;
  pair.start(snapshot_to(1, 2, snapshot, 5));
  pair.send();
  pair.carry_one();
  pair.send();
  const SnapshotAck done = pair.arrive();
  ASSERT_EQ(done.answer, SnapshotAnswer::kDone);
  pair.start(snapshot_to(1, 2, snapshot, 6));
  pair.note(*pair.sender.acknowledged(done, pair.now));
  EXPECT_TRUE(pair.outcomes.empty());
  pair.run();
  expect_arrived(pair, 2);
  ASSERT_EQ(pair.delivered.size(), 2u);
  EXPECT_EQ(pair.delivered[1].term, 6u);
}

TEST(SnapshotTransfer, OtherContentTakesThePlaceOfTheUnfinished) {
  Pair pair;
  pair.start(snapshot_to(1, 2, some_snapshot(20, 12)));
  for (int i = 0; i < 4; ++i) {
    pair.send();
    pair.carry_one();
  }
  pair.send();
  const auto newer = some_snapshot(20, 15);
  pair.start(snapshot_to(1, 2, newer));
  ASSERT_EQ(pair.outcomes.size(), 1u);
  EXPECT_EQ(pair.outcomes[0].messages, 1u);
  EXPECT_FALSE(pair.outcomes[0].arrived);
  EXPECT_EQ(pair.outcomes[0].reason, "another snapshot took its place");
  pair.outcomes.clear();
  pair.run();
  expect_arrived(pair);
  ASSERT_EQ(pair.delivered.size(), 1u);
  EXPECT_EQ(*pair.delivered[0].snapshot, *newer);
}

// Index, term and size say that it is the same; its checksum says that it isn't.
TEST(SnapshotTransfer, SameNameWithOtherBytesStartsOver) {
  const auto snapshot = some_snapshot(20);
  auto other = std::make_shared<raft::Snapshot>(*snapshot);
  other->data[1] = static_cast<char>(other->data[1] + 1);
  Pair pair;
  pair.start(snapshot_to(1, 2, snapshot));
  for (int i = 0; i < 4; ++i) {
    pair.send();
    pair.carry_one();
  }
  pair.start(snapshot_to(1, 2, other));
  pair.run();
  ASSERT_EQ(pair.delivered.size(), 1u);
  EXPECT_EQ(*pair.delivered[0].snapshot, *other);
}

TEST(SnapshotTransfer, ChecksumIsTakenInSlicesThatTheEventLoopCanBreakUp) {
  Config config = small_config();
  config.snapshot_chunk_bytes = 1 << 20;
  Pair pair(config);
  pair.start(snapshot_to(1, 2, some_snapshot(10 << 20)));
  int slices = 1;
  while (pair.sender.next_frame(pair.now).empty()) {
    ASSERT_LE(pair.sender.next_turn(), pair.now);  // at once
    ASSERT_LT(++slices, 100);
  }
  EXPECT_GT(slices, 2);
  EXPECT_EQ(pair.sender.next_turn(), std::nullopt);
}

TEST(SnapshotTransfer, IsGivenUpWhenTheConnectionStaysAway) {
  Pair pair;
  pair.start(snapshot_to(1, 2, some_snapshot(20)));
  pair.run();
  pair.outcomes.clear();
  pair.start(snapshot_to(1, 2, some_snapshot(20)));
  pair.send();
  pair.cut();
  pair.now += 6s;
  pair.sender.disconnected(pair.now);  // another attempt failed
  EXPECT_EQ(pair.sender.deadline(), kStart + 10s);
  pair.now = kStart + 10s - 1ms;
  pair.note(pair.sender.give_up_if_overdue(pair.now));
  EXPECT_TRUE(pair.outcomes.empty());
  pair.now += 1ms;
  pair.note(pair.sender.give_up_if_overdue(pair.now));
  ASSERT_EQ(pair.outcomes.size(), 1u);
  EXPECT_FALSE(pair.outcomes[0].arrived);
  EXPECT_THAT(pair.outcomes[0].reason, HasSubstr("the connection did not come back"));
  EXPECT_EQ(pair.sender.deadline(), std::nullopt);
}

// Nor does a connection that comes and goes, and answers nothing, keep it alive.
TEST(SnapshotTransfer, IsGivenUpWhenNoAnswerComes) {
  Pair pair;
  pair.start(snapshot_to(1, 2, some_snapshot(20)));
  pair.send();
  pair.carry_one();
  EXPECT_EQ(pair.sender.deadline(), std::nullopt);  // it is not the receiver who is waited for
  pair.now += 60s;
  pair.send();
  for (int i = 0; i < 4; ++i) {
    pair.now += 2s;
    pair.cut();
    pair.now += 1s;
    pair.note(pair.sender.give_up_if_overdue(pair.now));
    pair.sender.connected();
    pair.send();
  }
  ASSERT_EQ(pair.outcomes.size(), 1u);
  EXPECT_THAT(pair.outcomes[0].reason, HasSubstr("given up"));
}

TEST(SnapshotTransfer, EachAcknowledgementMovesTheDeadline) {
  Pair pair;
  pair.start(snapshot_to(1, 2, some_snapshot(20)));
  for (pair.send(); !pair.frames.empty(); pair.send()) {
    pair.now += 9s;
    pair.note(pair.sender.give_up_if_overdue(pair.now));
    pair.carry_one();
  }
  expect_arrived(pair);
}

TEST(SnapshotTransfer, AcknowledgementOfWhatWasNeverSentIsAnError) {
  struct Case {
    const char* name;
    std::uint64_t received;
    SnapshotAnswer answer;
    bool after_the_header;
  };
  const Case cases[] = {{"beyond the end", 21, SnapshotAnswer::kReceiving, false},
                        {"done with a part", 6, SnapshotAnswer::kDone, false},
                        {"beyond what was sent", 9, SnapshotAnswer::kReceiving, true},
                        {"done before the end", 20, SnapshotAnswer::kDone, true},
                        {"less than before", 2, SnapshotAnswer::kReceiving, true}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    Pair pair;
    pair.start(snapshot_to(1, 2, some_snapshot(20)));
    pair.send();
    SnapshotAck ack{1, c.received, c.answer, ""};
    if (c.after_the_header) {
      ack.transfer = pair.arrive().transfer;
      pair.note(
          *pair.sender.acknowledged({ack.transfer, 3, SnapshotAnswer::kReceiving, ""}, kStart));
      pair.frames.push_back(pair.sender.next_frame(kStart));
    } else {
      ack.transfer = pair.arrive().transfer;
    }
    EXPECT_EQ(pair.sender.acknowledged(ack, kStart).status().code(), Code::kCorruption);
    ++ack.transfer;  // of no announcement: no matter what it says
    EXPECT_TRUE(pair.sender.acknowledged(ack, kStart).is_ok());
  }
}

// --- what a receiver refuses
// --------------------------------------------------------------------------------------------

struct ReceiverTest : testing::Test {
  SnapshotReceiver receiver{1000, 10s};
  const std::shared_ptr<const raft::Snapshot> snapshot = some_snapshot(20);

  SnapshotAck announce(std::uint64_t transfer, NodeId peer = kPeer,
                       raft::Incarnation incarnation = kIncarnation, TimePoint now = kStart) {
    return receiver.on_header(peer, incarnation, header_of(*snapshot, transfer), now).ack;
  }
  SnapshotAck chunk(std::uint64_t transfer, std::uint64_t offset, std::size_t bytes,
                    NodeId peer = kPeer, TimePoint now = kStart) {
    return receiver
        .on_chunk(peer, {transfer, offset, (snapshot->data + "xxxx").substr(offset, bytes)}, now)
        .ack;
  }
};

TEST_F(ReceiverTest, RefusesWhatIsNotTheNextPieceAndForgetsTheRest) {
  struct Case {
    const char* name;
    std::uint64_t offset;
    std::size_t bytes;
    const char* reason;
  };
  const Case cases[] = {{"a gap", 7, 3, "a chunk begins at byte 7, not at 6"},
                        {"overlapping", 5, 3, "a chunk begins at byte 5, not at 6"},
                        {"again", 0, 6, "a chunk begins at byte 0, not at 6"},
                        {"far off", 21, 1, "a chunk begins at byte 21, not at 6"},
                        {"too long", 6, 15, "a chunk has 15 bytes, 14 are missing"},
                        {"empty", 6, 0, "a chunk has 0 bytes, 14 are missing"}};
  std::uint64_t transfer = 1;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(announce(++transfer).received, 0u);
    EXPECT_EQ(chunk(transfer, 0, 6).received, 6u);
    const SnapshotAck refused = chunk(transfer, c.offset, c.bytes);
    EXPECT_EQ(refused.answer, SnapshotAnswer::kRefused);
    EXPECT_EQ(refused.transfer, transfer);
    EXPECT_EQ(refused.reason, c.reason);
    EXPECT_EQ(receiver.next_deadline(), std::nullopt);
    EXPECT_EQ(chunk(transfer, 6, 3).reason, "it is not (or no longer) announced");
  }
}

TEST_F(ReceiverTest, RefusesChunksWithoutAHeader) {
  EXPECT_EQ(chunk(1, 0, 3).answer, SnapshotAnswer::kRefused);
  announce(5);
  const SnapshotAck refused = chunk(4, 0, 3);
  EXPECT_EQ(refused.answer, SnapshotAnswer::kRefused);
  EXPECT_EQ(refused.transfer, 4u);
  EXPECT_EQ(chunk(5, 0, 3, 2).answer, SnapshotAnswer::kRefused);  // it was another peer's
  EXPECT_EQ(chunk(5, 0, 3).received, 3u);                         // which was not touched
}

TEST_F(ReceiverTest, RefusesASizeOverTheLimit) {
  SnapshotHeader header = header_of(*snapshot);
  header.size = 1001;
  const SnapshotAck refused = receiver.on_header(kPeer, kIncarnation, header, kStart).ack;
  EXPECT_EQ(refused.answer, SnapshotAnswer::kRefused);
  EXPECT_EQ(refused.reason, "the snapshot has 1001 bytes, the limit is 1000");
  EXPECT_EQ(receiver.next_deadline(), std::nullopt);
  header.size = 1000;
  EXPECT_EQ(receiver.on_header(kPeer, kIncarnation, header, kStart).ack.answer,
            SnapshotAnswer::kReceiving);
}

TEST_F(ReceiverTest, TakesMemoryOnlyForWhatArrives) {
  SnapshotReceiver boundless(~0ull, 10s);
  SnapshotHeader header = header_of(*snapshot);
  header.size = ~0ull >> 2;
  EXPECT_EQ(boundless.on_header(kPeer, kIncarnation, header, kStart).ack.answer,
            SnapshotAnswer::kReceiving);
  EXPECT_EQ(boundless.on_chunk(kPeer, {1, 0, "abc"}, kStart).ack.received, 3u);
}

TEST_F(ReceiverTest, RefusesTooManyAtOnce) {
  for (NodeId peer = 1; peer <= state::kMaxMembers; ++peer) {
    EXPECT_EQ(announce(1, peer).answer, SnapshotAnswer::kReceiving);
  }
  EXPECT_EQ(announce(1, 1000).reason, "too many snapshots are being received, the limit is 32");
  EXPECT_EQ(announce(2, 1).answer, SnapshotAnswer::kReceiving);  // in place of its own
}

TEST_F(ReceiverTest, RefusesDataThatDoesNotMatchItsChecksum) {
  SnapshotHeader header = header_of(*snapshot);
  for (const bool damaged : {true, false}) {
    announce(1);
    chunk(1, 0, 10);
    std::string rest = snapshot->data.substr(10);
    if (damaged) rest[3] = static_cast<char>(rest[3] ^ 1);
    const auto step = receiver.on_chunk(kPeer, {1, 10, rest}, kStart);
    EXPECT_EQ(step.message.has_value(), !damaged);
    EXPECT_EQ(step.ack.reason, damaged ? "the data does not match its checksum" : "");
    EXPECT_EQ(receiver.next_deadline(), std::nullopt);
  }
}

TEST_F(ReceiverTest, KeepsAPartOnlyForTheSameContentOfTheSamePeer) {
  announce(1);
  chunk(1, 0, 9);
  EXPECT_EQ(announce(1, 2).received, 0u);  // another peer has its own
  EXPECT_EQ(announce(2).received, 9u);
  EXPECT_EQ(announce(3, kPeer, kIncarnation + 1).received, 0u);
  chunk(3, 0, 9);

  const std::function<void(SnapshotHeader*)> changes[] = {
      [](SnapshotHeader* h) { ++h->size; },
      [](SnapshotHeader* h) { ++h->crc; },
      [](SnapshotHeader* h) { h->message.snapshot = without_data(*h->message.snapshot, 99, 13); },
      [](SnapshotHeader* h) { h->message.snapshot = without_data(*h->message.snapshot, 12, 99); },
  };
  std::uint64_t transfer = 10;
  for (const auto& change : changes) {
    announce(++transfer);
    ASSERT_EQ(chunk(transfer, 0, 9).received, 9u);
    SnapshotHeader other = header_of(*snapshot, ++transfer);
    change(&other);
    EXPECT_EQ(receiver.on_header(kPeer, kIncarnation, other, kStart).ack.received, 0u);
    EXPECT_EQ(announce(++transfer).received, 0u);  // what it replaced is gone
  }
}

TEST_F(ReceiverTest, RefusedHeaderTooTakesThePlaceOfTheUnfinished) {
  announce(1);
  chunk(1, 0, 9);
  SnapshotHeader big = header_of(*snapshot, 2);
  big.size = 1001;
  EXPECT_EQ(receiver.on_header(kPeer, kIncarnation, big, kStart).ack.answer,
            SnapshotAnswer::kRefused);
  EXPECT_EQ(announce(3).received, 0u);
}

TEST_F(ReceiverTest, DropsWhatStalls) {
  announce(1, 1, kIncarnation, kStart);
  announce(1, 2, kIncarnation, kStart + 1s);
  chunk(1, 0, 3, 1, kStart + 5s);
  EXPECT_EQ(receiver.next_deadline(), kStart + 11s);
  receiver.drop_stalled(kStart + 11s - 1ms);
  EXPECT_EQ(receiver.next_deadline(), kStart + 11s);
  receiver.drop_stalled(kStart + 11s);
  EXPECT_EQ(receiver.next_deadline(), kStart + 15s);
  EXPECT_EQ(chunk(1, 0, 3, 2).answer, SnapshotAnswer::kRefused);
  EXPECT_EQ(chunk(1, 3, 3, 1, kStart + 14s).received, 6u);
  receiver.drop_stalled(kStart + 24s);
  EXPECT_EQ(receiver.next_deadline(), std::nullopt);
  EXPECT_EQ(announce(2).received, 0u);
}

TEST(SnapshotTransfer, RefusalEndsItWithItsReason) {
  Config config = small_config();
  config.max_snapshot_bytes = 19;
  Pair pair(config);
  pair.start(snapshot_to(1, 2, some_snapshot(20)));
  pair.run();
  ASSERT_EQ(pair.outcomes.size(), 1u);
  EXPECT_FALSE(pair.outcomes[0].arrived);
  EXPECT_EQ(pair.outcomes[0].reason,
            "the snapshot was refused: the snapshot has 20 bytes, the limit is 19");
  EXPECT_TRUE(pair.delivered.empty());
}

TEST(SnapshotTransfer, ChunksOnTheirWayBehindARefusalChangeNothing) {
  Pair pair;
  pair.start(snapshot_to(1, 2, some_snapshot(20)));
  pair.send();
  pair.carry_one();
  pair.send();
  pair.restart_receiver();  // it forgot; both chunks of the window are refused
  pair.run();
  ASSERT_EQ(pair.outcomes.size(), 1u);
  EXPECT_THAT(pair.outcomes[0].reason, HasSubstr("no longer) announced"));
}

// --- rate
// ------------------------------------------------------------------------------------------------------

TEST(RateLimiter, GivesEachATurnAtTheRate) {
  RateLimiter rate(1000);
  const TimePoint first = rate.book(kStart, 500);
  EXPECT_LE(first, kStart);
  EXPECT_EQ(rate.book(kStart, 100), first + 500ms);
  EXPECT_EQ(rate.book(kStart, 1), first + 600ms);
}

TEST(RateLimiter, LateTimersAreMadeUpForPausesAreNot) {
  RateLimiter rate(1000);
  const TimePoint first = rate.book(kStart, 1000);
  const TimePoint late = first + 1s + 30ms;
  EXPECT_EQ(rate.book(late, 1000), first + 1s);
  const TimePoint long_after = kStart + 1h;
  EXPECT_GE(rate.book(long_after, 1000), long_after - 100ms);
  EXPECT_GE(rate.book(long_after, 1000), long_after + 900ms);
}

TEST(RateLimiter, ZeroIsNoLimit) {
  RateLimiter rate(0);
  EXPECT_EQ(rate.book(kStart, ~0ull), kStart);
  EXPECT_EQ(rate.book(kStart, ~0ull), kStart);
}

TEST(SnapshotTransfer, ChunksWaitForTheirTurnAndSendersShareTheRate) {
  Config config = small_config();
  config.snapshot_bytes_per_second = 1000 * kChunk;  // a chunk each millisecond
  RateLimiter rate(config.snapshot_bytes_per_second);
  SnapshotSender one(&config, &rate), two(&config, &rate);
  int chunks = 0;
  TimePoint now = kStart;
  for (SnapshotSender* sender : {&one, &two}) {
    sender->connected();
    sender->start(snapshot_to(1, 2, some_snapshot(3000)), now);
    const Frame header = only_frame(sender->next_frame(now));
    const std::uint64_t transfer = decode_snapshot_header(header.payload)->transfer;
    ASSERT_TRUE(sender->acknowledged({transfer, 0, SnapshotAnswer::kReceiving, ""}, now).is_ok());
  }
  std::map<SnapshotSender*, int> sent;
  for (; now < kStart + 1s; now += 100us) {
    for (SnapshotSender* sender : {&one, &two}) {
      const std::string bytes = sender->next_frame(now);
      if (bytes.empty()) {
        ASSERT_TRUE(sender->next_turn().has_value());
        continue;
      }
      const SnapshotChunk chunk = *decode_snapshot_chunk(only_frame(bytes).payload);
      ++chunks;
      ++sent[sender];
      ASSERT_TRUE(sender
                      ->acknowledged({chunk.transfer, chunk.offset + chunk.data.size(),
                                      SnapshotAnswer::kReceiving, ""},
                                     now)
                      .is_ok());
    }
  }
  EXPECT_NEAR(chunks, 1000, 110);  // what may be made up for included
  EXPECT_NEAR(sent[&one], sent[&two], 1);
}

TEST(Config, RefusesWhatCanNotWork) {
  EXPECT_TRUE(Config().validate().is_ok());
  const std::function<void(Config*)> changes[] = {
      [](Config* c) { c->snapshot_chunk_bytes = 0; },
      [](Config* c) { c->snapshot_chunk_bytes = kMaxFrameBytes; },
      [](Config* c) { c->snapshot_window_chunks = 0; },
      [](Config* c) { c->snapshot_window_chunks = ~0ull; },
      [](Config* c) { c->snapshot_bytes_per_second = 1000; },
      [](Config* c) { c->snapshot_stall_timeout = 1ms; },
  };
  for (const auto& change : changes) {
    Config config = local_config();
    change(&config);
    EXPECT_EQ(config.validate().code(), Code::kInvalidArgument);
    test::Recorder got;
    EXPECT_EQ(Transport::start(config, test::some_identity(1), &got).status().code(),
              Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace pgraft::transport
