"""Rules 9, 10 and 3: how nodes come back that have diverged, were interrupted on the way, or whose
data directory is not the one that they had.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import FAILOVER_SECONDS, REJOIN_SECONDS, SETTINGS, rows, table_of
from pgraft import _pgraft, tablespaces
from pgraft.config import render_node_conf, with_include
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.owner import Owner
from pgraft.pg import Postgres, parse_lsn
from pgraft.prepare import read_rejoin
from stalled import Stalled

REWOUND = "pgraft: rewound; catching up"
CLONED = "pgraft: cloned; catching up"


def log_since(node: LocalNode, offset: int) -> str:
    with open(node.log_file, errors="replace") as log:
        log.seek(offset)
        return log.read()


def wait_for_log(node: LocalNode, offset: int, *words: str) -> str:
    def said() -> str:
        text = log_since(node, offset)
        return text if all(word in text for word in words) else ""

    return wait_for(said, REJOIN_SECONDS, f"{words} in the log of node {node.id}")


def diverge(cluster: LocalCluster, table: str = "t") -> tuple[LocalNode, LocalNode]:
    """Kills a leader that has rows which nobody else has, in blocks that others change too.

    Returns:
        The dead one, and its successor.
    """
    table_of(cluster, table)
    with cluster.connect() as connection:
        connection.execute(f"INSERT INTO {table} SELECT generate_series(1, 1000)".encode())
    stalled = Stalled(cluster)
    lost = [
        stalled.waiting(f"UPDATE {table} SET i = i + 1000000 WHERE i % 2 = 0"),
        stalled.waiting(f"INSERT INTO {table} SELECT generate_series(2000001, 2001000)"),
    ]
    dead = stalled.leader
    dead.kill("all")
    stalled.lose()
    successor = cluster.leader(REJOIN_SECONDS, exclude=[dead.id])
    for one in lost:
        one.join()
        assert not one.acknowledged
    with cluster.connect(successor.id) as connection:
        connection.execute(f"INSERT INTO {table} SELECT generate_series(1001, 2000)".encode())
        connection.execute("CHECKPOINT")
    return dead, successor


def comes_back(cluster: LocalCluster, node: LocalNode, table: str = "t") -> str:
    """Starts a node; it follows, and has what the leader has. What its log says."""
    offset = node.log_file.stat().st_size
    node.start()
    cluster.wait_for_standby(node.id, REJOIN_SECONDS)
    assert rows(cluster, node.id, table) == rows(cluster, cluster.leader().id, table)
    return log_since(node, offset)


def mark(node: LocalNode) -> Path:
    """A file in the data directory, which neither a clone nor a rewind keeps."""
    path = node.paths.pgdata / "mark"
    path.touch()
    return path


# --- rewind or clone -----------------------------------------------------------------------------


@pytest.mark.parametrize(("checksums", "said"), [(True, REWOUND), (False, CLONED)])
def test_a_leader_with_a_tail_of_its_own_comes_back(checksums: bool, said: str) -> None:
    """Without wal_log_hints; all other tests have it, and no checksums.

    In SQL_ASCII a server sends text as bytes, unless it is asked for text.
    """
    settings = {**SETTINGS, "wal_log_hints": "off"}
    options = ["--encoding=SQL_ASCII", "--locale=C"]
    options += ["--data-checksums"] if checksums else []
    with LocalCluster(3, settings=settings, initdb_options=options) as cluster:
        dead, _ = diverge(cluster)
        log = comes_back(cluster, dead)
        assert said in log
        assert rows(cluster, dead.id) == list(range(1, 2001))
        assert ("wal_log_hints = on, and has neither" in log) == (said == CLONED)


def test_without_rule_9_a_diverged_node_never_follows() -> None:
    """The control: PostgreSQL itself asks for the new timeline for ever."""
    settings = {**SETTINGS, "pgraft.debug_rules_off": "divergence"}
    with LocalCluster(3, settings=settings) as cluster:
        dead, _ = diverge(cluster)
        offset = dead.log_file.stat().st_size
        dead.start()
        text = wait_for_log(dead, offset, "before current recovery point")
        assert REWOUND not in text
        assert read_rejoin(dead.paths) is None


def test_a_rewind_whose_wal_the_leader_has_removed_becomes_a_clone() -> None:
    settings = {
        **SETTINGS,
        "min_wal_size": "'32MB'",
        "max_wal_size": "'64MB'",
        "max_slot_wal_keep_size": "'32MB'",
    }
    with LocalCluster(3, settings=settings) as cluster:
        dead, successor = diverge(cluster)
        third = next(n for n in cluster.followers() if n is not dead)
        for node in (successor, third):
            with cluster.connect(node.id) as connection:
                connection.execute("ALTER SYSTEM SET wal_keep_size = 0")
                connection.execute("SELECT pg_reload_conf()")
        with cluster.connect(successor.id) as connection:
            for _ in range(8):
                connection.execute("INSERT INTO t VALUES (3000)")
                connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
            row = connection.execute("SELECT count(*) FROM pg_ls_waldir()").fetchone()
        assert row is not None
        log = comes_back(cluster, dead)
        assert CLONED in log
        assert "no longer has the WAL" in log, log


# --- tablespaces ---------------------------------------------------------------------------------


def place(node: LocalNode) -> Path:
    """Where the one tablespace of a node is."""
    (found,) = tablespaces.places(node.paths.pgdata).values()
    return found


def ask_for_a_clone(node: LocalNode, source: LocalNode) -> None:
    """As the controller does for a node that was left behind."""
    rejoin = _pgraft.RejoinFile()
    rejoin.state = _pgraft.RejoinState.REQUESTED
    rejoin.mode = _pgraft.RejoinMode.CLONE
    rejoin.source_node = source.id
    rejoin.reason = "a test asks for it"
    _pgraft.write_rejoin(str(node.paths.data_dir), rejoin)
    Owner.of_directory(node.paths.data_dir).give(node.paths.data_dir / "rejoin")


def test_tablespaces_of_members_on_one_machine_stay_apart() -> None:
    with LocalCluster(1, settings=SETTINGS) as cluster:
        original = cluster.base_dir / "space"
        cluster.owner.make_directory(original)
        with cluster.connect() as connection:
            connection.execute(f"CREATE TABLESPACE space LOCATION '{original}'".encode())
            connection.execute("CREATE TABLE t (i int) TABLESPACE space")
        for node_id in (2, 3):
            node = cluster.new_node(node_id)
            cluster.join_node(node)
            node.start()
            cluster.add_to_cluster(node_id)
        cluster.wait_for_voters([1, 2, 3], REJOIN_SECONDS)
        assert len({place(node) for node in cluster.nodes.values()}) == 3

        # A rewind leaves them where they are.
        dead, successor = diverge(cluster)
        before = place(dead)
        assert REWOUND in comes_back(cluster, dead)
        assert place(dead) == before

        # A clone puts them beside, and the old place is freed once the node has caught up.
        for node in cluster.followers():
            before = place(node)
            node.stop()
            ask_for_a_clone(node, successor)
            assert CLONED in comes_back(cluster, node)
            assert place(node) != before
            assert before.parent == place(node).parent
            to_free = node.paths.old_tablespaces
            wait_for(lambda f=to_free: not f.exists(), REJOIN_SECONDS, f"{before} to be freed")
            assert not list(before.glob("PG_*"))
        assert len({place(node) for node in cluster.nodes.values()}) == 3
        assert rows(cluster, successor.id) == rows(cluster, dead.id)

        # One made now has the same place on all of them, so nothing may be rewound into it.
        common = cluster.base_dir / "common"
        cluster.owner.make_directory(common)
        warnings: list[str] = []
        with cluster.connect() as connection:
            connection.add_notice_handler(lambda said: warnings.append(said.message_primary or ""))
            connection.execute(f"CREATE TABLESPACE common LOCATION '{common}'".encode())
        assert len(warnings) == 1
        assert f'may now use the same directory "{common}"' in warnings[0]
        dead, successor = diverge(cluster)
        log = comes_back(cluster, dead)
        assert CLONED in log
        assert "the source uses the same directories" in log
        mine = set(tablespaces.places(dead.paths.pgdata).values())
        assert not mine & set(tablespaces.places(successor.paths.pgdata).values())
        assert list(common.glob("PG_*")), "the others still use it"


# --- interruptions -------------------------------------------------------------------------------


class Programs:
    """PostgreSQL's programs, of which some die in the middle when they are told to."""

    def __init__(self, directory: Path, *traps: str) -> None:
        real = Postgres.find().bindir
        owner = Owner.for_new_directory()
        owner.make_directory(directory)
        self.directory = directory
        for program in real.iterdir():
            if program.name not in traps:
                (directory / program.name).symlink_to(program)
        for name in traps:
            script = directory / name
            # A file of more than a megabyte ends it; the script then stands still where it was.
            script.write_text(
                "#!/bin/sh\n"
                f"if [ -e {directory}/{name}.trap ]; then\n"
                f"  rm {directory}/{name}.trap\n"
                f'  (ulimit -c 0; ulimit -f 2048; exec {real}/{name} "$@")\n'
                f"  touch {directory}/{name}.dead\n"
                "  kill -STOP $$\n"
                "fi\n"
                f'exec {real}/{name} "$@"\n'
            )
            script.chmod(0o755)

    def set_trap(self, name: str) -> None:
        (self.directory / f"{name}.trap").touch()

    def wait_for_death(self, name: str) -> None:
        flag = self.directory / f"{name}.dead"
        wait_for(flag.exists, REJOIN_SECONDS, f"{name} to die in the middle")
        flag.unlink()


