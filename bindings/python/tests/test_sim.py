"""`pgraft.sim`: the Raft simulator and the linearizability checker from Python."""

from __future__ import annotations

import doctest
import os
import re
import signal
import threading
import time
from pathlib import Path

import pgraft
import pytest
from pgraft import sim
from pgraft.sim import Operation, OperationKind, Verdict

PAGE = Path(__file__).parents[3] / "docs" / "simulator.md"
COMPLETE = ["complete_log"]


def put(key: str, value: str, called: int, returned: int | None) -> Operation:
    return Operation(OperationKind.PUT, key, value, called=called, returned=returned)


def get(key: str, read: str | None, called: int, returned: int) -> Operation:
    return Operation(OperationKind.GET, key, called=called, returned=returned, read=read)


def first_violation() -> sim.RaftRun:
    totals = sim.run_raft_seeds(1, 100, rules_off=COMPLETE)
    assert len(totals.violated) == 1
    return sim.run_raft_seed(totals.violated[0], rules_off=COMPLETE)


def test_a_seed_gives_the_same_run_every_time() -> None:
    runs = [sim.run_raft_seed(11, trace=trace) for trace in (False, True)]
    assert runs[0].hash == runs[1].hash
    assert runs[0].counts == runs[1].counts
    assert runs[0].history == runs[1].history
    assert runs[0].trace == ()
    assert len(runs[1].trace) > 100
    assert runs[0].hash != sim.run_raft_seed(12).hash


def test_a_run_recovers_and_its_history_is_linearizable() -> None:
    run = sim.run_raft_seed(11)
    assert run.violation is None
    assert run.recovered
    assert run.counts.requests_done > 0
    assert run.counts.node_steps > run.counts.requests_done
    assert run.steps > 0
    assert len(run.history) >= run.counts.requests_done
    assert sim.check_linearizability(run.history).verdict is Verdict.LINEARIZABLE
    assert repr(run) == "<RaftRun of seed 11: recovered>"


def test_a_missing_rule_is_found_told_and_shrunk() -> None:
    found = first_violation()
    assert found.violation is not None
    assert found.violation.kind == "leader completeness"
    assert found.violation.step == found.steps
    assert found.violation.seconds > 0
    assert found.violation.text in found.report()
    assert found.replay == f"raft_sim --seed {found.seed} --rule-off complete_log"

    shrunk = found.shrink(max_runs=200)
    assert shrunk.violation is not None
    assert shrunk.violation.kind == found.violation.kind
    assert shrunk.plan_size < found.plan_size
    assert 0 < shrunk.shrink_runs <= 200
    assert shrunk.plan.count("\n") == shrunk.plan_size + 1
    assert shrunk.violation.text in shrunk.report()


def test_without_a_violation_there_is_nothing_to_shrink() -> None:
    with pytest.raises(pgraft.FailedPrecondition, match="no violation"):
        sim.run_raft_seed(11).shrink()


def test_many_seeds_are_added_up() -> None:
    totals = sim.run_raft_seeds(1, 20, jobs=2, keep_going=True, focus="elections", nodes=3)
    assert totals.seeds == 20
    assert totals.violated == ()
    assert totals.recovered + totals.unrecoverable == 20
    assert totals.counts.committed > 0
    assert totals.seconds > 0
    assert "20 seeds, 0 with a violation" in str(totals)


