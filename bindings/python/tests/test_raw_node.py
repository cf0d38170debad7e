"""`pgraft.RawNode`: what scripts can do with it, and that none of them can stop the interpreter."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pgraft
import pytest
from pgraft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfState,
    Entry,
    HardState,
    MemoryStorage,
    Message,
    MessageType,
    RawNode,
    Role,
    Snapshot,
    Switches,
)

from .interaction import parse_changes
from .raft_group import RaftGroup

TRIO = [1, 2, 3]
untyped: Any = pgraft  # for calls that the types exclude
PAGE = Path(__file__).parents[3] / "docs" / "raw_node.md"


@pytest.fixture(params=[False, True], ids=["batches", "asynchronous"])
def trio(request: pytest.FixtureRequest) -> RaftGroup:
    """Three voters; the first one leads."""
    group = RaftGroup.of(TRIO, async_storage_writes=request.param)
    group.elect(1)
    return group


def data(group: RaftGroup) -> list[bytes]:
    return [member.data for member in group.members.values()]


def tick(group: RaftGroup, ids: list[int], ticks: int, lost: int = 0) -> None:
    """Time passes for these; what goes to or comes from `lost` never arrives."""
    for _ in range(ticks):
        for i in ids:
            group[i].tick()
        group.settle(ids)
        group.drop(lambda m: lost in (m.from_, m.to))


def change(text: str) -> ConfChange:
    return ConfChange(parse_changes(text))


# --- a cluster


def test_a_proposal_through_a_follower_is_applied_everywhere(trio: RaftGroup) -> None:
    trio[2].propose(b"a")
    trio.settle()
    assert data(trio) == [b"a"] * 3
    assert [trio[i].leader for i in TRIO] == [1] * 3
    assert not trio.violations


def test_another_is_elected_when_the_leader_is_silent_and_its_lone_entries_are_lost(
    trio: RaftGroup,
) -> None:
    trio[1].propose(b"lone")
    tick(trio, [2, 3], 40, lost=1)
    leader = next(i for i in (2, 3) if trio[i].role is Role.LEADER)
    trio[leader].propose(b"b")
    trio.settle([2, 3])
    assert [m.data for m in trio.members.values()] == [b"", b"b", b"b"]
    trio.drop()
    tick(trio, TRIO, 3)
    assert data(trio) == [b"b"] * 3
    assert not trio.violations


def test_members_are_added_promoted_and_removed(trio: RaftGroup) -> None:
    trio.add(4, async_storage_writes=trio.members[1].is_asynchronous)
    for text, voters, learners in (
        ("l4", (1, 2, 3), (4,)),
        ("v4", (1, 2, 3, 4), ()),
        ("r2", (1, 3, 4), ()),
    ):
        trio[1].propose_conf_change(change(text))
        trio.settle()
        conf = trio[1].status().conf
        assert (conf.voters, conf.learners) == (voters, learners)
    trio[1].propose(b"a")
    trio.settle()
    assert trio.members[4].data == b"a"
    assert trio.members[2].data == b""


def test_two_members_are_replaced_at_once_through_a_joint_configuration(trio: RaftGroup) -> None:
    for i in (4, 5):
        trio.add(i, async_storage_writes=trio.members[1].is_asynchronous)
    changes = parse_changes("r2 r3 v4 v5")
    trio[1].propose_conf_change(ConfChange(changes, transition=ConfChangeTransition.EXPLICIT))
    trio.settle()
    joint = trio[4].status().conf
    assert joint == ConfState([1, 4, 5], voters_outgoing=TRIO)
    trio[1].propose_conf_change(ConfChange())
    trio.settle()
    assert trio[1].status().conf == ConfState([1, 4, 5])


def test_leadership_is_transferred(trio: RaftGroup) -> None:
    trio[1].transfer_leader(3)
    trio.settle()
    assert [trio[i].role for i in TRIO] == [Role.FOLLOWER, Role.FOLLOWER, Role.LEADER]
    assert trio[1].leader == 3


def test_a_read_is_answered_with_the_commit_index_wherever_it_is_asked(trio: RaftGroup) -> None:
    trio[1].propose(b"a")
    trio.settle()
    for i in TRIO:
        trio[i].read_index(b"question")
        trio.settle()
        (read,) = trio.members[i].reads
        assert (read.index, read.context) == (trio[1].status().commit, b"question")


def test_a_follower_behind_the_log_gets_a_snapshot(trio: RaftGroup) -> None:
    for word in (b"a", b"b"):
        trio[1].propose(word)
        trio.settle([1, 2])
    trio.drop()
    applied = trio[1].status().applied
    trio.members[1].storage.compact(applied)
    tick(trio, TRIO, 2)
    assert trio.members[3].storage.snapshot().data == b"ab"
    assert trio[3].status().applied == applied


def test_a_restart_keeps_what_was_stored(trio: RaftGroup) -> None:
    trio[1].propose(b"a")
    trio.settle()
    term = trio[3].term
    trio.restart(3)
    assert trio[3].term == term
    tick(trio, TRIO, 2)
    assert data(trio) == [b"a"] * 3
    assert not trio.violations


def test_the_same_calls_give_the_same_result() -> None:
    def run(seed: int) -> list[str]:
        group = RaftGroup.of(TRIO, seed=seed)
        tick(group, TRIO, 40)
        return [repr(group[i].status()) for i in TRIO]

    assert run(1) == run(1)
    assert len({tuple(run(seed)) for seed in range(10)}) > 1


# --- asynchronous storage


def test_a_leader_commits_while_its_own_disk_still_writes() -> None:
    group = RaftGroup.of(TRIO, async_storage_writes=True)
    group.elect(1)
    group[1].propose(b"a")
    group.process_ready(1)
    group.settle([2, 3])
    while group.deliver(1):
        group.process_ready(1)
        group.settle([2, 3])
    assert data(group) == [b"", b"a", b"a"]
    group.settle()
    assert data(group) == [b"a"] * 3


def test_a_write_that_a_crash_lost_was_not_acknowledged() -> None:
    group = RaftGroup.of(TRIO, async_storage_writes=True)
    group.elect(1)
    group[1].propose(b"a")
    group.process_ready(1)
    group.drop(lambda m: m.to == 3)
    group.deliver(2)
    group.process_ready(2)
    assert group.members[2].appends
    group.restart(2)  # before the write is done
    group.settle()
    assert data(group) == [b"", b"", b""]
    tick(group, TRIO, 3)
    assert data(group) == [b"a"] * 3
    assert not group.violations


def test_votes_and_vote_requests_wait_for_the_disk() -> None:
    group = RaftGroup.of(TRIO, async_storage_writes=True, pre_vote=False)
    group[1].campaign()
    group.process_ready(1)
    assert not group.in_flight
    group.process_append(1)
    assert {m.type for m in group.in_flight} == {MessageType.VOTE, MessageType.VOTE_RESPONSE}
    group.deliver(2)
    group.process_ready(2)
    assert not any(m.from_ == 2 for m in group.in_flight)
    group.process_append(2)
    assert group.members[2].storage.hard_state() == HardState(term=1, vote=1, commit=1)
    assert any(m.from_ == 2 and m.type is MessageType.VOTE_RESPONSE for m in group.in_flight)


# --- rules: what goes wrong without each


def two_candidates(rules: Switches) -> RaftGroup:
    """Nodes 1 and 2 don't hear each other and campaign; node 3 hears both."""
    group = RaftGroup.of(TRIO, rules=rules, pre_vote=False, check_quorum=False)
    for i in (1, 2):
        group[i].campaign()
        group.process_ready(i)
    group.drop(lambda m: {m.from_, m.to} == {1, 2})
    group.deliver(3)
    group.process_ready(3)
    for i in (1, 2):
        group.deliver(i)
    return group


