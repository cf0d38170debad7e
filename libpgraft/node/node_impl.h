// The running node: threads, queue and files around one replica. Internal to this layer.
//
// Thread rule: `replica_`, `store_`, the files and everything marked (loop) belong to the loop
// thread from the moment it runs. Other threads leave work in the queue, or read what a mutex
// guards: `status_mutex_` the published status, `machine_mutex_` the state machine.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "libpgraft/node/leadership_timer.h"
#include "libpgraft/node/node.h"

namespace pgraft::node {

// Everything on this thread, and on threads that it creates, ignores signals while this lives.
class SignalBlocker {
 public:
  SignalBlocker();
  ~SignalBlocker();
  SignalBlocker(const SignalBlocker&) = delete;
  SignalBlocker& operator=(const SignalBlocker&) = delete;

 private:
  struct Mask;
  std::unique_ptr<Mask> before_;
};

// Runs what may block for seconds (asking another node who it is) away from the loop. Bounded;
// stop() waits for the job that runs.
class Prober {
 public:
  static constexpr std::size_t kMaxWaiting = 64;
  void start();
  bool post(std::function<void()> job);  // false: full, or stopped
  void stop();

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

class NodeImpl final : public Node, private transport::Handler, private Outbox, private Host {
 public:
  NodeImpl(const NodeConfig& config, DatabaseHost* host);
  ~NodeImpl() override;
  Status open();

  void init(Completion done) override;
  void add_node(raft::NodeId expected_id, std::string host, std::uint16_t port,
                Completion done) override;
  void remove_node(raft::NodeId id, Completion done) override;
  void transfer_leadership(const Transfer& transfer, Completion done) override;
  void check_transfer(raft::NodeId to, Completion done) override;
  void cancel_transfer(Completion done) override;
  state::Pause pause() const override;
  void propose(state::Operation operation, Completion done) override;
  void read_barrier(Completion done) override;
  void database_barrier(PositionCompletion done) override;
  Result<std::string> kv_get(const std::string& key) const override;
  void read(bool barrier, Reader reader) override;
  void metrics(MetricsReader reader) override;
  void observe(const failover::DatabaseView& view) override;
  transport::ClusterStatus status() const override;
  std::vector<state::StateMachine::PromotionRecord> promotions() const override;
  std::uint16_t port() const override { return port_; }
  const Binding& binding() const override { return binding_; }
  bool is_member() const override { return is_member_.load(); }
  void stop() override;

 private:
  using Clock = std::chrono::steady_clock;
  using Task = std::function<void()>;
  static constexpr std::size_t kMaxQueuedTasks = 131072;

  // transport::Handler, on the transport's thread
  void on_messages(std::vector<raft::Message> messages) override;
  void on_report(const failover::Report& report) override;
  void on_wal_status(const failover::WalStatus& status) override;
  void on_peer_lost(raft::NodeId id, const std::string& reason) override;
  void on_refused(const std::string& peer, const std::string& reason) override;
  void on_snapshot_sent(raft::NodeId id, bool ok) override;
  void on_greeted(const transport::Identity& peer) override;
  transport::ClusterStatus on_status_request() override { return status(); }

  // Outbox and Host, on the loop
  void send(raft::Message message) override;
  void send_report(raft::NodeId to, const failover::Report& report) override;
  void send_wal_status(raft::NodeId to, const failover::WalStatus& status) override;
  void close(const failover::Orders& orders) override;
  void carry_out(const failover::Orders& orders) override;
  Status clear_abstain() override;
  void state_changed(const state::StateMachine& machine, const raft::ConfState& conf) override;
  failover::Lsn acknowledged_lsn() override {
    return host_ == nullptr ? 0 : host_->acknowledged_lsn();
  }
  void change_reached(ChangeStep step, raft::ConfChangeType type) override;
  void applying() override { machine_mutex_.lock(); }
  void applied() override;

  // The queue. Operations, the bulk of it when there is much, have a lane of their own.
  struct Proposal {
    state::Operation operation;
    Completion done;
  };
  struct Work {
    std::deque<Task> tasks;
    std::deque<Proposal> proposals;
  };
  bool is_full() const { return queue_.tasks.size() + queue_.proposals.size() >= kMaxQueuedTasks; }
  bool post(Task task);
  void post_request(Completion done, std::function<void(Completion)> request);
  Work wait_for_work(Clock::time_point until);

