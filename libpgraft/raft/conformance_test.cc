// Quorum and membership change cases of a reference implementation, where they are at hand: the
// environment variable PGRAFT_CONFORMANCE names the folder that holds quorum/testdata and
// confchange/testdata.
//
// A case: `# comment` lines, a command with arguments, input lines, `----`, expected lines up to an
// empty one.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "libpgraft/raft/confchange.h"
#include "libpgraft/raft/quorum.h"

namespace pgraft::raft {
namespace {

struct Case {
  std::string where;
  std::string command;
  std::map<std::string, std::vector<std::string>> args;
  std::vector<std::string> input;
  std::vector<std::string> expected;
};

std::vector<std::string> words(std::string text) {
  for (char& c : text) {
    if (c == ',') c = ' ';
  }
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

// "committed cfg=(1, 2) idx=(_,3)"
void parse_command(const std::string& line, Case& c) {
  std::size_t i = line.find(' ');
  c.command = line.substr(0, i);
  while (i != std::string::npos && (i = line.find_first_not_of(' ', i)) != std::string::npos) {
    const std::size_t key_end = line.find_first_of("= ", i);
    const std::string key = line.substr(i, key_end == std::string::npos ? key_end : key_end - i);
    auto& values = c.args[key];
    if (key_end == std::string::npos || line[key_end] == ' ') {
      i = key_end;
      continue;
    }
    const bool list = key_end + 1 < line.size() && line[key_end + 1] == '(';
    const std::size_t end = line.find(list ? ')' : ' ', key_end);
    const std::size_t begin = key_end + (list ? 2 : 1);
    values = words(line.substr(begin, end == std::string::npos ? end : end - begin));
    i = end == std::string::npos ? end : end + (list ? 1 : 0);
  }
}

std::vector<Case> read_cases(const std::filesystem::path& path) {
  std::vector<Case> cases;
  std::ifstream in(path);
  std::string line;
  int number = 0;
  while (std::getline(in, line)) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    Case c;
    c.where = path.filename().string() + ":" + std::to_string(number);
    while (line.back() == '\\') {
      std::string more;
      std::getline(in, more);
      ++number;
      line = line.substr(0, line.size() - 1) + more;
    }
    parse_command(line, c);
    while (std::getline(in, line) && ++number && line != "----") c.input.push_back(line);
    while (std::getline(in, line) && ++number && !line.empty()) c.expected.push_back(line);
    cases.push_back(c);
  }
  return cases;
}

std::filesystem::path folder(const std::string& part) {
  const char* root = std::getenv("PGRAFT_CONFORMANCE");
  return root == nullptr ? "" : std::filesystem::path(root) / part / "testdata";
}

std::vector<std::filesystem::path> files(const std::filesystem::path& dir) {
  std::vector<std::filesystem::path> found;
  for (const auto& file : std::filesystem::directory_iterator(dir)) found.push_back(file.path());
  std::sort(found.begin(), found.end());
  return found;
}

NodeSet ids(const Case& c, const std::string& key) {
  NodeSet set;
  if (!c.args.contains(key) || c.args.at(key) == std::vector<std::string>{"zero"}) return set;
  for (const std::string& id : c.args.at(key)) set.insert(std::stoull(id));
  return set;
}

// Values belong to the ids of cfg as listed, then to those of cfgj that are new.
std::map<NodeId, std::string> values_by_id(const Case& c, const std::string& key) {
  std::vector<NodeId> order;
  for (const char* half : {"cfg", "cfgj"}) {
    if (!c.args.contains(half)) continue;
    for (const std::string& id : c.args.at(half)) {
      if (id == "zero") continue;
      const NodeId node = std::stoull(id);
      if (std::find(order.begin(), order.end(), node) == order.end()) order.push_back(node);
    }
  }
  std::map<NodeId, std::string> values;
  if (!c.args.contains(key)) return values;
  for (std::size_t i = 0; i < order.size() && i < c.args.at(key).size(); ++i)
    values[order[i]] = c.args.at(key)[i];
  return values;
}

std::string quorum_result(const Case& c) {
  const NodeSet incoming = ids(c, "cfg");
  const NodeSet outgoing = ids(c, "cfgj");
  if (c.command == "committed") {
    std::map<NodeId, Index> acked;
    for (const auto& [id, value] : values_by_id(c, "idx")) {
      if (value != "_") acked[id] = std::stoull(value);
    }
    const Index index = joint_acked(incoming, outgoing, [&acked](NodeId id) {
      return acked.contains(id) ? acked.at(id) : Index{0};
    });
    return index == kUnlimitedIndex ? "∞" : std::to_string(index);
  }
  Votes votes;
  for (const auto& [id, value] : values_by_id(c, "votes")) {
    if (value != "_") votes[id] = value == "y";
  }
  switch (joint_vote(incoming, outgoing, votes)) {
    case VoteResult::kPending: return "VotePending";
    case VoteResult::kLost: return "VoteLost";
    case VoteResult::kWon: return "VoteWon";
  }
  return "?";
}

TEST(Conformance, QuorumCasesGiveTheSameResult) {
  if (!std::filesystem::exists(folder("quorum")))
    GTEST_SKIP() << "PGRAFT_CONFORMANCE names no folder";
  int cases = 0;
  for (const auto& file : files(folder("quorum"))) {
    for (const Case& c : read_cases(file)) {
      ++cases;
      ASSERT_FALSE(c.expected.empty()) << c.where;
      std::string expected = c.expected.back();
      const std::string picture = "<empty majority quorum>";
      if (expected.starts_with(picture)) expected.erase(0, picture.size());
      EXPECT_EQ(quorum_result(c), expected) << c.where;
    }
  }
  EXPECT_EQ(cases, 127);
}

std::string join(const NodeSet& set) {
  std::string out;
  for (NodeId id : set) out += (out.empty() ? "" : " ") + std::to_string(id);
  return "(" + out + ")";
}

std::vector<std::string> describe(const Membership& m) {
  std::string line = "voters=" + join(m.config.incoming);
  if (m.config.joint()) line += "&&" + join(m.config.outgoing);
  if (!m.config.learners.empty()) line += " learners=" + join(m.config.learners);
  if (!m.config.learners_next.empty()) line += " learners_next=" + join(m.config.learners_next);
  if (m.config.auto_leave) line += " autoleave";
  std::vector<std::string> lines = {line};
  for (const auto& [id, member] : m.progress) {
    EXPECT_EQ(member.state, ProgressState::kProbe);
    lines.push_back(std::to_string(id) + ": StateProbe match=" + std::to_string(member.match) +
                    " next=" + std::to_string(member.next) + (member.is_learner ? " learner" : ""));
  }
  return lines;
}

std::vector<ConfChangeSingle> parse_changes(const Case& c) {
  std::vector<ConfChangeSingle> changes;
  for (const std::string& line : c.input) {
    for (const std::string& word : words(line)) {
      const std::map<char, ConfChangeType> types = {{'v', ConfChangeType::kAddVoter},
                                                    {'l', ConfChangeType::kAddLearner},
                                                    {'r', ConfChangeType::kRemove},
                                                    {'u', ConfChangeType::kUpdate}};
      changes.push_back({types.at(word[0]), std::stoull(word.substr(1)), 0});
    }
  }
  return changes;
}

Result<Membership> run_change(const Case& c, const Tracker& tracker, Index last_index) {
  const Changer changer(tracker, last_index);
  if (c.command == "simple") return changer.simple(parse_changes(c));
  if (c.command == "leave-joint") return changer.leave_joint();
  const bool auto_leave =
      c.args.contains("autoleave") && c.args.at("autoleave") == std::vector<std::string>{"true"};
  return changer.enter_joint(auto_leave, parse_changes(c));
}

TEST(Conformance, MembershipChangesGiveTheSameConfigurationOrError) {
  if (!std::filesystem::exists(folder("confchange")))
    GTEST_SKIP() << "PGRAFT_CONFORMANCE names no folder";
  int cases = 0;
  for (const auto& file : files(folder("confchange"))) {
    Tracker tracker;
    Index last_index = 0;
    for (const Case& c : read_cases(file)) {
      ++cases;
      Result<Membership> next = run_change(c, tracker, last_index++);
      if (!next.is_ok()) {
        EXPECT_EQ(std::vector<std::string>{next.status().message()}, c.expected) << c.where;
        continue;
      }
      EXPECT_EQ(describe(*next), c.expected) << c.where;
      // A snapshot of it restores the same configuration.
      const Result<Membership> restored =
          restore_membership(next->config.to_conf_state(), last_index, tracker.limits);
      ASSERT_TRUE(restored.is_ok()) << c.where;
      EXPECT_EQ(restored->config.to_conf_state(), next->config.to_conf_state()) << c.where;
      tracker.config = next->config;
      tracker.progress = next->progress;
    }
  }
  EXPECT_EQ(cases, 58);
}

}  // namespace
}  // namespace pgraft::raft
