"""Network namespaces and their links, the bridge, and host ports: for real, in namespaces of the test's own."""

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from wherry.config import EngineConfig
from wherry.errors import Forbidden, InvalidArgument, KernelError, PortUnavailable, WherryError
from wherry.linux import netns
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import (
    add_address,
    add_bridge,
    add_route,
    addresses,
    get_link,
    links,
    set_link,
)
from wherry.network import sandbox
from wherry.network.bridge import Bridge
from wherry.network.endpoint import Endpoint
from wherry.network.ports import HostPorts, PortRequest, PublishedPort
from wherry.paths import Roots

pytestmark = pytest.mark.root

T = TypeVar("T")
At = Callable[[Callable[[], T]], T]


class Config(EngineConfig):
    """daemon.json's bip."""

    def __init__(self, bip: str = "") -> None:
        super().__init__()
        self.bip = bip


@pytest.fixture
def host() -> Iterator[int]:
    """An empty host: a network namespace with loopback."""
    fd = sandbox.create_namespace()
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """Roots of the test's own."""
    return Roots(str(tmp_path / "data"), str(tmp_path / "run"))


def _own() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def _bridge(name: str = "br0") -> None:
    with Netlink() as netlink:
        netlink.run([add_bridge(name, mac="02:42:00:00:00:01")])
        netlink.run([add_address(get_link(netlink, name).index, "172.17.0.1/16")])


def _plan(number: int = 2, **changed: Any) -> dict[str, Any]:
    plan = {
        "host_name": f"veth{number}",
        "name": "eth0",
        "mac": f"02:42:ac:11:00:{number:02x}",
        "mtu": 1400,
        "bridge": "br0",
        "addresses": [f"172.17.0.{number}/16"],
        "gateway": "172.17.0.1",
    }
    return plan | changed


def _names() -> set[str]:
    with Netlink() as netlink:
        return {link.name for link in links(netlink)}


def test_a_namespace_is_made_and_the_caller_stays() -> None:
    """`create_namespace` gives a namespace with loopback up; the caller remains in its own."""
    before = _own()
    fd = sandbox.create_namespace()
    try:
        assert _own() == before
        assert netns.inside(fd, _own) != before
        assert _own() == before
        assert not os.get_inheritable(fd)

        def loopback() -> tuple[bool, bool]:
            with Netlink() as netlink:
                return get_link(netlink, "lo").up, any(text == "127.0.0.1/8" for _, text in addresses(netlink))

        assert netns.inside(fd, loopback) == (True, True)
    finally:
        os.close(fd)


def test_the_caller_stays_also_on_error(host: int) -> None:
    """An action that raises inside a namespace, new or entered, leaves the caller in its own, and no descriptor."""
    before, descriptors = _own(), os.listdir("/proc/self/fd")

    def fails() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        netns.create(fails)
    with pytest.raises(ValueError, match="inside"):
        netns.inside(host, fails)
    with open("/dev/null", "rb") as file, pytest.raises(KernelError, match="setns"):
        netns.inside(file.fileno(), fails)
    assert _own() == before
    assert os.listdir("/proc/self/fd") == descriptors


def test_an_endpoint_is_made_whole(host: int) -> None:
    """`configure` gives the interface name, MAC, MTU, addresses, routes, sysctls, and the near end to the bridge."""

    def work() -> None:
        _bridge()
        fd = sandbox.create_namespace()
        try:
            plan = _plan(
                routes=[{"destination": "10.8.0.0/16", "gateway": "172.17.0.9"}],
                sysctls={"net.ipv4.conf.eth0.log_martians": "1"},
            )
            (result,) = sandbox.configure(fd, [plan])
            assert (result["name"], result["mac"], result["mtu"]) == ("eth0", "02:42:ac:11:00:02", 1400)

            def look() -> tuple[str, str, str, bool]:
                shown = subprocess.run(["ip", "-4", "route"], check=True, capture_output=True, text=True).stdout
                martians = Path("/proc/sys/net/ipv4/conf/eth0/log_martians").read_text().strip()
                six = subprocess.run(["ip", "-6", "addr", "show", "eth0"], check=True, capture_output=True, text=True)
                with Netlink() as netlink:
                    return shown, martians, six.stdout, get_link(netlink, "eth0").up

            routes_shown, martians, six, up = netns.inside(fd, look)
            assert "default via 172.17.0.1 dev eth0" in routes_shown
            assert "10.8.0.0/16 via 172.17.0.9 dev eth0" in routes_shown
            assert martians == "1" and up
            assert six == ""  # no link-local address where no IPv6 was asked for
            with Netlink() as netlink:
                near = get_link(netlink, "veth2")
                assert near.up and near.master == get_link(netlink, "br0").index
                assert near.index == result["host_index"] and near.mtu == 1400
        finally:
            os.close(fd)

    netns.inside(host, work)


