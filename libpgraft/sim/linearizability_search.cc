#include "libpgraft/sim/linearizability_search.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace pgraft::sim {
namespace {

using Kind = ClientOperation::Kind;
using State = std::uint32_t;  // what a key holds: a number that Values gives
using Node = std::uint32_t;   // of the list of events

constexpr std::size_t kWordBits = 64;

// splitmix64's finalizer.
std::uint64_t mix(std::uint64_t z) {
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// The values of one key as numbers. Only what a client saw or compared with tells values apart: one
// that is no beginning of such a value stays so whatever is appended, so that all of these are one.
// Without that, every order of concurrent appends would be a state of its own.
//
// Refers to the strings of the history.
class Values {
 public:
  static constexpr State kAbsent = 0;
  static constexpr State kUnseen = 1;

  // `seen`: what was read or compared with.
  Values(std::vector<std::string_view> seen, bool absent_is_empty)
      : seen_(std::move(seen)), absent_is_empty_(absent_is_empty) {
    std::sort(seen_.begin(), seen_.end());
    seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());
  }

  State of(std::string_view value) {
    if (value.empty() && absent_is_empty_) return kAbsent;
    const auto found = std::lower_bound(seen_.begin(), seen_.end(), value);
    if (found == seen_.end() || !found->starts_with(value)) return kUnseen;
    const std::string_view kept = found->substr(0, value.size());
    const auto [known, is_new] = states_.emplace(kept, static_cast<State>(texts_.size()));
    if (is_new) texts_.push_back(kept);
    return known->second;
  }

  State held(const std::optional<std::string>& value) { return value ? of(*value) : kAbsent; }

  // False: nothing that was seen has this in it.
  bool has_part(std::string_view part) const {
    return part.empty() || std::any_of(seen_.begin(), seen_.end(), [part](std::string_view value) {
             return value.find(part) != std::string_view::npos;
           });
  }

  State append(State state, std::string_view suffix) {
    if (state == kUnseen) return kUnseen;
    scratch_.assign(texts_[state]).append(suffix);
    return of(scratch_);
  }

 private:
  std::vector<std::string_view> seen_;  // sorted
  bool absent_is_empty_;
  std::vector<std::string_view> texts_{{}, {}};  // by state
  std::unordered_map<std::string_view, State> states_;
  std::string scratch_;
};

// An operation as the search needs it.
struct Op {
  Kind kind = Kind::kGet;
  bool pending = false;  // never returned
  // Leaves the key as it is whenever it is possible at all. It is then right to let it take effect
  // as soon as it can: whatever comes later is not changed by it.
  bool pure = false;
  bool blind = false;  // always possible, and nothing of what the key held before remains
  std::optional<bool> succeeded;
  State value = Values::kAbsent;  // get: what it gave
  State expected = Values::kAbsent;
  std::string_view suffix;
  // A pending operation called earlier that does the same. That one goes first: either may, and so
  // many orders are but one.
  std::optional<std::uint32_t> twin;
  std::size_t number = 0;  // in the history
};

// Which operations have taken effect: a bit each and an incremental hash. Those that returned take
// effect about in the order of their calls, so that all words but a few are full or empty; the few,
// and those of the pending operations, are what tells two sets apart.
class PlacedSet {
 public:
  PlacedSet() = default;
  PlacedSet(std::size_t completed, std::size_t pending)
      : completed_(completed),
        pending_from_((completed + kWordBits - 1) / kWordBits),
        words_(pending_from_ + (pending + kWordBits - 1) / kWordBits) {}

  bool contains(std::size_t i) const { return (words_[word_of(i)] & bit_of(i)) != 0; }

  void add(std::size_t i) {
    const std::size_t w = word_of(i);
    words_[w] |= bit_of(i);
    if (i >= completed_) return;
    hash_ ^= mix(i);
    end_ = std::max(end_, w + 1);
    while (begin_ < end_ && words_[begin_] == ~std::uint64_t{0}) ++begin_;
  }