def a_stale_candidate(rules: Switches) -> RaftGroup:
    """Node 3 misses an entry that nodes 1 and 2 commit, and is told to campaign."""
    group = RaftGroup.of(TRIO, rules=rules, pre_vote=False, check_quorum=False)
    group.elect(1)
    group[1].propose(b"a")
    group.settle([1, 2])
    group.drop()
    group[3].campaign()
    group.settle([2, 3])
    return group


def an_append_that_is_not_committed(rules: Switches) -> RaftGroup:
    """Node 2 alone gets an entry of leader 1; the others elect node 3, which writes another."""
    group = RaftGroup.of([1, 2, 3, 4, 5], rules=rules, pre_vote=False, check_quorum=False)
    group.elect(1)
    group[1].propose(b"a")
    group.process_ready(1)
    group.deliver(2)
    group.settle([2])
    group.drop()
    group[3].campaign()
    group.settle([3, 4, 5])
    group[3].propose(b"b")
    group.settle([3, 4, 5])
    return group


def test_two_candidates_are_not_both_elected_unless_a_node_votes_twice() -> None:
    assert not two_candidates(Switches()).violations
    assert two_candidates(Switches(one_vote_a_term=False)).violations == ["nodes 1 and 2 lead 1"]


def test_a_stale_candidate_is_not_elected_unless_logs_are_not_compared() -> None:
    assert a_stale_candidate(Switches())[3].role is Role.CANDIDATE
    found = a_stale_candidate(Switches(complete_log=False)).violations
    assert any("applied another entry" in violation for violation in found)


