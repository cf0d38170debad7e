// engine.h with a real node behind it and a model of the worker's main thread before it.
#include "engine.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "libpgraft/transport/transport.h"

namespace {

constexpr auto kDeadline = std::chrono::seconds(30);
constexpr std::uint64_t kSystem = 7001;

class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "pgraft_engine_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    pgdata_ = root_ + "/data";
    data_dir_ = root_ + "/data.pgraft";
    std::filesystem::create_directory(pgdata_);
    view_ = std::make_unique<PgraftDatabaseView>();
    std::memset(view_.get(), 0, sizeof(*view_));
  }

  void TearDown() override {
    stop();
    std::filesystem::remove_all(root_);
  }

  void start() {
    PgraftEngineConfig config{};
    config.data_dir = data_dir_.c_str();
    config.pgdata = pgdata_.c_str();
    config.node_id = 1;
    config.node_name = "";
    config.cluster_name = "test";
    config.listen_address = "127.0.0.1";
    config.listen_port = 0;
    config.advertise_address = "";
    config.pg_port = 5432;
    config.system_identifier = kSystem;
    config.heartbeat_interval_ms = 20;
    config.election_timeout_ms = 200;
    config.max_log_entries = 100;
    config.health_period_ms = 100;
    config.request_timeout_ms = 10000;
    config.guard = &guard_;
    config.acknowledged = &acknowledged_;
    PgraftError error{};
    engine_ = pgraft_engine_start(&config, &error);
    ASSERT_NE(engine_, nullptr) << error.message;
  }

  void stop() {
    if (engine_ != nullptr) pgraft_engine_stop(engine_);
    engine_ = nullptr;
  }

  // What worker.c does in one round, over a primary that does as it is told.
  void work() {
    pollfd waits{pgraft_engine_event_fd(engine_), POLLIN, 0};
    (void)::poll(&waits, 1, 5);
    pgraft_store(&guard_.worker_tick_ns, pgraft_clock_ns());
    pgraft_engine_drain(engine_);
    pgraft_engine_orders(engine_, &orders_);
    if (!orders_.member) return;
    if (orders_.lift_fence && pgraft_load(&guard_.fence_term) != orders_.term)
      pgraft_engine_lift_fence(engine_, orders_.term);
    view_->orders_seen = orders_.seq;
    view_->in_recovery = false;
    view_->receiver_stopped = true;
    view_->replay_exhausted = false;
    view_->end_known = true;
    view_->frozen = !orders_.admit_walsenders;
    view_->end_timeline = view_->replayed_timeline = view_->highest_history = 1;
    view_->end_lsn = view_->replayed_lsn = 5000;
    view_->quorum_in_force = orders_.quorum_generation;
    pgraft_engine_observe(engine_, view_.get());
  }

  bool work_until(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      work();
    }
    return true;
  }

  PgraftCompletion run(PgraftCommandType type, std::uint64_t node_id = 0) {
    PgraftCommand command{};
    command.id = ++last_id_;
    command.type = type;
    command.node_id = node_id;
    pgraft_engine_submit(engine_, &command);
    PgraftCompletion completion{};
    EXPECT_TRUE(work_until([&] { return pgraft_engine_completion(engine_, &completion); }));
    EXPECT_EQ(completion.id, command.id);
    return completion;
  }

  // A command with texts; the answer's rows come as numbers and texts.
  struct Row {
    PgraftRow fixed{};
    std::string first, second;
  };
  PgraftCompletion ask(PgraftCommand command, const std::vector<std::string>& texts,
                       std::vector<Row>* rows = nullptr) {
    std::string data;
    for (std::size_t i = 0; i < texts.size(); i++) {
      command.sizes[i] = static_cast<std::uint32_t>(texts[i].size());
      data += texts[i];
    }
    command.data = data.data();
    command.id = ++last_id_;
    command.queued_ns = pgraft_clock_ns();
    pgraft_engine_submit(engine_, &command);
    data.assign(data.size(), '#');  // the engine has its own copy
    PgraftCompletion completion{};
    EXPECT_TRUE(work_until([&] { return pgraft_engine_completion(engine_, &completion); }));
    EXPECT_EQ(completion.id, command.id);
    for (std::size_t next = 0; rows != nullptr && next < completion.size;) {
      Row row;
      std::memcpy(&row.fixed, completion.data + next, sizeof(row.fixed));
      next += sizeof(row.fixed);
      row.first.assign(completion.data + next, row.fixed.sizes[0]);
      row.second.assign(completion.data + next + row.fixed.sizes[0], row.fixed.sizes[1]);
      next += row.fixed.sizes[0] + row.fixed.sizes[1];
      rows->push_back(row);
    }
    if (rows != nullptr) pgraft_engine_free(&completion);
    return completion;
  }
  static PgraftCommand command_of(PgraftCommandType type, std::uint64_t number = 0) {
    PgraftCommand command{};
    command.type = type;
    command.number = number;
    return command;
  }

  PgraftCode boot(std::uint64_t node_id, std::uint64_t system = kSystem) {
    return pgraft_boot_check(data_dir_.c_str(), pgdata_.c_str(), node_id, "test", system, &boot_,
                             &error_);
  }

  std::string root_, pgdata_, data_dir_;
  PgraftGuard guard_{};
  std::uint64_t acknowledged_ = 0;
  PgraftEngine* engine_ = nullptr;
  PgraftOrders orders_{};
  std::unique_ptr<PgraftDatabaseView> view_;
  PgraftBoot boot_{};
  PgraftError error_{};
  std::uint64_t last_id_ = 0;
};

