// The transport over asio TCP: the listening socket, the sessions it accepted, the peers it
// connects to, and the one thread that runs them.

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "libpgraft/transport/environment.h"
#include "libpgraft/transport/net.h"
#include "libpgraft/transport/peer.h"
#include "libpgraft/transport/session.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::transport {
namespace {

constexpr std::size_t kReportBytes = 64;  // of a report or a WAL status in the outbox's account
constexpr std::chrono::milliseconds kAcceptRetry{100};
constexpr std::size_t kMaxChunkBytes = 16u << 20;
constexpr std::size_t kMaxWindowChunks = 1024;

// Opens a listening socket on the first address that `host` stands for and that can be had.
Status listen_on(tcp::acceptor* acceptor, const std::string& host, std::uint16_t port) {
  const std::string context = "could not listen on " + format_address(host, port);
  const Result<Resolver::Endpoints> endpoints = look_up(host == "*" ? "" : host, port, true);
  if (!endpoints.is_ok()) {
    return Status(Code::kIo, endpoints.status().message()).with_context(context);
  }
  asio::error_code error;
  for (const tcp::endpoint& endpoint : *endpoints) {
    error.clear();
    acceptor->open(endpoint.protocol(), error);
    if (error) continue;
    set_close_on_exec(acceptor->native_handle());
    acceptor->set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
    if (!error) return Status::ok();
    asio::error_code ignored;
    acceptor->close(ignored);
  }
  return Status(Code::kIo, error_text(error)).with_context(context);
}

class TcpTransport final : public Transport, private SessionOwner {
 public:
  TcpTransport(const Config& config, const Identity& self, Handler* handler)
      : env_(config, self, handler),
        acceptor_(env_.io),
        accept_timer_(env_.io),
        snapshots_timer_(env_.io) {}

  ~TcpTransport() override { stop(); }

  Status open() {
    if (Status s = listen_on(&acceptor_, env_.config.listen_address, env_.config.listen_port);
        !s.is_ok()) {
      return s;
    }
    asio::error_code error;
    port_ = acceptor_.local_endpoint(error).port();
    if (error) return {Code::kIo, "could not tell the listening port: " + error_text(error)};
    accept_next();
    return start_thread();
  }

  std::uint16_t port() const override { return port_; }

  void set_identity(const Identity& self) override { env_.set_self(self); }

  void set_peers(const std::vector<PeerAddress>& peers) override {
    const raft::NodeId self = env_.self().node_id;
    std::vector<PeerAddress> others;
    std::vector<raft::NodeId> ids;
    for (const PeerAddress& peer : peers) {
      if (peer.id == self || peer.id == raft::kNoNode) continue;
      others.push_back(peer);
      ids.push_back(peer.id);
    }
    // In one step with the posting, so that concurrent calls leave outboxes and connections alike.
    const std::lock_guard<std::mutex> lock(set_peers_mutex_);
    env_.outboxes.remove_all_but(ids);
    for (const raft::NodeId id : ids) env_.outboxes.add(id);
    asio::post(env_.io, [this, others = std::move(others)] { apply_peers(others); });
  }

  void send(raft::Message message) override {
    if (message.type == raft::MessageType::kSnapshot) return send_snapshot(std::move(message));
    const raft::NodeId to = message.to;
    const std::size_t bytes = encoded_bytes_max(message);
    put(to, {std::move(message), bytes});
  }

  void send_report(raft::NodeId to, const failover::Report& report) override {
    put(to, {report, kReportBytes});
  }

  void send_wal_status(raft::NodeId to, const failover::WalStatus& status) override {
    put(to, {status, kReportBytes});
  }

  PeerStats peer_stats(raft::NodeId id) const override { return env_.outboxes.stats(id); }
  std::uint64_t refused_connections() const override { return env_.refusals.count(); }

  void stop() override {
    const std::lock_guard<std::mutex> lock(stop_mutex_);
    if (!thread_.joinable()) return;
    env_.io.stop();
    thread_.join();
    // The loop runs no more: what handlers refer to can go, sockets are closed by it.
    sessions_.clear();
    peers_.clear();
    asio::error_code ignored;
    acceptor_.close(ignored);
  }