def test_servers_apply_the_same_unless_they_do_not_wait_for_the_commit() -> None:
    assert not an_append_that_is_not_committed(Switches()).violations
    found = an_append_that_is_not_committed(Switches(apply_committed=False)).violations
    assert any("applied another entry" in violation for violation in found)


@pytest.mark.parametrize(("read_quorum", "answers"), [(True, 0), (False, 1)])
def test_a_leader_that_was_replaced_answers_no_reads_unless_it_does_not_ask(
    read_quorum: bool, answers: int
) -> None:
    group = RaftGroup.of(TRIO, check_quorum=False, rules=Switches(read_quorum=read_quorum))
    group.elect(1)
    group[2].campaign()
    group.settle([2, 3])
    group[2].propose(b"a")
    group.settle([2, 3])
    group.drop()
    group[1].read_index(b"question")
    group.settle([1])
    reads = group.members[1].reads
    assert len(reads) == answers
    assert all(read.index < group[2].status().commit for read in reads)  # stale


# --- wrong use


def leader() -> tuple[RawNode, MemoryStorage]:
    """A sole voter that leads, at index 2, with a ready that is dealt with."""
    group = RaftGroup.of([1])
    group.elect(1)
    return group[1], group.members[1].storage


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda n, _: n.advance(), pgraft.FailedPrecondition, "call it first"),
        (lambda n, _: (n.ready(), n.ready()), pgraft.FailedPrecondition, "advance\\(\\) first"),
        (
            lambda n, _: (n.propose(b"a"), n.ready(), n.advance()),
            pgraft.FailedPrecondition,
            "append\\(\\) them before",
        ),
        (
            lambda n, _: n.complete(Message(MessageType.STORAGE_APPEND_RESPONSE, to=1)),
            pgraft.FailedPrecondition,
            "async_storage_writes",
        ),
        (
            lambda n, _: n.step(Message(MessageType.STORAGE_APPEND, to=1)),
            pgraft.InvalidArgument,
            "for the storage",
        ),
        (
            lambda n, _: n.step(Message(MessageType.APPEND, from_=2, to=3)),
            pgraft.Mismatch,
            "for node 3",
        ),
        (
            lambda n, _: n.step(Message(MessageType.APPEND_RESPONSE, from_=9, term=1)),
            pgraft.NotFound,
            "node 9",
        ),
        (lambda n, _: n.transfer_leader(9), pgraft.NotFound, "node 9"),
        (lambda n, _: n.propose_conf_change(change("r1")), pgraft.InvalidArgument, "all voters"),
        (lambda n, _: n.set_priority(101), pgraft.InvalidArgument, "0 to 100"),
        (lambda n, _: n.set_randomized_election_timeout(0), pgraft.InvalidArgument, "one tick"),
        (lambda n, _: n.propose("text"), TypeError, "bytes"),
        (lambda _, s: s.append([Entry(9, 1)]), pgraft.InvalidArgument, "gap"),
        (lambda _, s: s.append([Entry(3, 1), Entry(5, 1)]), pgraft.InvalidArgument, "expected"),
        (lambda _, s: s.append([Entry(1, 1)]), pgraft.InvalidArgument, "compacted"),
        (lambda _, s: s.append([Entry(2, 9)]), pgraft.InvalidArgument, "covered"),
        (lambda _, s: s.compact(3), pgraft.InvalidArgument, "create_snapshot"),
        (
            lambda _, s: s.create_snapshot(3, ConfState([1])),
            pgraft.InvalidArgument,
            "commit index 2",
        ),
        (lambda _, s: s.apply_snapshot(Snapshot(2, 1)), pgraft.InvalidArgument, "behind"),
        (lambda _, s: s.apply_snapshot(Snapshot()), pgraft.InvalidArgument, "index 0"),
        (lambda _, s: s.term(3), pgraft.NotFound, "not there"),
        (lambda _, s: s.entries(1, 3), pgraft.NotFound, "compacted"),
        (lambda _, s: RawNode(0, s), pgraft.InvalidArgument, "must not be 0"),
        (lambda _, s: RawNode(1, s, election_tick=1), pgraft.InvalidArgument, "heartbeat_ticks"),
        (lambda _, s: RawNode(1, s, applied=9), pgraft.Corruption, "applied index 9"),
        (lambda *_: untyped.RawNode(1, None), TypeError, "storage"),
        (lambda *_: untyped.Switches(no_such_rule=False), TypeError, "no_such_rule"),
        (lambda *_: ConfChange.decode(b"\0nonsense"), pgraft.Corruption, "version"),
        (lambda *_: Entry(-1), TypeError, "index"),
        (lambda *_: Entry(1).replace(no_such_field=2), TypeError, "no_such_field"),
    ],
)
def test_wrong_use_is_an_exception_that_says_what_is_wrong(
    call: Callable[[Any, Any], Any], error: type[Exception], says: str
) -> None:
    node, storage = leader()
    before = storage.last_index()
    with pytest.raises(error, match=says):
        call(node, storage)
    assert storage.last_index() == before
    assert node.role is Role.LEADER  # it goes on


