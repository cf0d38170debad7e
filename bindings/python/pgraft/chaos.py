"""Random faults on real servers under load, and a verdict on everything that clients saw.

    python -m pgraft.chaos 5 --seed 7

A run goes in rounds: some faults of the schedule under a fresh workload; then all is healed, the
clients stop, and their history is judged against what every server holds. As root each node has a
network of its own, and there are faults of the network too.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from pgraft.errors import Error, SetupError, WaitTimeout
from pgraft.faults import Fault, FaultInjector, Kind, kinds_for, schedule
from pgraft.history import Problem
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.render import make_console
from pgraft.witness import Acknowledgement, Witness, two_primaries
from pgraft.workload import Access, Counts, Workload, final_state

_CLIENTS = 6
_FAULTS_PER_ROUND = 8
_WRITABLE_SECONDS = 90.0
_REJOIN_SECONDS = 240.0
_AGREE_SECONDS = 30.0
_OPERATIONS_AFTER = 10  # acknowledged after a fault was undone: the cluster works again


@dataclass
class Report:
    """What a run did and found."""

    seed: int
    seconds: float = 0.0
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    gaps: dict[str, float] = field(default_factory=dict)
    """For each kind of fault the longest time without an acknowledged operation."""
    counts: Counts = field(default_factory=Counts)
    operations: Counter[str] = field(default_factory=Counter)
    """By outcome."""
    schedule: list[str] = field(default_factory=list)
    """What was done when, as far as the run came."""
    problems: list[Problem] = field(default_factory=list)
    stopped: bool = False
    """By Ctrl-C; the last round may not have been judged."""

    @property
    def ok(self) -> bool:
        """Was nothing found?"""
        return not self.problems

    @property
    def lost(self) -> int:
        """Acknowledged operations, or parts of them, that are not there."""
        return sum(problem.kind == "lost" for problem in self.problems)

    def table(self) -> Table:
        """Faults by kind."""
        table = Table(title="faults", title_justify="left")
        table.add_column("kind")
        table.add_column("injected", justify="right")
        table.add_column("longest gap between acknowledged operations", justify="right")
        for kind, count in sorted(self.faults.items()):
            table.add_row(kind, str(count), f"{self.gaps.get(kind, 0.0):.2f} s")
        return table

    def lines(self) -> list[str]:
        """The rest."""
        by = self.operations
        return [
            f"seed {self.seed}: {sum(self.faults.values())} faults in {self.rounds} rounds, "
            f"{self.seconds / 60:.1f} min",
            f"operations: {by['acknowledged']} acknowledged, {by['in doubt']} left in doubt, "
            f"{by['refused']} refused, {self.lost} lost",
            f"attempts: {self.counts.acknowledged} acknowledged, {self.counts.in_doubt} in doubt, "
            f"{self.counts.refused} refused, {self.counts.conflicts} serialization conflicts",
            *(f"FOUND {problem}" for problem in self.problems),
            "nothing lost, nothing twice, nothing out of order" if self.ok else "FAILED",
        ]


class Chaos:
    """One run on a cluster that runs."""

    def __init__(
        self,
        cluster: LocalCluster,
        seed: int,
        *,
        kinds: Sequence[Kind] | None = None,
        clients: int = _CLIENTS,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Nothing happens until `run`.

        Args:
            cluster: Its nodes are killed, cut off and replaced.
            seed: Of the schedule and of what the clients choose.
            kinds: Of faults; default: all that the cluster can have.
            clients: How many; with namespaces every second one goes through the network.
            say: Called with a line for each fault.
        """
        self._cluster = cluster
        self._injector = FaultInjector(cluster)
        network = cluster.network is not None
        self._kinds = kinds or kinds_for(len(cluster.nodes), network=network)
        self._clients = clients
        self._say = say
        self._faults = schedule(seed, self._kinds)
        self._began = time.monotonic()
        self._acknowledged: list[Acknowledgement] = []
        self.report = Report(seed)

    def run(self, seconds: float) -> Report:
        """Runs rounds until the time is up (a round that has begun is finished), or one fails."""
        self._began = time.monotonic()
        try:
            while self.report.ok and time.monotonic() < self._began + seconds:
                self._round(self._began + seconds)
        finally:
            self.report.seconds = time.monotonic() - self._began
        return self.report

    # --- a round ---

    def _round(self, deadline: float) -> None:
        cluster, report = self._cluster, self.report
        report.rounds += 1
        workload = Workload(self._access(), seed=report.seed + report.rounds)
        witness = Witness({n: lambda n=n: cluster.connect(n) for n in cluster.nodes})  # type: ignore[misc]
        try:
            with cluster.connect() as connection:
                workload.create_tables(connection)
                Witness.create_table(connection)
            workload.start()
            witness.start()
            self._wait_for_operations(workload)
            for fault in itertools.islice(self._faults, _FAULTS_PER_ROUND):
                self._one(fault, workload)
                if time.monotonic() >= deadline:
                    break
            self._all_stream()
            self._wait_for_operations(workload)
        except (Error, psycopg.Error) as error:
            report.problems.append(Problem("stuck", str(error)))
        finally:
            self._injector.restore()
            workload.stop()
            self._acknowledged += witness.stop()
        self._judge(workload)

    def _one(self, fault: Fault, workload: Workload) -> None:
        began = time.monotonic()
        injected = self._injector.inject(fault)
        self._note(fault, injected.what)
        try:
            time.sleep(fault.hold)
        finally:
            injected.undo()
        self._cluster.leader(_WRITABLE_SECONDS)
        self._wait_for_operations(workload)
        gap = workload.longest_gap(began, time.monotonic())
        self._line(f"    writes again; longest gap {gap:.2f} s")
        self.report.gaps[fault.kind] = max(gap, self.report.gaps.get(fault.kind, 0.0))
        if fault.calm is None:
            self._all_stream()
        else:
            time.sleep(fault.calm)

    def _note(self, fault: Fault, what: str) -> None:
        self.report.faults[fault.kind] += 1
        self._line(f"{fault}: {what}")

    def _line(self, text: str) -> None:
        line = f"{time.monotonic() - self._began:7.1f} s  {text}"
        self.report.schedule.append(line)
        self._say(line)

    def _wait_for_operations(self, workload: Workload) -> None:
        wanted = workload.count + _OPERATIONS_AFTER
        wait_for(lambda: workload.count >= wanted, _WRITABLE_SECONDS, "acknowledged operations")

    def _all_stream(self) -> None:
        for node_id in self._cluster.nodes:
            self._in_step(node_id)

    def _in_step(self, node_id: int) -> None:
        """The leader, or a standby that streams; which one it is may change meanwhile."""

        def check() -> bool:
            if self._cluster.leader(_WRITABLE_SECONDS).id == node_id:
                return True
            try:
                self._cluster.wait_for_standby(node_id, 2.0)
            except WaitTimeout:
                return False
            return True

        wait_for(check, _REJOIN_SECONDS, f"node {node_id} to stream")

    # --- the verdict ---

    def _judge(self, workload: Workload) -> None:
        report, cluster = self.report, self._cluster
        report.counts.add(workload.counts())
        report.operations.update(one.outcome.value for one in workload.operations())
        report.problems += [
            Problem("two primaries", what) for what in two_primaries(self._acknowledged)
        ]
        try:
            leader = cluster.leader(_WRITABLE_SECONDS)
            with cluster.connect(leader.id) as connection:
                final = final_state(connection)
            report.problems += workload.check(final)
            self._all_stream()
            for node_id in cluster.nodes:
                self._compare(node_id, leader.id)
        except (Error, psycopg.Error) as error:
            report.problems.append(Problem("stuck", str(error)))

    def _compare(self, node_id: int, leader_id: int) -> None:
        """A commit that nobody waits for any more may still be on its way; then they agree."""

        def agree() -> bool:
            with (
                self._cluster.connect(leader_id) as leader,
                self._cluster.connect(node_id) as node,
            ):
                return final_state(leader) == final_state(node)

        try:
            wait_for(agree, _AGREE_SECONDS, f"node {node_id} to hold what node {leader_id} holds")
        except WaitTimeout as error:
            self.report.problems.append(Problem("differs", str(error)))

    def _access(self) -> list[Access]:
        """Half of the clients reach every server, whatever is cut; the others use the network."""
        cluster = self._cluster
        if cluster.network is None:
            return [Access(cluster.dsn())] * self._clients
        through = Access(cluster.dsn(tcp=True), cluster.network.enter)
        beside = Access(cluster.dsn(tcp=False))
        return [through if i % 2 else beside for i in range(self._clients)]


