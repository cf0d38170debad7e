"""Where a clone puts tablespaces, and what is removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pgraft import tablespaces
from pgraft.errors import SetupError


def used(place: Path) -> Path:
    (place / "PG_15_202209061").mkdir(parents=True)
    return place


def test_a_free_place_of_the_source_is_taken(tmp_path: Path) -> None:
    free, empty, occupied = tmp_path / "free", tmp_path / "empty", used(tmp_path / "occupied")
    empty.mkdir()
    locations = {1: str(free), 2: str(empty), 3: str(occupied)}
    chosen = tablespaces.choose(locations, {})
    assert chosen[str(free)] == free
    assert chosen[str(empty)] == empty
    assert chosen[str(occupied)].parent == tmp_path
    assert chosen[str(occupied)].name.startswith("occupied.pgraft-")


def test_a_node_that_has_the_tablespace_gets_a_place_beside_its_own(tmp_path: Path) -> None:
    """Not where the source has it: that may be another machine's name for a place."""
    mine = used(tmp_path / "mine.pgraft-01234567")
    chosen = tablespaces.choose({1: "/elsewhere/theirs"}, {1: mine})["/elsewhere/theirs"]
    assert chosen.parent == tmp_path
    assert chosen != mine
    assert len(chosen.name) == len(mine.name), "names do not grow"


def test_beside_a_mount_point_is_another_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = used(tmp_path / "disk")
    monkeypatch.setattr(os.path, "ismount", lambda path: path == mine)
    first = tablespaces.choose({1: "/theirs"}, {1: mine})["/theirs"]
    assert first.parent == mine
    assert tablespaces.choose({1: "/theirs"}, {1: first})["/theirs"].parent == mine


def test_only_what_the_old_data_directory_had_is_removed(tmp_path: Path) -> None:
    old, made_here, in_use = (
        used(tmp_path / name) for name in ("old", "old.pgraft-01234567", "in-use")
    )
    (old / "PG_14_202107181").mkdir()  # of another server
    links = tmp_path / "data" / "pg_tblspc"
    links.mkdir(parents=True)
    (links / "16384").symlink_to(in_use)
    (links / "16385").mkdir()  # inside the data directory
    assert tablespaces.places(tmp_path / "data") == {16384: in_use}
    tablespaces.remove_old([old, made_here, in_use, tmp_path / "gone"], tmp_path / "data", 15)
    assert [entry.name for entry in old.iterdir()] == ["PG_14_202107181"]
    assert not made_here.exists()
    assert list(in_use.iterdir())


def test_a_damaged_list_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "list"
    assert tablespaces.read_list(file) == []
    file.write_text("[")
    with pytest.raises(SetupError, match="look after them"):
        tablespaces.read_list(file)
