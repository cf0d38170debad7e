"""Network cuts: as root each node has a network of its own; else the followers are stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    SETTINGS,
    assert_nothing_lost,
    attempt,
    rows,
    stays_pending,
    table_of,
)
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.writer import Writer

ROOT = os.geteuid() == 0


@pytest.fixture
def net() -> Iterator[LocalCluster]:
    with LocalCluster(3, namespaces=ROOT, settings=SETTINGS) as cluster:
        yield cluster


def isolate(net: LocalCluster, leader_id: int) -> None:
    if ROOT:
        net.cut_off(leader_id)
    else:
        for node_id in set(net.nodes) - {leader_id}:
            net.pause(node_id)


def restore(net: LocalCluster, leader_id: int) -> None:
    if ROOT:
        net.heal(leader_id)
    else:
        for node_id in set(net.nodes) - {leader_id}:
            net.resume(node_id)


def test_a_leader_cut_off_from_its_followers_acknowledges_nothing(net: LocalCluster) -> None:
    """Rules 2 and 6: also before its lease has run out."""
    table_of(net)
    leader = net.leader()
    isolate(net, leader.id)
    running = [attempt(net, leader.id, f"INSERT INTO t VALUES ({i})") for i in range(5)]
    for one in running:
        stays_pending(one, 1)
        assert not one.acknowledged, one

    def fenced() -> bool:
        with net.connect(leader.id) as connection:
            row = connection.execute("SELECT pgraft_is_leader()").fetchone()
        return row == (False,)

    wait_for(fenced, FAILOVER_SECONDS, "the cut-off leader to be fenced")
    assert not any(one.acknowledged for one in running)
    if ROOT:
        new = net.leader(FAILOVER_SECONDS, exclude=[leader.id])
        with net.connect(new.id) as connection:
            connection.execute("INSERT INTO t VALUES (100)")
        assert not any(one.acknowledged for one in running)
    restore(net, leader.id)
    net.leader(REJOIN_SECONDS)
    for one in running:
        one.join()
    if ROOT:
        net.wait_for_standby(leader.id, REJOIN_SECONDS)
        assert rows(net, leader.id) == [100]
        assert not any(one.acknowledged for one in running)


def test_a_cut_off_follower_catches_up(net: LocalCluster) -> None:
    if not ROOT:
        pytest.skip("needs network namespaces")
    with net.connect() as connection:
        Writer.create_table(connection)
    writer = Writer(net.dsn(), pause=0.001).start()
    follower = net.followers()[0]
    leader = net.leader()
    net.cut_off(follower.id)
    before = writer.count
    wait_for(lambda: writer.count > before + 200, FAILOVER_SECONDS, "writes to go on")
    net.heal(follower.id)
    net.wait_for_standby(follower.id, REJOIN_SECONDS)
    record = writer.stop()
    assert net.leader() is leader, "pre-vote: a node that comes back disturbs nobody"
    assert_nothing_lost(net, record)
