#include "libpgraft/transport/codec.h"

#include <exception>
#include <stdexcept>
#include <string>

#include "libpgraft/state/byte_archive.h"

namespace pgraft::transport {
namespace {

constexpr std::size_t kMaxTextBytes = 4096;  // names, versions, phases
constexpr std::size_t kMaxIds = 1024;        // of a configuration's lists
constexpr std::size_t kMaxEntriesPerMessage = 1u << 20;
constexpr std::size_t kMaxMembersInStatus = 1024;

// Least encoded sizes, for checking a count against the bytes that are left.
constexpr std::size_t kMinEntryBytes = 8 + 8 + 1 + 4;
constexpr std::size_t kMinMessageBytes = 92;
constexpr std::size_t kMinMemberStatusBytes = 104;
constexpr std::size_t kPromotionStatusBytes = 8 + 8 + 4 + 8;
constexpr std::size_t kContactBytes = 8 + 8;
constexpr std::size_t kMinRejoinStatusBytes = 8 + 4 + 8 + 8 + 8;

// Encoder and Decoder have the same methods, so that one function per type (below) describes both
// directions.
class Encoder {
 public:
  explicit Encoder(std::string* out) : out_(out), archive_(out) {}

  std::size_t size() const { return out_->size(); }

  template <class T>
  void number(const T& value) {
    archive_(value);
  }
  void flag(bool value) { number(static_cast<std::uint8_t>(value)); }
  template <class E>
  void choice(E value, E) {
    number(static_cast<std::uint8_t>(value));
  }
  void text(std::string_view value, std::size_t) {
    number(static_cast<std::uint32_t>(value.size()));
    archive_(cereal::binary_data(value.data(), value.size()));
  }
  void payload(const raft::Payload& value, std::size_t max) { text(value.str(), max); }
  template <class T, class F>
  void list(const std::vector<T>& values, std::size_t, std::size_t, F each) {
    number(static_cast<std::uint32_t>(values.size()));
    for (const T& value : values) each(value);
  }
  void incarnations(const std::map<raft::NodeId, raft::Incarnation>& values) {
    number(static_cast<std::uint32_t>(values.size()));
    for (const auto& [id, incarnation] : values) {
      number(id);
      number(incarnation);
    }
  }
  template <class T, class F>
  void optional(const std::shared_ptr<const T>& value, F each) {
    flag(value != nullptr);
    if (value != nullptr) each(*value);
  }

  template <class T, class F>
  void rest(const std::optional<T>& value, F each) {
    if (value) each(*value);
  }

 private:
  const std::string* out_;
  state::ByteWriter archive_;
};

class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : archive_(bytes) {}

  template <class T>
  void number(T& value) {
    archive_(value);
  }
  void flag(bool& value) {
    std::uint8_t byte = 0;
    number(byte);
    if (byte > 1) refuse("a flag is neither 0 nor 1");
    value = byte == 1;
  }
  template <class E>
  void choice(E& value, E last) {
    std::uint8_t byte = 0;
    number(byte);
    if (byte > static_cast<std::uint8_t>(last)) refuse("a type is unknown");
    value = static_cast<E>(byte);
  }
  void text(std::string& value, std::size_t max) {
    value.resize(count(max, 1));
    archive_(cereal::binary_data(value.data(), value.size()));
  }
  void payload(raft::Payload& value, std::size_t max) {
    std::string bytes;
    text(bytes, max);
    value = std::move(bytes);
  }
  template <class T, class F>
  void list(std::vector<T>& values, std::size_t max, std::size_t bytes_each, F each) {
    values.resize(count(max, bytes_each));
    for (T& value : values) each(value);
  }
  void incarnations(std::map<raft::NodeId, raft::Incarnation>& values) {
    for (std::size_t left = count(kMaxIds, 16); left > 0; --left) {
      raft::NodeId id = 0;
      number(id);
      if (!values.empty() && id <= values.rbegin()->first) refuse("ids are out of order");
      number(values[id]);
    }
  }
  template <class T, class F>
  void optional(std::shared_ptr<const T>& value, F each) {
    bool present = false;
    flag(present);
    if (!present) return;
    auto made = std::make_shared<T>();
    each(*made);
    value = std::move(made);
  }
  // What an older version ends without.
  template <class T, class F>
  void rest(std::optional<T>& value, F each) {
    if (remaining() > 0) each(value.emplace());
  }
  std::size_t remaining() const { return archive_.remaining(); }
  void end() const {
    if (archive_.remaining() != 0) refuse("bytes follow its end");
  }

