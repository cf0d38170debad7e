"""The configuration of a member: node.conf, and the line of postgresql.conf that includes it.

A rewind or base backup replaces postgresql.conf by that of its source, whose port and node id
would be wrong here. So what belongs to one node is in `node.conf` beside the Raft state, and
postgresql.conf ends with one line that includes it. The line uses `include`, not
`include_if_exists`: a copied configuration whose file is missing must not start without pgraft,
and so without its fence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgraft.errors import SetupError

if TYPE_CHECKING:  # it reads configuration files
    from pgraft.paths import NodePaths

INCLUDE_MARK = "# pgraft: settings of this node, must stay the last line"

# In postgresql.auto.conf these override node.conf, are wrong on another node, or would bypass
# pgraft.
_NODE_LOCAL = frozenset(
    {
        "cluster_name",
        "config_file",
        "data_directory",
        "external_pid_file",
        "hba_file",
        "hot_standby",
        "ident_file",
        "listen_addresses",
        "port",
        "primary_conninfo",
        "primary_slot_name",
        "promote_trigger_file",
        "restore_command",
        "synchronous_standby_names",
        "unix_socket_directories",
        "wal_level",
        "wal_log_hints",
    }
)
_SETTING = re.compile(r"^\s*([A-Za-z_][\w.$]*)\s*(?:=\s*|\s)(.*?)\s*$")
_INCLUDE = re.compile(r"^\s*include(?:_if_exists)?\s*=?\s*'.*'\s*# pgraft:", re.IGNORECASE)


@dataclass(frozen=True)
class NodeSettings:
    """What makes one node's configuration different from another's."""

    node_id: int
    port: int = 5432
    listen_addresses: str = "*"
    raft_address: str = "0.0.0.0"
    raft_port: int = 8001
    advertise_address: str = ""
    cluster_name: str = "pgraft"
    replication_conninfo: str = ""
    unix_socket_directories: str | None = None
    preload_libraries: tuple[str, ...] = ()
    """Other libraries to load beside pgraft."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further settings, as they shall stand in node.conf."""

    def validate(self) -> None:
        """Refuses what the server would refuse, with a better message.

        Raises:
            SetupError: A value is out of range.
        """
        if not 1 <= self.node_id <= 2**31 - 1:
            raise SetupError(f"node id {self.node_id} is out of range (1 to {2**31 - 1})")
        for name, port in (("port", self.port), ("Raft port", self.raft_port)):
            if not 1 <= port <= 65535:
                raise SetupError(f"{name} {port} is out of range (1 to 65535)")
        if self.port == self.raft_port:
            raise SetupError(f"PostgreSQL and Raft can't both listen on port {self.port}")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,63}", self.cluster_name):
            raise SetupError(
                f'cluster name "{self.cluster_name}" must consist of 1 to 63 letters, digits, '
                '"_" and "-"'
            )


def quote(value: str) -> str:
    """A value as it stands in a configuration file.

    Raises:
        SetupError: It holds a line break, which a configuration file can't.
    """
    if "\n" in value or "\0" in value:
        raise SetupError(f"setting {value!r} must not contain a line break")
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def render_node_conf(settings: NodeSettings, paths: NodePaths, primary_conninfo: str = "") -> str:
    """The content of node.conf.

    Args:
        settings: Of this node.
        paths: Of this node.
        primary_conninfo: For a node that joins: the leader that it was copied from.
    """
    settings.validate()
    libraries = [name for name in settings.preload_libraries if name != "pgraft"]
    values = {
        "port": str(settings.port),
        "listen_addresses": quote(settings.listen_addresses),
        "shared_preload_libraries": quote(", ".join([*libraries, "pgraft"])),
        "pgraft.node_id": str(settings.node_id),
        "pgraft.cluster_name": quote(settings.cluster_name),
        "pgraft.listen_address": quote(settings.raft_address),
        "pgraft.listen_port": str(settings.raft_port),
        "pgraft.advertise_address": quote(settings.advertise_address),
        "pgraft.data_dir": quote(str(paths.data_dir)),
        "pgraft.replication_conninfo": quote(settings.replication_conninfo),
    }
    if settings.unix_socket_directories is not None:
        values["unix_socket_directories"] = quote(settings.unix_socket_directories)
    needed = {
        "wal_level": "replica",
        "hot_standby": "on",
        "wal_log_hints": "on",
        "max_wal_senders": "20",
        "max_replication_slots": "20",
        "wal_keep_size": "'1GB'",
        "max_slot_wal_keep_size": "'4GB'",
        "wal_retrieve_retry_interval": "'100ms'",
        "restart_after_crash": "on",
        "primary_conninfo": quote(primary_conninfo or "application_name=pgraft"),
    }
    why = {
        "wal_log_hints": "pg_rewind needs it (or data checksums)",
        "wal_keep_size": "a rewound node needs the WAL since the last common checkpoint",
        "max_slot_wal_keep_size": "a member that is away must not fill the disk",
        "wal_retrieve_retry_interval": "the default of 5 s would delay following a new leader",
        "primary_conninfo": "must not be empty, or recovery asks for no stream; "
        "a member follows the leader whatever it says",
    }
    needed.update(settings.extra)
    lines = [
        "# Settings of this node, written by pgraft. They are kept outside the data directory,",
        "# because rewinds and base backups replace everything inside it.",
        *(f"{name} = {value}" for name, value in values.items()),
        "",
        *(
            f"{name} = {value}" + (f"  # {why[name]}" if name in why else "")
            for name, value in needed.items()
        ),
        "",
        "# Written by the extension: the commit quorum of the current configuration.",
        f"include_if_exists {quote(str(paths.quorum_conf))}",
        "",
    ]
    return "\n".join(lines)


