"""Process trees, read from /proc; for ending and pausing exactly what a local cluster started."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """A process and all below it, parents first; empty when it is gone."""
    parents = _parents()
    if pid not in parents:
        return []
    found = [pid]
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found


def alive(pid: int) -> bool:
    """Does the process exist, and is no zombie?"""
    try:
        return _stat(pid)[0] not in ("Z", "X")
    except OSError:
        return False


def started(pid: int) -> str:
    """When it was, in the system's own unit: with it a number names one process for ever.

    Raises:
        OSError: There is no such process.
    """
    return _stat(pid)[19]


def exists(pid: int) -> bool:
    """Is the process there, be it as a zombie? A server's lock file counts those too."""
    return Path(f"/proc/{pid}").exists()


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Sends a signal to each that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on (the name before may hold anything)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parents() -> dict[int, int]:
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry)] = int(_stat(int(entry))[1])
    return parents
