"""Settings of each server, by themselves and compared with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pgraft.checks.facts import Facts
from pgraft.checks.finding import Finding, Level

_OFF = "off"


@dataclass(frozen=True)
class _Rule:
    setting: str
    bad: Callable[[str], bool]
    level: Level
    why: str
    wanted: str


def _is(*values: str) -> Callable[[str], bool]:
    return lambda value: value in values


def _below(least: int) -> Callable[[str], bool]:
    return lambda value: value.isdigit() and int(value) < least


def _not_empty(value: str) -> bool:
    return value != ""


# What it breaks, and what to set. The first ones make acknowledgements worthless.
_RULES = (
    _Rule("fsync", _is(_OFF), Level.CRITICAL, "an acknowledged commit may be lost", "on"),
    _Rule(
        "pgraft.debug_rules_off", _not_empty, Level.CRITICAL, "acknowledged commits can be lost", ""
    ),
    _Rule(
        "full_page_writes",
        _is(_OFF),
        Level.CRITICAL,
        "a rewound member, or one that crashed, may be damaged",
        "on",
    ),
    _Rule("wal_level", _is("minimal"), Level.CRITICAL, "nothing can be replicated", "replica"),
    _Rule("hot_standby", _is(_OFF), Level.CRITICAL, "followers answer no queries", "on"),
    _Rule(
        "wal_receiver_status_interval",
        _is("0"),
        Level.CRITICAL,
        "a standby acknowledges nothing by itself, so commits wait",
        "1s",
    ),
    _Rule(
        "restore_command",
        _not_empty,
        Level.CRITICAL,
        "WAL from an archive goes past the term gate (rule 2)",
        "",
    ),
    _Rule(
        "primary_conninfo",
        _is(""),
        Level.CRITICAL,
        "recovery never asks for a stream",
        "application_name=pgraft",
    ),
    _Rule(
        "pgraft.allow_weak_commit",
        _is("on"),
        Level.WARNING,
        "commits with a weak synchronous_commit may be lost at a failover",
        _OFF,
    ),
    _Rule(
        "recovery_min_apply_delay",
        lambda value: value != "0",
        Level.WARNING,
        "a promotion waits until all has been replayed",
        "0",
    ),
    _Rule(
        "max_standby_streaming_delay",
        _is("-1"),
        Level.WARNING,
        "a long query on a follower can hold up its replay, and its promotion, without end",
        "30s",
    ),
    _Rule(
        "max_slot_wal_keep_size",
        _is("-1"),
        Level.WARNING,
        "a member that is away can fill the disk of all others",
        "4GB",
    ),
    _Rule(
        "synchronous_commit",
        _is(_OFF, "local", "remote_write"),
        Level.WARNING,
        "it is weaker than what pgraft keeps, and is raised for each session",
        "on",
    ),
)

# A standby whose value is below the primary's stops replaying, or does not start.
_PARITY = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
_SAME = ("pgraft.election_timeout", "pgraft.heartbeat_interval", "wal_segment_size", "block_size")


def check_settings(facts: Sequence[Facts]) -> Iterator[Finding]:
    """All servers that answered."""
    asked = [f for f in facts if not f.error]
    for each in asked:
        found = [*_by_itself(each), *_for_members(each, len(facts)), *_pending(each)]
        yield from found
        if not found:
            yield Finding(Level.OK, "settings", each.member.title, "fit for a failover")
    yield from _parity(asked)
    yield from _the_same(asked)


def _by_itself(facts: Facts) -> Iterator[Finding]:
    if facts.worker_error:
        yield Finding(
            Level.CRITICAL,
            "worker",
            facts.member.title,
            f"its pgraft worker says: {facts.worker_error}",
            "Remove the cause; see its log (pgraft logs).",
        )
    for rule in _RULES:
        value = facts.value(rule.setting)
        if value is not None and rule.bad(value):
            yield _setting(facts, rule.setting, rule.level, rule.why, rule.wanted)
    if facts.value("wal_log_hints") == _OFF and facts.value("data_checksums") == _OFF:
        yield _setting(
            facts,
            "wal_log_hints",
            Level.WARNING,
            "and there are no data checksums: a member that has diverged can't be rewound, it is "
            "copied anew",
            "on",
        )


def _for_members(facts: Facts, members: int) -> Iterator[Finding]:
    """Each other member takes a walsender and a slot; a clone takes two walsenders more."""
    for setting, least, why in (
        ("max_wal_senders", members + 2, "each other member needs one, and a clone two more"),
        ("max_replication_slots", members, "each other member needs one"),
    ):
        if _below(least)(facts.value(setting) or str(least)):
            yield _setting(facts, setting, Level.CRITICAL, why, str(max(least, 10)))


def _setting(facts: Facts, setting: str, level: Level, why: str, wanted: str) -> Finding:
    found = facts.settings[setting]
    shown = f'"{found.value}"' if found.value == "" or " " in found.value else found.value
    value = wanted if wanted else "''"
    then = "restart" if found.restart else "reload"
    return Finding(
        level,
        "settings",
        facts.member.title,
        f"{setting} is {shown}: {why}",
        f"Set {setting} = {value} in its postgresql.conf, and {then} the server.",
    )


def _pending(facts: Facts) -> Iterator[Finding]:
    waiting = sorted(name for name, setting in facts.settings.items() if setting.pending)
    if waiting:
        yield Finding(
            Level.WARNING,
            "settings",
            facts.member.title,
            f"changes wait for a restart: {', '.join(waiting)}",
            "Restart the server (a leader: switch over first), or take them back.",
        )


def _parity(asked: Sequence[Facts]) -> Iterator[Finding]:
    """Any member may become the leader of any other, so all should have the same."""
    leader = next((f for f in asked if f.member.leads), None)
    for setting in _PARITY:
        values = {f.member.title: v for f in asked if (v := f.number(setting)) is not None}
        if len(set(values.values())) <= 1:
            continue
        most = max(values.values())
        for facts in asked:
            value = values.get(facts.member.title)
            if value is None or value == most:
                continue
            now = leader is not None and value < values.get(leader.member.title, 0)
            yield Finding(
                Level.CRITICAL if now else Level.WARNING,
                "parity",
                facts.member.title,
                f"{setting} is {value}, elsewhere {most}: as a standby of a server with more it "
                "stops replaying, and does not start again",
                f"Set {setting} = {most} on it, and restart it before any other.",
            )


def _the_same(asked: Sequence[Facts]) -> Iterator[Finding]:
    for setting in _SAME:
        values = {f.member.title: v for f in asked if (v := f.value(setting)) is not None}
        if len(set(values.values())) > 1:
            said = ", ".join(f"{title}: {value}" for title, value in values.items())
            yield Finding(
                Level.WARNING,
                "parity",
                "",
                f"{setting} differs ({said})",
                "Set the same on all members, and restart them one by one.",
            )
