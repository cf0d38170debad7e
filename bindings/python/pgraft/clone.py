"""Making a data directory from a base backup of the leader, and putting it in the place of another.

The backup is made beside the data directory and swapped in when it is whole, which its binding file
says: that is written last (rule 10). The old directory is put aside, never erased here (rule 9).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pgraft import _pgraft, durable, tablespaces
from pgraft.config import with_include, without_node_local
from pgraft.errors import SetupError
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres, data_directory_version
from pgraft.progress import COPY, Progress
from pgraft.source import Source

_CONF_FILES = ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")
_KEPT_FILES = ("postgresql.auto.conf", "server.crt", "server.key", "root.crt")
# Of the source's life, with no meaning in the copy.
_LEFTOVERS = ("promote", "fallback_promote", "recovery.signal", "postmaster.pid", "pgraft.binding")

Log = Callable[[str], None]


def base_backup(
    postgres: Postgres,
    owner: Owner,
    source: Source,
    target: Path,
    mapping: Mapping[str, Path],
    progress: Progress,
) -> None:
    """Copies the source's database into the new directory `target`.

    Args:
        postgres: The installation.
        owner: Of the new directory.
        source: What to copy.
        target: The new directory.
        mapping: Where the source's tablespaces go (`tablespaces.choose`).
        progress: Told how far it is.

    Raises:
        ProgramError: pg_basebackup failed; `target` may be left half made.
        SetupError: There is no room for a tablespace.
    """
    command: list[str | Path] = [
        postgres.program("pg_basebackup"),
        "--dbname", source.conninfo,
        "--pgdata", target,
        "--wal-method=stream",
        "--checkpoint=fast",
        "--no-password",
        "--progress",
    ]  # fmt: skip
    tablespaces.make(owner, mapping.values())
    for location, place in mapping.items():
        command += ["--tablespace-mapping", f"{_escape(location)}={_escape(str(place))}"]
    owner.make_directory(target)
    try:
        progress.phase(COPY)
        owner.run(command, on_line=progress.take)
    except BaseException:
        tablespaces.discard(mapping.values())
        raise


def _escape(path: str) -> str:
    return path.replace("=", "\\=")


def localize(owner: Owner, paths: NodePaths, directory: Path) -> None:
    """Makes a copied directory this node's own, all but the binding: configuration, standby.signal.

    The node's own configuration files are taken when they were kept (`keep_configuration`); a
    node that joins has none, and takes the leader's without what is only right there. A
    configuration outside the data directory is the node's own and stays; what the leader has in its
    data directory instead would only mislead there.
    """
    for name in _own_files(paths):
        kept = paths.kept / name
        if kept.exists():
            durable.write_file(owner, directory / name, kept.read_text(encoding="utf-8"))
    if paths.outside is None:
        _include_node_conf(owner, directory / paths.server_conf.name, paths)
    else:
        _include_node_conf(owner, paths.server_conf, paths)
        remove_configuration(directory)
    auto_conf = directory / paths.auto_conf.name
    if auto_conf.exists() and not (paths.kept / auto_conf.name).exists():
        text = without_node_local(auto_conf.read_text(encoding="utf-8"))
        durable.write_file(owner, auto_conf, text)
    for name in _LEFTOVERS:
        durable.remove_file(directory / name)
    ensure_standby(owner, directory)


def remove_configuration(directory: Path) -> None:
    """Of a data directory whose server has its configuration elsewhere."""
    for name in _CONF_FILES:
        durable.remove_file(directory / name)


def _own_files(paths: NodePaths) -> tuple[str, ...]:
    """Files of the data directory that belong to the node, not to the database."""
    return _KEPT_FILES if paths.outside is not None else _CONF_FILES + _KEPT_FILES


def _include_node_conf(owner: Owner, server_conf: Path, paths: NodePaths) -> None:
    try:
        before = server_conf.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SetupError(
            f'"{server_conf}" does not exist: the source keeps its configuration outside its data '
            "directory, so a copy comes without one; give this node its own first (on Debian: "
            '"pg_createcluster", and remove the data directory that it makes)'
        ) from None
    after = with_include(before, paths)
    if after != before:
        durable.rewrite_file(owner, server_conf, after)


def ensure_standby(owner: Owner, directory: Path) -> None:
    """Rule 1: a member starts in recovery."""
    path = directory / "standby.signal"
    if not path.exists():
        durable.write_file(owner, path, "")


def keep_configuration(owner: Owner, paths: NodePaths) -> None:
    """Copies the node's own configuration files to where no rewind reaches them."""
    temporary = paths.kept.with_name("kept.tmp")
    durable.remove_tree(temporary)
    owner.make_directory(temporary)
    for name in _own_files(paths):
        if (paths.pgdata / name).exists():
            text = (paths.pgdata / name).read_text(encoding="utf-8")
            durable.write_file(owner, temporary / name, text)
    durable.remove_tree(paths.kept)
    durable.rename(temporary, paths.kept)


