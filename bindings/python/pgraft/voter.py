"""A member's vote while `prepare` rewinds or clones its data, or looks for a source (rule 9).

Raft runs in the server, and the server is down then. Where the others are no majority none of them
could be elected, and be that source (docs/PROTOCOL.md, M8h). So a process of its own takes part in
elections with the member's Raft state. It has no data: it reports only on which timelines the
member may have acknowledged (rule 3), and if it must lead, it hands over.

It is a child by fork alone: it runs as the owner of the Raft state, who may not be able to read the
interpreter (owner.py). It ends with the process that it was made by.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping

from pgraft import _pgraft
from pgraft.config import read_node_conf
from pgraft.errors import Error
from pgraft.owner import Owner
from pgraft.paths import NodePaths

Log = Callable[[str], None]
_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_RETRY_SECONDS = 1.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.01
_MS_PER_UNIT = {"us": 0.001, "": 1.0, "ms": 1.0, "s": 1000.0, "min": 60000.0, "h": 3600000.0}
_DURATION = re.compile(r"\s*([0-9.]+)\s*([a-z]*)\s*")
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def voting(paths: NodePaths, owner: Owner, log: Log) -> Iterator[None]:
    """The member votes meanwhile; the server must be down.

    It is gone at the end, since the server needs its files and its port. That it can't vote is
    logged, and no error.

    Args:
        paths: Of the node.
        owner: Of its Raft state, with the descriptors that it keeps (see exclusive.py).
        log: Where to say what goes wrong.
    """
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _vote_and_exit(paths, owner, log, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        _end(pid)


def _end(pid: int) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGTERM)
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)


def _vote_and_exit(paths: NodePaths, owner: Owner, log: Log, parent: int) -> None:
    """In the child; never returns. All signals that are waited for are blocked."""
    status = 1
    try:
        os.setsid()  # a terminal's Ctrl-C is for the parent
        _close_all_but({0, 1, 2, *owner.inherited})
        if owner.switch:
            os.setgroups(owner.groups)
            os.setgid(owner.gid)
            os.setuid(owner.uid)
        # After the change of user, which resets it.
        if _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl failed")
        if os.getppid() == parent:
            _vote(paths, log)
        status = 0
    except (Error, OSError, ValueError) as error:
        log(f"could not take part in elections meanwhile: {error}")
    finally:
        os._exit(status)


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # of the directory that was just read
                os.close(int(name))


def _vote(paths: NodePaths, log: Log) -> None:
    """Until one of the signals comes. What is in the way may pass: a port in use, a full disk."""
    told = False
    while True:
        try:
            node = _node(paths)
            node.start()
            break
        except Error as error:
            if not told:
                log(f"can't take part in elections meanwhile, trying again: {error}")
            told = True
            if signal.sigtimedwait(_STOP_SIGNALS, _RETRY_SECONDS) is not None:
                return
    signal.sigwait(_STOP_SIGNALS)
    node.stop()


def _node(paths: NodePaths) -> _pgraft.Node:
    identity = _pgraft.read_identity(str(paths.data_dir))
    conf = read_node_conf(paths)
    return _pgraft.Node(
        node_id=identity.node_id,
        data_dir=str(paths.data_dir),
        cluster_name=identity.cluster_name,
        system_identifier=identity.system_identifier,
        without_data=True,
        node_name=conf.get("pgraft.node_name", ""),
        listen_address=conf.get("pgraft.listen_address") or "0.0.0.0",
        listen_port=int(conf.get("pgraft.listen_port", "8001")),
        advertise_address=conf.get("pgraft.advertise_address", ""),
        heartbeat_interval=_seconds(conf, "pgraft.heartbeat_interval", 0.1),
        election_timeout=_seconds(conf, "pgraft.election_timeout", 1.0),
    )


def _seconds(conf: Mapping[str, str], name: str, default: float) -> float:
    """A duration as PostgreSQL understands it, in milliseconds when it has no unit."""
    found = _DURATION.fullmatch(conf.get(name, ""))
    if found is None or found.group(2) not in _MS_PER_UNIT:
        return default
    return float(found.group(1)) * _MS_PER_UNIT[found.group(2)] / 1000
