"""The command line `pgraft`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from pgraft import _pgraft
from pgraft.config import NodeSettings, read_node_conf
from pgraft.errors import Error
from pgraft.paths import NodePaths
from pgraft.render import make_console, status_json, status_table
from pgraft.status import RaftAddress, discover


class _App(typer.Typer):
    """Our own errors are one line, without a traceback."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Runs the command."""
        try:
            return super().__call__(*arguments, **keywords)
        except (Error, psycopg.Error, OSError) as error:
            typer.echo(f"pgraft: {str(error).strip()}", err=True)
            raise SystemExit(1) from None


app = _App(
    name="pgraft",
    help="PostgreSQL high availability from inside PostgreSQL, by Raft consensus.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataDirectory = Annotated[
    Path, typer.Option("-D", "--pgdata", envvar="PGDATA", help="PostgreSQL's data directory.")
]
StateDirectory = Annotated[
    Path | None,
    typer.Option(help="Directory of the Raft state.  [default: <pgdata>.pgraft]"),
]
BinDirectory = Annotated[
    Path | None, typer.Option(help="Directory of PostgreSQL's programs.  [default: found]")
]
NodeId = Annotated[int, typer.Option(help="Number of this node, unique in its cluster.", min=1)]
Port = Annotated[int, typer.Option(help="Port of the PostgreSQL server.", min=1, max=65535)]
Listen = Annotated[str, typer.Option(help="listen_addresses of the PostgreSQL server.")]
RaftPort = Annotated[int, typer.Option(help="Port for the other members.", min=1, max=65535)]
RaftListen = Annotated[str, typer.Option(help="Address to listen on for the other members.")]
Advertise = Annotated[str, typer.Option(help="Address by which the other members reach this node.")]
ClusterName = Annotated[str, typer.Option(help="Only nodes with the same one talk to each other.")]
ReplicationConninfo = Annotated[
    str,
    typer.Option(
        help="How members connect to each other, all but host and port: "
        '"user=replicator passfile=/etc/pgraft.pass".'
    ),
]
User = Annotated[
    str | None, typer.Option(help="Owner of the new data directory, as root.  [default: postgres]")
]


@app.command()
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


@app.command()
def create(
    pgdata: DataDirectory,
    node_id: NodeId,
    port: Port = 5432,
    listen_addresses: Listen = "*",
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

    Example: pgraft create -D /var/lib/pg/data --node-id 1 --advertise-address 10.0.0.1
    """
    from pgraft.setup_node import create as create_node

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
    options = ["--auth-local=peer", f"--auth-host={auth}"]
    create_node(paths, settings, bindir=bindir, user=user, initdb_options=options)
    typer.echo(
        f"node {node_id} is set up; let the other members connect for replication in\n"
        f"  {paths.hba_conf}\n"
        f"start it:  pgraft run -D {paths.pgdata}\n"
        "then, in SQL:  CREATE EXTENSION pgraft; SELECT pgraft_init();"
    )


@app.command()
def join(
    pgdata: DataDirectory,
    node_id: NodeId,
    leader: Annotated[str, typer.Option(help="host:port of the leader's PostgreSQL server.")],
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

    Then start it with "pgraft run", and add it on the leader:
    SELECT pgraft_add_node(2, '10.0.0.2', 8001);

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
    address = RaftAddress.parse(leader, default_port=5432)
    join_node(paths, settings, (address.host, address.port), bindir=bindir, user=user)
    typer.echo(
        f"node {node_id} is a copy of {address}\n"
        f"start it:  pgraft run -D {paths.pgdata}\n"
        f"then, on the leader:  SELECT pgraft_add_node({node_id}, "
        f"'{advertise_address or '<address of this node>'}', {raft_port});"
    )


@app.command(context_settings={"allow_extra_args": True})
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
    stop_on_eof: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run a member's server, and start it again whenever it stops.

    SIGTERM or Ctrl-C stops it in order (another node takes over from a leader), a second one at
    once; SIGHUP reloads the configuration. What follows "--" goes to postgres.

    Example: pgraft run -D /var/lib/pg/data -- -c work_mem=64MB
    """
    from pgraft.supervisor import RunOptions, Supervisor

    options = RunOptions(
        server_arguments=tuple(context.args),
        log_file=log_file,
        leader_timeout=leader_timeout,
        bindir=bindir,
        stop_on_eof=stop_on_eof,
    )
    raise typer.Exit(Supervisor(NodePaths.of(pgdata, data_dir), options).run())


@app.command()
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


@app.command()
def status(
    host: Annotated[str, typer.Option(help="A member's host.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its Raft port.", min=1, max=65535)] = 8001,
    pgdata: Annotated[
        Path | None,
        typer.Option("-D", "--pgdata", help="Or: the data directory of a node on this machine."),
    ] = None,
    data_dir: StateDirectory = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the cluster as its members see it, asked over their Raft ports.

    Exit status 0: a leader accepts writes; 1: none does.

    Example: pgraft status --host 10.0.0.1
    """
    seeds = [RaftAddress(host, port)]
    if pgdata is not None:
        seeds = _seeds_of(NodePaths.of(pgdata, data_dir))
    answers = discover(seeds, timeout)
    if as_json:
        typer.echo(json.dumps(status_json(answers.items()), indent=2))
    else:
        make_console().print(status_table(answers))
    raise typer.Exit(0 if any(a is not None and a.leads for a in answers.values()) else 1)


def _seeds_of(paths: NodePaths) -> list[RaftAddress]:
    conf = read_node_conf(paths)
    own = conf.get("pgraft.advertise_address") or conf.get("pgraft.listen_address", "")
    if own in ("", "0.0.0.0", "::"):
        own = "127.0.0.1"
    seeds = [RaftAddress(own, int(conf.get("pgraft.listen_port", "8001")))]
    try:
        members = _pgraft.read_members(str(paths.data_dir))
    except _pgraft.NotFound:
        members = []
    return seeds + [RaftAddress(m.address, m.port) for m in members]
