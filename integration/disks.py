"""Disks for the tests: a node's directory on a file system of its own, which then fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import REJOIN_SECONDS, hand_over
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode


class Mounted:
    """A directory of a stopped node on a file system of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._real = directory.with_name(directory.name + ".real")
        self._process: subprocess.Popen[bytes] | None = None
        self._image: Path | None = None
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

    def on_ext4(self, megabytes: int) -> Mounted:
        """A file system that turns read-only at its first error, as disks in trouble do."""
        self._image = self._real.with_name(self._real.name + ".image")
        with open(self._image, "wb") as image:
            image.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], check=True)
        self._mount_image()
        owner = self._real.stat()
        subprocess.run(["cp", "-a", f"{self._real}/.", str(self.directory)], check=True)
        os.chown(self.directory, owner.st_uid, owner.st_gid)
        self.directory.chmod(0o700)
        (self.directory / "lost+found").rmdir()
        subprocess.run(["sync", "-f", str(self.directory)], check=True)
        return self

    def _mount_image(self) -> None:
        options = "loop,errors=remount-ro"
        command = ["mount", "-t", "ext4", "-o", options, str(self._image), str(self.directory)]
        subprocess.run(command, check=True)

    def turn_read_only(self) -> None:
        """At once, whoever has files open for writing."""
        found = subprocess.run(
            ["findmnt", "-no", "SOURCE", str(self.directory)],
            check=True,
            capture_output=True,
            text=True,
        )
        device = Path(found.stdout.strip()).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("test")

    def mend(self) -> None:
        """Makes it writable again; nobody may use it meanwhile."""
        assert self._image is not None
        subprocess.run(["umount", str(self.directory)], check=True)
        # A copy: who has begun a mount namespace meanwhile keeps the old one mounted, as it is.
        mended = self._image.with_suffix(".mended")
        subprocess.run(["cp", "--sparse=always", str(self._image), str(mended)], check=True)
        check = ["e2fsck", "-fy", str(mended)]
        checked = subprocess.run(check, check=False, stdout=subprocess.DEVNULL)
        assert checked.returncode in (0, 1), "1: errors were corrected"
        self._image = mended
        self._mount_image()

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

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Every access may take this long."""
        done = threading.Event()

        def stutter() -> None:
            while not done.is_set():
                self.hang()
                done.wait(seconds)
                self.go_on()
                done.wait(seconds / 4)

        thread = threading.Thread(target=stutter, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def close(self) -> None:
        self.go_on()
        subprocess.run(["umount", "--lazy", str(self.directory)], check=False)
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)


needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
needs_ext4 = pytest.mark.skipif(
    os.geteuid() != 0
    or not Path("/dev/loop-control").exists()
    or not Path("/sys/fs/ext4").exists()
    or shutil.which("mkfs.ext4") is None,
    reason="needs root, loop devices and ext4",
)
needs_fuse = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists() or shutil.which("bindfs") is None,
    reason="needs root, /dev/fuse and bindfs",
)


@contextlib.contextmanager
def leader_on(cluster: LocalCluster, what: str, how: str) -> Iterator[tuple[LocalNode, Mounted]]:
    """A leader with something on a file system of its own.

    Args:
        cluster: Its node 3 becomes the leader.
        what: "wal", "raft" (Raft's state) or "data" (the data directory).
        how: "fuse" (can be stopped), "memory" (small), "ext4" (can turn read-only).
    """
    node = cluster.node(3)
    cluster.stop(node.id)
    directories = {
        "wal": node.paths.pgdata / "pg_wal",
        "raft": node.paths.data_dir,
        "data": node.paths.pgdata,
    }
    mounted = Mounted(directories[what])
    try:
        if how == "fuse":
            mounted.through_fuse()
        elif how == "ext4":
            mounted.on_ext4(512)
        else:
            mounted.in_memory(160 if what == "wal" else 64)
        node.start()
        cluster.wait_for_standby(node.id, REJOIN_SECONDS)
        hand_over(cluster, cluster.leader(), node.id)
        for other in cluster.nodes.values():
            if other is not node:
                cluster.wait_for_standby(other.id, REJOIN_SECONDS)
        yield node, mounted
    finally:
        mounted.go_on()
        node.stop(immediate=True)
        mounted.close()
