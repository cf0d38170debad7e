"""pg_rewind of a data directory that has diverged, with what has to come before it."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pgraft import durable, tablespaces
from pgraft.clone import ensure_standby
from pgraft.config import read_node_conf
from pgraft.errors import Error, ProgramError
from pgraft.owner import Owner, end_group
from pgraft.paths import NodePaths
from pgraft.pg import ControlData, Postgres
from pgraft.progress import Progress
from pgraft.source import Source

Log = Callable[[str], None]
_TOUCHED = "need to copy"  # pg_rewind --progress: all has been read, what follows writes
_CONSISTENT = "consistent recovery state reached"
_EXHAUSTED = "to stream after failure"  # "switched WAL source from archive to stream after failure"
_MAX_RETRIES = 10
_START_FILE = re.compile(r"^START WAL LOCATION: .*\(file ([0-9A-F]{24})\)", re.MULTILINE)
_WAL_FILE = re.compile(r"^[0-9A-F]{24}(\.partial)?$")
_STOP_SECONDS = 300.0
_OUTPUT_CHARS = 4000


class RewindImpossible(Error):
    """It never will be possible, or has left the directory half done: only a clone helps."""


def shut_down_cleanly(
    postgres: Postgres, owner: Owner, paths: NodePaths, log: Log, timeout: float
) -> ControlData:
    """Brings the files of a crashed server to one consistent LSN, which pg_rewind needs.

    pg_rewind's own way, single-user mode, refuses a directory with standby.signal, and the file
    must stay (rule 1). So the server replays what is in its own pg_wal as a standby, without
    pgraft, without a stream, without listeners, and is stopped.

    Raises:
        ProgramError: The server could not be started, or ended.
        RewindImpossible: It did not become consistent, or not in time.
    """
    control = postgres.control_data(owner, paths.pgdata)
    if control.state == "shut down":
        return control
    # "shut down in recovery" is not enough: a crashed primary that is stopped before all of its
    # WAL is replayed says that too, while its pages may be newer than what it says they are.
    log(f'replaying the local WAL first (control file: "{control.state}")')
    ensure_standby(owner, paths.pgdata)
    with owner.temporary_directory() as directory:
        _replay(postgres, owner, paths, directory, timeout)
    control = postgres.control_data(owner, paths.pgdata)
    if not control.shut_down:
        raise ProgramError("postgres", 1, f'control file says "{control.state}" after the stop')
    return control


def _replay(
    postgres: Postgres, owner: Owner, paths: NodePaths, directory: Path, timeout: float
) -> None:
    hba = directory / "pg_hba.conf"
    hba.write_text("local all all reject\n")
    owner.give(hba)
    preload = read_node_conf(paths).get("shared_preload_libraries", "")
    # Without pgraft, whose start-up hook refuses an unfinished rejoin; others may own WAL records.
    libraries = [n.strip() for n in preload.split(",") if n.strip() not in ("", "pgraft")]
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(directory),
        "hba_file": str(hba),
        "shared_preload_libraries": ",".join(libraries),
        "primary_conninfo": "",
        "restore_command": "",
        "recovery_target_timeline": "current",
        "archive_mode": "off",
        "hot_standby": "off",
        "ssl": "off",
        "external_pid_file": "",
        "logging_collector": "off",
        "log_destination": "stderr",
        "log_min_messages": "debug2",
        "wal_retrieve_retry_interval": "100ms",
        "lc_messages": "C",
    }
    command = [str(postgres.program("postgres")), "-D", str(paths.conf_dir)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    log_file = directory / "log"
    with open(log_file, "w+", encoding="utf-8", errors="replace") as out:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **owner.popen_arguments(),
        ) as process:
            try:
                replayed = _wait_until_replayed(process, log_file, timeout)
                stopped = process.poll() is None
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
                process.wait(_STOP_SECONDS)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGQUIT)
                end_group(process)
                raise
        if not replayed:
            tail = log_file.read_text(errors="replace")[-2000:]
            error = ProgramError("postgres", process.returncode, tail)
            if stopped:
                raise RewindImpossible(f"the local WAL can't be replayed to its end: {error}")
            raise error


def _wait_until_replayed(process: subprocess.Popen[bytes], log_file: Path, timeout: float) -> bool:
    """True once all valid local WAL is replayed, which is when the server turns to streaming.

    False when it ended, took too long, or turned to streaming before it was consistent: then it
    needs WAL that is not here, and can't be rewound.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        text = log_file.read_text(errors="replace")
        if _EXHAUSTED in text.partition(_CONSISTENT)[2]:
            return True
        if ended or text.count(_EXHAUSTED) >= _MAX_RETRIES:
            return False
        time.sleep(0.02)
    return False


