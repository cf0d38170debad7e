// One request over a connection of its own: resolve, connect, ask, read the answer, all within one
// deadline, on the caller's thread.

#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/handshake.h"
#include "libpgraft/transport/net.h"
#include "libpgraft/transport/stream.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::transport {
namespace {

constexpr std::size_t kMaxAnswerBytes = 4u << 20;

class Query final : private StreamOwner {
 public:
  Query(const std::string& host, std::uint16_t port, FrameType request, const std::string& payload)
      : where_(format_address(host, port)),
        request_(encode_frame(request, payload)),
        resolver_(io_, host, port) {}

  Result<Frame> run(std::chrono::milliseconds timeout) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    resolver_.resolve([this](Result<Resolver::Endpoints> found) {
      if (!found.is_ok()) return finish(found.status());
      endpoints_ = std::move(*found);
      connect_to(0);
    });
    // A look-up is not work that the loop knows of; the guard keeps it from ending early.
    const auto working = asio::make_work_guard(io_);
    while (!answer_ && io_.run_one_until(deadline) > 0) continue;
    if (answer_) return std::move(*answer_);
    return unreachable("no answer within " + std::to_string(timeout.count()) + " ms");
  }

 private:
  Status unreachable(const std::string& why) const {
    return {Code::kUnavailable, "could not reach " + where_ + ": " + why};
  }

  void finish(Result<Frame> answer) {
    if (!answer_) answer_.emplace(std::move(answer));
  }

  void connect_to(std::size_t i) {
    asio::error_code error;
    socket_.emplace(io_);
    socket_->open(endpoints_[i].protocol(), error);
    if (error) return finish(unreachable(error_text(error)));
    set_options(*socket_);
    socket_->async_connect(endpoints_[i], [this, i](asio::error_code failed) {
      if (!failed) return ask();
      if (i + 1 < endpoints_.size()) return connect_to(i + 1);
      finish(unreachable(error_text(failed)));
    });
  }

  void ask() {
    stream_.emplace(std::move(*socket_), static_cast<StreamOwner*>(this));
    stream_->set_max_payload(kMaxAnswerBytes);
    stream_->start_reading();
    stream_->write(request_);
  }

  void on_frame(Frame frame) override {
    if (frame.type == FrameType::kRefused) {
      return finish(Status(Code::kMismatch, where_ + " refused: " + clean_reason(frame.payload)));
    }
    finish(std::move(frame));
  }
  void on_written() override {}
  void on_stream_end(StreamEnd, const Status& why) override {
    if (why.code() == Code::kMismatch) return finish(why.with_context(where_));
    finish(unreachable(why.message()));
  }

  const std::string where_;
  const std::string request_;
  asio::io_context io_;
  Resolver resolver_;
  Resolver::Endpoints endpoints_;
  std::optional<tcp::socket> socket_;
  std::optional<Stream> stream_;
  std::optional<Result<Frame>> answer_;
};

template <class T>
Result<T> ask(const std::string& host, std::uint16_t port, std::chrono::milliseconds timeout,
              FrameType request, const std::string& payload, FrameType expected,
              Result<T> (*decode)(std::string_view)) {
  const Result<Frame> answer = Query(host, port, request, payload).run(timeout);
  if (!answer.is_ok()) return answer.status();
  const std::string where = format_address(host, port);
  if (answer->type != expected) {
    return Status(Code::kUnavailable, "could not reach " + where + ": unexpected answer");
  }
  Result<T> decoded = decode(answer->payload);
  if (!decoded.is_ok()) return decoded.status().with_context(where);
  return decoded;
}

}  // namespace

Result<Identity> query_identity(const std::string& host, std::uint16_t port,
                                std::chrono::milliseconds timeout) {
  return ask<Identity>(host, port, timeout, FrameType::kQueryIdentity, "", FrameType::kIdentity,
                       decode_identity);
}

Result<ClusterStatus> query_status(const std::string& host, std::uint16_t port,
                                   std::chrono::milliseconds timeout) {
  return ask<ClusterStatus>(host, port, timeout, FrameType::kQueryStatus,
                            std::string(1, static_cast<char>(kStatusForm)), FrameType::kStatus,
                            decode_status);
}

}  // namespace pgraft::transport