 private:
  [[noreturn]] static void refuse(const char* why) { throw std::runtime_error(why); }

  // Reads a count of things of at least `bytes_each`; refuses it when they can't all be there.
  std::size_t count(std::size_t max, std::size_t bytes_each) {
    std::uint32_t n = 0;
    number(n);
    if (n > max) refuse("a length is over its limit");
    if (n > archive_.remaining() / bytes_each) refuse("a length is more than there is");
    return n;
  }

  state::ByteReader archive_;
};

// --- the fields of each type, in their order on the wire; C is Encoder (T const) or Decoder ---

template <class C, class T>
void entry_fields(C& c, T& entry) {
  c.number(entry.index);
  c.number(entry.term);
  c.choice(entry.type, raft::EntryType::kConfChange);
  c.payload(entry.data, kMaxFrameBytes);
}

template <class C, class T>
void conf_fields(C& c, T& conf) {
  const auto id = [&](auto& value) { c.number(value); };
  c.list(conf.voters, kMaxIds, 8, id);
  c.list(conf.learners, kMaxIds, 8, id);
  c.list(conf.voters_outgoing, kMaxIds, 8, id);
  c.list(conf.learners_next, kMaxIds, 8, id);
  c.flag(conf.auto_leave);
  c.incarnations(conf.incarnations);
}

template <class C, class T>
void snapshot_fields(C& c, T& snapshot) {
  c.number(snapshot.meta.index);
  c.number(snapshot.meta.term);
  conf_fields(c, snapshot.meta.conf);
  c.text(snapshot.data, kMaxFrameBytes);
}

template <class C, class T>
void message_fields(C& c, T& m) {
  c.choice(m.type, raft::MessageType::kReadIndexResponse);
  c.number(m.from);
  c.number(m.to);
  c.number(m.term);
  c.number(m.log_term);
  c.number(m.index);
  c.list(m.entries, kMaxEntriesPerMessage, kMinEntryBytes, [&](auto& e) { entry_fields(c, e); });
  c.number(m.commit);
  c.flag(m.reject);
  c.number(m.reject_hint);
  c.flag(m.transfer);
  c.text(m.context, kMaxFrameBytes);
  c.optional(m.snapshot, [&](auto& snapshot) { snapshot_fields(c, snapshot); });
  c.number(m.from_incarnation);
  c.number(m.to_incarnation);
  c.number(m.stamp);
}

template <class C, class T>
void report_fields(C& c, T& report) {
  c.number(report.from);
  c.number(report.term);
  c.flag(report.abstains);
  c.number(report.position.timeline);
  c.number(report.position.lsn);
  c.number(report.bound);
  c.flag(report.yields);
}

template <class C, class T>
void wal_status_fields(C& c, T& status) {
  c.number(status.from);
  c.flag(status.in_recovery);
  c.number(status.end.timeline);
  c.number(status.end.lsn);
  c.number(status.replayed.timeline);
  c.number(status.replayed.lsn);
  c.number(status.needed);
  c.number(status.oldest);
  c.number(status.priority);
}

template <class C, class T>
void member_fields(C& c, T& member) {
  c.number(member.id);
  c.number(member.incarnation);
  c.text(member.name, kMaxTextBytes);
  c.text(member.address, kMaxTextBytes);
  c.number(member.port);
  c.text(member.pg_host, kMaxTextBytes);
  c.number(member.pg_port);
  c.flag(member.nosync);
}

template <class C, class T>
void identity_fields(C& c, T& identity) {
  c.text(identity.cluster_name, kMaxTextBytes);
  c.number(identity.cluster_id);
  c.number(identity.node_id);
  c.number(identity.incarnation);
  c.number(identity.system_identifier);
  member_fields(c, identity.member);
  c.text(identity.version, kMaxTextBytes);
}

template <class C, class T>
void hello_fields(C& c, T& hello) {
  identity_fields(c, hello.identity);
  c.number(hello.expected_node);
  c.number(hello.expected_incarnation);
}

template <class C, class T>
void member_status_fields(C& c, T& status) {
  member_fields(c, status.member);
  c.flag(status.voter);
  c.flag(status.learner);
  c.flag(status.answering);
  c.number(status.match_index);
  c.number(status.flush_lsn);
  wal_status_fields(c, status.wal);
  c.text(status.waits_for, kMaxTextBytes);
}

template <class C, class T>
void promotion_status_fields(C& c, T& promotion) {
  c.number(promotion.term);
  c.number(promotion.node);
  c.number(promotion.timeline);
  c.number(promotion.switch_lsn);
}

template <class C, class T>
void rejoin_status_fields(C& c, T& rejoin) {
  c.number(rejoin.node);
  c.text(rejoin.phase, kMaxTextBytes);
  c.number(rejoin.bytes_done);
  c.number(rejoin.bytes_total);
  c.number(rejoin.seconds);
}

template <class C, class T>
void status_more_fields(C& c, T& more) {
  c.flag(more.fenced);
  c.number(more.lease_ms);
  c.number(more.paused_until_ms);
  c.text(more.paused_by, kMaxTextBytes);
  c.number(more.switchover_to);
  c.list(more.contacts, kMaxMembersInStatus, kContactBytes, [&](auto& contact) {
    c.number(contact.node);
    c.number(contact.idle_ms);
  });
  c.list(more.rejoins, kMaxMembersInStatus, kMinRejoinStatusBytes,
         [&](auto& rejoin) { rejoin_status_fields(c, rejoin); });
}

template <class C, class T>
void status_fields(C& c, T& status) {
  identity_fields(c, status.identity);
  c.text(status.state, kMaxTextBytes);
  c.number(status.term);
  c.number(status.leader_id);
  c.flag(status.writable);
  c.number(status.commit_index);
  c.number(status.applied_index);
  c.number(status.last_index);
  c.number(status.timeline);
  c.number(status.lsn);
  c.flag(status.in_recovery);
  c.flag(status.abstaining);
  c.text(status.phase, kMaxTextBytes);
  c.text(status.change_waits_for, kMaxTextBytes);
  c.number(status.messages_processed);
  c.number(status.heartbeats_sent);
  c.number(status.elections_triggered);
  c.number(status.promoted_timeline);
  c.list(status.members, kMaxMembersInStatus, kMinMemberStatusBytes,
         [&](auto& member) { member_status_fields(c, member); });
  c.list(status.promotions, state::kKeptPromotions, kPromotionStatusBytes,
         [&](auto& promotion) { promotion_status_fields(c, promotion); });
  c.rest(status.more, [&](auto& more) { status_more_fields(c, more); });
}

template <class C, class T>
void snapshot_header_fields(C& c, T& header) {
  c.number(header.transfer);
  c.number(header.size);
  c.number(header.crc);
  message_fields(c, header.message);
}

template <class C, class N, class D>
void snapshot_chunk_fields(C& c, N& transfer, N& offset, D& data) {
  c.number(transfer);
  c.number(offset);
  c.text(data, kMaxFrameBytes);
}

template <class C, class T>
void snapshot_ack_fields(C& c, T& ack) {
  c.number(ack.transfer);
  c.number(ack.received);
  c.choice(ack.answer, SnapshotAnswer::kRefused);
  c.text(ack.reason, kMaxTextBytes);
}

template <class F>
std::string encoded(std::size_t bytes, F fields) {
  std::string out;
  out.reserve(bytes);
  Encoder encoder(&out);
  fields(encoder);
  return out;
}

template <class F>
std::string encoded(F fields) {
  return encoded(0, fields);
}

template <class T, class F>
Result<T> decoded(std::string_view payload, const char* what, F fields) {
  try {
    T value;
    Decoder decoder(payload);
    fields(decoder, value);
    decoder.end();
    return value;
  } catch (const std::exception& e) {  // cereal's, the allocator's, and refuse()
    return Status(Code::kCorruption, std::string("received a damaged ") + what + ": " + e.what());
  }
}

}  // namespace

