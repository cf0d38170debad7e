"""`pgraft run` with a real server (without the extension)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pgraft
import psycopg
import pytest
from pgraft import processes
from pgraft.local_cluster import wait_for


class Running:
    """A supervisor process."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, *options: str, variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = open(self.server.log, "ab")  # noqa: SIM115 - the child's
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "pgraft", "run", "-D", str(self.server.paths.pgdata),
                "--stop-on-eof", *options,
            ],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": self.python_path(), **(variables or {})},
            start_new_session=True,
        )  # fmt: skip
        log.close()
        return self.process

    @staticmethod
    def python_path() -> str:
        packages = str(Path(pgraft.__file__).parent.parent)
        return os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), packages]))

    def postmaster(self) -> int | None:
        try:
            pid = int(self.server.paths.postmaster_pid.read_text().split("\n")[0])
        except (OSError, ValueError):
            return None
        return pid if processes.alive(pid) else None

    def wait_until_up(self, not_pid: int | None = None) -> int:
        def up() -> int | None:
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            pid = self.postmaster()
            if pid is None or pid == not_pid or self.server.query("SELECT 1") != [(1,)]:
                return None
            return pid

        return wait_for(up, 60, "the server to answer")

    def log(self) -> str:
        return str(self.server.log.read_text(errors="replace")[-3000:])

    def end(self) -> None:
        if self.process is not None:
            tree = processes.descendants(self.process.pid)
            processes.send(tree, signal.SIGKILL)
            self.process.wait()
            assert self.process.stdin is not None
            self.process.stdin.close()


@pytest.fixture(scope="module")
def server(make_server: Callable[..., Any]) -> Any:
    return make_server(1)


@pytest.fixture
def running(server: Any) -> Iterator[Running]:
    one = Running(server)
    yield one
    one.end()
    wait_for(lambda: one.postmaster() is None, 60, "the server to be gone")


def test_a_killed_server_is_started_again(running: Running) -> None:
    running.start()
    first = running.wait_until_up()
    os.kill(first, signal.SIGKILL)
    second = running.wait_until_up(not_pid=first)
    assert second != first


def test_processes_left_behind_are_ended_before_the_next_start(running: Running) -> None:
    """A stopped backend does not notice the postmaster's death, and holds the shared memory."""
    running.start()
    first = running.wait_until_up()
    backend = psycopg.connect(
        host="127.0.0.1",
        port=running.server.settings.port,
        user=running.server.owner.name,
        dbname="postgres",
    )
    left = backend.info.backend_pid
    os.kill(left, signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    running.wait_until_up(not_pid=first)
    assert not processes.alive(left)
    backend.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_stops_the_server(running: Running, number: signal.Signals) -> None:
    process = running.start()
    running.wait_until_up()
    process.send_signal(number)
    assert process.wait(60) == 0
    assert running.postmaster() is None


def test_a_second_request_stops_at_once(running: Running) -> None:
    process = running.start()
    postmaster = running.wait_until_up()
    os.kill(postmaster, signal.SIGSTOP)  # so that the fast stop can't be over before
    wait_for(lambda: _field(postmaster, "State").startswith("T"), 30, "it to stand still")
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: _pending(postmaster, signal.SIGINT), 30, "the fast stop to be asked for")
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: _pending(postmaster, signal.SIGQUIT), 30, "the immediate stop")
    os.kill(postmaster, signal.SIGCONT)
    process.wait(60)
    assert "received immediate shutdown request" in running.log()


def _field(pid: int, name: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(line.split(None, 1)[1] for line in text.splitlines() if line.startswith(name))


def _pending(pid: int, number: signal.Signals) -> bool:
    return bool(int(_field(pid, "ShdPnd"), 16) >> (number - 1) & 1)


def test_sighup_is_passed_on(running: Running) -> None:
    process = running.start()
    running.wait_until_up()
    before = running.server.query("SELECT pg_conf_load_time()")
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: running.server.query("SELECT pg_conf_load_time()") != before, 30, "the reload")


def test_a_killed_supervisor_takes_its_server_with_it(running: Running) -> None:
    process = running.start()
    running.wait_until_up()
    process.kill()
    process.wait()
    wait_for(lambda: running.postmaster() is None, 60, "the server to stop")


def test_a_kept_server_survives_its_supervisor_and_is_adopted(running: Running) -> None:
    running.start("--keep-server").kill()
    assert running.process is not None
    running.process.wait()
    second = running.start("--keep-server")
    first = running.wait_until_up()
    second.kill()
    second.wait()
    third = running.start("--keep-server")
    adopted = f"a server (process {first}) runs already, watching over it"
    wait_for(lambda: adopted in running.log(), 60, "the server to be adopted")
    assert running.wait_until_up() == first
    third.send_signal(signal.SIGHUP)
    wait_for(lambda: "received SIGHUP" in running.log(), 30, "the reload")
    os.kill(first, signal.SIGKILL)
    last = running.wait_until_up(not_pid=first)
    third.kill()
    third.wait()
    fourth = running.start("--keep-server")
    adopted = f"a server (process {last}) runs already, watching over it"
    wait_for(lambda: adopted in running.log(), 60, "the server to be adopted")
    fourth.send_signal(signal.SIGTERM)
    assert fourth.wait(60) == 0
    assert running.postmaster() is None


def test_the_service_manager_is_told(running: Running, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = running.start(
            "--log-format", "json", variables={"NOTIFY_SOCKET": str(tmp_path / "notify")}
        )
        running.wait_until_up()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        told: list[str] = []
        while "STOPPING=1" not in "".join(told):
            told.append(manager.recv(4096).decode())
    assert told[0] == "READY=1"
    assert any(line.startswith("STATUS=the server runs (process ") for line in told)


def test_its_own_lines_can_be_json(running: Running) -> None:
    process = running.start("--log-format", "json")
    first = running.wait_until_up()
    os.kill(first, signal.SIGKILL)
    running.wait_until_up(not_pid=first)
    text = running.server.log.read_text(errors="replace")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    told = [line["message"] for line in lines if line["pid"] == process.pid]
    assert any("the server has stopped (signal 9)" in message for message in told), told


def test_it_stops_when_its_starter_is_gone(running: Running) -> None:
    process = running.start()
    running.wait_until_up()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0
    assert running.postmaster() is None


def test_arguments_reach_the_server(running: Running) -> None:
    running.start("--", "-c", "work_mem=7MB")
    running.wait_until_up()
    assert running.server.query("SHOW work_mem") == [("7MB",)]


def test_a_second_supervisor_is_refused(running: Running) -> None:
    first = running.start()
    running.wait_until_up()
    second = Running(running.server)
    process = second.start()
    assert process.wait(60) == 1
    assert f"(process {first.pid})" in running.log()
    running.process = first


def test_a_server_that_cannot_start_is_tried_again(running: Running) -> None:
    conf = running.server.paths.node_conf
    good = conf.read_text()
    conf.write_text(good + "max_connections = nonsense\n")
    process = running.start()
    try:
        wait_for(lambda: "starting again in 0.2 s" in running.log(), 60, "the second try")
    finally:
        conf.write_text(good)
    running.wait_until_up()
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_a_directory_that_was_not_set_up_is_refused(running: Running, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pgraft", "run", "-D", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": running.python_path()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "pgraft create" in result.stderr
    assert "Traceback" not in result.stderr
