"""The members' own view of their cluster, asked over their Raft ports."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pgraft import _pgraft


@dataclass(frozen=True, order=True)
class RaftAddress:
    """Where a member's Raft port is."""

    host: str
    port: int

    def __str__(self) -> str:
        """As users write it."""
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, default_port: int = 8001) -> RaftAddress:
        """Understands `host`, `host:port` and `[v6]:port`."""
        host, separator, port = text.rpartition(":")
        if not separator or (":" in host and not host.startswith("[")):
            return cls(text.strip("[]"), default_port)
        return cls(host.strip("[]"), int(port))


@dataclass(frozen=True)
class NodeStatus:
    """What one node answered (`ClusterStatus` of libpgraft/transport/transport.h)."""

    asked: RaftAddress
    raw: Mapping[str, Any]

    @property
    def node_id(self) -> int:
        """Its node id."""
        return int(self.raw["identity"]["node_id"])

    @property
    def state(self) -> str:
        """Raft's role, or "uninitialized", "removed", "failed"."""
        return str(self.raw["state"])

    @property
    def term(self) -> int:
        """Raft's term."""
        return int(self.raw["term"])

    @property
    def leader_id(self) -> int:
        """The leader of that term; 0: not known."""
        return int(self.raw["leader_id"])

    @property
    def writable(self) -> bool:
        """Promoted, fence lifted, lease alive."""
        return bool(self.raw["writable"])

    @property
    def leads(self) -> bool:
        """Is it the leader and accepts writes?"""
        return self.state == "leader" and self.writable

    @property
    def timeline(self) -> int:
        """Timeline of the end of its WAL."""
        return int(self.raw["timeline"])

    @property
    def lsn(self) -> int:
        """End of its WAL."""
        return int(self.raw["lsn"])

    @property
    def in_recovery(self) -> bool:
        """Is its server a standby?"""
        return bool(self.raw["in_recovery"])

    @property
    def abstaining(self) -> bool:
        """Was it rewound or cloned, and has not caught up yet?"""
        return bool(self.raw["abstaining"])

    @property
    def promoted_timeline(self) -> int:
        """Timeline of the newest completed promotion it knows."""
        return int(self.raw["promoted_timeline"])

    @property
    def phase(self) -> str:
        """What its failover controller does or waits for."""
        return str(self.raw["phase"])

    @property
    def version(self) -> str:
        """Of pgraft."""
        return str(self.raw["identity"]["version"])

    @property
    def more(self) -> Mapping[str, Any] | None:
        """`StatusMoreDict`; None: the node's version is before 0.2.0."""
        more: Mapping[str, Any] | None = self.raw["more"]
        return more

    @property
    def change_waits_for(self) -> str:
        """Leader: why no change of the members could begin now."""
        return str(self.raw["change_waits_for"])

    @property
    def paused_until(self) -> float | None:
        """Until when failover is paused, in seconds since 1970; None: it is not, or not known."""
        until = float(self.more["paused_until_ms"]) / 1000 if self.more else 0.0
        return until if until > time.time() else None

    @property
    def priority(self) -> int | None:
        """Its `failover_priority`; None: it has not said it yet."""
        entry = self.member(self.node_id)
        return int(entry["wal"]["priority"]) if entry and entry["wal"] else None

    @property
    def members(self) -> list[Mapping[str, Any]]:
        """The members it knows: `member` (addresses), `voter`, `learner`, the leader's view."""
        return list(self.raw["members"])

    @property
    def voters(self) -> set[int]:
        """Ids of the voting members."""
        return {int(m["member"]["id"]) for m in self.members if m["voter"]}

    def member(self, node_id: int) -> Mapping[str, Any] | None:
        """The entry of one member."""
        return next((m for m in self.members if int(m["member"]["id"]) == node_id), None)

    def __repr__(self) -> str:
        """Short, for logs and failed assertions."""
        return (
            f"<node {self.node_id} at {self.asked}: {self.state} term={self.term} "
            f"leader={self.leader_id} writable={self.writable} timeline={self.timeline} "
            f"lsn={self.lsn >> 32:X}/{self.lsn & 0xFFFFFFFF:X} {self.phase!r}>"
        )


def query(address: RaftAddress, timeout: float = 1.0) -> NodeStatus | None:
    """Asks one node; None when it does not answer in time."""
    try:
        return NodeStatus(address, _pgraft.query_status(address.host, address.port, timeout))
    except _pgraft.Error:
        return None


def query_all(
    addresses: Iterable[RaftAddress], timeout: float = 1.0
) -> dict[RaftAddress, NodeStatus | None]:
    """Asks several nodes at the same time."""
    wanted = list(dict.fromkeys(addresses))
    if not wanted:
        return {}
    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        return dict(zip(wanted, pool.map(lambda a: query(a, timeout), wanted), strict=True))


def leader_of(answers: Iterable[NodeStatus | None]) -> NodeStatus | None:
    """Who leads and accepts writes, by the newest term."""
    leaders = [answer for answer in answers if answer is not None and answer.leads]
    return max(leaders, key=lambda answer: answer.term, default=None)


def discover(
    seeds: Iterable[RaftAddress], timeout: float = 1.0
) -> dict[RaftAddress, NodeStatus | None]:
    """Asks the seeds, and then every member that they know of."""
    answers = query_all(seeds, timeout)
    known = {
        RaftAddress(str(m["member"]["address"]), int(m["member"]["port"]))
        for answer in answers.values()
        if answer is not None
        for m in answer.members
    }
    answered = {answer.node_id for answer in answers.values() if answer is not None}
    ids = {
        RaftAddress(str(m["member"]["address"]), int(m["member"]["port"])): int(m["member"]["id"])
        for answer in answers.values()
        if answer is not None
        for m in answer.members
    }
    missing = [a for a in known if a not in answers and ids[a] not in answered]
    return answers | query_all(missing, timeout)
