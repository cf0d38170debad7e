"""Commands that show a cluster: status, topology, history."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
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
from pgraft.errors import CommandError, Exit
from pgraft.pg import format_lsn
from pgraft.promotions import Promotion, promotions_of
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
            typer.echo(json.dumps(status_json(view.answers.items()), indent=2))
        else:
            console = make_console()
            console.print(status_view(view, console.width))
            _say_why_nobody(view)
    raise typer.Exit(Exit.DONE if view.leader is not None else Exit.FAILED)


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
    try:
        if as_json:
            while True:
                typer.echo(json.dumps(status_json(view.answers.items())))
                time.sleep(seconds)
                view = target.look()
        if not console.is_terminal:
            while True:
                console.print(time.strftime("%H:%M:%S"), status_view(view, console.width))
                time.sleep(seconds)
                view = target.look()
        with Live(status_view(view, console.width), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(seconds)
                view = target.look()
                live.update(status_view(view, console.width), refresh=True)
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
