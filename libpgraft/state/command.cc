// Stored and wire forms of commands and members, and the bounds that are checked before anything is
// proposed.
#include <algorithm>
#include <type_traits>

#include "libpgraft/state/codec.h"
#include "libpgraft/state/state_codec.h"
#include "libpgraft/state/state_machine.h"

namespace pgraft::state {

namespace {

constexpr std::uint8_t kCommandVersion = 1;
constexpr std::uint8_t kMemberVersion = 1;

// The stored tag of each operation: never reused, never renumbered.
enum class Tag : std::uint8_t {
  kKvPut = 1,
  kKvDelete = 2,
  kLogAppend = 3,
  kPromotion = 4,
  kPromotionDone = 5,
  kPause = 6,
  kKvCompareAndSet = 7,
  kKvExpire = 8,
  kLeaderChange = 9,
};
constexpr Tag kLastTag = Tag::kLeaderChange;

Status too_long(const char* what, std::size_t size, std::size_t max) {
  return {Code::kInvalidArgument, std::string(what) + " is " + std::to_string(size) +
                                      " bytes long, the limit is " + std::to_string(max)};
}

// Names and addresses end up in text files and in configuration: no blanks, no control characters.
bool is_one_word(const std::string& text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return c > 0x20 && c != 0x7f; });
}

void write(Writer& out, Tag tag) { out.number(static_cast<std::uint8_t>(tag)); }

void write_operation(Writer& out, const KvPut& op) {
  write(out, Tag::kKvPut);
  out.text(op.key);
  out.text(op.value);
  out.number(op.ttl_ms);
}
void write_operation(Writer& out, const KvCompareAndSet& op) {
  write(out, Tag::kKvCompareAndSet);
  out.text(op.key);
  out.number(op.revision);
  out.number(static_cast<std::uint8_t>(op.expected.has_value()));
  out.text(op.expected.value_or(""));
  out.text(op.value);
  out.number(op.ttl_ms);
}
void write_operation(Writer& out, const KvExpire& op) {
  write(out, Tag::kKvExpire);
  out.text(op.key);
  out.number(op.revision);
}
void write_operation(Writer& out, const LeaderChange& op) {
  write(out, Tag::kLeaderChange);
  write_leader_change(out, op);
}
void write_operation(Writer& out, const KvDelete& op) {
  write(out, Tag::kKvDelete);
  out.text(op.key);
}
void write_operation(Writer& out, const LogAppend& op) {
  write(out, Tag::kLogAppend);
  out.text(op.data);
}
void write_operation(Writer& out, const failover::Promotion& op) {
  write(out, Tag::kPromotion);
  write_promotion(out, op);
}
void write_operation(Writer& out, const failover::PromotionDone& op) {
  write(out, Tag::kPromotionDone);
  write_promotion(out, {op.term, op.node, op.timeline});
  write_history(out, op.history);
}
void write_operation(Writer& out, const Pause& op) {
  write(out, Tag::kPause);
  out.number(op.until_ms);
  out.text(op.by);
}

KvCompareAndSet read_compare_and_set(Reader& in) {
  KvCompareAndSet op;
  op.key = in.text(kMaxKeyBytes);
  op.revision = in.number<Revision>();
  const bool by_value = in.flag();
  std::string expected = in.text(kMaxValueBytes);
  if (by_value && op.revision != 0) in.fail("a comparison with a value and a revision");
  if (!by_value && !expected.empty()) in.fail("a value that is not compared with");
  if (by_value) op.expected = std::move(expected);
  op.value = in.text(kMaxValueBytes);
  op.ttl_ms = in.number<std::uint64_t>();
  return op;
}

Operation read_operation(Reader& in) {
  const auto tag = in.number<std::uint8_t>();
  switch (static_cast<Tag>(tag)) {
    case Tag::kKvPut: {
      KvPut op;
      op.key = in.text(kMaxKeyBytes);
      op.value = in.text(kMaxValueBytes);
      op.ttl_ms = in.number<std::uint64_t>();
      return op;
    }
    case Tag::kKvCompareAndSet: return read_compare_and_set(in);
    case Tag::kKvExpire: {
      KvExpire op;
      op.key = in.text(kMaxKeyBytes);
      op.revision = in.number<Revision>();
      return op;
    }
    case Tag::kLeaderChange: return read_leader_change(in);
    case Tag::kKvDelete: return KvDelete{in.text(kMaxKeyBytes)};
    case Tag::kLogAppend: return LogAppend{in.text(kMaxValueBytes)};
    case Tag::kPromotion: return read_promotion(in);
    case Tag::kPromotionDone: {
      const failover::Promotion p = read_promotion(in);
      return failover::PromotionDone{p.term, p.node, p.timeline, read_history(in)};
    }
    case Tag::kPause: {
      Pause op;
      op.until_ms = in.number<std::uint64_t>();
      op.by = in.text(kMaxPausedByBytes);
      return op;
    }
  }
  if (tag == 0) in.fail("unknown operation 0");
  in.refuse_newer("an operation", tag, static_cast<std::uint8_t>(kLastTag));
  return {};
}

