"""The clients and their judge against a real server; and what a schedule of faults promises."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import psycopg
import pytest
from pgraft.errors import SetupError
from pgraft.faults import KINDS, kinds_for, schedule
from pgraft.history import Outcome
from pgraft.local_cluster import wait_for
from pgraft.workload import Access, Workload, final_state


@pytest.fixture(scope="module")
def server(make_server: Callable[..., Any]) -> Any:
    one = make_server(1)
    one.start()
    return one


def dsn(server: Any) -> str:
    return (
        f"host=127.0.0.1 port={server.settings.port} user={server.owner.name} dbname=postgres "
        "target_session_attrs=read-write connect_timeout=2"
    )


def connect(server: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(dsn(server), autocommit=True)


@pytest.fixture
def workload(server: Any) -> Iterator[Workload]:
    one = Workload([Access(dsn(server))] * 4, seed=7, pause=0.0)
    with connect(server) as connection:
        one.create_tables(connection)
    yield one
    one.stop()


def run_to(workload: Workload, count: int) -> None:
    wait_for(lambda: workload.count >= count, 60, f"{count} operations")


def kinds(server: Any, workload: Workload) -> set[str]:
    with connect(server) as connection:
        return {problem.kind for problem in workload.check(final_state(connection))}


def test_a_server_that_crashes_gives_right_answers(server: Any, workload: Workload) -> None:
    workload.start()
    for i in (1, 2):
        run_to(workload, i * 100)
        server.stop(signal.SIGQUIT)
        server.start()
    run_to(workload, 300)
    workload.stop()
    assert kinds(server, workload) == set()
    counts = workload.counts()
    assert counts.acknowledged == workload.count >= 300
    assert counts.in_doubt + counts.refused > 0, "the crashes were noticed"
    assert workload.longest_gap(0, float("inf")) > 0


def test_a_connection_that_gives_no_answer_is_given_up(server: Any, workload: Workload) -> None:
    """A lock that nobody releases stands for a commit that waits for ever."""
    workload.start()
    run_to(workload, 20)
    with connect(server) as holder:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE pgraft_operation IN ACCESS EXCLUSIVE MODE")

        def given_up() -> bool:
            counts = workload.counts()
            return counts.in_doubt + counts.refused >= 4

        wait_for(given_up, 60, "the clients to give up")
        holder.execute("ROLLBACK")
    before = workload.count
    run_to(workload, before + 20)
    workload.stop()
    assert kinds(server, workload) == set()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM pgraft_operation WHERE id = {id}", {"lost", "half done"}),
        ("UPDATE pgraft_list SET items = items[2:] WHERE key = '{key}'", {"lost"}),
        ("UPDATE pgraft_list SET items = items || items[1] WHERE key = '{key}'", {"duplicate"}),
        (
            "UPDATE pgraft_list SET items = items[2:2] || items[1:1] || items[3:] "
            "WHERE key = '{key}'",
            {"no order", "not a beginning"},
        ),
        ("UPDATE pgraft_account SET balance = balance + 1 WHERE id = 1", {"total", "balance"}),
        ("INSERT INTO pgraft_operation VALUES (-1)", {"from nowhere"}),
    ],
)
def test_damage_is_found(server: Any, workload: Workload, damage: str, found: set[str]) -> None:
    """The control: a server that lost, repeated or reordered something does not pass."""
    workload.start()
    run_to(workload, 200)
    workload.stop()
    assert kinds(server, workload) == set()
    with connect(server) as connection:
        longest = connection.execute(
            "SELECT key, items FROM pgraft_list ORDER BY cardinality(items) DESC LIMIT 1"
        ).fetchone()
        assert longest is not None
        connection.execute(damage.format(id=longest[1][0], key=longest[0]).encode())
    assert kinds(server, workload) & found


def test_a_workload_that_was_never_started_can_be_stopped() -> None:
    Workload([Access("")]).stop()


def test_what_was_acknowledged_is_recorded_with_its_times(server: Any, workload: Workload) -> None:
    assert server
    workload.start()
    run_to(workload, 50)
    workload.stop()
    acknowledged = [o for o in workload.operations() if o.outcome is Outcome.ACKNOWLEDGED]
    assert len(acknowledged) == workload.count
    assert all(one.began < one.ended < float("inf") for one in acknowledged)


def test_a_schedule_is_repeated_by_its_seed() -> None:
    kinds = kinds_for(3, network=True)
    once, again = (list(islice(schedule(5, kinds), 200)) for _ in range(2))
    assert once == again
    assert once != list(islice(schedule(6, kinds), 200))


def test_no_kind_is_left_out_for_long() -> None:
    for network in (True, False):
        kinds = kinds_for(5, network=network)
        deck = sum(kind.weight for kind in kinds)
        assert {fault.kind for fault in islice(schedule(1, kinds), deck)} == {k.name for k in kinds}


def test_without_namespaces_the_network_is_left_alone() -> None:
    assert kinds_for(5, network=True) == list(KINDS)
    assert not any(kind.network for kind in kinds_for(5, network=False))
    assert "ring" not in {kind.name for kind in kinds_for(3, network=True)}
    with pytest.raises(SetupError):
        next(schedule(1, []))
