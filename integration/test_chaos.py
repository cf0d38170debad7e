"""Random faults under load: nothing is lost, and every node comes back."""

from __future__ import annotations

import os
import random
import shutil

import pytest
from helpers import FAILOVER_SECONDS, REJOIN_SECONDS, assert_nothing_lost, more_rows, start_writer
from pgraft.chaos import Chaos
from pgraft.local_cluster import LocalCluster
from pgraft.render import make_console
from pgraft.writer import Writer

ROUNDS = int(os.environ.get("PGRAFT_CHAOS_ROUNDS", "3"))
CLIENTS = 4
MINUTES = float(os.environ.get("PGRAFT_CHAOS_MINUTES", "3"))
SEED = int(os.environ.get("PGRAFT_CHAOS_SEED", "1"))
NETWORK = os.geteuid() == 0 and shutil.which("nft") is not None


@pytest.mark.timeout(900 + 120 * MINUTES)
def test_what_clients_saw_could_be_the_answers_of_one_server_that_never_fails() -> None:
    """Kills, hangs, cuts, hand-overs, membership changes; `pgraft.history` is the judge."""
    print(f"PGRAFT_CHAOS_SEED={SEED}")
    with LocalCluster(3, namespaces=NETWORK) as cluster:
        chaos = Chaos(cluster, SEED, say=print)
        report = chaos.run(MINUTES * 60)
        make_console().print(report.table())
        print(*report.lines(), sep="\n")
        logs = "" if report.ok else cluster.logs(400)
    assert report.ok, "\n".join([*report.lines(), *report.schedule, logs])
    assert report.operations["acknowledged"] > 0


@pytest.mark.timeout(300 + 180 * ROUNDS)
def test_leaders_killed_in_a_row_lose_nothing(cluster: LocalCluster) -> None:
    print(f"PGRAFT_CHAOS_SEED={SEED}")
    chooser = random.Random(SEED)
    writers = [start_writer(cluster, client) for client in range(1, CLIENTS + 1)]
    gaps = []
    for _ in range(ROUNDS):
        leader = cluster.leader(FAILOVER_SECONDS)
        what = chooser.choice(["postmaster", "all"])
        before = [writer.count for writer in writers]
        cluster.kill(leader.id, what)
        new = cluster.leader(FAILOVER_SECONDS, exclude=[leader.id])
        for writer in writers:
            more_rows(writer, 20, FAILOVER_SECONDS)
        gap = max(_gap_since(w, n) for w, n in zip(writers, before, strict=True))
        gaps.append(gap)
        print(f"node {leader.id} ({what}) -> node {new.id}: {gap * 1000:.0f} ms")
        cluster.start_node(leader.id)
        cluster.wait_for_standby(leader.id, REJOIN_SECONDS)
    records = [(writer.client, writer.stop()) for writer in writers]
    for client, record in records:
        assert_nothing_lost(cluster, record, client)
    gaps.sort()
    print(f"write gap: median {gaps[len(gaps) // 2] * 1000:.0f} ms, worst {gaps[-1] * 1000:.0f} ms")


def _gap_since(writer: Writer, acknowledged_before: int) -> float:
    record = writer.record()
    start = record.acknowledged[max(0, acknowledged_before - 1)][1]
    return record.longest_gap(start=start)
