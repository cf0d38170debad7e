"""Reads: what pgraft.minority_reads = off refuses (rule 7), what pgraft_read_barrier() waits for.

What could be read otherwise is shown, too: a row that nobody has acknowledged, and that vanishes;
and a follower that lacks one that was acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    ROOT,
    SETTINGS,
    attempt,
    hand_over,
    needs_network,
    rows,
    stays_pending,
    wait_for_sync_rep,
)
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from stalled import Stopped, sqlstate_of

REFUSED = "57P03"
SETUP = """
    CREATE TABLE t (i int);
    INSERT INTO t VALUES (0);
    CREATE VIEW v AS SELECT i FROM t;
    CREATE MATERIALIZED VIEW m AS SELECT i FROM t;
    CREATE SEQUENCE s;
    SELECT lo_from_bytea(4711, 'something');
    CREATE FUNCTION inner_read() RETURNS int LANGUAGE plpgsql
        AS 'BEGIN RETURN (SELECT max(i) FROM t); END';
"""
READS = (
    "SELECT FROM t",
    "SELECT FROM v",
    "SELECT FROM m",
    "SELECT last_value FROM s",
    "SELECT 1 WHERE EXISTS (SELECT FROM t)",
    "WITH w AS (SELECT max(i) FROM t) SELECT FROM w",
    "SELECT inner_read()",
    "EXECUTE p",
    "EXPLAIN ANALYZE SELECT FROM t",
    "COPY t TO STDOUT",
    "COPY (SELECT FROM t) TO STDOUT",
    "SELECT lo_get(4711)",
    "SELECT lo_open(4711, 262144)",
    "SELECT FROM pg_largeobject",
    "DO 'BEGIN PERFORM i FROM t; END'",
    "BEGIN; DECLARE c CURSOR FOR SELECT i FROM t",
)
"""What reads data of users; `p` is prepared before."""
STILL_THERE = (
    "SELECT 1",
    "SHOW pgraft.minority_reads",
    "SELECT pgraft_get_cluster_status()",
    "SELECT pgraft_get_nodes()",
    "SELECT FROM pg_stat_activity",
    "SELECT FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid",
    "SELECT FROM information_schema.tables",
    "SELECT pg_database_size(current_database())",
    "EXPLAIN SELECT FROM t",
    "BEGIN; SAVEPOINT a; ROLLBACK",
)
"""What monitoring and psql need."""


@pytest.fixture(scope="module")
def net() -> Iterator[LocalCluster]:
    settings = {**SETTINGS, "pgraft.minority_reads": "off", "pgraft.peer_timeout": "2s"}
    with LocalCluster(3, namespaces=ROOT, settings=settings) as cluster:
        with cluster.connect() as connection:
            connection.execute(SETUP)
        yield cluster


def in_contact(cluster: LocalCluster, node_id: int) -> bool:
    with cluster.connect(node_id) as connection:
        return connection.execute("SELECT pgraft_in_contact()").fetchone() == (True,)


def wait_for_contact(cluster: LocalCluster, node_id: int, wanted: bool) -> None:
    wait_for(
        lambda: in_contact(cluster, node_id) is wanted,
        REJOIN_SECONDS,
        f"node {node_id} to be {'in' if wanted else 'out of'} contact",
    )


def insert(cluster: LocalCluster, leader: LocalNode, value: int) -> None:
    with cluster.connect(leader.id) as connection:
        connection.execute("INSERT INTO t VALUES (%s)", [value])


def outcomes(cluster: LocalCluster, node_id: int, steps: tuple[str, ...]) -> dict[str, str | None]:
    """The error of each step on a session of its own that has prepared `p`."""
    found = {}
    for step in steps:
        with cluster.connect(node_id) as session:
            session.execute("PREPARE p AS SELECT FROM t")
            if step.startswith("COPY"):
                found[step] = sqlstate_of(session, lambda s, step=step: _copy_out(s, step))
            else:
                found[step] = sqlstate_of(session, step)
    return found


def _copy_out(session: psycopg.Connection[object], statement: str) -> None:
    with session.cursor().copy(statement.encode()) as copy:
        for _ in copy:
            pass


def assert_refused(cluster: LocalCluster, node_id: int) -> None:
    assert outcomes(cluster, node_id, READS) == dict.fromkeys(READS, REFUSED)
    assert outcomes(cluster, node_id, STILL_THERE) == dict.fromkeys(STILL_THERE)


def assert_readable(cluster: LocalCluster) -> None:
    for node_id in cluster.nodes:
        wait_for_contact(cluster, node_id, True)
        assert outcomes(cluster, node_id, READS) == dict.fromkeys(READS)


@needs_network
def test_a_cut_off_follower_shows_nothing_old(net: LocalCluster) -> None:
    assert_readable(net)
    leader, follower = net.leader(), net.followers()[0]
    with net.connect(follower.id) as before:
        before.execute("BEGIN")
        before.execute("DECLARE c CURSOR FOR SELECT i FROM t")
        net.cut_off(follower.id)
        wait_for_contact(net, follower.id, False)
        insert(net, leader, 1)
        assert sqlstate_of(before, "FETCH c") == REFUSED
    assert_refused(net, follower.id)
    with net.connect(follower.id) as session:
        assert sqlstate_of(session, "SELECT pgraft_read_barrier()") == REFUSED
    with net.connect(follower.id) as session, pytest.raises(psycopg.Error) as raised:
        session.execute("SELECT FROM t")
    assert "not in contact with a majority" in str(raised.value)
    assert raised.value.diag.message_hint
    net.heal()
    wait_for_contact(net, follower.id, True)
    net.wait_for_standby(follower.id, REJOIN_SECONDS)
    assert 1 in rows(net, follower.id)


@needs_network
def test_a_cut_off_leader_does_not_show_what_nobody_acknowledged(net: LocalCluster) -> None:
    old = net.leader()
    net.cut_off(old.id)
    running = attempt(net, old.id, "INSERT INTO t VALUES (666)")
    assert wait_for_sync_rep(net, old.id, running), running
    new = net.leader(FAILOVER_SECONDS, exclude=[old.id])
    insert(net, new, 2)
    # The wait ends without an answer, and the row becomes visible.
    with net.connect(old.id) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [running.pid])
    running.join()
    assert not running.acknowledged
    wait_for_contact(net, old.id, False)
    assert_refused(net, old.id)
    with net.connect(old.id) as session:
        assert sqlstate_of(session, "SELECT pgraft_read_barrier()") == REFUSED

    # The control: with the setting on, it can be seen, and what was acknowledged can't.
    with net.connect(old.id) as connection:
        connection.execute("ALTER SYSTEM SET pgraft.minority_reads = on")
        connection.execute("SELECT pg_reload_conf()")

    def shown() -> list[int] | None:
        with net.connect(old.id) as connection:
            found = connection.execute("SHOW pgraft.minority_reads").fetchone()
        return rows(net, old.id) if found == ("on",) else None

    seen = wait_for(shown, 60, "the setting to be loaded")
    assert 666 in seen
    assert 2 not in seen
    assert 666 not in rows(net, new.id)
    with net.connect(old.id) as connection:
        connection.execute("ALTER SYSTEM RESET pgraft.minority_reads")

    net.heal()
    net.wait_for_standby(old.id, REJOIN_SECONDS)
    wait_for_contact(net, old.id, True)
    assert 2 in rows(net, old.id)
    assert 666 not in rows(net, old.id)


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_reads_are_refused_when_the_worker_stands_still(net: LocalCluster, who: str) -> None:
    """The deadline is in shared memory."""
    node = net.leader() if who == "leader" else net.followers()[0]
    with net.connect(node.id) as connection:
        row = connection.execute("SELECT pid FROM pgraft_get_worker_state()").fetchone()
        assert row is not None
    worker = Stopped([row[0]])
    try:
        wait_for_contact(net, node.id, False)
        assert_refused(net, node.id)
        leader = net.leader(FAILOVER_SECONDS, exclude=[node.id])
        insert(net, leader, 3)
    finally:
        worker.release()
    net.wait_for_standby(node.id, REJOIN_SECONDS)
    assert_readable(net)
    assert 3 in rows(net, node.id)


def test_a_session_can_be_stricter_than_the_server_but_not_laxer(net: LocalCluster) -> None:
    with net.connect() as session:
        assert sqlstate_of(session, "SET pgraft.minority_reads = on") == "22023"
        assert sqlstate_of(session, "SET pgraft.minority_reads = off") is None
        assert sqlstate_of(session, "RESET pgraft.minority_reads") is None
        lax = "ALTER ROLE CURRENT_USER SET pgraft.minority_reads = on"
        assert sqlstate_of(session, lax) == "22023"
    with pytest.raises(psycopg.OperationalError, match="minority_reads"):
        net.connect(options="-c pgraft.minority_reads=on")
    with net.connect(options="-c pgraft.minority_reads=off") as session:
        assert session.execute("SHOW pgraft.minority_reads").fetchone() == ("off",)


# --- the barrier ---


def test_a_barrier_waits_until_what_was_acknowledged_is_replayed(net: LocalCluster) -> None:
    """A paused replay stands for one that is behind."""
    leader, follower = net.leader(), net.followers()[0]
    net.wait_for_standby(follower.id, REJOIN_SECONDS)
    with net.connect(follower.id) as session:
        session.execute("SELECT pg_wal_replay_pause()")
        pausing = "SELECT 1 WHERE pg_get_wal_replay_pause_state() = 'paused'"
        wait_for(lambda: session.execute(pausing).fetchone(), 60, "the pause")
        insert(net, leader, 4)
        assert 4 not in rows(net, follower.id), "the control: acknowledged, and not seen"
        waiting = attempt(net, follower.id, "SELECT pgraft_read_barrier()")
        assert stays_pending(waiting, 1)
        session.execute("SELECT pg_wal_replay_resume()")
        waiting.join()
        assert waiting.acknowledged, waiting
        assert 4 in rows(net, follower.id)
        session.execute("SELECT pg_wal_replay_pause()")
        session.execute("SET pgraft.command_timeout = '1s'")
        insert(net, leader, 5)
        assert sqlstate_of(session, "SELECT pgraft_read_barrier()") == REFUSED
        session.execute("SELECT pg_wal_replay_resume()")


def test_after_a_barrier_every_node_shows_what_was_acknowledged(net: LocalCluster) -> None:
    """Whoever leads, and right after it has changed."""
    for value in range(100, 106):
        leader = net.leader()
        insert(net, leader, value)
        if value % 2:
            hand_over(net, leader, 0)
        for node_id in net.nodes:
            seen = wait_for(
                lambda n=node_id: read_after_barrier(net, n), REJOIN_SECONDS, f"node {node_id}"
            )
            assert value in seen


def read_after_barrier(cluster: LocalCluster, node_id: int) -> list[int]:
    """Fails, and is tried again, while a leader is looked for or a server restarts."""
    with cluster.connect(node_id) as connection:
        connection.execute("SELECT pgraft_read_barrier()")
        return [row[0] for row in connection.execute("SELECT i FROM t")]
