#include "libpgraft/node/member_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>

namespace pgraft::node {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class MemberFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "pgraft_files_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    reset();
  }
  void TearDown() override { fs::remove_all(root_); }

  void reset() {
    fs::remove_all(root_);
    fs::create_directories(pgdata());
  }
  std::string data_dir() const { return root_ + "/state/node"; }
  std::string pgdata() const { return root_ + "/pgdata"; }
  void put(const std::string& path, const std::string& content) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << content;
  }
  std::string get(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  mode_t mode(const std::string& path) {
    struct stat s = {};
    EXPECT_EQ(::stat(path.c_str(), &s), 0) << path;
    return s.st_mode & 0777;
  }

  std::string root_;
};

const IdentityFile kIdentity{"shop", 11, 2, 33, 7123456789012345678ull, 55};
const RejoinFile kRejoin{
    RejoinState::kCatchingUp, RejoinMode::kClone, 3, "10.0.0.3", 5432, {4, 0x2A00000028ull}, 77,
    "diverged at 0/3000060"};
const TimelinesFile kTimelines{9, 7, {{1, 0x3000000}, {5, 0x1200000000ull}}};

TEST_F(MemberFilesTest, EveryFileComesBackAsItWasWritten) {
  ASSERT_TRUE(write_identity(data_dir(), kIdentity));
  EXPECT_EQ(*read_identity(data_dir()), kIdentity);

  const BindingFile binding{2, 33, ~0ull};
  ASSERT_TRUE(write_binding(pgdata(), binding));
  EXPECT_EQ(*read_binding(pgdata()), binding);

  for (const RejoinState state :
       {RejoinState::kRequested, RejoinState::kWorking, RejoinState::kCatchingUp}) {
    for (const RejoinMode mode : {RejoinMode::kRewind, RejoinMode::kClone}) {
      RejoinFile rejoin = kRejoin;
      rejoin.state = state;
      rejoin.mode = mode;
      ASSERT_TRUE(write_rejoin(data_dir(), rejoin));
      EXPECT_EQ(*read_rejoin(data_dir()), rejoin);
    }
  }
  for (const TimelinesFile& timelines : {kTimelines, TimelinesFile{}}) {
    ASSERT_TRUE(write_timelines(data_dir(), timelines));
    EXPECT_EQ(*read_timelines(data_dir()), timelines);
  }
  const std::vector<state::Member> members = {{1, 2, "n1", "10.0.0.1", 8001, "db1", 5432},
                                              {2, 3, "n2", "::1", 8002, "", 0}};
  for (const auto& list : {members, std::vector<state::Member>{}}) {
    ASSERT_TRUE(write_members(data_dir(), list));
    EXPECT_EQ(*read_members(data_dir()), list);
  }
}

TEST_F(MemberFilesTest, AbsentFilesAreNotFound) {
  EXPECT_EQ(read_identity(data_dir()).status().code(), Code::kNotFound);
  EXPECT_EQ(read_binding(pgdata()).status().code(), Code::kNotFound);
  EXPECT_EQ(read_rejoin(data_dir()).status().code(), Code::kNotFound);
  EXPECT_EQ(read_timelines(data_dir()).status().code(), Code::kNotFound);
  EXPECT_EQ(read_wal_end(data_dir()).status().code(), Code::kNotFound);
  EXPECT_EQ(read_members(data_dir()).status().code(), Code::kNotFound);
  EXPECT_TRUE(remove_rejoin(data_dir()));
}

TEST_F(MemberFilesTest, FilesAndDirectoriesAreTheOwnersOnly) {
  ASSERT_TRUE(write_identity(data_dir(), kIdentity));
  EXPECT_EQ(mode(data_dir()), 0700u);
  EXPECT_EQ(mode(data_dir() + "/identity"), 0600u);
}

TEST_F(MemberFilesTest, AWriteThatFailsLeavesTheOldFile) {
  ASSERT_TRUE(write_identity(data_dir(), kIdentity));
  // A directory in the way of the temporary file fails every write, for root too.
  fs::create_directories(data_dir() + "/identity.tmp");
  EXPECT_EQ(write_identity(data_dir(), IdentityFile{}).code(), Code::kIo);
  EXPECT_EQ(*read_identity(data_dir()), kIdentity);
}

