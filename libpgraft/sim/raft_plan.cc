#include "libpgraft/sim/raft_plan.h"

#include <algorithm>
#include <array>

namespace pgraft::sim {
namespace {

constexpr std::array<const char*, kActions> kActionNames = {
    "kill",      "power-cut", "cut-inside", "cut-at-disk", "suspend",    "clock-rate", "slow-disk",
    "full-disk", "partition", "cut-link",   "weather",     "clock-jump", "fail-sync",  "break",
    "messages",  "campaign",  "add",        "remove",      "transfer",   "reshape",    "wipe",
};

constexpr std::array<const char*, kMoments> kMomentNames = {
    "now",
    "a campaign",
    "an election",
    "entries are handed out",
    "an overwrite",
    "a change",
    "a change's end",
    "a snapshot is sent",
    "a snapshot is received",
    "a snapshot is saved",
    "a start",
};

std::string number(std::uint64_t n) { return std::to_string(n); }

std::string time(Micros micros) {
  const std::string fraction = number(1000 + micros % 1000).substr(1);
  return number(micros / 1000) + "." + fraction + " ms";
}

std::string describe(const Who& who) {
  switch (who.kind) {
    case Who::Kind::kNode: return "node " + number(who.number);
    case Who::Kind::kHere: return "the node";
    case Who::Kind::kLeader: return "the leader";
    case Who::Kind::kOther: return "another (" + number(who.number) + ")";
  }
  return "?";
}

const char* describe(Fate fate) {
  switch (fate) {
    case Fate::kLost: return "lost";
    case Fate::kDoubled: return "doubled";
    case Fate::kLate: return "late";
  }
  return "?";
}

std::string set_text(std::uint64_t set) {
  std::string text;
  for (NodeId id = 1; id <= kMaxSimulatedNodes; ++id) {
    if ((set >> id & 1) != 0) text += (text.empty() ? "" : " ") + number(id);
  }
  return "{" + text + "}";
}

}  // namespace

const char* action_name(Action action) { return kActionNames[static_cast<std::size_t>(action)]; }

std::optional<Action> action_named(const std::string& name) {
  const auto found = std::find(kActionNames.begin(), kActionNames.end(), name);
  if (found == kActionNames.end()) return std::nullopt;
  return static_cast<Action>(found - kActionNames.begin());
}

std::string describe(const FaultStep& step) {
  std::string text = "#" + number(step.number) + " " + time(step.at);
  if (step.moment != Moment::kNow) {
    text += std::string(", ") + time(step.delay) + " after " +
            kMomentNames[static_cast<std::size_t>(step.moment)];
  }
  text += std::string(": ") + action_name(step.action) + " ";
  const std::string who = describe(step.who);
  const std::string whom = describe(step.whom);
  const std::string lasts = ", " + time(step.lasts);
  switch (step.action) {
    case Action::kKill:
    case Action::kPowerCut:
    case Action::kSuspend: return text + who + lasts;
    case Action::kCutInside: return text + who + " at output " + number(step.amount) + lasts;
    case Action::kCutAtDisk: return text + who + " at operation " + number(step.amount) + lasts;
    case Action::kClockRate: return text + who + ", " + number(step.amount) + " %" + lasts;
    case Action::kSlowDisk: return text + who + ", times " + number(step.amount) + lasts;
    case Action::kFullDisk: return text + who + lasts;
    case Action::kPartition: return text + (step.amount == 0 ? who : set_text(step.amount)) + lasts;
    case Action::kCutLink: return text + who + " > " + whom + lasts;
    case Action::kWeather:
      text += number(step.percent) + " % " + describe(step.fate);
      if (step.fate == Fate::kLate) text += " by " + time(step.amount);
      return text + lasts;
    case Action::kClockJump: return text + who + ", " + number(step.amount) + " ticks";
    case Action::kFailSync: return text + who + ", number " + number(step.amount);
    case Action::kBreak: return text + who + " = " + whom;
    case Action::kMessages:
      text += number(step.amount) + " " + raft::message_type_name(step.type) + " " + who + " > " +
              whom + " " + describe(step.fate);
      return step.fate == Fate::kLate ? text + " by " + time(step.lasts) : text;
    case Action::kReshape:
      return text + set_text(step.amount) + (step.percent == 0 ? ", jointly" : ", one by one");
    default: return text + who;
  }
}

std::string describe(const RequestStep& step) {
  const char* kinds[] = {"put", "get", "delete"};
  std::string text = "#" + number(step.number) + " " + time(step.at) + ": client " +
                     number(step.client) + " " + kinds[static_cast<int>(step.kind)] + " k" +
                     number(static_cast<std::uint64_t>(step.key));
  if (step.via != 0) text += " through node " + number(step.via);
  return text;
}

std::string describe(const RaftSetup& s) {
  return number(s.nodes) + " nodes, 1.." + number(s.voters) + " voters, " + number(s.clients) +
         " clients, " + std::to_string(s.keys) + " keys, " + time(s.trouble) + ", tick " +
         time(s.tick) + ", election " + std::to_string(s.election_ticks) + " ticks, heartbeat " +
         std::to_string(s.heartbeat_ticks) + (s.pre_vote ? "" : ", no pre-vote") +
         (s.check_quorum ? "" : ", no check of the quorum") + ", snapshot every " +
         number(s.snapshot_every) + " keeping " + number(s.keep_tail) + ", " +
         number(s.max_size_per_msg) + " bytes a message, " + number(s.max_inflight_msgs) +
         " in flight, latency " + time(s.latency_min) + " to " + time(s.latency_max) +
         (s.ordered ? ", ordered" : ", not ordered") + ", disk " + time(s.disk_min) + " to " +
         time(s.disk_max);
}

std::string describe(const RaftPlan& plan) {
  std::string text = "seed " + number(plan.seed) + ": " + describe(plan.setup) + "\n";
  for (const FaultStep& step : plan.faults) text += "  " + describe(step) + "\n";
  for (const RequestStep& step : plan.requests) text += "  " + describe(step) + "\n";
  return text;
}

std::set<std::uint32_t> RaftPlan::numbers() const {
  std::set<std::uint32_t> all;
  for (const FaultStep& step : faults) all.insert(step.number);
  for (const RequestStep& step : requests) all.insert(step.number);
  return all;
}

RaftPlan RaftPlan::only(const std::set<std::uint32_t>& numbers) const {
  RaftPlan plan = *this;
  const auto left_out = [&](const auto& step) { return !numbers.contains(step.number); };
  std::erase_if(plan.faults, left_out);
  std::erase_if(plan.requests, left_out);
  return plan;
}

}  // namespace pgraft::sim