def contents(directory: Path) -> dict[str, bytes]:
    """Of the files of the databases."""
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in (directory / "base").rglob("*")
        if file.is_file()
    }


@pytest.fixture
def trapped() -> Iterator[tuple[LocalCluster, Programs]]:
    with tempfile.TemporaryDirectory(prefix="pgraft-test-") as base:
        Path(base).chmod(0o755)  # the servers' user must get through
        programs = Programs(Path(base) / "bin", "pg_rewind", "pg_basebackup")
        with LocalCluster(3, settings=SETTINGS, bindir=programs.directory) as cluster:
            yield cluster, programs


def test_a_rewind_and_a_clone_that_are_killed_in_the_middle(
    trapped: tuple[LocalCluster, Programs],
) -> None:
    cluster, programs = trapped
    dead, _ = diverge(cluster)
    copy = dead.paths.pgdata.with_name("copy")
    subprocess.run(["cp", "-a", dead.paths.pgdata, copy], check=True)

    programs.set_trap("pg_rewind")
    programs.set_trap("pg_basebackup")
    dead.start()
    programs.wait_for_death("pg_rewind")
    dead.kill_supervisor()  # its child stands still, and holds the lock
    dead.left = []
    offset = dead.log_file.stat().st_size
    old = contents(dead.paths.pgdata)

    # What is half rewound is cloned; that, too, is killed, with all there is.
    dead.start()
    programs.wait_for_death("pg_basebackup")
    text = log_since(dead, offset)
    assert "ending what an earlier attempt has left running" in text
    assert dead.paths.clone.exists()
    dead.kill("all")
    assert contents(dead.paths.pgdata) == old, "the old data is there until the clone is whole"

    log = comes_back(cluster, dead)
    assert CLONED in log
    wait_for(lambda: not dead.paths.retired.exists(), REJOIN_SECONDS, "the old data to be removed")
    assert rows(cluster, dead.id) == list(range(1, 2001))

    # Rule 10: what was there before the clone never comes back.
    dead.stop()
    dead.paths.pgdata.rename(dead.paths.pgdata.with_name("good"))
    copy.rename(dead.paths.pgdata)
    offset = dead.log_file.stat().st_size
    dead.start()
    wait_for_log(dead, offset, "is not the one that", "pgraft join")
    dead.kill("all")
    shutil.rmtree(dead.paths.pgdata)
    dead.paths.pgdata.with_name("good").rename(dead.paths.pgdata)
    comes_back(cluster, dead)


