"""The lock that says whether a `pgraft run` keeps a node's server running."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pgraft.errors import SetupError
from pgraft.paths import NodePaths


def supervised_by(lock_file: Path) -> int | None:
    """Process id of the `pgraft run` that holds the lock file; None: none does.

    The lock itself is not tried: a `pgraft run` that starts at that moment would be refused.
    """
    try:
        pid = int(lock_file.read_text(encoding="utf-8").split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if _has_open(pid, lock_file) else None


def _has_open(pid: int, path: Path) -> bool:
    """Has the process, be it another of that number, the file open?"""
    try:
        wanted = path.stat()
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.path.samestat(descriptor.stat(), wanted):
                return True
    return False


@contextlib.contextmanager
def unsupervised(paths: NodePaths) -> Iterator[None]:
    """Keeps `pgraft run` from starting meanwhile.

    Raises:
        SetupError: One runs.
    """
    if not paths.data_dir.is_dir():
        raise SetupError(
            f'"{paths.data_dir}" does not exist; give the directories of a node with -D and '
            "--data-dir"
        )
    descriptor = os.open(paths.run_pid, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = supervised_by(paths.run_pid)
            raise SetupError(
                f'"pgraft run" (process {other or "?"}) runs the server in "{paths.pgdata}"; stop '
                "it first: by SIGTERM, or systemctl stop"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
