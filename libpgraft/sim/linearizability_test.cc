#include "libpgraft/sim/linearizability.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

namespace pgraft::sim {
namespace {

using Kind = ClientOperation::Kind;
using History = std::vector<ClientOperation>;
using Value = std::optional<std::string>;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr std::uint64_t kNever = kNeverReturned;
constexpr auto kAbsent = std::nullopt;

ClientOperation operation(Kind kind, const std::string& key, std::uint64_t called,
                          std::uint64_t returned) {
  ClientOperation op;
  op.kind = kind;
  op.key = key;
  op.called = called;
  op.returned = returned;
  return op;
}
ClientOperation get(const std::string& key, const Value& read, std::uint64_t called,
                    std::uint64_t returned) {
  ClientOperation op = operation(Kind::kGet, key, called, returned);
  op.read = read;
  return op;
}
ClientOperation put(const std::string& key, const std::string& value, std::uint64_t called,
                    std::uint64_t returned) {
  ClientOperation op = operation(Kind::kPut, key, called, returned);
  op.value = value;
  return op;
}
ClientOperation append(const std::string& key, const std::string& value, std::uint64_t called,
                       std::uint64_t returned) {
  ClientOperation op = operation(Kind::kAppend, key, called, returned);
  op.value = value;
  return op;
}
ClientOperation cas(const std::string& key, const Value& expected, const std::string& value,
                    std::optional<bool> succeeded, std::uint64_t called, std::uint64_t returned) {
  ClientOperation op = operation(Kind::kCas, key, called, returned);
  op.expected = expected;
  op.value = value;
  op.succeeded = succeeded;
  return op;
}
ClientOperation erase(const std::string& key, std::optional<bool> succeeded, std::uint64_t called,
                      std::uint64_t returned) {
  ClientOperation op = operation(Kind::kDelete, key, called, returned);
  op.succeeded = succeeded;
  return op;
}

LinearizabilityReport check(const History& history, const LinearizabilityOptions& options = {}) {
  auto report = check_linearizability(history, options);
  EXPECT_TRUE(report) << report.status().to_string();
  return *report;
}

struct Case {
  const char* what;
  bool linearizable;
  History history;
  LinearizabilityOptions options = {};
};

void expect_verdicts(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const LinearizabilityReport report = check(c.history, c.options);
    EXPECT_EQ(report.verdict, c.linearizable ? Verdict::kLinearizable : Verdict::kNotLinearizable)
        << c.what << "\n"
        << report.text;
    EXPECT_EQ(report.text.empty(), c.linearizable) << c.what;
  }
}

TEST(Linearizability, AReadGivesTheLastWrite) {
  expect_verdicts({
      {"nothing happened", true, {}},
      {"nothing was written", true, {get("x", kAbsent, 1, 2)}},
      {"one after the other",
       true,
       {put("x", "1", 1, 2), get("x", "1", 3, 4), put("x", "2", 5, 6), get("x", "2", 7, 8)}},
      {"stale read", false, {put("x", "1", 1, 2), put("x", "2", 3, 4), get("x", "1", 5, 6)}},
      {"lost write", false, {put("x", "1", 1, 2), get("x", kAbsent, 3, 4)}},
      {"never written", false, {put("x", "1", 1, 2), get("x", "2", 3, 4)}},
      {"read before it was written", false, {get("x", "1", 1, 2), put("x", "1", 3, 4)}},
      {"a read during a write: before it",
       true,
       {put("x", "1", 1, 2), put("x", "2", 3, 6), get("x", "1", 4, 5)}},
      {"a read during a write: after it",
       true,
       {put("x", "1", 1, 2), put("x", "2", 3, 6), get("x", "2", 4, 5)}},
      {"once read it stays",
       false,
       {put("x", "1", 1, 6), get("x", "1", 2, 3), get("x", kAbsent, 4, 5)}},
      {"reads that overlap give either",
       true,
       {put("x", "1", 1, 6), get("x", "1", 2, 4), get("x", kAbsent, 3, 5)}},
      {"two readers disagree on the order of two writes",
       false,
       {put("x", "1", 1, 2), put("x", "2", 1, 2), get("x", "1", 3, 4), get("x", "2", 5, 6)}},
      {"what is called when another returns overlaps it",
       true,
       {put("x", "1", 1, 2), get("x", kAbsent, 2, 3)}},
  });
}

TEST(Linearizability, AnUnknownOutcomeIsUsedAtMostOnce) {
  expect_verdicts({
      {"needed", true, {put("x", "1", 1, kNever), get("x", "1", 2, 3)}},
      {"needed late",
       true,
       {put("x", "1", 1, kNever), get("x", kAbsent, 2, 3), put("x", "2", 4, 5), get("x", "2", 6, 7),
        get("x", "1", 8, 9)}},
      {"of no use", true, {put("x", "1", 1, 2), put("x", "2", 3, kNever), get("x", "1", 4, 5)}},
      {"not before its call", false, {get("x", "1", 1, 2), put("x", "1", 3, kNever)}},
      {"not taken back",
       false,
       {put("x", "1", 1, kNever), get("x", "1", 2, 3), get("x", kAbsent, 4, 5)}},
      {"not twice",
       false,
       {append("x", "1", 1, kNever), get("x", "1", 2, 3), get("x", "11", 4, 5)}},
      {"two that are alike, both needed",
       true,
       {append("x", "1", 1, kNever), get("x", "1", 2, 3), append("x", "1", 4, kNever),
        get("x", "11", 5, 6)}},
      {"the later of two that are alike is not there yet",
       false,
       {append("x", "1", 1, kNever), get("x", "1", 2, 3), get("x", "11", 4, 5),
        append("x", "1", 6, kNever)}},
      {"its answer means nothing",
       true,
       {cas("x", "9", "1", true, 1, kNever), get("x", "7", 1, kNever), erase("x", true, 1, kNever),
        get("x", kAbsent, 2, 3)}},
      {"a write nobody read makes a delete find something",
       true,
       {put("x", "1", 1, kNever), erase("x", true, 2, 3)}},
  });
}

TEST(Linearizability, CompareAndSetChangesWhatItExpects) {
  expect_verdicts({
      {"matches", true, {put("x", "1", 1, 2), cas("x", "1", "2", true, 3, 4), get("x", "2", 5, 6)}},
      {"can't have matched", false, {put("x", "1", 1, 2), cas("x", "2", "3", true, 3, 4)}},
      {"can't have failed", false, {put("x", "1", 1, 2), cas("x", "1", "3", false, 3, 4)}},
      {"failed and changed nothing",
       true,
       {put("x", "1", 1, 2), cas("x", "2", "3", false, 3, 4), get("x", "1", 5, 6)}},
      {"failed and changed something",
       false,
       {put("x", "1", 1, 2), cas("x", "2", "3", false, 3, 4), get("x", "3", 5, 6)}},
      {"one of two wins",
       true,
       {put("x", "1", 1, 2), cas("x", "1", "2", true, 3, 5), cas("x", "1", "3", false, 4, 6)}},
      {"both win",
       false,
       {put("x", "1", 1, 2), cas("x", "1", "2", true, 3, 5), cas("x", "1", "3", true, 4, 6)}},
      {"creates an absent key", true, {cas("x", kAbsent, "1", true, 1, 2), get("x", "1", 3, 4)}},
      {"creates one that is there",
       false,
       {put("x", "1", 1, 2), cas("x", kAbsent, "2", true, 3, 4)}},
      {"was not told, did",
       true,
       {put("x", "1", 1, 2), cas("x", "1", "2", std::nullopt, 3, 4), get("x", "2", 5, 6)}},
      {"was not told, did, but too late",
       false,
       {put("x", "1", 1, 2), cas("x", "1", "2", std::nullopt, 3, 4), get("x", "1", 5, 6),
        get("x", "2", 7, 8)}},
      {"unknown, matches later",
       true,
       {cas("x", "1", "2", std::nullopt, 1, kNever), put("x", "1", 2, 3), get("x", "1", 4, 5),
        get("x", "2", 6, 7)}},
      {"unknown, can't have matched",
       false,
       {cas("x", "3", "2", std::nullopt, 1, kNever), put("x", "1", 2, 3), get("x", "2", 4, 5)}},
      {"to the same value", true, {put("x", "1", 1, 2), cas("x", "1", "1", true, 3, 4)}},
      {"to the same value, which was gone",
       false,
       {put("x", "1", 1, 2), put("x", "2", 3, 4), cas("x", "1", "1", true, 5, 6)}},
  });
}

TEST(Linearizability, ADeletedKeyIsAbsent) {
  expect_verdicts({
      {"gone",
       true,
       {put("x", "1", 1, 2), erase("x", std::nullopt, 3, 4), get("x", kAbsent, 5, 6)}},
      {"still there",
       false,
       {put("x", "1", 1, 2), erase("x", std::nullopt, 3, 4), get("x", "1", 5, 6)}},
      {"found something", true, {put("x", "1", 1, 2), erase("x", true, 3, 4)}},
      {"found something where nothing was", false, {erase("x", true, 1, 2)}},
      {"found nothing where something was",
       false,
       {put("x", "1", 1, 2), erase("x", false, 3, 4), get("x", "1", 5, 6)}},
      {"one of two finds it",
       false,
       {put("x", "1", 1, 2), erase("x", true, 3, 5), erase("x", true, 4, 6)}},
      {"an append starts anew",
       true,
       {put("x", "1", 1, 2), erase("x", true, 3, 4), append("x", "2", 5, 6), get("x", "2", 7, 8)}},
  });
}

TEST(Linearizability, AppendsAreInOneOrder) {
  expect_verdicts({
      {"either order",
       true,
       {append("x", "a", 1, 3), append("x", "b", 2, 4), get("x", "ba", 5, 6)}},
      {"not both orders",
       false,
       {append("x", "a", 1, 3), append("x", "b", 2, 4), get("x", "ba", 5, 6),
        get("x", "ab", 7, 8)}},
      {"the order of time",
       false,
       {append("x", "a", 1, 2), append("x", "b", 3, 4), get("x", "ba", 5, 6)}},
      {"one is missing",
       false,
       {append("x", "a", 1, 2), append("x", "b", 3, 4), get("x", "b", 5, 6)}},
      {"a write begins anew",
       true,
       {append("x", "a", 1, 2), put("x", "b", 3, 4), append("x", "c", 5, 6), get("x", "bc", 7, 8)}},
  });
}

TEST(Linearizability, AnAbsentKeyCanCountAsAnEmptyOne) {
  const LinearizabilityOptions same = {.absent_is_empty = true};
  const History empty = {get("x", "", 1, 2)};
  const History emptied = {put("x", "", 1, 2), get("x", kAbsent, 3, 4)};
  const History set = {erase("x", std::nullopt, 1, 2), cas("x", "", "1", true, 3, 4)};
  expect_verdicts({
      {"a get gives an empty value", true, empty, same},
      {"a get gives an empty value, and they differ", false, empty},
      {"an empty value reads as absent", true, emptied, same},
      {"an empty value reads as absent, and they differ", false, emptied},
      {"a compare-and-set expects an empty value", true, set, same},
      {"a compare-and-set expects an empty value, and they differ", false, set},
  });
}

TEST(Linearizability, KeysAreCheckedAlone) {
  const History good = {put("x", "1", 1, 2), put("y", "2", 1, 2), get("x", "1", 3, 4),
                        get("y", "2", 3, 4)};
  EXPECT_EQ(check(good).verdict, Verdict::kLinearizable);

  History bad = good;
  bad.push_back(get("y", "1", 5, 6));
  LinearizabilityReport report = check(bad);
  EXPECT_EQ(report.verdict, Verdict::kNotLinearizable);
  EXPECT_EQ(report.key, "y");
  EXPECT_THAT(report.text, Not(HasSubstr("\"x\"")));

  // Of two at fault the one with fewer operations, which is easier to understand.
  for (const ClientOperation& op :
       {get("a", "1", 7, 8), put("a", "1", 9, 10), get("a", "1", 11, 12), get("a", "1", 13, 14)})
    bad.push_back(op);
  EXPECT_EQ(check(bad).key, "y");
}

TEST(Linearizability, SaysHowFarTheHistoryCanBeExplained) {
  const History history = {
      put("other", "1", 1, 2),                        // 0
      put("x", "1", 3, 4),                            // 1
      get("x", "1", 5, 6),                            // 2
      put("x", "2", 7, kNever),                       // 3
      put("x", "3", 8, 11),                           // 4
      get("x", "3", 9, 10),                           // 5
      get("x", std::string(100, '\n') + "!", 10, 12)  // 6: nobody wrote that
  };
  const LinearizabilityReport report = check(history);
  ASSERT_EQ(report.verdict, Verdict::kNotLinearizable);
  EXPECT_EQ(report.key, "x");
  EXPECT_THAT(report.explained, ElementsAre(1, 2, 4, 5));
  EXPECT_THAT(report.unexplained, ElementsAre(6, 3));
  EXPECT_THAT(report.text, HasSubstr("what returned by 12"));
  EXPECT_THAT(report.text, HasSubstr("4 of 6 operations"));
  EXPECT_THAT(report.text, HasSubstr("the key is then \"3\""));
  EXPECT_THAT(report.text, HasSubstr("client 0 put \"x\" \"2\" [7, never]"));
  EXPECT_THAT(report.text, HasSubstr("\\x0a\"... of 101 bytes [10, 12]"));
}

TEST(Linearizability, UnknownOutcomesDoNotMultiply) {
  History history;
  for (int i = 0; i < 40; ++i)
    history.push_back(cas("x", "seen" + std::to_string(i), "1", false, 1, 2));
  for (int i = 0; i < 40; ++i) {
    history.push_back(put("x", "seen" + std::to_string(i), 3, kNever));
    history.push_back(put("x", "unseen" + std::to_string(i), 3, kNever));
    history.push_back(append("x", "unseen" + std::to_string(i), 3, kNever));
    history.push_back(erase("x", std::nullopt, 3, kNever));
    history.push_back(cas("x", "seen" + std::to_string(i), "unseen", std::nullopt, 3, kNever));
  }
  for (int i = 0; i < 20; ++i) {
    history.push_back(cas("y", kAbsent, "1", std::nullopt, 1, kNever));
    history.push_back(cas("y", "1", "2", std::nullopt, 1, kNever));
    history.push_back(cas("y", "2", "1", std::nullopt, 1, kNever));
  }
  for (const char* key : {"x", "y"}) {
    History one;
    std::copy_if(history.begin(), history.end(), std::back_inserter(one),
                 [key](const ClientOperation& op) { return op.key == key; });
    one.push_back(get(key, "never written", 4, 5));
    const LinearizabilityReport report = check(one);
    EXPECT_EQ(report.verdict, Verdict::kNotLinearizable) << report.text;
    EXPECT_LT(report.steps, 50'000u);
  }
}

// Every order of overlapping writes gives a state of its own, and the read at the end fits none.
History hard(const std::string& key, int writes) {
  History history;
  for (int i = 0; i < writes; ++i) history.push_back(put(key, std::to_string(i), 1, 2));
  for (int i = 0; i < writes; ++i)
    history.push_back(cas(key, std::to_string(i), std::to_string((i + 1) % writes), true, 1, 2));
  history.push_back(get(key, "none", 3, 4));
  return history;
}

TEST(Linearizability, GivesUpAfterSoManySteps) {
  const History history = hard("x", 12);
  const LinearizabilityReport report = check(history, {.max_steps = 10'000});
  EXPECT_EQ(report.verdict, Verdict::kUnknown);
  EXPECT_EQ(report.key, "x");
  EXPECT_THAT(report.text, HasSubstr("the limit of 10000 steps"));
  EXPECT_GE(report.steps, 10'000u);
  EXPECT_LT(report.steps, 10'100u);
  EXPECT_EQ(check(history, {.max_steps = 10'000}).steps, report.steps);

  const History easier = hard("x", 4);
  const std::uint64_t needed = check(easier).steps;
  EXPECT_EQ(check(easier).verdict, Verdict::kNotLinearizable);
  EXPECT_EQ(check(easier, {.max_steps = needed + 1}).verdict, Verdict::kNotLinearizable);
  EXPECT_EQ(check(easier, {.max_steps = needed / 2}).verdict, Verdict::kUnknown);
}

TEST(Linearizability, FindsAFaultOfAnotherKeyThanTheOneThatIsTooHard) {
  for (const char* key : {"a", "z"}) {
    History history = hard("x", 12);
    for (std::uint64_t t = 5; t < 105; t += 2) history.push_back(put(key, "1", t, t + 1));
    EXPECT_EQ(check(history, {.max_steps = 10'000}).verdict, Verdict::kUnknown);
    history.push_back(get(key, "2", 200, 201));
    const LinearizabilityReport report = check(history, {.max_steps = 10'000});
    EXPECT_EQ(report.verdict, Verdict::kNotLinearizable);
    EXPECT_EQ(report.key, key);
  }
}

TEST(Linearizability, RefusesAReturnBeforeTheCall) {
  const History history = {put("x", "1", 1, 2), get("x", "1", 4, 3)};
  const auto report = check_linearizability(history);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.status().code(), Code::kInvalidArgument);
  EXPECT_THAT(report.status().message(), HasSubstr("operation 1"));
}

}  // namespace
}  // namespace pgraft::sim
