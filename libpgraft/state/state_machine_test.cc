#include "libpgraft/state/state_machine.h"

#include <gtest/gtest.h>

#include <random>

namespace pgraft::state {
namespace {

using failover::Promotion;
using failover::PromotionDone;

Member member(raft::NodeId id) {
  return {id,
          1000 + id,
          "node" + std::to_string(id),
          "10.0.0." + std::to_string(id),
          8001,
          "db" + std::to_string(id),
          5432,
          id % 2 == 0};
}

// Applies operations one after the other, as the log would.
class Log {
 public:
  Status apply(StateMachine& machine, const Operation& op, Status* outcome = nullptr) {
    const raft::Entry entry{machine.applied_index() + 1, 1, raft::EntryType::kNormal,
                            encode_command({1, 7, op})};
    StateMachine::Outcome came_of_it;
    Status applied = machine.apply(entry, nullptr, &came_of_it);
    if (outcome != nullptr) *outcome = came_of_it.status;
    return applied;
  }
};

void fill(StateMachine& machine) {
  Log log;
  machine.set_cluster_id(42);
  machine.put_member(member(1));
  machine.put_member(member(2));
  ASSERT_TRUE(log.apply(machine, KvPut{"a", "1"}));
  ASSERT_TRUE(log.apply(machine, KvPut{std::string("b\0c", 3), ""}));
  ASSERT_TRUE(log.apply(machine, LogAppend{"x"}));
  ASSERT_TRUE(log.apply(machine, Promotion{3, 1, 2}));
  ASSERT_TRUE(log.apply(machine, PromotionDone{3, 1, 2, {{1, 500}}}));
  ASSERT_TRUE(log.apply(machine, Promotion{5, 2, 3}));
  ASSERT_TRUE(log.apply(machine, Pause{1790000000000, "me"}));
  ASSERT_TRUE(log.apply(machine, LeaderChange{3, 1, 2, 2, 1700000000000, 1, 2, 3, 4}));
}

const Operation kEveryOperation[] = {
    KvPut{"key", "value"},
    KvPut{"key", ""},
    KvDelete{"key"},
    LogAppend{"data"},
    LogAppend{""},
    Promotion{9, 3, 4},
    PromotionDone{9, 3, 4, {}},
    PromotionDone{9, 3, 4, {{1, 0x3000000}, {3, 0x5000000}}},
    Pause{1790000000000, "somebody on node 1"},
    Pause{},
    KvPut{"key", "value", 5000},
    KvCompareAndSet{"key", 17, std::nullopt, "value", 5000},
    KvCompareAndSet{"key", 0, "", "value"},
    KvExpire{"key", 17},
    LeaderChange{9, 3, 2, 4, 1700000000000, 100, 20, 80, 15},
};

TEST(Command, EveryOperationComesBackFromItsStoredForm) {
  for (const Operation& op : kEveryOperation) {
    const Command command{7, 123456789012345, op};
    const Result<Command> back = decode_command(encode_command(command));
    ASSERT_TRUE(back) << back.status().to_string();
    EXPECT_EQ(*back, command);
  }
}

TEST(Command, EveryTruncationAndExtensionIsCorruption) {
  for (const Operation& op : kEveryOperation) {
    const std::string whole = encode_command({7, 1, op});
    for (std::size_t n = 0; n < whole.size(); ++n) {
      EXPECT_EQ(decode_command(whole.substr(0, n)).status().code(), Code::kCorruption) << n;
    }
    EXPECT_EQ(decode_command(whole + '\0').status().code(), Code::kCorruption);
  }
}

TEST(Command, DamagedBytesNeverCrashAndNeverTakeMemoryForWhatIsNotThere) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes =
        encode_command({7, 1, kEveryOperation[random() % std::size(kEveryOperation)]});
    for (int flips = 0; flips < 3; ++flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const Result<Command> command = decode_command(bytes);
    if (!command) {  // kMismatch: a version or an operation is damaged
      const Code code = command.status().code();
      EXPECT_TRUE(code == Code::kCorruption || code == Code::kMismatch);
    }
  }
}

// Each of these would be a second form of the same value.
TEST(Command, AnotherByteOrderIsRefused) {
  for (const char order : {0, 2, -1}) {
    std::string command = encode_command({7, 1, KvDelete{"k"}});
    std::string snapshot = StateMachine().snapshot();
    command[0] = snapshot[0] = order;
    EXPECT_EQ(decode_command(command).status().code(), Code::kCorruption) << int{order};
    EXPECT_EQ(StateMachine().restore(snapshot).code(), Code::kCorruption) << int{order};
  }
}

// Nothing is damaged then: who reads the message must not throw the node away.
TEST(Command, WhatANewerVersionHasWrittenIsRefusedAsThat) {
  constexpr std::size_t kVersionAt = 1, kTagAt = 1 + 1 + 8 + 8;
  const struct {
    std::size_t at;
    const char* says;
  } cases[] = {{kVersionAt, "a command of the log has format 99"},
               {kTagAt, "an operation has format 99"}};
  for (const auto& c : cases) {
    std::string bytes = encode_command({7, 1, KvDelete{"k"}});
    bytes[c.at] = 99;
    StateMachine machine;
    for (const Status& status :
         {decode_command(bytes).status(), machine.apply({1, 1, raft::EntryType::kNormal, bytes})}) {
      EXPECT_EQ(status.code(), Code::kMismatch);
      EXPECT_NE(status.message().find(c.says), std::string::npos) << status.message();
      EXPECT_NE(status.message().find("a newer version has written it"), std::string::npos);
    }
    EXPECT_EQ(machine.applied_index(), 0u);
    bytes[c.at] = 0;
    EXPECT_EQ(decode_command(bytes).status().code(), Code::kCorruption);
  }
  std::string snapshot = StateMachine().snapshot(), member = encode_member({});
  snapshot[kVersionAt] = member[kVersionAt] = 2;
  EXPECT_EQ(StateMachine().restore(snapshot).code(), Code::kMismatch);
  EXPECT_EQ(decode_member(member).status().code(), Code::kMismatch);
}

TEST(Member, ComesBackFromItsStoredForm) {
  const Result<Member> back = decode_member(encode_member(member(3)));
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, member(3));
  EXPECT_EQ(decode_member("").status().code(), Code::kCorruption);
}

