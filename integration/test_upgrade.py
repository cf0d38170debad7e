"""Updates from an earlier release: the SQL of the extension, dumps, members of two releases.

The last test runs real servers of both releases and needs them both: PGRAFT_OLD_BUILD names the
directory of the programs of a server in which the older one is installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from helpers import (
    REJOIN_SECONDS,
    assert_nothing_lost,
    hand_over,
    more_rows,
    start_writer,
)
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from pgraft.owner import Owner
from pgraft.pg import Postgres

FIRST = "0.1.0"
RELEASES = [FIRST]
OLD_BUILD = os.environ.get("PGRAFT_OLD_BUILD")

OF_PGRAFT = """
d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgraft')
"""
# What a database engineer sees of an extension: its members with all that can be said of them.
MEMBERS = f"""
SELECT d.classid::regclass::text AS kind, i.identity, o.definition, o.acl, o.initial, o.comment
FROM pg_depend d
CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) i
CROSS JOIN LATERAL (
    SELECT
        CASE d.classid
            WHEN 'pg_proc'::regclass THEN
                (SELECT pg_get_functiondef(oid) FROM pg_proc WHERE oid = d.objid)
            WHEN 'pg_class'::regclass THEN
                (SELECT relkind::text || pg_get_viewdef(oid) FROM pg_class WHERE oid = d.objid)
        END,
        CASE d.classid
            WHEN 'pg_proc'::regclass THEN
                (SELECT ARRAY(SELECT a::text FROM unnest(proacl) a ORDER BY 1)
                 FROM pg_proc WHERE oid = d.objid)
            WHEN 'pg_class'::regclass THEN
                (SELECT ARRAY(SELECT a::text FROM unnest(relacl) a ORDER BY 1)
                 FROM pg_class WHERE oid = d.objid)
        END,
        (SELECT ARRAY(SELECT a::text FROM unnest(initprivs) a ORDER BY 1) FROM pg_init_privs p
         WHERE p.classoid = d.classid AND p.objoid = d.objid AND p.objsubid = 0),
        obj_description(d.objid, (SELECT relname FROM pg_class WHERE oid = d.classid))
) o (definition, acl, initial, comment)
WHERE {OF_PGRAFT} AND i.type IS DISTINCT FROM 'type'
ORDER BY 1, 2
"""
COLUMNS = f"""
SELECT a.attrelid::regclass::text, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
       col_description(a.attrelid, a.attnum)
