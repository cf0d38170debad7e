"""Where the files of a node are.

The Raft state lives beside the data directory, never in it: base backups and rewinds copy
everything inside (rule 10).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pgraft import layout
from pgraft.errors import SetupError


@dataclass(frozen=True)
class NodePaths:
    """All paths that belong to one node."""

    pgdata: Path
    data_dir: Path
    outside: Path | None = None
    """Directory of the server's configuration, when it is not the data directory (Debian's way)."""

    @classmethod
    def of(cls, pgdata: str | Path, data_dir: str | Path | None = None) -> NodePaths:
        """Paths of the node whose data directory is `pgdata`.

        Args:
            pgdata: PostgreSQL's data directory, or that of its configuration where that is another
                (`layout.py`).
            data_dir: Directory of the Raft state; default: `<pgdata>.pgraft`.

        Raises:
            SetupError: The Raft state would lie inside the data directory.
        """
        directory, outside = layout.resolve(Path(os.path.realpath(pgdata)))
        state = Path(os.path.realpath(data_dir)) if data_dir else _beside(directory, "pgraft")
        if state == directory or directory in state.parents:
            raise SetupError(
                f'the Raft state in "{state}" must lie outside the data directory "{directory}", '
                "because base backups and rewinds copy everything inside it"
            )
        return cls(directory, state, outside)

    @property
    def conf_dir(self) -> Path:
        """Where the server's configuration is; what postgres takes after -D."""
        return self.outside or self.pgdata

    @property
    def server_conf(self) -> Path:
        """PostgreSQL's own configuration file; its last line includes `node_conf`."""
        return self.conf_dir / "postgresql.conf"

    @property
    def auto_conf(self) -> Path:
        """What ALTER SYSTEM writes."""
        return self.pgdata / "postgresql.auto.conf"

    @property
    def hba_conf(self) -> Path:
        """Who may connect."""
        return layout.hba_file(self.conf_dir) or self.conf_dir / "pg_hba.conf"

    @property
    def standby_signal(self) -> Path:
        """Present at every start of a member (rule 1)."""
        return self.pgdata / "standby.signal"

    @property
    def binding(self) -> Path:
        """The data directory's half of the identity (rule 10)."""
        return self.pgdata / "pgraft.binding"

    @property
    def postmaster_pid(self) -> Path:
        """Lock file of a running server."""
        return self.pgdata / "postmaster.pid"

    @property
    def node_conf(self) -> Path:
        """Settings of this node, which no rewind can replace."""
        return self.data_dir / "node.conf"

    @property
    def quorum_conf(self) -> Path:
        """Settings that the extension writes (commit quorum)."""
        return self.data_dir / "pgraft.conf"

    @property
    def run_pid(self) -> Path:
        """Lock file of the supervisor."""
        return self.data_dir / "run.pid"

    @property
    def prepare_lock(self) -> Path:
        """Lock file of `prepare` and of the programs that it starts."""
        return self.data_dir / "prepare.lock"

    @property
    def progress(self) -> Path:
        """How far a rejoin is, while `prepare` works on it."""
        return self.data_dir / "progress"

    @property
    def new_tablespaces(self) -> Path:
        """List of the directories that a clone under way fills."""
        return self.data_dir / "tablespaces.new"

    @property
    def old_tablespaces(self) -> Path:
        """List of the directories that only replaced data directories use."""
        return self.data_dir / "tablespaces.old"

    @property
    def kept(self) -> Path:
        """The node's own configuration files while a rewind or clone is under way."""
        return self.data_dir / "kept"

    @property
    def aside(self) -> Path:
        """Old WAL, until the node has caught up after a rewind."""
        return self.data_dir / "aside"

    @property
    def clone(self) -> Path:
        """A base backup that is being made to replace the data directory."""
        return _beside(self.pgdata, "pgraft-new")

    @property
    def replaced(self) -> Path:
        """The old data directory while the clone takes its place; may be put back."""
        return _beside(self.pgdata, "pgraft-old")

    @property
    def retired(self) -> Path:
        """The old data directory from then on; never to be put back, removed after catching up."""
        return _beside(self.pgdata, "pgraft-retired")


def _beside(directory: Path, suffix: str) -> Path:
    return directory.with_name(f"{directory.name}.{suffix}")
