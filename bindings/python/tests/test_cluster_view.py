"""What is made of the members' answers."""

from __future__ import annotations

import pytest
from pgraft.commands.base import Target, parse_duration
from pgraft.errors import CommandError, Exit
from pgraft.render import make_console, notes, status_json, status_view, topology_tree
from pgraft.status import RaftAddress
from rich.console import Console

from .cluster_answers import MB, answer, member, more, three, view


def shown(renderable: object) -> str:
    console = make_console()
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_member_is_found_by_number_name_and_address() -> None:
    cluster = three()
    for text in ("2", "node2", "10.0.0.2:5432", "10.0.0.2:8001"):
        assert cluster.find(text).node_id == 2


def test_an_unknown_member_is_answered_with_those_there_are() -> None:
    with pytest.raises(CommandError) as error:
        three().find("node7")
    assert error.value.status is Exit.USAGE
    assert "1 (node1, 10.0.0.1:5432)" in error.value.hint


def test_the_leader_of_the_newest_term_counts() -> None:
    members = [member(i) for i in (1, 2, 3)]
    cluster = view(
        answer(1, members),
        answer(2, members, state="leader", writable=True, term=6, leader_id=2),
        answer(3, members),
    )
    assert cluster.need_leader().node_id == 2
    assert [m.role for m in cluster.members] == ["leader", "leader", "follower"]
    assert [m.leads for m in cluster.members] == [False, True, False]


def test_without_a_majority_the_message_says_who_is_missing() -> None:
    members = [member(i) for i in (1, 2, 3)]
    alone = view(answer(3, members, leader_id=0, phase="no quorum"), silent=(1, 2))
    with pytest.raises(CommandError) as error:
        alone.need_leader()
    assert error.value.status is Exit.NO_LEADER
    assert "node 1: no answer; node 2: no answer; node 3: follower, no quorum" in str(error.value)
    assert "2 of 3" in error.value.hint
    assert "node 1 does not answer at 10.0.0.1:8001." in notes(alone)
    assert "1    │ 10.0.0.1:8001 │ 10.0.0.1:5432 │ no answer" in shown(status_view(alone))
    assert any("Only 1 of 3 voters answer" in note for note in notes(alone))


def test_nobody_and_no_member_are_different_messages() -> None:
    with pytest.raises(CommandError, match=r"nobody answers at 10\.0\.0\.1:8001") as error:
        view(silent=(1,)).need_member_answer()
    assert "--host" in error.value.hint
    with pytest.raises(CommandError, match="uninitialized"):
        view(answer(4, [], state="uninitialized")).need_leader()


def test_a_node_that_was_asked_twice_counts_once() -> None:
    cluster = three()
    cluster.answers[RaftAddress("127.0.0.1", 8001)] = cluster.answers[RaftAddress("10.0.0.1", 8001)]
    assert len(type(cluster)(cluster.answers).nodes) == 3


def test_the_topology_shows_lag_and_who_is_silent() -> None:
    members = [
        member(1),
        member(2, wal={"in_recovery": True, "lsn": 7 * MB, "replayed_lsn": 6 * MB}),
        member(3, voter=False, learner=True),
    ]
    cluster = view(answer(1, members), answer(3, members, lsn=8 * MB), silent=(2,))
    text = shown(topology_tree(cluster))
    assert "no answer  node 2  10.0.0.2:5432, 3 MB behind when it was last heard of" in text
    assert "learner  node 3" in text
    assert "One more member lost" not in text, "one voter of two is no majority"
    assert "Only 1 of 2 voters answer" in text


def test_a_follower_that_does_not_stream_is_told() -> None:
    members = [member(1), member(2, flush_lsn=0), member(3)]
    cluster = view(
        answer(1, members),
        *(answer(i, members, phase="following node 1") for i in (2, 3)),
    )
    (line,) = (line for line in shown(status_view(cluster)).splitlines() if "not streaming" in line)
    assert line.startswith("│ 2 ")


def test_a_narrow_terminal_cuts_nothing() -> None:
    cluster = three(phase="is the leader but waits for the commit quorum to come into force")
    console = Console(width=80)
    with console.capture() as capture:
        console.print(status_view(cluster, console.width))
    text = capture.get()
    assert "…" not in text
    for words in ("10.0.0.2:5432", "0/A00000", "leader", "follower", "quorum", "force"):
        assert words in text


