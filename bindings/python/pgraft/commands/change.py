"""Commands that change a running cluster: switchover, add, remove, pause, resume."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

import typer

from pgraft import _pgraft
from pgraft.cluster_view import ClusterView, MemberView
from pgraft.commands.base import (
    DEFAULT_RAFT_PORT,
    App,
    AskDirectory,
    AskPort,
    AskTimeout,
    Conninfo,
    Hosts,
    StateDirectory,
    Target,
    WaitSeconds,
    Yes,
    confirm,
    login_of,
    parse_address,
    parse_duration,
)
from pgraft.errors import CommandError, Exit
from pgraft.leader_sql import ConnectionEndedError
from pgraft.render import format_bytes
from pgraft.status import RaftAddress

_POLL_SECONDS = 0.1
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def switchover(
    to: Annotated[
        str, typer.Option(help="Number or name of the next leader.  [default: who has most WAL]")
    ] = "",
    host: Hosts = None,
    port: AskPort = None,
    pgdata: AskDirectory = None,
    data_dir: StateDirectory = None,
    timeout: AskTimeout = 2.0,
    conninfo: Conninfo = "",
    yes: Yes = False,
    wait: WaitSeconds = 60.0,
) -> None:
    """Hand the leadership over to another member, and wait until that accepts writes.

    Example: pgraft switchover --host 10.0.0.1 --to 2
    """
    login = login_of(conninfo)
    target = Target.of(host, port, pgdata, data_dir, timeout)
    view = target.look()
    old = view.need_leader()
    new = _next_leader(view, to)
    if new is not None and new.leads:
        typer.echo(f"{new.title} leads already")
        return
    behind = view.behind(new) if new else None
    lag = f", which is {format_bytes(behind)} behind" if behind else ""
    confirm(
        f"Hand the leadership over from {old.title} to "
        f"{new.title + lag if new else 'the member that has most WAL'}?",
        yes,
    )
    begun = time.monotonic()
    term = old.answer.term if old.answer else 0
    try:
        login.call(old, "pgraft_transfer_leadership", [new.node_id if new else None])
    except ConnectionEndedError as error:  # a leader that becomes a standby ends its sessions
        typer.echo(f"{error}; waiting for who leads next", err=True)
    found = _wait_for_next_leader(view, old, term, begun + wait, timeout)
    took = time.monotonic() - begun
    answer = found.answer
    where = f" (term {answer.term}, timeline {answer.timeline})" if answer else ""
    if new is not None and found.node_id != new.node_id:
        raise CommandError(
            f"{found.title} leads now{where}, not {new.title}",
            'See "pgraft topology" and the log of ' + new.title + ".",
        )
    typer.echo(f"{found.title} leads and accepts writes{where}, after {took:.1f} s")


def _next_leader(view: ClusterView, to: str) -> MemberView | None:
    others = [m for m in view.voters if not m.leads and m.answer is not None]
    if to:
        new = view.find(to)
        if new.leads:
            return new
        if not new.voter:
            raise CommandError(
                f"{new.title} is a learner, and can't lead before it has caught up",
                'It becomes a voter by itself then: see "pgraft topology".',
            )
        if new.answer is None:
            raise CommandError(
                f"{new.title} does not answer at {new.raft}",
                "Start it first, or name another member.",
            )
        return new
    if not others:
        raise CommandError(
            "there is no other voter that answers",
            'Start another member, or add one: see "pgraft add --help".',
        )
    return None


def _wait_for_next_leader(
    view: ClusterView, old: MemberView, term: int, deadline: float, timeout: float
) -> MemberView:
    """Waits until another member accepts writes; the old one in a new term is an answer, too."""
    while True:
        now = view.again(timeout)
        leader = next((m for m in now.members if m.leads), None)
        if leader is not None and now.leader is not None and now.leader.term > term:
            if leader.node_id != old.node_id:
                return leader
            raise CommandError(
                f"{old.title} leads again: nobody else could",
                "See the logs of the other members (pgraft logs).",
            )
        if time.monotonic() >= deadline:
            if leader is not None:
                raise CommandError(
                    f"{leader.title} still leads", "See its log (pgraft logs), and try again."
                )
            now.need_leader()
        time.sleep(_POLL_SECONDS)


def add(
    node: Annotated[
        str, typer.Argument(help="host or host:port of the new node's Raft port (8001).")
    ],
    host: Hosts = None,
    port: AskPort = None,
    pgdata: AskDirectory = None,
    data_dir: StateDirectory = None,
    timeout: AskTimeout = 2.0,
    conninfo: Conninfo = "",
    wait: WaitSeconds = 300.0,
) -> None:
    """Make a node that runs (pgraft join, pgraft run) a member, and wait until it votes.

    It is a learner until its WAL has caught up. --wait 0 does not wait for that.

    Example: pgraft add 10.0.0.4 --host 10.0.0.1
    """
    login = login_of(conninfo)
    address = parse_address(node, DEFAULT_RAFT_PORT)
    view = Target.of(host, port, pgdata, data_dir, timeout).look()
    leader = view.need_leader()
    node_id, reached_at = _new_node(view, address, timeout)
    if (member := view.member(node_id)) is None:
        arguments = [node_id, reached_at.host, reached_at.port]
        login.call(leader, "pgraft_add_node", arguments)
        typer.echo(f"node {node_id} at {reached_at} is a member")
    elif member.voter:
        typer.echo(f"{member.title} is a member already")
        return
    if wait > 0:
        _wait_for_voter(view, node_id, time.monotonic() + wait, timeout)


def _new_node(view: ClusterView, address: RaftAddress, timeout: float) -> tuple[int, RaftAddress]:
    """Number of the node that answers there, and the address by which members reach it.

    Raises:
        CommandError: Nobody answers, or it can't become a member of this cluster.
    """
    try:
        identity = _pgraft.query_identity(address.host, address.port, timeout)
    except _pgraft.Error as error:
        raise CommandError(
            f"no node answers at {address}: {error}",
            'Start it with "pgraft run", and give its Raft port, not that of PostgreSQL.',
            Exit.NO_LEADER,
        ) from None
    node_id = int(identity["node_id"])
    own = view.need_member_answer().raw["identity"]
    if identity["cluster_name"] != own["cluster_name"]:
        raise CommandError(
            f'node {node_id} at {address} is of cluster "{identity["cluster_name"]}", '
            f'this one is "{own["cluster_name"]}"',
            "Set pgraft.cluster_name in its node.conf, and start it again.",
        )
    member = view.member(node_id)
    advertised = RaftAddress(identity["member"]["address"], int(identity["member"]["port"]))
    if member is not None and advertised != member.raft:
        raise CommandError(
            f"number {node_id} of the node at {address} is that of {member.title} at {member.raft}",
            'Set it up again with another --node-id, or remove that member: "pgraft remove '
            f'{node_id}".',
        )
    known = view.need_member_answer().member(node_id)
    if known is not None and known["member"]["incarnation"] != identity["incarnation"]:
        raise CommandError(
            f"the node at {address} was created anew: the member {node_id} is the one before it",
            f'Remove that one, then add this one: "pgraft remove {node_id}".',
        )
    if advertised.host in _LOOPBACK and address.host not in _LOOPBACK:
        return node_id, address  # it does not know how others reach it
    return node_id, advertised


def _wait_for_voter(view: ClusterView, node_id: int, deadline: float, timeout: float) -> None:
    def votes(now: ClusterView) -> bool:
        member = now.member(node_id)
        return now.leader is not None and member is not None and member.voter

    now = _wait_for(view, votes, deadline, timeout)
    if votes(now):
        typer.echo(f"node {node_id} has caught up and votes")
        return
    member = now.member(node_id)
    said = now.says(member) if member else "no member"
    raise CommandError(
        f"node {node_id} has not caught up yet ({said})",
        'It becomes a voter by itself as soon as it has: see "pgraft topology".',
        Exit.UNKNOWN,
    )


def _wait_for(
    view: ClusterView, condition: Callable[[ClusterView], bool], deadline: float, timeout: float
) -> ClusterView:
    while True:
        now = view.again(timeout)
        if condition(now) or time.monotonic() >= deadline:
            return now
        time.sleep(_POLL_SECONDS)


def remove(
    node: Annotated[str, typer.Argument(help="Number or name of the member.")],
    host: Hosts = None,
    port: AskPort = None,
    pgdata: AskDirectory = None,
    data_dir: StateDirectory = None,
    timeout: AskTimeout = 2.0,
    conninfo: Conninfo = "",
    yes: Yes = False,
) -> None:
    """Remove a member, be it running or lost. Its files stay where they are.

    Example: pgraft remove 3 --host 10.0.0.1
    """
    login = login_of(conninfo)
    view = Target.of(host, port, pgdata, data_dir, timeout).look()
    leader = view.need_leader()
    member = view.find(node)
    if member.leads:
        raise CommandError(
            f"{member.title} is the leader, and can't be removed",
            'Hand the leadership over first: "pgraft switchover".',
        )
    confirm(
        f"Remove {member.title} ({member.role}, {member.server})? {_afterwards(view, member)}", yes
    )
    login.call(leader, "pgraft_remove_node", [member.node_id])
    typer.echo(
        f"{member.title} is removed; stop its server, and remove its data and its Raft directory "
        'before "pgraft join" sets it up again'
    )


def _afterwards(view: ClusterView, removed: MemberView) -> str:
    """What the cluster bears without that member."""
    left = [m for m in view.voters if m.node_id != removed.node_id]
    answering = sum(1 for m in left if m.answer is not None)
    spare = answering - (len(left) // 2 + 1)
    if spare < 0:
        return f"Then only {answering} of {len(left)} voters answer, and nobody can write."
    if spare == 0:
        return "Then one more member lost, and nobody can write."
    return f"Then {spare} more may be lost."


def pause(
    duration: Annotated[str, typer.Option("--for", help="How long: 90s, 30m, 1h, 2d.")] = "1h",
    host: Hosts = None,
    port: AskPort = None,
    pgdata: AskDirectory = None,
    data_dir: StateDirectory = None,
    timeout: AskTimeout = 2.0,
    conninfo: Conninfo = "",
) -> None:
    """Let no failover happen by itself for a while: for maintenance. It ends by itself.

    Should the leader fail meanwhile, nobody can write until it is back. A switchover works.

    Example: pgraft pause --for 30m --host 10.0.0.1
    """
    login = login_of(conninfo)
    seconds = parse_duration(duration)
    view = Target.of(host, port, pgdata, data_dir, timeout).look()
    until = login.call(view.any_member(), "pgraft_pause", [timedelta(seconds=seconds)])
    typer.echo(f'no failover until {until.astimezone():%Y-%m-%d %H:%M:%S %Z}, or "pgraft resume"')


def resume(
    host: Hosts = None,
    port: AskPort = None,
    pgdata: AskDirectory = None,
    data_dir: StateDirectory = None,
    timeout: AskTimeout = 2.0,
    conninfo: Conninfo = "",
) -> None:
    """End a pause.

    Example: pgraft resume --host 10.0.0.1
    """
    login = login_of(conninfo)
    view = Target.of(host, port, pgdata, data_dir, timeout).look()
    login.call(view.any_member(), "pgraft_resume", [])
    typer.echo("failovers happen again")


def register(app: App) -> None:
    """Adds the commands."""
    for command in (switchover, add, remove, pause, resume):
        app.command(rich_help_panel="Change")(command)
