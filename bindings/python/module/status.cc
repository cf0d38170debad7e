// What nodes answer about themselves, as dictionaries.
#include <pybind11/stl.h>

#include "bindings/python/module/module.h"

namespace py = pybind11;

namespace pgraft::python {

namespace {

py::dict to_dict(const transport::Identity& i) {
  py::dict d;
  d["cluster_name"] = i.cluster_name;
  d["cluster_id"] = i.cluster_id;
  d["node_id"] = i.node_id;
  d["incarnation"] = i.incarnation;
  d["system_identifier"] = i.system_identifier;
  d["member"] = python::to_dict(i.member);
  d["version"] = i.version;
  return d;
}

py::dict to_dict(const failover::WalStatus& s) {
  py::dict d;
  d["in_recovery"] = s.in_recovery;
  d["timeline"] = s.end.timeline;
  d["lsn"] = s.end.lsn;
  d["replayed_timeline"] = s.replayed.timeline;
  d["replayed_lsn"] = s.replayed.lsn;
  d["needed_lsn"] = s.needed;
  d["oldest_lsn"] = s.oldest;
  d["priority"] = s.priority;
  return d;
}

py::dict to_dict(const transport::MemberStatus& s) {
  py::dict d;
  d["member"] = python::to_dict(s.member);
  d["voter"] = s.voter;
  d["learner"] = s.learner;
  d["answering"] = s.answering;
  d["match_index"] = s.match_index;
  d["flush_lsn"] = s.flush_lsn;
  d["waits_for"] = s.waits_for;
  d["wal"] = s.wal.from == 0 ? py::object(py::none()) : py::object(to_dict(s.wal));
  return d;
}

py::dict to_dict(const transport::PromotionStatus& s) {
  py::dict d;
  d["term"] = s.term;
  d["node_id"] = s.node;
  d["timeline"] = s.timeline;
  d["switch_lsn"] = s.switch_lsn;
  return d;
}

py::dict to_dict(const transport::RejoinStatus& s) {
  py::dict d;
  d["node_id"] = s.node;
  d["phase"] = s.phase;
  d["bytes_done"] = s.bytes_done;
  d["bytes_total"] = s.bytes_total;
  d["seconds"] = s.seconds;
  return d;
}

py::dict to_dict(const transport::StatusMore& s) {
  py::dict d;
  d["fenced"] = s.fenced;
  d["lease_ms"] = s.lease_ms;
  d["paused_until_ms"] = s.paused_until_ms;
  d["paused_by"] = s.paused_by;
  d["switchover_to"] = s.switchover_to;
  py::dict contacts;
  for (const auto& [node, idle_ms] : s.contacts) contacts[py::int_(node)] = idle_ms;
  d["idle_ms"] = contacts;
  py::list rejoins;
  for (const transport::RejoinStatus& rejoin : s.rejoins) rejoins.append(to_dict(rejoin));
  d["rejoins"] = rejoins;
  return d;
}

}  // namespace

py::dict to_dict(const state::Member& m) {
  py::dict d;
  d["id"] = m.id;
  d["incarnation"] = m.incarnation;
  d["name"] = m.name;
  d["address"] = m.address;
  d["port"] = m.port;
  d["pg_host"] = m.pg_host;
  d["pg_port"] = m.pg_port;
  d["nosync"] = m.nosync;
  return d;
}

py::dict to_dict(const transport::ClusterStatus& s) {
  py::dict d;
  d["identity"] = to_dict(s.identity);
  d["state"] = s.state;
  d["term"] = s.term;
  d["leader_id"] = s.leader_id;
  d["writable"] = s.writable;
  d["commit_index"] = s.commit_index;
  d["applied_index"] = s.applied_index;
  d["last_index"] = s.last_index;
  d["timeline"] = s.timeline;
  d["lsn"] = s.lsn;
  d["in_recovery"] = s.in_recovery;
  d["abstaining"] = s.abstaining;
  d["phase"] = s.phase;
  d["change_waits_for"] = s.change_waits_for;
  d["messages_processed"] = s.messages_processed;
  d["heartbeats_sent"] = s.heartbeats_sent;
  d["elections_triggered"] = s.elections_triggered;
  d["promoted_timeline"] = s.promoted_timeline;
  py::list members;
  for (const transport::MemberStatus& member : s.members) members.append(to_dict(member));
  d["members"] = members;
  py::list promotions;
  for (const transport::PromotionStatus& promotion : s.promotions) {
    promotions.append(to_dict(promotion));
  }
  d["promotions"] = promotions;
  d["more"] = s.more ? py::object(to_dict(*s.more)) : py::object(py::none());
  return d;
}

void add_queries(py::module_& m) {
  m.def(
      "query_status",
      [](const std::string& host, std::uint16_t port, double timeout) {
        const auto limit = seconds(timeout);
        auto ask = [&] {
          const py::gil_scoped_release release;
          return transport::query_status(host, port, limit);
        };
        return to_dict(unwrap(ask()));
      },
      py::arg("host"), py::arg("port"), py::arg("timeout") = 1.0);
  m.def(
      "query_identity",
      [](const std::string& host, std::uint16_t port, double timeout) {
        const auto limit = seconds(timeout);
        auto ask = [&] {
          const py::gil_scoped_release release;
          return transport::query_identity(host, port, limit);
        };
        return to_dict(unwrap(ask()));
      },
      py::arg("host"), py::arg("port"), py::arg("timeout") = 1.0);
}

}  // namespace pgraft::python
