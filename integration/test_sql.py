"""The SQL surface: commands, key-value store, log, views, privileges."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import psycopg
import pytest
from helpers import Attempt, attempt
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.pg import Postgres

MEBIBYTE = 1 << 20


def rows(cluster: LocalCluster, node: LocalNode, statement: str, *values: Any) -> list[Any]:
    with cluster.connect(node.id) as connection:
        return connection.execute(statement.encode(), values or None).fetchall()


def one(cluster: LocalCluster, node: LocalNode, statement: str, *values: Any) -> Any:
    (row,) = rows(cluster, node, statement, *values)
    return row[0] if len(row) == 1 else row


def error_of(cluster: LocalCluster, node: LocalNode, statement: str) -> psycopg.Error:
    with cluster.connect(node.id) as connection, pytest.raises(psycopg.Error) as raised:
        connection.execute(statement.encode())
    return raised.value


def other_database(cluster: LocalCluster, node: LocalNode, name: str) -> psycopg.Connection[Any]:
    with cluster.connect(node.id) as connection:
        info = connection.info
        return psycopg.connect(
            host=info.host, port=info.port, user=info.user, dbname=name, autocommit=True
        )


def a_follower(cluster: LocalCluster) -> LocalNode:
    node = cluster.followers()[0]
    cluster.wait_for_standby(node.id)
    return node


# --- key-value -----------------------------------------------------------------------------------


def test_a_key_put_anywhere_is_read_everywhere(shared: LocalCluster) -> None:
    a_follower(shared)
    for writer in shared.nodes.values():
        value = f"by node {writer.id}"
        revision = one(shared, writer, "SELECT pgraft_kv_put('where', %s)", value)
        for reader in shared.nodes.values():
            found = one(shared, reader, "SELECT value, revision FROM pgraft_kv_get_entry('where')")
            assert found == (value, revision), (writer.id, reader.id)
            assert one(shared, reader, "SELECT pgraft_kv_exists('where')") is True


def test_keys_come_and_go(shared: LocalCluster) -> None:
    leader = shared.leader()
    created = one(shared, leader, "SELECT pgraft_kv_put('k', 'one')")
    changed = one(shared, leader, "SELECT pgraft_kv_put('k', 'two')")
    assert changed > created
    assert one(
        shared,
        leader,
        "SELECT value, revision, created_revision, ttl FROM pgraft_kv_get_entry('k')",
    ) == ("two", changed, created, None)
    assert one(shared, leader, "SELECT pgraft_kv_delete('k')") is True
    assert one(shared, leader, "SELECT pgraft_kv_delete('k')") is False
    assert one(shared, leader, "SELECT pgraft_kv_get('k')") is None
    assert one(shared, leader, "SELECT pgraft_kv_exists('k')") is False
    assert rows(shared, leader, "SELECT * FROM pgraft_kv_get_entry('k')") == []


@pytest.mark.parametrize("on_leader", [True, False])
def test_compare_and_set_has_one_winner(shared: LocalCluster, on_leader: bool) -> None:
    node = shared.leader() if on_leader else a_follower(shared)
    one(shared, node, "SELECT pgraft_kv_delete('lock')")
    first = one(shared, node, "SELECT pgraft_kv_compare_and_set('lock', 0, 'mine')")
    assert first is not None
    assert one(shared, node, "SELECT pgraft_kv_compare_and_set('lock', 0, 'mine too')") is None
    assert one(shared, node, "SELECT pgraft_kv_compare_and_set('lock', NULL, 'or mine')") is None
    second = one(shared, node, "SELECT pgraft_kv_compare_and_set('lock', %s::bigint, 'b')", first)
    assert second > first
    assert one(shared, node, "SELECT pgraft_kv_compare_and_set('lock', 'mine', 'c')") is None
    assert one(shared, node, "SELECT pgraft_kv_compare_and_set('lock', 'b', 'c')") > second
    assert one(shared, node, "SELECT pgraft_kv_get('lock')") == "c"

    # Many at once from all nodes: each adds one to a counter, none is lost.
    one(shared, node, "SELECT pgraft_kv_put('counter', '0')")

    def add(times: int) -> Any:
        def step(connection: psycopg.Connection[Any]) -> None:
            for _ in range(times):
                while True:
                    row = connection.execute("SELECT pgraft_kv_get('counter')").fetchone()
                    assert row is not None
                    done = connection.execute(
                        "SELECT pgraft_kv_compare_and_set('counter', %s::text, %s::text)",
                        [row[0], str(int(row[0]) + 1)],
                    ).fetchone()
                    assert done is not None
                    if done[0] is not None:
                        break

        return step

    attempts = [attempt(shared, id_, add(5)) for id_ in shared.nodes for _ in range(2)]
    for running in attempts:
        running.join()
        assert running.acknowledged, running
    assert one(shared, node, "SELECT pgraft_kv_get('counter')") == str(5 * len(attempts))


def test_pages_of_keys_cover_each_key_once(shared: LocalCluster) -> None:
    node = a_follower(shared)
    wanted = [f"page/{i:03}" for i in range(25)]
    with shared.connect(node.id) as connection:
        for key in reversed(wanted):
            connection.execute("SELECT pgraft_kv_put(%s, '')", [key])
        connection.execute("SELECT pgraft_kv_put('pagf', '')")
        found: list[str] = []
        while True:
            page = connection.execute(
                "SELECT * FROM pgraft_kv_list_keys('page/', %s, 10)", [found[-1] if found else None]
            ).fetchall()
            if not page:
                break
            assert len(page) <= 10
            found += [row[0] for row in page]
    assert found == wanted


def test_a_key_with_a_time_to_live_goes_by_itself_and_not_early(shared: LocalCluster) -> None:
    leader, follower = shared.leader(), a_follower(shared)
    before = time.monotonic()
    one(shared, follower, "SELECT pgraft_kv_put('short', 'x', '1500 milliseconds')")
    one(shared, follower, "SELECT pgraft_kv_put('long', 'x', '1 hour')")
    ttl, left = one(
        shared, leader, "SELECT ttl, expires_at - now() FROM pgraft_kv_get_entry('long')"
    )
    assert ttl.total_seconds() == 3600
    assert 3000 < left.total_seconds() < 3700
    change = rows(shared, follower, "SELECT * FROM pgraft_kv_watch('short', NULL, '60 s')")
    assert time.monotonic() - before >= 1.5
    assert [(row[1], row[2]) for row in change] == [("expire", "short")]
    for node in shared.nodes.values():
        assert one(shared, node, "SELECT pgraft_kv_exists('short')") is False
        assert one(shared, node, "SELECT pgraft_kv_exists('long')") is True
    one(shared, leader, "SELECT pgraft_kv_put('long', 'stays')")
    assert one(shared, leader, "SELECT ttl FROM pgraft_kv_get_entry('long')") is None


def test_a_watch_wakes_up_for_its_keys_and_misses_none(shared: LocalCluster) -> None:
    leader, follower = shared.leader(), a_follower(shared)
    start = one(shared, leader, "SELECT pgraft_kv_put('w/0', 'begin')")
    seen: list[Any] = []

    def watch(connection: psycopg.Connection[Any]) -> None:
        after = start
        while len(seen) < 20:
            changes = connection.execute(
                "SELECT * FROM pgraft_kv_watch('w/', %s, '60 s')", [after]
            ).fetchall()
            assert changes, "it waited in vain"
            seen.extend(changes)
            after = changes[-1][0]

    running = attempt(shared, follower.id, watch)
    wait_for(
        lambda: one(shared, follower, "SELECT watchers FROM pgraft_kv_get_stats()") > 0,
        60,
        "the session to watch",
    )
    with shared.connect(leader.id) as connection:
        for i in range(10):
            connection.execute("SELECT pgraft_kv_put('elsewhere', %s)", [str(i)])
            connection.execute("SELECT pgraft_kv_put(%s, %s)", [f"w/{i}", str(i)])
            connection.execute("SELECT pgraft_kv_delete(%s)", [f"w/{i}"])
    running.join()
    assert running.acknowledged, running
    assert [row[1:] for row in seen] == [
        step
        for i in range(10)
        for step in (("put", f"w/{i}", str(i).encode()), ("delete", f"w/{i}", None))
    ]
    revisions = [row[0] for row in seen]
    assert revisions == sorted(set(revisions))
    # Nobody waits any more, also of those that were cancelled.
    endless = attempt(shared, follower.id, "SELECT * FROM pgraft_kv_watch('none', NULL, '1 hour')")
    cancel_when_active(shared, follower, endless)
    assert endless.sqlstate == "57014"
    assert one(shared, follower, "SELECT watchers FROM pgraft_kv_get_stats()") == 0


def cancel_when_active(cluster: LocalCluster, node: LocalNode, running: Attempt) -> None:
    def waits() -> bool:
        return bool(
            rows(
                cluster,
                node,
                "SELECT FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
                " AND wait_event_type = 'Extension'",
                running.pid,
            )
        )

    wait_for(waits, 60, "the session to wait for pgraft")
    rows(cluster, node, "SELECT pg_cancel_backend(%s)", running.pid)
    running.join()
    assert not running.pending


def test_texts_and_bytes(shared: LocalCluster) -> None:
    leader = shared.leader()
    one(shared, leader, "SELECT pgraft_kv_put('größe', '€ 3')")
    one(shared, leader, "SELECT pgraft_kv_put_bytes('raw', %s)", b"\x00\xff\xfe")
    assert one(shared, leader, "SELECT pgraft_kv_get_bytes('größe')") == "€ 3".encode()
    assert one(shared, leader, "SELECT pgraft_kv_get_bytes('raw')") == b"\x00\xff\xfe"
    error = error_of(shared, leader, "SELECT pgraft_kv_get('raw')")
    assert error.sqlstate == "22021"
    assert "pgraft_kv_get_bytes" in (error.diag.message_hint or "")
    with shared.connect(leader.id) as connection:
        connection.execute("DROP DATABASE IF EXISTS latin")
        connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with other_database(shared, leader, "latin") as connection:
        connection.execute("CREATE EXTENSION pgraft")
        # The client's encoding is the driver's; what the server's functions see is Latin-1.
        row = connection.execute(
            "SELECT octet_length('größe'), pgraft_kv_get_bytes('größe'), pgraft_kv_exists('größe')"
        ).fetchone()
        assert row == (5, "€ 3".encode(), True)
        with pytest.raises(psycopg.errors.UntranslatableCharacter):
            connection.execute("SELECT pgraft_kv_get('größe')")


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("pgraft_kv_put(repeat('k', 1025), '')", "54000"),
        (f"pgraft_kv_put('k', repeat('v', {MEBIBYTE + 1}))", "54000"),
        (f"pgraft_log_append(repeat('v', {MEBIBYTE + 1}))", "54000"),
        ("pgraft_kv_put('', 'v')", "22023"),
        ("pgraft_kv_put(NULL, 'v')", "22004"),
        ("pgraft_kv_put('k', NULL)", "22004"),
        ("pgraft_kv_put('k', 'v', '-1 s')", "22023"),
        ("pgraft_kv_put('k', 'v', '200 years')", "22023"),
        ("pgraft_kv_compare_and_set('k', -1, 'v')", "22023"),
        ("pgraft_kv_list_keys('', NULL, 0)", "22023"),
        ("pgraft_kv_list_keys('', NULL, 10001)", "22023"),
        ("pgraft_log_append(NULL)", "22004"),
        ("pgraft_log_get_entry(0)", "22023"),
        ("pgraft_log_get_entry(999999999)", "42704"),
        ("pgraft_get_command(1)", "42704"),
    ],
)
def test_what_is_malformed_or_too_long_is_refused(
    shared: LocalCluster, call: str, sqlstate: str
) -> None:
    assert error_of(shared, shared.leader(), f"SELECT {call}").sqlstate == sqlstate


def test_the_largest_key_and_value_pass_unchanged(shared: LocalCluster) -> None:
    node = a_follower(shared)
    one(shared, node, f"SELECT pgraft_kv_put(repeat('k', 1024), repeat('v', {MEBIBYTE}))")
    size = one(shared, shared.leader(), "SELECT length(pgraft_kv_get(repeat('k', 1024)))")
    assert size == MEBIBYTE
    assert one(shared, node, "SELECT pgraft_kv_delete(repeat('k', 1024))") is True


# --- log -----------------------------------------------------------------------------------------


def test_what_is_appended_is_in_the_same_place_on_all_nodes(shared: LocalCluster) -> None:
    a_follower(shared)
    indexes = []
    for node in shared.nodes.values():
        index = one(shared, node, "SELECT pgraft_log_append(%s)", f"by {node.id}")
        indexes.append((index, node.id))
        assert one(shared, node, "SELECT applied_index FROM pgraft_log_get_stats()") >= index
    assert indexes == sorted(indexes)
    for reader in shared.nodes.values():
        one(shared, reader, "SELECT pgraft_kv_get('any')")  # it has all that is committed now
        for index, writer in indexes:
            assert one(
                shared,
                reader,
                "SELECT entry_index, type, data, proposer FROM pgraft_log_get_entry(%s)",
                index,
            ) == (index, "log_append", f"by {writer}", writer)


def test_replication_status_is_of_the_members(shared: LocalCluster) -> None:
    leader = shared.leader()
    a_follower(shared)
    index = one(shared, leader, "SELECT pgraft_log_append('x')")

    def caught_up() -> bool:
        status = rows(
            shared,
            leader,
            "SELECT node_id, match_index >= %s, next_index > match_index, progress,"
            " last_contact > now() - interval '1 minute', flush_lsn > '0/0', timeline,"
            " lag_bytes >= 0, lag_seconds >= 0, connected"
            " FROM pgraft_log_get_replication_status() ORDER BY 1",
            index,
        )
        timeline = rows(shared, leader, "SELECT timeline_id FROM pg_control_checkpoint()")[0][0]
        return status == [
            (n, True, True, "replicate", True, True, timeline, True, True, True)
            for n in shared.nodes
        ]

    wait_for(caught_up, 60, "the leader to see all members caught up")


# --- commands ------------------------------------------------------------------------------------


def test_a_command_tells_what_came_of_it(shared: LocalCluster) -> None:
    leader = shared.leader()
    revision = one(shared, leader, "SELECT pgraft_kv_put('told', 'x')")
    error_of(shared, leader, "SELECT pgraft_remove_node(99)")
    done, failed = rows(
        shared,
        leader,
        "SELECT c.type, c.state, c.result, c.error, c.sqlstate, c.completed_at >= c.queued_at"
        " FROM (SELECT command_id FROM pgraft_commands ORDER BY 1 DESC LIMIT 2) AS last,"
        " LATERAL pgraft_get_command(last.command_id) AS c ORDER BY c.command_id",
    )
    assert done == ("KV_PUT", "COMPLETED", revision, None, None, True)
    assert failed[:3] == ("REMOVE_NODE", "FAILED", None)
    assert "99" in failed[3]
    assert failed[4:] == ("42704", True)


def test_without_a_quorum_a_change_has_an_end_and_can_be_asked_for(cluster: LocalCluster) -> None:
    """The outcome of what was begun is unknown, can be cancelled, and is known in the end."""
    leader = cluster.leader()
    one(cluster, leader, "SELECT pgraft_kv_put('k', 'before')")
    for node in cluster.followers():
        cluster.pause(node.id)
    # Begun while this node still leads; nobody confirms it.
    error = error_of(
        cluster,
        leader,
        "SET pgraft.command_timeout = '300ms'; SELECT pgraft_kv_put('k', 'unknown')",
    )
    assert error.sqlstate == "40003", error
    hint = error.diag.message_hint or ""
    assert "pgraft_get_command(" in hint
    command = int(hint.split("pgraft_get_command(")[1].split(")")[0])
    state = one(cluster, leader, "SELECT state FROM pgraft_get_command(%s)", command)
    assert state in ("PROCESSING", "UNKNOWN")

    running = attempt(cluster, leader.id, "SELECT pgraft_kv_get('k')")
    cancel_or_end(cluster, leader, running)
    assert running.sqlstate in ("57014", "57P03"), running
    assert one(cluster, leader, "SELECT pgraft_kv_get('k', stale => true)") == "before"
    wait_for(
        lambda: error_of(cluster, leader, "SELECT pgraft_kv_put('k', 'v')").sqlstate == "57P03",
        60,
        "the node to see that it leads no more",
    )

    wait_for(
        lambda: (
            one(cluster, leader, "SELECT state FROM pgraft_get_command(%s)", command) == "UNKNOWN"
        ),
        60,
        "the command to be given up",
    )

    for node in cluster.nodes.values():
        if node is not leader:
            cluster.resume(node.id)
    cluster.leader()
    for node in cluster.nodes.values():

        def works(node: LocalNode = node) -> bool:
            try:
                one(cluster, node, "SELECT pgraft_kv_put('k', 'after')")
            except psycopg.Error:
                return False
            return True

        wait_for(works, 60, f"node {node.id} to change keys again")
    history = rows(
        cluster, cluster.leader(), "SELECT term, new_leader, timeline FROM pgraft_failovers"
    )
    terms = [row[0] for row in history]
    assert terms == sorted(set(terms))
    assert history[-1][1] == cluster.leader().id


def cancel_or_end(cluster: LocalCluster, node: LocalNode, running: Attempt) -> None:
    """Cancels until it has ended, one way or the other."""

    def ended() -> bool:
        if running.pending:
            rows(cluster, node, "SELECT pg_cancel_backend(%s)", running.pid)
            running.join(0.1)
        return not running.pending

    wait_for(ended, 60, "the session to end")


def test_many_sessions_that_are_cancelled_leave_the_queue_as_it_was(shared: LocalCluster) -> None:
    leader = shared.leader()

    def appends(connection: psycopg.Connection[Any]) -> None:
        while True:
            connection.execute("SELECT pgraft_log_append(repeat('x', 1000))")

    for terminate in ("pg_cancel_backend", "pg_terminate_backend"):
        sessions = [attempt(shared, leader.id, appends) for _ in range(8)]
        with shared.connect(leader.id) as connection:
            for running in sessions:
                connection.execute(f"SELECT {terminate}(%s)".encode(), [running.pid])

        def over(sessions: list[Attempt] = sessions, call: str = terminate) -> bool:
            with shared.connect(leader.id) as connection:
                for running in sessions:
                    if running.pending:  # a cancel between two statements is lost
                        connection.execute(f"SELECT {call}(%s)".encode(), [running.pid])
            return not any(running.pending for running in sessions)

        wait_for(over, 60, "all sessions to end")

    def empty() -> bool:
        waiting = "SELECT count(*) FROM pgraft_commands WHERE state IN ('PENDING', 'PROCESSING')"
        return bool(one(shared, leader, waiting) == 0)

    wait_for(empty, 60, "the queue to be empty")
    # More than there are slots: none was lost.
    with shared.connect(leader.id) as connection:
        for i in range(300):
            connection.execute("SELECT pgraft_kv_put('after', %s)", [str(i)])


# --- views and privileges ------------------------------------------------------------------------


def test_views_show_figures_that_move(shared: LocalCluster) -> None:
    leader = shared.leader()

    def figures() -> dict[str, float]:
        return dict(rows(shared, leader, "SELECT name, value FROM pgraft_performance"))

    before = figures()
    with shared.connect(leader.id) as connection:
        for _ in range(20):
            connection.execute("SELECT pgraft_log_append('x')")
    after = figures()
    assert after["command_count"] == before["command_count"] + 20
    assert after["disk_write_count"] > before["disk_write_count"]
    assert before["disk_sync_count"] < after["disk_sync_count"] <= after["disk_write_count"]
    assert 0 < after["disk_sync_p50"] <= after["disk_sync_max"]
    assert after["disk_entries"] >= before["disk_entries"] + 20
    assert 0 < after["command_p50"] <= after["command_p99"] <= after["command_max"]
    assert after["worker_memory"] > 1e6
    assert after["lease_left"] > 0
    quorum = rows(
        shared,
        leader,
        "SELECT node_id, is_leader, present, needed, in_force FROM pgraft_commit_quorum ORDER BY 1",
    )
    assert quorum == [(n, n == leader.id, True, 2, True) for n in shared.nodes]
    others = [n for n in shared.nodes if n != leader.id]
    sent = rows(
        shared,
        leader,
        "SELECT DISTINCT node_id FROM pgraft_messages WHERE type = 'append' AND sent > 0"
        " AND bytes_sent_all_types > 0 ORDER BY 1",
    )
    assert [row[0] for row in sent] == others
    members = rows(shared, leader, "SELECT node_id, role, answering FROM pgraft_members ORDER BY 1")
    assert members == [(n, "voter", True) for n in shared.nodes]
    first = rows(shared, leader, "SELECT old_leader, election_ms FROM pgraft_failovers LIMIT 1")
    assert first[0][0] is None


def test_messages_and_bytes_are_counted_by_type_and_member(shared: LocalCluster) -> None:
    leader, follower = shared.leader(), a_follower(shared)
    mine = "SELECT sent, bytes_sent FROM pgraft_messages WHERE node_id = %s AND type = 'append'"
    yours = "SELECT bytes_received FROM pgraft_messages WHERE node_id = %s AND type = 'append'"
    messages, before = one(shared, leader, mine, follower.id)
    arrived = one(shared, follower, yours, leader.id)
    one(shared, leader, f"SELECT pgraft_log_append(repeat('x', {MEBIBYTE}))")

    def counted() -> bool:
        sent, size = one(shared, leader, mine, follower.id)
        heard = one(shared, follower, yours, leader.id)
        return bool(sent > messages and size >= before + MEBIBYTE and heard >= arrived + MEBIBYTE)

    wait_for(counted, 60, "the text to be counted at both ends")
    for node in shared.nodes.values():
        sums = rows(
            shared,
            node,
            "SELECT sum(bytes_sent) = max(bytes_sent_all_types), count(DISTINCT type) > 1"
            " FROM pgraft_messages GROUP BY node_id",
        )
        assert sums
        assert all(row[0] for row in sums), "the types make up the whole"
    types = {
        row[0]
        for row in rows(shared, leader, "SELECT type FROM pgraft_messages WHERE received > 0")
    }
    assert {"append_response", "heartbeat_response", "wal_status"} <= types


def test_the_members_are_shown_with_state_and_last_contact(shared: LocalCluster) -> None:
    leader, follower = shared.leader(), a_follower(shared)
    statement = (
        "SELECT node_id, state, last_contact > now() - interval '1 minute', timeline,"
        " wal_lsn > '0/0', failover_priority, nosync FROM pgraft_get_nodes() ORDER BY node_id"
    )
    timeline = one(shared, leader, "SELECT timeline FROM pgraft_get_cluster_status()")

    def all_stream() -> bool:
        return rows(shared, leader, statement) == [
            (n, "leader" if n == leader.id else "streaming", True, timeline, True, 100, False)
            for n in shared.nodes
        ]

    wait_for(all_stream, 60, "all members to stream")
    seen = [(row[1], row[2]) for row in rows(shared, follower, statement)]
    assert seen == [("leader" if n == leader.id else None, None) for n in shared.nodes]
    shared.pause(follower.id)
    try:
        state = "SELECT state FROM pgraft_members WHERE node_id = %s"
        wait_for(
            lambda: one(shared, leader, state, follower.id) == "no answer", 60, "it to be missed"
        )
    finally:
        shared.resume(follower.id)
    a_follower(shared)


def test_a_database_of_the_first_version_is_served_and_updated(shared: LocalCluster) -> None:
    """The library is the new one for all databases; what users built on the views stays."""
    leader = shared.leader()
    with shared.connect(leader.id) as connection:
        connection.execute("DROP DATABASE IF EXISTS old")
        connection.execute("CREATE DATABASE old TEMPLATE template0")

    def columns(connection: psycopg.Connection[Any], what: str) -> list[str]:
        found = connection.execute(f"SELECT * FROM {what}".encode())
        assert found.fetchall(), what
        return [column.name for column in found.description or []]

    with other_database(shared, leader, "old") as connection:
        connection.execute("CREATE EXTENSION pgraft VERSION '0.1.0'")
        old = {
            what: columns(connection, what)
            for what in (
                "pgraft_get_nodes()",
                "pgraft_get_messages()",
                "pgraft_members",
                "pgraft_messages",
            )
        }
        assert old["pgraft_get_nodes()"][-1] == "waits_for"
        assert old["pgraft_get_messages()"][-1] == "dropped_all_types"
        connection.execute("CREATE VIEW mine AS SELECT node_id, role FROM pgraft_members")
        connection.execute("CREATE VIEW too AS SELECT sent FROM pgraft_messages")
        connection.execute("ALTER EXTENSION pgraft UPDATE")
        for what, before in old.items():
            now = columns(connection, what)
            assert now[: len(before)] == before
            assert len(now) > len(before), what
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (3,)
        assert columns(connection, "too") == ["sent"]
        updated = connection.execute(GRANTS.encode()).fetchall()
    with shared.connect(leader.id) as connection:
        assert connection.execute(GRANTS.encode()).fetchall() == updated


GRANTS = """SELECT objid::regprocedure::text, proacl::text, obj_description(objid, 'pg_proc')
    FROM pg_depend JOIN pg_proc ON pg_proc.oid = objid
    WHERE refclassid = 'pg_extension'::regclass AND classid = 'pg_proc'::regclass AND
        refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgraft')
    ORDER BY 1"""


def test_who_may_do_what(shared: LocalCluster) -> None:
    leader = shared.leader()
    with shared.connect(leader.id) as connection:
        for role, group in (("an_admin", "pgraft_admin"), ("a_monitor", "pg_monitor")):
            connection.execute(f"DROP ROLE IF EXISTS {role}".encode())
            connection.execute(f"CREATE ROLE {role} IN ROLE {group}".encode())
        connection.execute("DROP ROLE IF EXISTS somebody")
        connection.execute("CREATE ROLE somebody")
        allowed = {
            "SELECT pgraft_get_leader()": {"an_admin", "a_monitor", "somebody"},
            "SELECT * FROM pgraft_get_nodes()": {"an_admin", "a_monitor", "somebody"},
            "SELECT * FROM pgraft_members": {"an_admin", "a_monitor"},
            "SELECT * FROM pgraft_failovers": {"an_admin", "a_monitor"},
            "SELECT * FROM pgraft_messages": {"an_admin", "a_monitor"},
            "SELECT * FROM pgraft_get_messages()": {"an_admin", "a_monitor"},
            "SELECT * FROM pgraft_stat_progress_rejoin": {"an_admin", "a_monitor"},
            "SELECT * FROM pgraft_get_rejoins()": {"an_admin", "a_monitor"},
            "SELECT pgraft_kv_get('k')": {"an_admin", "a_monitor"},
            "SELECT pgraft_kv_put('k', 'v')": {"an_admin"},
            "SELECT pgraft_kv_delete('k')": {"an_admin"},
            "SELECT pgraft_log_append('x')": {"an_admin"},
        }
        for statement, who in allowed.items():
            for role in ("an_admin", "a_monitor", "somebody"):
                connection.execute(f"SET ROLE {role}".encode())
                if role in who:
                    connection.execute(statement.encode())
                else:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(statement.encode())
                connection.execute("RESET ROLE")
        # What changes something is granted to nobody else, also what is added later.
        for_all = connection.execute(
            "SELECT proname FROM pg_proc WHERE proname LIKE 'pgraft%%'"
            " AND has_function_privilege('somebody', oid, 'EXECUTE') ORDER BY 1"
        ).fetchall()
        assert {row[0] for row in for_all} <= {
            "pgraft_get_cluster_status",
            "pgraft_get_leader",
            "pgraft_get_nodes",
            "pgraft_get_term",
            "pgraft_get_version",
            "pgraft_in_contact",
            "pgraft_is_leader",
            "pgraft_read_barrier",
        }


def test_functions_say_what_they_do_to_the_planner(shared: LocalCluster) -> None:
    """Nothing may be computed once and kept, but the version; parallel workers give no commands."""
    kinds = rows(
        shared,
        shared.leader(),
        "SELECT DISTINCT proname, provolatile::text, proparallel::text FROM pg_proc"
        " WHERE proname LIKE 'pgraft%%' ORDER BY 1",
    )
    assert [name for name, volatile, _ in kinds if volatile != "v"] == ["pgraft_get_version"]
    safe = {name for name, _, parallel in kinds if parallel == "s"}
    assert safe == {
        "pgraft_get_cluster_status",
        "pgraft_get_command",
        "pgraft_get_commit_quorum",
        "pgraft_get_leader",
        "pgraft_get_nodes",
        "pgraft_get_queue_status",
        "pgraft_get_rejoins",
        "pgraft_get_term",
        "pgraft_get_version",
        "pgraft_get_worker_state",
        "pgraft_in_contact",
        "pgraft_is_leader",
    }


def test_everything_has_a_comment(shared: LocalCluster) -> None:
    bare = rows(
        shared,
        shared.leader(),
        "SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend"
        " WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND"
        " refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgraft') AND"
        " classid IN ('pg_proc'::regclass, 'pg_class'::regclass) AND"
        " coalesce(obj_description(objid, classid::regclass::name), '') = ''",
    )
    assert bare == []


def test_a_dump_of_a_database_with_the_extension_restores(shared: LocalCluster) -> None:
    leader = shared.leader()
    with shared.connect(leader.id) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS dumped (i int)")
        connection.execute("INSERT INTO dumped VALUES (7)")
        connection.execute("CREATE OR REPLACE VIEW leader_view AS SELECT * FROM pgraft_members")
        info = connection.info
        where = ["-h", info.host, "-p", str(info.port), "-U", info.user]
        source = info.dbname
        connection.execute("DROP DATABASE IF EXISTS restored")
        connection.execute("CREATE DATABASE restored TEMPLATE template0")
    pg_dump, psql = (Postgres.find().program(name) for name in ("pg_dump", "psql"))
    dump = subprocess.run([pg_dump, *where, source], check=True, capture_output=True)
    subprocess.run(
        [psql, *where, "-v", "ON_ERROR_STOP=1", "-q", "-d", "restored"],
        input=dump.stdout,
        check=True,
        capture_output=True,
    )
    with other_database(shared, leader, "restored") as connection:
        assert connection.execute("SELECT i FROM dumped").fetchall() == [(7,)]
        assert connection.execute("SELECT count(*) FROM leader_view").fetchone() == (3,)
        assert connection.execute(
            "SELECT has_function_privilege('pgraft_admin', 'pgraft_log_append(text)', 'EXECUTE'),"
            " has_function_privilege('pg_monitor', 'pgraft_log_append(text)', 'EXECUTE')"
        ).fetchone() == (True, False)
