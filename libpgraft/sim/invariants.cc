#include "libpgraft/sim/invariants.h"

namespace pgraft::sim {
namespace {

std::string number(std::uint64_t n) { return std::to_string(n); }

}  // namespace

void Invariants::promoted(NodeId node, Term term, Timeline timeline, const Wal& wal, bool renewal) {
  Promoted promotion{term, node, {}};
  for (const Record& record : wal) promotion.records.insert(record.id);
  std::size_t lost = 0;
  Term of = 0;
  for (const auto& [record, acknowledged_in] : acknowledged_) {
    if (acknowledged_in >= term || promotion.records.contains(record)) continue;
    ++lost;
    of = acknowledged_in;
  }
  if (lost != 0) {
    violated("lost: the promotion of node " + number(node) + " in term " + number(term) +
             " lacks " + number(lost) + " records acknowledged in term " + number(of) +
             " and before");
  }
  if (!renewal) {
    if (!made_.emplace(timeline, node).second) {
      violated("timeline " + number(timeline) + " made twice: by node " + number(made_[timeline]) +
               " and node " + number(node));
    }
  }
  const auto [known, first] = promoted_in_.emplace(term, node);
  if (!first && known->second != node) {
    violated("term " + number(term) + " promoted node " + number(known->second) + " and node " +
             number(node));
  }
  promotions_.push_back(std::move(promotion));
}

void Invariants::acknowledged(NodeId node, Term term, const Record& record) {
  const auto promoted = promoted_in_.find(term);
  if (promoted == promoted_in_.end() || promoted->second != node) {
    violated("node " + number(node) + " acknowledges in term " + number(term) +
             ", which did not promote it");
  }
  if (!acknowledged_.emplace(record.id, term).second) return;
  for (const Promoted& promotion : promotions_) {
    if (promotion.term > term && !promotion.records.contains(record.id)) {
      violated("lost: record " + number(record.id) + " acknowledged by node " + number(node) +
               " in term " + number(term) + " after the promotion of node " +
               number(promotion.node) + " in term " + number(promotion.term) + ", which lacks it");
    }
  }
}

void Invariants::leads(NodeId node, raft::Incarnation incarnation, Term term) {
  const auto [known, first] = leaders_.emplace(term, std::pair{node, incarnation});
  if (!first && known->second != std::pair{node, incarnation}) {
    violated("two leaders in term " + number(term) + ": node " + number(known->second.first) +
             " and node " + number(node));
    known->second = {node, incarnation};
  }
}

void Invariants::committed(NodeId node, const raft::Entry& entry) {
  const auto [known, first] = log_.emplace(entry.index, entry);
  if (!first && !(known->second == entry)) {
    violated("node " + number(node) + " has another committed entry " + number(entry.index));
  }
}

std::size_t Invariants::lost_in(const Wal& wal) const {
  std::set<std::uint64_t> has;
  for (const Record& record : wal) has.insert(record.id);
  std::size_t lost = 0;
  for (const auto& [record, term] : acknowledged_) lost += has.contains(record) ? 0 : 1;
  return lost;
}

}  // namespace pgraft::sim
