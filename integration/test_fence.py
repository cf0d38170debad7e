"""Rule 7: a node that is not the leader with a live lease refuses every write, whoever asks.

Twice: with a leader that has lost both followers, and with one whose worker is stopped while the
others elect another. And once with the fence left out, to show that these tests can fail.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from helpers import (
    FAILOVER_SECONDS,
    SETTINGS,
    Attempt,
    Step,
    rows,
    stays_pending,
    table_of,
    wait_for_sync_rep,
)
from pgraft import processes
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from stalled import Stopped, sqlstate_of

READ_ONLY = "25006"
FENCE_SETTINGS = {**SETTINGS, "autovacuum_naptime": "1s", "log_min_messages": "debug1"}
SETUP = """
    CREATE SEQUENCE s;
    CREATE TABLE busy (i int);
    CREATE TABLE calm (i int);
    CREATE INDEX calm_i ON calm (i);
    INSERT INTO calm VALUES (1);
    SELECT lo_create(4711), lo_create(4712);
    INSERT INTO t VALUES (1);
    CREATE ROLE plain LOGIN;
    CREATE FUNCTION definer() RETURNS void LANGUAGE sql SECURITY DEFINER
        AS 'INSERT INTO t VALUES (2)';
    CREATE FUNCTION writable() RETURNS void LANGUAGE sql SET transaction_read_only = off
        AS 'INSERT INTO t VALUES (2)';
    CREATE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN COMMIT; INSERT INTO t VALUES (2); END';
