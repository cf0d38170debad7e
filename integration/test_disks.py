"""Rule 11, disks: a leader whose disk stands still, is full, slow or read-only."""

from __future__ import annotations

import contextlib

import psycopg
import pytest
from disks import leader_on, needs_ext4, needs_fuse, needs_mounts
from helpers import REJOIN_SECONDS, assert_nothing_lost, more_rows, start_writer, table_of
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode

HEALTH_SECONDS = 60.0  # until a leader that stands still is replaced; it gives up after about 6


@needs_fuse
def test_a_leader_whose_wal_can_not_be_flushed_is_replaced(cluster: LocalCluster) -> None:
    with leader_on(cluster, "wal", "fuse") as (leader, disk):
        writer = start_writer(cluster)
        table_of(cluster)
        disk.hang()
        successor = cluster.leader(HEALTH_SECONDS, exclude=[leader.id])
        # Others can write; the writer's session waits inside the kernel, where nobody can end it.
        with cluster.connect(successor.id) as connection:
            connection.execute("INSERT INTO t VALUES (1)")
        disk.go_on()
        more_rows(writer)
        cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
        assert_nothing_lost(cluster, writer.stop())


@needs_mounts
def test_a_leader_with_no_room_for_wal_is_replaced_and_comes_back(cluster: LocalCluster) -> None:
    with leader_on(cluster, "wal", "memory") as (leader, disk):
        writer = start_writer(cluster)
        disk.fill()
        with contextlib.suppress(psycopg.Error), cluster.connect(leader.id) as connection:
            for _ in range(20):
                connection.execute("SELECT pg_logical_emit_message(true, 'x', 'y')")
                connection.execute("SELECT pg_switch_wal()")
        cluster.leader(HEALTH_SECONDS, exclude=[leader.id])
        more_rows(writer)
        disk.make_room()
        cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
        assert_nothing_lost(cluster, writer.stop())


@needs_mounts
def test_a_node_with_no_room_for_rafts_log_comes_back(cluster: LocalCluster) -> None:
    with leader_on(cluster, "raft", "memory") as (leader, disk):
        writer = start_writer(cluster)
        disk.fill()
        with contextlib.suppress(psycopg.Error), cluster.connect(leader.id) as connection:
            connection.execute("SELECT pgraft_transfer_leadership()")
        cluster.leader(HEALTH_SECONDS, exclude=[leader.id])
        more_rows(writer)
        disk.make_room()
        cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
        assert_nothing_lost(cluster, writer.stop())


@needs_ext4
@pytest.mark.parametrize("what", ["data", "raft"])
def test_a_leader_whose_disk_turns_read_only_is_replaced_and_comes_back(
    cluster: LocalCluster, what: str
) -> None:
    """A server that can't write is down, or says what is wrong; mended it is a standby again."""
    with leader_on(cluster, what, "ext4") as (leader, disk):
        writer = start_writer(cluster)
        disk.turn_read_only()
        if what == "raft":  # which is written to when something changes
            with contextlib.suppress(psycopg.Error), cluster.connect(leader.id) as connection:
                connection.execute("SELECT pgraft_transfer_leadership()")
        cluster.leader(HEALTH_SECONDS, exclude=[leader.id])
        more_rows(writer)
        if what == "raft":
            wait_for(lambda: "Read-only" in _worker_error(cluster, leader), 60, "the reason")
        else:
            wait_for(lambda: "Read-only" in leader.log_file.read_text(), 60, "the reason")
        leader.stop(immediate=True)
        disk.mend()
        leader.start()
        cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
        assert_nothing_lost(cluster, writer.stop())


def _worker_error(cluster: LocalCluster, node: LocalNode) -> str:
    with cluster.connect(node.id) as connection:
        row = connection.execute("SELECT state, error FROM pgraft_get_worker_state()").fetchone()
    return str(row)


@needs_fuse
def test_a_leader_with_a_slow_disk_goes_on(cluster: LocalCluster) -> None:
    """Half a second for each access: commits take long, and nobody else takes over."""
    with leader_on(cluster, "wal", "fuse") as (leader, disk):
        writer = start_writer(cluster)
        with disk.slow(0.5):
            more_rows(writer, 10)
            assert cluster.leader().id == leader.id
        more_rows(writer)
        assert_nothing_lost(cluster, writer.stop())
