// Makes durable what a replica hands out, in order, beside it: the replica goes on while the disk
// writes.
//
// Thread rule: all methods belong to the replica's thread. The store is written by the writer alone
// once it has been given to one (put_value() aside), and read by the replica.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include "libpgraft/base/histogram.h"
#include "libpgraft/base/status.h"
#include "libpgraft/raft/types.h"
#include "libpgraft/storage/log_store.h"

namespace pgraft::node {

// What the disk did. One write is one sync at most.
struct WriteStats {
  Histogram write_us;
  Histogram sync_us;  // of those that ended with a sync
  std::uint64_t entries = 0;
  std::uint64_t synced = 0;
};

class LogWriter {
 public:
  virtual ~LogWriter() = default;
  // A kStorageAppend of the core; `sync` is its Ready::must_sync.
  virtual void append(raft::Message write, bool sync) = 0;
  // A snapshot of the state machine and the log's new start: LogStore::save_snapshot().
  virtual void save(raft::Snapshot snapshot, raft::Index first_kept) = 0;
  // The appends that are durable, in order, each once, in place of what *written holds. An error is
  // the store's: nothing after it is written any more.
  virtual Status take_written(std::vector<raft::Message>* written) = 0;
};

// Writes when it is told to: for tests, and where nothing is to go on meanwhile.
class DirectLogWriter final : public LogWriter {
 public:
  explicit DirectLogWriter(storage::LogStore* store) : store_(store) {}
  void append(raft::Message write, bool sync) override;
  void save(raft::Snapshot snapshot, raft::Index first_kept) override;
  Status take_written(std::vector<raft::Message>* written) override;

 private:
  storage::LogStore* store_;
  std::vector<raft::Message> written_;
  Status failed_;
};

// Writes when it is told to, for schedules in which a crash, or a message, comes first.
class HeldLogWriter final : public LogWriter {
 public:
  explicit HeldLogWriter(storage::LogStore* store) : direct_(store) {}
  void append(raft::Message write, bool sync) override;
  void save(raft::Snapshot snapshot, raft::Index first_kept) override;
  Status take_written(std::vector<raft::Message>* written) override;

  void hold(bool held);  // false, as in the beginning: all at once
  bool write_one();      // the oldest that waits; false when nothing does

 private:
  DirectLogWriter direct_;
  bool held_ = false;
  std::deque<std::function<void()>> waiting_;
};

// Writes on a thread of its own. All that waits when the disk is free goes into one write and one
// sync (group commit). A commit index that comes alone need not be durable: it counts as written
// and goes with what is written next.
class ThreadedLogWriter final : public LogWriter {
 public:
  // `written` is called on the writer's thread when take_written() has news; it must not block.
  // `sync` false: nothing is synced (NodeConfig::sync_writes).
  ThreadedLogWriter(storage::LogStore* store, std::function<void()> written, bool sync = true);
  ~ThreadedLogWriter() override;  // what waits is still written
  ThreadedLogWriter(const ThreadedLogWriter&) = delete;
  ThreadedLogWriter& operator=(const ThreadedLogWriter&) = delete;

  void append(raft::Message write, bool sync) override;
  void save(raft::Snapshot snapshot, raft::Index first_kept) override;
  Status take_written(std::vector<raft::Message>* written) override;
  WriteStats stats() const;

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
  void run();

  storage::LogStore* store_;
  const std::function<void()> on_written_;
  const bool sync_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Work> queue_;
  WriteStats stats_;
  std::optional<raft::HardState> commit_;  // counts as written; older than all of queue_
  bool writing_ = false;
  bool stopping_ = false;
  std::vector<raft::Message> written_;
  Status failed_;
  std::thread thread_;
};

// Appends put together so that they leave the log as all of them in order would. What they hold is
// moved out of them; their responses stay.
class MergedWrite {
 public:
  // `hard` comes before what is added.
  explicit MergedWrite(std::optional<raft::HardState> hard = {}) : hard_(hard) {}
  // False: it has to be written by itself, after what is merged so far.
  bool add(raft::Message* write, bool sync);
  bool empty() const { return !any_; }
  bool syncs() const { return sync_; }
  std::size_t entries() const { return entries_.size(); }
  Status write_to(storage::LogStore* store);

 private:
  bool any_ = false;
  bool sync_ = false;
  std::uint64_t bytes_ = 0;
  std::optional<raft::HardState> hard_;
  std::vector<raft::Entry> entries_;
  std::shared_ptr<const raft::Snapshot> snapshot_;
};

}  // namespace pgraft::node
