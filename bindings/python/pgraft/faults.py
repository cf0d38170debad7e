"""Faults for a local cluster of real servers, and schedules of them that a seed repeats.

A schedule says what is done to whom and for how long; who is the leader then, and what the servers
make of it, is not repeated. Each fault is undone after its time: whoever was stopped is started.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pgraft import processes
from pgraft.errors import SetupError
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.netns import CLIENTS

_LEADER_SECONDS = 60.0
_MEMBERSHIP_SECONDS = 120.0
_FLAP_SECONDS = 0.3


@dataclass(frozen=True)
class Fault:
    """One line of a schedule."""

    kind: str
    role: str
    """Whom it hits: "leader", "follower", or "all"."""
    pick: int
    """Which of the followers, or of the pairs; taken modulo their number."""
    hold: float
    """Seconds until it is undone."""
    calm: float | None
    """Seconds until the next one; None: when all nodes stream again."""

    def __str__(self) -> str:
        """For people."""
        then = "then all stream" if self.calm is None else f"then {self.calm:.1f} s"
        return f"{self.kind} ({self.role} {self.pick}) for {self.hold:.1f} s, {then}"


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    roles: Sequence[str]
    hold: tuple[float, float] = (0.5, 4.0)
    """Shortest and longest, in seconds."""
    network: bool = False
    """Needs namespaces."""
    nodes: int = 3
    """Makes sense with at least so many."""
    weight: int = 2


_EITHER = ("leader", "leader", "follower")  # a leader's loss is what matters most
KINDS = (
    Kind("kill server", _EITHER, hold=(0.0, 1.0)),
    Kind("kill supervisor", _EITHER),
    Kind("kill node", _EITHER, weight=3),
    Kind("kill worker", _EITHER, hold=(0.0, 1.0)),
    Kind("hang server", _EITHER),
    Kind("hang worker", _EITHER),
    Kind("hang node", _EITHER, weight=3),
    Kind("power failure", ("all",), hold=(0.0, 1.0), weight=1),
    Kind("switchover", ("leader",), hold=(0.0, 1.0), weight=3),
    Kind("restart", _EITHER, hold=(0.0, 2.0)),
    Kind("replace member", ("follower",), hold=(0.0, 1.0), weight=1),
    Kind("cut off", _EITHER, network=True, weight=3),
    Kind("sends only", _EITHER, network=True),
    Kind("receives only", _EITHER, network=True),
    Kind("pair cut", ("all",), network=True),
    Kind("ring", ("all",), network=True, nodes=4),
    Kind("flapping", _EITHER, network=True),
    Kind("cut off from clients", ("leader",), network=True, weight=1),
)


def kinds_for(nodes: int, *, network: bool) -> list[Kind]:
    """Those that a cluster can have.

    Args:
        nodes: How many it has.
        network: Has it namespaces?
    """
    return [kind for kind in KINDS if kind.nodes <= nodes and (network or not kind.network)]


def schedule(seed: int, kinds: Sequence[Kind]) -> Iterator[Fault]:
    """An endless schedule: the same for the same seed and kinds. Each kind comes soon.

    Raises:
        SetupError: There are no kinds.
    """
    if not kinds:
        raise SetupError("a schedule needs at least one kind of fault")
    chooser = random.Random(seed)
    while True:
        # Shuffled like cards: no kind is left out for long.
        deck = [kind for kind in kinds for _ in range(kind.weight)]
        chooser.shuffle(deck)
        for kind in deck:
            yield Fault(
                kind.name,
                chooser.choice(kind.roles),
                chooser.randrange(1000),
                round(chooser.uniform(*kind.hold), 1),
                None if chooser.random() < 0.5 else round(chooser.uniform(0.0, 2.0), 1),
            )


@dataclass(frozen=True)
class Injected:
    """A fault that holds now."""

    what: str
    """What was done to which node."""
    undo: Callable[[], None]


class FaultInjector:
    """Does faults to a cluster. One thread uses it."""

    def __init__(self, cluster: LocalCluster) -> None:
        """Of a cluster that runs."""
        self._cluster = cluster
        self._stopped: list[int] = []

    def inject(self, fault: Fault) -> Injected:
        """Does it, and says how to undo it.

        Raises:
            WaitTimeout: There was no leader to do it to.
        """
        do = _ACTIONS[fault.kind]
        if fault.role == "all":
            return do(self, fault, self._cluster.leader(_LEADER_SECONDS))
        return do(self, fault, self._victim(fault))

    def restore(self) -> None:
        """Undoes everything, whatever happened: all nodes run and can talk."""
        self._continue()
        if self._cluster.network is not None:
            self._cluster.heal()
        for node in self._cluster.nodes.values():
            if node.process is not None and node.process.poll() is not None:
                node.kill("all")  # its supervisor has ended by itself
            node.start()

    def _victim(self, fault: Fault) -> LocalNode:
        leader = self._cluster.leader(_LEADER_SECONDS)
        if fault.role == "leader":
            return leader
        others = [node for node in self._cluster.nodes.values() if node is not leader]
        return others[fault.pick % len(others)] if others else leader

    # --- processes ---

    def _kill_server(self, _fault: Fault, node: LocalNode) -> Injected:
        node.kill_server()
        return Injected(f"kill -9 of node {node.id}'s postmaster", _nothing)

    def _kill_supervisor(self, _fault: Fault, node: LocalNode) -> Injected:
        node.kill_supervisor()
        return Injected(f"kill -9 of node {node.id}'s supervisor", node.start)

    def _kill_node(self, _fault: Fault, node: LocalNode) -> Injected:
        node.kill("all")
        return Injected(f"kill -9 of all of node {node.id}", node.start)

    def _kill_worker(self, _fault: Fault, node: LocalNode) -> Injected:
        worker = _worker(node)
        processes.send([worker] if worker else [], signal.SIGKILL)
        return Injected(f"kill -9 of node {node.id}'s consensus worker", _nothing)

    def _hang_server(self, _fault: Fault, node: LocalNode) -> Injected:
        postmaster = node.postmaster()
        self._stop([postmaster] if postmaster else [])
        return Injected(f"SIGSTOP of node {node.id}'s postmaster", self._continue)

    def _hang_worker(self, _fault: Fault, node: LocalNode) -> Injected:
        worker = _worker(node)
        self._stop([worker] if worker else [])
        return Injected(f"SIGSTOP of node {node.id}'s consensus worker", self._continue)

    def _hang_node(self, _fault: Fault, node: LocalNode) -> Injected:
        self._stop(node.tree())
        return Injected(f"SIGSTOP of all of node {node.id}", self._continue)

    def _power_failure(self, _fault: Fault, _leader: LocalNode) -> Injected:
        nodes = list(self._cluster.nodes.values())
        for node in nodes:
            node.kill("all")

        def start() -> None:
            for node in nodes:
                node.start()

        return Injected("kill -9 of all nodes", start)

    def _restart(self, _fault: Fault, node: LocalNode) -> Injected:
        node.stop()
        return Injected(f"stop of node {node.id} in order", node.start)

    def _stop(self, pids: list[int]) -> None:
        self._stopped += pids
        processes.send(pids, signal.SIGSTOP)

    def _continue(self) -> None:
        processes.send(self._stopped, signal.SIGCONT)
        self._stopped = []

    # --- by SQL ---

    def _switchover(self, _fault: Fault, leader: LocalNode) -> Injected:
        try:
            with self._cluster.connect(leader.id) as connection:
                connection.execute("SELECT pgraft_transfer_leadership()")
            what = f"node {leader.id} hands over"
        except psycopg.OperationalError:  # it restarts as a standby, at times before it answers
            what = f"node {leader.id} hands over without an answer"
        except psycopg.Error as error:
            what = f"node {leader.id} does not hand over: {str(error).splitlines()[0]}"
        return Injected(what, _nothing)

    def _replace_member(self, _fault: Fault, node: LocalNode) -> Injected:
        """Removed, wiped, and added again under the same id, as a new incarnation."""
        cluster = self._cluster
        cluster.remove_from_cluster(node.id, _MEMBERSHIP_SECONDS)
        node.kill("all")
        node.wipe()

        def join() -> bool:
            cluster.join_node(node, source=cluster.leader(_LEADER_SECONDS).id)
            return True

        wait_for(join, _MEMBERSHIP_SECONDS, f"node {node.id} to be cloned")
        node.start()
        cluster.add_to_cluster(node.id, _MEMBERSHIP_SECONDS)
        cluster.wait_for_voters(cluster.nodes, _MEMBERSHIP_SECONDS)
        return Injected(f"node {node.id} removed, wiped and added again", _nothing)

    # --- the network ---

    def _cut_off(self, _fault: Fault, node: LocalNode) -> Injected:
        self._cluster.cut_off(node.id)
        return Injected(f"node {node.id} cut off", self._cluster.heal)

    def _one_way(self, fault: Fault, node: LocalNode) -> Injected:
        sends = fault.kind == "sends only"
        for other in self._others(node):
            if sends:
                self._cluster.block(other, node.id)
            else:
                self._cluster.block(node.id, other)
        return Injected(f"node {node.id} {fault.kind}", self._cluster.heal)

    def _pair_cut(self, fault: Fault, _leader: LocalNode) -> Injected:
        ids = sorted(self._cluster.nodes)
        one = ids[fault.pick % len(ids)]
        rest = [other for other in ids if other != one]
        other = rest[fault.pick // len(ids) % len(rest)]
        self._cluster.separate(one, other)
        return Injected(f"nodes {one} and {other} don't see each other", self._cluster.heal)

    def _ring(self, fault: Fault, _leader: LocalNode) -> Injected:
        ids = sorted(self._cluster.nodes)
        random.Random(fault.pick).shuffle(ids)
        for i, one in enumerate(ids):
            for j in range(i + 2, len(ids)):
                if (j + 1) % len(ids) != i:
                    self._cluster.separate(one, ids[j])
        return Injected(f"a ring {ids}, each sees its neighbours", self._cluster.heal)

    def _flapping(self, _fault: Fault, node: LocalNode) -> Injected:
        end = threading.Event()
        network = self._cluster.network
        assert network is not None

        def flap() -> None:
            while not end.is_set():
                network.cut(node.id)
                end.wait(_FLAP_SECONDS)
                network.heal(node.id)
                end.wait(_FLAP_SECONDS)

        thread = threading.Thread(target=flap, name="flapping", daemon=True)
        thread.start()

        def undo() -> None:
            end.set()
            thread.join()
            self._cluster.heal()

        return Injected(f"node {node.id} flaps every {_FLAP_SECONDS:g} s", undo)

    def _cut_off_from_clients(self, _fault: Fault, leader: LocalNode) -> Injected:
        self._cluster.separate(leader.id, CLIENTS)
        return Injected(f"node {leader.id} cut off from the clients", self._cluster.heal)

    def _others(self, node: LocalNode) -> list[int]:
        return [other for other in self._cluster.nodes if other != node.id]


_ACTIONS: dict[str, Callable[[FaultInjector, Fault, LocalNode], Injected]] = {
    "kill server": FaultInjector._kill_server,
    "kill supervisor": FaultInjector._kill_supervisor,
    "kill node": FaultInjector._kill_node,
    "kill worker": FaultInjector._kill_worker,
    "hang server": FaultInjector._hang_server,
    "hang worker": FaultInjector._hang_worker,
    "hang node": FaultInjector._hang_node,
    "power failure": FaultInjector._power_failure,
    "switchover": FaultInjector._switchover,
    "restart": FaultInjector._restart,
    "replace member": FaultInjector._replace_member,
    "cut off": FaultInjector._cut_off,
    "sends only": FaultInjector._one_way,
    "receives only": FaultInjector._one_way,
    "pair cut": FaultInjector._pair_cut,
    "ring": FaultInjector._ring,
    "flapping": FaultInjector._flapping,
    "cut off from clients": FaultInjector._cut_off_from_clients,
}


def _nothing() -> None:
    pass


def _worker(node: LocalNode) -> int | None:
    """The consensus worker, by the title that PostgreSQL gives it."""
    for pid in node.tree():
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"postgres:") and b"pgraft consensus" in title:
            return pid
    return None
