// What the layers cost by themselves: the consensus core with three members in one loop, the codec,
// the store, the state machine. Nothing here waits for a network.
//
// `allocs/msg` counts blocks that the core takes from the heap (inside calls of RawNode) for each
// message between members, besides what it sends: the bytes of each entry, and the list of entries
// of a message to another member. Those lists are `lists/msg`.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "libpgraft/base/check.h"
#include "libpgraft/base/crc32c.h"
#include "libpgraft/raft/raw_node.h"
#include "libpgraft/state/state_machine.h"
#include "libpgraft/storage/log_store.h"
#include "libpgraft/transport/codec.h"

namespace {

thread_local bool counting = false;
thread_local std::uint64_t allocations = 0;

void* allocate(std::size_t size) {
  if (counting) ++allocations;
  if (void* block = std::malloc(size)) return block;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t) noexcept { std::free(block); }

namespace pgraft {
namespace {

constexpr std::size_t kPayloadBytes = 256;
constexpr std::size_t kBatch = 64;

// Inside the core while it lives.
class InCore {
 public:
  InCore() { counting = true; }
  ~InCore() { counting = false; }
  InCore(const InCore&) = delete;
  InCore& operator=(const InCore&) = delete;
};

// Members 1 to n of one group, their stores in memory.
class Group {
 public:
  Group(std::size_t size, const std::function<void(raft::Config*)>& configure) {
    raft::Snapshot start;
    start.meta.index = 1;
    start.meta.term = 1;
    for (raft::NodeId id = 1; id <= size; ++id) start.meta.conf.voters.push_back(id);
    for (raft::NodeId id = 1; id <= size; ++id) {
      Node& node = nodes_.emplace_back();
      node.id = id;
      node.store = storage::make_memory_store();
      node.conf = start.meta.conf;
      storage::WriteBatch batch;
      batch.hard_state = raft::HardState{1, raft::kNoNode, 1};
      batch.snapshot = &start;
      write(node, batch);
      raft::Config config;
      config.id = id;
      config.seed = 7;
      config.applied = 1;
      configure(&config);
      async_ = config.async_storage_writes;
      auto made = raft::RawNode::create(config, node.store.get());
      PGRAFT_CHECK(made.is_ok(), made.status().to_string());
      node.raw = std::move(made).value();
    }
    inboxes_.resize(size);
  }

  void elect(raft::NodeId id) {
    PGRAFT_CHECK(raw(id).campaign().is_ok(), "the campaign was refused");
    settle();
    PGRAFT_CHECK(raw(id).role() == raft::Role::kLeader, "nobody else stood for election");
  }

  void propose(std::vector<std::string> batch) {
    const InCore in_core;
    PGRAFT_CHECK(raw(1).propose(std::move(batch)).is_ok(), "the leader refused a proposal");
  }

  // What node 1 has to say, unheard.
  void drop_ready() {
    Node& node = nodes_[0];
    if (!node.raw->has_ready()) return;
    node.raw->ready_into(&node.ready);
    node.raw->advance();
  }

  // Until there is nothing to write, send, deliver or apply.
  void settle() {
    for (bool busy = true; busy;) {
      busy = false;
      for (Node& node : nodes_) busy = async_ ? process_async(node) || busy : process(node) || busy;
      for (Node& node : nodes_) busy = receive(node) || busy;
    }
  }

  raft::RawNode& raw(raft::NodeId id) { return *nodes_[id - 1].raw; }
  std::uint64_t applied(raft::NodeId id) const { return nodes_[id - 1].applied; }
  std::uint64_t messages() const { return messages_; }
  std::uint64_t lists() const { return lists_; }

 private:
  struct Node {
    raft::NodeId id = 0;
    std::unique_ptr<storage::LogStore> store;
    std::unique_ptr<raft::RawNode> raw;
    raft::Ready ready;
    raft::ConfState conf;
    std::uint64_t applied = 0;
    raft::Index applied_index = 1;
    raft::Index snapshot_index = 1;
  };
  static constexpr raft::Index kSnapshotEvery = 4096;

  void send(raft::Message message) {
    ++messages_;
    if (!message.entries.empty()) ++lists_;
    inboxes_[message.to - 1].push_back(std::move(message));
  }

  void apply(Node& node, const std::vector<raft::Entry>& entries) {
    for (const raft::Entry& entry : entries) node.applied += entry.data.empty() ? 0 : 1;
    node.applied_index = entries.back().index;
  }

