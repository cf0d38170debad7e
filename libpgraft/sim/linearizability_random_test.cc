// Random histories: tiny ones against the definition, long ones such as simulations give.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "libpgraft/sim/linearizability.h"

namespace pgraft::sim {
namespace {

using Kind = ClientOperation::Kind;
using History = std::vector<ClientOperation>;
using Value = std::optional<std::string>;

constexpr std::uint64_t kNever = kNeverReturned;
constexpr auto kAbsent = std::nullopt;

LinearizabilityReport check(const History& history, const LinearizabilityOptions& options = {}) {
  auto report = check_linearizability(history, options);
  EXPECT_TRUE(report) << report.status().to_string();
  return *report;
}

std::string text_of(const History& history) {
  std::string text;
  for (const ClientOperation& op : history) text += describe(op) + "\n";
  return text;
}

// --- against the definition

struct Store {
  std::map<std::string, std::string> values;
  bool absent_is_empty = false;

  Value at(const std::string& key) const {
    const auto found = values.find(key);
    const bool absent = found == values.end() || (absent_is_empty && found->second.empty());
    return absent ? Value() : found->second;
  }

  // What `op` would have answered.
  ClientOperation apply(ClientOperation op) {
    const Value held = at(op.key);
    switch (op.kind) {
      case Kind::kGet: op.read = held; break;
      case Kind::kPut: values[op.key] = op.value; break;
      case Kind::kAppend: values[op.key] += op.value; break;
      case Kind::kCas:
        op.succeeded =
            absent_is_empty ? held.value_or("") == op.expected.value_or("") : held == op.expected;
        if (*op.succeeded) values[op.key] = op.value;
        break;
      case Kind::kDelete:
        op.succeeded = held.has_value();
        values.erase(op.key);
        break;
    }
    return op;
  }

