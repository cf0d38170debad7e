"""Rules 6 and 8: a standby counts once, however many of its connections the leader has.

A connection lingers when its end does not reach the leader. Here the socket is kept open by another
process than the walreceiver that made it, which dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from helpers import (
    FAILOVER_SECONDS,
    REJOIN_SECONDS,
    SETTINGS,
    Attempt,
    attempt,
    rows,
    stays_pending,
    table_of,
    wait_for_sync_rep,
)
from membership import expect_members, grow, receiver_of, sql
from pgraft import processes
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.local_node import LocalNode
from stalled import Stopped

PIDFD_GETFD = 438  # the system call's number, the same on all machines


@pytest.fixture
def four() -> Iterator[LocalCluster]:
    with LocalCluster(4, settings=SETTINGS) as cluster:
        yield cluster


@pytest.fixture
def unsafe_five() -> Iterator[LocalCluster]:
    settings = {**SETTINGS, "pgraft.debug_rules_off": "'one_stream'"}
    with LocalCluster(5, settings=settings) as cluster:
        yield cluster


@contextmanager
def sockets_of(pid: int) -> Iterator[None]:
    """Keeps the connections of a process open when it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    kept: list[int] = []
    process = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if not os.readlink(entry).startswith("socket:"):
                continue
            copy = libc.syscall(PIDFD_GETFD, process, int(entry.name), 0)
            if copy < 0:
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), f"pidfd_getfd of process {pid}")
            kept.append(copy)
        assert kept, "no connection was found"
        yield
    finally:
        for descriptor in [process, *kept]:
            os.close(descriptor)


def streams(cluster: LocalCluster, node: LocalNode, member: LocalNode, lsn: int) -> list[int]:
    """The leader's walsenders for a member which say that it has flushed up to `lsn`."""
    with cluster.connect(node.id) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_replication WHERE application_name = %s "
            "AND flush_lsn - '0/0' >= %s",
            [f"pgraft_{member.id}", lsn],
        ).fetchall()
    return [pid for (pid,) in found]


def reconnect_while_one_lingers(
    cluster: LocalCluster, stack: ExitStack, value: int
) -> tuple[Attempt, LocalNode, LocalNode]:
    """A commit that one standby alone confirms, on two connections one after the other.

    All other standbys stand still until the stack is left. Returns the commit, the leader and that
    standby.
    """
    leader, twice, *others = [cluster.leader(), *cluster.followers()]
    for node in [twice, *others]:
        cluster.wait_for_standby(node.id, REJOIN_SECONDS)
    stopped = Stopped([receiver_of(node) for node in others])
    stack.callback(stopped.end)  # what has come for them meanwhile they never see
    commit = attempt(cluster, leader.id, f"INSERT INTO t VALUES ({value})")
    assert wait_for_sync_rep(cluster, leader.id, commit), commit
    lsn = int(sql(cluster, leader.id, "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint")[0])
    (former,) = wait_for(
        lambda: streams(cluster, leader, twice, lsn), FAILOVER_SECONDS, "the first confirmation"
    )
    receiver = receiver_of(twice)
    stack.enter_context(sockets_of(receiver))
    processes.send([receiver], signal.SIGKILL)  # its server starts all processes again
    wait_for(
        lambda: set(streams(cluster, leader, twice, lsn)) - {former},
        REJOIN_SECONDS,
        "the second confirmation",
    )
    return commit, leader, twice


def test_a_standby_that_reconnects_counts_once(four: LocalCluster) -> None:
    """With four voters, and with five: two of the others are needed."""
    table_of(four)
    for voters in (4, 5):
        if voters == 5:
            grow(four, 5)
            four.add_to_cluster(5)
            expect_members(four, range(1, 6))
        with ExitStack() as stack:
            commit, leader, twice = reconnect_while_one_lingers(four, stack, voters)
            assert len(streams(four, leader, twice, 0)) == 1
            assert stays_pending(commit, 1.0), commit
        commit.join()
        assert commit.acknowledged, commit


def test_without_the_rule_a_standby_counts_twice(unsafe_five: LocalCluster) -> None:
    """The control: such a commit is acknowledged by two of five, and is lost with them."""
    table_of(unsafe_five)
    with ExitStack() as stack:
        commit, leader, twice = reconnect_while_one_lingers(unsafe_five, stack, 1)
        commit.join()
        assert commit.acknowledged, commit
        leader.kill("all")
        twice.kill("all")
    new = unsafe_five.leader(REJOIN_SECONDS, exclude=[leader.id, twice.id])
    assert rows(unsafe_five, new.id) == []