FROM pg_attribute a JOIN pg_depend d ON d.objid = a.attrelid AND d.classid = 'pg_class'::regclass
WHERE {OF_PGRAFT} AND a.attnum > 0
ORDER BY 1, 2
"""

# A call of every function that 0.1.0 had, as somebody who has not updated yet makes it.
CALLS = {
    "pgraft_init()": None,  # has made this cluster
    "pgraft_add_node(integer,text,integer)": None,  # refused, see below
    "pgraft_add_node(text)": None,
    "pgraft_remove_node(integer)": None,
    "pgraft_transfer_leadership(integer)": "pgraft_transfer_leadership(1)",
    "pgraft_get_cluster_status()": "pgraft_get_cluster_status()",
    "pgraft_get_nodes()": "pgraft_get_nodes()",
    "pgraft_is_leader()": "pgraft_is_leader()",
    "pgraft_in_contact()": "pgraft_in_contact()",
    "pgraft_read_barrier()": "pgraft_read_barrier()",
    "pgraft_get_leader()": "pgraft_get_leader()",
    "pgraft_get_term()": "pgraft_get_term()",
    "pgraft_get_worker_state()": "pgraft_get_worker_state()",
    "pgraft_get_queue_status()": "pgraft_get_queue_status()",
    "pgraft_get_version()": "pgraft_get_version()",
    "pgraft_pause(interval)": "pgraft_pause('1 min')",
    "pgraft_resume()": "pgraft_resume()",
    "pgraft_get_command(bigint)": (
        "pgraft_get_command((SELECT max(command_id) FROM pgraft_get_queue_status()))"
    ),
    "pgraft_kv_put(text,text,interval)": "pgraft_kv_put('k', 'v')",
    "pgraft_kv_put_bytes(text,bytea,interval)": "pgraft_kv_put_bytes('b', 'v')",
    "pgraft_kv_get(text,boolean)": "pgraft_kv_get('k')",
    "pgraft_kv_get_bytes(text,boolean)": "pgraft_kv_get_bytes('b')",
    "pgraft_kv_get_entry(text,boolean)": "pgraft_kv_get_entry('k')",
    "pgraft_kv_exists(text,boolean)": "pgraft_kv_exists('k')",
    "pgraft_kv_delete(text)": "pgraft_kv_delete('b')",
    "pgraft_kv_compare_and_set(text,bigint,text,interval)": (
        "pgraft_kv_compare_and_set('c', 0, 'v')"
    ),
    "pgraft_kv_compare_and_set(text,text,text,interval)": (
        "pgraft_kv_compare_and_set('c', 'v'::text, 'w')"
    ),
    "pgraft_kv_list_keys(text,text,integer,boolean)": "pgraft_kv_list_keys()",
    "pgraft_kv_watch(text,bigint,interval)": "pgraft_kv_watch('', 0, '1 s')",
    "pgraft_kv_get_stats()": "pgraft_kv_get_stats()",
    "pgraft_log_append(text)": "pgraft_log_append('x')",
    "pgraft_log_get_entry(bigint)": (
        "pgraft_log_get_entry((SELECT commit_index FROM pgraft_log_get_stats()))"
    ),
    "pgraft_log_get_stats()": "pgraft_log_get_stats()",
    "pgraft_log_get_replication_status()": "pgraft_log_get_replication_status()",
    "pgraft_get_performance()": "pgraft_get_performance()",
    "pgraft_get_messages()": "pgraft_get_messages()",
    "pgraft_get_failovers()": "pgraft_get_failovers()",
    "pgraft_get_commit_quorum()": "pgraft_get_commit_quorum()",
}


@pytest.fixture(scope="module")
def alone() -> Iterator[LocalCluster]:
    """A cluster of one."""
    with LocalCluster(1) as cluster:
        yield cluster


Database = Callable[[str], psycopg.Connection[Any]]


@pytest.fixture
def database(alone: LocalCluster) -> Iterator[Database]:
    """Makes a database, and connects to it."""
    made: dict[str, psycopg.Connection[Any]] = {}

    def make(name: str) -> psycopg.Connection[Any]:
        with alone.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        made[name] = connect(alone, name)
        return made[name]

    yield make
    for name, connection in made.items():
        connection.close()
        with alone.connect() as admin:
            admin.execute(f"DROP DATABASE {name}".encode())


def connect(cluster: LocalCluster, database: str) -> psycopg.Connection[Any]:
    node = cluster.leader()
    return psycopg.connect(
        host=str(node.socket_dir),
        port=node.port,
        user=cluster.owner.name,
        dbname=database,
        autocommit=True,
    )


def catalog(connection: psycopg.Connection[Any]) -> list[Any]:
    members = connection.execute(MEMBERS.encode()).fetchall()
    assert len(members) >= len(CALLS)
    return members + connection.execute(COLUMNS.encode()).fetchall()


def extension_version(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'pgraft'")
    (version,) = row.fetchone() or ("",)
    return str(version)


@pytest.mark.parametrize("release", RELEASES)
def test_an_updated_extension_is_the_same_as_a_fresh_one(database: Database, release: str) -> None:
    fresh, updated = database("fresh"), database("updated")
    fresh.execute("CREATE EXTENSION pgraft")
    updated.execute(f"CREATE EXTENSION pgraft VERSION '{release}'".encode())
    assert extension_version(updated) == release
    updated.execute("ALTER EXTENSION pgraft UPDATE")
    assert extension_version(updated) == extension_version(fresh) != release
    assert catalog(updated) == catalog(fresh)
    updated.execute("ALTER EXTENSION pgraft UPDATE")  # once more: nothing to do
    assert catalog(updated) == catalog(fresh)


def test_an_update_keeps_what_depends_on_the_extension(database: Database) -> None:
    connection = database("dependent")
    connection.execute(f"CREATE EXTENSION pgraft VERSION '{FIRST}'".encode())
    connection.execute("CREATE VIEW mine AS SELECT node_id, role FROM pgraft_members")
    connection.execute("CREATE ROLE watcher")
    try:
        connection.execute("GRANT EXECUTE ON FUNCTION pgraft_kv_put TO watcher")
        connection.execute("ALTER EXTENSION pgraft UPDATE")
        assert connection.execute("SELECT role FROM mine").fetchall() == [("voter",)]
        granted = connection.execute(
            "SELECT has_function_privilege('watcher', 'pgraft_kv_put(text,text,interval)',"
            " 'execute')"
        ).fetchone()
        assert granted == (True,)
    finally:
        connection.execute("DROP OWNED BY watcher")
        connection.execute("DROP ROLE watcher")


def test_before_the_update_every_function_of_the_first_release_works(database: Database) -> None:
    """A new library serves old SQL until somebody runs ALTER EXTENSION in each database."""
    connection = database("not_updated")
    connection.execute(f"CREATE EXTENSION pgraft VERSION '{FIRST}'".encode())
    there = connection.execute(
        f"SELECT d.objid::regprocedure::text FROM pg_depend d WHERE {OF_PGRAFT} "
        "AND d.classid = 'pg_proc'::regclass".encode()
    ).fetchall()
    assert {name for (name,) in there} == set(CALLS)
    for call in filter(None, CALLS.values()):
        connection.execute(f"SELECT * FROM {call}".encode()).fetchall()
    for refused, state in (
        ("pgraft_init()", "55000"),
        ("pgraft_add_node(1, '127.0.0.1', 1)", "42710"),
        ("pgraft_add_node('127.0.0.1:1')", "08001"),
        ("pgraft_remove_node(99)", "42704"),
    ):
        with pytest.raises(psycopg.Error) as raised:
            connection.execute(f"SELECT {refused}".encode())
        assert raised.value.sqlstate == state, (refused, raised.value)
    views = connection.execute(
        f"SELECT d.objid::regclass::text FROM pg_depend d WHERE {OF_PGRAFT} "
        "AND d.classid = 'pg_class'::regclass".encode()
    ).fetchall()
    assert views
    for (view,) in views:
        connection.execute(f"SELECT * FROM {view}".encode()).fetchall()


# --- dumps ---------------------------------------------------------------------------------------


class Plain:
    """A fresh server without a cluster, to restore into."""

    def __init__(self, directory: Path) -> None:
        self.owner = Owner.for_new_directory()
        self.postgres = Postgres.find()
        self.data = directory / "data"
        self.socket = directory
        self.owner.make_directory(directory)

    def __enter__(self) -> Plain:
        options = ["--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"]
        self.postgres.init_directory(self.owner, self.data, options)
        self._control(
            "start", "-o", f"-c listen_addresses='' -c unix_socket_directories={self.socket}"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._control("stop", "-m", "immediate")

    def _control(self, *arguments: str) -> None:
        pg_ctl = self.postgres.program("pg_ctl")
        log = ["-l", str(self.socket / "log")]
        self.owner.run([pg_ctl, "-D", self.data, "-w", *log, *arguments])

    def psql(self, script: Path, database: str = "postgres") -> str:
        command = [
            self.postgres.program("psql"), "-X", "-h", self.socket, "-d", database, "-f", script
        ]  # fmt: skip
        return self.owner.run(command).stdout

    def connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.socket), dbname=database, user=self.owner.name, autocommit=True
        )


def dump(cluster: LocalCluster, target: Path, program: str, *arguments: str) -> Path:
    node = cluster.leader()
    where = ["-h", node.socket_dir, "-p", str(node.port), "-f", target]
    cluster.owner.run([cluster.postgres.program(program), *where, *arguments])
    return target


def used(connection: psycopg.Connection[Any]) -> None:
    """A database in which somebody has used the extension."""
    connection.execute("CREATE EXTENSION pgraft")
    connection.execute("CREATE TABLE t (i int)")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.execute("CREATE VIEW mine AS SELECT node_id FROM pgraft_members")
    connection.execute("GRANT SELECT ON mine TO pgraft_admin")
    connection.execute("REVOKE EXECUTE ON FUNCTION pgraft_get_term FROM PUBLIC")


def assert_restored(connection: psycopg.Connection[Any], wanted: list[Any]) -> None:
    assert connection.execute("SELECT i FROM t").fetchall() == [(1,)]
    assert catalog(connection) == wanted
    assert connection.execute(
        "SELECT has_table_privilege('pgraft_admin', 'mine', 'select')"
    ).fetchone() == (True,)


@pytest.mark.parametrize("with_role", [False, True], ids=["without role", "with role"])
def test_a_dump_is_restored_into_a_fresh_server(
    alone: LocalCluster, database: Database, with_role: bool
) -> None:
    directory = alone.base_dir / f"plain-{with_role}"
    used(database("dumped"))
    with connect(alone, "dumped") as connection:
        wanted = catalog(connection)
    alone.owner.make_directory(directory)
    script = dump(alone, directory / "dump.sql", "pg_dump", "-d", "dumped", "--create")
    with Plain(directory) as server:
        with server.connect("postgres") as admin:
            if with_role:
                admin.execute("CREATE ROLE pgraft_admin NOLOGIN")
        assert "ERROR" not in server.psql(script)
        with server.connect("dumped") as connection:
            assert_restored(connection, wanted)


def test_a_dump_of_all_databases_is_restored_into_a_fresh_server(
    alone: LocalCluster, database: Database
) -> None:
    directory = alone.base_dir / "plain-all"
    used(database("dumped"))
    with connect(alone, "dumped") as connection:
        wanted = catalog(connection)
        connection.execute("CREATE ROLE operator LOGIN IN ROLE pgraft_admin")
    alone.owner.make_directory(directory)
    try:
        script = dump(alone, directory / "all.sql", "pg_dumpall")
    finally:
        with alone.connect() as connection:
            connection.execute("DROP ROLE operator")
    with Plain(directory) as server:
        said = server.psql(script)
        errors = [line for line in said.splitlines() if "ERROR" in line]
        # The superuser is there already, as with any dump of this kind.
        assert errors == [line for line in errors if f'role "{server.owner.name}"' in line], errors
        with server.connect("dumped") as connection:
            assert_restored(connection, wanted)
            assert connection.execute(
                "SELECT pg_has_role('operator', 'pgraft_admin', 'member')"
            ).fetchone() == (True,)


# --- members of two releases ---------------------------------------------------------------------


def restart_with(cluster: LocalCluster, node: LocalNode, bindir: Path) -> None:
    node.stop()
    node.bindir = bindir
    node.start()
    cluster.wait_for_standby(node.id, REJOIN_SECONDS)
    cluster.wait_for_voters(cluster.nodes, REJOIN_SECONDS)


def versions(cluster: LocalCluster) -> dict[int, str]:
    found = {}
    for node in cluster.nodes.values():
        with cluster.connect(node.id) as connection:
            row = connection.execute("SELECT pgraft_get_version()").fetchone()
        assert row is not None
        found[node.id] = str(row[0])
    return found


@pytest.mark.skipif(
    OLD_BUILD is None,
    reason="needs PGRAFT_OLD_BUILD, the programs of a server with an older release of pgraft",
)
def test_members_are_updated_one_after_the_other_under_writes() -> None:
    assert OLD_BUILD is not None
    new = Postgres.find().bindir
    with LocalCluster(3, bindir=Path(OLD_BUILD)) as cluster:
        old_version = set(versions(cluster).values())
        assert len(old_version) == 1
        with cluster.connect() as connection:
            connection.execute("SELECT pgraft_kv_put('before', 'the update')")
        writer = start_writer(cluster)
        first = cluster.leader()
        second, third = cluster.followers()

        restart_with(cluster, second, new)  # new ones follow an old leader
        more_rows(writer)
        assert len(set(versions(cluster).values())) == 2
        restart_with(cluster, second, Path(OLD_BUILD))  # it can go back
        more_rows(writer)
        restart_with(cluster, second, new)
        hand_over(cluster, first, second.id)  # old ones follow a new leader
        more_rows(writer)
        hand_over(cluster, second, third.id)  # and a new one an old leader again
        more_rows(writer)
        hand_over(cluster, third, second.id)
        restart_with(cluster, first, new)
        more_rows(writer)
        restart_with(cluster, third, new)
        more_rows(writer)

        (now,) = set(versions(cluster).values())
        assert now not in old_version
        with cluster.connect() as connection:
            for call in filter(None, CALLS.values()):
                if "transfer" not in call:
                    connection.execute(f"SELECT * FROM {call}".encode()).fetchall()
            connection.execute("ALTER EXTENSION pgraft UPDATE")
            assert extension_version(connection) == now
            assert connection.execute("SELECT pgraft_kv_get('before')").fetchone() == (
                "the update",
            )
        leader = cluster.leader()
        cluster.kill(leader.id)
        cluster.leader(exclude=[leader.id])
        more_rows(writer)
        cluster.start_node(leader.id)
        wait_for(
            lambda: len(cluster.followers()) == 2 and all(cluster.status().values()),
            REJOIN_SECONDS,
            "the old leader to be back",
        )
        record = writer.stop()
        assert_nothing_lost(cluster, record)
        print(
            f"{len(record.acknowledged)} rows acknowledged, {len(record.unknown)} unknown, "
            f"{record.refused} refused, longest gap {record.longest_gap():.2f} s"
        )