# --- data directories that are not what they were ------------------------------------------------


def test_lost_and_copied_data_is_refused_and_the_advice_works(cluster: LocalCluster) -> None:
    table_of(cluster)
    node = cluster.followers()[0]
    node.stop()

    # Two members with the same data: the second one has no state of its own yet.
    second = cluster.new_node(4)
    subprocess.run(["cp", "-a", node.paths.pgdata, second.paths.pgdata], check=True)
    cluster.owner.make_directory(second.paths.data_dir)
    second.paths.node_conf.write_text(render_node_conf(second.settings, second.paths))
    cluster.owner.give(second.paths.node_conf)
    conf = second.paths.server_conf
    conf.write_text(with_include(conf.read_text(), second.paths))
    second.start()
    wait_for_log(second, 0, f"belongs to node {node.id}, and this is node 4", "run pgraft join")
    second.kill("all")
    del cluster.nodes[4]

    # A new disk, with the state of the old life.
    shutil.rmtree(node.paths.pgdata)
    node.paths.pgdata.mkdir(mode=0o700)
    cluster.owner.give(node.paths.pgdata)
    offset = node.log_file.stat().st_size
    node.start()
    text = wait_for_log(node, offset, "holds no database", "mount it", "pgraft join")
    assert f"pgraft_remove_node({node.id})" in text
    node.kill("all")
    cluster.remove_from_cluster(node.id)
    shutil.rmtree(node.paths.data_dir)
    cluster.join_node(node, source=cluster.leader().id)
    node.start()
    cluster.add_to_cluster(node.id)
    cluster.wait_for_voters(cluster.nodes, REJOIN_SECONDS)


