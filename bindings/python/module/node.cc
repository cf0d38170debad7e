// A running node without a database, for scripts and tests: LevelDB and TCP are the real ones.
//
// Completions arrive on the node's thread, which never touches Python: they leave their result in
// an Outcome that caller and completion share, so that either may go first.
#include "libpgraft/node/node.h"

#include <pybind11/stl.h>

#include <condition_variable>
#include <memory>
#include <mutex>

#include "bindings/python/module/module.h"

namespace py = pybind11;

namespace pgraft::python {

namespace {

constexpr double kDefaultTimeout = 10.0;
constexpr std::chrono::milliseconds kSignalCheck{100};

struct Outcome {
  std::mutex mutex;
  std::condition_variable ended;
  bool is_known = false;
  Status status;
  std::uint64_t value = 0;
};

// Waits without the GIL, and looks for Ctrl-C now and then.
std::uint64_t await(const std::shared_ptr<Outcome>& outcome, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    bool known = false;
    {
      const py::gil_scoped_release release;
      std::unique_lock lock(outcome->mutex);
      const auto slice = std::min(deadline, std::chrono::steady_clock::now() + kSignalCheck);
      known = outcome->ended.wait_until(lock, slice, [&] { return outcome->is_known; });
    }
    if (known) break;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (std::chrono::steady_clock::now() >= deadline) {
      raise(Status(Code::kTimeout, "no answer in time: the outcome is unknown"));
    }
  }
  check(outcome->status);  // not written any more
  return outcome->value;
}

class PyNode {
 public:
  explicit PyNode(node::NodeConfig config) : config_(std::move(config)) {
    check(config_.validate());
  }
  ~PyNode() { stop(); }

  void start() {
    if (node_) raise(Status(Code::kFailedPrecondition, "the node is running already"));
    auto begin = [&] {
      const py::gil_scoped_release release;
      return node::Node::start(config_, nullptr);
    };
    node_ = unwrap(begin());
  }
  void stop() {
    if (!node_) return;
    const std::shared_ptr<node::Node> stopping = std::exchange(node_, nullptr);
    const py::gil_scoped_release release;
    stopping->stop();
  }
  bool is_running() const { return node_ != nullptr; }

  // Callers on other threads keep the node alive while they use it.
  std::shared_ptr<node::Node> get() const {
    if (!node_) raise(Status(Code::kFailedPrecondition, "the node is not running"));
    return node_;
  }
  template <class F>
  std::uint64_t request(double timeout, F f) const {
    const auto limit = seconds(timeout);
    const auto outcome = std::make_shared<Outcome>();
    const std::shared_ptr<node::Node> node = get();
    node::Completion done = [outcome](const Status& status, std::uint64_t value) {
      {
        const std::lock_guard lock(outcome->mutex);
        outcome->status = status;
        outcome->value = value;
        outcome->is_known = true;
      }
      outcome->ended.notify_all();
    };
    {
      const py::gil_scoped_release release;
      f(*node, std::move(done));
    }
    return await(outcome, limit);
  }
  std::uint64_t propose(double timeout, state::Operation operation) const {
    return request(timeout, [&](node::Node& node, node::Completion done) {
      node.propose(std::move(operation), std::move(done));
    });
  }
  py::bytes kv_get(const std::string& key) const { return py::bytes(unwrap(get()->kv_get(key))); }
  const node::NodeConfig& config() const { return config_; }

