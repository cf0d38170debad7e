// raft::RawNode for scripts. What would stop the process there (a call at the wrong time, a log
// that is not what was handed out) is an exception here: either it is checked before the call, or
// the invariant that breaks is one, and the node refuses every call from then on.
#include "libpgraft/raft/raw_node.h"

#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "bindings/python/module/memory_storage.h"
#include "bindings/python/module/module.h"
#include "bindings/python/module/values.h"

namespace py = pybind11;

namespace pgraft::python {

namespace {

using raft::Index;
using raft::Message;
using raft::MessageType;
using raft::NodeId;
using raft::Term;

enum class ReadOnly : std::uint8_t { kSafe, kLeaseBased };

[[noreturn]] void refuse(Code code, const std::string& why) { raise(Status(code, why)); }

bool is_storage_response(MessageType type) {
  return type == MessageType::kStorageAppendResponse || type == MessageType::kStorageApplyResponse;
}

// raft::Ready, converted once.
struct Ready {
  py::object soft_state = py::none();
  py::object hard_state = py::none();
  py::tuple entries{};
  py::object snapshot = py::none();
  py::tuple committed_entries{};
  py::tuple messages{};
  py::tuple read_states{};
  bool must_sync = false;
};

class PyRawNode {
 public:
  PyRawNode(const raft::Config& config, std::shared_ptr<MemoryStorage> storage)
      : config_(config), storage_(std::move(storage)) {
    const auto create = [&] {
      const InvariantGuard guard;
      return raft::RawNode::create(config_, storage_.get());
    };
    node_ = unwrap(create());
    storage_->attach(node_.get());
  }
  ~PyRawNode() { storage_->detach(node_.get()); }
  PyRawNode(const PyRawNode&) = delete;
  PyRawNode& operator=(const PyRawNode&) = delete;

  // Every call goes through here. What is thrown in the middle of one leaves the node in a state
  // that nobody has thought of.
  template <class F>
  auto call(F f) const {
    check_usable();
    const InvariantGuard guard;
    try {
      return f(*node_);
    } catch (const std::exception& error) {
      broken_ = error.what();
      throw;
    }
  }

  void step(const Message& message) const {
    if (message.type == MessageType::kStorageAppend || message.type == MessageType::kStorageApply)
      refuse(Code::kInvalidArgument, "this message is for the storage, not for a node");
    if (is_storage_response(message.type) || message.from == config_.id) {
      complete(message);
    } else {
      check(call([&](auto& node) { return node.step(message); }));
    }
  }

  void complete(const Message& response) const {
    if (!config_.async_storage_writes) {
      refuse(Code::kFailedPrecondition,
             "this is for async_storage_writes: without them advance() does it");
    }
    const bool own =
        response.from == config_.id && (response.type == MessageType::kAppendResponse ||
                                        response.type == MessageType::kVoteResponse ||
                                        response.type == MessageType::kPreVoteResponse);
    if (response.to != config_.id || !(own || is_storage_response(response.type)))
      refuse(Code::kInvalidArgument, "not a response to this node of its own storage");
    const Index applied = response.type == MessageType::kStorageApplyResponse ? response.index
                          : response.snapshot ? response.snapshot->meta.index
                                              : 0;
    if (applied > status().hard.commit) {
      refuse(Code::kInvalidArgument,
             "entry " + std::to_string(applied) + " can't be applied: it is not committed");
    }
    call([&](auto& node) { node.complete(response); });
  }

  Ready ready() {
    if (outstanding_)
      refuse(Code::kFailedPrecondition, "the ready before is not dealt with: advance() first");
    raft::Ready ready = call([](auto& node) { return node.ready(); });
    Ready out{py::cast(ready.soft_state),        py::cast(ready.hard_state),
              to_tuple(ready.entries),           to_python(ready.snapshot),
              to_tuple(ready.committed_entries), to_tuple(ready.messages),
              to_tuple(ready.read_states),       ready.must_sync};
    if (!config_.async_storage_writes) {
      outstanding_.emplace();
      if (ready.snapshot) outstanding_->snapshot = ready.snapshot->meta.index;
      if (!ready.entries.empty()) outstanding_->last = std::move(ready.entries.back());
    }
    return out;
  }

