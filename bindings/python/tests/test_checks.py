"""The judgements of `pgraft check`, each on a cluster with one thing wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pgraft.checks.cluster import check_cluster
from pgraft.checks.facts import Facts, Setting
from pgraft.checks.finding import Finding, Level, exit_status
from pgraft.checks.here import sync_times
from pgraft.checks.settings import check_settings
from pgraft.cluster_view import ClusterView

from .cluster_answers import MB, answer, member, three, view

GOOD = {
    "fsync": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "hot_standby": "on",
    "wal_log_hints": "on",
    "data_checksums": "off",
    "wal_receiver_status_interval": "10",
    "restore_command": "",
    "primary_conninfo": "application_name=pgraft",
    "recovery_min_apply_delay": "0",
    "max_standby_streaming_delay": "30000",
    "max_slot_wal_keep_size": "4096",
    "synchronous_commit": "on",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_connections": "100",
    "max_worker_processes": "8",
    "max_prepared_transactions": "0",
    "max_locks_per_transaction": "64",
    "pgraft.debug_rules_off": "",
    "pgraft.allow_weak_commit": "off",
    "pgraft.election_timeout": "1000",
}


def settings(**changes: str) -> dict[str, Setting]:
    merged = {**GOOD, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: Setting(value, restart=True, pending=False) for name, value in merged.items()}


def facts_of(cluster: ClusterView) -> list[Facts]:
    return [
        Facts(m, version=150004, pgraft="0.1.0", settings=settings(), collations={"c": "2.36"})
        for m in cluster.members
    ]


def bad(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f.level > Level.NOTE]


def run(cluster: ClusterView, facts: list[Facts] | None = None) -> list[Finding]:
    told = facts_of(cluster) if facts is None else facts
    return [*check_cluster(cluster, told), *check_settings(told)]


def test_a_healthy_cluster_has_nothing_to_mend() -> None:
    findings = run(three())
    assert bad(findings) == []
    assert exit_status(findings) == 0


@pytest.mark.parametrize(
    ("setting", "value", "level"),
    [
        ("fsync", "off", Level.CRITICAL),
        ("full_page_writes", "off", Level.CRITICAL),
        ("wal_level", "minimal", Level.CRITICAL),
        ("hot_standby", "off", Level.CRITICAL),
        ("wal_log_hints", "off", Level.WARNING),
        ("wal_receiver_status_interval", "0", Level.CRITICAL),
        ("restore_command", "cp x y", Level.CRITICAL),
        ("primary_conninfo", "", Level.CRITICAL),
        ("max_wal_senders", "3", Level.CRITICAL),
        ("max_replication_slots", "2", Level.CRITICAL),
        ("max_slot_wal_keep_size", "-1", Level.WARNING),
        ("max_standby_streaming_delay", "-1", Level.WARNING),
        ("recovery_min_apply_delay", "60000", Level.WARNING),
        ("synchronous_commit", "off", Level.WARNING),
        ("pgraft__debug_rules_off", "write_fence", Level.CRITICAL),
        ("pgraft__allow_weak_commit", "on", Level.WARNING),
    ],
)
def test_each_bad_setting_is_found_and_mended(setting: str, value: str, level: Level) -> None:
    cluster = three()
    facts = facts_of(cluster)
    facts[1] = replace(facts[1], settings=settings(**{setting: value}))
    (found,) = [f for f in bad(run(cluster, facts)) if f.check == "settings"]
    name = setting.replace("__", ".")
    assert (found.level, found.node) == (level, "node 2")
    assert found.message.startswith(f"{name} is ")
    assert f"Set {name} = " in found.fix
    assert "restart the server" in found.fix


def test_checksums_make_hints_needless() -> None:
    cluster = three()
    facts = [replace(f, settings=settings(wal_log_hints="off", data_checksums="on"))
             for f in facts_of(cluster)]  # fmt: skip
    assert bad(run(cluster, facts)) == []


def test_a_standby_with_less_than_the_leader_is_critical_and_more_is_a_warning() -> None:
    cluster = three()
    facts = facts_of(cluster)
    facts[2] = replace(facts[2], settings=settings(max_connections="50"))
    (found,) = bad(run(cluster, facts))
    assert (found.level, found.node) == (Level.CRITICAL, "node 3")
    facts[2] = replace(facts[2], settings=settings(max_connections="200"))
    found_more = bad(run(cluster, facts))
    assert {(f.level, f.node) for f in found_more} == {
        (Level.WARNING, "node 1"),
        (Level.WARNING, "node 2"),
    }


def test_what_differs_between_members_is_found() -> None:
    cluster = three()
    facts = facts_of(cluster)
    for change, level in (
        ({"version": 160000}, Level.CRITICAL),
        ({"version": 150005}, Level.WARNING),
        ({"pgraft": "0.2.0"}, Level.WARNING),
        ({"collations": {"c": "2.31"}}, Level.CRITICAL),
        ({"clock_offset": 5.0, "clock_error": 0.1}, Level.WARNING),
        ({"settings": settings(pgraft__election_timeout="5000")}, Level.WARNING),
    ):
        (found,) = bad(run(cluster, [*facts[:2], replace(facts[2], **change)]))
        assert found.level is level, found
        assert found.fix


def test_a_clock_that_can_not_be_told_apart_is_no_finding() -> None:
    cluster = three()
    facts = facts_of(cluster)
    facts[2] = replace(facts[2], clock_offset=5.0, clock_error=4.5)
    assert bad(run(cluster, facts)) == []


def test_other_troubles_of_one_server() -> None:
    cluster = three()
    facts = facts_of(cluster)
    for change, level, words in (
        ({"error": "could not connect", "hint": "Say who."}, Level.WARNING, "could not connect"),
        ({"worker_error": "fsync is off"}, Level.CRITICAL, "fsync is off"),
        ({"hba_errors": ("line 3: bad",)}, Level.CRITICAL, "line 3"),
        ({"slots": {"pgraft_1": "lost", "pgraft_2": "reserved"}}, Level.WARNING, "pgraft_1"),
        (
            {"settings": {**settings(), "port": Setting("1", restart=True, pending=True)}},
            Level.WARNING,
            "wait for a restart: port",
        ),
    ):
        (found,) = bad(run(cluster, [*facts[:2], replace(facts[2], **change)]))
        assert found.level is level, found
        assert words in found.message
        assert found.fix


def test_a_member_that_is_down_is_one_finding_of_its_own_and_one_of_the_quorum() -> None:
    members = [member(i) for i in (1, 2, 3)]
    cluster = view(answer(1, members), answer(2, members), silent=(3,))
    facts = [*facts_of(cluster)[:2], Facts(cluster.members[2], error="refused")]
    found = bad(run(cluster, facts))
    assert [(f.check, f.level) for f in found] == [
        ("voters", Level.WARNING),
        ("raft port", Level.WARNING),
    ]


def test_a_server_that_answers_while_its_raft_port_does_not_is_behind_a_firewall() -> None:
    members = [member(i) for i in (1, 2, 3)]
    cluster = view(answer(1, members), answer(2, members), silent=(3,))
    (found,) = (f for f in bad(run(cluster)) if f.check == "raft port")
    assert found.level is Level.CRITICAL
    assert "PostgreSQL server answers" in found.message
    assert "Open port" in found.fix


def test_without_a_majority_it_is_critical() -> None:
    members = [member(i) for i in (1, 2, 3)]
    found = bad(run(view(answer(3, members, leader_id=0), silent=(1, 2)), []))
    assert {f.check for f in found if f.level is Level.CRITICAL} == {"leader", "voters"}
    assert exit_status(found) == 2


def test_streams_and_ways_between_members() -> None:
    members = [member(1), member(2, flush_lsn=0), member(3, answering=False)]
    cluster = view(answer(1, members), answer(2, members), answer(3, members, lsn=10 * MB))
    found = {(f.check, f.node): f for f in bad(run(cluster))}
    assert "does not stream" in found["streaming", "node 2"].message
    assert found["raft port", "node 3"].level is Level.CRITICAL
    deaf = [member(1, wal=None), member(2), member(3)]
    cluster = view(answer(1, [*members[:1], member(2), member(3)]), answer(2, deaf),
                   answer(3, [member(i) for i in (1, 2, 3)]))  # fmt: skip
    (one,) = bad(run(cluster))
    assert one.message == "has not heard from node 1 since its start"


def test_the_disk_is_measured_and_left_clean(tmp_path: object) -> None:
    from pathlib import Path

    directory = Path(str(tmp_path))
    assert all(seconds > 0 for seconds in sync_times(directory))
    assert list(directory.iterdir()) == []
    with pytest.raises(OSError, match="No such file"):
        sync_times(directory / "missing")
