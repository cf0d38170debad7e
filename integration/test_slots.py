"""Replication slots of the members: on every node, moving on, bounded, gone with their member."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import FAILOVER_SECONDS, REJOIN_SECONDS, SETTINGS, rows, table_of
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode

SEGMENT = 16 << 20


@pytest.fixture
def lean() -> Iterator[LocalCluster]:
    """Three nodes that keep no WAL but what their slots ask for."""
    settings = {**SETTINGS, "min_wal_size": "32MB", "max_wal_size": "64MB"}
    with LocalCluster(3, settings=settings) as cluster:
        # Not from the start: a base backup begins before it has a slot of its own.
        set_everywhere(cluster, "wal_keep_size", "0")
        yield cluster


def set_everywhere(cluster: LocalCluster, setting: str, value: str) -> None:
    for node_id in cluster.nodes:
        with cluster.connect(node_id) as connection:
            connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'".encode())
            connection.execute("SELECT pg_reload_conf()")


def slots(cluster: LocalCluster, node_id: int) -> dict[str, int]:
    """The members' slots on a node: their names and where they stand (-1: given up)."""
    with cluster.connect(node_id) as connection:
        found = connection.execute(
            "SELECT slot_name, coalesce(restart_lsn - '0/0', -1)::bigint FROM pg_replication_slots"
            r" WHERE slot_type = 'physical' AND slot_name ~ '^pgraft_\d+$'"
        ).fetchall()
    return {name: int(at) for name, at in found}


def end_of_wal(cluster: LocalCluster) -> int:
    with cluster.connect() as connection:
        row = connection.execute("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint").fetchone()
    assert row is not None
    return int(row[0])


def checkpoint(cluster: LocalCluster, *nodes: int) -> None:
    """The leader's first: a standby can make restart points only of checkpoints that it replays."""
    leader = cluster.leader().id
    for node_id in sorted(nodes, key=lambda n: n != leader):
        with cluster.connect(node_id) as connection:
            connection.execute("CHECKPOINT")


def fill(cluster: LocalCluster, segments: int) -> int:
    """Writes some WAL and removes what may be removed of it; the rows there are then."""
    alive = [node.id for node in cluster.nodes.values() if node.postmaster()]
    with cluster.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (i int)")
        for _ in range(segments):
            connection.execute("INSERT INTO t SELECT coalesce(max(i), 0) + 1 FROM t")
            connection.execute("SELECT pg_switch_wal()")
        row = connection.execute("SELECT count(*)::int FROM t").fetchone()
    assert row is not None
    checkpoint(cluster, *alive)
    return int(row[0])


def mark(node: LocalNode) -> Path:
    """A file in the data directory, which neither a clone nor a rewind keeps."""
    path = node.paths.pgdata / "mark"
    path.touch()
    return path


def test_every_member_has_a_slot_on_every_other_node(shared: LocalCluster) -> None:
    for node_id in shared.nodes:
        others = {f"pgraft_{other}" for other in shared.nodes if other != node_id}
        wait_for(lambda n=node_id, o=others: set(slots(shared, n)) == o, 30, f"slots of {node_id}")


def test_slots_move_on_everywhere(shared: LocalCluster) -> None:
    target = end_of_wal(shared)
    fill(shared, 3)
    checkpoint(shared, *shared.nodes)

    def all_moved() -> bool:
        checkpoint(shared, *shared.nodes)
        return all(at >= target for node in shared.nodes for at in slots(shared, node).values())

    wait_for(all_moved, 60, "all slots to pass what was there before")


def test_a_member_that_was_away_follows_the_next_leader_without_a_clone(lean: LocalCluster) -> None:
    for node_id in lean.nodes:
        wait_for(lambda n=node_id: len(slots(lean, n)) == 2, 30, "the slots")
    leader = lean.leader()
    away, successor = (node for node in lean.nodes.values() if node is not leader)
    lean.wait_for_standby(away.id, REJOIN_SECONDS)
    marked = mark(away)
    away.kill()
    fill(lean, 8)
    count = fill(lean, 4)
    lean.wait_for_standby(successor.id, REJOIN_SECONDS)
    leader.kill()
    away.start()
    wait_for(lambda: lean.leader().id == successor.id, FAILOVER_SECONDS, "the successor to lead")
    lean.wait_for_standby(away.id, REJOIN_SECONDS)
    assert len(rows(lean, away.id)) == count
    assert marked.exists(), "it was cloned"


def test_what_a_dead_member_holds_back_is_bounded(lean: LocalCluster) -> None:
    leader = lean.leader()
    away = next(node for node in lean.nodes.values() if node is not leader)
    name = f"pgraft_{away.id}"
    wait_for(lambda: name in slots(lean, leader.id), 30, "the slot")
    set_everywhere(lean, "max_slot_wal_keep_size", f"{2 * SEGMENT >> 20}MB")
    marked = mark(away)
    away.kill()

    def given_up() -> bool:
        fill(lean, 4)
        return slots(lean, leader.id).get(name) == -1

    wait_for(given_up, 60, "the slot to be given up")
    count = fill(lean, 4)
    away.start()
    lean.wait_for_standby(away.id, REJOIN_SECONDS)
    assert len(rows(lean, away.id)) == count
    assert not marked.exists(), "what it needed was gone, so it must have been cloned"
    wait_for(lambda: slots(lean, leader.id).get(name, -1) > 0, 60, "a new slot for it")


def test_a_removed_member_leaves_no_slot(cluster: LocalCluster) -> None:
    table_of(cluster)
    leader = cluster.leader()
    gone, stays = (node for node in cluster.nodes.values() if node is not leader)
    for node in (leader, stays):
        wait_for(lambda n=node: f"pgraft_{gone.id}" in slots(cluster, n.id), 30, "the slot")
    with cluster.connect() as connection:
        connection.execute("SELECT pgraft_remove_node(%s)", [gone.id])
    for node in (leader, stays):
        wait_for(lambda n=node: f"pgraft_{gone.id}" not in slots(cluster, n.id), 30, "no slot")