def test_a_violation_ends_the_seeds_unless_they_keep_going() -> None:
    one = sim.run_raft_seeds(1, 100, rules_off=COMPLETE)
    all_of_them = sim.run_raft_seeds(1, 100, rules_off=COMPLETE, keep_going=True)
    assert one.seeds < all_of_them.seeds == 100
    assert all_of_them.violated[0] == one.violated[0]
    assert len(all_of_them.violated) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"focus": "everything"}, "focus must be one of none, elections, .*, not everything"),
        ({"nodes": 0}, "nodes must be 1 to 7, not 0"),
        ({"nodes": 8}, "nodes must be 1 to 7, not 8"),
        ({"rules_off": ["gravity"]}, "a rule must be one of one_vote_a_term, .*, not gravity"),
    ],
)
def test_what_there_is_not_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sim.run_raft_seed(1, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        sim.run_raft_seeds(1, 2, **arguments)  # type: ignore[arg-type]


def test_ranges_are_checked() -> None:
    with pytest.raises(ValueError, match="first is 2, last is 1"):
        sim.run_raft_seeds(2, 1)
    with pytest.raises(ValueError, match="jobs must be 1 to 256, not 0"):
        sim.run_raft_seeds(1, 2, jobs=0)


def test_every_focus_and_rule_that_is_listed_is_taken() -> None:
    for focus in sim.FOCUSES:
        assert sim.run_raft_seed(1, focus=focus).seed == 1
    for rule in sim.RULES:
        assert sim.run_raft_seed(1, rules_off=[rule]).replay.endswith(f"--rule-off {rule}")
    # Leases count on clocks that run alike, the simulator's do not: see thesis_lease_test.cc.
    leases = {"transfer_ends_lease", "lease_binds_voters"}
    assert {*pgraft.Switches.__match_args__} - {*sim.RULES} == leases


def test_other_threads_go_on_during_a_run() -> None:
    ended = threading.Event()

    def run() -> None:
        sim.run_raft_seeds(1, 40)
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    turns = 0
    while not ended.is_set():
        turns += 1
        time.sleep(0)
    thread.join()
    assert turns > 100  # with the GIL held it would have waited for the end of all of them


def test_ctrl_c_ends_a_run() -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        sim.run_raft_seeds(1, 2**64 - 1)
    timer.join()


def test_a_stale_read_is_not_linearizable() -> None:
    history = [
        put("x", "1", 0, 1),
        put("x", "2", 2, 3),
        get("x", "1", 4, 5),
    ]
    report = sim.check_linearizability(history)
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    assert report.key == b"x"
    assert report.unexplained == (2,)
    assert report.text
    fresh = [*history[:2], history[2].replace(read="2")]
    assert sim.check_linearizability(fresh).verdict is Verdict.LINEARIZABLE


def test_an_operation_without_a_return_may_have_happened_or_not() -> None:
    unknown = put("x", "1", 0, None)
    for read in (None, "1"):
        report = sim.check_linearizability([unknown, get("x", read, 1, 2)])
        assert report.verdict is Verdict.LINEARIZABLE
    undone = [unknown, get("x", "1", 1, 2), get("x", None, 3, 4)]
    assert sim.check_linearizability(undone).verdict is Verdict.NOT_LINEARIZABLE


def test_compare_and_set_and_delete_are_checked() -> None:
    cas = Operation(OperationKind.CAS, "x", "2", called=2, returned=3, expected="1", succeeded=True)
    gone = Operation(OperationKind.DELETE, "x", called=4, returned=5, succeeded=True)
    history = [put("x", "1", 0, 1), cas, gone, get("x", None, 6, 7)]
    assert sim.check_linearizability(history).verdict is Verdict.LINEARIZABLE
    history[1] = cas.replace(expected="7")
    assert sim.check_linearizability(history).verdict is Verdict.NOT_LINEARIZABLE


def test_an_empty_value_can_stand_for_an_absent_key() -> None:
    history = [get("x", "", 0, 1)]
    assert sim.check_linearizability(history).verdict is Verdict.NOT_LINEARIZABLE
    report = sim.check_linearizability(history, absent_is_empty=True)
    assert report.verdict is Verdict.LINEARIZABLE


def test_a_history_that_is_too_hard_is_unknown() -> None:
    history = [put("x", str(i), 0, 100) for i in range(12)]
    report = sim.check_linearizability([*history, get("x", "none", 101, 102)], max_steps=5)
    assert report.verdict is Verdict.UNKNOWN
    assert report.key == b"x"


def test_an_operation_that_returned_before_its_call_is_refused() -> None:
    with pytest.raises(pgraft.InvalidArgument):
        sim.check_linearizability([put("x", "1", 2, 1)])


def test_operations_are_values() -> None:
    operation = put("x", "1", 0, 1)
    assert operation == put("x", "1", 0, 1)
    assert operation != operation.replace(value="2")
    assert (operation.key, operation.value, operation.returned) == (b"x", b"1", 1)
    assert put("x", "1", 0, None).returned is None
    with pytest.raises(AttributeError):
        operation.value = b"2"  # type: ignore[misc]


def test_the_module_documentation_is_true() -> None:
    assert doctest.testmod(sim).failed == 0


def test_the_page_is_true() -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    exec(compile("\n".join(code), str(PAGE), "exec"), {})
