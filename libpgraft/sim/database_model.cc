// Orders, promotion, and what the controller sees. Streaming is in database_stream.cc, rewind and
// clone in database_rejoin.cc.
#include "libpgraft/sim/database_model.h"

#include <algorithm>

namespace pgraft::sim {

using failover::Orders;
using failover::Restart;

// --- node::Host

void DatabaseModel::close(const Orders& orders) {
  wanted_ = orders;
  if (!switches_.close_early) return;  // negative control: an earlier term's replies still go out
  gate_open_ = orders.gate_open;
  fence_lifted_ = false;
  admitted_ = false;  // none new; those that live are ended by execute()
}

void DatabaseModel::carry_out(const Orders& orders) {
  if (orders.seq >= wanted_.seq) wanted_ = orders;
}

Status DatabaseModel::clear_abstain() {
  abstain_until_.reset();
  if (running_) rejoin_.reset();  // withdrawn
  return Status::ok();
}

void DatabaseModel::state_changed(const state::StateMachine& machine, const raft::ConfState& conf) {
  if (const auto* done = machine.latest_done()) newest_done_ = done->promotion.timeline;
  members_.clear();
  members_.insert(conf.voters.begin(), conf.voters.end());
  members_.insert(conf.learners.begin(), conf.learners.end());
  // Rule 6: only a member's walsender counts, and not that of an earlier node with its id.
  std::erase_if(senders_, [&](const Sender& s) { return !members_.contains(s.member); });
}

failover::DatabaseView DatabaseModel::view() const {
  failover::DatabaseView view;
  view.orders_seen = seen_;
  view.valid = running_;
  view.in_recovery = !primary_;
  view.receiver_stopped = !receiver_ && unflushed_.empty();
  view.replay_exhausted = !primary_ && replayed_ == wal_.size() && unflushed_.empty();
  view.end_known = end_known();
  view.frozen = frozen();
  view.promote_pending = signal_.has_value();
  view.end = end_of(wal_, view.end_known ? wal_.size() : replayed_);
  view.oldest = kept_from_;
  view.replayed = primary_ ? view.end : end_of(wal_, replayed_);
  view.highest_history = highest_history();
  view.history = history_of(wal_);
  view.quorum_in_force = server_generation_;
  if (drain_ != Drain::kNone) {
    view.writers = transactions_;
    view.sessions = holds_.sessions ? 1 : 0;
    view.settled = unflushed_.empty();
    view.writers_text = "simulated";
  }
  for (const Sender& sender : senders_) {
    view.quorum_in_force = std::min(view.quorum_in_force, sender.generation);
    view.streams[sender.member] = sender.flush;
  }
  return view;
}

// --- life

void DatabaseModel::initialize(Wal wal) {
  wal_ = std::move(wal);
  for (const Record& record : wal_) history_files_.insert(record.timeline);
}

void DatabaseModel::start() {
  crash();  // everything volatile at its beginning
  if (!switches_.marker) abstain_until_.reset();
  if (rejoin_ && (rejoin_->touched || !rejoin_->startable)) {  // wrongly: as far as it was copied
    if (wal_.empty()) wal_.assign(1, rejoin_->saved_wal.front());
    rejoin_.reset();
  }
  running_ = true;
  stopped_for_ = Restart::kNone;
}

void DatabaseModel::crash() {
  running_ = false;
  unflushed_.clear();
  replayed_ = 0;
  end_known_ = false;
  primary_ = false;
  signal_.reset();
  changes_left_ = 0;
  was_in_force_ = false;
  if (reserved_ != 0) history_files_.erase(reserved_);  // rule 5: moved aside before recovery
  reserved_ = 0;
  senders_.clear();
  receiver_.reset();
  released_ = 0;
  generation_ = 0;
  server_generation_ = 0;
  gate_open_ = false;
  follow_ = 0;
  admitted_ = false;
  fence_lifted_ = false;
  drain_ = Drain::kNone;
  transactions_ = 0;
  server_voters_ = voters_;
  worker_started();
}

// Sequence numbers start again with each worker, so what the last one ordered proves nothing now.
void DatabaseModel::worker_started() {
  wanted_ = Orders{};
  seen_ = 0;
  generation_ = 0;
  server_generation_ = 0;
  generation_term_ = 0;
  for (Sender& sender : senders_) sender.generation = 0;
}

// --- orders

bool DatabaseModel::execute() {
  if (!running_ || seen_ >= wanted_.seq) return false;
  const Orders orders = wanted_;
  seen_ = orders.seq;
  if (orders.restart != Restart::kNone) {
    if (orders.restart != Restart::kStandby) {
      const bool clone = orders.restart == Restart::kClone;
      const bool startable = orders.rewind_source != 0 && !abstain_until_;
      if (changed()) return true;  // asked for again after the next start
      rejoin_ =
          Rejoin{orders.rewind_source, orders.rewind_target, clone, startable, false, {}, {}, {}};
    }
    crash();
    stopped_for_ = orders.restart;
    return true;
  }
  tighten(orders);
  if (!running_ || changed()) return true;
  loosen(orders);
  return true;
}

void DatabaseModel::tighten(const Orders& orders) {
  drain_ = orders.drain;
  if (drain_ == Drain::kEnd && !holds_.sessions) transactions_ = 0;
  gate_open_ = gate_open_ && orders.gate_open;
  fence_lifted_ = fence_lifted_ && orders.lift_fence;
  if (!orders.admit_walsenders) {
    admitted_ = false;
    senders_.clear();  // rule 3: frozen
  }
  if (receiver_) {
    const bool stays = receiver_->primary == orders.follow &&
                       (receiver_->term == orders.term || !switches_.connection_term);
    if (!stays) stop_receiver();
  }
  if (orders.promote == 0 && signal_ && !signal_->seen) {
    signal_.reset();  // withdrawn, and the startup process confirmed it
    if (reserved_ != 0) history_files_.erase(reserved_);
    reserved_ = 0;
  }
}

void DatabaseModel::loosen(const Orders& orders) {
  if (orders.quorum_generation != 0 && orders.quorum_generation != generation_) {
    if (orders.term != generation_term_) first_generation_ = orders.quorum_generation;
    generation_term_ = orders.term;
    generation_ = orders.quorum_generation;
    voters_ = orders.quorum_voters;
    if (changed()) return;
  }
  gate_term_ = orders.term;
  gate_open_ = orders.gate_open;
  gate_timeline_ = orders.gate_timeline;
  gate_switch_ = orders.gate_switch;
  follow_ = orders.follow;
  follow_term_ = orders.term;
  if (orders.admit_walsenders && primary_) {
    if (orders.term != admitted_term_) {
      world_->promoted(self_, orders.term, end_of(wal_).timeline, wal_, true);
    }
    if (!admitted_ || orders.term != admitted_term_) was_in_force_ = counts_by(first_generation_);
    admitted_ = true;
    admitted_term_ = orders.term;
  }
  fence_lifted_ = orders.lift_fence && primary_;
  if (orders.promote != 0 && !primary_ && !signal_) {
    if (orders.promote > highest_history() + 1) {
      reserved_ = orders.promote - 1;
      history_files_.insert(reserved_);
    }
    signal_ = Signal{orders.promote, orders.term, false};
  }
}

void DatabaseModel::remove_wal(Lsn before) {
  kept_from_ = std::max(kept_from_, std::min<Lsn>(before, wal_.size()));
}

void DatabaseModel::force_quorum(const std::vector<NodeId>& voters) {
  voters_ = voters;
  server_voters_ = voters;
  for (Sender& sender : senders_) sender.voters = voters;
}

// --- recovery and promotion

Timeline DatabaseModel::highest_history() const {
  const Timeline current = end_of(wal_).timeline;
  return history_files_.empty() ? current : std::max(current, *history_files_.rbegin());
}

bool DatabaseModel::replay(std::size_t n) {
  if (!running_ || primary_ || holds_.replay) return false;
  const std::size_t before = replayed_;
  replayed_ = std::min(wal_.size(), replayed_ + n);
  const bool found_end = !end_known_ && replayed_ == wal_.size();
  if (found_end) end_known_ = true;
  return replayed_ != before || found_end;
}

bool DatabaseModel::see_promote_signal() {
  if (!running_ || !signal_ || signal_->seen) return false;
  signal_->seen = true;
  return true;
}

// PostgreSQL takes the id after the newest that it knows, whatever was meant (POSTGRES.md, M3).
bool DatabaseModel::finish_promotion() {
  if (!running_ || !signal_ || !signal_->seen) return false;
  stop_receiver();
  if (!running_) return true;  // a crash in between
  const Term term = signal_->term;
  const Timeline timeline = highest_history() + 1;
  signal_.reset();
  if (reserved_ != 0) history_files_.erase(reserved_);
  reserved_ = 0;
  history_files_.insert(timeline);
  if (changed()) return true;
  world_->promoted(self_, term, timeline, wal_, false);
  wal_.push_back(
      {timeline, world_->next_record()});  // the switch record; flushed before anything else
  primary_ = true;
  replayed_ = wal_.size();
  senders_.clear();
  admitted_ = false;
  admitted_term_ = term;
  fence_lifted_ = false;
  released_ = 0;
  (void)changed();
  return true;
}

bool DatabaseModel::work() {
  if (!running_) return false;
  bool did = execute();
  if (!running_) return true;
  did = replay(wal_.size()) || did;
  did = see_promote_signal() || did;
  if (!holds_.promotion) did = finish_promotion() || did;
  if (!holds_.stream) {
    did = connect() || did;
    did = receive(64) || did;
  }
  did = flush(unflushed_.size()) || did;
  did = replay(wal_.size()) || did;
  if (!holds_.stream) did = reply() || did;
  for (std::size_t i = 0; !holds_.reload && i <= senders_.size(); ++i) did = reload(i) || did;
  for (std::size_t i = 0; i < senders_.size(); ++i) {
    while (take_reply(i)) did = true;
  }
  return did;
}

bool DatabaseModel::changed() {
  if (changes_left_ == 0 || --changes_left_ > 0) return false;
  if (running_) crash();
  return true;
}

std::string DatabaseModel::unfit_to_report(const failover::Report& report) const {
  if (signal_) return "while a promotion is in flight";
  if (report.abstains) return "";
  if (abstain_until_ || !has_data()) return "though it abstains";
  if (gate_open_) return "with its gate open";
  if (!primary_ && (receiver_ || !unflushed_.empty())) return "while it receives";
  if (!primary_ && !end_known_) return "without knowing the end of its WAL";
  if (primary_ && (admitted_ || !senders_.empty())) return "before it is frozen";
  if (report.position != end_of(wal_)) return "that is not its own";
  return "";
}

bool DatabaseModel::counts_by(std::uint64_t generation) const {
  return server_generation_ >= generation &&
         std::all_of(senders_.begin(), senders_.end(),
                     [&](const Sender& s) { return s.generation >= generation; });
}

std::string DatabaseModel::describe() const {
  const Position end = end_of(wal_);
  std::string text = !running_ ? "down" : primary_ ? "primary" : "standby";
  text += " at " + std::to_string(end.timeline) + "/" + std::to_string(end.lsn);
  if (abstain_until_) {
    text += " abstains until " + std::to_string(abstain_until_->timeline) + "/" +
            std::to_string(abstain_until_->lsn);
  }
  if (rejoin_) text += rejoin_->touched ? " rejoining" : " to rejoin";
  if (receiver_) text += " follows " + std::to_string(receiver_->primary);
  if (gate_open_) text += " gate open";
  if (signal_) text += " promote signal";
  if (admitted_) text += " admits " + std::to_string(senders_.size());
  if (fence_lifted_) text += " writable";
  return text;
}

}  // namespace pgraft::sim
