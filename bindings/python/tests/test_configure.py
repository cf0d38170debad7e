"""`pgraft config`: added to what is there, once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pgraft.config import INCLUDE_MARK, parse_settings
from pgraft.configure import hba_block, merged, plan, settings_from, with_hba_block
from pgraft.errors import SetupError
from pgraft.owner import Owner
from pgraft.paths import NodePaths

USER_CONF = "max_connections = 300   # mine\nshared_preload_libraries = 'pg_stat_statements'\n"
USER_HBA = "# my rules\nhost all all 10.1.0.0/16 scram-sha-256\n"


@pytest.fixture
def node() -> Iterator[tuple[NodePaths, Owner]]:
    base = Path(tempfile.mkdtemp(prefix="pgraft-test-", dir="/tmp"))
    owner = Owner.for_new_directory()
    paths = NodePaths.of(base / "data")
    owner.make_directory(paths.pgdata)
    owner.make_directory(paths.data_dir)
    paths.server_conf.write_text(USER_CONF)
    paths.hba_conf.write_text(USER_HBA)
    yield paths, owner
    shutil.rmtree(base)


def apply(node: tuple[NodePaths, Owner], **options: object) -> list[Path]:
    """Paths of the files that changed."""
    paths, owner = node
    conf = parse_settings(
        (paths.node_conf if paths.node_conf.exists() else paths.server_conf).read_text()
    )
    names = {"node_id": "pgraft.node_id", "port": "port"}
    given = [names[name] for name in options]
    changes = plan(
        paths, settings_from(conf, **options), given, ["10.0.0.1", "10.0.0.0/24"], "scram-sha-256",
        "postgres",
    )  # fmt: skip
    for change in changes:
        if change.changed:
            change.apply(owner)
    return [change.path for change in changes if change.changed]


def test_a_servers_own_lines_stay_and_the_second_time_changes_nothing(
    node: tuple[NodePaths, Owner],
) -> None:
    paths, _ = node
    assert apply(node, node_id=3) == [paths.node_conf, paths.server_conf, paths.hba_conf]
    conf = paths.server_conf.read_text()
    assert conf.startswith(USER_CONF)
    assert INCLUDE_MARK in conf.splitlines()[-1]
    settings = parse_settings(paths.node_conf.read_text())
    assert settings["pgraft.node_id"] == "3"
    assert settings["shared_preload_libraries"] == "pg_stat_statements, pgraft"
    hba = paths.hba_conf.read_text()
    assert hba.endswith(USER_HBA)
    assert "host  replication  postgres  10.0.0.1/32  scram-sha-256" in hba
    assert apply(node) == []
    assert apply(node, node_id=3) == []


def test_what_is_changed_is_kept_beside_it(node: tuple[NodePaths, Owner]) -> None:
    paths, _ = node
    apply(node, node_id=3)
    (backup,) = paths.pgdata.glob("postgresql.conf.*.bak")
    assert backup.read_text() == USER_CONF


def test_own_lines_of_node_conf_stay_and_what_is_given_replaces(
    node: tuple[NodePaths, Owner],
) -> None:
    paths, _ = node
    apply(node, node_id=3)
    text = paths.node_conf.read_text()
    text = text.replace("max_wal_senders = 20", "max_wal_senders = 40  # mine")
    text = text.replace("hot_standby = on\n", "")
    paths.node_conf.write_text(text + "work_mem = '64MB'\n")
    assert apply(node, port=5433) == [paths.node_conf]
    after = paths.node_conf.read_text()
    assert "max_wal_senders = 40  # mine" in after
    settings = parse_settings(after)
    assert (settings["work_mem"], settings["port"], settings["hot_standby"]) == (
        "64MB",
        "5433",
        "on",
    )


def test_a_node_without_a_number_is_asked_for_it(node: tuple[NodePaths, Owner]) -> None:
    with pytest.raises(SetupError, match="--node-id"):
        apply(node)


def test_only_what_is_missing_or_given_is_merged() -> None:
    assert merged("a = 1\n", "a = 2\nb = 3\n", set()) == "a = 1\nb = 3\n"
    assert merged("a = 1\n", "a = 2\nb = 3\n", {"a"}) == "a = 2\nb = 3\n"


def test_our_lines_of_pg_hba_are_replaced_where_they_stand() -> None:
    old = hba_block(["10.0.0.1"], "postgres", "trust")
    new = hba_block(["db1.example.org", "fe80::/64"], "Repl User", "scram-sha-256")
    text = "# first\n" + old + "# last\n"
    assert with_hba_block(text, new) == "# first\n" + new + "# last\n"
    assert '"Repl User"  fe80::/64  scram-sha-256' in new
    assert with_hba_block("# user\n", new) == new + "# user\n"


@pytest.mark.parametrize("address", ["", "10.0.0.1/99", "a b", "10.0.0.1 trust\nhost all"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SetupError, match="is no address"):
        hba_block([address], "postgres", "trust")
