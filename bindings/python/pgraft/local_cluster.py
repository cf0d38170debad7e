"""A whole cluster of real servers on this machine: to try out, to demonstrate and to test.

    with pgraft.LocalCluster(3) as cluster:
        with cluster.connect() as connection:          # to the leader
            connection.execute("CREATE TABLE t (i int)")
        cluster.kill(cluster.leader().id)
        cluster.leader()                               # the next one

Every server has its own `pgraft run`. They stop when the cluster is closed, and also when this
process is killed: each supervisor notices the end of the pipe that it was started with.
"""

from __future__ import annotations

import atexit
import os
import random
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from pgraft import status as cluster_status
from pgraft.config import NodeSettings
from pgraft.errors import SetupError, WaitTimeout
from pgraft.links import Links
from pgraft.local_node import LocalNode
from pgraft.netns import Network
from pgraft.owner import Owner
from pgraft.paths import NodePaths
from pgraft.pg import Postgres
from pgraft.setup_node import create, join
from pgraft.status import NodeStatus

T = TypeVar("T")
_POLL_SECONDS = 0.05
_SETTINGS = {
    "shared_buffers": "'32MB'",
    "max_connections": "60",
    "logging_collector": "off",
    "log_destination": "'stderr'",
    "log_line_prefix": "'%m [%p] %b '",
    "log_checkpoints": "off",
    "lc_messages": "'C'",
}


def wait_for(condition: Callable[[], T | None], timeout: float, what: str) -> T:
    """Waits until `condition` returns something true, and returns it.

    Errors of the connection to a server count as "not yet".

    Raises:
        WaitTimeout: It did not in time; the message says `what` and the last error.
    """
    deadline = time.monotonic() + timeout
    last: Exception | None = None
    while True:
        try:
            value = condition()
            last = None
            if value:
                return value
        except psycopg.Error as error:
            last = error
        if time.monotonic() >= deadline:
            because = f" (last error: {last})" if last else ""
            raise WaitTimeout(f"waited {timeout:g} s in vain for {what}{because}")
        time.sleep(_POLL_SECONDS)


