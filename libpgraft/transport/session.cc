#include "libpgraft/transport/session.h"

#include <algorithm>
#include <utility>

#include "libpgraft/transport/handshake.h"

namespace pgraft::transport {

Session::Session(Environment* env, SessionOwner* owner, tcp::socket socket)
    : env_(env), owner_(owner), deadline_(env->io) {
  asio::error_code error;
  const tcp::endpoint remote = socket.remote_endpoint(error);
  remote_ = error ? "unknown address" : remote.address().to_string();
  stream_ = std::make_unique<Stream>(std::move(socket), static_cast<StreamOwner*>(this));
  stream_->start_reading();
  deadline_.expires_after(env->config.handshake_timeout);
  deadline_.async_wait(alive_.guard([this](asio::error_code cancelled) {
    if (!cancelled) end("");
  }));
}

std::string Session::name() const {
  return peer_ == 0 ? remote_ : "node " + std::to_string(peer_) + " (" + remote_ + ")";
}

void Session::close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  alive_.renew();
  stream_.reset();
  owner_->on_session_end(this);
}

void Session::end(const std::string& garbage) {
  if (!garbage.empty()) env_->refusals.report(name(), garbage);
  close();
}

void Session::on_frame(Frame frame) {
  switch (state_) {
    case State::kFirstFrame: return on_first_frame(frame);
    case State::kMessages:
      if (frame.type == FrameType::kMessages) return on_messages(frame);
      if (frame.type == FrameType::kReport) return on_report(frame);
      if (frame.type == FrameType::kWalStatus) return on_wal_status(frame);
      if (frame.type == FrameType::kSnapshotHeader) return on_snapshot_header(frame);
      if (frame.type == FrameType::kSnapshotChunk) return on_snapshot_chunk(frame);
      return end("sent a frame that does not belong here, type " +
                 std::to_string(static_cast<int>(frame.type)));
    case State::kClosing:
    case State::kClosed: return;
  }
}

void Session::on_first_frame(const Frame& frame) {
  switch (frame.type) {
    case FrameType::kHello: return on_hello(frame);
    case FrameType::kQueryIdentity:
      return answer_and_close(FrameType::kIdentity, encode(env_->self()));
    case FrameType::kQueryStatus: return answer_status(frame);
    default:
      return end("began with a frame of type " + std::to_string(static_cast<int>(frame.type)));
  }
}

// Versions before 0.2.0 ask with an empty frame, and take what they don't know for damage.
void Session::answer_status(const Frame& request) {
  const std::uint8_t form =
      request.payload.empty() ? 1 : static_cast<std::uint8_t>(request.payload[0]);
  ClusterStatus status = env_->handler->on_status_request();
  if (form < kStatusForm) status.more.reset();
  answer_and_close(FrameType::kStatus, encode(status));
}

void Session::on_hello(const Frame& frame) {
  const Result<Hello> hello = decode_hello(frame.payload);
  if (!hello.is_ok()) return end(hello.status().message());
  const Identity self = env_->self();
  const raft::NodeId id = hello->identity.node_id;
  if (Status s = check_hello(self, *hello, owner_->known_incarnation(id)); !s.is_ok()) {
    remote_ = "node " + std::to_string(id) + " (" + remote_ + ")";
    return refuse(s.message());
  }
  peer_ = id;
  incarnation_ = hello->identity.incarnation;
  state_ = State::kMessages;
  deadline_.cancel();
  stream_->set_max_payload(kMaxFrameBytes);
  stream_->write(encode_frame(FrameType::kWelcome, encode(self)));
  env_->handler->on_greeted(hello->identity);
  owner_->on_greeted(this);
}

void Session::count(std::size_t type, std::uint64_t messages, const Frame& frame) {
  Traffic traffic;
  traffic.types[type] = {messages, kFrameHeaderBytes + frame.payload.size()};
  env_->outboxes.received(peer_, traffic);
}

void Session::on_messages(const Frame& frame) {
  std::vector<std::size_t> bytes;
  Result<std::vector<raft::Message>> messages = decode_messages_sized(frame.payload, &bytes);
  if (!messages.is_ok()) return end(messages.status().message());
  const bool own = std::all_of(messages->begin(), messages->end(),
                               [this](const raft::Message& m) { return m.from == peer_; });
  if (!own) return end("sent a message in the name of another node");
  const bool whole = std::any_of(messages->begin(), messages->end(), [](const raft::Message& m) {
    return m.type == raft::MessageType::kSnapshot;
  });
  if (whole) return end("sent a snapshot that it had not announced");
  if (messages->empty()) return;
  Traffic traffic;
  traffic.count_frame(*messages, bytes, kFrameHeaderBytes + frame.payload.size());
  env_->outboxes.received(peer_, traffic);
  env_->handler->on_messages(std::move(*messages));
}

