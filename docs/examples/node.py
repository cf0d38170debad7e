"""Three members without a database: a key-value store that survives the loss of any of them."""

import tempfile
import time
from contextlib import ExitStack

import pgraft


def wait_for_voters(node: pgraft.Node, count: int) -> None:
    """A new member votes once it has caught up."""
    deadline = time.monotonic() + 60
    while sum(member["voter"] for member in node.status()["members"]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read_barrier(node: pgraft.Node) -> None:
    """Until the next leader is elected, who asks is told how many members answer."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return node.read_barrier()
        except (pgraft.NoQuorum, pgraft.Timeout):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


with tempfile.TemporaryDirectory() as base, ExitStack() as stack:
    nodes = [stack.enter_context(pgraft.Node(node_id=i, data_dir=f"{base}/{i}")) for i in (1, 2, 3)]
    nodes[0].init()
    for count, node in enumerate(nodes[1:], start=2):
        nodes[0].add_node("127.0.0.1", node.port, node_id=node.node_id)
        wait_for_voters(nodes[0], count)

    nodes[1].kv_put("colour", "blue")  # through any member
    nodes[0].stop()  # the leader
    read_barrier(nodes[2])  # what is read after it is not old
    assert nodes[2].kv_get("colour") == b"blue"
    print("colour is blue without node 1")
