// Codec and frames: every field survives, and nothing that a stranger sends does more than give an
// error.

#include "libpgraft/transport/codec.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "libpgraft/transport/frame.h"
#include "libpgraft/transport/test_data.h"

namespace pgraft::transport {
namespace {

struct Case {
  const char* name;
  std::string payload;
  std::function<Status(std::string_view)> decode;
};

SnapshotHeader some_snapshot_header() {
  raft::Message message = test::every_message()[static_cast<int>(raft::MessageType::kSnapshot)];
  message.snapshot = std::make_shared<raft::Snapshot>(raft::Snapshot{message.snapshot->meta, ""});
  return {1, ~0ull, 2, message};
}

std::vector<Case> every_payload() {
  return {{"messages", encode(test::every_message()),
           [](std::string_view p) { return decode_messages(p).status(); }},
          {"report", encode(test::some_report()),
           [](std::string_view p) { return decode_report(p).status(); }},
          {"WAL status", encode(test::some_wal_status()),
           [](std::string_view p) { return decode_wal_status(p).status(); }},
          {"identity", encode(test::some_identity(1)),
           [](std::string_view p) { return decode_identity(p).status(); }},
          {"hello", encode(Hello{test::some_identity(1), 2, 3}),
           [](std::string_view p) { return decode_hello(p).status(); }},
          {"status", encode(test::some_status()),
           [](std::string_view p) { return decode_status(p).status(); }},
          {"snapshot header", encode(some_snapshot_header()),
           [](std::string_view p) { return decode_snapshot_header(p).status(); }},
          {"snapshot chunk", encode_chunk(1, 2, "data"),
           [](std::string_view p) { return decode_snapshot_chunk(p).status(); }},
          {"snapshot ack", encode(SnapshotAck{1, 2, SnapshotAnswer::kRefused, "reason"}),
           [](std::string_view p) { return decode_snapshot_ack(p).status(); }}};
}

TEST(Codec, GivesBackEveryFieldOfEveryMessageType) {
  const std::vector<raft::Message> messages = test::every_message();
  const auto decoded = decode_messages(encode(messages));
  ASSERT_TRUE(decoded.is_ok()) << decoded.status().to_string();
  test::expect_same(*decoded, messages);
}

TEST(Codec, GivesBackEveryFieldOfTheOtherPayloads) {
  EXPECT_EQ(*decode_report(encode(test::some_report())), test::some_report());
  EXPECT_EQ(*decode_wal_status(encode(test::some_wal_status())), test::some_wal_status());
  const Hello hello{test::some_identity(7), 8, 9};
  const auto decoded = decode_hello(encode(hello));
  ASSERT_TRUE(decoded.is_ok());
  test::expect_same(decoded->identity, hello.identity);
  EXPECT_EQ(decoded->expected_node, 8u);
  EXPECT_EQ(decoded->expected_incarnation, 9u);
  const auto status = decode_status(encode(test::some_status()));
  ASSERT_TRUE(status.is_ok()) << status.status().to_string();
  test::expect_same(*status, test::some_status());
}

// An older version's ends where the rest would begin; that alone is no damage.
TEST(Codec, GivesBackAStatusWithAndWithoutWhatNewerVersionsAdd) {
  const std::string whole = encode(test::some_whole_status());
  const std::string older = encode(test::some_status());
  ASSERT_TRUE(whole.starts_with(older));
  const auto status = decode_status(whole);
  ASSERT_TRUE(status.is_ok()) << status.status().to_string();
  test::expect_same(*status, test::some_whole_status());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_EQ(decode_status(std::string_view(whole).substr(0, length)).is_ok(),
              length == older.size());
  }
  EXPECT_EQ(decode_status(whole + '\0').status().code(), Code::kCorruption);
  for (std::size_t at = older.size(); at + 4 <= whole.size(); ++at) {
    std::string hostile = whole;
    hostile.replace(at, 4, "\xff\xff\xff\xff");
    const Status s = decode_status(hostile).status();
    ASSERT_TRUE(s.is_ok() || s.code() == Code::kCorruption) << at;
  }
}

TEST(Codec, GivesBackEveryFieldOfASnapshotsPieces) {
  const SnapshotHeader header = some_snapshot_header();
  const auto decoded = decode_snapshot_header(encode(header));
  ASSERT_TRUE(decoded.is_ok()) << decoded.status().to_string();
  EXPECT_EQ(decoded->transfer, 1u);
  EXPECT_EQ(decoded->size, ~0ull);
  EXPECT_EQ(decoded->crc, 2u);
  test::expect_same(decoded->message, header.message);
  const auto chunk = decode_snapshot_chunk(encode_chunk(1, 2, "data"));
  ASSERT_TRUE(chunk.is_ok()) << chunk.status().to_string();
  EXPECT_EQ(chunk->transfer, 1u);
  EXPECT_EQ(chunk->offset, 2u);
  EXPECT_EQ(chunk->data, "data");
  const auto ack = decode_snapshot_ack(encode(SnapshotAck{1, 2, SnapshotAnswer::kDone, "reason"}));
  ASSERT_TRUE(ack.is_ok()) << ack.status().to_string();
  EXPECT_EQ(ack->transfer, 1u);
  EXPECT_EQ(ack->received, 2u);
  EXPECT_EQ(ack->answer, SnapshotAnswer::kDone);
  EXPECT_EQ(ack->reason, "reason");
}

TEST(Codec, HeaderOfWhatIsNoSnapshotIsRefused) {
  SnapshotHeader other = some_snapshot_header();
  other.message.type = raft::MessageType::kAppend;
  EXPECT_EQ(decode_snapshot_header(encode(other)).status().code(), Code::kCorruption);
  SnapshotHeader with_data = some_snapshot_header();
  auto data = std::make_shared<raft::Snapshot>();
  data->data = "data";
  with_data.message.snapshot = data;
  EXPECT_EQ(decode_snapshot_header(encode(with_data)).status().code(), Code::kCorruption);
  SnapshotHeader without = some_snapshot_header();
  without.message.snapshot = nullptr;
  EXPECT_EQ(decode_snapshot_header(encode(without)).status().code(), Code::kCorruption);
  without.size = 0;
  EXPECT_TRUE(decode_snapshot_header(encode(without)).is_ok());
}

TEST(Codec, TruncationAtEveryByteIsAnError) {
  for (const Case& c : every_payload()) {
    ASSERT_TRUE(c.decode(c.payload).is_ok()) << c.name;
    for (std::size_t length = 0; length < c.payload.size(); ++length) {
      ASSERT_EQ(c.decode(std::string_view(c.payload).substr(0, length)).code(), Code::kCorruption)
          << c.name << " cut at " << length;
    }
    EXPECT_EQ(c.decode(c.payload + '\0').code(), Code::kCorruption) << c.name;
  }
}

TEST(Codec, RandomDamageNeverDoesMoreThanFail) {
  std::mt19937 random(4711);
  for (const Case& c : every_payload()) {
    for (int round = 0; round < 3000; ++round) {
      std::string damaged = c.payload;
      for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips) {
        damaged[random() % damaged.size()] ^= static_cast<char>(1u << random() % 8);
      }
      const Status s = c.decode(damaged);  // may still be a value: other numbers, other text
      ASSERT_TRUE(s.is_ok() || s.code() == Code::kCorruption) << c.name;
    }
  }
}