def with_include(server_conf: str, paths: NodePaths) -> str:
    """postgresql.conf with the include line of this node last, and of no other node."""
    lines = [line for line in server_conf.splitlines() if not _INCLUDE.match(line)]
    while lines and not lines[-1].strip():
        lines.pop()
    lines.append(f"include {quote(str(paths.node_conf))} {INCLUDE_MARK}")
    return "\n".join(lines) + "\n"


def without_node_local(auto_conf: str, dropped: Iterable[str] = ()) -> str:
    """postgresql.auto.conf of another node, without what would be wrong on this one."""
    drop = set(dropped)
    kept = []
    for line in auto_conf.splitlines():
        found = _SETTING.match(line)
        name = found.group(1).lower() if found else ""
        if name in drop or _is_node_local(name):
            continue
        kept.append(line)
    return "\n".join(kept) + "\n" if kept else ""


def node_local_settings(auto_conf: str) -> list[str]:
    """What a file sets though it belongs into node.conf."""
    return [name for name in parse_settings(auto_conf) if _is_node_local(name)]


def _is_node_local(name: str) -> bool:
    return name in _NODE_LOCAL or name.startswith(("pgraft.", "recovery_target"))


def parse_settings(text: str, *, keep_case: bool = False) -> dict[str, str]:
    """The settings of a configuration file, without the files that it includes; the last counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _SETTING.match(line)
        if match and not match.group(1).lower().startswith("include"):
            name = match.group(1)
            found[name if keep_case else name.lower()] = _unquote(match.group(2))
    return found


def read_node_conf(paths: NodePaths) -> dict[str, str]:
    """The settings of this node.

    Raises:
        SetupError: There are none: the directory was not set up.
    """
    try:
        return parse_settings(paths.node_conf.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SetupError(_not_set_up(paths)) from None


def _not_set_up(paths: NodePaths) -> str:
    missing = f'file "{paths.node_conf}" does not exist'
    if not paths.binding.exists():
        return (
            f'{missing}; set the node up with "pgraft create" or "pgraft join", or give its '
            "directory with --data-dir"
        )
    return (
        f'{missing}, but "{paths.pgdata}" is that of a member: give the directory of its Raft '
        "state with --data-dir, or mount its disk. If that is lost, the node must not vote again: "
        f'remove it from the cluster (pgraft remove), remove "{paths.pgdata}", and set it up anew '
        "(pgraft join, pgraft add)"
    )


def _unquote(value: str) -> str:
    if not value.startswith("'"):
        return value.split("#", 1)[0].strip()
    out: list[str] = []
    i = 1
    while i < len(value):
        c = value[i]
        if c == "\\" and i + 1 < len(value):
            out.append(value[i + 1])
            i += 2
        elif c == "'":
            if value[i + 1 : i + 2] != "'":
                break
            out.append("'")
            i += 2
        else:
            out.append(c)
            i += 1
    return "".join(out)
