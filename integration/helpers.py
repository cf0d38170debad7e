"""What the tests share: attempts that may never end, writers, checks."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.writer import Record, Writer, check

# Generous: machines are slow and shared. What a test measures it prints.
FAILOVER_SECONDS = 30.0
REJOIN_SECONDS = 120.0
SETTINGS = {"max_prepared_transactions": "10"}

ROOT = os.geteuid() == 0
needs_network = pytest.mark.skipif(
    not ROOT or shutil.which("nft") is None,
    reason="needs network namespaces: root, and nft (package nftables)",
)


Step = str | Callable[[psycopg.Connection[Any]], object]


class Attempt:
    """One sequence of steps on a connection of its own thread, whose outcome is awaited or not."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], *statements: Step) -> None:
        self.error: BaseException | None = None
        self.acknowledged = False
        self.pid = 0
        self._ready = threading.Event()
        self._connect = connect
        self._statements = statements
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def _run(self) -> None:
        try:
            with self._connect() as connection:
                self.pid = connection.info.backend_pid
                self._ready.set()
                for statement in self._statements:
                    if isinstance(statement, str):
                        connection.execute(statement.encode())
                    else:
                        statement(connection)
                self.acknowledged = True
        except psycopg.Error as error:
            self.error = error
        finally:
            self._ready.set()

    @property
    def pending(self) -> bool:
        return self._thread.is_alive()

    @property
    def sqlstate(self) -> str | None:
        return self.error.sqlstate if isinstance(self.error, psycopg.Error) else None

    def join(self, timeout: float = 60.0) -> None:
        self._thread.join(timeout)

    def __repr__(self) -> str:
        return (
            f"<attempt {self._statements[-1]!r} pending={self.pending} "
            f"acknowledged={self.acknowledged} error={self.error!r}>"
        )


def attempt(cluster: LocalCluster, node_id: int, *statements: Step, **options: Any) -> Attempt:
    return Attempt(lambda: cluster.connect(node_id, **options), *statements)


def wait_event(cluster: LocalCluster, node_id: int, pid: int) -> str | None:
    """What a backend waits for."""
    with cluster.connect(node_id) as connection:
        row = connection.execute(
            "SELECT wait_event FROM pg_stat_activity WHERE pid = %s", [pid]
        ).fetchone()
    return row[0] if row else None


def wait_for_sync_rep(cluster: LocalCluster, node_id: int, running: Attempt) -> bool:
    """True when the attempt waits for its quorum; False when it has ended."""

    def check_once() -> str | None:
        if not running.pending:
            return "ended"
        return "waits" if wait_event(cluster, node_id, running.pid) == "SyncRep" else None

    return wait_for(check_once, 30, "the commit to wait for its quorum") == "waits"


def stays_pending(running: Attempt, seconds: float) -> bool:
    """Watches an attempt for a while; returns as soon as it has ended."""
    running.join(seconds)
    return running.pending


def table_of(cluster: LocalCluster, name: str = "t") -> None:
    with cluster.connect() as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (i int)".encode())


def rows(cluster: LocalCluster, node_id: int, name: str = "t") -> list[int]:
    with cluster.connect(node_id) as connection:
        found = connection.execute(f"SELECT i FROM {name} ORDER BY i".encode()).fetchall()
    return [row[0] for row in found]


def hand_over(
    cluster: LocalCluster,
    leader: LocalNode,
    to: int,
    session: psycopg.Connection[Any] | None = None,
) -> LocalNode:
    """Makes another node the leader, asking as often as it takes: whoever has more WAL may be
    handed it back (rule 4).

    Args:
        cluster: The cluster.
        leader: Who leads it.
        to: Who shall; 0: anybody else.
        session: One on the leader that is there already.
    """

    def led() -> LocalNode | None:
        now = cluster.leader()
        if now.id == to or (now is not leader and to == 0):
            return now
        asking = contextlib.nullcontext(session) if session else cluster.connect(now.id)
        with asking as connection:
            connection.execute("SELECT pgraft_transfer_leadership(nullif(%s, 0))", [to])
        return None

    return wait_for(led, 2 * FAILOVER_SECONDS, "another leader")


def start_writer(cluster: LocalCluster, client: int = 1) -> Writer:
    with cluster.connect() as connection:
        Writer.create_table(connection)
    writer = Writer(cluster.dsn(), client, pause=0.001).start()
    more_rows(writer, 50)
    return writer


def more_rows(writer: Writer, more: int = 50, timeout: float = FAILOVER_SECONDS) -> None:
    wanted = writer.count + more
    wait_for(lambda: writer.count >= wanted, timeout, f"{more} more acknowledged rows")


def assert_nothing_lost(cluster: LocalCluster, record: Record, client: int = 1) -> None:
    """On the leader and, once they have caught up, on all others."""
    leader = cluster.leader()
    for node in cluster.nodes.values():
        if node is not leader:
            cluster.wait_for_standby(node.id, REJOIN_SECONDS)
        with cluster.connect(node.id) as connection:
            verdict = check(connection, client, record)
        assert verdict.ok, f"node {node.id} lost {verdict.lost[:10]} ({len(verdict.lost)})"
        assert verdict.acknowledged > 0
