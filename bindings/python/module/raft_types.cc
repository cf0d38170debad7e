// The vocabulary of the Raft core (libpgraft/raft/types.h, raw_node.h) as Python values.
#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cctype>

#include "bindings/python/module/module.h"
#include "bindings/python/module/values.h"
#include "libpgraft/raft/quorum.h"
#include "libpgraft/raft/raw_node.h"

namespace py = pybind11;

namespace pgraft::python {

namespace {

using raft::ConfChange;
using raft::ConfChangeSingle;
using raft::ConfChangeTransition;
using raft::ConfChangeType;
using raft::ConfState;
using raft::Entry;
using raft::EntryType;
using raft::HardState;
using raft::Index;
using raft::Message;
using raft::MessageType;
using raft::NodeId;
using raft::ProgressState;
using raft::ProgressView;
using raft::ReadState;
using raft::Role;
using raft::Snapshot;
using raft::SoftState;
using raft::Term;

constexpr const char* kEnum = "enum.Enum";

// Real Python enumerations: members are singletons, so that `is` works.
template <class E>
void add_enum(py::module_& m, const char* type, E last, const char* (*name)(E)) {
  py::native_enum<E> e(m, type, kEnum);
  for (int i = 0; i <= static_cast<int>(last); ++i) {
    std::string upper = name(static_cast<E>(i));
    for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    e.value(upper.c_str(), static_cast<E>(i));
  }
  e.finalize();
}

void add_enums(py::module_& m) {
  add_enum(m, "Role", Role::kLeader, &raft::role_name);
  add_enum(m, "MessageType", MessageType::kStorageApplyResponse, &raft::message_type_name);
  add_enum(m, "ProgressState", ProgressState::kSnapshot, &raft::progress_state_name);
  py::native_enum<EntryType>(m, "EntryType", kEnum)
      .value("NORMAL", EntryType::kNormal)
      .value("CONF_CHANGE", EntryType::kConfChange)
      .finalize();
  py::native_enum<ConfChangeType>(m, "ConfChangeType", kEnum)
      .value("ADD_VOTER", ConfChangeType::kAddVoter)
      .value("ADD_LEARNER", ConfChangeType::kAddLearner)
      .value("REMOVE", ConfChangeType::kRemove)
      .value("UPDATE", ConfChangeType::kUpdate)
      .finalize();
  py::native_enum<ConfChangeTransition>(m, "ConfChangeTransition", kEnum)
      .value("AUTO", ConfChangeTransition::kAuto)
      .value("IMPLICIT", ConfChangeTransition::kImplicit)
      .value("EXPLICIT", ConfChangeTransition::kExplicit)
      .finalize();
}

template <class T, class... Options>
void finish(py::class_<T, Options...>& c, const std::vector<std::string>& fields) {
  add_value_methods(c, fields, py::cast(T{}));
}
template <class T, class... Options>
void finish_made(py::class_<T, Options...>& c, const std::vector<std::string>& fields) {
  finish(c, fields);
  add_replace(c, fields);
}

void add_entry(py::module_& m) {
  py::class_<Entry> c(m, "Entry", "A log entry.");
  c.def(py::init([](Index index, Term term, EntryType type, const py::bytes& data) {
          return Entry{index, term, type, data};
        }),
        py::arg("index") = 0, py::arg("term") = 0, py::arg("type") = EntryType::kNormal,
        py::arg("data") = py::bytes());
  c.def_readonly("index", &Entry::index);
  c.def_readonly("term", &Entry::term);
  c.def_readonly("type", &Entry::type);
  c.def_property_readonly("data", [](const Entry& e) { return py::bytes(e.data); });
  finish_made(c, {"index", "term", "type", "data"});
}

void add_conf_change(py::module_& m) {
  py::class_<ConfChangeSingle> single(m, "ConfChangeSingle", "What happens to one member.");
  single.def(py::init([](ConfChangeType type, NodeId id, raft::Incarnation incarnation) {
               return ConfChangeSingle{type, id, incarnation};
             }),
             py::arg("type"), py::arg("node_id"), py::arg("incarnation") = 0);
  single.def_readonly("type", &ConfChangeSingle::type);
  single.def_readonly("node_id", &ConfChangeSingle::node_id);
  single.def_readonly("incarnation", &ConfChangeSingle::incarnation);
  finish_made(single, {"type", "node_id", "incarnation"});

  py::class_<ConfChange> c(m, "ConfChange", "A change of the configuration.");
  c.def(py::init([](std::vector<ConfChangeSingle> changes, ConfChangeTransition transition,
                    const py::bytes& context) {
          return ConfChange{transition, std::move(changes), context};
        }),
        py::arg("changes") = py::tuple(), py::kw_only(),
        py::arg("transition") = ConfChangeTransition::kAuto, py::arg("context") = py::bytes());
  c.def_property_readonly("changes", [](const ConfChange& v) { return to_tuple(v.changes); });
  c.def_readonly("transition", &ConfChange::transition);
  c.def_property_readonly("context", [](const ConfChange& v) { return py::bytes(v.context); });
  c.def("encode", [](const ConfChange& v) { return py::bytes(raft::encode_conf_change(v)); });
  c.def_static(
      "decode",
      [](const py::bytes& data) { return unwrap(raft::decode_conf_change(std::string(data))); },
      py::arg("data"));
  finish_made(c, {"changes", "transition", "context"});
}

std::vector<NodeId> sorted(std::vector<NodeId> ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void add_conf_state(py::module_& m) {
  using Ids = std::vector<NodeId>;
  py::class_<ConfState> c(m, "ConfState", "The members of a cluster as of some index.");
  c.def(py::init([](Ids voters, Ids learners, Ids voters_outgoing, Ids learners_next,
                    bool auto_leave, std::map<NodeId, raft::Incarnation> incarnations) {
          return ConfState{sorted(std::move(voters)),
                           sorted(std::move(learners)),
                           sorted(std::move(voters_outgoing)),
                           sorted(std::move(learners_next)),
                           auto_leave,
                           std::move(incarnations)};
        }),
        py::arg("voters") = py::tuple(), py::arg("learners") = py::tuple(),
        py::arg("voters_outgoing") = py::tuple(), py::arg("learners_next") = py::tuple(),
        py::arg("auto_leave") = false, py::arg("incarnations") = py::dict());
  c.def_property_readonly("voters", [](const ConfState& v) { return to_tuple(v.voters); });
  c.def_property_readonly("learners", [](const ConfState& v) { return to_tuple(v.learners); });
  c.def_property_readonly("voters_outgoing",
                          [](const ConfState& v) { return to_tuple(v.voters_outgoing); });
  c.def_property_readonly("learners_next",
                          [](const ConfState& v) { return to_tuple(v.learners_next); });
  c.def_readonly("auto_leave", &ConfState::auto_leave);
  c.def_property_readonly("incarnations",
                          [](const ConfState& v) { return read_only(py::cast(v.incarnations)); });
  finish_made(
      c, {"voters", "learners", "voters_outgoing", "learners_next", "auto_leave", "incarnations"});
}

void add_states(py::module_& m) {
  py::class_<Snapshot, std::shared_ptr<Snapshot>> snapshot(m, "Snapshot",
                                                           "The state machine as of an entry.");
  snapshot.def(py::init([](Index index, Term term, ConfState conf, const py::bytes& data) {
                 return Snapshot{{index, term, std::move(conf)}, data};
               }),
               py::arg("index") = 0, py::arg("term") = 0, py::arg("conf") = ConfState{},
               py::arg("data") = py::bytes());
  snapshot.def_property_readonly("index", [](const Snapshot& v) { return v.meta.index; });
  snapshot.def_property_readonly("term", [](const Snapshot& v) { return v.meta.term; });
  snapshot.def_property_readonly("conf", [](const Snapshot& v) { return v.meta.conf; });
  snapshot.def_property_readonly("data", [](const Snapshot& v) { return py::bytes(v.data); });
  finish_made(snapshot, {"index", "term", "conf", "data"});

  py::class_<HardState> hard(m, "HardState", "What must be durable first.");
  hard.def(py::init([](Term term, NodeId vote, Index commit) {
             return HardState{term, vote, commit};
           }),
           py::arg("term") = 0, py::arg("vote") = 0, py::arg("commit") = 0);
  hard.def_readonly("term", &HardState::term);
  hard.def_readonly("vote", &HardState::vote);
  hard.def_readonly("commit", &HardState::commit);
  finish_made(hard, {"term", "vote", "commit"});

  py::class_<SoftState> soft(m, "SoftState", "What need not be stored.");
  soft.def(py::init([](NodeId leader, Role role) {
             return SoftState{leader, role};
           }),
           py::arg("leader") = 0, py::arg("role") = Role::kFollower);
  soft.def_readonly("leader", &SoftState::leader);
  soft.def_readonly("role", &SoftState::role);
  finish_made(soft, {"leader", "role"});

  py::class_<ReadState> read(m, "ReadState", "The answer to a read_index().");
  read.def_readonly("index", &ReadState::index);
  read.def_property_readonly("context", [](const ReadState& v) { return py::bytes(v.context); });
  finish(read, {"index", "context"});

  py::class_<ProgressView> progress(m, "ProgressView", "The leader's view of one member.");
  progress.def_readonly("match", &ProgressView::match);
  progress.def_readonly("next", &ProgressView::next);
  progress.def_readonly("state", &ProgressView::state);
  progress.def_readonly("recent_active", &ProgressView::recent_active);
  progress.def_readonly("is_learner", &ProgressView::is_learner);
  progress.def_readonly("idle_ticks", &ProgressView::idle_ticks);
  finish(progress, {"match", "next", "state", "recent_active", "is_learner", "idle_ticks"});
}

Message make_message(MessageType type, NodeId from, NodeId to, Term term, Term log_term,
                     Index index, std::vector<Entry> entries, Index commit, NodeId vote,
                     bool reject, Index reject_hint, bool transfer, const py::bytes& context,
                     std::shared_ptr<Snapshot> snapshot, std::vector<Message> responses,
                     raft::Incarnation from_incarnation, raft::Incarnation to_incarnation,
                     std::uint64_t stamp) {
  Message message;
  message.type = type;
  message.from = from;
  message.to = to;
  message.term = term;
  message.log_term = log_term;
  message.index = index;
  message.entries = std::move(entries);
  message.commit = commit;
  message.vote = vote;
  message.reject = reject;
  message.reject_hint = reject_hint;
  message.transfer = transfer;
  message.context = context;
  message.snapshot = std::move(snapshot);
  message.responses = std::move(responses);
  message.from_incarnation = from_incarnation;
  message.to_incarnation = to_incarnation;
  message.stamp = stamp;
  return message;
}

void add_message(py::module_& m) {
  m.attr("APPEND_THREAD") = raft::kAppendThread;
  m.attr("APPLY_THREAD") = raft::kApplyThread;
  py::class_<Message> c(m, "Message", "What nodes, and a node and its storage, say to each other.");
  c.def(py::init(&make_message), py::arg("type"), py::kw_only(), py::arg("from_") = 0,
        py::arg("to") = 0, py::arg("term") = 0, py::arg("log_term") = 0, py::arg("index") = 0,
        py::arg("entries") = py::tuple(), py::arg("commit") = 0, py::arg("vote") = 0,
        py::arg("reject") = false, py::arg("reject_hint") = 0, py::arg("transfer") = false,
        py::arg("context") = py::bytes(), py::arg("snapshot") = py::none(),
        py::arg("responses") = py::tuple(), py::arg("from_incarnation") = 0,
        py::arg("to_incarnation") = 0, py::arg("stamp") = 0);
  c.def_readonly("type", &Message::type);
  c.def_readonly("from_", &Message::from);
  c.def_readonly("to", &Message::to);
  c.def_readonly("term", &Message::term);
  c.def_readonly("log_term", &Message::log_term);
  c.def_readonly("index", &Message::index);
  c.def_property_readonly("entries", [](const Message& v) { return to_tuple(v.entries); });
  c.def_readonly("commit", &Message::commit);
  c.def_readonly("vote", &Message::vote);
  c.def_readonly("reject", &Message::reject);
  c.def_readonly("reject_hint", &Message::reject_hint);
  c.def_readonly("transfer", &Message::transfer);
  c.def_property_readonly("context", [](const Message& v) { return py::bytes(v.context); });
  c.def_property_readonly("snapshot", [](const Message& v) { return to_python(v.snapshot); });
  c.def_property_readonly("responses", [](const Message& v) { return to_tuple(v.responses); });
  c.def_readonly("from_incarnation", &Message::from_incarnation);
  c.def_readonly("to_incarnation", &Message::to_incarnation);
  c.def_readonly("stamp", &Message::stamp);
  finish_made(c, {"type", "from_", "to", "term", "log_term", "index", "entries", "commit", "vote",
                  "reject", "reject_hint", "transfer", "context", "snapshot", "responses",
                  "from_incarnation", "to_incarnation", "stamp"});
}

// One bool a rule, by the name that the rule has in C++.
void add_switches(py::module_& m) {
  using raft::Switches;
  constexpr std::pair<const char*, bool Switches::*> kRules[] = {
      {"one_vote_a_term", &Switches::one_vote_a_term},
      {"complete_log", &Switches::complete_log},
      {"consistency_check", &Switches::consistency_check},
      {"own_term_commit", &Switches::own_term_commit},
      {"apply_committed", &Switches::apply_committed},
      {"both_majorities", &Switches::both_majorities},
      {"one_change", &Switches::one_change},
      {"campaign_after_apply", &Switches::campaign_after_apply},
      {"vote_with_configuration", &Switches::vote_with_configuration},
      {"read_quorum", &Switches::read_quorum},
      {"read_after_own_commit", &Switches::read_after_own_commit},
      {"transfer_ends_lease", &Switches::transfer_ends_lease},
      {"lease_binds_voters", &Switches::lease_binds_voters},
  };
  py::class_<Switches> c(m, "Switches", "Rules that a negative control switches off; tests only.");
  c.def(py::init([kRules](const py::kwargs& rules) {
    Switches made;
    for (const auto& [name, value] : rules) {
      const auto* const rule = std::find_if(
          std::begin(kRules), std::end(kRules),
          [given = name.cast<std::string>()](const auto& known) { return given == known.first; });
      if (rule == std::end(kRules))
        throw py::type_error("no rule is named " + name.cast<std::string>());
      if (!py::isinstance<py::bool_>(value)) throw py::type_error("a rule is on (True) or off");
      made.*(rule->second) = value.cast<bool>();
    }
    return made;
  }));
  std::vector<std::string> fields;
  for (const auto& [name, rule] : kRules) {
    c.def_readonly(name, rule);
    fields.emplace_back(name);
  }
  finish_made(c, fields);
}

}  // namespace

py::object to_python(const std::shared_ptr<const Snapshot>& snapshot) {
  // Immutable in Python by other means: a value type without a setter.
  return py::cast(std::const_pointer_cast<Snapshot>(snapshot));
}

void add_raft_types(py::module_& m) {
  add_enums(m);
  add_entry(m);
  add_conf_change(m);
  add_conf_state(m);
  add_states(m);
  add_message(m);
  add_switches(m);
}

}  // namespace pgraft::python
