"""Servers whose configuration is outside the data directory, as on Debian."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pgraft import adopt, clone, durable, setup_node
from pgraft.config import INCLUDE_MARK, NodeSettings, parse_settings
from pgraft.errors import SetupError
from pgraft.layout import environment
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of /etc/postgresql."""
    root = tmp_path / "etc"
    root.mkdir()
    monkeypatch.setenv("PG_CLUSTER_CONF_ROOT", str(root))
    return root


def data_directory(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "PG_VERSION").write_text("15\n")
    return path


def configuration(path: Path, pgdata: Path, more: str = "") -> Path:
    path.mkdir(parents=True)
    (path / "postgresql.conf").write_text(f"data_directory = '{pgdata}'  # elsewhere\n{more}")
    return path


def test_either_directory_names_a_debian_server(root: Path, tmp_path: Path) -> None:
    pgdata = data_directory(tmp_path / "lib" / "15" / "main")
    configuration(root / "15" / "other", tmp_path / "lib" / "15" / "other")
    conf = configuration(root / "15" / "main", pgdata)
    for given in (pgdata, conf):
        paths = NodePaths.of(given)
        assert (paths.pgdata, paths.outside) == (pgdata, conf)
        assert paths.data_dir == tmp_path / "lib" / "15" / "main.pgraft"
        assert paths.server_conf == conf / "postgresql.conf"
        assert paths.hba_conf == conf / "pg_hba.conf"
        assert paths.auto_conf == pgdata / "postgresql.auto.conf"


def test_a_configuration_is_found_while_the_data_directory_is_away(
    root: Path, tmp_path: Path
) -> None:
    """Between the two renames of a clone, and before a join."""
    conf = configuration(root / "15" / "main", tmp_path / "main")
    assert NodePaths.of(tmp_path / "main").outside == conf
    assert NodePaths.of(conf).pgdata == tmp_path / "main"


@pytest.mark.usefixtures("root")
def test_a_plain_server_has_its_configuration_in_its_data_directory(tmp_path: Path) -> None:
    pgdata = data_directory(tmp_path / "data")
    (pgdata / "postgresql.conf").write_text("port = 5433\n")
    paths = NodePaths.of(pgdata)
    assert (paths.pgdata, paths.outside, paths.conf_dir) == (pgdata, None, pgdata)
    (pgdata / "postgresql.conf").write_text("hba_file = '/srv/pg_hba.conf'\n")
    assert paths.hba_conf == Path("/srv/pg_hba.conf")


def test_a_data_directory_of_two_configurations_is_refused(root: Path, tmp_path: Path) -> None:
    pgdata = data_directory(tmp_path / "main")
    one = configuration(root / "15" / "main", pgdata)
    configuration(root / "15" / "copy", pgdata)
    with pytest.raises(SetupError, match="several configurations"):
        NodePaths.of(pgdata)
    assert NodePaths.of(one).outside == one  # said which


def test_variables_of_the_environment_file(root: Path, tmp_path: Path) -> None:
    conf = configuration(root / "15" / "main", tmp_path / "main")
    assert environment(conf) == {}
    (conf / "environment").write_text("# comment\nPGOPTS = 'a b'\nTz = UTC\n")
    assert environment(conf) == {"PGOPTS": "a b", "Tz": "UTC"}


def node(root: Path, tmp_path: Path) -> tuple[Owner, NodePaths]:
    owner = Owner.for_new_directory()
    pgdata = data_directory(tmp_path / "main")
    conf = configuration(root / "15" / "main", pgdata)
    paths = NodePaths.of(conf)
    for directory in (pgdata, conf):
        owner.give(directory)
    owner.make_directory(paths.data_dir)
    return owner, paths


