"""One `prepare` at a time for a node, and nothing left running of one that was killed.

Every program that `prepare` starts inherits the lock file. After a kill -9 of `prepare` they go on:
pg_rewind, pg_basebackup and its child, the server that replays. They would write into what the
next attempt works on; whoever still holds the file open is exactly one of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pgraft import processes
from pgraft.errors import SetupError
from pgraft.paths import NodePaths

Log = Callable[[str], None]
_TERMINATE_SECONDS = 10.0
_POLL_SECONDS = 0.02


@contextlib.contextmanager
def exclusive(paths: NodePaths, log: Log) -> Iterator[int]:
    """Holds the lock; gives the descriptor that the programs have to inherit.

    Raises:
        SetupError: Another `prepare` is at work.
    """
    path = paths.prepare_lock
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        if not _lock(descriptor):
            _end_holders(path, descriptor, log)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_holders(path: Path, descriptor: int, log: Log) -> None:
    """Ends the programs of a `prepare` that is gone, gently at first, until the lock is free."""
    text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    begun = time.monotonic()
    told = False
    while not _lock(descriptor):
        pids = _holders(path)
        if text.isdigit() and int(text) in pids:
            raise SetupError(
                f'another "pgraft prepare" or "pgraft run" (process {text}) prepares the data '
                "directory; wait for its end or stop it"
            )
        if not told and pids:
            log(f"ending what an earlier attempt has left running (processes {pids})")
            told = True
        late = time.monotonic() - begun
        if late > 2 * _TERMINATE_SECONDS:
            raise SetupError(f'"{path}" is held by processes that can\'t be ended: {pids}')
        processes.send(pids, signal.SIGKILL if late > _TERMINATE_SECONDS else signal.SIGTERM)
        processes.send(pids, signal.SIGCONT)  # one that was stopped would take no other
        time.sleep(_POLL_SECONDS)


def _holders(path: Path) -> list[int]:
    """All other processes that have the file open."""
    wanted = path.stat()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for link in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.path.samestat(link.stat(), wanted):
                        found.append(int(entry.name))
                        break
    return found
