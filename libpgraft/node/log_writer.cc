#include "libpgraft/node/log_writer.h"

#include <pthread.h>

#include <chrono>
#include <iterator>
#include <utility>

namespace pgraft::node {

namespace {

// What is put together in one write at most, so that the first of it does not wait for too much of
// the rest.
constexpr std::uint64_t kMergedBytesMax = 8u << 20;

// write.term is not 0.
raft::HardState hard_state_of(const raft::Message& write) {
  return {write.term, write.vote, write.commit};
}

}  // namespace

// --- MergedWrite

bool MergedWrite::add(raft::Message* write, bool sync) {
  // A snapshot replaces the log that the others add to.
  if (any_ && (write->snapshot || snapshot_)) return false;
  if (any_ && bytes_ > kMergedBytesMax) return false;
  any_ = true;
  sync_ = sync_ || sync;
  if (write->term != 0) hard_ = hard_state_of(*write);
  snapshot_ = write->snapshot;
  if (write->entries.empty()) return true;
  for (const raft::Entry& entry : write->entries) bytes_ += entry.data.size();
  const raft::Index from = write->entries.front().index;
  while (!entries_.empty() && entries_.back().index >= from) entries_.pop_back();
  if (entries_.empty()) {
    entries_ = std::move(write->entries);
  } else {
    entries_.insert(entries_.end(), std::make_move_iterator(write->entries.begin()),
                    std::make_move_iterator(write->entries.end()));
  }
  write->entries.clear();
  return true;
}

Status MergedWrite::write_to(storage::LogStore* store) {
  storage::WriteBatch batch;
  batch.hard_state = hard_;
  batch.entries = entries_;
  batch.snapshot = snapshot_.get();
  batch.sync = sync_;
  const bool nothing = !hard_ && entries_.empty() && !snapshot_;
  return nothing ? Status::ok() : store->write(batch).with_context("could not persist");
}

// --- DirectLogWriter

void DirectLogWriter::append(raft::Message write, bool sync) {
  if (!failed_) return;
  MergedWrite one;
  one.add(&write, sync);
  failed_ = one.write_to(store_);
  if (failed_) written_.push_back(std::move(write));
}

void DirectLogWriter::save(raft::Snapshot snapshot, raft::Index first_kept) {
  if (!failed_) return;
  failed_ = store_->save_snapshot(snapshot, first_kept).with_context("could not save a snapshot");
}

Status DirectLogWriter::take_written(std::vector<raft::Message>* written) {
  written->clear();
  written->swap(written_);
  return failed_;
}

// --- HeldLogWriter

void HeldLogWriter::append(raft::Message write, bool sync) {
  waiting_.push_back(
      [this, sync, write = std::move(write)]() mutable { direct_.append(std::move(write), sync); });
  hold(held_);
}

void HeldLogWriter::save(raft::Snapshot snapshot, raft::Index first_kept) {
  waiting_.push_back([this, first_kept, snapshot = std::move(snapshot)]() mutable {
    direct_.save(std::move(snapshot), first_kept);
  });
  hold(held_);
}

Status HeldLogWriter::take_written(std::vector<raft::Message>* written) {
  return direct_.take_written(written);
}

void HeldLogWriter::hold(bool held) {
  held_ = held;
  while (!held_ && write_one()) {
  }
}

bool HeldLogWriter::write_one() {
  if (waiting_.empty()) return false;
  waiting_.front()();
  waiting_.pop_front();
  return true;
}

// --- ThreadedLogWriter

ThreadedLogWriter::ThreadedLogWriter(storage::LogStore* store, std::function<void()> written,
                                     bool sync)
    : store_(store),
      on_written_(std::move(written)),
      sync_(sync),
      thread_(&ThreadedLogWriter::run, this) {}

ThreadedLogWriter::~ThreadedLogWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void ThreadedLogWriter::append(raft::Message write, bool sync) {
  // Term and vote have not changed. Nobody is told that a commit index is durable; it is stored no
  // later than the entries that it came with (PROTOCOL.md M4b).
  if (!sync && write.entries.empty() && write.snapshot == nullptr) {
    const std::lock_guard lock(mutex_);
    if (queue_.empty() && !writing_) {
      if (write.term != 0) commit_ = hard_state_of(write);
      if (failed_) written_.push_back(std::move(write));
      return;  // the replica asks before it waits
    }
  }
  post(Append{std::move(write), sync && sync_});
}

void ThreadedLogWriter::save(raft::Snapshot snapshot, raft::Index first_kept) {
  post(Save{std::move(snapshot), first_kept});
}

void ThreadedLogWriter::post(Work work) {
  {
    const std::lock_guard lock(mutex_);
    if (!failed_) return;
    queue_.push_back(std::move(work));
    if (writing_) return;  // it looks again when it is done
  }
  wake_.notify_one();
}

Status ThreadedLogWriter::take_written(std::vector<raft::Message>* written) {
  written->clear();
  const std::lock_guard lock(mutex_);
  written->swap(written_);
  return failed_;
}

WriteStats ThreadedLogWriter::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void ThreadedLogWriter::run() {
  pthread_setname_np(pthread_self(), "pgraft-log");
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    std::optional<raft::HardState> commit = std::exchange(commit_, {});
    if (queue_.empty()) {
      (void)MergedWrite(commit).write_to(store_);  // nobody waits for it
      return;
    }
    std::vector<Work> work = std::exchange(queue_, {});
    writing_ = true;
    lock.unlock();

    Status status;
    for (std::size_t next = 0; next < work.size() && status;) {
      std::vector<raft::Message> done;
      std::optional<std::chrono::steady_clock::duration> took;
      std::size_t written_entries = 0;
      bool synced = false;
      if (auto* save = std::get_if<Save>(&work[next])) {
        status = store_->save_snapshot(save->snapshot, save->first_kept)
                     .with_context("could not save a snapshot");
        ++next;
      } else {
        MergedWrite merged(std::exchange(commit, {}));
        for (; next < work.size(); ++next) {
          auto* append = std::get_if<Append>(&work[next]);
          if (append == nullptr || !merged.add(&append->write, append->sync)) break;
          done.push_back(std::move(append->write));
        }
        const auto began = std::chrono::steady_clock::now();
        status = merged.write_to(store_);
        took = std::chrono::steady_clock::now() - began;
        written_entries = merged.entries();
        synced = merged.syncs();
      }
      lock.lock();
      if (took) {
        const auto took_us = static_cast<std::uint64_t>(
            std::chrono::duration_cast<std::chrono::microseconds>(*took).count());
        stats_.write_us.add(took_us);
        if (synced) stats_.sync_us.add(took_us);
        stats_.entries += written_entries;
        stats_.synced += synced ? 1 : 0;
      }
      if (status) {
        written_.insert(written_.end(), std::make_move_iterator(done.begin()),
                        std::make_move_iterator(done.end()));
      } else {
        failed_ = status;
      }
      if (next == work.size()) {
        // In one step with what is written: who sees that finds the writer idle.
        writing_ = false;
        commit_ = commit;  // when there was nothing but a snapshot to go with
      }
      lock.unlock();
      on_written_();
    }
    lock.lock();
    if (!failed_) {
      queue_.clear();
      return;
    }
  }
}

}  // namespace pgraft::node