def test_a_copy_leaves_the_configuration_outside_alone(root: Path, tmp_path: Path) -> None:
    owner, paths = node(root, tmp_path)
    hba = paths.conf_dir / "pg_hba.conf"
    hba.write_text("local all all peer\n")
    paths.server_conf.chmod(0o644)
    copy = data_directory(tmp_path / "copy")
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        (copy / name).write_text("the leader's\n")
    clone.keep_configuration(owner, paths)
    clone.localize(owner, paths, copy)
    assert not any((copy / name).exists() for name in ("postgresql.conf", "pg_hba.conf"))
    assert INCLUDE_MARK in paths.server_conf.read_text().splitlines()[-1]
    assert stat.S_IMODE(paths.server_conf.stat().st_mode) == 0o644
    assert hba.read_text() == "local all all peer\n"
    before = paths.server_conf.stat()
    clone.localize(owner, paths, copy)
    assert paths.server_conf.stat() == before, "written again though nothing is missing"


@pytest.mark.usefixtures("root")
def test_a_copy_without_a_configuration_is_refused(tmp_path: Path) -> None:
    paths = NodePaths.of(data_directory(tmp_path / "main"))
    copy = data_directory(tmp_path / "copy")
    with pytest.raises(SetupError, match="pg_createcluster"):
        clone.localize(Owner.for_new_directory(), paths, copy)


@pytest.mark.parametrize("name", ["standby.signal", "recovery.signal"])
def test_a_standby_is_not_adopted(root: Path, tmp_path: Path, name: str) -> None:
    _, paths = node(root, tmp_path)
    adopt.refuse_standby(paths)
    (paths.pgdata / name).touch()
    with pytest.raises(SetupError, match="pgraft join"):
        adopt.refuse_standby(paths)


def test_what_alter_system_has_set_does_not_override_node_conf(root: Path, tmp_path: Path) -> None:
    owner, paths = node(root, tmp_path)
    text = "work_mem = '8MB'\nport = '1'\nshared_preload_libraries = 'x'\nmax_wal_senders = '3'\n"
    paths.auto_conf.write_text(text)
    adopt.clean_auto_conf(owner, paths)
    assert parse_settings(paths.auto_conf.read_text()) == {"work_mem": "8MB"}
    (kept,) = paths.pgdata.glob("postgresql.auto.conf.*.bak")
    assert kept.read_text() == text
    adopt.clean_auto_conf(owner, paths)  # nothing to do
    assert list(paths.pgdata.glob("postgresql.auto.conf.*.bak")) == [kept]


def test_an_adopted_server_keeps_its_settings_also_the_second_time(root: Path) -> None:
    assert root.exists()
    owner = Owner.for_new_directory()
    postgres = Postgres.find()
    with owner.temporary_directory() as base:
        paths = NodePaths.of(base / "data")
        postgres.init_directory(owner, paths.pgdata, ["--auth=trust", "--no-sync"])
        with open(paths.server_conf, "a") as conf:
            conf.write("wal_level = logical\nport = 5440\nlisten_addresses = '10.0.0.1, ::1'\n")
        paths.auto_conf.write_text(
            "max_wal_senders = '30'\nwal_keep_size = '4GB'\ncluster_name = 'it''s mine'\n"
            "shared_preload_libraries = 'auto_explain'\n"
        )
        address = setup_node.present_address(paths, None)
        assert address == (5440, "10.0.0.1, ::1")
        settings = NodeSettings(node_id=1, port=address[0], listen_addresses=address[1])
        written = []
        for _ in range(2):
            setup_node.create(paths, settings)
            written.append(parse_settings(paths.node_conf.read_text()))
        assert written[0] == written[1]
        kept = {
            "wal_level": "logical",
            "max_wal_senders": "30",
            "max_replication_slots": "20",
            "wal_keep_size": "4096MB",
            "cluster_name": "it's mine",
            "shared_preload_libraries": "auto_explain, pgraft",
        }
        for name, value in kept.items():
            assert written[0][name] == value, name
            effective = postgres.setting(owner, paths.conf_dir, name)
            assert effective == value.removesuffix("MB"), name


def test_a_rewritten_file_keeps_its_mode_and_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    before = path.stat()
    durable.rewrite_file(Owner.for_new_directory(), path, "new")
    after = path.stat()
    assert path.read_text() == "new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
@pytest.mark.usefixtures("root")
def test_a_directory_that_is_not_ours_to_look_at(tmp_path: Path) -> None:
    pgdata = data_directory(tmp_path / "main")
    pgdata.chmod(0)
    assert NodePaths.of(pgdata).outside is None
