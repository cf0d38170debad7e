"""PROTOCOL.md, M8h: members that wait for a leader to rejoin from are needed to elect one."""

from __future__ import annotations

from functools import partial

from helpers import REJOIN_SECONDS, SETTINGS, rows, table_of
from pgraft import _pgraft, rejoin_request
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.owner import Owner
from pgraft.prepare import read_rejoin
from pgraft.status import NodeStatus, query
from stalled import Stalled

RUNS = "the server runs as it is until there is a leader"


def ask_for_a_rewind(node: LocalNode, source: LocalNode) -> None:
    """As a server does that has found itself diverged, before it stops."""
    rejoin = _pgraft.RejoinFile()
    rejoin.state = _pgraft.RejoinState.REQUESTED
    rejoin.mode = _pgraft.RejoinMode.REWIND
    rejoin.source_node = source.id
    rejoin.reason = "a test asks for it"
    _pgraft.write_rejoin(str(node.paths.data_dir), rejoin)
    Owner.of_directory(node.paths.data_dir).give(node.paths.data_dir / "rejoin")


def votes_only(node: LocalNode) -> NodeStatus | None:
    answer = query(node.raft)
    return answer if answer is not None and "votes only" in answer.phase else None


def says(node: LocalNode, offset: int, outcome: str) -> bool:
    with open(node.log_file, errors="replace") as log:
        log.seek(offset)
        return f"pgraft: {outcome}; catching up" in log.read()


def has_no_tail(cluster: LocalCluster, expected: list[int]) -> None:
    """One more row is acknowledged, and then all members that run have just these."""
    leader = cluster.leader(REJOIN_SECONDS).id
    with cluster.connect(leader) as connection:
        connection.execute("INSERT INTO t VALUES (%s)", [len(expected)])
    for node in cluster.nodes.values():
        if node.process is None:
            continue
        if node.id != leader:
            cluster.wait_for_standby(node.id, REJOIN_SECONDS)
        assert rows(cluster, node.id) == [*expected, len(expected)]


def test_members_that_wait_for_a_source_elect_one() -> None:
    with LocalCluster(3, settings=SETTINGS) as cluster:
        table_of(cluster)
        with cluster.connect() as connection:
            connection.execute("INSERT INTO t VALUES (0)")

        # Nobody else has what the waiting one may have acknowledged: it runs, and is counted. The
        # leader that was the reason is gone, so the request is withdrawn.
        first = cluster.leader()
        waiting, other = cluster.followers()
        for node in (waiting, other):
            cluster.wait_for_standby(node.id, REJOIN_SECONDS)
        waiting.stop()
        ask_for_a_rewind(waiting, first)
        first.kill("all")
        waiting.start()
        assert cluster.leader(REJOIN_SECONDS).id in (waiting.id, other.id)
        assert RUNS in waiting.log_file.read_text()
        has_no_tail(cluster, [0])
        assert read_rejoin(waiting.paths) is None
        first.start()
        has_no_tail(cluster, [0, 1])

        # A leader is killed with a tail of its own, and its successor while it waits. The third one
        # can be elected only with the vote of the first, and be its source only if it leads on.
        stalled = Stalled(cluster)
        lost = stalled.waiting("INSERT INTO t VALUES (-1)")
        dead = stalled.leader
        dead.kill("all")
        stalled.lose()
        successor = cluster.leader(REJOIN_SECONDS, exclude=[dead.id])
        lost.join()
        assert not lost.acknowledged
        third = next(n for n in cluster.nodes.values() if n not in (dead, successor))
        with cluster.connect(successor.id) as connection:
            connection.execute("INSERT INTO t VALUES (3)")
        cluster.wait_for_standby(third.id, REJOIN_SECONDS)
        assert rows(cluster, third.id) == [0, 1, 2, 3]
        third.stop()
        successor.kill("all")
        ask_for_a_rewind(dead, successor)
        dead.start()
        answer = wait_for(lambda: votes_only(dead), REJOIN_SECONDS, "the vote of who waits")
        assert answer.abstaining

        # Its process ends with the supervisor.
        dead.kill_supervisor()
        wait_for(lambda: query(dead.raft) is None, 60, "the voting process to end")
        dead.left = []

        offset = dead.log_file.stat().st_size
        dead.start()
        third.start()
        assert cluster.leader(REJOIN_SECONDS) is third
        wait_for(partial(says, dead, offset, "rewound"), REJOIN_SECONDS, "a rewind")
        cluster.wait_for_standby(dead.id, REJOIN_SECONDS)
        has_no_tail(cluster, [0, 1, 2, 3])

        # An operator has it cloned, with the leader that needs its vote as the only source.
        dead.stop()
        offset = dead.log_file.stat().st_size
        rejoin_request.request(dead.paths, "a test asks for it")
        dead.start()
        wait_for(partial(says, dead, offset, "cloned"), REJOIN_SECONDS, "a clone")
        cluster.wait_for_standby(dead.id, REJOIN_SECONDS)
        has_no_tail(cluster, [0, 1, 2, 3, 4])

        # And the third member comes back to the other two.
        successor.start()
        has_no_tail(cluster, [0, 1, 2, 3, 4, 5])
