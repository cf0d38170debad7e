// Majorities and changes of the configuration as functions without state. The modules pgraft.quorum
// and pgraft.confchange give them their names.
#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include "bindings/python/module/module.h"
#include "bindings/python/module/values.h"
#include "libpgraft/raft/confchange.h"
#include "libpgraft/raft/quorum.h"

namespace py = pybind11;

namespace pgraft::python {

namespace {

using raft::Index;
using raft::Membership;
using raft::NodeId;
using raft::NodeSet;
using raft::VoteResult;
using Ids = std::vector<NodeId>;
using Changes = std::vector<raft::ConfChangeSingle>;

NodeSet set_of(const Ids& ids) { return {ids.begin(), ids.end()}; }

void add_quorum(py::module_& m) {
  py::native_enum<VoteResult>(m, "VoteResult", "enum.Enum")
      .value("PENDING", VoteResult::kPending)
      .value("LOST", VoteResult::kLost)
      .value("WON", VoteResult::kWon)
      .finalize();
  m.attr("UNLIMITED_INDEX") = raft::kUnlimitedIndex;
  m.def(
      "quorum_committed",
      [](const Ids& voters, const std::map<NodeId, Index>& acked, const Ids& outgoing) {
        return raft::joint_acked(set_of(voters), set_of(outgoing), [&acked](NodeId id) {
          const auto found = acked.find(id);
          return found == acked.end() ? Index{0} : found->second;
        });
      },
      py::arg("voters"), py::arg("acked"), py::kw_only(), py::arg("outgoing") = py::tuple());
  m.def(
      "quorum_vote_result",
      [](const Ids& voters, const raft::Votes& votes, const Ids& outgoing) {
        return raft::joint_vote(set_of(voters), set_of(outgoing), votes);
      },
      py::arg("voters"), py::arg("votes"), py::kw_only(), py::arg("outgoing") = py::tuple());
}

py::object progress_of(const Membership& membership) {
  py::dict out;
  for (const auto& [id, member] : membership.progress) {
    raft::ProgressView view;
    view.match = member.match;
    view.next = member.next;
    view.state = member.state;
    view.recent_active = member.recent_active;
    view.is_learner = member.is_learner;
    out[py::cast(id)] = view;
  }
  return read_only(out);
}

// A raft::Changer with the tracker it looks at.
class Changer {
 public:
  Changer(const Membership& membership, Index last_index)
      : tracker_{{}, membership.config, membership.progress, {}, true}, last_index_(last_index) {}
  raft::Changer get() const { return {tracker_, last_index_}; }

 private:
  raft::Tracker tracker_;
  Index last_index_;
};

void add_confchange(py::module_& m) {
  py::class_<Membership> membership(m, "Membership", "A configuration and its members' progress.");
  membership.def(py::init([](const raft::ConfState& conf, Index last_index) {
                   return unwrap(raft::restore_membership(conf, last_index, {}));
                 }),
                 py::arg("conf") = raft::ConfState{}, py::arg("last_index") = 0);
  membership.def_property_readonly("conf",
                                   [](const Membership& v) { return v.config.to_conf_state(); });
  membership.def_property_readonly("progress", &progress_of);
  add_value_methods(membership, {"conf", "progress"}, py::cast(Membership{}));

  py::class_<Changer> c(m, "Changer", "The changes that a configuration admits.");
  c.def(py::init<const Membership&, Index>(), py::arg("membership") = Membership{},
        py::arg("last_index") = 0);
  c.def(
      "simple",
      [](const Changer& v, const Changes& changes) { return unwrap(v.get().simple(changes)); },
      py::arg("changes"));
  c.def(
      "enter_joint",
      [](const Changer& v, const Changes& changes, bool auto_leave) {
        return unwrap(v.get().enter_joint(auto_leave, changes));
      },
      py::arg("changes"), py::kw_only(), py::arg("auto_leave") = false);
  c.def("leave_joint", [](const Changer& v) { return unwrap(v.get().leave_joint()); });
  c.def(
      "change",
      [](const Changer& v, const raft::ConfChange& change) {
        return unwrap(v.get().change(change));
      },
      py::arg("change"));
}

}  // namespace

void add_raft_functions(py::module_& m) {
  add_quorum(m);
  add_confchange(m);
}

}  // namespace pgraft::python