TEST_F(EngineTest, AFreshServerIsNoMemberAndTheCheckCreatesNothing) {
  EXPECT_EQ(boot(1), PGRAFT_OK) << error_.message;
  EXPECT_FALSE(boot_.member);
  EXPECT_FALSE(std::filesystem::exists(data_dir_));
  EXPECT_TRUE(std::filesystem::is_empty(pgdata_));
}

TEST_F(EngineTest, AServerOfNoClusterIsLeftAlone) {
  pgraft_store(&guard_.standalone, 1);
  start();
  for (int i = 0; i < 50; i++) work();
  EXPECT_FALSE(orders_.member);
  EXPECT_EQ(pgraft_load(&guard_.standalone), 1u);
  EXPECT_TRUE(pgraft_writes_allowed(&guard_));
}

TEST_F(EngineTest, InitMakesAWritableLeaderAndASecondOneIsRefused) {
  pgraft_store(&guard_.standalone, 1);
  start();
  EXPECT_EQ(run(PGRAFT_CMD_INIT).error.code, PGRAFT_OK);
  ASSERT_TRUE(work_until(
      [&] { return pgraft_load(&guard_.standalone) == 0 && pgraft_writes_allowed(&guard_); }));
  PgraftEngineStatus status{};
  pgraft_engine_status(engine_, &status);
  EXPECT_TRUE(status.member);
  EXPECT_EQ(status.leader_id, 1u);
  EXPECT_EQ(status.members_count, 1);
  EXPECT_EQ(run(PGRAFT_CMD_INIT).error.code, PGRAFT_FAILED_PRECONDITION);
  EXPECT_EQ(run(PGRAFT_CMD_REMOVE_NODE, 9).error.code, PGRAFT_NOT_FOUND);
}

