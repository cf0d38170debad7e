// The parts of pgraft._pgraft, one function each.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>

#include "libpgraft/base/status.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::python {

void add_errors(pybind11::module_& m);
void add_files(pybind11::module_& m);
void add_node(pybind11::module_& m);
void add_queries(pybind11::module_& m);

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

pybind11::dict to_dict(const state::Member& member);
pybind11::dict to_dict(const transport::ClusterStatus& status);

// Python's seconds; refuses what is negative, not a number or beyond a day.
std::chrono::milliseconds seconds(double s);

}  // namespace pgraft::python