@contextmanager
def with_an_old_copy(
    settings: dict[str, str], *, cloned: bool = False
) -> Iterator[tuple[LocalCluster, LocalNode, LocalNode]]:
    """The leader and a follower have acknowledged a row; the leader is dead, the follower's data
    directory was put back from a copy made before that, and the third one was down at that time.

    Args:
        settings: Of the servers.
        cloned: The follower was cloned after the copy was made.

    Yields:
        The cluster, the dead leader, and the follower with the copy.
    """
    with LocalCluster(3, settings=settings) as cluster:
        table_of(cluster)
        leader, (behind, restored) = cluster.leader(), cluster.followers()
        for node in (behind, restored):
            cluster.wait_for_standby(node.id, REJOIN_SECONDS)
        restored.stop()  # one at a time: without a majority another node might lead afterwards
        copy = restored.paths.pgdata.with_name("copy")
        subprocess.run(["cp", "-a", restored.paths.pgdata, copy], check=True)
        if cloned:
            ask_for_a_clone(restored, leader)
        restored.start()
        cluster.wait_for_standby(restored.id, REJOIN_SECONDS)
        behind.stop()
        with cluster.connect(leader.id) as connection:
            connection.execute("INSERT INTO t VALUES (1)")
            row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row is not None
        acknowledged = parse_lsn(row[0])

        def remembered() -> bool:
            text = (restored.paths.data_dir / "wal_end").read_text()
            lsn = next(line for line in text.splitlines() if line.startswith("lsn"))
            return parse_lsn(lsn.split()[-1]) >= acknowledged

        wait_for(remembered, 60, "the end of the WAL to be remembered")
        leader.kill("all")
        restored.kill("all")
        shutil.rmtree(restored.paths.pgdata)
        copy.rename(restored.paths.pgdata)
        restored.start()
        behind.start()
        yield cluster, leader, restored


def test_an_old_copy_of_the_data_is_not_taken_for_the_data() -> None:
    """Rule 3: with it and the one that was behind there is a majority, and not one acknowledged
    row; the node says that it lacks something, and nobody is promoted until the row is back.
    """
    with with_an_old_copy(SETTINGS) as (cluster, leader, restored):

        def waits() -> bool:
            answers = [answer for answer in cluster.status().values() if answer]
            assert not any(answer.leads for answer in answers)
            abstains = any(a.abstaining for a in answers if a.node_id == restored.id)
            leads = any(a.state == "leader" and "position reports" in a.phase for a in answers)
            return abstains and leads

        wait_for(waits, REJOIN_SECONDS, "the old copy to abstain")
        leader.start()
        cluster.leader(REJOIN_SECONDS)
        for node in cluster.followers():
            cluster.wait_for_standby(node.id, REJOIN_SECONDS)
        for node_id in cluster.nodes:
            assert rows(cluster, node_id) == [1]

        def acknowledges() -> bool:
            answer = cluster.status()[restored.id]
            return answer is not None and not answer.abstaining

        wait_for(acknowledges, FAILOVER_SECONDS, "the old copy to have caught up")


def test_without_that_an_acknowledged_row_is_lost() -> None:
    """The control."""
    settings = {**SETTINGS, "pgraft.debug_rules_off": "wal_end"}
    with with_an_old_copy(settings) as (cluster, _, _):
        assert rows(cluster, cluster.leader(REJOIN_SECONDS).id) == []


def test_what_a_clone_replaced_never_comes_back() -> None:
    """Rule 10: the binding tells it from its successor. The control forges that."""
    settings = {**SETTINGS, "pgraft.debug_rules_off": "wal_end"}
    with with_an_old_copy(settings, cloned=True) as (cluster, leader, restored):
        wait_for_log(restored, 0, "is not the one that", "pgraft join")
        assert not any(answer and answer.leads for answer in cluster.status().values())
        restored.kill("all")
        half = _pgraft.read_binding(str(restored.paths.pgdata))
        half.binding = _pgraft.read_identity(str(restored.paths.data_dir)).binding
        _pgraft.write_binding(str(restored.paths.pgdata), half)
        Owner.of_directory(restored.paths.pgdata).give(restored.paths.binding)
        restored.start()
        assert cluster.leader(REJOIN_SECONDS).id != leader.id
        assert rows(cluster, cluster.leader().id) == []
