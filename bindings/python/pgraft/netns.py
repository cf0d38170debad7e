"""A small network of its own for a local cluster: one network namespace a node, joined by a bridge.

Nothing of it is visible outside: the bridge is in a namespace too. A node is cut off by taking its
port from the bridge; its packets vanish without a word, as with a pulled cable behind a switch.
Servers stay reachable through their Unix-domain sockets, which are files and know no network
namespace.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pgraft.errors import SetupError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


class Network:
    """Namespaces `<prefix>-hub` and `<prefix>-n<id>`; needs root."""

    SUBNET = "10.213.77"

    def __init__(self, prefix: str, node_ids: Sequence[int]) -> None:
        """Creates the namespaces.

        Raises:
            SetupError: That is not allowed, or `ip` is missing.
        """
        if os.geteuid() != 0:
            raise SetupError("network namespaces need root")
        self._prefix = prefix
        self._ids = list(node_ids)
        self.hub = f"{prefix}-hub"
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        self._pool = ThreadPoolExecutor(max_workers=1, initializer=_enter, initargs=(self.hub,))

    def _build(self) -> None:
        _ip("netns", "add", self.hub)
        _ip("-n", self.hub, "link", "set", "lo", "up")
        _ip("-n", self.hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.hub, "addr", "add", f"{self.SUBNET}.254/24", "dev", "br0")
        _ip("-n", self.hub, "link", "set", "br0", "up")
        for node_id in self._ids:
            name, port = self.name(node_id), f"n{node_id}"
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip(
                "-n", self.hub, "link", "add", port, "type", "veth",
                "peer", "name", "eth0", "netns", name,
            )  # fmt: skip
            _ip("-n", name, "addr", "add", f"{self.address(node_id)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", self.hub, "link", "set", port, "master", "br0", "up")

    def name(self, node_id: int) -> str:
        """Namespace of a node."""
        return f"{self._prefix}-n{node_id}"

    def address(self, node_id: int) -> str:
        """IP address of a node."""
        return f"{self.SUBNET}.{node_id}"

    def command(self, node_id: int, command: Sequence[str]) -> list[str]:
        """A command that runs in a node's namespace."""
        return ["ip", "netns", "exec", self.name(node_id), *command]

    def cut(self, node_id: int) -> None:
        """Cuts a node off."""
        _ip("-n", self.hub, "link", "set", f"n{node_id}", "nomaster")

    def heal(self, node_id: int) -> None:
        """Connects it again."""
        _ip("-n", self.hub, "link", "set", f"n{node_id}", "master", "br0")

    def call(self, function: Callable[[], T]) -> T:
        """Calls a function on a thread that is in the hub, whence all nodes are reached."""
        return self._pool.submit(function).result()

    def enter(self) -> None:
        """Moves the calling thread into the hub, for good."""
        _enter(self.hub)

    def close(self) -> None:
        """Removes the namespaces and what is in them."""
        pool = getattr(self, "_pool", None)
        if pool is not None:
            pool.shutdown()
        for name in [*(self.name(node_id) for node_id in self._ids), self.hub]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _enter(namespace: str) -> None:
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "could not enter the network namespace")
    finally:
        os.close(descriptor)


def _ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise SetupError('program "ip" was not found (package iproute2)') from None
    except subprocess.CalledProcessError as error:
        raise SetupError(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from None
