"""What the documentation shows is what there is: references, the quick start, the examples."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from pgraft.local_cluster import LocalCluster
from pgraft.owner import Owner
from pgraft.pg import Postgres

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def run(*command: str | Path, **settings: str) -> str:
    done = subprocess.run(
        [*map(str, command)],
        env={**os.environ, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_reference_says_what_the_server_says() -> None:
    run(sys.executable, "tools/sql_reference.py", "--check")


def test_the_messages_are_those_of_the_sources() -> None:
    run(sys.executable, "tools/message_reference.py", "--check")


def sql_blocks(page: str) -> list[str]:
    return re.findall(r"^```sql\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)


def test_the_queries_for_monitoring_work(shared: LocalCluster) -> None:
    blocks = sql_blocks("monitoring.md")
    assert len(blocks) >= 2
    with shared.connect() as connection:
        connection.execute("SET ROLE pg_monitor")
        answers = [
            connection.execute(statement.encode()).fetchall()
            for block in blocks
            for statement in block.split(";")
            if statement.strip()
        ]
    assert answers[0] == [(1, True)]  # one of three may be lost
    assert answers[1:3] == [[], []]  # nobody is away, the worker is well


def test_what_is_measured_is_explained(shared: LocalCluster) -> None:
    text = (DOCS / "monitoring.md").read_text(encoding="utf-8")
    with shared.connect() as connection:
        names = connection.execute("SELECT name FROM pgraft_performance").fetchall()
    explained = re.compile(r"_(count|mean|p50|p90|p99|max)$")
    for (name,) in names:
        assert f"`{explained.sub('', name)}`" in text, name


def test_a_commit_in_doubt_is_settled_by_its_id(shared: LocalCluster) -> None:
    begin, settle = sql_blocks("safety.md")
    with shared.connect() as connection:
        connection.execute(begin.encode())
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(begin.split("BEGIN;")[1].encode())
        connection.execute("ROLLBACK")
        assert len(connection.execute(settle.encode()).fetchall()) == 1


@pytest.mark.parametrize("example", sorted(p.name for p in (DOCS / "examples").glob("*.py")))
def test_an_example_works(example: str) -> None:
    path = DOCS / "examples" / example
    if example.startswith("test_"):
        run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path)
    else:
        run(sys.executable, path)


def are_free(first: int, count: int) -> bool:
    with contextlib.ExitStack() as stack:
        for port in range(first, first + count):
            probe = stack.enter_context(socket.socket())
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return False
    return True


def quick_start(section: str, edit: Callable[[str], str]) -> list[str]:
    text = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    body = text.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    return [edit(block) for block in re.findall(r"^```sh\n(.*?)^```", body, re.M | re.S)]


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory for servers, whose user must get through."""
    with tempfile.TemporaryDirectory(prefix="pgraft-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "try"


def test_the_quick_start_works(base: Path) -> None:
    """Each command as the page has it, but for the ports, the directory and the user."""
    first = next(p for p in range(15000, 19000, 20) if are_free(p, 20))

    def edit(block: str) -> str:
        block = block.replace("/tmp/try", str(base))
        block = block.replace("PGUSER=postgres", f"PGUSER={Owner.for_new_directory().name}")
        return block.replace("550", str(first)[:-1]).replace("810", str(first + 10)[:-1])

    lines = [
        "set -e",
        "trap 'kill $(jobs -p); wait' EXIT",
        *quick_start("Three members on one machine", edit),
        f"until psql -p {first + 1} -qc 'select 1'; do sleep 0.2; done",  # the old leader is back
        'psql "$all" -Atc "select count(*) from t"',
    ]
    path = f"{Path(sys.executable).parent}:{Postgres.find().program('psql').parent}"
    with subprocess.Popen(
        ["bash", "-c", "\n".join(lines)],
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "PGCONNECT_TIMEOUT": "5"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert "3 voters" in output, output
    assert "\n2\n" in output, output  # the row from before the failover, and the one after it
