#include "bindings/python/module/values.h"

namespace py = pybind11;

namespace pgraft::python {

namespace {

std::string name_of(const py::handle& type) { return py::str(type.attr("__name__")); }

// Enumerations as they are written in a script.
std::string describe(const py::handle& value) {
  const py::object enumeration = py::module_::import("enum").attr("Enum");
  return py::isinstance(value, enumeration) ? std::string(py::str(value))
                                            : std::string(py::repr(value));
}

}  // namespace

void add_value_methods(const py::object& type, const std::vector<std::string>& fields,
                       const py::object& standard) {
  type.attr("__match_args__") = to_tuple(fields);
  type.attr("__hash__") = py::none();
  type.attr("__eq__") = py::cpp_function(
      [fields](const py::object& self, const py::object& other) -> py::object {
        if (!py::isinstance(other, py::type::of(self)))
          return py::reinterpret_borrow<py::object>(Py_NotImplemented);
        for (const std::string& field : fields) {
          if (!self.attr(field.c_str()).equal(other.attr(field.c_str()))) return py::bool_(false);
        }
        return py::bool_(true);
      },
      py::name("__eq__"), py::is_method(type));
  type.attr("__repr__") = py::cpp_function(
      [fields, standard](const py::object& self) {
        std::string out;
        for (const std::string& field : fields) {
          const py::object value = self.attr(field.c_str());
          if (field != fields.front() && value.equal(standard.attr(field.c_str()))) continue;
          out += (out.empty() ? "" : ", ") + field + "=" + describe(value);
        }
        return name_of(py::type::of(self)) + "(" + out + ")";
      },
      py::name("__repr__"), py::is_method(type));
}

void add_replace(const py::object& type, const std::vector<std::string>& fields) {
  type.attr("replace") = py::cpp_function(
      [fields](const py::object& self, const py::kwargs& changes) {
        py::dict arguments;
        for (const std::string& field : fields) arguments[field.c_str()] = self.attr(field.c_str());
        for (const auto& [name, value] : changes) {
          if (!arguments.contains(name)) {
            throw py::type_error(name_of(py::type::of(self)) + " has no field " +
                                 std::string(py::repr(name)));
          }
          arguments[name] = value;
        }
        return py::type::of(self)(**arguments);
      },
      py::name("replace"), py::is_method(type));
}

py::object read_only(const py::dict& values) {
  return py::module_::import("types").attr("MappingProxyType")(values);
}

}  // namespace pgraft::python