def test_a_failed_endpoint_leaves_nothing(host: int) -> None:
    """When the second endpoint fails, the first one's links are gone too, and the error names the step."""

    def work() -> None:
        _bridge()
        fd = sandbox.create_namespace()
        try:
            second = _plan(3, name="eth1", gateway="10.0.0.1")
            with pytest.raises(KernelError, match=r"add route to default via 10\.0\.0\.1 \(.*gateway\)"):
                sandbox.configure(fd, [_plan(2, gateway=""), second])
            assert _names() == {"lo", "br0"}
            with pytest.raises(KernelError, match="look up link nope: no such device"):
                sandbox.configure(fd, [_plan(bridge="nope")])
            with pytest.raises(InvalidArgument, match="mac address"):
                sandbox.configure(fd, [_plan(mac="02:42:ac:11:00:2")])
            with pytest.raises(InvalidArgument, match="sysctl"):
                sandbox.configure(fd, [_plan(sysctls={"net.ipv4/../../kernel.hostname": "x"})])
            with pytest.raises(InvalidArgument, match="interface name"):
                sandbox.configure(fd, [_plan(host_name="a" * 16)])
            assert _names() == {"lo", "br0"}
        finally:
            os.close(fd)

    netns.inside(host, work)


def test_links_are_removed_by_name(host: int) -> None:
    """`remove_host_links` deletes what is there, and what is not there is fine."""

    def work() -> None:
        _bridge()
        fd = sandbox.create_namespace()
        try:
            sandbox.configure(fd, [_plan(2)])
            sandbox.remove_host_links(["gone", "veth2"])
            assert _names() == {"lo", "br0"}
        finally:
            os.close(fd)

    netns.inside(host, work)


def test_the_sandbox_imports_almost_nothing() -> None:
    """What the monitor imports for its network keeps to the import budget."""
    heavy = [
        "typing",
        "dataclasses",
        "enum",
        "re",
        "pathlib",
        "logging",
        "subprocess",
        "msgspec",
        "asyncio",
        "contextlib",
    ]
    code = f"import sys; import wherry.network.sandbox; print([m for m in {heavy!r} if m in sys.modules])"
    source = str(Path(sandbox.__file__).parents[2])
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {source!r}); {code}"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


def test_several_requests_fail_by_name(host: int) -> None:
    """Of a batch the first failure is raised with the kernel's explanation; the rest was tried."""

    def work() -> None:
        with Netlink() as netlink:
            wrong = add_route(1, gateway="203.0.113.1")
            with pytest.raises(KernelError, match=r"add route to default via 203\.0\.113\.1") as caught:
                netlink.run([wrong, add_address(1, "198.51.100.1/32"), set_link(99, up=True)])
            assert caught.value.errno == errno.ENETUNREACH
            assert (1, "198.51.100.1/32") in addresses(netlink)
            with pytest.raises(KernelError, match="change link 99: no such device"):
                netlink.run([set_link(99, up=True)])
            assert [link.name for link in links(netlink)] == ["lo"]

    netns.inside(host, work)


def test_the_bridge_is_stable_over_restarts(host: int, roots: Roots) -> None:
    """A restarted engine finds its bridge, id and subnet again, also after the bridge itself went."""

    def work() -> None:
        first = Bridge(roots, Config())
        first.ensure()
        assert first.subnet == "172.17.0.0/16" and first.gateway == "172.17.0.1"
        endpoint = first.allocate("a" * 64)
        assert endpoint.cidr == "172.17.0.2/16" and endpoint.mac == "02:42:ac:11:00:02"
        kept = endpoint.to_json()
        with pytest.raises(Forbidden, match="active endpoints"):
            first.remove()

        second = Bridge(roots, Config())
        second.ensure()
        assert (second.id, second.subnet) == (first.id, first.subnet)
        second.reserve(Endpoint.from_json(kept))
        assert second.allocate("b" * 64).address == "172.17.0.3"
        with pytest.raises(Forbidden, match="Address already in use"):
            second.allocate("c" * 64, ip="172.17.0.2")
        shown = second.inspect(lambda container_id: container_id[0] * 3)
        assert shown["Containers"]["a" * 64]["Name"] == "aaa"
        assert shown["IPAM"]["Config"] == [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]
        second.release("a" * 64)
        second.release("b" * 64)
        assert second.release("b" * 64) is None
        second.remove()
        second.remove()
        assert _names() == {"lo"}

        third = Bridge(roots, Config())
        third.ensure()
        assert (third.id, third.subnet) == (first.id, first.subnet)

    netns.inside(host, work)