// What nobody asks the server for because it is down, or because no session is at hand.
TEST_F(EngineTest, TheRaftPortTellsOfFenceLeasePauseAndRejoins) {
  start();
  PgraftEngineStatus status{};
  pgraft_engine_status(engine_, &status);
  const auto port = static_cast<std::uint16_t>(status.raft_port);
  const auto asked = [&] {
    return pgraft::transport::query_status("127.0.0.1", port, std::chrono::seconds(30));
  };
  auto answer = asked();
  ASSERT_TRUE(answer.is_ok() && answer->more) << answer.status().to_string();
  EXPECT_TRUE(answer->more->fenced);
  EXPECT_EQ(answer->more->lease_ms, 0u);
  EXPECT_EQ(answer->more->paused_until_ms, 0u);
  EXPECT_TRUE(answer->more->rejoins.empty());

  ASSERT_EQ(run(PGRAFT_CMD_INIT).error.code, PGRAFT_OK);
  ASSERT_TRUE(work_until([&] { return pgraft_writes_allowed(&guard_); }));
  PgraftCommand pause = command_of(PGRAFT_CMD_PAUSE);
  pause.until_ms = 4102444800000;
  std::strcpy(pause.address, "ops");
  EXPECT_EQ(ask(pause, {}).error.code, PGRAFT_OK);
  PgraftRejoin rejoin{};
  rejoin.node = 2;
  std::strcpy(rejoin.phase, "copy");
  rejoin.bytes_done = 10, rejoin.bytes_total = 20, rejoin.seconds = 3;
  pgraft_engine_rejoins(engine_, &rejoin, 1);
  ASSERT_TRUE(work_until([&] {
    answer = asked();
    return answer.is_ok() && answer->more && !answer->more->fenced && answer->more->lease_ms > 0 &&
           answer->more->paused_until_ms == pause.until_ms && !answer->more->rejoins.empty();
  }));
  EXPECT_EQ(answer->more->paused_by, "ops");
  EXPECT_EQ(answer->more->rejoins,
            (std::vector<pgraft::transport::RejoinStatus>{{2, "copy", 10, 20, 3}}));
  EXPECT_EQ(answer->more->contacts, (std::vector<pgraft::transport::StatusMore::Contact>{{1, 0}}));
  pgraft_engine_rejoins(engine_, nullptr, 0);
  EXPECT_TRUE(work_until([&] {
    answer = asked();
    return answer.is_ok() && answer->more && answer->more->rejoins.empty();
  }));
}

// PROTOCOL.md, M9
TEST_F(EngineTest, AReadBarrierSaysWhereTheAcknowledgedWalEnds) {
  start();
  ASSERT_EQ(run(PGRAFT_CMD_INIT).error.code, PGRAFT_OK);
  ASSERT_TRUE(work_until([&] { return pgraft_writes_allowed(&guard_); }));
  std::vector<Row> rows;
  const PgraftCompletion before = ask(command_of(PGRAFT_CMD_READ_BARRIER), {}, &rows);
  EXPECT_EQ(before.error.code, PGRAFT_OK) << before.error.message;
  pgraft_store(&acknowledged_, 6000);
  ask(command_of(PGRAFT_CMD_READ_BARRIER), {}, &rows);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].fixed.numbers[0],
            5000u);  // where the WAL ended when the quorum came into force
  EXPECT_EQ(rows[0].fixed.numbers[1], 1u);
  EXPECT_EQ(rows[1].fixed.numbers[0], 6000u);
}

// rule 2
TEST_F(EngineTest, NothingOpensForATermThatIsOver) {
  start();
  ASSERT_EQ(run(PGRAFT_CMD_INIT).error.code, PGRAFT_OK);
  ASSERT_TRUE(work_until([&] { return orders_.term > 0; }));
  ASSERT_TRUE(work_until([&] { return orders_.term == pgraft_load(&guard_.current_term); }));
  const std::uint64_t term = orders_.term;
  EXPECT_FALSE(pgraft_engine_open_gate(engine_, term - 1, 1, 100));
  EXPECT_FALSE(pgraft_engine_open_gate(engine_, term + 1, 1, 100));
  EXPECT_EQ(pgraft_load(&guard_.gate_term), 0u);
  EXPECT_TRUE(pgraft_engine_open_gate(engine_, term, 1, 100));
  EXPECT_EQ(pgraft_load(&guard_.gate_term), term);
  EXPECT_EQ(pgraft_load(&guard_.gate_switch), 100u);
  EXPECT_FALSE(pgraft_engine_lift_fence(engine_, term - 1));
}

