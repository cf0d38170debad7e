#include "libpgraft/sim/simulated_log_writer.h"

#include <iterator>

namespace pgraft::sim {
namespace {

bool has_work(const raft::Message& write) {
  return write.term != 0 || !write.entries.empty() || write.snapshot != nullptr;
}

}  // namespace

void SimulatedLogWriter::append(raft::Message write, bool sync) {
  if (!has_work(write) && !writing_) {
    if (failed_) written_.push_back(std::move(write));
    return;  // the replica asks before it ends its turn
  }
  if (!answers_early_) return post(Append{std::move(write), sync});
  if (!failed_) return;
  node::MergedWrite now;
  now.add(&write, false);
  failed_ = now.write_to(store_);
  if (failed_) written_.push_back(std::move(write));
  if (sync) post(Append{});  // the sync of all before
}

void SimulatedLogWriter::save(raft::Snapshot snapshot, raft::Index first_kept) {
  post(Save{std::move(snapshot), first_kept});
}

void SimulatedLogWriter::post(Work work) {
  if (!failed_) return;
  queue_.push_back(std::move(work));
  if (writing_) return;
  writing_ = true;
  later_(true, [this] { write_next(); });
}

// Appends that can go together, or one snapshot.
void SimulatedLogWriter::write_next() {
  if (work_.empty()) work_.swap(queue_);
  if (auto* save = std::get_if<Save>(&work_.front())) {
    result_ = store_->save_snapshot(save->snapshot, save->first_kept)
                  .with_context("could not save a snapshot");
    work_.pop_front();
  } else {
    node::MergedWrite merged;
    while (!work_.empty()) {
      auto* append = std::get_if<Append>(&work_.front());
      if (append == nullptr || !merged.add(&append->write, append->sync)) break;
      if (!answers_early_) done_.push_back(std::move(append->write));
      work_.pop_front();
    }
    result_ = answers_early_ ? store_->write({}) : merged.write_to(store_);
  }
  later_(false, [this] { report(); });
}

void SimulatedLogWriter::report() {
  failed_ = result_;
  if (failed_) {
    written_.insert(written_.end(), std::make_move_iterator(done_.begin()),
                    std::make_move_iterator(done_.end()));
  }
  done_.clear();
  writing_ = failed_.is_ok() && !(work_.empty() && queue_.empty());
  if (writing_) later_(true, [this] { write_next(); });
  news_();
}

Status SimulatedLogWriter::take_written(std::vector<raft::Message>* written) {
  *written = std::exchange(written_, {});
  return failed_;
}

}  // namespace pgraft::sim
