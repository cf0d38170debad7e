"""`pgraft logs`: which lines, and the file that takes a name's place."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pgraft.errors import CommandError
from pgraft.paths import NodePaths
from pgraft.server_log import LogReader, find_log

LINES = """\
2026-01-01 [7] LOG:  checkpoint starting: time
2026-01-01 [7] LOG:  pgraft: node 2 is the leader
2026-01-01 [7] DETAIL:  Term 5.
\tgoes on
2026-01-01 [7] LOG:  checkpoint complete
2026-01-01 [7] HINT:  Of the checkpoint.
"""


def test_lines_about_pgraft_come_with_their_details(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(LINES + "half a line about pgraft")
    reader = LogReader(log)
    assert reader.newest(10) == LINES.splitlines()[1:4]
    assert LogReader(log).newest(1) == ["\tgoes on"]
    assert LogReader(log, every=True).newest(10) == LINES.splitlines()


def test_following_goes_on_with_half_lines_and_after_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("pgraft 1\npgraft ")
    reader = LogReader(log)
    assert reader.newest(10) == ["pgraft 1"]
    found: list[str] = []
    lines = reader.follow()
    done = threading.Event()

    def follow() -> None:
        while len(found) < 3:
            found.append(next(lines))
        done.set()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    with open(log, "a") as out:
        out.write("2\npgraft 3\n")
    while len(found) < 2:
        assert not done.wait(0.01)
    log.rename(tmp_path / "log.1")
    log.write_text("pgraft 4\n")
    assert done.wait(60)
    assert found == ["pgraft 2", "pgraft 3", "pgraft 4"]


def test_a_log_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="can't be read") as error:
        LogReader(tmp_path / "none").newest(1)
    assert "--file" in error.value.hint
    (tmp_path / "data").mkdir()
    with pytest.raises(CommandError, match="while it is down"):
        find_log(NodePaths.of(tmp_path / "data"))


def test_the_collectors_file_is_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "current_logfiles").write_text("stderr log/postgresql-1.log\n")
    assert find_log(NodePaths.of(data)) == data / "log/postgresql-1.log"
