"""Reachability is a table: from where, to what, over which family; every cell is tried, and all of them at once.

A host with four networks (`a` and `b` plain, `in` internal, `apart` without traffic between containers), containers on
each, and a LAN with two neighbours that can route anything through the host. All are network namespaces of the test.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from wherry.linux import netns
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import add_address, add_bridge, add_route, add_veth, get_link, set_link
from wherry.network import sandbox
from wherry.network.bridge import BridgeNetwork
from wherry.network.firewall import Firewall
from wherry.network.ports import PublishedPort
from wherry.network.ruleset import Passage, Protected
from wherry.network.sources import ports_of
from wherry.network.spec import NetworkSpec, now
from wherry.wire.networks import IpamPool

if TYPE_CHECKING:
    from wherry.network.endpoint import Endpoint

pytestmark = pytest.mark.root

T = TypeVar("T")
LAN = {"host": 1, "n1": 2, "n2": 3}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
NETWORKS = ("a", "b", "in", "apart")
CONTAINERS = ("a1", "a2", "b1", "in1", "in2", "apart1", "apart2", "apart3")
PATIENCE = 1.5  # what is dropped is never answered; what is answered comes in milliseconds

# from, to, port, the source that arrives ("self", "host", "gateway": the target network's, None: nothing may)
SAME = [
    ("a1", "a2", 80, "self"),
    ("a2", "a1", 80, "self"),
    ("host", "a1", 80, "gateway"),
    ("host", "b1", 80, "gateway"),
    ("a1", "n1", 80, "host"),
    ("b1", "n2", 80, "host"),
    ("n1", "n2", 80, "self"),
    ("n1", "host", 22, "self"),
    # networks are apart, and nobody comes in by routing
    ("a1", "b1", 80, None),
    ("b1", "a1", 80, None),
    ("a1", "in1", 80, None),
    ("a1", "apart1", 80, None),
    ("n1", "a1", 80, None),
    ("n2", "b1", 80, None),
    # internal: among themselves and the host
    ("in1", "in2", 80, "self"),
    ("host", "in1", 80, "gateway"),
    ("in1", "a1", 80, None),
    ("in1", "b1", 80, None),
    ("in1", "n1", 80, None),
    ("n1", "in1", 80, None),
    ("in1", "gateway in", 8080, None),
    # apart: with everybody but each other, save what a link lets through
    ("apart1", "apart2", 80, None),
    ("apart2", "apart1", 80, None),
    ("apart3", "apart1", 80, "self"),
    ("apart1", "apart3", 80, None),
    ("host", "apart1", 80, "gateway"),
    ("apart1", "n1", 80, "host"),
    ("n1", "apart1", 80, None),
    ("apart2", "host", 8081, None),
    ("n1", "host", 8081, "self"),
    ("a1", "host", 8081, "self"),
    # a port published on every address: 8080 leads to a1
    ("n1", "host", 8080, "self"),
    ("n2", "host", 8080, "self"),
    ("host", "host", 8080, "host"),
    ("a2", "host", 8080, "gateway"),
    ("a1", "host", 8080, "gateway"),
    ("b1", "host", 8080, "self"),
    ("b1", "gateway b", 8080, "self"),
    ("in1", "host", 8080, None),
    # on the host's LAN address only: 8083 leads to b1
    ("n1", "host", 8083, "self"),
    ("a1", "host", 8083, "self"),
    ("a1", "gateway a", 8083, None),
    # on nothing
    ("n1", "host", 8099, None),
]
ONLY_IPV4 = [
    ("host", "loopback", 8080, "gateway"),
    ("host", "loopback", 8082, "gateway"),
    ("host", "host", 8082, None),
    ("n1", "host", 8082, None),
    ("n1", "loopback", 8082, None),
    ("n1", "loopback", 8080, None),
    ("a2", "gateway a", 8082, None),
    ("host", "loopback", 8083, None),
]
CELLS = [(4, *cell) for cell in SAME + ONLY_IPV4] + [(6, *cell) for cell in SAME]
SERVED_BY = {8080: "a1", 8081: "apart1", 8082: "a1", 8083: "b1"}


class World:
    """The host, its networks and containers, and the LAN."""

    def __init__(self) -> None:
        self.places = {name: sandbox.create_namespace() for name in ("host", "wire")}
        # their loopback stays down: 127.0.0.1 can be routed away
        self.places |= {name: netns.create() for name in ("n1", "n2")}
        self.networks = {name: _network(name, number) for number, name in enumerate(NETWORKS)}
        self.firewall = Firewall("wherry-table")
        self.endpoints: dict[str, Endpoint] = {}
        self._lan()
        self.at("host", self._host)

    def at(self, place: str, action: Callable[[], T]) -> T:
        """Run `action` in a place."""
        return netns.inside(self.places[place], action)

    def _lan(self) -> None:
        def switch() -> None:
            with Netlink() as netlink:
                netlink.run([add_bridge("lan", mac="02:00:00:00:00:99")])
                index = get_link(netlink, "lan").index
                for name, number in LAN.items():
                    mac, there = f"02:00:00:00:00:0{number}", self.places[name]
                    netlink.run([add_veth(name, master=index, peer="lan0", peer_netns=there, peer_mac=mac, mtu=1500)])

        self.at("wire", switch)
        for name in LAN:
            self.at(name, lambda name=name: self._plug(name))  # type: ignore[misc]

    def _plug(self, name: str) -> None:
        with Netlink() as netlink:
            index = get_link(netlink, "lan0").index
            netlink.run([set_link(index, up=True), *(add_address(index, text) for text in _lan_addresses(name))])
            if name == "host":
                return
            # a neighbour may try anything: to route through the host, also to its loopback
            Path("/proc/sys/net/ipv4/conf/lan0/route_localnet").write_text("1")
            for place in ("127.0.0.1/32", "10.240.0.0/16"):
                netlink.run([add_route(index, place, "192.0.2.1")])
            netlink.run([add_route(index, "fd00:240::/32", "2001:db8::1")])

    def _host(self) -> None:
        for network in self.networks.values():
            network.ensure()
        self.firewall.set_networks(
            [
                Protected(
                    n.link_name,
                    n.subnet,
                    n.subnet6,
                    internal=n.spec.internal,
                    icc=n.spec.icc,
                    spoof_protection="strict",
                )
                for n in self.networks.values()
            ]
        )
        self.firewall.rebuild()
        for number, name in enumerate(CONTAINERS):
            endpoint = self.networks[name.rstrip("123")].allocate(f"{number:x}" * 64)
            self.places[name] = sandbox.create_namespace()
            self.firewall.set_sources(name, ports_of([endpoint], administers=False))
            sandbox.configure(self.places[name], [endpoint.plan()])
            self.endpoints[name] = endpoint
        self._publish("a1", [("0.0.0.0", 8080), ("::", 8080), ("127.0.0.1", 8082)])
        self._publish("apart1", [("0.0.0.0", 8081), ("::", 8081)])
        self._publish("b1", [("192.0.2.1", 8083), ("2001:db8::1", 8083)])
        ends = self.endpoints["apart3"], self.endpoints["apart1"]
        self.firewall.set_passages(
            "apart3",
            [
                Passage(ends[0].address, ends[1].address, "tcp", 80),
                Passage(ends[0].address6, ends[1].address6, "tcp", 80),
            ],
        )

    def _publish(self, name: str, ports: list[tuple[str, int]]) -> None:
        endpoint = self.endpoints[name]
        self.firewall.publish(
            name,
            [
                PublishedPort("tcp", host, port, endpoint.address6 if ":" in host else endpoint.address, 80)
                for host, port in ports
            ],
        )

    def address(self, place: str, family: int) -> str:
        """The address by which a place is named in the table."""
        if place == "loopback":
            return "127.0.0.1"
        if place.startswith("gateway "):
            network = self.networks[place.partition(" ")[2]]
            return network.gateway if family == 4 else network.gateway6
        if place in LAN:
            return _lan_addresses(place)[family == 6].partition("/")[0]
        endpoint = self.endpoints[place]
        return endpoint.address if family == 4 else endpoint.address6

    def meant(self, word: str | None, source: str, server: str, family: int) -> str | None:
        """The address that a word of the table's last column stands for."""
        if word == "gateway":
            return self.address(f"gateway {server.rstrip('123')}", family)
        return self.address({"self": source}.get(word, word), family) if word else None

    def try_all(self) -> dict[tuple[int, str, str, int], str | None]:
        """Connect for each cell, all at once; gives the source that the server saw, None where none came."""
        listeners = [self._listen(place, 80, family) for place in (*CONTAINERS, "n1", "n2") for family in FAMILIES]
        listeners += [self._listen("host", 22, family) for family in FAMILIES]
        clients: list[socket.socket] = []
        waiting: dict[socket.socket, int] = {}
        seen: dict[tuple[int, str, str, int], str | None] = {cell[:4]: None for cell in CELLS}
        try:
            for number, (family, source, target, port, _) in enumerate(CELLS):
                client = self.at(source, lambda kind=FAMILIES[family]: socket.socket(kind))  # type: ignore[misc]
                clients.append(client)
                client.setblocking(False)
                if source in ("n1", "n2"):
                    client.bind((self.address(source, family), 0))
                if client.connect_ex((self.address(target, family), port)) in (0, 115):
                    waiting[client] = number
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                ready, able, _ = select.select(listeners, list(waiting), [], 0.05)
                for client in able:
                    number = waiting.pop(client)
                    if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                        client.send(bytes([number]))
                for listener in ready:
                    served, peer = listener.accept()
                    clients.append(served)
                    served.settimeout(5)
                    told = served.recv(1)
                    if told:
                        seen[CELLS[told[0]][:4]] = str(peer[0])
        finally:
            for one in (*listeners, *clients):
                one.close()
        return seen

    def _listen(self, place: str, port: int, family: int) -> socket.socket:
        listener = self.at(place, lambda: socket.socket(FAMILIES[family]))
        if family == 6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen(64)
        return listener

    def close(self) -> None:
        """Let all namespaces die."""
        self.firewall.close()
        for fd in self.places.values():
            os.close(fd)


