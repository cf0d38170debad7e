// A connected socket as a stream of frames. One thread; the owner may destroy it in any of its
// callbacks.
#pragma once

#include <array>
#include <string>

#include "libpgraft/transport/frame.h"
#include "libpgraft/transport/net.h"

namespace pgraft::transport {

enum class StreamEnd : std::uint8_t {
  kLost,      // closed or reset by the other side
  kNetwork,   // any other error of the socket
  kProtocol,  // what was received is not a frame
};

class StreamOwner {
 public:
  virtual ~StreamOwner() = default;
  virtual void on_frame(Frame frame) = 0;
  virtual void on_written() = 0;
  // The last callback, except after kProtocol: then the owner may still write an answer, input is
  // thrown away, and the socket's end follows.
  virtual void on_stream_end(StreamEnd end, const Status& why) = 0;
};

class Stream {
 public:
  Stream(tcp::socket socket, StreamOwner* owner) : socket_(std::move(socket)), owner_(owner) {}

  void start_reading();
  void set_max_payload(std::size_t bytes) { reader_.set_max_payload(bytes); }
  void discard_input() {
    discarding_ = true;
  }  // from now on only the end of the stream is of interest

  // One write at a time: not before on_written().
  void write(std::string bytes);
  bool writing() const { return !output_.empty(); }

  void shutdown_send();

 private:
  void read_more();
  void on_read(const asio::error_code& error, std::size_t n);
  void write_more();
  void end(const asio::error_code& error);

  tcp::socket socket_;
  StreamOwner* owner_;
  FrameReader reader_;
  std::array<char, 64 << 10> input_;
  std::string output_;
  std::size_t written_ = 0;  // of output_
  bool discarding_ = false;
  bool ended_ = false;
  Alive alive_;
};

}  // namespace pgraft::transport
