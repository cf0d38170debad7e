"""Putting the Raft state of a lost cluster aside, broken off after each of its steps."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pgraft import _pgraft, durable, new_cluster
from pgraft.errors import SetupError
from pgraft.owner import Owner
from pgraft.paths import NodePaths

FILES = ("identity", "raft", "members", "timelines", "pgraft.conf")


@pytest.fixture
def node() -> Iterator[NodePaths]:
    base = Path(tempfile.mkdtemp(prefix="pgraft-test-", dir="/tmp"))
    owner = Owner.for_new_directory()
    paths = NodePaths.of(base / "data")
    owner.make_directory(paths.pgdata)
    owner.make_directory(paths.data_dir / "raft")
    member(paths, cluster_id=7)
    for name in ("members", "timelines", "pgraft.conf", "raft/CURRENT"):
        (paths.data_dir / name).write_text("old")
    paths.node_conf.write_text("port = 5432\n")
    yield paths
    shutil.rmtree(base)


def member(paths: NodePaths, cluster_id: int) -> None:
    """Both halves of an identity."""
    identity = _pgraft.IdentityFile()
    identity.cluster_name = "pgraft"
    identity.cluster_id = cluster_id
    identity.node_id = 2
    identity.incarnation = 11 + cluster_id
    identity.system_identifier = 3
    identity.binding = 5
    _pgraft.write_identity(str(paths.data_dir), identity)
    binding = _pgraft.BindingFile()
    binding.node_id, binding.incarnation, binding.binding = 2, identity.incarnation, 5
    _pgraft.write_binding(str(paths.pgdata), binding)


class Broken(Exception):
    """The power is gone."""


def put_aside(paths: NodePaths) -> Path:
    kept = paths.data_dir / "cluster-old"
    kept.mkdir(exist_ok=True)
    new_cluster._put_aside(paths, kept)
    return kept


def starts_as_old_member(paths: NodePaths) -> bool:
    """Would a server that is started now find both halves of its identity?"""
    try:
        _pgraft.bind(str(paths.data_dir), str(paths.pgdata), 2, "pgraft", 3)
    except _pgraft.Error:
        return False
    return True


@pytest.mark.parametrize("steps", range(6))
def test_broken_off_anywhere_it_never_starts_with_half_and_is_finished_later(
    node: NodePaths, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, left = durable.rename, steps

    def rename_some(source: Path, target: Path) -> None:
        nonlocal left
        if left == 0:
            raise Broken
        left -= 1
        rename(source, target)

    monkeypatch.setattr(durable, "rename", rename_some)
    if steps < len(FILES):
        with pytest.raises(Broken):
            put_aside(node)
        untouched = all((node.data_dir / name).exists() for name in FILES)
        assert untouched == (steps == 0)
        assert starts_as_old_member(node) == untouched
    monkeypatch.undo()
    kept = put_aside(node)
    assert sorted(p.name for p in kept.iterdir()) == sorted(FILES)
    assert not node.binding.exists()
    assert [p.name for p in node.data_dir.iterdir() if p != kept] == ["node.conf"]


def test_what_the_server_made_since_is_not_put_aside(node: NodePaths) -> None:
    kept = put_aside(node)
    member(node, cluster_id=0)  # a start of the server in between
    put_aside(node)
    assert _pgraft.read_identity(str(kept)).cluster_id == 7
    assert _pgraft.read_identity(str(node.data_dir)).cluster_id == 0
    assert node.binding.exists()


def test_who_can_not_survive_is_told_why(node: NodePaths) -> None:
    rejoin = _pgraft.RejoinFile()
    rejoin.state = _pgraft.RejoinState.WORKING
    _pgraft.write_rejoin(str(node.data_dir), rejoin)
    with pytest.raises(SetupError, match="take another survivor"):
        new_cluster.survivor(node)
    _pgraft.remove_rejoin(str(node.data_dir))
    assert new_cluster.survivor(node).cluster_id == 7
    member(node, cluster_id=0)
    with pytest.raises(SetupError, match="is no member of a cluster"):
        new_cluster.survivor(node)
    (node.data_dir / "identity").unlink()
    with pytest.raises(SetupError, match="holds no Raft state"):
        new_cluster.survivor(node)