def test_the_bridge_moves_out_of_the_way(host: int, roots: Roots, tmp_path: Path) -> None:
    """A subnet that another link or route has meanwhile is given up; two engines never share one; bip is obeyed."""

    def work() -> None:
        Bridge(roots, Config()).ensure()
        other = Bridge(Roots(str(tmp_path / "data2"), str(tmp_path / "run2")), Config())
        other.ensure()
        assert other.subnet == "172.18.0.0/16"
        bridge = Bridge(roots, Config())
        bridge.ensure()
        bridge.remove()
        with Netlink() as netlink:
            netlink.run([add_bridge("alien", mac="02:00:00:00:00:09")])
            netlink.run([add_address(get_link(netlink, "alien").index, "172.17.5.1/24")])
        moved = Bridge(roots, Config())
        moved.ensure()
        assert moved.subnet == "172.19.0.0/16"
        wanted = Bridge(roots, Config("10.9.0.1/24"))
        wanted.ensure()
        assert (wanted.subnet, wanted.gateway) == ("10.9.0.0/24", "10.9.0.1")
        assert wanted.allocate("d" * 64).cidr == "10.9.0.2/24"

    netns.inside(host, work)
    for bip in ("10.9.0.1", "10.9.0.0/24", "10.9.0.1/31", "nonsense", "fd00::1/64"):
        with pytest.raises(InvalidArgument, match="bip"):
            Bridge(roots, Config(bip))


def test_engines_that_start_together_choose_apart(host: int, tmp_path: Path) -> None:
    """Engines that choose their subnets at the same moment choose different ones."""
    bridges = [Bridge(Roots(str(tmp_path / f"d{n}"), str(tmp_path / f"r{n}")), Config()) for n in range(4)]

    def start(bridge: Bridge) -> None:
        netns.inside(host, bridge.ensure)

    threads = [threading.Thread(target=start, args=(bridge,)) for bridge in bridges]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({bridge.subnet for bridge in bridges}) == 4


def test_strays_are_swept_and_live_links_kept(host: int, roots: Roots) -> None:
    """At start-up links of ours that nobody owns go, others stay; a live container keeps the bridge its address."""

    def work() -> None:
        bridge = Bridge(roots, Config())
        bridge.ensure()
        live, dead = bridge.allocate("a" * 64), bridge.allocate("b" * 64)
        fds = [sandbox.create_namespace() for _ in range(2)]
        try:
            for fd, endpoint in zip(fds, (live, dead), strict=True):
                sandbox.configure(fd, [endpoint.plan()])
            again = Bridge(roots, Config("10.9.0.1/24"))
            again.ensure()
            assert again.subnet == bridge.subnet
            again.reserve(live)
            owner = again.allocate("c" * 64).plan() | {"host_name": "lan-of-owner"}
            sandbox.configure(fds[0], [owner | {"name": "eth1", "gateway": ""}])
            assert again.sweep() == [dead.host_name]
            assert _names() == {"lo", again.link_name, live.host_name, "lan-of-owner"}
        finally:
            for fd in fds:
                os.close(fd)

    netns.inside(host, work)


def test_forwarding_is_switched_on_and_noted(host: int, roots: Roots) -> None:
    """The host forwards afterwards, the bridge routes to loopback, and the record says that forwarding was off."""

    def work() -> None:
        forward = Path("/proc/sys/net/ipv4/ip_forward")
        forward.write_text("0")
        bridge = Bridge(roots, Config())
        bridge.ensure()
        assert forward.read_text() == "1\n"
        assert Path(f"/proc/sys/net/ipv4/conf/{bridge.link_name}/route_localnet").read_text() == "1\n"

    netns.inside(host, work)
    assert b'"forwarding_was_off": "1"' in Path(f"{roots.data}/networks/bridge.json").read_bytes()


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def test_a_held_port_is_nobody_elses(host: int) -> None:
    """Another program cannot listen on a held port, nor take it for UDP; closing the descriptor gives it back."""

    def work() -> None:
        ports = HostPorts()
        requests = [PortRequest("tcp", 80, first=8080), PortRequest("udp", 80, first=8080)]
        held = ports.allocate("a", requests, "172.17.0.2", "web (1)")
        for address in ("0.0.0.0", "127.0.0.1"):
            with pytest.raises(OSError, match="in use"):
                _listen(address, 8080)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker:
                taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    taker.bind((address, 8080))
        for one in held:
            one.close()
        _listen("0.0.0.0", 8080).close()

    netns.inside(host, work)


