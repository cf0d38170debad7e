#include "libpgraft/sim/random_walk.h"

#include <algorithm>

namespace pgraft::sim {

ClusterOptions RandomWalk::draw(std::uint64_t seed, const failover::Switches& rules,
                                std::mt19937_64& rng) {
  ClusterOptions options;
  options.rules = rules;
  options.members = 3 + static_cast<int>(rng() % 3);
  options.seed = seed;
  options.snapshot_every = rng() % 2 == 0 ? 1000 : 20;
  const int first = rng() % 2 == 0 ? options.members : 1 + static_cast<int>(rng() % 3);
  for (NodeId id = 1; id <= static_cast<NodeId>(first); ++id) options.first_voters.push_back(id);
  return options;
}

RandomWalk::RandomWalk(std::uint64_t seed, const failover::Switches& rules)
    : seed_(seed), rng_(seed * 0x9e3779b97f4a7c15ull + 1), cluster_(draw(seed, rules, rng_)) {
  constexpr int kLoss[] = {0, 0, 2, 15};
  constexpr int kFaults[] = {100, 100, 40, 10};
  loss_percent_ = kLoss[below(4)];
  fault_percent_ = kFaults[below(4)];
}

const std::vector<RandomWalk::Action>& RandomWalk::actions() {
  static const std::vector<Action> kActions = {
      {"deliver", 400, &RandomWalk::deliver},
      {"tick", 60, &RandomWalk::tick},
      {"tick all", 12, &RandomWalk::tick_all},
      {"lose", 4, &RandomWalk::lose},
      {"duplicate", 4, &RandomWalk::duplicate},
      {"crash", 2, &RandomWalk::crash},
      {"worker", 1, &RandomWalk::crash_worker},
      {"start", 20, &RandomWalk::start},
      {"partition", 1, &RandomWalk::partition},
      {"heal", 2, &RandomWalk::heal},
      {"work", 60, &RandomWalk::work},
      {"execute", 60, &RandomWalk::execute},
      {"replay", 50, &RandomWalk::replay},
      {"signal", 15, &RandomWalk::signal},
      {"finish", 10, &RandomWalk::finish},
      {"connect", 40, &RandomWalk::connect},
      {"receive", 60, &RandomWalk::receive},
      {"flush", 60, &RandomWalk::flush},
      {"reply", 60, &RandomWalk::reply},
      {"take", 60, &RandomWalk::take},
      {"reload", 30, &RandomWalk::reload},
      {"reap", 3, &RandomWalk::reap},
      {"disconnect", 3, &RandomWalk::disconnect},
      {"write", 8, &RandomWalk::write},
      {"rejoin", 20, &RandomWalk::rejoin},
      {"membership", 5, &RandomWalk::membership},
      {"transfer", 1, &RandomWalk::transfer},
      {"reset", 2, &RandomWalk::reset},
      {"hold log", 6, &RandomWalk::hold_log},
      {"write log", 60, &RandomWalk::write_log},
  };
  return kActions;
}

NodeId RandomWalk::any() { return 1 + below(cluster_.ids().size()); }

bool RandomWalk::run(int steps) {
  int total = 0;
  for (const Action& action : actions()) total += action.weight;
  for (int i = 0; i < steps && cluster_.violations().empty(); ++i) {
    auto at = static_cast<int>(below(static_cast<std::uint64_t>(total)));
    for (const Action& action : actions()) {
      at -= action.weight;
      if (at >= 0) continue;
      (this->*action.act)(any());
      break;
    }
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

void RandomWalk::tick(NodeId id) { cluster_.tick(id); }

void RandomWalk::tick_all(NodeId) {
  for (const NodeId id : cluster_.ids()) cluster_.tick(id);
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

// --- servers

void RandomWalk::work(NodeId id) {
  if (cluster_.up(id)) cluster_.work(id);
}
void RandomWalk::execute(NodeId id) {
  cluster_.step(id, [](DatabaseModel& d) { return d.execute(); });
}
void RandomWalk::replay(NodeId id) {
  const std::size_t n = chance(50) ? SIZE_MAX / 2 : below(20);
  cluster_.step(id, [n](DatabaseModel& d) { return d.replay(n); });
}
void RandomWalk::signal(NodeId id) {
  cluster_.step(id, [](DatabaseModel& d) { return d.see_promote_signal(); });
}
void RandomWalk::finish(NodeId id) {
  cluster_.step(id, [](DatabaseModel& d) { return d.finish_promotion(); });
}
void RandomWalk::connect(NodeId id) {
  cluster_.step(id, [](DatabaseModel& d) { return d.connect(); });
}
void RandomWalk::receive(NodeId id) {
  const std::size_t n = 1 + below(8);
  cluster_.step(id, [n](DatabaseModel& d) { return d.receive(n); });
}
void RandomWalk::flush(NodeId id) {
  const std::size_t n = 1 + below(8);
  cluster_.step(id, [n](DatabaseModel& d) { return d.flush(n); });
}
void RandomWalk::reply(NodeId id) {
  cluster_.step(id, [](DatabaseModel& d) { return d.reply(); });
}
void RandomWalk::take(NodeId id) {
  const std::size_t n = cluster_.database(id).senders();
  if (n == 0) return;
  const std::size_t i = below(n);
  cluster_.step(id, [i](DatabaseModel& d) { return d.take_reply(i); });
}
void RandomWalk::reload(NodeId id) {
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

// What runs a stopped server: rewinds and clones in steps, gives up when the source is gone, and
// starts it. Now and then an operator reclones a server that is down.
void RandomWalk::rejoin(NodeId id) {
  DatabaseModel& database = cluster_.database(id);
  if (cluster_.up(id)) return;
  const NodeId source = any();
  if (source == id || !cluster_.database(source).primary()) {
    if (chance(20) && database.undo_rejoin()) {
      cluster_.note("node " + std::to_string(id) + " puts its old data back");
    }
    return;
  }
  if (!database.rejoin_pending() && chance(2)) {
    database.request_rejoin(source, end_of(cluster_.database(source).wal()));
  }
  if (database.begin_rejoin(chance(50)) || !database.rejoin_pending()) return;
  const std::size_t keep = chance(50) ? SIZE_MAX : 1 + below(database.wal().size() + 1);
  if (database.finish_rejoin(source, keep)) {
    cluster_.note("node " + std::to_string(id) + " rejoined from " + std::to_string(source));
  }
}

// --- administration

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
  }
  if (cluster_.add_member(leader, id).is_ok()) cluster_.note("add " + std::to_string(id));
}

void RandomWalk::transfer(NodeId id) {
  const NodeId leader = cluster_.leader();
  if (leader == 0 || !chance(fault_percent_)) return;
  cluster_.replica(leader).transfer_leadership({.to = id}, [](const Status&, std::uint64_t) {});
  cluster_.observe(leader);
}

// --- phase 2

bool RandomWalk::recovers(int ticks) {
  cluster_.note("all faults end");
  cluster_.heal();
  std::set<NodeId> everybody;
  for (const NodeId id : cluster_.ids()) {
    everybody.insert(id);
    // A clone that was never finished goes on when there is a leader; without one, the old data is
    // taken.
    if (!cluster_.up(id) && cluster_.database(id).rejoin_pending())
      cluster_.database(id).undo_rejoin();
    cluster_.start(id);
    cluster_.hold_writes(id, false);
  }
  const auto has_all = [&] {
    const NodeId leader = cluster_.leader();
    if (leader == 0 || !cluster_.writable(leader)) return false;
    for (const auto& [id, member] : cluster_.replica(leader).machine().members()) {
      const DatabaseModel& database = cluster_.database(id);
      if (!cluster_.up(id) || database.wal() != cluster_.database(leader).wal()) return false;
      if (database.abstain_until() || (id != leader && !database.streaming())) return false;
    }
    return true;
  };
  if (!cluster_.run_until(everybody, ticks, has_all)) {
    only_copy_gone_ = too_few_with_data();
    return only_copy_gone_;
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

// PROTOCOL.md, M8g: so many voters were rewound or recloned before they had caught up that no
// majority can say what was acknowledged. No rule cures that: it waits for an administrator.
bool RandomWalk::too_few_with_data() const {
  const NodeId any_up = cluster_.leader() != 0 ? cluster_.leader() : 1;
  const std::vector<NodeId> voters = cluster_.voters(any_up);
  const auto with_data = std::count_if(voters.begin(), voters.end(), [&](NodeId id) {
    return !cluster_.database(id).abstain_until();
  });
  return static_cast<std::size_t>(with_data) < voters.size() / 2 + 1;
}

std::string RandomWalk::report() const {
  std::string text = "PGRAFT_SIM_SEED=" + std::to_string(seed_) + "\n";
  for (const std::string& event : cluster_.trace()) text += event + "\n";
  for (const std::string& violation : cluster_.violations())
    text += "VIOLATION: " + violation + "\n";
  return text + cluster_.describe();
}

}  // namespace pgraft::sim