def run(
    minutes: float,
    seed: int,
    *,
    nodes: int = 3,
    network: bool | None = None,
    only: Sequence[str] = (),
    keep: bool = False,
    console: Console | None = None,
) -> Report:
    """Starts a cluster, runs, prints a summary; what failed is kept to look at.

    Args:
        minutes: Of faults.
        seed: Of the schedule.
        nodes: How many servers.
        network: With namespaces, which needs root; default: if it can be had.
        only: Names of the kinds of faults; default: all that can be had.
        keep: Leave the servers' directories also when nothing was found.
        console: Where to print.

    Raises:
        SetupError: There is no such kind, or it can't be had here.
    """
    out = console or make_console()
    if network is None:
        network = os.geteuid() == 0 and shutil.which("nft") is not None
    kinds = _choose_kinds(kinds_for(nodes, network=network), only)
    faults = "" if network else ", no faults of the network (they need root, ip and nft)"
    out.print(f"seed {seed}, {nodes} nodes{faults}", highlight=False)
    cluster = LocalCluster(nodes, namespaces=network, keep=True)
    report = Report(seed)
    try:
        with cluster:
            chaos = Chaos(
                cluster,
                seed,
                kinds=kinds,
                say=lambda line: out.print(line, highlight=False, markup=False),
            )
            report = chaos.report
            chaos.run(minutes * 60.0)
    except KeyboardInterrupt:
        report.stopped = True
        out.print("stopped; the last round is not judged")
    except Error as error:
        report.problems.append(Problem("stuck", str(error)))
    if report.ok and not keep:
        shutil.rmtree(cluster.base_dir, ignore_errors=True)
    else:
        out.print(f"the servers' logs and data are kept in {cluster.base_dir}")
    out.print(report.table())
    for line in report.lines():
        out.print(line, highlight=False, markup=False)
    return report


