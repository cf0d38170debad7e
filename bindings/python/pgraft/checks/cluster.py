"""The cluster as a whole: leader, majority, who hears whom, versions, collations, clocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgraft.checks.facts import Facts
from pgraft.checks.finding import Finding, Level
from pgraft.cluster_view import ClusterView, MemberView

_CLOCK_SECONDS = 1.0
_BEHIND_BYTES = 64 << 20


def check_cluster(view: ClusterView, facts: Sequence[Facts]) -> Iterator[Finding]:
    """All of it."""
    yield from _leader(view)
    yield from _voters(view)
    reached = {f.member.node_id for f in facts if not f.error}
    for member in view.members:
        yield from _member(view, member, server_answers=member.node_id in reached)
    yield from _who_hears_whom(view)
    for each in facts:
        yield from _server(each)
    asked = [f for f in facts if not f.error]
    yield from _versions(asked)
    yield from _collations(asked)
    yield from _clocks(asked)


def _leader(view: ClusterView) -> Iterator[Finding]:
    if view.leader is None:
        yield Finding(
            Level.CRITICAL,
            "leader",
            "",
            "no member leads and accepts writes",
            "Start the members that don't answer; see what the others wait for: pgraft status.",
        )
    else:
        node = view.leader
        text = f"node {node.node_id} leads in term {node.term} and accepts writes"
        yield Finding(Level.OK, "leader", "", text)


def _voters(view: ClusterView) -> Iterator[Finding]:
    count, missing = len(view.voters), len(view.missing)
    spare = count - missing - view.majority
    if spare < 0:
        level, text = Level.CRITICAL, "a majority does not answer"
    elif spare == 0:
        level, text = Level.WARNING, "one more member lost, and nobody can write"
    else:
        yield Finding(
            Level.OK, "voters", "", f"{count} voters, {spare} of them may be lost without harm"
        )
        return
    yield Finding(
        level,
        "voters",
        "",
        f"{count - missing} of {count} voters answer: {text}",
        "Start those that don't." if missing else "Add members until there are 3 or 5: pgraft add.",
    )


def _member(view: ClusterView, member: MemberView, *, server_answers: bool) -> Iterator[Finding]:
    answer = member.answer
    if answer is None and server_answers:
        yield Finding(
            Level.CRITICAL,
            "raft port",
            member.title,
            f"its PostgreSQL server answers at {member.server}, but nobody at {member.raft}",
            f"Open port {member.raft.port} between the members, both ways; see its log for its "
            "consensus worker (pgraft logs).",
        )
        return
    if answer is None:
        yield Finding(
            Level.WARNING,
            "raft port",
            member.title,
            f"does not answer at {member.raft}",
            f"Start it, and open port {member.raft.port} for this machine and the other members.",
        )
        return
    if member.leads or view.leader is None:
        return
    entry = view.leader.member(member.node_id)
    if entry is not None and not entry["answering"]:
        yield Finding(
            Level.CRITICAL,
            "raft port",
            member.title,
            "answers from here, but not to the leader",
            f"Open its Raft port ({member.raft}) for the leader, and the leader's for it.",
        )
    behind = view.behind(member) or 0
    if entry is not None and not entry["flush_lsn"]:
        yield Finding(
            Level.WARNING,
            "streaming",
            member.title,
            f"does not stream from the leader ({answer.phase or answer.state})",
            "See its log (pgraft logs); pg_hba.conf of every member must let all members connect "
            "for replication.",
        )
    elif behind > _BEHIND_BYTES:
        yield Finding(
            Level.WARNING,
            "streaming",
            member.title,
            f"is {behind >> 20} MB behind the leader",
            "Look at the network and at its disk: pgraft check there, with -D.",
        )
    else:
        yield Finding(Level.OK, "streaming", member.title, "streams from the leader")
    if answer.abstaining:
        yield Finding(
            Level.NOTE,
            "streaming",
            member.title,
            "was rewound or cloned and has not caught up: it counts towards no majority yet",
        )


def unheard(view: ClusterView) -> list[tuple[MemberView, MemberView]]:
    """Who has not heard from whom, of those that answer.

    Members tell each other of their WAL once a second.
    """
    answering = [m for m in view.members if m.answer is not None]
    found = []
    for here in answering:
        for there in answering:
            entry = here.answer.member(there.node_id) if here.answer else None
            if here is not there and entry is not None and entry["wal"] is None:
                found.append((here, there))
    return found


def _who_hears_whom(view: ClusterView) -> Iterator[Finding]:
    deaf = unheard(view)
    for here, there in deaf:
        yield Finding(
            Level.WARNING,
            "raft port",
            here.title,
            f"has not heard from {there.title} since its start",
            f"Open port {here.raft.port} of {here.raft.host} for {there.raft.host}.",
        )
    if not deaf and sum(m.answer is not None for m in view.members) > 1:
        yield Finding(Level.OK, "raft port", "", "all members that answer have heard each other")


def _server(facts: Facts) -> Iterator[Finding]:
    title = facts.member.title
    if facts.error:
        if facts.member.answer is not None:
            yield Finding(Level.WARNING, "server", title, facts.error, facts.hint)
        return
    if facts.unseen:
        yield Finding(
            Level.NOTE,
            "server",
            title,
            f"this user may not see {', '.join(facts.unseen)}",
            "Connect as a superuser, to the database that has the extension: --conninfo.",
        )
    for error in facts.hba_errors:
        yield Finding(
            Level.CRITICAL,
            "pg_hba.conf",
            title,
            f"pg_hba.conf is damaged, {error}",
            "Correct that line; the server keeps the old rules until its next start, which fails.",
        )
    for slot, state in facts.slots.items():
        if state in ("lost", "unreserved"):
            yield Finding(
                Level.WARNING,
                "slots",
                title,
                f"slot {slot} is {state}: the member it is for may have to be cloned",
                "Bring that member back, or remove it: pgraft remove.",
            )


def _versions(asked: Sequence[Facts]) -> Iterator[Finding]:
    servers = {f.member.title: f.version for f in asked}
    majors = {version // 10000 for version in servers.values()}
    said = ", ".join(f"{t}: {v // 10000}.{v % 10000}" for t, v in servers.items())
    if len(majors) > 1:
        yield Finding(
            Level.CRITICAL,
            "versions",
            "",
            f"PostgreSQL's major versions differ ({said})",
            "Members must have the same one.",
        )
    elif len(set(servers.values())) > 1:
        yield Finding(
            Level.WARNING,
            "versions",
            "",
            f"PostgreSQL's versions differ ({said})",
            "Bring all members to the newest one, followers first.",
        )
    elif servers:
        yield Finding(Level.OK, "versions", "", f"PostgreSQL {said}")
    ours = {f.member.title: f.pgraft for f in asked if f.pgraft}
    if len(set(ours.values())) > 1:
        said = ", ".join(f"{title}: {version}" for title, version in ours.items())
        yield Finding(
            Level.WARNING,
            "versions",
            "",
            f"versions of pgraft differ ({said})",
            "Bring all members to the newest one, followers first.",
        )


def _collations(asked: Sequence[Facts]) -> Iterator[Finding]:
    """Indexes on text are wrong under another sort order, and nobody says so."""
    names = sorted({name for f in asked for name in f.collations})
    for name in names:
        versions = {f.member.title: v for f in asked if (v := f.collations.get(name))}
        if len(set(versions.values())) > 1:
            said = ", ".join(f"{title}: {version}" for title, version in versions.items())
            yield Finding(
                Level.CRITICAL,
                "collations",
                "",
                f"collation of {name} has different versions ({said}): after a failover indexes "
                "on text would be wrong",
                "Run the same operating system release (glibc, ICU) on all members.",
            )
            return
    if len(asked) > 1:
        yield Finding(Level.OK, "collations", "", "the same versions on all members")


def _clocks(asked: Sequence[Facts]) -> Iterator[Finding]:
    if len(asked) < 2:
        return
    slow = min(asked, key=lambda f: f.clock_offset)
    fast = max(asked, key=lambda f: f.clock_offset)
    apart = fast.clock_offset - slow.clock_offset
    if apart - fast.clock_error - slow.clock_error > _CLOCK_SECONDS:
        yield Finding(
            Level.WARNING,
            "clocks",
            "",
            f"the clock of {fast.member.title} is {apart:.1f} s ahead of {slow.member.title}'s; no "
            "acknowledged commit depends on it, but now() goes back at a failover",
            "Let chrony or systemd-timesyncd set the clocks of all members.",
        )
    else:
        yield Finding(Level.OK, "clocks", "", "the members' clocks agree to a second")