// Unicode 15, table 3-7: no overlong form, no surrogate, nothing above U+10FFFF. Zero bytes, too,
// are refused: SQL's texts have none.
bool is_utf8_text(const std::string& text) {
  const auto* next = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = next + text.size();
  while (next < end) {
    const unsigned char lead = *next++;
    if (lead == 0) return false;
    if (lead < 0x80) continue;
    const int more = lead >= 0xc2 && lead <= 0xdf   ? 1
                     : lead >= 0xe0 && lead <= 0xef ? 2
                     : lead >= 0xf0 && lead <= 0xf4 ? 3
                                                    : 0;
    if (more == 0 || end - next < more) return false;
    const unsigned char least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const unsigned char most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (*next < least || *next > most) return false;
    for (int i = 1; i < more; ++i) {
      if ((next[i] & 0xc0) != 0x80) return false;
    }
    next += more;
  }
  return true;
}

// Keys are shown by SQL, in whatever encoding a database has; values may be any bytes.
Status validate_key(const std::string& key) {
  if (key.empty()) return {Code::kInvalidArgument, "a key must not be empty"};
  if (key.size() > kMaxKeyBytes) return too_long("the key", key.size(), kMaxKeyBytes);
  if (is_utf8_text(key)) return Status::ok();
  return {Code::kInvalidArgument, "a key must be text in UTF-8 without zero bytes"};
}

Status validate_put(const std::string& key, const std::string& value, std::uint64_t ttl_ms) {
  if (value.size() > kMaxValueBytes) return too_long("the value", value.size(), kMaxValueBytes);
  if (ttl_ms > kMaxTtlMs) {
    return {Code::kInvalidArgument, "a time to live is at most 100 years"};
  }
  return validate_key(key);
}

Status validate_promotion(raft::Term term, raft::NodeId node, failover::Timeline timeline) {
  if (term == 0 || node == 0 || timeline == 0) {
    return {Code::kInvalidArgument, "a promotion needs a term, a node and a timeline"};
  }
  return Status::ok();
}

Status validate_operation(const KvPut& op) { return validate_put(op.key, op.value, op.ttl_ms); }
Status validate_operation(const KvCompareAndSet& op) {
  if (op.expected && op.expected->size() > kMaxValueBytes) {
    return too_long("the expected value", op.expected->size(), kMaxValueBytes);
  }
  if (op.expected && op.revision != 0) {
    return {Code::kInvalidArgument, "compared is either a value or a revision"};
  }
  return validate_put(op.key, op.value, op.ttl_ms);
}
Status validate_operation(const KvExpire& op) { return validate_key(op.key); }
Status validate_operation(const LeaderChange& op) {
  return validate_promotion(op.term, op.node, op.timeline);
}
Status validate_operation(const KvDelete& op) { return validate_key(op.key); }
Status validate_operation(const LogAppend& op) {
  if (op.data.size() > kMaxValueBytes) return too_long("the data", op.data.size(), kMaxValueBytes);
  return Status::ok();
}
Status validate_operation(const Pause& op) {
  if (op.by.size() <= kMaxPausedByBytes) return Status::ok();
  return too_long("the name of who pauses", op.by.size(), kMaxPausedByBytes);
}
Status validate_operation(const failover::Promotion& op) {
  return validate_promotion(op.term, op.node, op.timeline);
}
Status validate_operation(const failover::PromotionDone& op) {
  if (op.history.size() > kMaxHistoryLines) {
    return {Code::kResourceExhausted,
            "a timeline history has " + std::to_string(op.history.size()) +
                " lines, the limit is " + std::to_string(kMaxHistoryLines)};
  }
  failover::Timeline before = 0;
  for (const failover::HistoryLine& line : op.history) {
    if (line.timeline <= before || line.timeline >= op.timeline) {
      return {Code::kInvalidArgument, "the history of timeline " + std::to_string(op.timeline) +
                                          " names timeline " + std::to_string(line.timeline) +
                                          " out of order"};
    }
    before = line.timeline;
  }
  return validate_promotion(op.term, op.node, op.timeline);
}

}  // namespace

const char* operation_name(const Operation& operation) {
  constexpr const char* kNames[] = {
      "kv_put", "kv_delete",          "log_append", "promotion",    "promotion_done",
      "pause",  "kv_compare_and_set", "kv_expire",  "leader_change"};
  static_assert(std::size(kNames) == std::variant_size_v<Operation>);
  return kNames[operation.index()];
}

