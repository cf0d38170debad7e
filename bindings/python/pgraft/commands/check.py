"""The command check."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pgraft.checks.cluster import check_cluster, unheard
from pgraft.checks.facts import gather
from pgraft.checks.finding import Finding, Level, exit_status
from pgraft.checks.here import check_here
from pgraft.checks.settings import check_settings
from pgraft.cluster_view import ClusterView
from pgraft.commands.base import (
    App,
    AsJson,
    AskDirectory,
    AskPort,
    AskTimeout,
    BinDirectory,
    Conninfo,
    Hosts,
    StateDirectory,
    Target,
    login_of,
)
from pgraft.render import make_console

_HEARD_SECONDS = 3.0
_POLL_SECONDS = 0.3
_STYLES = {
    Level.OK: "green",
    Level.NOTE: "dim",
    Level.WARNING: "yellow",
    Level.CRITICAL: "bold red",
}


def check(
    host: Hosts = None,
    port: AskPort = None,
    pgdata: AskDirectory = None,
    data_dir: StateDirectory = None,
    timeout: AskTimeout = 2.0,
    conninfo: Conninfo = "",
    bindir: BinDirectory = None,
    as_json: AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only what needs something to be done.")
    ] = False,
) -> None:
    """Look for what would break a failover, and say how to mend it. Changes nothing.

    Members' settings, versions, collations and clocks, who reaches whom, slots, streams. With -D
    also what only that machine can tell: supervisor, files, disk latency and space, and whether
    the other members let it in. So run it with -D on each.

    Exit status 0: nothing to do; 1: warnings; 2: something critical; 3: nobody answers.

    Example: pgraft check -D /var/lib/pg/data
    """
    login = login_of(conninfo)
    target = Target.of(host, port, pgdata, data_dir, timeout)
    view = target.look()
    view.need_member_answer()
    view = _when_heard(view, timeout)
    facts = gather(view, login)
    findings = [*check_cluster(view, facts), *check_settings(facts)]
    if target.paths is not None:
        findings += check_here(target.paths, view, bindir)
    else:
        findings.append(
            Finding(
                Level.NOTE,
                "disk",
                "",
                "supervisors, files and disks were not looked at",
                "Run it with -D on each member's machine.",
            )
        )
    if as_json:
        typer.echo(json.dumps([f.as_json() for f in findings], indent=2))
    else:
        _show(f for f in findings if not quiet or f.level > Level.NOTE)
    raise typer.Exit(exit_status(findings))


def _when_heard(view: ClusterView, timeout: float) -> ClusterView:
    """Those that have only just started need a moment to hear of each other."""
    deadline = time.monotonic() + _HEARD_SECONDS
    while unheard(view) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        view = view.again(timeout)
    return view


def _show(findings: Iterable[Finding]) -> None:
    table = Table(show_lines=False)
    for column in ("", "check", "node"):
        table.add_column(column, no_wrap=True)
    table.add_column("what, and what to do")
    for f in sorted(findings, key=lambda f: -f.level):
        what = escape(f.message) + (f"\n[italic]{escape(f.fix)}[/italic]" if f.fix else "")
        level = f"[{_STYLES[f.level]}]{f.level.name.lower()}[/]"
        table.add_row(level, f.check, f.node, what)
    make_console().print(table)


def register(app: App) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Look")(check)
