// The Raft simulator and the linearizability checker. The module pgraft.sim gives them their names.
//
// What may take long runs on a thread of its own, without the GIL, while the caller looks for
// Ctrl-C.
#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include <atomic>
#include <chrono>
#include <future>

#include "bindings/python/module/module.h"
#include "bindings/python/module/values.h"
#include "libpgraft/sim/linearizability.h"
#include "libpgraft/sim/raft_explorer.h"

namespace py = pybind11;

namespace pgraft::python {

namespace {

using sim::ClientOperation;
using sim::RaftCounts;
using sim::RaftExplorerOptions;
using sim::RaftPlan;
using sim::RaftTotals;

constexpr std::chrono::milliseconds kSignalCheck{100};
constexpr std::int64_t kMaxJobs = 256;

// `work` gets what is set when it is to end early.
template <class Work>
auto run_aside(Work work) {
  std::atomic<bool> stop{false};
  auto result = std::async(std::launch::async, [&] { return work(&stop); });
  for (;;) {
    {
      const py::gil_scoped_release release;
      if (result.wait_for(kSignalCheck) == std::future_status::ready) break;
    }
    if (PyErr_CheckSignals() == 0) continue;
    stop = true;
    {
      const py::gil_scoped_release release;
      result.wait();
    }
    throw py::error_already_set();
  }
  return result.get();
}

// --- arguments

std::string one_of(const std::vector<std::string>& names) {
  std::string text = "one of ";
  for (const std::string& name : names) text += (&name == &names.front() ? "" : ", ") + name;
  return text;
}

void check_range(const char* name, std::int64_t value, std::int64_t most) {
  if (value >= 1 && value <= most) return;
  throw py::value_error(std::string(name) + " must be 1 to " + std::to_string(most) + ", not " +
                        std::to_string(value));
}

RaftExplorerOptions options_of(const std::string& focus, std::optional<std::int64_t> nodes,
                               const std::vector<std::string>& rules_off) {
  RaftExplorerOptions options;
  const auto known = sim::focus_named(focus);
  if (!known) {
    throw py::value_error("focus must be " + one_of(sim::focus_names()) + ", not " + focus);
  }
  options.swarm.focus = *known;
  if (nodes) {
    check_range("nodes", *nodes, static_cast<std::int64_t>(sim::kMaxSimulatedNodes));
    options.swarm.nodes = static_cast<sim::NodeId>(*nodes);
  }
  for (const std::string& rule : rules_off) {
    if (sim::switch_off(rule, &options.controls)) continue;
    throw py::value_error("a rule must be " + one_of(sim::control_names()) + ", not " + rule);
  }
  return options;
}

// --- a run

struct Violation {
  std::string kind;
  sim::NodeId node = 0;
  std::string text;
  std::uint64_t step = 0;
  double seconds = 0;
};

// A run with what it was made from.
struct Run {
  RaftExplorerOptions options;
  RaftPlan plan;
  sim::RaftRun run;
  int shrink_runs = 0;
};

std::optional<Violation> violation_of(const Run& r) {
  if (!r.run.violation) return std::nullopt;
  return Violation{r.run.violation->kind, r.run.violation->node, r.run.violation->what,
                   r.run.events, static_cast<double>(r.run.violated_at) / 1e6};
}

Run run_seed(std::uint64_t seed, const std::string& focus, std::optional<std::int64_t> nodes,
             const std::vector<std::string>& rules_off, bool trace) {
  const RaftExplorerOptions options = options_of(focus, nodes, rules_off);
  return run_aside([&](const std::atomic<bool>*) {
    RaftPlan plan = sim::draw_raft_plan(seed, options.swarm);
    sim::RaftRun run = sim::run_raft_plan(plan, options.controls, trace);
    return Run{options, std::move(plan), std::move(run), 0};
  });
}

Run shrink(const Run& r, int max_runs) {
  if (!r.run.violation) {
    raise(Status(Code::kFailedPrecondition, "there is no violation that could be shrunk"));
  }
  if (max_runs < 1) throw py::value_error("max_runs must be at least 1");
  return run_aside([&](const std::atomic<bool>* stop) {
    sim::ShrunkRaftPlan least =
        sim::shrink_raft_plan(r.plan, r.run.violation->kind, r.options.controls, max_runs, stop);
    return Run{r.options, std::move(least.plan), std::move(least.run), least.runs};
  });
}

// Traced anew where it was not.
std::string report(const Run& r) {
  return run_aside([&](const std::atomic<bool>*) {
    if (!r.run.trace.empty()) return sim::report(r.plan, r.run);
    return sim::report(r.plan, sim::run_raft_plan(r.plan, r.options.controls, true));
  });
}

std::vector<std::string> trace_of(const Run& r) {
  std::vector<std::string> lines;
  lines.reserve(r.run.trace.size());
  for (const sim::TraceLine& line : r.run.trace) lines.push_back(describe(line));
  return lines;
}

std::string describe(const Run& r) {
  const std::string name = "<RaftRun of seed " + std::to_string(r.run.seed) + ": ";
  if (r.run.violation) return name + "violation of " + r.run.violation->kind + ">";
  return name + (r.run.recovered ? "recovered>" : "nothing left to recover from>");
}

RaftTotals run_seeds(std::uint64_t first, std::uint64_t last, const std::string& focus,
                     std::optional<std::int64_t> nodes, const std::vector<std::string>& rules_off,
                     std::int64_t jobs, bool keep_going) {
  const RaftExplorerOptions options = options_of(focus, nodes, rules_off);
  check_range("jobs", jobs, kMaxJobs);
  if (first > last) {
    throw py::value_error("no seeds: first is " + std::to_string(first) + ", last is " +
                          std::to_string(last));
  }
  sim::Seeds seeds;
  seeds.first = first;
  seeds.last = last;
  seeds.threads = static_cast<unsigned>(jobs);
  seeds.keep_going = keep_going;
  return run_aside([&](const std::atomic<bool>* stop) {
    seeds.stop = stop;
    return sim::run_raft_seeds(seeds, options);
  });
}

// --- histories

py::object bytes_or_none(const std::optional<std::string>& text) {
  if (!text) return py::none();
  return py::bytes(*text);
}

ClientOperation make_operation(ClientOperation::Kind kind, std::string key, std::string value,
                               std::uint64_t called, std::optional<std::uint64_t> returned,
                               std::optional<std::string> read, std::optional<std::string> expected,
                               std::optional<bool> succeeded, std::uint64_t client) {
  ClientOperation operation;
  operation.client = client;
  operation.kind = kind;
  operation.key = std::move(key);
  operation.value = std::move(value);
  operation.expected = std::move(expected);
  operation.called = called;
  operation.returned = returned.value_or(sim::kNeverReturned);
  operation.read = std::move(read);
  operation.succeeded = succeeded;
  return operation;
}

sim::LinearizabilityReport check_history(const std::vector<ClientOperation>& history,
                                         bool absent_is_empty, std::uint64_t max_steps) {
  sim::LinearizabilityOptions options;
  options.absent_is_empty = absent_is_empty;
  options.max_steps = max_steps;
  return unwrap(run_aside(
      [&](const std::atomic<bool>*) { return sim::check_linearizability(history, options); }));
}

// --- what Python sees

void add_operation(py::module_& m) {
  using Kind = ClientOperation::Kind;
  py::native_enum<Kind>(m, "OperationKind", "enum.Enum")
      .value("GET", Kind::kGet)
      .value("PUT", Kind::kPut)
      .value("APPEND", Kind::kAppend)
      .value("CAS", Kind::kCas)
      .value("DELETE", Kind::kDelete)
      .finalize();
  py::class_<ClientOperation> c(m, "Operation", "One operation as its client saw it.");
  c.def(py::init(&make_operation), py::arg("kind"), py::arg("key"), py::arg("value") = "",
        py::kw_only(), py::arg("called"), py::arg("returned") = py::none(),
        py::arg("read") = py::none(), py::arg("expected") = py::none(),
        py::arg("succeeded") = py::none(), py::arg("client") = 0);
  c.def_readonly("kind", &ClientOperation::kind);
  c.def_property_readonly("key", [](const ClientOperation& v) { return py::bytes(v.key); });
  c.def_property_readonly("value", [](const ClientOperation& v) { return py::bytes(v.value); });
  c.def_readonly("called", &ClientOperation::called);
  c.def_property_readonly("returned", [](const ClientOperation& v) {
    return v.returned == sim::kNeverReturned ? std::optional<std::uint64_t>() : v.returned;
  });
  c.def_property_readonly("read", [](const ClientOperation& v) { return bytes_or_none(v.read); });
  c.def_property_readonly("expected",
                          [](const ClientOperation& v) { return bytes_or_none(v.expected); });
  c.def_readonly("succeeded", &ClientOperation::succeeded);
  c.def_readonly("client", &ClientOperation::client);
  const std::vector<std::string> fields = {"kind", "key",      "value",     "called", "returned",
                                           "read", "expected", "succeeded", "client"};
  add_value_methods(c, fields, py::cast(ClientOperation{}));
  add_replace(c, fields);
  c.def("__str__", [](const ClientOperation& v) { return describe(v); });
}

void add_linearizability(py::module_& m) {
  using sim::LinearizabilityReport;
  using sim::Verdict;
  py::native_enum<Verdict>(m, "Verdict", "enum.Enum")
      .value("LINEARIZABLE", Verdict::kLinearizable)
      .value("NOT_LINEARIZABLE", Verdict::kNotLinearizable)
      .value("UNKNOWN", Verdict::kUnknown)
      .finalize();
  py::class_<LinearizabilityReport> c(m, "LinearizabilityReport", "What a history is.");
  c.def_readonly("verdict", &LinearizabilityReport::verdict);
  c.def_readonly("steps", &LinearizabilityReport::steps);
  c.def_property_readonly("key", [](const LinearizabilityReport& v) { return py::bytes(v.key); });
  c.def_property_readonly("explained",
                          [](const LinearizabilityReport& v) { return to_tuple(v.explained); });
  c.def_property_readonly("unexplained",
                          [](const LinearizabilityReport& v) { return to_tuple(v.unexplained); });
  c.def_readonly("text", &LinearizabilityReport::text);
  add_value_methods(c, {"verdict", "steps", "key", "explained", "unexplained", "text"},
                    py::cast(LinearizabilityReport{}));
  m.def("sim_check_linearizability", &check_history, py::arg("history"), py::kw_only(),
        py::arg("absent_is_empty") = false,
        py::arg("max_steps") = sim::LinearizabilityOptions{}.max_steps);
}

void add_counts(py::module_& m) {
  constexpr std::pair<const char*, std::uint64_t RaftCounts::*> kCounts[] = {
      {"node_steps", &RaftCounts::node_steps},
      {"messages", &RaftCounts::messages},
      {"message_bytes", &RaftCounts::message_bytes},
      {"messages_lost", &RaftCounts::messages_lost},
      {"elections", &RaftCounts::elections},
      {"committed", &RaftCounts::committed},
      {"faults", &RaftCounts::faults},
      {"starts", &RaftCounts::starts},
      {"power_cuts", &RaftCounts::power_cuts},
      {"snapshots_sent", &RaftCounts::snapshots_sent},
      {"membership_changes", &RaftCounts::membership_changes},
      {"requests", &RaftCounts::requests},
      {"requests_done", &RaftCounts::requests_done},
      {"requests_unknown", &RaftCounts::requests_unknown},
      {"requests_refused", &RaftCounts::requests_refused},
  };
  py::class_<RaftCounts> c(m, "RaftCounts", "How much happened.");
  std::vector<std::string> fields;
  for (const auto& [name, count] : kCounts) {
    c.def_readonly(name, count);
    fields.emplace_back(name);
  }
  add_value_methods(c, fields, py::cast(RaftCounts{}));
  c.def("__str__", [](const RaftCounts& v) { return describe(v); });
}

void add_runs(py::module_& m) {
  py::class_<Violation> violation(m, "RaftViolation", "What a run violated.");
  violation.def_readonly("kind", &Violation::kind);
  violation.def_readonly("node", &Violation::node);
  violation.def_readonly("text", &Violation::text);
  violation.def_readonly("step", &Violation::step);
  violation.def_readonly("seconds", &Violation::seconds);
  add_value_methods(violation, {"kind", "node", "text", "step", "seconds"}, py::cast(Violation{}));

  py::class_<Run> run(m, "RaftRun", "One run of the Raft simulator.");
  run.def_property_readonly("seed", [](const Run& r) { return r.run.seed; });
  run.def_property_readonly("violation", &violation_of);
  run.def_property_readonly("recovered", [](const Run& r) { return r.run.recovered; });
  run.def_property_readonly("unrecoverable", [](const Run& r) { return r.run.unrecoverable; });
  run.def_property_readonly("history_unknown", [](const Run& r) { return r.run.history_unknown; });
  run.def_property_readonly("counts", [](const Run& r) { return r.run.counts; });
  run.def_property_readonly("steps", [](const Run& r) { return r.run.events; });
  run.def_property_readonly("hash", [](const Run& r) { return r.run.hash; });
  run.def_property_readonly("history", [](const Run& r) { return to_tuple(r.run.history); });
  run.def_property_readonly("trace", [](const Run& r) { return to_tuple(trace_of(r)); });
  run.def_property_readonly("plan", [](const Run& r) { return sim::describe(r.plan); });
  run.def_property_readonly("plan_size", [](const Run& r) { return r.plan.size(); });
  run.def_readonly("shrink_runs", &Run::shrink_runs);
  run.def_property_readonly(
      "replay", [](const Run& r) { return sim::replay_command(r.run.seed, r.options); });
  run.def("shrink", &shrink, py::kw_only(), py::arg("max_runs") = sim::kShrinkRunsMax);
  run.def("report", &report);
  run.def("__repr__", [](const Run& r) { return describe(r); });

  py::class_<RaftTotals> totals(m, "RaftTotals", "Many runs of the Raft simulator.");
  totals.def_readonly("seeds", &RaftTotals::seeds);
  totals.def_readonly("recovered", &RaftTotals::recovered);
  totals.def_readonly("unrecoverable", &RaftTotals::unrecoverable);
  totals.def_readonly("histories_unknown", &RaftTotals::histories_unknown);
  totals.def_property_readonly("violated",
                               [](const RaftTotals& t) { return to_tuple(t.violated); });
  totals.def_readonly("counts", &RaftTotals::counts);
  totals.def_readonly("seconds", &RaftTotals::seconds);
  add_value_methods(
      totals,
      {"seeds", "recovered", "unrecoverable", "histories_unknown", "violated", "counts", "seconds"},
      py::cast(RaftTotals{}));
  totals.def("__str__", [](const RaftTotals& t) { return describe(t); });

  m.attr("SIM_FOCUSES") = to_tuple(sim::focus_names());
  m.attr("SIM_RULES") = to_tuple(sim::control_names());
  m.def("sim_run_raft_seed", &run_seed, py::arg("seed"), py::kw_only(), py::arg("focus") = "none",
        py::arg("nodes") = py::none(), py::arg("rules_off") = py::tuple(),
        py::arg("trace") = false);
  m.def("sim_run_raft_seeds", &run_seeds, py::arg("first"), py::arg("last"), py::kw_only(),
        py::arg("focus") = "none", py::arg("nodes") = py::none(),
        py::arg("rules_off") = py::tuple(), py::arg("jobs") = 1, py::arg("keep_going") = false);
}

}  // namespace

void add_sim(py::module_& m) {
  add_operation(m);
  add_linearizability(m);
  add_counts(m);
  add_runs(m);
}

}  // namespace pgraft::python