def is_whole(directory: Path, binding: int) -> bool:
    """Was the rewind or clone of that binding finished in this directory?"""
    try:
        return binding != 0 and _pgraft.read_binding(str(directory)).binding == binding
    except _pgraft.Error:
        return False


def finish(owner: Owner, paths: NodePaths, directory: Path, binding: int) -> None:
    """The last step: from here on the directory counts as whole."""
    localize(owner, paths, directory)
    identity = _pgraft.read_identity(str(paths.data_dir))
    file = _pgraft.BindingFile()
    file.node_id = identity.node_id
    file.incarnation = identity.incarnation
    file.binding = binding
    _pgraft.write_binding(str(directory), file)
    owner.give(directory / paths.binding.name)
    durable.sync_path(directory)


def swap_in(paths: NodePaths) -> None:
    """Puts the finished clone in the data directory's place; to be called again after a crash.

    Raises:
        SetupError: The data directory can't be renamed.
    """
    if paths.clone.exists():
        durable.remove_file(paths.new_tablespaces)  # from here on they are not half made
        if paths.pgdata.exists():
            retire(paths)  # of an earlier swap; its clone has long started
            try:
                durable.rename(paths.pgdata, paths.replaced)
            except OSError as error:
                raise SetupError(
                    f'could not rename "{paths.pgdata}": {error.strerror}; a data directory that '
                    "is a mount point can't be replaced by a clone: use a directory in it instead"
                ) from None
        durable.rename(paths.clone, paths.pgdata)


def discard(paths: NodePaths) -> None:
    """Removes what an attempt left half made; it was never started."""
    tablespaces.discard(tablespaces.read_list(paths.new_tablespaces))
    durable.remove_file(paths.new_tablespaces)
    durable.remove_tree(paths.clone)


def put_back(paths: NodePaths) -> None:
    """Undoes the first half of a swap whose clone is gone: it has never started (rule 9)."""
    if not paths.pgdata.exists() and not paths.clone.exists() and paths.replaced.exists():
        durable.rename(paths.replaced, paths.pgdata)


def retire(paths: NodePaths) -> None:
    """The replaced directory must never come back once its clone may have acknowledged anything."""
    if paths.replaced.exists() and paths.pgdata.exists():
        durable.remove_tree(paths.retired)
        durable.rename(paths.replaced, paths.retired)


def remove_retired(paths: NodePaths, log: Log) -> None:
    """Frees the space of what was put aside; only once the node has caught up."""
    old = tablespaces.read_list(paths.old_tablespaces)
    version = data_directory_version(paths.pgdata)
    if old and version is not None:
        log(f"removing {len(old)} old tablespaces: the node has caught up")
        tablespaces.remove_old(old, paths.pgdata, version)
        durable.remove_file(paths.old_tablespaces)
    for directory in (paths.retired, paths.aside, paths.kept):
        if directory.exists():
            log(f'removing "{directory}": the node has caught up')
            durable.remove_tree(directory)
