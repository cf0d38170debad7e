// For tests: a durable log in memory, and a network of nodes that is driven step by step. Nothing
// moves by itself.
//
// After every step the cluster checks what must hold always (figure 3): at most one leader in a
// term, and no two nodes apply different entries at one index. Turn that off (`check_safety`) only
// to show what an attack would do.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libpgraft/raft/log_reader.h"
#include "libpgraft/raft/raw_node.h"

namespace pgraft::raft {

class TestLog : public LogReader {
 public:
  Result<InitialState> initial_state() const override {
    return InitialState{hard, snapshot_ ? snapshot_->meta.conf : ConfState{}};
  }
  Index first_index() const override { return offset_ + 1; }
  Index last_index() const override { return offset_ + entries_.size(); }
  Result<Term> term(Index i) const override {
    if (i == offset_) return snapshot_ ? offset_term_ : Term{0};
    if (i < offset_ || i > last_index()) return Status{Code::kNotFound, "no such entry"};
    return entries_[i - offset_ - 1].term;
  }
  Result<std::vector<Entry>> entries(Index lo, Index hi, std::uint64_t bytes_max) const override {
    std::vector<Entry> found;
    if (Status status = entries_into(lo, hi, bytes_max, &found); !status) return status;
    return found;
  }
  Status entries_into(Index lo, Index hi, std::uint64_t bytes_max,
                      std::vector<Entry>* found) const override {
    found->clear();
    if (lo <= offset_) return {Code::kNotFound, "compacted"};
    std::uint64_t bytes = 0;
    for (Index i = lo; i < std::min(hi, last_index() + 1); ++i) {
      bytes += entries_[i - offset_ - 1].data.size();
      if (!found->empty() && bytes > bytes_max) break;
      found->push_back(entries_[i - offset_ - 1]);
    }
    return {};
  }
  Result<std::shared_ptr<const Snapshot>> snapshot() const override { return snapshot_; }

  void append(const std::vector<Entry>& entries) {
    for (const Entry& entry : entries) {
      ASSERT_GT(entry.index, offset_);
      ASSERT_LE(entry.index, last_index() + 1);
      entries_.resize(entry.index - offset_ - 1);
      entries_.push_back(entry);
    }
  }
  void install(std::shared_ptr<const Snapshot> snapshot) {
    offset_ = snapshot->meta.index;
    offset_term_ = snapshot->meta.term;
    snapshot_ = std::move(snapshot);
    entries_.clear();
  }
  void compact(Snapshot snapshot) {
    const Index index = snapshot.meta.index;
    snapshot.meta.term = *term(index);
    offset_term_ = snapshot.meta.term;
    entries_.erase(entries_.begin(), entries_.begin() + static_cast<long>(index - offset_));
    offset_ = index;
    snapshot_ = std::make_shared<const Snapshot>(std::move(snapshot));
  }
  // Entries after `from` with these terms, without data.
  void append_terms(const std::vector<Term>& terms) {
    for (Term t : terms) append({Entry{last_index() + 1, t, EntryType::kNormal, ""}});
  }
  std::vector<Term> terms() const {
    std::vector<Term> out;
    for (const Entry& entry : entries_) out.push_back(entry.term);
    return out;
  }

  HardState hard;

 private:
  std::shared_ptr<const Snapshot> snapshot_;
  std::vector<Entry> entries_;
  Index offset_ = 0;
  Term offset_term_ = 0;
};

struct TestNode {
  Config config;
  TestLog log;
  std::unique_ptr<RawNode> raw;
  std::string applied_data;  // the state machine: entries' data, one after the other
  ConfState conf;
  std::vector<ReadState> reads;
  std::vector<Ready> readies;  // without messages
  bool hold_apply = false;     // don't process readies
  Index synced_commit = 0;     // what the commit index goes back to when a machine loses its power
  // Asynchronous storage.
  std::deque<Message> appends;
  std::deque<Message> applies;
  bool hold_writes = false;
  bool hold_applies = false;
};

class TestCluster {
 public:
  static constexpr Index kBase = 1;  // all start from a snapshot at this index, term 1

  TestCluster() = default;
  explicit TestCluster(std::vector<NodeId> voters, const std::vector<NodeId>& learners = {},
                       const std::function<void(Config&)>& configure = {}) {
    ConfState conf;
    conf.voters = voters;
    conf.learners = learners;
    for (NodeId id : learners) voters.push_back(id);
    for (NodeId id : voters) add(id, conf, configure);
  }

  // The whole suite runs a second time with asynchronous storage.
  static bool asynchronous() { return std::getenv("PGRAFT_TEST_ASYNC_STORAGE") != nullptr; }

  static Config default_config(NodeId id) {
    Config config;
    config.id = id;
    config.seed = 7;
    config.async_storage_writes = asynchronous();
    return config;
  }

