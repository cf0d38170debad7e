#include "libpgraft/sim/raft_run.h"

#include <array>
#include <iterator>

namespace pgraft::sim {
namespace {

struct RuleName {
  const char* name;
  bool raft::Switches::*member;
};
constexpr std::array<RuleName, 11> kRules = {{
    {"one_vote_a_term", &raft::Switches::one_vote_a_term},
    {"complete_log", &raft::Switches::complete_log},
    {"consistency_check", &raft::Switches::consistency_check},
    {"own_term_commit", &raft::Switches::own_term_commit},
    {"apply_committed", &raft::Switches::apply_committed},
    {"both_majorities", &raft::Switches::both_majorities},
    {"one_change", &raft::Switches::one_change},
    {"campaign_after_apply", &raft::Switches::campaign_after_apply},
    {"vote_with_configuration", &raft::Switches::vote_with_configuration},
    {"read_quorum", &raft::Switches::read_quorum},
    {"read_after_own_commit", &raft::Switches::read_after_own_commit},
}};

struct ControlName {
  const char* name;
  bool RaftControls::*member;
};
constexpr std::array<ControlName, 3> kControls = {{
    {"incarnations", &RaftControls::incarnations},
    {"honest_disks", &RaftControls::honest_disks},
    {"write_then_answer", &RaftControls::write_then_answer},
}};

std::string number(std::uint64_t n) { return std::to_string(n); }

}  // namespace

bool switch_off(const std::string& name, RaftControls* controls) {
  for (const RuleName& rule : kRules) {
    if (name != rule.name) continue;
    controls->rules.*rule.member = false;
    return true;
  }
  for (const ControlName& control : kControls) {
    if (name != control.name) continue;
    controls->*control.member = false;
    return true;
  }
  return false;
}

std::vector<std::string> control_names() {
  std::vector<std::string> names;
  names.reserve(std::size(kRules) + std::size(kControls));
  for (const RuleName& rule : kRules) names.emplace_back(rule.name);
  for (const ControlName& control : kControls) names.emplace_back(control.name);
  return names;
}

std::vector<std::string> switched_off(const RaftControls& controls) {
  std::vector<std::string> names;
  for (const RuleName& rule : kRules) {
    if (!(controls.rules.*rule.member)) names.emplace_back(rule.name);
  }
  for (const ControlName& control : kControls) {
    if (!(controls.*control.member)) names.emplace_back(control.name);
  }
  return names;
}

RaftCounts& RaftCounts::operator+=(const RaftCounts& other) {
  node_steps += other.node_steps;
  messages += other.messages;
  message_bytes += other.message_bytes;
  messages_lost += other.messages_lost;
  elections += other.elections;
  committed += other.committed;
  faults += other.faults;
  starts += other.starts;
  power_cuts += other.power_cuts;
  snapshots_sent += other.snapshots_sent;
  membership_changes += other.membership_changes;
  requests += other.requests;
  requests_done += other.requests_done;
  requests_unknown += other.requests_unknown;
  requests_refused += other.requests_refused;
  trouble += other.trouble;
  recovery += other.recovery;
  return *this;
}

std::string describe(const RaftCounts& c) {
  return number(c.node_steps) + " node-steps in " + number((c.trouble + c.recovery) / 1000) +
         " ms of virtual time, " + number(c.messages) + " messages (" + number(c.messages_lost) +
         " lost), " + number(c.faults) + " faults, " + number(c.starts) + " starts, " +
         number(c.power_cuts) + " power cuts, " + number(c.elections) + " elections, " +
         number(c.committed) + " entries committed, " + number(c.snapshots_sent) +
         " snapshots sent, " + number(c.membership_changes) + " membership changes, " +
         number(c.requests) + " requests (" + number(c.requests_done) + " done, " +
         number(c.requests_refused) + " refused, " + number(c.requests_unknown) + " unknown)";
}

std::string describe(const TraceLine& line) {
  std::string at = number(line.at / 1000);
  at.insert(0, at.size() < 6 ? 6 - at.size() : 0, ' ');
  const std::string fraction = number(1000 + line.at % 1000).substr(1);
  return at + "." + fraction + (line.node == 0 ? "  -  " : "  " + number(line.node) + "  ") +
         line.text;
}

}  // namespace pgraft::sim
