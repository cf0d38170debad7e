"""Rules 1 and 5: a crash at every step of a promotion, and promotions that nobody else has seen.

`pgraft.debug_stop_at` makes the worker of the node that is being promoted stop itself (SIGSTOP) at
the step; then the node is killed.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterable, Iterator

import pytest
from helpers import (
    REJOIN_SECONDS,
    SETTINGS,
    assert_nothing_lost,
    more_rows,
    start_writer,
    table_of,
)
from pgraft import processes
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.pg import parse_lsn
from stalled import Stalled, is_stopped
from timelines import Timelines, agree, records

CRASHES = [  # the step, and which of the two dead makes the majority with the third
    ("ordered", "leader"),
    ("reserved", "crashed"),
    ("signal", "crashed"),
    ("promoted", "leader"),
    ("confirmed", "leader"),
    ("fence", "crashed"),
]
_clients = itertools.count(1)


@pytest.fixture(scope="module")
def trio() -> Iterator[tuple[LocalCluster, Timelines]]:
    """Three nodes for all crashes: each leaves them whole."""
    with LocalCluster(3, settings=SETTINGS) as cluster:
        yield cluster, Timelines()


def stop_at(cluster: LocalCluster, nodes: Iterable[LocalNode], step: str) -> None:
    """Sets the step at which the workers of these nodes stop, whether they run or not."""
    for node in nodes:
        conf = node.paths.node_conf
        lines = [line for line in conf.read_text().splitlines() if "debug_stop_at" not in line]
        conf.write_text("\n".join([*lines, f"pgraft.debug_stop_at = '{step}'"]) + "\n")
        if node.postmaster():
            with cluster.connect(node.id) as connection:
                connection.execute("SELECT pg_reload_conf()")

            def loaded(node: LocalNode = node) -> bool:
                with cluster.connect(node.id) as connection:
                    return connection.execute("SHOW pgraft.debug_stop_at").fetchone() == (step,)

            wait_for(loaded, 60, f"node {node.id} to load its configuration")


def stopped_worker(nodes: Iterable[LocalNode]) -> tuple[LocalNode, int]:
    """Waits for one of the nodes to come to the step; the node and its worker."""
    watched = list(nodes)

    def find() -> tuple[LocalNode, int] | None:
        for node in watched:
            for pid in node.tree():
                if is_stopped(pid):
                    return node, pid
        return None

    return wait_for(find, REJOIN_SECONDS, "a worker to stop at the step")


def lose_the_leader(cluster: LocalCluster, step: str) -> tuple[LocalNode, LocalNode, LocalNode]:
    """The leader is killed, and a follower stops at the step: the leader, that one, the third."""
    first, followers = cluster.leader(), cluster.followers()
    for node in followers:
        cluster.wait_for_standby(node.id, REJOIN_SECONDS)
    stop_at(cluster, followers, step)
    first.kill("all")
    promoted, _ = stopped_worker(followers)
    return first, promoted, next(node for node in followers if node is not promoted)


@pytest.mark.parametrize(("step", "comes_first"), CRASHES)
def test_a_crash_in_a_promotion(
    trio: tuple[LocalCluster, Timelines], step: str, comes_first: str
) -> None:
    cluster, timelines = trio
    client = next(_clients)
    writer = start_writer(cluster, client)
    first, crashed, third = lose_the_leader(cluster, step)
    timelines.look(*cluster.nodes.values())
    crashed.kill("all")
    timelines.look(crashed)
    stop_at(cluster, [crashed, third], "nowhere")

    again, last = (first, crashed) if comes_first == "leader" else (crashed, first)
    again.start()
    more_rows(writer, timeout=REJOIN_SECONDS)
    last.start()
    cluster.wait_for_standby(last.id, REJOIN_SECONDS)
    more_rows(writer)
    assert_nothing_lost(cluster, writer.stop(), client)
    timelines.look(*cluster.nodes.values())
    assert not timelines.twice


@pytest.mark.parametrize("step", ["signal", "promoted"])
def test_a_server_that_dies_in_a_promotion_is_started_again(
    trio: tuple[LocalCluster, Timelines], step: str
) -> None:
    """Its supervisor lives on; the worker that stands still is of its old server."""
    cluster, timelines = trio
    client = next(_clients)
    writer = start_writer(cluster, client)
    first, crashed, third = lose_the_leader(cluster, step)
    stop_at(cluster, [crashed, third], "nowhere")
    crashed.kill_server()
    more_rows(writer, timeout=REJOIN_SECONDS)
    timelines.look(*cluster.nodes.values())
    first.start()
    cluster.wait_for_standby(first.id, REJOIN_SECONDS)
    assert_nothing_lost(cluster, writer.stop(), client)
    timelines.look(*cluster.nodes.values())
    assert not timelines.twice


def promoted_unseen(cluster: LocalCluster) -> tuple[LocalNode, LocalNode, LocalNode]:
    """The leader is dead, and so is the node promoted after it, before anybody saw its timeline."""
    first, unseen, third = lose_the_leader(cluster, "promoted")
    unseen.kill("all")
    return first, unseen, third


def test_two_promotions_that_nobody_saw_have_two_timelines(
    trio: tuple[LocalCluster, Timelines],
) -> None:
    cluster, timelines = trio
    client = next(_clients)
    writer = start_writer(cluster, client)
    first, unseen, third = promoted_unseen(cluster)
    timelines.look(unseen)
    before = max(timelines.histories)

    # The next one, too, ends before it is seen: stopped as the first was.
    stop_at(cluster, [first, unseen], "promoted")
    first.start()
    unseen_too, _ = stopped_worker([first, third])
    unseen_too.kill("all")
    timelines.look(unseen_too)
    assert max(timelines.histories) > before

    stop_at(cluster, cluster.nodes.values(), "nowhere")
    unseen.start()
    more_rows(writer, timeout=REJOIN_SECONDS)
    unseen_too.start()
    cluster.wait_for_standby(unseen_too.id, REJOIN_SECONDS)
    assert_nothing_lost(cluster, writer.stop(), client)
    timelines.look(*cluster.nodes.values())
    assert not timelines.twice
    answer = cluster.status()[cluster.leader().id]
    assert answer is not None
    assert answer.promoted_timeline >= before + 2


def test_without_rule_5_a_timeline_is_made_twice() -> None:
    """The control: each takes the id after its own."""
    settings = {**SETTINGS, "pgraft.debug_rules_off": "timeline_ids"}
    timelines = Timelines()
    with LocalCluster(3, settings=settings) as cluster:
        table_of(cluster)
        first, unseen, third = promoted_unseen(cluster)
        timelines.look(unseen)
        assert not timelines.twice
        stop_at(cluster, [first], "promoted")
        first.start()
        unseen_too, _ = stopped_worker([first, third])
        timelines.look(unseen_too)
        assert set(timelines.twice) == {2}


# --- rule 1 --------------------------------------------------------------------------------------


def crash_without_standby_signal(cluster: LocalCluster) -> tuple[LocalNode, LocalNode, int]:
    """A server crashes in its promotion after PostgreSQL has removed standby.signal, and before it
    has written the new timeline's history; the old leader has WAL that nobody else has.

    Returns:
        The old leader, which is down, the node that crashed and lives again, and where the WAL
        that they have in common ends.
    """
    table_of(cluster)
    stalled = Stalled(cluster)
    lost = stalled.waiting("INSERT INTO t VALUES (-1)")
    first, followers = stalled.leader, cluster.followers()
    stop_at(cluster, followers, "signal")
    first.kill("all")
    stalled.lose()
    lost.join()
    assert not lost.acknowledged
    crashed, worker = stopped_worker(followers)
    stop_at(cluster, followers, "nowhere")
    with cluster.connect(crashed.id) as connection:
        row = connection.execute("SELECT pg_last_wal_replay_lsn()::text").fetchone()
    assert row is not None
    postmaster = crashed.postmaster()
    crashed.paths.standby_signal.unlink()
    processes.send([worker], signal.SIGKILL)  # the postmaster restarts all of the server

    def restarted() -> bool:
        with cluster.connect(crashed.id) as connection:
            found = connection.execute("SELECT pid FROM pgraft_get_worker_state()").fetchone()
        return found is not None and found[0] not in (0, worker)

    wait_for(restarted, REJOIN_SECONDS, "the server to come back")
    assert crashed.postmaster() == postmaster
    return first, crashed, parse_lsn(row[0])


def test_a_server_that_lost_standby_signal_is_a_standby_all_the_same(cluster: LocalCluster) -> None:
    first, crashed, common = crash_without_standby_signal(cluster)
    with cluster.connect() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    theirs = records(first, 1, common)
    assert theirs
    assert agree(records(crashed, 1, common), theirs)
    first.start()
    for node in cluster.followers():
        cluster.wait_for_standby(node.id, REJOIN_SECONDS)
    for node_id in cluster.nodes:
        with cluster.connect(node_id) as connection:
            found = connection.execute("SELECT i FROM t").fetchall()
        assert found == [(1,)], f"node {node_id}"


def test_without_rule_1_two_servers_write_one_timeline() -> None:
    """The control: a primary on the old timeline, whose startup process writes where the dead
    leader has other records. No order of positions is right after that.
    """
    settings = {**SETTINGS, "pgraft.debug_rules_off": "standby_start"}
    with LocalCluster(3, settings=settings) as cluster:
        first, crashed, common = crash_without_standby_signal(cluster)
        assert not agree(records(crashed, 1, common), records(first, 1, common))
