"""Tables for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from pgraft.pg import format_lsn
from pgraft.status import NodeStatus, RaftAddress, leader_of

_WIDTH_WITHOUT_TERMINAL = 150


def make_console() -> Console:
    """A terminal has its own width; elsewhere lines are not to be broken at 80 columns."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)


def status_table(
    answers: Mapping[RaftAddress, NodeStatus | None], title: str = "", *, addresses: bool = True
) -> Table:
    """One line a node: what it is, where its WAL ends, how far it is behind."""
    table = Table(title=title or None, title_justify="left")
    table.add_column("node")
    if addresses:
        table.add_column("Raft port", no_wrap=True)
        table.add_column("server", no_wrap=True)
    for column in ("role", "term", "timeline", "WAL end"):
        table.add_column(column, no_wrap=True)
    table.add_column("behind", justify="right", no_wrap=True)
    table.add_column("state")
    leader = leader_of(answers.values())
    for address, answer in sorted(
        answers.items(), key=lambda item: (item[1].node_id if item[1] else 1 << 62, item[0])
    ):
        node, *rest = _row(address, answer, leader)
        table.add_row(node, *(rest if addresses else rest[2:]))
    return table


def _row(address: RaftAddress, answer: NodeStatus | None, leader: NodeStatus | None) -> list[str]:
    if answer is None:
        known = _known_as(address, leader)
        return [known, str(address), "", "[red]no answer[/red]", "", "", "", "", ""]
    entry = answer.member(answer.node_id)
    server = f"{entry['member']['pg_host']}:{entry['member']['pg_port']}" if entry else ""
    behind = "" if leader is None else _bytes(max(0, leader.lsn - answer.lsn))
    return [
        str(answer.node_id),
        str(address),
        server,
        _role(answer, leader),
        str(answer.term),
        str(answer.timeline),
        format_lsn(answer.lsn),
        behind,
        answer.phase,
    ]


def _known_as(address: RaftAddress, leader: NodeStatus | None) -> str:
    for entry in leader.members if leader else ():
        member = entry["member"]
        if (member["address"], member["port"]) == (address.host, address.port):
            return str(member["id"])
    return "?"


def _role(answer: NodeStatus, leader: NodeStatus | None) -> str:
    if answer.leads:
        return "[bold green]leader[/bold green]"
    if answer.abstaining:
        return "[yellow]catching up[/yellow]"
    entry = leader.member(answer.node_id) if leader else None
    if answer.state == "follower" and entry is not None and entry["learner"]:
        return "learner"
    return answer.state


def _bytes(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GB"


def status_json(answers: Iterable[tuple[RaftAddress, NodeStatus | None]]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {"asked": str(address), "answer": dict(answer.raw) if answer else None}
        for address, answer in answers
    ]
