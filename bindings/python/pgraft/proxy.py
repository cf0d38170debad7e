"""A TCP proxy that makes connections slow, silent or broken, while they are in use.

    with Proxy() as proxy:
        route = proxy.route(("127.0.0.1", 5432))
        connection = psycopg.connect(host=route.host, port=route.port, dbname="postgres")
        route.to_client.set(latency=0.05)      # answers take 50 ms longer
        route.to_target.set(stalled=True)      # what is sent vanishes for now; nobody is told
        route.reset()                          # both ends get a reset

One thread with an event loop does all the work; the methods may be called from any other thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from pgraft.errors import SetupError

_CHUNK_BYTES = 16 * 1024
_NARROW_CHUNK_BYTES = 2 * 1024  # where bandwidth is scarce connections take turns by these
_WINDOW_CHUNKS = 64  # on their way in one direction of a connection; then the sender has to wait
_DIAL_SECONDS = 10.0
_CALL_SECONDS = 30.0
T = TypeVar("T")


@dataclass(frozen=True)
class Conditions:
    """How bytes travel in one direction."""

    latency: float = 0.0
    """Seconds that each byte takes."""
    jitter: float = 0.0
    """Up to so many seconds more, at random; bytes stay in order."""
    bandwidth: float | None = None
    """Bytes a second, for all connections of the direction together; None: no limit."""
    stalled: bool = False
    """Nothing gets through, neither bytes nor the end of a connection, until this is off again."""

    def validate(self) -> None:
        """Refuses what makes no sense.

        Raises:
            SetupError: A value is negative, or no byte could ever pass.
        """
        if self.latency < 0 or self.jitter < 0:
            raise SetupError("latency and jitter are seconds, 0 or more")
        if self.bandwidth is not None and self.bandwidth <= 0:
            raise SetupError("bandwidth is bytes a second, above 0; for a standstill use stalled")


class Direction:
    """One direction of one route, or of several that share it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, chooser: random.Random) -> None:
        """See `Proxy.direction`."""
        self._loop = loop
        self._chooser = chooser
        self._conditions = Conditions()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._wire = asyncio.Lock()
        self._free_at = 0.0

    @property
    def conditions(self) -> Conditions:
        """Those that hold now."""
        return self._conditions

    def set(
        self,
        *,
        latency: float = 0.0,
        jitter: float = 0.0,
        bandwidth: float | None = None,
        stalled: bool = False,
    ) -> None:
        """Replaces the conditions; without arguments nothing stands in the way any more.

        Bytes that are on their way already keep the latency that they set out with.

        Raises:
            SetupError: A value makes no sense.
        """
        conditions = Conditions(latency, jitter, bandwidth, stalled)
        conditions.validate()
        self._conditions = conditions
        self._loop.call_soon_threadsafe(self._flowing.clear if stalled else self._flowing.set)

    async def passable(self) -> None:
        """Waits until it is not stalled."""
        await self._flowing.wait()

    @property
    def chunk(self) -> int:
        """Bytes to carry at a time."""
        return _CHUNK_BYTES if self._conditions.bandwidth is None else _NARROW_CHUNK_BYTES

    async def enter(self, size: int) -> float:
        """Waits until a chunk has been put on the wire.

        The lock is fair: a connection with much to say does not keep the others waiting for long.

        Returns:
            When the chunk arrives, by the loop's clock.
        """
        async with self._wire:
            bandwidth = self._conditions.bandwidth
            if bandwidth is not None:
                self._free_at = max(self._loop.time(), self._free_at) + size / bandwidth
                await asyncio.sleep(self._free_at - self._loop.time())
        holding = self._conditions
        return self._loop.time() + holding.latency + holding.jitter * self._chooser.random()


