"""The Raft simulator: clusters of the production code in virtual time, each decided by one seed.

A run draws a cluster, its clients and its faults from the seed, checks Raft's invariants after
every step, and asks at the end that the cluster recovers and that what the clients saw is
linearizable. docs/simulator.md describes it.

    >>> run = run_raft_seed(3)
    >>> print(run.violation)
    None
    >>> run.hash == run_raft_seed(3).hash
    True

A rule can be switched off, to see that its absence is noticed; a violation is cut down to the least
plan that still ends in it:

    >>> totals = run_raft_seeds(1, 100, rules_off=["complete_log"])
    >>> found = run_raft_seed(totals.violated[0], rules_off=["complete_log"])
    >>> found.violation.kind
    'leader completeness'
    >>> found.shrink(max_runs=300).plan_size < found.plan_size
    True

`check_linearizability` takes any history of a key-value store, simulated or not:

    >>> put = Operation(OperationKind.PUT, "x", "1", called=0, returned=1)
    >>> stale = Operation(OperationKind.GET, "x", called=2, returned=3, read=None)
    >>> check_linearizability([put, stale]).verdict
    <Verdict.NOT_LINEARIZABLE: 1>

Other threads go on during a call that takes long, and Ctrl-C ends it.
"""

from __future__ import annotations

from pgraft._pgraft import SIM_FOCUSES as FOCUSES
from pgraft._pgraft import SIM_RULES as RULES
from pgraft._pgraft import (
    LinearizabilityReport,
    Operation,
    OperationKind,
    RaftCounts,
    RaftRun,
    RaftTotals,
    RaftViolation,
    Verdict,
)
from pgraft._pgraft import sim_check_linearizability as check_linearizability
from pgraft._pgraft import sim_run_raft_seed as run_raft_seed
from pgraft._pgraft import sim_run_raft_seeds as run_raft_seeds

__all__ = [
    "FOCUSES",
    "RULES",
    "LinearizabilityReport",
    "Operation",
    "OperationKind",
    "RaftCounts",
    "RaftRun",
    "RaftTotals",
    "RaftViolation",
    "Verdict",
    "check_linearizability",
    "run_raft_seed",
    "run_raft_seeds",
]
