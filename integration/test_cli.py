"""The command line, run as an operator runs it, on one cluster that the tests leave as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pgraft
import pytest
from helpers import REJOIN_SECONDS
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode

PACKAGES = str(Path(pgraft.__file__).parent.parent)
COMMAND = [sys.executable, "-m", "pgraft"]
CHANGES = (
    ["switchover", "--yes"],
    ["add", "127.0.0.1"],
    ["remove", "3", "--yes"],
    ["pause"],
    ["resume"],
)


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), PACKAGES]))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG") or k == "PG_CONFIG"}
    return {**kept, "PYTHONPATH": path, "COLUMNS": "200", **more}


def run(
    *arguments: str, answer: str = "", variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(**(variables or {})),
        input=answer,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def at(node: LocalNode) -> list[str]:
    return ["--port", str(node.settings.raft_port)]


def here(node: LocalNode) -> list[str]:
    return ["-D", str(node.paths.pgdata)]


def assert_says(
    result: subprocess.CompletedProcess[str], status: int, message: str, hint: str
) -> None:
    """The message and, after it, what to do next; and no traceback."""
    assert result.returncode == status, result.stdout + result.stderr
    assert message in result.stderr
    assert hint in result.stderr.partition("hint: ")[2]
    assert "Traceback" not in result.stderr


# --- who is asked, and what is said when that is wrong


@pytest.mark.parametrize("command", [*CHANGES, ["topology"], ["history"], ["check"]])
def test_nobody_reachable_is_said_with_what_to_give(command: list[str]) -> None:
    result = run(*command, "--port", "1", "--timeout", "1")
    assert_says(result, 3, "nobody answers at 127.0.0.1:1", "--host")


def test_a_data_directory_goes_before_the_hosts_of_the_environment(shared: LocalCluster) -> None:
    node = shared.node(1)
    nobody = {"PGRAFT_HOSTS": "127.0.0.1:1"}
    members = {"PGRAFT_HOSTS": f"127.0.0.1:1 127.0.0.1:{node.settings.raft_port}"}
    assert run("topology", "--timeout", "1", variables=nobody).returncode == 3
    assert run("topology", variables=members).returncode == 0
    assert run("topology", *here(node), variables=nobody).returncode == 0


def test_the_servers_port_is_not_taken_for_the_raft_port(shared: LocalCluster) -> None:
    result = run("switchover", "--yes", "--port", str(shared.node(1).port))
    assert_says(result, 3, "nobody answers", "its Raft port (not PostgreSQL's)")


@pytest.mark.parametrize("command", [["switchover", "--yes", "--to"], ["remove", "--yes"]])
def test_unknown_members_are_answered_with_the_known(
    shared: LocalCluster, command: list[str]
) -> None:
    result = run(*command, "node9", *at(shared.node(2)))
    assert_says(result, 2, 'there is no member "node9"', "2 (node2, 127.0.0.1:")


def test_a_wrong_command_line_is_exit_2(shared: LocalCluster) -> None:
    for arguments, words in (
        (["--host", "a:b"], "is no address"),
        (["--conninfo", "user=a host=b"], 'must not say "host"'),
        (["--conninfo", "nonsense"], "can't be understood"),
        (["--for", "soon"], "is no duration"),
        (["--nonsense"], "No such option"),
    ):
        result = run("pause", *at(shared.node(1)), *arguments)
        assert result.returncode == 2, result.stderr
        assert words in result.stderr
    result = run("status", "2", *at(shared.node(1)))
    assert_says(result, 2, "without --watch", "--port")


def test_a_wrong_password_user_or_database_says_how_to_give_it(shared: LocalCluster) -> None:
    leader = shared.leader()
    before = leader.paths.hba_conf.read_text()
    with shared.connect(leader.id) as connection:
        connection.execute("CREATE ROLE ops LOGIN PASSWORD 'right'")
        connection.execute("GRANT EXECUTE ON FUNCTION pgraft_remove_node TO ops")
        leader.paths.hba_conf.write_text(f"host all ops 127.0.0.1/32 scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
    command = ["switchover", "--yes", *at(leader)]
    ops = {"PGUSER": "ops"}

    def refused_as_wrong() -> bool:  # the reload takes a moment
        result = run(*command, variables={**ops, "PGPASSWORD": "wrong"})
        return "password authentication failed" in result.stderr

    try:
        wait_for(refused_as_wrong, 60, "the password to be asked for")
        result = run(*command, variables={**ops, "PGPASSWORD": "wrong"})
        assert_says(result, 1, 'password authentication failed for user "ops"', "--conninfo")
        result = run(*command, variables=ops)
        assert_says(result, 1, "no password supplied", "~/.pgpass")
        result = run(*command, variables={**ops, "PGPASSWORD": "right"})
        assert_says(result, 1, "permission denied", "Connect as a superuser")
        result = run(*command, "--conninfo", "user=nobody_here")
        assert_says(result, 1, 'role "nobody_here" does not exist', "--conninfo")
        result = run(*command, "--conninfo", "dbname=template1")
        assert_says(result, 1, 'not there in database "template1"', "dbname=")
    finally:
        leader.paths.hba_conf.write_text(before)
        with shared.connect(leader.id) as connection:
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("DROP OWNED BY ops")
            connection.execute("DROP ROLE ops")


# --- looking


def test_topology_and_status_name_the_leader(shared: LocalCluster) -> None:
    leader = shared.leader()
    for command in ("status", "topology"):
        result = run(command, *here(shared.followers()[0]))
        assert result.returncode == 0, result.stderr
        assert f"led by node {leader.id}" in result.stdout
    tree = result.stdout.splitlines()
    assert f"leader  node {leader.id}" in tree[1]
    assert sum("follower  node" in line for line in tree) == 2


def test_watching_goes_on_until_ctrl_c(shared: LocalCluster) -> None:
    with subprocess.Popen(
        [*COMMAND, "status", "--watch", "0.2", "--json", *at(shared.node(1))],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            answers = [entry["answer"] for entry in json.loads(process.stdout.readline())]
            assert {a["identity"]["node_id"] for a in answers} == {1, 2, 3}
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def findings(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    result = run("check", "--json", *arguments)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def test_check_finds_a_healthy_cluster_well(shared: LocalCluster) -> None:
    status, found = findings(*here(shared.leader()))
    # How fast this machine's disks are at the moment is not what is tested.
    assert [
        f for f in found if f["level"] in ("warning", "critical") and f["check"] != "disk"
    ] == []
    assert status == 0 or any(f["check"] == "disk" for f in found)
    checks = {f["check"] for f in found}
    assert {"leader", "voters", "streaming", "raft port", "versions", "collations"} <= checks
    assert {"clocks", "settings", "supervisor", "disk"} <= checks
    ways = [f for f in found if f["check"].startswith("way to node")]
    assert [f["level"] for f in ways] == ["ok", "ok"]


def test_check_finds_what_would_break_a_failover_and_says_how_to_mend_it(
    shared: LocalCluster,
) -> None:
    broken = shared.followers()[0]
    rules = broken.paths.hba_conf.read_text()
    # Not used while it follows; the next leader would be one that nobody can stream from.
    broken.paths.hba_conf.write_text("host replication all 127.0.0.1/32 reject\n" + rules)
    with shared.connect(broken.id) as connection:
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("SELECT pg_reload_conf()")

    def way_is_shut() -> bool:
        _, found = findings(*here(shared.leader()))
        (way,) = [f for f in found if f["check"] == f"way to node {broken.id}"]
        return way["level"] == "critical" and "no replication there" in way["message"]

    def seen() -> list[dict[str, Any]]:
        status, found = findings(*at(shared.node(1)))
        critical = [f for f in found if f["level"] == "critical"]
        assert (status == 2) == bool(critical)
        return [f for f in critical if "full_page_writes is off" in f["message"]]

    try:
        found = wait_for(seen, 60, "the setting to be found")
        assert {f["node"] for f in found} == {f"node {broken.id}"}
        assert any("Set full_page_writes = on" in f["fix"] for f in found)
        assert way_is_shut()
    finally:
        broken.paths.hba_conf.write_text(rules)
        with shared.connect(broken.id) as connection:
            connection.execute("ALTER SYSTEM RESET full_page_writes")
            connection.execute("SELECT pg_reload_conf()")
    wait_for(lambda: not seen() and not way_is_shut(), 60, "all to be well again")


def test_logs_shows_and_follows_what_concerns_pgraft(shared: LocalCluster) -> None:
    leader = shared.leader()

    def log(text: str) -> None:
        with shared.connect(leader.id) as connection:
            connection.execute(f"DO $$BEGIN RAISE LOG '{text}'; END$$".encode())

    log("pgraft marker 1")
    log("something else")
    result = run("logs", *here(leader), "-n", "1000")
    assert result.returncode == 0, result.stderr
    assert "pgraft marker 1" in result.stdout
    assert "something else" not in result.stdout
    assert "something else" in run("logs", *here(leader), "--all", "-n", "1000").stdout
    with subprocess.Popen(
        [*COMMAND, "logs", *here(leader), "-f", "-n", "1"],
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()  # it has read what there was
        log("pgraft marker 2")
        while "pgraft marker 2" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_config_finds_a_node_that_create_made_as_it_should_be(shared: LocalCluster) -> None:
    result = run("config", *here(shared.node(1)))
    assert result.returncode == 0, result.stderr
    assert "node.conf (is as it should be)" in result.stdout
    assert "postgresql.conf (is as it should be)" in result.stdout
    assert "host  replication" in result.stdout


# --- changing


def switch_over(cluster: LocalCluster, to: int) -> str:
    """A candidate without the leader's last WAL gives the leadership back: asked again then."""
    said: list[str] = []

    def attempt() -> bool:
        result = run("switchover", "--to", str(to), "--yes", *here(cluster.node(to)))
        assert result.returncode == 0 or "leads again" in result.stderr, result.stderr
        said.append(result.stdout)
        return result.returncode == 0

    wait_for(attempt, 60, f"node {to} to lead")
    return said[-1]


