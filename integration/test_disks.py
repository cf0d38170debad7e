"""Rule 11, disks: a leader whose disk stands still or is full, and what becomes of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    assert_nothing_lost,
    more_rows,
    start_writer,
    table_of,
)
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode

HEALTH_SECONDS = 60.0  # until a leader that stands still is replaced; it gives up after about 6


class Mounted:
    """A directory of a stopped node on a file system of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._real = directory.with_name(directory.name + ".real")
        self._process: subprocess.Popen[bytes] | None = None
        directory.rename(self._real)
        directory.mkdir(mode=0o700)
        owner = self._real.stat()
        os.chown(directory, owner.st_uid, owner.st_gid)

    def through_fuse(self) -> Mounted:
        """Every access passes through one process, which can be stopped."""
        command = ["bindfs", "-f", "-o", "allow_other", str(self._real), str(self.directory)]
        self._process = subprocess.Popen(command)
        wait_for(lambda: os.path.ismount(self.directory), 30, "the mount")
        return self

    def in_memory(self, megabytes: int) -> Mounted:
        """A small disk."""
        owner = self._real.stat()
        options = f"size={megabytes}m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "pgraft-test", str(self.directory)], check=True
        )
        subprocess.run(["cp", "-a", f"{self._real}/.", str(self.directory)], check=True)
        return self

    def fill(self) -> None:
        with contextlib.suppress(OSError), open(self.directory / "filler", "wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    def make_room(self) -> None:
        (self.directory / "filler").unlink()

    def hang(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.go_on()
        subprocess.run(["umount", "--lazy", str(self.directory)], check=False)
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)


needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
needs_fuse = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists() or shutil.which("bindfs") is None,
    reason="needs root, /dev/fuse and bindfs",
)


@contextlib.contextmanager
def leader_on(cluster: LocalCluster, what: str, how: str) -> Iterator[tuple[LocalNode, Mounted]]:
    """A leader with its WAL ("wal") or Raft's state ("raft") on a file system of its own."""
    node = cluster.node(3)
    cluster.stop(node.id)
    directory = node.paths.pgdata / "pg_wal" if what == "wal" else node.paths.data_dir
    mounted = Mounted(directory)
    try:
        if how == "fuse":
            mounted.through_fuse()
        else:
            mounted.in_memory(160 if what == "wal" else 64)
        node.start()
        cluster.wait_for_standby(node.id, REJOIN_SECONDS)

        def leads() -> bool:
            if cluster.leader().id == node.id:
                return True
            with cluster.connect() as connection:
                connection.execute("SELECT pgraft_transfer_leadership(%s)", [node.id])
            return False

        wait_for(leads, FAILOVER_SECONDS, "the node to lead")
        for other in cluster.nodes.values():
            if other is not node:
                cluster.wait_for_standby(other.id, REJOIN_SECONDS)
        yield node, mounted
    finally:
        mounted.go_on()
        node.stop(immediate=True)
        mounted.close()


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
