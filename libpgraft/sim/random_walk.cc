#include "libpgraft/sim/random_walk.h"

#include <algorithm>

namespace pgraft::sim {

ClusterOptions RandomWalk::draw(std::uint64_t seed, const FailoverControls& controls,
                                std::mt19937_64& rng) {
  ClusterOptions options;
  static_cast<FailoverControls&>(options) = controls;
  options.members = 3 + static_cast<int>(rng() % 3);
  options.seed = seed;
  options.snapshot_every = rng() % 2 == 0 ? 1000 : 20;
  const int first = rng() % 2 == 0 ? options.members : 1 + static_cast<int>(rng() % 3);
  for (NodeId id = 1; id <= static_cast<NodeId>(first); ++id) options.first_voters.push_back(id);
  return options;
}

RandomWalk::RandomWalk(std::uint64_t seed, const FailoverControls& controls)
    : seed_(seed), rng_(seed * 0x9e3779b97f4a7c15ull + 1), cluster_(draw(seed, controls, rng_)) {
  constexpr int kLoss[] = {0, 0, 2, 15};
  constexpr int kFaults[] = {100, 100, 40, 10};
  constexpr int kMoments[] = {0, 2, 10, 30};
  loss_percent_ = kLoss[below(4)];
  fault_percent_ = kFaults[below(4)];
  moment_percent_ = kMoments[below(4)];
  draw_mix();
}

// Each walk has faults and delays of its own: one with everything in it seldom gets far.
void RandomWalk::draw_mix() {
  constexpr int kFactors[] = {0, 0, 0, 16, 16, 64};  // of faults, in sixteenths
  constexpr int kPaces[] = {16, 16, 16, 16, 16, 16, 16, 16, 16, 64, 4, 1};  // of servers' steps
  std::string text = "mix, in sixteenths:";
  for (const Action& action : actions()) {
    int factor = 16;
    if (action.kind == Kind::kFault) factor = kFactors[below(6)];
    if (action.kind == Kind::kStep) factor = kPaces[below(12)];
    mix_.push_back(action.weight * factor);
    total_ += mix_.back();
    if (factor != 16) text += " " + std::string(action.name) + "*" + std::to_string(factor);
  }
  mix_text_ = text + " moments*" + std::to_string(moment_percent_) + "%";
}

const std::vector<RandomWalk::Action>& RandomWalk::actions() {
  static const std::vector<Action> kActions = {
      {"deliver", 400, Kind::kWorld, &RandomWalk::deliver},
      {"tick", 60, Kind::kWorld, &RandomWalk::tick},
      {"tick all", 12, Kind::kWorld, &RandomWalk::tick_all},
      {"start", 20, Kind::kStep, &RandomWalk::start},
      {"heal", 2, Kind::kStep, &RandomWalk::heal},
      {"write", 8, Kind::kStep, &RandomWalk::write},
      {"work", 60, Kind::kStep, &RandomWalk::work},
      {"execute", 60, Kind::kStep, &RandomWalk::execute},
      {"replay", 50, Kind::kStep, &RandomWalk::replay},
      {"signal", 15, Kind::kStep, &RandomWalk::signal},
      {"finish", 10, Kind::kStep, &RandomWalk::finish},
      {"connect", 40, Kind::kStep, &RandomWalk::connect},
      {"receive", 60, Kind::kStep, &RandomWalk::receive},
      {"flush", 60, Kind::kStep, &RandomWalk::flush},
      {"reply", 60, Kind::kStep, &RandomWalk::reply},
      {"take", 60, Kind::kStep, &RandomWalk::take},
      {"reload", 30, Kind::kStep, &RandomWalk::reload},
      {"reap", 3, Kind::kStep, &RandomWalk::reap},
      {"write log", 60, Kind::kStep, &RandomWalk::write_log},
      {"rejoin", 20, Kind::kStep, &RandomWalk::rejoin},
      {"lose", 4, Kind::kFault, &RandomWalk::lose},
      {"duplicate", 4, Kind::kFault, &RandomWalk::duplicate},
      {"crash", 2, Kind::kFault, &RandomWalk::crash},
      {"crash inside", 1, Kind::kFault, &RandomWalk::crash_inside},
      {"crash at a change", 1, Kind::kFault, &RandomWalk::crash_at_change},
      {"worker", 1, Kind::kFault, &RandomWalk::crash_worker},
      {"partition", 1, Kind::kFault, &RandomWalk::partition},
      {"island", 1, Kind::kFault, &RandomWalk::island},
      {"disconnect", 3, Kind::kFault, &RandomWalk::disconnect},
      {"reset", 2, Kind::kFault, &RandomWalk::reset},
      {"hold log", 6, Kind::kFault, &RandomWalk::hold_log},
      {"hold", 2, Kind::kFault, &RandomWalk::hold},
      {"campaign", 1, Kind::kFault, &RandomWalk::campaign},
      {"membership", 5, Kind::kFault, &RandomWalk::membership},
      {"switch", 2, Kind::kFault, &RandomWalk::transfer},
      {"reclone", 1, Kind::kFault, &RandomWalk::reclone},
      {"take back", 1, Kind::kFault, &RandomWalk::take_back},
      {"remove wal", 1, Kind::kFault, &RandomWalk::remove_wal},
  };
  return kActions;
}

NodeId RandomWalk::any() { return 1 + below(cluster_.ids().size()); }

const RandomWalk::Action& RandomWalk::draw_action(bool fault) {
  for (;;) {
    auto at = static_cast<int>(below(static_cast<std::uint64_t>(total_)));
    std::size_t i = 0;
    while (at >= mix_[i]) at -= mix_[i++];
    const Action& action = actions()[i];
    if (!fault || action.kind == Kind::kFault) return action;
  }
}

bool RandomWalk::has_faults() const {
  for (std::size_t i = 0; i < mix_.size(); ++i) {
    if (mix_[i] != 0 && actions()[i].kind == Kind::kFault) return true;
  }
  return false;
}

// At a moment, or a little later: where it happened, to who leads, or anywhere.
void RandomWalk::strike(NodeId where) {
  NodeId id = where;
  if (chance(40)) id = chance(50) && cluster_.leader() != 0 ? cluster_.leader() : any();
  due_.push_back({step_ + (chance(40) ? 0 : 1 + below(1ull << below(9))), &draw_action(true), id});
}

bool RandomWalk::run(int steps) {
  const bool strikes = moment_percent_ != 0 && has_faults();
  for (int i = 0; i < steps && cluster_.violations().empty(); ++i, ++step_) {
    const Action& action = draw_action(false);
    (this->*action.act)(any());
    const NodeId moment = coverage_.look(cluster_);
    if (moment != 0 && strikes && chance(moment_percent_)) strike(moment);
    for (std::size_t k = 0; k < due_.size();) {
      if (due_[k].step > step_) {
        ++k;
        continue;
      }
      const Due due = due_[k];
      due_.erase(due_.begin() + static_cast<std::ptrdiff_t>(k));
      (this->*due.action->act)(due.id);
      coverage_.look(cluster_);
    }
    let_go();
  }
  return cluster_.violations().empty();
}

// --- network and time

void RandomWalk::deliver(NodeId) {
  constexpr std::size_t kMost = 300;  // a network holds no more; the oldest are lost
  while (cluster_.network().size() > kMost) cluster_.drop(0);
  if (cluster_.network().empty()) return;
  const std::size_t i = chance(70) ? 0 : below(cluster_.network().size());
  if (chance(loss_percent_)) {
    cluster_.drop(i);
  } else {
    cluster_.deliver(i);
  }
}

void RandomWalk::tick(NodeId id) {
  if (!holds(id, Part::kClock)) cluster_.tick(id);
}

void RandomWalk::tick_all(NodeId) {
  for (const NodeId id : cluster_.ids()) tick(id);
}

void RandomWalk::lose(NodeId) {
  if (!cluster_.network().empty()) cluster_.drop(below(cluster_.network().size()));
}

void RandomWalk::duplicate(NodeId) {
  if (!cluster_.network().empty()) cluster_.duplicate(below(cluster_.network().size()));
}

// --- faults

void RandomWalk::crash(NodeId id) {
  if (chance(fault_percent_)) cluster_.crash(id);
}
void RandomWalk::crash_worker(NodeId id) {
  if (chance(fault_percent_)) cluster_.crash_worker(id);
}
void RandomWalk::crash_inside(NodeId id) {
  if (chance(fault_percent_)) cluster_.crash_inside(id, 1 + static_cast<int>(below(12)));
}
void RandomWalk::crash_at_change(NodeId id) {
  if (!cluster_.up(id) || !chance(fault_percent_)) return;
  cluster_.database(id).crash_at_change(1 + static_cast<int>(below(4)));
}
void RandomWalk::campaign(NodeId id) {
  if (chance(fault_percent_)) cluster_.campaign(id);
}
void RandomWalk::start(NodeId id) { cluster_.start(id); }

// A slow disk for a while: what is behind it when the node crashes is lost.
void RandomWalk::hold_log(NodeId id) { cluster_.hold_writes(id, chance(60)); }
void RandomWalk::write_log(NodeId id) { cluster_.write_log(id); }

void RandomWalk::partition(NodeId id) {
  if (!chance(fault_percent_)) return;
  std::set<NodeId> group = {id};
  if (cluster_.ids().size() > 3 && chance(50)) group.insert(any());
  cluster_.note("partition " + std::to_string(id) + (group.size() > 1 ? " and another" : ""));
  cluster_.partition(std::move(group));
}

// Who leads is cut off and does not notice, and another one is elected.
void RandomWalk::island(NodeId) {
  const NodeId leader = cluster_.leader();
  if (leader == 0 || !chance(fault_percent_)) return;
  cluster_.note("island " + std::to_string(leader));
  std::set<NodeId> group = {leader};
  if (cluster_.ids().size() > 3 && chance(50)) group.insert(any());
  cluster_.partition(std::move(group));
  held_[{leader, Part::kClock}] = step_ + (64ull << below(7));
}

void RandomWalk::heal(NodeId) { cluster_.heal(); }

// The connection to the leader's process was reset, truly or by a flaky network.
void RandomWalk::reset(NodeId id) {
  if (!cluster_.up(id) || !chance(fault_percent_)) return;
  const NodeId leader = cluster_.replica(id).raft().leader();
  if (leader == 0 || leader == id) return;
  if (cluster_.up(leader) && !chance(20)) return;
  cluster_.replica(id).peer_lost(leader);
  cluster_.observe(id);
}

// A part of a server stands still for a while.
void RandomWalk::hold(NodeId id) {
  if (!chance(fault_percent_)) return;
  const auto part = static_cast<Part>(below(kParts));
  held_[{id, part}] = step_ + (16ull << below(9));
  cluster_.note("node " + std::to_string(id) + " stands still, part " +
                std::to_string(static_cast<int>(part)));
}

void RandomWalk::let_go() {
  std::erase_if(held_, [&](const auto& held) { return held.second <= step_; });
}

// --- servers

void RandomWalk::work(NodeId id) {
  for (int part = 0; part < kParts; ++part) {
    if (part != static_cast<int>(Part::kClock) && holds(id, static_cast<Part>(part))) return;
  }
  if (cluster_.serves(id)) cluster_.work(id);
}
void RandomWalk::execute(NodeId id) {
  if (holds(id, Part::kExecute)) return;
  cluster_.step(id, [](DatabaseModel& d) { return d.execute(); });
}
void RandomWalk::replay(NodeId id) {
  if (holds(id, Part::kReplay)) return;
  const std::size_t n = chance(50) ? SIZE_MAX / 2 : below(20);
  cluster_.step(id, [n](DatabaseModel& d) { return d.replay(n); });
}
void RandomWalk::signal(NodeId id) {
  if (holds(id, Part::kPromotion)) return;
  cluster_.step(id, [](DatabaseModel& d) { return d.see_promote_signal(); });
}
void RandomWalk::finish(NodeId id) {
  if (holds(id, Part::kPromotion)) return;
  cluster_.step(id, [](DatabaseModel& d) { return d.finish_promotion(); });
}
void RandomWalk::connect(NodeId id) {
  if (holds(id, Part::kStream)) return;
  cluster_.step(id, [](DatabaseModel& d) { return d.connect(); });
}
void RandomWalk::receive(NodeId id) {
  if (holds(id, Part::kStream)) return;
  const std::size_t n = 1 + below(8);
  cluster_.step(id, [n](DatabaseModel& d) { return d.receive(n); });
}
void RandomWalk::flush(NodeId id) {
  const std::size_t n = 1 + below(8);
  cluster_.step(id, [n](DatabaseModel& d) { return d.flush(n); });
}
void RandomWalk::reply(NodeId id) {
  if (holds(id, Part::kStream)) return;
  cluster_.step(id, [](DatabaseModel& d) { return d.reply(); });
}
void RandomWalk::take(NodeId id) {
  if (holds(id, Part::kTake)) return;
  const std::size_t n = cluster_.database(id).senders();
  if (n == 0) return;
  const std::size_t i = below(n);
  cluster_.step(id, [i](DatabaseModel& d) { return d.take_reply(i); });
}
void RandomWalk::reload(NodeId id) {
  if (holds(id, Part::kReload)) return;
  const std::size_t i = below(cluster_.database(id).senders() + 1);
  cluster_.step(id, [i](DatabaseModel& d) { return d.reload(i); });
}
void RandomWalk::reap(NodeId id) {
  cluster_.step(id, [](DatabaseModel& d) { return d.reap_senders(); });
}
void RandomWalk::disconnect(NodeId id) {
  cluster_.step(id, [](DatabaseModel& d) {
    d.disconnect();
    return true;
  });
}

void RandomWalk::write(NodeId) {
  for (const NodeId id : cluster_.ids()) {
    if (cluster_.database(id).wal().size() > 400) return;
    cluster_.step(id, [](DatabaseModel& d) { return d.write(); });
  }
}

// What runs a stopped server: rewinds and clones in steps from whoever leads, and starts it.
void RandomWalk::rejoin(NodeId id) {
  DatabaseModel& database = cluster_.database(id);
  if (cluster_.serves(id) || !database.rejoin_pending()) return;
  const NodeId source = any();
  if (source == id || !cluster_.database(source).primary()) {
    if (database.rejoin_touched()) coverage_.reach(Reached::kSourceLost);
    return;
  }
  if (database.begin_rejoin(chance(50))) return;
  const bool cloned = database.rejoin_clones();
  const std::size_t keep = chance(50) ? SIZE_MAX : 1 + below(database.wal().size() + 1);
  if (!database.finish_rejoin(source, keep)) return;
  coverage_.reach(cloned ? Reached::kCloned : Reached::kRewound);
  cluster_.note("node " + std::to_string(id) + " rejoined from " + std::to_string(source));
}

// --- administration

void RandomWalk::reclone(NodeId id) {
  const NodeId source = any();
  if (cluster_.serves(id) || source == id || !cluster_.database(source).primary()) return;
  cluster_.database(id).request_rejoin(source, end_of(cluster_.database(source).wal()));
}

void RandomWalk::take_back(NodeId id) {
  if (cluster_.serves(id)) return;
  if (cluster_.database(id).undo_rejoin()) {
    cluster_.note("the rejoin of node " + std::to_string(id) + " is taken back");
  } else if (cluster_.database(id).put_back()) {
    cluster_.note("node " + std::to_string(id) + " has what its clone replaced");
  }
}

void RandomWalk::remove_wal(NodeId id) {
  const Wal& wal = cluster_.database(id).wal();
  if (!chance(fault_percent_)) return;
  const Lsn before = below(wal.size() + 1);
  cluster_.step(id, [before](DatabaseModel& d) {
    d.remove_wal(before);
    return true;
  });
}

// Nobody can know of a newer configuration than `leader` does.
bool RandomWalk::is_certain(NodeId leader) const {
  const raft::RawNode& raft = cluster_.replica(leader).raft();
  if (!raft.own_term_applied() || raft.conf_change_pending()) return false;
  const std::vector<NodeId> ids = cluster_.ids();
  return std::all_of(ids.begin(), ids.end(), [&](NodeId id) {
    return cluster_.up(id) && cluster_.replica(id).raft().term() <= raft.term();
  });
}

void RandomWalk::membership(NodeId id) {
  const NodeId leader = cluster_.leader();
  if (leader == 0 || id == leader) return;
  const auto& members = cluster_.replica(leader).machine().members();
  if (members.contains(id)) {
    if (cluster_.voters(leader).size() > 2 && chance(30) &&
        cluster_.remove_member(leader, id).is_ok()) {
      cluster_.note("remove " + std::to_string(id));
    }
    return;
  }
  // It was a member once: its log is not a blank one, so that it comes back as a new node. Only
  // when it is sure that it is none now: a wiped member has to be removed first.
  if (cluster_.up(id) && cluster_.replica(id).machine().applied_index() != 0) {
    if (!is_certain(leader)) return;
    cluster_.wipe(id);
    coverage_.reach(Reached::kWiped);
  }
  if (cluster_.add_member(leader, id).is_ok()) cluster_.note("add " + std::to_string(id));
}

// A planned switchover, under load as a rule.
void RandomWalk::transfer(NodeId id) {
  const NodeId leader = cluster_.leader();
  if (leader == 0 || id == leader || !chance(fault_percent_)) return;
  for (std::uint64_t n = below(4); n > 0; --n) {
    cluster_.step(leader, [](DatabaseModel& d) { return d.write(); });
  }
  if (!cluster_.up(leader)) return;
  coverage_.asks_to_switch(cluster_, leader, id);
  cluster_.replica(leader).transfer_leadership({.to = id}, [](const Status&, std::uint64_t) {});
  cluster_.observe(leader);
}

// --- phase 2

bool RandomWalk::has_all() const {
  const NodeId leader = cluster_.leader();
  if (leader == 0 || !cluster_.writable(leader)) return false;
  const auto& members = cluster_.replica(leader).machine().members();
  return std::all_of(members.begin(), members.end(), [&](const auto& member) {
    const NodeId id = member.first;
    const DatabaseModel& database = cluster_.database(id);
    return cluster_.serves(id) && database.wal() == cluster_.database(leader).wal() &&
           !database.abstain_until() && (id == leader || database.streaming());
  });
}

void RandomWalk::end_faults() {
  cluster_.note("all faults end");
  cluster_.heal();
  held_.clear();
  due_.clear();
  for (const NodeId id : cluster_.ids()) {
    cluster_.crash_inside(id, 0);
    cluster_.database(id).crash_at_change(0);
    cluster_.start(id);
    cluster_.hold_writes(id, false);
  }
}

bool RandomWalk::recovers(int ticks) {
  end_faults();
  const std::vector<NodeId> ids = cluster_.ids();
  const std::set<NodeId> everybody(ids.begin(), ids.end());
  const auto works = [&] { return has_all(); };
  if (!cluster_.run_until(everybody, ticks, works)) {
    excuse_ = excuse();
    return excuse_ != Excuse::kNone;
  }
  const std::size_t before = cluster_.invariants().acknowledged_count();
  cluster_.step(cluster_.leader(), [](DatabaseModel& d) { return d.write(); });
  if (!cluster_.run_until(everybody, ticks, [&] {
        return has_all() && cluster_.invariants().acknowledged_count() > before;
      })) {
    return false;
  }
  return cluster_.violations().empty() &&
         cluster_.invariants().lost_in(cluster_.database(cluster_.leader()).wal()) == 0;
}

// From what the disks hold, not from what the members have told each other; who does not run, or
// votes without its data, could.
RandomWalk::Excuse RandomWalk::excuse() const {
  const std::vector<NodeId> ids = cluster_.ids();
  NodeId newest = 0;  // knows the configuration
  for (const NodeId id : ids) {
    if (!cluster_.up(id)) continue;
    const auto applied = [&](NodeId n) { return cluster_.replica(n).machine().applied_index(); };
    if (newest == 0 || applied(id) > applied(newest)) newest = id;
  }
  if (newest == 0) return Excuse::kNone;
  const std::vector<NodeId> voters = cluster_.voters(newest);
  const std::size_t majority = voters.size() / 2 + 1;
  const auto may_be_promoted = [&](NodeId candidate) {
    const DatabaseModel& database = cluster_.database(candidate);
    if (!database.has_data() || database.abstain_until()) return false;
    const Position own = end_of(database.wal());
    const auto covered = std::count_if(voters.begin(), voters.end(), [&](NodeId id) {
      const DatabaseModel& other = cluster_.database(id);
      const bool abstains = !other.has_data() || other.abstain_until();
      if (!abstains) return end_of(other.wal()) <= own;
      const bool wrote_it = database.primary() && cluster_.bound(id) == own.timeline;
      return wrote_it || cluster_.bound(id) < own.timeline;
    });
    return static_cast<std::size_t>(covered) >= majority;
  };
  return std::any_of(voters.begin(), voters.end(), may_be_promoted) ? Excuse::kNone
                                                                    : Excuse::kNobodyMayLead;
}

std::string RandomWalk::report() const {
  std::string text = "PGRAFT_SIM_SEED=" + std::to_string(seed_) + "\n" + mix_text_ + "\n";
  for (const std::string& event : cluster_.trace()) text += event + "\n";
  for (const std::string& violation : cluster_.violations())
    text += "VIOLATION: " + violation + "\n";
  return text + cluster_.describe();
}

}  // namespace pgraft::sim
