"""Who reaches what: a host, its containers and a neighbour on its LAN, each a network namespace that the test makes.

No process runs in them. A socket keeps the namespace in which it was made, so a listener "in a container" and a client
"on the LAN" are both held by the test, and `accept` tells which source address arrived.
"""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from wherry.config import EngineConfig
from wherry.errors import KernelError
from wherry.linux import netns, nftables
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import add_address, add_route, add_veth, get_link, set_link
from wherry.network import firewall, sandbox
from wherry.network.bridge import Bridge
from wherry.network.endpoint import Endpoint
from wherry.network.firewall import Firewall
from wherry.network.guard import Guard
from wherry.network.ports import PublishedPort
from wherry.network.ruleset import Protected
from wherry.paths import Roots

pytestmark = pytest.mark.root

T = TypeVar("T")
HOST, NEIGHBOUR = "192.0.2.1", "192.0.2.2"
ARRIVES, REFUSED_AFTER = 3.0, 0.3


class World:
    """A host with bridge and firewall, two containers, and a neighbour that can try anything."""

    def __init__(self, directory: Path) -> None:
        self.roots = Roots(str(directory / "data"), str(directory / "run"))
        self.places: dict[str, int] = {}
        self._lan()
        self.bridge = Bridge(self.roots, EngineConfig())
        self.at("host", self.bridge.ensure)
        self.firewall = Firewall(self.roots.scope, [Protected(self.bridge.link_name, self.bridge.subnet)])
        self.at("host", self.firewall.rebuild)
        self.endpoints = {name: self._container(name, digit * 64) for name, digit in (("web", "a"), ("other", "b"))}
        self.web = self.endpoints["web"].address
        self.other = self.endpoints["other"].address

    def _lan(self) -> None:
        self.places["host"] = sandbox.create_namespace()
        self.places["neighbour"] = netns.create()  # its loopback stays down: 127.0.0.1 can be routed away

        def wire() -> None:
            with Netlink() as netlink:
                mac = "02:00:00:00:00:02"
                pair = add_veth(
                    "lan0", master=0, peer="lan0", peer_netns=self.places["neighbour"], peer_mac=mac, mtu=1500
                )
                netlink.run([pair])
                netlink.run([add_address(get_link(netlink, "lan0").index, f"{HOST}/24")])

        def settle() -> None:
            with Netlink() as netlink:
                index = get_link(netlink, "lan0").index
                netlink.run(
                    [
                        set_link(index, up=True),
                        add_address(index, f"{NEIGHBOUR}/24"),
                        add_route(index, "127.0.0.1/32", HOST),
                        add_route(index, "172.16.0.0/12", HOST),
                    ]
                )
            Path("/proc/sys/net/ipv4/conf/lan0/route_localnet").write_text("1")

        self.at("host", wire)
        self.at("neighbour", settle)

    def _container(self, name: str, container_id: str) -> Endpoint:
        endpoint = self.bridge.allocate(container_id)
        self.places[name] = sandbox.create_namespace()
        self.at("host", lambda: sandbox.configure(self.places[name], [endpoint.plan()]))
        return endpoint

    def at(self, place: str, action: Callable[[], T]) -> T:
        """Run `action` in a place."""
        return netns.inside(self.places[place], action)

    def socket(self, place: str, kind: int) -> socket.socket:
        """Make a socket in a place."""
        made = self.at(place, lambda: socket.socket(socket.AF_INET, kind))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return made

    def tcp(self, source: str, target: tuple[str, int], at: str, port: int) -> str | None:
        """Connect from `source`; give the address that the listener in `at` saw, or None when it was not reached."""
        with self.socket(at, socket.SOCK_STREAM) as listener, self.socket(source, socket.SOCK_STREAM) as client:
            listener.bind(("0.0.0.0", port))
            listener.listen()
            _stick_to_lan(source, client)
            client.settimeout(REFUSED_AFTER if source == "neighbour" else ARRIVES)
            try:
                client.connect(target)
            except OSError:
                return None
            listener.settimeout(ARRIVES)
            served, peer = listener.accept()
            with served:
                served.sendall(b"served")
                client.settimeout(ARRIVES)
                assert client.recv(16) == b"served"
            return str(peer[0])

    def udp(self, source: str, target: tuple[str, int], at: str, port: int, wait: float = ARRIVES) -> str | None:
        """Send a datagram; give the source address that arrived in `at`, or None."""
        with self.socket(at, socket.SOCK_DGRAM) as listener, self.socket(source, socket.SOCK_DGRAM) as client:
            listener.bind(("0.0.0.0", port))
            _stick_to_lan(source, client)
            client.sendto(b"question", target)
            listener.settimeout(wait)
            try:
                _, peer = listener.recvfrom(64)
            except TimeoutError:
                return None
            listener.sendto(b"answer", peer)
            if target[0] != "127.0.0.1" or source == "host":
                client.settimeout(ARRIVES)
                assert client.recvfrom(64) == (b"answer", target)
            return str(peer[0])

    def close(self) -> None:
        """Let all namespaces die."""
        self.firewall.close()
        for fd in self.places.values():
            os.close(fd)


