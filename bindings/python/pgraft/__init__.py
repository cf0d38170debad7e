"""pgraft: PostgreSQL high availability from inside PostgreSQL.

The command line is `pgraft` (or `python -m pgraft`). For scripts: `pgraft.LocalCluster` runs real
servers on this machine, `pgraft.Node` one member without a database (Raft, LevelDB, TCP), and
`pgraft.query_status` asks any member over its Raft port; errors derive from `pgraft.Error`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgraft._pgraft import (
    Aborted,
    AlreadyExists,
    Corruption,
    Error,
    FailedPrecondition,
    InvalidArgument,
    IoError,
    Mismatch,
    Node,
    NoQuorum,
    NotFound,
    NotLeader,
    ResourceExhausted,
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
    "Aborted",
    "AlreadyExists",
    "Corruption",
    "Error",
    "FailedPrecondition",
    "InvalidArgument",
    "IoError",
    "LocalCluster",
    "Mismatch",
    "NoLeader",
    "NoQuorum",
    "Node",
    "NotFound",
    "NotLeader",
    "ProgramError",
    "ResourceExhausted",
    "SetupError",
    "Timeout",
    "Unavailable",
    "WaitTimeout",
    "Writer",
    "query_identity",
    "query_status",
]

_LAZY = {"LocalCluster": "pgraft.local_cluster", "Writer": "pgraft.writer"}


def __getattr__(name: str) -> Any:
    """What needs psycopg is imported when it is used: `pgraft run` starts faster without."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
