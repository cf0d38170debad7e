"""A group of scripted Raft nodes. Nothing moves by itself.

What nodes send is in flight until it is delivered or dropped. With asynchronous storage a node's
writes and applications wait in its queues until they are done. After each step the group looks for
what Raft excludes: two leaders of one term, different entries applied at one index.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pgraft
from pgraft import EntryType, MessageType, Role

Wanted = Callable[[pgraft.Message], bool]


@dataclass
class Member:
    """A node, its storage, and its state machine: the bytes of all that it has applied, one after
    the other. A snapshot of the leader does not replace them."""

    node: pgraft.RawNode
    storage: pgraft.MemoryStorage
    settings: dict[str, Any]
    conf: pgraft.ConfState
    data: bytes = b""
    reads: list[pgraft.ReadState] = field(default_factory=list)
    appends: deque[pgraft.Message] = field(default_factory=deque)
    applies: deque[pgraft.Message] = field(default_factory=deque)

    @property
    def is_asynchronous(self) -> bool:
        return bool(self.settings.get("async_storage_writes"))

    def write(
        self,
        hard_state: pgraft.HardState | None,
        snapshot: pgraft.Snapshot | None,
        entries: Sequence[pgraft.Entry],
    ) -> None:
        if hard_state is not None:
            self.storage.set_hard_state(hard_state)
        if snapshot is not None:
            self.storage.apply_snapshot(snapshot)
            self.conf = snapshot.conf
        self.storage.append(entries)

    def apply(self, entry: pgraft.Entry) -> None:
        if entry.type is EntryType.CONF_CHANGE:
            change = pgraft.ConfChange.decode(entry.data)
            self.conf = self.node.apply_conf_change(change)
            self.data += change.context
        else:
            self.data += entry.data
        self.storage.create_snapshot(entry.index, self.conf, self.data)


class RaftGroup:
    """The nodes by id, and what is in flight between them."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.in_flight: list[pgraft.Message] = []
        self.refused: list[pgraft.Error] = []
        self.violations: list[str] = []
        self._leaders: dict[int, int] = {}
        self._applied: dict[int, pgraft.Entry] = {}

    @classmethod
    def of(cls, voters: Sequence[int], **settings: Any) -> RaftGroup:
        """Nodes that start from a snapshot at index 1 with these voters."""
        group = cls()
        for i in voters:
            group.add(i, pgraft.Snapshot(1, 1, pgraft.ConfState(voters)), **settings)
        return group

    def add(self, i: int, snapshot: pgraft.Snapshot | None = None, **settings: Any) -> None:
        """A node that starts from a snapshot, or empty."""
        storage = pgraft.MemoryStorage()
        if snapshot is not None:
            storage.apply_snapshot(snapshot)
        conf = snapshot.conf if snapshot else pgraft.ConfState()
        node = pgraft.RawNode(i, storage, **settings)
        self.members[i] = Member(node, storage, settings, conf)

    def restart(self, i: int) -> None:
        """Only what is in the storage survives."""
        old = self.members[i]
        snapshot = old.storage.snapshot()
        node = pgraft.RawNode(i, old.storage, **old.settings)
        self.members[i] = Member(node, old.storage, old.settings, snapshot.conf, snapshot.data)

    def __getitem__(self, i: int) -> pgraft.RawNode:
        return self.members[i].node

    # --- one thing at a time

    def process_ready(self, i: int) -> None:
        member = self.members[i]
        ready = member.node.ready()
        member.reads += ready.read_states
        if member.is_asynchronous:
            self._queue(member, ready.messages)
        else:
            member.write(ready.hard_state, ready.snapshot, ready.entries)
            self._apply(i, ready.committed_entries)
            self.in_flight += ready.messages
            member.node.advance()
        self._check_leader(i)

    def _queue(self, member: Member, messages: Iterable[pgraft.Message]) -> None:
        for message in messages:
            if message.to == pgraft.APPEND_THREAD:
                member.appends.append(message)
            elif message.to == pgraft.APPLY_THREAD:
                member.applies.append(message)
            else:
                self.in_flight.append(message)

    def process_append(self, i: int) -> bool:
        """The oldest write that waits; False when there is none."""
        member = self.members[i]
        if not member.appends:
            return False
        work = member.appends.popleft()
        hard_state = pgraft.HardState(work.term, work.vote, work.commit) if work.term else None
        member.write(hard_state, work.snapshot, work.entries)
        self.in_flight += work.responses
        return True

    def process_apply(self, i: int) -> bool:
        """The oldest application that waits; False when there is none."""
        member = self.members[i]
        if not member.applies:
            return False
        work = member.applies.popleft()
        self._apply(i, work.entries)
        self.in_flight += work.responses
        return True

    def deliver(self, to: int, wanted: Wanted = lambda _: True) -> bool:
        """What is in flight to that node; False when there was nothing."""
        messages = self._take(lambda m: m.to == to and wanted(m))
        for message in messages:
            self.attempt(lambda m=message: self.members[to].node.step(m))  # type: ignore[misc]
        self._check_leader(to)
        return bool(messages)

    def drop(self, wanted: Wanted = lambda _: True) -> list[pgraft.Message]:
        """But for what nodes and their storage say to themselves."""
        return self._take(lambda m: m.from_ != m.to and m.from_ in self.members and wanted(m))

    def _take(self, wanted: Wanted) -> list[pgraft.Message]:
        taken = [m for m in self.in_flight if wanted(m)]
        self.in_flight = [m for m in self.in_flight if not wanted(m)]
        return taken

    def attempt(self, call: Callable[[], None]) -> None:
        """Keeps what is refused."""
        try:
            call()
        except (pgraft.NotLeader, pgraft.NotFound, pgraft.FailedPrecondition) as error:
            self.refused.append(error)

    # --- until nothing moves

    def settle(self, ids: Iterable[int] = ()) -> None:
        """Between these nodes, or all; messages to others stay in flight."""
        among = list(ids) or list(self.members)
        while self._round(among):
            pass

    def _round(self, ids: list[int]) -> bool:
        busy = False
        for i in ids:
            if self[i].has_ready():
                self.process_ready(i)
                busy = True
        for i in ids:
            busy |= self.deliver(i)
        for work in (self.process_append, self.process_apply):
            for i in ids:
                while work(i):
                    busy = True
        return busy

    def is_quiescent(self) -> bool:
        return not self.in_flight and not any(m.node.has_ready() for m in self.members.values())

    def elect(self, i: int, among: Iterable[int] = ()) -> None:
        self[i].campaign()
        self.settle(among)
        assert self[i].role is Role.LEADER

    # --- what Raft excludes

    def _check_leader(self, i: int) -> None:
        node = self[i]
        if node.role is Role.LEADER and self._leaders.setdefault(node.term, i) != i:
            self.violations.append(f"nodes {self._leaders[node.term]} and {i} lead {node.term}")

    def _apply(self, i: int, entries: Iterable[pgraft.Entry]) -> None:
        for entry in entries:
            if self._applied.setdefault(entry.index, entry) != entry:
                self.violations.append(f"node {i} applied another entry at {entry.index}")
            self.members[i].apply(entry)


def is_of_type(*types: MessageType) -> Wanted:
    """For `deliver` and `drop`."""
    return lambda message: message.type in types
