"""Clusters of real servers for the tests. A failed test shows the end of every server's log."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `helpers`

from helpers import SETTINGS
from pgraft.local_cluster import LocalCluster
from pgraft.owner import Owner
from pgraft.pg import Postgres

# A shell that starts this in the background has it ignore Ctrl-C, and with it all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _extension_is_installed() -> None:
    postgres = Postgres.find()
    share = Owner.for_new_directory().run([postgres.program("pg_config"), "--sharedir"])
    control = f"{share.stdout.strip()}/extension/pgraft.control"
    with contextlib.suppress(FileNotFoundError), open(control):
        return
    pytest.exit(f"the extension is not installed ({control} is missing)", returncode=2)


def _cluster(**arguments: Any) -> Iterator[LocalCluster]:
    with LocalCluster(arguments.pop("nodes", 3), settings=SETTINGS, **arguments) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Three nodes for the whole module: for tests that leave them as they were."""
    yield from _cluster()


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Three nodes of its own: for tests in which nodes die."""
    yield from _cluster()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Adds the logs of the cluster that a failed test used."""
    report = (yield).get_result()
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, LocalCluster):
                report.sections.append(("server logs", value.logs(60)))
                report.sections.append(("members' answers", repr(value.status())))
