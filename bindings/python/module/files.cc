// The member files (libpgraft/node/member_files.h) as Python values.
#include <pybind11/operators.h>
#include <pybind11/stl.h>

#include "bindings/python/module/module.h"
#include "libpgraft/node/member_files.h"

namespace py = pybind11;

namespace pgraft::python {

namespace {

using node::Binding;
using node::BindingFile;
using node::IdentityFile;
using node::RejoinFile;
using node::RejoinMode;
using node::RejoinState;
using node::TimelinesFile;
using state::Member;

using Pair = std::pair<failover::Timeline, failover::Lsn>;  // (timeline, lsn)

std::vector<Pair> to_pairs(const failover::History& history) {
  std::vector<Pair> pairs;
  for (const auto& line : history) pairs.emplace_back(line.timeline, line.end);
  return pairs;
}

failover::History from_pairs(const std::vector<Pair>& pairs) {
  failover::History history;
  for (const auto& [timeline, end] : pairs) history.push_back({timeline, end});
  return history;
}

void add_classes(py::module_& m) {
  py::enum_<RejoinState>(m, "RejoinState")
      .value("REQUESTED", RejoinState::kRequested)
      .value("WORKING", RejoinState::kWorking)
      .value("CATCHING_UP", RejoinState::kCatchingUp);
  py::enum_<RejoinMode>(m, "RejoinMode")
      .value("REWIND", RejoinMode::kRewind)
      .value("CLONE", RejoinMode::kClone);

  py::class_<IdentityFile>(m, "IdentityFile")
      .def(py::init<>())
      .def_readwrite("cluster_name", &IdentityFile::cluster_name)
      .def_readwrite("cluster_id", &IdentityFile::cluster_id)
      .def_readwrite("node_id", &IdentityFile::node_id)
      .def_readwrite("incarnation", &IdentityFile::incarnation)
      .def_readwrite("system_identifier", &IdentityFile::system_identifier)
      .def_readwrite("binding", &IdentityFile::binding)
      .def(py::self == py::self)
      .def("__repr__", [](const IdentityFile& f) {
        return "<IdentityFile of node " + std::to_string(f.node_id) + " of cluster " +
               f.cluster_name + ">";
      });

  py::class_<BindingFile>(m, "BindingFile")
      .def(py::init<>())
      .def_readwrite("node_id", &BindingFile::node_id)
      .def_readwrite("incarnation", &BindingFile::incarnation)
      .def_readwrite("binding", &BindingFile::binding)
      .def(py::self == py::self)
      .def("__repr__", [](const BindingFile& f) {
        return "<BindingFile of node " + std::to_string(f.node_id) + ">";
      });

  py::class_<RejoinFile>(m, "RejoinFile")
      .def(py::init<>())
      .def_readwrite("state", &RejoinFile::state)
      .def_readwrite("mode", &RejoinFile::mode)
      .def_readwrite("source_node", &RejoinFile::source_node)
      .def_readwrite("source_host", &RejoinFile::source_host)
      .def_readwrite("source_port", &RejoinFile::source_port)
      .def_property(
          "target", [](const RejoinFile& f) { return Pair(f.target.timeline, f.target.lsn); },
          [](RejoinFile& f, const Pair& target) {
            f.target = {target.first, target.second};
          })
      .def_readwrite("binding", &RejoinFile::binding)
      .def_readwrite("reason", &RejoinFile::reason)
      .def(py::self == py::self)
      .def("__repr__", [](const RejoinFile& f) {
        constexpr const char* kStates[] = {"requested", "working", "catching up"};
        return std::string("<RejoinFile: ") + kStates[static_cast<int>(f.state)] + ", from node " +
               std::to_string(f.source_node) + ">";
      });

  py::class_<TimelinesFile>(m, "TimelinesFile")
      .def(py::init<>())
      .def_readwrite("max", &TimelinesFile::max)
      .def_readwrite("current", &TimelinesFile::current)
      .def_property(
          "history", [](const TimelinesFile& f) { return to_pairs(f.history); },
          [](TimelinesFile& f, const std::vector<Pair>& h) { f.history = from_pairs(h); })
      .def(py::self == py::self)
      .def("__repr__", [](const TimelinesFile& f) {
        return "<TimelinesFile: current " + std::to_string(f.current) + ", greatest " +
               std::to_string(f.max) + ">";
      });

  py::class_<Member>(m, "Member")
      .def(py::init<>())
      .def_readwrite("id", &Member::id)
      .def_readwrite("incarnation", &Member::incarnation)
      .def_readwrite("name", &Member::name)
      .def_readwrite("address", &Member::address)
      .def_readwrite("port", &Member::port)
      .def_readwrite("pg_host", &Member::pg_host)
      .def_readwrite("pg_port", &Member::pg_port)
      .def(py::self == py::self)
      .def("__repr__", [](const Member& v) {
        return "<Member " + std::to_string(v.id) + " " + v.name + " at " + v.address + ":" +
               std::to_string(v.port) + ">";
      });

  py::class_<Binding>(m, "Binding")
      .def_readonly("identity", &Binding::identity)
      .def_readonly("created", &Binding::created)
      .def_readonly("rejoin", &Binding::rejoin);
}

// Reads and writes sync files: other Python threads run meanwhile.
template <class F>
auto unlocked(F f) {
  const py::gil_scoped_release release;
  return f();
}

}  // namespace

void add_files(py::module_& m) {
  add_classes(m);
  using Path = std::string;
  m.def(
      "read_identity",
      [](const Path& dir) { return unwrap(unlocked([&] { return node::read_identity(dir); })); },
      py::arg("data_dir"));
  m.def(
      "write_identity",
      [](const Path& dir, const IdentityFile& file) {
        check(unlocked([&] { return node::write_identity(dir, file); }));
      },
      py::arg("data_dir"), py::arg("file"));
  m.def(
      "read_binding",
      [](const Path& pgdata) {
        return unwrap(unlocked([&] { return node::read_binding(pgdata); }));
      },
      py::arg("pgdata"));
  m.def(
      "write_binding",
      [](const Path& pgdata, const BindingFile& file) {
        check(unlocked([&] { return node::write_binding(pgdata, file); }));
      },
      py::arg("pgdata"), py::arg("file"));
  m.def(
      "read_rejoin",
      [](const Path& dir) { return unwrap(unlocked([&] { return node::read_rejoin(dir); })); },
      py::arg("data_dir"));
  m.def(
      "write_rejoin",
      [](const Path& dir, const RejoinFile& file) {
        check(unlocked([&] { return node::write_rejoin(dir, file); }));
      },
      py::arg("data_dir"), py::arg("file"));
  m.def(
      "remove_rejoin",
      [](const Path& dir) { check(unlocked([&] { return node::remove_rejoin(dir); })); },
      py::arg("data_dir"));
  m.def(
      "request_rejoin",
      [](const Path& dir, const RejoinFile& wanted) {
        check(unlocked([&] { return node::request_rejoin(dir, wanted); }));
      },
      py::arg("data_dir"), py::arg("wanted"));
  m.def(
      "read_timelines",
      [](const Path& dir) { return unwrap(unlocked([&] { return node::read_timelines(dir); })); },
      py::arg("data_dir"));
  m.def(
      "write_timelines",
      [](const Path& dir, const TimelinesFile& file) {
        check(unlocked([&] { return node::write_timelines(dir, file); }));
      },
      py::arg("data_dir"), py::arg("file"));
  m.def(
      "read_members",
      [](const Path& dir) { return unwrap(unlocked([&] { return node::read_members(dir); })); },
      py::arg("data_dir"));
  m.def(
      "write_members",
      [](const Path& dir, const std::vector<Member>& members) {
        check(unlocked([&] { return node::write_members(dir, members); }));
      },
      py::arg("data_dir"), py::arg("members"));
  m.def(
      "bind",
      [](const Path& dir, const Path& pgdata, raft::NodeId id, const std::string& cluster,
         std::uint64_t system_identifier) {
        return unwrap(unlocked([&] {
          return node::bind({dir, pgdata, id, cluster, system_identifier});
        }));
      },
      py::arg("data_dir"), py::arg("pgdata"), py::arg("node_id"), py::arg("cluster_name"),
      py::arg("system_identifier"));
  m.def("random_id", &node::random_id);
}

}  // namespace pgraft::python
