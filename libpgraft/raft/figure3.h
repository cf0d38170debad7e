// For tests: the five properties of figure 3, checked against what the nodes have stored and what
// was seen of them before; and random schedules that keep asking.
#pragma once

#include <string>
#include <vector>

#include "libpgraft/raft/paper_test.h"

namespace pgraft::raft {

class Figure3 {
 public:
  // After a node has done something. Each violation is one line that starts with the property's
  // name.
  std::vector<std::string> violations(TestCluster& cluster, NodeId id) {
    found_.clear();
    const RawNode& raw = cluster[id];
    const std::vector<Entry> log = stored_entries(cluster.log(id));
    log_matching(cluster, id, log);
    note_committed(cluster.log(id).hard, id, log);
    note_applied(cluster.nodes.at(id), id);
    if (raw.role() == Role::kLeader) {
      election_safety(raw, id);
      append_only(raw, id, log);
      leader_completeness(raw, id, log);
    } else {
      leader_logs_.erase(id);
    }
    return found_;
  }

 private:
  struct LeaderLog {
    Term term = 0;
    std::vector<Entry> entries;
  };
  struct Committed {
    Entry entry;
    Term term = 0;  // in which it was first seen to be committed
  };

  void report(const char* property, NodeId id, Index index) {
    found_.push_back(std::string(property) + ": node " + std::to_string(id) + ", " +
                     std::to_string(index));
  }

  static const Entry* at(const std::vector<Entry>& log, Index index) {
    if (log.empty() || index < log.front().index || index > log.back().index) return nullptr;
    return &log[index - log.front().index];
  }

  void election_safety(const RawNode& raw, NodeId id) {
    const auto [it, first] = leaders_.emplace(raw.term(), id);
    if (it->second != id) report("Election Safety", id, raw.term());
  }

  void append_only(const RawNode& raw, NodeId id, const std::vector<Entry>& log) {
    LeaderLog& before = leader_logs_[id];
    if (before.term == raw.term() && !before.entries.empty()) {
      const Index last = log.empty() ? 0 : log.back().index;
      if (last < before.entries.back().index && !log.empty())
        report("Leader Append-Only", id, last);
      for (const Entry& entry : before.entries) {
        const Entry* now = at(log, entry.index);
        if (now != nullptr && *now != entry) report("Leader Append-Only", id, entry.index);
      }
    }
    before = {raw.term(), log};
  }

  void log_matching(TestCluster& cluster, NodeId id, const std::vector<Entry>& log) {
    for (const auto& [other, node] : cluster.nodes) {
      if (other == id) continue;
      const std::vector<Entry> theirs = stored_entries(node.log);
      bool agrees = false;  // at an index behind this one
      for (auto entry = log.rbegin(); entry != log.rend(); ++entry) {
        const Entry* same = at(theirs, entry->index);
        if (same == nullptr) continue;
        agrees |= same->term == entry->term;
        if (agrees && *same != *entry) report("Log Matching", id, entry->index);
      }
    }
  }

  // By what is stored: entries that are about to be overwritten may lie below a newer commit index.
  void note_committed(const HardState& stored, NodeId id, const std::vector<Entry>& log) {
    for (const Entry& entry : log) {
      if (entry.index > stored.commit) break;
      const auto [it, first] = committed_.emplace(entry.index, Committed{entry, stored.term});
      if (it->second.entry != entry) report("State Machine Safety", id, entry.index);
    }
  }

  void note_applied(const TestNode& node, NodeId id) {
    for (std::size_t& i = readies_seen_[id]; i < node.readies.size(); ++i) {
      for (const Entry& entry : node.readies[i].committed_entries) {
        const auto [it, first] = applied_.emplace(entry.index, entry);
        if (it->second != entry) report("State Machine Safety", id, entry.index);
      }
    }
  }

