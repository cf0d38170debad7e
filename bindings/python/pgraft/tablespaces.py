"""Tablespaces of a data directory that is rewound or cloned: where they go, and the old ones.

They lie outside the data directory, so a clone can't take their place while the old directory is
kept (rule 9), and two members on one machine must not have them in the same place. A clone chooses
a place for each: beside the one that the node has; the source's, if it has none and that is free.
The lists in the node's state directory say what to remove, and when; nothing else is removed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from pgraft import durable
from pgraft.errors import SetupError
from pgraft.owner import Owner
from pgraft.source import Source

_MADE_HERE = re.compile(r"[./]pgraft-[0-9a-f]{8}$")


def places(pgdata: Path) -> dict[int, Path]:
    """Where the tablespaces of a data directory are, by oid; those inside it are not counted."""
    directory = pgdata / "pg_tblspc"
    if not directory.is_dir():
        return {}
    links = (e for e in directory.iterdir() if e.name.isdigit() and e.is_symlink())
    return {int(link.name): Path(os.readlink(link)) for link in links}


def choose(locations: Mapping[int, str], here: Mapping[int, Path]) -> dict[str, Path]:
    """A free place for each tablespace of a source.

    Args:
        locations: Of the source, by oid.
        here: Those of the data directory that is to be replaced.
    """
    chosen: dict[str, Path] = {}
    for oid, location in locations.items():
        near = Path(_MADE_HERE.sub("", str(here.get(oid, location))))
        name = f"pgraft-{secrets.token_hex(4)}"
        # Beside a mount point would be another disk.
        new = near / name if os.path.ismount(near) else near.with_name(f"{near.name}.{name}")
        chosen[location] = near if oid not in here and _is_free(near) else new
    return chosen


def _is_free(place: Path) -> bool:
    return not os.path.lexists(place) or (place.is_dir() and not os.listdir(place))


def make(owner: Owner, chosen: Iterable[Path]) -> None:
    """Creates the directories.

    Raises:
        SetupError: One can't be created; the message says what to do.
    """
    for place in chosen:
        try:
            owner.make_directory(place)
        except OSError as error:
            raise SetupError(
                f'could not create directory "{place}" for a tablespace: {error.strerror}; '
                f"create it, as {owner.name}'s, and try again"
            ) from None


def shared(source: Source, here: Mapping[int, Path]) -> dict[int, Path]:
    """Those that the source's server uses too: two members on one machine with the same path.

    Raises:
        psycopg.Error: The source can't be asked.
    """
    found = {}
    for oid, place in here.items():
        if not place.is_dir():
            continue
        probe = place / f"pgraft-probe-{secrets.token_hex(8)}"
        probe.touch()
        try:
            if source.has_file(f"pg_tblspc/{oid}/{probe.name}"):
                found[oid] = place
        finally:
            probe.unlink()
    return found


def discard(chosen: Iterable[Path]) -> None:
    """Empties places that were free when they were chosen, after a clone that was not finished."""
    for place in chosen:
        if place.is_dir():
            for entry in place.iterdir():
                durable.remove_tree(entry)
            if _MADE_HERE.search(str(place)):
                place.rmdir()


def remove_old(old: Iterable[Path], pgdata: Path, version: int) -> None:
    """Removes what a replaced data directory had in these places, unless it is in use again."""
    used = {os.path.realpath(place) for place in places(pgdata).values()}
    for place in old:
        if place.is_dir() and os.path.realpath(place) not in used:
            for entry in place.glob(f"PG_{version}_*"):
                durable.remove_tree(entry)
            if _MADE_HERE.search(str(place)) and not os.listdir(place):
                place.rmdir()


def read_list(file: Path) -> list[Path]:
    """A list of places; empty when there is none.

    Raises:
        SetupError: It is damaged.
    """
    try:
        return [Path(str(place)) for place in json.loads(file.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):
        raise SetupError(
            f'"{file}" is damaged; it lists directories of tablespaces that are not needed any '
            "more: look after them, then remove the file"
        ) from None


def write_list(owner: Owner, file: Path, listed: Iterable[Path]) -> None:
    """Replaces a list of places."""
    content = json.dumps(sorted({str(place) for place in listed}), indent=0)
    durable.write_file(owner, file, content + "\n")
