"""WAL archives (POSTGRES.md, S14): they go round gate and fence. What that can do, and can't."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    SETTINGS,
    attempt,
    hand_over,
    needs_network,
    rows,
    table_of,
    wait_for_sync_rep,
)
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode


@pytest.fixture
def archiving() -> Iterator[LocalCluster]:
    with LocalCluster(3, namespaces=True, settings={**SETTINGS, "archive_mode": "on"}) as cluster:
        yield cluster


def archive_to(cluster: LocalCluster, directory: Path) -> None:
    """All nodes share an archive, with the command of PostgreSQL's manual."""
    cluster.owner.make_directory(directory)
    command = f"test ! -f {directory}/%f && cp %p {directory}/%f"
    for node_id in cluster.nodes:
        with cluster.connect(node_id) as connection:
            connection.execute(f"ALTER SYSTEM SET archive_command = '{command}'".encode())
            connection.execute("SELECT pg_reload_conf()")


def switch_wal(cluster: LocalCluster, node: LocalNode, archive: Path) -> None:
    """Ends a segment; returns when it is in the archive."""
    with cluster.connect(node.id) as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
    assert row is not None
    wait_for((archive / str(row[0])).exists, 60, f"{row[0]} in the archive")


def insert(cluster: LocalCluster, leader: LocalNode, value: int) -> None:
    with cluster.connect(leader.id) as connection:
        connection.execute("INSERT INTO t VALUES (%s)", [value])


@contextmanager
def restored(
    cluster: LocalCluster, backup: Path, archive: Path
) -> Iterator[psycopg.Connection[tuple[int]]]:
    """A server of its own, recovered from a base backup to the end of the archive."""
    port = cluster.node(1).port + 1
    settings = {
        "shared_preload_libraries": "",
        "synchronous_standby_names": "",
        "archive_mode": "off",
        "listen_addresses": "",
        "port": str(port),
        "restore_command": f"cp {archive}/%f %p",
        "recovery_target_timeline": "latest",
    }
    with open(backup / "postgresql.auto.conf", "a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    (backup / "recovery.signal").touch()
    cluster.owner.give(backup)
    pg_ctl = [cluster.postgres.program("pg_ctl"), "-D", backup]
    cluster.owner.run([*pg_ctl, "-l", backup / "log", "-t", "120", "start"], timeout=150)
    try:
        with psycopg.connect(
            host=str(cluster.node(1).socket_dir),
            port=port,
            user=cluster.owner.name,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            ended = "SELECT 1 WHERE NOT pg_is_in_recovery()"
            wait_for(lambda: connection.execute(ended).fetchone(), 120, "the end of recovery")
            yield connection
    finally:
        cluster.owner.run([*pg_ctl, "-m", "immediate", "stop"])


@needs_network
def test_an_archive_restores_what_was_acknowledged_and_nothing_else(
    archiving: LocalCluster,
) -> None:
    """A fenced leader goes on archiving; recovery follows the promotions, not its branch."""
    cluster = archiving
    archive, backup = cluster.base_dir / "archive", cluster.base_dir / "backup"
    archive_to(cluster, archive)
    old = cluster.leader()
    source = ["-h", old.socket_dir, "-p", str(old.port), "-U", cluster.owner.name]
    cluster.owner.make_directory(backup)
    cluster.owner.run(
        [cluster.postgres.program("pg_basebackup"), *source, "-c", "fast", "-D", backup]
    )
    table_of(cluster)
    insert(cluster, old, 1)

    cluster.cut_off(old.id)
    running = attempt(cluster, old.id, "INSERT INTO t VALUES (666)")
    assert wait_for_sync_rep(cluster, old.id, running), running
    new = cluster.leader(FAILOVER_SECONDS, exclude=[old.id])
    switch_wal(cluster, old, archive)
    insert(cluster, new, 2)
    switch_wal(cluster, new, archive)

    # Back in the cluster, and leader again, it archives the newest timeline.
    cluster.heal()
    cluster.wait_for_standby(old.id, REJOIN_SECONDS)
    assert not running.acknowledged
    again = hand_over(cluster, cluster.leader(), old.id)
    insert(cluster, again, 3)
    switch_wal(cluster, again, archive)
    assert rows(cluster, again.id) == [1, 2, 3]

    with restored(cluster, backup, archive) as connection:
        found = connection.execute("SELECT i FROM t ORDER BY i").fetchall()
        assert [row[0] for row in found] == [1, 2, 3]
