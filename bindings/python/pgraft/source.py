"""The leader that a node is rewound against, cloned from or joins: finding it and asking it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgraft.errors import NoLeader, SetupError
from pgraft.pg import parse_lsn
from pgraft.status import RaftAddress, leader_of, query_all

APPLICATION_NAME = "pgraft_prepare"
_QUERY_SECONDS = 1.0
_RETRY_SECONDS = 0.2


@dataclass(frozen=True)
class Position:
    """A place in the WAL; ordered by timeline first."""

    timeline: int
    lsn: int


@dataclass(frozen=True)
class Source:
    """A leader, with what is needed to connect to its server."""

    node_id: int
    host: str
    port: int
    conninfo: str
    promoted_timeline: int = 0

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """Connects for SQL.

        Raises:
            psycopg.OperationalError: It can't be reached or refuses.
        """
        return psycopg.connect(self.conninfo, autocommit=True)

    def checkpoint(self) -> None:
        """Makes its control file say which timeline it is on.

        A fast promotion does not checkpoint by itself, and until then pg_rewind takes the old
        timeline for the current one and says that there is nothing to do.

        Raises:
            NoLeader: It is on another timeline than the one it was promoted to.
            psycopg.Error: It can't be asked.
        """
        with self.connect() as connection:
            connection.execute("CHECKPOINT")
            row = connection.execute("SELECT timeline_id FROM pg_control_checkpoint()").fetchone()
        if row is None or (self.promoted_timeline and row[0] != self.promoted_timeline):
            raise NoLeader(
                f"node {self.node_id} is on timeline {row and row[0]}, "
                f"not on {self.promoted_timeline}, to which it was promoted"
            )

    def check_writable(self) -> None:
        """It must accept writes before a rewind begins.

        A leader without a lease ends the sessions begun meanwhile once it has one again. The one of
        pg_rewind would be among them, and a rewind that breaks off leaves nothing but a clone.

        Raises:
            NoLeader: It accepts none at the moment.
            psycopg.Error: It can't be asked.
        """
        with self.connect() as connection:
            row = connection.execute("SHOW default_transaction_read_only").fetchone()
        if row != ("off",):
            raise NoLeader(f"node {self.node_id} does not accept writes at the moment")

    def position(self) -> Position:
        """Where its WAL ends now, flushed: all that was acknowledged until now is before that.

        Raises:
            psycopg.Error: It can't be asked, or is a standby.
        """
        with self.connect() as connection:
            row = connection.execute(
                "SELECT pg_walfile_name(lsn), lsn::text FROM pg_current_wal_flush_lsn() AS lsn"
            ).fetchone()
        if row is None:
            raise SetupError("the source did not tell its position")
        return Position(int(str(row[0])[:8], 16), parse_lsn(str(row[1])))

    def system_identifier(self) -> int:
        """Identifier of its database system."""
        with self.connect() as connection:
            row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
        return int(str(row[0])) if row else 0

    def history(self, timeline: int) -> list[tuple[int, int]]:
        """The history of a timeline: (ancestor, LSN of its end), oldest first."""
        if timeline <= 1:
            return []
        with self.connect() as connection:
            row = connection.execute(
                "SELECT pg_read_file(%s)", [f"pg_wal/{timeline:08X}.history"]
            ).fetchone()
        return parse_history(str(row[0])) if row else []

    def tablespaces(self) -> dict[int, str]:
        """Directories of its tablespaces, by oid; those inside the data directory are not told."""
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT oid, pg_tablespace_location(oid) FROM pg_tablespace "
                "WHERE pg_tablespace_location(oid) LIKE '/%'"
            ).fetchall()
        return {int(str(row[0])): str(row[1]) for row in rows}

    def has_file(self, path: str) -> bool:
        """Whether there is a file of that name, relative to its data directory."""
        with self.connect() as connection:
            row = connection.execute(
                "SELECT (pg_stat_file(%s, true)).size IS NOT NULL", [path]
            ).fetchone()
        return row == (True,)


def parse_history(text: str) -> list[tuple[int, int]]:
    """Understands a timeline history file; comments are skipped."""
    lines = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if len(words) >= 2:
            lines.append((int(words[0]), parse_lsn(words[1])))
    return lines


def connection_string(host: str, port: int, replication_conninfo: str, user: str) -> str:
    """A connection string to a member's server.

    Args:
        host: Of the server.
        port: Of the server.
        replication_conninfo: What all members have in common (user, passfile, TLS).
        user: Who to be when that does not say it: as for the server itself, its system user.
    """
    common = conninfo_to_dict(replication_conninfo)
    common.setdefault("user", user)
    common.setdefault("connect_timeout", 5)
    common.update(host=host, port=port, dbname="postgres", application_name=APPLICATION_NAME)
    common["client_encoding"] = "UTF8"  # else a database in SQL_ASCII sends no text, but bytes
    return make_conninfo("", **common)


def find_source(
    addresses: Sequence[RaftAddress],
    conninfo: Callable[[str, int], str],
    timeout: float,
) -> Source:
    """Asks the members over their Raft ports until one leads and accepts writes.

    Args:
        addresses: Raft ports of the other members.
        conninfo: Makes a connection string of a server's host and port.
        timeout: Seconds to go on asking.

    Raises:
        NoLeader: None did in time; the message says what each answered.
    """
    deadline = time.monotonic() + timeout
    while True:
        answers = query_all(addresses, _QUERY_SECONDS)
        leader = leader_of(answers.values())
        entry = leader.member(leader.node_id) if leader else None
        if leader and entry:
            host, port = str(entry["member"]["pg_host"]), int(entry["member"]["pg_port"])
            return Source(
                leader.node_id, host, port, conninfo(host, port), leader.promoted_timeline
            )
        if time.monotonic() >= deadline:
            said = "; ".join(
                f"{address}: " + (f"{a.state}, {a.phase}" if a else "no answer")
                for address, a in answers.items()
            )
            raise NoLeader(
                f"no member of the cluster leads and accepts writes after {timeout:g} s ({said})"
            )
        time.sleep(_RETRY_SECONDS)
