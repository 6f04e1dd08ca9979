"""The real ufw and firewalld beside two engines on one host: nobody's rules are touched, and ours stay or come back.

One engine publishes past the host's input rules (Docker's way), the other obeys them. A neighbour on the LAN tries.
"""

import json
import os
import re
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import WHERRYD, EngineProcess, until, within
from tests.network.host_firewalls import Box

from wherry.linux import netns
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import add_address, add_route, add_veth, get_link, set_link
from wherry.network import sandbox

pytestmark = pytest.mark.root

HOST, NEIGHBOUR = "192.0.2.1", "192.0.2.2"
PLAIN, LOOPBACK, OBEYING = 8080, 8081, 9080
REFUSED_AFTER = 1.3  # a first packet is a question to the host's rules: TCP says it again after a second
DEADLINE = 10.0


class Host:
    """A namespace that is a host with two engines and a box for firewalls; and its neighbour's."""

    def __init__(self, directory: Path) -> None:
        self.there = sandbox.create_namespace()
        self.neighbour = netns.create()  # its loopback stays down: 127.0.0.1 can be routed away
        self._wire()
        config = directory / "daemon.json"
        config.write_text(json.dumps({"publish-policy": "host-firewall"}))
        program = within(self.there, WHERRYD)
        self.bypass = EngineProcess(program=program)
        self.obeys = EngineProcess("--config-file", str(config), program=program)
        self.box = Box(self.there)

    @property
    def engines(self) -> tuple[EngineProcess, EngineProcess]:
        """Both."""
        return self.bypass, self.obeys

    def _wire(self) -> None:
        mac = "02:00:00:00:00:02"
        pair = add_veth("lan0", master=0, peer="lan0", peer_netns=self.neighbour, peer_mac=mac, mtu=1500)

        def plug(address: str) -> None:
            with Netlink() as netlink:
                index = get_link(netlink, "lan0").index
                netlink.run([set_link(index, up=True), add_address(index, f"{address}/24")])
                if address == NEIGHBOUR:
                    netlink.run([add_route(index, "127.0.0.1/32", HOST)])
                    Path("/proc/sys/net/ipv4/conf/lan0/route_localnet").write_text("1")

        def wire() -> None:
            with Netlink() as netlink:
                netlink.run([pair])
            plug(HOST)

        netns.inside(self.there, wire)
        netns.inside(self.neighbour, lambda: plug(NEIGHBOUR))

    def start(self) -> None:
        """Start the engines and a server on each."""
        for engine in self.engines:
            engine.start()
        self.bypass.wherry("image", "bootstrap", "busybox")
        archive = subprocess.run(["docker", "save", "busybox"], env=self.bypass.env, check=True, capture_output=True)
        self.obeys.run("docker", "load", stdin=archive.stdout)
        serve = ("busybox", "httpd", "-f", "-p", "80")
        ports = ("-p", f"{PLAIN}:80", "-p", f"127.0.0.1:{LOOPBACK}:80")
        self.bypass.docker("run", "-d", "--name", "web", *ports, *serve)
        self.obeys.docker("run", "-d", "--name", "web", "-p", f"{OBEYING}:80", *serve)

    def reached(self, port: int, address: str = HOST, *, inside: bool = False, seconds: float = REFUSED_AFTER) -> bool:
        """Whether a connection to a port comes about, from the neighbour or from the host itself."""
        client = netns.inside(self.there if inside else self.neighbour, socket.socket)
        with client:
            if not inside:
                client.bind((NEIGHBOUR, 0))
            client.settimeout(seconds)
            try:
                client.connect((address, port))
            except OSError:
                return False
            return True

    def opens(self, port: int) -> None:
        """The neighbour reaches a port, within a deadline."""
        until(lambda: self.reached(port, seconds=5), f"port {port} is reached", DEADLINE)

    def loopback_is_the_hosts_own(self) -> None:
        """The port on 127.0.0.1 is reached from there and from nowhere else."""
        assert self.reached(LOOPBACK, "127.0.0.1", inside=True)
        assert not self.reached(LOOPBACK, "127.0.0.1") and not self.reached(LOOPBACK)

    def goes_out(self, engine: EngineProcess) -> bool:
        """Whether a container reaches the neighbour."""
        with netns.inside(self.neighbour, socket.socket) as listener:
            listener.bind((NEIGHBOUR, 0))
            listener.listen()
            ask = ("docker", "exec", "web", "nc", "-w", "1", NEIGHBOUR, str(listener.getsockname()[1]))
            with subprocess.Popen(ask, env=engine.env, stderr=subprocess.DEVNULL) as process:
                until(lambda: process.poll() is not None or _arrived(listener), "it arrives, or gives up")
                if _arrived(listener):
                    listener.accept()[0].close()
                return process.wait(20) == 0

    def nft(self, *words: str) -> str:
        """Run nft on the host; gives its output."""
        done = subprocess.run(within(self.there, "nft", *words), check=True, capture_output=True, text=True)
        return done.stdout

    def ours(self) -> str:
        """Both engines' tables, without the sources that are admitted at present."""
        tables = "".join(self.nft("list", "table", "ip", engine.roots.scope) for engine in self.engines)
        return re.sub(r"set admitted \{.*?\n\t\}", "", tables, flags=re.DOTALL)

    def churn(self) -> None:
        """Containers and networks come and go."""
        for engine in self.engines:
            engine.docker("network", "create", "passing")
            engine.docker("run", "--rm", "-p", "80", "--network", "passing", "busybox", "true")
            engine.docker("network", "rm", "passing")

    def close(self) -> None:
        """End all of it."""
        for engine in self.engines:
            engine.destroy()
        self.box.close()
        os.close(self.there)
        os.close(self.neighbour)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The host, its engines running."""
    made = Host(tmp_path_factory.mktemp("host"))
    try:
        made.start()
        yield made
        for engine in made.engines:
            engine.assert_no_traceback()
    finally:
        made.close()


def _arrived(listener: socket.socket) -> bool:
    return bool(select.select([listener], [], [], 0)[0])


def _untouched(host: Host, theirs: Callable[[], str]) -> None:
    """What the engines do changes nothing of the others' rules."""
    before = theirs()
    host.churn()
    assert theirs() == before