TEST(Validate, RefusesWhatIsMalformedOrOverABound) {
  const struct {
    const char* name;
    Operation operation;
    Code code;
  } cases[] = {
      {"put", KvPut{"k", "v"}, Code::kOk},
      {"longest key", KvPut{std::string(kMaxKeyBytes, 'k'), ""}, Code::kOk},
      {"key too long", KvPut{std::string(kMaxKeyBytes + 1, 'k'), ""}, Code::kInvalidArgument},
      {"empty key", KvPut{"", "v"}, Code::kInvalidArgument},
      {"empty key deleted", KvDelete{""}, Code::kInvalidArgument},
      {"largest value", KvPut{"k", std::string(kMaxValueBytes, 'v')}, Code::kOk},
      {"zero byte in a key", KvPut{std::string("a\0b", 3), ""}, Code::kInvalidArgument},
      {"time without end", KvPut{"k", "v", kMaxTtlMs}, Code::kOk},
      {"time too long", KvPut{"k", "v", kMaxTtlMs + 1}, Code::kInvalidArgument},
      {"compare", KvCompareAndSet{"k", 3, std::nullopt, "v"}, Code::kOk},
      {"compare twice", KvCompareAndSet{"k", 3, "old", "v"}, Code::kInvalidArgument},
      {"compare with too much", KvCompareAndSet{"k", 0, std::string(kMaxValueBytes + 1, 'v'), "v"},
       Code::kInvalidArgument},
      {"compare without a key", KvCompareAndSet{"", 0, "old", "v"}, Code::kInvalidArgument},
      {"leader of nothing", LeaderChange{}, Code::kInvalidArgument},
      {"value too large", KvPut{"k", std::string(kMaxValueBytes + 1, 'v')}, Code::kInvalidArgument},
      {"data too large", LogAppend{std::string(kMaxValueBytes + 1, 'v')}, Code::kInvalidArgument},
      {"promotion without a timeline", Promotion{1, 1, 0}, Code::kInvalidArgument},
      {"done", PromotionDone{1, 1, 3, {{1, 5}, {2, 9}}}, Code::kOk},
      {"history out of order", PromotionDone{1, 1, 3, {{2, 5}, {1, 9}}}, Code::kInvalidArgument},
      {"history of the future", PromotionDone{1, 1, 3, {{3, 5}}}, Code::kInvalidArgument},
  };
  for (const auto& c : cases) EXPECT_EQ(validate(c.operation).code(), c.code) << c.name;
}

