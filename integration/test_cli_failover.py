"""`pgraft failover`: two of three are lost, and the third goes on alone, at the operator's word."""

from __future__ import annotations

import subprocess

import pgraft
from helpers import REJOIN_SECONDS, rows, table_of
from pgraft import _pgraft
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from test_cli import COMMAND, assert_says, at, environment, here, run


def break_off(survivor: LocalNode, at_line: str) -> None:
    """Kill -9 in the middle: nothing is left running, and it can be done again."""
    with subprocess.Popen(
        [*COMMAND, "failover", "--allow-data-loss", "--yes", *here(survivor)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while at_line not in (line := process.stderr.readline()):
            assert line, "it ended before"
        process.kill()
    wait_for(lambda: survivor.postmaster() is None, 60, "its server to be gone")


def test_the_survivor_of_a_lost_majority_begins_a_new_cluster(cluster: LocalCluster) -> None:
    table_of(cluster)
    with cluster.connect() as connection:
        connection.execute("INSERT INTO t SELECT generate_series(1, 100)")
    leader, (survivor, other) = cluster.leader(), cluster.followers()
    result = run("failover", *here(survivor))
    assert (result.returncode, f"node {leader.id} leads" in result.stdout) == (0, True)
    for node in (survivor, other):
        cluster.wait_for_standby(node.id, REJOIN_SECONDS)
    old = _pgraft.read_identity(str(survivor.paths.data_dir))

    # With a majority there is nothing to be forced, whichever member is asked.
    command = ["failover", "--allow-data-loss", "--yes"]
    assert_says(run(*command, *at(survivor)), 2, "stopped member of this machine", "-D")
    result = run(*command, *here(survivor))
    assert result.returncode == 1
    assert "stop it first" in result.stderr
    cluster.stop(survivor.id)
    assert_says(run(*command, *here(survivor)), 1, f"node {leader.id} leads", "it follows")
    cluster.kill(leader.id, "all")
    result = run(*command, *here(survivor))
    assert_says(result, 1, "which is a majority: nothing has to be lost", "Start it.")

    # Without: said what is missing, and what is lost with whom.
    cluster.kill(other.id, "all")
    cluster.start_node(survivor.id)
    wait_for(lambda: cluster.status()[survivor.id], 60, "the survivor to answer")
    result = run("failover", *here(survivor))
    assert_says(
        result, 3, "nothing can be done without the risk", f"node {survivor.id} has most WAL"
    )
    assert f"node {leader.id} (" in result.stderr
    assert f"node {other.id} (" in result.stderr
    cluster.stop(survivor.id)
    result = run("failover", "--allow-data-loss", *here(survivor), answer="n\n")
    assert result.returncode == 1
    assert "are LOST" in result.stdout
    assert _pgraft.read_identity(str(survivor.paths.data_dir)) == old

    break_off(survivor, "promoting the server")
    result = run("failover", "--allow-data-loss", *here(survivor), answer="y\n")
    assert result.returncode == 0, result.stdout + result.stderr
    new = _pgraft.read_identity(str(survivor.paths.data_dir))
    assert new.cluster_id not in (0, old.cluster_id)
    assert new.incarnation != old.incarnation
    kept = survivor.paths.data_dir / f"cluster-{old.cluster_id:016x}"
    assert _pgraft.read_identity(str(kept)) == old
    cluster.start_node(survivor.id)
    assert cluster.leader(60).id == survivor.id
    assert rows(cluster, survivor.id) == list(range(1, 101))
    with cluster.connect(survivor.id) as connection:
        connection.execute("INSERT INTO t VALUES (101)")

    # A member of the old cluster is a stranger: it finds nobody to vote for or to follow.
    cluster.start_node(other.id)

    def stranger() -> bool:
        answer = cluster.status()[other.id]
        return answer is not None and "refused" in answer.phase

    wait_for(stranger, 60, "the old member to be turned away")
    answer = cluster.status()[survivor.id]
    assert answer is not None
    assert answer.voters == {survivor.id}
    result = run("add", f"127.0.0.1:{other.settings.raft_port}", *at(survivor))
    assert result.returncode == 1, result.stdout
    assert "cluster" in result.stderr

    # As a copy it comes back.
    cluster.stop(other.id, immediate=True)
    other.wipe()
    cluster.join_node(other, source=survivor.id)
    cluster.start_node(other.id)
    wait_for(lambda: cluster.status()[other.id], 60, "the copy to answer")
    result = run("add", f"127.0.0.1:{other.settings.raft_port}", *at(survivor))
    assert result.returncode == 0, result.stderr
    cluster.wait_for_standby(other.id, REJOIN_SECONDS)
    assert rows(cluster, other.id)[-1] == 101
    assert pgraft.query_status("127.0.0.1", survivor.settings.raft_port)["writable"]
