"""`pgraft config`: what a node's configuration files need, added to what is there.

Nothing that stands in a file is taken away: settings that are missing are added, those that were
asked for are changed, and the lines of pg_hba.conf are kept between two marks of our own. Doing it
again changes nothing. A file that is changed leaves its old content in a file beside it.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from pgraft import durable
from pgraft.config import NodeSettings, parse_settings, render_node_conf, with_include
from pgraft.errors import SetupError
from pgraft.owner import Owner
from pgraft.paths import NodePaths

HBA_BEGIN = "# pgraft: begin, written by pgraft config"
HBA_END = "# pgraft: end"


@dataclass(frozen=True)
class FileChange:
    """A file as it is and as it should be."""

    path: Path
    before: str | None
    """None: there is none yet."""
    after: str

    @property
    def changed(self) -> bool:
        """Is there something to write?"""
        return self.before != self.after

    def apply(self, owner: Owner) -> Path | None:
        """Writes the file; returns where its old content is kept."""
        kept = None
        if self.before is not None:
            kept = self.path.with_name(f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
            durable.write_file(owner, kept, self.before)
            durable.rewrite_file(owner, self.path, self.after)
        else:
            durable.write_file(owner, self.path, self.after)
        return kept


def plan(
    paths: NodePaths,
    settings: NodeSettings,
    given: Iterable[str],
    members: Sequence[str],
    auth: str,
    user: str,
) -> list[FileChange]:
    """What to change in node.conf, postgresql.conf and pg_hba.conf.

    Args:
        paths: Of the node.
        settings: Of the node.
        given: Names of the settings that were asked for: these replace what node.conf says.
        members: Addresses or networks of the members; empty: pg_hba.conf is left alone.
        auth: How they authenticate.
        user: The servers' system user, when the connection string names none.

    Raises:
        SetupError: A file is missing or an address is none.
    """
    changes = []
    before = _read(paths.node_conf)
    rendered = render_node_conf(settings, paths)
    after = rendered if before is None else merged(before, rendered, set(given))
    changes.append(FileChange(paths.node_conf, before, after))
    text = _read(paths.server_conf)
    if text is None:
        raise SetupError(
            f'"{paths.server_conf}" does not exist; give the data directory of a server, or let '
            '"pgraft create" make one'
        )
    changes.append(FileChange(paths.server_conf, text, with_include(text, paths)))
    if members:
        role = str(conninfo_to_dict(settings.replication_conninfo).get("user") or user)
        text = _read(paths.hba_conf) or ""
        block = hba_block(members, role, auth)
        changes.append(FileChange(paths.hba_conf, text, with_hba_block(text, block)))
    return changes


def settings_from(conf: dict[str, str], **given: object) -> NodeSettings:
    """The settings that node.conf has, with those that were asked for in their place."""
    known: dict[str, object] = {
        "port": _number(conf.get("port")),
        "listen_addresses": conf.get("listen_addresses"),
        "node_id": _number(conf.get("pgraft.node_id")),
        "raft_address": conf.get("pgraft.listen_address"),
        "raft_port": _number(conf.get("pgraft.listen_port")),
        "advertise_address": conf.get("pgraft.advertise_address"),
        "cluster_name": conf.get("pgraft.cluster_name"),
        "replication_conninfo": conf.get("pgraft.replication_conninfo"),
        "preload_libraries": tuple(_names(conf.get("shared_preload_libraries", ""))),
    }
    known.update({name: value for name, value in given.items() if value is not None})
    if known["node_id"] is None:
        raise SetupError("which node it is must be said with --node-id")
    return NodeSettings(**{k: v for k, v in known.items() if v is not None})  # type: ignore[arg-type]


def _names(libraries: str) -> list[str]:
    return [name.strip() for name in libraries.split(",") if name.strip()]


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def merged(existing: str, rendered: str, given: set[str]) -> str:
    """The existing file with what it lacks of the rendered one, and with what was asked for."""
    have = parse_settings(existing)
    wanted = parse_settings(rendered)
    lines = existing.splitlines()
    added = []
    for line in rendered.splitlines():
        name = line.split("=", 1)[0].strip().lower()
        if name not in wanted or (
            name in have and (name not in given or have[name] == wanted[name])
        ):
            continue
        if name in have:
            lines = [line if _sets(old, name) else old for old in lines]
        else:
            added.append(line)
    return "\n".join([*lines, *added]) + "\n"


def _sets(line: str, name: str) -> bool:
    return re.match(rf"\s*{re.escape(name)}\s*[=\s]", line, re.IGNORECASE) is not None


def hba_block(members: Sequence[str], user: str, auth: str) -> str:
    """Lines that let the members connect, for SQL and for replication.

    Raises:
        SetupError: An address is none.
    """
    lines = [HBA_BEGIN]
    for member in members:
        address = _hba_address(member)
        lines += [
            f"host  {database:<11}  {_quoted(user)}  {address}  {auth}"
            for database in ("postgres", "replication")
        ]
    return "\n".join([*lines, HBA_END]) + "\n"


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def _hba_address(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        pass
    if not re.fullmatch(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", text):
        raise SetupError(
            f'"{text}" is no address, network or host name; pg_hba.conf takes 10.0.0.2, '
            "10.0.0.0/24 or db2.example.org"
        )
    return text


def with_hba_block(text: str, block: str) -> str:
    """pg_hba.conf with our lines before all others: the first line that fits decides."""
    begin, end = text.find(HBA_BEGIN), text.find(HBA_END)
    if begin >= 0 and end > begin:
        after = end + len(HBA_END)
        return text[:begin] + block + text[after:].removeprefix("\n")
    return block + text


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
