"""Network faults: as root each node has a network of its own; else the followers are stopped.

Whatever is cut: no acknowledged row is lost, two primaries never acknowledge at the same time,
where a majority can talk the cluster is writable again, and once all is healed all nodes stream.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    ROOT,
    SETTINGS,
    assert_nothing_lost,
    attempt,
    more_rows,
    needs_network,
    rows,
    stays_pending,
    table_of,
    wait_for_sync_rep,
)
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.netns import CLIENTS
from pgraft.witness import Witness, two_primaries
from pgraft.writer import Writer

SETTLE_SECONDS = 3.0  # several election timeouts: what could go wrong has gone wrong by then
_client = itertools.count(1)


@pytest.fixture(scope="module")
def net() -> Iterator[LocalCluster]:
    with LocalCluster(3, namespaces=ROOT, settings=SETTINGS) as cluster:
        yield cluster


class Load:
    """Clients on the network, one at every server's socket, and what they must see in the end."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        with cluster.connect() as connection:
            Writer.create_table(connection)
            Witness.create_table(connection)
        self.writers: list[Writer] = []
        self.witness = Witness(
            {node_id: lambda n=node_id: cluster.connect(n) for node_id in cluster.nodes}
        )

    def start(self) -> None:
        self.witness.start()
        self.new_client()

    @property
    def writer(self) -> Writer:
        """The newest client."""
        return self.writers[-1]

    def new_client(self) -> None:
        """One without a commit that waits on a server that is cut off from the others."""
        network = self.cluster.network
        assert network is not None
        dsn = self.cluster.dsn(tcp=True)
        self.writers.append(Writer(dsn, next(_client), pause=0.002, setup=network.enter).start())
        more_rows(self.writer)

    def finish(self) -> None:
        self.cluster.heal()
        self.cluster.leader(REJOIN_SECONDS)
        for writer in self.writers:
            more_rows(writer, timeout=REJOIN_SECONDS)
        for writer in self.writers:
            record = writer.stop()
            assert_nothing_lost(self.cluster, record, writer.client)
            gap = record.longest_gap()
            print(f"longest gap {gap * 1000:.0f} ms, {len(record.acknowledged)} rows")
        acknowledged = self.witness.stop()
        assert acknowledged
        assert two_primaries(acknowledged) == []

    def close(self) -> None:
        for writer in self.writers:
            writer.stop(1)
        self.witness.stop(1)


@contextmanager
def under_load(cluster: LocalCluster) -> Iterator[Load]:
    load = Load(cluster)
    try:
        load.start()
        yield load
        load.finish()
    finally:
        cluster.heal()
        load.close()


def term_of(cluster: LocalCluster, node: LocalNode) -> int:
    answer = cluster.status()[node.id]
    assert answer is not None
    return answer.term


def writes_go_on(load: Load, seconds: float = SETTLE_SECONDS) -> None:
    """Rows are acknowledged, also when whoever wanted to campaign has done so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        more_rows(load.writer, 20)


# --- the leader loses everyone ---


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
    stays_pending(running[0], 1)
    for one in running:
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


@needs_network
def test_wal_that_diverged_on_both_sides_is_rewound(net: LocalCluster) -> None:
    """Rule 9: rows that nobody acknowledged vanish from the old leader, the others reach it."""
    table_of(net, "diverged")
    with under_load(net):
        leader = net.leader()
        log_begins = leader.log_file.stat().st_size
        net.cut_off(leader.id)
        running = [
            attempt(net, leader.id, f"INSERT INTO diverged SELECT {i} FROM generate_series(1, 999)")
            for i in range(3)
        ]
        waiting = [wait_for_sync_rep(net, leader.id, one) for one in running]
        assert any(waiting), "the old leader has WAL of its own that waits for a quorum"
        new = net.leader(FAILOVER_SECONDS, exclude=[leader.id])
        with net.connect(new.id) as connection:
            connection.execute("INSERT INTO diverged VALUES (100)")
        net.heal()
        net.wait_for_standby(leader.id, REJOIN_SECONDS)
        for one in running:
            one.join()
            assert not one.acknowledged
        assert rows(net, leader.id, "diverged") == [100]
    with open(leader.log_file, errors="replace") as log:
        log.seek(log_begins)
        text = log.read()
    assert "pgraft: rewound;" in text or "pgraft: cloned;" in text


@needs_network
def test_a_leader_cut_off_from_its_clients_alone_stays(net: LocalCluster) -> None:
    """Only the members' view counts: nothing changes hands, and nothing is lost."""
    with under_load(net) as load:
        leader = net.leader()
        term = term_of(net, leader)
        net.separate(leader.id, CLIENTS)
        table_of_leader = attempt(
            net, leader.id, "INSERT INTO pgraft_witness DEFAULT VALUES RETURNING 1"
        )
        table_of_leader.join()
        assert table_of_leader.acknowledged, table_of_leader
        count = load.writer.count

        def noticed() -> bool:
            return load.writer.record().reconnects > 2

        wait_for(noticed, FAILOVER_SECONDS, "the client to notice that its server is gone")
        assert load.writer.count <= count + 1, "no other server takes its rows"
        net.heal()
        more_rows(load.writer)
        assert net.leader() is leader
        assert term_of(net, leader) == term


