#include "libpgraft/sim/raft_invariants.h"

#include <algorithm>
#include <functional>
#include <string_view>

#include "libpgraft/sim/draws.h"

namespace pgraft::sim {
namespace {

// States are compared at one of so many indices, for speed; those of snapshots always.
constexpr raft::Index kStatesComparedEvery = 8;

std::string number(std::uint64_t n) { return std::to_string(n); }

std::uint64_t hash_of(std::string_view bytes) { return std::hash<std::string_view>()(bytes); }

std::uint64_t hash_of(const raft::Entry& entry) {
  const std::uint64_t head = mixed(entry.index, entry.term);
  return mixed(mixed(head, static_cast<std::uint64_t>(entry.type)), hash_of(entry.data.str()));
}

}  // namespace

const RaftInvariants::Link* RaftInvariants::Links::at(raft::Index i) const {
  if (i == base) return &at_base;
  return i > base && i <= last() ? &links[i - base - 1] : nullptr;
}

void RaftInvariants::Links::replace(raft::Index from, const std::vector<Link>& with) {
  links.resize(from - base - 1);
  links.insert(links.end(), with.begin(), with.end());
}

void RaftInvariants::violated(std::string kind, raft::NodeId id, std::string what) {
  if (!violation_) violation_ = RaftViolation{std::move(kind), id, std::move(what)};
}

// --- the life of a node

void RaftInvariants::bootstrapped(raft::NodeId id, const raft::Snapshot& first) {
  const Link link{first.meta.term, mixed(first.meta.index, hash_of(first.data))};
  if (committed_.empty()) {
    committed_.push_back({link, first.meta.term});
    states_[first.meta.index] = hash_of(first.data);
  }
  Node& node = nodes_[id];
  node.durable.hard = {first.meta.term, raft::kNoNode, first.meta.index};
  node.durable.log = {first.meta.index, link, {}};
  node.synced_commit = first.meta.index;
}

void RaftInvariants::wiped(raft::NodeId id, raft::Incarnation incarnation) {
  nodes_[id] = Node();
  nodes_[id].incarnation = incarnation;
}

void RaftInvariants::started(raft::NodeId id, const storage::LogStore& store) {
  const auto initial = store.initial_state();
  const raft::Index base = store.first_index() - 1;
  const auto base_term = store.term(base);
  const auto entries = store.entries(base + 1, store.last_index() + 1, UINT64_MAX);
  if (!initial || (base != 0 && !base_term) || !entries) {
    return violated("durability", id, "its log can't be read after a restart");
  }
  Durable found;
  found.hard = initial->hard;
  found.log.base = base;
  if (base > committed_.size()) {
    return violated("durability", id,
                    "its log starts after entry " + number(base) + ", which nobody has committed");
  }
  if (base != 0) found.log.at_base = {*base_term, committed_[base - 1].link.chain};
  found.log.links = linked(id, found.log.at_base, *entries);
  check_promises(id, found);
  check_recovered(id, found);
  Node& node = nodes_[id];
  node.log = found.log;
  node.term = found.hard.term;
  node.commit = found.hard.commit;
  node.synced_commit = std::min(node.synced_commit, found.hard.commit);
  node.applied = 0;
  node.leads = false;
  node.writes.clear();
  node.durable = std::move(found);
}

void RaftInvariants::stopped(raft::NodeId id) { nodes_[id].leads = false; }

void RaftInvariants::check_recovered(raft::NodeId id, const Durable& found) {
  const Node& node = nodes_[id];
  Durable expected = node.durable;
  for (auto next = node.writes.begin();; ++next) {
    const Link* end = expected.log.at(expected.log.last());
    const Link* found_end = found.log.at(found.log.last());
    if (found.log.last() == expected.log.last() && *end == *found_end &&
        found.hard.term == expected.hard.term && found.hard.vote == expected.hard.vote &&
        found.hard.commit <= expected.hard.commit && found.hard.commit >= node.synced_commit) {
      return;
    }
    if (next == node.writes.end()) break;
    apply(*next, &expected);
  }
  const raft::HardState& durable = node.durable.hard;
  violated("durability", id,
           "after a restart it has term " + number(found.hard.term) + ", vote " +
               number(found.hard.vote) + ", commit " + number(found.hard.commit) + " and log " +
               log_text(found.log) + "; the last write that was reported as done left term " +
               number(durable.term) + ", vote " + number(durable.vote) + ", commit " +
               number(node.synced_commit) + " or more and log " + log_text(node.durable.log) +
               ", and " + number(node.writes.size()) + " more were handed out");
}

void RaftInvariants::check_promises(raft::NodeId id, const Durable& found) {
  const Node& node = nodes_[id];
  if (!node.votes.empty()) {
    const raft::Term term = node.votes.rbegin()->first;
    const raft::NodeId candidate = node.votes.rbegin()->second.first;
    if (found.hard.term < term || (found.hard.term == term && found.hard.vote != candidate)) {
      violated("durability", id,
               "it voted for node " + number(candidate) + " in term " + number(term) +
                   ", and after a restart it is in term " + number(found.hard.term) +
                   " with a vote for node " + number(found.hard.vote));
    }
  }
  const Acknowledgement& told = node.acknowledged;
  if (told.index == 0 || found.hard.term > told.term) return;
  const Link* has = found.log.at(told.index);
  const bool kept = told.index < found.log.base || (has != nullptr && *has == told.link);
  if (found.hard.term == told.term && kept) return;
  violated("durability", id,
           "it acknowledged entry " + number(told.index) + " to the leader of term " +
               number(told.term) + ", and after a restart it is in term " +
               number(found.hard.term) + " with log " + log_text(found.log));
}

std::string RaftInvariants::log_text(const Links& log) const {
  std::string text = number(log.base + 1) + ".." + number(log.last());
  const Link* end = log.at(log.last());
  return text + " (last term " + number(end->term) + ")";
}

// --- its log

// The links of `entries`, which follow one that has link `before`.
std::vector<RaftInvariants::Link> RaftInvariants::linked(raft::NodeId id, const Link& before,
                                                         const std::vector<raft::Entry>& entries) {
  std::vector<Link> links;
  links.reserve(entries.size());
  std::uint64_t chain = before.chain;
  for (const raft::Entry& entry : entries) {
    chain = mixed(chain, hash_of(entry));
    links.push_back({entry.term, chain});
    see(id, entry.index, links.back());
  }
  return links;
}

void RaftInvariants::see(raft::NodeId id, raft::Index index, const Link& link) {
  if (seen_.size() < index) seen_.resize(index);
  std::vector<Link>& known = seen_[index - 1];
  const auto same_term = std::find_if(known.begin(), known.end(),
                                      [&](const Link& other) { return other.term == link.term; });
  if (same_term == known.end()) {
    known.push_back(link);
  } else if (same_term->chain != link.chain) {
    violated("log matching", id,
             "it has an entry " + number(index) + " of term " + number(link.term) +
                 " that differs from another node's, itself or in what is before it");
  }
}

void RaftInvariants::handed_out(raft::NodeId id, const raft::Message& write, bool sync,
                                bool leads) {
  Node& node = nodes_[id];
  Write record;
  record.sync = sync;
  if (write.term != 0) {
    if (write.term < node.term) {
      violated("monotony", id, "term " + number(write.term) + " after " + number(node.term));
    }
    if (write.commit < node.commit) {
      violated("monotony", id,
               "commit index " + number(write.commit) + " after " + number(node.commit));
    }
    node.term = write.term;
    record.hard = raft::HardState{write.term, write.vote, write.commit};
  }
  if (leads) check_leader(id, node.term);
  if (write.snapshot) {
    const raft::SnapshotMeta& meta = write.snapshot->meta;
    if (meta.index > committed_.size() || committed_[meta.index - 1].link.term != meta.term) {
      return violated("state machine safety", id,
                      "it takes a snapshot at entry " + number(meta.index) + " of term " +
                          number(meta.term) + ", which is not committed");
    }
    node.log = {meta.index, committed_[meta.index - 1].link, {}};
    record.snapshot = {meta.index, node.log.at_base};
    check_state(id, meta.index, write.snapshot->data);
  }
  if (!write.entries.empty()) {
    const raft::Index from = write.entries.front().index;
    const Link* before = from == 0 ? nullptr : node.log.at(from - 1);
    if (before == nullptr) {
      return violated(
          "log matching", id,
          "entry " + number(from) + " follows nothing of its log " + log_text(node.log));
    }
    if (leads && from <= node.log.last()) {
      violated("leader append-only", id,
               "the leader of term " + number(node.term) + " replaces its entry " + number(from));
    }
    if (from <= node.commit) {
      violated("state machine safety", id, "it replaces its committed entry " + number(from));
    }
    record.from = from;
    record.links = linked(id, *before, write.entries);
    node.log.replace(from, record.links);
  }
  if (write.term != 0 && write.commit > node.commit) {
    node.commit = write.commit;
    commit(id, write.commit, node.term);
  }
  node.writes.push_back(std::move(record));
}

void RaftInvariants::apply(const Write& write, Durable* to) {
  if (write.hard) to->hard = *write.hard;
  if (write.snapshot) to->log = {write.snapshot->first, write.snapshot->second, {}};
  if (write.from != 0) to->log.replace(write.from, write.links);
}

void RaftInvariants::written(raft::NodeId id, std::size_t appends) {
  Node& node = nodes_[id];
  for (; appends > 0 && !node.writes.empty(); --appends) {
    apply(node.writes.front(), &node.durable);
    if (node.writes.front().sync) node.synced_commit = node.durable.hard.commit;
    node.writes.pop_front();
  }
}

// --- what is committed, and who leads

void RaftInvariants::commit(raft::NodeId id, raft::Index index, raft::Term in_term) {
  const Node& node = nodes_[id];
  if (index > node.log.last()) {
    return violated(
        "state machine safety", id,
        "it commits entry " + number(index) + ", and its log ends at " + number(node.log.last()));
  }
  const Link* own = node.log.at(std::min<raft::Index>(index, committed_.size()));
  if (own != nullptr && index >= node.log.base &&
      !(*own == committed_[std::min<raft::Index>(index, committed_.size()) - 1].link)) {
    return violated("state machine safety", id,
                    "it commits up to entry " + number(index) + " of term " + number(own->term) +
                        ", where another has committed something else");
  }
  while (committed_.size() < index) {
    const raft::Index next = committed_.size() + 1;
    const Link* link = node.log.at(next);
    if (link == nullptr) return;  // in a snapshot, which others have committed
    committed_.push_back({*link, in_term});
    for (const auto& [other, leader] : nodes_) {
      if (!leader.leads || leader.term <= in_term || next <= leader.log.base) continue;
      const Link* there = leader.log.at(next);
      if (there != nullptr && *there == *link) continue;
      violated("leader completeness", other,
               "it leads term " + number(leader.term) + " without entry " + number(next) +
                   ", which node " + number(id) + " commits in term " + number(in_term));
    }
  }
}

void RaftInvariants::check_leader(raft::NodeId id, raft::Term term) {
  Node& node = nodes_[id];
  if (node.leads) return;
  node.leads = true;
  const auto self = std::pair{id, node.incarnation};
  const auto [known, first] = leaders_.emplace(term, self);
  if (!first && known->second != self) {
    violated("election safety", id,
             "it leads term " + number(term) + ", as node " + number(known->second.first) +
                 " does or did");
  }
  for (raft::Index i = committed_.size(); i > node.log.base; --i) {
    const Committed& entry = committed_[i - 1];
    if (entry.in_term >= term) continue;
    const Link* own = node.log.at(i);
    if (own != nullptr && *own == entry.link) return;
    return violated("leader completeness", id,
                    "it leads term " + number(term) + " with log " + log_text(node.log) +
                        ", without entry " + number(i) + ", which was committed in term " +
                        number(entry.in_term));
  }
}

void RaftInvariants::processed(raft::NodeId id, const node::Replica& replica) {
  Node& node = nodes_[id];
  const bool leads = replica.raft().role() == raft::Role::kLeader;
  if (leads) {
    check_leader(id, replica.raft().term());
  } else {
    node.leads = false;
  }
  const raft::Index applied = replica.machine().applied_index();
  if (applied == node.applied) return;
  if (applied < node.applied) {
    violated("monotony", id, "applied " + number(applied) + " after " + number(node.applied));
  }
  node.applied = applied;
  const Link* own = node.log.at(applied);
  if (applied > committed_.size() || (own != nullptr && !(*own == committed_[applied - 1].link))) {
    violated("state machine safety", id,
             "it has applied entry " + number(applied) + ", which is not the committed one");
  }
  if (mixed(applied) % kStatesComparedEvery == 0) {
    check_state(id, applied, replica.machine().snapshot());
  }
}

void RaftInvariants::snapshot_taken(raft::NodeId id, const raft::Snapshot& snapshot) {
  check_state(id, snapshot.meta.index, snapshot.data);
}

void RaftInvariants::check_state(raft::NodeId id, raft::Index index, const std::string& snapshot) {
  const auto [known, first] = states_.emplace(index, hash_of(snapshot));
  if (first || known->second == hash_of(snapshot)) return;
  violated("state machine safety", id,
           "its state after entry " + number(index) + " differs from another node's");
}

// --- what it tells others

void RaftInvariants::sent(raft::NodeId id, const raft::Message& message) {
  Node& node = nodes_[id];
  const bool votes = message.type == raft::MessageType::kVoteResponse && !message.reject;
  if (votes || message.type == raft::MessageType::kVote) {
    const auto candidate = votes ? std::pair{message.to, message.to_incarnation}
                                 : std::pair{id, message.from_incarnation};
    const auto [known, first] = node.votes.emplace(message.term, candidate);
    if (!first && known->second != candidate) {
      violated("votes", id,
               "it votes twice in term " + number(message.term) + ", for node " +
                   number(known->second.first) + " and for node " + number(candidate.first));
    }
  }
  if (message.type != raft::MessageType::kAppendResponse || message.reject) return;
  // In another term than its present one the log may be another already; what was written is
  // compared in any case.
  if (message.term != node.term || message.index == 0) return;
  Acknowledgement& newest = node.acknowledged;
  if (newest.term == message.term && newest.index >= message.index) return;
  const Link* link = node.log.at(message.index);
  if (link != nullptr) newest = {message.term, message.index, *link};
}

}  // namespace pgraft::sim
