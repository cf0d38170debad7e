"""Where a server's configuration is: in its data directory, or, as Debian has it, elsewhere.

`pg_createcluster 15 main` puts the data into /var/lib/postgresql/15/main and postgresql.conf,
pg_hba.conf and pg_ident.conf into /etc/postgresql/15/main, whose `data_directory` says what it
belongs to. That setting is all that ties the two together, so it is what is looked for.
"""

from __future__ import annotations

import os
from pathlib import Path

from pgraft.config import parse_settings
from pgraft.errors import SetupError

_CONF = "postgresql.conf"


def debian_root() -> Path:
    """Where Debian's configurations are; postgresql-common has the same variable."""
    return Path(os.environ.get("PG_CLUSTER_CONF_ROOT") or "/etc/postgresql")


def resolve(directory: Path) -> tuple[Path, Path | None]:
    """The data directory, and that of the configuration when it is another one.

    Args:
        directory: Either of the two, as postgres takes it after -D.

    Raises:
        SetupError: Several configurations claim the data directory.
    """
    if not os.path.exists(directory / "PG_VERSION"):  # nor where it is not ours to look
        pgdata = _data_directory(directory / _CONF)
        if pgdata is not None and pgdata != directory:
            return pgdata, directory
    found = [conf.parent for conf in _debians() if _data_directory(conf) == directory]
    if len(found) > 1:
        raise SetupError(
            f'data directory "{directory}" is claimed by several configurations: '
            + ", ".join(f'"{conf}"' for conf in found)
            + "; give one of these directories with -D"
        )
    return directory, found[0] if found else None


def hba_file(conf_dir: Path) -> Path | None:
    """What `hba_file` says, when it names a place of its own."""
    name = _settings(conf_dir / _CONF).get("hba_file", "")
    return Path(name) if os.path.isabs(name) else None


def environment(conf_dir: Path) -> dict[str, str]:
    """Debian's file of variables for the server's environment."""
    try:
        text = (conf_dir / "environment").read_text(encoding="utf-8")
    except OSError:
        return {}
    return parse_settings(text, keep_case=True)


def _debians() -> list[Path]:
    return sorted(debian_root().glob(f"*/*/{_CONF}"))


def _data_directory(conf: Path) -> Path | None:
    name = _settings(conf).get("data_directory", "")
    return Path(os.path.realpath(name)) if os.path.isabs(name) else None


def _settings(conf: Path) -> dict[str, str]:
    try:
        return parse_settings(conf.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):  # none, not ours to read, or not what we look for
        return {}