std::string encode(const std::vector<raft::Message>& messages) {
  std::vector<std::size_t> bytes;
  return encode_sized(messages, &bytes);
}

std::string encode_sized(const std::vector<raft::Message>& messages,
                         std::vector<std::size_t>* bytes) {
  std::size_t bytes_max = 0;
  for (const raft::Message& m : messages) bytes_max += encoded_bytes_max(m);
  return encoded(bytes_max, [&](Encoder& c) {
    c.list(messages, kMaxMessagesPerFrame, kMinMessageBytes, [&](const raft::Message& m) {
      const std::size_t before = c.size();
      message_fields(c, m);
      bytes->push_back(c.size() - before);
    });
  });
}

std::string encode(const failover::Report& report) {
  return encoded([&](Encoder& c) { report_fields(c, report); });
}

std::string encode(const failover::WalStatus& status) {
  return encoded([&](Encoder& c) { wal_status_fields(c, status); });
}

std::string encode(const Identity& identity) {
  return encoded([&](Encoder& c) { identity_fields(c, identity); });
}

std::string encode(const Hello& hello) {
  return encoded([&](Encoder& c) { hello_fields(c, hello); });
}

std::string encode(const ClusterStatus& status) {
  return encoded([&](Encoder& c) { status_fields(c, status); });
}

