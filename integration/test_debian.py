"""Servers as Debian makes them: `pg_createcluster`, with the configuration outside the data.

PG_CLUSTER_CONF_ROOT stands for /etc/postgresql, so that nothing of the machine is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import REJOIN_SECONDS, assert_nothing_lost, more_rows, rows, start_writer
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.paths import NodePaths
from pgraft.pg import Postgres

VERSION = Postgres.find().version
pytestmark = pytest.mark.skipif(
    shutil.which("pg_createcluster") is None
    or not Path(f"/usr/lib/postgresql/{VERSION}/bin/initdb").exists(),
    reason=f"needs pg_createcluster (postgresql-common) and Debian's PostgreSQL {VERSION}",
)
CONF_FILES = ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")


class Debian:
    """Three of Debian's clusters on one machine."""

    def __init__(self, base: Path) -> None:
        self.root = base / "etc"
        self.root.mkdir()
        self.cluster = LocalCluster(3, base)
        # To be written by pg_createcluster as the servers' user.
        self.cluster.owner.give(self.root)

    def conf_dir(self, node: LocalNode) -> Path:
        return self.root / str(VERSION) / f"n{node.id}"

    def create(self, node: LocalNode) -> None:
        """As the package does for `main`. Nobody is let in but through the Unix-domain socket."""
        directory = node.paths.pgdata.parent
        self.cluster.owner.make_directory(directory)
        directory.chmod(0o755)
        run(
            "pg_createcluster", "--start-conf", "manual", "-p", str(node.port),
            "-d", str(node.paths.pgdata), "-s", str(node.socket_dir),
            "-l", str(directory / "server.log"), str(VERSION), f"n{node.id}",
            "--", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--no-locale",
        )  # fmt: skip
        node.paths = NodePaths.of(self.conf_dir(node))
        assert node.paths.outside == self.conf_dir(node)

    def configuration(self, node: LocalNode) -> dict[str, tuple[str, int, int]]:
        """Content, mode and owner of what is in its configuration directory."""
        return {
            path.name: (path.read_text(), path.stat().st_mode, path.stat().st_uid)
            for path in self.conf_dir(node).iterdir()
            if path.is_file() and not path.is_symlink()
        }

    def pgraft(self, command: str, node: LocalNode, *arguments: str) -> str:
        """A command about a node, which is named by its configuration directory."""
        where = ["-D", str(self.conf_dir(node))]
        return run(sys.executable, "-m", "pgraft", command, *where, *arguments)

    def settings(self, node: LocalNode) -> list[str]:
        return [
            "--node-id", str(node.id), "--raft-port", str(node.settings.raft_port),
            "--raft-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
            "--replication-conninfo", f"user={self.cluster.owner.name}",
        ]  # fmt: skip

    def admit_members(self, node: LocalNode) -> None:
        self.pgraft("config", node, "--member", "127.0.0.1/32", "--auth", "trust", "--apply")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def debian() -> Iterator[Debian]:
    base = Path(tempfile.mkdtemp(prefix="pgraft-debian-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PG_CLUSTER_CONF_ROOT", str(base / "etc"))
        debian = Debian(base)
        try:
            adopt(debian, debian.cluster.node(1))
            for i in (2, 3):
                join(debian, debian.cluster.node(i))
            debian.cluster.wait_for_voters([1, 2, 3], REJOIN_SECONDS)
            yield debian
        except BaseException as error:
            error.add_note(debian.cluster.logs())
            raise
        finally:
            debian.cluster.close()
            shutil.rmtree(base, ignore_errors=True)


def adopt(debian: Debian, node: LocalNode) -> None:
    """A server with data and settings of its own, and in use, becomes the first member."""
    cluster = debian.cluster
    debian.create(node)
    conf = debian.conf_dir(node)
    (conf / "conf.d").mkdir(exist_ok=True)
    (conf / "conf.d" / "mine.conf").write_text(
        "wal_level = logical\nmax_connections = 110\nshared_preload_libraries = 'auto_explain'\n"
    )
    pg_ctl = [cluster.postgres.program("pg_ctl"), "-D", conf, "-w"]
    cluster.owner.run([*pg_ctl, "-l", node.log_file, "start"])
    with cluster.connect(node.id) as connection:
        connection.execute("CREATE TABLE mine (i int)")
        connection.execute("INSERT INTO mine SELECT generate_series(1, 1000)")
        connection.execute("ALTER SYSTEM SET work_mem = '7MB'")
        connection.execute("ALTER SYSTEM SET max_wal_senders = 30")
    debian.pgraft("create", node, *debian.settings(node))  # while it runs
    debian.admit_members(node)
    cluster.owner.run([*pg_ctl, "-m", "fast", "stop"])

    node.start()
    cluster.wait_for_sql(node.id)
    with cluster.connect(node.id) as connection:
        connection.execute("CREATE EXTENSION pgraft")
        connection.execute("SELECT pgraft_init()")
    cluster.leader()


def join(debian: Debian, node: LocalNode) -> None:
    """A new machine on which the package has made an empty `main`."""
    leader = debian.cluster.leader()
    debian.create(node)
    leader_at = ["--leader", f"127.0.0.1:{leader.port}", "--port", str(node.port)]
    with pytest.raises(AssertionError, match=f"rm -r {node.paths.pgdata}"):
        debian.pgraft("join", node, *debian.settings(node), *leader_at)
    shutil.rmtree(node.paths.pgdata)
    debian.pgraft("join", node, *debian.settings(node), *leader_at)
    debian.admit_members(node)
    node.start()
    debian.cluster.add_to_cluster(node.id)


def test_an_adopted_server_keeps_its_data_and_its_settings(debian: Debian) -> None:
    node = debian.cluster.node(1)
    assert rows(debian.cluster, 1, "mine") == list(range(1, 1001))
    with debian.cluster.connect(1) as connection:
        shown = {
            name: (connection.execute(f"SHOW {name}".encode()).fetchone() or ("",))[0]
            for name in (
                "port", "work_mem", "max_wal_senders", "shared_preload_libraries", "wal_level",
                "max_connections",
                "config_file", "hba_file", "data_directory", "wal_log_hints",
            )
        }  # fmt: skip
    assert shown == {
        "port": str(node.port),
        "work_mem": "7MB",
        "max_wal_senders": "30",
        "shared_preload_libraries": "auto_explain, pgraft",
        "wal_level": "logical",
        "max_connections": "110",
        "config_file": str(debian.conf_dir(node) / "postgresql.conf"),
        "hba_file": str(debian.conf_dir(node) / "pg_hba.conf"),
        "data_directory": str(node.paths.pgdata),
        "wal_log_hints": "on",
    }


def test_debians_own_tools_see_the_members(debian: Debian) -> None:
    lines = {
        line.split()[1]: line.split() for line in run("pg_lsclusters", "--no-header").splitlines()
    }
    for node in debian.cluster.nodes.values():
        _, _, port, status, owner, data, *_ = lines[f"n{node.id}"]
        assert (int(port), owner, data) == (
            node.port, debian.cluster.owner.name, str(node.paths.pgdata)
        )  # fmt: skip
        assert status.startswith("online")


def test_commands_take_either_directory(debian: Debian) -> None:
    node = debian.cluster.node(2)
    for directory in (node.paths.pgdata, debian.conf_dir(node)):
        where = [sys.executable, "-m", "pgraft"]
        assert "voter" in run(*where, "status", "-D", str(directory))
        conninfo = f"user={debian.cluster.owner.name}"
        check = subprocess.run(
            [*where, "check", "-D", str(directory), "--conninfo", conninfo],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert "does not include" not in check.stdout + check.stderr
        assert "postgresql.conf" not in check.stderr, check.stderr
        assert "is as it should be" in run(*where, "config", "-D", str(directory))
        assert run(*where, "logs", "-D", str(directory), "--all", "-n", "1")


def test_the_old_leader_is_rewound_and_its_configuration_stays(debian: Debian) -> None:
    cluster = debian.cluster
    writer = start_writer(cluster)
    old = cluster.leader()
    before = {node.id: debian.configuration(node) for node in cluster.nodes.values()}
    followers = cluster.followers()
    for node in followers:  # what it writes now nobody else gets
        node.pause()
    with cluster.connect(old.id) as connection:
        connection.execute("SELECT pg_logical_emit_message(false, 'lost', repeat('x', 100000))")
        connection.execute("CHECKPOINT")
    cluster.kill(old.id, "all")
    for node in followers:
        node.resume()
    cluster.leader(exclude=[old.id])
    more_rows(writer)
    cluster.start_node(old.id)
    cluster.wait_for_standby(old.id, REJOIN_SECONDS)
    assert_nothing_lost(cluster, writer.stop())
    assert "rewound" in old.log_file.read_text()
    assert_configurations_are(debian, before)


def test_a_member_is_cloned_and_its_configuration_stays(debian: Debian) -> None:
    cluster = debian.cluster
    node = cluster.followers()[0]
    before = {one.id: debian.configuration(one) for one in cluster.nodes.values()}
    cluster.stop(node.id)
    debian.pgraft("rejoin", node, "--yes")
    assert "cloned" in debian.pgraft("prepare", node, "--bindir", str(cluster.postgres.bindir))
    cluster.start_node(node.id)
    cluster.wait_for_standby(node.id, REJOIN_SECONDS)
    assert rows(cluster, node.id, "mine") == list(range(1, 1001))
    wait_for(
        lambda: not node.paths.retired.exists(), REJOIN_SECONDS, "the old directory to be removed"
    )
    assert_configurations_are(debian, before)


@pytest.mark.skipif(
    Postgres.find().bindir != Path(f"/usr/lib/postgresql/{VERSION}/bin"),
    reason="pg_ctlcluster starts Debian's own server, and another one is tested",
)
def test_a_member_is_started_by_debians_own_service(debian: Debian) -> None:
    """What postgresql@.service does, with `pgraft prepare` before it."""
    cluster = debian.cluster
    node = cluster.followers()[0]
    name = [str(VERSION), f"n{node.id}"]
    cluster.stop(node.id)
    assert "nothing to do" in debian.pgraft("prepare", node)
    run("pg_ctlcluster", "--skip-systemctl-redirect", *name, "start")
    try:
        cluster.wait_for_standby(node.id, REJOIN_SECONDS)
        run("pg_ctlcluster", "--skip-systemctl-redirect", *name, "reload")
        assert "voter" in debian.pgraft("status", node)
    finally:
        run("pg_ctlcluster", "--skip-systemctl-redirect", *name, "stop", "-m", "fast")
    cluster.start_node(node.id)
    cluster.wait_for_standby(node.id, REJOIN_SECONDS)


def assert_configurations_are(
    debian: Debian, before: dict[int, dict[str, tuple[str, int, int]]]
) -> None:
    for node in debian.cluster.nodes.values():
        assert debian.configuration(node) == before[node.id]
        there = set(os.listdir(node.paths.pgdata))
        assert not there & set(CONF_FILES), "a configuration in the data directory would mislead"
