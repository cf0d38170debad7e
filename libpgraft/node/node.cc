// Starting and stopping a node, its settings, and the threads' signal mask.
#include "libpgraft/node/node.h"

#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>

#include "libpgraft/node/node_impl.h"

namespace pgraft::node {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLeastTick{10};
constexpr milliseconds kWalStatusInterval{1000};

// Entries on their way to one member, in its queues and before its disk.
constexpr std::uint64_t kMaxInflightBytes = 32u << 20;

Status out_of_range(const std::string& setting, const std::string& allowed) {
  return {Code::kInvalidArgument, setting + " must be " + allowed};
}

bool is_one_word(const std::string& text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return c > 0x20 && c != 0x7f; });
}

std::string in_ms(milliseconds t) { return std::to_string(t.count()) + " ms"; }

Status check_between(const std::string& setting, milliseconds value, milliseconds least,
                     milliseconds most) {
  if (value >= least && value <= most) return Status::ok();
  return out_of_range(
      setting, "between " + in_ms(least) + " and " + in_ms(most) + ", it is " + in_ms(value));
}

}  // namespace

Status NodeConfig::validate() const {
  if (data_dir.empty()) return out_of_range("data_dir", "set");
  if (node_id == 0) return out_of_range("node_id", "1 or greater");
  if (node_name.size() > state::kMaxNameBytes || !is_one_word(node_name)) {
    return out_of_range(
        "node_name", "at most " + std::to_string(state::kMaxNameBytes) + " bytes without blanks");
  }
  if (cluster_name.empty() || cluster_name.size() > state::kMaxNameBytes ||
      !is_one_word(cluster_name)) {
    return out_of_range("cluster_name",
                        "1 to " + std::to_string(state::kMaxNameBytes) + " bytes without blanks");
  }
  if (listen_address.empty()) return out_of_range("listen_address", "set");
  const std::pair<const char*, const std::string*> addresses[] = {
      {"listen_address", &listen_address},
      {"advertise_address", &advertise_address},
      {"pg_host", &pg_host}};
  for (const auto& [setting, address] : addresses) {
    if (address->size() > state::kMaxAddressBytes || !is_one_word(*address)) {
      return out_of_range(
          setting, "at most " + std::to_string(state::kMaxAddressBytes) + " bytes without blanks");
    }
  }
  if (Status s = check_between("heartbeat_interval", heartbeat_interval, milliseconds(10),
                               milliseconds(60000));
      !s) {
    return s;
  }
  if (Status s = check_between("election_timeout", election_timeout, milliseconds(100),
                               milliseconds(600000));
      !s) {
    return s;
  }
  if (election_timeout < 4 * heartbeat_interval) {
    return out_of_range("election_timeout", "at least four times heartbeat_interval (" +
                                                in_ms(heartbeat_interval) + "), it is " +
                                                in_ms(election_timeout));
  }
  if (failover_priority < 0 || failover_priority > raft::kMaxPriority) {
    return out_of_range("failover_priority", "between 0 and 100");
  }
  if (max_log_entries == 0 || max_log_entries > 1000000) {
    return out_of_range("max_log_entries", "between 1 and 1000000");
  }
  return check_between("request_timeout", request_timeout, milliseconds(100),
                       milliseconds(3600000));
}

Result<std::unique_ptr<Node>> Node::start(const NodeConfig& config, DatabaseHost* host) {
  if (Status s = config.validate(); !s) return s;
  if (host == nullptr && !config.pgdata.empty()) {
    return Status(Code::kInvalidArgument, "a node with a data directory needs its database");
  }
  // LevelDB and the transport create threads too; all of them inherit this.
  const SignalBlocker blocked;
  auto node = std::make_unique<NodeImpl>(config, host);
  if (Status s = node->open(); !s) return s;
  return std::unique_ptr<Node>(std::move(node));
}

struct SignalBlocker::Mask {
  sigset_t signals;
};

SignalBlocker::SignalBlocker() : before_(std::make_unique<Mask>()) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before_->signals);
}

SignalBlocker::~SignalBlocker() { pthread_sigmask(SIG_SETMASK, &before_->signals, nullptr); }

void Prober::start() { thread_ = std::thread(&Prober::run, this); }

bool Prober::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || jobs_.size() >= kMaxWaiting) return false;
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
  return true;
}

void Prober::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

// Jobs that are left at the end run too, but only to say that the node is stopping (see
// NodeImpl::add_node).
void Prober::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
}

NodeImpl::NodeImpl(const NodeConfig& config, DatabaseHost* host)
    : config_(config),
      host_(host),
      tick_(std::max(kLeastTick, config.heartbeat_interval / 5)),
      election_ticks_(static_cast<int>(config.election_timeout / 2 / tick_)),
      heartbeat_ticks_(static_cast<int>(config.heartbeat_interval / tick_)) {}

NodeImpl::~NodeImpl() { stop(); }