std::string encode(const SnapshotHeader& header) {
  return encoded([&](Encoder& c) { snapshot_header_fields(c, header); });
}

std::string encode_chunk(std::uint64_t transfer, std::uint64_t offset, std::string_view data) {
  return encoded([&](Encoder& c) { snapshot_chunk_fields(c, transfer, offset, data); });
}

std::string encode(const SnapshotAck& ack) {
  return encoded([&](Encoder& c) { snapshot_ack_fields(c, ack); });
}

Result<std::vector<raft::Message>> decode_messages(std::string_view payload) {
  std::vector<std::size_t> bytes;
  return decode_messages_sized(payload, &bytes);
}

Result<std::vector<raft::Message>> decode_messages_sized(std::string_view payload,
                                                         std::vector<std::size_t>* bytes) {
  return decoded<std::vector<raft::Message>>(
      payload, "batch of messages", [&](Decoder& c, std::vector<raft::Message>& messages) {
        c.list(messages, kMaxMessagesPerFrame, kMinMessageBytes, [&](raft::Message& m) {
          const std::size_t before = c.remaining();
          message_fields(c, m);
          bytes->push_back(before - c.remaining());
        });
      });
}

Result<failover::Report> decode_report(std::string_view payload) {
  return decoded<failover::Report>(
      payload, "report", [](Decoder& c, failover::Report& report) { report_fields(c, report); });
}

Result<failover::WalStatus> decode_wal_status(std::string_view payload) {
  return decoded<failover::WalStatus>(
      payload, "WAL status",
      [](Decoder& c, failover::WalStatus& status) { wal_status_fields(c, status); });
}

Result<Identity> decode_identity(std::string_view payload) {
  return decoded<Identity>(payload, "identity",
                           [](Decoder& c, Identity& value) { identity_fields(c, value); });
}

Result<Hello> decode_hello(std::string_view payload) {
  return decoded<Hello>(payload, "greeting",
                        [](Decoder& c, Hello& value) { hello_fields(c, value); });
}

Result<ClusterStatus> decode_status(std::string_view payload) {
  return decoded<ClusterStatus>(payload, "status",
                                [](Decoder& c, ClusterStatus& value) { status_fields(c, value); });
}

Result<SnapshotHeader> decode_snapshot_header(std::string_view payload) {
  Result<SnapshotHeader> header = decoded<SnapshotHeader>(
      payload, "snapshot header",
      [](Decoder& c, SnapshotHeader& value) { snapshot_header_fields(c, value); });
  if (!header.is_ok()) return header;
  const raft::Message& message = header->message;
  const bool sound =
      message.type == raft::MessageType::kSnapshot &&
      (message.snapshot == nullptr ? header->size == 0 : message.snapshot->data.empty());
  if (!sound) return Status(Code::kCorruption, "received a snapshot header that is none");
  return header;
}

Result<SnapshotChunk> decode_snapshot_chunk(std::string_view payload) {
  return decoded<SnapshotChunk>(payload, "snapshot chunk", [](Decoder& c, SnapshotChunk& value) {
    snapshot_chunk_fields(c, value.transfer, value.offset, value.data);
  });
}

Result<SnapshotAck> decode_snapshot_ack(std::string_view payload) {
  return decoded<SnapshotAck>(
      payload, "acknowledgement of a snapshot",
      [](Decoder& c, SnapshotAck& value) { snapshot_ack_fields(c, value); });
}

std::size_t encoded_bytes_max(const raft::Message& message) {
  std::size_t bytes = 128 + message.context.size();
  for (const raft::Entry& entry : message.entries) bytes += kMinEntryBytes + entry.data.size();
  if (message.snapshot != nullptr) {
    const raft::ConfState& conf = message.snapshot->meta.conf;
    bytes += 64 + message.snapshot->data.size() + 16 * conf.incarnations.size();
    bytes += 8 * (conf.voters.size() + conf.learners.size() + conf.voters_outgoing.size() +
                  conf.learners_next.size());
  }
  return bytes;
}

}  // namespace pgraft::transport
