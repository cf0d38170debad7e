"""A cluster put together from what its members answered, for the commands that show or change it.

The members don't answer at one moment, and some don't answer at all. What counts is the view of
the newest leader; without one, of whoever has applied most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pgraft.errors import CommandError, Exit
from pgraft.pg import format_lsn
from pgraft.status import NodeStatus, RaftAddress, discover, leader_of


@dataclass(frozen=True)
class MemberView:
    """A member as the newest view names it, with its own answer."""

    node_id: int
    name: str
    raft: RaftAddress
    host: str
    port: int
    voter: bool
    learner: bool
    leads: bool
    answer: NodeStatus | None
    wal: Mapping[str, Any] | None
    """What it told the others of its WAL last; None: they have not heard of it."""
    nosync: bool = False
    """Added as one that stays without a vote."""
    waits_for: str = ""
    """Why it has no vote yet, as the leader sees it."""

    @property
    def server(self) -> str:
        """Address of its PostgreSQL server."""
        return f"{self.host}:{self.port}"

    @property
    def title(self) -> str:
        """For messages: "node 2" and its name, when that says more."""
        plain = self.name in ("", f"node{self.node_id}")
        return f"node {self.node_id}" + ("" if plain else f" ({self.name})")

    @property
    def role(self) -> str:
        """What it is, in one word or two."""
        if self.leads:
            return "leader"
        if self.answer is None:
            return "no answer"
        if self.answer.abstaining:
            return "catching up"
        if self.answer.state == "follower" and self.learner:
            return "learner"
        return self.answer.state

    @property
    def priority(self) -> int | None:
        """Its `failover_priority`; None: it has not told it."""
        own = self.answer.priority if self.answer else None
        return int(self.wal["priority"]) if own is None and self.wal else own

    def end_lsn(self) -> int | None:
        """End of its WAL as far as anybody knows."""
        known = [self.answer.lsn if self.answer else 0, int(self.wal["lsn"]) if self.wal else 0]
        return max(known) or None


class ClusterView:
    """What is known of a cluster at one moment."""

    def __init__(self, answers: Mapping[RaftAddress, NodeStatus | None]) -> None:
        """Made of the answers of `discover`."""
        self.answers = dict(answers)
        self.nodes = _one_answer_a_node(answers.values())
        self.leader = leader_of(self.nodes)
        witnesses = [n for n in self.nodes if n.members]
        self.witness = self.leader or max(
            witnesses, key=lambda n: (n.term, int(n.raw["applied_index"])), default=None
        )
        self.members = self._members()

    @classmethod
    def look(cls, seeds: Iterable[RaftAddress], timeout: float) -> ClusterView:
        """Asks the seeds and every member that they know of."""
        return cls(discover(seeds, timeout))

    def again(self, timeout: float) -> ClusterView:
        """Asks the same nodes once more, and members that are new."""
        return ClusterView.look([*(m.raft for m in self.members), *self.answers], timeout)

    # --- members ---

    def _members(self) -> list[MemberView]:
        if self.witness is None:
            return []
        by_id = {node.node_id: node for node in self.nodes}
        found = []
        for entry in self.witness.members:
            member = entry["member"]
            node_id = int(member["id"])
            found.append(
                MemberView(
                    node_id=node_id,
                    name=str(member["name"]),
                    raft=RaftAddress(str(member["address"]), int(member["port"])),
                    host=str(member["pg_host"]),
                    port=int(member["pg_port"]),
                    voter=bool(entry["voter"]),
                    learner=bool(entry["learner"]),
                    leads=self.leader is not None and self.leader.node_id == node_id,
                    answer=by_id.get(node_id),
                    wal=entry["wal"],
                    nosync=bool(member["nosync"]),
                    waits_for=str(entry["waits_for"]),
                )
            )
        return sorted(found, key=lambda m: m.node_id)

    @property
    def voters(self) -> list[MemberView]:
        """Members whose vote counts."""
        return [m for m in self.members if m.voter]

    @property
    def missing(self) -> list[MemberView]:
        """Voters that don't answer."""
        return [m for m in self.voters if m.answer is None]

    @property
    def majority(self) -> int:
        """How many voters it takes to elect a leader and to acknowledge a commit."""
        return len(self.voters) // 2 + 1

    def member(self, node_id: int) -> MemberView | None:
        """A member by its number."""
        return next((m for m in self.members if m.node_id == node_id), None)

    def find(self, text: str) -> MemberView:
        """A member by its number, its name or its server's address.

        Raises:
            CommandError: There is no such member; the message lists them.
        """
        for m in self.members:
            if text in (str(m.node_id), m.name, m.server, str(m.raft)):
                return m
        known = ", ".join(f"{m.node_id} ({m.name}, {m.server})" for m in self.members)
        raise CommandError(
            f'there is no member "{text}"',
            f"The members are {known}. Name one by its number, name or address.",
            Exit.USAGE,
        )

    def behind(self, member: MemberView) -> int | None:
        """Bytes of WAL that a member lacks of the leader's; None: not known."""
        end = member.end_lsn()
        if self.leader is None or end is None:
            return None
        return max(0, self.leader.lsn - end)

    # --- the leader ---

    def need_member_answer(self) -> NodeStatus:
        """The newest view.

        Raises:
            CommandError: Nobody that belongs to a cluster answered.
        """
        if self.witness is not None:
            return self.witness
        if self.nodes:
            said = ", ".join(f"{n.asked}: {n.state}" for n in self.nodes)
            raise CommandError(
                f"no member of a cluster answered ({said})",
                'A new node becomes a member by "SELECT pgraft_init()" on the first one, and by '
                '"pgraft add" for each further one.',
                Exit.NO_LEADER,
            )
        asked = ", ".join(str(address) for address in self.answers)
        raise CommandError(
            f"nobody answers at {asked}",
            "Name a member that runs with --host and its Raft port (not PostgreSQL's) with --port, "
            "or the data directory of a node on this machine with -D.",
            Exit.NO_LEADER,
        )

    def need_leader(self) -> MemberView:
        """The member that leads and accepts writes.

        Raises:
            CommandError: There is none; the message says what each member answers.
        """
        self.need_member_answer()
        for m in self.members:
            if m.leads:
                return m
        said = "; ".join(f"{m.title}: {self.says(m)}" for m in self.members)
        lacking = len(self.missing) > len(self.voters) - self.majority
        raise CommandError(
            f"no member leads and accepts writes ({said})",
            f"A majority of the voters ({self.majority} of {len(self.voters)}) must run and reach "
            "each other. Start those that don't answer."
            if lacking
            else 'They may be electing one: look again with "pgraft status --watch".',
            Exit.NO_LEADER,
        )

    def any_member(self) -> MemberView:
        """The leader or, without one, a member that answers: for what each of them can be asked.

        Raises:
            CommandError: Nobody that belongs to a cluster answered.
        """
        self.need_member_answer()
        answering = [m for m in self.members if m.answer is not None]
        leaders = [m for m in answering if m.leads]
        return [*leaders, *answering][0] if answering else self.need_leader()

    def says(self, member: MemberView) -> str:
        """What a member answers, in a few words."""
        if member.answer is None:
            return "no answer"
        parts = [member.answer.state, member.answer.phase, f"WAL {format_lsn(member.answer.lsn)}"]
        return ", ".join(p for p in parts if p)


def _one_answer_a_node(answers: Iterable[NodeStatus | None]) -> list[NodeStatus]:
    """A node that was asked by two of its addresses counts once."""
    found: dict[int, NodeStatus] = {}
    for answer in answers:
        if answer is not None:
            before = found.get(answer.node_id)
            if before is None or answer.term >= before.term:
                found[answer.node_id] = answer
    return [found[node_id] for node_id in sorted(found)]
