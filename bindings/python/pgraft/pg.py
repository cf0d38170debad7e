"""A PostgreSQL installation: where its programs are, and what its control files say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pgraft.errors import SetupError
from pgraft.owner import Owner

MIN_VERSION = 15
_DEBIAN_ROOT = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class ControlData:
    """What pg_controldata tells of a data directory."""

    state: str
    system_identifier: int
    checkpoint_timeline: int
    end_timeline: int
    """Timeline of `end`."""
    wal_segment_bytes: int
    end: int
    """LSN up to which a stopped server's files are consistent."""
    tracks_hints: bool
    """Are hint bits in the WAL (checksums or wal_log_hints)? pg_rewind needs it."""

    @property
    def shut_down(self) -> bool:
        """Was the server stopped in order, so that its files are consistent up to one LSN?"""
        return self.state in ("shut down", "shut down in recovery")


@dataclass(frozen=True)
class Postgres:
    """The programs of one PostgreSQL major version."""

    bindir: Path
    version: int

    @classmethod
    def find(cls, *, bindir: Path | None = None, pgdata: Path | None = None) -> Postgres:
        """Finds an installation.

        Looked at in this order: `bindir`, `$PG_CONFIG`, pg_config on the path,
        /usr/lib/postgresql/NN/bin (newest first), postgres on the path.

        Args:
            bindir: Take this one and no other.
            pgdata: An existing data directory, whose version it has to have.

        Raises:
            SetupError: There is none that fits.
        """
        wanted = data_directory_version(pgdata) if pgdata is not None else None
        seen: list[str] = []
        for candidate in [bindir] if bindir is not None else _candidates():
            version = _version_of(candidate)
            if version is None:
                continue
            seen.append(f"{version} in {candidate}")
            if version >= MIN_VERSION and wanted in (None, version):
                return cls(candidate, version)
        need = f"PostgreSQL {wanted}" if wanted else f"PostgreSQL {MIN_VERSION} or later"
        raise SetupError(
            f"{need} was not found (found: {', '.join(seen) or 'none'}); "
            "set PG_CONFIG to the pg_config of the installation to use, or give --bindir"
        )

    def program(self, name: str) -> Path:
        """Path of one of its programs.

        Raises:
            SetupError: This installation lacks it.
        """
        path = self.bindir / name
        if not path.exists():
            raise SetupError(f'program "{name}" was not found in "{self.bindir}"')
        return path

    def control_data(self, owner: Owner, pgdata: Path) -> ControlData:
        """Reads the control file of a data directory.

        Raises:
            ProgramError: It can't be read.
            SetupError: It can't be understood.
        """
        output = owner.run([self.program("pg_controldata"), "-D", pgdata], timeout=60).stdout
        return parse_control_data(output)

    def setting(self, owner: Owner, conf_dir: Path, name: str) -> str:
        """What a server that is configured there is set to, all included files considered.

        Numbers come in the setting's own unit.

        Raises:
            ProgramError: Its configuration is wrong.
        """
        command: list[str | Path] = [self.program("postgres"), "-D", conf_dir, "-C", name]
        # What it logs comes before.
        return owner.run(command, timeout=60).stdout.removesuffix("\n").rpartition("\n")[2]

    def init_directory(self, owner: Owner, pgdata: Path, options: list[str]) -> None:
        """Runs initdb."""
        owner.run([self.program("initdb"), "-D", pgdata, *options], timeout=300)


def parse_control_data(output: str) -> ControlData:
    """Understands the output of pg_controldata in the C locale.

    Raises:
        SetupError: A line that is needed is missing.
    """

    def value(label: str) -> str:
        found = re.search(rf"^{re.escape(label)}:\s*(.*)$", output, re.MULTILINE)
        if found is None:
            raise SetupError(f'pg_controldata did not print "{label}": {output[:500]}')
        return found.group(1).strip()

    replayed = parse_lsn(value("Minimum recovery ending location"))
    replayed_timeline = int(value("Min recovery ending loc's timeline"))
    checkpoint_timeline = int(value("Latest checkpoint's TimeLineID"))
    return ControlData(
        state=value("Database cluster state"),
        system_identifier=int(value("Database system identifier")),
        checkpoint_timeline=checkpoint_timeline,
        end_timeline=replayed_timeline or checkpoint_timeline,
        wal_segment_bytes=int(value("Bytes per WAL segment")),
        end=replayed or parse_lsn(value("Latest checkpoint location")),
        tracks_hints=value("wal_log_hints setting") == "on"
        or value("Data page checksum version") != "0",
    )


def parse_lsn(text: str) -> int:
    """The number behind PostgreSQL's "X/Y"."""
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    """PostgreSQL's way to write an LSN."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def data_directory_version(pgdata: Path) -> int | None:
    """Major version of a data directory; None when it is none."""
    try:
        return int((pgdata / "PG_VERSION").read_text().strip())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise SetupError(f'file "{pgdata / "PG_VERSION"}" is damaged') from None


def _candidates() -> Iterator[Path]:
    for program in (os.environ.get("PG_CONFIG"), shutil.which("pg_config")):
        if program:
            try:
                output = subprocess.run(
                    [program, "--bindir"], capture_output=True, text=True, check=True, timeout=30
                )
                yield Path(output.stdout.strip())
            except (OSError, subprocess.SubprocessError):
                pass
    versions = (path for path in _DEBIAN_ROOT.glob("*/bin") if path.parent.name.isdigit())
    yield from sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    server = shutil.which("postgres")
    if server:
        yield Path(server).resolve().parent


def _version_of(bindir: Path) -> int | None:
    try:
        output = subprocess.run(
            [bindir / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", output.stdout)
    return int(found.group(1)) if found else None
