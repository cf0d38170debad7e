"""The operating system user that a data directory belongs to, and running programs as that user.

PostgreSQL refuses to run as root. A supervisor that was started as root (in a container, say) stays
root itself, since the Python interpreter may not be readable for that user, and starts every
PostgreSQL program as the owner of the data directory; files that it writes are given to the owner.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgraft.errors import ProgramError, SetupError

DEFAULT_USER = "postgres"
_TERMINATE_SECONDS = 10.0
_OUTPUT_CHARS = 4000


@dataclass(frozen=True)
class Owner:
    """A user that PostgreSQL runs as."""

    uid: int
    gid: int
    name: str
    home: str
    groups: tuple[int, ...]
    switch: bool
    """True: this process is root and has to change to that user for PostgreSQL's programs."""
    inherited: tuple[int, ...] = ()
    """Descriptors that every program inherits (see exclusive.py)."""

    @classmethod
    def _of_uid(cls, uid: int) -> Owner:
        entry = pwd.getpwuid(uid)
        groups = tuple(g.gr_gid for g in grp.getgrall() if entry.pw_name in g.gr_mem)
        return cls(uid, entry.pw_gid, entry.pw_name, entry.pw_dir, groups, switch=os.geteuid() == 0)

    @classmethod
    def of_directory(cls, directory: Path) -> Owner:
        """The owner of an existing data directory.

        Raises:
            SetupError: It belongs to root, or to somebody else than this unprivileged process.
        """
        uid = directory.stat().st_uid
        if uid == 0:
            raise SetupError(
                f'directory "{directory}" belongs to root, and PostgreSQL refuses to run as root; '
                f"give it to the user that runs the server (chown -R {DEFAULT_USER})"
            )
        if os.geteuid() not in (0, uid):
            raise SetupError(
                f'directory "{directory}" belongs to user {uid}; run this as that user or as root'
            )
        return cls._of_uid(uid)

    @classmethod
    def for_new_directory(cls, user: str | None = None) -> Owner:
        """Who a new data directory will belong to.

        Args:
            user: Name of the user; default: the current one, or `postgres` for root.

        Raises:
            SetupError: There is no such user.
        """
        if os.geteuid() != 0:
            return cls._of_uid(os.geteuid())
        try:
            return cls._of_uid(pwd.getpwnam(user or DEFAULT_USER).pw_uid)
        except KeyError:
            raise SetupError(
                f'user "{user or DEFAULT_USER}" does not exist; PostgreSQL can\'t run as root'
            ) from None

    def give(self, path: Path) -> None:
        """Makes `path` (and, for a directory, all in it) belong to this user."""
        if not self.switch:
            return
        os.chown(path, self.uid, self.gid, follow_symlinks=False)
        if path.is_dir() and not path.is_symlink():
            for root, directories, files in os.walk(path):
                for name in [*directories, *files]:
                    os.chown(Path(root, name), self.uid, self.gid, follow_symlinks=False)

    def make_directory(self, path: Path) -> None:
        """Creates `path`, private to this user, unless it exists."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        self.give(path)

    @contextlib.contextmanager
    def temporary_directory(self) -> Any:
        """A private directory with a path short enough for a Unix-domain socket in it."""
        with tempfile.TemporaryDirectory(prefix="pgraft-", dir="/tmp") as name:
            self.give(Path(name))
            yield Path(name)

    def popen_arguments(self) -> dict[str, Any]:
        """Arguments of `subprocess.Popen` that make the child run as this user."""
        environment = dict(os.environ, LC_MESSAGES="C", PWD="/")
        environment.pop("LC_ALL", None)
        arguments: dict[str, Any] = {"cwd": "/", "env": environment, "pass_fds": self.inherited}
        if self.switch:
            environment.update(HOME=self.home, USER=self.name, LOGNAME=self.name)
            arguments.update(user=self.uid, group=self.gid, extra_groups=list(self.groups))
        return arguments

    def run(
        self,
        command: Sequence[str | Path],
        *,
        timeout: float | None = None,
        environment: Mapping[str, str] | None = None,
        check: bool = True,
        on_line: Callable[[str], bool] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end and collects what it says.

        However this is left, nothing that the program started keeps running: it has a process
        group of its own, which is ended as a whole (pg_basebackup has a child that receives the
        WAL).

        Args:
            command: Program and arguments.
            timeout: Seconds until it is ended.
            environment: Additions to the environment.
            check: Raise unless the exit status is 0.
            on_line: Gets each line when it is written; those for which it returns True are not
                collected. Not together with a timeout.

        Raises:
            ProgramError: It failed, or did not finish in time.
        """
        arguments = self.popen_arguments()
        arguments["env"].update(environment or {})
        name = Path(command[0]).name
        with subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            **arguments,
        ) as process:
            try:
                if on_line is None:
                    output, _ = process.communicate(timeout=timeout)
                else:
                    output = _read_lines(process, on_line)
            except subprocess.TimeoutExpired:
                end_group(process)
                raise ProgramError(name, -signal.SIGTERM, f"no end after {timeout} s") from None
            except BaseException:
                end_group(process)
                raise
        if check and process.returncode != 0:
            raise ProgramError(name, process.returncode, output[-_OUTPUT_CHARS:])
        return subprocess.CompletedProcess(process.args, process.returncode, output, "")


def _read_lines(process: subprocess.Popen[str], on_line: Callable[[str], bool]) -> str:
    """Until everybody who has the other end of the pipe is gone."""
    assert process.stdout is not None
    kept = [line for line in process.stdout if not on_line(line)]
    process.wait()
    return "".join(kept)


def end_group(process: subprocess.Popen[Any], seconds: float = _TERMINATE_SECONDS) -> None:
    """Ends the process group of a child that was started in its own session, gently at first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        process.stdout.close()
