"""`pgraft failover --allow-data-loss`: one survivor of a lost majority begins a new cluster.

The members that are lost may have acknowledged what the survivor never got, so nothing can make
this safe; what can be done is to make it whole. The survivor's Raft state is put aside, its server
replays all WAL that it has, is promoted to a timeline of its own, and forms a cluster of one under
a new cluster id and incarnation. Members of the old cluster are strangers to it (rule 10): no vote,
acknowledgement or WAL of theirs counts, and they come back only as copies.

Every step can be repeated: the marker file, written first and removed last, says that it was begun.
Until the end the server is a plain standby that belongs to no cluster.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from pgraft import _pgraft, durable, rewind
from pgraft.clone import ensure_standby
from pgraft.config import read_node_conf
from pgraft.errors import ProgramError, SetupError
from pgraft.owner import Owner, end_group
from pgraft.paths import NodePaths
from pgraft.pg import Postgres
from pgraft.source import Position
from pgraft.supervisor import die_with_parent

Log = Callable[[str], None]
_MARKER = "new-cluster"
_RAFT_FILES = ("raft", "members", "timelines", "rejoin", "pgraft.conf", "kept", "aside")
_REPLAY_SECONDS = 3600.0
_START_SECONDS = 600.0
_STOP_SECONDS = 300.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Survivor:
    """The stopped member that begins the new cluster."""

    node_id: int
    cluster_id: int
    """Of the old cluster."""


def survivor(paths: NodePaths) -> Survivor:
    """Who it was, also when an earlier attempt has put its identity aside.

    Raises:
        SetupError: It is no member.
    """
    with contextlib.suppress(FileNotFoundError):
        marker = json.loads((paths.data_dir / _MARKER).read_text(encoding="utf-8"))
        return Survivor(int(marker["node_id"]), int(marker["cluster_id"]))
    try:
        identity = _pgraft.read_identity(str(paths.data_dir))
    except _pgraft.NotFound:
        raise SetupError(f'"{paths.data_dir}" holds no Raft state of a member') from None
    if identity.cluster_id == 0:
        raise SetupError(f"node {identity.node_id} is no member of a cluster")
    rejoin = None
    with contextlib.suppress(_pgraft.NotFound):
        rejoin = _pgraft.read_rejoin(str(paths.data_dir))
    if rejoin is not None and rejoin.state != _pgraft.RejoinState.REQUESTED:
        raise SetupError(
            f"node {identity.node_id} was being rewound or copied and is not whole: its data can't "
            "be used; take another survivor"
        )
    return Survivor(identity.node_id, identity.cluster_id)


def position(paths: NodePaths, postgres: Postgres, owner: Owner, log: Log) -> Position:
    """Where the WAL of the stopped server ends, after it has replayed all that it has."""
    control = rewind.shut_down_cleanly(postgres, owner, paths, log, _REPLAY_SECONDS)
    return Position(control.end_timeline, control.end)


def begin(
    paths: NodePaths,
    postgres: Postgres,
    owner: Owner,
    old: Survivor,
    words: dict[str, Any],
    log: Log,
) -> Path:
    """Makes the survivor a cluster of one; its server is stopped again at the end.

    Args:
        paths: Of the survivor.
        postgres: Its programs.
        owner: Its user.
        old: Who it was.
        words: User and database for SQL on it.
        log: Where to say what is done.

    Returns:
        Where the old Raft state is.

    Raises:
        ProgramError: The server could not be started.
        psycopg.Error: It refused; doing it again goes on from there.
    """
    kept = paths.data_dir / f"cluster-{old.cluster_id:016x}"
    marker = paths.data_dir / _MARKER
    text = json.dumps({"node_id": old.node_id, "cluster_id": old.cluster_id})
    durable.write_file(owner, marker, text + "\n")
    if not _is_begun(paths, old):
        log(f'putting the Raft state of the old cluster aside: "{kept}"')
        owner.make_directory(kept)
        _put_aside(paths, kept)
        ensure_standby(owner, paths.pgdata)
        with _server(postgres, owner, paths, log) as socket_directory:
            _form(paths, socket_directory, words, log)
    durable.remove_file(marker)
    return kept


def _is_begun(paths: NodePaths, old: Survivor) -> bool:
    """Has an earlier attempt formed the new cluster already?"""
    try:
        identity = _pgraft.read_identity(str(paths.data_dir))
    except _pgraft.NotFound:
        return False
    return identity.cluster_id not in (0, old.cluster_id)


def _put_aside(paths: NodePaths, kept: Path) -> None:
    """Moves the old Raft state away.

    The identity goes first and the data directory's half of it last: with one half the server
    refuses to start (rule 10), so it can't vote with half of its log.
    """
    identity = paths.data_dir / "identity"
    if (kept / identity.name).exists():
        if identity.exists():
            return  # the server has started since, so all had been moved, and this is its new state
    else:
        durable.rename(identity, kept / identity.name)
        durable.sync_path(paths.data_dir)
    for name in _RAFT_FILES:
        if (paths.data_dir / name).exists():
            durable.rename(paths.data_dir / name, kept / name)
    durable.sync_path(paths.data_dir)
    durable.remove_file(paths.binding)


def _form(paths: NodePaths, socket_directory: Path, words: dict[str, Any], log: Log) -> None:
    conf = {**words, "host": str(socket_directory), "port": _port(paths)}
    with psycopg.connect(make_conninfo("", **conf), autocommit=True) as connection:
        row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        if row == (True,):
            log("promoting the server")
            row = connection.execute("SELECT pg_promote(true, 3600)").fetchone()
            if row != (True,):
                raise ProgramError("pg_promote", 1, "the server was not promoted within an hour")
        connection.execute("CHECKPOINT")
        log("forming a cluster of one")
        connection.execute("SELECT pgraft_init()")


@contextlib.contextmanager
def _server(postgres: Postgres, owner: Owner, paths: NodePaths, log: Log) -> Iterator[Path]:
    """Runs the server for this alone: no client reaches it."""
    with owner.temporary_directory() as directory:
        hba = directory / "pg_hba.conf"
        hba.write_text("local all all trust\n", encoding="utf-8")
        owner.give(hba)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(directory),
            "unix_socket_permissions": "0700",
            "hba_file": str(hba),
            "hot_standby": "on",
            "primary_conninfo": "",  # nothing more is streamed, whoever is there
            "logging_collector": "off",
            "log_destination": "stderr",
        }
        command = [str(postgres.program("postgres")), "-D", str(paths.conf_dir)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log_file = directory / "log"
        with (
            open(log_file, "wb") as out,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread by now
                **owner.popen_arguments(),
            ) as process,
        ):
            try:
                _wait_for_socket(process, directory, _port(paths), log_file)
                yield directory
                log("stopping the server")
                process.send_signal(signal.SIGINT)
                process.wait(_STOP_SECONDS)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGQUIT)
                end_group(process)
                raise


def _wait_for_socket(
    process: subprocess.Popen[bytes], directory: Path, port: str, log_file: Path
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    conninfo = make_conninfo("", host=str(directory), port=port, dbname="postgres", user="postgres")
    while process.poll() is None and time.monotonic() < deadline:
        # It takes connections once it is consistent: whatever it says to this one by then will do.
        if _answers(conninfo):
            return
        time.sleep(_POLL_SECONDS)
    tail = log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise ProgramError("postgres", process.returncode or 1, tail)


def _answers(conninfo: str) -> bool:
    status = psycopg.pq.PGconn.ping(conninfo.encode())
    return status == psycopg.pq.Ping.OK


def _port(paths: NodePaths) -> str:
    return read_node_conf(paths).get("port", "5432")
