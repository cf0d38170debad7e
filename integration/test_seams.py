"""What docs/POSTGRES.md says of the server, on real servers: items that no other test shows."""

from __future__ import annotations

import signal
from pathlib import Path

from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    assert_nothing_lost,
    hand_over,
    more_rows,
    start_writer,
)
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from stalled import server_process

RESERVED = "# reserved by pgraft\n"
"""What extension/promote.c writes into the history file of an id that is not to be used."""


def put_history(cluster: LocalCluster, node: LocalNode, timeline: int, content: str) -> None:
    path = node.paths.pgdata / "pg_wal" / f"{timeline:08X}.history"
    path.write_text(content)
    cluster.owner.give(path)


def timeline_of(cluster: LocalCluster, node: LocalNode) -> int:
    answer = cluster.status()[node.id]
    assert answer is not None
    return answer.timeline


def worker_error(cluster: LocalCluster, node: LocalNode) -> str:
    with cluster.connect(node.id) as connection:
        row = connection.execute("SELECT error FROM pgraft_get_worker_state()").fetchone()
    return str(row[0] or "") if row else ""


def test_timelines_that_were_reserved_or_begun_keep_nobody_down(cluster: LocalCluster) -> None:
    """M1, M2, M3: one who lags follows over a gap of ids; abandoned files are cleared away."""
    writer = start_writer(cluster)
    successor, lagging = cluster.followers()
    cluster.stop(lagging.id)
    more_rows(writer)
    put_history(cluster, successor, 7, RESERVED)
    hand_over(cluster, cluster.leader(), successor.id)
    assert timeline_of(cluster, successor) == 8, "one more than every id that is known"
    lagging.start()
    cluster.wait_for_standby(lagging.id, REJOIN_SECONDS)
    more_rows(writer)

    cluster.stop(lagging.id)
    put_history(cluster, lagging, 9, RESERVED)
    put_history(cluster, lagging, 10, "8\t0/F0000000\tno recovery target specified\n")
    lagging.start()
    cluster.wait_for_standby(lagging.id, REJOIN_SECONDS)
    log = lagging.log_file.read_text()
    assert 'removed file "pg_wal/00000009.history"' in log
    assert (lagging.paths.data_dir / "aside" / "0000000A.history").exists()
    assert_nothing_lost(cluster, writer.stop())


def test_what_a_paused_standby_acknowledged_is_promoted(cluster: LocalCluster) -> None:
    """S17, M17: its position counts what it has received; the promotion waits for the replay."""
    writer = start_writer(cluster)
    leader = cluster.leader()
    paused, stopped = cluster.followers()
    cluster.stop(stopped.id)
    with cluster.connect(paused.id) as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
        pausing = "SELECT 1 WHERE pg_get_wal_replay_pause_state() = 'paused'"
        wait_for(lambda: connection.execute(pausing).fetchone(), 60, "the pause")
    more_rows(writer)
    leader.kill()
    stopped.start()
    assert cluster.leader(REJOIN_SECONDS, exclude=[leader.id]) is paused
    leader.start()
    more_rows(writer, timeout=REJOIN_SECONDS)
    assert_nothing_lost(cluster, writer.stop())


def test_settings_that_break_a_promise_are_reported(shared: LocalCluster) -> None:
    """M6, S3, S14, S16"""
    unfit = {
        "wal_receiver_status_interval": ("0", "wal_receiver_status_interval is 0"),
        "primary_conninfo": ("", "primary_conninfo is empty"),
        "restore_command": ("false", "restore_command is set"),
        "max_slot_wal_keep_size": ("-1", "max_slot_wal_keep_size is not set"),
        "full_page_writes": ("off", "full_page_writes is off"),
    }
    follower = shared.followers()[0]
    with shared.connect(follower.id) as connection:
        for name, (value, _) in unfit.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        connection.execute("SELECT pg_reload_conf()")
        for _, text in unfit.values():
            wait_for(lambda text=text: text in worker_error(shared, follower), 60, text)
        for name in unfit:
            connection.execute(f"ALTER SYSTEM RESET {name}".encode())
        connection.execute("SELECT pg_reload_conf()")
    wait_for(lambda: worker_error(shared, follower) == "", 60, "the end of the report")
    shared.wait_for_standby(follower.id, REJOIN_SECONDS)


def test_no_signal_of_the_server_reaches_a_thread(shared: LocalCluster) -> None:
    """S12: they are PostgreSQL's, whose handlers must run in its own thread."""
    handled = (
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGURG),
    )
    for node in shared.nodes.values():
        worker = server_process(node, "pgraft consensus")
        threads = list(Path(f"/proc/{worker}/task").iterdir())
        others = [path for path in threads if path.name != str(worker)]
        assert len(others) >= 3, "the node's, the log writer's, the transport's"
        for thread in others:
            status = (thread / "status").read_text()
            blocked = int(status.split("SigBlk:", 1)[1].split()[0], 16)
            assert [s for s in handled if not blocked >> (s - 1) & 1] == []


def test_a_standby_without_a_leader_waits_in_one_process(cluster: LocalCluster) -> None:
    """S2: no new walreceiver, and no line in the log, for each try to find one."""
    leader = cluster.leader()
    standby, other = cluster.followers()
    for node in (other, leader):  # in this order: nobody can be elected
        cluster.kill(node.id, "all")

    def waiting() -> int | None:
        with cluster.connect(standby.id) as connection:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'"
            ).fetchone()
            none = connection.execute("SELECT pgraft_get_leader() IS NULL").fetchone()
        return int(row[0]) if row and none == (True,) else None

    pid = wait_for(waiting, FAILOVER_SECONDS, "the walreceiver to wait")
    length = standby.log_file.stat().st_size
    tries = iter(range(60))
    wait_for(lambda: waiting() != pid or next(tries, None) is None, 60, "sixty looks")
    assert waiting() == pid
    with open(standby.log_file) as log:
        log.seek(length)
        assert "walreceiver FATAL" not in log.read()
    for node in (leader, other):
        node.start()
    cluster.leader(REJOIN_SECONDS)
