"""Settings that are lower on a follower than on the leader (POSTGRES.md, S15): told in time."""

from __future__ import annotations

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


def raise_max_connections(cluster: LocalCluster, node: LocalNode) -> None:
    """As an operator does, in the file: the server may not start without it."""
    cluster.stop(node.id)
    with open(node.paths.pgdata / "postgresql.auto.conf", "a") as file:
        file.write("max_connections = 90\n")
    node.start()


def error_of(cluster: LocalCluster, node: LocalNode) -> str:
    with cluster.connect(node.id) as connection:
        row = connection.execute("SELECT error FROM pgraft_get_worker_state()").fetchone()
    return str(row[0] or "") if row else ""


def replays(cluster: LocalCluster, node: LocalNode) -> bool:
    with cluster.connect(node.id) as connection:
        row = connection.execute("SELECT pg_get_wal_replay_pause_state()").fetchone()
    return row == ("not paused",)


def test_a_follower_with_lower_settings_says_so_and_is_mended(cluster: LocalCluster) -> None:
    writer = start_writer(cluster)
    leader, *followers = [cluster.leader(), *cluster.followers()]
    raise_max_connections(cluster, followers[0])
    cluster.wait_for_standby(followers[0].id, REJOIN_SECONDS)
    assert "max_connections" not in error_of(cluster, followers[0]), "higher is no problem"
    raised = hand_over(cluster, leader, followers[0].id)

    # What is acknowledged is on a majority, but the others replay nothing: one has paused, the
    # former leader has, too, or does not start.
    more_rows(writer)
    wanted = "max_connections is 60 and must be at least 90"
    wait_for(lambda: wanted in error_of(cluster, followers[1]), REJOIN_SECONDS, "the report")
    assert not replays(cluster, followers[1])
    wanted = "max_connections = 60 is a lower setting"
    wait_for(lambda: wanted in leader.log_file.read_text(), REJOIN_SECONDS, "the server's report")
    assert error_of(cluster, raised) == ""

    # With the setting raised and a restart, they replay again, and can be promoted.
    for node in (leader, followers[1]):
        raise_max_connections(cluster, node)
        cluster.wait_for_standby(node.id, REJOIN_SECONDS)
        wait_for(lambda node=node: error_of(cluster, node) == "", REJOIN_SECONDS, "no problem")
    raised.kill()
    cluster.leader(FAILOVER_SECONDS, exclude=[raised.id])
    more_rows(writer)
    raised.start()
    assert_nothing_lost(cluster, writer.stop())
