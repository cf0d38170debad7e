"""How long nobody can write: `./dev bench failover [ROUNDS [WAY...]]`.

Three real servers at default settings. A round takes the leader away in one of these ways and
measures the time until the first row is committed, with a quorum, through one of the other two:

* postmaster: kill -9 of the leader's postmaster (its supervisor first, so that it stays away),
* all: kill -9 of all its processes,
* silent: SIGSTOP of all its processes; its connections stay open, as with a host that is gone,
* switchover: pgraft_transfer_leadership(); here the longest gap between two rows of a client that
  writes all the time.

Afterwards the node comes back and catches up. Quote medians and ratios: machines differ.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import statistics
import sys
import time

import psycopg
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.writer import Writer

KINDS = ("postmaster", "all", "silent", "switchover")
PATIENCE = 60.0
clients = itertools.count(1)  # each writes rows of its own


def first_write(cluster: LocalCluster, lost: int, start: float) -> float:
    """Seconds from `start` to the first commit through a node other than `lost`."""
    ports = [str(node.port) for node in cluster.nodes.values() if node.id != lost]
    hosts = ",".join(["127.0.0.1"] * len(ports))
    while time.monotonic() - start < PATIENCE:
        try:
            with psycopg.connect(
                host=hosts,
                port=",".join(ports),
                user="postgres",
                dbname="postgres",
                target_session_attrs="read-write",
                autocommit=True,
            ) as connection:
                connection.execute("insert into bench values (1)")
                return time.monotonic() - start
        except psycopg.Error:
            time.sleep(0.002)
    raise SystemExit(f"no node could be written to within {PATIENCE:.0f} s")


def one_round(cluster: LocalCluster, kind: str) -> float:
    leader = cluster.leader().id
    start = time.monotonic()
    if kind == "silent":
        cluster.pause(leader)
    else:
        cluster.kill(leader, kind)
    try:
        return first_write(cluster, leader, start)
    finally:
        if kind == "silent":
            cluster.resume(leader)
        else:
            cluster.start_node(leader)
        cluster.wait_for_standby(leader, 120.0)


def one_switchover(cluster: LocalCluster) -> float:
    """The longest gap between two acknowledged rows of one client."""
    leader = cluster.leader().id
    for node in cluster.nodes.values():
        if node.id != leader:
            cluster.wait_for_standby(node.id, 120.0)
    with Writer(cluster.dsn(), next(clients), pause=0.001) as writer:
        wait_for(lambda: writer.count > 100, PATIENCE, "rows")
        begun = time.monotonic()
        with contextlib.suppress(psycopg.OperationalError), cluster.connect(leader) as connection:
            connection.execute("SELECT pgraft_transfer_leadership()")
        cluster.leader(PATIENCE, exclude=[leader])
        rows = writer.count
        wait_for(lambda: writer.count > rows + 100, PATIENCE, "rows from the new leader")
        return writer.record().longest_gap(start=begun)


def main() -> None:
    """Runs the rounds and prints a line for each way that was asked for."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    kinds = sys.argv[2:] or KINDS
    if not set(kinds) <= set(KINDS):
        raise SystemExit(f"ways: {', '.join(KINDS)}")
    with LocalCluster(3) as cluster:
        with cluster.connect(autocommit=True) as connection:
            connection.execute("create table bench (i int)")
            Writer.create_table(connection)
        for kind in kinds:
            one = (
                one_switchover if kind == "switchover" else functools.partial(one_round, kind=kind)
            )
            times = sorted(one(cluster) * 1000 for _ in range(rounds))
            print(
                f"{kind:10s} {rounds} rounds: median {statistics.median(times):.0f} ms, "
                f"best {times[0]:.0f} ms, worst {times[-1]:.0f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
