"""The promotions of a cluster, from its replicated state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from pgraft.cluster_view import ClusterView
from pgraft.errors import CommandError
from pgraft.leader_sql import Login


@dataclass(frozen=True)
class Promotion:
    """A completed one."""

    term: int
    node_id: int
    leader: str
    """The node by its present name, or its number when it is no member any more."""
    timeline: int
    switch_lsn: int
    """Where its timeline begins; 0: it is the first."""
    time: datetime | None
    """When the leader's history file was written."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "term": self.term,
            "node_id": self.node_id,
            "timeline": self.timeline,
            "switch_lsn": self.switch_lsn,
            "time": self.time.isoformat() if self.time else None,
        }


def promotions_of(view: ClusterView, login: Login) -> tuple[list[Promotion], str]:
    """All promotions that the members keep, oldest first, and why their times are missing if so.

    Raises:
        CommandError: Nobody answers.
    """
    newest = view.need_member_answer()
    times, why = _times(view, login)
    found = []
    for entry in newest.raw["promotions"]:
        node_id, timeline = int(entry["node_id"]), int(entry["timeline"])
        member = view.member(node_id)
        leader = member.title if member else f"node {node_id} (no member any more)"
        found.append(
            Promotion(
                term=int(entry["term"]),
                node_id=node_id,
                leader=leader,
                timeline=timeline,
                switch_lsn=int(entry["switch_lsn"]),
                time=times.get(timeline),
            )
        )
    return found, why


def _times(view: ClusterView, login: Login) -> tuple[dict[int, datetime], str]:
    """When the history file of each timeline was written on the leader."""
    leader = next((m for m in view.members if m.leads), None)
    if leader is None:
        return {}, "no member leads and accepts writes"
    try:
        with login.connect(leader, ask=False) as connection:
            rows = connection.execute(
                "SELECT name, modification FROM pg_ls_waldir() WHERE name LIKE '%.history'"
            ).fetchall()
    except CommandError as error:
        return {}, str(error)
    except psycopg.Error as error:
        return {}, f"{leader.title} refused: {error.diag.message_primary or error}"
    return {int(name[:8], 16): modified for name, modified in rows}, ""
