"""The command config."""

from __future__ import annotations

from typing import Annotated

import typer

from pgraft import _pgraft
from pgraft.commands.base import (
    App,
    DataDirectory,
    StateDirectory,
)
from pgraft.config import INCLUDE_MARK, parse_settings
from pgraft.configure import FileChange, plan, settings_from
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import data_directory_version

# Option, and the setting of node.conf that it is.
_SETTING_OF = {
    "node_id": "pgraft.node_id",
    "port": "port",
    "listen_addresses": "listen_addresses",
    "raft_port": "pgraft.listen_port",
    "raft_address": "pgraft.listen_address",
    "advertise_address": "pgraft.advertise_address",
    "cluster_name": "pgraft.cluster_name",
    "replication_conninfo": "pgraft.replication_conninfo",
}
_KEPT = "  [default: as it is]"


def config(
    pgdata: DataDirectory,
    data_dir: StateDirectory = None,
    node_id: Annotated[int | None, typer.Option(help="Number of this node." + _KEPT, min=1)] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of the server." + _KEPT, min=1, max=65535)
    ] = None,
    listen_addresses: Annotated[
        str | None, typer.Option(help="listen_addresses of the server." + _KEPT)
    ] = None,
    raft_port: Annotated[
        int | None, typer.Option(help="Port for the other members." + _KEPT, min=1, max=65535)
    ] = None,
    raft_address: Annotated[
        str | None, typer.Option(help="Address to listen on for them." + _KEPT)
    ] = None,
    advertise_address: Annotated[
        str | None, typer.Option(help="Address by which they reach this node." + _KEPT)
    ] = None,
    cluster_name: Annotated[str | None, typer.Option(help="Name of the cluster." + _KEPT)] = None,
    replication_conninfo: Annotated[
        str | None,
        typer.Option(help="How members connect, all but host and port." + _KEPT),
    ] = None,
    member: Annotated[
        list[str] | None,
        typer.Option(
            help="Address, network or name of a member for pg_hba.conf; several times.  "
            "[default: the members that this node knows]"
        ),
    ] = None,
    auth: Annotated[
        str, typer.Option(help="Their authentication in pg_hba.conf.")
    ] = "scram-sha-256",
    apply: Annotated[
        bool, typer.Option("--apply", help="Write it; files that change keep a .bak beside them.")
    ] = False,
) -> None:
    """Print what this node's node.conf, postgresql.conf and pg_hba.conf need, or write it.

    What stands in them stays: missing settings are added, those given here are changed. Doing it
    again changes nothing.

    Example: pgraft config -D /var/lib/pg/data --node-id 1 --member 10.0.0.0/24 --apply
    """
    paths = NodePaths.of(pgdata, data_dir)
    options = {
        "node_id": node_id,
        "port": port,
        "listen_addresses": listen_addresses,
        "raft_port": raft_port,
        "raft_address": raft_address,
        "advertise_address": advertise_address,
        "cluster_name": cluster_name,
        "replication_conninfo": replication_conninfo,
    }
    conf = _present(paths)
    owner = Owner.of_directory(paths.pgdata)
    changes = plan(
        paths,
        settings_from(conf, **options),
        [_SETTING_OF[name] for name, value in options.items() if value is not None],
        member or _known_members(paths),
        auth,
        owner.name,
    )
    if not apply:
        for change in changes:
            _print(change)
        return
    owner.make_directory(paths.data_dir)
    for change in changes:
        if not change.changed:
            typer.echo(f"{change.path}: is as it should be")
            continue
        kept = change.apply(owner)
        typer.echo(f"{change.path}: written" + (f", before: {kept}" if kept else ""))
    if any(change.changed for change in changes):
        typer.echo(
            "restart the server for it (pg_hba.conf alone: pg_ctl reload); what still waits is "
            'shown by "pgraft check"'
        )


def _present(paths: NodePaths) -> dict[str, str]:
    """What is set already: in node.conf, or in a server's own file before it was a node."""
    data_directory_version(paths.pgdata)
    for path in (paths.node_conf, paths.server_conf):
        if path.exists():
            return parse_settings(path.read_text(encoding="utf-8"))
    return {}


def _known_members(paths: NodePaths) -> list[str]:
    try:
        members = _pgraft.read_members(str(paths.data_dir))
    except _pgraft.NotFound:
        return []
    return list(dict.fromkeys(m.pg_host for m in members))


def _print(change: FileChange) -> None:
    typer.echo(f"# --- {change.path}" + ("" if change.changed else " (is as it should be)"))
    if change.path.name == "postgresql.conf":
        typer.echo("# its last line:")
        typer.echo(next(line for line in change.after.splitlines() if INCLUDE_MARK in line))
    elif change.path.name == "pg_hba.conf":
        typer.echo("# before all other lines:")
        typer.echo(change.after[: change.after.index("# pgraft: end")] + "# pgraft: end")
    else:
        typer.echo(change.after.rstrip("\n"))
    typer.echo("")


def register(app: App) -> None:
    """Adds the command."""
    app.command(rich_help_panel="Nodes")(config)