def _choose_kinds(possible: Sequence[Kind], only: Sequence[str]) -> list[Kind]:
    unknown = set(only) - {kind.name for kind in possible}
    if unknown:
        raise SetupError(
            f"no such fault here: {', '.join(sorted(unknown))}; "
            f"there are: {', '.join(kind.name for kind in possible)}"
        )
    return [kind for kind in possible if not only or kind.name in only]


def main(
    minutes: Annotated[float, typer.Argument(help="Minutes of faults.", min=0.1)] = 60.0,
    seed: Annotated[
        int | None, typer.Option(help="Of the schedule, to repeat one.  [default: a new one]")
    ] = None,
    nodes: Annotated[int, typer.Option(help="How many servers.", min=3, max=9)] = 3,
    network: Annotated[
        bool | None,
        typer.Option(help="Faults of the network; needs root.  [default: if it can be had]"),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A kind of fault; may be given again.  [default: all]")
    ] = None,
    keep: Annotated[bool, typer.Option(help="Leave the servers' directories.")] = False,
) -> None:
    """Do random faults to a cluster of real servers under load, and judge what clients saw."""
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 31)
    try:
        report = run(minutes, seed, nodes=nodes, network=network, only=only or (), keep=keep)
    except SetupError as error:
        typer.echo(f"pgraft: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(1 if not report.ok else 130 if report.stopped else 0)


if __name__ == "__main__":
    typer.run(main)
