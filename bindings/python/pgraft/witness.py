"""Watches that two servers never acknowledge writes as primaries at the same time.

One client a server, which tries to write there and nowhere else, all the time. Every row carries
the node and the Raft term that the server itself filled in. Afterwards two things must hold: a term
acknowledged on one node only, and nothing was acknowledged in a term once a row of a later
one had been.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pgraft_witness (
    node int NOT NULL DEFAULT current_setting('pgraft.node_id')::int,
    term bigint NOT NULL DEFAULT pgraft_get_term()
)
"""
_INSERT = "INSERT INTO pgraft_witness DEFAULT VALUES RETURNING node, term"
_PAUSE_SECONDS = 0.03


@dataclass(frozen=True)
class Acknowledgement:
    """A row that a server acknowledged. Times are of `time.monotonic`."""

    node: int
    term: int
    began: float
    """When it was sent: it was not acknowledged before that."""
    ended: float
    """When the answer was there: it was acknowledged by then."""


def two_primaries(acknowledged: Iterable[Acknowledgement]) -> list[str]:
    """What speaks for two primaries that acknowledged at the same time; empty: nothing."""
    found = []
    node_of: dict[int, int] = {}
    newest: Acknowledgement | None = None  # the first to end of those with the greatest term so far
    rows = list(acknowledged)
    for row in rows:
        first = node_of.setdefault(row.term, row.node)
        if first != row.node:
            found.append(f"nodes {first} and {row.node} both acknowledged in term {row.term}")
    # Each row against the greatest term that had ended when it began.
    starts = sorted(rows, key=lambda row: row.began)
    ends = sorted(rows, key=lambda row: row.ended)
    i = 0
    for row in starts:
        while i < len(ends) and ends[i].ended < row.began:
            if newest is None or ends[i].term > newest.term:
                newest = ends[i]
            i += 1
        if newest is not None and newest.term > row.term:
            late = row.began - newest.ended
            found.append(
                f"node {row.node} acknowledged in term {row.term} a row that was sent {late:.3f} s "
                f"after node {newest.node} had acknowledged one in term {newest.term}"
            )
    return list(dict.fromkeys(found))


class Witness:
    """The clients of all servers, each on a thread of its own.

    A commit on a server that is cut off waits there and can't be cancelled, so a thread may hang
    until its server stops; `stop` does not wait for such a thread.
    """

    def __init__(self, connect: Mapping[int, Callable[[], psycopg.Connection[Any]]]) -> None:
        """Nothing happens until `start`.

        Args:
            connect: For each node how to connect to its server, with autocommit.
        """
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._acknowledged: list[Acknowledgement] = []
        self._threads = [
            threading.Thread(target=self._run, args=(one,), name=f"witness-{node}", daemon=True)
            for node, one in connect.items()
        ]

    @staticmethod
    def create_table(connection: psycopg.Connection[Any]) -> None:
        """Creates the table that all witnesses use."""
        connection.execute(_SCHEMA)

    def start(self) -> Witness:
        """Starts writing."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self, timeout: float = 10.0) -> list[Acknowledgement]:
        """Stops writing and returns what was acknowledged."""
        self._stop.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:  # started
                thread.join(max(0.0, deadline - time.monotonic()))
        return self.acknowledged()

    def acknowledged(self) -> list[Acknowledgement]:
        """What was acknowledged until now."""
        with self._lock:
            return list(self._acknowledged)

    def _run(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(psycopg.Error), connect() as connection:
                self._write(connection)
            self._stop.wait(_PAUSE_SECONDS)

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute("SET log_min_messages = fatal")  # refusals are no news
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                row = connection.execute(_INSERT).fetchone()
            except psycopg.errors.ReadOnlySqlTransaction:
                row = None  # not the leader: the connection stays
            if row is not None:
                one = Acknowledgement(row[0], row[1], began, time.monotonic())
                with self._lock:
                    self._acknowledged.append(one)
            self._stop.wait(_PAUSE_SECONDS)
