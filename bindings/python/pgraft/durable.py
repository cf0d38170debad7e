"""Changes to files and directories that are on disk when the function returns."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pgraft.owner import Owner


def sync_path(path: Path) -> None:
    """Syncs a file or a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(owner: Owner, path: Path, content: str, mode: int = 0o600) -> None:
    """Replaces a file: after a crash either the old or the new one is there, whole."""
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "w", encoding="utf-8") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    owner.give(temporary)
    rename(temporary, path)


def rewrite_file(owner: Owner, path: Path, content: str) -> None:
    """Replaces a file that is there: as `write_file`, and who may read it stays."""
    found = path.stat()
    write_file(owner, path, content, found.st_mode & 0o777)
    path.chmod(found.st_mode & 0o777)  # whatever the umask takes away
    if owner.switch:
        os.chown(path, found.st_uid, found.st_gid)


def rename(source: Path, target: Path) -> None:
    """Renames within one directory."""
    os.rename(source, target)
    sync_path(target.parent)


def remove_file(path: Path) -> None:
    """Removes a file if it is there."""
    if path.is_symlink() or path.exists():
        path.unlink()
        sync_path(path.parent)


def remove_tree(path: Path) -> None:
    """Removes a directory, if it is there, with all that is in it; or a file."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