def test_the_status_says_what_goes_on_and_what_is_unusual() -> None:
    members = [
        member(1),
        member(2, wal={"in_recovery": True, "lsn": 7 * MB, "replayed_lsn": MB, "priority": 0}),
        member(3, voter=False, learner=True, waits_for="node 3 lacks 4 entries of the Raft log"),
    ]
    members[2]["member"]["nosync"] = True
    leading = more(
        lease_ms=850, paused_until_ms=4102444800000, paused_by="ops on 10.0.0.9", switchover_to=2
    )
    cluster = view(
        answer(1, members, more=leading, change_waits_for="node 2 does not stream"),
        answer(2, members),
        answer(3, members, state="follower"),
    )
    for width in (100, 150):
        console = Console(width=width)
        with console.capture() as capture:
            console.print(status_view(cluster, width))
        text = " ".join(capture.get().split())
        for words in (
            "lease 850 ms",
            "priority 0",
            "nosync",
            "node 3 has no vote yet: node 3 lacks 4 entries of the Raft log.",
            "A switchover to node 2 is under way.",
            "Failover is paused until 2",
            "(by ops on 10.0.0.9)",
            "No member can be added or removed now: node 2 does not stream.",
        ):
            assert words in text, (words, width)
        assert "…" not in text
        assert "priority 100" not in text
    fenced = view(answer(1, members, writable=False, more=more(fenced=True)), silent=(2, 3))
    assert "fenced, no lease" in shown(status_view(fenced))


def test_a_pause_that_is_over_is_not_shown() -> None:
    members = [member(1)]
    over = view(answer(1, members, more=more(paused_until_ms=1000, paused_by="ops")))
    assert "paused" not in shown(status_view(over))


def test_versions_are_shown_when_they_differ() -> None:
    members = [member(1), member(2)]
    older = answer(2, members, more=None)
    older.raw["identity"]["version"] = "0.1.0"
    text = shown(status_view(view(answer(1, members), older)))
    assert "versions of pgraft differ: 0.1.0 on 2, 0.2.0 on 1." in text
    assert "versions" not in shown(status_view(three()))


def test_rejoins_are_shown_as_the_leader_and_as_this_machine_know_them() -> None:
    members = [member(1), member(2), member(3)]
    seen = [
        {"node_id": 3, "phase": "copy", "bytes_done": MB, "bytes_total": 4 * MB, "seconds": 5},
        {"node_id": 4, "phase": "rewind", "bytes_done": 0, "bytes_total": 0, "seconds": 1},
    ]
    cluster = view(answer(1, members, more=more(rejoins=seen)), answer(2, members), silent=(3,))
    text = shown(status_view(cluster))
    assert "copying 25 %" in text
    assert "Node 3 is copying from node 1, 10.0.0.1:5432: 1.0 MB of 4.0 MB (25 %)" in text
    assert "Node 4 is rewinding from node 1" in text, "it is no member yet"
    by_node = {e["rejoin"]["node_id"]: e for e in status_json(cluster) if e["rejoin"]}
    assert by_node[3]["asked"] == "10.0.0.3:8001"
    assert by_node[3]["rejoin"]["bytes_total"] == 4 * MB
    assert by_node[4]["asked"] is None
    local = {
        **by_node[3]["rejoin"],
        "state": "requested",
        "mode": "clone",
        "reason": "diverged",
        "phase": None,
    }
    text = shown(status_view(cluster, local=local))
    assert "rejoin due" in text
    assert "Node 3 is to be cloned (diverged)" in text


def test_the_status_names_strangers() -> None:
    members = [member(1)]
    cluster = view(answer(1, members), answer(4, [], state="uninitialized"))
    assert "Node 4 at 10.0.0.4:8001 is no member (uninitialized)." in shown(status_view(cluster))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1h", 3600), ("1h30m", 5400), ("2d", 172800)],
)
def test_durations_are_understood(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "1w", "h", "-1h", "1h x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="is no duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "host:port", "host:0", "host:70000", ":8001"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="is no address"):
        Target.of([text], None, None, None, 1.0)


def test_hosts_may_name_their_ports() -> None:
    target = Target.of(["a", "b:9000", "[::1]:9001", "fe80::1"], 8002, None, None, 1.0)
    assert target.seeds == [
        RaftAddress("a", 8002),
        RaftAddress("b", 9000),
        RaftAddress("::1", 9001),
        RaftAddress("fe80::1", 8002),
    ]
