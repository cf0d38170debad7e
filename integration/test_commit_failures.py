"""Rule 6 when the leader fails while a commit waits for its quorum.

Nobody sees success, and afterwards all members agree on whether the commit is there. The tests
share a cluster: each leaves three members that follow a leader.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from helpers import FAILOVER_SECONDS, REJOIN_SECONDS, Attempt, rows, stays_pending, table_of
from pgraft import processes
from pgraft.local_cluster import LocalCluster, wait_for
from stalled import Stalled, Stopped, results_of, sqlstate_of


@pytest.fixture
def stalled(shared: LocalCluster) -> Iterator[Stalled]:
    table_of(shared)
    with shared.connect() as connection:
        connection.execute("TRUNCATE t")
    one = Stalled(shared)
    try:
        yield one
    finally:
        one.release()


def _all_ways(stalled: Stalled) -> list[Attempt]:
    """Commits of every kind that wait for their quorum."""
    stalled.execute("BEGIN; INSERT INTO t VALUES (3); PREPARE TRANSACTION 'before'")
    return [
        stalled.waiting("INSERT INTO t VALUES (1)"),
        stalled.waiting("BEGIN; INSERT INTO t VALUES (2)", "PREPARE TRANSACTION 'lost'"),
        stalled.waiting("COMMIT PREPARED 'before'"),
    ]


def _end(running: list[Attempt]) -> None:
    for one in running:
        one.join(REJOIN_SECONDS)
        assert not one.pending, one
        assert not one.acknowledged, one
        assert isinstance(one.error, psycopg.OperationalError), one


def _assert_agreed(stalled: Stalled) -> None:
    """All members have a commit, or none has; and the next one is acknowledged."""
    stalled.release()

    def goes_on() -> bool:
        with stalled.cluster.connect(stalled.cluster.leader(FAILOVER_SECONDS).id) as connection:
            for (name,) in connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
                connection.execute(f"ROLLBACK PREPARED '{name}'".encode())
            return sqlstate_of(connection, "INSERT INTO t VALUES (4)") is None

    wait_for(goes_on, FAILOVER_SECONDS, "the next commit")
    leader = stalled.cluster.leader(FAILOVER_SECONDS)
    there = rows(stalled.cluster, leader.id)
    assert 4 in there
    assert 2 not in there
    for node in stalled.cluster.nodes.values():
        if node is not leader:
            stalled.cluster.wait_for_standby(node.id, REJOIN_SECONDS)
        assert rows(stalled.cluster, node.id) == there


def _crash(stalled: Stalled, running: list[Attempt]) -> None:
    """Kill -9 of another backend: the server restarts all of its processes."""
    with stalled.cluster.connect(stalled.leader.id) as victim:
        processes.send([victim.info.backend_pid], signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT pg_sleep(60)")
    _end(running)


def _kill_worker(stalled: Stalled, running: list[Attempt]) -> None:
    processes.send([stalled.worker()], signal.SIGKILL)
    _end(running)


def _stop_immediately(stalled: Stalled, running: list[Attempt]) -> None:
    stalled.cluster.stop(stalled.leader.id, immediate=True)
    _end(running)
    stalled.cluster.start_node(stalled.leader.id)


def _stop_fast(stalled: Stalled, running: list[Attempt]) -> None:
    """It ends the sessions first, and then waits for the followers."""
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stalled.cluster.stop, stalled.leader.id)
        _end(running)
        stalled.release()
        stopping.result(REJOIN_SECONDS)
    stalled.cluster.start_node(stalled.leader.id)


@pytest.mark.parametrize(
    "fail",
    [_crash, _kill_worker, _stop_immediately, _stop_fast],
    ids=lambda fail: fail.__name__.strip("_"),
)
def test_a_wait_that_the_server_does_not_survive_is_not_answered(
    stalled: Stalled, fail: Callable[[Stalled, list[Attempt]], None]
) -> None:
    running = _all_ways(stalled)
    tags: list[bytes] = []
    reader = stalled.waiting(
        lambda connection: tags.extend(results_of(connection, b"INSERT INTO t VALUES (1)"))
    )
    fail(stalled, running)
    reader.join(60)
    assert not reader.pending
    assert tags == [], "a result that nobody confirmed"
    _assert_agreed(stalled)


def test_a_leader_that_is_deposed_while_a_commit_waits_does_not_answer(stalled: Stalled) -> None:
    """Its worker hangs, others elect a leader without the commit; then it wakes up."""
    running = _all_ways(stalled)
    worker = Stopped([stalled.worker()])
    try:
        old = stalled.leader

        def deposed() -> bool:
            answers = [a for a in stalled.cluster.status().values() if a and a.node_id != old.id]
            return any(a.state == "leader" for a in answers)

        wait_for(deposed, FAILOVER_SECONDS, "another leader")
        assert all(one.pending for one in running), running
        stalled.release()
        stalled.cluster.leader(FAILOVER_SECONDS, exclude=[old.id])
        assert all(stays_pending(one, 0.1) for one in running), running
        with stalled.cluster.connect(old.id) as connection:
            assert sqlstate_of(connection, "INSERT INTO t VALUES (3)") == "25006"
    finally:
        worker.release()
    _end(running)
    _assert_agreed(stalled)


def test_a_wait_on_a_leader_that_is_cut_off_ends(stalled: Stalled) -> None:
    """As long as the followers hang it has no lease, and nobody tells it of another leader."""
    running = _all_ways(stalled)
    others = [n.id for n in stalled.cluster.nodes.values() if n is not stalled.leader]
    for node_id in others:
        stalled.cluster.pause(node_id)
    try:
        _end(running)
    finally:
        for node_id in others:
            stalled.cluster.resume(node_id)
    _assert_agreed(stalled)


def test_a_commit_that_waits_while_the_lease_ends_is_true_if_answered(stalled: Stalled) -> None:
    """The followers hang as a whole: no lease. Then they come back."""
    running = stalled.waiting("INSERT INTO t VALUES (1)")
    old = stalled.leader
    for node in stalled.cluster.nodes.values():
        if node is not old:
            stalled.cluster.pause(node.id)

    def fenced() -> bool:
        with stalled.cluster.connect(old.id) as connection:
            return sqlstate_of(connection, "SELECT txid_current()") == "25006"

    try:
        wait_for(fenced, FAILOVER_SECONDS, "the end of the lease")
        begun_fenced = stalled.cluster.connect(old.id)
        stalled.cancel(running)
        assert stalled.still_waits(running), running
    finally:
        for node in stalled.cluster.nodes.values():
            stalled.cluster.resume(node.id)
    stalled.release()
    running.join(REJOIN_SECONDS)
    assert not running.pending, running
    leader = stalled.cluster.leader(FAILOVER_SECONDS)
    if running.acknowledged:
        assert rows(stalled.cluster, leader.id) == [1]

    # It was told that the server is read-only, which is over: on a new primary or a standby.
    def ended() -> bool:
        return sqlstate_of(begun_fenced, "SELECT 1") is not None or begun_fenced.closed

    wait_for(ended, FAILOVER_SECONDS, "the session that began behind the fence to end")
    _assert_agreed(stalled)