# --- one direction ---


@needs_network
@pytest.mark.parametrize("direction", ["sends only", "receives only"])
def test_a_leader_with_one_direction_left_is_replaced(net: LocalCluster, direction: str) -> None:
    with under_load(net) as load:
        leader = net.leader()
        for node_id in set(net.nodes) - {leader.id}:
            if direction == "sends only":
                net.block(node_id, leader.id)
            else:
                net.block(leader.id, node_id)

        def replaced() -> bool:
            others = [a for n, a in net.status().items() if a and n != leader.id]
            return any(answer.leads for answer in others)

        wait_for(replaced, FAILOVER_SECONDS, "another leader")
        load.new_client()


@needs_network
@pytest.mark.parametrize("direction", ["sends only", "receives only"])
def test_a_follower_with_one_direction_left_disturbs_nobody(
    net: LocalCluster, direction: str
) -> None:
    with under_load(net) as load:
        leader = net.leader()
        term = term_of(net, leader)
        follower = net.followers()[0]
        for node_id in set(net.nodes) - {follower.id}:
            if direction == "sends only":
                net.block(node_id, follower.id)
            else:
                net.block(follower.id, node_id)
        writes_go_on(load)
        net.heal()
        writes_go_on(load)
        assert net.leader() is leader, "pre-vote"
        assert term_of(net, leader) == term


# --- some pairs ---


@needs_network
def test_a_leader_that_sees_one_follower_only_goes_on(net: LocalCluster) -> None:
    """The other follower, which is seen by nobody but the first one, gets no vote from that."""
    with under_load(net) as load:
        leader = net.leader()
        term = term_of(net, leader)
        net.separate(leader.id, net.followers()[1].id)
        writes_go_on(load)
        assert net.leader() is leader
        assert term_of(net, leader) == term


@needs_network
def test_each_pair_cut_in_turn_leaves_the_cluster_writable(net: LocalCluster) -> None:
    with under_load(net) as load:
        for one, other in itertools.combinations(net.nodes, 2):
            net.separate(one, other)
            net.leader(FAILOVER_SECONDS)
            writes_go_on(load, 1.5)
            net.heal()


@needs_network
def test_a_ring_of_five_stays_writable() -> None:
    """Each sees its two neighbours alone; the leader of five then has exactly its majority."""
    with (
        LocalCluster(5, namespaces=True, settings=SETTINGS) as cluster,
        under_load(cluster) as load,
    ):
        for one, other in itertools.combinations(cluster.nodes, 2):
            if (one - other) % 5 not in (1, 4):
                cluster.separate(one, other)
        cluster.leader(FAILOVER_SECONDS)
        writes_go_on(load)
        cluster.heal()
        # And a leader that sees one of four has no majority: another must take over.
        leader = cluster.leader()
        for node in cluster.followers()[1:]:
            cluster.separate(leader.id, node.id)
        cluster.leader(FAILOVER_SECONDS, exclude=[leader.id])
        load.new_client()


# --- now and then ---


@needs_network
@pytest.mark.parametrize("whose", ["leader", "follower"])
def test_a_flapping_link_loses_nothing(net: LocalCluster, whose: str) -> None:
    with under_load(net) as load:
        node = net.leader() if whose == "leader" else net.followers()[0]
        for _ in range(8):
            net.cut_off(node.id)
            time.sleep(0.3)
            net.heal(node.id)
            time.sleep(0.3)
        net.leader(FAILOVER_SECONDS)
        more_rows(load.writer)


@needs_network
def test_a_cut_off_follower_catches_up(net: LocalCluster) -> None:
    with under_load(net) as load:
        leader = net.leader()
        follower = net.followers()[0]
        net.cut_off(follower.id)
        more_rows(load.writer, 200)
        net.heal(follower.id)
        net.wait_for_standby(follower.id, REJOIN_SECONDS)
        assert net.leader() is leader, "pre-vote: a node that comes back disturbs nobody"
