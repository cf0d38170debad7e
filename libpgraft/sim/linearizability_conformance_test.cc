// Recorded histories with known verdicts, where they are at hand: `linearizability` beside the
// folder that the environment variable PGRAFT_CONFORMANCE names. Its verdicts.json has an object
// for each kind of history, jepsen and kv, with file names and whether they are linearizable; the
// histories lie in test_data/<kind>.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "libpgraft/sim/linearizability.h"

namespace pgraft::sim {
namespace {

using Kind = ClientOperation::Kind;
using History = std::vector<ClientOperation>;

std::filesystem::path folder() {
  const char* beside = std::getenv("PGRAFT_CONFORMANCE");
  return beside == nullptr ? "" : std::filesystem::path(beside) / ".." / "linearizability";
}

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  EXPECT_TRUE(in.good()) << "can't read " << path;
  return text.str();
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::istringstream in(read_all(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

// {"kind": {"file": true or false, ...}, ...}: after a colon stands an object or a verdict.
std::map<std::string, std::map<std::string, bool>> read_verdicts(
    const std::filesystem::path& path) {
  std::map<std::string, std::map<std::string, bool>> verdicts;
  const std::string text = read_all(path);
  std::string kind;
  for (std::size_t at = 0; (at = text.find('"', at)) != std::string::npos;) {
    const std::size_t end = text.find('"', at + 1);
    if (end == std::string::npos) break;
    const std::string name = text.substr(at + 1, end - at - 1);
    at = text.find_first_not_of(" \n\r\t:", end + 1);
    if (at == std::string::npos) break;
    if (text[at] == '{') kind = name;
    if (text.compare(at, 4, "true") == 0) verdicts[kind][name] = true;
    if (text.compare(at, 5, "false") == 0) verdicts[kind][name] = false;
  }
  return verdicts;
}

// What a line of either format says: an operation begins (its value: what it is to do), or ended
// (its value: what it saw).
struct Event {
  std::uint64_t process = 0;
  std::string type;  // invoke, ok, fail, info
  std::string function;
  std::string key;
  std::string value;
};

// `INFO  jepsen.util - 3	:invoke	:cas	[1 2]`
bool parse_register_event(const std::string& line, Event& e) {
  std::istringstream in(line);
  std::string level;
  std::string source;
  std::string dash;
  in >> level >> source >> dash >> e.process >> e.type >> e.function >> std::ws;
  if (!in || dash != "-" || e.type[0] != ':' || e.function[0] != ':') return false;
  std::getline(in, e.value);
  e.type.erase(0, 1);
  e.function.erase(0, 1);
  return !e.value.empty();
}

// Word by word: `{:process 9, :type :invoke, :f :append, :key "0", :value "x 9 0 y"}`
bool parse_key_value_event(const std::string& line, Event& e) {
  std::map<std::string, std::string> fields;
  std::string name;
  for (std::size_t at = 0; at < line.size();) {
    if (line[at] == '{' || line[at] == '}' || line[at] == ',' || line[at] == ' ') {
      ++at;
      continue;
    }
    std::string word;
    if (line[at] == '"') {
      while (++at < line.size() && line[at] != '"') {
        if (line[at] == '\\' && ++at == line.size()) return false;
        word += line[at];
      }
      if (at++ == line.size()) return false;  // no closing quote
    } else {
      const std::size_t end = std::min(line.find_first_of(" ,}", at), line.size());
      word = line.substr(at, end - at);
      at = end;
    }
    if (name.empty()) {
      if (word[0] != ':') return false;
      name = word;
    } else {
      fields[name] = word;
      name.clear();
    }
  }
  if (!name.empty() || fields[":type"].empty() || fields[":f"].empty()) return false;
  const std::string& process = fields[":process"];
  if (process.empty() || process.size() > 18 ||
      process.find_first_not_of("0123456789") != std::string::npos)
    return false;
  e.process = std::stoull(process);
  e.type = fields[":type"].substr(1);
  e.function = fields[":f"].substr(1);
  e.key = fields[":key"];
  e.value = fields[":value"];
  return fields.contains(":key") && fields.contains(":value");
}

std::optional<std::string> not_nil(const std::string& value) {
  return value == "nil" ? std::nullopt : std::optional(value);
}

// The operation that `e` begins.
bool begin(const Event& e, ClientOperation& op) {
  const std::map<std::string, Kind> kinds = {
      {"read", Kind::kGet}, {"write", Kind::kPut},     {"cas", Kind::kCas},
      {"get", Kind::kGet},  {"append", Kind::kAppend}, {"put", Kind::kPut},
  };
  if (!kinds.contains(e.function)) return false;
  op.client = e.process;
  op.kind = kinds.at(e.function);
  op.key = e.key;
  op.value = e.value;
  if (op.kind == Kind::kCas) {  // [1 2]
    const std::size_t space = e.value.find(' ');
    if (e.value.front() != '[' || e.value.back() != ']' || space == std::string::npos) return false;
    op.expected = e.value.substr(1, space - 1);
    op.value = e.value.substr(space + 1, e.value.size() - space - 2);
  }
  return true;
}

// Times are line numbers.
History read_history(const std::filesystem::path& path,
                     bool (*parse)(const std::string& line, Event& e)) {
  History history;
  std::map<std::uint64_t, std::size_t> open;  // by process
  std::uint64_t time = 0;
  for (const std::string& line : lines_of(path)) {
    ++time;
    Event e;
    if (!parse(line, e)) {
      ADD_FAILURE() << path << ": not understood: " << line;
      return {};
    }
    if (e.type == "invoke") {
      ClientOperation op;
      if (open.contains(e.process) || !begin(e, op)) {
        ADD_FAILURE() << path << ": can't begin here: " << line;
        return {};
      }
      op.called = time;
      open[e.process] = history.size();
      history.push_back(op);
      continue;
    }
    if (!open.contains(e.process)) {
      ADD_FAILURE() << path << ": ends what has not begun: " << line;
      return {};
    }
    ClientOperation& op = history[open[e.process]];
    open.erase(e.process);
    // A failed compare-and-set is an answer. Any other one without an answer may still take effect.
    const bool answered = e.type == "ok" || (e.type == "fail" && op.kind == Kind::kCas);
    if (!answered) continue;
    op.returned = time;
    if (op.kind == Kind::kGet) op.read = not_nil(e.value);
    if (op.kind == Kind::kCas) op.succeeded = e.type == "ok";
  }
  return history;
}

void expect_verdicts(const std::string& kind, std::size_t histories,
                     bool (*parse)(const std::string& line, Event& e),
                     const LinearizabilityOptions& options) {
  const auto all = read_verdicts(folder() / "verdicts.json");
  ASSERT_TRUE(all.contains(kind));
  const std::map<std::string, bool>& verdicts = all.at(kind);
  EXPECT_EQ(verdicts.size(), histories);
  std::uint64_t steps = 0;
  for (const auto& [file, linearizable] : verdicts) {
    const History history = read_history(folder() / "test_data" / kind / file, parse);
    ASSERT_FALSE(history.empty()) << file;
    const auto report = check_linearizability(history, options);
    ASSERT_TRUE(report) << file << ": " << report.status().to_string();
    EXPECT_EQ(report->verdict, linearizable ? Verdict::kLinearizable : Verdict::kNotLinearizable)
        << file << "\n"
        << report->text;
    steps += report->steps;
  }
  testing::Test::RecordProperty("steps", std::to_string(steps));
}

TEST(LinearizabilityConformance, RegisterHistoriesGiveTheKnownVerdicts) {
  if (!std::filesystem::exists(folder()))
    GTEST_SKIP() << "no folder linearizability beside the one that PGRAFT_CONFORMANCE names";
  expect_verdicts("jepsen", 102, parse_register_event, {});
}

TEST(LinearizabilityConformance, KeyValueHistoriesGiveTheKnownVerdicts) {
  if (!std::filesystem::exists(folder()))
    GTEST_SKIP() << "no folder linearizability beside the one that PGRAFT_CONFORMANCE names";
  expect_verdicts("kv", 6, parse_key_value_event, {.absent_is_empty = true});
}

}  // namespace
}  // namespace pgraft::sim
