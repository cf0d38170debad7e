"""What only the machine of a node can tell: supervisor, files, disks, the way to the others."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from pgraft import _pgraft
from pgraft.checks.finding import Finding, Level
from pgraft.cluster_view import ClusterView, MemberView
from pgraft.config import INCLUDE_MARK, node_local_settings, read_node_conf
from pgraft.errors import Error, ProgramError, SetupError
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres
from pgraft.prepare import read_rejoin, running_server
from pgraft.run_lock import supervised_by
from pgraft.source import connection_string

_SYNCS = 30
_SYNC_BYTES = 8192
_SYNC_SECONDS = 3.0
_SLOW_SYNC_SECONDS = 0.02
_FREE_SHARE = 0.1
_PSQL_SECONDS = 20.0
_ELECTION_SECONDS = 1.0  # the default of pgraft.election_timeout

# What `prepare` and pg_rewind call on the leader.
_MAY_REWIND = """
SELECT rolsuper OR (
    has_function_privilege('pg_ls_dir(text, boolean, boolean)', 'execute')
    AND has_function_privilege('pg_stat_file(text, boolean)', 'execute')
    AND has_function_privilege('pg_read_file(text)', 'execute')
    AND has_function_privilege('pg_read_binary_file(text, bigint, bigint, boolean)', 'execute')
    AND pg_has_role('pg_checkpoint', 'member'))
