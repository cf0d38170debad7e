from __future__ import annotations

import os
from pathlib import Path

import pytest
from pgraft.errors import ProgramError, SetupError
from pgraft.owner import Owner
from pgraft.pg import Postgres, format_lsn, parse_control_data, parse_lsn
from pgraft.rewind import RewindImpossible, refuse_unfinished_promotion
from pgraft.source import connection_string, parse_history
from pgraft.status import RaftAddress

CONTROL = """\
Database system identifier:           7300000000000000001
Database cluster state:               shut down in recovery
Latest checkpoint location:           0/3000060
Latest checkpoint's TimeLineID:       2
Minimum recovery ending location:     1/A0
Min recovery ending loc's timeline:   2
wal_log_hints setting:                off
Bytes per WAL segment:                16777216
Data page checksum version:           0
"""


def test_control_data_is_understood() -> None:
    control = parse_control_data(CONTROL)
    assert control.shut_down
    assert control.system_identifier == 7300000000000000001
    assert control.checkpoint_timeline == 2
    assert control.end == 0x1000000A0


def test_a_primarys_files_end_at_its_checkpoint() -> None:
    control = parse_control_data(CONTROL.replace("1/A0", "0/0").replace(" in recovery", ""))
    assert control.shut_down
    assert control.end == 0x3000060


def test_a_crashed_server_is_not_shut_down() -> None:
    assert not parse_control_data(
        CONTROL.replace("shut down in recovery", "in production")
    ).shut_down


@pytest.mark.parametrize(
    ("version", "timeline", "refused"), [(15, 2, False), (15, 3, True), (17, 3, False)]
)
def test_a_server_without_a_checkpoint_on_its_timeline_is_not_rewound_before_17(
    version: int, timeline: int, refused: bool
) -> None:
    control = parse_control_data(
        CONTROL.replace("loc's timeline:   2", f"loc's timeline:   {timeline}")
    )
    assert (control.checkpoint_timeline, control.end_timeline) == (2, timeline)
    postgres = Postgres(bindir=Path("/nowhere"), version=version)
    if refused:
        with pytest.raises(RewindImpossible, match="ended on timeline 3"):
            refuse_unfinished_promotion(postgres, control)
    else:
        refuse_unfinished_promotion(postgres, control)


@pytest.mark.parametrize(
    ("old", "new", "tracked"),
    [
        ("", "", False),
        ("setting:                off", "setting:                on", True),
        ("version:           0", "version:           1", True),
    ],
)
def test_hint_bits_are_in_the_wal_with_checksums_or_if_asked_for(
    old: str, new: str, tracked: bool
) -> None:
    assert parse_control_data(CONTROL.replace(old, new)).tracks_hints == tracked


def test_unknown_control_data_is_an_error() -> None:
    with pytest.raises(SetupError, match="pg_controldata did not print"):
        parse_control_data("Database system identifier: 1\n")


@pytest.mark.parametrize("lsn", [0, 0x16B3748, 0xFFFFFFFF, 1 << 32, 0x7FFFFFFF_00000028])
def test_lsn_is_read_as_it_is_written(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


def test_an_installation_is_found() -> None:
    found = Postgres.find()
    assert found.version >= 15
    assert found.program("pg_rewind").exists()


def test_a_directory_without_postgres_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="PG_CONFIG"):
        Postgres.find(bindir=tmp_path)


def test_a_failed_program_says_what_it_said() -> None:
    postgres = Postgres.find()
    owner = Owner.for_new_directory()
    with pytest.raises(ProgramError, match=r"pg_controldata failed \(exit status 1\).*/nowhere"):
        postgres.control_data(owner, Path("/nowhere"))


def test_programs_never_run_as_root() -> None:
    owner = Owner.for_new_directory()
    uid = owner.run(["id", "-u"]).stdout.strip()
    assert uid == str(owner.uid)
    assert uid != "0"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of root's")
def test_a_data_directory_of_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="belongs to root"):
        Owner.of_directory(tmp_path)


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(ProgramError, match="no end after"):
        Owner.for_new_directory().run(["sleep", "1000"], timeout=0.2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", RaftAddress("a", 8001)),
        ("a:1", RaftAddress("a", 1)),
        ("[::1]:7", RaftAddress("::1", 7)),
        ("::1", RaftAddress("::1", 8001)),
    ],
)
def test_addresses_are_understood(text: str, expected: RaftAddress) -> None:
    assert RaftAddress.parse(text) == expected


def test_history_files_are_understood() -> None:
    text = "1\t0/3000000\tno recovery target specified\n# reserved by pgraft\n\n2\t0/5000060\tx\n"
    assert parse_history(text) == [(1, 0x3000000), (2, 0x5000060)]


def test_connection_strings_keep_the_common_part() -> None:
    text = connection_string("h", 1, "user=r passfile='/a b'", "postgres")
    assert "user=r" in text
    assert "passfile='/a b'" in text
    assert "host=h" in text
    assert "user=postgres" in connection_string("h", 1, "", "postgres")
