"""`pgraft create` and `pgraft join`: setting up a node's directories and configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgraft import _pgraft, clone, durable, tablespaces
from pgraft.config import NodeSettings, parse_settings, render_node_conf, with_include
from pgraft.errors import SetupError
from pgraft.join_source import find_join_source
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres, data_directory_version
from pgraft.progress import Progress

_SERVER_FILLS_IN = ("dbname", "application_name", "connect_timeout", "client_encoding")


def create(
    paths: NodePaths,
    settings: NodeSettings,
    *,
    bindir: Path | None = None,
    user: str | None = None,
    initdb_options: Sequence[str] = (),
    hba_lines: Sequence[str] = (),
) -> None:
    """Sets up a node: runs initdb unless there is a data directory, and writes the configuration.

    An existing data directory keeps its data and its own settings.

    Args:
        paths: Of the node.
        settings: Of the node.
        bindir: PostgreSQL's programs.
        user: Owner of a new data directory (as root).
        initdb_options: Passed to initdb.
        hba_lines: Replace the content of pg_hba.conf when they are given.

    Raises:
        SetupError: It is a node already, or the directory is something else.
        ProgramError: initdb failed.
    """
    settings.validate()
    _refuse_existing_node(paths)
    if data_directory_version(paths.pgdata) is None:
        _refuse_occupied(paths.pgdata)
        owner = Owner.for_new_directory(user)
        postgres = Postgres.find(bindir=bindir)
        owner.make_directory(paths.pgdata)
        postgres.init_directory(owner, paths.pgdata, list(initdb_options))
    else:
        owner = Owner.of_directory(paths.pgdata)
        Postgres.find(bindir=bindir, pgdata=paths.pgdata)
    owner.make_directory(paths.data_dir)
    _write_configuration(owner, paths, settings, "")
    if hba_lines:
        durable.write_file(owner, paths.hba_conf, "\n".join(hba_lines) + "\n")


def join(
    paths: NodePaths,
    settings: NodeSettings,
    leader: tuple[str, int],
    *,
    bindir: Path | None = None,
    user: str | None = None,
) -> None:
    """Sets up a node as a copy of the leader; it becomes a member by pgraft_add_node() there.

    Args:
        paths: Of the new node.
        settings: Of the new node.
        leader: Host and port of a member's PostgreSQL server, best the leader's.
        bindir: PostgreSQL's programs.
        user: Owner of the new data directory (as root).

    Raises:
        SetupError: The directory is in use.
        ProgramError: pg_basebackup failed.
        CommandError: The leader can't be asked, or a member has the number already.
        psycopg.Error: It refused what it was asked.
    """
    settings.validate()
    _refuse_existing_node(paths)
    _refuse_occupied(paths.pgdata)
    owner = Owner.for_new_directory(user)
    found = find_join_source(leader, settings.node_id, settings.replication_conninfo, owner.name)
    source, version = found.source, found.version
    postgres = Postgres.find(bindir=bindir)
    if postgres.version != version:
        raise SetupError(
            f"the leader runs PostgreSQL {version}, and {postgres.bindir} has {postgres.version}; "
            "give the directory of the right programs with --bindir"
        )
    durable.remove_tree(paths.clone)
    mapping = tablespaces.choose(source.tablespaces(), {})
    with Progress(settings.node_id, owner, None) as progress:
        progress.source(source.node_id, source.host, source.port, source.conninfo)
        clone.base_backup(postgres, owner, source, paths.clone, mapping, progress)
    owner.make_directory(paths.data_dir)
    node_conf = render_node_conf(settings, paths, _for_walreceiver(source.conninfo))
    durable.write_file(owner, paths.node_conf, node_conf)
    clone.localize(owner, paths, paths.clone)
    if paths.pgdata.exists():
        paths.pgdata.rmdir()  # empty, or it would have been refused
    durable.rename(paths.clone, paths.pgdata)


def _for_walreceiver(conninfo: str) -> str:
    """The same, without what the server fills in itself."""
    words = conninfo_to_dict(conninfo)
    return make_conninfo("", **{k: v for k, v in words.items() if k not in _SERVER_FILLS_IN})


def _write_configuration(
    owner: Owner, paths: NodePaths, settings: NodeSettings, primary_conninfo: str
) -> None:
    if not paths.server_conf.exists():
        raise SetupError(
            f'"{paths.server_conf}" does not exist; a configuration that is kept outside the data '
            "directory is not supported: move it there"
        )
    text = paths.server_conf.read_text(encoding="utf-8")
    if not settings.preload_libraries:
        loaded = parse_settings(text).get("shared_preload_libraries", "")
        libraries = tuple(name.strip() for name in loaded.split(",") if name.strip())
        settings = NodeSettings(**{**settings.__dict__, "preload_libraries": libraries})
    durable.write_file(owner, paths.node_conf, render_node_conf(settings, paths, primary_conninfo))
    durable.write_file(owner, paths.server_conf, with_include(text, paths))


def _refuse_existing_node(paths: NodePaths) -> None:
    try:
        identity = _pgraft.read_identity(str(paths.data_dir))
    except _pgraft.NotFound:
        return
    raise SetupError(
        f'"{paths.data_dir}" holds the Raft state of node {identity.node_id}; a node can\'t be set '
        "up over it: remove it from the cluster, then remove that directory"
    )


def _refuse_occupied(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or os.listdir(directory)):
        raise SetupError(f'"{directory}" exists and is no empty directory')
