"""Rule 6: a commit answers "done" or the connection dies.

No cancel, timeout or setting gets round the quorum. The tests share a cluster whose followers'
streams are stopped again and again; test_commit_rules_off.py shows that each of them can fail.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from helpers import Step, attempt, rows, table_of
from pgraft.local_cluster import LocalCluster, wait_for
from stalled import LOSSES, TIMEOUT_MS, Stalled, forget_prepared, receiver, results_of, sqlstate_of


@pytest.fixture
def stalled(shared: LocalCluster) -> Iterator[Stalled]:
    table_of(shared)
    one = Stalled(shared)
    try:
        yield one
    finally:
        one.release()
        forget_prepared(one)


# --- every way to commit


def _extended(connection: psycopg.Connection[Any]) -> None:
    connection.execute("INSERT INTO t VALUES (%s)", [MARK])


def _prepared(connection: psycopg.Connection[Any]) -> None:
    connection.execute("INSERT INTO t VALUES (%s)", [MARK], prepare=True)


def _pipelined(connection: psycopg.Connection[Any]) -> None:
    with connection.pipeline():
        connection.execute("INSERT INTO t VALUES (%s)", [MARK])
        connection.execute("INSERT INTO t VALUES (%s)", [MARK + 1])


def _pipelined_block(connection: psycopg.Connection[Any]) -> None:
    with connection.pipeline():
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (%s)", [MARK])
        connection.execute("COMMIT")
        connection.execute("SELECT 1")


def _pipelined_prepare(connection: psycopg.Connection[Any]) -> None:
    with connection.pipeline():
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (%s)", [MARK])
        connection.execute("PREPARE TRANSACTION 'lost'")


def _pipelined_commit_prepared(connection: psycopg.Connection[Any]) -> None:
    with connection.pipeline():
        connection.execute("COMMIT PREPARED 'lost'")


def _copied(connection: psycopg.Connection[Any]) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
        copy.write_row((MARK,))


@dataclass(frozen=True)
class Way:
    """One way to commit; the last step waits for the quorum."""

    name: str
    steps: tuple[Step, ...]
    before: tuple[str, ...] = ()
    """With a quorum still."""
    done: str = "EXISTS (SELECT FROM t WHERE i = 100)"
    """True on the leader when it is committed, and other sessions see it."""
    goes_on: bool = False
    """The command goes on after its commit: a cancel that came meanwhile ends it then."""


MARK = 100
INSERT = f"INSERT INTO t VALUES ({MARK})"
NOT_PREPARED = "NOT EXISTS (SELECT FROM pg_prepared_xacts)"
PREPARED = f"BEGIN; {INSERT}; PREPARE TRANSACTION 'lost'"
WAYS = [
    Way("simple", (INSERT,)),
    Way("extended", (_extended,)),
    Way("prepared statement", (_prepared,)),
    Way("pipeline", (_pipelined,)),
    Way("pipelined block", (_pipelined_block,)),
    Way("several statements", (f"{INSERT}; INSERT INTO t VALUES (1)",)),
    Way("block in one string", (f"BEGIN; {INSERT}; COMMIT",)),
    Way("COMMIT", ("BEGIN", INSERT, "COMMIT")),
    Way("COMMIT AND CHAIN", ("BEGIN", INSERT, "COMMIT AND CHAIN")),
    Way(
        "savepoints",
        (
            "BEGIN; SAVEPOINT a",
            INSERT,
            "RELEASE a; SAVEPOINT b; DELETE FROM t; ROLLBACK TO b",
            "END",
        ),
    ),
    Way("COPY", (_copied,)),
    Way("row lock", ("SELECT FROM t FOR UPDATE",), ("INSERT INTO t VALUES (0)",), done="true"),
    Way("sequence", ("SELECT setval('s', 7)",), ("CREATE SEQUENCE s",), done="true"),
    Way(
        "large object",
        ("SELECT lo_create(4711)",),
        done="EXISTS (SELECT FROM pg_largeobject_metadata WHERE oid = 4711)",
    ),
    Way("DDL", ("CREATE TABLE made (i int)",), done="to_regclass('made') IS NOT NULL"),
    Way("logical message", ("SELECT pg_logical_emit_message(true, 'a', 'b')",), done="true"),
    Way(
        "PREPARE TRANSACTION",
        ("BEGIN", INSERT, "PREPARE TRANSACTION 'lost'"),
        done="true",  # others see it while it waits, but can't finish it
    ),
    Way("pipelined PREPARE TRANSACTION", (_pipelined_prepare,), done="true"),
    Way("COMMIT PREPARED", ("COMMIT PREPARED 'lost'",), (PREPARED,)),
    Way("pipelined COMMIT PREPARED", (_pipelined_commit_prepared,), (PREPARED,)),
    Way("ROLLBACK PREPARED", ("ROLLBACK PREPARED 'lost'",), (PREPARED,), done=NOT_PREPARED),
    Way(
        "procedure",
        ("CALL commits()",),
        (f"CREATE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN {INSERT}; COMMIT; END'",),
        goes_on=True,
    ),
    Way("DO", (f"DO $$ BEGIN {INSERT}; COMMIT; END $$",), goes_on=True),
    Way("VACUUM FULL", ("VACUUM FULL t",), done="true", goes_on=True),
    Way(
        "CREATE INDEX CONCURRENTLY",
        ("CREATE INDEX CONCURRENTLY slowly ON t (i)",),
        done="to_regclass('slowly') IS NOT NULL",
        goes_on=True,
    ),
]
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name.replace(" ", "-"))


@pytest.fixture
def committing(stalled: Stalled, way: Way) -> Iterator[Stalled]:
    """Ready for this way to commit, and cleaned up after it."""
    stalled.execute("DELETE FROM t")
    for statement in way.before:
        stalled.execute(statement)
    yield stalled
    stalled.release()
    forget_prepared(stalled)
    stalled.execute(
        "DROP TABLE IF EXISTS made; DROP PROCEDURE IF EXISTS commits; DROP SEQUENCE IF EXISTS s; "
        "DROP INDEX IF EXISTS slowly; "
        "SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = 4711"
    )


@ways
def test_cancel_and_timeout_do_not_end_the_wait(committing: Stalled, way: Way) -> None:
    *begin, last = way.steps
    running = committing.waiting(*begin, f"SET statement_timeout = {TIMEOUT_MS}", last)
    committing.let_timeouts_pass(running)
    committing.cancel(running)
    assert committing.still_waits(running), running
    assert way.done == "true" or not committing.holds(way.done), "it is seen before it is confirmed"

    committing.finish(running)
    assert running.sqlstate == ("57014" if way.goes_on else None), running
    assert running.acknowledged is not way.goes_on, running
    assert committing.holds(way.done)


@ways
def test_a_terminated_wait_is_not_answered(committing: Stalled, way: Way) -> None:
    running = committing.waiting(*way.steps)
    committing.terminate(running)
    wait_for(lambda: not running.pending, 60, "the connection to end")
    assert not running.acknowledged, running
    assert isinstance(running.error, psycopg.OperationalError), running


def test_a_terminated_wait_shows_no_result(stalled: Stalled) -> None:
    """The extended protocol has the command's tag ready before the commit."""
    tags: list[bytes] = []
    running = stalled.waiting(lambda c: tags.extend(results_of(c, INSERT.encode())))
    stalled.terminate(running)
    running.join(60)
    assert not running.pending, running
    assert tags == []

    running = attempt(
        stalled.cluster, stalled.leader.id, lambda c: tags.extend(results_of(c, b"SELECT 1"))
    )
    running.join(60)
    assert tags == [b"SELECT 1"]


