"""Rule 7: a node that is not the leader with a live lease refuses every write, whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from helpers import SETTINGS, table_of
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode


class Fenced:
    """A leader that has lost both followers, and so its lease; still a primary."""

    def __init__(self, cluster: LocalCluster, node: LocalNode) -> None:
        self.cluster = cluster
        self.node = node


@pytest.fixture(scope="module")
def fenced() -> Iterator[Fenced]:
    with LocalCluster(3, settings=SETTINGS) as cluster:
        table_of(cluster)
        leader = cluster.leader()
        with cluster.connect(leader.id) as connection:
            connection.execute("CREATE SEQUENCE s")
            connection.execute("INSERT INTO t VALUES (1)")
        for node in cluster.followers():
            cluster.kill(node.id, "all")

        def refused() -> bool:
            with cluster.connect(leader.id) as connection:
                row = connection.execute("SELECT pgraft_is_leader()").fetchone()
            return row == (False,)

        wait_for(refused, 60, "the fence")
        yield Fenced(cluster, leader)


@pytest.mark.parametrize(
    "statements",
    [
        ["INSERT INTO t VALUES (2)"],
        ["SET transaction_read_only = off", "INSERT INTO t VALUES (2)"],
        ["SET default_transaction_read_only = off", "INSERT INTO t VALUES (2)"],
        ["BEGIN READ WRITE", "INSERT INTO t VALUES (2)"],
        ["BEGIN", "SET TRANSACTION READ WRITE", "INSERT INTO t VALUES (2)", "COMMIT"],
        ["CREATE TABLE u (i int)"],
        ["DO $$ BEGIN INSERT INTO t VALUES (2); END $$"],
        ["SELECT nextval('s')"],
        ["SELECT lo_create(0)"],
        ["TRUNCATE t"],
        ["CREATE ROLE somebody"],
        ["BEGIN", "SET LOCAL transaction_read_only = off", "DELETE FROM t", "COMMIT"],
    ],
    ids="; ".join,
)
def test_no_session_can_write(fenced: Fenced, statements: list[str]) -> None:
    with fenced.cluster.connect(fenced.node.id) as connection:
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = user").fetchone()
        assert row == (True,)
        sqlstates = [_sqlstate(connection, statement) for statement in statements]
    assert "25006" in sqlstates
    assert sqlstates[-1] is not None or statements[-1] == "COMMIT"


def _sqlstate(connection: psycopg.Connection[Any], statement: str) -> str | None:
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None


def test_reads_work_behind_the_fence(fenced: Fenced) -> None:
    with fenced.cluster.connect(fenced.node.id) as connection:
        assert connection.execute("SELECT i FROM t").fetchall() == [(1,)]


def test_clients_that_want_to_write_go_elsewhere(fenced: Fenced) -> None:
    with pytest.raises(psycopg.OperationalError, match="read-only"):
        psycopg.connect(
            f"host=127.0.0.1 port={fenced.node.port} dbname=postgres "
            f"user={fenced.cluster.owner.name} target_session_attrs=read-write"
        )


def test_the_fence_holds_without_the_worker(fenced: Fenced) -> None:
    """Every backend reads the fence from shared memory."""
    with fenced.cluster.connect(fenced.node.id) as connection:
        pids = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pgraft%'"
        ).fetchall()
        for (pid,) in pids:
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("INSERT INTO t VALUES (3)")
