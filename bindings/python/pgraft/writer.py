"""A client that writes all the time, and remembers exactly what was acknowledged.

One row a transaction. A row whose COMMIT was answered is acknowledged; one whose connection died is
unknown: it may be there or not, and is neither counted as lost nor as found. A refused one is
neither.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import psycopg

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pgraft_writer (
    client int NOT NULL,
    seq bigint NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (client, seq)
)
"""
_RETRY_SECONDS = 0.01


@dataclass
class Record:
    """What one client knows about its rows. Times are of `time.monotonic`."""

    acknowledged: list[tuple[int, float]] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    refused: int = 0
    reconnects: int = 0

    def longest_gap(self, start: float = 0.0, end: float = float("inf")) -> float:
        """Seconds of the longest pause between two acknowledged rows that touches the span."""
        longest = 0.0
        for (_, before), (_, after) in pairwise(self.acknowledged):
            if start <= after and before <= end:
                longest = max(longest, after - before)
        return longest

    def first_after(self, moment: float) -> float | None:
        """When the first row after `moment` was acknowledged."""
        return next((when for _, when in self.acknowledged if when > moment), None)


class Writer:
    """One client on a thread of its own."""

    def __init__(
        self,
        dsn: str,
        client: int = 1,
        *,
        pause: float = 0.0,
        setup: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing happens until `start`.

        Args:
            dsn: Connection string, with all nodes and target_session_attrs=read-write.
            client: Tells its rows from those of others.
            pause: Seconds between two rows.
            setup: Called first on the thread (to enter a network namespace).
        """
        self._dsn = dsn
        self._client = client
        self._pause = pause
        self._setup = setup
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"writer-{client}", daemon=True)
        self._lock = threading.Lock()
        self._record = Record()
        self._seq = 0

    @staticmethod
    def create_table(connection: psycopg.Connection[tuple[object, ...]]) -> None:
        """Creates the table that all writers use."""
        connection.execute(_SCHEMA)

    def start(self) -> Writer:
        """Starts writing."""
        self._thread.start()
        return self

    def stop(self, timeout: float = 60.0) -> Record:
        """Stops writing and returns what is known."""
        self._stop.set()
        self._thread.join(timeout)
        return self.record()

    def __enter__(self) -> Writer:
        """Starts writing."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stops writing."""
        self.stop()

    @property
    def client(self) -> int:
        """Its number."""
        return self._client

    @property
    def count(self) -> int:
        """How many rows were acknowledged until now."""
        with self._lock:
            return len(self._record.acknowledged)

    def record(self) -> Record:
        """A copy of what is known until now."""
        with self._lock:
            known = self._record
            return Record(
                list(known.acknowledged), list(known.unknown), known.refused, known.reconnects
            )

    def _run(self) -> None:
        self._setup()
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    self._write(connection)
            except psycopg.Error:
                pass
            with self._lock:
                self._record.reconnects += 1
            self._stop.wait(_RETRY_SECONDS)

    def _write(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        while not self._stop.is_set():
            self._seq += 1
            try:
                connection.execute(
                    "INSERT INTO pgraft_writer (client, seq) VALUES (%s, %s)",
                    [self._client, self._seq],
                )
            except psycopg.Error as error:
                self._failed(connection, error)
                return
            with self._lock:
                self._record.acknowledged.append((self._seq, time.monotonic()))
            if self._pause:
                self._stop.wait(self._pause)

    def _failed(
        self, connection: psycopg.Connection[tuple[object, ...]], error: psycopg.Error
    ) -> None:
        """An error that the server reported and survived is a refusal; all else is unknown."""
        with self._lock:
            if error.sqlstate and not connection.broken:
                self._record.refused += 1
            else:
                self._record.unknown.append(self._seq)
        with contextlib.suppress(psycopg.Error):
            connection.close()


@dataclass(frozen=True)
class Verdict:
    """Acknowledged rows against those that a server has."""

    acknowledged: int
    found: int
    lost: tuple[int, ...]
    unknown_found: int

    @property
    def ok(self) -> bool:
        """Is nothing lost?"""
        return not self.lost


def check(
    connection: psycopg.Connection[tuple[object, ...]], client: int, record: Record
) -> Verdict:
    """Compares what a client knows with what a server has."""
    rows = connection.execute(
        "SELECT seq FROM pgraft_writer WHERE client = %s", [client]
    ).fetchall()
    present = {int(str(row[0])) for row in rows}
    acknowledged = [seq for seq, _ in record.acknowledged]
    lost = tuple(seq for seq in acknowledged if seq not in present)
    return Verdict(
        acknowledged=len(acknowledged),
        found=len(present),
        lost=lost,
        unknown_found=sum(seq in present for seq in record.unknown),
    )