std::string encode_command(const Command& command) {
  Writer out(kCommandVersion);
  out.number(command.proposer);
  out.number(command.request);
  std::visit([&](const auto& op) { write_operation(out, op); }, command.operation);
  return out.take();
}

Result<Command> decode_command(const std::string& data) {
  Reader in(data, kCommandVersion, "a command of the log");
  Command command;
  command.proposer = in.number<raft::NodeId>();
  command.request = in.number<std::uint64_t>();
  command.operation = read_operation(in);
  if (Status s = in.finish(); !s) return s;
  return command;
}

std::string encode_member(const Member& member) {
  Writer out(kMemberVersion);
  write_member(out, member);
  return out.take();
}

Result<Member> decode_member(const std::string& data) {
  Reader in(data, kMemberVersion, "a member");
  Member member = read_member(in);
  if (Status s = in.finish(); !s) return s;
  return member;
}

void write_member(Writer& out, const Member& member) {
  out.number(member.id);
  out.number(member.incarnation);
  out.text(member.name);
  out.text(member.address);
  out.number(member.port);
  out.text(member.pg_host);
  out.number(member.pg_port);
  out.number(static_cast<std::uint8_t>(member.nosync));
}

Member read_member(Reader& in) {
  Member member;
  member.id = in.number<raft::NodeId>();
  member.incarnation = in.number<raft::Incarnation>();
  member.name = in.text(kMaxNameBytes);
  member.address = in.text(kMaxAddressBytes);
  member.port = in.number<std::uint16_t>();
  member.pg_host = in.text(kMaxAddressBytes);
  member.pg_port = in.number<std::uint16_t>();
  member.nosync = in.flag();
  return member;
}

void write_promotion(Writer& out, const failover::Promotion& promotion) {
  out.number(promotion.term);
  out.number(promotion.node);
  out.number(promotion.timeline);
}

failover::Promotion read_promotion(Reader& in) {
  failover::Promotion p;
  p.term = in.number<raft::Term>();
  p.node = in.number<raft::NodeId>();
  p.timeline = in.number<failover::Timeline>();
  return p;
}

void write_history(Writer& out, const failover::History& history) {
  out.count(history.size());
  for (const failover::HistoryLine& line : history) {
    out.number(line.timeline);
    out.number(line.end);
  }
}

void write_leader_change(Writer& out, const LeaderChange& change) {
  out.number(change.term);
  out.number(change.node);
  out.number(change.previous);
  out.number(change.timeline);
  out.number(change.at_ms);
  out.number(change.election_ms);
  out.number(change.agreement_ms);
  out.number(change.promotion_ms);
  out.number(change.opening_ms);
}

LeaderChange read_leader_change(Reader& in) {
  LeaderChange change;
  change.term = in.number<raft::Term>();
  change.node = in.number<raft::NodeId>();
  change.previous = in.number<raft::NodeId>();
  change.timeline = in.number<failover::Timeline>();
  change.at_ms = in.number<std::uint64_t>();
  change.election_ms = in.number<std::uint32_t>();
  change.agreement_ms = in.number<std::uint32_t>();
  change.promotion_ms = in.number<std::uint32_t>();
  change.opening_ms = in.number<std::uint32_t>();
  return change;
}

failover::History read_history(Reader& in) {
  failover::History history(
      in.count(kMaxHistoryLines, sizeof(failover::Timeline) + sizeof(failover::Lsn)));
  for (failover::HistoryLine& line : history) {
    line.timeline = in.number<failover::Timeline>();
    line.end = in.number<failover::Lsn>();
  }
  return history;
}

Status validate(const Operation& operation) {
  return std::visit([](const auto& op) { return validate_operation(op); }, operation);
}

Status validate(const Member& member) {
  if (member.id == 0) return {Code::kInvalidArgument, "a member's id must not be 0"};
  if (member.name.empty()) return {Code::kInvalidArgument, "a member needs a name"};
  if (member.name.size() > kMaxNameBytes) {
    return too_long("the member's name", member.name.size(), kMaxNameBytes);
  }
  if (member.address.empty()) return {Code::kInvalidArgument, "a member needs an address"};
  if (member.port == 0) return {Code::kInvalidArgument, "a member's port must not be 0"};
  for (const std::string* address : {&member.address, &member.pg_host}) {
    if (address->size() > kMaxAddressBytes) {
      return too_long("the member's address", address->size(), kMaxAddressBytes);
    }
  }
  for (const std::string* word : {&member.name, &member.address, &member.pg_host}) {
    if (!is_one_word(*word)) {
      return {Code::kInvalidArgument,
              "a member's name and addresses must not hold blanks or control characters"};
    }
  }
  return Status::ok();
}

}  // namespace pgraft::state
