"""How far a rejoin is, as its file tells it, and who may have left that file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pgraft import _pgraft, processes
from pgraft.errors import ProgramError
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.progress import COPY, REWIND, Progress, local_rejoin


@pytest.fixture
def paths(tmp_path: Path) -> NodePaths:
    """A node that is being cloned."""
    node = NodePaths.of(tmp_path / "data")
    node.data_dir.mkdir()
    identity = _pgraft.IdentityFile()
    identity.node_id, identity.cluster_name, identity.incarnation = 3, "pgraft", 1
    _pgraft.write_identity(str(node.data_dir), identity)
    rejoin = _pgraft.RejoinFile()
    rejoin.mode = _pgraft.RejoinMode.CLONE
    rejoin.state = _pgraft.RejoinState.WORKING
    rejoin.reason = "diverged"
    rejoin.source_node, rejoin.source_host, rejoin.source_port = 1, "10.0.0.1", 5432
    _pgraft.write_rejoin(str(node.data_dir), rejoin)
    return node


def owner() -> Owner:
    return Owner._of_uid(os.geteuid())


def test_the_file_follows_the_phases_and_what_the_programs_say(paths: NodePaths) -> None:
    with Progress(3, owner(), paths) as progress:
        progress.source(2, "10.0.0.2", 5433, "")
        progress.phase(REWIND)
        assert not progress.take("pg_rewind: need to copy 4 MB (total source directory is 60 MB)\n")
        assert progress.take(" 1024/4096 kB (25%) copied\n")
        seen = local_rejoin(paths)
        assert seen is not None
        assert (seen["phase"], seen["mode"], seen["state"]) == ("rewind", "clone", "working")
        assert (seen["bytes_done"], seen["bytes_total"]) == (1 << 20, 4 << 20)
        assert (seen["source_node"], seen["source"]) == (2, "10.0.0.2:5433")
        assert seen["pid"] == os.getpid()
        progress.phase(COPY)
        seen = local_rejoin(paths)
        assert seen is not None
        assert (seen["phase"], seen["bytes_done"]) == ("copy", None)
        assert progress.take("  2048/2048 kB (100%), 1/1 tablespace                     \n")
        assert seen["since"] <= seen["phase_since"]
    seen = local_rejoin(paths)
    assert seen is not None
    assert (seen["phase"], seen["pid"], seen["source"]) == (None, None, "10.0.0.1:5432")
    assert not paths.progress.exists()


def test_what_a_killed_process_has_left_is_not_shown(paths: NodePaths) -> None:
    with Progress(3, owner(), paths) as progress:
        progress.phase(COPY)
        left = json.loads(paths.progress.read_text())
    for stale in (
        {**left, "started": "1"},  # the number is another process's by now
        {**left, "pid": 1 << 30},
        {"pid": os.getpid()},
    ):
        paths.progress.write_text(json.dumps(stale))
        seen = local_rejoin(paths)
        assert seen is not None
        assert seen["phase"] is None
    paths.progress.write_text("{")
    assert local_rejoin(paths) is not None
    assert left["started"] == processes.started(os.getpid())
    _pgraft.remove_rejoin(str(paths.data_dir))
    assert local_rejoin(paths) is None


def test_a_leader_that_can_not_be_told_stops_nothing(paths: NodePaths) -> None:
    with Progress(3, owner(), paths) as progress:
        progress.source(2, "127.0.0.1", 1, "host=127.0.0.1 port=1")
        progress.phase(COPY)
        assert progress.take("1/2 kB (50%), 0/1 tablespace\n")
        seen = local_rejoin(paths)
    assert seen is not None
    assert seen["bytes_total"] == 2048


def test_lines_come_when_they_are_written_and_the_rest_is_collected() -> None:
    script = "print('1/2 kB (50%)', flush=True); print('an error'); raise SystemExit(3)"
    seen: list[str] = []

    def take(line: str) -> bool:
        seen.append(line)
        return line.startswith("1/2")

    result = owner().run([sys.executable, "-c", script], check=False, on_line=take)
    assert (result.returncode, result.stdout) == (3, "an error\n")
    assert seen == ["1/2 kB (50%)\n", "an error\n"]
    with pytest.raises(ProgramError, match="an error"):
        owner().run([sys.executable, "-c", script], on_line=take)


def test_nothing_keeps_running_when_a_line_can_not_be_taken(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = (
        "import os, time\n"
        f"open({str(marker)!r}, 'w').write(str(os.getpid()))\n"
        "print('line', flush=True)\n"
        "time.sleep(600)\n"
    )

    def refuse(line: str) -> bool:
        raise subprocess.SubprocessError(line)

    with pytest.raises(subprocess.SubprocessError):
        owner().run([sys.executable, "-c", script], on_line=refuse)
    assert not processes.alive(int(marker.read_text()))