  // Keeps the logs short, as a node does.
  void compact(Node& node) {
    if (node.applied_index < node.snapshot_index + kSnapshotEvery) return;
    const raft::Index at = node.applied_index;
    const auto term = node.store->term(at);
    PGRAFT_CHECK(term.is_ok() &&
                     node.store->save_snapshot({{at, *term, node.conf}, ""}, at - kBatch).is_ok(),
                 "the store refused a snapshot");
    node.snapshot_index = at;
  }

  static void write(Node& node, const storage::WriteBatch& batch) {
    const Status s = node.store->write(batch);
    PGRAFT_CHECK(s.is_ok(), s.to_string());
  }

  bool process(Node& node) {
    if (!node.raw->has_ready()) return false;
    raft::Ready& ready = node.ready;
    {
      const InCore in_core;
      node.raw->ready_into(&ready);
    }
    storage::WriteBatch batch;
    batch.hard_state = ready.hard_state;
    batch.entries = ready.entries;
    if (ready.hard_state || !ready.entries.empty()) write(node, batch);
    for (raft::Message& message : ready.messages) send(std::move(message));
    if (!ready.committed_entries.empty()) apply(node, ready.committed_entries);
    {
      const InCore in_core;
      node.raw->advance();
    }
    compact(node);
    return true;
  }

  bool process_async(Node& node) {
    if (!node.raw->has_ready()) return false;
    raft::Ready& ready = node.ready;
    {
      const InCore in_core;
      node.raw->ready_into(&ready);
    }
    for (raft::Message& message : ready.messages) {
      if (message.to == raft::kAppendThread) {
        storage::WriteBatch batch;
        if (message.term != 0)
          batch.hard_state = raft::HardState{message.term, message.vote, message.commit};
        batch.entries = message.entries;
        if (batch.hard_state || !batch.entries.empty()) write(node, batch);
      } else if (message.to == raft::kApplyThread) {
        apply(node, message.entries);
      } else {
        send(std::move(message));
        continue;
      }
      for (raft::Message& response : message.responses) {
        if (response.to != node.id) {
          send(std::move(response));
          continue;
        }
        const InCore in_core;
        node.raw->complete(response);
      }
    }
    compact(node);
    return true;
  }

  bool receive(Node& node) {
    std::vector<raft::Message>& inbox = inboxes_[node.id - 1];
    if (inbox.empty()) return false;
    for (raft::Message& message : inbox) {
      const InCore in_core;
      const Status s = node.raw->step(std::move(message));
      PGRAFT_CHECK(s.is_ok(), s.to_string());
    }
    inbox.clear();
    return true;
  }

