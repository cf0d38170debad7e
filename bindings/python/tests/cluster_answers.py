"""Answers of members that never ran, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from pgraft.cluster_view import ClusterView
from pgraft.status import NodeStatus, RaftAddress

MB = 1 << 20
RAFT_PORT = 8001


def address(node_id: int) -> RaftAddress:
    return RaftAddress(f"10.0.0.{node_id}", RAFT_PORT)


def member(node_id: int, **changes: Any) -> dict[str, Any]:
    """An entry of `members`: a voter that streams."""
    wal = {"in_recovery": True, "lsn": 10 * MB, "replayed_lsn": 10 * MB, "priority": 100}
    entry = {
        "member": {
            "id": node_id,
            "incarnation": 1,
            "name": f"node{node_id}",
            "address": f"10.0.0.{node_id}",
            "port": RAFT_PORT,
            "pg_host": f"10.0.0.{node_id}",
            "pg_port": 5432,
            "nosync": False,
        },
        "voter": True,
        "learner": False,
        "answering": True,
        "match_index": 9,
        "flush_lsn": 10 * MB,
        "wal": wal,
        "waits_for": "",
    }
    return {**entry, **changes}


def more(**changes: Any) -> dict[str, Any]:
    """What versions from 0.2.0 on answer besides."""
    usual = {
        "fenced": False,
        "lease_ms": 0,
        "paused_until_ms": 0,
        "paused_by": "",
        "switchover_to": 0,
        "idle_ms": {},
        "rejoins": [],
    }
    return {**usual, **changes}


def answer(node_id: int, members: list[dict[str, Any]], **changes: Any) -> NodeStatus:
    """What a follower of node 1 answers; node 1 leads."""
    leads = node_id == 1
    raw: dict[str, Any] = {
        "identity": {"cluster_name": "pgraft", "node_id": node_id, "version": "0.2.0"},
        "state": "leader" if leads else "follower",
        "term": 5,
        "leader_id": 1,
        "writable": leads,
        "applied_index": 9,
        "timeline": 3,
        "lsn": 10 * MB,
        "in_recovery": not leads,
        "abstaining": False,
        "phase": "",
        "change_waits_for": "",
        "more": more(),
        "promoted_timeline": 3,
        "members": members,
        "promotions": [
            {"term": 2, "node_id": 9, "timeline": 2, "switch_lsn": MB},
            {"term": 5, "node_id": 1, "timeline": 3, "switch_lsn": 2 * MB},
        ],
    }
    return NodeStatus(address(node_id), {**raw, **changes})


def view(*answers: NodeStatus | None, silent: tuple[int, ...] = ()) -> ClusterView:
    """A view of these answers, and of members that did not answer."""
    known = {a.asked: a for a in answers if a is not None}
    return ClusterView({**known, **{address(i): None for i in silent}})


def three(**changes: Any) -> ClusterView:
    """A cluster of three that is well; `changes` are node 3's."""
    members = [member(i) for i in (1, 2, 3)]
    return view(answer(1, members), answer(2, members), answer(3, members, **changes))
