#include "libpgraft/failover/switchover.h"

#include <gtest/gtest.h>

#include <functional>

namespace pgraft::failover {
namespace {

constexpr Lsn kLagMax = 100;

// Node 1 leads {1, 2, 3}; both others have all WAL but 10 bytes.
struct Leader {
  Leader() {
    raft.self = 1;
    raft.role = Role::kLeader;
    raft.leader = 1;
    raft.voters = raft.answering = {1, 2, 3};
    database.in_recovery = false;
    database.end = {1, 1000};
    database.streams = {{2, 990}, {3, 990}};
  }
  RaftView raft;
  DatabaseView database;
};

TEST(MayTakeOver, NamesTheReason) {
  const struct {
    const char* what;
    std::function<void(Leader&)> change;
    NodeId to;
    Code code;
    const char* reason;
  } cases[] = {
      {"ready", [](Leader&) {}, 2, Code::kOk, ""},
      {"stranger", [](Leader&) {}, 9, Code::kNotFound, "not a member"},
      {"learner", [](Leader& l) { l.raft.learners = {4}; }, 4, Code::kFailedPrecondition,
       "is a learner"},
      {"silent",
       [](Leader& l) {
         l.raft.answering = {1, 3};
       },
       2, Code::kFailedPrecondition, "does not answer"},
      {"without a stream", [](Leader& l) { l.database.streams.erase(2); }, 2,
       Code::kFailedPrecondition, "does not stream"},
      {"abstaining", [](Leader& l) { l.database.streams[2] = 0; }, 2, Code::kFailedPrecondition,
       "catching up"},
      {"at the limit", [](Leader& l) { l.database.streams[2] = 900; }, 2, Code::kOk, ""},
      {"behind", [](Leader& l) { l.database.streams[2] = 899; }, 2, Code::kFailedPrecondition,
       "lacks 101 bytes"},
      {"ahead of an old view", [](Leader& l) { l.database.streams[2] = 1100; }, 2, Code::kOk, ""},
      {"priority 0", [](Leader& l) { l.raft.priorities[2] = 0; }, 2, Code::kFailedPrecondition,
       "failover_priority 0"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    Leader leader;
    c.change(leader);
    const Status s = may_take_over(c.to, leader.raft, leader.database, kLagMax);
    EXPECT_EQ(s.code(), c.code) << s.message();
    EXPECT_NE(s.message().find(c.reason), std::string::npos) << s.message();
  }
}

TEST(BestSuccessor, HasPriorityThenWal) {
  Leader leader;
  leader.database.streams[3] = 995;
  EXPECT_EQ(*best_successor(leader.raft, leader.database, kLagMax), 3u);
  leader.raft.priorities = {{2, 60}, {3, 50}};
  EXPECT_EQ(*best_successor(leader.raft, leader.database, kLagMax), 2u);
  leader.raft.priorities[2] = 0;
  EXPECT_EQ(*best_successor(leader.raft, leader.database, kLagMax), 3u);
  leader.raft.answering = {1, 2};
  const Result<NodeId> none = best_successor(leader.raft, leader.database, kLagMax);
  ASSERT_FALSE(none.is_ok());
  EXPECT_NE(none.status().message().find("node 2 has"), std::string::npos);
  EXPECT_NE(none.status().message().find("node 3 does not answer"), std::string::npos);
}

// Every stage waits for a view that has seen its orders.
TEST(Switchover, GoesOnOnlyByWhatAViewHasSeen) {
  Leader leader;
  leader.database.streams[2] = 1000;
  Switchover s({2, 100, false}, 1);
  const auto update = [&] { return s.update(leader.raft, leader.database, 2); };
  leader.database.settled = true;
  EXPECT_TRUE(update());
  EXPECT_EQ(s.drain(), Drain::kHold) << "no orders have been carried out";
  s.ordered(7);
  leader.database.orders_seen = 6;
  EXPECT_TRUE(update());
  EXPECT_EQ(s.drain(), Drain::kHold) << "a view of before";
  leader.database.orders_seen = 7;
  leader.database.writers = 1;
  EXPECT_TRUE(update());
  EXPECT_EQ(s.drain(), Drain::kHold) << "a transaction runs";
  leader.database.writers = 0;
  EXPECT_TRUE(update());
  EXPECT_EQ(s.drain(), Drain::kEnd);
  EXPECT_FALSE(s.fenced());
  s.ordered(8);
  leader.database.orders_seen = 8;
  EXPECT_TRUE(update());
  EXPECT_TRUE(s.fenced());
  EXPECT_FALSE(s.handing_over());
  s.ordered(9);
  leader.database.orders_seen = 9;
  leader.database.end.lsn = 1010;  // what an ending session wrote
  EXPECT_TRUE(update());
  EXPECT_FALSE(s.handing_over());
  leader.database.streams[2] = 1010;
  EXPECT_TRUE(update());
  EXPECT_TRUE(s.handing_over());
}

}  // namespace
}  // namespace pgraft::failover
