"""With `"publish-policy": "host-firewall"` a published port is as reachable as the host's own rules let it be."""

import asyncio
import select
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.network.test_network_reachability import HOST, NEIGHBOUR, World

from wherry.linux.nftables import RulesetWatch
from wherry.network.firewall import Firewall
from wherry.network.guard import Guard
from wherry.network.ports import PublishedPort
from wherry.network.ruleset import Protected

pytestmark = pytest.mark.root

RULES = """
table inet host {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iifname "lo" accept
  }
}
"""
PATIENCE = 20.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A host that lets nothing in, and publishes two ports of `web`."""
    made = World(tmp_path)
    try:
        made.at("host", made.firewall.remove_table)
        made.firewall.close()
        network = Protected(made.bridge.link_name, made.bridge.subnet)
        made.firewall = Firewall(made.roots.scope, [network], asks=True)
        made.at("host", made.firewall.rebuild)
        ports = [("tcp", "0.0.0.0", 8080), ("udp", "0.0.0.0", 8080), ("tcp", HOST, 8081)]
        published = [PublishedPort(kind, host, port, made.web, 80) for kind, host, port in ports]
        made.at("host", lambda: made.firewall.publish("web", published))
        made.at("host", lambda: subprocess.run(["nft", "-f", "-"], input=RULES.encode(), check=True))
        yield made
    finally:
        made.close()


class Looked:
    """A firewall that tells when the guard has had all sources asked again."""

    def __init__(self, firewall: Firewall) -> None:
        self.firewall = firewall
        self.loop = asyncio.get_running_loop()
        self.reconsidered = asyncio.Event()

    def restore(self) -> bool:
        """As the firewall's."""
        return self.firewall.restore()

    def reconsider(self) -> None:
        """As the firewall's."""
        self.firewall.reconsider()
        self.loop.call_soon_threadsafe(self.reconsidered.set)


def _nft(world: World, command: str) -> None:
    """Change the host's rules as its owner does, with the guard looking on."""

    async def change() -> None:
        looked = Looked(world.firewall)
        guard = Guard(looked)
        guard.start()
        try:
            process = await asyncio.create_subprocess_exec("nft", *command.split())
            assert await process.wait() == 0
            await asyncio.wait_for(looked.reconsidered.wait(), PATIENCE)
        finally:
            await guard.close()

    world.at("host", lambda: asyncio.run(change()))


def _reached(world: World, source: str, port: int, seconds: float = PATIENCE) -> str | None:
    """Connect, patiently: the first packet of a source is a question to the host's rules."""
    with world.socket("web", socket.SOCK_STREAM) as listener, world.socket(source, socket.SOCK_STREAM) as client:
        listener.bind(("0.0.0.0", 80))
        listener.listen()
        client.settimeout(seconds)
        try:
            client.connect((HOST, port))
        except OSError:
            return None
        listener.settimeout(PATIENCE)
        served, peer = listener.accept()
        served.close()
        return str(peer[0])


def test_a_denied_port_is_denied(world: World) -> None:
    """What the host's input policy drops never reaches the container; this host and containers are not outside."""
    for port in (8080, 8081):
        assert _reached(world, "neighbour", port, 1.5) is None
    assert _reached(world, "host", 8080) == HOST
    assert _reached(world, "other", 8080) == world.bridge.gateway


def test_an_allowed_port_is_open_until_it_is_denied(world: World) -> None:
    """Allowed, it is reached from the right source; denied again, it is closed at once for new connections."""
    _nft(world, "add rule inet host input tcp dport { 8080, 8081 } accept")
    for port in (8080, 8081):
        assert _reached(world, "neighbour", port) == NEIGHBOUR
    _nft(world, "flush chain inet host input")
    for port in (8080, 8081):
        assert _reached(world, "neighbour", port, 1.5) is None


def test_datagrams_are_judged_too(world: World) -> None:
    """The first datagram of a source asks; those after it arrive if the answer was yes."""
    assert world.udp("neighbour", (HOST, 8080), "web", 80, 0.3) is None
    _nft(world, "add rule inet host input udp dport 8080 accept")
    assert world.udp("neighbour", (HOST, 8080), "web", 80, 0.3) is None
    assert world.udp("neighbour", (HOST, 8080), "web", 80) == NEIGHBOUR


def test_our_own_changes_ask_nobody_again(world: World) -> None:
    """Publishing another port is no change of the host's rules: who was admitted stays so."""
    _nft(world, "add rule inet host input tcp dport 8080 accept")
    assert _reached(world, "neighbour", 8080) == NEIGHBOUR

    watch = world.at("host", RulesetWatch)
    try:
        port = PublishedPort("tcp", "0.0.0.0", 9000, world.other, 80)
        # as the engine does it, from a thread: a process in a PID namespace knows its changes by its threads' name
        with ThreadPoolExecutor(1) as thread:
            thread.submit(world.at, "host", lambda: world.firewall.publish("other", [port])).result()
        assert select.select([watch], [], [], PATIENCE)[0] and not watch.drain()
        world.at("host", lambda: subprocess.run(["nft", "add table ip foreign"], check=True))
        assert select.select([watch], [], [], PATIENCE)[0] and watch.drain()
    finally:
        watch.close()
    admitted = world.at(
        "host",
        lambda: subprocess.run(
            ["nft", "list", "set", "ip", world.roots.scope, "admitted"], check=True, capture_output=True
        ),
    )
    assert NEIGHBOUR.encode() in admitted.stdout
