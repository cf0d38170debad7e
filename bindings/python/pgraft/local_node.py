"""One server of a local cluster: its processes, started and ended by exact process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pgraft
from pgraft import processes
from pgraft.config import NodeSettings
from pgraft.paths import NodePaths
from pgraft.status import RaftAddress

_KILL_SECONDS = 20.0


@dataclass(eq=False)
class LocalNode:
    """A member of a local cluster."""

    id: int
    paths: NodePaths
    settings: NodeSettings
    host: str
    socket_dir: Path
    log_file: Path
    bindir: Path | None = None
    command_prefix: list[str] = field(default_factory=list)
    """For running in a network namespace."""
    process: subprocess.Popen[bytes] | None = None
    """The supervisor; None: stopped."""
    left: list[int] = field(default_factory=list)
    """Processes of a server that was killed, which may still be there."""

    @property
    def port(self) -> int:
        """Of the PostgreSQL server."""
        return self.settings.port

    @property
    def raft(self) -> RaftAddress:
        """Of the Raft port."""
        return RaftAddress(self.host, self.settings.raft_port)

    def __repr__(self) -> str:
        """Short, for failed assertions."""
        return f"<node {self.id} port={self.port} raft={self.raft} pid={self.postmaster()}>"

    def postmaster(self) -> int | None:
        """Process id of the running server."""
        try:
            pid = int(self.paths.postmaster_pid.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None
        return pid if processes.alive(pid) else None

    def start(self) -> None:
        """Starts the supervisor, and so the server; returns at once."""
        if self.process is not None:
            return
        self._end_left()
        command = [
            *self.command_prefix,
            sys.executable, "-m", "pgraft", "run",
            "-D", str(self.paths.pgdata),
            "--data-dir", str(self.paths.data_dir),
            "--log-file", str(self.log_file),
            "--stop-on-eof",
        ]  # fmt: skip
        if self.bindir is not None:
            command += ["--bindir", str(self.bindir)]
        packages = str(Path(pgraft.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")]))
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # its end, when this process is gone, stops the supervisor
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )

    def tree(self) -> list[int]:
        """The supervisor and all processes below, parents first."""
        return processes.descendants(self.process.pid) if self.process else []

    def stop(self, *, immediate: bool = False, timeout: float = 60.0) -> None:
        """Stops the server in order (or at once) and waits for its end."""
        if self.process is None:
            return
        tree = self.tree()
        processes.send(tree, signal.SIGCONT)
        processes.send([self.process.pid], signal.SIGTERM)
        if immediate:
            processes.send([self.process.pid], signal.SIGINT)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill("all")
            return
        self._forget(tree)

    def kill(self, what: str = "postmaster") -> None:
        """Kill -9, so that the node stays down until it is started again.

        Args:
            what: "postmaster" (its children notice and end by themselves) or "all" processes at
            once,
                as when the machine loses its power.
        """
        if self.process is None:
            return
        processes.send([self.process.pid], signal.SIGSTOP)  # it must not see the server die
        tree = self.tree()
        postmaster = self.postmaster()
        victims = [postmaster] if what == "postmaster" and postmaster else tree[1:]
        processes.send(victims, signal.SIGKILL)
        processes.send([self.process.pid], signal.SIGKILL)
        self.process.wait()
        self._forget(tree)

    def kill_server(self) -> None:
        """Kill -9 of the postmaster alone: its supervisor starts it again."""
        postmaster = self.postmaster()
        if postmaster:
            processes.send([postmaster], signal.SIGKILL)

    def kill_supervisor(self) -> None:
        """Kill -9 of the supervisor, which takes the server with it; both stay down."""
        if self.process is None:
            return
        tree = self.tree()
        processes.send([self.process.pid], signal.SIGKILL)
        self.process.wait()
        self._forget(tree)

    def wipe(self) -> None:
        """Removes the data and the Raft state of a node that is down; its log stays."""
        self._end_left()
        for path in self.log_file.parent.iterdir():
            if path != self.log_file:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def pause(self) -> None:
        """Stops all its processes where they are: a machine that hangs."""
        processes.send(self.tree(), signal.SIGSTOP)

    def resume(self) -> None:
        """Lets them go on."""
        processes.send(self.tree(), signal.SIGCONT)

    def close(self) -> None:
        """Ends everything, whatever state it is in."""
        if self.process is not None:
            self.stop(immediate=True, timeout=_KILL_SECONDS)
        self._end_left()

    def log_tail(self, lines: int = 40) -> str:
        """The end of the log."""
        try:
            text = self.log_file.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _forget(self, tree: list[int]) -> None:
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        self.process = None
        self.left = [pid for pid in tree if processes.exists(pid)]

    def _end_left(self) -> None:
        """Children of a killed postmaster end by themselves, but for one that is stuck."""
        begun = time.monotonic()
        while self.left and time.monotonic() < begun + _KILL_SECONDS:
            living = [pid for pid in self.left if processes.alive(pid)]
            if time.monotonic() > begun + _KILL_SECONDS / 4:
                processes.send(living, signal.SIGKILL)
            self.left = [pid for pid in self.left if processes.exists(pid)]
            time.sleep(0.01)
        self.left = []
