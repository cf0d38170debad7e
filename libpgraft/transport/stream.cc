#include "libpgraft/transport/stream.h"

namespace pgraft::transport {

void Stream::start_reading() { read_more(); }

void Stream::read_more() {
  socket_.async_read_some(
      asio::buffer(input_),
      alive_.guard([this](asio::error_code error, std::size_t n) { on_read(error, n); }));
}

void Stream::on_read(const asio::error_code& error, std::size_t n) {
  if (ended_) return;
  if (error) return end(error);
  std::string_view bytes(input_.data(), n);
  const auto watch = alive_.watch();
  while (!bytes.empty() && !discarding_) {
    Result<std::optional<Frame>> frame = reader_.read(&bytes);
    if (!frame.is_ok()) {
      discarding_ = true;
      owner_->on_stream_end(StreamEnd::kProtocol, frame.status());
      if (watch.expired()) return;
      break;
    }
    if (!frame->has_value()) break;
    owner_->on_frame(std::move(**frame));
    if (watch.expired() || ended_) return;
  }
  read_more();
}

void Stream::write(std::string bytes) {
  output_ = std::move(bytes);
  written_ = 0;
  write_more();
}

void Stream::write_more() {
  socket_.async_write_some(asio::buffer(output_.data() + written_, output_.size() - written_),
                           alive_.guard([this](asio::error_code error, std::size_t n) {
                             if (ended_) return;
                             if (error) return end(error);
                             written_ += n;
                             if (written_ < output_.size()) return write_more();
                             output_ = std::string();
                             owner_->on_written();
                           }));
}

void Stream::shutdown_send() {
  asio::error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
}

void Stream::end(const asio::error_code& error) {
  ended_ = true;
  owner_->on_stream_end(means_lost(error) ? StreamEnd::kLost : StreamEnd::kNetwork,
                        Status(Code::kUnavailable, error_text(error)));
}

}  // namespace pgraft::transport