  void remove(std::size_t i) {
    const std::size_t w = word_of(i);
    words_[w] &= ~bit_of(i);
    if (i >= completed_) return;
    hash_ ^= mix(i);
    begin_ = std::min(begin_, w);
    while (end_ > 0 && words_[end_ - 1] == 0) --end_;
  }

  // Sets of which these are equal differ in pending operations at most.
  std::uint64_t hash() const { return hash_; }
  std::size_t full_words() const { return begin_; }
  std::size_t pending_words() const { return words_.size() - pending_from_; }
  // The words that are neither full nor empty, after those of the pending operations.
  void append_words(std::vector<std::uint64_t>& out) const {
    const auto at = [this](std::size_t i) {
      return words_.begin() + static_cast<std::ptrdiff_t>(i);
    };
    out.insert(out.end(), at(pending_from_), words_.end());
    out.insert(out.end(), at(begin_), at(end_));
  }

 private:
  std::size_t position(std::size_t i) const {
    return i < completed_ ? i : i - completed_ + pending_from_ * kWordBits;
  }
  std::size_t word_of(std::size_t i) const { return position(i) / kWordBits; }
  std::uint64_t bit_of(std::size_t i) const {
    return std::uint64_t{1} << (position(i) % kWordBits);
  }

  std::size_t completed_ = 0;
  std::size_t pending_from_ = 0;  // first word of the pending ones
  std::vector<std::uint64_t> words_;
  std::size_t begin_ = 0;  // of the completed ones: the first word that is not full,
  std::size_t end_ = 0;    // and the end of those that are not empty
  std::uint64_t hash_ = 0;
};

// Where the search has been. What it could not complete from there, it can't from there again, nor
// with fewer of the pending operations left.
class Visited {
 public:
  // False: it was there before, perhaps with more left. Adds to `steps` what that takes.
  bool insert(const PlacedSet& set, State state, std::uint64_t& steps) {
    if (2 * (entries_.size() + 1) > slots_.size()) grow();
    const std::size_t from = words_.size();
    set.append_words(words_);
    const Entry entry = {mix(set.hash() + state), set.full_words(), from, words_.size() - from,
                         state};
    steps += entry.words / 8;  // 64 bytes
    std::size_t slot = entry.hash & (slots_.size() - 1);
    for (; slots_[slot] != 0; slot = (slot + 1) & (slots_.size() - 1)) {
      const Entry& other = entries_[slots_[slot] - 1];
      if (other.hash != entry.hash) continue;
      ++steps;
      if (covers(other, entry, set.pending_words())) {
        words_.resize(from);
        return false;
      }
    }
    entries_.push_back(entry);
    slots_[slot] = entries_.size();
    return true;
  }

 private:
  struct Entry {
    std::uint64_t hash = 0;  // of the state and the completed operations
    std::size_t full_words = 0;
    std::size_t from = 0;  // in words_
    std::size_t words = 0;
    State state = Values::kAbsent;
  };

  // The same, and `a` has done no pending operation that `b` has not.
  bool covers(const Entry& a, const Entry& b, std::size_t pending_words) const {
    if (a.state != b.state || a.full_words != b.full_words || a.words != b.words) return false;
    const std::uint64_t* of_a = words_.data() + a.from;
    const std::uint64_t* of_b = words_.data() + b.from;
    for (std::size_t i = 0; i < pending_words; ++i) {
      if ((of_a[i] & ~of_b[i]) != 0) return false;
    }
    return std::equal(of_a + pending_words, of_a + a.words, of_b + pending_words);
  }

  void grow() {
    slots_.assign(std::max<std::size_t>(64, 2 * slots_.size()), 0);
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      std::size_t slot = entries_[i].hash & (slots_.size() - 1);
      while (slots_[slot] != 0) slot = (slot + 1) & (slots_.size() - 1);
      slots_[slot] = i + 1;
    }
  }

  std::vector<std::size_t> slots_;  // open addressing: 0, or the number of an entry and one
  std::vector<Entry> entries_;
  std::vector<std::uint64_t> words_;
};

