// What the connections of one transport share. Event loop thread only, except where said.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <random>
#include <string>

#include "libpgraft/transport/asio.h"
#include "libpgraft/transport/outbox.h"
#include "libpgraft/transport/rate_limiter.h"
#include "libpgraft/transport/snapshot_receiver.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::transport {

// Tells the handler about refusals: when the reason changes, or every 30 s. A peer that is refused
// is refused at every attempt.
class Refusals {
 public:
  explicit Refusals(Handler* handler) : handler_(handler) {}
  void report(const std::string& peer, const std::string& reason);
  std::uint64_t count() const { return count_; }  // any thread

 private:
  struct Told {
    std::string reason;
    std::chrono::steady_clock::time_point when;
  };
  Handler* handler_;
  std::map<std::string, Told> told_;  // bounded: strangers choose the keys
  std::atomic<std::uint64_t> count_{0};
};

struct Environment {
  Environment(const Config& config, const Identity& self, Handler* handler)
      : config(config),
        handler(handler),
        outboxes(config.max_queued_messages, config.max_queued_bytes),
        refusals(handler),
        snapshot_rate(config.snapshot_bytes_per_second),
        snapshots(config.max_snapshot_bytes, config.snapshot_stall_timeout),
        random(std::random_device()()),
        self_(self) {}

  // Any thread.
  Identity self() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return self_;
  }
  void set_self(const Identity& self) {
    const std::lock_guard<std::mutex> lock(mutex_);
    self_ = self;
  }

  const Config config;
  Handler* const handler;
  asio::io_context io;
  Outboxes outboxes;  // any thread
  Refusals refusals;
  RateLimiter snapshot_rate;
  SnapshotReceiver snapshots;  // incoming: they outlive their connections
  std::minstd_rand random;

 private:
  mutable std::mutex mutex_;
  Identity self_;
};

}  // namespace pgraft::transport
