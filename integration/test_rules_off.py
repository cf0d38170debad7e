"""Rules 1 and 11, the controls: what happens when they are left out (pgraft.debug_rules_off).

The same faults as with the rules in force, which test_health.py and test_disks.py show.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from disks import leader_on, needs_fuse
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    SETTINGS,
    attempt,
    needs_network,
    stays_pending,
    table_of,
)
from pgraft import processes
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from stalled import postmaster_of, stopped

WATCHED_SECONDS = 15.0
"""More than twice as long as it takes a leader to notice that it is not well."""


def _with_rules_off(parts: str, *, namespaces: bool = False) -> LocalCluster:
    settings = {**SETTINGS, "pgraft.debug_rules_off": f"'{parts}'"} if parts else SETTINGS
    return LocalCluster(3, namespaces=namespaces, settings=settings)


# --- rule 1 ---


def _checkpointer(cluster: LocalCluster, node: LocalNode) -> int | None:
    with cluster.connect(node.id) as connection:
        row = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
        ).fetchone()
    return int(row[0]) if row else None


def _crash(cluster: LocalCluster, node: LocalNode) -> None:
    """A backend dies: the server starts all its processes again, recovery included."""
    begun = _checkpointer(cluster, node)
    with cluster.connect(node.id) as connection:
        processes.send([connection.info.backend_pid], signal.SIGKILL)
    wait_for(
        lambda: _checkpointer(cluster, node) not in (None, begun),
        60,
        "the server to have restarted its processes",
    )


@needs_network
@pytest.mark.parametrize("rules_off", ["", "standby_start"], ids=["with-the-rule", "without"])
def test_a_former_leader_that_crashes_is_no_primary_afterwards(rules_off: str) -> None:
    """Two primaries at once: what the second writes, if only at its start, nobody ordered."""
    with _with_rules_off(rules_off, namespaces=True) as cluster:
        table_of(cluster)
        old = cluster.leader()
        cluster.cut_off(old.id)
        new = cluster.leader(FAILOVER_SECONDS, exclude=[old.id])
        _crash(cluster, old)
        timeline = "SELECT pg_is_in_recovery(), timeline_id FROM pg_control_checkpoint()"
        with cluster.connect(old.id) as connection:
            found = connection.execute(timeline).fetchone()
        with cluster.connect(new.id) as connection:
            wait_for(lambda: connection.execute(timeline).fetchone() == (False, 2), 60, "a primary")
        assert found == (not rules_off, 1)


# --- rule 11 ---


@pytest.fixture(scope="module")
def unwatched() -> Iterator[LocalCluster]:
    with _with_rules_off("health") as cluster:
        table_of(cluster)
        yield cluster


def _assert_leads_on(cluster: LocalCluster, leader: LocalNode) -> None:
    """It still does after a while, and so nobody else accepts writes."""
    end = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < end:
        leaders = {a.node_id for a in cluster.status().values() if a and a.leads}
        assert leaders <= {leader.id}
        time.sleep(0.2)
    assert leaders == {leader.id}


def test_without_the_rule_a_leader_without_its_postmaster_stays(unwatched: LocalCluster) -> None:
    leader = unwatched.leader()
    with stopped(postmaster_of(leader)):
        _assert_leads_on(unwatched, leader)


@needs_fuse
def test_without_the_rule_a_leader_whose_wal_can_not_be_flushed_stays(
    unwatched: LocalCluster,
) -> None:
    with leader_on(unwatched, "wal", "fuse") as (leader, disk):
        disk.hang()
        running = attempt(unwatched, leader.id, "INSERT INTO t VALUES (1)")
        _assert_leads_on(unwatched, leader)
        assert stays_pending(running, 0.1), running
        disk.go_on()
        running.join(REJOIN_SECONDS)
        assert running.acknowledged, running
