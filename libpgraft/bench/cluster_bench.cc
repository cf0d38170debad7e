// What whole nodes do: three of them, each a process of its own, over TCP on loopback, and a client
// in the leader's process. For every combination of durability, size of an operation and operations
// in flight: operations a second, how long one takes, what it costs.
//
// Not durable means: nothing is synced (NodeConfig::sync_writes), and the files are in a file
// system in memory. What is left then is the nodes' own work and the kernel's.
//
// Processes: this program forks the three and collects the leader's rows from a pipe. They end with
// it, whatever ends it.
#include <fcntl.h>
#include <getopt.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "libpgraft/node/node.h"

namespace pgraft::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kNodes = 3;
constexpr std::size_t kKeys = 1000;  // of the key-value store, when that is what is written

// What the processes see of one another.
struct Shared {
  struct Member {
    std::atomic<int> pid{0};
    std::atomic<int> port{0};
    std::atomic<std::uint64_t> syncs{0};  // calls of fsync and fdatasync
  };
  Member members[kNodes];
};

std::atomic<std::uint64_t>* own_syncs = nullptr;

void count_sync() {
  if (own_syncs != nullptr) own_syncs->fetch_add(1, std::memory_order_relaxed);
}

struct Options {
  double seconds = 3;
  std::size_t runs = 3;
  std::vector<std::size_t> payloads{64, 256, 1024};
  std::vector<std::size_t> in_flight{1, 4, 16, 64, 256};
  std::vector<std::size_t> durable{1, 0};
  bool key_value = false;
  std::string directory = std::filesystem::temp_directory_path();
  std::string memory_directory = "/dev/shm";
  std::string json;
};

struct Row {
  std::size_t durable = 0;
  std::size_t payload = 0;
  std::size_t in_flight = 0;
  double operations_per_second = 0;
  double p50_us = 0;
  double p99_us = 0;
  double syncs_per_operation = 0;   // of all nodes
  double cpu_us_per_operation = 0;  // of all nodes and the client
  double resident_mib = 0;          // the larger follower
  double resident_mib_leader = 0;   // with the client
};

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "cluster_bench: %s\n", why.c_str());
  std::exit(1);
}

void require(const Status& s, const char* what) {
  if (!s) die(std::string(what) + ": " + s.to_string());
}

// --- what a process uses

