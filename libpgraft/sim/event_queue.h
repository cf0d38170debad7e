// What is still to happen in a run, by virtual time; at the same time, in the order in which it was
// put there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace pgraft::sim {

using Micros = std::uint64_t;  // of virtual time, since the start of the run

class EventQueue {
 public:
  Micros now() const { return now_; }
  bool empty() const { return events_.empty(); }
  Micros next_at() const { return events_.front().at; }

  void after(Micros delay, std::function<void()> what) {
    events_.push_back({now_ + delay, ++number_, std::move(what)});
    std::push_heap(events_.begin(), events_.end(), later);
  }

  // The next one happens.
  void step() {
    std::pop_heap(events_.begin(), events_.end(), later);
    Event event = std::move(events_.back());
    events_.pop_back();
    now_ = event.at;
    event.what();
  }

  void clear() { events_.clear(); }

 private:
  struct Event {
    Micros at = 0;
    std::uint64_t number = 0;
    std::function<void()> what;
  };
  static bool later(const Event& a, const Event& b) {
    return a.at != b.at ? a.at > b.at : a.number > b.number;
  }

  Micros now_ = 0;
  std::uint64_t number_ = 0;
  std::vector<Event> events_;  // a heap
};

}  // namespace pgraft::sim
