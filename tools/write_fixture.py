"""Writes the Raft directories of a small cluster, as the installed version of pgraft stores them.

Each release leaves such a cluster for those after it, who must go on with it
(bindings/python/tests/test_stored_formats.py). To be run once a release, with its package:

    git worktree add ../released v0.2.0 && cd ../released && ./dev build
    .venv/bin/python tools/write_fixture.py bindings/python/tests/stored/0.2.0

Nodes 2, 3 and 4 are left: node 1 wrote so much that those who joined it began with a snapshot, and
was removed, since its log is big. After the snapshot each has a tail of entries.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pgraft

# The members know each other by these; whoever reads them later has to listen there.
HOST = "127.77.1.{}"
PORT = 18001
# The state machine is put into a snapshot after so many entries.
_ENTRIES_UNTIL_SNAPSHOT = 10_000
_PATIENCE = 60.0
# Of no use to who reads them later.
_LEFT_OUT = ("LOCK", "LOG", "LOG.old")


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Waits until the condition holds."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"waited {_PATIENCE} s in vain for {what}")
        time.sleep(0.02)


def is_voter(leader: pgraft.Node, node_id: int) -> bool:
    """Does the leader count it?"""
    members = leader.status()["members"]
    return any(m["voter"] and m["member"]["id"] == node_id for m in members)


def is_removed(leader: pgraft.Node, node_id: int) -> bool:
    """Removes it; one that has only just been elected asks to be asked again."""
    try:
        leader.remove_node(node_id)
    except (pgraft.NotLeader, pgraft.NoQuorum, pgraft.FailedPrecondition):
        return False
    return True


def live(directory: Path) -> dict[str, object]:
    """Makes the cluster; returns what is in it."""
    keys = {f"colour-{i}": f"before the snapshot, {i}" for i in range(20)}
    with ExitStack() as stack:
        nodes = {
            i: stack.enter_context(
                pgraft.Node(
                    node_id=i,
                    data_dir=str(directory / f"n{i}"),
                    cluster_name="fixture",
                    listen_address=HOST.format(i),
                    listen_port=PORT,
                )
            )
            for i in (1, 2, 3, 4)
        }
        first = nodes[1]
        first.init()
        for key, value in keys.items():
            first.kv_put(key, value)
        while first.status()["last_index"] <= _ENTRIES_UNTIL_SNAPSHOT:
            first.log_append("x")
        for i in (2, 3, 4):
            first.add_node(HOST.format(i), PORT, node_id=i)
            wait_for(f"node {i} to vote", lambda i=i: is_voter(first, i))  # type: ignore[misc]
        first.kv_put("tail", "after the snapshot")
        first.kv_delete("colour-19")
        first.transfer_leadership(2)
        wait_for("node 1 to be removed", lambda: is_removed(nodes[2], 1))
        first.stop()
        nodes[2].log_append("the last word of its version")
        nodes[3].kv_put("binary", bytes(range(256)))
        keys |= {"tail": "after the snapshot"}
        del keys["colour-19"]
        applied = nodes[2].status()["applied_index"]
        rest = [nodes[i] for i in (2, 3, 4)]
        wait_for(
            "all to have applied all",
            lambda: all(n.status()["applied_index"] >= applied for n in rest),
        )
        return {
            "keys": keys,
            "applied_index": applied,
            "term": nodes[2].status()["term"],
            "members": [2, 3, 4],
        }


def main() -> None:
    """Writes it to the directory that is named."""
    if len(sys.argv) != 2:
        sys.exit("usage: write_fixture.py DIRECTORY")
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        state = live(Path(name))
        for i in (2, 3, 4):
            shutil.copytree(
                Path(name, f"n{i}"), target / f"n{i}", ignore=shutil.ignore_patterns(*_LEFT_OUT)
            )
    (target / "state.json").write_text(json.dumps(state, indent=2) + "\n")


if __name__ == "__main__":
    main()
