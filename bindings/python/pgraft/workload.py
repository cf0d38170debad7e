"""Clients whose answers can be judged afterwards: lists, transfers, sums. See `pgraft.history`.

Each operation is one SERIALIZABLE transaction that leaves its id in a table, also one that only
reads: so its answer, too, has waited for the quorum. An operation that failed is tried again under
the same id, or given up, at random; the id says whether an attempt before took place.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pgraft.history import FinalState, Operation, Outcome, Problem, Transfer, check

_SCHEMA = """
DROP TABLE IF EXISTS pgraft_operation, pgraft_list, pgraft_account;
CREATE TABLE pgraft_operation (id bigint PRIMARY KEY, seen int NOT NULL DEFAULT 0);
CREATE TABLE pgraft_list (key text PRIMARY KEY, items bigint[] NOT NULL);
CREATE TABLE pgraft_account (id int PRIMARY KEY, balance bigint NOT NULL);
"""
_MARK = """
INSERT INTO pgraft_operation (id) VALUES (%s)
ON CONFLICT (id) DO UPDATE SET seen = pgraft_operation.seen + 1 RETURNING seen
"""
_APPEND = """
INSERT INTO pgraft_list (key, items) VALUES (%s, ARRAY[%s::bigint])
ON CONFLICT (key) DO UPDATE SET items = pgraft_list.items || EXCLUDED.items
"""
_ACCOUNTS = 6
_BALANCE = 1000
_KEYS = 4  # in use at a time
_OPERATIONS_PER_KEYS = 200  # then new ones: short lists keep reads cheap
_ANSWER_SECONDS = 4.0  # a client that has waited so long gives its connection up
_RETRY_SECONDS = 0.05
_GIVE_UP = 0.3


@dataclass(frozen=True)
class Access:
    """How a client reaches the cluster."""

    dsn: str
    """All nodes, with target_session_attrs=read-write."""
    setup: Callable[[], None] = lambda: None
    """Called first on the client's thread (to enter a network namespace)."""


@dataclass
class Counts:
    """Of attempts; an operation may take several."""

    acknowledged: int = 0
    in_doubt: int = 0
    refused: int = 0
    conflicts: int = 0
    """Refused for reasons of serializability: the client tries again at once."""

    def add(self, other: Counts) -> None:
        """Adds up."""
        self.acknowledged += other.acknowledged
        self.in_doubt += other.in_doubt
        self.refused += other.refused
        self.conflicts += other.conflicts


@dataclass
class _Answer:
    reads: dict[str, tuple[int, ...]] = field(default_factory=dict)
    total: int | None = None
    took_place_before: bool = False