// 0xffffffff over every four bytes: whichever of them are a count or a length claims far more than
// there is.
TEST(Codec, HostileLengthsTakeNoMemory) {
  for (const Case& c : every_payload()) {
    for (std::size_t at = 1; at + 4 <= c.payload.size(); ++at) {
      std::string hostile = c.payload;
      hostile.replace(at, 4, "\xff\xff\xff\xff");
      const Status s = c.decode(hostile);
      ASSERT_TRUE(s.is_ok() || s.code() == Code::kCorruption) << c.name << " at " << at;
    }
  }
  const std::string lengths[] = {std::string("\1\xff\xff\xff\xff", 5),
                                 std::string("\1\x00\x10\x00\x00", 5)};
  for (const std::string& payload : lengths) {
    EXPECT_EQ(decode_messages(payload).status().code(), Code::kCorruption);
  }
}

// Twice or out of order, an id would be lost and the value have a second form.
TEST(Codec, IncarnationsOutOfOrderAreRefused) {
  const auto payload = [](raft::NodeId first, raft::NodeId second) {
    auto snapshot = std::make_shared<raft::Snapshot>();
    snapshot->meta.conf.incarnations = {{0x7071, 1}, {0x7072, 2}};
    raft::Message m;
    m.snapshot = snapshot;
    std::string bytes = encode(std::vector<raft::Message>{m});
    bytes[bytes.rfind("\x71\x70")] = static_cast<char>(first);
    bytes[bytes.rfind("\x72\x70")] = static_cast<char>(second);
    return bytes;
  };
  EXPECT_TRUE(decode_messages(payload(0x71, 0x72)).is_ok());
  EXPECT_EQ(decode_messages(payload(0x72, 0x71)).status().code(), Code::kCorruption);
  EXPECT_EQ(decode_messages(payload(0x71, 0x71)).status().code(), Code::kCorruption);
}