// rules 1 and 7: what a worker left open doesn't survive the next one's start.
TEST_F(EngineTest, ARestartedMemberStartsFencedAndKnowsThatItIsOne) {
  start();
  ASSERT_EQ(run(PGRAFT_CMD_INIT).error.code, PGRAFT_OK);
  ASSERT_TRUE(work_until([&] { return pgraft_writes_allowed(&guard_); }));
  stop();

  EXPECT_EQ(boot(1), PGRAFT_OK) << error_.message;
  EXPECT_TRUE(boot_.member);
  start();
  EXPECT_FALSE(pgraft_writes_allowed(&guard_));
  orders_ = {};
  ASSERT_TRUE(work_until([&] { return orders_.member; }));
  EXPECT_TRUE(work_until([&] { return pgraft_writes_allowed(&guard_); }));
}

// rule 11
TEST_F(EngineTest, ALeaderWhoseMainThreadHangsLosesItsLease) {
  start();
  ASSERT_EQ(run(PGRAFT_CMD_INIT).error.code, PGRAFT_OK);
  ASSERT_TRUE(work_until([&] { return pgraft_writes_allowed(&guard_); }));
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (pgraft_writes_allowed(&guard_) && std::chrono::steady_clock::now() < deadline)
    ::poll(nullptr, 0, 10);
  EXPECT_FALSE(pgraft_writes_allowed(&guard_));
}

// rule 7, reads
TEST(Guard, AFollowerIsInContactWhileItsGateIsOpenAndItsLeaderIsHeard) {
  PgraftGuard guard{};
  const std::uint64_t later = pgraft_clock_ns() + 60'000'000'000u;
  EXPECT_FALSE(pgraft_in_contact(&guard));
  guard.contact_until_ns = later;
  EXPECT_FALSE(pgraft_in_contact(&guard));
  guard.gate_term = 3;
  EXPECT_TRUE(pgraft_in_contact(&guard));
  guard.contact_until_ns = pgraft_clock_ns();
  EXPECT_FALSE(pgraft_in_contact(&guard));

  guard = {};
  guard.fence_term = 3;  // a leader
  EXPECT_FALSE(pgraft_in_contact(&guard));
  guard.lease_until_ns = later;
  EXPECT_TRUE(pgraft_in_contact(&guard));
  guard = {};
  guard.standalone = 1;
  EXPECT_TRUE(pgraft_in_contact(&guard));
}

TEST_F(EngineTest, KeysGoThroughTheBoundaryUnchanged) {
  start();
  ASSERT_EQ(run(PGRAFT_CMD_INIT).error.code, PGRAFT_OK);
  const std::string value("\0\xff text", 7);
  const PgraftCompletion put = ask(command_of(PGRAFT_CMD_KV_PUT, 60000), {"key", value});
  ASSERT_EQ(put.error.code, PGRAFT_OK) << put.error.message;
  EXPECT_EQ(pgraft_load(&guard_.kv_revision), put.value);

  std::vector<Row> rows;
  ASSERT_EQ(ask(command_of(PGRAFT_CMD_KV_GET), {"key"}, &rows).error.code, PGRAFT_OK);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].first, "key");
  EXPECT_EQ(rows[0].second, value);
  EXPECT_EQ(rows[0].fixed.numbers[0], put.value);
  EXPECT_EQ(rows[0].fixed.numbers[2], 60000u);
  // A leader knows how long it lives, from its next tick on.
  EXPECT_TRUE(work_until([&] {
    std::vector<Row> again;
    ask(command_of(PGRAFT_CMD_KV_GET), {"key"}, &again);
    return again.size() == 1 && again[0].fixed.numbers[3] > 1;
  }));

  PgraftCommand compare = command_of(PGRAFT_CMD_KV_COMPARE_AND_SET);
  compare.flags = PGRAFT_BY_VALUE;
  EXPECT_EQ(ask(compare, {"key", "new", "else"}).value, 0u);
  EXPECT_GT(ask(compare, {"key", "new", value}).value, put.value);

  rows.clear();
  PgraftCommand changes = command_of(PGRAFT_CMD_KV_CHANGES, 100);
  changes.revision = put.value;
  ask(changes, {"k"}, &rows);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].second, "new");
  rows.clear();
  ask(command_of(PGRAFT_CMD_KV_LIST, 10), {"", ""}, &rows);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].first, "key");
  EXPECT_EQ(ask(command_of(PGRAFT_CMD_KV_PUT), {"", "v"}).error.code, PGRAFT_INVALID_ARGUMENT);
}