def test_switchover_moves_the_leader_and_history_tells(shared: LocalCluster) -> None:
    new = shared.followers()[0]
    said = switch_over(shared, new.id)
    assert said.startswith(f"node {new.id} leads and accepts writes (term ")
    assert shared.leader().id == new.id
    result = run("switchover", "--to", f"node{new.id}", *at(new))
    assert (result.returncode, result.stdout) == (0, f"node {new.id} leads already\n")

    result = run("history", "--json", *at(new))
    assert result.returncode == 0, result.stderr
    last, answer = json.loads(result.stdout)[-1], shared.status()[new.id]
    assert answer is not None
    assert (last["node_id"], last["term"], last["timeline"]) == (
        new.id,
        answer.term,
        answer.timeline,
    )
    assert last["switch_lsn"] > 0
    assert last["time"], "the new leader wrote the timeline's history file"
    assert f"node {new.id}" in run("history", *at(new)).stdout


def test_a_question_is_asked_before_something_is_taken_away(shared: LocalCluster) -> None:
    follower = shared.followers()[0]
    for answer, words in (("n\n", "nothing was done"), ("", "--yes answers it")):
        result = run("remove", str(follower.id), *at(shared.node(1)), answer=answer)
        assert result.returncode == 1
        assert "Then one more member lost, and nobody can write." in result.stdout
        assert words in result.stderr
    result = run("remove", str(shared.leader().id), "--yes", *at(shared.node(1)))
    assert_says(result, 1, "is the leader, and can't be removed", "pgraft switchover")
    shared.wait_for_voters([1, 2, 3])