  void advance() {
    if (config_.async_storage_writes) {
      refuse(Code::kFailedPrecondition,
             "there is no advance() with async_storage_writes: give the responses to step()");
    }
    if (!outstanding_) refuse(Code::kFailedPrecondition, "there is no ready(): call it first");
    check_written();
    call([](auto& node) { node.advance(); });
    outstanding_.reset();
  }

  raft::NodeStatus status() const {
    return call([](auto& node) { return node.status(); });
  }
  const raft::Config& config() const { return config_; }
  bool is_usable() const { return broken_.empty() && storage_->is_attached(node_.get()); }

 private:
  void check_usable() const {
    const std::string name = "node " + std::to_string(config_.id);
    if (!broken_.empty()) throw InvariantBroken(name + " is broken: " + broken_);
    if (!storage_->is_attached(node_.get()))
      refuse(Code::kFailedPrecondition, name + " was replaced by a newer one on its storage");
  }
  // The core goes on to read what it has handed out from the storage.
  void check_written() const {
    if (outstanding_->snapshot > (*storage_->snapshot())->meta.index) {
      refuse(Code::kFailedPrecondition,
             "the snapshot of the last ready is not in the storage: "
             "apply_snapshot() it before advance()");
    }
    if (!outstanding_->last) return;
    const Result<Term> stored = storage_->term(outstanding_->last->index);
    if (!stored || *stored != outstanding_->last->term) {
      refuse(Code::kFailedPrecondition,
             "the entries of the last ready are not in the storage: "
             "append() them before advance()");
    }
  }

  struct Outstanding {
    Index snapshot = 0;
    std::optional<raft::Entry> last;
  };

