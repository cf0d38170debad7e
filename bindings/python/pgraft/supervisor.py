"""`pgraft run`: keeps a member's server running, and prepares its directory before every start.

An extension can't restart its own postmaster. When a member has to become a standby again, or has
to be rewound, it stops its server, and this process starts it again. Server and supervisor live
and die together: a supervisor that is killed takes its server with it (SIGQUIT through
PR_SET_PDEATHSIG, which survives the change of user because it is set after it), since an
unsupervised member could not come back. Where something starts the supervisor again at once
(systemd), the server is better left running, and the next supervisor adopts it: `keep_server`.

The supervisor is a child subreaper: processes that a killed postmaster leaves behind become its
children. They hold the old shared memory, so they are ended before the next start.

One thread; signals arrive as bytes on a pipe. During `prepare` SIGTERM and SIGINT unwind it
instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from pgraft import processes
from pgraft.clone import remove_retired
from pgraft.config import read_node_conf
from pgraft.errors import Error, ProgramError, SetupError, StopRequested
from pgraft.layout import environment
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres
from pgraft.prepare import Outcome, log_to_stderr, prepare, running_server
from pgraft.service_manager import LogFormat, ServiceManager, log_as_json

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_BACKOFF_MIN = 0.1
_BACKOFF_MAX = 5.0
_STABLE_SECONDS = 10.0
_ORPHAN_SECONDS = 5.0
_HOUSEKEEPING_SECONDS = 5.0
_MAX_QUICK_REJOINS = 3


@dataclass(frozen=True)
class RunOptions:
    """How to run a member."""

    server_arguments: Sequence[str] = ()
    log_file: Path | None = None
    """Where the server's log goes (with its supervisor's); default: standard error."""
    leader_timeout: float = 60.0
    """Seconds that one attempt of `prepare` looks for a leader."""
    bindir: Path | None = None
    stop_on_eof: bool = False
    """Stop when standard input ends: whoever started this is gone."""
    keep_server: bool = False
    """A supervisor that is killed leaves its server running; the next one adopts it."""
    log_format: LogFormat = LogFormat.TEXT


class Supervisor:
    """Runs one member until it is told to stop."""

    def __init__(self, paths: NodePaths, options: RunOptions) -> None:
        """Args are kept; nothing is started yet."""
        self._paths = paths
        self._options = options
        self._server: subprocess.Popen[bytes] | None = None
        self._stop_signals = 0
        self._interruptible = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        self._watch_stdin = options.stop_on_eof
        self._adopted: int | None = None  # a server that this process did not start
        self._log = log_as_json if options.log_format is LogFormat.JSON else log_to_stderr
        self._manager = ServiceManager()

    def run(self) -> int:
        """Runs until asked to stop.

        Returns:
            The exit status for the process: the server's at its last stop.

        Raises:
            SetupError: The node is not set up, or another supervisor has it.
        """
        read_node_conf(self._paths)
        with self._lock(), self._signals():
            set_child_subreaper()
            # Ready to look after the server: a clone, and a recovery, may take hours.
            self._manager.notify("READY=1")
            return self._loop()

    # --- the loop ---

    def _loop(self) -> int:
        delay = 0.0
        quick_rejoins = 0
        status = 0
        while not self._stop_signals:
            if delay:
                self._say(f"starting again in {delay:.1f} s")
                self._wait_for_events(delay)
                if self._stop_signals:
                    break
            if (running := running_server(self._paths)) is not None:
                self._watch_over(running)
                continue
            try:
                self._manager.notify("STATUS=preparing the data directory")
                outcome = self._prepare()
            except StopRequested:
                break
            except (Error, OSError) as error:
                self._say(f"could not prepare the data directory: {error}")
                delay = _next_delay(delay)
                status = 1
                continue
            started = time.monotonic()
            status = self._run_server()
            if self._stop_signals:
                break
            lived = time.monotonic() - started
            self._log(f"the server has stopped ({_describe(status)}) after {lived:.1f} s")
            quick_rejoins = quick_rejoins + 1 if outcome is not Outcome.NOTHING else 0
            asked = (self._paths.data_dir / "rejoin").exists()
            if lived >= _STABLE_SECONDS or (asked and quick_rejoins < _MAX_QUICK_REJOINS):
                delay = 0.0
            else:
                delay = _next_delay(delay)
        return status if status >= 0 else 128 - status

    def _prepare(self) -> Outcome:
        self._interruptible = True
        try:
            if self._stop_signals:
                raise StopRequested
            return prepare(
                self._paths,
                timeout=self._options.leader_timeout,
                bindir=self._options.bindir,
                log=self._log,
            )
        finally:
            self._interruptible = False

    def _run_server(self) -> int:
        owner = Owner.of_directory(self._paths.pgdata)
        postgres = Postgres.find(bindir=self._options.bindir, pgdata=self._paths.pgdata)
        command = [str(postgres.program("postgres")), "-D", str(self._paths.conf_dir)]
        command += self._options.server_arguments
        arguments = owner.popen_arguments()
        if self._paths.outside is not None:
            arguments["env"].update(environment(self._paths.outside))
        with contextlib.ExitStack() as stack:
            out: BinaryIO | None = None
            if self._options.log_file is not None:
                out = stack.enter_context(open(self._options.log_file, "ab"))
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # a terminal's Ctrl-C is for the supervisor only
                # This process has one thread.
                preexec_fn=None if self._options.keep_server else die_with_parent,  # noqa: PLW1509
                **arguments,
            )
        self._manager.notify(f"STATUS=the server runs (process {self._server.pid})")
        try:
            if self._stop_signals:
                self._forward_stop()
            while self._server.poll() is None:
                self._wait_for_events(_HOUSEKEEPING_SECONDS)
                self._housekeeping()
            return self._server.returncode
        finally:
            self._server = None
            end_orphans(self._log)

    def _watch_over(self, pid: int) -> None:
        """Adopts a server that runs already, until it ends: it is no child, so it tells no status.

        An earlier supervisor that was killed has left it, or is just taking it with it.
        """
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        self._say(f"a server (process {pid}) runs already, watching over it")
        self._adopted = pid
        try:
            if self._stop_signals:
                self._forward_stop()
            while not select.select([descriptor], [], [], 0)[0]:
                self._wait_for_events(_HOUSEKEEPING_SECONDS, descriptor)
                self._housekeeping()
        finally:
            self._adopted = None
            os.close(descriptor)
        self._log(f"the server (process {pid}) has stopped")

    def _say(self, message: str) -> None:
        """To the log and to the service manager."""
        self._log(message)
        self._manager.notify(f"STATUS={message}")

    def _housekeeping(self) -> None:
        """Once the node has caught up, what a rewind or clone put aside is not needed any more."""
        if not (self._paths.data_dir / "rejoin").exists():
            try:
                remove_retired(self._paths, self._log)
            except OSError as error:
                self._log(f"could not remove what was put aside: {error}")

    # --- signals ---

    def _wait_for_events(self, seconds: float, *descriptors: int) -> None:
        """Sleeps until a signal, the end of standard input or of a process, or `seconds` later."""
        watched = [self._wake_read, *descriptors, *([0] if self._watch_stdin else [])]
        ready, _, _ = select.select(watched, [], [], seconds)
        if 0 in ready and not os.read(0, 4096):
            self._watch_stdin = False
            self._log("whoever started this is gone, stopping")
            self._request_stop()
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: self._on_hup,
            signal.SIGCHLD: lambda *_: None,  # wakes the loop
        }
        old_fd = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, previous in old.items():
                signal.signal(number, previous)
            signal.set_wakeup_fd(old_fd)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._request_stop()
        if self._interruptible:
            raise StopRequested

    def _request_stop(self) -> None:
        self._stop_signals += 1
        self._manager.notify("STOPPING=1", "STATUS=stopping the server")
        self._forward_stop()

    def _on_hup(self, _number: int, _frame: FrameType | None) -> None:
        self._send(signal.SIGHUP)

    def _forward_stop(self) -> None:
        """First a fast stop; asked again, an immediate one."""
        self._send(signal.SIGINT if self._stop_signals == 1 else signal.SIGQUIT)

    def _send(self, number: int) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(number)
        elif self._adopted is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._adopted, number)

    # --- one supervisor a node ---

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        path = self._paths.run_pid
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                other = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
                raise SetupError(
                    f'another "pgraft run" (process {other}) runs the server in '
                    f'"{self._paths.pgdata}"'
                ) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)


def set_child_subreaper() -> None:
    """Orphaned descendants become children of this process instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """For `preexec_fn`: SIGQUIT, an immediate stop for a server, when the parent is gone."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def children() -> list[int]:
    """Processes whose parent is this one."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def end_orphans(log: Callable[[str], None]) -> None:
    """Ends and reaps what a dead postmaster left behind; it holds the old shared memory."""
    deadline = time.monotonic() + _ORPHAN_SECONDS
    number = signal.SIGQUIT
    told = False
    while pids := _reap():
        if not told:
            log(f"ending {len(pids)} processes that the server left behind")
            told = True
        if time.monotonic() >= deadline:
            number = signal.SIGKILL
        processes.send(pids, number)
        processes.send(pids, signal.SIGCONT)  # one that is stopped would take no other
        time.sleep(0.02)


def _reap() -> list[int]:
    """Collects the dead children and returns the living ones."""
    living = []
    for pid in children():
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                living.append(pid)
    return living


def _next_delay(delay: float) -> float:
    return min(max(delay * 2, _BACKOFF_MIN), _BACKOFF_MAX)


def _describe(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status}"


__all__ = [
    "ProgramError",
    "RunOptions",
    "Supervisor",
    "children",
    "die_with_parent",
    "end_orphans",
]
