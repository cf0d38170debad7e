// What the core takes from the heap in the steady state: a block for the bytes of each entry, one
// for the list of entries of each message to another member, and nothing else. A program of its
// own, as it replaces operator new.
#include <array>
#include <cstdlib>
#include <new>

#include "libpgraft/raft/raft_test_cluster.h"

namespace {

bool counting = false;
std::uint64_t blocks = 0;

void* allocate(std::size_t size) {
  if (counting) ++blocks;
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

namespace pgraft::raft {
namespace {

// Inside the core while it lives.
class InCore {
 public:
  InCore() { counting = true; }
  ~InCore() { counting = false; }
  InCore(const InCore&) = delete;
  InCore& operator=(const InCore&) = delete;
};

// Three members that store and apply at once. Their readies keep their memory, as a caller's do
// that uses ready_into().
class Group {
 public:
  explicit Group(bool asynchronous) : asynchronous_(asynchronous) {
    auto start = std::make_shared<Snapshot>();
    start->meta = {1, 1, {{1, 2, 3}, {}, {}, {}, false, {}}};
    for (NodeId id = 1; id <= 3; ++id) {
      Member& member = members_[id - 1];
      member.log.install(start);
      member.log.hard = {1, kNoNode, 1};
      Config config;
      config.id = id;
      config.applied = 1;
      config.async_storage_writes = asynchronous;
      member.raw = RawNode::create(config, &member.log).value();
    }
    EXPECT_TRUE(leader().campaign().is_ok());
    settle();
    EXPECT_EQ(leader().role(), Role::kLeader);
  }

  RawNode& leader() { return *members_[0].raw; }

  void propose(std::size_t entries) {
    std::vector<std::string> batch(entries, std::string(100, 'x'));
    const InCore in_core;
    EXPECT_TRUE(leader().propose(std::move(batch)).is_ok());
  }
  void tick() {
    for (Member& member : members_) {
      const InCore in_core;
      member.raw->tick();
    }
  }
  void settle() {
    for (bool busy = true; busy;) {
      busy = false;
      for (Member& member : members_) busy |= process(member);
      for (Member& member : members_) busy |= receive(member);
    }
  }

  std::uint64_t messages = 0;  // between members
  std::uint64_t lists = 0;     // of entries, in these
  std::uint64_t applied = 0;   // entries, on all

 private:
  struct Member {
    TestLog log;
    std::unique_ptr<RawNode> raw;
    Ready ready;
    std::vector<Message> inbox;
  };

  bool process(Member& member) {
    if (!member.raw->has_ready()) return false;
    Ready& ready = member.ready;
    {
      const InCore in_core;
      member.raw->ready_into(&ready);
    }
    member.log.append(ready.entries);
    if (ready.hard_state) member.log.hard = *ready.hard_state;
    applied += ready.committed_entries.size();
    for (Message& message : ready.messages) {
      if (message.to == kAppendThread) {
        member.log.append(message.entries);
      } else if (message.to == kApplyThread) {
        applied += message.entries.size();
      } else {
        send(std::move(message));
        continue;
      }
      for (Message& response : message.responses) respond(member, response);
    }
    if (!asynchronous_) {
      const InCore in_core;
      member.raw->advance();
    }
    return true;
  }
  void respond(Member& member, Message& response) {
    if (&member != &members_.at(response.to - 1)) return send(std::move(response));
    const InCore in_core;
    member.raw->complete(response);
  }
  void send(Message message) {
    ++messages;
    lists += message.entries.empty() ? 0 : 1;
    members_.at(message.to - 1).inbox.push_back(std::move(message));
  }
  bool receive(Member& member) {
    for (Message& message : member.inbox) {
      const InCore in_core;
      EXPECT_TRUE(member.raw->step(std::move(message)).is_ok());
    }
    return !std::exchange(member.inbox, {}).empty();
  }

  const bool asynchronous_;
  std::array<Member, 3> members_;
};

class Allocations : public testing::TestWithParam<bool> {};

// One at a time, in batches, and several batches that are under way at once.
TEST_P(Allocations, OfTheSteadyStateAreThoseOfWhatIsSent) {
  for (const auto& [entries, batches] : {std::pair<std::size_t, int>{1, 1}, {64, 1}, {5, 8}}) {
    Group group(GetParam());
    const auto rounds = [&group, entries = entries, batches = batches](int count) {
      for (int i = 0; i < count; ++i) {
        for (int batch = 0; batch < batches; ++batch) group.propose(entries);
        group.settle();
        group.tick();
        group.settle();
      }
    };
    rounds(50);
    blocks = group.messages = group.lists = group.applied = 0;
    rounds(200);
    const std::uint64_t proposed = 200 * entries * static_cast<std::uint64_t>(batches);
    EXPECT_EQ(group.applied, 3 * proposed);
    EXPECT_GT(group.messages, 0u);
    EXPECT_EQ(blocks, proposed + group.lists) << entries << " " << batches;
  }
}

INSTANTIATE_TEST_SUITE_P(, Allocations, testing::Bool(), [](const auto& storage) {
  return storage.param ? "AsynchronousStorage" : "SynchronousStorage";
});

}  // namespace
}  // namespace pgraft::raft

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