class Workload:
    """Clients on threads of their own, for one history."""

    def __init__(self, clients: Sequence[Access], *, seed: int = 0, pause: float = 0.02) -> None:
        """Nothing happens until `start`.

        Args:
            clients: One client for each.
            seed: What they choose; when it happens is up to the servers.
            pause: Seconds between two operations of a client.
        """
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._operations: list[Operation] = []
        self._moments: list[float] = []
        self._odd: list[Problem] = []
        self._stop = threading.Event()
        self.initial = dict.fromkeys(range(1, _ACCOUNTS + 1), _BALANCE)
        self._clients = [
            _Client(self, access, random.Random(f"{seed}/{i}"), pause)
            for i, access in enumerate(clients)
        ]
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def create_tables(self, connection: psycopg.Connection[Any]) -> None:
        """Creates the tables anew; those of an earlier workload go."""
        connection.execute(_SCHEMA)
        for account, balance in self.initial.items():
            connection.execute("INSERT INTO pgraft_account VALUES (%s, %s)", [account, balance])

    def start(self) -> Workload:
        """Starts all clients."""
        self._watchdog.start()
        for client in self._clients:
            client.thread.start()
        return self

    def stop(self, timeout: float = 60.0) -> None:
        """Stops all clients; one that waits for an answer gives up after a few seconds."""
        self._stop.set()
        deadline = time.monotonic() + timeout
        for thread in [*(client.thread for client in self._clients), self._watchdog]:
            if thread.ident is not None:  # started
                thread.join(max(0.1, deadline - time.monotonic()))

    @property
    def count(self) -> int:
        """Operations that were acknowledged until now."""
        with self._lock:
            return len(self._moments)

    def counts(self) -> Counts:
        """Attempts by outcome."""
        total = Counts()
        for client in self._clients:
            total.add(client.counts)
        return total

    def longest_gap(self, start: float, end: float) -> float:
        """Seconds of the longest pause between two acknowledgements that touches the span."""
        with self._lock:
            moments = list(self._moments)
        first = max(0, bisect_left(moments, start) - 1)
        last = bisect_left(moments, end) + 1
        return max(
            (after - before for before, after in itertools.pairwise(moments[first:last])),
            default=0.0,
        )

    def operations(self) -> list[Operation]:
        """What the clients know, of all operations that have ended."""
        with self._lock:
            return list(self._operations)

    def check(self, final: FinalState) -> list[Problem]:
        """What is wrong; to be called after `stop`."""
        alive = [c.thread.name for c in self._clients if c.thread.is_alive()]
        problems = [Problem("hangs", f"{name} has not ended") for name in alive]
        return problems + self._odd + check(self.operations(), final, self.initial)

    def _watch(self) -> None:
        """Breaks connections on which no answer has come for too long."""
        while any(client.thread.is_alive() for client in self._clients) or not self._stop.is_set():
            for client in self._clients:
                client.break_if_late(time.monotonic())
            time.sleep(0.05)

    def record(self, operation: Operation, odd: Problem | None) -> None:
        """An operation has ended."""
        with self._lock:
            self._operations.append(operation)
            if operation.outcome is Outcome.ACKNOWLEDGED:
                self._moments.append(operation.ended)
                if len(self._moments) > 1 and self._moments[-2] > operation.ended:
                    self._moments.sort()
            if odd is not None:
                self._odd.append(odd)

    def next_id(self) -> int:
        """An id for a new operation."""
        return next(self._ids)

    @property
    def stopping(self) -> threading.Event:
        """Set when the clients shall end."""
        return self._stop


