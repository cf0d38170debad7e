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
  renewals_ += renewal ? 1 : 0;
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
    violated("term " + number(term) + ": node " + number(node) +
             " acknowledges in it, and was not promoted in it");
  }
  if (!acknowledged_.emplace(record.id, term).second) return;
  acknowledged_last_by_ = node;
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
    violated("leaders: two leaders in term " + number(term) + ": node " +
             number(known->second.first) + " and node " + number(node));
    known->second = {node, incarnation};
  }
}

void Invariants::committed(NodeId node, const raft::Entry& entry) {
  const auto [known, first] = log_.emplace(entry.index, entry);
  if (!first && !(known->second == entry)) {
    violated("log: node " + number(node) + " has another committed entry " + number(entry.index));
  }
}

void Invariants::has_record(NodeId node, Lsn lsn, const Record& record, Timeline before) {
  const auto [known, first] =
      contents_.emplace(std::pair{record.timeline, lsn}, std::pair{record.id, before});
  if (first || known->second == std::pair{record.id, before}) return;
  violated("timeline " + number(record.timeline) + " has two histories: node " + number(node) +
           " has another record at " + number(lsn));
}

void Invariants::accepted_write(NodeId node, const std::string& wrong) {
  if (!wrong.empty()) violated("fence: node " + number(node) + " takes a write " + wrong);
}

void Invariants::reported(NodeId node, Term term, const std::string& wrong) {
  if (wrong.empty()) return;
  violated("report: node " + number(node) + " reports a position in term " + number(term) + " " +
           wrong);
}

std::size_t Invariants::lost_in(const Wal& wal) const {
  std::set<std::uint64_t> has;
  for (const Record& record : wal) has.insert(record.id);
  std::size_t lost = 0;
  for (const auto& [record, term] : acknowledged_) lost += has.contains(record) ? 0 : 1;
  return lost;
}

}  // namespace pgraft::sim
