"""Commands that show a cluster: status, topology, history."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table

from pgraft.cluster_view import ClusterView
from pgraft.commands.base import (
    App,
    AsJson,
    AskDirectory,
    AskPort,
    AskTimeout,
    Conninfo,
    Hosts,
    StateDirectory,
    Target,
    login_of,
    show_error,
)
from pgraft.errors import CommandError, Error, Exit
from pgraft.pg import format_lsn
from pgraft.progress import local_rejoin
from pgraft.promotions import Promotion, promotions_of
from pgraft.rejoin_view import Rejoin
from pgraft.render import make_console, status_json, status_view, topology_tree

_WATCH_SECONDS = 1.0


def status(
    seconds: Annotated[
        float | None,
        typer.Argument(help="With --watch: how often.  [default: 1]", min=0.1, max=86400),
    ] = None,
    host: Hosts = None,
    port: AskPort = None,
    pgdata: AskDirectory = None,
    data_dir: StateDirectory = None,
    timeout: AskTimeout = 2.0,
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C; with --json a line each.")
    ] = False,
) -> None:
    """Show the cluster as its members see it, asked over their Raft ports.

    Also how far a rewind or clone is: as the leader sees it, or, with -D, as this machine's own
    files say.

    Exit status 0: a leader accepts writes; 1: none does.

    Examples: pgraft status --host 10.0.0.1; pgraft status -D /var/lib/pg/data --watch 2
    """
    if seconds is not None and not watch:
        raise CommandError(
            f'"{seconds:g}" has no meaning without --watch',
            "A member is named with --host and its Raft port with --port.",
            Exit.USAGE,
        )
    target = Target.of(host, port, pgdata, data_dir, timeout)
    if watch:
        view = _watch(target, _WATCH_SECONDS if seconds is None else seconds, as_json)
    else:
        view = target.look()
        if as_json:
            typer.echo(json.dumps(status_json(view, _rejoin_here(target)), indent=2))
        else:
            console = make_console()
            console.print(status_view(view, console.width, _rejoin_here(target)))
            _say_why_nobody(view)
    raise typer.Exit(Exit.DONE if view.leader is not None else Exit.FAILED)


def _rejoin_here(target: Target) -> Rejoin | None:
    """Of the node on this machine, if it was named; the cluster is shown whatever its files say."""
    if target.paths is None:
        return None
    try:
        return local_rejoin(target.paths)
    except (Error, OSError) as error:
        typer.echo(f"pgraft: whether this node rejoins can't be told: {error}", err=True)
        return None


def _say_why_nobody(view: ClusterView) -> None:
    if view.witness is None:
        try:
            view.need_member_answer()
        except CommandError as error:
            show_error(error)


def _watch(target: Target, seconds: float, as_json: bool) -> ClusterView:
    """Shows it again and again; returns the newest view after Ctrl-C."""
    view = target.look()
    console = make_console()

    def shown() -> RenderableType:
        return status_view(view, console.width, _rejoin_here(target))

    try:
        if as_json:
            while True:
                typer.echo(json.dumps(status_json(view, _rejoin_here(target))))
                time.sleep(seconds)
                view = target.look()
        if not console.is_terminal:
            while True:
                console.print(time.strftime("%H:%M:%S"), shown())
                time.sleep(seconds)
                view = target.look()
        with Live(shown(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(seconds)
                view = target.look()
                live.update(shown(), refresh=True)
    except KeyboardInterrupt:
        return view


def topology(
    host: Hosts = None,
    port: AskPort = None,
    pgdata: AskDirectory = None,
    data_dir: StateDirectory = None,
    timeout: AskTimeout = 2.0,
) -> None:
    """Show the leader and, below it, who follows and how far behind.

    Exit status 0: a leader accepts writes; 1: none does; 3: nobody answers.

    Example: pgraft topology --host 10.0.0.1
    """
    view = Target.of(host, port, pgdata, data_dir, timeout).look()
    view.need_member_answer()
    make_console().print(topology_tree(view))
    raise typer.Exit(Exit.DONE if view.leader is not None else Exit.FAILED)


def history(
    host: Hosts = None,
    port: AskPort = None,
    pgdata: AskDirectory = None,
    data_dir: StateDirectory = None,
    timeout: AskTimeout = 2.0,
    conninfo: Conninfo = "",
    as_json: AsJson = False,
) -> None:
    """Show who was promoted when: term, timeline, leader, where the WAL forks off.

    From the members' replicated state; the times, which that does not hold, are those of the
    leader's history files, when its server lets this user read them.

    Example: pgraft history --host 10.0.0.1
    """
    login = login_of(conninfo)
    view = Target.of(host, port, pgdata, data_dir, timeout).look()
    promotions, why_no_times = promotions_of(view, login)
    if as_json:
        typer.echo(json.dumps([p.as_json() for p in promotions], indent=2))
    else:
        make_console().print(_history_table(promotions))
        if why_no_times:
            typer.echo(f"without times: {why_no_times}", err=True)


def _history_table(promotions: list[Promotion]) -> Table:
    table = Table()
    for column in ("timeline", "term", "leader", "forks off at", "time"):
        table.add_column(column)
    for p in promotions:
        when = p.time.isoformat(sep=" ", timespec="seconds") if p.time else ""
        fork = format_lsn(p.switch_lsn) if p.switch_lsn else ""
        table.add_row(str(p.timeline), str(p.term), p.leader, fork, when)
    return table


def register(app: App) -> None:
    """Adds the commands."""
    for command in (status, topology, history):
        app.command(rich_help_panel="Look")(command)
