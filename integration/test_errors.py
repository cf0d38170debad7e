"""Bad input and damaged or copied files: refused, with a message that says what to do."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from helpers import REJOIN_SECONDS, table_of
from pgraft.errors import CommandError
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.paths import NodePaths
from pgraft.setup_node import join


def error_of(cluster: LocalCluster, node_id: int, statement: str) -> psycopg.Error:
    with cluster.connect(node_id) as connection, pytest.raises(psycopg.Error) as raised:
        connection.execute(statement.encode())
    return raised.value


def add(node: LocalNode, node_id: int | None = None) -> str:
    return f"SELECT pgraft_add_node({node_id or node.id}, '{node.host}', {node.settings.raft_port})"


# --- requests ------------------------------------------------------------------------------------


def test_only_the_leader_changes_the_cluster_and_the_others_name_it(shared: LocalCluster) -> None:
    leader = shared.leader()
    for node in shared.followers():
        error = error_of(shared, node.id, "SELECT pgraft_remove_node(1)")
        assert error.sqlstate == "55000"
        said = f"{error.diag.message_primary} {error.diag.message_hint}"
        assert f"node {leader.id}" in said.lower(), said


def test_an_unknown_node_is_refused(shared: LocalCluster) -> None:
    leader = shared.leader()
    error = error_of(shared, leader.id, "SELECT pgraft_remove_node(99)")
    assert error.sqlstate == "42704"
    assert "99" in str(error)
    assert error_of(shared, leader.id, "SELECT pgraft_transfer_leadership(99)").sqlstate == "42704"


def test_a_number_in_use_is_refused(shared: LocalCluster) -> None:
    leader = shared.leader()
    error = error_of(shared, leader.id, add(shared.followers()[0]))
    assert error.sqlstate in ("42710", "55000")
    assert str(shared.followers()[0].id) in str(error)


def test_a_copy_with_a_number_in_use_or_of_nobody_is_refused(shared: LocalCluster) -> None:
    """Before anything is copied."""
    follower = shared.followers()[0]
    with tempfile.TemporaryDirectory(prefix="pgraft-test-") as base:
        paths = NodePaths.of(Path(base) / "data")
        settings = replace(follower.settings, node_id=follower.id)
        for address, words, hint in (
            ((follower.host, follower.port), f"number {follower.id} is that of the member", "4 is"),
            ((follower.host, follower.settings.raft_port), "could not connect", "not the Raft"),
            (("127.0.0.1", 1), "Connection refused", "firewall"),
        ):
            with pytest.raises(CommandError, match=words) as raised:
                join(paths, settings, address, bindir=shared.postgres.bindir)
            assert hint in raised.value.hint
        assert not paths.pgdata.exists()
        assert not paths.clone.exists()


def test_an_unreachable_address_is_refused(shared: LocalCluster) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, not listening
        port = nobody.getsockname()[1]
        error = error_of(
            shared, shared.leader().id, f"SELECT pgraft_add_node(9, '127.0.0.1', {port})"
        )
    assert error.sqlstate == "08001"
    assert str(port) in str(error)


@pytest.mark.parametrize(
    ("call", "sqlstate"),
    [
        ("pgraft_add_node(0, '127.0.0.1', 1)", "22023"),
        ("pgraft_add_node(9, '', 1)", "22023"),
        ("pgraft_add_node(9, '127.0.0.1', 0)", "22023"),
        ("pgraft_add_node(9, '127.0.0.1', 70000)", "22023"),
        ("pgraft_add_node(NULL, '127.0.0.1', 1)", "22004"),
        ("pgraft_add_node('nonsense')", "22023"),
        ("pgraft_init()", "55000"),
    ],
)
def test_malformed_requests_are_refused(shared: LocalCluster, call: str, sqlstate: str) -> None:
    error = error_of(shared, shared.leader().id, f"SELECT {call}")
    assert error.sqlstate == sqlstate, error


def test_functions_that_change_the_cluster_are_not_for_everyone(shared: LocalCluster) -> None:
    with shared.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS nobody_special")
        connection.execute("CREATE ROLE nobody_special LOGIN")
        connection.execute("SET ROLE nobody_special")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT pgraft_remove_node(2)")
        assert connection.execute("SELECT pgraft_get_term() > 0").fetchone() == (True,)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("pgraft.listen_port", "0"),
        ("pgraft.listen_port", "70000"),
        ("pgraft.node_id", "-1"),
        ("pgraft.cluster_name", "'a b'"),
        ("pgraft.heartbeat_interval", "1"),
        ("pgraft.election_timeout", "'soon'"),
        ("pgraft.replication_conninfo", "'host=elsewhere'"),
        ("pgraft.data_dir", "'relative'"),
    ],
)
def test_malformed_settings_are_refused(shared: LocalCluster, setting: str, value: str) -> None:
    leader = shared.leader()
    error = error_of(shared, leader.id, f"ALTER SYSTEM SET {setting} = {value}")
    assert error.sqlstate == "22023", error


def test_garbage_on_the_raft_port_disturbs_nobody(shared: LocalCluster) -> None:
    leader = shared.leader()
    before = shared.status()[leader.id]
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b"\0" * 64, bytes(range(256)) * 64):
        with socket.create_connection((leader.host, leader.settings.raft_port), 10) as connection:
            connection.settimeout(30)
            try:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
            except ConnectionError:
                pass
    after = shared.status(5)[leader.id]
    assert before is not None
    assert after is not None
    assert (after.term, after.leads) == (before.term, True)
    table_of(shared, "undisturbed")


# --- other databases -----------------------------------------------------------------------------


def test_another_database_is_refused(cluster: LocalCluster) -> None:
    stranger = cluster.new_node(4)
    cluster.create_node(stranger)  # an initdb of its own
    stranger.start()
    cluster.wait_for_sql(4)
    error = error_of(cluster, cluster.leader().id, add(stranger))
    assert error.sqlstate == "55000", error
    assert "system identifier" in str(error)


def test_a_node_that_says_another_number_is_refused(cluster: LocalCluster) -> None:
    joining = cluster.new_node(4)
    cluster.join_node(joining, source=cluster.followers()[0].id)  # it tells who leads
    joining.start()
    cluster.wait_for_sql(4)
    error = error_of(cluster, cluster.leader().id, add(joining, node_id=7))
    assert error.sqlstate == "55000", error
    cluster.add_to_cluster(4)
    cluster.wait_for_voters([1, 2, 3, 4], REJOIN_SECONDS)


def test_without_a_quorum_a_change_says_how_many_answered(cluster: LocalCluster) -> None:
    leader = cluster.leader()
    for node in cluster.followers():
        cluster.kill(node.id, "all")
    error = error_of(
        cluster, leader.id, "SET pgraft.command_timeout = '20s'; SELECT pgraft_remove_node(2)"
    )
    assert error.sqlstate in ("57P03", "55000", "40003"), error


def test_without_shared_preload_libraries_the_error_has_the_line_to_add() -> None:
    with LocalCluster(1) as cluster:
        node = cluster.node(1)
        cluster.stop(1)
        conf = node.paths.node_conf.read_text()
        node.paths.node_conf.write_text(conf.replace("'pgraft'", "''", 1))
        node.paths.standby_signal.unlink(missing_ok=True)
        node.start()
        cluster.wait_for_sql(1)
        error = error_of(cluster, 1, "SELECT pgraft_get_term()")
        assert "shared_preload_libraries" in str(error)
        assert "shared_preload_libraries = 'pgraft'" in (error.diag.message_hint or "")


# --- damaged and copied files --------------------------------------------------------------------


@pytest.fixture
def stopped(cluster: LocalCluster) -> tuple[LocalCluster, LocalNode]:
    """A cluster with one follower stopped."""
    follower = cluster.followers()[0]
    cluster.wait_for_standby(follower.id)
    cluster.stop(follower.id)
    return cluster, follower


def refuses_to_start(node: LocalNode, *words: str) -> str:
    """Starts it and waits for the reason in its log."""
    node.log_file.touch()
    offset = node.log_file.stat().st_size
    node.start()

    def said() -> str:
        with open(node.log_file, errors="replace") as log:
            log.seek(offset)
            text = log.read()
        return text if all(word in text for word in words) else ""

    text = wait_for(said, 60, f"{words} in the log of node {node.id}")
    assert "database system is ready to accept" not in text
    return text


def test_a_flipped_byte_in_the_raft_directory_is_noticed(
    stopped: tuple[LocalCluster, LocalNode],
) -> None:
    cluster, node = stopped
    files = sorted(
        (f for f in (node.paths.data_dir / "raft").iterdir() if f.suffix in (".log", ".ldb")),
        key=lambda f: f.stat().st_size,
    )
    victim = files[-1]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0x10
    victim.write_bytes(bytes(content))
    node.start()
    cluster.wait_for_sql(node.id)

    def noticed() -> bool:
        with cluster.connect(node.id) as connection:
            row = connection.execute("SELECT * FROM pgraft_get_worker_state()").fetchone()
        return row is not None and "ERROR" in [str(value) for value in row]

    wait_for(noticed, 60, "the worker to report the damage")
    assert "corruption" in node.log_tail(200).lower() or "damaged" in node.log_tail(200).lower()
    with cluster.connect() as connection:
        connection.execute("CREATE TABLE the_others_go_on (i int)")


def test_a_lost_raft_directory_is_refused(stopped: tuple[LocalCluster, LocalNode]) -> None:
    """Rule 10: a wiped node never comes back with its old vote."""
    _, node = stopped
    shutil.rmtree(node.paths.data_dir / "raft")
    refuses_to_start(node, "Raft state is lost", "pgraft join")


def test_a_lost_state_directory_is_refused(stopped: tuple[LocalCluster, LocalNode]) -> None:
    _, node = stopped
    conf = node.paths.node_conf.read_text()
    shutil.rmtree(node.paths.data_dir)
    node.paths.data_dir.mkdir()
    node.paths.node_conf.write_text(conf)
    subprocess.run(["chmod", "-R", "a+rwX", node.paths.data_dir], check=True)
    refuses_to_start(node, "Raft state is lost")


def test_a_replaced_data_directory_is_refused(stopped: tuple[LocalCluster, LocalNode]) -> None:
    """The data directory of another node, with this node's Raft state."""
    cluster, node = stopped
    other = next(n for n in cluster.followers() if n is not node)
    cluster.stop(other.id)
    shutil.rmtree(node.paths.pgdata)
    subprocess.run(["cp", "-a", other.paths.pgdata, node.paths.pgdata], check=True)
    conf = node.paths.server_conf.read_text()
    conf = conf.replace(str(other.paths.node_conf), str(node.paths.node_conf))
    node.paths.server_conf.write_text(conf)
    refuses_to_start(node, f"belongs to node {other.id}")


def test_a_copy_of_data_and_state_is_not_a_second_member(
    stopped: tuple[LocalCluster, LocalNode],
) -> None:
    """Both halves copied and started beside the original: the cluster hears one of them only."""
    cluster, node = stopped
    node.start()
    cluster.wait_for_standby(node.id, REJOIN_SECONDS)
    voters = set(cluster.nodes)
    with tempfile.TemporaryDirectory(prefix="pgraft-copy-", dir="/tmp") as name:
        base = Path(name)
        base.chmod(0o755)
        cluster.stop(node.id)
        subprocess.run(["cp", "-a", node.paths.pgdata, base / "data"], check=True)
        subprocess.run(["cp", "-a", node.paths.data_dir, base / "data.pgraft"], check=True)
        node.start()
        cluster.wait_for_standby(node.id, REJOIN_SECONDS)
        copy = replace(node, process=None, left=[], log_file=base / "log")
        copy.paths = replace(node.paths, pgdata=base / "data", data_dir=base / "data.pgraft")
        try:
            # Same ports: the original has them, so the copy can't start at all.
            refuses_to_start(copy, "Address already in use")
        finally:
            copy.close()
        cluster.wait_for_voters(voters)
        cluster.wait_for_standby(node.id)
