#include "libpgraft/sim/failover_controls.h"

#include <functional>
#include <utility>

namespace pgraft::sim {
namespace {

using Control = std::pair<const char*, std::function<void(FailoverControls&)>>;

Control rule(const char* name, bool failover::Switches::*which) {
  return {name, [which](FailoverControls& c) { c.rules.*which = false; }};
}
Control of_host(const char* name, bool HostSwitches::*which) {
  return {name, [which](FailoverControls& c) { c.host.*which = false; }};
}

const std::vector<Control>& controls() {
  using Rules = failover::Switches;
  static const std::vector<Control> kControls = {
      rule("gate", &Rules::gate),
      rule("current", &Rules::current),
      rule("frozen", &Rules::frozen),
      rule("abstain", &Rules::abstain),
      rule("reconcile", &Rules::reconcile),
      rule("own_term", &Rules::own_term),
      rule("timeline", &Rules::timeline),
      rule("cancel", &Rules::cancel),
      rule("unfence", &Rules::unfence),
      rule("settle", &Rules::settle),
      rule("promoted", &Rules::promoted),
      rule("known_end", &Rules::known_end),
      rule("newest", &Rules::newest),
      rule("in_force", &Rules::in_force),
      rule("answering", &Rules::answering),
      rule("any_majority", &Rules::any_majority),
      rule("bound", &Rules::bound),
      rule("hand_over", &Rules::hand_over),
      rule("give_way", &Rules::give_way),
      rule("left_behind", &Rules::left_behind),
      rule("timeline_first", &Rules::timeline_first),
      rule("copied", &Rules::copied),
      of_host("close_early", &HostSwitches::close_early),
      of_host("connection_term", &HostSwitches::connection_term),
      of_host("unique", &HostSwitches::unique),
      of_host("marker", &HostSwitches::marker),
      of_host("half_done", &HostSwitches::half_done),
      of_host("retired", &HostSwitches::retired),
      of_host("aside", &HostSwitches::aside),
      of_host("outdated", &HostSwitches::outdated),
      of_host("votes", &HostSwitches::votes),
      of_host("untouched", &HostSwitches::untouched),
      {"durable_commit", [](FailoverControls& c) { c.store.forgets_commit = true; }},
      {"durable_bound", [](FailoverControls& c) { c.store.forgets_values = true; }},
      {"incarnations", [](FailoverControls& c) { c.incarnations = false; }},
      {"durable_term_first", [](FailoverControls& c) { c.durable_term_first = false; }},
  };
  return kControls;
}

}  // namespace

bool switch_off(const std::string& name, FailoverControls* all) {
  for (const auto& [known, off] : controls()) {
    if (name != known) continue;
    off(*all);
    return true;
  }
  return false;
}

std::vector<std::string> failover_control_names() {
  std::vector<std::string> names;
  for (const auto& [name, off] : controls()) names.emplace_back(name);
  return names;
}

}  // namespace pgraft::sim
