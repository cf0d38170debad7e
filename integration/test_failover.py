"""Nodes die: who takes over, what is kept, how the dead come back."""

from __future__ import annotations

import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    assert_nothing_lost,
    attempt,
    more_rows,
    rows,
    start_writer,
    stays_pending,
    table_of,
)
from pgraft.failover_watch import FailoverWatch
from pgraft.local_cluster import LocalCluster, wait_for


@pytest.mark.parametrize("what", ["postmaster", "all"])
def test_a_killed_leader_is_replaced_and_comes_back(cluster: LocalCluster, what: str) -> None:
    writer = start_writer(cluster)
    leader = cluster.leader()
    answer = cluster.status()[leader.id]
    assert answer is not None
    survivors = [n.raft for n in cluster.nodes.values() if n is not leader]
    watch = FailoverWatch(survivors, leader.id, answer.term)
    watch.start()
    watch.killed()
    cluster.kill(leader.id, what)
    seen = watch.wait(FAILOVER_SECONDS)
    assert seen.writable is not None, "no survivor accepted writes"
    more_rows(writer)
    gap = writer.record().longest_gap(start=seen.killed)
    print(
        f"writable after {seen.milliseconds(seen.writable):.0f} ms, write gap {gap * 1000:.0f} ms"
    )
    assert seen.writable - seen.killed < 10
    cluster.start_node(leader.id)
    cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
    more_rows(writer)
    assert_nothing_lost(cluster, writer.stop())


def test_a_leader_whose_server_alone_dies_is_started_again(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    leader = cluster.leader()
    leader.kill_server()
    cluster.leader(FAILOVER_SECONDS, exclude=[leader.id])
    cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
    more_rows(writer)
    assert_nothing_lost(cluster, writer.stop())


def test_the_follower_with_the_most_wal_is_promoted(cluster: LocalCluster) -> None:
    """Rule 4: a follower that has missed acknowledged rows never leads."""
    leader, behind, ahead = [cluster.leader(), *cluster.followers()]
    table_of(cluster)
    cluster.wait_for_standby(behind.id)
    cluster.stop(behind.id)
    with cluster.connect(leader.id) as connection:
        connection.execute("INSERT INTO t SELECT generate_series(1, 1000)")
    cluster.kill(leader.id)
    cluster.start_node(behind.id)
    assert cluster.leader(REJOIN_SECONDS, exclude=[leader.id]) is ahead
    assert rows(cluster, ahead.id) == list(range(1, 1001))


def test_writes_go_on_when_a_follower_dies(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    leader = cluster.leader()
    follower = cluster.followers()[0]
    cluster.kill(follower.id, "all")
    more_rows(writer, 200)
    assert cluster.leader() is leader
    cluster.start_node(follower.id)
    cluster.wait_for_standby(follower.id, REJOIN_SECONDS)
    record = writer.stop()
    assert record.unknown == []
    assert_nothing_lost(cluster, record)


def test_without_a_majority_nothing_is_acknowledged(cluster: LocalCluster) -> None:
    """Commits wait, after the lease writes are refused, reads work; all resumes with one back."""
    table_of(cluster)
    leader = cluster.leader()
    with cluster.connect(leader.id) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    followers = cluster.followers()
    for node in followers:
        cluster.kill(node.id, "all")
    running = attempt(cluster, leader.id, "INSERT INTO t VALUES (2)")

    probes = [running]

    def refused() -> bool:
        """A probe let in while the lease still lives waits for its quorum like any other."""
        probes.append(attempt(cluster, leader.id, "INSERT INTO t VALUES (3)"))
        stays_pending(probes[-1], 0.5)
        assert not any(probe.acknowledged for probe in probes)
        return probes[-1].sqlstate == "25006"

    wait_for(refused, FAILOVER_SECONDS, "writes to be refused")
    stays_pending(running, 1)
    assert not any(probe.acknowledged for probe in probes)
    assert 1 in rows(cluster, leader.id)
    cluster.start_node(followers[0].id)
    cluster.leader(REJOIN_SECONDS)
    running.join()
    with cluster.connect() as connection:
        connection.execute("INSERT INTO t VALUES (4)")
    found = rows(cluster, cluster.leader().id)
    assert {1, 4} <= set(found)
    assert not running.acknowledged or 2 in found


def test_a_leader_stopped_in_order_hands_over(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    leader = cluster.leader()
    cluster.stop(leader.id)
    cluster.leader(FAILOVER_SECONDS, exclude=[leader.id])
    more_rows(writer)
    cluster.start_node(leader.id)
    cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
    more_rows(writer)
    assert_nothing_lost(cluster, writer.stop())


def test_a_whole_cluster_is_stopped_and_started(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    record = writer.stop()
    for node_id in cluster.nodes:
        cluster.stop(node_id)
    assert all(node.postmaster() is None for node in cluster.nodes.values())
    for node_id in cluster.nodes:
        cluster.start_node(node_id)
    cluster.leader(REJOIN_SECONDS)
    assert_nothing_lost(cluster, record)


def test_a_whole_cluster_loses_its_power(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    for node_id in cluster.nodes:
        cluster.kill(node_id, "all")
    record = writer.stop()
    for node_id in cluster.nodes:
        cluster.start_node(node_id)
    cluster.leader(REJOIN_SECONDS)
    assert_nothing_lost(cluster, record)


def test_a_leader_that_hangs_is_replaced(cluster: LocalCluster) -> None:
    """SIGSTOP: its connections stay open and nobody answers."""
    writer = start_writer(cluster)
    leader = cluster.leader()
    cluster.pause(leader.id)
    try:
        cluster.leader(FAILOVER_SECONDS, exclude=[leader.id])
    finally:
        cluster.resume(leader.id)
    cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
    more_rows(writer)
    assert_nothing_lost(cluster, writer.stop())
