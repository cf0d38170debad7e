// An accepted connection: either a peer's messages after a handshake, with acknowledgements of the
// snapshots among them, or one request and its answer. Event loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/environment.h"
#include "libpgraft/transport/net.h"
#include "libpgraft/transport/stream.h"

namespace pgraft::transport {

class Session;

// Both may be called from within the session; `on_end` must not destroy it before the call has
// returned.
class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  virtual raft::Incarnation known_incarnation(raft::NodeId id) const = 0;  // 0: not known
  virtual void on_greeted(
      Session* session) = 0;  // its peer() is up, and what it had before is stale
  virtual void on_session_end(Session* session) = 0;
  virtual void on_snapshot_progress() = 0;  // env->snapshots has another deadline
};

class Session final : private StreamOwner {
 public:
  Session(Environment* env, SessionOwner* owner, tcp::socket socket);

  raft::NodeId peer() const { return peer_; }  // 0 before the handshake
  void close();                                // without a report

 private:
  enum class State : std::uint8_t { kFirstFrame, kMessages, kClosing, kClosed };

  void on_first_frame(const Frame& frame);
  void on_hello(const Frame& frame);
  void on_messages(const Frame& frame);
  void on_report(const Frame& frame);
  void on_wal_status(const Frame& frame);
  void on_snapshot_header(const Frame& frame);
  void on_snapshot_chunk(const Frame& frame);
  void after(SnapshotReceiver::Step step);
  void acknowledge(SnapshotAck ack);
  void write_ack();
  void answer_status(const Frame& request);
  void count(std::size_t type, std::uint64_t messages, const Frame& frame);
  void answer_and_close(FrameType type, const std::string& payload);
  void refuse(const std::string& reason);  // told to both sides
  void end(const std::string& garbage);    // told to the handler, if not empty
  std::string name() const;

  void on_frame(Frame frame) override;
  void on_written() override;
  void on_stream_end(StreamEnd end, const Status& why) override;

  Environment* env_;
  SessionOwner* owner_;
  State state_ = State::kFirstFrame;
  std::string remote_;  // its address without the port, which differs each time
  raft::NodeId peer_ = 0;
  raft::Incarnation incarnation_ = 0;  // the peer's
  std::optional<SnapshotAck> ack_;     // to be written
  std::unique_ptr<Stream> stream_;
  asio::steady_timer deadline_;
  Alive alive_;
};

}  // namespace pgraft::transport