// The search for an order of one key's operations: a walk along the list of calls and returns,
// which lacks those of the operations that have taken effect. What is called before the first
// return that is left can be next; when nothing of it can, the last choice is taken back.
//
// What it leaves out is never all that explains a history. Think of an order that does, with as few
// pending operations as possible. Pure ones can be moved to the first place where they fit. Pending
// ones that do the same can change places. None of them is followed by a blind operation, or does
// nothing: it could be left out. And no place on its way was visited with fewer of them done, since
// from there as few would do.
class Search {
 public:
  Search(std::span<const ClientOperation> history, std::vector<std::size_t> numbers,
         const LinearizabilityOptions& options)
      : values_(seen_values(history, numbers), options.absent_is_empty),
        max_steps_(options.max_steps) {
    load(history, std::move(numbers));
  }

  Verdict run() {
    settle();
    const std::size_t settled = stack_.size();
    Node at = calls_;  // what was tried last
    while (open_ > 0) {
      if (steps_ >= max_steps_) return Verdict::kUnknown;
      at = following(at);
      if (at == kNone) {
        remember_furthest();
        if (stack_.size() == settled) return Verdict::kNotLinearizable;
        at = retract();
      } else if (place(at / 2)) {
        at = visited_.insert(placed_, state_, steps_) ? calls_ : retract();
      }
    }
    return Verdict::kLinearizable;
  }

  std::uint64_t steps() const { return steps_; }

  // After kNotLinearizable: what SearchResult says.
  std::vector<std::size_t> explained() const {
    std::vector<std::size_t> numbers;
    for (std::uint32_t i : furthest_) numbers.push_back(ops_[i].number);
    return numbers;
  }
  std::vector<std::size_t> unexplained() const {
    const std::uint32_t first = furthest_barrier_ / 2;
    std::vector<bool> named(ops_.size());
    named[first] = true;
    for (std::uint32_t i : furthest_) named[i] = true;
    std::vector<std::size_t> numbers = {ops_[first].number};
    for (std::uint32_t i = 0; i < ops_.size(); ++i) {
      if (!named[i] && rank_[call(i)] < rank_[furthest_barrier_]) numbers.push_back(ops_[i].number);
    }
    return numbers;
  }

 private:
  static constexpr Node kNone = UINT32_MAX;

  static Node call(std::size_t i) { return static_cast<Node>(2 * i); }
  static Node ret(std::size_t i) { return static_cast<Node>(2 * i + 1); }
  static bool is_return(Node n) { return n % 2 != 0; }

  static std::vector<std::string_view> seen_values(std::span<const ClientOperation> history,
                                                   const std::vector<std::size_t>& numbers) {
    std::vector<std::string_view> seen;
    for (std::size_t number : numbers) {
      const ClientOperation& op = history[number];
      if (op.kind == Kind::kGet && op.read) seen.push_back(*op.read);
      if (op.kind == Kind::kCas && op.expected) seen.push_back(*op.expected);
    }
    return seen;
  }

  Op prepare(const ClientOperation& from, std::size_t number) {
    Op op;
    op.kind = from.kind;
    op.number = number;
    op.pending = from.returned == kNeverReturned;
    if (!op.pending) op.succeeded = from.succeeded;
    if (op.kind == Kind::kGet) op.value = values_.held(from.read);
    if (op.kind == Kind::kPut || op.kind == Kind::kCas) op.value = values_.of(from.value);
    if (op.kind == Kind::kCas) op.expected = values_.held(from.expected);
    if (op.kind == Kind::kAppend) op.suffix = from.value;
    // Whatever it is appended to, what it gives is unseen. That makes many pending ones alike.
    if (op.kind == Kind::kAppend && op.pending && !values_.has_part(op.suffix)) {
      op.kind = Kind::kPut;
      op.value = Values::kUnseen;
      op.suffix = {};
    }
    const bool may_fail = op.kind == Kind::kCas || op.kind == Kind::kDelete;
    op.pure = op.kind == Kind::kGet || (may_fail && op.succeeded == false) ||
              (op.kind == Kind::kCas && op.succeeded == true && op.expected == op.value);
    op.blind = op.kind == Kind::kPut || (op.kind == Kind::kDelete && !op.succeeded);
    return op;
  }