def test_pause_and_resume_or_what_is_missing_for_them(shared: LocalCluster) -> None:
    with shared.connect() as connection:
        row = connection.execute("SELECT to_regprocedure('pgraft_pause(interval)')").fetchone()
    there = row is not None and row[0] is not None
    for command, words in ((["pause", "--for", "10m"], "no failover until"), (["resume"], "again")):
        result = run(*command, *at(shared.node(1)))
        if there:
            assert result.returncode == 0, result.stderr
            assert words in result.stdout
        else:
            assert_says(result, 1, f"has no function pgraft_{command[0]}", "newer pgraft")


@pytest.fixture
def fourth(shared: LocalCluster) -> Iterator[LocalNode]:
    node = shared.new_node(4)
    yield node
    node.close()
    del shared.nodes[4]


def test_a_node_is_added_and_removed(shared: LocalCluster, fourth: LocalNode) -> None:
    address = f"127.0.0.1:{fourth.settings.raft_port}"
    result = run("add", address, *at(shared.node(1)))
    assert_says(result, 3, f"no node answers at {address}", "pgraft run")
    shared.join_node(fourth, source=shared.leader().id)
    fourth.start()
    wait_for(lambda: shared.status()[4], 60, "the new node to answer")
    result = run("topology", *at(fourth))
    assert_says(result, 3, "uninitialized", "pgraft add")
    result = run("add", address, *at(shared.node(1)))
    assert result.returncode == 0, result.stderr
    assert "node 4 has caught up and votes" in result.stdout
    assert "is a member already" in run("add", address, *at(shared.node(1))).stdout
    result = run("remove", "node4", *at(shared.node(1)), answer="y\n")
    assert result.returncode == 0, result.stderr
    shared.wait_for_voters([1, 2, 3])
    assert "Node 4" in run("status", "--host", address, *at(shared.node(1))).stdout


def test_with_one_member_down_its_directory_still_shows_the_others(shared: LocalCluster) -> None:
    leader, down = shared.leader(), shared.followers()[0]
    result = run("rejoin", *here(down), "--yes")
    assert result.returncode == 1
    assert "stop it first" in result.stderr, "it runs"
    shared.stop(down.id)
    try:
        result = run("status", *here(down))
        assert result.returncode == 0, result.stderr
        assert f"node {down.id} does not answer" in result.stdout
        assert "One more member lost, and nobody can write." in result.stdout
        assert f"no answer  node {down.id}" in run("topology", *here(down)).stdout
        status, found = findings(*at(leader))
        assert status == 1
        assert {f["check"] for f in found if f["level"] == "warning"} >= {"voters", "raft port"}
        result = run("switchover", "--yes", "--to", str(down.id), *at(leader))
        assert_says(result, 1, f"node {down.id} does not answer", "Start it first")
        assert_says(run("logs", *here(down)), 1, "while it is down", "--file")
        result = run("logs", *here(down), "--file", str(down.log_file))
        assert "pgraft" in result.stdout

        # Cloned anew at the operator's word.
        marker = down.paths.pgdata / "marker"
        marker.write_text("of the old directory")
        result = run("rejoin", *here(down), answer="n\n")
        assert result.returncode == 1
        assert not (down.paths.data_dir / "rejoin").exists()
        result = run("rejoin", *here(down), answer="y\n")
        assert result.returncode == 0, result.stderr
        assert "is cloned at its next start" in result.stdout
    finally:
        shared.start_node(down.id)
    shared.wait_for_standby(down.id, REJOIN_SECONDS)
    assert not marker.exists()
    assert "cloned; catching up" in down.log_file.read_text()