def _stick_to_lan(source: str, client: socket.socket) -> None:
    if source == "neighbour":
        client.bind((NEIGHBOUR, 0))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world, the test's own, gone with it."""
    made = World(tmp_path_factory.mktemp("world"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def publish(world: World) -> Iterator[Callable[..., None]]:
    """Publish ports of `web` for one test."""

    def now(*ports: tuple[str, str, int, int]) -> None:
        world.at(
            "host",
            lambda: world.firewall.publish("web", [PublishedPort(p, ip, n, world.web, to) for p, ip, n, to in ports]),
        )

    yield now
    world.at("host", lambda: world.firewall.unpublish("web"))


# from where, to which address, with which source it arrives (None: it must not)
EVERYWHERE = [
    ("host", "127.0.0.1", "gateway"),
    ("host", HOST, HOST),
    ("host", "gateway", "gateway"),
    ("neighbour", HOST, NEIGHBOUR),
    ("other", HOST, "gateway"),
    ("other", "gateway", "gateway"),
    ("web", HOST, "gateway"),
    ("neighbour", "127.0.0.1", None),
    ("neighbour", "web", None),
]
LOOPBACK_ONLY = [
    ("host", "127.0.0.1", "gateway"),
    ("host", HOST, None),
    ("neighbour", HOST, None),
    ("neighbour", "127.0.0.1", None),
    ("neighbour", "web", None),
    ("other", HOST, None),
    ("other", "gateway", None),
]


def _meant(world: World, word: str | None) -> str | None:
    return {"gateway": world.bridge.gateway, "web": world.web}.get(word or "", word)


@pytest.mark.parametrize(("source", "address", "arrives"), EVERYWHERE)
def test_a_port_published_everywhere(
    world: World, publish: Callable[..., None], source: str, address: str, arrives: str | None
) -> None:
    """A port published on all addresses is reached from everywhere, by the right source, only through the host."""
    publish(("tcp", "0.0.0.0", 8080, 80), ("udp", "0.0.0.0", 8080, 80))
    host = str(_meant(world, address))
    port = 80 if address == "web" else 8080
    assert world.tcp(source, (host, port), "web", 80) == _meant(world, arrives)
    wait = ARRIVES if arrives else REFUSED_AFTER
    assert world.udp(source, (host, port), "web", 80, wait) == _meant(world, arrives)


@pytest.mark.parametrize(("source", "address", "arrives"), LOOPBACK_ONLY)
def test_a_port_published_on_loopback_moby_41872(
    world: World, publish: Callable[..., None], source: str, address: str, arrives: str | None
) -> None:
    """A port published on 127.0.0.1 is this host's alone, whatever a neighbour puts into its packets (moby#41872)."""
    publish(("tcp", "127.0.0.1", 8081, 80), ("udp", "127.0.0.1", 8081, 80))
    host = str(_meant(world, address))
    port = 80 if address == "web" else 8081
    assert world.tcp(source, (host, port), "web", 80) == _meant(world, arrives)
    wait = ARRIVES if arrives else REFUSED_AFTER
    assert world.udp(source, (host, port), "web", 80, wait) == _meant(world, arrives)


def test_the_neighbours_trick_would_work(world: World, publish: Callable[..., None]) -> None:
    """Without the rule a neighbour's packet to 127.0.0.1 does arrive: the tests above test something."""
    publish(("udp", "127.0.0.1", 8081, 80))

    def take_out() -> None:
        chain = ("chain", "ip", world.roots.scope, "forward")
        listed = subprocess.run(["nft", "-a", "list", *chain], check=True, capture_output=True, text=True).stdout
        (rule,) = [line for line in listed.splitlines() if "127.0.0.0/8" in line]
        words = ("rule", *chain[1:], "handle", rule.rpartition(" ")[2])
        subprocess.run(["nft", "delete", *words], check=True)

    try:
        world.at("host", take_out)
        assert world.udp("neighbour", ("127.0.0.1", 8081), "web", 80) == NEIGHBOUR
    finally:
        world.at("host", world.firewall.rebuild)
    # what the tracker remembers of that flow is another source port's: a new packet is judged anew
    assert world.udp("neighbour", ("127.0.0.1", 8081), "web", 80, REFUSED_AFTER) is None


def test_a_container_reaches_out_and_is_not_reached(world: World) -> None:
    """A container reaches the LAN under the host's address; the LAN does not reach its ports; containers do."""
    assert world.tcp("web", (NEIGHBOUR, 7000), "neighbour", 7000) == HOST
    assert world.udp("web", (NEIGHBOUR, 7001), "neighbour", 7001) == HOST
    assert world.tcp("neighbour", (world.web, 81), "web", 81) is None
    assert world.tcp("other", (world.web, 81), "web", 81) == world.other
    assert world.tcp("host", (world.web, 81), "web", 81) == world.bridge.gateway


def test_an_address_of_the_host_is_only_that(world: World, publish: Callable[..., None]) -> None:
    """A port published on one address of the host is not there on another."""
    publish(("tcp", HOST, 8082, 80))
    assert world.tcp("neighbour", (HOST, 8082), "web", 80) == NEIGHBOUR
    assert world.tcp("host", (HOST, 8082), "web", 80) == HOST
    assert world.tcp("host", ("127.0.0.1", 8082), "web", 80) is None


def test_a_withdrawn_port_is_closed(world: World, publish: Callable[..., None]) -> None:
    """After `unpublish` nothing answers at the port, and the owner may publish it again."""
    publish(("tcp", "0.0.0.0", 8083, 80))
    assert world.tcp("neighbour", (HOST, 8083), "web", 80) == NEIGHBOUR
    world.at("host", lambda: world.firewall.unpublish("web"))
    assert world.tcp("neighbour", (HOST, 8083), "web", 80) is None
    publish(("tcp", "0.0.0.0", 8083, 80))
    assert world.tcp("neighbour", (HOST, 8083), "web", 80) == NEIGHBOUR


def test_udp_flows_follow_the_change(world: World, publish: Callable[..., None]) -> None:
    """A client that sends before, while and after a port is published, from one port, always gets what is true now."""

    def move_to_other() -> None:
        world.firewall.unpublish("web")
        world.firewall.publish("web", [PublishedPort("udp", "0.0.0.0", 8086, world.other, 80)])

    with (
        world.socket("neighbour", socket.SOCK_DGRAM) as client,
        world.socket("web", socket.SOCK_DGRAM) as web,
        world.socket("other", socket.SOCK_DGRAM) as other,
    ):
        for listener in (web, other):
            listener.bind(("0.0.0.0", 80))
            listener.settimeout(ARRIVES)
        client.sendto(b"nobody there", (HOST, 8086))
        publish(("udp", "0.0.0.0", 8086, 80))
        client.sendto(b"first", (HOST, 8086))
        assert web.recv(64) == b"first"
        world.at("host", move_to_other)
        client.sendto(b"second", (HOST, 8086))
        assert other.recv(64) == b"second"


def test_hairpin_without_bridge_netfilter(world: World, publish: Callable[..., None]) -> None:
    """A container reaches its own published port also where bridged frames do not pass the firewall."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not world.at("host", switch.exists):
        pytest.skip("this kernel has no br_netfilter: the other tests have shown it")
    publish(("tcp", "0.0.0.0", 8087, 80))
    world.at("host", lambda: switch.write_text("0"))
    try:
        for source in ("web", "other"):
            assert world.tcp(source, (HOST, 8087), "web", 80) == world.bridge.gateway
    finally:
        world.at("host", lambda: switch.write_text("1"))


def test_a_flushed_ruleset_comes_back_cve_2025_54388_54410(world: World, publish: Callable[..., None]) -> None:
    """After somebody's `nft flush ruleset` the table is missed, and the next change brings all of it back."""
    publish(("tcp", "0.0.0.0", 8084, 80))
    world.at("host", lambda: subprocess.run(["nft", "flush", "ruleset"], check=True))
    assert not world.at("host", world.firewall.present)
    assert world.tcp("neighbour", (HOST, 8084), "web", 80) is None
    publish(("tcp", "0.0.0.0", 8085, 80))
    assert world.at("host", world.firewall.present)
    assert world.tcp("neighbour", (HOST, 8084), "web", 80) == NEIGHBOUR
    assert world.tcp("neighbour", (HOST, 8085), "web", 80) == NEIGHBOUR


def test_the_guard_restores_by_itself(world: World, publish: Callable[..., None]) -> None:
    """With the guard on, a flushed table is back without anybody asking."""
    publish(("tcp", "0.0.0.0", 8088, 80))

    async def watch() -> None:
        guard = Guard(world.firewall)
        guard.start()
        try:
            flush = await asyncio.create_subprocess_exec("nft", "flush", "ruleset")
            assert await flush.wait() == 0
            async with asyncio.timeout(5):
                while not world.firewall.present():  # noqa: ASYNC110 - it is the kernel that is waited for
                    await asyncio.sleep(0.02)
        finally:
            await guard.close()

    world.at("host", lambda: asyncio.run(watch()))
    assert world.tcp("neighbour", (HOST, 8088), "web", 80) == NEIGHBOUR


def test_what_stands_in_the_way_is_named(world: World) -> None:
    """A forward chain of another program that lets nothing through but what it allows is named; harmless ones not."""
    chains = (("ip filter", "drop"), ("ip fine", "accept"), ("inet late", "accept"), ("ip6 six", "drop"))
    rules = "".join(
        f"add table {table}\nadd chain {table} FORWARD {{ type filter hook forward priority 0; policy {policy}; }}\n"
        for table, policy in chains
    )
    rules += """
        add rule ip fine FORWARD ip daddr 192.0.2.77 drop
        add rule inet late FORWARD ct state established accept
        add rule inet late FORWARD reject
    """

    def check() -> list[str]:
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        try:
            return world.firewall.obstacles()
        finally:
            subprocess.run(["nft", "; ".join(f"delete table {table}" for table, _ in chains)], check=True)

    assert world.at("host", check) == [
        "table ip filter, chain FORWARD: policy drop",
        "table inet late, chain FORWARD: reject at its end",
    ]
    assert world.at("host", world.firewall.obstacles) == []


def test_a_chain_that_goes_while_it_is_looked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others change their rules at any time: what is listed and gone a moment later stands in nobody's way."""
    chain = "{ type filter hook forward priority 0; policy accept; }"

    def listed_too_early(commands: str, what: str) -> str:
        text = real(commands, what)
        if commands == "list chains":
            subprocess.run(["nft", "delete table ip passing"], check=True)
        return text

    def check() -> list[str]:
        subprocess.run(["nft", f"add table ip passing; add chain ip passing FORWARD {chain}"], check=True)
        monkeypatch.setattr(world.firewall, "_run", listed_too_early)
        return world.firewall.obstacles()

    real = world.firewall._run
    assert world.at("host", check) == []


def test_tables_of_others_are_left_alone(world: World) -> None:
    """Rebuilding and removing our table leaves every other one as it was, and a second engine's works beside it."""

    def check() -> None:
        def other() -> str:
            listed = subprocess.run(["nft", "list", "table", "ip", "foreign"], check=True, capture_output=True)
            return listed.stdout.decode()

        subprocess.run(["nft", "add table ip foreign; add chain ip foreign c; add rule ip foreign c drop"], check=True)
        before = other()
        second = Firewall(f"{world.roots.scope}-2", [Protected("br-other", "10.99.0.0/24")])
        try:
            second.publish("x", [PublishedPort("tcp", "0.0.0.0", 9000, "10.99.0.2", 80)])
            world.firewall.rebuild()
            assert second.present()
            second.remove_table()
            assert not second.present() and world.firewall.present()
            assert other() == before
        finally:
            second.close()
            subprocess.run(["nft", "delete table ip foreign"], check=True)

    world.at("host", check)


def test_a_ruleset_that_kills_its_reader(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a child that reads the ruleset is killed by it, rules are refused until it was changed again; ports not."""

    def check() -> None:
        port = [PublishedPort("tcp", "0.0.0.0", 8090, world.web, 80)]
        networks = [Protected(world.bridge.link_name, world.bridge.subnet)]
        monkeypatch.setattr(firewall, "survives_reading", lambda: False)
        subprocess.run(["nft", "add table ip foreign"], check=True)
        for _ in range(2):
            with pytest.raises(KernelError, match="libnftables cannot read the ruleset"):
                world.firewall.set_networks(networks)
            world.firewall.publish("web", port)
            world.firewall.unpublish("web")
        monkeypatch.setattr(firewall, "survives_reading", nftables.survives_reading)
        subprocess.run(["nft", "add table ip foreign2"], check=True)
        world.firewall.set_networks(networks)
        subprocess.run(["nft", "delete table ip foreign; delete table ip foreign2"], check=True)

    world.at("host", check)


def test_a_port_needs_nobodys_rules_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changed the ruleset before, a port is published and withdrawn without libnftables, and so is looked."""

    def refuse(*_words: str) -> str:
        raise AssertionError("libnftables was asked")

    def check() -> None:
        subprocess.run(["nft", "add table ip foreign"], check=True)
        monkeypatch.setattr(world.firewall, "_run", refuse)
        world.firewall.publish("web", [PublishedPort("tcp", "0.0.0.0", 8091, world.web, 80)])
        assert world.firewall.present()
        world.firewall.unpublish("web")
        monkeypatch.undo()
        subprocess.run(["nft", "delete table ip foreign"], check=True)

    world.at("host", check)


def test_the_thousandth_port_costs_what_the_first_did(world: World) -> None:
    """Publishing and withdrawing one port takes the same time with 1,000 others as with none."""

    def median_of_changes() -> float:
        times = []
        for _ in range(15):
            began = time.perf_counter()
            world.firewall.publish("one", [PublishedPort("tcp", "0.0.0.0", 9999, world.web, 80)])
            world.firewall.unpublish("one")
            times.append(time.perf_counter() - began)
        return sorted(times)[7]

    def measure() -> tuple[float, float]:
        alone = median_of_changes()
        crowd = [PublishedPort("tcp", "0.0.0.0", 10_000 + n, world.web, 80) for n in range(1000)]
        world.firewall.publish("crowd", crowd)
        try:
            return alone, median_of_changes()
        finally:
            world.firewall.unpublish("crowd")

    alone, crowded = world.at("host", measure)
    assert crowded < 4 * alone + 0.002, (alone, crowded)
