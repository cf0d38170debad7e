"""Tables and trees for people, and the same for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from pgraft.cluster_view import ClusterView, MemberView
from pgraft.pg import format_lsn
from pgraft.rejoin_view import Rejoin, rejoins_of, role_text, sentence
from pgraft.status import NodeStatus, RaftAddress

_WIDTH_WITHOUT_TERMINAL = 150
_WIDE = 112
_USUAL_PRIORITY = 100


def make_console() -> Console:
    """A terminal has its own width; elsewhere lines are not to be broken at 80 columns."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)


# --- status ---


def status_view(
    view: ClusterView, width: int = _WIDTH_WITHOUT_TERMINAL, local: Rejoin | None = None
) -> RenderableType:
    """The cluster in one line, its nodes in a table, and what is to be looked at.

    Args:
        view: Of the cluster.
        width: In columns.
        local: The rejoin of the node on this machine, if it was named.
    """
    rejoins = rejoins_of(view, local)
    table = narrow_table(view, rejoins) if width < _WIDE else wide_table(view, rejoins)
    return Group(headline(view), table, *map(Text, [*notes(view), *under_way(view, rejoins)]))


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


def under_way(view: ClusterView, rejoins: Mapping[int, Rejoin]) -> list[str]:
    """What goes on or is held back, as sentences."""
    found = []
    answers = {node.node_id for node in view.nodes}
    found += [
        sentence(r) for node, r in sorted(rejoins.items()) if r["phase"] or node not in answers
    ]
    found += [f"{m.title} has no vote yet: {m.waits_for}." for m in view.members if m.waits_for]
    witness = view.witness
    if witness is not None and witness.more is not None:
        target = view.member(int(witness.more["switchover_to"]))
        if target is not None:
            found.append(f"A switchover to {target.title} is under way.")
        if witness.paused_until is not None:
            until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(witness.paused_until))
            found.append(f"Failover is paused until {until} (by {witness.more['paused_by']}).")
    if witness is not None and witness.change_waits_for:
        found.append(f"No member can be added or removed now: {witness.change_waits_for}.")
    if len(versions := _versions(view)) > 1:
        said = ", ".join(f"{v} on {' and '.join(map(str, ids))}" for v, ids in versions.items())
        found.append(f"The members' versions of pgraft differ: {said}.")
    return found


def _versions(view: ClusterView) -> dict[str, list[int]]:
    """Nodes by the version of pgraft that they run."""
    found: dict[str, list[int]] = {}
    for node in view.nodes:
        found.setdefault(node.version, []).append(node.node_id)
    return dict(sorted(found.items()))


def status_table(answers: Mapping[RaftAddress, NodeStatus | None], title: str = "") -> Table:
    """One line a node: what it is, where its WAL ends, how far it is behind."""
    return _full_table(ClusterView(answers), {}, title, addresses=False)


def wide_table(view: ClusterView, rejoins: Mapping[int, Rejoin]) -> Table:
    """The same with addresses."""
    return _full_table(view, rejoins, "", addresses=True)


def _full_table(
    view: ClusterView, rejoins: Mapping[int, Rejoin], title: str, *, addresses: bool
) -> Table:
    table = Table(title=title or None, title_justify="left")
    table.add_column("node")
    if addresses:
        table.add_column("Raft port", no_wrap=True)
        table.add_column("server", no_wrap=True)
    for column in ("role", "term", "timeline", "WAL end"):
        table.add_column(column, no_wrap=True)
    table.add_column("behind", justify="right", no_wrap=True)
    table.add_column("state")
    for node, *rest in _rows(view, rejoins):
        table.add_row(node, *(rest if addresses else rest[2:]))
    return table


def narrow_table(view: ClusterView, rejoins: Mapping[int, Rejoin]) -> Table:
    """The same for 80 columns: without the Raft ports, which `notes` tells where they matter."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("node", "server", "role"):
        table.add_column(column, no_wrap=True)
    for column in ("term", "TL", "WAL end", "behind"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state")
    for node, raft, server, *rest in _rows(view, rejoins):
        table.add_row(node, server or raft, *rest)
    return table


def _rows(view: ClusterView, rejoins: Mapping[int, Rejoin]) -> list[list[str]]:
    """Of all that were asked, by their numbers; those without one last."""
    rows = [
        _row(address, answer, view, rejoins)
        for address, answer in sorted(view.answers.items(), key=_at)
    ]
    return sorted(rows, key=lambda row: int(row[0]) if row[0].isdigit() else sys.maxsize)


def _at(asked: tuple[RaftAddress, NodeStatus | None]) -> RaftAddress:
    return asked[0]


def _row(
    address: RaftAddress,
    answer: NodeStatus | None,
    view: ClusterView,
    rejoins: Mapping[int, Rejoin],
) -> list[str]:
    if answer is None:
        member = _known_as(address, view)
        node, server = (str(member.node_id), member.server) if member else ("?", "")
        rejoin = rejoins.get(member.node_id) if member else None
        role = f"[yellow]{role_text(rejoin)}[/yellow]" if rejoin else "[red]no answer[/red]"
        state = ", ".join(_told(member)) if member else ""
        return [node, str(address), server, role, "", "", "", "", state]
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
        escape(_state(answer, view)),
    ]


def _state(answer: NodeStatus, view: ClusterView) -> str:
    """What it does or waits for; of a leader also whether it may accept writes, and how long."""
    member = view.member(answer.node_id)
    words = [answer.phase] if answer.phase else []
    entry = view.leader.member(answer.node_id) if view.leader else None
    if entry and answer.phase.startswith("following") and not entry["flush_lsn"]:
        words.append("not streaming")  # its log says why, and so does "pgraft check -D"
    if answer.state == "leader" and answer.more is not None:
        lease = f"lease {answer.more['lease_ms']} ms" if answer.more["lease_ms"] else "no lease"
        words += ["fenced", lease] if answer.more["fenced"] else [lease]
    return ", ".join([*words, *(_told(member) if member else [])])


def _told(member: MemberView) -> list[str]:
    """Settings of a member that are not the usual ones."""
    priority = member.priority
    words = [f"priority {priority}"] if priority not in (None, _USUAL_PRIORITY) else []
    return words + (["nosync"] if member.nosync else [])


def _known_as(address: RaftAddress, view: ClusterView) -> MemberView | None:
    """Who does not answer there, as the others know it."""
    return next((m for m in view.members if m.raft == address), None)


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


def status_json(view: ClusterView, local: Rejoin | None = None) -> list[dict[str, Any]]:
    """The same for programs: an object for each that was asked, and for each node that joins."""
    rejoins = dict(rejoins_of(view, local))
    found = []
    for address, answer in view.answers.items():
        member = _known_as(address, view)
        node = answer.node_id if answer else member.node_id if member else None
        rejoin = rejoins.pop(node, None) if node is not None else None
        raw = dict(answer.raw) if answer else None
        found.append({"asked": str(address), "answer": raw, "rejoin": rejoin})
    found += [{"asked": None, "answer": None, "rejoin": rejoin} for rejoin in rejoins.values()]
    return found


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
