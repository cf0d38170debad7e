"""Rule 6: a commit answers "done" or the connection dies.

No cancel, timeout or setting gets round the quorum.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers import Attempt, attempt, rows, stays_pending, table_of, wait_for_sync_rep
from pgraft.local_cluster import LocalCluster, wait_for

WATCH_SECONDS = 1.0


class Stalled:
    """A leader whose followers are stopped, so that no commit finds its quorum."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.leader = cluster.leader()

    def waiting(self, *statements: str, prepared: str = "") -> Attempt:
        """Statements whose last one waits for its quorum; again when the lease ran out."""
        for _ in range(10):
            self.release()
            self.leader = self.cluster.leader(60)
            if prepared:
                self.prepare(prepared)
            connection = self.cluster.connect(self.leader.id)
            for node in self.cluster.followers():
                self.cluster.pause(node.id)
            running = Attempt(lambda c=connection: c, *statements)  # type: ignore[misc]
            if wait_for_sync_rep(self.cluster, self.leader.id, running):
                return running
            assert running.sqlstate == "25006", running
        raise AssertionError("no commit came to wait for its quorum")

    def prepare(self, name: str) -> None:
        with self.cluster.connect(self.leader.id) as connection:
            done = connection.execute(
                "SELECT 1 FROM pg_prepared_xacts WHERE gid = %s", [name]
            ).fetchone()
            if done is None:
                connection.execute("BEGIN; INSERT INTO t VALUES (1)")
                connection.execute(f"PREPARE TRANSACTION '{name}'".encode())

    def release(self) -> None:
        for node in self.cluster.nodes.values():
            self.cluster.resume(node.id)

    def cancel(self, running: Attempt) -> None:
        with self.cluster.connect(self.leader.id) as connection:
            connection.execute("SELECT pg_cancel_backend(%s)", [running.pid])

    def terminate(self, running: Attempt) -> None:
        with self.cluster.connect(self.leader.id) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", [running.pid])

    def finish(self, running: Attempt) -> None:
        """With followers again it ends; a success must be true."""
        self.release()
        running.join(120)
        assert not running.pending, running


@pytest.fixture
def stalled(cluster: LocalCluster) -> Iterator[Stalled]:
    table_of(cluster)
    one = Stalled(cluster)
    yield one
    one.release()


def test_a_cancelled_commit_is_not_acknowledged(stalled: Stalled) -> None:
    running = stalled.waiting("INSERT INTO t VALUES (1)")
    stalled.cancel(running)
    stays_pending(running, WATCH_SECONDS)
    assert not running.acknowledged, running
    stalled.finish(running)


def test_a_terminated_commit_is_not_acknowledged(stalled: Stalled) -> None:
    running = stalled.waiting("INSERT INTO t VALUES (1)")
    stalled.terminate(running)
    wait_for(lambda: not running.pending, 60, "the connection to end")
    assert not running.acknowledged, running


def test_statement_timeout_does_not_end_the_wait(stalled: Stalled) -> None:
    running = stalled.waiting(
        "SET statement_timeout = 50", "BEGIN; INSERT INTO t VALUES (1)", "COMMIT"
    )
    stays_pending(running, WATCH_SECONDS)
    assert not running.acknowledged, running
    stalled.finish(running)


@pytest.mark.parametrize("level", ["off", "local", "remote_write"])
def test_a_weaker_synchronous_commit_does_not_skip_the_wait(stalled: Stalled, level: str) -> None:
    running = stalled.waiting(f"SET synchronous_commit = {level}", "INSERT INTO t VALUES (1)")
    stays_pending(running, WATCH_SECONDS)
    assert not running.acknowledged, running
    stalled.finish(running)


def test_prepare_transaction_waits_uncancellably(stalled: Stalled) -> None:
    running = stalled.waiting("BEGIN; INSERT INTO t VALUES (1)", "PREPARE TRANSACTION 'p'")
    stalled.cancel(running)
    stays_pending(running, WATCH_SECONDS)
    assert not running.acknowledged, running
    stalled.finish(running)


@pytest.mark.parametrize("how", ["cancel", "statement_timeout"])
def test_commit_prepared_waits_uncancellably(stalled: Stalled, how: str) -> None:
    before = ["SET statement_timeout = 50"] if how == "statement_timeout" else []
    running = stalled.waiting(*before, "COMMIT PREPARED 'p'", prepared="p")
    if how == "cancel":
        stalled.cancel(running)
    stays_pending(running, WATCH_SECONDS)
    assert not running.acknowledged, running
    stalled.finish(running)


def test_an_acknowledged_commit_after_the_wait_is_there(stalled: Stalled) -> None:
    running = stalled.waiting("INSERT INTO t VALUES (77)")
    stalled.finish(running)
    if running.acknowledged:
        leader = stalled.cluster.leader(60)
        assert 77 in rows(stalled.cluster, leader.id)


def test_a_commit_with_its_quorum_is_acknowledged(cluster: LocalCluster) -> None:
    """The control: without it the tests above would pass on a server that acknowledges nothing."""
    table_of(cluster)
    leader = cluster.leader()
    for statements in (
        ["INSERT INTO t VALUES (1)"],
        ["SET synchronous_commit = off", "INSERT INTO t VALUES (2)"],
        ["BEGIN; INSERT INTO t VALUES (3)", "PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'"],
    ):
        running = attempt(cluster, leader.id, *statements)
        running.join()
        assert running.acknowledged, running
    assert rows(cluster, leader.id) == [1, 2, 3]