  void leader_completeness(const RawNode& raw, NodeId id, const std::vector<Entry>& log) {
    const Index first = log.empty() ? raw.status().last_index + 1 : log.front().index;
    for (const auto& [index, committed] : committed_) {
      if (committed.term >= raw.term() || index < first) continue;
      const Entry* held = at(log, index);
      if (held == nullptr || *held != committed.entry) report("Leader Completeness", id, index);
    }
  }

  std::map<Term, NodeId> leaders_;
  std::map<NodeId, LeaderLog> leader_logs_;
  std::map<Index, Committed> committed_;
  std::map<Index, Entry> applied_;
  std::map<NodeId, std::size_t> readies_seen_;
  std::vector<std::string> found_;
};

// A cluster under a network that loses, repeats, delays and reorders, and nodes that restart;
// checked after each step.
class RandomSchedule {
 public:
  RandomSchedule(TestCluster& cluster, std::uint64_t seed) : cluster_(cluster), random_(seed) {}

  // Instead of one step in ten, when set.
  std::function<void(NodeId, Random&)> extra;

  void run(int steps) {
    for (int i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
      const NodeId id = pick_node();
      if (extra && random_.one_in(10)) {
        extra(id, random_);
      } else {
        step(id, i);
      }
      check(id);
    }
  }

  // Faults end, what was in flight arrives, and time passes.
  void calm(int ticks) {
    cluster_.heal();
    cluster_.settle();
    for (int i = 0; i < ticks && !testing::Test::HasFailure(); ++i) {
      cluster_.tick_all();
      for (const auto& [id, node] : cluster_.nodes) check(id);
    }
  }

  // Faults end. What was in flight arrives; then time passes until a leader has committed in its
  // term, and all that it counts as members have applied the same.
  void recover() {
    cluster_.heal();
    cluster_.settle();
    ASSERT_TRUE(tick_until(cluster_, [this] {
      const NodeId leader = leader_of(cluster_);
      return leader != kNoNode && cluster_[leader].own_term_applied() &&
             (cluster_[leader].propose("!").is_ok());
    })) << "no leader";
    cluster_.settle();
    ASSERT_TRUE(tick_until(cluster_, [this] { return agreed(); })) << "not the same applied";
    for (const auto& [id, node] : cluster_.nodes) check(id);
  }

 private:
  NodeId pick_node() {
    auto it = cluster_.nodes.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_.below(cluster_.nodes.size())));
    return it->first;
  }

  void step(NodeId id, int i) {
    switch (random_.below(12)) {
      case 0:
      case 1: cluster_.tick(id); break;
      case 2: (void)cluster_[id].propose(std::string(1, static_cast<char>('a' + i % 26))); break;
      case 3:
        if (random_.one_in(15)) cluster_.start(id);
        if (random_.one_in(15) && (*cluster_.log(id).snapshot())) cluster_.compact(id);
        break;
      default:
        if (cluster_[id].has_ready()) cluster_.process_ready(id);
        deliver_any();
    }
  }

  void deliver_any() {
    auto& in_flight = cluster_.in_flight;
    if (in_flight.empty()) return;
    std::swap(in_flight.front(), in_flight[random_.below(in_flight.size())]);
    if (random_.one_in(10)) in_flight.push_back(in_flight.front());
    if (random_.one_in(10)) {
      cluster_.lose_one();
      return;
    }
    const NodeId to = in_flight.front().to;
    cluster_.deliver_one();
    if (cluster_.nodes.contains(to)) check(to);
  }

  void check(NodeId id) {
    for (const std::string& violation : figure3_.violations(cluster_, id))
      ADD_FAILURE() << violation;
  }

  bool agreed() {
    const NodeId leader = leader_of(cluster_);
    if (leader == kNoNode) return false;
    const NodeStatus status = cluster_[leader].status();
    if (status.applied != status.last_index) return false;
    for (const auto& [id, view] : status.progress) {
      if (cluster_[id].status().applied != status.applied) return false;
      if (cluster_.data(id) != cluster_.data(leader)) return false;
    }
    return true;
  }

  TestCluster& cluster_;
  Random random_;
  Figure3 figure3_;
};

}  // namespace pgraft::raft
