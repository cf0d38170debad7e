"""What the nodes' files say about timelines: one history and one WAL for each id (rule 5)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pgraft.local_node import LocalNode
from pgraft.pg import Postgres, format_lsn
from pgraft.source import parse_history


class Timelines:
    """Collects what is seen over time, also of nodes that are down; an id must not have two."""

    def __init__(self) -> None:
        self.histories: dict[int, list[tuple[int, int]]] = {}
        self.records: dict[int, list[str]] = {}
        self.twice: dict[int, str] = {}
        """Ids with two histories, or with two WALs; what differs."""

    def look(self, *nodes: LocalNode) -> None:
        for node in nodes:
            for file in (node.paths.pgdata / "pg_wal").glob("*.history"):
                history = _history(file)
                if history:  # else it is a reservation
                    self._add(node, int(file.stem, 16), history)

    def _add(self, node: LocalNode, timeline: int, history: list[tuple[int, int]]) -> None:
        known_history = self.histories.setdefault(timeline, history)
        if known_history != history:
            self.twice[timeline] = f"histories {known_history} and, on {node}, {history}"
        found = records(node, timeline, history[-1][1])
        known = self.records.get(timeline, [])
        if not agree(known, found):
            differs = next(i for i, line in enumerate(found) if line != known[i])
            self.twice[timeline] = f"{known[differs]!r} and, on {node}, {found[differs]!r}"
        self.records[timeline] = max(known, found, key=len)


def _history(file: Path) -> list[tuple[int, int]]:
    try:
        return parse_history(file.read_text())
    except FileNotFoundError:  # a server that starts may move it
        return []


def records(node: LocalNode, timeline: int, lsn: int) -> list[str]:
    """The whole WAL records that a node has on a timeline from a position on, one line each."""
    command = [str(Postgres.find().program("pg_waldump")), "-t", str(timeline), "-p"]
    command += [str(node.paths.pgdata / "pg_wal"), "-s", format_lsn(lsn)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return result.stdout.splitlines()  # the end of the WAL counts as an error


def agree(one: list[str], other: list[str]) -> bool:
    """Is one the beginning of the other?"""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
