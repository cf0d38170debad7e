#include "libpgraft/transport/peer.h"

#include <algorithm>
#include <utility>

#include "libpgraft/transport/handshake.h"

namespace pgraft::transport {
namespace {

constexpr std::size_t kWriteBytes = 1u << 20;   // of one batch, beyond its first message
constexpr std::size_t kHeaderMarginBytes = 64;  // of a snapshot's header around the message

std::string encode_messages(const std::vector<raft::Message>& messages, Traffic* traffic) {
  if (messages.empty()) return {};
  std::vector<std::size_t> bytes;
  std::string frame = encode_frame(FrameType::kMessages, encode_sized(messages, &bytes));
  traffic->count_frame(messages, bytes, frame.size());
  return frame;
}

// One frame for the messages, one for each of the rest.
std::string encode_batch(std::vector<OutboxItem> items, Traffic* traffic) {
  std::vector<raft::Message> messages;
  std::string others;
  for (OutboxItem& item : items) {
    if (auto* message = std::get_if<raft::Message>(&item.content)) {
      messages.push_back(std::move(*message));
    } else if (const auto* report = std::get_if<failover::Report>(&item.content)) {
      const std::string frame = encode_frame(FrameType::kReport, encode(*report));
      traffic->count(Traffic::kReport, frame.size());
      others += frame;
    } else {
      const std::string frame =
          encode_frame(FrameType::kWalStatus, encode(std::get<failover::WalStatus>(item.content)));
      traffic->count(Traffic::kWalStatus, frame.size());
      others += frame;
    }
  }
  return encode_messages(messages, traffic) + others;
}

}  // namespace

Peer::Peer(Environment* env, PeerAddress address)
    : env_(env),
      address_(std::move(address)),
      backoff_(env->config.reconnect_min),
      timer_(env->io),
      resolver_(env->io, address_.host, address_.port),
      snapshot_(&env->config, &env->snapshot_rate),
      snapshot_timer_(env->io) {
  attempt();
}

Peer::~Peer() = default;

std::string Peer::name() const {
  return "node " + std::to_string(address_.id) + " (" +
         format_address(address_.host, address_.port) + ")";
}

void Peer::arm(std::chrono::milliseconds delay, void (Peer::*then)()) {
  step_.renew();
  timer_.expires_after(delay);
  timer_.async_wait(step_.guard([this, then](asio::error_code error) {
    if (!error) (this->*then)();
  }));
}

void Peer::attempt() {
  attempt_.renew();
  state_ = State::kResolving;
  arm(env_->config.connect_timeout, &Peer::give_up_step);
  resolver_.resolve([this](Result<Resolver::Endpoints> found) {
    if (state_ != State::kResolving) return;
    if (found.is_ok()) endpoints_ = std::move(*found);
    if (endpoints_.empty()) return disconnect(found.status().message());
    state_ = State::kConnecting;
    connect_to(0);
  });
}

void Peer::connect_to(std::size_t i) {
  const tcp::endpoint endpoint = endpoints_[i];
  asio::error_code error;
  socket_.emplace(env_->io);
  socket_->open(endpoint.protocol(), error);
  if (error) return disconnect(error_text(error));
  set_options(*socket_);
  socket_->async_connect(endpoint, attempt_.guard([this, i](asio::error_code failed) {
    if (!failed) return greet();
    if (i + 1 < endpoints_.size()) return connect_to(i + 1);
    if (failed == asio::error::connection_refused && was_ready_) {
      was_ready_ = false;
      report_lost(error_text(failed));
    }
    disconnect(error_text(failed));
  }));
}

void Peer::greet() {
  state_ = State::kGreeting;
  arm(env_->config.handshake_timeout, &Peer::give_up_step);
  hello_ = {env_->self(), address_.id, address_.incarnation};
  stream_ = std::make_unique<Stream>(std::move(*socket_), static_cast<StreamOwner*>(this));
  socket_.reset();
  stream_->start_reading();
  stream_->write(encode_frame(FrameType::kHello, encode(hello_)));
}

void Peer::give_up_step() {
  if (state_ == State::kResolving && !endpoints_.empty()) {
    // The name service does not answer: the address was good before.
    resolver_.cancel();
    state_ = State::kConnecting;
    arm(env_->config.connect_timeout, &Peer::give_up_step);
    return connect_to(0);
  }
  const char* step = state_ == State::kResolving    ? "resolving its address"
                     : state_ == State::kConnecting ? "connecting"
                                                    : "waiting for its greeting";
  disconnect(std::string("timed out while ") + step);
}

void Peer::on_frame(Frame frame) {
  if (state_ == State::kGreeting && frame.type == FrameType::kWelcome) return on_welcome(frame);
  if (state_ == State::kGreeting && frame.type == FrameType::kRefused) {
    return refuse(clean_reason(frame.payload));
  }
  if (state_ == State::kReady && frame.type == FrameType::kSnapshotAck) {
    return on_snapshot_ack(frame);
  }
  refuse("received a frame that does not belong here, type " +
         std::to_string(static_cast<int>(frame.type)));
}

void Peer::on_welcome(const Frame& frame) {
  const Result<Identity> acceptor = decode_identity(frame.payload);
  if (!acceptor.is_ok()) return refuse(acceptor.status().message());
  if (Status s = check_welcome(hello_, *acceptor); !s.is_ok()) return refuse(s.message());
  become_ready();
}

void Peer::become_ready() {
  step_.renew();
  timer_.cancel();
  state_ = State::kReady;
  was_ready_ = true;
  backoff_ = env_->config.reconnect_min;
  env_->outboxes.connected(address_.id);
  snapshot_.connected();
  pump();
}

void Peer::pump() {
  if (state_ == State::kReady && !stream_->writing()) write_next();
  watch_snapshot();
}

// What waits in the outbox, then at most one piece of the snapshot: that is how long a message may
// have to wait for it.
void Peer::write_next() {
  std::vector<OutboxItem> items =
      env_->outboxes.take(address_.id, kWriteBytes, kMaxMessagesPerFrame);
  in_flight_ = {};
  std::string bytes = encode_batch(std::move(items), &in_flight_);
  const std::string piece = snapshot_.next_frame(std::chrono::steady_clock::now());
  in_flight_.types[Traffic::of(raft::MessageType::kSnapshot)].bytes += piece.size();
  bytes += piece;
  if (!bytes.empty()) stream_->write(std::move(bytes));
}

void Peer::send_snapshot(raft::Message message) {
  const std::size_t data = message.snapshot == nullptr ? 0 : message.snapshot->data.size();
  const std::size_t header = encoded_bytes_max(message) - data + kHeaderMarginBytes;
  if (header > kMaxFrameBytes) {
    return conclude({1, false,
                     "snapshot message of " + std::to_string(header) +
                         " bytes besides its data is over the limit of a frame, " +
                         std::to_string(kMaxFrameBytes)});
  }
  conclude(snapshot_.start(std::move(message), std::chrono::steady_clock::now()));
  pump();
}

void Peer::on_snapshot_ack(const Frame& frame) {
  const Result<SnapshotAck> ack = decode_snapshot_ack(frame.payload);
  if (!ack.is_ok()) return refuse(ack.status().message());
  const Result<SnapshotOutcome> outcome =
      snapshot_.acknowledged(*ack, std::chrono::steady_clock::now());
  if (!outcome.is_ok()) return refuse(outcome.status().message());
  if (ack->answer == SnapshotAnswer::kRefused && outcome->messages > 0) {
    env_->refusals.report(name(), outcome->reason);
  }
  conclude(*outcome);
  pump();
}

// While something is being written its end is what comes next; the deadline counts always.
void Peer::watch_snapshot() {
  show_progress();
  std::optional<SnapshotSender::TimePoint> at = snapshot_.deadline();
  if (state_ == State::kReady && !stream_->writing()) {
    const auto turn = snapshot_.next_turn();
    if (turn && (!at || *turn < *at)) at = turn;
  }
  if (!at) return;
  snapshot_timer_.expires_at(*at);
  snapshot_timer_.async_wait(alive_.guard([this](asio::error_code error) {
    if (error) return;
    conclude(snapshot_.give_up_if_overdue(std::chrono::steady_clock::now()));
    pump();
  }));
}

void Peer::show_progress() {
  env_->outboxes.snapshot_progress(address_.id, snapshot_.bytes_acknowledged(),
                                   snapshot_.bytes_total());
}

// What the statistics say is true by the time the handler is told.
void Peer::conclude(const SnapshotOutcome& outcome) {
  if (outcome.messages == 0) return;
  show_progress();
  if (outcome.arrived) {
    Traffic arrived;
    arrived.types[Traffic::of(raft::MessageType::kSnapshot)].messages = outcome.messages;
    env_->outboxes.sent(address_.id, arrived);
  } else {
    env_->outboxes.dropped(address_.id, outcome.messages, outcome.reason);
  }
  for (std::size_t i = 0; i < outcome.messages; ++i) {
    env_->handler->on_snapshot_sent(address_.id, outcome.arrived);
  }
}

void Peer::on_written() {
  if (state_ != State::kReady) return;  // the greeting
  env_->outboxes.sent(address_.id, in_flight_);
  in_flight_ = {};
  pump();
}

void Peer::on_stream_end(StreamEnd end, const Status& why) {
  if (end == StreamEnd::kProtocol) return refuse(why.message());
  if (end == StreamEnd::kLost && state_ == State::kReady) report_lost(why.message());
  disconnect(why.message());
}

void Peer::report_lost(const std::string& reason) {
  env_->handler->on_peer_lost(address_.id, reason);
}

void Peer::refuse(const std::string& reason) {
  env_->refusals.report(name(), reason);
  disconnect(reason);
}

void Peer::retire() {
  conclude(snapshot_.give_up("the snapshot was given up: the member was removed or has moved"));
  drop("the member's address has changed");
}

void Peer::drop(const std::string& reason) {
  attempt_.renew();
  step_.renew();
  resolver_.cancel();
  stream_.reset();
  socket_.reset();
  state_ = State::kWaiting;
  in_flight_ = {};
  env_->outboxes.disconnected(address_.id, reason);
  snapshot_.disconnected(std::chrono::steady_clock::now());
  watch_snapshot();
}

void Peer::disconnect(const std::string& reason) {
  drop(reason);

  // Jitter: two nodes that lost each other do not keep knocking at the same moments.
  const auto half = backoff_ / 2;
  std::uniform_int_distribution<std::int64_t> jitter(0, std::max<std::int64_t>(half.count(), 1));
  arm(half + std::chrono::milliseconds(jitter(env_->random)), &Peer::attempt);
  backoff_ = std::min(backoff_ * 2, env_->config.reconnect_max);
}

void Peer::heard_from() {
  backoff_ = env_->config.reconnect_min;
  // A connect that hangs was begun while the host was away; its next SYN may be a second off.
  if (state_ != State::kWaiting && state_ != State::kConnecting) return;
  socket_.reset();
  attempt();
}

}  // namespace pgraft::transport
