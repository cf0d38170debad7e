"""Who runs a node: told by the file that its supervisor has open, without touching the lock."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from pgraft.config import NodeSettings
from pgraft.errors import CommandError, SetupError
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.run_lock import being_set_up, supervised_by, unsupervised
from pgraft.setup_node import join
from pgraft.supervisor import RunOptions, Supervisor


@pytest.fixture
def node(tmp_path: Path) -> NodePaths:
    paths = NodePaths.of(tmp_path / "data")
    paths.data_dir.mkdir()
    return paths


def test_only_who_has_the_file_open_counts(node: NodePaths) -> None:
    assert supervised_by(node.run_pid) is None
    node.run_pid.write_text(f"{os.getpid()}\n")
    assert supervised_by(node.run_pid) is None, "the number may be anybody's by now"
    with open(node.run_pid):
        assert supervised_by(node.run_pid) == os.getpid()
    node.run_pid.write_text("nonsense")
    assert supervised_by(node.run_pid) is None


def test_looking_does_not_keep_a_supervisor_from_starting(node: NodePaths) -> None:
    with open(node.run_pid, "w+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(f"{os.getpid()}\n")
        file.flush()
        assert supervised_by(node.run_pid) == os.getpid()
        with pytest.raises(SetupError, match="stop it first"), unsupervised(node):
            pass
    with unsupervised(node), open(node.run_pid) as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with unsupervised(node):
        pass


def test_a_directory_that_is_none_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(SetupError, match="give the directories"),
        unsupervised(NodePaths.of(tmp_path / "no")),
    ):
        pass


def test_a_node_that_is_being_set_up_is_left_alone(tmp_path: Path) -> None:
    paths = NodePaths.of(tmp_path / "data")
    settings = NodeSettings(node_id=2)
    with being_set_up(paths, Owner.for_new_directory()):
        with pytest.raises(SetupError, match=rf"process {os.getpid()}\) works on"):
            join(paths, settings, ("127.0.0.1", 1))
        paths.node_conf.write_text("")
        with pytest.raises(SetupError, match=f"process {os.getpid()}"):
            Supervisor(paths, RunOptions()).run()
    # What was left by an attempt that has failed is no obstacle; there is no such leader.
    with pytest.raises(CommandError, match="could not connect"):
        join(paths, settings, ("127.0.0.1", 1))
