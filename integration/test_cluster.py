"""A healthy cluster, formed from SQL."""

from __future__ import annotations

import psycopg
import pytest
from helpers import rows, table_of
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.pg import parse_lsn


def test_a_cluster_forms_from_sql(shared: LocalCluster) -> None:
    leader = shared.leader()
    with shared.connect(leader.id) as connection:
        assert connection.execute("SELECT pgraft_is_leader(), pgraft_get_leader()").fetchone() == (
            True,
            leader.id,
        )
        nodes = connection.execute(
            "SELECT node_id, address, port, is_leader, role FROM pgraft_get_nodes() ORDER BY 1"
        ).fetchall()
    assert nodes == [
        (n.id, n.host, n.settings.raft_port, n is leader, "voter") for n in shared.nodes.values()
    ]


def test_all_members_agree_on_the_leader(shared: LocalCluster) -> None:
    leader = shared.leader()
    for node in shared.nodes.values():

        def agrees(node_id: int = node.id) -> bool:
            with shared.connect(node_id) as connection:
                row = connection.execute("SELECT pgraft_get_leader()").fetchone()
            return row == (leader.id,)

        wait_for(agrees, 30, f"node {node.id} to know the leader")


def test_followers_stream_and_serve_reads(shared: LocalCluster) -> None:
    table_of(shared, "read_me")
    with shared.connect() as connection:
        connection.execute("INSERT INTO read_me VALUES (1)")
    for node in shared.followers():
        shared.wait_for_standby(node.id)
        assert rows(shared, node.id, "read_me") == [1]


def test_followers_refuse_writes(shared: LocalCluster) -> None:
    table_of(shared, "refused")
    for node in shared.followers():
        shared.wait_for_standby(node.id)
        with (
            shared.connect(node.id) as connection,
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        ):
            connection.execute("INSERT INTO refused VALUES (1)")


def test_an_acknowledged_row_is_on_a_majority(shared: LocalCluster) -> None:
    """Rule 6: what is acknowledged has been flushed by at least one follower of two."""
    table_of(shared, "majority")
    followers = shared.followers()
    watching = [shared.connect(node.id) for node in followers]
    with shared.connect(autocommit=False) as connection:
        for i in range(50):
            connection.execute("INSERT INTO majority VALUES (%s)", [i])
            row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
            assert row is not None
            connection.commit()
            received = [
                c.execute("SELECT flushed_lsn::text FROM pg_stat_wal_receiver").fetchone()
                for c in watching
            ]
            # The commit record lies behind what was inserted before it.
            assert any(r and parse_lsn(r[0]) > parse_lsn(row[0]) for r in received), (row, received)
    for one in watching:
        one.close()


def test_a_client_finds_the_leader_by_target_session_attrs(shared: LocalCluster) -> None:
    leader = shared.leader()
    with psycopg.connect(shared.dsn()) as connection:
        assert connection.info.port == leader.port


def test_two_supervisors_of_one_directory_are_refused(shared: LocalCluster) -> None:
    node = shared.node(1)
    owner_of_lock = node.process
    node.process = None
    try:
        node.start()
        assert node.process is not None
        assert node.process.wait(60) == 1
    finally:
        node.process = owner_of_lock
    assert (
        f'another "pgraft run" (process {owner_of_lock and owner_of_lock.pid})' in node.log_tail()
    )
