"""The command failover: for a cluster whose majority is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgraft import new_cluster
from pgraft.cluster_view import ClusterView
from pgraft.commands.base import (
    App,
    AskDirectory,
    AskPort,
    AskTimeout,
    BinDirectory,
    Conninfo,
    Hosts,
    StateDirectory,
    Target,
    Yes,
    confirm,
    login_of,
)
from pgraft.errors import CommandError, Exit
from pgraft.leader_sql import Login
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres, format_lsn
from pgraft.prepare import log_to_stderr, refuse_running_server
from pgraft.run_lock import unsupervised
from pgraft.source import Position


def failover(
    host: Hosts = None,
    port: AskPort = None,
    pgdata: AskDirectory = None,
    data_dir: StateDirectory = None,
    timeout: AskTimeout = 2.0,
    conninfo: Conninfo = "",
    bindir: BinDirectory = None,
    allow_data_loss: Annotated[
        bool,
        typer.Option(
            "--allow-data-loss", help="Begin a new cluster from the stopped member of -D."
        ),
    ] = False,
    yes: Yes = False,
) -> None:
    """Say what is missing when a majority is gone; with --allow-data-loss go on without it.

    While a majority lives, pgraft fails over by itself. Without one, commits that were acknowledged
    may be on the lost members alone, so nobody can go on safely: this says who is missing.

    With --allow-data-loss the stopped member in -D becomes a new cluster of one, with a new id:
    members of the old one count for nothing in it and come back as copies only (remove their
    directories, "pgraft join", "pgraft add"). Two things are lost or at risk: commits that this
    member never got, and what is in the Raft key-value store; and should the lost members come
    back by themselves, they would be the old cluster again, so make sure that they stay down.

    Exit status 0: a leader accepts writes, or the new cluster is made; 3: none does.

    Examples: pgraft failover --host 10.0.0.1; pgraft failover -D /var/lib/pg/data --allow-data-loss
    """
    login_of(conninfo)
    target = Target.of(host, port, pgdata, data_dir, timeout)
    if not allow_data_loss:
        _say(target.look())
        return
    if target.paths is None:
        raise CommandError(
            "--allow-data-loss works on the stopped member of this machine",
            'Run it where the member with most WAL is ("pgraft failover" without it says which), '
            "with -D and without --host.",
            Exit.USAGE,
        )
    with unsupervised(target.paths):
        _begin(target, target.paths, conninfo, bindir, yes)


def _say(view: ClusterView) -> None:
    """Without data loss: what is there, what is missing, what to do.

    Raises:
        CommandError: No leader accepts writes.
    """
    newest = view.need_member_answer()
    if view.leader is not None:
        typer.echo(f"node {view.leader.node_id} leads and accepts writes: nothing is to be done")
        return
    answering = [m for m in view.voters if m.answer is not None]
    if len(answering) >= view.majority:
        raise CommandError(
            f"a majority ({len(answering)} of {len(view.voters)} voters) answers, and elects a "
            "leader by itself",
            'What each one waits for is shown by "pgraft status --watch".',
            Exit.NO_LEADER,
        )
    missing = ", ".join(f"{m.title} ({m.raft})" for m in view.missing)
    most = max(
        (m for m in answering if m.answer is not None),
        key=lambda m: (m.answer.timeline, m.answer.lsn) if m.answer else (0, 0),
        default=None,
    )
    needed = view.majority - len(answering)
    hint = (
        f"Start {needed} of them, or bring back their data with their Raft directory: then nothing "
        "is lost. "
    )
    if most is not None and most.answer is not None:
        hint += (
            f"If they are lost for good: {most.title} has most WAL of those that answer "
            f"(timeline {most.answer.timeline}, {format_lsn(most.answer.lsn)}); stop it, and see "
            '"pgraft failover --help" for --allow-data-loss.'
        )
    raise CommandError(
        f"nothing can be done without the risk of losing commits: {len(answering)} of "
        f"{len(view.voters)} voters of {newest.raw['identity']['cluster_name']} answer, "
        f"{view.majority} are needed; missing: {missing}",
        hint,
        Exit.NO_LEADER,
    )


def _begin(target: Target, paths: NodePaths, conninfo: str, bindir: Path | None, yes: bool) -> None:
    refuse_running_server(paths)
    old = new_cluster.survivor(paths)
    owner = Owner.of_directory(paths.pgdata)
    postgres = Postgres.find(bindir=bindir, pgdata=paths.pgdata)
    words = Login(conninfo, root_is=owner.name).words()
    view = target.look()
    _refuse_needless(view, old)
    end = new_cluster.position(paths, postgres, owner, log_to_stderr)
    _refuse_less_wal(view, old, end)
    others = ", ".join(m.title for m in view.members if m.node_id != old.node_id) or "unknown"
    confirm(
        f"Node {old.node_id} goes on alone from timeline {end.timeline}, {format_lsn(end.lsn)}. "
        f"Commits that only the others ({others}) have are LOST, even if they were acknowledged; "
        "so is the Raft key-value store. The others must stay down: by themselves they would be "
        "the old cluster again. Go on?",
        yes,
    )
    kept = new_cluster.begin(paths, postgres, owner, old, words, log_to_stderr)
    typer.echo(
        f"node {old.node_id} is a new cluster of one; the old Raft state is in {kept}\n"
        f"start it:  pgraft run -D {paths.pgdata}\n"
        "then, for each further member: remove its data and its Raft directory, pgraft join, "
        "pgraft run, pgraft add"
    )


def _refuse_needless(view: ClusterView, old: new_cluster.Survivor) -> None:
    """With this one started, is there a majority?"""
    if view.leader is not None:
        raise CommandError(
            f"node {view.leader.node_id} leads and accepts writes",
            f"Start node {old.node_id}: it follows.",
        )
    answering = {m.node_id for m in view.voters if m.answer is not None} | {old.node_id}
    if view.voters and len(answering) >= view.majority:
        raise CommandError(
            f"with node {old.node_id} started, {len(answering)} of {len(view.voters)} voters are "
            "there, which is a majority: nothing has to be lost",
            "Start it.",
        )


def _refuse_less_wal(view: ClusterView, old: new_cluster.Survivor, end: Position) -> None:
    for node in view.nodes:
        if int(node.raw["identity"]["cluster_id"]) != old.cluster_id:
            continue
        other = Position(node.timeline, node.lsn)
        if (other.timeline, other.lsn) > (end.timeline, end.lsn):
            raise CommandError(
                f"node {node.node_id} has more WAL (timeline {other.timeline}, "
                f"{format_lsn(other.lsn)}) than node {old.node_id} (timeline {end.timeline}, "
                f"{format_lsn(end.lsn)})",
                f"Stop node {node.node_id}, and run this on its machine. If that is not wanted, "
                "stop it all the same.",
            )


def register(app: App) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Change")(failover)