TEST_F(MemberFilesTest, ALeftoverOfACrashedWriteIsOverwritten) {
  put(data_dir() + "/identity.tmp", "half a li");
  EXPECT_EQ(read_identity(data_dir()).status().code(), Code::kNotFound);
  ASSERT_TRUE(write_identity(data_dir(), kIdentity));
  EXPECT_EQ(*read_identity(data_dir()), kIdentity);
  EXPECT_FALSE(fs::exists(data_dir() + "/identity.tmp"));
}

TEST_F(MemberFilesTest, ARejoinThatIsWantedIsRequested) {
  RejoinFile wanted = kRejoin;
  wanted.mode = RejoinMode::kRewind;
  wanted.source_node = 0;  // any leader
  wanted.source_host.clear();
  wanted.source_port = 0;
  wanted.binding = 0;
  ASSERT_TRUE(request_rejoin(data_dir(), wanted));
  wanted.state = RejoinState::kRequested;
  EXPECT_EQ(*read_rejoin(data_dir()), wanted);
}

// rule 3: it lacks what it once acknowledged, and the copy that it has is not the one that is
// wanted
TEST_F(MemberFilesTest, ARejoinWantedWhileOneIsCatchingUpIsMadeAnew) {
  ASSERT_TRUE(write_rejoin(data_dir(), kRejoin));
  RejoinFile wanted = kRejoin;
  wanted.mode = RejoinMode::kRewind;
  wanted.source_node = 2;
  wanted.target = {3, 1};
  wanted.binding = 0;
  ASSERT_TRUE(request_rejoin(data_dir(), wanted));
  const RejoinFile file = *read_rejoin(data_dir());
  EXPECT_EQ(file.state, RejoinState::kWorking);
  EXPECT_EQ(file.mode, RejoinMode::kClone);
  EXPECT_NE(file.binding, kRejoin.binding);
  EXPECT_NE(file.binding, 0u);
  EXPECT_EQ(file.target, kRejoin.target);
  EXPECT_EQ(file.source_node, 2u);
}

TEST_F(MemberFilesTest, ARejoinIsRemovedOnce) {
  ASSERT_TRUE(write_rejoin(data_dir(), kRejoin));
  EXPECT_TRUE(remove_rejoin(data_dir()));
  EXPECT_EQ(read_rejoin(data_dir()).status().code(), Code::kNotFound);
}

TEST_F(MemberFilesTest, LineBreaksInAReasonDoNotBreakTheFile) {
  RejoinFile rejoin = kRejoin;
  rejoin.reason = "first\nbinding = 1";
  ASSERT_TRUE(write_rejoin(data_dir(), rejoin));
  EXPECT_EQ(read_rejoin(data_dir())->reason, "first binding = 1");
  EXPECT_EQ(read_rejoin(data_dir())->binding, kRejoin.binding);
}

TEST_F(MemberFilesTest, DamageIsNamedWithFileAndLine) {
  const std::string good =
      "format = 1\ncluster_name = c\ncluster_id = 1\nnode_id = 2\nincarnation = 3\n"
      "system_identifier = 4\nbinding = 5\n";
  const struct {
    const char* name;
    std::function<std::string()> content;
    Code code;
    const char* says;
  } cases[] = {
      {"good", [&] { return good; }, Code::kOk, ""},
      {"empty", [] { return std::string(); }, Code::kCorruption, "line 1"},
      {"cut", [&] { return good.substr(0, good.size() - 1); }, Code::kCorruption, "line 7"},
      {"line missing", [&] { return good.substr(0, good.size() - 12); }, Code::kCorruption,
       "\"binding\" is missing"},
      {"line twice", [&] { return good + "binding = 5\n"; }, Code::kCorruption, "line 8"},
      {"unknown key", [&] { return good + "colour = red\n"; }, Code::kCorruption, "\"colour\""},
      {"no format", [&] { return good.substr(11); }, Code::kCorruption, "format"},
      {"other format", [&] { return "format = 2\n" + good.substr(11); }, Code::kMismatch,
       "format 2"},
      {"not a number", [&] { return good.substr(0, good.size() - 2) + "x\n"; }, Code::kCorruption,
       "line 7"},
      {"negative", [&] { return good.substr(0, good.size() - 2) + "-5\n"; }, Code::kCorruption,
       "line 7"},
      {"too large", [&] { return good.substr(0, good.size() - 2) + "18446744073709551616\n"; },
       Code::kCorruption, "line 7"},
      {"no equals sign", [&] { return good + "colour\n"; }, Code::kCorruption, "line 8"},
      {"control character", [&] { return "format = 1\ncluster_name = \tc" + good.substr(27); },
       Code::kCorruption, "line 2: a control character"},
  };
  for (const auto& c : cases) {
    put(data_dir() + "/identity", c.content());
    const Result<IdentityFile> file = read_identity(data_dir());
    EXPECT_EQ(file.status().code(), c.code) << c.name << ": " << file.status().to_string();
    EXPECT_THAT(file.status().message(), HasSubstr(c.says)) << c.name;
    if (c.code != Code::kOk) {
      EXPECT_THAT(file.status().message(), HasSubstr("/identity"));
    }
  }
}

