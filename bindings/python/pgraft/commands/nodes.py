"""Commands that set up and run a node: demo, create, join, run, prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgraft.commands.base import (
    Advertise,
    App,
    BinDirectory,
    ClusterName,
    DataDirectory,
    Listen,
    NodeId,
    Port,
    RaftListen,
    RaftPort,
    ReplicationConninfo,
    StateDirectory,
    User,
    parse_address,
)
from pgraft.config import NodeSettings
from pgraft.paths import NodePaths
from pgraft.render import make_console
from pgraft.service_manager import LogFormat


def demo(
    nodes: Annotated[int, typer.Option(help="How many servers.", min=3, max=9)] = 3,
    rounds: Annotated[int, typer.Option(help="How often the leader is killed.", min=1)] = 3,
    keep: Annotated[bool, typer.Option(help="Leave the servers' directories.")] = False,
) -> None:
    """Start real servers on this machine, kill the leader again and again, and count the rows.

    Example: pgraft demo
    """
    from pgraft.demo import Demo

    console = make_console()
    try:
        status = Demo(console, nodes=nodes, rounds=rounds, keep=keep).run()
    except KeyboardInterrupt:
        console.print("stopped")
        status = 130
    raise typer.Exit(status)


def create(
    pgdata: DataDirectory,
    node_id: NodeId,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port of the PostgreSQL server.  [default: as it is, 5432 of a new one]",
            min=1,
            max=65535,
        ),
    ] = None,
    listen_addresses: Annotated[
        str | None,
        typer.Option(
            help="listen_addresses of the PostgreSQL server.  [default: as it is, * of a new one "
            "and of one that only listens on localhost]",
        ),
    ] = None,
    raft_port: RaftPort = 8001,
    raft_address: RaftListen = "0.0.0.0",
    advertise_address: Advertise = "",
    cluster_name: ClusterName = "pgraft",
    replication_conninfo: ReplicationConninfo = "",
    auth: Annotated[
        str, typer.Option(help="Authentication of a new database (initdb --auth-host).")
    ] = "scram-sha-256",
    data_dir: StateDirectory = None,
    bindir: BinDirectory = None,
    user: User = None,
) -> None:
    """Set up the first node: initdb if needed, and the configuration.

    Then start it with "pgraft run" and make it a cluster of one:
    CREATE EXTENSION pgraft; SELECT pgraft_init();

    A server that is there already keeps its data and settings, also where its configuration is
    outside the data directory, as on Debian: -D takes either directory. It may run meanwhile.

    Example: pgraft create -D /var/lib/pg/data --node-id 1 --advertise-address 10.0.0.1
    """
    from pgraft.setup_node import create as create_node
    from pgraft.setup_node import present_address

    paths = NodePaths.of(pgdata, data_dir)
    present = present_address(paths, bindir)
    if present is not None:
        port, listen_addresses = port or present[0], listen_addresses or present[1]
    settings = NodeSettings(
        node_id=node_id,
        port=port or 5432,
        listen_addresses=listen_addresses or "*",
        raft_address=raft_address,
        raft_port=raft_port,
        advertise_address=advertise_address,
        cluster_name=cluster_name,
        replication_conninfo=replication_conninfo,
    )
    options = ["--auth-local=peer", f"--auth-host={auth}"]
    create_node(paths, settings, bindir=bindir, user=user, initdb_options=options)
    if present is not None:
        typer.echo("the server that is there keeps its data; stop it, and what starts it, first")
    typer.echo(
        f"node {node_id} is set up; let the other members connect for replication in\n"
        f"  {paths.hba_conf}   (pgraft config -D {paths.pgdata} --member ADDRESS --apply)\n"
        f"start it:  pgraft run -D {paths.pgdata}\n"
        "then, in SQL:  CREATE EXTENSION pgraft; SELECT pgraft_init();"
    )


def join(
    pgdata: DataDirectory,
    node_id: NodeId,
    leader: Annotated[
        str, typer.Option(help="host:port of a member's PostgreSQL server; it tells who leads.")
    ],
    port: Port = 5432,
    listen_addresses: Listen = "*",
    raft_port: RaftPort = 8001,
    raft_address: RaftListen = "0.0.0.0",
    advertise_address: Advertise = "",
    cluster_name: ClusterName = "pgraft",
    replication_conninfo: ReplicationConninfo = "",
    data_dir: StateDirectory = None,
    bindir: BinDirectory = None,
    user: User = None,
) -> None:
    """Set up a further node as a copy of the leader.

    Then start it with "pgraft run", and make it a member with "pgraft add".

    Example: pgraft join -D /var/lib/pg/data --node-id 2 --leader 10.0.0.1:5432
    """
    from pgraft.setup_node import join as join_node

    paths = NodePaths.of(pgdata, data_dir)
    settings = NodeSettings(
        node_id=node_id,
        port=port,
        listen_addresses=listen_addresses,
        raft_address=raft_address,
        raft_port=raft_port,
        advertise_address=advertise_address,
        cluster_name=cluster_name,
        replication_conninfo=replication_conninfo,
    )
    address = parse_address(leader, 5432)
    join_node(paths, settings, (address.host, address.port), bindir=bindir, user=user)
    typer.echo(
        f"node {node_id} is a copy of {address}\n"
        f"start it:  pgraft run -D {paths.pgdata}\n"
        f"then:      pgraft add {advertise_address or '<address of this node>'}:{raft_port} "
        f"--host <a member>"
    )


def run(
    context: typer.Context,
    pgdata: DataDirectory,
    data_dir: StateDirectory = None,
    log_file: Annotated[
        Path | None, typer.Option(help="Server's log.  [default: standard error]")
    ] = None,
    leader_timeout: Annotated[
        float, typer.Option(help="Seconds to look for a leader before a rejoin is tried anew.")
    ] = 60.0,
    bindir: BinDirectory = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="Of the supervisor's own lines.")
    ] = LogFormat.TEXT,
    keep_server: Annotated[
        bool,
        typer.Option(
            "--keep-server",
            help="When this process is killed (kill -9) the server runs on, and the next start "
            "adopts it; for systemd with Restart=always and KillMode=process.",
        ),
    ] = False,
    stop_on_eof: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run a member's server, and start it again whenever it stops.

    SIGTERM or Ctrl-C stops it in order (another node takes over from a leader), a second one at
    once; SIGHUP reloads the configuration. What follows "--" goes to postgres.

    A server that runs already is watched over. A server that stops at once is started again after
    0.1 s, then 0.2 s, up to 5 s. systemd is told what goes on (Type=notify); the process id is in
    run.pid beside the Raft state.

    Exit status: that of the server at its last stop, 0 after an orderly one, 128 and the signal's
    number when it was killed; 1: the node is not set up, or is run by another process.

    Example: pgraft run -D /var/lib/pg/data -- -c work_mem=64MB
    """
    from pgraft.supervisor import RunOptions, Supervisor

    options = RunOptions(
        server_arguments=tuple(context.args),
        log_file=log_file,
        leader_timeout=leader_timeout,
        bindir=bindir,
        stop_on_eof=stop_on_eof,
        keep_server=keep_server,
        log_format=log_format,
    )
    raise typer.Exit(Supervisor(NodePaths.of(pgdata, data_dir), options).run())


def prepare(
    pgdata: DataDirectory,
    data_dir: StateDirectory = None,
    timeout: Annotated[float, typer.Option(help="Seconds to look for a leader.")] = 60.0,
    bindir: BinDirectory = None,
) -> None:
    """Do what is due while a member's server is down: rewind or clone it if it has diverged.

    "pgraft run" does this by itself; with systemd put it into ExecStartPre.

    Example: pgraft prepare -D /var/lib/pg/data
    """
    from pgraft.prepare import prepare as prepare_node

    outcome = prepare_node(NodePaths.of(pgdata, data_dir), timeout=timeout, bindir=bindir)
    typer.echo(outcome.value)


def register(app: App) -> None:
    """Adds the commands."""
    app.command(rich_help_panel="Nodes")(create)
    app.command(rich_help_panel="Nodes")(join)
    app.command(rich_help_panel="Nodes", context_settings={"allow_extra_args": True})(run)
    app.command(rich_help_panel="Nodes")(prepare)
    app.command(rich_help_panel="Nodes")(demo)