  TestNode& add(NodeId id, const ConfState& conf,
                const std::function<void(Config&)>& configure = {}) {
    TestNode& node = nodes[id];
    node.config = default_config(id);
    if (configure) configure(node.config);
    if (!conf.voters.empty()) {
      auto snapshot = std::make_shared<Snapshot>();
      snapshot->meta = {kBase, 1, conf};
      node.log.install(snapshot);
      node.log.hard = {1, kNoNode, kBase};
      node.synced_commit = kBase;
    }
    node.conf = conf;
    start(id);
    return node;
  }
  // An empty disk.
  TestNode& add_empty(NodeId id, const std::function<void(Config&)>& configure = {}) {
    return add(id, {}, configure);
  }

  // Also a restart: only what is in `log` survives.
  void start(NodeId id) {
    TestNode& node = nodes.at(id);
    node.raw.reset();
    node.appends.clear();
    node.applies.clear();
    if (loses_power) node.log.hard.commit = node.synced_commit;
    const auto snapshot = *node.log.snapshot();
    node.config.applied = snapshot ? snapshot->meta.index : 0;
    node.applied_data = snapshot ? snapshot->data : "";
    if (snapshot) node.conf = snapshot->meta.conf;
    auto created = RawNode::create(node.config, &node.log);
    ASSERT_TRUE(created.is_ok()) << created.status().to_string();
    node.raw = std::move(created).value();
  }

  RawNode& operator[](NodeId id) { return *nodes.at(id).raw; }
  TestLog& log(NodeId id) { return nodes.at(id).log; }
  HardState hard(NodeId id) { return nodes.at(id).raw->status().hard; }
  Index commit(NodeId id) { return hard(id).commit; }
  const std::string& data(NodeId id) { return nodes.at(id).applied_data; }

  // One ready: persist, send, apply, advance. With asynchronous storage all work is done at once,
  // but for what `hold_writes` and `hold_applies` keep.
  void process_ready(NodeId id) {
    TestNode& node = nodes.at(id);
    Ready ready = node.raw->ready();
    if (node.config.async_storage_writes) return process_async(id, std::move(ready));
    if (ready.snapshot) {
      node.log.install(ready.snapshot);
      node.applied_data = ready.snapshot->data;
      node.conf = ready.snapshot->meta.conf;
    }
    node.log.append(ready.entries);
    if (ready.hard_state) node.log.hard = *ready.hard_state;
    if (ready.must_sync) node.synced_commit = node.log.hard.commit;
    for (Message& message : ready.messages) in_flight.push_back(std::move(message));
    ready.messages.clear();
    for (const Entry& entry : ready.committed_entries) apply(id, node, entry);
    for (const ReadState& read : ready.read_states) node.reads.push_back(read);
    node.readies.push_back(std::move(ready));
    node.raw->advance();
    check_election_safety(id);
  }

  // Delivers one message, unless the network loses it. False when there is none.
  bool deliver_one() {
    if (in_flight.empty()) return false;
    const Message message = std::move(in_flight.front());
    in_flight.pop_front();
    deliver(message);
    return true;
  }
  void deliver(const Message& message) {
    if (cut.contains({message.from, message.to}) || !nodes.contains(message.to) ||
        (lose && lose(message))) {
      report_lost(message);
      return;
    }
    const NodeId from = message.from;
    const NodeId to = message.to;
    const bool is_snapshot = message.type == MessageType::kSnapshot;
    last_status = nodes.at(to).raw->step(message);
    if (is_snapshot) nodes.at(from).raw->report_snapshot(to, true);
    check_election_safety(to);
  }

  // Asynchronous storage: the oldest write, or application, that waits. False when there is none.
  bool process_append(NodeId id) {
    TestNode& node = nodes.at(id);
    if (node.appends.empty()) return false;
    const Message write = std::move(node.appends.front());
    node.appends.pop_front();
    if (write.snapshot) {
      node.log.install(write.snapshot);
      node.applied_data = write.snapshot->data;
      node.conf = write.snapshot->meta.conf;
    }
    node.log.append(write.entries);
    const HardState before = node.log.hard;
    if (write.term != 0) node.log.hard = {write.term, write.vote, write.commit};
    const bool promises = node.log.hard.term != before.term || node.log.hard.vote != before.vote;
    if (promises || !write.entries.empty() || write.snapshot)
      node.synced_commit = node.log.hard.commit;
    respond(id, write.responses);
    return true;
  }
  bool process_apply(NodeId id) {
    TestNode& node = nodes.at(id);
    if (node.applies.empty()) return false;
    const Message work = std::move(node.applies.front());
    node.applies.pop_front();
    for (const Entry& entry : work.entries) apply(id, node, entry);
    respond(id, work.responses);
    return true;
  }

  void lose_one() {
    report_lost(in_flight.front());
    in_flight.pop_front();
  }

  // Until nothing is in flight and no node has a ready.
  void settle() {
    for (int round = 0; round < 10000; ++round) {
      bool busy = false;
      for (auto& [id, node] : nodes) {
        if (node.hold_apply) continue;
        if (!node.hold_writes && process_append(id)) busy = true;
        if (!node.hold_applies && process_apply(id)) busy = true;
        if (!node.raw->has_ready()) continue;
        process_ready(id);
        busy = true;
      }
      while (deliver_one()) busy = true;
      if (!busy) return;
    }
    FAIL() << "the cluster does not settle";
  }

