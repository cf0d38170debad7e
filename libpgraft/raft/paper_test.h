// For the tests that follow the paper clause by clause: messages made by hand, clusters that start
// with given logs, and seeded randomness.
#pragma once

#include <limits>

#include "libpgraft/raft/raft_test_cluster.h"

namespace pgraft::raft {

// The paper's algorithm alone, without pre-vote and leader stickiness.
inline void plain_raft(Config& config) { config.pre_vote = config.check_quorum = false; }

inline Message message_of(MessageType type, NodeId from, NodeId to, Term term) {
  Message message;
  message.type = type;
  message.from = from;
  message.to = to;
  message.term = term;
  return message;
}

// Entries of these terms behind (prev, prev_term).
inline Message append_of(NodeId from, NodeId to, Term term, Index prev, Term prev_term,
                         const std::vector<Term>& terms, Index commit = 0) {
  Message message = message_of(MessageType::kAppend, from, to, term);
  message.index = prev;
  message.log_term = prev_term;
  message.commit = commit;
  for (Term t : terms) message.entries.push_back({++prev, t, EntryType::kNormal, ""});
  return message;
}

// kVote or kPreVote of a candidate whose log ends with (last_index, last_term).
inline Message vote_of(MessageType type, NodeId from, NodeId to, Term term, Index last_index,
                       Term last_term) {
  Message message = message_of(type, from, to, term);
  message.index = last_index;
  message.log_term = last_term;
  return message;
}

inline Message acknowledgement_of(NodeId from, NodeId to, Term term, Index match) {
  Message message = message_of(MessageType::kAppendResponse, from, to, term);
  message.index = match;
  return message;
}

inline Message snapshot_of(NodeId from, NodeId to, Term term, SnapshotMeta meta,
                           std::string data = "") {
  Message message = message_of(MessageType::kSnapshot, from, to, term);
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->meta = std::move(meta);
  snapshot->data = std::move(data);
  message.snapshot = std::move(snapshot);
  return message;
}

// The message alone reaches its receiver; returns what the receiver sends once that is durable.
inline std::vector<Message> exchange(TestCluster& cluster, const Message& message) {
  std::deque<Message> others = std::exchange(cluster.in_flight, {});
  cluster.last_status = cluster[message.to].step(message);
  while (cluster[message.to].has_ready()) cluster.process_ready(message.to);
  std::vector<Message> sent(cluster.in_flight.begin(), cluster.in_flight.end());
  cluster.in_flight = std::move(others);
  return sent;
}

// Everything up to here is stored, sent and applied by the node, nothing is delivered.
inline void process(TestCluster& cluster, NodeId id) {
  while (cluster[id].has_ready()) cluster.process_ready(id);
}

// Nodes 1.. whose logs hold these terms behind the base entry (index 1, term 1), in `term`.
inline TestCluster cluster_with_logs(const std::vector<std::vector<Term>>& logs, Term term,
                                     const std::function<void(Config&)>& configure = {}) {
  std::vector<NodeId> ids;
  for (NodeId id = 1; id <= logs.size(); ++id) ids.push_back(id);
  TestCluster cluster(ids, {}, configure);
  for (NodeId id : ids) {
    cluster.log(id).append_terms(logs[id - 1]);
    cluster.log(id).hard.term = term;
    cluster.start(id);
  }
  return cluster;
}

// Messages cross only between these nodes from now on.
inline void connect_only(TestCluster& cluster, const std::set<NodeId>& ids) {
  cluster.heal();
  for (const auto& [id, node] : cluster.nodes) {
    if (!ids.contains(id)) cluster.isolate(id);
  }
}

// The leader of the newest term, if there is one.
inline NodeId leader_of(TestCluster& cluster) {
  NodeId leader = kNoNode;
  for (const auto& [id, node] : cluster.nodes) {
    const bool newer = leader == kNoNode || node.raw->term() > cluster[leader].term();
    if (node.raw->role() == Role::kLeader && newer) leader = id;
  }
  return leader;
}

// What reads of this node were answered with.
inline std::vector<Index> answered(TestCluster& cluster, NodeId id) {
  std::vector<Index> indexes;
  for (const ReadState& read : cluster.nodes.at(id).reads) indexes.push_back(read.index);
  return indexes;
}

// Time passes for all until the condition holds. False when it does not after `ticks_max`.
inline bool tick_until(TestCluster& cluster, const std::function<bool()>& condition,
                       int ticks_max = 1000) {
  for (int i = 0; i < ticks_max && !condition(); ++i) cluster.tick_all();
  return condition();
}

inline std::vector<Entry> stored_entries(const TestLog& log) {
  return *log.entries(log.first_index(), log.last_index() + 1,
                      std::numeric_limits<std::uint64_t>::max());
}

// splitmix64
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }

 private:
  std::uint64_t state_;
};

// Of one node in one run.
inline std::uint64_t seed_of(std::uint64_t run, NodeId id) {
  return Random(run * 1009 + id).next();
}

}  // namespace pgraft::raft