def final_state(connection: psycopg.Connection[Any]) -> FinalState:
    """What a server holds, in one snapshot; the connection must have autocommit on."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        operations = connection.execute("SELECT id FROM pgraft_operation").fetchall()
        lists = connection.execute("SELECT key, items FROM pgraft_list").fetchall()
        balances = connection.execute("SELECT id, balance FROM pgraft_account").fetchall()
    finally:
        connection.execute("ROLLBACK")
    return FinalState(
        sorted(row[0] for row in operations),
        {key: tuple(items) for key, items in lists},
        dict(balances),
    )


class _Client:
    """One client. Its thread alone uses it, but for `break_if_late`."""

    def __init__(
        self, workload: Workload, access: Access, chooser: random.Random, pause: float
    ) -> None:
        self.counts = Counts()
        self.thread = threading.Thread(target=self._run, name="client", daemon=True)
        self._workload = workload
        self._access = access
        self._chooser = chooser
        self._pause = pause
        self._stop = workload.stopping
        self._connection: psycopg.Connection[Any] | None = None
        self._deadline = float("inf")
        self._committing = False

    # --- one operation after the other ---

    def _run(self) -> None:
        self._access.setup()
        try:
            while not self._stop.is_set():
                self._perform(self._choose())
                self._stop.wait(self._pause)
        finally:
            self._disconnect()

    def _choose(self) -> Operation:
        """A new operation, as yet without an outcome."""
        id_ = self._workload.next_id()
        began = time.monotonic()
        kind = self._chooser.random()
        if kind < 0.3:
            source, target = self._chooser.sample(sorted(self._workload.initial), 2)
            moved = Transfer(source, target, self._chooser.randint(1, 50))
            return Operation(id_, Outcome.REFUSED, began, transfer=moved)
        if kind < 0.4:
            return Operation(id_, Outcome.REFUSED, began, total=0)
        keys = [f"{id_ // _OPERATIONS_PER_KEYS}.{i}" for i in range(_KEYS)]
        self._chooser.shuffle(keys)
        read: dict[str, tuple[int, ...]] = dict.fromkeys(keys[: self._chooser.randint(1, 2)], ())
        appends = keys[1 : 1 + self._chooser.choice((0, 1, 1, 2))]
        return Operation(id_, Outcome.REFUSED, began, appends=tuple(appends), reads=read)

    def _perform(self, plan: Operation) -> None:
        """Tries until it is acknowledged or given up, and records what is known then."""
        doubtful = False
        answer: _Answer | None = None
        while answer is None:
            if self._stop.is_set():
                break
            try:
                answer = self._attempt(plan)
            except psycopg.Error as error:
                was = self._failed(error)
                doubtful |= was is Outcome.IN_DOUBT
                if was is not None and self._chooser.random() < _GIVE_UP:
                    break
        if answer is None:
            outcome = Outcome.IN_DOUBT if doubtful else Outcome.REFUSED
            self._record(plan, outcome, _Answer())
            return
        self.counts.acknowledged += 1
        odd = None
        if answer.took_place_before and not doubtful:
            odd = Problem("refused but done", f"operation {plan.id}, found when it was repeated")
        self._record(plan, Outcome.ACKNOWLEDGED, answer, odd)

    def _record(
        self, plan: Operation, outcome: Outcome, answer: _Answer, odd: Problem | None = None
    ) -> None:
        done = Operation(
            plan.id,
            outcome,
            plan.began,
            time.monotonic() if outcome is Outcome.ACKNOWLEDGED else float("inf"),
            plan.appends,
            answer.reads,
            plan.transfer,
            answer.total,
        )
        self._workload.record(done, odd)

    def _failed(self, error: psycopg.Error) -> Outcome | None:
        """What an attempt that failed means; None: it is to be tried again in any case."""
        connection = self._connection
        if connection is None:  # not even connected
            self._stop.wait(_RETRY_SECONDS)
            return None
        if connection.broken or connection.closed:
            doubtful = self._committing
            self._disconnect()
            self._stop.wait(_RETRY_SECONDS)
            if doubtful:
                self.counts.in_doubt += 1
                return Outcome.IN_DOUBT
            self.counts.refused += 1
            return Outcome.REFUSED
        if error.sqlstate is not None and error.sqlstate.startswith("40"):
            self.counts.conflicts += 1
            try:
                connection.execute("ROLLBACK")
            except psycopg.Error:
                self._disconnect()
            self._stop.wait(self._chooser.random() * _RETRY_SECONDS)
            return None
        self.counts.refused += 1
        self._disconnect()
        self._stop.wait(_RETRY_SECONDS)
        return Outcome.REFUSED

    # --- one attempt ---

    def _attempt(self, plan: Operation) -> _Answer:
        self._committing = False
        if self._connection is None:
            self._connection = psycopg.connect(self._access.dsn, autocommit=True)
        connection = self._connection
        self._deadline = time.monotonic() + _ANSWER_SECONDS
        try:
            connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
            mark = connection.execute(_MARK, [plan.id]).fetchone()
            assert mark is not None
            answer = _Answer(took_place_before=mark[0] > 0)
            if not answer.took_place_before:
                self._do(connection, plan, answer)
            self._committing = True
            connection.execute("COMMIT")
        finally:
            self._deadline = float("inf")
        return answer

    def _do(self, connection: psycopg.Connection[Any], plan: Operation, answer: _Answer) -> None:
        if plan.reads:
            found = connection.execute(
                "SELECT key, items FROM pgraft_list WHERE key = ANY (%s)", [list(plan.reads)]
            ).fetchall()
            seen = {key: tuple(items) for key, items in found}
            answer.reads = {key: seen.get(key, ()) for key in plan.reads}
        for key in sorted(plan.appends):
            connection.execute(_APPEND, [key, plan.id])
        if plan.total is not None:
            row = connection.execute("SELECT sum(balance)::bigint FROM pgraft_account").fetchone()
            answer.total = row[0] if row else 0
        if plan.transfer is not None:
            # Read, then written: a lost update would show.
            moved = plan.transfer
            change = {moved.source: -moved.amount, moved.target: moved.amount}
            balances = connection.execute(
                "SELECT id, balance FROM pgraft_account WHERE id = ANY (%s)", [list(change)]
            ).fetchall()
            for account, balance in sorted(balances):
                connection.execute(
                    "UPDATE pgraft_account SET balance = %s WHERE id = %s",
                    [balance + change[account], account],
                )

    # --- the connection ---

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def break_if_late(self, now: float) -> None:
        """Shuts the connection down if its answer is overdue: a COMMIT can't be cancelled."""
        connection = self._connection
        if connection is None or now < self._deadline:
            return
        with (
            contextlib.suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(connection.fileno())) as shared,
        ):
            shared.shutdown(socket.SHUT_RDWR)
