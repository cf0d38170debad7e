#include "libpgraft/sim/raft_clients.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "libpgraft/sim/raft_world.h"

namespace pgraft::sim {
namespace {

ClientOperation::Kind kind_of(RequestStep::Kind kind) {
  switch (kind) {
    case RequestStep::Kind::kPut: return ClientOperation::Kind::kPut;
    case RequestStep::Kind::kGet: return ClientOperation::Kind::kGet;
    case RequestStep::Kind::kDelete: return ClientOperation::Kind::kDelete;
  }
  return ClientOperation::Kind::kGet;
}

// Nothing was proposed.
bool is_refusal(Code code) {
  return code == Code::kNotLeader || code == Code::kNoQuorum || code == Code::kFailedPrecondition ||
         code == Code::kInvalidArgument || code == Code::kResourceExhausted;
}

}  // namespace

void RaftClients::start() {
  clients_.resize(world_->setup().clients + 1);
  for (const RequestStep& step : world_->plan().requests) {
    clients_[step.client].steps.push_back(&step);
  }
  for (NodeId client = 1; client < clients_.size(); ++client) go_on(client);
}

void RaftClients::stop() { stopped_ = true; }

void RaftClients::go_on(NodeId client) {
  const Client& who = clients_[client];
  if (who.next == who.steps.size()) return;
  const Micros at = who.steps[who.next]->at;
  const Micros delay = at > world_->now() ? at - world_->now() : 0;
  world_->queue().after(delay, [this, client] { issue(client); });
}

void RaftClients::issue(NodeId client) {
  if (stopped_) return;
  Client& who = clients_[client];
  const RequestStep& step = *who.steps[who.next++];
  NodeId via = step.via != 0 ? step.via : who.node;
  if (via == 0 || via > world_->setup().nodes) via = 1 + step.number % world_->setup().nodes;
  const std::size_t operation = history_.size();
  who.operation = operation;
  who.busy = true;
  std::string value;
  if (step.kind == RequestStep::Kind::kPut) {
    value = std::to_string(step.number);  // unique
    if (value.size() < step.value_bytes) value.resize(step.value_bytes, '.');
  }
  ask(client, via, kind_of(step.kind), "k" + std::to_string(step.key), value,
      [this, client, operation, via](const Status& status) {
        clients_[client].node = status ? via : 0;
        ended(client, operation, status);
      });
  world_->queue().after(step.patience, [this, client, operation] {
    ended(client, operation, Status(Code::kTimeout, "the client has lost its patience"));
  });
}

void RaftClients::ended(NodeId client, std::size_t operation, const Status& status) {
  Client& who = clients_[client];
  if (!who.busy || who.operation != operation) return;  // too late
  who.busy = false;
  if (status.code() == Code::kTimeout) {
    who.node = 0;
    world_->note(0, [&] { return "no answer to " + describe(history_[operation].operation); });
  }
  go_on(client);
}

Micros RaftClients::latency(std::size_t operation, std::uint64_t way) const {
  return world_->draws(Draw::kRequest, operation, way)
      .between(world_->setup().latency_min, world_->setup().latency_max);
}

void RaftClients::ask(NodeId client, NodeId via, ClientOperation::Kind kind, const std::string& key,
                      const std::string& value, std::function<void(const Status&)> done) {
  const std::size_t operation = history_.size();
  Recorded recorded;
  recorded.operation.client = client;
  recorded.operation.kind = kind;
  recorded.operation.key = key;
  recorded.operation.value = value;
  recorded.operation.called = world_->event_number();
  history_.push_back(std::move(recorded));
  ++world_->counts().requests;
  world_->note(0, [&] {
    return "asks node " + std::to_string(via) + ": " + describe(history_[operation].operation);
  });
  world_->queue().after(latency(operation, 0), [this, via, operation, done = std::move(done)] {
    deliver(via, operation, done);
  });
}

void RaftClients::deliver(NodeId via, std::size_t operation,
                          const std::function<void(const Status&)>& done) {
  RaftNode& node = world_->node(via);
  const auto answer = [this, via, operation, done](const Status& status,
                                                   std::optional<std::string> read) {
    // What a get gives is what the client gets, when that arrives.
    world_->queue().after(latency(operation, 1),
                          [this, via, operation, done, status, read = std::move(read)]() mutable {
                            history_[operation].operation.read = std::move(read);
                            answered(operation, via, status, done);
                          });
  };
  if (!node.up()) {
    return answer(Status(Code::kNotLeader, "nobody is there"), std::nullopt);
  }
  node.post([this, operation, answer](node::Replica& replica) {
    const ClientOperation& op = history_[operation].operation;
    switch (op.kind) {
      case ClientOperation::Kind::kGet:
        return replica.read_barrier(
            [answer, key = op.key, &replica](const Status& status, std::uint64_t) {
              if (!status) return answer(status, std::nullopt);
              const state::KvItem* found = replica.machine().kv().find(key);
              if (found == nullptr) return answer(status, std::nullopt);
              answer(status, found->value);
            });
      case ClientOperation::Kind::kDelete:
        return replica.propose(
            state::KvDelete{op.key},
            [answer](const Status& status, std::uint64_t) { answer(status, std::nullopt); });
      default:
        return replica.propose(
            state::KvPut{op.key, op.value},
            [answer](const Status& status, std::uint64_t) { answer(status, std::nullopt); });
    }
  });
}

void RaftClients::answered(std::size_t operation, NodeId via, const Status& status,
                           const std::function<void(const Status&)>& done) {
  Recorded& recorded = history_[operation];
  RaftCounts& counts = world_->counts();
  if (status) {
    recorded.operation.returned = world_->event_number();
    ++counts.requests_done;
  } else if (is_refusal(status.code())) {
    recorded.refused = true;
    ++counts.requests_refused;
  } else {
    ++counts.requests_unknown;
  }
  world_->mark(operation, static_cast<std::uint64_t>(status.code()));
  world_->note(0, [&] {
    const std::string what = describe(recorded.operation);
    return "node " + std::to_string(via) + " answers " + what +
           (status ? "" : ": " + status.to_string());
  });
  if (done) done(status);
}

std::vector<ClientOperation> RaftClients::history() const {
  std::vector<ClientOperation> history;
  for (const Recorded& recorded : history_) {
    const ClientOperation& op = recorded.operation;
    const bool unread = op.kind == ClientOperation::Kind::kGet && op.returned == kNeverReturned;
    if (!recorded.refused && !unread) history.push_back(op);
  }
  return history;
}

}  // namespace pgraft::sim
