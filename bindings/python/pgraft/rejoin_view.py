"""Who rejoins or joins at the moment, as the leader sees it and as this machine's files say."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pgraft.cluster_view import ClusterView
from pgraft.progress import PHASE_TEXTS

Rejoin = Mapping[str, Any]
"""As `pgraft.progress.local_rejoin` has it; what the leader can't know is None."""


def rejoins_of(view: ClusterView, local: Rejoin | None) -> dict[int, Rejoin]:
    """By node; what the node's own files say goes before what the leader sees.

    Args:
        view: Of the cluster.
        local: Of the node on this machine.
    """
    found: dict[int, Rejoin] = {}
    leader = view.leader
    if leader is not None and leader.more is not None:
        for seen in leader.more["rejoins"]:
            found[int(seen["node_id"])] = _as_seen(view, leader.node_id, seen)
    if local is not None:
        found[int(local["node_id"])] = local
    return found


def _as_seen(view: ClusterView, leader_id: int, seen: Mapping[str, Any]) -> Rejoin:
    member = view.member(leader_id)
    known = bool(seen["bytes_total"])
    return {
        "node_id": seen["node_id"],
        "state": "working",
        "mode": None,
        "reason": None,
        "source_node": leader_id,
        "source": member.server if member else None,
        "phase": seen["phase"],
        "bytes_done": seen["bytes_done"] if known else None,
        "bytes_total": seen["bytes_total"] if known else None,
        "since": time.time() - seen["seconds"],
        "phase_since": None,
        "pid": None,
    }


def role_text(rejoin: Rejoin) -> str:
    """In the place of a role: "copying 28 %"."""
    if rejoin["phase"] is not None:
        return _phase(rejoin) + (f" {_percent(rejoin)} %" if rejoin["bytes_total"] else "")
    if rejoin["state"] == "catching_up":
        return "to catch up"
    return "rejoin due" if rejoin["state"] == "requested" else "rejoin interrupted"


def sentence(rejoin: Rejoin) -> str:
    """What an operator wants to know of it."""
    node = f"Node {rejoin['node_id']}"
    if rejoin["phase"] is None:
        return f"{node} {_waiting(rejoin)}"
    source = ""
    if rejoin["source"]:
        of = f"node {rejoin['source_node']}, " if rejoin["source_node"] else ""
        source = f" from {of}{rejoin['source']}"
    amount = ""
    if rejoin["bytes_total"]:
        done, total = size_text(rejoin["bytes_done"]), size_text(rejoin["bytes_total"])
        amount = f": {done} of {total} ({_percent(rejoin)} %)"
    since = time.strftime("%H:%M:%S", time.localtime(rejoin["since"]))
    return f"{node} is {_phase(rejoin)}{source}{amount}; at work since {since}."


def _waiting(rejoin: Rejoin) -> str:
    done = {"rewind": "rewound", "clone": "cloned"}[rejoin["mode"]]
    if rejoin["state"] == "catching_up":
        return f"was {done}, and has to catch up once its server runs."
    if rejoin["state"] == "requested":
        reason = f" ({rejoin['reason']})" if rejoin["reason"] else ""
        return f"is to be {done}{reason}: by pgraft run or pgraft prepare, before its next start."
    return "was being rewound or cloned, and nobody is at it now: pgraft run or prepare goes on."


def _phase(rejoin: Rejoin) -> str:
    return PHASE_TEXTS.get(rejoin["phase"], str(rejoin["phase"]))


def _percent(rejoin: Rejoin) -> int:
    return min(100, int(rejoin["bytes_done"]) * 100 // int(rejoin["bytes_total"]))


def size_text(count: int) -> str:
    """A number of bytes with a unit and, from a megabyte on, a digit behind the point."""
    if count < 1024:
        return f"{count} B"
    if count < 1 << 20:
        return f"{count >> 10} kB"
    unit, name = (1 << 20, "MB") if count < 1 << 30 else (1 << 30, "GB")
    return f"{count / unit:.1f} {name}"
