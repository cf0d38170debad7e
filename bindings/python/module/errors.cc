// One exception class for each Code, and one for broken invariants, all derived from Error.
#include <array>
#include <cmath>

#include "bindings/python/module/module.h"
#include "libpgraft/base/check.h"

namespace py = pybind11;

namespace pgraft::python {

namespace {

struct ErrorClass {
  Code code;
  const char* name;
  const char* doc;
};

constexpr ErrorClass kClasses[] = {
    {Code::kInvalidArgument, "InvalidArgument", "The input is malformed or out of range."},
    {Code::kNotLeader, "NotLeader", "Only the leader can do this; the message names it."},
    {Code::kNoQuorum, "NoQuorum", "Too few members answer."},
    {Code::kTimeout, "Timeout", "The outcome is unknown."},
    {Code::kNotFound, "NotFound", "There is no such member, key or file."},
    {Code::kAlreadyExists, "AlreadyExists", "The member exists already."},
    {Code::kFailedPrecondition, "FailedPrecondition", "Something else must come first."},
    {Code::kMismatch, "Mismatch", "An identity differs: cluster, node, database or format."},
    {Code::kResourceExhausted, "ResourceExhausted", "A bound was reached."},
    {Code::kCorruption, "Corruption", "Stored or received data is damaged."},
    {Code::kIo, "IoError", "The operating system said no."},
    {Code::kUnavailable, "Unavailable", "The other side can't be reached, or stops."},
    {Code::kAborted, "Aborted", "Given up, since something newer took its place."},
    {Code::kNoSpace, "NoSpace", "The disk is full."},
};

// The classes live as long as the interpreter, like the module that holds them.
std::array<PyObject*, 16> classes{};  // by code; 0: Error
PyObject* invariant_error = nullptr;

thread_local int guards = 0;

void throw_if_guarded(const std::string& message) {
  if (guards > 0) throw InvariantBroken(message);
}

PyObject* make_class(py::module_& m, const char* name, const char* doc, PyObject* base) {
  const std::string full = std::string("pgraft.") + name;
  PyObject* made = PyErr_NewExceptionWithDoc(full.c_str(), doc, base, nullptr);
  if (made == nullptr) throw py::error_already_set();
  m.attr(name) = py::reinterpret_borrow<py::object>(made);
  return made;
}

}  // namespace

void add_errors(py::module_& m) {
  classes[0] = make_class(m, "Error", "What pgraft raises.", PyExc_Exception);
  for (const ErrorClass& c : kClasses) {
    classes[static_cast<std::size_t>(c.code)] = make_class(m, c.name, c.doc, classes[0]);
  }
  invariant_error = make_class(m, "InvariantError",
                               "An invariant of Raft is broken: a defect, or a protocol that "
                               "was broken on purpose. The node refuses every later call.",
                               classes[0]);
  py::register_local_exception_translator(
      [](std::exception_ptr thrown) {  // NOLINT: pybind11's type
        try {
          if (thrown) std::rethrow_exception(thrown);
        } catch (const InvariantBroken& broken) {
          PyErr_SetString(invariant_error, broken.what());
        }
      });
  check_handler = &throw_if_guarded;
}

InvariantGuard::InvariantGuard() { ++guards; }
InvariantGuard::~InvariantGuard() { --guards; }

void raise(const Status& status) {
  PyObject* type = classes[static_cast<std::size_t>(status.code())];
  PyErr_SetString(type != nullptr ? type : classes[0], status.message().c_str());
  throw py::error_already_set();
}

std::chrono::milliseconds seconds(double s) {
  if (!std::isfinite(s) || s < 0 || s > 86400) {
    raise(Status(Code::kInvalidArgument, "a time must be between 0 and 86400 seconds"));
  }
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(s * 1000)));
}

}  // namespace pgraft::python
