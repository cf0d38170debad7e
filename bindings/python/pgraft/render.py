"""Tables and trees for people, and the same for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pgraft.cluster_view import ClusterView, MemberView
from pgraft.pg import format_lsn
from pgraft.status import NodeStatus, RaftAddress

_WIDTH_WITHOUT_TERMINAL = 150
_WIDE = 112


def make_console() -> Console:
    """A terminal has its own width; elsewhere lines are not to be broken at 80 columns."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)


# --- status ---


def status_view(view: ClusterView, width: int = _WIDTH_WITHOUT_TERMINAL) -> RenderableType:
    """The cluster in one line, its nodes in a table, and what is to be looked at."""
    table = narrow_table(view) if width < _WIDE else status_table(view.answers)
    return Group(headline(view), table, *map(Text, notes(view)))


def headline(view: ClusterView) -> Text:
    """Name, leader and term in one line."""
    if view.witness is None:
        return Text("no cluster")
    name = str(view.witness.raw["identity"]["cluster_name"])
    learners = sum(1 for m in view.members if m.learner)
    voters = f"{len(view.voters)} voters" + (f", {learners} learners" if learners else "")
    leader = f"led by node {view.leader.node_id}" if view.leader else "no leader accepts writes"
    style = "bold" if view.leader else "bold red"
    return Text(f"{name}: {leader}, term {view.witness.term}; {voters}", style=style)


def notes(view: ClusterView) -> list[str]:
    """What an operator must not miss, as sentences."""
    found = []
    for m in view.missing:
        found.append(f"{m.title} does not answer at {m.raft}.")
    answering = len(view.voters) - len(view.missing)
    if view.voters and answering < view.majority:
        found.append(
            f"Only {answering} of {len(view.voters)} voters answer from here; a majority of "
            f"{view.majority} is needed for a leader."
        )
    elif view.missing and answering == view.majority:
        found.append("One more member lost, and nobody can write.")
    for node in view.nodes:
        if view.witness is not None and view.member(node.node_id) is None:
            found.append(f"Node {node.node_id} at {node.asked} is no member ({node.state}).")
    return found


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
    for node, *rest in _rows(ClusterView(answers)):
        table.add_row(node, *(rest if addresses else rest[2:]))
    return table


def narrow_table(view: ClusterView) -> Table:
    """The same for 80 columns: without the Raft ports, which `notes` tells where they matter."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("node", "server", "role"):
        table.add_column(column, no_wrap=True)
    for column in ("term", "TL", "WAL end", "behind"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state")
    for node, raft, server, *rest in _rows(view):
        table.add_row(node, server or raft, *rest)
    return table


def _rows(view: ClusterView) -> list[list[str]]:
    """Of all that were asked, by their numbers; those without one last."""
    rows = [
        _row(address, answer, view) for address, answer in sorted(view.answers.items(), key=_at)
    ]
    return sorted(rows, key=lambda row: int(row[0]) if row[0].isdigit() else sys.maxsize)


def _at(asked: tuple[RaftAddress, NodeStatus | None]) -> RaftAddress:
    return asked[0]


def _row(address: RaftAddress, answer: NodeStatus | None, view: ClusterView) -> list[str]:
    if answer is None:
        node, server = _known_as(address, view)
        return [node, str(address), server, "[red]no answer[/red]", "", "", "", "", ""]
    leader = view.leader
    entry = answer.member(answer.node_id)
    server = f"{entry['member']['pg_host']}:{entry['member']['pg_port']}" if entry else ""
    behind = "" if leader is None else format_bytes(max(0, leader.lsn - answer.lsn))
    return [
        str(answer.node_id),
        str(address),
        server,
        _role(answer, leader),
        str(answer.term),
        str(answer.timeline),
        format_lsn(answer.lsn),
        behind,
        escape(answer.phase),
    ]


def _known_as(address: RaftAddress, view: ClusterView) -> tuple[str, str]:
    """Number and server of who does not answer there, as the others know it."""
    for member in view.members:
        if member.raft == address:
            return str(member.node_id), member.server
    return "?", ""


def _role(answer: NodeStatus, leader: NodeStatus | None) -> str:
    if answer.leads:
        return "[bold green]leader[/bold green]"
    if answer.abstaining:
        return "[yellow]catching up[/yellow]"
    entry = leader.member(answer.node_id) if leader else None
    if answer.state == "follower" and entry is not None and entry["learner"]:
        return "learner"
    return answer.state


def format_bytes(count: int) -> str:
    """A number of bytes with a unit."""
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


# --- topology ---


def topology_tree(view: ClusterView) -> Tree:
    """The leader, and below it who receives its WAL."""
    tree = Tree(headline(view))
    leader = next((m for m in view.members if m.leads), None)
    stem = tree
    if leader is not None:
        stem = tree.add(Text(_branch(view, leader), style="bold green"))
    for m in view.members:
        if not m.leads:
            stem.add(Text(_branch(view, m), style="red" if m.answer is None else ""))
    for line in notes(view):
        tree.add(Text(line, style="yellow"))
    return tree


def _branch(view: ClusterView, member: MemberView) -> str:
    words = [f"{member.role}  {member.title}  {member.server}"]
    if member.answer is not None:
        words.append(f"timeline {member.answer.timeline}")
    if not member.leads:
        words += _lag(view, member)
        if member.answer is not None and member.answer.phase:
            words.append(member.answer.phase)
    return ", ".join(words)


def _lag(view: ClusterView, member: MemberView) -> list[str]:
    behind = view.behind(member)
    if behind is None:
        return []
    known = "" if member.answer is not None else " when it was last heard of"
    lag = [f"{format_bytes(behind)} behind{known}"]
    if member.wal is not None and member.answer is not None and view.leader is not None:
        replay = max(0, view.leader.lsn - int(member.wal["replayed_lsn"]))
        lag.append(f"replay {format_bytes(replay)} behind")
    return lag
