// The parts of pgraft._pgraft, one function each.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <memory>
#include <stdexcept>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/types.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::python {

void add_errors(pybind11::module_& m);
void add_files(pybind11::module_& m);
void add_node(pybind11::module_& m);
void add_queries(pybind11::module_& m);
void add_raft_types(pybind11::module_& m);
void add_raw_node(pybind11::module_& m);
void add_raft_functions(pybind11::module_& m);
void add_sim(pybind11::module_& m);

// Raises the exception of the status' code. The GIL is held.
[[noreturn]] void raise(const Status& status);

inline void check(const Status& status) {
  if (!status) raise(status);
}
template <class T>
T unwrap(Result<T> result) {
  if (!result) raise(result.status());
  return std::move(result).value();
}

// PGRAFT_CHECK on a thread on which a guard lives: raised as pgraft.InvariantError. Elsewhere (the
// threads of a running node) nobody could go on, and it stops the process.
class InvariantBroken : public std::runtime_error {
  using std::runtime_error::runtime_error;
};
class InvariantGuard {
 public:
  InvariantGuard();
  ~InvariantGuard();
  InvariantGuard(const InvariantGuard&) = delete;
  InvariantGuard& operator=(const InvariantGuard&) = delete;
};

pybind11::dict to_dict(const state::Member& member);
pybind11::dict to_dict(const transport::ClusterStatus& status);
// None when there is none.
pybind11::object to_python(const std::shared_ptr<const raft::Snapshot>& snapshot);

// Python's seconds; refuses what is negative, not a number or beyond a day.
std::chrono::milliseconds seconds(double s);

}  // namespace pgraft::python
