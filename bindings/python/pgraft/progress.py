"""How far a rejoin is: kept in a file for `pgraft status`, and told to the leader.

The node's server is down meanwhile, so nobody could ask it. The file `progress` beside the Raft
state is for who looks on this machine. The leader sees it by the name of a session that is kept
there: "pgraft_rejoin <node> <phase> <bytes done>/<bytes in all>" (extension/rejoins.c). Neither is
needed for the rejoin: what fails here is left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from pgraft import _pgraft, processes
from pgraft.owner import Owner
from pgraft.paths import NodePaths

REPLAY = "replay"
REWIND = "rewind"
COPY = "copy"
FINISH = "finish"
PHASE_TEXTS = {
    REPLAY: "replaying local WAL",
    REWIND: "rewinding",
    COPY: "copying",
    FINISH: "finishing",
}
CATCHING_UP = "catching up"

# pg_rewind: " 1024/4096 kB (25%) copied"; pg_basebackup: "1024/4096 kB (25%), 0/1 tablespace"
_AMOUNT = re.compile(r"^ *(\d+)/(\d+) kB \(\d+%\)")
_NAME_BYTES = 63  # of application_name; the rest would be cut by the server
_SESSION = {"connect_timeout": "5", "tcp_user_timeout": "5000"}


@dataclass
class _State:
    """What the file holds; times are seconds since 1970."""

    pid: int
    started: str
    """When the process was, in the system's own unit: its number may be another's by now."""
    phase: str
    source_node: int
    source: str
    since: float
    phase_since: float
    bytes_done: int = 0
    bytes_total: int = 0


class Progress:
    """One rejoin, or one join, from its begin to its end."""

    def __init__(self, node_id: int, owner: Owner, paths: NodePaths | None) -> None:
        """Nothing is told yet.

        Args:
            node_id: Of this node.
            owner: Of its files.
            paths: Where the file belongs; None: the node has no directory for it yet.
        """
        self._node_id = node_id
        self._owner = owner
        self._path = paths.progress if paths else None
        self._presence = _Presence()
        pid = os.getpid()
        now = time.time()
        self._state = _State(pid, processes.started(pid), "", 0, "", now, now)

    def __enter__(self) -> Progress:
        """To be closed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is under way any more."""
        self._presence.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def source(self, node_id: int, host: str, port: int, conninfo: str) -> None:
        """Whom it is copied from now; node_id 0: not known."""
        self._state.source_node = node_id
        self._state.source = f"{host}:{port}"
        self._presence.of(conninfo)

    def phase(self, name: str) -> None:
        """Begins one of the phases above."""
        self._state.phase = name
        self._state.phase_since = time.time()
        self._state.bytes_done = self._state.bytes_total = 0
        self._tell()

    def take(self, line: str) -> bool:
        """A line that pg_rewind or pg_basebackup has written. True: it told of progress only."""
        found = _AMOUNT.match(line)
        if found is None:
            return False
        self._state.bytes_done = int(found.group(1)) * 1024
        self._state.bytes_total = int(found.group(2)) * 1024
        self._tell()
        return True

    def _tell(self) -> None:
        state = self._state
        self._presence.say(
            f"pgraft_rejoin {self._node_id} {state.phase} {state.bytes_done}/{state.bytes_total}"
        )
        if self._path is not None:
            with contextlib.suppress(OSError):
                temporary = self._path.with_name(self._path.name + ".tmp")
                temporary.write_text(json.dumps(asdict(state)), encoding="utf-8")
                self._owner.give(temporary)
                temporary.rename(self._path)


class _Presence:
    """A session on the leader whose name says what is done here. Never waits but for connecting."""

    def __init__(self) -> None:
        self._conninfo = ""
        self._said = ""
        self._connection: psycopg.Connection[Any] | None = None

    def of(self, conninfo: str) -> None:
        """The leader's server; a session that is there already stays."""
        if conninfo != self._conninfo:
            self.close()
            self._conninfo = conninfo

    def say(self, name: str) -> None:
        """Names the session so. While the last name is on its way this one is left out."""
        if len(name) > _NAME_BYTES or not self._conninfo:
            return
        same_phase = name.split()[:3] == self._said.split()[:3]
        try:
            if self._connection is not None:
                self._rename(self._connection, name)
            elif not same_phase:  # one that broke is tried again, but not for each amount
                arguments = {**_SESSION, "application_name": name}
                self._connection = psycopg.connect(
                    make_conninfo(self._conninfo, **arguments), autocommit=True
                )
                self._connection.pgconn.nonblocking = 1
        except psycopg.Error:
            self.close()
        self._said = name

    @staticmethod
    def _rename(connection: psycopg.Connection[Any], name: str) -> None:
        pgconn = connection.pgconn
        pgconn.flush()
        pgconn.consume_input()
        while not pgconn.is_busy():
            if pgconn.get_result() is None:
                pgconn.send_query(f"SET application_name = '{name}'".encode())
                pgconn.flush()
                return

    def close(self) -> None:
        """Ends the session."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
        self._said = ""


def local_rejoin(paths: NodePaths) -> dict[str, Any] | None:
    """What the files of a node on this machine say of its rejoin; None: there is none.

    `state`: "requested", "working", "catching_up". `phase` to `pid` are of a process that works on
    it at the moment, and None while there is none. Times are seconds since 1970.

    Raises:
        Error: The rejoin file is damaged.
        OSError: The files can't be read.
    """
    try:
        rejoin = _pgraft.read_rejoin(str(paths.data_dir))
    except _pgraft.NotFound:
        return None
    state = _read_state(paths.progress)
    source = f"{rejoin.source_host}:{rejoin.source_port}" if rejoin.source_host else None
    return {
        "node_id": _pgraft.read_identity(str(paths.data_dir)).node_id,
        "state": rejoin.state.name.lower(),
        "mode": rejoin.mode.name.lower(),
        "reason": rejoin.reason,
        "source_node": (state.source_node if state else rejoin.source_node) or None,
        "source": (state.source if state else source) or None,
        "phase": state.phase if state else None,
        "bytes_done": state.bytes_done if state and state.bytes_total else None,
        "bytes_total": state.bytes_total if state and state.bytes_total else None,
        "since": state.since if state else None,
        "phase_since": state.phase_since if state else None,
        "pid": state.pid if state else None,
    }


def _read_state(path: Path) -> _State | None:
    """None: nobody is at work, whatever a killed one has left."""
    try:
        state = _State(**json.loads(path.read_text(encoding="utf-8")))
        alive = processes.started(state.pid) == state.started
    except (OSError, ValueError, TypeError):
        return None
    return state if alive else None
