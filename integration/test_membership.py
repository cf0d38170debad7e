"""Rule 8 with writes going on: clusters that grow and shrink, and changes that are interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psycopg
import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    SETTINGS,
    assert_nothing_lost,
    attempt,
    more_rows,
    start_writer,
)
from pgraft import processes
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode


@pytest.fixture
def single() -> Iterator[LocalCluster]:
    with LocalCluster(1, settings=SETTINGS) as cluster:
        yield cluster


def grow(cluster: LocalCluster, node_id: int) -> LocalNode:
    """A new node, running, that is no member yet."""
    node = cluster.new_node(node_id)
    cluster.join_node(node, source=cluster.leader().id)
    node.start()
    return node


def shrink(cluster: LocalCluster, node_id: int) -> None:
    cluster.remove_from_cluster(node_id)
    cluster.nodes.pop(node_id).kill("all")


def hand_over(cluster: LocalCluster, leader: LocalNode) -> None:
    """Under load the leader may get it back, for having written more meanwhile."""

    def handed_over() -> bool:
        if cluster.leader().id != leader.id:
            return True
        with cluster.connect(leader.id) as connection:
            connection.execute("SELECT pgraft_transfer_leadership()")
        return False

    wait_for(handed_over, FAILOVER_SECONDS, f"another leader than {leader.id}")


def quorum(cluster: LocalCluster) -> str:
    with cluster.connect() as connection:
        row = connection.execute("SHOW synchronous_standby_names").fetchone()
    assert row is not None
    return str(row[0])


def expect_quorum(cluster: LocalCluster, needed: int) -> None:
    """The leader waits for `needed` of the others, all of them candidates."""
    others = sorted(node for node in cluster.nodes if node != cluster.leader().id)
    wanted = f"ANY {needed} ({', '.join(f'pgraft_{node}' for node in others)})"
    wait_for(lambda: quorum(cluster) == wanted, FAILOVER_SECONDS, wanted)


def test_from_one_to_three_to_five_to_three(single: LocalCluster) -> None:
    cluster = single
    writer = start_writer(cluster)
    for node_id in (2, 3, 4, 5):
        grow(cluster, node_id)
        cluster.add_to_cluster(node_id)
        cluster.wait_for_voters(cluster.nodes, REJOIN_SECONDS)
    expect_quorum(cluster, 2)
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
    cluster.wait_for_voters(cluster.nodes, REJOIN_SECONDS)
    assert len(cluster.nodes) == 3
    expect_quorum(cluster, 1)
    assert_nothing_lost(cluster, writer.stop(), 2)


def test_a_node_that_lags_does_not_vote(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    node = grow(cluster, 4)
    wait_for(lambda: walreceiver(node), 30, "its walreceiver")
    pid = walreceiver(node)
    assert pid is not None
    processes.send([pid], signal.SIGSTOP)
    try:
        cluster.add_to_cluster(4)
        more_rows(writer, 500)
        answer = cluster.status()[cluster.leader().id]
        assert answer is not None
        assert 4 not in answer.voters
        assert answer.member(4) is not None
    finally:
        processes.send([pid], signal.SIGCONT)
    cluster.wait_for_voters([1, 2, 3, 4], REJOIN_SECONDS)
    assert_nothing_lost(cluster, writer.stop())


def walreceiver(node: LocalNode) -> int | None:
    for pid in node.tree():
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                if "walreceiver" in file.read():
                    return pid
        except OSError:
            continue
    return None


def test_a_change_survives_the_leader_that_was_asked_for_it(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    node = grow(cluster, 4)
    wait_for(lambda: cluster.status()[4], 30, "the new node")
    leader = cluster.leader()
    asked = attempt(
        cluster,
        leader.id,
        f"SELECT pgraft_add_node(4, '{node.host}', {node.settings.raft_port})",
    )
    leader.kill("all")
    asked.join()
    more_rows(writer)
    cluster.add_to_cluster(4)  # whether it had been begun or not
    leader.start()
    cluster.wait_for_voters([1, 2, 3, 4], REJOIN_SECONDS)
    assert_nothing_lost(cluster, writer.stop())


def test_changes_asked_for_at_once_are_made_one_after_the_other(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    nodes = [grow(cluster, node_id) for node_id in (4, 5)]
    for node in nodes:
        wait_for(lambda n=node: cluster.status()[n.id], 30, "the new node")
    leader = cluster.leader()
    asked = [
        attempt(
            cluster,
            leader.id,
            f"SELECT pgraft_add_node({node.id}, '{node.host}', {node.settings.raft_port})",
        )
        for node in nodes
    ]
    for one in asked:
        one.join()
        assert not one.pending
        assert one.acknowledged or one.sqlstate == "55000", one  # another is not finished yet
    assert any(one.acknowledged for one in asked), asked
    for node in nodes:
        cluster.add_to_cluster(node.id)
    cluster.wait_for_voters([1, 2, 3, 4, 5], REJOIN_SECONDS)
    assert_nothing_lost(cluster, writer.stop())
