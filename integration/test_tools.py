"""The command line, the demonstration, and what is left behind by them: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pgraft
import pytest
from helpers import REJOIN_SECONDS
from pgraft import processes
from pgraft.local_cluster import LocalCluster, wait_for
from pgraft.netns import Network

PACKAGES = str(Path(pgraft.__file__).parent.parent)
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), PACKAGES])),
}
COMMAND = [sys.executable, "-m", "pgraft"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_status_shows_every_member(shared: LocalCluster) -> None:
    node = shared.node(1)
    result = run("status", "--port", str(node.settings.raft_port), "--json")
    assert result.returncode == 0, result.stderr
    answers = [entry["answer"] for entry in json.loads(result.stdout)]
    assert sorted(a["identity"]["node_id"] for a in answers) == [1, 2, 3]
    assert [a["identity"]["node_id"] for a in answers if a["writable"]] == [shared.leader().id]


def test_status_takes_a_data_directory(shared: LocalCluster) -> None:
    result = run("status", "-D", str(shared.node(2).paths.pgdata))
    assert result.returncode == 0, result.stderr
    assert "leader" in result.stdout


def test_status_of_nobody_fails(shared: LocalCluster) -> None:
    assert shared.nodes
    result = run("status", "--port", "1", "--timeout", "1")
    assert result.returncode == 1
    assert "no answer" in result.stdout


def test_prepare_of_a_healthy_node_does_nothing(cluster: LocalCluster) -> None:
    follower = cluster.followers()[0]
    result = run("prepare", "-D", str(follower.paths.pgdata))
    assert result.returncode == 1, "its server runs"
    assert "stop it first" in result.stderr
    cluster.stop(follower.id)
    result = run("prepare", "-D", str(follower.paths.pgdata))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "nothing to do"


def test_a_node_is_joined_and_removed_while_writes_go_on(cluster: LocalCluster) -> None:
    node = cluster.new_node(4)
    cluster.join_node(node, source=cluster.leader().id)
    node.start()
    cluster.add_to_cluster(4)
    cluster.wait_for_voters([1, 2, 3, 4], REJOIN_SECONDS)
    with cluster.connect() as connection:
        connection.execute("CREATE TABLE four (i int)")
        connection.execute("SELECT pgraft_remove_node(4)")
    cluster.wait_for_voters([1, 2, 3], REJOIN_SECONDS)


def test_create_refuses_a_node_that_exists(shared: LocalCluster) -> None:
    node = shared.node(1)
    result = run("create", "-D", str(node.paths.pgdata), "--node-id", "1")
    assert result.returncode == 1
    assert "holds the Raft state of node 1" in result.stderr


@pytest.mark.timeout(600)
def test_the_demonstration_loses_nothing() -> None:
    result = subprocess.run(
        [*COMMAND, "demo", "--rounds", "1"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "nothing lost" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_no_server_outlives_the_program_that_started_it(number: signal.Signals) -> None:
    script = (
        "import pgraft, time, sys\n"
        "with pgraft.LocalCluster(1) as cluster:\n"
        "    print(cluster.base_dir, flush=True)\n"
        "    time.sleep(1000)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        base = Path(process.stdout.readline().strip())
        started = processes.descendants(process.pid)[1:]
        assert len(started) > 2
        process.send_signal(number)
        process.wait(60)
        wait_for(lambda: not any(map(processes.alive, started)), 60, "the servers to end")
    if number == signal.SIGINT:
        assert not base.exists()
    else:
        subprocess.run(["rm", "-r", str(base)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_networks_leave_nothing_behind() -> None:
    network = Network("pgraft-test", [1, 2])
    assert Path("/run/netns/pgraft-test-n1").exists()
    network.close()
    assert not list(Path("/run/netns").glob("pgraft-test-*"))