@pytest.mark.parametrize("loss", LOSSES)
def test_no_loss_of_the_wait_is_answered(stalled: Stalled, loss: str) -> None:
    """The same in test_commit_rules_off.py, where it is."""
    running = LOSSES[loss](stalled)
    assert stalled.still_waits(running), running
    stalled.finish(running)


def test_idle_timeouts_do_not_end_the_wait(stalled: Stalled) -> None:
    running = stalled.waiting(
        f"SET idle_in_transaction_session_timeout = {TIMEOUT_MS}; "
        f"SET idle_session_timeout = {TIMEOUT_MS}; SET lock_timeout = {TIMEOUT_MS}",
        f"BEGIN; {INSERT}; COMMIT; SELECT set_config(name, '0', false) FROM pg_settings "
        "WHERE name LIKE 'idle%timeout'",
    )
    stalled.let_timeouts_pass(running)
    assert stalled.still_waits(running), running
    stalled.finish(running)
    assert running.acknowledged, running


def test_ctrl_c_in_psql_does_not_end_the_wait(stalled: Stalled) -> None:
    insert = "INSERT INTO t VALUES (1) RETURNING 'ctrl-c'"
    stalled.hold()
    with stalled.psql(insert) as psql:
        backend = stalled.waits_with(insert)
        psql.send_signal(signal.SIGINT)
        assert psql.stdout is not None
        assert "Cancel request sent" in psql.stdout.readline()
        assert stalled.waits_with(insert) == backend
        with pytest.raises(subprocess.TimeoutExpired):
            psql.wait(0.3)
        stalled.release()
        assert "INSERT 0 1" in psql.stdout.read()


