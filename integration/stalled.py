"""Processes that stand still, and a leader without acknowledgements: how tests disturb them."""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from helpers import Attempt, Step, stays_pending, wait_event, wait_for_sync_rep
from pgraft import processes
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode

TIMEOUT_MS = 200
_WATCH_SECONDS = 0.2


class Stopped:
    """Processes that are stopped (SIGSTOP) until `release`, or until the tests are killed."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        # It reads until this process closes the pipe, or is gone.
        self._guardian = subprocess.Popen(
            ["sh", "-c", 'cat >/dev/null; kill -CONT "$@" 2>/dev/null', "sh", *map(str, pids)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        processes.send(pids, signal.SIGSTOP)
        wait_for(lambda: all(map(is_stopped, pids)), 30, "the processes to stop")

    def end(self) -> None:
        """Ends them: they see the signal before anything that has come for them meanwhile."""
        processes.send(self.pids, signal.SIGTERM)
        self.release()

    def release(self) -> None:
        """Lets them go on; may be called again."""
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._guardian.wait(30)


def server_process(node: LocalNode, title: str) -> int:
    """A process of a node's server by the title that `ps` shows."""
    for pid in node.tree():
        with contextlib.suppress(OSError):
            if title in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
    raise LookupError(f"node {node.id} has no process {title!r}")


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    processes.send(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        processes.send(pids, signal.SIGCONT)


def postmaster_of(node: LocalNode) -> int:
    pid = node.postmaster()
    assert pid is not None
    return pid


class Stalled:
    """The followers' walreceivers are stopped (SIGSTOP): the leader keeps its lease, and no commit
    finds its quorum. What is acknowledged meanwhile, a majority lacks.
    """

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.leader: LocalNode = cluster.leader()
        self._streams: Stopped | None = None

    # --- the followers ---

    def hold(self) -> None:
        """Stops the streams, once the followers have everything."""
        if self._streams is not None:
            return
        self.leader = self.cluster.leader(60)
        receivers = []
        for node in self.cluster.nodes.values():
            if node is not self.leader:
                self.cluster.wait_for_standby(node.id)
                receivers.append(self._receiver(node.id))
        self._streams = Stopped(receivers)

    def release(self) -> None:
        """Lets them go on."""
        if self._streams is not None:
            self._streams.release()
        self._streams = None

    def lose(self) -> None:
        """Ends them; what the leader has sent and they have not read is as if not sent.

        After a kill of the leader, else they connect again.
        """
        if self._streams is not None:
            self._streams.end()
        self._streams = None

    def _receiver(self, node_id: int) -> int:
        with self.cluster.connect(node_id) as connection:
            row = connection.execute("SELECT pid FROM pg_stat_wal_receiver").fetchone()
        assert row is not None
        return int(row[0])

    # --- attempts ---

    def attempt(self, *steps: Step, **options: Any) -> Attempt:
        """Steps on a connection of their own, with the streams stopped."""
        self.hold()
        return Attempt(lambda: self.cluster.connect(self.leader.id, **options), *steps)

    def waiting(self, *steps: Step, **options: Any) -> Attempt:
        """Steps whose last one waits for its quorum."""
        for _ in range(10):
            running = self.attempt(*steps, **options)
            if wait_for_sync_rep(self.cluster, self.leader.id, running):
                return running
            # A slow machine: the timeout came before the commit.
            assert running.sqlstate == "57014", running
        raise AssertionError("no commit came to wait for its quorum")

    def still_waits(self, running: Attempt) -> bool:
        """Whether an attempt waits on, watched for a moment."""
        return (
            stays_pending(running, _WATCH_SECONDS)
            and wait_event(self.cluster, self.leader.id, running.pid) == "SyncRep"
        )

    def finish(self, running: Attempt) -> None:
        """With followers again it ends."""
        self.release()
        running.join(60)
        assert not running.pending, running

    # --- what may disturb a wait ---

    def cancel(self, running: Attempt) -> None:
        """A cancel request; returns when the backend has taken the signal."""
        self.execute("SELECT pg_cancel_backend(%s)", running.pid)
        wait_for(lambda: not _is_pending(running.pid, signal.SIGINT), 30, "the signal to arrive")

    def terminate(self, running: Attempt) -> None:
        self.execute("SELECT pg_terminate_backend(%s)", running.pid)

    def let_timeouts_pass(self, running: Attempt) -> None:
        """Waits until the statement is older than the timeout that its session has set."""

        def passed() -> bool:
            row = self.execute(
                "SELECT clock_timestamp() - query_start > make_interval(secs => %s) "
                "FROM pg_stat_activity WHERE pid = %s",
                1.5 * TIMEOUT_MS / 1000,
                running.pid,
            )
            return row is None or bool(row[0])

        wait_for(passed, 30, "the timeouts to pass")
        wait_for(lambda: not _is_pending(running.pid, signal.SIGINT), 30, "the signal to arrive")

    @contextlib.contextmanager
    def quorum_names(self, names: str, *, force: bool = False) -> Iterator[None]:
        """An attempt to set synchronous_standby_names; `force`: past ALTER SYSTEM, in the file."""
        file = self.leader.paths.pgdata / "postgresql.auto.conf"
        before = file.read_text()
        try:
            if force:
                file.write_text(f"{before}synchronous_standby_names = '{names}'\n")
            else:
                self.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            self.reload()
            yield
        finally:
            file.write_text(before)
            self.reload()

    def reload(self) -> None:
        """Returns when the postmaster, and so every new session, has loaded the configuration."""
        row = self.execute("SELECT pg_conf_load_time()::text")
        assert row is not None
        self.execute("SELECT pg_reload_conf()")

        def loaded() -> bool:
            now = self.execute("SELECT pg_conf_load_time()::text")
            return now is not None and now != row

        wait_for(loaded, 30, "the configuration to be loaded")

    # --- SQL ---

    def execute(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        """A statement on a new connection to the leader; its first row."""
        with self.cluster.connect(self.leader.id) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchone() if cursor.description else None

    def holds(self, condition: str) -> bool:
        """Whether a condition is true on the leader, as another session sees it."""
        row = self.execute(f"SELECT {condition}")
        return row is not None and bool(row[0])

    def worker(self) -> int:
        """Process id of the leader's consensus worker."""
        row = self.execute("SELECT pid FROM pgraft_get_worker_state()")
        assert row is not None
        return int(row[0])

    def psql(self, command: str) -> subprocess.Popen[str]:
        """A psql of its own, that runs the command."""
        return subprocess.Popen(
            [
                str(self.cluster.postgres.program("psql")), "-X", "-v", "ON_ERROR_STOP=1",
                "-h", str(self.leader.socket_dir), "-p", str(self.leader.port),
                "-U", self.cluster.owner.name, "-d", "postgres", "-c", command,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def waits_with(self, query: str) -> int:
        """The backend that waits for its quorum with this statement, once there is one."""

        def find() -> int | None:
            row = self.execute(
                "SELECT pid FROM pg_stat_activity WHERE query = %s AND wait_event = 'SyncRep'",
                query,
            )
            return int(row[0]) if row else None

        return wait_for(find, 30, "the commit to wait for its quorum")


# --- ways to lose the wait: what a server without rule 6 answers with success


def _cancelled(*steps: Step, before: str = "") -> Callable[[Stalled], Attempt]:
    def lose(stalled: Stalled) -> Attempt:
        if before:
            stalled.execute(before)
        running = stalled.waiting(*steps)
        stalled.cancel(running)
        return running

    return lose


def _timed_out(*steps: Step, before: str = "") -> Callable[[Stalled], Attempt]:
    def lose(stalled: Stalled) -> Attempt:
        if before:
            stalled.execute(before)
        running = stalled.waiting(*steps[:-1], f"SET statement_timeout = {TIMEOUT_MS}", steps[-1])
        stalled.let_timeouts_pass(running)
        return running

    return lose


def _weaker(level: str) -> Callable[[Stalled], Attempt]:
    def lose(stalled: Stalled) -> Attempt:
        return stalled.attempt(f"SET synchronous_commit = {level}", "INSERT INTO t VALUES (1)")

    return lose


def _pipelined(connection: psycopg.Connection[Any]) -> None:
    with connection.pipeline():
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("COMMIT")
        connection.execute("SELECT 1")


_PREPARED = "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'lost'"

LOSSES: dict[str, Callable[[Stalled], Attempt]] = {
    "cancel": _cancelled("INSERT INTO t VALUES (1)"),
    "cancel in a pipeline": _cancelled(_pipelined),
    "cancel of PREPARE": _cancelled(
        "BEGIN; INSERT INTO t VALUES (1)", "PREPARE TRANSACTION 'lost'"
    ),
    "cancel of COMMIT PREPARED": _cancelled("COMMIT PREPARED 'lost'", before=_PREPARED),
    "cancel of ROLLBACK PREPARED": _cancelled("ROLLBACK PREPARED 'lost'", before=_PREPARED),
    "timeout of COMMIT PREPARED": _timed_out("COMMIT PREPARED 'lost'", before=_PREPARED),
    "timeout in a procedure": _timed_out("DO $$ BEGIN INSERT INTO t VALUES (1); COMMIT; END $$"),
    "level off": _weaker("off"),
    "level local": _weaker("local"),
}


@contextlib.contextmanager
def receiver(stalled: Stalled, name: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """pg_receivewal, which confirms all that it has synced, by an application_name."""
    command = [
        str(stalled.cluster.postgres.program("pg_receivewal")), "--synchronous", "--no-loop",
        "-D", str(directory),
        "-d", f"host={stalled.leader.socket_dir} port={stalled.leader.port} "
        f"user={stalled.cluster.owner.name} application_name={name}",
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def forget_prepared(stalled: Stalled) -> None:
    """Leaves no prepared transaction behind."""
    if stalled.holds("EXISTS (SELECT FROM pg_prepared_xacts WHERE gid = 'lost')"):
        stalled.execute("ROLLBACK PREPARED 'lost'")


def results_of(connection: psycopg.Connection[Any], query: bytes) -> list[bytes]:
    """The tags that a client gets to see which reads one result after the other.

    Returns at the end of the connection, too: what came before it is what counts.
    """
    pgconn = connection.pgconn
    tags: list[bytes] = []
    pgconn.send_query_params(query, None)
    while True:
        while pgconn.is_busy():
            select.select([pgconn.socket], [], [])
            try:
                pgconn.consume_input()
            except psycopg.OperationalError:
                return tags
        result = pgconn.get_result()
        if result is None:
            return tags
        tags.append(result.command_status or b"")


def sqlstate_of(connection: psycopg.Connection[Any], step: Step) -> str | None:
    """The error that a step ends with; None: none."""
    try:
        if isinstance(step, str):
            connection.execute(step.encode())
        else:
            step(connection)
    except psycopg.Error as error:
        return error.sqlstate
    return None


def _status(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def is_stopped(pid: int) -> bool:
    return _status(pid).get("State", "").startswith("T")


def _is_pending(pid: int, number: signal.Signals) -> bool:
    status = _status(pid)
    masks = int(status.get("ShdPnd", "0"), 16) | int(status.get("SigPnd", "0"), 16)
    return bool(masks >> (number - 1) & 1)
