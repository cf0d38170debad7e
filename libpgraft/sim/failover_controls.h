// The rules of the failover controller and of what it stands on, for switching one off: negative
// controls of the schedules and of the random walks. All on in production.
#pragma once

#include <string>
#include <vector>

#include "libpgraft/failover/controller.h"
#include "libpgraft/sim/faulty_store.h"

namespace pgraft::sim {

// What a host or server does to keep a rule.
struct HostSwitches {
  bool close_early = true;  // rule 2: close() takes effect before it returns, not with the orders
  bool connection_term = true;  // rule 2: a reply passes the gate on a connection of its term only
  bool unique = true;           // rule 6: one live walsender per member
  bool marker = true;           // rule 9: the marker for abstaining outlives a restart
  bool half_done = true;        // rule 9: a half-done rewind or clone is not started
  bool retired = true;          // rule 9: what was put aside is gone once its successor runs
  bool aside = true;            // rule 9: a rewind or clone can be undone while its source is gone
  bool outdated = true;         // rule 3: no source on an older timeline than this node has seen
  bool votes = true;            // M8h: a node votes while its data directory is rewound or cloned
  bool untouched =
      true;  // M8h: a server runs while a rejoin is asked for and nobody can be its source
};

struct FailoverControls {
  failover::Switches rules;
  HostSwitches host;
  StoreFaults store;
  bool incarnations = true;        // rule 10
  bool durable_term_first = true;  // rule 2: reports wait for the term's write
};

// False: there is no such rule.
bool switch_off(const std::string& name, FailoverControls* controls);
std::vector<std::string> failover_control_names();

}  // namespace pgraft::sim
