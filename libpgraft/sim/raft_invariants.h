// What must be true of a Raft cluster at every moment, whatever fails. Told of every event that can
// change it, so that each check looks at what is new only.
//
//   election safety        a term has one leader (an id and its incarnation)
//   votes                  a node votes for one candidate in a term
//   leader append-only     a leader never replaces an entry of its log
//   log matching           entries of one index and term have the same contents, and the same
//                          entries before them
//   leader completeness    who leads a term has all that was committed in earlier ones
//   state machine safety   all apply the same entries, and have the same state after them
//   monotony               term, commit index and applied index of a process only grow
//   durability             what a restart finds is what one of the writes left that were handed
//                          out, not before the last one that was reported as done; and it keeps
//                          every vote and acknowledgement that was sent
//
// The first violation counts: what follows it may be its consequence.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "libpgraft/node/replica.h"
#include "libpgraft/raft/types.h"
#include "libpgraft/storage/log_store.h"

namespace pgraft::sim {

struct RaftViolation {
  std::string kind;  // one of the names above, or what else a run found; see raft_run.h
  raft::NodeId node = 0;
  std::string what;
};

class RaftInvariants {
 public:
  // A node that has what all begin with: the snapshot at index 1.
  void bootstrapped(raft::NodeId id, const raft::Snapshot& first);
  void wiped(raft::NodeId id, raft::Incarnation incarnation);

  // A process starts from `store`; it ends.
  void started(raft::NodeId id, const storage::LogStore& store);
  void stopped(raft::NodeId id);

  // What it gives to its disk, in order, and how many appends are done. `leads`: at that time.
  void handed_out(raft::NodeId id, const raft::Message& write, bool sync, bool leads);
  void written(raft::NodeId id, std::size_t appends);
  void snapshot_taken(raft::NodeId id, const raft::Snapshot& snapshot);
  void sent(raft::NodeId id, const raft::Message& message);
  // After each turn of the node.
  void processed(raft::NodeId id, const node::Replica& replica);

  void violated(std::string kind, raft::NodeId id, std::string what);
  const std::optional<RaftViolation>& violation() const { return violation_; }

  raft::Index committed() const { return committed_.size(); }
  std::uint64_t elections() const { return leaders_.size(); }

 private:
  // An entry's term, and a hash of it and of all entries before it.
  struct Link {
    raft::Term term = 0;
    std::uint64_t chain = 0;
    bool operator==(const Link&) const = default;
  };
  // A log as links: base + 1 .. last().
  struct Links {
    raft::Index base = 0;
    Link at_base;
    std::vector<Link> links;
    raft::Index last() const { return base + links.size(); }
    const Link* at(raft::Index i) const;
    void replace(raft::Index from, const std::vector<Link>& with);
  };
  struct Durable {
    raft::HardState hard;
    Links log;
  };
  // Handed out, not reported.
  struct Write {
    std::optional<raft::HardState> hard;
    std::optional<std::pair<raft::Index, Link>> snapshot;
    raft::Index from = 0;
    std::vector<Link> links;
    bool sync = false;
  };
  struct Acknowledgement {
    raft::Term term = 0;  // of the leader that was told
    raft::Index index = 0;
    Link link;
  };
  struct Node {
    raft::Incarnation incarnation = 0;
    Links log;  // as the process sees it, what is not written included
    raft::Term term = 0;
    raft::Index commit = 0;
    raft::Index applied = 0;
    raft::Index checked_state = 0;
    bool leads = false;
    Durable durable;                // as of the last write that was reported
    raft::Index synced_commit = 0;  // of the last one that was synced
    std::deque<Write> writes;
    std::map<raft::Term, std::pair<raft::NodeId, raft::Incarnation>> votes;
    Acknowledgement acknowledged;  // the newest
  };

  static void apply(const Write& write, Durable* to);
  std::vector<Link> linked(raft::NodeId id, const Link& before,
                           const std::vector<raft::Entry>& entries);
  void see(raft::NodeId id, raft::Index index, const Link& link);
  void commit(raft::NodeId id, raft::Index index, raft::Term in_term);
  void check_leader(raft::NodeId id, raft::Term term);
  void check_state(raft::NodeId id, raft::Index index, const std::string& snapshot);
  void check_recovered(raft::NodeId id, const Durable& found);
  void check_promises(raft::NodeId id, const Durable& found);
  std::string log_text(const Links& log) const;

  struct Committed {
    Link link;
    raft::Term in_term = 0;  // of the node that was the first to know
  };

  std::map<raft::NodeId, Node> nodes_;
  std::vector<Committed> committed_;     // [i - 1]: entry i
  std::vector<std::vector<Link>> seen_;  // [i - 1]: the different ones that entry i has been
  std::map<raft::Term, std::pair<raft::NodeId, raft::Incarnation>> leaders_;
  std::map<raft::Index, std::uint64_t> states_;  // hashes of snapshots
  std::optional<RaftViolation> violation_;
};

}  // namespace pgraft::sim
