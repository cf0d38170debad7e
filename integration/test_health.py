"""Rule 11: a leader is a healthy database. What stands still, fills up or runs out; who leads."""

from __future__ import annotations

import contextlib

import psycopg
import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    assert_nothing_lost,
    hand_over,
    more_rows,
    start_writer,
    table_of,
)
from pgraft.local_cluster import LocalCluster, wait_for
from stalled import postmaster_of, server_process, stopped

HEALTH_SECONDS = 60.0  # until a leader that stands still is replaced; it gives up after about 6


# --- processes that stand still ---


@pytest.mark.parametrize("who", ["postmaster", "pgraft consensus"])
def test_a_leader_of_which_a_vital_process_stands_still_is_replaced(
    cluster: LocalCluster, who: str
) -> None:
    writer = start_writer(cluster)
    leader = cluster.leader()
    pid = postmaster_of(leader) if who == "postmaster" else server_process(leader, who)
    with stopped(pid):
        cluster.leader(HEALTH_SECONDS, exclude=[leader.id])
        more_rows(writer)
    cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
    assert_nothing_lost(cluster, writer.stop())


def test_a_leader_goes_on_without_its_checkpointer_and_walwriter(cluster: LocalCluster) -> None:
    """Commits need neither; and when it is replaced, the stopped ones don't hold up its return."""
    writer = start_writer(cluster)
    leader = cluster.leader()
    with stopped(server_process(leader, "checkpointer"), server_process(leader, "walwriter")):
        more_rows(writer, 500)
        assert cluster.leader().id == leader.id
        with cluster.connect() as connection:
            connection.execute("SELECT pgraft_transfer_leadership()")
        cluster.leader(FAILOVER_SECONDS, exclude=[leader.id])
        cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
    more_rows(writer)
    assert_nothing_lost(cluster, writer.stop())


def test_a_successor_without_its_checkpointer_gives_way(cluster: LocalCluster) -> None:
    """It never sees the commit quorum in force, so it can't open its fence."""
    writer = start_writer(cluster)
    successor = cluster.followers()[0]
    with stopped(server_process(successor, "checkpointer")):
        with contextlib.suppress(psycopg.Error), cluster.connect() as connection:
            connection.execute("SELECT pgraft_transfer_leadership(%s)", [successor.id])
        more_rows(writer, timeout=HEALTH_SECONDS)
        assert cluster.leader().id != successor.id
    cluster.wait_for_standby(successor.id, REJOIN_SECONDS)
    assert_nothing_lost(cluster, writer.stop())


# --- what runs out ---


def test_a_leader_without_a_free_connection_goes_on_and_hands_over(cluster: LocalCluster) -> None:
    """Neither the members' streams nor consensus nor its probes need one."""
    writer = start_writer(cluster)
    leader, follower = cluster.leader(), cluster.followers()[0]
    with contextlib.ExitStack() as stack:
        hogs = []
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                hogs.append(stack.enter_context(cluster.connect(leader.id)))
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            cluster.connect(leader.id)

        def streams() -> set[int]:
            found = hogs[0].execute("SELECT pid FROM pg_stat_replication WHERE state = 'streaming'")
            return {row[0] for row in found}

        before = streams()
        follower.kill_server()
        wait_for(lambda: len(streams() - before) == 1 and len(streams()) == 2, 60, "a new stream")
        more_rows(writer)
        assert cluster.leader().id == leader.id
        hand_over(cluster, leader, 0, hogs[0])
    more_rows(writer)
    assert_nothing_lost(cluster, writer.stop())


def test_a_failover_needs_no_free_connection(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    leader = cluster.leader()
    successors = [node for node in cluster.nodes.values() if node is not leader]
    with contextlib.ExitStack() as stack:
        for node in successors:
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(cluster.connect(node.id))
        leader.kill()
        cluster.leader(FAILOVER_SECONDS, exclude=[leader.id])
    more_rows(writer)
    leader.start()
    assert_nothing_lost(cluster, writer.stop())


def test_a_failover_needs_no_free_lock(cluster: LocalCluster) -> None:
    table_of(cluster)
    writer = start_writer(cluster)
    leader = cluster.leader()
    with contextlib.suppress(psycopg.Error), cluster.connect(leader.id) as hog:
        hog.execute("BEGIN")
        with pytest.raises(psycopg.errors.OutOfMemory):
            hog.execute("SELECT pg_advisory_xact_lock_shared(i) FROM generate_series(1, 1e6) AS i")
        assert cluster.leader().id == leader.id
        leader.kill()
        cluster.leader(FAILOVER_SECONDS, exclude=[leader.id])
    more_rows(writer)
    leader.start()
    assert_nothing_lost(cluster, writer.stop())