  // The loop
  void run();
  void do_work(Work& work);
  void step(Work& work);
  void tick_due();
  void keep_healthy_lead();
  void publish_lease();
  void publish_contact();
  std::chrono::milliseconds lease_remaining() const;
  std::chrono::milliseconds contact_remaining() const;
  std::chrono::milliseconds remaining_since(std::uint64_t start_tick,
                                            std::chrono::milliseconds duration) const;
  void count_election(raft::Term term);
  void time_leadership();
  Metrics make_metrics();
  transport::StatusMore status_more(const raft::NodeStatus& raft) const;
  std::uint64_t idle_ms(const raft::ProgressView& progress) const;
  void fail(const Status& why);

  // Parts of open() and init()
  Replica::Options replica_options() const;
  Status create_replica();
  Status settle_cluster_id();
  Status make_cluster();
  void add_probed(raft::NodeId expected_id, const std::string& host, std::uint16_t port,
                  const Result<transport::Identity>& probed, Completion done);

  Status write_files(const state::StateMachine& machine);
  void meet(const transport::Identity& peer);
  void connect_members(const state::StateMachine& machine);
  transport::Identity identity() const;
  state::Member self() const;
  void publish_status();
  bool status_is_stale() const;
  void refresh_status();
  void answer_inits();
  Status open_log();
  void recover();
  bool has_controller() const { return host_ != nullptr || config_.without_data; }
  std::string state_name() const;
  std::string phase() const;

  const NodeConfig config_;
  DatabaseHost* const host_;
  std::chrono::milliseconds tick_;
  int election_ticks_;
  int heartbeat_ticks_;
  Binding binding_;
  std::optional<failover::Position> wal_end_;  // that the data directory must have (rule 3)
  std::uint16_t port_ = 0;

  std::unique_ptr<storage::LogStore> store_;   // (loop)
  std::unique_ptr<ThreadedLogWriter> writer_;  // (loop)
  std::unique_ptr<Replica> replica_;           // (loop)
  std::unique_ptr<transport::Transport> transport_;
  IdentityFile identity_;                              // (loop) as in the file
  std::optional<std::vector<state::Member>> members_;  // (loop) as in the file
  std::optional<TimelinesFile> timelines_;             // (loop) as in the file
  Status failed_;                                      // (loop)
  Clock::time_point reopen_at_;                        // (loop) the disk was full: the next try
  Status write_failed_;  // (loop) of a file or of the first snapshot: fatal after this step
  // (loop) Nodes that talk to this one and that its members don't hold (yet), so that they can be
  // answered; and the cluster that a node without one was greeted from. Neither is stored.
  std::map<raft::NodeId, transport::PeerAddress> strangers_;
  std::uint64_t greeted_cluster_id_ = 0;
  std::vector<Completion> inits_;  // (loop) answered when this node leads the cluster it made
  Clock::time_point next_tick_;    // (loop)
  std::deque<Clock::time_point>
      tick_times_;                   // (loop) of the newest ticks, the last one is now_ticks()
  bool lease_published_ = false;     // (loop)
  bool contact_published_ = false;   // (loop)
  raft::Term election_term_ = 0;     // (loop) last one counted
  int ticks_to_news_ = 0;            // (loop)
  bool status_due_ = true;           // (loop) the status is to be made anew
  std::string shown_phase_;          // (loop) of the controller, in the status
  LeadershipTimer leadership_;       // (loop)
  Histogram tick_delay_us_;          // (loop)
  state::Revision kv_revision_ = 0;  // (loop) as told to the host

  mutable std::shared_mutex machine_mutex_;

  mutable std::mutex status_mutex_;
  transport::ClusterStatus status_;
  std::string refusal_;  // the last handshake that was refused
  std::optional<Clock::time_point> refused_at_;

  std::mutex queue_mutex_;
  std::condition_variable queue_wake_;
  Work queue_;
  std::size_t queued_messages_ = 0;
  std::size_t queued_bytes_ = 0;
  std::optional<failover::DatabaseView> newest_view_;
  bool written_ = false;  // the log writer has news
  bool stopping_ = false;

  std::atomic<bool> is_member_{false};
  std::atomic<std::uint64_t> messages_processed_{0}, heartbeats_sent_{0}, elections_triggered_{0};
  Prober prober_;
  std::thread loop_;
  std::mutex stop_mutex_;
};

}  // namespace pgraft::node
