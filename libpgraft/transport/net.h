// Small things around asio: handlers that outlive their object, host names, socket options, text
// for addresses and errors.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/transport/asio.h"

namespace pgraft::transport {

using asio::ip::tcp;

// Member of an object that hands handlers to asio: a guarded handler is not called once the object
// (or this member, when it is replaced) is gone. So connections are plain owned objects, destroyed
// at once. Sound because all run on one thread, and because only read_some, write_some, connect and
// wait are used, which touch no memory of ours after their socket or timer is destroyed.
class Alive {
 public:
  Alive() : token_(std::make_shared<const char>()) {}
  Alive(const Alive&) = delete;
  Alive& operator=(const Alive&) = delete;

  std::weak_ptr<const char> watch() const { return token_; }
  void renew() { token_ = std::make_shared<const char>(); }  // handlers given out before are void

  template <class F>
  auto guard(F f) const {
    return [watch = watch(), f = std::move(f)](auto... args) {
      if (!watch.expired()) f(std::move(args)...);
    };
  }

 private:
  std::shared_ptr<const char> token_;
};

// Resolves one host name without blocking the event loop and without asio's resolver, whose one
// thread makes every host wait for the slowest and whose destructor waits for the name server. At
// most one look-up is under way; addresses in numbers need none.
class Resolver {
 public:
  using Endpoints = std::vector<tcp::endpoint>;
  using Callback = std::function<void(Result<Endpoints>)>;

  Resolver(asio::io_context& io, std::string host, std::uint16_t port);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // The newest callback is called, from the event loop; those before are forgotten.
  void resolve(Callback callback);
  void cancel() { callback_ = nullptr; }

 private:
  struct Job;  // shared with the thread that looks up, which may outlive the resolver
  void finish(Result<Endpoints> result);

  asio::io_context& io_;
  std::string host_;
  std::uint16_t port_;
  Callback callback_;
  std::shared_ptr<Job> job_;  // under way
  Alive alive_;
};

// Blocks for as long as the name service takes.
Result<Resolver::Endpoints> look_up(const std::string& host, std::uint16_t port, bool to_listen);

// No delay, close-on-exec, little unsent in the kernel, and a dead host is noticed in seconds
// rather than in the system's default of minutes: a connection that hangs on retransmissions would
// otherwise outlast the partition that broke it.
void set_options(tcp::socket& socket);
void set_close_on_exec(int fd);

std::string format_address(const std::string& host, std::uint16_t port);  // "[::1]:8001"
std::string error_text(const asio::error_code& error);                    // "connection refused"

// The other process closed or refused, as opposed to: nothing was heard.
bool means_lost(const asio::error_code& error);

}  // namespace pgraft::transport