Status NodeImpl::open() {
  const BindingRequest request = {config_.data_dir, config_.pgdata, config_.node_id,
                                  config_.cluster_name, config_.system_identifier};
  Result<Binding> bound = config_.without_data ? bind_without_data(request) : bind(request);
  if (!bound) return bound.status();
  binding_ = std::move(bound).value();
  identity_ = binding_.identity;
  const Result<WalEndFile> wal_end = read_wal_end(config_.data_dir);
  if (!wal_end && wal_end.status().code() != Code::kNotFound) return wal_end.status();
  if (wal_end && wal_end->binding == identity_.binding) wal_end_ = wal_end->end;

  if (Status s = open_log(); !s) return s;
  if (Status s = create_replica(); !s) return s;
  if (Status s = settle_cluster_id(); !s) return s;

  transport::Config listen;
  listen.listen_address = config_.listen_address;
  listen.listen_port = config_.listen_port;
  port_ = config_.listen_port;
  publish_status();  // the first question may come before the loop runs
  Result<std::unique_ptr<transport::Transport>> transport =
      transport::Transport::start(listen, identity(), this);
  if (!transport) return transport.status();
  transport_ = std::move(transport).value();
  port_ = transport_->port();
  transport_->set_identity(identity());
  publish_status();

  prober_.start();
  loop_ = std::thread(&NodeImpl::run, this);
  return Status::ok();
}

Status NodeImpl::open_log() {
  const std::string directory = config_.data_dir + "/raft";
  ::mkdir(directory.c_str(), 0700);  // the store says why, when this could not be
  Result<std::unique_ptr<storage::LogStore>> store = storage::open_leveldb_store(directory);
  if (!store) return store.status();
  store_ = std::move(store).value();
  const auto written = [this] {
    {
      const std::lock_guard lock(queue_mutex_);
      written_ = true;
    }
    queue_wake_.notify_one();
  };
  writer_ = std::make_unique<ThreadedLogWriter>(store_.get(), written, config_.sync_writes);
  return Status::ok();
}

Replica::Options NodeImpl::replica_options() const {
  Replica::Options options;
  options.raft.id = config_.node_id;
  options.raft.incarnation = identity_.incarnation;
  options.raft.election_ticks = election_ticks_;
  options.raft.heartbeat_ticks = heartbeat_ticks_;
  options.wal_status_ticks = std::max(1, static_cast<int>(kWalStatusInterval / tick_));
  options.raft.max_inflight_bytes = kMaxInflightBytes;
  options.raft.seed = config_.seed != 0 ? config_.seed : random_id();
  const auto& rejoin = binding_.rejoin;
  if (rejoin && rejoin->state == RejoinState::kCatchingUp) {
    options.failover.abstain_until = rejoin->target;  // rule 3
  }
  options.failover.without_data = config_.without_data;
  // Not what has no source: an operator wants it whoever leads, or the WAL is to be trusted by
  // nobody.
  options.failover.rejoin_requested = rejoin && !config_.without_data &&
                                      rejoin->state == RejoinState::kRequested &&
                                      rejoin->source_node != raft::kNoNode;
  options.failover.wal_end = wal_end_;
  options.failover.switches = config_.switches;
  options.with_database = has_controller();
  options.priority = config_.without_data ? 0 : config_.failover_priority;
  options.tick_ms = static_cast<int>(tick_.count());
  options.request_timeout_ticks = static_cast<int>(config_.request_timeout / tick_);
  return options;
}

Status NodeImpl::create_replica() {
  Result<std::unique_ptr<Replica>> made =
      Replica::create(replica_options(), store_.get(), writer_.get(), this, this);
  if (!made) return made.status();
  if (replica_) (*made)->observe(replica_->database());
  const std::unique_lock lock(machine_mutex_);
  replica_ = std::move(made).value();
  tick_times_ = {Clock::now()};
  is_member_ = replica_->is_member();
  return Status::ok();
}

// The store is the truth about the cluster; the file follows it, for what reads files only.
Status NodeImpl::settle_cluster_id() {
  const std::uint64_t stored = replica_->machine().cluster_id();
  if (identity_.cluster_id == stored) return Status::ok();
  // File ahead of the store: init() was interrupted between the two. The node has never voted and
  // begins again.
  if (stored == 0 && !store_->is_blank()) {
    return {Code::kMismatch,
            "\"" + config_.data_dir + "\" belongs to a cluster, but its Raft log is not of one"};
  }
  if (stored != 0 && identity_.cluster_id != 0) {  // rule 10
    return {Code::kMismatch, "the Raft log in \"" + config_.data_dir + "\" is of cluster " +
                                 std::to_string(stored) + ", its identity file of cluster " +
                                 std::to_string(identity_.cluster_id)};
  }
  identity_.cluster_id = stored;
  binding_.identity = identity_;
  return write_identity(config_.data_dir, identity_);
}

void NodeImpl::stop() {
  const std::lock_guard once(stop_mutex_);
  {
    const std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  }
  queue_wake_.notify_one();
  if (loop_.joinable()) loop_.join();
  prober_.stop();
  if (transport_) transport_->stop();
  if (replica_) {
    const std::unique_lock lock(machine_mutex_);
    replica_->stop();  // what still waits is told
  }
  writer_.reset();
  store_.reset();
}

}  // namespace pgraft::node
