"""`pgraft.Node`: members without a database, on real LevelDB directories and TCP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pgraft
import pytest

PATIENCE = 30.0


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain for {what}"
        time.sleep(0.02)


def make(directory: Path, node_id: int, cluster_name: str = "pgraft") -> pgraft.Node:
    data_dir = str(directory / f"n{node_id}")
    return pgraft.Node(node_id=node_id, data_dir=data_dir, cluster_name=cluster_name)


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[list[pgraft.Node]]:
    """Three voters; the first one leads."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(make(tmp_path, i)) for i in (1, 2, 3)]
        nodes[0].init()
        for node in nodes[1:]:
            nodes[0].add_node("127.0.0.1", node.port, node_id=node.node_id)
            wait_for(
                f"node {node.node_id} to be a voter",
                lambda node=node: any(  # type: ignore[misc]
                    m["voter"] and m["member"]["id"] == node.node_id
                    for m in nodes[0].status()["members"]
                ),
            )
        yield nodes


def test_a_put_through_a_follower_is_read_everywhere(trio: list[pgraft.Node]) -> None:
    trio[1].kv_put("colour", "blue")
    for node in trio:
        wait_for("the value", lambda node=node: has(node, "colour", "blue"))  # type: ignore[misc]


def has(node: pgraft.Node, key: str, value: str) -> bool:
    try:
        return node.kv_get(key) in (value, value.encode())
    except pgraft.NotFound:
        return False


def test_a_stopped_leader_is_replaced_and_its_writes_are_there(trio: list[pgraft.Node]) -> None:
    trio[0].kv_put("before", "1")
    trio[0].stop()
    rest = trio[1:]
    wait_for("another leader", lambda: any(n.status()["leader_id"] == n.node_id for n in rest))
    rest[0].kv_put("after", "2")
    for node in rest:
        for key, value in (("before", "1"), ("after", "2")):
            wait_for(key, lambda n=node, k=key, v=value: has(n, k, v))  # type: ignore[misc]


def test_without_a_majority_nothing_is_acknowledged(trio: list[pgraft.Node]) -> None:
    trio[1].stop()
    trio[2].stop()
    with pytest.raises((pgraft.NoQuorum, pgraft.NotLeader, pgraft.Timeout)):
        trio[0].kv_put("lonely", "1", timeout=3.0)
    with pytest.raises(pgraft.NotFound):
        trio[0].kv_get("lonely")


def test_a_follower_refuses_membership_changes_and_names_the_leader(
    trio: list[pgraft.Node],
) -> None:
    with pytest.raises(pgraft.NotLeader, match="node 1"):
        trio[1].remove_node(3)


def test_status_is_answered_over_the_raft_port(trio: list[pgraft.Node]) -> None:
    status = pgraft.query_status("127.0.0.1", trio[0].port, 5.0)
    assert status["state"] == "leader"
    assert {m["member"]["id"] for m in status["members"]} == {1, 2, 3}


def test_an_unreachable_member_is_not_added(tmp_path: Path) -> None:
    with make(tmp_path, 1) as node, make(tmp_path, 2) as other:
        node.init()
        port = other.port
        other.stop()
        with pytest.raises(pgraft.Unavailable, match=str(port)):
            node.add_node("127.0.0.1", port, node_id=2)


def test_a_member_of_another_cluster_name_is_refused(tmp_path: Path) -> None:
    with make(tmp_path, 1) as node, make(tmp_path, 2, cluster_name="other") as stranger:
        node.init()
        with pytest.raises(pgraft.Mismatch, match="other"):
            node.add_node("127.0.0.1", stranger.port, node_id=2)


def test_a_node_restarts_with_what_it_had(tmp_path: Path) -> None:
    with make(tmp_path, 1) as node:
        node.init()
        node.kv_put("kept", "yes")
    with make(tmp_path, 1) as again:
        wait_for("the value", lambda: has(again, "kept", "yes"))


def test_a_damaged_identity_is_refused(tmp_path: Path) -> None:
    with make(tmp_path, 1) as node:
        node.init()
    (tmp_path / "n1" / "identity").write_text("format = 1\nnonsense\n")
    with pytest.raises(pgraft.Corruption, match="identity"):
        make(tmp_path, 1).start()


def test_after_a_read_barrier_a_follower_has_what_was_acknowledged(
    trio: list[pgraft.Node],
) -> None:
    for i in range(20):
        trio[i % 3].kv_put("colour", str(i))
        reader = trio[(i + 1) % 3]
        reader.read_barrier()
        assert reader.kv_get("colour") == str(i).encode()


def test_without_a_majority_a_read_barrier_is_refused(trio: list[pgraft.Node]) -> None:
    trio[1].stop()
    trio[2].stop()
    with pytest.raises((pgraft.NoQuorum, pgraft.NotLeader, pgraft.Timeout)):
        trio[0].read_barrier(timeout=3.0)
