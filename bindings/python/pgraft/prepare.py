"""What has to be done to a data directory while its server is down: `pgraft prepare`.

Usually nothing: without a rejoin file only `standby.signal` is looked after. A node that has
diverged is rewound, or cloned where that is impossible (rule 9). The order of the steps makes
every interruption harmless: the rejoin file says "working" before the first byte is touched, and
the server refuses to start on that; it says "catching_up" when the directory is whole and bound
again (rules 3, 10).

    requested -> working, mode rewind -> local WAL replayed -> working, mode clone -> pg_rewind
              -> configuration, standby.signal, binding -> catching_up with target

Meanwhile the node votes (voter.py): its vote may be needed for there to be a leader to rejoin
from. A rejoin that has not been begun, and for which no leader is found, is left for later: the
server runs as a standby, which knows where its WAL ends, and may even be the one that has to be
promoted. If the next leader has what it has, the server withdraws the request; otherwise it stops
again.

The mode becomes "clone" just before pg_rewind runs, since a directory that pg_rewind left half done
can only be replaced; and "rewind" again when pg_rewind ends without having written anything.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg

from pgraft import _pgraft, clone, durable, rewind, tablespaces
from pgraft.config import read_node_conf
from pgraft.errors import Error, NoLeader, ProgramError, SetupError
from pgraft.exclusive import exclusive
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres, data_directory_version
from pgraft.progress import FINISH, REPLAY, REWIND, Progress
from pgraft.source import Source, connection_string, find_source
from pgraft.status import RaftAddress
from pgraft.voter import voting

Log = Callable[[str], None]
_RETRY_SECONDS = 0.5
_REPLAY_SECONDS = 3600.0
_REWIND_ATTEMPTS = 3
_UNTOUCHED_SECONDS = 10.0  # for which a server that could run looks for a leader


class Outcome(enum.Enum):
    """What was done."""

    NOTHING = "nothing to do"
    REWOUND = "rewound"
    CLONED = "cloned"


def log_to_stderr(message: str) -> None:
    """A line with the time, as a server writes it."""
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
    print(f"{now} [{os.getpid()}] pgraft: {message}", file=sys.stderr, flush=True)


def prepare(
    paths: NodePaths,
    *,
    timeout: float = 60.0,
    bindir: Path | None = None,
    log: Log = log_to_stderr,
) -> Outcome:
    """Makes the data directory ready for the server to start on it.

    Args:
        paths: Of the node.
        timeout: Seconds to look for a leader, when one is needed.
        bindir: PostgreSQL's programs; default: found by the directory's version.
        log: Where to say what is done.

    Raises:
        NoLeader: A rejoin needs a leader and there was none in time; try again.
        SetupError: The directory can't be prepared; the message says what to do.
        ProgramError: A PostgreSQL program failed where nothing else can be tried.
    """
    if not paths.data_dir.exists():
        return _prepare(paths, (), timeout, bindir, log)
    with exclusive(paths, log) as lock:
        return _prepare(paths, (lock,), timeout, bindir, log)


def _prepare(
    paths: NodePaths, inherited: tuple[int, ...], timeout: float, bindir: Path | None, log: Log
) -> Outcome:
    rejoin = read_rejoin(paths)
    if rejoin is not None and rejoin.state == _pgraft.RejoinState.WORKING:
        clone.put_back(paths)
        if not paths.pgdata.exists() and clone.is_whole(paths.clone, rejoin.binding):
            clone.swap_in(paths)
    _refuse_lost_data(paths)
    owner = replace(Owner.of_directory(paths.pgdata), inherited=inherited)
    refuse_running_server(paths)
    if rejoin is None or rejoin.state == _pgraft.RejoinState.CATCHING_UP:
        _check(owner, paths, caught_up=rejoin is None, log=log)
        return Outcome.NOTHING
    return _Rejoin(paths, owner, rejoin, timeout, bindir, log).run()


def read_rejoin(paths: NodePaths) -> _pgraft.RejoinFile | None:
    """The rejoin file; None when there is none.

    Raises:
        Error: It is damaged.
    """
    try:
        return _pgraft.read_rejoin(str(paths.data_dir))
    except _pgraft.NotFound:
        return None


def _refuse_lost_data(paths: NodePaths) -> None:
    """Rule 10: nothing is made up for a data directory that is gone."""
    if data_directory_version(paths.pgdata) is not None:
        return
    what = "holds no database" if paths.pgdata.exists() else "does not exist"
    try:
        identity = _pgraft.read_identity(str(paths.data_dir))
    except _pgraft.NotFound:
        raise SetupError(f'data directory "{paths.pgdata}" {what}') from None
    raise SetupError(
        f'data directory "{paths.pgdata}" {what}, but "{paths.data_dir}" holds the Raft state of '
        f"node {identity.node_id}: if its disk is not mounted, mount it; if the data is lost, "
        f"remove the node from the cluster (SELECT pgraft_remove_node({identity.node_id}) on the "
        f'leader), remove "{paths.data_dir}", and add it again (pgraft join)'
    )


def refuse_running_server(paths: NodePaths) -> None:
    """Raises SetupError when a server runs in the data directory."""
    pid = running_server(paths)
    if pid is not None:
        raise SetupError(f'a server (process {pid}) runs in "{paths.pgdata}"; stop it first')


def running_server(paths: NodePaths) -> int | None:
    """Process id of the server that runs in the data directory; None: none does."""
    try:
        pid = int(paths.postmaster_pid.read_text().split("\n", 1)[0])
        where = os.readlink(f"/proc/{pid}/cwd")
    except (OSError, ValueError):
        return None
    return pid if where == str(paths.pgdata) else None


def _check(owner: Owner, paths: NodePaths, *, caught_up: bool, log: Log) -> None:
    clone.retire(paths)
    if caught_up:
        clone.remove_retired(paths, log)
    try:
        identity = _pgraft.read_identity(str(paths.data_dir))
    except _pgraft.NotFound:
        return
    if identity.cluster_id != 0:
        clone.ensure_standby(owner, paths.pgdata)  # rule 1


class _RewindFailedError(Exception):
    """Nothing was written, and the source is fine."""


class _Rejoin:
    """One rejoin, from whatever point an earlier attempt got to."""

    def __init__(
        self,
        paths: NodePaths,
        owner: Owner,
        rejoin: _pgraft.RejoinFile,
        timeout: float,
        bindir: Path | None,
        log: Log,
    ) -> None:
        self.paths = paths
        self.owner = owner
        self.rejoin = rejoin
        self.timeout = timeout
        self.log = log
        self.postgres = Postgres.find(bindir=bindir, pgdata=paths.pgdata)
        self.node_conf = read_node_conf(paths)
        self.node_id = _pgraft.read_identity(str(paths.data_dir)).node_id
        self.failed_rewinds = 0
        self.progress = Progress(self.node_id, owner, paths)

    def run(self) -> Outcome:
        """Goes on until the directory is whole, or it can be left for later."""
        try:
            with voting(self.paths, self.owner, self.log), self.progress:
                return self._run()
        except NoLeader as error:
            if not self._may_run():
                raise
            self.log(f"the server runs as it is until there is a leader to rejoin from: {error}")
            clone.ensure_standby(self.owner, self.paths.pgdata)  # rule 1
            return Outcome.NOTHING

    def _may_run(self) -> bool:
        """Is the directory what it was, and a leader the only reason for the request?

        Without one an operator wants it replaced, or it holds WAL that nobody may trust.
        """
        untouched = self.rejoin.state == _pgraft.RejoinState.REQUESTED
        return untouched and self.rejoin.source_node != 0

    def _run(self) -> Outcome:
        """A source that dies is replaced."""
        begun = time.monotonic()
        while True:
            source = self._find_source()
            self.progress.source(source.node_id, source.host, source.port, source.conninfo)
            try:
                self._refuse_outdated(source.node_id, source.promoted_timeline)
                return self._rejoin(source)
            except _RewindFailedError as error:
                self.log(f"a rewind has failed, trying again: {error}")
                time.sleep(_RETRY_SECONDS)
            except (psycopg.OperationalError, NoLeader) as error:
                if time.monotonic() >= begun + self._patience():
                    raise NoLeader(f"node {source.node_id} could not be used: {error}") from error
                self.log(f"node {source.node_id} could not be used, trying again: {error}")
                time.sleep(_RETRY_SECONDS)

    def _patience(self) -> float:
        return min(self.timeout, _UNTOUCHED_SECONDS) if self._may_run() else self.timeout

    def _refuse_outdated(self, source: int, timeline: int) -> None:
        """Rule 3: what was acknowledged here must be in what replaces it.

        Nothing is acknowledged on a timeline later than the newest that this node has seen
        completed.

        Raises:
            NoLeader: The source's timeline is older: it has been replaced and does not know it.
        """
        newest = self.rejoin.target[0]
        with contextlib.suppress(_pgraft.NotFound):
            newest = max(newest, _pgraft.read_timelines(str(self.paths.data_dir)).current)
        if timeline < newest:
            raise NoLeader(f"node {source} is on timeline {timeline}, not on {newest} or later")

    def _find_source(self) -> Source:
        members = _pgraft.read_members(str(self.paths.data_dir))
        others = [RaftAddress(m.address, m.port) for m in members if m.id != self.node_id]
        if not others:
            raise SetupError(f'"{self.paths.data_dir / "members"}" names no other member to ask')
        common = self.node_conf.get("pgraft.replication_conninfo", "")

        def conninfo(host: str, port: int) -> str:
            return connection_string(host, port, common, self.owner.name)

        return find_source(others, conninfo, self._patience())

    def _rejoin(self, source: Source) -> Outcome:
        outcome = self._outcome_of_earlier_attempt()
        if outcome is None:
            self._begin(source)
            rewound = self.rejoin.mode == _pgraft.RejoinMode.REWIND and self._rewind(source)
            if not rewound:
                self._clone(source)
            outcome = Outcome.REWOUND if rewound else Outcome.CLONED
        self._catch_up(source, outcome)
        return outcome

    def _outcome_of_earlier_attempt(self) -> Outcome | None:
        """Was the directory whole already, and only the target missing?"""
        if self.rejoin.state != _pgraft.RejoinState.WORKING:
            return None
        if clone.is_whole(self.paths.clone, self.rejoin.binding):
            clone.swap_in(self.paths)
        if not clone.is_whole(self.paths.pgdata, self.rejoin.binding):
            return None
        return Outcome.CLONED if self.paths.replaced.exists() else Outcome.REWOUND

    def _begin(self, source: Source) -> None:
        """Durable before the first byte is touched: from here on the server refuses to start."""
        rejoin = self.rejoin
        if rejoin.state == _pgraft.RejoinState.REQUESTED:
            self.log(f"rejoining through node {source.node_id}: {rejoin.reason}")
            clone.keep_configuration(self.owner, self.paths)
            rejoin.binding = _pgraft.random_id()
        rejoin.state = _pgraft.RejoinState.WORKING
        rejoin.source_node = source.node_id
        rejoin.source_host = source.host
        rejoin.source_port = source.port
        self._store()

    def _store(self) -> None:
        _pgraft.write_rejoin(str(self.paths.data_dir), self.rejoin)
        self.owner.give(self.paths.data_dir / "rejoin")

    def _rewind(self, source: Source) -> bool:
        """False: it can't be rewound and has to be cloned."""
        kept: Path | None = None
        try:
            self.progress.phase(REPLAY)
            control = rewind.shut_down_cleanly(
                self.postgres, self.owner, self.paths, self.log, _REPLAY_SECONDS
            )
            rewind.refuse_untracked_hints(control)
            rewind.refuse_unfinished_promotion(self.postgres, control)
            rewind.refuse_tablespaces(self.paths, source)
            source.checkpoint()
            source.check_writable()
            timeline = source.position().timeline
            kept = rewind.keep_wal(
                self.owner, self.paths, control, source.history(timeline), timeline, self.log
            )
            self.rejoin.mode = _pgraft.RejoinMode.CLONE  # should pg_rewind be interrupted
            self._store()
            self.log(f"rewinding against node {source.node_id}")
            self.progress.phase(REWIND)
            rewind.run_pg_rewind(self.postgres, self.owner, self.paths, source, self.progress)
            rewind.check_wal(self.paths, control.wal_segment_bytes)
        except rewind.RewindImpossible as error:
            self.log(f"a rewind is impossible, cloning instead: {error}")
            self.rejoin.mode = _pgraft.RejoinMode.CLONE
            self._store()
            return False
        except ProgramError as error:
            if kept is not None:  # the WAL is still where it was
                durable.remove_tree(kept)
            return self._retry_rewind(source, error)
        clone.finish(self.owner, self.paths, self.paths.pgdata, self.rejoin.binding)
        return True

    def _retry_rewind(self, source: Source, error: ProgramError) -> bool:
        """Nothing has been written; a passing error must not cost a copy of the whole database.

        Raises:
            _RewindFailedError: To be tried again.
            NoLeader: It was the source that failed; the next leader may do.
            psycopg.OperationalError: The same.
        """
        self.rejoin.mode = _pgraft.RejoinMode.REWIND
        self._store()
        source.check_writable()
        self.failed_rewinds += 1
        if self.failed_rewinds < _REWIND_ATTEMPTS:
            raise _RewindFailedError(str(error)) from error
        self.log(f"a rewind has failed {self.failed_rewinds} times, cloning instead: {error}")
        self.rejoin.mode = _pgraft.RejoinMode.CLONE
        self._store()
        return False

    def _clone(self, source: Source) -> None:
        self.log(f"copying node {source.node_id}'s database")
        if os.path.ismount(self.paths.pgdata):
            raise SetupError(
                f'data directory "{self.paths.pgdata}" is a mount point and can\'t be replaced by '
                "a clone; use a directory inside it"
            )
        clone.discard(self.paths)  # of an earlier attempt
        here = tablespaces.places(self.paths.pgdata)
        mapping = tablespaces.choose(source.tablespaces(), here)
        unused = set(here.values()) - set(tablespaces.shared(source, here).values())
        if unused:
            unused |= set(tablespaces.read_list(self.paths.old_tablespaces))
            tablespaces.write_list(self.owner, self.paths.old_tablespaces, unused)
        if mapping:
            tablespaces.write_list(self.owner, self.paths.new_tablespaces, mapping.values())
        try:
            clone.base_backup(
                self.postgres, self.owner, source, self.paths.clone, mapping, self.progress
            )
        except ProgramError as error:
            raise NoLeader(str(error)) from error
        clone.finish(self.owner, self.paths, self.paths.clone, self.rejoin.binding)
        clone.swap_in(self.paths)

    def _catch_up(self, source: Source, outcome: Outcome) -> None:
        """Rule 3: the node abstains until it has what the leader had after the copy."""
        self.progress.phase(FINISH)
        # An idle source may have inserted less than a record's worth beyond what it has flushed,
        # and the copy is consistent only from its insert position on: a checkpoint writes and
        # flushes.
        source.checkpoint()
        target = source.position()
        if target.timeline < source.promoted_timeline:
            raise NoLeader(f"node {source.node_id} is on timeline {target.timeline} only")
        self._refuse_outdated(source.node_id, target.timeline)
        clone.retire(self.paths)  # before the first start
        rewound = outcome is Outcome.REWOUND
        self.rejoin.mode = _pgraft.RejoinMode.REWIND if rewound else _pgraft.RejoinMode.CLONE
        self.rejoin.state = _pgraft.RejoinState.CATCHING_UP
        self.rejoin.target = max(self.rejoin.target, (target.timeline, target.lsn))
        self._store()
        self.log(
            f"{outcome.value}; catching up with node {source.node_id} "
            f"to {target.lsn >> 32:X}/{target.lsn & 0xFFFFFFFF:X} on timeline {target.timeline}"
        )


__all__ = ["Error", "Outcome", "log_to_stderr", "prepare", "read_rejoin"]