void Session::on_report(const Frame& frame) {
  const Result<failover::Report> report = decode_report(frame.payload);
  if (!report.is_ok()) return end(report.status().message());
  if (report->from != peer_) return end("sent a report in the name of another node");
  count(Traffic::kReport, 1, frame);
  env_->handler->on_report(*report);
}

void Session::on_wal_status(const Frame& frame) {
  const Result<failover::WalStatus> status = decode_wal_status(frame.payload);
  if (!status.is_ok()) return end(status.status().message());
  if (status->from != peer_) return end("sent a WAL status in the name of another node");
  count(Traffic::kWalStatus, 1, frame);
  env_->handler->on_wal_status(*status);
}

void Session::on_snapshot_header(const Frame& frame) {
  Result<SnapshotHeader> header = decode_snapshot_header(frame.payload);
  if (!header.is_ok()) return end(header.status().message());
  if (header->message.from != peer_) return end("sent a snapshot in the name of another node");
  count(Traffic::of(raft::MessageType::kSnapshot), 0, frame);
  after(env_->snapshots.on_header(peer_, incarnation_, std::move(*header),
                                  std::chrono::steady_clock::now()));
}

void Session::on_snapshot_chunk(const Frame& frame) {
  const Result<SnapshotChunk> chunk = decode_snapshot_chunk(frame.payload);
  if (!chunk.is_ok()) return end(chunk.status().message());
  count(Traffic::of(raft::MessageType::kSnapshot), 0, frame);
  after(env_->snapshots.on_chunk(peer_, *chunk, std::chrono::steady_clock::now()));
}

void Session::after(SnapshotReceiver::Step step) {
  if (step.ack.answer == SnapshotAnswer::kRefused) {
    env_->refusals.report(name(), "its snapshot was refused: " + step.ack.reason);
  }
  if (step.message) {
    Traffic arrived;
    arrived.count(Traffic::of(raft::MessageType::kSnapshot), 0);
    env_->outboxes.received(peer_, arrived);
    std::vector<raft::Message> messages;
    messages.push_back(std::move(*step.message));
    env_->handler->on_messages(std::move(messages));
  }
  acknowledge(std::move(step.ack));
  owner_->on_snapshot_progress();
}

// The newest says all that those before it said, except why a transfer was refused: the chunks that
// were on their way then are refused for want of a transfer.
void Session::acknowledge(SnapshotAck ack) {
  const bool told =
      ack_ && ack_->transfer == ack.transfer && ack_->answer == SnapshotAnswer::kRefused;
  if (!told) ack_ = std::move(ack);
  if (!stream_->writing()) write_ack();
}

void Session::write_ack() {
  const SnapshotAck ack = std::move(*ack_);
  ack_.reset();
  stream_->write(encode_frame(FrameType::kSnapshotAck, encode(ack)));
}

void Session::refuse(const std::string& reason) {
  env_->refusals.report(name(), reason);
  answer_and_close(FrameType::kRefused, clean_reason(reason));
}

// Closing with input unread would reset the connection and could destroy the answer on its way: so
// the rest is read and thrown away until the other side closes or the deadline is over.
void Session::answer_and_close(FrameType type, const std::string& payload) {
  state_ = State::kClosing;
  stream_->discard_input();
  stream_->write(encode_frame(type, payload));
}

void Session::on_written() {
  if (state_ == State::kClosing) stream_->shutdown_send();
  if (state_ == State::kMessages && ack_) write_ack();
}

void Session::on_stream_end(StreamEnd how, const Status& why) {
  if (state_ == State::kFirstFrame && why.code() == Code::kMismatch) {
    // Another protocol version. The stream has stopped reading; its deadline closes it.
    return refuse(why.message());
  }
  if (how == StreamEnd::kProtocol) return end(why.message());
  if (how == StreamEnd::kLost && state_ == State::kMessages) {
    env_->handler->on_peer_lost(peer_, why.message());
  }
  close();
}

}  // namespace pgraft::transport