"""
PREPARE = "BEGIN; INSERT INTO t VALUES (3); PREPARE TRANSACTION 'before'"


class Fenced:
    """A primary that may not write, and sessions that it had before."""

    def __init__(self, cluster: LocalCluster, node: LocalNode) -> None:
        self.cluster = cluster
        self.node = node
        self.sessions: dict[str, psycopg.Connection[Any]] = {}
        self.running: dict[str, Attempt] = {}
        self.copy: _Copying | None = None
        self.deposed = False
        """Another leader was elected meanwhile."""
        self.stack = contextlib.ExitStack()

    def connect(self) -> psycopg.Connection[Any]:
        return self.cluster.connect(self.node.id)

    def begin(self, name: str, *steps: Step) -> None:
        """A session that has done something when the fence falls."""
        session = self.stack.enter_context(contextlib.closing(self.connect()))
        for step in steps:
            assert sqlstate_of(session, step) is None
        self.sessions[name] = session

    def run(self, name: str, statement: str) -> None:
        """A statement that is being executed then."""
        self.running[name] = Attempt(self.connect, statement)

    def worker(self) -> int:
        with self.connect() as connection:
            row = connection.execute("SELECT pid FROM pgraft_get_worker_state()").fetchone()
        assert row is not None
        return int(row[0])

    def holds(self, condition: str) -> bool:
        with self.connect() as connection:
            return connection.execute(f"SELECT {condition}".encode()).fetchone() == (True,)


class _Copying(contextlib.AbstractContextManager["_Copying"]):
    """A COPY that is ended when the test says so."""

    def __init__(self, copying: contextlib.AbstractContextManager[psycopg.Copy]) -> None:
        self._copying = copying
        self._copy = copying.__enter__()
        self._copy.write_row((2,))
        self._ended = False

    def finish(self, row: tuple[int, ...]) -> None:
        self._ended = True
        self._copy.write_row(row)
        self._copying.__exit__(None, None, None)

    def __exit__(self, *_error: object) -> None:
        if not self._ended:
            with contextlib.suppress(psycopg.Error):
                self._copying.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


def _begin_all(fenced: Fenced) -> None:
    """What is under way when the lease ends."""
    insert = "INSERT INTO t VALUES (2)"
    fenced.begin("with an id", "BEGIN", insert)
    fenced.begin("with a savepoint", "BEGIN", "SAVEPOINT a", insert, "SAVEPOINT b")
    fenced.begin("that has read", "BEGIN", "SELECT FROM t")
    fenced.begin("that only reads", "BEGIN", "SELECT FROM t")
    fenced.begin("with a row lock", "BEGIN", "SELECT FROM t FOR UPDATE SKIP LOCKED")
    fenced.begin(
        "with a cursor",
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT nextval('s') FROM generate_series(1, 100)",
    )
    fenced.begin(
        "with a held cursor", "BEGIN", insert, "DECLARE c CURSOR WITH HOLD FOR SELECT i FROM t"
    )
    fenced.begin("with a prepared statement", f"PREPARE p AS {insert}")
    fenced.begin("with a temporary table", "CREATE TEMP TABLE x (i int) ON COMMIT PRESERVE ROWS")
    fenced.begin("with an advisory lock", "SELECT pg_advisory_lock(1)")
    fenced.begin("that has notified", "BEGIN", insert, "NOTIFY n")
    fenced.begin(
        "with a large object", "BEGIN", "SELECT lowrite(lo_open(4711, 131072), 'something')"
    )
    fenced.begin("that is copying")
    copying = fenced.sessions["that is copying"].cursor().copy("COPY t FROM STDIN")
    fenced.copy = fenced.stack.enter_context(_Copying(copying))
    fenced.begin("that holds back the index", "BEGIN", "INSERT INTO busy VALUES (2)")
    fenced.run("index", "CREATE INDEX CONCURRENTLY ON busy (i)")
    fenced.run("loop", f"DO $$ BEGIN LOOP {insert}; PERFORM pg_sleep(0.01); END LOOP; END $$")
    fenced.run(
        "loop that catches everything",
        f"DO $$ BEGIN LOOP BEGIN {insert}; PERFORM pg_sleep(0.01); "
        "EXCEPTION WHEN OTHERS THEN EXIT; END; END LOOP; END $$",
    )
    fenced.run(
        "sequence loop",
        "DO $$ DECLARE x int; "
        "BEGIN LOOP x := nextval('s'); PERFORM pg_sleep(0.01); END LOOP; END $$",
    )
    wait_for(
        lambda: fenced.holds(
            "EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%' "
            "AND wait_event_type = 'Lock')"
        ),
        30,
        "the index to wait",
    )


def _fenced(end_lease: Callable[[Fenced], None], **settings: str) -> Iterator[Fenced]:
    """A leader, fenced in some way; without the fence nothing is under way when it would fall."""
    with LocalCluster(3, settings={**FENCE_SETTINGS, **settings}) as cluster:
        table_of(cluster)
        fenced = Fenced(cluster, cluster.leader())
        with fenced.connect() as connection:
            connection.execute(SETUP)
            connection.execute(PREPARE)
        with fenced.stack:
            if not settings:
                _begin_all(fenced)
            end_lease(fenced)
            yield fenced


def _kill_followers(fenced: Fenced) -> None:
    for node in fenced.cluster.followers():
        fenced.cluster.kill(node.id, "all")
    wait_for(lambda: fenced.holds("NOT pgraft_is_leader()"), 60, "the end of the lease")


def _stop_worker(fenced: Fenced) -> None:
    fenced.stack.callback(Stopped([fenced.worker()]).release)
    fenced.cluster.leader(FAILOVER_SECONDS, exclude=[fenced.node.id])
    fenced.deposed = True


@pytest.fixture(
    scope="module", params=[_kill_followers, _stop_worker], ids=["followers-lost", "worker-stopped"]
)
def fenced(request: pytest.FixtureRequest) -> Iterator[Fenced]:
    yield from _fenced(request.param)


@pytest.fixture(scope="module")
def unfenced() -> Iterator[Fenced]:
    """The same without the fence, and with nothing else in the way of a commit."""
    off = "'write_fence, commit_level, commit_backstop'"
    settings = {"pgraft.debug_rules_off": off, "synchronous_commit": "local"}
    yield from _fenced(_kill_followers, **settings)


# --- new sessions

WRITES: list[list[str]] = [
    ["INSERT INTO t VALUES (2)"],
    ["SET transaction_read_only = off", "INSERT INTO t VALUES (2)"],
    ["SET default_transaction_read_only = off", "INSERT INTO t VALUES (2)"],
    ["BEGIN READ WRITE", "INSERT INTO t VALUES (2)"],
    ["BEGIN", "SET TRANSACTION READ WRITE", "INSERT INTO t VALUES (2)"],
    ["BEGIN", "SET LOCAL transaction_read_only = off", "DELETE FROM t WHERE i = 2"],
    ["SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "INSERT INTO t VALUES (2)"],
    ["START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ WRITE", "INSERT INTO t VALUES (2)"],
    ["WITH w AS (INSERT INTO t VALUES (2) RETURNING i) SELECT i FROM w"],
    ["EXPLAIN ANALYZE INSERT INTO t VALUES (2)"],
    ["INSERT INTO t VALUES (2); SELECT 1"],
    ["BEGIN READ WRITE; SET LOCAL transaction_read_only = off; INSERT INTO t VALUES (2); COMMIT"],
    ["DO $$ BEGIN INSERT INTO t VALUES (2); END $$"],
    ["DO $$ BEGIN COMMIT; INSERT INTO t VALUES (2); COMMIT; END $$"],
    ["CALL commits()"],
    ["SELECT definer()"],
    ["SELECT nextval('s')"],
    ["BEGIN READ WRITE", "SELECT setval('s', 7)"],
    ["SELECT lo_create(0)"],
    ["SELECT lo_put(4712, 0, 'x')"],
    ["SELECT FROM t FOR UPDATE"],
    ["SELECT pg_current_xact_id()"],
    ["SELECT pg_logical_emit_message(true, 'a', 'b')"],
    ["TRUNCATE calm"],
    ["CREATE TABLE u (i int)"],
    ["CREATE TEMP TABLE u (i int)"],
    ["CREATE UNLOGGED TABLE u (i int)"],
    ["SELECT 1 AS i INTO u"],
    ["CREATE INDEX CONCURRENTLY ON calm (i)"],
    ["REINDEX TABLE calm"],
    ["REINDEX TABLE CONCURRENTLY calm"],
    ["VACUUM FULL calm"],
    ["CLUSTER calm USING calm_i"],
    ["ANALYZE calm"],
    ["COMMENT ON TABLE t IS 'x'"],
    ["GRANT SELECT ON t TO plain"],
    ["CREATE ROLE somebody"],
    ["ALTER ROLE plain SET work_mem = '1MB'"],
    ["CREATE DATABASE d"],
    ["CREATE EXTENSION pg_trgm"],
    ["BEGIN", "SELECT 1", "PREPARE TRANSACTION 'p'"],
    ["ROLLBACK PREPARED 'before'"],
    ["COMMIT PREPARED 'before'"],
]


@pytest.mark.parametrize("statements", WRITES, ids="; ".join)
def test_no_session_can_write(fenced: Fenced, statements: list[str]) -> None:
    with fenced.connect() as connection:
        connection.execute("SET lock_timeout = '20s'")
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = user").fetchone()
        assert row == (True,)
        *begin, last = statements
        for statement in begin:
            assert sqlstate_of(connection, statement) is None
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as refused:
            connection.execute(last.encode())
        assert refused.value.diag.message_hint, refused.value
    assert rows(fenced.cluster, fenced.node.id) == [1]


@pytest.mark.parametrize("statements", WRITES, ids="; ".join)
def test_without_the_fence_every_session_can(unfenced: Fenced, statements: list[str]) -> None:
    with unfenced.connect() as connection:
        for statement in statements:
            assert sqlstate_of(connection, statement) != READ_ONLY
        connection.rollback()


def test_without_the_fence_the_quorum_holds_still(unfenced: Fenced) -> None:
    """Rule 6 does not rest on rule 7: what gets past the fence is not acknowledged."""
    running = Attempt(unfenced.connect, "SET synchronous_commit = on", "INSERT INTO t VALUES (4)")
    assert wait_for_sync_rep(unfenced.cluster, unfenced.node.id, running)
    assert stays_pending(running, 0.2), running
    with unfenced.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [running.pid])
    running.join(60)
    assert not running.acknowledged, running
    assert unfenced.holds("EXISTS (SELECT FROM t WHERE i = 4)"), "the fence would have refused it"


def test_a_function_can_not_lift_the_fence(fenced: Fenced) -> None:
    with fenced.connect() as connection:
        assert sqlstate_of(connection, "SELECT writable()") == "25001"  # active_sql_transaction


def test_an_error_that_is_caught_lets_nothing_through(fenced: Fenced) -> None:
    with fenced.connect() as connection:
        connection.execute(
            "DO $$ BEGIN INSERT INTO t VALUES (2); "
            "EXCEPTION WHEN read_only_sql_transaction THEN NULL; END $$"
        )
        assert connection.execute("SELECT i FROM t").fetchall() == [(1,)]


def test_pipelined_writes_are_refused(fenced: Fenced) -> None:
    def write(connection: psycopg.Connection[Any]) -> None:
        with connection.pipeline():
            connection.execute("BEGIN READ WRITE")
            connection.execute("INSERT INTO t VALUES (%s)", [2])
            connection.execute("COMMIT")

    with fenced.connect() as connection:
        assert sqlstate_of(connection, write) == READ_ONLY


def test_reads_work_behind_the_fence(fenced: Fenced) -> None:
    with fenced.connect() as connection:
        assert connection.execute("SELECT i FROM t").fetchall() == [(1,)]
        connection.execute("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT i FROM t; COMMIT")
        assert connection.execute("FETCH ALL c").fetchall() == [(1,)]
        connection.execute("LISTEN n; SELECT pg_advisory_lock(2); SELECT pg_advisory_unlock(2)")


def test_clients_that_want_to_write_go_elsewhere(fenced: Fenced) -> None:
    with pytest.raises(psycopg.OperationalError, match="read-only"):
        psycopg.connect(
            f"host=127.0.0.1 port={fenced.node.port} dbname=postgres "
            f"user={fenced.cluster.owner.name} target_session_attrs=read-write"
        )


# --- sessions that were there before

UNDER_WAY = {
    "with an id": "COMMIT",
    "with a savepoint": "RELEASE a; COMMIT",
    "that has read": "INSERT INTO t VALUES (2)",
    "with a row lock": "COMMIT",
    "with a cursor": "FETCH c",
    "with a held cursor": "COMMIT",
    "with a prepared statement": "EXECUTE p",
    "with a temporary table": "INSERT INTO x VALUES (1)",
    "that has notified": "COMMIT AND CHAIN",
    "with a large object": "COMMIT",
}


@pytest.mark.parametrize("session", UNDER_WAY)
def test_a_session_from_before_can_not_write(fenced: Fenced, session: str) -> None:
    connection = fenced.sessions[session]
    row = connection.execute("SELECT pg_current_xact_id_if_assigned()::text").fetchone()
    assert row is not None
    assert sqlstate_of(connection, UNDER_WAY[session]) == READ_ONLY
    connection.rollback()
    if row[0] is not None:  # refused, and not merely unanswered
        assert fenced.holds(f"pg_xact_status('{row[0]}') = 'aborted'")


def test_a_copy_from_before_can_not_write(fenced: Fenced) -> None:
    assert fenced.copy is not None
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        fenced.copy.finish((2,))


def test_a_session_from_before_can_go_on_reading(fenced: Fenced) -> None:
    connection = fenced.sessions["that only reads"]
    assert connection.execute("SELECT i FROM t").fetchall() == [(1,)]
    connection.execute("COMMIT")
    assert fenced.sessions["with an advisory lock"].execute(
        "SELECT pg_advisory_unlock(1)"
    ).fetchone() == (True,)


@pytest.mark.parametrize("name", ["loop", "loop that catches everything", "sequence loop"])
def test_a_statement_from_before_can_not_write(fenced: Fenced, name: str) -> None:
    running = fenced.running[name]
    if name == "sequence loop":  # expressions are not statements: it is refused at its commit
        with fenced.connect() as connection:
            connection.execute("SELECT pg_cancel_backend(%s)", [running.pid])
    running.join(60)
    assert running.sqlstate in ((READ_ONLY,) if name != "sequence loop" else (READ_ONLY, "57014"))


def test_an_index_from_before_is_not_made(fenced: Fenced) -> None:
    """A command of several transactions ends at the next of its commits."""
    fenced.sessions["that holds back the index"].rollback()
    running = fenced.running["index"]
    running.join(60)
    assert running.sqlstate == READ_ONLY, running


# --- the server's own


def test_autovacuum_leaves_quietly(fenced: Fenced) -> None:
    leaves = "autovacuum worker ends: this server does not accept writes"
    wait_for(lambda: fenced.node.log_file.read_text().count(leaves) >= 2, 30, "two workers")
    after = fenced.node.log_file.read_text().partition(leaves)[2]
    assert not [line for line in after.splitlines() if "autovacuum worker ERROR" in line]


def test_the_new_leader_has_none_of_it(fenced: Fenced) -> None:
    if fenced.deposed:
        leader = fenced.cluster.leader(exclude=[fenced.node.id])
        assert rows(fenced.cluster, leader.id) == [1]
    assert rows(fenced.cluster, fenced.node.id) == [1]


def test_the_fence_holds_without_the_worker(fenced: Fenced) -> None:
    """Every backend reads the fence from shared memory. A worker that ends begins fenced."""
    worker = fenced.worker()
    processes.send([worker], signal.SIGTERM)
    for _ in range(20):
        with fenced.connect() as connection:
            assert sqlstate_of(connection, "INSERT INTO t VALUES (2)") == READ_ONLY


def test_the_fence_holds_when_the_worker_is_killed(fenced: Fenced) -> None:
    """The server restarts all of its processes, as a standby. The last test: it ends the others'
    sessions.
    """
    session = fenced.connect()
    processes.send([fenced.worker()], signal.SIGKILL)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT pg_sleep(60)")

    def refused() -> bool:
        with fenced.connect() as connection:
            assert sqlstate_of(connection, "INSERT INTO t VALUES (2)") == READ_ONLY
            return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)

    wait_for(refused, FAILOVER_SECONDS, "the standby")


def test_a_follower_names_the_leader(shared: LocalCluster) -> None:
    table_of(shared)
    leader = shared.leader()
    hint = f"Node {leader.id} ({leader.host}:{leader.port}) is the leader."
    for node in shared.followers():
        shared.wait_for_standby(node.id)
        with shared.connect(node.id) as connection:
            for statement in ("INSERT INTO t VALUES (1)", "CREATE TABLE u (i int)"):
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as refused:
                    connection.execute(statement.encode())
                assert refused.value.diag.message_hint == hint