class Route:
    """A port that leads to a target."""

    def __init__(self, target: tuple[str, int], to_target: Direction, to_client: Direction) -> None:
        """See `Proxy.route`."""
        self.target = target
        self.to_target = to_target
        self.to_client = to_client
        self.host = ""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._loop = asyncio.get_running_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._closed = False

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def reset(self) -> None:
        """Breaks all its connections, both ends at once; new ones are taken."""
        self._loop.call_soon_threadsafe(self._abort)

    async def listen(self, host: str) -> None:
        """Starts to take connections, on a free port."""
        self._server = await asyncio.start_server(self._accepted, host, 0, limit=_CHUNK_BYTES)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        """Ends it with all its connections."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        self._abort()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _abort(self) -> None:
        for writer in self._writers:
            _reset(writer)
        for task in self._connections:
            task.cancel()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:  # it was accepted a moment before
            _reset(writer)
            return
        self._writers.add(writer)
        task = self._loop.create_task(self._carry(reader, writer))
        self._connections.add(task)

        def ended(_task: asyncio.Task[None]) -> None:
            self._connections.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()  # of a task that was cancelled before it began

        task.add_done_callback(ended)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from accept to end."""
        ends = [writer]
        try:
            await self.to_target.passable()
            async with asyncio.timeout(_DIAL_SECONDS):
                other_reader, other = await asyncio.open_connection(
                    *self.target, limit=_CHUNK_BYTES
                )
            ends.append(other)
            self._writers.add(other)
            await _both(
                _pump(reader, other, self.to_target),
                _pump(other_reader, writer, self.to_client),
            )
        except (OSError, TimeoutError):
            for end in ends:
                _reset(end)
        finally:
            for end in ends:
                end.close()
            try:
                for end in ends:
                    with contextlib.suppress(OSError):
                        await end.wait_closed()  # what is still to be sent may take its time
            finally:
                self._writers.difference_update(ends)


class Proxy:
    """Any number of routes, on one thread."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        seed: int | None = None,
        setup: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts the thread.

        Args:
            host: Address to listen on.
            seed: Of the jitter.
            setup: Called first on the thread (to enter a network namespace).
        """
        self._host = host
        self._chooser = random.Random(seed)
        self._routes: list[Route] = []
        self._loop = asyncio.new_event_loop()
        self._failed: BaseException | None = None
        started = threading.Event()

        def run() -> None:
            try:
                setup()
            except BaseException as error:
                self._failed = error
                return
            finally:
                started.set()
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, name="pgraft-proxy", daemon=True)
        self._thread.start()
        started.wait()
        if self._failed is not None:
            self._thread.join()
            self._loop.close()
            raise SetupError(f"the proxy could not start: {self._failed}") from self._failed

    def __enter__(self) -> Proxy:
        """It runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends all connections."""
        self.close()

    @property
    def routes(self) -> list[Route]:
        """All of them."""
        return list(self._routes)

    def direction(self) -> Direction:
        """A direction for several routes to share, with its bandwidth and all."""
        return Direction(self._loop, self._chooser)

    def route(
        self,
        target: tuple[str, int],
        to_target: Direction | None = None,
        to_client: Direction | None = None,
    ) -> Route:
        """Opens a port that leads to `target`; its `host` and `port` say where.

        Raises:
            OSError: No port could be opened.
        """

        async def listen() -> Route:
            route = Route(target, to_target or self.direction(), to_client or self.direction())
            await route.listen(self._host)
            return route

        route = self._call(listen())
        self._routes.append(route)
        return route

    def close(self) -> None:
        """Ends all connections and the thread; may be called again."""
        if self._loop.is_closed():
            return

        async def end() -> None:
            await asyncio.gather(*(route.close() for route in self._routes))
            being_accepted = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*being_accepted, return_exceptions=True)
            await asyncio.sleep(0)  # what was aborted last is closed in the next round

        self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CALL_SECONDS)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
) -> None:
    """Carries one direction of a connection. Its end, orderly or not, travels as the bytes do.

    Raises:
        ConnectionError: One of the two ends is gone.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes | ConnectionError]] = asyncio.Queue(_WINDOW_CHUNKS)

    async def collect() -> None:
        last = 0.0  # bytes stay in order, whatever the jitter
        chunk: bytes | ConnectionError = b"."
        while chunk and isinstance(chunk, bytes):
            try:
                chunk = await reader.read(direction.chunk)
            except ConnectionError as error:
                chunk = error
            size = len(chunk) if isinstance(chunk, bytes) else 0
            last = max(last, await direction.enter(size))
            await queue.put((last, chunk))

    async def deliver() -> None:
        while True:
            due, chunk = await queue.get()
            await asyncio.sleep(due - loop.time())
            await direction.passable()
            if isinstance(chunk, ConnectionError):
                raise chunk
            if not chunk:
                writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()

    await _both(collect(), deliver())


async def _both(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs them side by side; the first error ends the others."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with a reset instead of an orderly end."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