class LocalCluster:
    """Real servers on loopback, or each in a network namespace of its own."""

    def __init__(
        self,
        nodes: int = 3,
        base_dir: str | Path | None = None,
        *,
        namespaces: bool = False,
        links: bool = False,
        settings: Mapping[str, str] | None = None,
        initdb_options: Sequence[str] = (),
        bindir: Path | None = None,
        keep: bool = False,
        progress: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Nothing is started yet: enter the context, or call `start`.

        Args:
            nodes: How many servers.
            base_dir: Where their directories go; default: a new one that is removed at the end.
            namespaces: Give each node its own network, so that it can be cut off; needs root.
            links: Lead what members send each other through `links`, where it can be slowed down;
                needs namespaces.
            settings: Further settings of every node, as they stand in a configuration file.
            initdb_options: Further ones of initdb.
            bindir: PostgreSQL's programs.
            keep: Leave the directories.
            progress: Called with a line at each step.
        """
        if nodes < 1:
            raise SetupError("a cluster needs at least one node")
        if links and not namespaces:
            raise SetupError("links need LocalCluster(namespaces=True)")
        self._postgres = Postgres.find(bindir=bindir)
        self._owner = Owner.for_new_directory()
        self._initdb_options = ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        self._initdb_options += initdb_options
        self._settings = {**_SETTINGS, **(settings or {})}
        self._progress = progress
        self._temporary = base_dir is None
        self._keep = keep
        self._base = Path(base_dir or tempfile.mkdtemp(prefix="pgraft-", dir="/tmp")).resolve()
        self._base.mkdir(parents=True, exist_ok=True)
        self._base.chmod(0o755)  # the servers' user must get through
        self._socket_dir = self._base / "run"
        self._owner.make_directory(self._socket_dir)
        self.network: Network | None = None
        if namespaces:
            prefix = f"pgraft-{os.getpid()}-{secrets.token_hex(2)}"
            self.network = Network(prefix, range(1, nodes + 1))
        self.nodes: dict[int, LocalNode] = {}
        self._ports = _FreePorts()
        for node_id in range(1, nodes + 1):
            self._add(node_id)
        self.links: Links | None = None
        if links and self.network is not None:
            ports = {node.id: (node.port, node.settings.raft_port) for node in self.nodes.values()}
            try:
                self.links = Links(self.network, ports)
            except BaseException:
                self.close()
                raise

    # --- life cycle ---

    def __enter__(self) -> LocalCluster:
        """Starts the servers and forms the cluster."""
        try:
            self.start()
        except BaseException as error:
            error.add_note(self.logs())
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops the servers."""
        self.close()

    def __repr__(self) -> str:
        """Where it is."""
        return f"<LocalCluster {self._base} nodes={sorted(self.nodes)}>"

    def start(self, timeout: float = 120.0) -> None:
        """Creates the first node, clones the others from it, and makes them voters, by SQL."""
        atexit.register(self.close)
        first, *others = self.nodes.values()
        self._progress("creating node 1")
        self.create_node(first)
        first.start()
        self.wait_for_sql(first.id, timeout)
        with self.connect(first.id) as connection:
            connection.execute("CREATE EXTENSION pgraft")
            connection.execute("SELECT pgraft_init()")
        self.leader(timeout)
        if others:
            self._progress("cloning " + ", ".join(f"node {node.id}" for node in others))
            with ThreadPoolExecutor(max_workers=len(others)) as pool:
                list(pool.map(self.join_node, others))
        for node in others:
            node.start()
        for node in others:
            self._progress(f"adding node {node.id}")
            self.add_to_cluster(node.id, timeout)
        self.wait_for_voters(self.nodes, timeout)

    def close(self) -> None:
        """Stops everything and removes what was made; may be called again."""
        atexit.unregister(self.close)
        for node in self.nodes.values():
            node.close()
        if self.links is not None:
            self.links.close()
            self.links = None
        if self.network is not None:
            self.network.close()
            self.network = None
        if self._temporary and not self._keep:
            shutil.rmtree(self._base, ignore_errors=True)

    # --- nodes ---

    @property
    def base_dir(self) -> Path:
        """Where the nodes' directories are."""
        return self._base

    @property
    def owner(self) -> Owner:
        """The system user that the servers run as."""
        return self._owner

    @property
    def postgres(self) -> Postgres:
        """The installation in use."""
        return self._postgres

    def _add(self, node_id: int) -> LocalNode:
        directory = self._base / f"n{node_id}"
        directory.mkdir(exist_ok=True)
        host = self.network.address(node_id) if self.network else "127.0.0.1"
        node = LocalNode(
            id=node_id,
            paths=NodePaths.of(directory / "data"),
            settings=NodeSettings(
                node_id=node_id,
                port=self._ports.next(),
                raft_port=self._ports.next(),
                listen_addresses=host,
                raft_address=host,
                advertise_address=host,
                replication_conninfo=f"user={self._owner.name}",
                unix_socket_directories=str(self._socket_dir),
                extra=self._settings,
            ),
            host=host,
            socket_dir=self._socket_dir,
            log_file=directory / "log",
            bindir=self._postgres.bindir,
            command_prefix=self.network.command(node_id, []) if self.network else [],
        )
        self.nodes[node_id] = node
        return node

    def new_node(self, node_id: int) -> LocalNode:
        """Makes room for one more node; it is neither created nor started. Not with namespaces."""
        if self.network is not None:
            raise SetupError("a cluster with namespaces has the nodes it started with")
        return self._add(node_id)

    def node(self, node_id: int) -> LocalNode:
        """A node by its id."""
        return self.nodes[node_id]

    def create_node(self, node: LocalNode) -> None:
        """Sets a node up with a database of its own, as `pgraft create` does."""
        network = f"{Network.SUBNET}.0/24" if self.network else "127.0.0.1/32"
        create(
            node.paths,
            node.settings,
            bindir=self._postgres.bindir,
            initdb_options=self._initdb_options,
            hba_lines=[
                "# Everybody on this machine may do everything: for trying out only.",
                "local all all trust",
                "local replication all trust",
                f"host all all {network} trust",
                f"host replication all {network} trust",
            ],
        )

    def join_node(self, node: LocalNode, source: int = 1) -> None:
        """Sets a node up as a copy of another, as `pgraft join` does."""
        leader = self.nodes[source]

        def run() -> None:
            join(
                node.paths, node.settings, (leader.host, leader.port), bindir=self._postgres.bindir
            )

        # With namespaces from where the leader is reached; children inherit the thread's.
        if self.network is None:
            run()
        else:
            self.network.call(run)

    def add_to_cluster(self, node_id: int, timeout: float = 60.0) -> None:
        """Asks the leader to add a running node; returns when the change is committed."""
        node = self.nodes[node_id]
        wait_for(lambda: self.status()[node_id], timeout, f"node {node_id}'s Raft port to answer")

        def add() -> bool:
            leader = self.leader(timeout)
            answer = self.status()[leader.id]
            if answer is not None and answer.leads and answer.member(node_id) is not None:
                return True  # by an attempt whose answer was lost
            with self.connect(leader.id) as connection:
                connection.execute(
                    "SELECT pgraft_add_node(%s, %s, %s)",
                    [node.id, node.host, node.settings.raft_port],
                )
            return True

        wait_for(add, timeout, f"node {node_id} to be added")

    def remove_from_cluster(self, node_id: int, timeout: float = 60.0) -> None:
        """Asks the leader to remove a member; returns when it knows of no such member any more."""

        def remove() -> bool:
            leader = self.leader(timeout)
            answer = self.status()[leader.id]
            if answer is not None and answer.leads and answer.member(node_id) is None:
                return True
            with self.connect(leader.id) as connection:
                connection.execute("SELECT pgraft_remove_node(%s)", [node_id])
            return False

        wait_for(remove, timeout, f"node {node_id} to be removed")

    def kill(self, node_id: int, what: str = "postmaster") -> None:
        """Kill -9 of a node's server and its supervisor. See `LocalNode.kill`."""
        self.nodes[node_id].kill(what)

    def stop(self, node_id: int, *, immediate: bool = False) -> None:
        """Stops a node in order."""
        self.nodes[node_id].stop(immediate=immediate)

    def start_node(self, node_id: int) -> None:
        """Starts a node again; returns at once."""
        self.nodes[node_id].start()

    def pause(self, node_id: int) -> None:
        """SIGSTOP of all its processes: silent, but not gone."""
        self.nodes[node_id].pause()

    def resume(self, node_id: int) -> None:
        """SIGCONT of all its processes."""
        self.nodes[node_id].resume()

    def cut_off(self, *node_ids: int) -> None:
        """Cuts nodes off the network, each from everyone.

        Raises:
            SetupError: The cluster has no namespaces.
        """
        for node_id in node_ids:
            self._need_network().cut(node_id)

    def block(self, sender: int, receiver: int) -> None:
        """Lets what one node sends to another vanish, in that direction alone.

        Args:
            sender: A node, or `netns.CLIENTS` for the clients.
            receiver: The same.

        Raises:
            SetupError: The cluster has no namespaces.
        """
        self._need_network().block(sender, receiver)

    def separate(self, one: int, other: int) -> None:
        """Blocks both directions between two nodes (or a node and `netns.CLIENTS`)."""
        self.block(one, other)
        self.block(other, one)

    def heal(self, *node_ids: int) -> None:
        """Connects nodes again and ends blocks to and from them; all without arguments."""
        for node_id in node_ids or tuple(self.nodes):
            self._need_network().heal(node_id)

    def _need_network(self) -> Network:
        if self.network is None:
            raise SetupError("cutting nodes off needs LocalCluster(namespaces=True)")
        return self.network

    # --- status ---

    def status(self, timeout: float = 1.0) -> dict[int, NodeStatus | None]:
        """What every node answers on its Raft port; None: no answer."""
        nodes = list(self.nodes.values())

        def ask() -> dict[cluster_status.RaftAddress, NodeStatus | None]:
            return cluster_status.query_all([node.raft for node in nodes], timeout)

        answers = self.network.call(ask) if self.network else ask()
        return {node.id: answers[node.raft] for node in nodes}

    def leader(self, timeout: float = 30.0, *, exclude: Iterable[int] = ()) -> LocalNode:
        """The node that leads and accepts writes; waits until there is one.

        Args:
            timeout: Seconds to wait.
            exclude: Ids that don't count (of a leader that was just killed).

        Raises:
            WaitTimeout: There was none in time.
        """
        excluded = set(exclude)
        last: dict[int, NodeStatus | None] = {}

        def find() -> LocalNode | None:
            last.update(self.status())
            answers = [a for a in last.values() if a and a.node_id not in excluded]
            found = cluster_status.leader_of(answers)
            return self.nodes[found.node_id] if found else None

        try:
            return wait_for(find, timeout, "a leader that accepts writes")
        except WaitTimeout as error:
            raise WaitTimeout(f"{error}; nodes say: {last}") from None

    def followers(self) -> list[LocalNode]:
        """All nodes but the leader."""
        leader = self.leader()
        return [node for node in self.nodes.values() if node is not leader]

    def wait_for_voters(self, node_ids: Iterable[int], timeout: float = 60.0) -> None:
        """Waits until exactly these nodes are the voters, as the leader sees it."""
        wanted = set(node_ids)

        last: NodeStatus | None = None

        def check() -> bool:
            nonlocal last
            last = self.status()[self.leader(timeout).id]
            return last is not None and last.voters == wanted

        try:
            wait_for(check, timeout, f"voters {sorted(wanted)}")
        except WaitTimeout as error:
            raise WaitTimeout(f"{error}; the leader says {last and dict(last.raw)}") from None

    def wait_for_sql(self, node_id: int, timeout: float = 60.0) -> None:
        """Waits until a node's server answers queries."""

        def check() -> bool:
            with self.connect(node_id) as connection:
                return connection.execute("SELECT 1").fetchone() is not None

        wait_for(check, timeout, f"node {node_id} to answer queries")

    def wait_for_standby(self, node_id: int, timeout: float = 60.0) -> None:
        """Waits until a node streams and has replayed what the leader had flushed."""
        leader = self.leader(timeout)
        with self.connect(leader.id) as connection:
            row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row is not None

        def check() -> bool:
            answer = self.status()[node_id]
            if answer is None or not answer.in_recovery:  # it would only log refused connections
                return False
            with self.connect(node_id) as connection:
                found = connection.execute(
                    "SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= %s::pg_lsn "
                    "AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')",
                    [row[0]],
                ).fetchone()
            return found is not None and bool(found[0])

        wait_for(check, timeout, f"node {node_id} to stream and catch up with {row[0]}")

    # --- SQL ---

    def connect(self, node_id: int | None = None, **arguments: Any) -> psycopg.Connection[Any]:
        """Connects to a node's server (default: the leader's) through its Unix-domain socket.

        Args:
            node_id: Which one.
            arguments: Further ones of `psycopg.connect`; autocommit is on unless said otherwise.
        """
        node = self.leader() if node_id is None else self.nodes[node_id]
        arguments.setdefault("autocommit", True)
        arguments.setdefault("connect_timeout", 10)
        arguments.setdefault("client_encoding", "UTF8")
        return psycopg.connect(
            host=str(node.socket_dir),
            port=node.port,
            user=self._owner.name,
            dbname="postgres",
            **arguments,
        )

    def dsn(
        self, *, read_write: bool = True, connect_timeout: int = 2, tcp: bool | None = None
    ) -> str:
        """A connection string with all nodes, from which libpq picks the leader (or any).

        Args:
            read_write: The leader.
            connect_timeout: Seconds for each node.
            tcp: Through the network. With namespaces the default are the Unix-domain sockets,
                which no cut reaches; TCP then needs a thread that has called `network.enter`.
        """
        nodes = self.nodes.values()
        if tcp is None:
            tcp = self.network is None
        # A server that is cut off never closes a connection: the client has to find out.
        noticing = {
            "keepalives_idle": 1,
            "keepalives_interval": 1,
            "keepalives_count": 3,
            "tcp_user_timeout": 3000,
        }
        return make_conninfo(
            "",
            **(noticing if tcp and self.network else {}),
            host=",".join(n.host if tcp else str(n.socket_dir) for n in nodes),
            port=",".join(str(n.port) for n in nodes),
            user=self._owner.name,
            dbname="postgres",
            connect_timeout=connect_timeout,
            target_session_attrs="read-write" if read_write else "any",
        )

    def logs(self, lines: int = 40) -> str:
        """The end of every node's log."""
        return "\n".join(
            f"=== node {node.id} ({node.log_file})\n{node.log_tail(lines)}"
            for node in self.nodes.values()
        )


class _FreePorts:
    """Picks ports that nobody listens on, below the range that outgoing connections use."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def next(self) -> int:
        """One more."""
        for _ in range(1000):
            # A port is not held while its server is down: processes that run side by side draw from
            # parts of the range of their own.
            port = 20000 + os.getpid() % 24 * 500 + random.randrange(500)
            if port not in self._given and _is_free(port):
                self._given.add(port)
                return port
        raise SetupError("no free port was found on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
