// Steps and expectations that directed schedules of the failover simulator have in common.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "libpgraft/sim/cluster.h"

namespace pgraft::sim {

using Ids = std::set<NodeId>;

inline constexpr int kTicks = 60;  // far more than anything here needs

inline bool violates(const Cluster& c, const std::string& what) {
  return std::any_of(c.violations().begin(), c.violations().end(),
                     [&](const std::string& v) { return v.find(what) != std::string::npos; });
}

inline std::string all(const Cluster& c) {
  std::string text = c.describe();
  for (const std::string& v : c.violations()) text += "violation: " + v + "\n";
  for (const std::string& e : c.trace()) text += e + "\n";
  return text;
}

// The network and the servers do only what the schedule says; nobody campaigns by itself.
inline ClusterOptions scripted(int members, std::vector<NodeId> first_voters = {}) {
  ClusterOptions options;
  options.members = members;
  options.first_voters = std::move(first_voters);
  options.elections = false;
  options.election_ticks = 1000;
  return options;
}

inline bool elect(Cluster& c, NodeId leader, const Ids& ids) {
  c.campaign(leader);
  c.pump(ids);
  return c.leads(leader);
}

// Elected, promoted, quorum in force; false when the rules don't let it.
inline bool promote(Cluster& c, NodeId leader, const Ids& ids) {
  elect(c, leader, ids);
  return c.run_until(ids, kTicks, [&] { return c.writable(leader); });
}

inline void write(Cluster& c, NodeId primary, int n = 1) {
  for (int i = 0; i < n; ++i) c.step(primary, [](DatabaseModel& d) { return d.write(); });
  c.step(primary, [](DatabaseModel& d) { return d.flush(SIZE_MAX); });
}

inline void receive(Cluster& c, NodeId standby) {
  c.step(standby, [](DatabaseModel& d) { return d.receive(SIZE_MAX); });
  c.step(standby, [](DatabaseModel& d) { return d.flush(SIZE_MAX); });
}

inline void reply(Cluster& c, NodeId standby) {
  c.step(standby, [](DatabaseModel& d) { return d.reply(); });
}

inline void take_replies(Cluster& c, NodeId primary) {
  for (std::size_t i = 0; i < c.database(primary).senders(); ++i) {
    while (c.step(primary, [i](DatabaseModel& d) { return d.take_reply(i); })) {
    }
  }
}

// `standby` receives and acknowledges all of `primary`'s WAL.
inline void replicate(Cluster& c, NodeId primary, NodeId standby) {
  receive(c, standby);
  reply(c, standby);
  take_replies(c, primary);
}

inline void hold_streams(Cluster& c, const Ids& ids, bool hold = true) {
  for (const NodeId id : ids) c.database(id).holds().stream = hold;
}

// What every schedule with its rules on must come to in the end.
inline void expect_recovers(Cluster& c) {
  c.heal();
  c.drop_all();
  Ids ids;
  for (const NodeId id : c.ids()) {
    c.database(id).holds() = {};
    c.start(id);
    ids.insert(id);
  }
  const auto works = [&] {
    const NodeId leader = c.leader();
    return leader != 0 && c.writable(leader);
  };
  // Nobody campaigns by itself here: try each in turn.
  for (int round = 0; round < 4 && !c.run_until(ids, kTicks, works); ++round) {
    for (const NodeId id : ids) {
      c.campaign(id);
      if (c.run_until(ids, kTicks, works)) break;
    }
  }
  ASSERT_TRUE(works()) << all(c);
  EXPECT_TRUE(c.violations().empty()) << all(c);
  EXPECT_EQ(c.invariants().lost_in(c.database(c.leader()).wal()), 0u) << all(c);
  const std::size_t before = c.invariants().acknowledged_count();
  write(c, c.leader());
  EXPECT_TRUE(c.run_until(ids, kTicks, [&] {
    return c.invariants().acknowledged_count() > before;
  })) << all(c);
}

// Runs `schedule` with all rules on, then with `off` applied.
inline void expect_needed(const ClusterOptions& on, const std::function<void(ClusterOptions&)>& off,
                          const std::string& what, const std::function<void(Cluster&)>& schedule) {
  {
    SCOPED_TRACE("rules on");
    Cluster c(on);
    schedule(c);
    EXPECT_TRUE(c.violations().empty()) << all(c);
    if (!c.violations().empty()) return;
    expect_recovers(c);
  }
  SCOPED_TRACE("rule off");
  ClusterOptions options = on;
  off(options);
  Cluster c(options);
  schedule(c);
  EXPECT_TRUE(violates(c, what)) << "the schedule does not show that the rule is needed\n"
                                 << all(c);
}

// A single rule off, where another rule covers for it: no harm comes of it.
inline void expect_covered(const ClusterOptions& on,
                           const std::function<void(ClusterOptions&)>& off,
                           const std::function<void(Cluster&)>& schedule) {
  SCOPED_TRACE("one of two rules off");
  ClusterOptions options = on;
  off(options);
  Cluster c(options);
  schedule(c);
  for (const char* harm : {"lost", "timeline", "term", "leaders", "log"}) {
    EXPECT_TRUE(std::none_of(c.violations().begin(), c.violations().end(),
                             [&](const std::string& v) { return v.rfind(harm, 0) == 0; }))
        << all(c);
  }
}

// The invariant whose violations begin with `kind` notices that a rule is off, and no other does.
inline void expect_only(const ClusterOptions& on, const std::function<void(ClusterOptions&)>& off,
                        const std::string& kind, const std::function<void(Cluster&)>& schedule) {
  {
    SCOPED_TRACE("rules on");
    Cluster c(on);
    schedule(c);
    EXPECT_TRUE(c.violations().empty()) << all(c);
  }
  SCOPED_TRACE("rule off");
  ClusterOptions options = on;
  off(options);
  Cluster c(options);
  schedule(c);
  EXPECT_FALSE(c.violations().empty()) << all(c);
  for (const std::string& violation : c.violations()) EXPECT_EQ(violation.find(kind), 0u) << all(c);
}

}  // namespace pgraft::sim
