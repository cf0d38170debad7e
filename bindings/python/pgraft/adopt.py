"""Making a server that is there already a member, without taking its own settings from it.

Nothing of the data is touched. node.conf is read last and so has the last word about what pgraft
needs; where the server was set to more than that (`wal_level = logical`, more walsenders), it keeps
it. What ALTER SYSTEM has set is read after node.conf: what would override node.conf is taken out,
and the server's own settings among it move there.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import psycopg

from pgraft import durable
from pgraft.config import (
    NodeSettings,
    node_local_settings,
    parse_settings,
    quote,
    without_node_local,
)
from pgraft.errors import SetupError
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres
from pgraft.source import Source

_AT_LEAST = {
    "max_wal_senders": 20,
    "max_replication_slots": 20,
    "wal_keep_size": 1024,  # MB
}
# Set by ALTER SYSTEM these go on as they are, in node.conf.
_MOVED = ("cluster_name", "restore_command", "unix_socket_directories")
_NOT_LESS = (
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
)
_PRELOAD = "shared_preload_libraries"
_LOCAL = ("", "localhost", "127.0.0.1", "::1")
_SIGNALS = ("standby.signal", "recovery.signal")


def present(
    postgres: Postgres, owner: Owner, paths: NodePaths, names: tuple[str, ...]
) -> dict[str, str]:
    """What the server is set to."""
    return {name: postgres.setting(owner, paths.conf_dir, name) for name in names}


def refuse_standby(paths: NodePaths) -> None:
    """The first member is a primary.

    Raises:
        SetupError: The directory is that of a standby, or of a backup to be recovered.
    """
    for name in _SIGNALS:
        if (paths.pgdata / name).exists():
            raise SetupError(
                f'"{paths.pgdata}" holds a standby or a backup that is not recovered ({name}); '
                'make the primary the first member, and its standbys anew with "pgraft join"'
            )


def server_address(postgres: Postgres, owner: Owner, paths: NodePaths) -> tuple[int, str]:
    """Port and listen_addresses that an existing server keeps.

    One that listens on this machine alone can't be a member: it is to listen everywhere.
    """
    conf = present(postgres, owner, paths, ("port", "listen_addresses"))
    addresses = conf["listen_addresses"]
    local = all(name in _LOCAL for name in names(addresses))
    return int(conf["port"]), "*" if local else addresses


def keep_settings(
    postgres: Postgres, owner: Owner, paths: NodePaths, settings: NodeSettings
) -> NodeSettings:
    """The node's settings, with what the server is set to beyond what pgraft asks for."""
    conf = present(postgres, owner, paths, (_PRELOAD, "wal_level", *_AT_LEAST))
    extra = {
        name: conf[name] if name != "wal_keep_size" else f"'{conf[name]}MB'"
        for name, least in _AT_LEAST.items()
        if int(conf[name]) > least
    }
    if conf["wal_level"] == "logical":
        extra["wal_level"] = "logical"
    own = _settings_in(paths.auto_conf) | _settings_in(paths.node_conf)
    for name in _MOVED:
        if name in own:
            extra[name] = quote(postgres.setting(owner, paths.conf_dir, name))
    libraries = settings.preload_libraries or names(conf[_PRELOAD])
    return replace(settings, preload_libraries=libraries, extra={**extra, **settings.extra})


def preloaded(source: Source) -> tuple[str, ...]:
    """The libraries that a leader loads, so that its copy does; none if we may not see them."""
    try:
        with source.connect() as connection:
            row = connection.execute(f"SHOW {_PRELOAD}".encode()).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return ()
    return names(str(row[0])) if row else ()


def lower_than(
    source: Source, postgres: Postgres, owner: Owner, paths: NodePaths
) -> dict[str, str]:
    """What a copy must be set to because it would be less than its leader has.

    A standby that has less of it stops; and wal_level must be the same after a failover.
    """
    with source.connect() as connection:
        leader = {
            str(name): str(value)
            for name, value in connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)",
                [["wal_level", *_NOT_LESS]],
            )
        }
    here = present(postgres, owner, paths, ("wal_level", *_NOT_LESS))
    lower = {name: leader[name] for name in _NOT_LESS if int(here[name]) < int(leader[name])}
    if leader["wal_level"] == "logical" != here["wal_level"]:
        lower["wal_level"] = "logical"
    return lower


def names(text: str) -> tuple[str, ...]:
    """The words of a list as it stands in a setting."""
    return tuple(name.strip().strip('"') for name in text.split(",") if name.strip())


def _settings_in(path: Path) -> dict[str, str]:
    try:
        return parse_settings(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def clean_auto_conf(owner: Owner, paths: NodePaths) -> None:
    """Takes out of postgresql.auto.conf what would override node.conf; keeps the old file."""
    dropped = {_PRELOAD, *_AT_LEAST} & _settings_in(paths.auto_conf).keys()
    if not paths.auto_conf.exists():
        return
    before = paths.auto_conf.read_text(encoding="utf-8")
    if not dropped and not node_local_settings(before):
        return
    kept = paths.auto_conf.with_name(f"{paths.auto_conf.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
    durable.write_file(owner, kept, before)
    durable.rewrite_file(owner, paths.auto_conf, without_node_local(before, dropped))
