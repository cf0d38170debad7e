// One node of a simulated cluster: the production replica, its log in LevelDB on a simulated disk,
// its clock, and what a process around them does (node/node_loop.cc): inputs wait until the node's
// turn comes, ticks are taken after them, a process that stood still does not live through all the
// time at once.
//
// A process ends where the schedule says so, also in the middle of its turn; all that it was about
// to do is gone then, and what comes back for it later finds another one (`boot`).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "libpgraft/node/replica.h"
#include "libpgraft/sim/raft_plan.h"
#include "libpgraft/sim/simulated_disk.h"
#include "libpgraft/sim/simulated_log_writer.h"

namespace pgraft::sim {

class RaftWorld;

class RaftNode final : private node::Outbox, private node::Host, private node::LogWriter {
 public:
  RaftNode(RaftWorld* world, NodeId id);
  ~RaftNode() override;
  RaftNode(const RaftNode&) = delete;
  RaftNode& operator=(const RaftNode&) = delete;

  NodeId id() const { return id_; }
  raft::Incarnation incarnation() const { return incarnation_; }
  state::Member member() const;
  bool up() const { return replica_ != nullptr; }
  std::uint64_t boot() const { return boot_; }
  const node::Replica& replica() const { return *replica_; }  // while it is up
  bool leads() const { return up() && replica().raft().role() == raft::Role::kLeader; }
  bool blank() const { return blank_; }  // it has never been part of a cluster
  std::string text() const;

  // --- life
  void bootstrap(const raft::Snapshot& first);  // before the first start
  void start();                                 // tried again until the disk allows it
  void start_after(Micros delay);
  void stop(bool power, const std::string& why, Micros restart_after);
  void wipe();  // comes back with an empty disk, as a new incarnation

  // --- inputs
  void receive(raft::Message message);
  void post(std::function<void(node::Replica&)> what);
  void jump(std::uint64_t ticks);

  // --- faults
  void suspend();
  void resume();
  void set_clock_percent(std::uint64_t percent) { clock_percent_ = percent; }
  void set_disk_factor(std::uint64_t factor) { disk_factor_ = factor; }
  void fail_sync_at(std::uint64_t n) { disk_->fail_sync_at(n); }
  void set_disk_full(bool full);
  void cut_power_inside(std::uint64_t outputs, Micros restart_after);
  void cut_power_at_disk(std::uint64_t operations, Micros restart_after);
  void heal();
  void retire();  // stops for good

 private:
  struct PowerCut {};
  using Input = std::variant<raft::Message, std::function<void(node::Replica&)>>;

  // node::Outbox, Host, LogWriter
  void send(raft::Message message) override;
  void send_report(raft::NodeId, const failover::Report&) override {}
  void send_wal_status(raft::NodeId, const failover::WalStatus&) override {}
  void close(const failover::Orders&) override {}
  void carry_out(const failover::Orders&) override {}
  Status clear_abstain() override { return Status::ok(); }
  void state_changed(const state::StateMachine& machine, const raft::ConfState& conf) override;
  void append(raft::Message write, bool sync) override;
  void save(raft::Snapshot snapshot, raft::Index first_kept) override;
  Status take_written(std::vector<raft::Message>* written) override;

  void make_disk();
  Status open();
  node::Replica::Options options() const;
  void later(Micros delay, std::function<void()> what);
  void wait_for_disk(bool write, std::function<void()> what);
  void tick();
  void wake();
  void turn();
  Status take_inputs();
  void output();  // one more of this turn
  void failed(const Status& status);
  void note_role();
  void observe_append(const raft::Message& write);

  RaftWorld* world_;
  const NodeId id_;
  raft::Incarnation incarnation_ = 0;
  std::uint64_t incarnations_ = 0;
  std::uint64_t boot_ = 0;
  bool blank_ = true;
  std::unique_ptr<SimulatedDisk> disk_;
  std::unique_ptr<storage::LogStore> store_;
  std::unique_ptr<SimulatedLogWriter> writer_;
  std::unique_ptr<node::Replica> replica_;

  std::vector<Input> inputs_;
  bool turn_due_ = false;
  bool suspended_ = false;
  std::uint64_t due_ticks_ = 0;
  std::uint64_t jump_ticks_ = 0;
  std::uint64_t clock_percent_ = 100;
  std::uint64_t disk_factor_ = 1;
  std::uint64_t turns_ = 0, ticks_ = 0, disk_waits_ = 0;  // numbers of draws
  std::uint64_t power_cut_in_ = 0;                        // outputs; 0: none
  Micros restart_after_ = 0;                              // a power cut that is to come

  // For the trace and for what waits for moments.
  raft::Role role_ = raft::Role::kFollower;
  raft::Term term_ = 0;
  raft::Index log_end_ = 0;
};

}  // namespace pgraft::sim