def _network(name: str, number: int) -> BridgeNetwork:
    pools = [IpamPool(f"10.240.{number}.0/24", gateway=f"10.240.{number}.1")]
    pools.append(IpamPool(f"fd00:240:{number}::/64", gateway=f"fd00:240:{number}::1"))
    options = {"com.docker.network.bridge.name": f"br{name}"}
    if name == "apart":
        options["com.docker.network.bridge.enable_icc"] = "false"
    spec = NetworkSpec(f"{number}" * 64, name, now(), internal=name == "in", ipv6=True, chosen=pools, options=options)
    return BridgeNetwork(spec)


def _lan_addresses(name: str) -> tuple[str, str]:
    return f"192.0.2.{LAN[name]}/24", f"2001:db8::{LAN[name]}/64"


@pytest.fixture(scope="module", params=["routed", "bridged"])
def tried(request: pytest.FixtureRequest) -> Iterator[tuple[World, dict[tuple[int, str, str, int], str | None]]]:
    """The world with every cell tried; with and without bridged frames passing the firewall (`br_netfilter`)."""
    world = World()
    try:
        switches = [Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}") for name in ("iptables", "ip6tables")]
        if world.at("host", switches[0].exists):
            on = str(int(request.param == "bridged"))
            world.at("host", lambda: [switch.write_text(on) for switch in switches])
        yield world, world.try_all()
    finally:
        world.close()


@pytest.mark.parametrize(("family", "source", "target", "port", "arrives"), CELLS)
def test_who_reaches_what(
    tried: tuple[World, dict[tuple[int, str, str, int], str | None]],
    family: int,
    source: str,
    target: str,
    port: int,
    arrives: str | None,
) -> None:
    """One cell: what arrives does so with the right source, what must not does not."""
    world, seen = tried
    server = SERVED_BY.get(port, target)
    assert seen[family, source, target, port] == world.meant(arrives, source, server, family)