  void tick(NodeId id, int ticks = 1) {
    for (int i = 0; i < ticks; ++i) nodes.at(id).raw->tick();
  }
  // All nodes, settling after each tick.
  void tick_all(int ticks = 1) {
    for (int i = 0; i < ticks; ++i) {
      for (auto& [id, node] : nodes) node.raw->tick();
      settle();
    }
  }
  void elect(NodeId id) {
    const Status status = nodes.at(id).raw->campaign();
    ASSERT_TRUE(status.is_ok()) << status.to_string();
    settle();
    ASSERT_EQ(nodes.at(id).raw->role(), Role::kLeader);
  }
  void propose(NodeId id, const std::string& data) {
    const Status status = nodes.at(id).raw->propose(data);
    ASSERT_TRUE(status.is_ok()) << status.to_string();
    settle();
  }
  void change(NodeId id, std::vector<ConfChangeSingle> changes,
              ConfChangeTransition transition = ConfChangeTransition::kAuto) {
    const Status status =
        nodes.at(id).raw->propose_conf_change({transition, std::move(changes), ""});
    ASSERT_TRUE(status.is_ok()) << status.to_string();
    settle();
  }
  void compact(NodeId id) {
    Snapshot snapshot;
    snapshot.meta.index = nodes.at(id).raw->status().applied;
    snapshot.meta.conf = nodes.at(id).conf;
    snapshot.data = nodes.at(id).applied_data;
    nodes.at(id).log.compact(snapshot);
  }

  void isolate(NodeId id) {
    for (const auto& [other, node] : nodes) cut_link(id, other);
  }
  void cut_link(NodeId a, NodeId b) {
    cut.insert({a, b});
    cut.insert({b, a});
  }
  void heal() {
    cut.clear();
    lose = {};
  }

  // Messages in flight of one type, taken out.
  std::vector<Message> take(MessageType type) {
    std::vector<Message> taken;
    std::deque<Message> rest;
    for (Message& message : in_flight)
      (message.type == type ? (void)taken.push_back(message) : (void)rest.push_back(message));
    in_flight = std::move(rest);
    return taken;
  }

  std::map<NodeId, TestNode> nodes;
  std::deque<Message> in_flight;
  std::set<std::pair<NodeId, NodeId>> cut;
  std::function<bool(const Message&)> lose;
  Status last_status;
  bool check_safety = true;
  bool loses_power = false;  // a restart forgets what need not have been synced

 private:
  void process_async(NodeId id, Ready ready) {
    TestNode& node = nodes.at(id);
    for (Message& message : ready.messages) {
      if (message.to == kAppendThread) {
        node.appends.push_back(std::move(message));
      } else if (message.to == kApplyThread) {
        node.applies.push_back(std::move(message));
      } else {
        in_flight.push_back(std::move(message));
      }
    }
    ready.messages.clear();
    for (const ReadState& read : ready.read_states) node.reads.push_back(read);
    node.readies.push_back(std::move(ready));
    while (!node.hold_writes && process_append(id)) {
    }
    while (!node.hold_applies && process_apply(id)) {
    }
    check_election_safety(id);
  }
  void respond(NodeId id, const std::vector<Message>& responses) {
    for (const Message& response : responses) {
      if (response.to == id) {
        nodes.at(id).raw->complete(response);
      } else {
        in_flight.push_back(response);
      }
    }
  }
  void apply(NodeId id, TestNode& node, const Entry& entry) {
    const auto [it, first] = applied_.emplace(entry.index, entry);
    if (check_safety && !first) {
      EXPECT_EQ(it->second, entry) << "node " << id << " applied another entry at " << entry.index;
    }
    if (entry.type == EntryType::kConfChange) {
      const Result<ConfChange> change = decode_conf_change(entry.data);
      ASSERT_TRUE(change.is_ok());
      node.conf = node.raw->apply_conf_change(*change);
    } else {
      node.applied_data += entry.data;
    }
  }
  // A transport knows when it could not send a snapshot.
  void report_lost(const Message& message) {
    if (message.type == MessageType::kSnapshot && nodes.contains(message.from))
      nodes.at(message.from).raw->report_snapshot(message.to, false);
  }
  void check_election_safety(NodeId id) {
    const RawNode& raw = *nodes.at(id).raw;
    if (!check_safety || raw.role() != Role::kLeader) return;
    const auto [it, first] = leaders_.emplace(raw.term(), id);
    EXPECT_EQ(it->second, id) << "two leaders in term " << raw.term();
  }

  std::map<Index, Entry> applied_;
  std::map<Term, NodeId> leaders_;
};

inline ConfChangeSingle add_voter(NodeId id, Incarnation incarnation = 0) {
  return {ConfChangeType::kAddVoter, id, incarnation};
}
inline ConfChangeSingle add_learner(NodeId id, Incarnation incarnation = 0) {
  return {ConfChangeType::kAddLearner, id, incarnation};
}
inline ConfChangeSingle remove_node(NodeId id) { return {ConfChangeType::kRemove, id, 0}; }

}  // namespace pgraft::raft