  void load(std::span<const ClientOperation> history, std::vector<std::size_t> numbers) {
    // Completed ones first, both in the order of their calls.
    std::stable_sort(numbers.begin(), numbers.end(), [&](std::size_t a, std::size_t b) {
      const bool a_pending = history[a].returned == kNeverReturned;
      const bool b_pending = history[b].returned == kNeverReturned;
      return std::tie(a_pending, history[a].called) < std::tie(b_pending, history[b].called);
    });
    using What = std::tuple<Kind, State, State, std::string_view>;
    std::map<What, std::uint32_t> last_of;
    for (std::size_t number : numbers) {
      const auto i = static_cast<std::uint32_t>(ops_.size());
      Op op = prepare(history[number], number);
      if (op.pending) {
        const auto [last, first] =
            last_of.emplace(What{op.kind, op.value, op.expected, op.suffix}, i);
        if (!first) op.twin = std::exchange(last->second, i);
      } else {
        ++open_;
      }
      ops_.push_back(op);
    }
    placed_ = PlacedSet(open_, ops_.size() - open_);
    link(history);
  }

  void link(std::span<const ClientOperation> history) {
    std::vector<std::tuple<std::uint64_t, bool, Node>> events;  // at the same time: calls first
    for (std::size_t i = 0; i < ops_.size(); ++i) {
      const ClientOperation& op = history[ops_[i].number];
      events.emplace_back(op.called, false, call(i));
      if (!ops_[i].pending) events.emplace_back(op.returned, true, ret(i));
    }
    std::sort(events.begin(), events.end());
    calls_ = call(ops_.size());
    pending_calls_ = call(ops_.size() + 1);
    next_.resize(2 * (ops_.size() + 2));
    previous_ = next_;
    rank_ = next_;
    for (Node list : {calls_, pending_calls_}) next_[list] = previous_[list] = list;
    for (std::uint32_t r = 0; r < events.size(); ++r) {
      const Node n = std::get<Node>(events[r]);
      rank_[n] = r;
      const Node list = ops_[n / 2].pending ? pending_calls_ : calls_;
      previous_[n] = previous_[list];
      next_[n] = list;
      restore(n);
    }
  }

  // --- the lists

  void unlink(Node n) {
    next_[previous_[n]] = next_[n];
    previous_[next_[n]] = previous_[n];
  }
  // Undoes the last unlink() that is not undone.
  void restore(Node n) {
    next_[previous_[n]] = n;
    previous_[next_[n]] = n;
  }

  // The call after `at` of an operation that can be next; kNone: there is no other. Pending ones
  // come last, for most of them are not needed.
  Node following(Node at) const {
    at = next_[at];
    if (is_return(at)) at = next_[pending_calls_];
    if (at == pending_calls_ || (ops_[at / 2].pending && rank_[at] > rank_[barrier_])) return kNone;
    return at;
  }

  void find_barrier() {
    barrier_ = next_[calls_];
    while (barrier_ != calls_ && !is_return(barrier_)) barrier_ = next_[barrier_];
  }

  // --- the model

  // What the key holds after operation `i`; nothing: it can't be next.
  std::optional<State> after(std::uint32_t i) {
    ++steps_;
    const Op& op = ops_[i];
    switch (op.kind) {
      case Kind::kGet: return state_ == op.value ? std::optional(state_) : std::nullopt;
      case Kind::kPut: return op.value;
      case Kind::kAppend: {
        const auto [known, is_new] = appended_.try_emplace(std::uint64_t{i} << 32 | state_);
        if (is_new) known->second = values_.append(state_, op.suffix);
        return known->second;
      }
      case Kind::kCas: {
        const bool matches = state_ == op.expected;
        if (op.succeeded && *op.succeeded != matches) return std::nullopt;
        return matches ? op.value : state_;
      }
      case Kind::kDelete:
        if (op.succeeded && *op.succeeded != (state_ != Values::kAbsent)) return std::nullopt;
        return Values::kAbsent;
    }
    return std::nullopt;
  }

