"""Slow, narrow and silent links between members, through a proxy that they know nothing of."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    SETTINGS,
    assert_nothing_lost,
    more_rows,
    start_writer,
)
from pgraft.links import Links
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None,
    reason="needs network namespaces: root, and nft (package nftables)",
)
STEADY_SECONDS = 5.0  # many election timeouts


@pytest.fixture(scope="module")
def slow() -> Iterator[LocalCluster]:
    with LocalCluster(3, namespaces=True, links=True, settings=SETTINGS) as cluster:
        yield cluster


@pytest.fixture
def links(slow: LocalCluster) -> Iterator[Links]:
    assert slow.links is not None
    yield slow.links
    slow.links.clear()


def term_of(cluster: LocalCluster, node: LocalNode) -> int:
    answer = cluster.status()[node.id]
    assert answer is not None
    return answer.term


def test_all_traffic_between_members_passes_the_proxy(slow: LocalCluster, links: Links) -> None:
    """The control for all that follows: with everything stalled nothing is acknowledged."""
    wait_for(lambda: links.connections >= 6, FAILOVER_SECONDS, "Raft both ways between three")
    writer = start_writer(slow)
    for link in links.all():
        link.set(stalled=True)

    def stands_still() -> bool:
        before = writer.count
        time.sleep(1.0)
        return writer.count == before

    wait_for(stands_still, FAILOVER_SECONDS, "the writes to stop")
    links.clear()
    more_rows(writer, timeout=REJOIN_SECONDS)
    assert_nothing_lost(slow, writer.stop())


def test_steady_delay_costs_time_and_no_elections(slow: LocalCluster, links: Links) -> None:
    """50 ms each way and a narrow link to one follower; the leader may die even so."""
    leader, _, far = [slow.leader(), *slow.followers()]
    for link in links.all():
        link.set(latency=0.05, jitter=0.01)
    for link in links.of(far.id):
        link.set(latency=0.05, jitter=0.01, bandwidth=200_000)
    writer = start_writer(slow, client=2)
    term = term_of(slow, leader)
    end = time.monotonic() + STEADY_SECONDS
    while time.monotonic() < end:
        more_rows(writer, 5)
    assert slow.leader() is leader
    assert term_of(slow, leader) == term
    latest = writer.record().acknowledged[-20:]
    each = (latest[-1][1] - latest[0][1]) / (len(latest) - 1)
    print(f"{each * 1000:.0f} ms a row")
    assert each >= 0.095, "a commit takes a round trip"

    slow.kill(leader.id, "all")
    new = slow.leader(FAILOVER_SECONDS, exclude=[leader.id])
    more_rows(writer, 20)
    slow.start_node(leader.id)
    slow.wait_for_standby(leader.id, REJOIN_SECONDS)
    assert slow.leader() is new, "nobody disturbs the new leader"
    links.clear()
    assert_nothing_lost(slow, writer.stop(), 2)


def test_a_leader_whose_links_stall_without_a_reset_is_replaced(
    slow: LocalCluster, links: Links
) -> None:
    """Connections stay open and nothing comes any more: only time tells."""
    writer = start_writer(slow, client=3)
    leader = slow.leader()
    for link in links.of(leader.id):
        link.set(stalled=True)
    slow.leader(FAILOVER_SECONDS, exclude=[leader.id])
    fresh = start_writer(slow, client=4)
    links.clear()
    slow.wait_for_standby(leader.id, REJOIN_SECONDS)
    for client, one in ((3, writer), (4, fresh)):
        more_rows(one, timeout=REJOIN_SECONDS)
        assert_nothing_lost(slow, one.stop(), client)


def test_a_follower_whose_link_stalls_is_not_waited_for(slow: LocalCluster, links: Links) -> None:
    writer = start_writer(slow, client=5)
    leader = slow.leader()
    follower = slow.followers()[0]
    for link in links.of(follower.id):
        link.set(stalled=True)
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        more_rows(writer, 20)
    assert slow.leader() is leader
    links.clear()
    assert_nothing_lost(slow, writer.stop(), 5)


def test_connections_that_are_reset_again_and_again_lose_nothing(
    slow: LocalCluster, links: Links
) -> None:
    writer = start_writer(slow, client=6)
    for _ in range(10):
        for pair in ((1, 2), (1, 3), (2, 3)):
            links.reset(*pair)
        time.sleep(0.2)
    slow.leader(FAILOVER_SECONDS)
    more_rows(writer)
    assert_nothing_lost(slow, writer.stop(), 6)