  bool async_ = false;
  std::vector<Node> nodes_;
  std::vector<std::vector<raft::Message>> inboxes_;
  std::uint64_t messages_ = 0;
  std::uint64_t lists_ = 0;
};

std::vector<std::string> make_batch() {
  return std::vector<std::string>(kBatch, std::string(kPayloadBytes, 'x'));
}

// From proposing a batch to applied on all three.
void propose(benchmark::State& state, bool async_storage) {
  Group group(3, [&](raft::Config* config) { config->async_storage_writes = async_storage; });
  group.elect(1);
  for (int warm_up = 0; warm_up < 128; ++warm_up) {
    group.propose(make_batch());
    group.settle();
  }
  const std::uint64_t applied_before = group.applied(3);
  const std::uint64_t messages_before = group.messages();
  const std::uint64_t blocks_before = allocations - group.lists();
  const std::uint64_t lists_before = group.lists();
  for (auto _ : state) {
    group.propose(make_batch());
    group.settle();
  }
  const std::uint64_t proposals = group.applied(3) - applied_before;
  PGRAFT_CHECK(proposals == state.iterations() * kBatch, "a proposal was not applied");
  const auto messages = static_cast<double>(group.messages() - messages_before);
  const std::uint64_t blocks = allocations - group.lists() - blocks_before - proposals;
  state.SetItemsProcessed(static_cast<std::int64_t>(proposals));
  state.counters["allocs/msg"] = static_cast<double>(blocks) / messages;
  state.counters["lists/msg"] = static_cast<double>(group.lists() - lists_before) / messages;
}
BENCHMARK_CAPTURE(propose, synchronous_storage, false);
BENCHMARK_CAPTURE(propose, asynchronous_storage, true);

// The leader of five: a tick, which is a heartbeat to each of the others.
void idle_tick(benchmark::State& state) {
  Group group(5, [](raft::Config* config) { config->check_quorum = false; });
  group.elect(1);
  for (auto _ : state) {
    group.raw(1).tick();
    group.drop_ready();
  }
}
BENCHMARK(idle_tick);

// ... and the others' answers.
void heartbeat_round(benchmark::State& state) {
  Group group(5, [](raft::Config*) {});
  group.elect(1);
  for (auto _ : state) {
    group.raw(1).tick();
    group.settle();
  }
}
BENCHMARK(heartbeat_round);

// Pre-vote, vote, and the new leader's first entry applied on all three.
void election(benchmark::State& state) {
  Group group(3, [](raft::Config* config) { config->check_quorum = false; });
  raft::NodeId next = 1;
  for (auto _ : state) {
    group.elect(next);
    next = next % 3 + 1;
  }
}
BENCHMARK(election);

std::vector<raft::Entry> make_entries(raft::Index first) {
  std::vector<raft::Entry> entries(kBatch);
  for (std::size_t i = 0; i < kBatch; ++i) {
    entries[i].index = first + i;
    entries[i].term = 1;
    entries[i].data = std::string(kPayloadBytes, 'x');
  }
  return entries;
}

std::vector<raft::Message> make_append() {
  std::vector<raft::Message> messages(1);
  messages[0].from = 1;
  messages[0].to = 2;
  messages[0].term = messages[0].log_term = 1;
  messages[0].entries = make_entries(1);
  return messages;
}

void set_bytes(benchmark::State& state) {
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kBatch * kPayloadBytes));
}

void encode_append(benchmark::State& state) {
  const std::vector<raft::Message> append = make_append();
  for (auto _ : state) benchmark::DoNotOptimize(transport::encode(append));
  set_bytes(state);
}
BENCHMARK(encode_append);

void decode_append(benchmark::State& state) {
  const std::string bytes = transport::encode(make_append());
  for (auto _ : state) {
    const auto decoded = transport::decode_messages(bytes);
    PGRAFT_CHECK(decoded.is_ok(), "an encoded message is not decoded");
  }
  set_bytes(state);
}
BENCHMARK(decode_append);

void checksum(benchmark::State& state) {
  const std::string bytes(kBatch * kPayloadBytes, 'x');
  for (auto _ : state) benchmark::DoNotOptimize(crc32c(bytes));
  set_bytes(state);
}
BENCHMARK(checksum);

// A batch into LevelDB, with what a node does to keep the log short.
void store_write(benchmark::State& state, bool sync) {
  std::string directory = std::filesystem::temp_directory_path() / "pgraft-bench-XXXXXX";
  PGRAFT_CHECK(mkdtemp(directory.data()) != nullptr, "no temporary directory");
  {
    auto store = storage::open_leveldb_store(directory);
    PGRAFT_CHECK(store.is_ok(), store.status().to_string());
    constexpr raft::Index kSnapshotEvery = 10000;
    std::vector<raft::Entry> entries = make_entries(1);
    raft::Index last_snapshot = 0;
    for (auto _ : state) {
      storage::WriteBatch batch;
      const raft::Index last = entries.back().index;
      batch.hard_state = raft::HardState{1, 1, last};
      batch.entries = entries;
      batch.sync = sync;
      Status s = (*store)->write(batch);
      if (s && last >= last_snapshot + kSnapshotEvery) {
        raft::Snapshot snapshot;
        snapshot.meta.index = last;
        snapshot.meta.term = 1;
        s = (*store)->save_snapshot(snapshot, last - kSnapshotEvery / 2);
        last_snapshot = last;
      }
      PGRAFT_CHECK(s.is_ok(), s.to_string());
      for (raft::Entry& entry : entries) entry.index += kBatch;
    }
  }
  std::filesystem::remove_all(directory);
  set_bytes(state);
}
BENCHMARK_CAPTURE(store_write, synced, true)->UseRealTime();
BENCHMARK_CAPTURE(store_write, unsynced, false)->UseRealTime();

state::Command make_put(std::size_t number) {
  return {1, number + 1, state::KvPut{"key" + std::to_string(number), std::string(256, 'x')}};
}

void encode_put(benchmark::State& state) {
  const state::Command command = make_put(7);
  for (auto _ : state) benchmark::DoNotOptimize(state::encode_command(command));
}
BENCHMARK(encode_put);

// One of a thousand keys gets another value.
void apply_put(benchmark::State& state) {
  std::vector<raft::Entry> entries(1000);
  for (std::size_t i = 0; i < entries.size(); ++i)
    entries[i].data = state::encode_command(make_put(i));
  state::StateMachine machine;
  for (auto _ : state) {
    raft::Entry& entry = entries[machine.applied_index() % entries.size()];
    entry.index = machine.applied_index() + 1;
    std::optional<state::Command> command;
    Status outcome;
    const Status s = machine.apply(entry, &command, &outcome);
    PGRAFT_CHECK(s.is_ok() && outcome.is_ok(), s.to_string());
  }
}
BENCHMARK(apply_put);

}  // namespace
}  // namespace pgraft

BENCHMARK_MAIN();