// rule 3: what one data directory had reached says nothing of another one.
TEST_F(MemberFilesTest, TheEndOfWalIsKeptForABindingAndNeverGoesBack) {
  ASSERT_TRUE(write_identity(data_dir(), kIdentity));
  ASSERT_TRUE(write_binding(pgdata(), {2, 33, 7}));
  for (const auto& [kept, expected] :
       std::vector<std::pair<failover::Position, failover::Position>>{
           {{1, 500}, {1, 500}}, {{1, 400}, {1, 500}}, {{2, 30}, {2, 30}}, {{1, 900}, {2, 30}}}) {
    ASSERT_TRUE(keep_wal_end(data_dir(), pgdata(), kept));
    EXPECT_EQ(*read_wal_end(data_dir()), (WalEndFile{7, expected}));
  }
  ASSERT_TRUE(write_binding(pgdata(), {2, 33, 8}));  // it was cloned
  ASSERT_TRUE(keep_wal_end(data_dir(), pgdata(), {1, 100}));
  EXPECT_EQ(*read_wal_end(data_dir()), (WalEndFile{8, {1, 100}}));
}

TEST_F(MemberFilesTest, DamagedListsAndPositionsAreCorruption) {
  std::string long_history = "1@0/30";
  for (std::size_t i = 0; i < state::kMaxHistoryLines; ++i) long_history += " 1@0/30";
  const struct {
    const char* file;
    std::string content;
  } cases[] = {
      {"/timelines", "format = 1\nmax = 1\ncurrent = 1\nhistory = 1@\n"},
      {"/timelines", "format = 1\nmax = 1\ncurrent = 1\nhistory = 1@0/30  2@0/40\n"},
      {"/timelines", "format = 1\nmax = 1\ncurrent = 4294967296\nhistory = \n"},
      {"/timelines", "format = 1\nmax = 1\ncurrent = 1\nhistory = 1@0/123456789\n"},
      {"/timelines", "format = 1\nmax = 1\ncurrent = 1\nhistory = " + long_history + "\n"},
      {"/members", "format = 1\nmember = 1 2 n1 10.0.0.1 8001 db1\n"},
      {"/members", "format = 1\nmember = 1 2 n1 10.0.0.1 80010 db1 5432\n"},
      {"/members", "format = 1\nmember = 0 2 n1 10.0.0.1 8001 db1 5432\n"},
      {"/members", "format = 1\nmember = 1 2 n1 10.0.0.1 8001  5432\n"},
      {"/members", "format = 1\nmember = 1 2 n1 10.0.0.1 8001 db1 5432 \n"},
  };
  for (const auto& c : cases) {
    put(data_dir() + c.file, c.content);
    const Status status = std::string(c.file) == "/members" ? read_members(data_dir()).status()
                                                            : read_timelines(data_dir()).status();
    EXPECT_EQ(status.code(), Code::kCorruption) << c.content;
  }
}

TEST_F(MemberFilesTest, NoMoreMembersThanAClusterHas) {
  std::vector<state::Member> members;
  for (raft::NodeId id = 1; id <= state::kMaxMembers; ++id) {
    members.push_back({id, 1, "n", "10.0.0.1", 8001, "", 0});
  }
  ASSERT_TRUE(write_members(data_dir(), members));
  EXPECT_EQ(*read_members(data_dir()), members);
  put(data_dir() + "/members",
      get(data_dir() + "/members") + "member = 99 1 n 10.0.0.1 8001 - 0\n");
  const Status status = read_members(data_dir()).status();
  EXPECT_EQ(status.code(), Code::kCorruption);
  EXPECT_THAT(status.message(), HasSubstr("33 times, the limit is 32"));
}

TEST_F(MemberFilesTest, AMemberMayHaveTheNameThatStandsForNone) {
  const std::vector<state::Member> members = {{1, 2, "-", "10.0.0.1", 8001, "", 0}};
  ASSERT_TRUE(write_members(data_dir(), members));
  const auto read = read_members(data_dir());
  ASSERT_TRUE(read) << read.status().to_string();
  EXPECT_EQ(*read, members);
}

