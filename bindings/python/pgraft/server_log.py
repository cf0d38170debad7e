"""The server's log: where it is, and which of its lines concern pgraft."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pgraft.errors import CommandError
from pgraft.paths import NodePaths
from pgraft.prepare import running_server
from pgraft.run_lock import supervised_by

_POLL_SECONDS = 0.2
_STANDARD_ERROR = 2
# What goes with the message before it, in the same process's lines.
_CONTINUED = re.compile(r"\b(DETAIL|HINT|CONTEXT|STATEMENT|QUERY|LOCATION):  ")


def find_log(paths: NodePaths) -> Path:
    """The file that this node's server logs to.

    Asked in this order: the logging collector's current file, where the standard error of the
    running server goes, where that of its supervisor goes.

    Raises:
        CommandError: There is none to be found, or the log is no file.
    """
    collector = _of_collector(paths)
    if collector is not None:
        return collector
    supervisor = supervised_by(paths.run_pid)
    elsewhere = ""
    for pid in (running_server(paths), supervisor):
        where = _standard_error(pid) if pid else None
        if where is not None and where.startswith("/") and not where.startswith("/dev/"):
            if os.path.isfile(where):
                return Path(where)
        elif where:
            elsewhere = where
    if elsewhere:
        raise CommandError(
            f"the server logs to no file, but to {elsewhere}",
            'With systemd: "journalctl -u" and the name of the service; in a container: its log. '
            "A file can be named with --file.",
        )
    raise CommandError(
        f'where the server in "{paths.pgdata}" logs can\'t be seen while it is down',
        "Name the file with --file (that of pgraft run --log-file).",
    )


def _of_collector(paths: NodePaths) -> Path | None:
    try:
        text = (paths.pgdata / "current_logfiles").read_text(encoding="utf-8")
    except OSError:
        return None
    files = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    name = files.get("stderr") or files.get("csvlog") or files.get("jsonlog")
    return paths.pgdata / name if name else None  # relative to the data directory, or absolute


def _standard_error(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/fd/{_STANDARD_ERROR}")
    except OSError:
        return None


class LogReader:
    """Reads the lines of a log that concern pgraft, from its end on."""

    def __init__(self, path: Path, *, every: bool = False) -> None:
        """Nothing is opened yet.

        Args:
            path: Of the log.
            every: All lines.
        """
        self._path = path
        self._every = every
        self._shown = False  # was the line before shown? its details are then, too
        self._position = 0
        self._inode = 0

    def newest(self, count: int) -> list[str]:
        """The last lines.

        Raises:
            CommandError: It can't be read.
        """
        try:
            with open(self._path, encoding="utf-8", errors="replace") as log:
                self._inode = os.fstat(log.fileno()).st_ino
                found = deque(self._chosen(log), maxlen=count)
                self._position = log.tell()
        except OSError as error:
            raise CommandError(
                f'log "{self._path}" can\'t be read: {error.strerror}',
                "Run this as the user of the server or as root, or name another file with --file.",
            ) from None
        return list(found)

    def follow(self) -> Iterator[str]:
        """New lines as they come, for ever; also from the file that takes its name's place."""
        while True:
            try:
                with open(self._path, encoding="utf-8", errors="replace") as log:
                    status = os.fstat(log.fileno())
                    if status.st_ino != self._inode or status.st_size < self._position:
                        self._inode, self._position = status.st_ino, 0
                    log.seek(self._position)
                    yield from self._chosen(log)
                    self._position = log.tell()
            except FileNotFoundError:
                pass  # it is being rotated
            time.sleep(_POLL_SECONDS)

    def _chosen(self, log: TextIO) -> Iterator[str]:
        while True:
            before = log.tell()
            line = log.readline()
            if not line.endswith("\n"):  # the rest of it comes later
                log.seek(before)
                return
            if self._every or self._concerns(line):
                yield line.rstrip("\n")

    def _concerns(self, line: str) -> bool:
        if line.startswith("\t") or _CONTINUED.search(line):
            return self._shown
        self._shown = "pgraft" in line.lower()
        return self._shown
