"""`pgraft rejoin`: an operator's request that a stopped member be cloned anew (rule 9).

The marker is the one that the extension writes when a node has diverged, so `prepare` does the
rest, and the node abstains until it has caught up (rule 3).
"""

from __future__ import annotations

from pgraft import _pgraft
from pgraft.errors import SetupError
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import data_directory_version
from pgraft.prepare import refuse_running_server


def check(paths: NodePaths) -> _pgraft.IdentityFile:
    """Can it be asked for? To be called with the lock of `unsupervised`.

    Returns:
        Who the node is.

    Raises:
        SetupError: It runs, is no member, or knows nobody to be cloned from.
    """
    try:
        identity = _pgraft.read_identity(str(paths.data_dir))
    except _pgraft.NotFound:
        raise SetupError(
            f'"{paths.data_dir}" holds no Raft state; give the member\'s directories with -D and '
            "--data-dir"
        ) from None
    refuse_running_server(paths)
    if data_directory_version(paths.pgdata) is None:
        raise SetupError(
            f'"{paths.pgdata}" holds no database; if its disk is not mounted, mount it; if the '
            f'data is lost: "pgraft remove {identity.node_id}", remove "{paths.data_dir}", and set '
            'the node up again with "pgraft join"'
        )
    try:
        members = _pgraft.read_members(str(paths.data_dir))
    except _pgraft.NotFound:
        members = []
    if identity.cluster_id == 0 or not any(m.id != identity.node_id for m in members):
        raise SetupError(
            f'node {identity.node_id} in "{paths.data_dir}" knows of no other member that it could '
            'be cloned from; to start over, remove its directories and use "pgraft join"'
        )
    return identity


def request(paths: NodePaths, reason: str) -> None:
    """Sets the durable marker: from here on the server does not start without a clone."""
    wanted = _pgraft.RejoinFile()
    wanted.mode = _pgraft.RejoinMode.CLONE
    wanted.reason = reason
    _pgraft.request_rejoin(str(paths.data_dir), wanted)
    Owner.of_directory(paths.data_dir).give(paths.data_dir / "rejoin")
