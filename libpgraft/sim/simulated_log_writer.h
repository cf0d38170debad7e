// The writer of a simulated node: what ThreadedLogWriter does with a thread, in virtual time. The
// disk takes some time for a write; what is handed out meanwhile goes into the next one (group
// commit). What is written is reported a moment later, so that a crash can come in between.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "libpgraft/node/log_writer.h"

namespace pgraft::sim {

class SimulatedLogWriter final : public node::LogWriter {
 public:
  // `later` calls what it is given once the disk has got so far (true: has done a write), or never,
  // when the process ends before. `news`: take_written() has some.
  using Later = std::function<void(bool disk, std::function<void()>)>;
  // `answers_early`, a negative control: every write is reported when it is written and not synced;
  // a sync follows.
  SimulatedLogWriter(storage::LogStore* store, Later later, std::function<void()> news,
                     bool answers_early)
      : store_(store),
        later_(std::move(later)),
        news_(std::move(news)),
        answers_early_(answers_early) {}

  void append(raft::Message write, bool sync) override;
  void save(raft::Snapshot snapshot, raft::Index first_kept) override;
  Status take_written(std::vector<raft::Message>* written) override;

 private:
  struct Append {
    raft::Message write;
    bool sync = false;
  };
  struct Save {
    raft::Snapshot snapshot;
    raft::Index first_kept = 0;
  };
  using Work = std::variant<Append, Save>;
  void post(Work work);
  void write_next();
  void report();

  storage::LogStore* store_;
  const Later later_;
  const std::function<void()> news_;
  const bool answers_early_;
  std::deque<Work> queue_;  // waits for the disk
  std::deque<Work> work_;   // of the write under way
  bool writing_ = false;
  std::vector<raft::Message> done_;  // written, not reported
  std::vector<raft::Message> written_;
  Status result_;  // of the disk
  Status failed_;  // as reported
};

}  // namespace pgraft::sim
