"""Rule 6 for logical replication: an apply worker confirms to its publisher what it has committed.

The publisher is another database of the same server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from helpers import SETTINGS, Attempt
from pgraft.local_cluster import LocalCluster, wait_for
from stalled import Stalled

ROWS = "CREATE TABLE r (i int PRIMARY KEY)"


@pytest.fixture(scope="module")
def subscribed() -> Iterator[Stalled]:
    settings = {**SETTINGS, "wal_level": "logical"}
    with LocalCluster(3, settings=settings) as cluster:
        stalled = Stalled(cluster)
        stalled.execute("CREATE DATABASE publisher")
        with _publisher(stalled) as publisher:
            publisher.execute(ROWS)
            publisher.execute("CREATE PUBLICATION p FOR TABLE r")
            publisher.execute(
                "SELECT pg_create_logical_replication_slot('s', 'pgoutput', false, true)"
            )
        stalled.execute(ROWS)
        stalled.execute(
            f"CREATE SUBSCRIPTION s CONNECTION 'host={stalled.leader.socket_dir} "
            f"port={stalled.leader.port} dbname=publisher user={cluster.owner.name}' "
            "PUBLICATION p WITH (create_slot = false, copy_data = false, two_phase = true)"
        )
        yield stalled
        stalled.release()


def _publisher(stalled: Stalled) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=str(stalled.leader.socket_dir),
        port=stalled.leader.port,
        user=stalled.cluster.owner.name,
        dbname="publisher",
        autocommit=True,
    )


@pytest.mark.parametrize("last", ["INSERT INTO r VALUES (1)", "COMMIT PREPARED 'two'"])
def test_an_apply_worker_waits_for_the_quorum(subscribed: Stalled, last: str) -> None:
    """It chooses synchronous_commit = off by default."""
    if last.startswith("COMMIT"):
        with _publisher(subscribed) as publisher:
            publisher.execute("BEGIN; INSERT INTO r VALUES (2); PREPARE TRANSACTION 'two'")
        wait_for(
            lambda: subscribed.holds(
                "count(*) > 0 FROM pg_prepared_xacts WHERE database = 'postgres'"
            ),
            30,
            "the subscriber to prepare",
        )
    subscribed.hold()
    running = Attempt(lambda: _publisher(subscribed), last)
    waits = (
        "EXISTS (SELECT FROM pg_stat_activity "
        "WHERE backend_type = 'logical replication worker' AND wait_event = 'SyncRep')"
    )
    wait_for(lambda: subscribed.holds(waits), 30, "the apply worker to wait")
    assert running.pending, running
    subscribed.release()
    running.join(60)
    assert running.acknowledged, running
