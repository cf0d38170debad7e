"""Rule 8: the leader stops in the middle of a membership change, and its server dies there.

The members are the old or the new ones afterwards, on all nodes alike, and the change can be asked
for again.
"""

from __future__ import annotations

import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    assert_nothing_lost,
    attempt,
    more_rows,
    start_writer,
)
from membership import expect_members, forget_stop, grow, is_stopped, stop_at, worker_of
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode

STEPS = ("proposed", "committed", "applied")


def members(cluster: LocalCluster) -> set[int]:
    answer = cluster.status()[cluster.leader().id]
    assert answer is not None
    return {int(member["member"]["id"]) for member in answer.members}


class Crash:
    """Whichever of these nodes comes to that step as the leader stops there; `happen` ends it."""

    def __init__(self, cluster: LocalCluster, point: str, nodes: list[LocalNode]) -> None:
        self._cluster = cluster
        self._point = point
        self._workers = {node.id: worker_of(cluster, node.id) for node in nodes}
        for node in nodes:
            stop_at(cluster, node, point)

    def happen(self) -> LocalNode:
        """Returns the node that was killed."""

        def stopped() -> list[int]:
            return [node_id for node_id, pid in self._workers.items() if is_stopped(pid)]

        dead = wait_for(stopped, REJOIN_SECONDS, f"a leader to stop at {self._point}")
        assert len(dead) == 1
        for node_id in self._workers:
            node = self._cluster.node(node_id)
            if node_id == dead[0]:
                node.kill("all")
                forget_stop(node)
            else:
                stop_at(self._cluster, node, "nowhere")
        return self._cluster.node(dead[0])


def ask_and_crash(cluster: LocalCluster, point: str, change: str) -> LocalNode:
    """The leader dies while it makes the change; returns it."""
    leader = cluster.leader()
    crash = Crash(cluster, point, [leader])
    asked = attempt(cluster, leader.id, change)
    assert crash.happen() is leader
    asked.join()
    assert not asked.pending
    assert not asked.acknowledged
    return leader


@pytest.mark.parametrize("step", STEPS)
def test_a_leader_dies_in_the_middle_of_a_change(cluster: LocalCluster, step: str) -> None:
    """Three of them: one adds a learner, the next makes it a voter, one removes it again."""
    done = step != "proposed"  # a proposal that has not left the leader is gone with it
    writer = start_writer(cluster)
    node = grow(cluster, 4)
    add = f"SELECT pgraft_add_node(4, '{node.host}', {node.settings.raft_port})"

    followers = cluster.followers()
    followers.remove(node)
    promotion = Crash(cluster, f"voter_{step}", followers)
    first = ask_and_crash(cluster, f"learner_{step}", add)
    asked = None
    if not done:
        more_rows(writer)
        assert members(cluster) == {1, 2, 3}
        asked = attempt(cluster, cluster.leader().id, add)
    # The next leader goes on by itself with a learner that it has inherited.
    second = promotion.happen()
    if asked is not None:
        asked.join()
        assert not asked.pending
    first.start()
    more_rows(writer, timeout=REJOIN_SECONDS)
    second.start()
    expect_members(cluster, [1, 2, 3, 4])

    third = ask_and_crash(cluster, f"removal_{step}", "SELECT pgraft_remove_node(4)")
    more_rows(writer)
    assert members(cluster) == ({1, 2, 3} if done else {1, 2, 3, 4})
    third.start()
    cluster.wait_for_standby(third.id, REJOIN_SECONDS)
    cluster.remove_from_cluster(4)
    cluster.nodes.pop(4).kill("all")
    expect_members(cluster, [1, 2, 3])
    more_rows(writer)
    assert_nothing_lost(cluster, writer.stop())


def test_a_leader_dies_between_the_configuration_and_the_commit_quorum(
    cluster: LocalCluster,
) -> None:
    """Raft counts by the new members; the new quorum is written, but no process counts by it."""
    writer = start_writer(cluster)
    node = grow(cluster, 4)
    leader = cluster.leader()
    crash = Crash(cluster, "quorum_written", [leader])
    cluster.add_to_cluster(4)  # as a learner, that changes no quorum
    assert crash.happen() is leader
    more_rows(writer, timeout=FAILOVER_SECONDS)
    leader.start()
    expect_members(cluster, [1, 2, 3, 4])

    leader = ask_and_crash(cluster, "quorum_written", "SELECT pgraft_remove_node(4)")
    more_rows(writer, timeout=FAILOVER_SECONDS)
    leader.start()
    cluster.remove_from_cluster(4)
    cluster.nodes.pop(node.id).kill("all")
    expect_members(cluster, [1, 2, 3])
    assert_nothing_lost(cluster, writer.stop())