FROM pg_roles WHERE rolname = current_user
"""


def check_here(paths: NodePaths, view: ClusterView, bindir: Path | None = None) -> list[Finding]:
    """All of it, for the node in `paths`.

    Raises:
        SetupError: It is no node, or this user may not look at it.
    """
    conf = read_node_conf(paths)
    try:
        identity = _pgraft.read_identity(str(paths.data_dir))
        title = f"node {identity.node_id}"
    except _pgraft.NotFound:
        title = f"node {conf.get('pgraft.node_id', '?')}"
    election = _seconds(conf.get("pgraft.election_timeout", ""), _ELECTION_SECONDS)
    found = [*_supervisor(paths, title), *_files(paths, title)]
    for what, directory in (("Raft log", paths.data_dir), ("WAL", paths.pgdata / "pg_wal")):
        found += [*_disk(what, directory, title, election), *_space(what, directory, title)]
    node_id = int(conf.get("pgraft.node_id", "0"))
    for member in view.members:
        if member.node_id != node_id and member.answer is not None:
            found.append(_way_to(paths, conf, member, title, bindir))
    return found


def _seconds(setting: str, default: float) -> float:
    """A time as it stands in a configuration file; milliseconds without a unit."""
    found = re.fullmatch(r"(\d+)\s*(ms|s|min)?", setting.strip())
    if found is None:
        return default
    return int(found.group(1)) * {"ms": 0.001, "s": 1.0, "min": 60.0}[found.group(2) or "ms"]


def _supervisor(paths: NodePaths, title: str) -> Iterator[Finding]:
    supervisor = supervised_by(paths.run_pid)
    if supervisor is not None:
        yield Finding(
            Level.OK, "supervisor", title, f'"pgraft run" (process {supervisor}) runs its server'
        )
        return
    if running_server(paths) is None:
        yield Finding(
            Level.CRITICAL,
            "supervisor",
            title,
            "its server does not run, and nobody starts it",
            f'Start it with "pgraft run -D {paths.pgdata}", as a service.',
        )
        return
    service = _service_of(paths)
    if service:
        yield Finding(
            Level.NOTE,
            "supervisor",
            title,
            f"its server belongs to {service}, not to pgraft run",
            "That service must have Restart=always and ExecStartPre=pgraft prepare.",
        )
        return
    yield Finding(
        Level.CRITICAL,
        "supervisor",
        title,
        "nobody starts its server again when it has stopped itself to become a standby",
        f'Start it with "pgraft run -D {paths.pgdata}", as a service.',
    )


def _service_of(paths: NodePaths) -> str | None:
    """The systemd unit of the running server."""
    try:
        group = Path(f"/proc/{running_server(paths)}/cgroup").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    name = group.rsplit("/", 1)[-1]
    return name if name.endswith(".service") and not name.startswith("user@") else None


def _files(paths: NodePaths, title: str) -> Iterator[Finding]:
    lines = paths.server_conf.read_text(encoding="utf-8").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "")
    if INCLUDE_MARK not in last:
        yield Finding(
            Level.CRITICAL,
            "files",
            title,
            f'the last line of "{paths.server_conf}" does not include "{paths.node_conf}"',
            "Write it there: pgraft config --apply.",
        )
    overridden = []
    with contextlib.suppress(FileNotFoundError):
        overridden = node_local_settings(paths.auto_conf.read_text(encoding="utf-8"))
    if overridden:
        yield Finding(
            Level.WARNING,
            "files",
            title,
            f"ALTER SYSTEM has set what belongs into node.conf: {', '.join(overridden)}",
            "Take it back with ALTER SYSTEM RESET, and write it into node.conf.",
        )
    try:
        rejoin = read_rejoin(paths)
    except Error as error:
        yield Finding(Level.CRITICAL, "files", title, str(error), "See pgraft rejoin --help.")
        return
    if rejoin is not None:
        yield Finding(Level.NOTE, "files", title, f"a rejoin is under way: {rejoin.reason}")


def _disk(what: str, directory: Path, title: str, election: float) -> Iterator[Finding]:
    """A vote and a commit wait for a sync, and a leader whose disk hangs steps down (rule 11)."""
    try:
        times = sync_times(directory)
    except OSError as error:
        yield Finding(
            Level.NOTE,
            "disk",
            title,
            f'the disk of the {what} can\'t be measured: "{directory}": {error.strerror}',
            "Run this as the user of the server or as root.",
        )
        return
    typical, worst = statistics.median(times), max(times)
    said = f"a sync of the {what} takes {typical * 1000:.1f} ms, at worst {worst * 1000:.0f} ms"
    if worst > election / 2:
        yield Finding(
            Level.CRITICAL,
            "disk",
            title,
            f"{said}: near the election timeout of {election:g} s",
            "Give it a faster disk of its own, or raise pgraft.election_timeout on all members.",
        )
    elif typical > _SLOW_SYNC_SECONDS:
        yield Finding(
            Level.WARNING,
            "disk",
            title,
            f"{said}: every commit waits for it",
            "Look at what else uses that disk, and at its write cache.",
        )
    else:
        yield Finding(Level.OK, "disk", title, said)


def sync_times(directory: Path) -> list[float]:
    """Seconds that each of some small writes with fdatasync takes in that directory.

    Raises:
        OSError: A file can't be made there.
    """
    path = directory / f"pgraft-check-{secrets.token_hex(4)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        times: list[float] = []
        while len(times) < _SYNCS and sum(times) < _SYNC_SECONDS:
            begun = time.monotonic()
            os.pwrite(descriptor, bytes(_SYNC_BYTES), len(times) * _SYNC_BYTES)
            os.fdatasync(descriptor)
            times.append(time.monotonic() - begun)
        return times
    finally:
        os.close(descriptor)
        path.unlink()


def _space(what: str, directory: Path, title: str) -> Iterator[Finding]:
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return  # said above
    if usage.free < usage.total * _FREE_SHARE:
        yield Finding(
            Level.WARNING,
            "disk",
            title,
            f"the disk of the {what} has {usage.free >> 20} MB left of {usage.total >> 20} MB",
            "Make room: a full disk stops the node, and a clone needs the database's size once "
            "more.",
        )


def _way_to(
    paths: NodePaths, conf: dict[str, str], member: MemberView, title: str, bindir: Path | None
) -> Finding:
    """Connects as this node would to stream from, rewind against or copy another one."""
    check = "way to " + member.title
    try:
        owner = Owner.of_directory(paths.pgdata)
        psql = Postgres.find(bindir=bindir, pgdata=paths.pgdata).program("psql")
    except SetupError as error:
        return Finding(Level.NOTE, check, title, f"could not be tried: {error}")
    common = conf.get("pgraft.replication_conninfo", "")
    conninfo = connection_string(member.host, member.port, common, owner.name)
    hint = (
        f"pg_hba.conf of {member.title} must let this node connect, to database postgres and for "
        "replication, with what pgraft.replication_conninfo says."
    )

    def ask(conninfo: str, statement: str) -> str:
        command: list[str | Path] = [psql, "-XAtw", "-d", conninfo, "-c", statement]
        return owner.run(command, timeout=_PSQL_SECONDS).stdout.strip()

    try:
        may = ask(conninfo, _MAY_REWIND)
    except ProgramError as error:
        return Finding(Level.CRITICAL, check, title, f"no SQL there: {error.output.strip()}", hint)
    try:
        ask(f"{conninfo} replication=true", "IDENTIFY_SYSTEM")
    except ProgramError as error:
        # A follower refuses at its own door, after pg_hba.conf has let us in.
        if "not accepting replication connections" not in error.output:
            said = f"no replication there: {error.output.strip()}"
            return Finding(Level.CRITICAL, check, title, said, hint)
    if may != "t":
        return Finding(
            Level.WARNING,
            check,
            title,
            "the user of pgraft.replication_conninfo may not do what a rewind needs",
            "Make it a superuser, or grant it pg_checkpoint and EXECUTE on pg_ls_dir, pg_stat_file,"
            " pg_read_file and pg_read_binary_file.",
        )
    return Finding(Level.OK, check, title, "SQL and replication connections are let in")
