"""What the tests of rule 8 share: nodes that come and go, and what all members must agree on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from helpers import FAILOVER_SECONDS, REJOIN_SECONDS
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode


def grow(cluster: LocalCluster, node_id: int) -> LocalNode:
    """A new node, running, that is no member yet."""
    node = cluster.new_node(node_id)
    start_new(cluster, node)
    return node


def start_new(cluster: LocalCluster, node: LocalNode) -> None:
    """Sets a node up with an empty disk, and starts it; it is no member yet."""
    cluster.join_node(node, source=cluster.leader().id)
    node.start()
    wait_for(lambda: cluster.status()[node.id], REJOIN_SECONDS, f"node {node.id} to answer")


def replace_disk(cluster: LocalCluster, node: LocalNode) -> None:
    """A node with the number and the addresses of a former one, which has nothing of it."""
    node.kill("all")
    node.wipe()
    start_new(cluster, node)


def hand_over(cluster: LocalCluster, leader: LocalNode) -> None:
    """Under load the leader may get it back, for having written more meanwhile."""

    def handed_over() -> bool:
        if cluster.leader().id != leader.id:
            return True
        with cluster.connect(leader.id) as connection:
            connection.execute("SELECT pgraft_transfer_leadership()")
        return False

    wait_for(handed_over, FAILOVER_SECONDS, f"another leader than {leader.id}")


def sql(cluster: LocalCluster, node_id: int, statement: str, *values: Any) -> tuple[Any, ...]:
    """The first row of a statement."""
    with cluster.connect(node_id) as connection:
        row = connection.execute(statement.encode(), values or None).fetchone()
    assert row is not None, statement
    return tuple(row)


def quorum(cluster: LocalCluster) -> str:
    return str(sql(cluster, cluster.leader().id, "SHOW synchronous_standby_names")[0])


def quorum_of(voters: Iterable[int], leader: int) -> str:
    """What the leader must have set."""
    voters = sorted(voters)
    needed = len(voters) // 2
    others = [f"pgraft_{voter}" for voter in voters if voter != leader]
    return f"ANY {needed} ({', '.join(others)})" if others else ""


def expect_members(cluster: LocalCluster, members: Iterable[int]) -> None:
    """All of them vote, know of each other and of nobody else, and the leader counts by them; its
    slots, and those of the others, are for the members.
    """
    wanted = set(members)
    cluster.wait_for_voters(wanted, REJOIN_SECONDS)

    def agree() -> bool:
        answers = cluster.status()
        return all((a := answers[n]) is not None and a.voters == wanted for n in wanted)

    wait_for(agree, REJOIN_SECONDS, f"all of {wanted} to know of these members")

    def counted() -> bool:
        return quorum(cluster) == quorum_of(wanted, cluster.leader().id)

    wait_for(counted, FAILOVER_SECONDS, f"the commit quorum of {wanted}")

    def kept() -> bool:
        return all(slots(cluster, n) == {f"pgraft_{m}" for m in wanted - {n}} for n in wanted)

    wait_for(kept, REJOIN_SECONDS, f"slots of {wanted}")


def slots(cluster: LocalCluster, node_id: int) -> set[str]:
    with cluster.connect(node_id) as connection:
        found = connection.execute(
            "SELECT slot_name FROM pg_replication_slots"
            r" WHERE slot_type = 'physical' AND slot_name ~ '^pgraft_\d+$'"
        ).fetchall()
    return {name for (name,) in found}


def waits_for(cluster: LocalCluster, node_id: int) -> str | None:
    """Why a member has no vote yet, as its leader says in SQL."""
    text = sql(
        cluster,
        cluster.leader().id,
        "SELECT (SELECT waits_for FROM pgraft_get_nodes() WHERE node_id = %s)",
        node_id,
    )[0]
    return None if text is None else str(text)


def change_waits_for(cluster: LocalCluster, node_id: int) -> str | None:
    text = sql(cluster, node_id, "SELECT change_waits_for FROM pgraft_get_cluster_status()")[0]
    return None if text is None else str(text)


def receiver_of(node: LocalNode) -> int:
    """Process id of a node's walreceiver, once it has one."""

    def find() -> int | None:
        for pid in node.tree():
            try:
                if "walreceiver" in Path(f"/proc/{pid}/cmdline").read_text(errors="replace"):
                    return pid
            except OSError:
                continue
        return None

    return wait_for(find, REJOIN_SECONDS, f"the walreceiver of node {node.id}")


def worker_of(cluster: LocalCluster, node_id: int) -> int:
    """Process id of a node's consensus worker."""
    return int(sql(cluster, node_id, "SELECT pid FROM pgraft_get_worker_state()")[0])


def is_stopped(pid: int) -> bool:
    """Does it stand still (SIGSTOP)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def stop_at(cluster: LocalCluster, node: LocalNode, point: str) -> None:
    """Lets the worker of a node stop at a step of the next membership change, once."""
    with cluster.connect(node.id) as connection:
        connection.execute(f"ALTER SYSTEM SET pgraft.debug_stop_at = '{point}'".encode())
        connection.execute("SELECT pg_reload_conf()")

    def loaded() -> bool:
        # A new session has what the postmaster had loaded before it told the worker to do the same.
        return sql(cluster, node.id, "SHOW pgraft.debug_stop_at") == (point,)

    wait_for(loaded, FAILOVER_SECONDS, f"node {node.id} to be told to stop at {point}")


def forget_stop(node: LocalNode) -> None:
    """For a node that is down."""
    auto_conf = node.paths.pgdata / "postgresql.auto.conf"
    lines = auto_conf.read_text().splitlines(keepends=True)
    auto_conf.write_text("".join(line for line in lines if "debug_stop_at" not in line))