 private:
  // The host process's signal handlers must not run on this thread.
  Status start_thread() {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    Status result;
    try {
      thread_ = std::thread([this] { env_.io.run(); });
    } catch (const std::system_error& e) {
      result =
          Status(Code::kIo, std::string("could not start the transport's thread: ") + e.what());
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return result;
  }

  void put(raft::NodeId to, OutboxItem item) {
    if (!env_.outboxes.put(to, std::move(item))) return;
    asio::post(env_.io, [this, to] {
      const auto found = peers_.find(to);
      if (found != peers_.end()) found->second->pump();
    });
  }

  void send_snapshot(raft::Message message) {
    asio::post(env_.io, [this, message = std::move(message)] {
      const auto found = peers_.find(message.to);
      if (found != peers_.end()) return found->second->send_snapshot(message);
      env_.handler->on_snapshot_sent(message.to, false);
    });
  }

  // --- the rest runs on the thread ---

  void apply_peers(const std::vector<PeerAddress>& wanted) {
    for (auto it = peers_.begin(); it != peers_.end();) {
      const bool stays =
          std::find(wanted.begin(), wanted.end(), it->second->address()) != wanted.end();
      if (stays) {
        ++it;
        continue;
      }
      std::unique_ptr<Peer> gone = std::move(it->second);
      it = peers_.erase(it);
      gone->retire();
    }
    for (const PeerAddress& address : wanted) {
      if (!peers_.contains(address.id)) {
        peers_.emplace(address.id, std::make_unique<Peer>(&env_, address));
      }
    }
  }

  void accept_next() {
    acceptor_.async_accept([this](asio::error_code error, tcp::socket socket) {
      if (error) {
        // Out of descriptors, most likely: at once again would spin.
        accept_timer_.expires_after(kAcceptRetry);
        accept_timer_.async_wait([this](asio::error_code) { accept_next(); });
        return;
      }
      set_options(socket);
      if (sessions_.size() < env_.config.max_incoming_connections) {
        auto session =
            std::make_unique<Session>(&env_, static_cast<SessionOwner*>(this), std::move(socket));
        Session* key = session.get();
        sessions_.emplace(key, std::move(session));
      } else {
        asio::error_code unknown;
        const std::string remote = socket.remote_endpoint(unknown).address().to_string();
        env_.refusals.report(remote, "too many incoming connections, the limit is " +
                                         std::to_string(env_.config.max_incoming_connections));
      }
      accept_next();
    });
  }

  raft::Incarnation known_incarnation(raft::NodeId id) const override {
    const auto found = peers_.find(id);
    return found == peers_.end() ? 0 : found->second->address().incarnation;
  }

  void on_greeted(Session* session) override {
    for (const auto& [other, owned] : sessions_) {
      if (other != session && other->peer() == session->peer()) other->close();
    }
    const auto found = peers_.find(session->peer());
    if (found != peers_.end()) found->second->heard_from();
  }

  // Later, since it is one of the session's own functions that calls.
  void on_session_end(Session* session) override {
    asio::post(env_.io, [this, session] { sessions_.erase(session); });
  }

  void on_snapshot_progress() override {
    const auto deadline = env_.snapshots.next_deadline();
    if (snapshots_watched_ || !deadline) return;
    snapshots_watched_ = true;
    snapshots_timer_.expires_at(*deadline);
    snapshots_timer_.async_wait([this](asio::error_code) {
      snapshots_watched_ = false;
      env_.snapshots.drop_stalled(std::chrono::steady_clock::now());
      on_snapshot_progress();
    });
  }

  Environment env_;
  tcp::acceptor acceptor_;
  asio::steady_timer accept_timer_;
  asio::steady_timer snapshots_timer_;
  bool snapshots_watched_ = false;  // by the timer: deadlines only move away from it
  std::uint16_t port_ = 0;
  std::map<raft::NodeId, std::unique_ptr<Peer>> peers_;
  std::map<Session*, std::unique_ptr<Session>> sessions_;
  std::mutex set_peers_mutex_;
  std::mutex stop_mutex_;
  std::thread thread_;
};

}  // namespace

Status Config::validate() const {
  if (snapshot_chunk_bytes == 0 || snapshot_chunk_bytes > kMaxChunkBytes) {
    return {Code::kInvalidArgument,
            "snapshot_chunk_bytes must be between 1 and " + std::to_string(kMaxChunkBytes)};
  }
  if (snapshot_window_chunks == 0 || snapshot_window_chunks > kMaxWindowChunks) {
    return {Code::kInvalidArgument,
            "snapshot_window_chunks must be between 1 and " + std::to_string(kMaxWindowChunks)};
  }
  // A receiver that gets no chunk for so long forgets the transfer, so each must get one.
  const double chunks_in_time = static_cast<double>(snapshot_bytes_per_second) *
                                std::chrono::duration<double>(snapshot_stall_timeout).count() /
                                static_cast<double>(snapshot_chunk_bytes);
  if (snapshot_bytes_per_second != 0 && chunks_in_time < state::kMaxMembers) {
    return {Code::kInvalidArgument, "snapshot_bytes_per_second is too low: a chunk for each of " +
                                        std::to_string(state::kMaxMembers) +
                                        " members must pass within snapshot_stall_timeout"};
  }
  return Status::ok();
}

Result<std::unique_ptr<Transport>> Transport::start(const Config& config, const Identity& self,
                                                    Handler* handler) {
  if (Status s = config.validate(); !s.is_ok()) return s;
  auto transport = std::make_unique<TcpTransport>(config, self, handler);
  if (Status s = transport->open(); !s.is_ok()) return s;
  return std::unique_ptr<Transport>(std::move(transport));
}

}  // namespace pgraft::transport