def keep_wal(
    owner: Owner,
    paths: NodePaths,
    control: ControlData,
    history: list[tuple[int, int]],
    timeline: int,
    log: Log,
) -> Path:
    """Copies the WAL that the leader does not have, from the fork on, beside the Raft state.

    Copies, not hard links: pg_rewind writes into existing files.

    Args:
        owner: Of the data directory.
        paths: Of the node.
        control: Of the stopped server.
        history: Of the leader's timeline.
        timeline: The leader's.
        log: Where to say it.

    Returns:
        The directory of the copies; there is none if there was nothing to copy.
    """
    ends = dict(history)
    size = control.wal_segment_bytes
    owner.make_directory(paths.aside)
    target = paths.aside / f"wal-{len(list(paths.aside.iterdir())) + 1}"
    copied = 0
    for file in sorted((paths.pgdata / "pg_wal").iterdir()):
        if not _WAL_FILE.match(file.name):
            continue
        of_timeline = int(file.name[:8], 16)
        start = _segment(file.name, size) * size
        if (
            of_timeline == timeline
            or start > control.end
            or start + size <= ends.get(of_timeline, 0)
        ):
            continue
        owner.make_directory(target)
        shutil.copyfile(file, target / file.name)
        durable.sync_path(target / file.name)
        copied += 1
    if copied:
        owner.give(target)
        log(f'kept {copied} WAL files from the fork on in "{target}"')
    return target


def _segment(name: str, size: int) -> int:
    """Number of the segment that a WAL file holds."""
    return int(name[8:16], 16) * ((1 << 32) // size) + int(name[16:24], 16)


def check_wal(paths: NodePaths, segment_bytes: int) -> None:
    """Is the WAL from the last common checkpoint on here, after a rewind?

    pg_rewind makes pg_wal what the source's is. When the source has removed some of that WAL
    already, the node would wait for it for ever.

    Raises:
        RewindImpossible: Some is missing.
    """
    label = (paths.pgdata / "backup_label").read_text()
    found = _START_FILE.search(label)
    names = [f.name for f in (paths.pgdata / "pg_wal").iterdir() if _WAL_FILE.match(f.name)]
    there = {_segment(name, segment_bytes) for name in names}
    start = _segment(found.group(1), segment_bytes) if found else 0
    newest = max(there, default=start)
    missing = [segment for segment in range(start, newest + 1) if segment not in there]
    if found is None or missing or start not in there:
        raise RewindImpossible("the source no longer has the WAL since the last common checkpoint")


def refuse_untracked_hints(control: ControlData) -> None:
    """Without them in the WAL pg_rewind does not know all blocks that have changed.

    Raises:
        RewindImpossible: They are not.
    """
    if not control.tracks_hints:
        raise RewindImpossible("it needs data checksums or wal_log_hints = on, and has neither")


def refuse_unfinished_promotion(postgres: Postgres, control: ControlData) -> None:
    """Before 17 pg_rewind takes a server to be on the timeline of its last checkpoint.

    One that ended on a later timeline before it had made a checkpoint there would be compared by
    the wrong history, and blocks changed on the later timeline be missed (POSTGRES.md, M15).

    Raises:
        RewindImpossible: It is such a one.
    """
    if postgres.version < 17 and control.end_timeline != control.checkpoint_timeline:
        raise RewindImpossible(
            f"the server ended on timeline {control.end_timeline} and has no checkpoint on it, the "
            f"last one is on timeline {control.checkpoint_timeline}",
        )


def refuse_tablespaces(paths: NodePaths, source: Source) -> None:
    """pg_rewind puts a tablespace that is new to the target where the source has it.

    That place may be in use here, even by the source itself when both are on one machine; and one
    that they share would be overwritten while the source uses it.

    Raises:
        RewindImpossible: There is such a tablespace; a clone chooses places.
        psycopg.Error: The source can't be asked.
    """
    here = tablespaces.places(paths.pgdata)
    new = [location for oid, location in source.tablespaces().items() if oid not in here]
    if new:
        raise RewindImpossible(f"tablespaces were made since: {', '.join(sorted(new))}")
    if shared := tablespaces.shared(source, here):
        raise RewindImpossible(
            "the source uses the same directories for tablespaces: "
            + ", ".join(sorted(map(str, shared.values())))
        )


def run_pg_rewind(
    postgres: Postgres, owner: Owner, paths: NodePaths, source: Source, progress: Progress
) -> None:
    """Runs pg_rewind.

    Raises:
        ProgramError: It failed before it had written anything.
        RewindImpossible: It failed later, or saw nothing to do, which can't be: the node has
            diverged.
    """
    result = owner.run(
        [
            postgres.program("pg_rewind"),
            "--target-pgdata",
            paths.pgdata,
            "--source-server",
            source.conninfo,
            "--no-ensure-shutdown",
            "--progress",
        ],
        check=False,
        on_line=progress.take,
    )
    if "no rewind required" in result.stdout:
        raise RewindImpossible(f"pg_rewind says: {result.stdout.strip()}")
    if result.returncode != 0:
        error = ProgramError("pg_rewind", result.returncode, result.stdout[-_OUTPUT_CHARS:])
        if _TOUCHED in result.stdout:
            raise RewindImpossible(f"{error}; it had begun to write")
        raise error
