// Schedules for the Raft simulator, written by hand: what each of these rules is there to prevent.
// Without the rule the schedule ends in the violation, with it the cluster recovers. Chance finds
// the other rules (raft_sim_test.cc).
//
// campaign_after_apply has none. It matters to a core whose state machine lags behind its log; the
// replica applies what is committed in the turn in which it becomes durable, and a candidate's
// requests leave no sooner, so that its votes are counted in the newest configuration anyway.
// M4Campaign and M4bCommitDurability (libpgraft/raft/raft_membership_test.cc) fail without it.
#include <gtest/gtest.h>

#include <algorithm>

#include "libpgraft/sim/raft_explorer.h"

namespace pgraft::sim {
namespace {

constexpr Micros kMs = 1'000;

// A cluster in which nothing happens by itself within the schedule: election timeouts are 200 ms
// and more, a message takes 1 ms, a write 50 us.
class Schedule {
 public:
  explicit Schedule(NodeId nodes, Micros trouble) {
    RaftSetup& s = plan_.setup;
    s.nodes = s.voters = nodes;
    s.tick = 10 * kMs;
    s.election_ticks = 20;
    s.heartbeat_ticks = 3;
    s.pre_vote = s.check_quorum = false;
    s.snapshot_every = 10'000;
    s.request_timeout_ticks = 100;
    s.latency_min = s.latency_max = kMs;
    s.ordered = false;
    s.disk_min = s.disk_max = 50;
    s.wake_max = 0;
    s.clients = 1;
    s.keys = 1;
    s.trouble = trouble;
  }

  RaftSetup& setup() { return plan_.setup; }

  FaultStep& fault(Micros at, Action action, NodeId who = 1, NodeId whom = 1) {
    FaultStep step;
    step.number = ++number_;
    step.at = at;
    step.action = action;
    step.who.number = who;
    step.whom.number = whom;
    plan_.faults.push_back(step);
    return plan_.faults.back();
  }
  void campaign(Micros at, NodeId who) { fault(at, Action::kCampaign, who); }
  void cut_off(Micros from, Micros to, const std::vector<NodeId>& nodes) {
    FaultStep& step = fault(from, Action::kPartition);
    step.lasts = to - from;
    step.amount = set_of(nodes);
  }
  void kill(Micros from, Micros to, NodeId who) {
    fault(from, Action::kKill, who).lasts = to - from;
  }
  // The next `count` messages of the type.
  void lose(Micros at, NodeId who, NodeId whom, raft::MessageType type, std::uint64_t count) {
    FaultStep& step = fault(at, Action::kMessages, who, whom);
    step.type = type;
    step.amount = count;
  }
  void delay(Micros at, NodeId who, NodeId whom, raft::MessageType type, Micros late) {
    FaultStep& step = fault(at, Action::kMessages, who, whom);
    step.type = type;
    step.amount = 1;
    step.fate = Fate::kLate;
    step.lasts = late;
  }
  // These become learners, by one joint change.
  void demote(Micros at, const std::vector<NodeId>& nodes) {
    fault(at, Action::kReshape).amount = set_of(nodes);
  }
  void put(Micros at, NodeId via) {
    RequestStep step;
    step.number = ++number_;
    step.client = 1;
    step.via = via;
    step.at = at;
    step.patience = setup().trouble;
    plan_.requests.push_back(step);
  }

  const RaftPlan& plan() const { return plan_; }

 private:
  static std::uint64_t set_of(const std::vector<NodeId>& nodes) {
    std::uint64_t set = 0;
    for (const NodeId id : nodes) set |= std::uint64_t{1} << id;
    return set;
  }

