"""A small network of its own for a local cluster: one network namespace a node, joined by a bridge.

Nothing of it is visible outside: the bridge is in a namespace too. A node is cut off by taking its
port from the bridge; its packets vanish without a word, as with a pulled cable behind a switch.
One direction between two nodes is blocked by the receiver, which drops what comes from the sender.
Servers stay reachable through their Unix-domain sockets, which are files and know no network
namespace.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pgraft.errors import SetupError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")

_BRIDGE_MAC = "02:00:00:00:00:fe"
CLIENTS = 0
"""Stands for the hub, where clients are, in place of a node's id."""

# `from` holds the addresses whose packets are dropped, `via` where connections are led instead.
_RULES = """
table inet pgraft {
    set from { type ipv4_addr; }
    map via { type ipv4_addr . inet_service : ipv4_addr . inet_service; }
    chain input { type filter hook input priority 0; ip saddr @from drop; }
    chain output {
        type nat hook output priority -100;
        dnat ip to ip daddr . tcp dport map @via;
    }
}
"""


class Network:
    """Namespaces `<prefix>-hub` and `<prefix>-n<id>`; needs root.

    Cuts, blocks and heals may come from any thread, one at a time.
    """

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
        self._filtered: set[int] = set()
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
        # An address of its own: a bridge without one takes that of a port, another one after a cut,
        # and the nodes would send to the old one until they ask anew.
        _ip("-n", self.hub, "link", "add", "br0", "address", _BRIDGE_MAC, "type", "bridge")
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
        """Namespace of a node, or of the clients."""
        return self.hub if node_id == CLIENTS else f"{self._prefix}-n{node_id}"

    def address(self, node_id: int) -> str:
        """IP address of a node, or of the clients."""
        return f"{self.SUBNET}.{254 if node_id == CLIENTS else node_id}"

    def command(self, node_id: int, command: Sequence[str]) -> list[str]:
        """A command that runs in a node's namespace."""
        return ["ip", "netns", "exec", self.name(node_id), *command]

    def cut(self, node_id: int) -> None:
        """Cuts a node off, from all others and from the clients."""
        _ip("-n", self.hub, "link", "set", f"n{node_id}", "nomaster")

    def heal(self, node_id: int) -> None:
        """Connects it again, and ends what was blocked on the way to and from it."""
        _ip("-n", self.hub, "link", "set", f"n{node_id}", "master", "br0")
        for receiver in sorted(self._filtered):
            if receiver == node_id:
                self._nft(receiver, "flush set inet pgraft from")
            else:
                self.unblock(node_id, receiver)

    def block(self, sender: int, receiver: int) -> None:
        """Lets what one node (or `CLIENTS`) sends to another vanish; not the other way round.

        Raises:
            SetupError: It can't be done; `nft` is missing.
        """
        self._filter(receiver)
        self._nft(receiver, f"add element inet pgraft from {{ {self.address(sender)} }}")

    def unblock(self, sender: int, receiver: int) -> None:
        """Ends a block; nothing happens if there is none."""
        if receiver in self._filtered:
            # Added first: taking away what is not there would be an error.
            element = f"inet pgraft from {{ {self.address(sender)} }}"
            self._nft(receiver, f"add element {element}; delete element {element}")

    def redirect(self, node_id: int, target: tuple[str, int], via: tuple[str, int]) -> None:
        """Leads a node's new TCP connections to `target` to another address instead."""
        self._filter(node_id)
        element = f"{target[0]} . {target[1]} : {via[0]} . {via[1]}"
        self._nft(node_id, f"add element inet pgraft via {{ {element} }}")

    def _filter(self, node_id: int) -> None:
        if node_id not in self._filtered:
            self._nft(node_id, _RULES)
            self._filtered.add(node_id)

    def _nft(self, node_id: int, script: str) -> None:
        _run(["ip", "netns", "exec", self.name(node_id), "nft", "-f", "-"], script)

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
    _run(["ip", *arguments])


def _run(command: Sequence[str], text: str | None = None) -> None:
    try:
        subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise SetupError(f'program "{command[0]}" was not found (package iproute2)') from None
    except subprocess.CalledProcessError as error:
        hint = ""
        if "nft" in command and shutil.which("nft") is None:
            hint = ' (program "nft" was not found: package nftables)'
        raise SetupError(f"{' '.join(command)}: {error.stderr.strip()}{hint}") from None
