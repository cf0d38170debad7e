// The outgoing connection to one peer: connect, greet, send what its outbox holds and, between
// that, the snapshot that is on its way; and again with back-off when it breaks.
//
// An attempt (resolve, connect, greet) has a deadline in each step. Event loop thread only.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/environment.h"
#include "libpgraft/transport/net.h"
#include "libpgraft/transport/snapshot_sender.h"
#include "libpgraft/transport/stream.h"

namespace pgraft::transport {

class Peer final : private StreamOwner {
 public:
  Peer(Environment* env, PeerAddress address);
  ~Peer() override;

  const PeerAddress& address() const { return address_; }

  // The outbox may have something new.
  void pump();
  void send_snapshot(raft::Message message);
  // Before it is destroyed while the transport lives: what it had to send is gone, and that is
  // told.
  void retire();
  // It was heard from, so it is up: try at once instead of waiting out the back-off.
  void heard_from();

 private:
  enum class State : std::uint8_t { kWaiting, kResolving, kConnecting, kGreeting, kReady };

  void attempt();
  void connect_to(std::size_t i);
  void greet();
  void on_welcome(const Frame& frame);
  void on_snapshot_ack(const Frame& frame);
  void become_ready();
  void drop(const std::string& reason);
  void disconnect(const std::string& reason);  // drop, and wait for the next attempt
  void refuse(const std::string& reason);      // the same, told to the handler
  void report_lost(const std::string& reason);
  void write_next();
  void watch_snapshot();
  void show_progress();
  void conclude(const SnapshotOutcome& outcome);
  void arm(std::chrono::milliseconds delay, void (Peer::*then)());
  void give_up_step();
  std::string name() const;

  void on_frame(Frame frame) override;
  void on_written() override;
  void on_stream_end(StreamEnd end, const Status& why) override;

  Environment* env_;
  const PeerAddress address_;
  State state_ = State::kWaiting;
  std::chrono::milliseconds backoff_;
  bool was_ready_ = false;    // since it was last found to refuse connections
  asio::steady_timer timer_;  // of the step under way, or of the back-off
  Resolver resolver_;
  Resolver::Endpoints endpoints_;  // as last resolved; used on when the name service fails
  std::optional<tcp::socket> socket_;
  std::unique_ptr<Stream> stream_;  // greeting and ready
  Hello hello_;
  Traffic in_flight_;
  SnapshotSender snapshot_;            // outlives the connection
  asio::steady_timer snapshot_timer_;  // of its next turn, or its end
  Alive alive_;
  Alive attempt_;  // handlers of an earlier attempt are void
  Alive step_;  // and so are those of an earlier deadline, even when it has expired and waits to be
                // handled
};

}  // namespace pgraft::transport