def test_what_is_not_applied_yet_is_not_compacted() -> None:
    node, storage = leader()
    node.propose(b"a")
    storage.append(node.ready().entries)
    node.advance()
    ready = node.ready()  # the entry is committed now
    assert ready.committed_entries
    storage.create_snapshot(3, ConfState([1]), b"a")
    with pytest.raises(pgraft.InvalidArgument, match="not applied yet"):
        storage.compact(3)
    node.advance()
    storage.compact(3)
    assert storage.first_index() == 4


def test_a_new_node_on_a_storage_replaces_the_one_before() -> None:
    node, storage = leader()
    again = RawNode(1, storage)
    assert again.term == 1
    with pytest.raises(pgraft.FailedPrecondition, match="replaced"):
        node.tick()
    assert "replaced" in repr(node)
    again.tick()


def test_a_storage_lives_as_long_as_its_node() -> None:
    node, storage = leader()
    del storage
    node.propose(b"a")
    assert node.ready().entries == (Entry(3, 1, data=b"a"),)


def test_a_node_whose_invariant_broke_refuses_every_call() -> None:
    group = RaftGroup.of([1], async_storage_writes=True)
    group.elect(1)
    node = group[1]
    node.propose(b"a")
    (work,) = [m for m in node.ready().messages if m.to == pgraft.APPEND_THREAD]
    with pytest.raises(pgraft.InvariantError, match="the reader returned"):  # noqa: PT012
        for response in work.responses:  # but nothing was written
            node.complete(response)
        node.propose(b"b")
        node.ready()
        node.tick()
        node.campaign()
        node.step(Message(MessageType.VOTE, from_=2, term=9, index=9, log_term=9, transfer=True))
    for call in (node.tick, node.has_ready, node.ready, node.status, lambda: node.propose(b"c")):
        with pytest.raises(pgraft.InvariantError, match="node 1 is broken"):
            call()
    assert "broken" in repr(node)
    assert RawNode(1, group.members[1].storage).term == 1


def test_completions_must_be_responses_of_this_nodes_storage() -> None:
    group = RaftGroup.of(TRIO, async_storage_writes=True)
    for bad in (
        Message(MessageType.APPEND_RESPONSE, from_=2, to=1, term=1),
        Message(MessageType.APPEND, from_=1, to=1, term=1),
        Message(MessageType.STORAGE_APPLY_RESPONSE, from_=pgraft.APPLY_THREAD, to=2),
        Message(MessageType.STORAGE_APPLY_RESPONSE, from_=pgraft.APPLY_THREAD, to=1, index=9),
        Message(MessageType.STORAGE_APPEND_RESPONSE, to=1, snapshot=Snapshot(9, 1)),
    ):
        with pytest.raises(pgraft.InvalidArgument):
            group[1].complete(bad)
    with pytest.raises(pgraft.FailedPrecondition, match="no advance"):
        group[1].advance()


def test_a_snapshot_beyond_all_logs_is_refused() -> None:
    group = RaftGroup.of(TRIO)
    snapshot = Snapshot(2**64 - 1, 2, ConfState(TRIO))
    with pytest.raises(pgraft.Corruption, match="no log reaches"):
        group[1].step(Message(MessageType.SNAPSHOT, from_=2, to=1, term=2, snapshot=snapshot))
    with pytest.raises(pgraft.InvalidArgument, match="no log reaches"):
        group.members[1].storage.apply_snapshot(snapshot)