TEST_F(EngineTest, EntriesAndMeasurementsAreShown) {
  start();
  ASSERT_EQ(run(PGRAFT_CMD_INIT).error.code, PGRAFT_OK);
  const PgraftCompletion append = ask(command_of(PGRAFT_CMD_LOG_APPEND), {"line"});
  ASSERT_EQ(append.error.code, PGRAFT_OK);
  std::vector<Row> rows;
  ask(command_of(PGRAFT_CMD_LOG_ENTRY, append.value), {}, &rows);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].first, "log_append");
  EXPECT_EQ(rows[0].second, "line");
  EXPECT_EQ(ask(command_of(PGRAFT_CMD_LOG_ENTRY, append.value + 1000), {}).error.code,
            PGRAFT_NOT_FOUND);

  // What a leader tells of its becoming one is an entry like others.
  ASSERT_TRUE(work_until([&] { return pgraft_writes_allowed(&guard_); }));
  const auto metrics = std::make_unique<PgraftMetrics>();
  ASSERT_TRUE(work_until([&] {
    PgraftCompletion completion = ask(command_of(PGRAFT_CMD_METRICS), {});
    if (completion.size != sizeof(PgraftMetrics)) return false;
    std::memcpy(metrics.get(), completion.data, sizeof(PgraftMetrics));
    pgraft_engine_free(&completion);
    return metrics->leader_changes_count == 1;
  }));
  EXPECT_EQ(metrics->leader_changes[0].node, 1u);
  EXPECT_EQ(metrics->log_appends, 1u);
  EXPECT_EQ(metrics->entries.count, 1u);
  EXPECT_GT(metrics->disk_write.count, 0u);
  EXPECT_GT(metrics->resident_bytes, 0u);
  EXPECT_EQ(metrics->peers_count, 1);
}

// rule 10
TEST_F(EngineTest, HalvesThatDoNotBelongTogetherAreRefused) {
  start();
  ASSERT_EQ(run(PGRAFT_CMD_INIT).error.code, PGRAFT_OK);
  stop();
  EXPECT_EQ(boot(2), PGRAFT_MISMATCH);
  EXPECT_EQ(boot(1, kSystem + 1), PGRAFT_MISMATCH);
  EXPECT_EQ(boot(0), PGRAFT_MISMATCH);
  EXPECT_NE(std::string(error_.message).find("pgraft.node_id"), std::string::npos);
  std::filesystem::remove_all(data_dir_);
  EXPECT_EQ(boot(1), PGRAFT_MISMATCH);
}

TEST_F(EngineTest, AFailedStartSaysWhy) {
  std::ofstream(root_ + "/file") << "no directory";
  data_dir_ = root_ + "/file";
  PgraftEngineConfig config{};
  config.data_dir = data_dir_.c_str();
  config.pgdata = pgdata_.c_str();
  config.node_id = 1;
  config.node_name = config.advertise_address = "";
  config.cluster_name = "test";
  config.listen_address = "127.0.0.1";
  config.pg_port = 5432;
  config.heartbeat_interval_ms = 20;
  config.election_timeout_ms = 200;
  config.max_log_entries = 100;
  config.health_period_ms = 100;
  config.request_timeout_ms = 1000;
  config.guard = &guard_;
  EXPECT_EQ(pgraft_engine_start(&config, &error_), nullptr);
  EXPECT_NE(error_.code, PGRAFT_OK);
  EXPECT_NE(std::string(error_.message), "");
}

TEST_F(EngineTest, AFileIsReplacedWhole) {
  const std::string path = root_ + "/pgraft.conf";
  EXPECT_EQ(pgraft_write_file(path.c_str(), "one\n", &error_), PGRAFT_OK);
  EXPECT_EQ(pgraft_write_file(path.c_str(), "two\n", &error_), PGRAFT_OK);
  std::string line;
  std::ifstream in(path);
  std::getline(in, line);
  EXPECT_EQ(line, "two");
  EXPECT_EQ(pgraft_write_file((root_ + "/none/x").c_str(), "", &error_), PGRAFT_IO);
}

}  // namespace
