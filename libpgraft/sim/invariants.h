// What must be true at every moment of a run, whatever fails. Violations are collected, not thrown:
// negative controls want to see them.
//
//   - An acknowledged record is in the WAL of every promotion of a later term, also when the
//   acknowledgement comes after that promotion.
//   - A timeline id is made once. A term promotes one node, and only that one acknowledges in it.
//   - A term has one leader. Members agree on every committed entry of the log.
//   - A timeline has one history and one content: where two WALs are on the same timeline, one is a
//   prefix of the other up to there.
//   - A write is accepted only by the leader of its term, promoted in it, once its quorum was in
//   force.
//   - A position is reported only when rule 3 allows it, and it is the true one.
//
// What a violation begins with says which: lost, timeline, term, fence, report, leaders, log.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libpgraft/raft/types.h"
#include "libpgraft/sim/wal.h"

namespace pgraft::sim {

class Invariants {
 public:
  void promoted(NodeId node, Term term, Timeline timeline, const Wal& wal, bool renewal);
  void acknowledged(NodeId node, Term term, const Record& record);
  void leads(NodeId node, raft::Incarnation incarnation, Term term);
  void committed(NodeId node, const raft::Entry& entry);
  // The record at `lsn` (counted from 1) of a WAL, and the timeline of the one before it.
  void has_record(NodeId node, Lsn lsn, const Record& record, Timeline before);
  // `wrong`: why it must not have been; empty: nothing.
  void accepted_write(NodeId node, const std::string& wrong);
  void reported(NodeId node, Term term, const std::string& wrong);

  const std::vector<std::string>& violations() const { return violations_; }
  std::size_t acknowledged_count() const { return acknowledged_.size(); }
  std::size_t promotion_count() const { return promotions_.size(); }  // with renewals
  std::size_t renewal_count() const { return renewals_; }
  NodeId acknowledged_last_by() const { return acknowledged_last_by_; }
  // Every acknowledged record that `wal` lacks.
  std::size_t lost_in(const Wal& wal) const;

 private:
  struct Promoted {
    Term term = 0;
    NodeId node = 0;
    std::set<std::uint64_t> records;
  };
  void violated(std::string what) { violations_.push_back(std::move(what)); }

  std::map<std::uint64_t, Term> acknowledged_;  // record id -> term it was first acknowledged in
  std::vector<Promoted> promotions_;
  std::size_t renewals_ = 0;
  NodeId acknowledged_last_by_ = 0;
  std::map<Term, NodeId> promoted_in_;
  std::map<Timeline, NodeId> made_;
  std::map<Term, std::pair<NodeId, raft::Incarnation>> leaders_;
  std::map<raft::Index, raft::Entry> log_;
  std::map<std::pair<Timeline, Lsn>, std::pair<std::uint64_t, Timeline>> contents_;
  std::vector<std::string> violations_;
};

}  // namespace pgraft::sim