TEST(RandomId, IsNeverZeroAndNotTheSameTwice) {
  EXPECT_NE(random_id(), 0u);
  EXPECT_NE(random_id(), random_id());
}

class BindTest : public MemberFilesTest {
 protected:
  BindingRequest request() const { return {data_dir(), pgdata(), 2, "shop", 4711}; }
  void make_log() { put(data_dir() + "/raft/CURRENT", "MANIFEST-000001\n"); }
  // A node that is part of a cluster.
  void make_member() {
    const Result<Binding> made = bind(request());
    ASSERT_TRUE(made) << made.status().to_string();
    IdentityFile identity = made->identity;
    identity.cluster_id = 99;
    ASSERT_TRUE(write_identity(data_dir(), identity));
    make_log();
  }
  void set_binding(const std::function<void(BindingFile&)>& change) {
    BindingFile file = *read_binding(pgdata());
    change(file);
    ASSERT_TRUE(write_binding(pgdata(), file));
  }
  void rejoin(RejoinState state, std::uint64_t binding) {
    RejoinFile file = kRejoin;
    file.state = state;
    file.binding = binding;
    ASSERT_TRUE(write_rejoin(data_dir(), file));
  }
};

TEST_F(BindTest, TwoNewHalvesAreMadeAndFitAfterwards) {
  const Result<Binding> first = bind(request());
  ASSERT_TRUE(first) << first.status().to_string();
  EXPECT_TRUE(first->created);
  EXPECT_EQ(first->identity.cluster_id, 0u);
  EXPECT_NE(first->identity.incarnation, 0u);
  EXPECT_NE(first->identity.binding, 0u);
  EXPECT_EQ(read_binding(pgdata())->binding, first->identity.binding);
  const Result<Binding> second = bind(request());
  ASSERT_TRUE(second);
  EXPECT_FALSE(second->created);
  EXPECT_EQ(second->identity, first->identity);
}

TEST_F(BindTest, ACrashBetweenTheHalvesIsCompleted) {
  const Result<Binding> first = bind(request());
  ASSERT_TRUE(first);
  fs::remove(pgdata() + "/pgraft.binding");
  const Result<Binding> second = bind(request());
  ASSERT_TRUE(second) << second.status().to_string();
  EXPECT_EQ(second->identity, first->identity);
  EXPECT_EQ(read_binding(pgdata())->binding, first->identity.binding);
}

TEST_F(BindTest, ANodeWithoutADatabaseNeedsNoOtherHalf) {
  BindingRequest r = request();
  r.pgdata.clear();
  r.system_identifier = 0;
  const Result<Binding> first = bind(r);
  ASSERT_TRUE(first) << first.status().to_string();
  EXPECT_EQ(first->identity.binding, 0u);
  EXPECT_EQ(bind(r)->identity, first->identity);
}

TEST_F(BindTest, ACatchingUpDirectoryRenewsTheBindingOnce) {
  make_member();
  set_binding([](BindingFile& f) { f.binding = 500; });
  rejoin(RejoinState::kCatchingUp, 500);
  for (int start = 0; start < 2; ++start) {
    const Result<Binding> bound = bind(request());
    ASSERT_TRUE(bound) << bound.status().to_string();
    EXPECT_EQ(bound->identity.binding, 500u);
    EXPECT_EQ(read_identity(data_dir())->binding, 500u);
    ASSERT_TRUE(bound->rejoin);
    EXPECT_EQ(bound->rejoin->target, kRejoin.target);
  }
}

TEST_F(BindTest, ARequestedRejoinHasTouchedNothing) {
  make_member();
  rejoin(RejoinState::kRequested, 0);
  const Result<Binding> bound = bind(request());
  ASSERT_TRUE(bound) << bound.status().to_string();
  EXPECT_EQ(bound->rejoin->state, RejoinState::kRequested);
}