def test_a_taken_port_is_dockers_error(host: int) -> None:
    """Ours already, another program's, an address that is not here: each in Docker's words, and nothing stays held."""

    def work() -> None:
        ports = HostPorts()
        kept = ports.allocate("a", [PortRequest("tcp", 80, first=8080)], "172.17.0.2", "web (1)")
        prefix = r"^driver failed programming external connectivity on endpoint two \(2\): "
        with pytest.raises(
            PortUnavailable, match=prefix + r"Bind for 0\.0\.0\.0:8080 failed: port is already allocated$"
        ):
            ports.allocate(
                "b", [PortRequest("tcp", 81, first=9000), PortRequest("tcp", 80, first=8080)], "172.17.0.3", "two (2)"
            )
        _listen("0.0.0.0", 9000).close()
        with pytest.raises(PortUnavailable, match=r"Bind for 127\.0\.0\.1:8080 failed"):
            ports.allocate("b", [PortRequest("tcp", 80, "127.0.0.1", 8080)], "172.17.0.3", "two (2)")
        listener = _listen("127.0.0.1", 9001)
        with (
            listener,
            pytest.raises(
                PortUnavailable,
                match=prefix
                + r"failed to bind host port for 0\.0\.0\.0:9001:172\.17\.0\.3:80/tcp: address already in use$",
            ),
        ):
            ports.allocate("b", [PortRequest("tcp", 80, first=9001)], "172.17.0.3", "two (2)")
        with pytest.raises(PortUnavailable, match="cannot assign requested address"):
            ports.allocate("b", [PortRequest("tcp", 80, "203.0.113.7", 9002)], "172.17.0.3", "two (2)")
        ports.release("b", [one.port for one in kept])  # not b's
        with pytest.raises(PortUnavailable, match="already allocated"):
            ports.allocate("b", [PortRequest("tcp", 80, first=8080)], "172.17.0.3", "two (2)")
        ports.release("a", [one.port for one in kept])
        for one in kept:
            one.close()
        for again in ports.allocate("b", [PortRequest("tcp", 80, first=8080)], "172.17.0.3", "two (2)"):
            again.close()

    netns.inside(host, work)


def test_ranges_and_free_choice(host: int) -> None:
    """A range gives its first free port, an empty wish one of the ephemeral range; what others hold is passed over."""

    def work() -> None:
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40003")
        ports = HostPorts()
        held = []
        with _listen("0.0.0.0", 8001), _listen("0.0.0.0", 40001):
            wishes = [PortRequest("tcp", 80, first=8000, last=8003)] * 3 + [PortRequest("tcp", 81)] * 3
            held = ports.allocate("a", wishes, "172.17.0.2", "web (1)")
            # on both families, IPv6 for the relay
            assert [one.port.host_port for one in held[::2]] == [8000, 8002, 8003, 40000, 40002, 40003]
            assert [one.port.host_port for one in held[1::2]] == [8000, 8002, 8003, 40000, 40002, 40003]
            for wish in (wishes[0], wishes[3]):
                with pytest.raises(WherryError, match="all ports are allocated"):
                    ports.allocate("b", [wish], "172.17.0.3", "two (2)")
        for one in held[8:10]:
            ports.release("a", [one.port])
            one.close()
        following = ports.allocate("b", [wishes[3]], "172.17.0.3", "two (2)")
        assert following[0].port.host_port in (40001, 40002)
        for one in [*held, *following]:
            one.close()

    netns.inside(host, work)


def test_adopted_ports_count_as_taken(host: int) -> None:
    """After a restart the monitors hold the sockets: `reserve` alone makes the engine refuse the port."""

    def work() -> None:
        ports = HostPorts()
        port = PublishedPort("tcp", "0.0.0.0", 8080, "172.17.0.2", 80)
        ports.reserve("a", [port])
        ports.reserve("a", [port])
        with pytest.raises(PortUnavailable):
            ports.reserve("b", [port])
        with pytest.raises(PortUnavailable, match="already allocated"):
            ports.allocate("b", [PortRequest("tcp", 80, first=8080)], "172.17.0.3", "two (2)")

    netns.inside(host, work)