  const raft::Config config_;
  const std::shared_ptr<MemoryStorage> storage_;
  std::unique_ptr<raft::RawNode> node_;
  mutable std::string broken_;  // why; empty: it is not
  std::optional<Outstanding> outstanding_;
};

std::string describe(const PyRawNode& node) {
  const std::string name = "<RawNode " + std::to_string(node.config().id);
  if (!node.is_usable()) return name + ", broken or replaced>";
  const raft::NodeStatus status = node.status();
  return name + ": " + raft::role_name(status.soft.role) + " in term " +
         std::to_string(status.hard.term) + ", last index " + std::to_string(status.last_index) +
         ", committed " + std::to_string(status.hard.commit) + ", applied " +
         std::to_string(status.applied) + ">";
}

void add_storage(py::module_& m) {
  using S = MemoryStorage;
  py::class_<S, std::shared_ptr<S>> c(m, "MemoryStorage", "The log of a RawNode, in memory.");
  c.def(py::init<>());
  c.def("hard_state", &S::hard_state);
  c.def("set_hard_state", &S::set_hard_state, py::arg("hard_state"));
  c.def("first_index", &S::first_index);
  c.def("last_index", &S::last_index);
  c.def(
      "term", [](const S& s, Index i) { return unwrap(s.term(i)); }, py::arg("index"));
  c.def(
      "entries",
      [](const S& s, Index lo, Index hi, std::optional<std::uint64_t> max_size) {
        return to_tuple(unwrap(s.entries(lo, hi, max_size.value_or(~std::uint64_t{0}))));
      },
      py::arg("lo"), py::arg("hi"), py::arg("max_size") = py::none());
  c.def(
      "append", [](S& s, const std::vector<raft::Entry>& entries) { check(s.append(entries)); },
      py::arg("entries"));
  c.def("snapshot", [](const S& s) { return to_python(*s.snapshot()); });
  c.def(
      "apply_snapshot",
      [](S& s, const std::shared_ptr<raft::Snapshot>& snapshot) {
        check(s.apply_snapshot(snapshot));
      },
      py::arg("snapshot").none(false));
  c.def(
      "create_snapshot",
      [](S& s, Index index, raft::ConfState conf, const py::bytes& data) {
        check(s.create_snapshot(index, std::move(conf), data));
        return to_python(*s.snapshot());
      },
      py::arg("index"), py::arg("conf"), py::arg("data") = py::bytes());
  c.def(
      "compact", [](S& s, Index index) { check(s.compact(index)); }, py::arg("index"));
  c.def("__repr__", [](const S& s) {
    return "<MemoryStorage: entries " + std::to_string(s.first_index()) + " to " +
           std::to_string(s.last_index()) + ">";
  });
}

void add_ready(py::module_& m) {
  py::class_<Ready> c(m, "Ready", "What a node wants done.");
  c.def_readonly("soft_state", &Ready::soft_state);
  c.def_readonly("hard_state", &Ready::hard_state);
  c.def_readonly("entries", &Ready::entries);
  c.def_readonly("snapshot", &Ready::snapshot);
  c.def_readonly("committed_entries", &Ready::committed_entries);
  c.def_readonly("messages", &Ready::messages);
  c.def_readonly("read_states", &Ready::read_states);
  c.def_readonly("must_sync", &Ready::must_sync);
  add_value_methods(c,
                    {"soft_state", "hard_state", "entries", "snapshot", "committed_entries",
                     "messages", "read_states", "must_sync"},
                    py::cast(Ready{}));
}

void add_status(py::module_& m) {
  using raft::NodeStatus;
  py::class_<NodeStatus> c(m, "NodeStatus", "A node's view of itself and its cluster.");
  c.def_readonly("id", &NodeStatus::id);
  c.def_property_readonly("term", [](const NodeStatus& s) { return s.hard.term; });
  c.def_property_readonly("vote", [](const NodeStatus& s) { return s.hard.vote; });
  c.def_property_readonly("commit", [](const NodeStatus& s) { return s.hard.commit; });
  c.def_property_readonly("leader", [](const NodeStatus& s) { return s.soft.leader; });
  c.def_property_readonly("role", [](const NodeStatus& s) { return s.soft.role; });
  c.def_readonly("applied", &NodeStatus::applied);
  c.def_readonly("last_index", &NodeStatus::last_index);
  c.def_readonly("transferee", &NodeStatus::transferee);
  c.def_readonly("conf", &NodeStatus::conf);
  c.def_property_readonly("progress",
                          [](const NodeStatus& s) { return read_only(py::cast(s.progress)); });
  add_value_methods(c,
                    {"id", "term", "vote", "commit", "leader", "role", "applied", "last_index",
                     "transferee", "conf", "progress"},
                    py::cast(NodeStatus{}));
}

void add_construction(py::class_<PyRawNode>& c) {
  const raft::Config defaults;
  c.def(py::init([](NodeId id, std::shared_ptr<MemoryStorage> storage, int election_tick,
                    int heartbeat_tick, std::uint64_t max_size_per_msg,
                    std::size_t max_inflight_msgs, std::uint64_t max_inflight_bytes,
                    std::uint64_t max_uncommitted_size, std::uint64_t max_committed_size_per_ready,
                    bool pre_vote, bool check_quorum, ReadOnly read_only, bool async_storage_writes,
                    bool disable_conf_change_validation, bool step_down_on_removal, Index applied,
                    int priority, std::uint64_t seed, raft::Incarnation incarnation,
                    const raft::Switches& rules) {
          raft::Config config;
          config.id = id;
          config.incarnation = incarnation;
          config.election_ticks = election_tick;
          config.heartbeat_ticks = heartbeat_tick;
          config.max_size_per_msg = max_size_per_msg;
          config.max_inflight_msgs = max_inflight_msgs;
          config.max_inflight_bytes = max_inflight_bytes;
          config.max_uncommitted_bytes = max_uncommitted_size;
          config.max_committed_bytes_per_ready = max_committed_size_per_ready;
          config.pre_vote = pre_vote;
          config.check_quorum = check_quorum;
          config.step_down_on_removal = step_down_on_removal;
          config.disable_conf_change_validation = disable_conf_change_validation;
          config.async_storage_writes = async_storage_writes;
          config.lease_based_reads = read_only == ReadOnly::kLeaseBased;
          config.priority = priority;
          config.rules = rules;
          // The log may reach back behind the snapshot that the state machine was restored from.
          config.applied = std::max(applied, (*storage->snapshot())->meta.index);
          config.seed = seed;
          return std::make_unique<PyRawNode>(config, std::move(storage));
        }),
        py::arg("id"), py::arg("storage").none(false), py::kw_only(),
        py::arg("election_tick") = defaults.election_ticks,
        py::arg("heartbeat_tick") = defaults.heartbeat_ticks,
        py::arg("max_size_per_msg") = defaults.max_size_per_msg,
        py::arg("max_inflight_msgs") = defaults.max_inflight_msgs,
        py::arg("max_inflight_bytes") = defaults.max_inflight_bytes,
        py::arg("max_uncommitted_size") = defaults.max_uncommitted_bytes,
        py::arg("max_committed_size_per_ready") = defaults.max_committed_bytes_per_ready,
        py::arg("pre_vote") = defaults.pre_vote, py::arg("check_quorum") = defaults.check_quorum,
        py::arg("read_only") = ReadOnly::kSafe,
        py::arg("async_storage_writes") = defaults.async_storage_writes,
        py::arg("disable_conf_change_validation") = defaults.disable_conf_change_validation,
        py::arg("step_down_on_removal") = defaults.step_down_on_removal,
        py::arg("applied") = defaults.applied, py::arg("priority") = defaults.priority,
        py::arg("seed") = defaults.seed, py::arg("incarnation") = defaults.incarnation,
        py::arg("rules") = defaults.rules);
}

// The loop of a script: time, messages, readies.
void add_driving(py::class_<PyRawNode>& c) {
  c.def("tick", [](const PyRawNode& n) { n.call([](auto& node) { node.tick(); }); });
  c.def("step", &PyRawNode::step, py::arg("message"));
  c.def("complete", &PyRawNode::complete, py::arg("response"));
  c.def("has_ready",
        [](const PyRawNode& n) { return n.call([](auto& node) { return node.has_ready(); }); });
  c.def("ready", &PyRawNode::ready);
  c.def("advance", &PyRawNode::advance);
  c.def(
      "apply_conf_change",
      [](const PyRawNode& n, const raft::ConfChange& change) {
        return n.call([&](auto& node) { return node.apply_conf_change(change); });
      },
      py::arg("change"));
}

void add_requests(py::class_<PyRawNode>& c) {
  c.def("campaign",
        [](const PyRawNode& n) { check(n.call([](auto& node) { return node.campaign(); })); });
  c.def(
      "propose",
      [](const PyRawNode& n, const py::bytes& data) {
        check(n.call([&](auto& node) { return node.propose(std::string(data)); }));
      },
      py::arg("data"));
  c.def(
      "propose_conf_change",
      [](const PyRawNode& n, const raft::ConfChange& change) {
        check(n.call([&](auto& node) { return node.propose_conf_change(change); }));
      },
      py::arg("change"));
  c.def(
      "read_index",
      [](const PyRawNode& n, const py::bytes& context) {
        check(n.call([&](auto& node) { return node.read_index(std::string(context)); }));
      },
      py::arg("context"));
  c.def(
      "transfer_leader",
      [](const PyRawNode& n, NodeId to) {
        check(n.call([&](auto& node) { return node.transfer_leader(to); }));
      },
      py::arg("id"));
  c.def("forget_leader",
        [](const PyRawNode& n) { n.call([](auto& node) { node.forget_leader(); }); });
  c.def(
      "step_down",
      [](const PyRawNode& n, int hold_off_ticks) {
        n.call([&](auto& node) { node.step_down(hold_off_ticks); });
      },
      py::arg("hold_off_ticks") = 0);
}

// What the surroundings have noticed, and hints.
void add_reports(py::class_<PyRawNode>& c) {
  c.def(
      "report_unreachable",
      [](const PyRawNode& n, NodeId id) {
        n.call([&](auto& node) { node.report_unreachable(id); });
      },
      py::arg("id"));
  c.def(
      "report_snapshot",
      [](const PyRawNode& n, NodeId id, bool ok) {
        n.call([&](auto& node) { node.report_snapshot(id, ok); });
      },
      py::arg("id"), py::arg("ok"));
  c.def(
      "report_leader_lost",
      [](const PyRawNode& n, NodeId leader, int delay_ticks) {
        n.call([&](auto& node) { node.report_leader_lost(leader, delay_ticks); });
      },
      py::arg("leader"), py::arg("delay_ticks") = 0);
  c.def(
      "set_election_delay",
      [](const PyRawNode& n, int ticks) {
        n.call([&](auto& node) { node.set_election_delay(ticks); });
      },
      py::arg("ticks"));
  c.def(
      "set_priority",
      [](const PyRawNode& n, int priority) {
        if (priority < 0 || priority > raft::kMaxPriority)
          refuse(Code::kInvalidArgument, "priority must be 0 to 100");
        n.call([&](auto& node) { node.set_priority(priority); });
      },
      py::arg("priority"));
  c.def(
      "set_randomized_election_timeout",
      [](const PyRawNode& n, int ticks) {
        if (ticks < 1) refuse(Code::kInvalidArgument, "an election timeout is at least one tick");
        n.call([&](auto& node) { node.set_randomized_election_timeout(ticks); });
      },
      py::arg("ticks"));
}

void add_state(py::class_<PyRawNode>& c) {
  c.def("status", &PyRawNode::status);
  c.def_property_readonly("id", [](const PyRawNode& n) { return n.config().id; });
  c.def_property_readonly(
      "term", [](const PyRawNode& n) { return n.call([](auto& node) { return node.term(); }); });
  c.def_property_readonly("leader", [](const PyRawNode& n) {
    return n.call([](auto& node) { return node.leader(); });
  });
  c.def_property_readonly(
      "role", [](const PyRawNode& n) { return n.call([](auto& node) { return node.role(); }); });
  c.def_property_readonly("now_ticks", [](const PyRawNode& n) {
    return n.call([](auto& node) { return node.now_ticks(); });
  });
  c.def_property_readonly("quorum_ack_tick", [](const PyRawNode& n) {
    return n.call([](auto& node) { return node.quorum_ack_tick(); });
  });
  c.def_property_readonly("own_term_applied", [](const PyRawNode& n) {
    return n.call([](auto& node) { return node.own_term_applied(); });
  });
  c.def_property_readonly("conf_change_pending", [](const PyRawNode& n) {
    return n.call([](auto& node) { return node.conf_change_pending(); });
  });
  c.def("__repr__", &describe);
}

}  // namespace

void add_raw_node(py::module_& m) {
  py::native_enum<ReadOnly>(m, "ReadOnly", "enum.Enum")
      .value("SAFE", ReadOnly::kSafe)
      .value("LEASE_BASED", ReadOnly::kLeaseBased)
      .finalize();
  add_storage(m);
  add_ready(m);
  add_status(m);
  py::class_<PyRawNode> c(m, "RawNode",
                          "One member of a Raft group as a deterministic state machine.");
  add_construction(c);
  add_driving(c);
  add_requests(c);
  add_reports(c);
  add_state(c);
}

}  // namespace pgraft::python
