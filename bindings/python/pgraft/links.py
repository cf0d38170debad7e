"""Slow, silent and broken links between the members of a local cluster with namespaces.

Each node's connections to the ports of another, Raft's and PostgreSQL's, are led to a proxy in the
hub; the members know nothing of it. A link is one direction between two nodes, shared by all their
connections. Clients, who are in the hub themselves, are not slowed down.

`Network.block` between two nodes has no effect on what passes through here: let it stall instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from pgraft.netns import CLIENTS, Network
from pgraft.proxy import Direction, Proxy, Route


class Links:
    """All links of a cluster; `links[1, 2]` is what node 1 sends to node 2."""

    def __init__(self, network: Network, ports: Mapping[int, Sequence[int]]) -> None:
        """Takes over the connections that are made from now on.

        Args:
            network: Of the cluster.
            ports: For each node those that the others connect to.

        Raises:
            SetupError: It can't be done on this machine.
        """
        self._proxy = Proxy(network.address(CLIENTS), setup=network.enter)
        self._nodes = sorted(ports)
        pairs = list(itertools.permutations(self._nodes, 2))
        self._directions = {pair: self._proxy.direction() for pair in pairs}
        self._routes: dict[tuple[int, int], list[Route]] = {pair: [] for pair in pairs}
        try:
            for source, target in pairs:
                for port in ports[target]:
                    address = (network.address(target), port)
                    route = self._proxy.route(
                        address,
                        to_target=self._directions[source, target],
                        to_client=self._directions[target, source],
                    )
                    network.redirect(source, address, (route.host, route.port))
                    self._routes[source, target].append(route)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, pair: tuple[int, int]) -> Direction:
        """The link from one node to another."""
        return self._directions[pair]

    def of(self, node_id: int) -> list[Direction]:
        """The links to and from a node."""
        return [link for pair, link in self._directions.items() if node_id in pair]

    def all(self) -> list[Direction]:
        """All of them."""
        return list(self._directions.values())

    @property
    def connections(self) -> int:
        """How many are open."""
        return sum(route.connections for route in self._proxy.routes)

    def reset(self, one: int, other: int) -> None:
        """Breaks all connections between two nodes."""
        for route in self._routes[one, other] + self._routes[other, one]:
            route.reset()

    def clear(self) -> None:
        """Nothing stands in the way any more."""
        for link in self.all():
            link.set()

    def close(self) -> None:
        """Ends the proxy; may be called again."""
        self._proxy.close()