TEST(Codec, SizeEstimateIsNeverTooSmall) {
  for (const raft::Message& message : test::every_message()) {
    EXPECT_GE(encoded_bytes_max(message) + 8, encode(std::vector<raft::Message>{message}).size());
  }
}

// --- frames
// -------------------------------------------------------------------------------------------------

// Feeds `bytes` in pieces of at most `piece`.
Result<std::vector<Frame>> read_all(FrameReader* reader, std::string_view bytes,
                                    std::size_t piece) {
  std::vector<Frame> frames;
  while (!bytes.empty()) {
    std::string_view part = bytes.substr(0, piece);
    bytes.remove_prefix(part.size());
    while (!part.empty()) {
      auto frame = reader->read(&part);
      if (!frame.is_ok()) return frame.status();
      if (frame->has_value()) frames.push_back(std::move(**frame));
    }
  }
  return frames;
}

TEST(Frame, StreamIsCutAlikeWhateverThePieces) {
  const std::string bytes = encode_frame(FrameType::kHello, "one") +
                            encode_frame(FrameType::kQueryStatus, "") +
                            encode_frame(FrameType::kMessages, std::string(1000, 'x'));
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    FrameReader reader;
    const auto frames = read_all(&reader, bytes, piece);
    ASSERT_TRUE(frames.is_ok()) << frames.status().to_string();
    ASSERT_EQ(frames->size(), 2u + 1u) << piece;
    EXPECT_EQ((*frames)[0].payload, "one");
    EXPECT_EQ((*frames)[1].type, FrameType::kQueryStatus);
    EXPECT_EQ((*frames)[2].payload.size(), 1000u);
    EXPECT_FALSE(reader.in_frame());
  }
}

TEST(Frame, EveryFlippedBitIsNoticed) {
  const std::string sound = encode_frame(FrameType::kMessages, "a payload of some bytes");
  for (std::size_t bit = 0; bit < sound.size() * 8; ++bit) {
    std::string damaged = sound;
    damaged[bit / 8] ^= static_cast<char>(1u << bit % 8);
    FrameReader reader;
    const auto frames = read_all(&reader, damaged + std::string(200, '\0'), 4096);
    // A longer length swallows what follows; then either the checksum or the next header fails, or
    // the frame never completes.
    ASSERT_TRUE(!frames.is_ok() || frames->empty()) << bit;
  }
}

TEST(Frame, TooLongAFrameIsRefusedByItsHeaderAlone) {
  std::string header = encode_frame(FrameType::kMessages, std::string(2000, 'x'));
  header.resize(kFrameHeaderBytes);
  FrameReader reader(1999);
  const auto refused = read_all(&reader, header, 99);
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted) << refused.status().to_string();
  EXPECT_NE(refused.status().message().find("2000 bytes, the limit is 1999"), std::string::npos);
  FrameReader enough(2000);
  EXPECT_TRUE(read_all(&enough, header, 99).is_ok());
  header.replace(8, 4, "\xff\xff\xff\xff");
  FrameReader largest(kMaxFrameBytes);
  EXPECT_EQ(read_all(&largest, header, 99).status().code(), Code::kResourceExhausted);
}

TEST(Frame, GarbageIsKnownByItsFirstByte) {
  FrameReader reader;
  EXPECT_EQ(read_all(&reader, "G", 1).status().code(), Code::kCorruption);
  EXPECT_EQ(read_all(&reader, encode_frame(FrameType::kHello, ""), 99).status().code(),
            Code::kCorruption);  // the stream stays lost
}

TEST(Frame, RandomBytesNeverDoMoreThanFail) {
  std::mt19937 random(42);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = "PGRF";
    for (int i = static_cast<int>(random() % 64); i > 0; --i) {
      bytes.push_back(static_cast<char>(random()));
    }
    FrameReader reader;
    const auto frames = read_all(&reader, bytes, 1 + random() % 16);
    ASSERT_TRUE(!frames.is_ok() || frames->empty());
  }
}

}  // namespace
}  // namespace pgraft::transport
