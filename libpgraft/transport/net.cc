#include "libpgraft/transport/net.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <cctype>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

namespace pgraft::transport {
namespace {

constexpr int kKeepaliveIdleSeconds = 5;
constexpr int kKeepaliveIntervalSeconds = 2;
constexpr int kKeepaliveProbes = 3;
constexpr int kUnacknowledgedMsMax = 3000;
constexpr int kUnsentBytesMax = 128 << 10;

void set_option(int fd, int level, int option, int value) {
  // Best effort: without it the connection works, only less promptly.
  (void)setsockopt(fd, level, option, &value, sizeof(value));
}

}  // namespace

struct Resolver::Job {
  std::mutex mutex;
  Resolver* owner = nullptr;  // null: not wanted any more
};

Resolver::Resolver(asio::io_context& io, std::string host, std::uint16_t port)
    : io_(io), host_(std::move(host)), port_(port) {}

Resolver::~Resolver() {
  if (job_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(job_->mutex);
  job_->owner = nullptr;
}

void Resolver::resolve(Callback callback) {
  callback_ = std::move(callback);
  if (job_ != nullptr) return;
  asio::error_code not_numeric;
  const auto address = asio::ip::make_address(host_, not_numeric);
  if (!not_numeric) {
    asio::post(io_, alive_.guard([this, address] { finish(Endpoints{{address, port_}}); }));
    return;
  }
  job_ = std::make_shared<Job>();
  job_->owner = this;
  const auto work = [job = job_, host = host_, port = port_] {
    Result<Endpoints> result = look_up(host, port, false);
    const std::lock_guard<std::mutex> lock(job->mutex);
    if (job->owner == nullptr) return;
    Resolver* owner = job->owner;
    asio::post(owner->io_, owner->alive_.guard([owner, result = std::move(result)] {
      // The thread may still be inside post(): without waiting for it here, the event loop could be
      // destroyed under it.
      { const std::lock_guard<std::mutex> thread_has_left(owner->job_->mutex); }
      owner->job_ = nullptr;
      owner->finish(result);
    }));
  };
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  Status started;
  try {
    std::thread(work).detach();
  } catch (const std::system_error& e) {
    started = Status(Code::kUnavailable, std::string("could not start a thread: ") + e.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (started.is_ok()) return;
  job_ = nullptr;
  asio::post(io_, alive_.guard([this, started] { finish(started); }));
}

void Resolver::finish(Result<Endpoints> result) {
  if (callback_ == nullptr) return;
  const Callback callback = std::move(callback_);
  callback_ = nullptr;
  callback(std::move(result));
}

Result<Resolver::Endpoints> look_up(const std::string& host, std::uint16_t port, bool to_listen) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = to_listen ? AI_PASSIVE : 0;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(),
                                &hints, &list);
  if (error != 0) {
    return Status(Code::kUnavailable,
                  "could not resolve host name \"" + host + "\": " + gai_strerror(error));
  }
  Resolver::Endpoints endpoints;
  for (const addrinfo* it = list; it != nullptr; it = it->ai_next) {
    tcp::endpoint endpoint;
    if (it->ai_addrlen > endpoint.capacity()) continue;
    std::memcpy(endpoint.data(), it->ai_addr, it->ai_addrlen);
    endpoint.resize(it->ai_addrlen);
    endpoints.push_back(endpoint);
  }
  freeaddrinfo(list);
  if (endpoints.empty()) {
    return Status(Code::kUnavailable, "host name \"" + host + "\" has no address");
  }
  return endpoints;
}

void set_options(tcp::socket& socket) {
  const int fd = socket.native_handle();
  set_close_on_exec(fd);
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUnacknowledgedMsMax);
  // What the kernel holds, a heartbeat can't overtake.
  set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, kUnsentBytesMax);
}

void set_close_on_exec(int fd) { (void)fcntl(fd, F_SETFD, FD_CLOEXEC); }

std::string format_address(const std::string& host, std::uint16_t port) {
  const bool bracket = host.find(':') != std::string::npos;
  return (bracket ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

std::string error_text(const asio::error_code& error) {
  if (error == asio::error::eof) return "connection closed by the other side";
  std::string text = error.message();
  if (!text.empty()) text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  return text;
}

bool means_lost(const asio::error_code& error) {
  return error == asio::error::eof || error == asio::error::connection_reset ||
         error == asio::error::broken_pipe || error == asio::error::connection_refused;
}

}  // namespace pgraft::transport
