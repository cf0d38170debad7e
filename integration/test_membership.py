"""Rule 8 with writes going on: clusters that grow and shrink, and changes that are disturbed."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    SETTINGS,
    Attempt,
    assert_nothing_lost,
    attempt,
    more_rows,
    start_writer,
)
from membership import (
    change_waits_for,
    expect_members,
    grow,
    hand_over,
    is_stopped,
    quorum,
    receiver_of,
    replace_disk,
    sql,
    stop_at,
    waits_for,
    worker_of,
)
from pgraft import processes
from pgraft.local_cluster import LocalCluster, wait_for
from stalled import Stopped

BACKLOG = 200 << 20
"""Bytes of WAL that a new node lacks. Stands for gigabytes; it has to fit into seconds."""


@pytest.fixture
def single() -> Iterator[LocalCluster]:
    with LocalCluster(1, settings=SETTINGS) as cluster:
        yield cluster


@pytest.fixture
def patient() -> Iterator[LocalCluster]:
    """Members that may be silent for long before they count as gone."""
    settings = {**SETTINGS, "pgraft.election_timeout": "'20s'", "pgraft.peer_timeout": "'60s'"}
    with LocalCluster(3, settings=settings) as cluster:
        yield cluster


def shrink(cluster: LocalCluster, node_id: int) -> None:
    cluster.remove_from_cluster(node_id)
    cluster.nodes.pop(node_id).kill("all")


def test_from_one_to_three_to_five_to_three(single: LocalCluster) -> None:
    cluster = single
    writer = start_writer(cluster)
    for node_id in (2, 3, 4, 5):
        grow(cluster, node_id)
        cluster.add_to_cluster(node_id)
        cluster.wait_for_voters(cluster.nodes, REJOIN_SECONDS)
    expect_members(cluster, cluster.nodes)
    assert_nothing_lost(cluster, writer.stop())

    writer = start_writer(cluster, 2)  # which knows all five
    followers = cluster.followers()
    for node in followers[:2]:  # a minority of five
        node.kill("all")
    more_rows(writer)
    first = cluster.leader()
    followers[0].start()
    cluster.wait_for_standby(followers[0].id, REJOIN_SECONDS)

    shrink(cluster, followers[1].id)  # dead
    more_rows(writer)
    with (
        cluster.connect(first.id) as connection,
        pytest.raises(psycopg.Error, match="transfer the leadership to another node first"),
    ):
        connection.execute("SELECT pgraft_remove_node(%s)", [first.id])
    hand_over(cluster, first)
    shrink(cluster, first.id)
    more_rows(writer)
    assert len(cluster.nodes) == 3
    expect_members(cluster, cluster.nodes)
    assert_nothing_lost(cluster, writer.stop(), 2)


def test_a_node_that_lags_does_not_vote(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    leader = cluster.leader()
    node = grow(cluster, 4)
    stopped = Stopped([receiver_of(node)])
    try:
        cluster.add_to_cluster(4)
        with cluster.connect(leader.id) as connection:
            connection.execute("CREATE TABLE bulk (t text)")
            insert = (
                "INSERT INTO bulk SELECT repeat(md5(i::text), 30) FROM generate_series(1, %s) i"
            )
            begin = flushed(cluster, leader.id)
            while flushed(cluster, leader.id) < begin + BACKLOG:
                connection.execute(insert.encode(), [20000])
        end = flushed(cluster, leader.id)
        more_rows(writer)
        role, lag = sql(
            cluster,
            leader.id,
            "SELECT role, coalesce(lag_bytes, 0) FROM pgraft_get_nodes() WHERE node_id = 4",
        )
        assert role == "learner"
        assert lag == 0 or lag >= BACKLOG, "0: it has not acknowledged anything"
        assert "pgraft_4" not in quorum(cluster)
        wait_for(
            lambda: re.search(r"node 4 .* \d{3,}\.\d MB behind", waits_for(cluster, 4) or ""),
            FAILOVER_SECONDS,
            "the leader to say how far node 4 is behind",
        )
        phase, behind, why = sql(
            cluster,
            leader.id,
            "SELECT phase, bytes_behind, waits_for FROM pgraft_stat_progress_rejoin"
            " WHERE node_id = 4",
        )
        assert phase == "catching up"
        assert behind >= BACKLOG / 2
        assert "behind" in why
    finally:
        stopped.release()

    def votes() -> bool:
        role, why, at = sql(
            cluster,
            cluster.leader().id,
            "SELECT role, waits_for, coalesce(flush_lsn - '0/0', 0)::bigint "
            "FROM pgraft_get_nodes() WHERE node_id = 4",
        )
        assert (role == "voter") == (why is None), (role, why)
        assert role == "learner" or at >= end, f"it votes {end - at} bytes behind"
        return bool(role == "voter")

    wait_for(votes, REJOIN_SECONDS, "node 4 to vote")
    expect_members(cluster, [1, 2, 3, 4])
    assert_nothing_lost(cluster, writer.stop())


def flushed(cluster: LocalCluster, node_id: int) -> int:
    return int(sql(cluster, node_id, "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint")[0])


def test_what_a_change_waits_for_is_said(cluster: LocalCluster) -> None:
    """A walsender that stands still holds up the commit quorum, and with it the next change."""
    leader = cluster.leader()
    assert change_waits_for(cluster, leader.id) is None
    for node in cluster.followers():
        assert change_waits_for(cluster, node.id) is None
        assert waits_for(cluster, node.id) is None
    grow(cluster, 4)
    lagging = cluster.followers()[0].id
    (sender,) = sql(
        cluster,
        leader.id,
        "SELECT pid FROM pg_stat_replication WHERE application_name = %s",
        f"pgraft_{lagging}",
    )
    stopped = Stopped([sender])
    try:
        cluster.add_to_cluster(4)
        wanted = f"the connection of node {lagging} counts by the old one"
        wait_for(
            lambda: wanted in (change_waits_for(cluster, leader.id) or ""), FAILOVER_SECONDS, wanted
        )
        with (
            cluster.connect(leader.id) as connection,
            pytest.raises(psycopg.Error, match=wanted) as refused,
        ):
            connection.execute("SELECT pgraft_remove_node(4)")
        assert refused.value.sqlstate == "55000"
    finally:
        stopped.release()
    expect_members(cluster, [1, 2, 3, 4])
    wait_for(
        lambda: change_waits_for(cluster, leader.id) is None,
        FAILOVER_SECONDS,
        "nothing to wait for",
    )


def test_of_two_changes_at_once_one_is_refused(patient: LocalCluster) -> None:
    """The first one waits for the other voters, which stand still for a moment."""
    cluster = patient
    writer = start_writer(cluster)
    nodes = [grow(cluster, node_id) for node_id in (4, 5)]
    leader = cluster.leader()
    add = [
        f"SELECT pgraft_add_node({node.id}, '{node.host}', {node.settings.raft_port})"
        for node in nodes
    ]
    followers = [node for node in cluster.followers() if node not in nodes]
    stopped = Stopped([worker_of(cluster, node.id) for node in followers])
    try:
        first = attempt(cluster, leader.id, add[0])
        under_way = "another membership change is under way: node 4 is being added"
        wait_for(
            lambda: (change_waits_for(cluster, leader.id) or "").startswith(under_way),
            FAILOVER_SECONDS,
            under_way,
        )
        assert first.pending
        with (
            cluster.connect(leader.id) as connection,
            pytest.raises(psycopg.Error, match=under_way) as refused,
        ):
            connection.execute(add[1].encode())
        assert refused.value.sqlstate == "55000"
    finally:
        stopped.release()
    first.join()
    assert first.acknowledged, first
    cluster.add_to_cluster(5)
    expect_members(cluster, [1, 2, 3, 4, 5])
    assert_nothing_lost(cluster, writer.stop())


def test_a_dead_node_is_replaced_by_one_with_its_number(cluster: LocalCluster) -> None:
    """Of three: its vote and its disk are gone, its number is used again."""
    writer = start_writer(cluster)
    dead = cluster.followers()[0]
    dead.kill("all")
    cluster.remove_from_cluster(dead.id)
    others = {1, 2, 3} - {dead.id}
    expect_members(cluster, others)
    more_rows(writer)

    # It comes back with its old disk: it is told so, and is not let in.
    dead.start()
    wait_for(lambda: cluster.status()[dead.id], REJOIN_SECONDS, "the removed node to answer")
    add = f"SELECT pgraft_add_node({dead.id}, '{dead.host}', {dead.settings.raft_port})"
    with (
        cluster.connect() as connection,
        pytest.raises(psycopg.Error, match="was removed from this cluster") as refused,
    ):
        connection.execute(add.encode())
    assert refused.value.sqlstate == "55000"
    expect_members(cluster, others)

    before = incarnation(cluster, dead.id)
    replace_disk(cluster, dead)
    cluster.add_to_cluster(dead.id)
    expect_members(cluster, [1, 2, 3])
    assert incarnation(cluster, dead.id) != before
    more_rows(writer)
    assert_nothing_lost(cluster, writer.stop())


def incarnation(cluster: LocalCluster, node_id: int) -> int:
    answer = cluster.status()[node_id]
    assert answer is not None
    return int(answer.raw["identity"]["incarnation"])


@pytest.mark.parametrize("how", ["cancelled", "timed out", "ended"])
def test_a_change_whose_session_gives_up_is_not_begun_later(shared: LocalCluster, how: str) -> None:
    """The worker had not looked at it yet: it is withdrawn, and the queue says so."""
    leader = shared.leader()
    stopped = Stopped([worker_of(shared, leader.id)])
    try:
        limit = ["SET statement_timeout = 200"] if how == "timed out" else []
        asked = attempt(shared, leader.id, *limit, "SELECT pgraft_remove_node(99)")
        if how != "timed out":
            give_up(shared, leader.id, asked, how)
        asked.join()
        assert asked.sqlstate == ("57P01" if how == "ended" else "57014"), asked
        assert newest_command(shared, leader.id) == (
            "REMOVE_NODE",
            "FAILED",
            "withdrawn before it was begun",
        )
    finally:
        stopped.release()
    shared.leader(FAILOVER_SECONDS)
    expect_members(shared, [1, 2, 3])


def give_up(cluster: LocalCluster, node_id: int, asked: Attempt, how: str) -> None:
    wait_for(
        lambda: newest_command(cluster, node_id)[1] in ("PENDING", "PROCESSING"),
        FAILOVER_SECONDS,
        "the command to be queued",
    )
    function = "pg_cancel_backend" if how == "cancelled" else "pg_terminate_backend"
    sql(cluster, node_id, f"SELECT {function}(%s)", asked.pid)


def newest_command(cluster: LocalCluster, node_id: int) -> tuple[str, str, str | None]:
    kind, state, error = sql(
        cluster,
        node_id,
        "SELECT type, state, error FROM pgraft_get_queue_status() ORDER BY command_id DESC LIMIT 1",
    )
    return kind, state, error


def test_a_change_goes_on_without_its_session(patient: LocalCluster) -> None:
    """It had been begun: what became of it is in the queue, and with the members."""
    cluster = patient
    writer = start_writer(cluster)
    for node_id, how in ((4, "cancelled"), (5, "ended")):
        node = grow(cluster, node_id)
        leader = cluster.leader()
        worker = worker_of(cluster, leader.id)
        stop_at(cluster, leader, "learner_proposed")
        asked = attempt(
            cluster,
            leader.id,
            f"SELECT pgraft_add_node({node_id}, '{node.host}', {node.settings.raft_port})",
        )
        wait_for(partial(is_stopped, worker), FAILOVER_SECONDS, "the change to be begun")
        give_up(cluster, leader.id, asked, how)
        asked.join()
        assert asked.sqlstate == ("57P01" if how == "ended" else "57014"), asked
        processes.send([worker], signal.SIGCONT)

        command = wait_for(
            partial(ended, cluster, leader.id), FAILOVER_SECONDS, "the end of the command"
        )
        assert command == ("ADD_NODE", "COMPLETED", None)
        expect_members(cluster, range(1, node_id + 1))
        stop_at(cluster, leader, "nowhere")
    assert_nothing_lost(cluster, writer.stop())


def ended(cluster: LocalCluster, node_id: int) -> tuple[str, str, str | None] | None:
    command = newest_command(cluster, node_id)
    return command if command[1] in ("COMPLETED", "FAILED") else None