  // --- the order

  void push(std::uint32_t i, State next) {
    stack_.push_back({i, state_, owing_});
    state_ = next;
    owing_ = ops_[i].pending;
    placed_.add(i);
    if (!ops_[i].pending) {
      unlink(ret(i));
      --open_;
    }
    unlink(call(i));
  }

  void pop() {
    const auto [i, before, owing] = stack_.back();
    stack_.pop_back();
    state_ = before;
    owing_ = owing;
    placed_.remove(i);
    restore(call(i));
    if (!ops_[i].pending) {
      restore(ret(i));
      ++open_;
    }
    furthest_shared_ = std::min(furthest_shared_, stack_.size());
  }

  // Lets every pure operation take effect that can.
  void settle() {
    Node n = next_[calls_];
    for (; n != calls_ && !is_return(n); n = next_[n]) {
      if (ops_[n / 2].pure && after(n / 2)) push(n / 2, state_);
    }
    barrier_ = n;
  }

  // Operation `i` takes effect, and what settles then. False: it can't, or has no use.
  bool place(std::uint32_t i) {
    const Op& op = ops_[i];
    if (op.pure || (op.twin && !placed_.contains(*op.twin)) || (owing_ && op.blind)) return false;
    const std::optional<State> next = after(i);
    if (!next || (op.pending && *next == state_)) return false;
    push(i, *next);
    settle();
    return true;
  }

  // Takes back the last choice with what settled after it, and tells which that was.
  Node retract() {
    while (ops_[stack_.back().op].pure) pop();
    const std::uint32_t i = stack_.back().op;
    pop();
    find_barrier();
    return call(i);
  }

  // The furthest in time, and what got there with the fewest operations.
  void remember_furthest() {
    if (furthest_barrier_ != kNone && std::pair(rank_[furthest_barrier_], stack_.size()) >=
                                          std::pair(rank_[barrier_], furthest_.size()))
      return;
    furthest_barrier_ = barrier_;
    furthest_.resize(furthest_shared_);
    for (; furthest_shared_ < stack_.size(); ++furthest_shared_)
      furthest_.push_back(stack_[furthest_shared_].op);
  }

  struct Placed {
    std::uint32_t op = 0;
    State before = Values::kAbsent;
    bool owing_before = false;
  };

  Values values_;
  std::uint64_t max_steps_;
  std::uint64_t steps_ = 0;
  std::vector<Op> ops_;
  std::unordered_map<std::uint64_t, State> appended_;  // by operation and state

  // Two doubly linked rings, by node: calls and returns of completed operations; calls of pending
  // ones. The last two calls are the rings' heads.
  std::vector<Node> next_;
  std::vector<Node> previous_;
  std::vector<std::uint32_t> rank_;  // in time
  Node calls_ = 0;
  Node pending_calls_ = 0;

  State state_ = Values::kAbsent;
  // What took effect last is a pending operation: what comes next must not be blind. Without this
  // rule all subsets of the pending ones would be tried.
  bool owing_ = false;
  PlacedSet placed_;
  std::vector<Placed> stack_;
  std::size_t open_ = 0;  // completed operations that have not taken effect
  Node barrier_ = 0;      // the first return that is left, while there is one
  Visited visited_;

  Node furthest_barrier_ = kNone;
  std::vector<std::uint32_t> furthest_;  // the order in which the furthest barrier was reached
  std::size_t furthest_shared_ = 0;      // so much of its beginning is that of stack_
};

}  // namespace

SearchResult search_order(std::span<const ClientOperation> history,
                          std::vector<std::size_t> numbers, const LinearizabilityOptions& options) {
  Search search(history, std::move(numbers), options);
  SearchResult result;
  result.verdict = search.run();
  result.steps = search.steps();
  if (result.verdict == Verdict::kNotLinearizable) {
    result.explained = search.explained();
    result.unexplained = search.unexplained();
  }
  return result;
}

}  // namespace pgraft::sim
