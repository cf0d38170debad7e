"""What each member's server says of itself, asked over one connection for each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pgraft.cluster_view import ClusterView, MemberView
from pgraft.errors import CommandError
from pgraft.leader_sql import Login

_COLLATIONS = """
SELECT collprovider::text || ' ' || collname, pg_collation_actual_version(oid)
FROM pg_collation
WHERE collname IN ('en_US.utf8', 'C.utf8', 'und-x-icu', 'en-x-icu')
  AND pg_collation_actual_version(oid) IS NOT NULL
UNION ALL
SELECT 'database ' || datname, pg_database_collation_actual_version(oid)
FROM pg_database
WHERE pg_database_collation_actual_version(oid) IS NOT NULL
"""


@dataclass(frozen=True)
class Setting:
    """A row of pg_settings."""

    value: str
    restart: bool
    """Does a change need a restart of the server?"""
    pending: bool
    """Was it changed in a file, and waits for that restart?"""


@dataclass(frozen=True)
class Facts:
    """What one server told."""

    member: MemberView
    error: str = ""
    """Why it could not be asked; then nothing else is known."""
    hint: str = ""
    version: int = 0
    """server_version_num."""
    pgraft: str = ""
    """Version of the loaded library."""
    worker_error: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    collations: Mapping[str, str] = field(default_factory=dict)
    clock_offset: float = 0.0
    """Seconds that its clock is ahead of this machine's."""
    clock_error: float = 0.0
    """By how much that may be wrong."""
    hba_errors: tuple[str, ...] = ()
    slots: Mapping[str, str] = field(default_factory=dict)
    """wal_status of each of pgraft's replication slots."""
    unseen: tuple[str, ...] = ()
    """What this user may not see."""

    def value(self, setting: str) -> str | None:
        """A setting; None: not known."""
        found = self.settings.get(setting)
        return found.value if found else None

    def number(self, setting: str) -> int | None:
        """A setting that is a number; None: not known."""
        value = self.value(setting)
        return int(value) if value is not None and value.lstrip("-").isdigit() else None


def gather(view: ClusterView, login: Login) -> list[Facts]:
    """Asks all members at the same time."""
    if not view.members:
        return []
    with ThreadPoolExecutor(max_workers=len(view.members)) as pool:
        return list(pool.map(lambda m: _ask(m, login), view.members))


def _ask(member: MemberView, login: Login) -> Facts:
    try:
        with login.connect(member, ask=False) as connection:
            connection.execute("SET statement_timeout = '10s'")
            return _facts(member, connection)
    except CommandError as error:
        return Facts(member, str(error), error.hint)
    except psycopg.Error as error:
        return Facts(
            member, f"{member.title}'s server failed: {str(error).strip()}", "See its log."
        )


def _may_read(connection: psycopg.Connection[Any], relation: str) -> bool:
    row = connection.execute("SELECT has_table_privilege(%s, 'SELECT')", [relation]).fetchone()
    return row == (True,)


def _facts(member: MemberView, connection: psycopg.Connection[Any]) -> Facts:
    offset, uncertain = _clock(connection)
    settings = {
        str(name): Setting(str(value), context == "postmaster", bool(pending))
        for name, value, context, pending in connection.execute(
            "SELECT name, setting, context, pending_restart FROM pg_settings"
        )
    }
    unseen: list[str] = []

    def rows(what: str, statement: str, relation: str = "") -> list[Any]:
        """What this user may see; the rest is checked all the same."""
        if relation and not _may_read(connection, relation):  # else the server logs an error
            unseen.append(what)
            return []
        try:
            return connection.execute(statement.encode()).fetchall()
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction):
            unseen.append(what)
            return []

    worker = rows("the worker's state", "SELECT error FROM pgraft_get_worker_state()")
    library = rows("the version of pgraft", "SELECT pgraft_get_version()")
    hba = rows(
        "pg_hba.conf",
        "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL",
        "pg_hba_file_rules",
    )
    slots = rows(
        "the replication slots",
        r"SELECT slot_name, wal_status FROM pg_replication_slots WHERE slot_name ~ '^pgraft_\d+$'",
    )
    return Facts(
        member,
        version=connection.info.server_version,
        pgraft=str(library[0][0]) if library else "",
        worker_error=str(worker[0][0] or "") if worker else "",
        settings=settings,
        collations={str(n): str(v) for n, v in rows("the collations", _COLLATIONS)},
        clock_offset=offset,
        clock_error=uncertain,
        hba_errors=tuple(f"line {number}: {error}" for number, error in hba),
        slots={str(name): str(state) for name, state in slots},
        unseen=tuple(unseen),
    )


def _clock(connection: psycopg.Connection[Any]) -> tuple[float, float]:
    """The best of three looks at its clock: (offset, how far that may be off)."""
    looks = []
    for _ in range(3):
        before = time.time()
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        after = time.time()
        looks.append(((after - before) / 2, float(row[0]) - (before + after) / 2 if row else 0.0))
    error, offset = min(looks)
    return offset, error
