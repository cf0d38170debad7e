// pgraft._pgraft: the Raft core, running nodes, questions to nodes, the member files, and the
// simulator. The stub _pgraft.pyi documents it for users.
#include "bindings/python/module/module.h"

PYBIND11_MODULE(_pgraft, m) {
  m.doc() = "The compiled part of pgraft";
  m.attr("__version__") = PGRAFT_VERSION;
  pgraft::python::add_errors(m);
  pgraft::python::add_files(m);
  pgraft::python::add_queries(m);
  pgraft::python::add_node(m);
  pgraft::python::add_raft_types(m);
  pgraft::python::add_raw_node(m);
  pgraft::python::add_raft_functions(m);
  pgraft::python::add_sim(m);
}
