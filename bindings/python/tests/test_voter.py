"""The vote of a member whose data directory is being rewound or cloned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pgraft
import pytest
from pgraft import _pgraft
from pgraft.local_cluster import wait_for
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.status import RaftAddress, query
from pgraft.supervisor import children
from pgraft.voter import voting


def say(message: str) -> None:
    print(message)


def owner() -> Owner:
    uid = os.getuid()
    return Owner(uid, os.getgid(), "tester", "/", (), switch=False)


class Trio:
    """Three members; the third one is down, and is asked to rejoin."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.nodes = [
            stack.enter_context(pgraft.Node(node_id=i, data_dir=str(directory / f"n{i}")))
            for i in (1, 2, 3)
        ]
        self.nodes[0].init()
        for node in self.nodes[1:]:
            self.nodes[0].add_node("127.0.0.1", node.port, node_id=node.node_id)
            wait_for(partial(self.votes, node.node_id), 60, f"node {node.node_id} to vote")
        third = self.nodes[2]
        self.port = third.port
        third.stop()
        self.paths = NodePaths.of(directory / "data", directory / "n3")
        self.paths.node_conf.write_text(
            f"pgraft.listen_address = '127.0.0.1'\npgraft.listen_port = {self.port}\n"
            "pgraft.election_timeout = '1s'\n"
        )

    def votes(self, node_id: int) -> bool:
        members = self.nodes[0].status()["members"]
        return any(m["voter"] and m["member"]["id"] == node_id for m in members)

    def write(self, state: _pgraft.RejoinState) -> None:
        rejoin = _pgraft.RejoinFile()
        rejoin.state = state
        _pgraft.write_rejoin(str(self.paths.data_dir), rejoin)

    def led(self) -> bool:
        return self.nodes[1].status()["state"] == "leader"


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    with ExitStack() as stack:
        yield Trio(tmp_path, stack)


@pytest.mark.parametrize("state", ["REQUESTED", "WORKING"])
def test_it_makes_a_majority(trio: Trio, state: str) -> None:
    trio.write(getattr(_pgraft.RejoinState, state))
    with voting(trio.paths, owner(), say):
        address = RaftAddress("127.0.0.1", trio.port)
        answer = wait_for(lambda: query(address), 60, "the voter to answer")
        assert answer.abstaining
        trio.nodes[0].stop()
        wait_for(trio.led, 60, "node 2 to be elected")
        answer = wait_for(lambda: query(address), 60, "the voter to answer")
        assert answer.leader_id == 2
        assert "votes only" in answer.phase
    assert children() == []
    assert _pgraft.read_rejoin(str(trio.paths.data_dir)).state == getattr(
        _pgraft.RejoinState, state
    )
    # The server has the log and the port for itself again.
    with pgraft.Node(
        node_id=3,
        data_dir=str(trio.paths.data_dir),
        listen_port=trio.port,
        system_identifier=0,
        without_data=True,
    ):
        pass


def test_only_while_a_rejoin_is_to_be_done(trio: Trio) -> None:
    node = pgraft.Node(node_id=3, data_dir=str(trio.paths.data_dir), without_data=True)
    with pytest.raises(_pgraft.Error, match="the server itself has to vote"):
        node.start()
    trio.write(_pgraft.RejoinState.CATCHING_UP)
    with pytest.raises(_pgraft.Error, match="the server itself has to vote"):
        node.start()


def test_two_processes_never_vote_for_one_member(trio: Trio) -> None:
    trio.write(_pgraft.RejoinState.WORKING)
    with voting(trio.paths, owner(), say):
        address = RaftAddress("127.0.0.1", trio.port)
        wait_for(lambda: query(address), 60, "the voter to answer")
        second = pgraft.Node(node_id=3, data_dir=str(trio.paths.data_dir), without_data=True)
        with pytest.raises(_pgraft.Error, match="lock"):
            second.start()
