"""Plain PostgreSQL servers, without the extension, for what is done while they are down."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pgraft import durable
from pgraft.config import NodeSettings
from pgraft.local_cluster import wait_for
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres
from pgraft.setup_node import create, join

# A shell that starts this in the background has it ignore Ctrl-C, and with it all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

HBA = (
    "local all all trust",
    "local replication all trust",
    "host all all 127.0.0.1/32 trust",
    "host replication all 127.0.0.1/32 trust",
)


def free_port() -> int:
    for _ in range(100):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@dataclass
class Server:
    """A server that is started and stopped by hand."""

    paths: NodePaths
    settings: NodeSettings
    postgres: Postgres
    owner: Owner
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.paths.pgdata.parent / "log"

    def use_no_extension(self, **extra: str) -> None:
        """These servers have no pgraft library; they follow primary_conninfo."""
        conf = self.paths.node_conf.read_text()
        conf = conf.replace("shared_preload_libraries = 'pgraft'", "shared_preload_libraries = ''")
        conf += "".join(f"{name} = '{value}'\n" for name, value in extra.items())
        durable.write_file(self.owner, self.paths.node_conf, conf)

    def start(self) -> None:
        assert self.process is None
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(self.postgres.program("postgres")), "-D", str(self.paths.pgdata)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.owner.popen_arguments(),
            )
        wait_for(self.answers, 60, "the server to answer")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        return self.query("SELECT 1") == [(1,)]

    def stop(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def query(self, statement: str) -> list[Any]:
        with psycopg.connect(
            host="127.0.0.1",
            port=self.settings.port,
            user=self.owner.name,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pgraft-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def make_server(base: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []
    owner = Owner.for_new_directory()

    def make(node_id: int, source: Server | None = None) -> Server:
        directory = base / f"n{node_id}"
        directory.mkdir()
        owner.give(directory)
        settings = NodeSettings(
            node_id=node_id,
            port=free_port(),
            raft_port=free_port(),
            listen_addresses="127.0.0.1",
            unix_socket_directories=str(directory),
            extra={"shared_buffers": "'16MB'"},
        )
        paths = NodePaths.of(directory / "data")
        if source is None:
            create(paths, settings, initdb_options=["--auth=trust", "--no-sync"], hba_lines=HBA)
        else:
            join(paths, settings, ("127.0.0.1", source.settings.port))
        server = Server(paths, settings, Postgres.find(pgdata=paths.pgdata), owner)
        server.use_no_extension()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop(3)
