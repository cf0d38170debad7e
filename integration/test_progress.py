"""What an operator sees of a rejoin while it runs, when the node itself can't be asked."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from helpers import REJOIN_SECONDS
from pgraft import rejoin_request
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from test_cli import at, here, run

VIEW = "SELECT node_id, name, phase, bytes_done, bytes_total, bytes_behind, waits_for"
VIEW += " FROM pgraft_stat_progress_rejoin ORDER BY node_id"


def progress(cluster: LocalCluster, node: LocalNode) -> list[tuple[Any, ...]]:
    with cluster.connect(node.id) as connection:
        return connection.execute(VIEW.encode()).fetchall()


def missing(cluster: LocalCluster, node: LocalNode) -> list[int]:
    with cluster.connect(node.id) as connection:
        found = connection.execute("SELECT node_id FROM pgraft_commit_quorum WHERE NOT present")
        return [row[0] for row in found.fetchall()]


def phases(cluster: LocalCluster) -> dict[int, str]:
    return {row[0]: row[2] for row in progress(cluster, cluster.leader())}


@contextmanager
def no_checkpoints(cluster: LocalCluster, node: LocalNode) -> Iterator[None]:
    """A base backup begins with one, and a rewind comes after one."""
    with cluster.connect(node.id) as connection:
        row = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
        ).fetchone()
    assert row is not None
    os.kill(row[0], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(row[0], signal.SIGCONT)


def status(*arguments: str) -> list[dict[str, Any]]:
    result = run("status", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def rejoin_in(answers: list[dict[str, Any]], node_id: int) -> dict[str, Any]:
    (found,) = [e["rejoin"] for e in answers if e["rejoin"] and e["rejoin"]["node_id"] == node_id]
    return dict(found)


def test_a_clone_is_seen_from_the_leader_and_on_its_own_machine(shared: LocalCluster) -> None:
    leader, node = shared.leader(), shared.followers()[0]
    other = next(n for n in shared.followers() if n is not node)
    wait_for(lambda: not phases(shared), REJOIN_SECONDS, "all members to stream")
    shared.stop(node.id)
    wait_for(lambda: missing(shared, leader) == [node.id], 60, "the quorum to miss the node")
    rejoin_request.request(node.paths, "asked for by a test")
    said = run("status", *here(node)).stdout
    assert f"Node {node.id} is to be cloned (asked for by a test)" in said
    with no_checkpoints(shared, leader):
        node.start()
        wait_for(
            lambda: phases(shared).get(node.id) == "copying",
            REJOIN_SECONDS,
            "the leader to see the copy",
        )
        (row,) = progress(shared, leader)
        assert row == (node.id, f"node{node.id}", "copying", None, None, None, None)
        assert progress(shared, other) == [], "only the leader knows"

        seen = wait_for(
            lambda: next((e["rejoin"] for e in status(*at(leader)) if e["rejoin"]), None),
            60,
            "the leader to tell of it on its Raft port",
        )
        assert (seen["node_id"], seen["phase"], seen["source_node"]) == (node.id, "copy", leader.id)
        text = run("status", *at(leader)).stdout
        assert "copying" in text
        assert f"Node {node.id} is copying from node {leader.id}" in text
        own = rejoin_in(status(*here(node)), node.id)
        assert (own["state"], own["mode"], own["phase"]) == ("working", "clone", "copy")
        assert own["reason"] == "asked for by a test"
        os.kill(own["pid"], 0)
    shared.wait_for_standby(node.id, REJOIN_SECONDS)
    wait_for(lambda: not phases(shared), REJOIN_SECONDS, "nothing to be under way any more")
    wait_for(lambda: not any(e["rejoin"] for e in status(*here(node))), 60, "the file to be gone")
    assert not node.paths.progress.exists()


def test_the_leader_shows_what_a_session_says_of_itself_and_nothing_else(
    shared: LocalCluster,
) -> None:
    leader = shared.leader()
    wait_for(lambda: not phases(shared), REJOIN_SECONDS, "all members to stream")
    ignored = (
        "pgraft_rejoin",
        "pgraft_rejoin 9 copy",
        "pgraft_rejoin 0 copy 1/2",
        "pgraft_rejoin 9 copy 1/2 and more",
        "pgraft_rejoin 9 <b>copy</b> 1/2",
        "pgraft_rejoin 4294967297 copy 1/2",
    )
    sessions: list[psycopg.Connection[Any]] = []
    try:
        for name in (*ignored, "pgraft_rejoin 7 rewind 1024/4096"):
            session = shared.connect(leader.id)
            sessions.append(session)
            session.execute("SELECT set_config('application_name', %s, false)", [name])
        wait_for(lambda: phases(shared).get(7), 60, "the session to be seen")
        assert progress(shared, leader) == [(7, None, "rewinding", 1024, 4096, None, None)]
        assert rejoin_in(status(*at(leader)), 7)["bytes_total"] == 4096
    finally:
        for session in sessions:
            session.close()
    wait_for(lambda: not phases(shared), 60, "it to be forgotten")
