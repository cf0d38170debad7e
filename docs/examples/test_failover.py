"""An application's own tests of a failover, on three real PostgreSQL servers."""

import os
import shutil
from collections.abc import Iterator

import psycopg
import pytest
from pgraft import LocalCluster, Writer
from pgraft.local_cluster import wait_for
from pgraft.writer import check


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Three members; their servers stop at the end, whatever happens."""
    with LocalCluster(3) as cluster:
        yield cluster


def go_on(writer: Writer) -> None:
    """Waits until the writer has had another row acknowledged."""
    before = writer.count
    wait_for(lambda: writer.count > before, 60, "another acknowledged row")


def test_what_was_acknowledged_survives_its_leader(cluster: LocalCluster) -> None:
    """A leader is killed while an application writes."""
    with cluster.connect() as connection:
        Writer.create_table(connection)
    with Writer(cluster.dsn()) as writer:
        go_on(writer)
        old = cluster.leader()
        cluster.kill(old.id, "all")
        new = cluster.leader(exclude=[old.id])
        go_on(writer)
    with cluster.connect(new.id) as connection:
        verdict = check(connection, writer.client, writer.record())
    assert not verdict.lost
    cluster.start_node(old.id)
    cluster.wait_for_standby(old.id)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="namespaces need root, and nft"
)
def test_a_leader_that_is_cut_off_takes_no_writes() -> None:
    """Each member has a network of its own, and the leader's is cut."""
    with LocalCluster(3, namespaces=True) as cluster:
        old = cluster.leader()
        cluster.cut_off(old.id)
        new = cluster.leader(exclude=[old.id])
        # Through its Unix-domain socket, which no cut reaches.
        with cluster.connect(old.id) as connection:
            leads = "SELECT 1 WHERE pgraft_is_leader()"
            wait_for(lambda: not connection.execute(leads).fetchall(), 60, "the end of its lease")
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("CREATE TABLE t (i int)")
        with cluster.connect(new.id) as connection:
            connection.execute("CREATE TABLE t (i int)")
