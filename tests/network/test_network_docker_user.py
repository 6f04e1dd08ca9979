"""A dockerd that found IP forwarding off before us: its FORWARD policy DROP must not cut what Wherry forwards.

The first tests make the rules that dockerd makes; the last has dockerd itself. dockerd's own bridges stay closed.
"""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from tests.e2e import dockerd
from tests.e2e.harness import WHERRYD, EngineProcess, until, within

from wherry.linux import netns
from wherry.linux.netlink import Netlink, Request
from wherry.linux.rtnetlink import add_address, add_bridge, add_route, add_veth, get_link, set_link
from wherry.network import sandbox

pytestmark = pytest.mark.root

T = TypeVar("T")
HOST, NEIGHBOUR = "192.0.2.1", "192.0.2.2"
DOCKERS_GATEWAY, DOCKERS = "172.31.200.1", "172.31.200.2"
BEFORE = """
iptables -N DOCKER-USER
iptables -N DOCKER
iptables -A DOCKER-USER -j RETURN
iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -o docker0 -j DOCKER
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -P FORWARD DROP
"""
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class World:
    """A host that does not forward, a neighbour of it, and somebody behind a bridge `docker0`."""

    def __init__(self) -> None:
        self.host = sandbox.create_namespace()
        self.neighbour = sandbox.create_namespace()
        self.dockers = sandbox.create_namespace()
        self.engine = EngineProcess(program=within(self.host, WHERRYD))
        self.at(self.host, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("0"))
        self._wire("lan0", self.neighbour, HOST, NEIGHBOUR)

    def add_docker0(self) -> None:
        """Make what dockerd makes for a container of its own."""
        self.at(self.host, lambda: _run([add_bridge("docker0", mac="02:42:00:00:00:01")]))
        self._wire("docker0", self.dockers, DOCKERS_GATEWAY, DOCKERS, port="vdocker")

    def _wire(self, name: str, there: int, ours: str, theirs: str, *, port: str = "") -> None:
        def here() -> None:
            with Netlink() as netlink:
                master = get_link(netlink, name).index if port else 0
                mac = f"02:00:00:00:{int(theirs.split('.')[2]) % 256:02x}:02"
                link = port or name
                netlink.run([add_veth(link, master=master, peer="eth0", peer_netns=there, peer_mac=mac, mtu=1500)])
                netlink.run([set_link(get_link(netlink, link).index, up=True)])
                index = get_link(netlink, name).index
                netlink.run([set_link(index, up=True), add_address(index, f"{ours}/24")])

        def yonder() -> None:
            with Netlink() as netlink:
                index = get_link(netlink, "eth0").index
                netlink.run([set_link(index, up=True), add_address(index, f"{theirs}/24")])
                netlink.run([add_route(index, gateway=ours)])

        self.at(self.host, here)
        self.at(there, yonder)

    def at(self, where: int, action: Callable[[], T]) -> T:
        """Do something in a namespace."""
        return netns.inside(where, action)

    def sh(self, script: str) -> str:
        """Run a shell on the host."""
        words = within(self.host, "sh", "-ec", script)
        env = {**os.environ, "PATH": PATH}
        return subprocess.run(words, check=True, capture_output=True, text=True, env=env, timeout=60).stdout

    def rules(self) -> list[str]:
        """The iptables rules of the host, without counters and comments."""
        return [line.partition(" [")[0] for line in self.sh("iptables-save").splitlines() if line[:1] != "#"]

    def start(self) -> None:
        """Start the engine with a server on port 8080."""
        self.engine.start()
        self.engine.wherry("image", "bootstrap", "busybox")
        self.engine.docker("run", "-d", "--name", "web", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80")

    def reached(self) -> bool:
        """Whether the neighbour reaches the published port."""
        with self.at(self.neighbour, socket.socket) as client:
            client.settimeout(2)
            return client.connect_ex((HOST, 8080)) == 0

    def goes_to(self, address: str, where: int, *, seconds: int = 5) -> bool:
        """Whether a container of ours reaches a server that listens there."""
        with self.at(where, socket.socket) as listener:
            listener.bind((address, 0))
            listener.listen()
            words = ("nc", "-w", str(seconds), address, str(listener.getsockname()[1]))
            return self.engine.docker("exec", "web", *words, "-e", "true", check=False).code == 0

    def close(self) -> None:
        """End all of it."""
        self.engine.destroy()
        for descriptor in (self.host, self.neighbour, self.dockers):
            os.close(descriptor)


def _run(messages: list[Request]) -> None:
    with Netlink() as netlink:
        netlink.run(messages)


@pytest.fixture
def world() -> Iterator[World]:
    """The host and its surroundings."""
    made = World()
    try:
        yield made
        made.engine.assert_no_traceback()
    finally:
        made.close()


def test_dockers_forward_policy_does_not_cut_containers(world: World) -> None:
    """Published ports, the LAN and other containers are reached; dockerd's containers are not; the rule goes again."""
    world.add_docker0()
    world.sh(BEFORE)
    before = world.rules()
    world.start()
    assert len(world.rules()) == len(before) + 1
    until(world.reached, "the neighbour reaches the published port")
    assert world.goes_to(NEIGHBOUR, world.neighbour)
    engine = world.engine
    # networks that come later are let through as well
    engine.docker("network", "create", "later")
    engine.docker("network", "connect", "later", "web")
    to_web = ("busybox", "nc", "-w", "5", "web", "80", "-e", "true")
    assert engine.docker("run", "--rm", "--network", "later", *to_web).code == 0
    # a container of dockerd's that publishes nothing stays out of reach
    assert not world.goes_to(DOCKERS, world.dockers, seconds=1)
    told = engine.wherry("network", "check", "web", check=False).out
    assert "drops what is forwarded" not in told, told
    assert "forwarded packets" not in "".join(json.loads(engine.docker("info", "-f", "{{json .Warnings}}").out) or [])
    engine.remove_all()
    engine.docker("network", "rm", "later")
    engine.stop()
    assert world.rules() == before
    assert "marks" not in world.sh("nft list tables")


def test_rules_that_come_later_are_seen(world: World) -> None:
    """dockerd may start after us, or have its rules reloaded; without its chain for others the policy is named."""
    world.start()
    assert world.reached()
    world.sh(BEFORE)
    until(lambda: "-m mark" in "\n".join(world.rules()), "the rule is in dockerd's chain")
    until(world.reached, "the neighbour reaches the published port")
    world.sh("iptables -F DOCKER-USER")
    until(lambda: "-m mark" in "\n".join(world.rules()), "the rule is in dockerd's chain again")
    until(world.reached, "the neighbour reaches the published port")
    world.sh("iptables -F FORWARD; iptables -F DOCKER-USER; iptables -X DOCKER-USER")
    named = "table ip filter, chain FORWARD: policy drop"

    def warned() -> bool:
        return named in "".join(json.loads(world.engine.docker("info", "-f", "{{json .Warnings}}").out) or [])

    until(warned, "info names the policy")
    assert named in world.engine.wherry("network", "check", "web", check=False).out
    assert named in world.engine.log.read_text()
    assert not world.reached()


def test_dockerd_itself_started_first(world: World, tmp_path: Path) -> None:
    """The real one, which finds IP forwarding off and closes FORWARD."""
    with dockerd.dockerd(tmp_path, "--userland-proxy=false", "--bip=172.31.201.1/24", enter=within(world.host)):
        assert "-P FORWARD DROP" in world.sh("iptables -S").splitlines()
        world.start()
        until(world.reached, "the neighbour reaches the published port")
        assert world.goes_to(NEIGHBOUR, world.neighbour)
        world.engine.remove_all()
        world.engine.stop()
        assert "-m mark" not in "\n".join(world.rules())
