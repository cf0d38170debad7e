"""Commands about the node on this machine: logs, rejoin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pgraft import rejoin_request
from pgraft.commands.base import App, DataDirectory, StateDirectory, Yes, confirm
from pgraft.paths import NodePaths
from pgraft.run_lock import unsupervised
from pgraft.server_log import LogReader, find_log


def logs(
    pgdata: DataDirectory,
    data_dir: StateDirectory = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", help="How many of the newest lines.", min=0)
    ] = 50,
    every: Annotated[
        bool, typer.Option("--all", help="All lines, not only those that concern pgraft.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(help="The log.  [default: where the server or its supervisor writes]"),
    ] = None,
) -> None:
    """Show what this node's server log says of pgraft, with the details and hints.

    Examples: pgraft logs -D /var/lib/pg/data -f; pgraft logs -D /var/lib/pg/data --all -n 20
    """
    path = file or find_log(NodePaths.of(pgdata, data_dir))
    reader = LogReader(path, every=every)
    for line in reader.newest(lines):
        typer.echo(line)
    if not follow:
        return
    try:
        for line in reader.follow():
            typer.echo(line)
    except KeyboardInterrupt:
        return


def rejoin(
    pgdata: DataDirectory,
    data_dir: StateDirectory = None,
    yes: Yes = False,
) -> None:
    """Have a member that is stopped cloned anew from the leader at its next start.

    For a data directory that is damaged or not trusted. The old one is put aside, and removed when
    the node has caught up; until then it counts towards no majority.

    Example: pgraft rejoin -D /var/lib/pg/data
    """
    paths = NodePaths.of(pgdata, data_dir)
    with unsupervised(paths):
        identity = rejoin_request.check(paths)
        confirm(
            f"Clone node {identity.node_id} anew from the leader at its next start? "
            f'"{paths.pgdata}" is put aside as "{paths.retired}", and removed when the node has '
            "caught up.",
            yes,
        )
        rejoin_request.request(paths, f"asked for by {_who()}")
    typer.echo(
        f"node {identity.node_id} is cloned at its next start\n"
        f"start it:  pgraft run -D {paths.pgdata}\n"
        f"(or its service; only clone: pgraft prepare -D {paths.pgdata})"
    )


def _who() -> str:
    """For the log: the operator behind sudo, if there is one."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"user {os.geteuid()}"


def register(app: App) -> None:
    """Adds the commands."""
    app.command(rich_help_panel="Look")(logs)
    app.command(rich_help_panel="Change")(rejoin)