 private:
  node::NodeConfig config_;
  std::shared_ptr<node::Node> node_;
};

std::unique_ptr<PyNode> make_node(raft::NodeId node_id, const std::string& data_dir,
                                  const std::string& cluster_name, const std::string& node_name,
                                  const std::string& listen_address, std::uint16_t listen_port,
                                  const std::string& advertise_address, double heartbeat_interval,
                                  double election_timeout, std::size_t max_log_entries,
                                  double request_timeout, std::uint64_t seed,
                                  std::uint64_t system_identifier, bool without_data) {
  node::NodeConfig config;
  config.node_id = node_id;
  config.data_dir = data_dir;
  config.cluster_name = cluster_name;
  config.node_name = node_name;
  config.listen_address = listen_address;
  config.listen_port = listen_port;
  config.advertise_address = advertise_address;
  config.heartbeat_interval = seconds(heartbeat_interval);
  config.election_timeout = seconds(election_timeout);
  config.max_log_entries = max_log_entries;
  config.request_timeout = seconds(request_timeout);
  config.seed = seed;
  config.system_identifier = system_identifier;
  config.without_data = without_data;
  return std::make_unique<PyNode>(std::move(config));
}

std::string describe(const PyNode& self) {
  const std::string name = "<Node " + std::to_string(self.config().node_id);
  if (!self.is_running()) return name + ", not running>";
  const transport::ClusterStatus status = self.get()->status();
  return name + " on port " + std::to_string(self.get()->port()) + ": " + status.state + ", term " +
         std::to_string(status.term) + ">";
}

void add_lifecycle(py::class_<PyNode>& c) {
  c.def(py::init(&make_node), py::kw_only(), py::arg("node_id"), py::arg("data_dir"),
        py::arg("cluster_name") = "pgraft", py::arg("node_name") = "",
        py::arg("listen_address") = "127.0.0.1", py::arg("listen_port") = 0,
        py::arg("advertise_address") = "", py::arg("heartbeat_interval") = 0.1,
        py::arg("election_timeout") = 1.0, py::arg("max_log_entries") = 1000,
        py::arg("request_timeout") = 10.0, py::arg("seed") = 0, py::arg("system_identifier") = 0,
        py::arg("without_data") = false);
  c.def("start", &PyNode::start);
  c.def("stop", &PyNode::stop);
  c.def("__enter__", [](py::object self) {
    if (!self.cast<PyNode&>().is_running()) self.cast<PyNode&>().start();
    return self;
  });
  c.def("__exit__", [](PyNode& self, const py::args&) { self.stop(); });
  c.def_property_readonly("running", &PyNode::is_running);
  c.def_property_readonly("node_id", [](const PyNode& self) { return self.config().node_id; });
  c.def_property_readonly("port", [](const PyNode& self) { return self.get()->port(); });
  c.def_property_readonly("is_member", [](const PyNode& self) { return self.get()->is_member(); });
  c.def("status", [](const PyNode& self) { return to_dict(self.get()->status()); });
  c.def("__repr__", &describe);
}

void add_membership(py::class_<PyNode>& c) {
  using node::Completion;
  using node::Node;
  c.def(
      "init",
      [](const PyNode& self, double timeout) {
        return self.request(timeout, [](Node& n, Completion done) { n.init(std::move(done)); });
      },
      py::kw_only(), py::arg("timeout") = kDefaultTimeout);
  c.def(
      "add_node",
      [](const PyNode& self, const std::string& host, std::uint16_t port, raft::NodeId node_id,
         double timeout) {
        self.request(timeout, [&](Node& n, Completion done) {
          n.add_node(node_id, host, port, std::move(done));
        });
      },
      py::arg("host"), py::arg("port"), py::kw_only(), py::arg("node_id") = 0,
      py::arg("timeout") = kDefaultTimeout);
  c.def(
      "remove_node",
      [](const PyNode& self, raft::NodeId node_id, double timeout) {
        self.request(timeout,
                     [&](Node& n, Completion done) { n.remove_node(node_id, std::move(done)); });
      },
      py::arg("node_id"), py::kw_only(), py::arg("timeout") = kDefaultTimeout);
  c.def(
      "transfer_leadership",
      [](const PyNode& self, raft::NodeId node_id, double timeout) {
        self.request(timeout, [&](Node& n, Completion done) {
          n.transfer_leadership({.to = node_id}, std::move(done));
        });
      },
      py::arg("node_id") = 0, py::kw_only(), py::arg("timeout") = kDefaultTimeout);
}

void add_operations(py::class_<PyNode>& c) {
  c.def(
      "kv_put",
      [](const PyNode& self, std::string key, std::string value, double timeout) {
        return self.propose(timeout, state::KvPut{std::move(key), std::move(value)});
      },
      py::arg("key"), py::arg("value"), py::kw_only(), py::arg("timeout") = kDefaultTimeout);
  c.def("kv_get", &PyNode::kv_get, py::arg("key"));
  c.def(
      "kv_delete",
      [](const PyNode& self, std::string key, double timeout) {
        return self.propose(timeout, state::KvDelete{std::move(key)});
      },
      py::arg("key"), py::kw_only(), py::arg("timeout") = kDefaultTimeout);
  c.def(
      "read_barrier",
      [](const PyNode& self, double timeout) {
        self.request(timeout,
                     [](node::Node& n, node::Completion done) { n.read_barrier(std::move(done)); });
      },
      py::kw_only(), py::arg("timeout") = kDefaultTimeout);
  c.def(
      "log_append",
      [](const PyNode& self, std::string data, double timeout) {
        return self.propose(timeout, state::LogAppend{std::move(data)});
      },
      py::arg("data"), py::kw_only(), py::arg("timeout") = kDefaultTimeout);
}

}  // namespace

void add_node(py::module_& m) {
  py::class_<PyNode> c(m, "Node");
  add_lifecycle(c);
  add_membership(c);
  add_operations(c);
}

}  // namespace pgraft::python
