"""Watches a failover from outside, over the Raft ports of the surviving nodes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pgraft.status import NodeStatus, RaftAddress, query

_POLL_SECONDS = 0.005
_QUERY_SECONDS = 0.5


@dataclass
class Timeline:
    """When what was first seen, in seconds of `time.monotonic`; None: not seen (yet)."""

    killed: float
    detected: float | None = None
    """A survivor no longer takes the old leader for the leader."""
    elected: float | None = None
    """A survivor leads a newer term."""
    promoted: float | None = None
    """Its server is a primary."""
    writable: float | None = None
    """Its fence is lifted."""
    leader_id: int = 0

    def milliseconds(self, moment: float | None) -> float | None:
        """Since the kill."""
        return None if moment is None else (moment - self.killed) * 1000.0


class FailoverWatch:
    """One thread a survivor, asking every few milliseconds until one accepts writes."""

    def __init__(self, survivors: Sequence[RaftAddress], old_leader: int, old_term: int) -> None:
        """Does not ask yet; call `start` just before the kill."""
        self._survivors = list(survivors)
        self._old_leader = old_leader
        self._old_term = old_term
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._timeline = Timeline(killed=float("inf"))
        self._threads = [
            threading.Thread(target=self._watch, args=(address,), daemon=True)
            for address in self._survivors
        ]

    def start(self) -> None:
        """Begins to ask."""
        for thread in self._threads:
            thread.start()

    def killed(self) -> None:
        """To be called at the kill: only what is seen later counts."""
        with self._lock:
            self._timeline.killed = time.monotonic()

    def wait(self, timeout: float) -> Timeline:
        """Waits until a survivor accepts writes, and returns what was seen."""
        self._done.wait(timeout)
        self._done.set()
        for thread in self._threads:
            thread.join()
        return self._timeline

    def _watch(self, address: RaftAddress) -> None:
        while not self._done.is_set():
            answer = query(address, _QUERY_SECONDS)
            if answer is not None:
                self._see(answer, time.monotonic())
            self._done.wait(_POLL_SECONDS)

    def _see(self, answer: NodeStatus, now: float) -> None:
        with self._lock:
            seen = self._timeline
            if now < seen.killed:
                return
            newer = answer.term > self._old_term
            leads = newer and answer.state == "leader"
            if newer or answer.leader_id != self._old_leader or answer.state != "follower":
                seen.detected = seen.detected or now
            if leads:
                seen.elected = seen.elected or now
            if leads and not answer.in_recovery:
                seen.promoted = seen.promoted or now
            if leads and answer.writable:
                seen.writable = seen.writable or now
                seen.leader_id = answer.node_id
                self._done.set()
