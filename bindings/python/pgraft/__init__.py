"""pgraft: PostgreSQL high availability from inside PostgreSQL.

The command line is `pgraft` (or `python -m pgraft`). For scripts: `pgraft.LocalCluster` runs real
servers on this machine, `pgraft.Node` one member without a database (Raft, LevelDB, TCP), and
`pgraft.query_status` asks any member over its Raft port; errors derive from `pgraft.Error`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgraft import confchange, quorum, sim
from pgraft._pgraft import (
    APPEND_THREAD,
    APPLY_THREAD,
    Aborted,
    AlreadyExists,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfState,
    Corruption,
    Entry,
    EntryType,
    Error,
    FailedPrecondition,
    HardState,
    InvalidArgument,
    InvariantError,
    IoError,
    MemoryStorage,
    Message,
    MessageType,
    Mismatch,
    Node,
    NodeStatus,
    NoQuorum,
    NoSpace,
    NotFound,
    NotLeader,
    ProgressState,
    ProgressView,
    RawNode,
    ReadOnly,
    ReadState,
    Ready,
    ResourceExhausted,
    Role,
    Snapshot,
    SoftState,
    Switches,
    Timeout,
    Unavailable,
    query_identity,
    query_status,
)
from pgraft.errors import NoLeader, ProgramError, SetupError, WaitTimeout

if TYPE_CHECKING:
    from pgraft.local_cluster import LocalCluster
    from pgraft.writer import Writer

__all__ = [
    "APPEND_THREAD",
    "APPLY_THREAD",
    "Aborted",
    "AlreadyExists",
    "ConfChange",
    "ConfChangeSingle",
    "ConfChangeTransition",
    "ConfChangeType",
    "ConfState",
    "Corruption",
    "Entry",
    "EntryType",
    "Error",
    "FailedPrecondition",
    "HardState",
    "InvalidArgument",
    "InvariantError",
    "IoError",
    "LocalCluster",
    "MemoryStorage",
    "Message",
    "MessageType",
    "Mismatch",
    "NoLeader",
    "NoQuorum",
    "NoSpace",
    "Node",
    "NodeStatus",
    "NotFound",
    "NotLeader",
    "ProgramError",
    "ProgressState",
    "ProgressView",
    "RawNode",
    "ReadOnly",
    "ReadState",
    "Ready",
    "ResourceExhausted",
    "Role",
    "SetupError",
    "Snapshot",
    "SoftState",
    "Switches",
    "Timeout",
    "Unavailable",
    "WaitTimeout",
    "Writer",
    "confchange",
    "query_identity",
    "query_status",
    "quorum",
    "sim",
]

_LAZY = {"LocalCluster": "pgraft.local_cluster", "Writer": "pgraft.writer"}


def __getattr__(name: str) -> Any:
    """What needs psycopg is imported when it is used: `pgraft run` starts faster without."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