TEST(Validate, RefusesMalformedMembers) {
  EXPECT_TRUE(validate(member(1)));
  const auto broken = [](auto change) {
    Member m = member(1);
    change(m);
    return validate(m).code();
  };
  EXPECT_EQ(broken([](Member& m) { m.id = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(broken([](Member& m) { m.port = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(broken([](Member& m) { m.name = ""; }), Code::kInvalidArgument);
  EXPECT_EQ(broken([](Member& m) { m.name = "two words"; }), Code::kInvalidArgument);
  EXPECT_EQ(broken([](Member& m) { m.address = "a\nb"; }), Code::kInvalidArgument);
  EXPECT_EQ(broken([](Member& m) { m.pg_host = std::string(256, 'h'); }), Code::kInvalidArgument);
}

TEST(StateMachine, AppliesKeyValueOperationsInOrder) {
  StateMachine machine;
  Log log;
  ASSERT_TRUE(log.apply(machine, KvPut{"a", "1"}));
  ASSERT_TRUE(log.apply(machine, KvPut{"a", "2"}));
  ASSERT_TRUE(log.apply(machine, KvPut{"b", "3"}));
  ASSERT_TRUE(log.apply(machine, KvDelete{"b"}));
  ASSERT_TRUE(log.apply(machine, KvDelete{"never there"}));
  EXPECT_EQ(machine.kv().items(), (std::map<std::string, KvItem>{{"a", {"2", 1, 2, 0}}}));
  EXPECT_EQ(machine.applied_index(), 5u);
}

TEST(StateMachine, ToldWhatItAppliedTheProposerRecognizesIt) {
  StateMachine machine;
  std::optional<Command> applied;
  const Command command{3, 77, LogAppend{"x"}};
  ASSERT_TRUE(machine.apply({1, 1, raft::EntryType::kNormal, encode_command(command)}, &applied));
  EXPECT_EQ(applied, command);
  ASSERT_TRUE(machine.apply({2, 1, raft::EntryType::kNormal, ""}, &applied));
  EXPECT_FALSE(applied) << "a new leader's first entry does nothing";
  EXPECT_EQ(machine.applied_index(), 2u);
}

TEST(StateMachine, AGapOrADamagedEntryIsCorruptionAndChangesNothing) {
  StateMachine machine;
  fill(machine);
  const std::string before = machine.snapshot();
  const raft::Index next = machine.applied_index() + 1;
  const std::string data = encode_command({1, 1, KvPut{"k", "v"}});
  EXPECT_EQ(machine.apply({next + 1, 1, raft::EntryType::kNormal, data}).code(), Code::kCorruption);
  EXPECT_EQ(machine.apply({next - 1, 1, raft::EntryType::kNormal, data}).code(), Code::kCorruption);
  EXPECT_EQ(machine.apply({next, 1, raft::EntryType::kNormal, "junk"}).code(), Code::kCorruption);
  EXPECT_EQ(machine.snapshot(), before);
}

TEST(StateMachine, AFullKeyValueStoreRefusesMoreOnEveryNodeAlike) {
  StateMachine machine;
  Log log;
  Status outcome;
  const std::string value(kMaxValueBytes, 'v');
  std::size_t puts = 0;
  do {
    ASSERT_TRUE(log.apply(machine, KvPut{"key" + std::to_string(puts), value}, &outcome));
    ++puts;
  } while (outcome);
  EXPECT_EQ(outcome.code(), Code::kResourceExhausted);
  EXPECT_EQ(machine.kv().items().size(), puts - 1);
  EXPECT_EQ(machine.applied_index(), puts) << "the entry counts as applied all the same";
  ASSERT_TRUE(log.apply(machine, KvPut{"key0", "small"}, &outcome));
  EXPECT_TRUE(outcome) << "what makes the store smaller is allowed";
  ASSERT_TRUE(log.apply(machine, KvPut{"again", "v"}, &outcome));
  EXPECT_TRUE(outcome);

  StateMachine restored;
  ASSERT_TRUE(restored.restore(machine.snapshot()));
  ASSERT_TRUE(log.apply(machine, KvPut{"more", value}, &outcome));
  Status restored_outcome;
  ASSERT_TRUE(log.apply(restored, KvPut{"more", value}, &restored_outcome));
  EXPECT_EQ(outcome.code(), restored_outcome.code()) << "a restored node counts the same bytes";
}

// However short they are: pairs take room in a snapshot, which must fit a frame.
TEST(StateMachine, PairsCountTowardsTheLimitWithTheirLengths) {
  StateMachine machine;
  Log log;
  Status outcome;
  const std::string value(kMaxValueBytes, 'v');
  const std::string with_its_key_a_mebibyte(kMaxValueBytes - kPairOverheadBytes - 1, 'v');
  for (std::size_t i = 0; i < kMaxKvBytes / kMaxValueBytes; ++i) {
    const std::string key(1, static_cast<char>('A' + i));
    ASSERT_TRUE(log.apply(machine, KvPut{key, with_its_key_a_mebibyte}, &outcome));
    ASSERT_TRUE(outcome) << outcome.to_string();
  }
  ASSERT_TRUE(log.apply(machine, KvPut{"", ""}, &outcome));
  EXPECT_EQ(outcome.code(), Code::kResourceExhausted)
      << "the pairs before are all there is room for";
  const std::size_t without = StateMachine().snapshot().size();
  EXPECT_EQ(machine.snapshot().size(), without + kMaxKvBytes);

  StateMachine restored;
  ASSERT_TRUE(restored.restore(machine.snapshot()));
  ASSERT_TRUE(log.apply(restored, KvDelete{"A"}));
  ASSERT_TRUE(log.apply(restored, KvDelete{"B"}));
  ASSERT_TRUE(log.apply(restored, KvPut{"B", value}, &outcome));
  EXPECT_TRUE(outcome) << "what was deleted gives its room back";
}

TEST(StateMachine, TheLastPauseCountsAndSurvivesASnapshot) {
  StateMachine machine, restored;
  Log log;
  EXPECT_EQ(machine.pause(), Pause{});
  ASSERT_TRUE(log.apply(machine, Pause{1790000000000, "one"}));
  ASSERT_TRUE(log.apply(machine, Pause{1780000000000, "other"}));
  EXPECT_EQ(machine.pause(), (Pause{1780000000000, "other"}));
  ASSERT_TRUE(restored.restore(machine.snapshot()));
  EXPECT_EQ(restored.pause(), machine.pause());
  ASSERT_TRUE(log.apply(machine, Pause{}));
  EXPECT_EQ(machine.pause().until_ms, 0u);
  EXPECT_FALSE(validate(Operation(Pause{1, std::string(kMaxPausedByBytes + 1, 'x')})));
}

TEST(StateMachine, MembersFollowTheConfiguration) {
  StateMachine machine;
  raft::ConfState conf;
  conf.voters = {1};
  machine.put_member(member(1));

  raft::ConfChange add;
  add.changes = {{raft::ConfChangeType::kAddLearner, 2, 1002}};
  add.context = encode_member(member(2));
  conf.learners = {2};
  ASSERT_TRUE(machine.apply_conf_change(add, conf));
  EXPECT_EQ(machine.members().at(2), member(2));

  raft::ConfChange promote;
  promote.changes = {{raft::ConfChangeType::kAddVoter, 2, 1002}};
  conf.learners = {};
  conf.voters = {1, 2};
  ASSERT_TRUE(machine.apply_conf_change(promote, conf));
  EXPECT_EQ(machine.members().size(), 2u) << "a change without a context keeps what is known";

  raft::ConfChange remove;
  remove.changes = {{raft::ConfChangeType::kRemove, 1, 0}};
  conf.voters = {2};
  ASSERT_TRUE(machine.apply_conf_change(remove, conf));
  EXPECT_EQ(machine.members().size(), 1u);
  EXPECT_EQ(machine.members().count(2), 1u);
}

TEST(StateMachine, ADamagedMemberIsCorruption) {
  StateMachine machine;
  raft::ConfChange add;
  add.changes = {{raft::ConfChangeType::kAddLearner, 2, 1002}};
  add.context = "junk";
  raft::ConfState conf;
  conf.learners = {2};
  EXPECT_EQ(machine.apply_conf_change(add, conf).code(), Code::kCorruption);
  EXPECT_TRUE(machine.members().empty());
}

TEST(Promotions, TheViewOfATermShowsItsPromotionAndItsCompletion) {
  StateMachine machine;
  fill(machine);
  failover::PromotionView view = machine.promotion_view(3);
  EXPECT_EQ(view.of_term, (Promotion{3, 1, 2}));
  EXPECT_EQ(view.done_of_term, (PromotionDone{3, 1, 2, {{1, 500}}}));
  EXPECT_EQ(view.max_timeline, 3u);

  view = machine.promotion_view(5);
  EXPECT_EQ(view.of_term, (Promotion{5, 2, 3}));
  EXPECT_FALSE(view.done_of_term);

  view = machine.promotion_view(4);
  EXPECT_FALSE(view.of_term);
  EXPECT_EQ(view.max_timeline, 3u);
  ASSERT_NE(machine.latest_done(), nullptr);
  EXPECT_EQ(machine.latest_done()->promotion.timeline, 2u);
}

TEST(Promotions, ACompletionOfAnotherPromotionIsIgnoredButItsTimelinesCount) {
  const PromotionDone others[] = {
      {4, 1, 2, {{1, 500}}}, {3, 2, 2, {{1, 500}}}, {3, 1, 9, {{1, 500}, {8, 700}}}};
  for (const PromotionDone& other : others) {
    StateMachine machine;
    Log log;
    ASSERT_TRUE(log.apply(machine, Promotion{3, 1, 2}));
    ASSERT_TRUE(log.apply(machine, other));
    EXPECT_FALSE(machine.promotions().at(0).done);
    EXPECT_EQ(machine.latest_done(), nullptr);
    EXPECT_EQ(machine.max_timeline(), other.timeline);
  }
}

TEST(Promotions, TheGreatestTimelineOutlivesDroppedRecordsAndSnapshots) {
  StateMachine machine;
  Log log;
  ASSERT_TRUE(log.apply(machine, Promotion{1, 1, 9999}));  // rule 5
  for (raft::Term term = 2; term < 2 + kKeptPromotions; ++term) {
    ASSERT_TRUE(log.apply(machine, Promotion{term, 1, 5}));
  }
  EXPECT_EQ(machine.promotions().size(), kKeptPromotions);
  EXPECT_FALSE(machine.promotion_view(1).of_term);
  EXPECT_EQ(machine.max_timeline(), 9999u);
  StateMachine restored;
  ASSERT_TRUE(restored.restore(machine.snapshot()));
  EXPECT_EQ(restored.promotion_view(3).max_timeline, 9999u);
}

TEST(Snapshot, RestoresAnEqualStateThatGoesOnEqually) {
  StateMachine machine;
  fill(machine);
  StateMachine restored;
  ASSERT_TRUE(restored.restore(machine.snapshot()));
  EXPECT_EQ(restored.snapshot(), machine.snapshot());
  EXPECT_EQ(restored.members(), machine.members());
  EXPECT_EQ(restored.kv().items(), machine.kv().items());
  EXPECT_EQ(restored.kv().revision(), machine.kv().revision());
  EXPECT_EQ(restored.leader_changes(), machine.leader_changes());
  EXPECT_EQ(restored.promotions(), machine.promotions());
  EXPECT_EQ(restored.log_appends(), 1u);
  EXPECT_EQ(restored.cluster_id(), 42u);
  Log log;
  for (StateMachine* m : {&machine, &restored}) {
    ASSERT_TRUE(log.apply(*m, PromotionDone{5, 2, 3, {{2, 900}}}));
  }
  EXPECT_EQ(restored.snapshot(), machine.snapshot());
}

// One state, one snapshot: by which way it was reached, and what was counted and remembered on the
// way, leaves no trace.
TEST(Snapshot, HoldsNothingOfTheWay) {
  StateMachine one, other;
  Log log;
  ASSERT_TRUE(log.apply(one, KvPut{"a", "v", 1000}));
  ASSERT_TRUE(log.apply(one, KvDelete{"a"}));
  ASSERT_TRUE(log.apply(other, KvPut{"b", "w"}));
  ASSERT_TRUE(log.apply(other, KvDelete{"b"}));
  EXPECT_EQ(one.snapshot(), other.snapshot());
}

TEST(Snapshot, ADamagedOneLeavesTheStateAsItWas) {
  StateMachine source;
  fill(source);
  const std::string whole = source.snapshot();
  StateMachine machine;
  machine.put_member(member(9));
  const std::string before = machine.snapshot();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_EQ(machine.restore(whole.substr(0, n)).code(), Code::kCorruption) << n;
    EXPECT_EQ(machine.snapshot(), before) << n;
  }
  EXPECT_EQ(machine.restore(whole + "x").code(), Code::kCorruption);
  std::mt19937_64 random(2);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = whole;
    bytes[random() % bytes.size()] = static_cast<char>(random());
    StateMachine target;
    if (!target.restore(bytes)) {
      EXPECT_EQ(target.snapshot(), StateMachine().snapshot());
    }
  }
}

// One state has one snapshot; a second form of it would be damage that nobody notices.
TEST(Snapshot, KeysAndMembersOutOfOrderAreDamage) {
  StateMachine machine;
  Log log;
  for (const char* key : {"a", "b"}) ASSERT_TRUE(log.apply(machine, KvPut{key, ""}));
  for (const raft::NodeId id : {1, 2}) machine.put_member({id, 0, "name", "", 0, "", 0});
  const std::string sound = machine.snapshot();
  ASSERT_TRUE(StateMachine().restore(sound));
  std::string keys = sound;
  std::swap(keys[keys.rfind('a')], keys[keys.rfind('b')]);
  EXPECT_EQ(StateMachine().restore(keys).code(), Code::kCorruption);
  std::string members = sound;
  const std::size_t first = members.find("name") - 8 - 8 - 4,
                    second = members.rfind("name") - 8 - 8 - 4;
  ASSERT_EQ(members[first], 1);
  ASSERT_EQ(members[second], 2);
  std::swap(members[first], members[second]);
  EXPECT_EQ(StateMachine().restore(members).code(), Code::kCorruption);
  members[first] = members[second];
  EXPECT_EQ(StateMachine().restore(members).code(), Code::kCorruption) << "a member twice";
}

TEST(Snapshot, OfMoreThanTheKeyValueStoreHoldsIsRefused) {
  StateMachine full;
  Log log;
  Status outcome;
  for (int i = 0; outcome; ++i) {
    ASSERT_TRUE(log.apply(
        full, KvPut{"key" + std::to_string(100 + i), std::string(kMaxValueBytes, 'v')}, &outcome));
  }
  // A pair more, and the count that precedes the first.
  std::string over = full.snapshot();
  const std::size_t count = over.find("key100") - 4 - 4;
  ASSERT_EQ(static_cast<std::size_t>(over[count]), full.kv().items().size());
  ++over[count];
  const std::string value(kMaxValueBytes, 'v');
  const std::string pair = over.substr(count + 4, kPairOverheadBytes + 6 + value.size());
  std::string last = pair;
  last.replace(4, 6, "key999");
  over.insert(count + 4 + full.kv().items().size() * pair.size(), last);
  const Status status = StateMachine().restore(over);
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_NE(status.message().find("limit"), std::string::npos) << status.message();
}

TEST(Snapshot, OfAnotherClusterIsRefused) {
  StateMachine source, machine;
  fill(source);
  machine.set_cluster_id(43);
  EXPECT_EQ(machine.restore(source.snapshot()).code(), Code::kMismatch);
  EXPECT_EQ(machine.cluster_id(), 43u);
}

}  // namespace
}  // namespace pgraft::state