double cpu_seconds(int pid) {
  clockid_t clock = 0;
  timespec used{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
    die("a node is gone");
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

double resident_mib(int pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  if (!(statm >> total >> resident)) die("a node is gone");
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

struct Usage {
  double cpu = 0;
  std::uint64_t syncs = 0;
};

Usage usage(const Shared& shared) {
  Usage sum;
  for (const Shared::Member& member : shared.members) {
    sum.cpu += cpu_seconds(member.pid);
    sum.syncs += member.syncs;
  }
  return sum;
}

// --- the client

// As many requests as fit into a window are under way. take() and drain() are the client's, give()
// the completions'.
class Window {
 public:
  explicit Window(std::size_t size) : size_(size), free_(size) {}

  std::size_t take() {  // all that is free, at least one
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return free_ > 0; });
    return std::exchange(free_, 0);
  }
  void give() {
    {
      const std::lock_guard lock(mutex_);
      ++free_;
      if (free_ != 1 && free_ != size_) return;
    }
    wake_.notify_one();
  }
  void drain(std::size_t taken) {  // `taken` were not used
    std::unique_lock lock(mutex_);
    free_ += taken;
    wake_.wait(lock, [&] { return free_ == size_; });
  }

 private:
  const std::size_t size_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::size_t free_;
};

struct Load {
  double seconds = 0;
  std::vector<float> latencies_us;
};

state::Operation make_operation(const Options& options, std::size_t payload, std::size_t number) {
  std::string data(payload, static_cast<char>('a' + number % 26));
  if (!options.key_value) return state::LogAppend{std::move(data)};
  return state::KvPut{"key" + std::to_string(number % kKeys), std::move(data)};
}

// Keeps `in_flight` operations under way for so long, then waits for the last of them.
Load run_load(node::Node& node, const Options& options, std::size_t payload, std::size_t in_flight,
              double seconds) {
  Load load;
  load.latencies_us.reserve(1 << 20);
  Window window(in_flight);
  std::atomic<bool> failed{false};
  const auto complete = [&](Clock::time_point asked, const Status& status) {
    const std::chrono::duration<float, std::micro> took = Clock::now() - asked;
    load.latencies_us.push_back(took.count());  // the node's thread alone
    if (!status && !failed.exchange(true)) {
      std::fprintf(stderr, "an operation failed: %s\n", status.to_string().c_str());
    }
    window.give();
  };
  const auto begin = Clock::now();
  const auto end =
      begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::size_t number = 0;
  std::size_t taken = 0;
  while (Clock::now() < end && !failed) {
    for (taken = window.take(); taken > 0; --taken) {
      node.propose(make_operation(options, payload, number++),
                   [&complete, asked = Clock::now()](const Status& status, std::uint64_t) {
                     complete(asked, status);
                   });
    }
  }
  window.drain(taken);
  load.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (failed) die("the run is void");
  return load;
}

double percentile(std::vector<float>& values, double part) {
  if (values.empty()) die("nothing was done in the time given");
  const auto at =
      values.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

Row measure(node::Node& node, const Options& options, const Shared& shared, Row row) {
  run_load(node, options, row.payload, row.in_flight, options.seconds / 10);
  const Usage before = usage(shared);
  Load load = run_load(node, options, row.payload, row.in_flight, options.seconds);
  const Usage after = usage(shared);
  const auto operations = static_cast<double>(load.latencies_us.size());
  row.operations_per_second = operations / load.seconds;
  row.p50_us = percentile(load.latencies_us, 0.5);
  row.p99_us = percentile(load.latencies_us, 0.99);
  row.syncs_per_operation = static_cast<double>(after.syncs - before.syncs) / operations;
  row.cpu_us_per_operation = (after.cpu - before.cpu) * 1e6 / operations;
  row.resident_mib_leader = resident_mib(shared.members[0].pid);
  for (std::size_t i = 1; i < kNodes; ++i)
    row.resident_mib = std::max(row.resident_mib, resident_mib(shared.members[i].pid));
  return row;
}

// --- the nodes

std::unique_ptr<node::Node> start_node(const std::string& directory, Shared& shared, std::size_t i,
                                       bool durable) {
  node::NodeConfig config;
  config.data_dir = directory + "/" + std::to_string(i + 1);
  config.node_id = i + 1;
  config.listen_address = "127.0.0.1";
  config.listen_port = 0;
  config.sync_writes = durable;
  std::filesystem::create_directories(config.data_dir);
  auto node = node::Node::start(config, nullptr);
  require(node.status(), "could not start a node");
  shared.members[i].port = (*node)->port();
  return std::move(node).value();
}

template <class Ask>
void ask(const char* what, Ask request) {
  std::promise<Status> answered;
  request([&](const Status& s, std::uint64_t) { answered.set_value(s); });
  require(answered.get_future().get(), what);
}

template <class Condition>
void wait_for(const char* what, Condition condition) {
  const auto deadline = Clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (Clock::now() > deadline) die(std::string("timed out: ") + what);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void form_cluster(node::Node& leader, const Shared& shared) {
  ask("could not make a cluster", [&](node::Completion done) { leader.init(std::move(done)); });
  for (std::size_t i = 1; i < kNodes; ++i) {
    wait_for("a node's port", [&] { return shared.members[i].port != 0; });
    ask("could not add a node", [&](node::Completion done) {
      leader.add_node(i + 1, "127.0.0.1", static_cast<std::uint16_t>(shared.members[i].port.load()),
                      std::move(done));
    });
    wait_for("a new member's vote", [&] {
      const auto members = leader.status().members;
      return members.size() == i + 1 &&
             std::all_of(members.begin(), members.end(), [](const auto& m) { return m.voter; });
    });
  }
}

void run_leader(const Options& options, const std::string& directory, Shared& shared, bool durable,
                int results) {
  const auto node = start_node(directory, shared, 0, durable);
  form_cluster(*node, shared);
  const std::uint64_t term = node->status().term;
  for (const std::size_t payload : options.payloads) {
    for (const std::size_t in_flight : options.in_flight) {
      Row row;
      row.durable = durable ? 1 : 0;
      row.payload = payload;
      row.in_flight = in_flight;
      row = measure(*node, options, shared, row);
      if (write(results, &row, sizeof(row)) != sizeof(row)) die("nobody reads the results");
    }
  }
  // Heartbeats went out, and were answered, whatever the load was.
  if (node->status().term != term) die("the leader was deposed under load");
}

void run_follower(const std::string& directory, Shared& shared, std::size_t i, bool durable,
                  int end_of_run) {
  const auto node = start_node(directory, shared, i, durable);
  char nothing = 0;
  while (read(end_of_run, &nothing, 1) > 0) {
  }
}

// --- this program's process

struct Pipe {
  int read_end = -1;
  int write_end = -1;
};

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) die("pipe failed");
  return {ends[0], ends[1]};
}

// The rows of one cluster, which lives for so long.
std::vector<Row> run_cluster(const Options& options, bool durable) {
  const std::string& parent = durable ? options.directory : options.memory_directory;
  std::string directory = parent + "/pgraft-bench-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) die("can't make a directory in " + parent);
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap failed");
  auto* shared = new (memory) Shared;
  const Pipe results = make_pipe();
  const Pipe end_of_run = make_pipe();
  std::fflush(nullptr);
  for (std::size_t i = 0; i < kNodes; ++i) {
    const int pid = fork();
    if (pid < 0) die("fork failed");
    if (pid != 0) {
      shared->members[i].pid = pid;
      continue;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    shared->members[i].pid = getpid();
    own_syncs = &shared->members[i].syncs;
    close(results.read_end);
    close(end_of_run.write_end);
    if (i == 0) {
      run_leader(options, directory, *shared, durable, results.write_end);
    } else {
      close(results.write_end);
      run_follower(directory, *shared, i, durable, end_of_run.read_end);
    }
    std::exit(0);
  }
  close(results.write_end);
  close(end_of_run.read_end);
  std::vector<Row> rows;
  for (Row row; read(results.read_end, &row, sizeof(row)) == sizeof(row);) {
    rows.push_back(row);
    std::fprintf(stderr, ".");
  }
  close(results.read_end);
  close(end_of_run.write_end);
  bool ok = true;
  for (std::size_t i = 0; i < kNodes; ++i) {
    int status = 0;
    if (waitpid(shared->members[i].pid, &status, 0) > 0 && status == 0) continue;
    std::fprintf(stderr, "node %zu ended with status %#x\n", i + 1, static_cast<unsigned>(status));
    ok = false;
  }
  munmap(memory, sizeof(Shared));
  std::filesystem::remove_all(directory);
  if (!ok) die("a node failed");
  return rows;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Runs of the same combination become one row, of the medians.
std::vector<Row> medians(const std::vector<Row>& rows) {
  std::map<std::tuple<std::size_t, std::size_t, std::size_t>, std::vector<Row>> groups;
  for (const Row& row : rows) groups[{1 - row.durable, row.payload, row.in_flight}].push_back(row);
  std::vector<Row> result;
  for (const auto& [key, group] : groups) {
    Row row = group.front();
    for (double Row::*figure :
         {&Row::operations_per_second, &Row::p50_us, &Row::p99_us, &Row::syncs_per_operation,
          &Row::cpu_us_per_operation, &Row::resident_mib, &Row::resident_mib_leader}) {
      std::vector<double> values;
      for (const Row& one : group) values.push_back(one.*figure);
      row.*figure = median(std::move(values));
    }
    result.push_back(row);
  }
  return result;
}

void print_table(const std::vector<Row>& rows) {
  std::printf(
      "| durable | bytes | in flight | operations/s | p50 ms | p99 ms | syncs/op | CPU us/op | MiB "
      "|\n");
  std::printf("|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
  for (const Row& row : rows) {
    std::printf("| %s | %zu | %zu | %.0f | %.2f | %.2f | %.2f | %.1f | %.0f |\n",
                row.durable != 0 ? "yes" : "no", row.payload, row.in_flight,
                row.operations_per_second, row.p50_us / 1000, row.p99_us / 1000,
                row.syncs_per_operation, row.cpu_us_per_operation, row.resident_mib);
  }
}

void write_json(const std::vector<Row>& rows, const Options& options) {
  std::ofstream out(options.json);
  out << "[";
  const char* separator = "\n";
  for (const Row& row : rows) {
    out << separator << R"(  {"durable": )" << (row.durable != 0 ? "true" : "false")
        << R"(, "operation": ")" << (options.key_value ? "put" : "append") << R"(", "bytes": )"
        << row.payload << R"(, "in_flight": )" << row.in_flight << R"(, "operations_per_second": )"
        << row.operations_per_second << R"(, "p50_us": )" << row.p50_us << R"(, "p99_us": )"
        << row.p99_us << R"(, "syncs_per_operation": )" << row.syncs_per_operation
        << R"(, "cpu_us_per_operation": )" << row.cpu_us_per_operation << R"(, "resident_mib": )"
        << row.resident_mib << R"(, "resident_mib_leader": )" << row.resident_mib_leader << "}";
    separator = ",\n";
  }
  out << "\n]\n";
  if (!out.flush()) die("can't write " + options.json);
}

std::vector<std::size_t> numbers(const std::string& list) {
  std::vector<std::size_t> result;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    result.push_back(std::strtoul(list.substr(begin, end - begin).c_str(), nullptr, 10));
    begin = end + 1;
  }
  return result;
}

constexpr char kUsage[] =
    "usage: cluster_bench [--seconds S] [--runs N] [--bytes N,N,...] [--in-flight N,N,...]\n"
    "                     [--durable 1,0] [--operation append|put] [--dir DIRECTORY]\n"
    "                     [--memory-dir DIRECTORY] [--json FILE]\n"
    "Prints the medians of the runs. Files are made in --dir, those of runs that are not durable\n"
    "in --memory-dir, and removed.\n";

[[noreturn]] void refuse_usage() {
  std::fputs(kUsage, stderr);
  std::exit(2);
}

Options parse(int argc, char** argv) {
  constexpr option kOptions[] = {
      {"seconds", required_argument, nullptr, 's'}, {"runs", required_argument, nullptr, 'r'},
      {"bytes", required_argument, nullptr, 'b'},   {"in-flight", required_argument, nullptr, 'i'},
      {"durable", required_argument, nullptr, 'd'}, {"operation", required_argument, nullptr, 'o'},
      {"dir", required_argument, nullptr, 'D'},     {"memory-dir", required_argument, nullptr, 'M'},
      {"json", required_argument, nullptr, 'j'},    {nullptr, 0, nullptr, 0}};
  Options options;
  for (int c = 0; (c = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    const std::string value = optarg == nullptr ? "" : optarg;
    switch (c) {
      case 's': options.seconds = std::strtod(value.c_str(), nullptr); break;
      case 'r': options.runs = std::strtoul(value.c_str(), nullptr, 10); break;
      case 'b': options.payloads = numbers(value); break;
      case 'i': options.in_flight = numbers(value); break;
      case 'd': options.durable = numbers(value); break;
      case 'o':
        if (value != "append" && value != "put") refuse_usage();
        options.key_value = value == "put";
        break;
      case 'D': options.directory = value; break;
      case 'M': options.memory_directory = value; break;
      case 'j': options.json = value; break;
      default: refuse_usage();
    }
  }
  const auto positive = [](const std::vector<std::size_t>& list) {
    return std::find(list.begin(), list.end(), std::size_t{0}) == list.end();
  };
  if (optind != argc || !(options.seconds > 0) || options.runs == 0 ||
      !positive(options.in_flight) || !positive(options.payloads)) {
    refuse_usage();
  }
  return options;
}

int run(int argc, char** argv) {
  const Options options = parse(argc, argv);
  std::vector<Row> rows;
  for (std::size_t i = 0; i < options.runs; ++i) {
    for (const std::size_t durable : options.durable) {
      const std::vector<Row> more = run_cluster(options, durable != 0);
      rows.insert(rows.end(), more.begin(), more.end());
    }
  }
  std::fprintf(stderr, "\n");
  rows = medians(rows);
  print_table(rows);
  if (!options.json.empty()) write_json(rows, options);
  return 0;
}

}  // namespace
}  // namespace pgraft::bench

// In place of the C library's, for whatever makes something durable here.
extern "C" int fdatasync(int fd) {
  pgraft::bench::count_sync();
  return static_cast<int>(syscall(SYS_fdatasync, fd));
}
extern "C" int fsync(int fd) {
  pgraft::bench::count_sync();
  return static_cast<int>(syscall(SYS_fsync, fd));
}

int main(int argc, char** argv) { return pgraft::bench::run(argc, argv); }
