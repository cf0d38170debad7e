#include "libpgraft/sim/raft_network.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "libpgraft/sim/raft_world.h"
#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/frame.h"

namespace pgraft::sim {
namespace {

std::string number(std::uint64_t n) { return std::to_string(n); }

bool holds(std::uint64_t set, NodeId id) { return (set >> id & 1) != 0; }

}  // namespace

std::string describe(const raft::Message& m) {
  std::string text = std::string(raft::message_type_name(m.type)) + " " + number(m.from) + ">" +
                     number(m.to) + " term " + number(m.term);
  switch (m.type) {
    case raft::MessageType::kAppend:
      text += ", " + number(m.entries.size()) + " entries after " + number(m.index) + "/" +
              number(m.log_term) + ", commit " + number(m.commit);
      break;
    case raft::MessageType::kVote:
    case raft::MessageType::kPreVote:
      text += ", log ends at " + number(m.index) + "/" + number(m.log_term);
      break;
    case raft::MessageType::kAppendResponse: text += ", entry " + number(m.index); break;
    case raft::MessageType::kHeartbeat: text += ", commit " + number(m.commit); break;
    case raft::MessageType::kReadIndexResponse: text += ", index " + number(m.index); break;
    case raft::MessageType::kSnapshot:
      if (m.snapshot) text += ", at " + number(m.snapshot->meta.index);
      break;
    default: break;
  }
  return text + (m.reject ? ", refused" : "");
}

// --- faults

void RaftNetwork::partition(std::uint64_t set) { partitions_.push_back(set); }

void RaftNetwork::end_partition(std::uint64_t set) {
  const auto found = std::find(partitions_.begin(), partitions_.end(), set);
  if (found != partitions_.end()) partitions_.erase(found);
}

void RaftNetwork::cut(NodeId from, NodeId to, int more) { cuts_[from][to] += more; }

void RaftNetwork::end_weather(std::uint32_t step) {
  std::erase_if(weather_, [&](const Weather& weather) { return weather.step == step; });
}

void RaftNetwork::heal() {
  partitions_.clear();
  cuts_ = {};
  weather_.clear();
  fated_.clear();
}

bool RaftNetwork::blocked(NodeId from, NodeId to) const {
  if (cuts_[from][to] > 0) return true;
  return std::any_of(partitions_.begin(), partitions_.end(),
                     [&](std::uint64_t set) { return holds(set, from) != holds(set, to); });
}

void RaftNetwork::reset(NodeId a, NodeId b) {
  ++link(a, b).epoch;
  ++link(b, a).epoch;
  tell_lost(a, b);
  tell_lost(b, a);
}

void RaftNetwork::process_ended(NodeId id, bool noticed) {
  for (const NodeId other : world_->ids()) {
    if (other == id) continue;
    ++link(other, id).epoch;
    if (noticed) tell_lost(other, id);
  }
}

void RaftNetwork::tell_lost(NodeId who, NodeId lost) {
  if (blocked(lost, who)) return;
  Link& way = link(lost, who);
  const Micros delay = world_->draws(Draw::kMessage, lost, who, ++way.sent)
                           .between(world_->setup().latency_min, world_->setup().latency_max);
  world_->queue().after(delay, [this, who, lost] {
    world_->node(who).post([lost](node::Replica& replica) { replica.peer_lost(lost); });
  });
}

// --- messages

RaftNetwork::Journey RaftNetwork::journey(const raft::Message& message, std::uint64_t n) {
  Journey journey;
  journey.lost = blocked(message.from, message.to);
  if (weather_.empty() && fated_.empty()) return journey;
  const auto meets = [&](Fate fate, Micros late) {
    switch (fate) {
      case Fate::kLost: journey.lost = true; break;
      // The transport delivers at most once, and proposals rest on that: one that came twice would
      // be carried out twice. Everything else may come twice.
      case Fate::kDoubled: journey.doubled = message.type != raft::MessageType::kPropose; break;
      case Fate::kLate: journey.late += late; break;
    }
  };
  for (Fated& fated : fated_) {
    if (fated.left == 0 || fated.from != message.from || fated.to != message.to ||
        fated.type != message.type) {
      continue;
    }
    --fated.left;
    meets(fated.fate, fated.late);
  }
  std::erase_if(fated_, [](const Fated& fated) { return fated.left == 0; });
  for (const Weather& weather : weather_) {
    Draws draws = world_->draws(Draw::kMessage, message.from * 8 + message.to, n, weather.step + 1);
    if (draws.chance(weather.percent)) meets(weather.fate, draws.below(weather.late_max + 1));
  }
  return journey;
}

void RaftNetwork::send(const raft::Message& message) {
  if (message.to == 0 || message.to > world_->setup().nodes) return;
  const std::uint64_t n = ++link(message.from, message.to).sent;
  ++sent_;
  const Journey way = journey(message, n);
  if (message.type == raft::MessageType::kSnapshot) report_snapshot(message, way.lost, n);
  if (way.lost) {
    ++world_->counts().messages_lost;
    world_->note(message.from, [&] { return "lost: " + describe(message); });
    return;
  }
  Draws draws = world_->draws(Draw::kMessage, message.from, message.to, n);
  const RaftSetup& setup = world_->setup();
  carry(message, draws.between(setup.latency_min, setup.latency_max) + way.late);
  if (way.doubled) carry(message, draws.between(setup.latency_min, 4 * setup.latency_max));
}

void RaftNetwork::carry(const raft::Message& message, Micros delay) {
  Link& way = link(message.from, message.to);
  if (world_->setup().ordered) {
    const Micros at = std::max(way.last, world_->now() + delay);
    way.last = at;
    delay = at - world_->now();
  }
  std::string bytes =
      transport::encode_frame(transport::FrameType::kMessages, transport::encode({message}));
  bytes_ += bytes.size();
  world_->queue().after(delay, [this, from = message.from, to = message.to, epoch = way.epoch,
                                bytes = std::move(bytes)] { arrive(from, to, epoch, bytes); });
}

void RaftNetwork::arrive(NodeId from, NodeId to, std::uint64_t epoch, const std::string& bytes) {
  if (world_->setup().ordered && link(from, to).epoch != epoch) return;
  std::string_view input = bytes;
  transport::FrameReader reader(transport::kMaxFrameBytes);
  const auto frame = reader.read(&input);
  if (!frame || !*frame) {
    return world_->invariants().violated("codec", from, "a frame that it sent can't be read");
  }
  auto messages = transport::decode_messages((*frame)->payload);
  if (!messages || messages->size() != 1) {
    return world_->invariants().violated(
        "codec", from, "a message that it sent can't be read: " + messages.status().to_string());
  }
  raft::Message& message = messages->front();
  world_->mark(from << 8 | to, mixed(message.term, static_cast<std::uint64_t>(message.type)));
  world_->note(to, [&] { return "gets " + describe(message); });
  world_->node(to).receive(std::move(message));
}

// The transport tells when a snapshot is out, or that it can't be. One that is lost on its way was
// out.
void RaftNetwork::report_snapshot(const raft::Message& message, bool lost, std::uint64_t n) {
  const RaftSetup& setup = world_->setup();
  Draws draws = world_->draws(Draw::kSnapshotReport, message.from, message.to, n);
  const bool ok = !lost || draws.chance(30);
  const Micros delay =
      ok ? draws.between(setup.latency_min, setup.latency_max) : setup.tick * draws.between(1, 20);
  world_->queue().after(delay, [this, from = message.from, to = message.to, ok,
                                boot = world_->node(message.from).boot()] {
    RaftNode& node = world_->node(from);
    if (node.boot() != boot) return;
    node.post([to, ok](node::Replica& replica) { replica.snapshot_sent(to, ok); });
  });
}

}  // namespace pgraft::sim
