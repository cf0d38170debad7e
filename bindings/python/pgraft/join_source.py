"""Whom a new node is copied from: the leader, named by the server of any member."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from pgraft.errors import CommandError, NoLeader
from pgraft.source import Source, connection_string, find_source
from pgraft.status import RaftAddress

_LEADER_SECONDS = 10.0
_RAFT_PORT = 8001


@dataclass(frozen=True)
class JoinSource:
    """A leader's server that can be copied."""

    source: Source
    version: int
    """Major version of PostgreSQL there."""


def find_join_source(
    address: tuple[str, int], node_id: int, replication_conninfo: str, user: str
) -> JoinSource:
    """Looks before anything is copied, which may take hours.

    Args:
        address: Host and port of a member's PostgreSQL server; it tells who leads.
        node_id: Number of the new node.
        replication_conninfo: How the members connect to each other.
        user: Who to be when that does not say it.

    Raises:
        CommandError: It can't be reached, nobody leads, or a member has that number.
    """
    host, port = address

    def conninfo(host: str, port: int) -> str:
        return connection_string(host, port, replication_conninfo, user)

    source = Source(0, host, port, conninfo(host, port))
    try:
        with source.connect() as connection:
            version = connection.info.server_version // 10000
            members = _members(connection)
            row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    except psycopg.OperationalError as error:
        raise _not_reached(host, port, error) from None
    taken = members.get(node_id)
    if taken is not None:
        raise CommandError(
            f"number {node_id} is that of the member at {taken}",
            f"Take another --node-id ({_free(members)} is free). If this machine takes that "
            f'member\'s place, remove it first: "pgraft remove {node_id}".',
        )
    if row == (True,):
        try:
            source = find_source(list(members.values()), conninfo, _LEADER_SECONDS)
        except NoLeader as error:
            raise CommandError(
                f"{host}:{port} is a standby, and {error}",
                "A new node is copied from the leader: open the members' Raft ports for this "
                "machine, or name the leader's PostgreSQL server with --leader (pgraft status).",
            ) from None
    return JoinSource(source, version)


def _members(connection: psycopg.Connection[tuple[object, ...]]) -> dict[int, RaftAddress]:
    """Numbers and Raft ports; none when there is no cluster yet, or this user may not ask."""
    try:
        rows = connection.execute("SELECT node_id, address, port FROM pgraft_get_nodes()")
        return {int(str(n)): RaftAddress(str(host), int(str(port))) for n, host, port in rows}
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege):
        return {}


def _free(members: dict[int, RaftAddress]) -> int:
    return next(n for n in range(1, len(members) + 2) if n not in members)


def _not_reached(host: str, port: int, error: psycopg.OperationalError) -> CommandError:
    lower = str(error).lower()
    if "authentication failed" in lower or "no password supplied" in lower:
        hint = (
            "Say who the members are to each other with --replication-conninfo "
            '"user=... passfile=...", or with PGPASSWORD and ~/.pgpass.'
        )
    elif "pg_hba.conf" in lower:
        hint = (
            "Let this machine connect there, to database postgres and for replication: "
            '"pgraft config --member THIS-MACHINE --apply" on each member, then a reload.'
        )
    elif "closed the connection" in lower or port == _RAFT_PORT:
        hint = "--leader takes the port of PostgreSQL (5432), not the Raft port."
    elif "resolve" in lower or "translate" in lower:
        hint = "Give a name that resolves here, or an address."
    else:
        hint = (
            "--leader takes host:port of a member's PostgreSQL server: it must run, listen on that "
            "address (listen_addresses), and no firewall may stand between."
        )
    why = str(error).strip().splitlines()[0].rpartition(" failed: ")[2]
    return CommandError(f"could not connect to {host}:{port}: {why}", hint)