def test_a_client_that_goes_away_wakes_nobody(stalled: Stalled) -> None:
    insert = "INSERT INTO t VALUES (200) RETURNING 'gone'"
    there = "EXISTS (SELECT FROM t WHERE i = 200)"
    stalled.hold()
    with stalled.psql(insert) as psql:
        backend = stalled.waits_with(insert)
        psql.kill()
    assert stalled.waits_with(insert) == backend
    assert not stalled.holds(there)
    stalled.release()
    wait_for(lambda: stalled.holds(there), 30, "the row of the client that went away")


def test_a_procedure_that_only_commits_can_be_stopped(stalled: Stalled) -> None:
    """A cancel that was held back during a commit is not lost."""
    loop = "DO $$ BEGIN LOOP INSERT INTO t VALUES (1); COMMIT; END LOOP; END $$"
    running = attempt(
        stalled.cluster, stalled.leader.id, f"SET statement_timeout = {TIMEOUT_MS}", loop
    )
    running.join(60)
    assert running.sqlstate == "57014", running


# --- synchronous_commit


def _set_config(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT set_config('synchronous_commit', 'off', false)")


OPT_OUTS: dict[str, tuple[Step, ...]] = {
    "SET LOCAL": ("BEGIN; SET LOCAL synchronous_commit = off", INSERT, "COMMIT"),
    "set_config": (_set_config, INSERT),
    "function": ("SELECT weakly()",),
    "PREPARE": (
        "SET synchronous_commit = off", "BEGIN", INSERT, "PREPARE TRANSACTION 'lost'",
    ),
    "in the block": ("BEGIN", INSERT, "SET synchronous_commit = local", "COMMIT"),
}  # fmt: skip


@pytest.mark.parametrize("way", OPT_OUTS)
def test_no_session_opts_out_of_the_quorum(stalled: Stalled, way: str) -> None:
    stalled.execute(
        "CREATE OR REPLACE FUNCTION weakly() RETURNS void SET synchronous_commit = off "
        f"LANGUAGE sql AS '{INSERT}'"
    )
    running = stalled.waiting(*OPT_OUTS[way])
    assert stalled.still_waits(running), running
    stalled.finish(running)
    assert running.acknowledged, running


def test_no_default_opts_out_of_the_quorum(stalled: Stalled) -> None:
    """Role, database, connection options and the server's configuration."""
    role = stalled.cluster.owner.name
    stalled.execute("CREATE ROLE weak LOGIN SUPERUSER")
    stalled.execute("ALTER ROLE weak SET synchronous_commit = off")
    stalled.execute(f'ALTER ROLE "{role}" IN DATABASE postgres SET synchronous_commit = off')
    stalled.execute("ALTER DATABASE postgres SET synchronous_commit = local")
    stalled.execute("ALTER SYSTEM SET synchronous_commit = remote_write")
    stalled.reload()
    try:
        all_running = [
            stalled.waiting(_expect_level("off"), INSERT),
            stalled.waiting(_expect_level("local"), INSERT, options="-c synchronous_commit=local"),
            stalled.waiting("SET SESSION AUTHORIZATION weak", INSERT),
        ]
        assert all(map(stalled.still_waits, all_running)), all_running
        for running in all_running:
            stalled.finish(running)
            assert running.acknowledged, running
    finally:
        stalled.release()
        stalled.execute("ALTER SYSTEM RESET synchronous_commit")
        stalled.execute("ALTER DATABASE postgres RESET synchronous_commit")
        stalled.execute(f'ALTER ROLE "{role}" IN DATABASE postgres RESET synchronous_commit')
        stalled.execute("DROP ROLE weak")
        stalled.reload()


def _expect_level(level: str) -> Callable[[psycopg.Connection[Any]], None]:
    def check(connection: psycopg.Connection[Any]) -> None:
        assert connection.execute("SHOW synchronous_commit").fetchone() == (level,)

    return check


@pytest.mark.parametrize(
    "statement",
    [
        "SET pgraft.allow_weak_commit = on",
        "SET LOCAL pgraft.allow_weak_commit = on",
        "SELECT set_config('pgraft.allow_weak_commit', 'on', false)",
        "ALTER ROLE CURRENT_USER SET pgraft.allow_weak_commit = on",
        "ALTER DATABASE postgres SET pgraft.allow_weak_commit = on",
        "CREATE FUNCTION f() RETURNS int SET pgraft.allow_weak_commit = on LANGUAGE sql AS "
        "'SELECT 1'",
        "SET pgraft.debug_rules_off = commit_level",
        "ALTER SYSTEM SET pgraft.debug_rules_off = commit_level",
        "SET synchronous_standby_names = ''",
        "ALTER ROLE CURRENT_USER SET synchronous_standby_names = ''",
    ],
)
def test_only_the_configuration_can_weaken_commits(stalled: Stalled, statement: str) -> None:
    with stalled.cluster.connect(stalled.leader.id) as connection:
        # cant_change_runtime_param, feature_not_supported, insufficient_privilege
        assert sqlstate_of(connection, statement) in ("55P02", "0A000", "42501")


def test_weak_commits_can_be_allowed(stalled: Stalled) -> None:
    """On the user's risk, on this server: then synchronous_commit means what it always does."""
    stalled.execute("ALTER SYSTEM SET pgraft.allow_weak_commit = on")
    stalled.reload()
    try:
        for level in ("off", "local", "remote_write"):
            running = stalled.attempt(f"SET synchronous_commit = {level}", INSERT)
            if level == "remote_write":
                assert stalled.still_waits(running), running
            else:
                running.join(60)
                assert running.acknowledged, running
        strong = stalled.waiting(INSERT)
        assert stalled.still_waits(strong), strong
        stalled.finish(strong)
        running.join(60)
        assert running.acknowledged, running
    finally:
        stalled.release()
        stalled.execute("ALTER SYSTEM RESET pgraft.allow_weak_commit")
        stalled.reload()


# --- synchronous_standby_names


@pytest.mark.parametrize("names", ["", "ANY 1 (*)", "FIRST 1 (pgraft_1, pgraft_2, pgraft_3)"])
def test_nobody_else_sets_the_quorum(stalled: Stalled, names: str) -> None:
    before = stalled.execute("SHOW synchronous_standby_names")
    refused = pytest.raises(psycopg.errors.InvalidParameterValue, match="from the members")
    with refused, stalled.quorum_names(names):
        pass
    running = stalled.waiting(INSERT)
    with stalled.quorum_names(names, force=True):
        assert stalled.execute("SHOW synchronous_standby_names") == before
        assert stalled.still_waits(running), running
        late = stalled.waiting(INSERT)
        assert stalled.still_waits(late), late
    stalled.finish(running)
    stalled.finish(late)
    assert running.acknowledged
    assert late.acknowledged


def test_nobody_else_counts_as_a_member(stalled: Stalled, tmp_path: Path) -> None:
    for name in ("pgraft_2", "PGRAFT_3"):
        with receiver(stalled, name, tmp_path) as process:
            assert process.wait(60) != 0


# --- the control: without it the tests above would pass on a server that acknowledges nothing


def test_a_commit_with_its_quorum_is_acknowledged(stalled: Stalled) -> None:
    stalled.execute("TRUNCATE t")
    for statements in (
        ["INSERT INTO t VALUES (1)"],
        ["SET synchronous_commit = off", "INSERT INTO t VALUES (2)"],
        ["SET synchronous_commit = remote_apply", "INSERT INTO t VALUES (4)"],
        ["BEGIN; INSERT INTO t VALUES (3)", "PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'"],
    ):
        running = attempt(stalled.cluster, stalled.leader.id, *statements)
        running.join()
        assert running.acknowledged, running
    assert rows(stalled.cluster, stalled.leader.id) == [1, 2, 3, 4]
