"""The commands of interaction scenarios, on a group of scripted nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pgraft
from pgraft import ConfChangeTransition, EntryType, MessageType, Role

from .datadriven import Case
from .raft_group import RaftGroup, is_of_type

NO_LIMIT = 2**64 - 1
ELECTION_TICKS = 3
OPERATIONS = {
    "v": pgraft.ConfChangeType.ADD_VOTER,
    "l": pgraft.ConfChangeType.ADD_LEARNER,
    "r": pgraft.ConfChangeType.REMOVE,
    "u": pgraft.ConfChangeType.UPDATE,
}
ROLE_NAMES = {
    Role.FOLLOWER: "Follower",
    Role.PRE_CANDIDATE: "PreCandidate",
    Role.CANDIDATE: "Candidate",
    Role.LEADER: "Leader",
}
MESSAGE_TYPES = {"MsgApp": MessageType.APPEND}


def parse_changes(text: str) -> list[pgraft.ConfChangeSingle]:
    """Operations as "v1 l2 r3"."""
    return [pgraft.ConfChangeSingle(OPERATIONS[word[0]], int(word[1:])) for word in text.split()]


def describe_entry(entry: pgraft.Entry) -> str:
    """'term/index type data'."""
    where = f"{entry.term}/{entry.index}"
    if entry.type is EntryType.NORMAL:
        text = entry.data.decode().replace("\\", "\\\\").replace('"', '\\"')
        return f'{where} EntryNormal "{text}"'
    letters = {kind: letter for letter, kind in OPERATIONS.items()}
    changes = pgraft.ConfChange.decode(entry.data).changes
    return " ".join([where, "EntryConfChange", *(f"{letters[c.type]}{c.node_id}" for c in changes)])


def describe_ids(ids: Iterable[int]) -> str:
    return "(" + " ".join(str(i) for i in ids) + ")"


def describe_conf(conf: pgraft.ConfState) -> str:
    text = f"voters={describe_ids(conf.voters)}"
    if conf.voters_outgoing:
        text += f"&&{describe_ids(conf.voters_outgoing)}"
    if conf.learners:
        text += f" learners={describe_ids(conf.learners)}"
    if conf.learners_next:
        text += f" learners_next={describe_ids(conf.learners_next)}"
    return text


@dataclass(frozen=True)
class State:
    """What is compared of a node."""

    role: str
    term: int
    vote: int
    commit: int
    applied: int
    leader: int
    first_index: int
    log: tuple[str, ...]
    data: str
    conf: str


class Interaction(RaftGroup):
    """A group that does what a case asks for."""

    def run(self, case: Case) -> list[str]:
        """Does a command; what it prints, for those whose output counts."""
        self.refused.clear()
        name = "do_" + case.command.replace("-", "_")
        handler: Callable[[Case], list[str] | None] = getattr(self, name)
        return handler(case) or []

    def log(self, i: int) -> list[str]:
        storage = self.members[i].storage
        entries = storage.entries(storage.first_index(), storage.last_index() + 1)
        return [describe_entry(entry) for entry in entries]

    def state(self, i: int) -> State:
        member = self.members[i]
        status = member.node.status()
        return State(
            ROLE_NAMES[status.role],
            status.term,
            status.vote,
            status.commit,
            status.applied,
            status.leader,
            member.storage.first_index(),
            tuple(self.log(i)),
            member.data.decode(),
            describe_conf(status.conf),
        )

    def process_ready(self, i: int) -> None:
        """The recorded runs send vote requests at once, here a candidate's own vote must be durable
        first. Its disk is fast, so that the requests are in flight at the same time."""
        super().process_ready(i)
        appends = self.members[i].appends
        if any(r.type is MessageType.VOTE for work in appends for r in work.responses):
            while self.process_append(i):
                pass

    def do_log_level(self, case: Case) -> None:
        pass

    def do_status(self, case: Case) -> None:
        pass  # next indexes and what is in flight are the implementation's own

    def do_add_nodes(self, case: Case) -> None:
        conf = pgraft.ConfState(voters=case.numbers("voters"), learners=case.numbers("learners"))
        index = int(case.option("index", "0"))
        lease_based = case.option("read-only", "safe") == "lease-based"
        for _ in range(case.ids[0]):
            self.add(
                len(self.members) + 1,
                pgraft.Snapshot(index, 1, conf) if index else None,
                election_tick=ELECTION_TICKS,
                heartbeat_tick=1,
                max_size_per_msg=NO_LIMIT,
                max_inflight_msgs=int(case.option("inflight", str(NO_LIMIT))),
                max_uncommitted_size=0,
                max_committed_size_per_ready=int(case.option("max-committed-size-per-ready", "0")),
                pre_vote=case.flag("prevote"),
                check_quorum=case.flag("checkquorum"),
                read_only=pgraft.ReadOnly.LEASE_BASED if lease_based else pgraft.ReadOnly.SAFE,
                async_storage_writes=case.flag("async-storage-writes"),
                disable_conf_change_validation=case.flag("disable-conf-change-validation"),
                step_down_on_removal=case.flag("step-down-on-removal"),
            )

    def do_campaign(self, case: Case) -> None:
        self.attempt(self[case.ids[0]].campaign)

    def do_tick_heartbeat(self, case: Case) -> None:
        self[case.ids[0]].tick()

    def do_tick_election(self, case: Case) -> None:
        for _ in range(ELECTION_TICKS):
            self[case.ids[0]].tick()

    def do_set_randomized_election_timeout(self, case: Case) -> None:
        self[case.ids[0]].set_randomized_election_timeout(int(case.option("timeout", "")))

    def do_forget_leader(self, case: Case) -> None:
        self[case.ids[0]].forget_leader()

    def do_report_unreachable(self, case: Case) -> None:
        self[case.ids[0]].report_unreachable(case.ids[1])

    def do_transfer_leadership(self, case: Case) -> None:
        leader, to = int(case.option("from", "")), int(case.option("to", ""))
        self.attempt(lambda: self[leader].transfer_leader(to))

    def do_propose(self, case: Case) -> None:
        i, data = case.words
        self.attempt(lambda: self[int(i)].propose(data.encode()))

    def do_propose_conf_change(self, case: Case) -> None:
        transition = ConfChangeTransition[case.option("transition", "auto").upper()]
        changes = parse_changes(" ".join(case.input))
        change = pgraft.ConfChange(changes, transition=transition)
        self.attempt(lambda: self[case.ids[0]].propose_conf_change(change))

    def do_process_ready(self, case: Case) -> None:
        for i in case.ids:
            self.process_ready(i)

    def do_process_append_thread(self, case: Case) -> None:
        for i in case.ids:
            self.process_append(i)

    def do_process_apply_thread(self, case: Case) -> None:
        for i in case.ids:
            self.process_apply(i)

    def do_deliver_msgs(self, case: Case) -> None:
        kinds = [MESSAGE_TYPES[name] for name in case.options.get("type", ())] or MessageType
        wanted = is_of_type(*kinds)
        for i in case.ids:
            self.deliver(i, wanted)
        lost = case.numbers("drop")
        self.drop(lambda m: m.to in lost and wanted(m))

    def do_stabilize(self, case: Case) -> None:
        self.settle(case.ids)

    def do_compact(self, case: Case) -> None:
        i, index = case.ids
        self.members[i].storage.compact(index)

    def do_send_snapshot(self, case: Case) -> None:
        i, to = case.ids
        snapshot = self.members[i].storage.snapshot()
        self.in_flight.append(
            pgraft.Message(
                MessageType.SNAPSHOT, from_=i, to=to, term=self[i].term, snapshot=snapshot
            )
        )

    def do_raft_log(self, case: Case) -> list[str]:
        i = case.ids[0]
        storage = self.members[i].storage
        first, last = storage.first_index(), storage.last_index()
        return self.log(i) or [f"log is empty: first index={first}, last index={last}"]

    def do_raft_state(self, case: Case) -> list[str]:
        lines = []
        for i, member in self.members.items():
            status = member.node.status()
            votes = i in status.conf.voters + status.conf.voters_outgoing
            lines.append(
                f"{i}: State{ROLE_NAMES[status.role]} ({'Voter' if votes else 'Non-Voter'})"
                f" Term:{status.term} Lead:{status.leader}"
            )
        return lines