  // False: it answered otherwise.
  bool explains(const ClientOperation& op) {
    const ClientOperation would = apply(op);
    if (op.returned == kNever) return true;
    const bool reads_alike =
        absent_is_empty ? would.read.value_or("") == op.read.value_or("") : would.read == op.read;
    return reads_alike && (!op.succeeded || would.succeeded == op.succeeded);
  }
};

// Tries every order of all operations, with and without those that did not return by `end`.
bool some_order_explains(const History& history, const Store& store = {},
                         std::uint64_t end = kNever - 1, unsigned placed = 0) {
  const auto left = [&](std::size_t i) { return (placed & 1u << i) == 0; };
  bool complete = true;
  for (std::size_t i = 0; i < history.size(); ++i) {
    if (!left(i)) continue;
    complete = complete && history[i].returned > end;
    bool may_be_next = true;
    for (std::size_t j = 0; j < history.size(); ++j)
      may_be_next = may_be_next && !(left(j) && history[j].returned < history[i].called);
    Store next = store;
    if (may_be_next && next.explains(history[i]) &&
        some_order_explains(history, next, end, placed | 1u << i))
      return true;
  }
  return complete;
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : rng_(seed) {}
  std::uint64_t below(std::uint64_t n) { return rng_() % n; }
  bool chance(int percent) { return below(100) < static_cast<std::uint64_t>(percent); }
  template <class T>
  T one_of(const std::vector<T>& values) {
    return values[below(values.size())];
  }

 private:
  std::mt19937_64 rng_;
};

// At most six operations at moments that often coincide, with the answers of some order, some of
// them changed.
History tiny_history(Random& random, const Store& empty) {
  const std::vector<std::string> values = {"", "a", "b", "ab", "aa"};
  const std::vector<Value> held = {kAbsent, "", "a", "b", "ab", "aa", "ba"};
  History history(1 + random.below(6));
  const int keys = random.chance(30) ? 2 : 1;
  const std::uint64_t moments = 4 + random.below(8);
  std::vector<std::pair<std::uint64_t, std::size_t>> effects;
  for (std::size_t i = 0; i < history.size(); ++i) {
    ClientOperation& op = history[i];
    op.client = i;
    op.kind = random.one_of<Kind>(
        {Kind::kGet, Kind::kGet, Kind::kPut, Kind::kAppend, Kind::kCas, Kind::kDelete});
    op.key = random.below(keys) == 0 ? "x" : "y";
    op.value = random.one_of(values);
    op.expected = random.one_of(held);
    op.called = 1 + random.below(moments);
    op.returned = op.called + random.below(moments);
    effects.emplace_back(op.called + random.below(op.returned - op.called + 1), i);
    if (random.chance(25)) op.returned = kNever;
  }
  std::sort(effects.begin(), effects.end());
  Store store = empty;
  for (const auto& [time, i] : effects) {
    ClientOperation& op = history[i];
    if (op.returned == kNever && random.chance(50)) continue;
    op = store.apply(op);
  }
  for (ClientOperation& op : history) {
    if (random.chance(40)) op.read = random.one_of(held);
    if (random.chance(40)) op.succeeded = random.chance(50);
    if (random.chance(15)) op.succeeded.reset();
    if (op.kind != Kind::kGet) op.read.reset();
    if (op.kind != Kind::kCas && op.kind != Kind::kDelete) op.succeeded.reset();
  }
  return history;
}

// What the report says is so: some order explains the key up to that return, none explains that.
void expect_true_evidence(const History& history, const LinearizabilityReport& report,
                          const Store& empty) {
  const std::uint64_t end = history[report.unexplained.front()].returned;
  Store store = empty;
  std::set<std::size_t> explained;
  for (std::size_t i : report.explained) {
    EXPECT_TRUE(store.explains(history[i]));
    EXPECT_TRUE(explained.insert(i).second);
  }
  const std::set<std::size_t> unexplained(report.unexplained.begin(), report.unexplained.end());
  History known;
  for (std::size_t i = 0; i < history.size(); ++i) {
    const ClientOperation& op = history[i];
    const bool of_key = op.key == report.key;
    EXPECT_LE(explained.count(i) + unexplained.count(i), of_key ? 1u : 0u);
    if (!of_key || op.called > end) continue;
    known.push_back(op);
    EXPECT_TRUE(op.returned >= end || explained.contains(i));
    EXPECT_TRUE(explained.contains(i) || unexplained.contains(i) ||
                (op.kind == Kind::kGet && op.returned == kNever));
  }
  EXPECT_TRUE(some_order_explains(known, empty, end - 1));
  EXPECT_FALSE(some_order_explains(known, empty, end));
}

TEST(LinearizabilityOfRandomHistories, AgreesWithTryingEveryOrder) {
  int linearizable = 0;
  constexpr int kHistories = 30'000;
  for (std::uint64_t seed = 1; seed <= kHistories; ++seed) {
    Random random(seed);
    Store empty;
    empty.absent_is_empty = random.chance(30);
    const History history = tiny_history(random, empty);
    const LinearizabilityReport report = check(history, {.absent_is_empty = empty.absent_is_empty});
    const bool expected = some_order_explains(history, empty);
    linearizable += expected ? 1 : 0;
    ASSERT_EQ(report.verdict, expected ? Verdict::kLinearizable : Verdict::kNotLinearizable)
        << "seed " << seed << (empty.absent_is_empty ? ", absent is empty\n" : "\n")
        << text_of(history) << report.text;
    if (!expected) expect_true_evidence(history, report, empty);
    ASSERT_FALSE(HasFailure()) << "seed " << seed << "\n" << text_of(history) << report.text;
  }
  EXPECT_GT(linearizable, kHistories / 4);
  EXPECT_LT(linearizable, kHistories * 3 / 4);
}

// --- histories such as simulations give

struct Behaviour {
  std::uint64_t values = 0;  // so many are written; 0: each write has its own
  int unknown_percent = 3;
  int lost_writes_percent = 0;
  int stale_reads_percent = 0;
};

// Clients call, the store does it some time later, and then they get their answer, or don't.
History long_history(std::uint64_t seed, std::size_t operations, int clients, int keys,
                     const Behaviour& behaviour = {}) {
  Random random(seed);
  Store store;
  Store earlier;  // some time ago
  History history;
  struct Client {
    std::optional<std::size_t> calls;
    bool done = false;
  };
  std::vector<Client> all(static_cast<std::size_t>(clients));
  for (std::uint64_t time = 1;; ++time) {
    const std::size_t c = random.below(all.size());
    Client& client = all[c];
    if (!client.calls) {
      if (history.size() == operations) break;
      ClientOperation op;
      op.client = c;
      op.key = "key" + std::to_string(random.below(static_cast<std::uint64_t>(keys)));
      op.kind = random.one_of<Kind>({Kind::kGet, Kind::kGet, Kind::kGet, Kind::kPut, Kind::kPut,
                                     Kind::kAppend, Kind::kCas, Kind::kDelete});
      op.value = std::to_string(behaviour.values == 0 ? time : random.below(behaviour.values));
      op.expected = store.at(op.key);
      op.called = time;
      client = {history.size(), false};
      history.push_back(op);
      continue;
    }
    ClientOperation& op = history[*client.calls];
    if (!client.done) {
      const bool write = op.kind == Kind::kPut || op.kind == Kind::kAppend;
      const bool lost = write && random.chance(behaviour.lost_writes_percent);
      const bool stale = op.kind == Kind::kGet && random.chance(behaviour.stale_reads_percent);
      if (random.chance(5)) earlier = store;
      if (!lost) op = (stale ? earlier : store).apply(op);
      client.done = true;
    } else {
      if (!random.chance(behaviour.unknown_percent)) op.returned = time;
      client.calls.reset();
    }
  }
  return history;
}

TEST(LinearizabilityOfRandomHistories, ALongHistoryTakesFewSteps) {
  std::uint64_t steps_max = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const LinearizabilityReport report = check(long_history(seed, 300, 8, 5));
    ASSERT_EQ(report.verdict, Verdict::kLinearizable) << "seed " << seed << "\n" << report.text;
    steps_max = std::max(steps_max, report.steps);
  }
  RecordProperty("steps_max", std::to_string(steps_max));
  EXPECT_LT(steps_max, 300u * 100);
  // One key: a large set of operations.
  EXPECT_EQ(check(long_history(1, 20'000, 8, 1, {.unknown_percent = 0})).verdict,
            Verdict::kLinearizable);
  EXPECT_EQ(check(long_history(1, 2'000, 8, 1)).verdict, Verdict::kLinearizable);
}

// Leaving out what can't matter must not leave out what does: few values and many unknown outcomes,
// so that there are many ways to be at the same place.
TEST(LinearizabilityOfRandomHistories, NothingThatHappenedIsAtFault) {
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    const Behaviour behaviour = {.values = 1 + seed % 3,
                                 .unknown_percent = static_cast<int>(seed % 7) * 10};
    const History history = long_history(seed, 12 + seed % 40, 6, 1, behaviour);
    const LinearizabilityReport report = check(history);
    ASSERT_EQ(report.verdict, Verdict::kLinearizable) << "seed " << seed << "\n"
                                                      << text_of(history) << report.text;
  }
}

TEST(LinearizabilityOfRandomHistories, FindsWhatABrokenStoreDoes) {
  const Behaviour cases[] = {{.lost_writes_percent = 5}, {.stale_reads_percent = 5}};
  for (const Behaviour& behaviour : cases) {
    int found = 0;
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
      const LinearizabilityReport report = check(long_history(seed, 300, 8, 5, behaviour));
      EXPECT_NE(report.verdict, Verdict::kUnknown) << "seed " << seed;
      found += report.verdict == Verdict::kNotLinearizable ? 1 : 0;
    }
    EXPECT_GT(found, 50) << behaviour.lost_writes_percent << " " << behaviour.stale_reads_percent;
  }
}

}  // namespace
}  // namespace pgraft::sim
