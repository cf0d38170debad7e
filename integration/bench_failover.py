"""How long nobody can write: `./dev bench failover [ROUNDS]`.

Three real servers at default settings. A round takes the leader away in one of three ways and
measures the time until the first row is committed, with a quorum, through one of the other two:

* postmaster: kill -9 of the leader's postmaster (its supervisor first, so that it stays away),
* all: kill -9 of all its processes,
* silent: SIGSTOP of all its processes; its connections stay open, as with a host that is gone.

Afterwards the node comes back and catches up. Quote medians and ratios: machines differ.
"""

from __future__ import annotations

import statistics
import sys
import time

import psycopg
from pgraft.local_cluster import LocalCluster

KINDS = ("postmaster", "all", "silent")
PATIENCE = 60.0


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


def main() -> None:
    """Runs the rounds and prints a line for each way."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with LocalCluster(3) as cluster:
        with cluster.connect(autocommit=True) as connection:
            connection.execute("create table bench (i int)")
        for kind in KINDS:
            times = sorted(one_round(cluster, kind) * 1000 for _ in range(rounds))
            print(
                f"{kind:10s} {rounds} rounds: median {statistics.median(times):.0f} ms, "
                f"best {times[0]:.0f} ms, worst {times[-1]:.0f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