def test_ufw(host: Host) -> None:
    """Enabled, reloaded and disabled: it decides what is forwarded, and what the obeying engine's port admits."""
    box, before = host.box, host.ours()
    host.opens(PLAIN)
    host.opens(OBEYING)
    box.run("ufw", "--force", "enable")
    try:
        assert not host.reached(PLAIN) and not host.goes_out(host.bypass)
        assert host.reached(PLAIN, inside=True)
        told = host.bypass.wherry("network", "check", "web", check=False)
        assert "drops what is forwarded: table ip filter, chain FORWARD: policy drop" in told.out
        for engine in host.engines:
            for way in ("in", "out"):
                box.run("ufw", "route", "allow", way, "on", engine.roots.bridge)
        host.opens(PLAIN)
        assert host.goes_out(host.bypass) and host.goes_out(host.obeys)
        assert not host.reached(OBEYING)
        box.run("ufw", "allow", f"{OBEYING}/tcp")
        host.opens(OBEYING)
        _untouched(host, box.save)
        rules = box.save()
        box.run("ufw", "reload")
        assert box.save() == rules
        host.opens(PLAIN)
        host.opens(OBEYING)
        box.run("ufw", "delete", "allow", f"{OBEYING}/tcp")
        until(lambda: not host.reached(OBEYING), "the port that is denied again is closed", DEADLINE)
        host.loopback_is_the_hosts_own()
    finally:
        box.run("ufw", "--force", "reset")
    host.opens(PLAIN)
    host.opens(OBEYING)
    assert host.ours() == before


def test_firewalld_reload_moby_45610_cve_2025_54388(host: Host) -> None:
    """Reloaded, completely too, ended, all flushed: what is published stays or comes back, loopback stays loopback."""
    box, before = host.box, host.ours()
    with box.firewalld():
        host.opens(PLAIN)
        assert not host.reached(OBEYING)
        told = host.bypass.wherry("network", "check", "web", check=False)
        assert "drops what is forwarded: table inet firewalld, chain filter_FORWARD: reject at its end" in told.out
        assert not host.goes_out(host.bypass)
        for engine in host.engines:
            box.run("firewall-cmd", "--permanent", "--zone=trusted", f"--add-interface={engine.roots.bridge}")
        box.run("firewall-cmd", "--permanent", f"--add-port={OBEYING}/tcp")
        for reload in ("--reload", "--complete-reload"):
            box.run("firewall-cmd", reload)
            host.opens(PLAIN)
            host.opens(OBEYING)
            host.loopback_is_the_hosts_own()
            assert host.goes_out(host.bypass) and host.goes_out(host.obeys)
            assert host.ours() == before
        _untouched(host, lambda: host.nft("list", "table", "inet", "firewalld"))
        host.nft("flush", "ruleset")
        until(lambda: host.reached(PLAIN, seconds=1), "the port is back", DEADLINE)
        host.opens(OBEYING)
        host.loopback_is_the_hosts_own()
        assert host.ours() == before
    host.opens(PLAIN)
    host.opens(OBEYING)
    host.loopback_is_the_hosts_own()
    assert host.ours() == before