// Its Raft half alone, also where the other half must not start or is gone.
TEST_F(BindTest, WithoutItsDataANodeNeedsARejoinToBeDone) {
  make_member();
  BindingRequest r = request();
  const std::string directory = std::exchange(r.pgdata, "");
  EXPECT_EQ(bind_without_data(r).status().code(), Code::kFailedPrecondition) << "none";
  rejoin(RejoinState::kCatchingUp, 5);
  EXPECT_EQ(bind_without_data(r).status().code(), Code::kFailedPrecondition) << "it is done";
  rejoin(RejoinState::kWorking, 5);
  fs::remove_all(directory);
  const std::string identity = get(data_dir() + "/identity");
  const Result<Binding> bound = bind_without_data(r);
  ASSERT_TRUE(bound) << bound.status().to_string();
  EXPECT_EQ(bound->identity.node_id, r.node_id);
  r.node_id = 7;
  EXPECT_EQ(bind_without_data(r).status().code(), Code::kMismatch);
  EXPECT_EQ(get(data_dir() + "/identity"), identity);
}

TEST_F(BindTest, WhatDoesNotFitIsRefusedWithWhatToDo) {
  const struct {
    const char* name;
    std::function<void(BindingRequest&)> arrange;
    Code code;
    const char* says;
  } cases[] = {
      {"everything fits", [](BindingRequest&) {}, Code::kOk, ""},
      {"data directory of another node, Raft directory new",
       [&](BindingRequest& r) {
         fs::remove_all(data_dir());
         r.node_id = 3;
       },
       Code::kMismatch, "belongs to node 2"},
      {"data directory of another node swapped in",
       [&](BindingRequest&) { set_binding([](BindingFile& f) { f.node_id = 5; }); },
       Code::kMismatch, "belongs to node 5"},
      {"another incarnation",
       [&](BindingRequest&) { set_binding([](BindingFile& f) { f.incarnation ^= 1; }); },
       Code::kMismatch, "incarnation"},
      {"an older copy of the data directory",
       [&](BindingRequest&) { set_binding([](BindingFile& f) { f.binding ^= 1; }); },
       Code::kMismatch, "is not the one"},
      {"state directory gone", [&](BindingRequest&) { fs::remove_all(data_dir()); },
       Code::kMismatch, "remove this node from the cluster and add it again (pgraft join)"},
      {"Raft directory gone", [&](BindingRequest&) { fs::remove_all(data_dir() + "/raft"); },
       Code::kMismatch, "remove this node from the cluster and add it again (pgraft join)"},
      {"identity gone", [&](BindingRequest&) { fs::remove(data_dir() + "/identity"); },
       Code::kMismatch, "identity file beside it is missing"},
      {"data directory unbound", [&](BindingRequest&) { fs::remove(pgdata() + "/pgraft.binding"); },
       Code::kMismatch, "the data directory was replaced"},
      {"another database system", [](BindingRequest& r) { r.system_identifier = 4712; },
       Code::kMismatch, "system identifier is 4712"},
      {"another node id", [](BindingRequest& r) { r.node_id = 7; }, Code::kMismatch, "node_id = 7"},
      {"another cluster name", [](BindingRequest& r) { r.cluster_name = "bar"; }, Code::kMismatch,
       "cluster_name = bar"},
      {"no data directory configured any more", [](BindingRequest& r) { r.pgdata.clear(); },
       Code::kMismatch, "node with a data directory"},
      {"interrupted rejoin", [&](BindingRequest&) { rejoin(RejoinState::kWorking, 5); },
       Code::kFailedPrecondition, "run pgraft prepare"},
      {"the directory from before the rejoin put back",
       [&](BindingRequest&) { rejoin(RejoinState::kCatchingUp, 5); }, Code::kMismatch,
       "last rewind or clone"},
      {"damaged identity", [&](BindingRequest&) { put(data_dir() + "/identity", "junk\n"); },
       Code::kCorruption, "line 1"},
      {"damaged rejoin", [&](BindingRequest&) { put(data_dir() + "/rejoin", "junk\n"); },
       Code::kCorruption, "line 1"},
      {"node id 0", [](BindingRequest& r) { r.node_id = 0; }, Code::kInvalidArgument, "node_id"},
  };
  for (const auto& c : cases) {
    reset();
    make_member();
    BindingRequest r = request();
    c.arrange(r);
    const std::string identity = get(data_dir() + "/identity");
    const std::string binding = get(pgdata() + "/pgraft.binding");
    const Status status = bind(r).status();
    EXPECT_EQ(status.code(), c.code) << c.name << ": " << status.to_string();
    EXPECT_THAT(status.message(), HasSubstr(c.says)) << c.name;
    EXPECT_EQ(get(data_dir() + "/identity"), identity) << c.name << ": a refusal writes nothing";
    EXPECT_EQ(get(pgdata() + "/pgraft.binding"), binding) << c.name;
  }
}

}  // namespace
}  // namespace pgraft::node
