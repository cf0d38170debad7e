"""`pgraft create` and `pgraft join`: setting up a node's directories and configuration.

A server that is there already, with its data, is adopted (adopt.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgraft import _pgraft, adopt, clone, durable, tablespaces
from pgraft.config import NodeSettings, render_node_conf, with_include
from pgraft.errors import SetupError
from pgraft.join_source import find_join_source
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres, data_directory_version
from pgraft.progress import Progress
from pgraft.run_lock import being_set_up

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

    An existing data directory keeps its data and its own settings (`adopt.keep_settings`).

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
        if paths.outside is not None:
            clone.remove_configuration(paths.pgdata)
    else:
        owner = Owner.of_directory(paths.pgdata)
        postgres = Postgres.find(bindir=bindir, pgdata=paths.pgdata)
        adopt.refuse_standby(paths)
    _refuse_missing_configuration(paths)
    settings = adopt.keep_settings(postgres, owner, paths, settings)
    owner.make_directory(paths.data_dir)
    durable.write_file(owner, paths.node_conf, render_node_conf(settings, paths))
    before = paths.server_conf.read_text(encoding="utf-8")
    durable.rewrite_file(owner, paths.server_conf, with_include(before, paths))
    adopt.clean_auto_conf(owner, paths)  # last: until then it can be done again
    if hba_lines:
        durable.write_file(owner, paths.hba_conf, "\n".join(hba_lines) + "\n")


def present_address(paths: NodePaths, bindir: Path | None) -> tuple[int, str] | None:
    """Port and listen_addresses for an existing server; None: there is none yet.

    Raises:
        SetupError: It is no server that could be set up.
        ProgramError: Its configuration is wrong.
    """
    if data_directory_version(paths.pgdata) is None:
        return None
    _refuse_existing_node(paths)
    _refuse_missing_configuration(paths)
    postgres = Postgres.find(bindir=bindir, pgdata=paths.pgdata)
    return adopt.server_address(postgres, Owner.of_directory(paths.pgdata), paths)


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
        SetupError: The directory is in use, or another process sets it up.
        ProgramError: pg_basebackup failed.
        CommandError: The leader can't be asked, or a member has the number already.
        psycopg.Error: It refused what it was asked.
    """
    settings.validate()
    _refuse_existing_node(paths)  # before anything in it is given to another user
    owner = Owner.of_directory(paths.outside) if paths.outside else Owner.for_new_directory(user)
    with being_set_up(paths, owner):
        _copy(paths, settings, leader, bindir, owner)


def _copy(
    paths: NodePaths,
    settings: NodeSettings,
    leader: tuple[str, int],
    bindir: Path | None,
    owner: Owner,
) -> None:
    _refuse_existing_node(paths)
    _refuse_occupied(paths.pgdata)
    found = find_join_source(leader, settings.node_id, settings.replication_conninfo, owner.name)
    source, version = found.source, found.version
    postgres = Postgres.find(bindir=bindir)
    if postgres.version != version:
        raise SetupError(
            f"the leader runs PostgreSQL {version}, and {postgres.bindir} has {postgres.version}; "
            "give the directory of the right programs with --bindir"
        )
    durable.remove_tree(paths.clone)
    if not settings.preload_libraries:
        settings = replace(settings, preload_libraries=adopt.preloaded(source))
    mapping = tablespaces.choose(source.tablespaces(), {})
    with Progress(settings.node_id, owner, None) as progress:
        progress.source(source.node_id, source.host, source.port, source.conninfo)
        clone.base_backup(postgres, owner, source, paths.clone, mapping, progress)
    node_conf = render_node_conf(settings, paths, _for_walreceiver(source.conninfo))
    durable.write_file(owner, paths.node_conf, node_conf)
    clone.localize(owner, paths, paths.clone)
    if paths.pgdata.exists():
        paths.pgdata.rmdir()  # empty, or it would have been refused
    durable.rename(paths.clone, paths.pgdata)
    if lower := adopt.lower_than(source, postgres, owner, paths):
        settings = replace(settings, extra={**settings.extra, **lower})
        node_conf = render_node_conf(settings, paths, _for_walreceiver(source.conninfo))
        durable.write_file(owner, paths.node_conf, node_conf)


def _for_walreceiver(conninfo: str) -> str:
    """The same, without what the server fills in itself."""
    words = conninfo_to_dict(conninfo)
    return make_conninfo("", **{k: v for k, v in words.items() if k not in _SERVER_FILLS_IN})


def _refuse_missing_configuration(paths: NodePaths) -> None:
    if not paths.server_conf.exists():
        raise SetupError(
            f'"{paths.server_conf}" does not exist; if the configuration is kept elsewhere, give '
            "its directory with -D (its postgresql.conf must set data_directory)"
        )


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
        raise SetupError(
            f'"{directory}" exists and is no empty directory; a new member is a copy of the '
            f"leader: if nothing in it is needed, stop its server and remove it (rm -r {directory})"
        )
