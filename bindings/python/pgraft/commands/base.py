"""What all commands share: the application, how errors look, whom to ask, questions."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from pgraft import _pgraft
from pgraft.cluster_view import ClusterView
from pgraft.config import read_node_conf
from pgraft.errors import EXIT_MEANINGS, CommandError, Error, Exit, SetupError
from pgraft.leader_sql import Login
from pgraft.paths import NodePaths
from pgraft.status import RaftAddress

DEFAULT_RAFT_PORT = 8001

EXIT_STATUSES = "Exit status: " + "; ".join(
    f"{int(status)} {meaning}" for status, meaning in EXIT_MEANINGS.items()
)


class App(typer.Typer):
    """Errors that we expect are one line and what to do next, without a traceback."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Runs the command."""
        try:
            return super().__call__(*arguments, **keywords)
        except CommandError as error:
            show_error(error)
            raise SystemExit(int(error.status)) from None
        except (Error, psycopg.Error, OSError) as error:
            typer.echo(f"pgraft: {str(error).strip()}", err=True)
            raise SystemExit(int(Exit.FAILED)) from None


def show_error(error: CommandError) -> None:
    """Says on standard error what is wrong, and what to do."""
    typer.echo(f"pgraft: {error}", err=True)
    if error.hint:
        typer.echo(f"hint: {error.hint}", err=True)


# --- options ---

DataDirectory = Annotated[
    Path,
    typer.Option(
        "-D",
        "--pgdata",
        envvar="PGDATA",
        help="PostgreSQL's data directory, or that of its configuration (Debian).",
    ),
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

# Whom to ask.
Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--host",
        help="A member's host, or host:port of its Raft port; may be given several times.  "
        "[default: that of -D, else PGRAFT_HOSTS, else 127.0.0.1]",
    ),
]
AskPort = Annotated[
    int | None,
    typer.Option("--port", help="Its Raft port.  [default: 8001]", min=1, max=65535),
]
AskDirectory = Annotated[
    Path | None,
    typer.Option(
        "-D",
        "--pgdata",
        envvar="PGDATA",
        help="Or: the data directory of a node on this machine; its peers are asked, too.",
    ),
]
AskTimeout = Annotated[
    float, typer.Option("--timeout", help="Seconds to wait for an answer.", min=0.01)
]
Conninfo = Annotated[
    str,
    typer.Option(
        envvar="PGRAFT_CONNINFO",
        help='How to connect to a server, all but host and port: "user=... passfile=...". '
        "What it leaves out comes from libpq's PGUSER, PGPASSWORD, ~/.pgpass.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
WaitSeconds = Annotated[float, typer.Option("--wait", help="Seconds to wait for it.", min=0.0)]


@dataclass(frozen=True)
class Target:
    """Whom a command asks about the cluster, and for how long."""

    seeds: Sequence[RaftAddress]
    timeout: float
    paths: NodePaths | None = None
    """Of the node on this machine, when it was named."""

    @classmethod
    def of(
        cls,
        hosts: Sequence[str] | None,
        port: int | None,
        pgdata: Path | None,
        data_dir: Path | None,
        timeout: float,
    ) -> Target:
        """Understands the options; --host and --port go before a data directory.

        That goes before PGRAFT_HOSTS, so that -D means this machine wherever it is set.

        Raises:
            CommandError: An address can't be understood.
            SetupError: The data directory is not that of a node.
        """
        if not hosts and pgdata is None:
            hosts = os.environ.get("PGRAFT_HOSTS", "").split()
        if hosts or port is not None or pgdata is None:
            default = port or DEFAULT_RAFT_PORT
            seeds = [parse_address(host, default) for host in hosts or ["127.0.0.1"]]
            return cls(seeds, timeout)
        paths = NodePaths.of(pgdata, data_dir)
        return cls(_seeds_of(paths), timeout, paths)

    def look(self) -> ClusterView:
        """Asks them, and every member that they know of."""
        return ClusterView.look(self.seeds, self.timeout)


def parse_address(text: str, default_port: int) -> RaftAddress:
    """Understands an address on the command line.

    Raises:
        CommandError: It is none.
    """
    try:
        address = RaftAddress.parse(text, default_port)
    except ValueError:
        address = RaftAddress("", 0)
    if not address.host or not 1 <= address.port <= 65535:
        raise CommandError(
            f'"{text}" is no address',
            "Write host, host:port or [v6]:port.",
            Exit.USAGE,
        )
    return address


def _seeds_of(paths: NodePaths) -> list[RaftAddress]:
    try:
        conf = read_node_conf(paths)
    except PermissionError:
        raise SetupError(
            f'"{paths.node_conf}" can\'t be read; run this as the user of the server or as root, '
            "or name a member with --host"
        ) from None
    own = conf.get("pgraft.advertise_address") or conf.get("pgraft.listen_address", "")
    if own in ("", "0.0.0.0", "::"):
        own = "127.0.0.1"
    seeds = [RaftAddress(own, int(conf.get("pgraft.listen_port", str(DEFAULT_RAFT_PORT))))]
    try:
        members = _pgraft.read_members(str(paths.data_dir))
    except _pgraft.NotFound:
        members = []
    return seeds + [RaftAddress(m.address, m.port) for m in members]


def login_of(conninfo: str) -> Login:
    """How to connect; its mistakes are found before anything is asked or done."""
    login = Login(conninfo)
    login.words()
    return login


# --- questions, durations ---


def confirm(question: str, yes: bool) -> None:
    """Asks, unless --yes was given.

    Raises:
        CommandError: The answer was no, or there was none.
    """
    if yes:
        return
    try:
        answer = typer.confirm(question)
    except typer.Abort:
        typer.echo("", err=True)
        raise CommandError(
            "nothing was done: the question was not answered", "--yes answers it."
        ) from None
    if not answer:
        raise CommandError("nothing was done")


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?\s*")
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Seconds of "90", "90s", "30m", "1h30m", "2d".

    Raises:
        CommandError: It is none of these.
    """
    total = 0.0
    rest = text.strip().lower()
    while rest:
        found = _DURATION.match(rest)
        if found is None:
            break
        total += float(found.group(1)) * _UNITS[found.group(2) or "s"]
        rest = rest[found.end() :]
    if rest or total <= 0:
        raise CommandError(
            f'"{text}" is no duration', "Write 90s, 30m, 1h, 1h30m or 2d.", Exit.USAGE
        )
    return total


def as_root() -> bool:
    """May this process act as any user?"""
    return os.geteuid() == 0
