"""The lock that says whether a `pgraft run` keeps a node going, or that it is being set up."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pgraft.errors import SetupError
from pgraft.owner import Owner
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
    with _locked(paths) as other:
        if other is not None:
            raise SetupError(
                f'"pgraft run" (process {other or "?"}) runs the server in "{paths.pgdata}"; stop '
                "it first: by SIGTERM, or systemctl stop"
            )
        yield


@contextlib.contextmanager
def being_set_up(paths: NodePaths, owner: Owner) -> Iterator[None]:
    """Keeps a second `pgraft join`, or `pgraft run`, from the node's directories meanwhile.

    Args:
        paths: Of the node; the directory of its Raft state is made.
        owner: Who it will belong to.

    Raises:
        SetupError: One is at work.
    """
    owner.make_directory(paths.data_dir)
    with _locked(paths) as other:
        if other is not None:
            raise SetupError(
                f'another "pgraft join", or "pgraft run", (process {other or "?"}) works on '
                f'"{paths.pgdata}"; wait for its end or stop it'
            )
        owner.give(paths.run_pid)
        yield


@contextlib.contextmanager
def _locked(paths: NodePaths) -> Iterator[int | None]:
    """Holds the lock; gives the process that has it instead (0: unknown)."""
    descriptor = os.open(paths.run_pid, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield supervised_by(paths.run_pid) or 0
            return
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield None
    finally:
        os.close(descriptor)
