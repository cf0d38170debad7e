"""Rule 6, the control: what happens when its parts are left out (pgraft.debug_rules_off).

With all of them off, each way to lose the wait ends in a success that a majority lacks: so the
tests in test_commit.py can fail. With the backstop alone, nothing is answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from helpers import SETTINGS, table_of
from pgraft.local_cluster import LocalCluster, wait_for
from stalled import LOSSES, Stalled, forget_prepared, receiver

BEFORE = "commit_wait, commit_level, commit_quorum"
"""What keeps a wait from being lost; the backstop comes after."""


def _stalled(rules_off: str) -> Iterator[Stalled]:
    settings = {**SETTINGS, "pgraft.debug_rules_off": f"'{rules_off}'"}
    with LocalCluster(3, settings=settings) as cluster:
        table_of(cluster)
        yield Stalled(cluster)


@pytest.fixture(scope="module")
def backstop_cluster() -> Iterator[Stalled]:
    yield from _stalled(BEFORE)


@pytest.fixture(scope="module")
def unsafe_cluster() -> Iterator[Stalled]:
    yield from _stalled(f"{BEFORE}, commit_backstop")


@pytest.fixture
def backstop(backstop_cluster: Stalled) -> Iterator[Stalled]:
    yield backstop_cluster
    backstop_cluster.release()
    forget_prepared(backstop_cluster)


@pytest.fixture
def unsafe(unsafe_cluster: Stalled) -> Iterator[Stalled]:
    yield unsafe_cluster
    unsafe_cluster.release()
    forget_prepared(unsafe_cluster)


def test_the_server_says_that_it_is_unsafe(backstop: Stalled) -> None:
    row = backstop.execute("SELECT pgraft_get_worker_state()::text")
    assert row is not None
    assert "pgraft.debug_rules_off is set" in row[0]
    log = backstop.leader.log_file.read_text()
    assert "acknowledged commits can be lost" in log


@pytest.mark.parametrize("loss", LOSSES)
def test_without_the_rule_a_lost_wait_is_answered(unsafe: Stalled, loss: str) -> None:
    running = LOSSES[loss](unsafe)
    running.join(60)
    assert running.acknowledged, running


@pytest.mark.parametrize("loss", LOSSES)
def test_the_backstop_answers_no_lost_wait(backstop: Stalled, loss: str) -> None:
    running = LOSSES[loss](backstop)
    running.join(60)
    assert not running.pending, running
    assert not running.acknowledged, running
    assert isinstance(running.error, psycopg.OperationalError), running


def test_without_the_rule_an_emptied_quorum_is_answered(unsafe: Stalled) -> None:
    running = unsafe.waiting("INSERT INTO t VALUES (1)")
    with unsafe.quorum_names(""):
        running.join(60)
        assert running.acknowledged, running


def test_the_backstop_does_not_answer_an_emptied_quorum(backstop: Stalled) -> None:
    running = backstop.waiting("INSERT INTO t VALUES (1)")
    with backstop.quorum_names(""):
        running.join(60)
        assert not running.pending, running
        assert not running.acknowledged, running
        late = backstop.attempt("INSERT INTO t VALUES (2)")
        late.join(60)
        assert not late.acknowledged, late


def test_without_the_check_of_its_names_anybody_is_the_quorum(
    backstop: Stalled, tmp_path: Path
) -> None:
    """A client that keeps WAL counts as a member: the backstop can't see that."""
    with receiver(backstop, "anybody", tmp_path), backstop.quorum_names("ANY 1 (anybody)"):
        backstop.hold()
        wait_for(
            lambda: backstop.holds(
                "EXISTS (SELECT FROM pg_stat_replication WHERE application_name = 'anybody' "
                "AND sync_state = 'quorum')"
            ),
            30,
            "the client to be in the quorum",
        )
        running = backstop.attempt("INSERT INTO t VALUES (1)")
        running.join(60)
        assert running.acknowledged, running
