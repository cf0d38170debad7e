"""The proxy, between plain sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from pgraft.errors import SetupError
from pgraft.local_cluster import wait_for
from pgraft.proxy import Proxy, Route


class Echo:
    """A server that sends back what it gets, and ends when the client has ended."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.errors: list[OSError] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError as error:
                self.errors.append(error)


@pytest.fixture
def echo() -> Iterator[Echo]:
    one = Echo()
    yield one
    one.listener.close()


@pytest.fixture
def route(echo: Echo) -> Iterator[Route]:
    before = threading.active_count()
    with Proxy(seed=1) as proxy:
        yield proxy.route(echo.address)
    wait_for(lambda: threading.active_count() <= before, 10, "the threads to end")


def connect(route: Route) -> socket.socket:
    return socket.create_connection((route.host, route.port), timeout=20)


def exchange(connection: socket.socket, data: bytes) -> float:
    """Sends and receives it again; returns the seconds."""
    begun = time.monotonic()
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    got = b""
    while len(got) < len(data):
        more = connection.recv(65536)
        assert more, "the connection ended"
        got += more
    sender.join()
    assert got == data
    return time.monotonic() - begun


def test_bytes_pass_unchanged_in_both_directions(route: Route) -> None:
    with connect(route) as one, connect(route) as other:
        exchange(one, bytes(range(256)) * 20000)
        exchange(other, b"x")


def test_the_end_of_a_connection_is_passed_on(route: Route) -> None:
    with connect(route) as one:
        exchange(one, b"x")
        one.sendall(b"last")
        one.shutdown(socket.SHUT_WR)
        assert one.recv(100) == b"last"
        assert one.recv(100) == b""
    wait_for(lambda: route.connections == 0, 10, "the connection to end")


def test_each_direction_has_its_latency(route: Route) -> None:
    with connect(route) as one:
        exchange(one, b"x")
        route.to_target.set(latency=0.2)
        assert exchange(one, b"x") >= 0.19
        route.to_client.set(latency=0.3)
        assert exchange(one, b"x") >= 0.49
        route.to_target.set()
        route.to_client.set()
        exchange(one, b"x" * 1000000)


def test_jitter_keeps_the_order(route: Route) -> None:
    route.to_target.set(jitter=0.05)
    with connect(route) as one:
        for i in range(20):
            exchange(one, bytes([i]) * 100000)


def test_bandwidth_is_shared_by_all_connections(route: Route) -> None:
    route.to_client.set(bandwidth=400_000)
    begun = time.monotonic()
    with connect(route) as one, connect(route) as other:
        threads = [
            threading.Thread(target=exchange, args=(c, b"x" * 100_000)) for c in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert time.monotonic() - begun >= 0.45


def test_what_is_stalled_comes_later(route: Route) -> None:
    with connect(route) as one:
        exchange(one, b"x")
        route.to_client.set(stalled=True)
        one.sendall(b"later")
        one.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.recv(100)
        route.to_client.set()
        one.settimeout(20)
        assert one.recv(100) == b"later"


def test_a_new_connection_through_a_stall_gets_no_answer(route: Route) -> None:
    route.to_target.set(stalled=True)
    with connect(route) as one:
        one.sendall(b"later")
        one.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.recv(100)
        route.to_target.set()
        one.settimeout(20)
        assert one.recv(100) == b"later"


def test_a_reset_reaches_both_ends(route: Route, echo: Echo) -> None:
    with connect(route) as one:
        exchange(one, b"x")
        route.reset()
        with pytest.raises(ConnectionResetError):
            one.recv(100)
    wait_for(lambda: bool(echo.errors), 10, "the server to see the reset")
    assert isinstance(echo.errors[0], ConnectionResetError)
    with connect(route) as again:
        exchange(again, b"x")


def test_a_target_that_refuses_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        target = free.getsockname()
    with (
        Proxy() as proxy,
        pytest.raises(ConnectionResetError),  # already while it connects, if that takes long
        connect(proxy.route(target)) as one,
    ):
        one.recv(100)


def test_conditions_without_sense_are_refused(route: Route) -> None:
    with pytest.raises(SetupError):
        route.to_target.set(latency=-1)
    with pytest.raises(SetupError):
        route.to_target.set(bandwidth=0)


def test_closing_ends_what_is_open(echo: Echo) -> None:
    proxy = Proxy()
    route = proxy.route(echo.address)
    route.to_client.set(stalled=True)
    with connect(route) as one:
        one.sendall(b"x" * 100000)
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionResetError):
            one.recv(100)
    assert not [t for t in threading.enumerate() if t.name == "pgraft-proxy"]


def test_a_setup_that_fails_is_reported() -> None:
    def setup() -> None:
        raise OSError("no such network")

    with pytest.raises(SetupError, match="no such network"):
        Proxy(setup=setup)
