// What the value types of the Raft core have in common in Python.
//
// They are immutable: lists and nested values come out as copies, and a change of a copy would be
// lost without a word. Sequences are tuples, mappings can't be written to; replace() makes a
// changed copy.
#pragma once

#include <pybind11/pybind11.h>

#include <map>
#include <string>
#include <vector>

namespace pgraft::python {

// Adds equality, pattern matching, and a repr() of the first field and of those that are not as in
// `standard`.
void add_value_methods(const pybind11::object& type, const std::vector<std::string>& fields,
                       const pybind11::object& standard);
// For types that a script makes: `replace(**changes)`, in terms of the constructor.
void add_replace(const pybind11::object& type, const std::vector<std::string>& fields);

template <class T>
pybind11::tuple to_tuple(const std::vector<T>& values) {
  pybind11::tuple out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = pybind11::cast(values[i]);
  return out;
}

pybind11::object read_only(const pybind11::dict& values);

}  // namespace pgraft::python
