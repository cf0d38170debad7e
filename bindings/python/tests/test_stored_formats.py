"""A cluster whose Raft directories an older version has written (tools/write_fixture.py)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pgraft
import pytest
from pgraft import _pgraft, new_cluster, tablespaces
from pgraft.paths import NodePaths

STORED = Path(__file__).parent / "stored"
RELEASES = sorted(path.name for path in STORED.iterdir())
HOST = "127.77.1.{}"  # as in tools/write_fixture.py
PORT = 18001
PATIENCE = 60.0


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain for {what}"
        time.sleep(0.02)


class Stored:
    """A copy of what a release has left, with nodes of this version on it."""

    def __init__(self, release: str, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(STORED / release, directory, dirs_exist_ok=True)
        self.state: dict[str, Any] = json.loads((directory / "state.json").read_text())
        self.ids: list[int] = self.state["members"]

    def node(self, node_id: int) -> pgraft.Node:
        return pgraft.Node(
            node_id=node_id,
            data_dir=str(self.directory / f"n{node_id}"),
            cluster_name="fixture",
            listen_address=HOST.format(node_id),
            listen_port=PORT,
        )

    def expected(self) -> dict[str, bytes]:
        return {key: value.encode() for key, value in self.state["keys"].items()} | {
            "binary": bytes(range(256))
        }


@pytest.fixture(params=RELEASES)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stored]:
    # Their addresses are part of the state: one test run at a time.
    name = f"pgraft-stored-formats-{os.getuid()}.lock"
    with open(Path(tempfile.gettempdir(), name), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Stored(request.param, tmp_path / "cluster")


def leader_of(nodes: dict[int, pgraft.Node]) -> pgraft.Node | None:
    for node in nodes.values():
        if node.running and node.status()["state"] == "leader":
            return node
    return None


def reads(node: pgraft.Node) -> bool:
    try:
        node.read_barrier()
    except (pgraft.NoQuorum, pgraft.Timeout, pgraft.FailedPrecondition):
        return False
    return True


def assert_holds(node: pgraft.Node, keys: dict[str, bytes]) -> None:
    wait_for("it to have applied its log", lambda: node.is_member and reads(node))
    for key, value in keys.items():
        assert node.kv_get(key) == value, f"node {node.node_id}"
    with pytest.raises(pgraft.NotFound):
        node.kv_get("colour-19")


def put(nodes: dict[int, pgraft.Node], key: str, value: bytes) -> None:
    """Through whoever takes it: the leader may just change."""

    def written() -> bool:
        leader = leader_of(nodes)
        if leader is None:
            return False
        try:
            leader.kv_put(key, value)
        except (pgraft.NotLeader, pgraft.NoQuorum, pgraft.Timeout, pgraft.Aborted):
            return False
        return True

    wait_for("a write", written)


def test_each_member_opens_what_the_release_has_stored(stored: Stored) -> None:
    for i in stored.ids:
        data_dir = str(stored.directory / f"n{i}")
        assert _pgraft.read_identity(data_dir).node_id == i
        assert [m.id for m in _pgraft.read_members(data_dir)] == stored.ids
        with stored.node(i) as node:  # alone
            status = node.status()
            assert status["term"] >= stored.state["term"]
            assert status["last_index"] == stored.state["applied_index"]
            assert node.kv_get("colour-7") == b"before the snapshot, 7"


def test_the_cluster_forms_again_and_goes_on_writing(stored: Stored) -> None:
    keys = stored.expected()
    with ExitStack() as stack:
        nodes = {i: stack.enter_context(stored.node(i)) for i in stored.ids}
        wait_for("a leader", lambda: leader_of(nodes) is not None)
        put(nodes, "new", b"of this version")
        keys["new"] = b"of this version"
        for node in nodes.values():
            assert_holds(node, keys)
        leader = leader_of(nodes)
        assert leader is not None
        leader.stop()
        put(nodes, "newer", b"by the next leader")
        keys["newer"] = b"by the next leader"
        leader.start()
        for node in nodes.values():
            assert_holds(node, keys)
    with ExitStack() as stack:
        nodes = {i: stack.enter_context(stored.node(i)) for i in stored.ids}
        wait_for("a leader", lambda: leader_of(nodes) is not None)
        for node in nodes.values():
            assert_holds(node, keys)


def test_a_directory_of_a_newer_version_is_refused_and_left_alone(stored: Stored) -> None:
    identity = stored.directory / "n2" / "identity"
    before = identity.read_text()
    identity.write_text(before.replace("format = 1", "format = 2"))
    files = contents(stored.directory / "n2")
    with pytest.raises(pgraft.Mismatch, match="a newer version has written it"):
        stored.node(2).start()
    assert contents(stored.directory / "n2") == files


def test_what_the_command_line_has_left_under_way_is_read(stored: Stored) -> None:
    side = stored.directory / "side"
    assert tablespaces.read_list(side / "tablespaces.old") == [
        Path("/srv/space one"),
        Path("/srv/two"),
    ]
    paths = NodePaths(stored.directory / "none", side)
    assert new_cluster.survivor(paths) == new_cluster.Survivor(3, 14981209413837229760)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}