class Chance:
    """Calls with arguments that no script has in mind."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.storage = MemoryStorage()
        self.is_asynchronous = self.random.random() < 0.5
        self.work: list[Message] = []
        self.node = self.make_node()

    def number(self) -> int:
        numbers: list[int] = [*range(8), 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
        return self.random.choice(numbers)

    def conf(self) -> ConfState:
        voters, outgoing = (self.random.choices(range(5), k=k) for k in (3, 2))
        return ConfState(voters, voters_outgoing=outgoing[: self.random.randrange(3)])

    def change(self) -> ConfChange:
        kinds = self.random.choices(list(ConfChangeType), k=self.random.randrange(3))
        changes = [ConfChangeSingle(kind, self.random.randrange(5)) for kind in kinds]
        return ConfChange(changes, transition=self.random.choice(list(ConfChangeTransition)))

    def entry(self, index: int) -> Entry:
        data = self.random.choice([b"", b"data", self.change().encode()])
        return Entry(index, self.number(), self.random.choice(list(pgraft.EntryType)), data)

    def snapshot(self) -> Snapshot:
        return Snapshot(self.number(), self.number(), self.conf(), b"data")

    def message(self) -> Message:
        index = self.number()
        return Message(
            self.random.choice(list(MessageType)),
            from_=self.random.choice([1, 2, 3, self.number()]),
            to=self.random.choice([0, 1, self.number()]),
            term=self.number(),
            log_term=self.number(),
            index=index,
            entries=[self.entry((index + 1 + i) % 2**64) for i in range(self.random.randrange(3))],
            commit=self.number(),
            reject=self.random.random() < 0.3,
            reject_hint=self.number(),
            transfer=self.random.random() < 0.3,
            context=self.random.choice([b"", b"12345678"]),
            snapshot=self.snapshot() if self.random.random() < 0.3 else None,
            stamp=self.number(),
        )

    def make_node(self) -> RawNode:
        if self.storage.snapshot().index == 0 and self.random.random() < 0.8:
            self.storage.apply_snapshot(Snapshot(2, 1, ConfState(TRIO)))
        return RawNode(
            1,
            self.storage,
            election_tick=3,
            pre_vote=self.random.random() < 0.5,
            check_quorum=self.random.random() < 0.5,
            max_size_per_msg=self.random.choice([0, 10]),
            max_inflight_msgs=self.random.choice([1, 4]),
            max_committed_size_per_ready=self.random.choice([0, 3]),
            async_storage_writes=self.is_asynchronous,
            disable_conf_change_validation=self.random.random() < 0.3,
            rules=Switches(
                **{rule: self.random.random() < 0.9 for rule in Switches.__match_args__}
            ),
        )

    def step(self) -> None:
        storage, number = self.storage, self.number
        calls: list[Callable[[], Any]] = [
            lambda: self.node.step(self.message()),
            lambda: self.node.step(self.message()),
            lambda: self.node.complete(self.message()),
            self.node.tick,
            self.wait,
            self.win,
            self.do_ready,
            self.do_ready,
            self.do_ready,
            lambda: self.node.propose(b"x" * self.random.randrange(9)),
            lambda: self.node.propose_conf_change(self.change()),
            lambda: self.node.apply_conf_change(self.change()),
            lambda: self.node.transfer_leader(number()),
            lambda: self.node.read_index(b"x"),
            lambda: self.node.report_snapshot(number(), self.random.random() < 0.5),
            lambda: self.node.report_unreachable(number()),
            lambda: self.node.report_leader_lost(number(), self.random.randrange(-1, 3)),
            lambda: self.node.step_down(self.random.randrange(-1, 3)),
            self.node.advance,
            lambda: storage.append([self.entry(storage.last_index() + self.random.randrange(3))]),
            lambda: storage.compact(number()),
            lambda: storage.create_snapshot(number(), self.conf()),
            lambda: storage.apply_snapshot(self.snapshot()),
            lambda: storage.set_hard_state(HardState(number(), number(), number())),
            lambda: setattr(self, "node", self.make_node()),
        ]
        self.random.choice(calls)()

    def wait(self) -> None:
        for _ in range(4):
            self.node.tick()

    def win(self) -> None:
        self.node.campaign()
        for kind, ahead in ((MessageType.PRE_VOTE_RESPONSE, 1), (MessageType.VOTE_RESPONSE, 0)):
            for i in (2, 3):
                self.node.step(Message(kind, from_=i, to=1, term=self.node.term + ahead))

    def do_ready(self) -> None:
        """Now and then something of it is left out."""
        ready = self.node.ready()
        self.work += [m for m in ready.messages if m.to == pgraft.APPEND_THREAD]
        to_write: list[pgraft.Ready | Message] = [ready, *self.work]
        for work in to_write:
            if work.snapshot and self.random.random() < 0.9:
                self.storage.apply_snapshot(work.snapshot)
            if self.random.random() < 0.9:
                self.storage.append(work.entries)
        responses = [r for m in self.work for r in m.responses if r.to == 1]
        self.work.clear()
        for response in responses:
            self.node.step(response)
        if not self.is_asynchronous and self.random.random() < 0.9:
            self.node.advance()


def test_no_call_stops_the_interpreter() -> None:
    """A call that did would end this process."""
    broken = 0
    for seed in range(200):
        chance = Chance(seed)
        for _ in range(60):
            try:
                chance.step()
            except pgraft.InvariantError:
                broken += 1
                break
            except (pgraft.Error, TypeError):  # no 64-bit number
                pass
    assert 0 < broken < 200


# --- values


def test_values_are_equal_by_their_fields_and_show_those_that_count() -> None:
    vote = Message(MessageType.VOTE, from_=1, to=2, term=3)
    assert vote == Message(MessageType.VOTE, from_=1, to=2, term=3)
    assert vote != vote.replace(term=4)
    assert vote != "vote"
    assert repr(vote) == "Message(type=MessageType.VOTE, from_=1, to=2, term=3)"
    assert repr(Entry(3, 1, data=b"a")) == "Entry(index=3, term=1, data=b'a')"
    match Entry(3, 1):
        case Entry(index, term):
            assert (index, term) == (3, 1)


def test_values_can_not_be_changed() -> None:
    entry: Any = Entry(3, 1)
    with pytest.raises(AttributeError):
        entry.term = 2
    message: Any = Message(MessageType.APPEND, entries=[entry])
    with pytest.raises(AttributeError):
        message.entries.append(entry)
    conf: Any = ConfState([1], incarnations={1: 7})
    with pytest.raises(TypeError):
        conf.incarnations[1] = 8
    with pytest.raises(TypeError):
        hash(entry)


@pytest.mark.parametrize(
    "value",
    [
        Entry(3, 1, pgraft.EntryType.CONF_CHANGE, b"\x00\xff"),
        HardState(3, 2, 1),
        pgraft.SoftState(2, Role.FOLLOWER),
        ConfState([3, 1], [4], [1, 2], [2], True, {1: 9}),
        Snapshot(3, 1, ConfState([1]), b"data"),
        ConfChange(parse_changes("v1 l2 r3 u4"), context=b"\x00"),
        Switches(one_change=False),
        Message(
            MessageType.STORAGE_APPEND,
            from_=1,
            to=pgraft.APPEND_THREAD,
            term=5,
            vote=2,
            commit=4,
            entries=[Entry(5, 5)],
            snapshot=Snapshot(4, 1),
            responses=[Message(MessageType.APPEND_RESPONSE, from_=1, to=2, index=5)],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_replace_without_changes_is_a_copy(value: Any) -> None:
    copy = value.replace()
    assert copy is not value
    assert copy == value
    assert [getattr(copy, f) for f in copy.__match_args__] == [
        getattr(value, f) for f in value.__match_args__
    ]


def test_a_configuration_change_is_stored_as_bytes() -> None:
    stored = ConfChange([ConfChangeSingle(ConfChangeType.ADD_VOTER, 4, 77)], context=b"address")
    assert ConfChange.decode(stored.encode()) == stored


def test_incarnations_are_checked() -> None:
    conf = ConfState([1, 2], incarnations={1: 10, 2: 20})
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(1, 1, conf))
    node = RawNode(1, storage, incarnation=10)
    heartbeat = Message(MessageType.HEARTBEAT, from_=2, to=1, term=2, from_incarnation=20)
    node.step(heartbeat.replace(to_incarnation=11))  # meant for a server that had this id
    assert node.leader == 0
    node.step(heartbeat.replace(to_incarnation=10))
    assert node.leader == 2


# --- the page


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {})
    assert "claims to lead term 1" in capsys.readouterr().out