  RaftPlan plan_;
  std::uint32_t number_ = 0;
};

// `controls` are switched off in both runs.
void expect_needed(const char* rule, const Schedule& schedule, const char* kind,
                   RaftControls controls = {}) {
  const RaftRun with = run_raft_plan(schedule.plan(), controls, true);
  EXPECT_FALSE(with.violation) << report(schedule.plan(), with);
  EXPECT_TRUE(with.recovered) << report(schedule.plan(), with);
  ASSERT_TRUE(switch_off(rule, &controls));
  const RaftRun without = run_raft_plan(schedule.plan(), controls, true);
  ASSERT_TRUE(without.violation) << report(schedule.plan(), without);
  EXPECT_EQ(without.violation->kind, kind) << report(schedule.plan(), without);
}

// Figure 8 of the paper, with three servers. Node 1 has an entry of term 2 to itself, node 3 one of
// term 3. In term 4 node 1 brings its old entry to node 2, its new one is lost; node 3 follows.
TEST(RaftSchedules, AnOldEntryIsNotCommittedByCounting) {
  Schedule s(3, 180 * kMs);
  s.setup().max_size_per_msg = 0;  // an entry at a time
  s.setup().max_inflight_msgs = 1;
  s.campaign(10 * kMs, 1);
  s.cut_off(30 * kMs, 60 * kMs, {1});
  s.put(31 * kMs, 1);
  s.kill(35 * kMs, 65 * kMs, 1);
  s.lose(39 * kMs, 3, 2, raft::MessageType::kAppend, 1);
  s.campaign(40 * kMs, 3);
  s.kill(45 * kMs, 105 * kMs, 3);
  s.campaign(70 * kMs, 1);  // hears of term 3
  s.campaign(90 * kMs, 1);
  // Node 2's answer about the old entry is on its way, the new entry is not.
  s.cut_off(95 * kMs + 800, 180 * kMs, {1});
  s.campaign(120 * kMs, 3);  // hears of term 4
  s.campaign(150 * kMs, 3);
  expect_needed("own_term_commit", s, "leader completeness");
}

// Nodes 3 to 5 hold the change and don't know that it is committed. Node 1 does, and with node 2 is
// a majority of the new voters; the others are one of the old.
TEST(RaftSchedules, AJointConfigurationNeedsBothMajorities) {
  Schedule s(5, 150 * kMs);
  s.campaign(10 * kMs, 1);
  s.demote(50 * kMs, {3, 4, 5});
  // Their answers are on their way.
  s.cut_off(51 * kMs + 600, 150 * kMs, {1, 2});
  s.put(60 * kMs, 1);
  s.campaign(80 * kMs, 3);
  expect_needed("both_majorities", s, "leader completeness");
}

// PROTOCOL.md, M5. Nodes 4 and 5 vote for node 4, its request to node 3 is late. Node 1 wins the
// same term with the votes of nodes 2 and 3, and removes node 3; that is made anew, and then gets
// the request.
Schedule late_request() {
  Schedule s(5, 180 * kMs);
  for (const NodeId other : {1, 2}) s.lose(5 * kMs, 4, other, raft::MessageType::kVote, 1);
  s.delay(5 * kMs, 4, 3, raft::MessageType::kVote, 100 * kMs);
  s.campaign(10 * kMs, 4);
  s.cut_off(15 * kMs, 100 * kMs, {4});
  s.campaign(20 * kMs, 1);
  s.fault(40 * kMs, Action::kRemove, 3);
  s.cut_off(84 * kMs, 180 * kMs, {3, 4});
  return s;
}

// Incarnations alone prevent it too, so they are off.
TEST(RaftSchedules, ANodeWithoutAConfigurationDoesNotVote) {
  Schedule s = late_request();
  s.fault(60 * kMs, Action::kWipe, 3);
  RaftControls controls;
  ASSERT_TRUE(switch_off("incarnations", &controls));
  expect_needed("vote_with_configuration", s, "election safety", controls);

  RaftControls incarnations_alone;
  ASSERT_TRUE(switch_off("vote_with_configuration", &incarnations_alone));
  const RaftRun run = run_raft_plan(s.plan(), incarnations_alone, true);
  EXPECT_FALSE(run.violation) << report(s.plan(), run);
}

// PROTOCOL.md, M5. The same, but that node 3 is added again before it gets the request, and crashes
// as soon as it has the configuration: it has forgotten whom it follows.
TEST(RaftSchedules, AnotherIncarnationDoesNotGetTheRequest) {
  Schedule s = late_request();
  s.fault(45 * kMs, Action::kAdd, 3);
  s.kill(85 * kMs, 90 * kMs, 3);
  expect_needed("incarnations", s, "election safety");
}

// Not a fault of the cluster: node 3 has lost its disk, and then all but nodes 2 and 3 give up
// their votes. That is under way when the trouble ends.
TEST(RaftSchedules, AMajorityWhoseDisksAreGoneNeedNotRecover) {
  Schedule s(5, 150 * kMs);
  s.campaign(10 * kMs, 2);
  s.fault(140 * kMs, Action::kWipe, 3);
  s.demote(149 * kMs, {1, 4, 5});
  const RaftRun run = run_raft_plan(s.plan(), {}, true);
  EXPECT_FALSE(run.violation) << report(s.plan(), run);
  EXPECT_TRUE(run.unrecoverable) << report(s.plan(), run);
}

// Node 2 removes node 1, and loses power before it has stored that this is committed: it needs
// node 1's vote once more, which may not be switched off yet.
TEST(RaftSchedules, ARemovedNodeIsNeededUntilItsRemovalIsStored) {
  Schedule s(2, 150 * kMs);
  s.campaign(10 * kMs, 2);
  FaultStep& cut = s.fault(45 * kMs, Action::kPowerCut, 2);
  cut.moment = Moment::kChangeApplied;
  cut.lasts = 50 * kMs;
  s.fault(50 * kMs, Action::kRemove, 1);
  const RaftRun run = run_raft_plan(s.plan(), {}, true);
  EXPECT_FALSE(run.violation) << report(s.plan(), run);
  EXPECT_TRUE(run.recovered) << report(s.plan(), run);
  EXPECT_EQ(run.counts.power_cuts, 2u);  // of node 2, and of node 1 at the end
}

}  // namespace
}  // namespace pgraft::sim
