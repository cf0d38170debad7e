"""`pgraft demo`: real servers, a client that writes all the time, and kill -9 of the leader.

At the end every acknowledged row is looked for on every node.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console
from rich.status import Status
from rich.table import Table

from pgraft.errors import WaitTimeout
from pgraft.failover_watch import FailoverWatch, Timeline
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.render import status_table
from pgraft.writer import Record, Verdict, Writer, check

_FAILOVER_SECONDS = 60.0
_REJOIN_SECONDS = 120.0
_ROWS_BETWEEN = 200


@dataclass
class Round:
    """One failover."""

    killed: int
    timeline: Timeline
    write_gap: float
    first_write: float | None
    rejoined: str


class Demo:
    """The demonstration; `run` returns the exit status."""

    def __init__(
        self, console: Console, *, nodes: int = 3, rounds: int = 3, keep: bool = False
    ) -> None:
        """Args say how much of it."""
        self._console = console
        self._nodes = nodes
        self._rounds = rounds
        self._keep = keep
        self._started = time.monotonic()

    def run(self) -> int:
        """Runs it; 0: nothing was lost and every node came back."""
        self._say(f"starting {self._nodes} PostgreSQL servers on this machine")
        cluster = LocalCluster(self._nodes, keep=self._keep, progress=self._say)
        with self._busy("running"), cluster:
            try:
                return self._run(cluster)
            except WaitTimeout as error:
                self._console.print(f"[red]{error}[/red]")
                print(cluster.logs(25), file=sys.stderr)
                return 1

    def _run(self, cluster: LocalCluster) -> int:
        self._show(cluster, "the cluster")
        with cluster.connect() as connection:
            Writer.create_table(connection)
        writer = Writer(cluster.dsn(), pause=0.001).start()
        try:
            self._wait_for_rows(writer, _ROWS_BETWEEN)
            rounds = [self._fail_over(cluster, writer, i + 1) for i in range(self._rounds)]
            self._wait_for_rows(writer, _ROWS_BETWEEN)
        finally:
            record = writer.stop()
        return self._verdict(cluster, writer, record, rounds)

    # --- one failover ---

    def _fail_over(self, cluster: LocalCluster, writer: Writer, number: int) -> Round:
        leader = cluster.leader()
        answer = cluster.status()[leader.id]
        survivors = [node.raft for node in cluster.nodes.values() if node is not leader]
        watch = FailoverWatch(survivors, leader.id, answer.term if answer else 0)
        watch.start()
        self._say(f"[bold]failover {number}: kill -9 of node {leader.id}'s postmaster[/bold]")
        watch.killed()
        cluster.kill(leader.id)
        timeline = watch.wait(_FAILOVER_SECONDS)
        first_write = wait_for(
            lambda: _first_row_of_new_leader(writer, timeline),
            _FAILOVER_SECONDS,
            "an acknowledged row on the new leader",
        )
        gap = writer.record().longest_gap(start=timeline.killed)
        self._console.print(_timeline_table(leader.id, timeline, first_write, gap))
        self._wait_for_rows(writer, _ROWS_BETWEEN)
        rejoined = self._rejoin(cluster, leader)
        self._show(cluster, f"after failover {number}")
        return Round(leader.id, timeline, gap, first_write, rejoined)

    def _rejoin(self, cluster: LocalCluster, node: LocalNode) -> str:
        self._say(f"starting node {node.id} again")
        offset = node.log_file.stat().st_size
        begun = time.monotonic()
        cluster.start_node(node.id)
        cluster.wait_for_standby(node.id, _REJOIN_SECONDS)
        with open(node.log_file, errors="replace") as log:
            log.seek(offset)
            text = log.read()
        how = "followed without a rewind"
        if "pgraft: cloned;" in text:
            how = "had diverged, was cloned"
        elif "pgraft: rewound;" in text:
            how = "had diverged, was rewound"
        seconds = time.monotonic() - begun
        self._say(f"node {node.id} is back after {seconds:.1f} s: {how}")
        return how

    def _wait_for_rows(self, writer: Writer, more: int) -> None:
        wanted = writer.count + more
        wait_for(lambda: writer.count >= wanted, _FAILOVER_SECONDS, f"{more} more rows")

    # --- the end ---

    def _verdict(
        self, cluster: LocalCluster, writer: Writer, record: Record, rounds: list[Round]
    ) -> int:
        leader = cluster.leader()
        with cluster.connect(leader.id) as connection:
            of_leader = check(connection, writer.client, record)
        failed = bool(of_leader.lost)
        table = Table(title="verdict", title_justify="left")
        for column in ("", "acknowledged", "found", "lost", "unknown outcome, found"):
            table.add_column(column, justify="left" if not column else "right")
        table.add_row(f"node {leader.id} (leader)", *_cells(of_leader, record))
        for node in cluster.nodes.values():
            if node is leader:
                continue
            try:
                cluster.wait_for_standby(node.id, _REJOIN_SECONDS)
                with cluster.connect(node.id) as connection:
                    verdict = check(connection, writer.client, record)
                failed |= bool(verdict.lost)
                table.add_row(f"node {node.id}", *_cells(verdict, record))
            except WaitTimeout as error:
                failed = True
                table.add_row(f"node {node.id}", f"[red]did not come back: {error}[/red]")
        self._console.print(table)
        for i, one in enumerate(rounds, 1):
            self._console.print(
                f"failover {i}: node {one.killed} killed, no acknowledged write for "
                f"[bold]{one.write_gap * 1000:.0f} ms[/bold]; node {one.killed} {one.rejoined}"
            )
        lost = len(of_leader.lost)
        if failed:
            self._console.print(f"[bold red]FAILED[/bold red]: {lost} acknowledged rows lost")
            return 1
        self._console.print(
            f"[bold green]nothing lost[/bold green]: {of_leader.acknowledged} acknowledged rows, "
            f"all of them on all {len(cluster.nodes)} nodes, after {len(rounds)} failovers"
        )
        return 0

    # --- output ---

    def _say(self, line: str) -> None:
        seconds = time.monotonic() - self._started
        self._console.print(f"[dim]{seconds:6.1f} s[/dim]  {line}", highlight=False)

    def _busy(self, what: str) -> Status:
        return self._console.status(what)

    def _show(self, cluster: LocalCluster, title: str) -> None:
        answers = {
            cluster.node(node_id).raft: answer for node_id, answer in cluster.status().items()
        }
        self._console.print(status_table(answers, title))


def _first_row_of_new_leader(writer: Writer, timeline: Timeline) -> float | None:
    """When the new leader acknowledged its first row.

    Rows that the old leader had acknowledged can still be read by the client just after the kill;
    the longest pause separates them from the new leader's.
    """
    record = writer.record()
    if timeline.writable is None or not record.first_after(timeline.writable):
        return None
    rows = record.acknowledged
    pauses = [
        (after - before, after)
        for (_, before), (_, after) in pairwise(rows)
        if after > timeline.killed
    ]
    return max(pauses)[1] if pauses else None


def _timeline_table(killed: int, timeline: Timeline, first_write: float, gap: float) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    events = [
        (timeline.killed, f"node {killed} killed"),
        (timeline.detected, "noticed by a survivor"),
        (timeline.elected, f"node {timeline.leader_id} elected"),
        (timeline.promoted, f"node {timeline.leader_id} promoted"),
        (timeline.writable, f"node {timeline.leader_id} accepts writes"),
        (first_write, "first row acknowledged by it"),
    ]
    for moment, what in sorted((e for e in events if e[0] is not None), key=lambda e: e[0] or 0.0):
        table.add_row(f"{timeline.milliseconds(moment) or 0.0:.0f} ms", what)
    table.add_row(f"[bold]{gap * 1000:.0f} ms[/bold]", "[bold]between two acknowledged rows[/bold]")
    return table


def _cells(verdict: Verdict, record: Record) -> list[str]:
    lost = len(verdict.lost)
    return [
        str(verdict.acknowledged),
        str(verdict.acknowledged - lost),
        f"[red]{lost}[/red]" if lost else "[green]0[/green]",
        f"{len(record.unknown)}, {verdict.unknown_found}",
    ]
