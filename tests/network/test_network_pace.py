"""What a container's network costs, compared with what the kernel needs at the same moment."""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from wherry.linux import netns
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import add_address, add_bridge, add_veth, get_link
from wherry.network import sandbox

pytestmark = pytest.mark.root


@pytest.fixture
def host() -> Iterator[int]:
    """A network namespace that plays the host."""
    fd = sandbox.create_namespace()
    try:
        yield fd
    finally:
        os.close(fd)


def test_a_sandbox_is_fast(host: int) -> None:
    """Namespace, links, addresses and route take 1.4 times what the kernel needs for a namespace and links alone."""

    def bare(number: int) -> int:
        fd = netns.create(lambda: None)
        with Netlink() as netlink:
            below, mac = get_link(netlink, "br0").index, f"02:42:ac:11:01:{number:02x}"
            netlink.run([add_veth(f"bare{number}", master=below, peer="eth0", peer_netns=fd, peer_mac=mac, mtu=1400)])
        return fd

    def whole(number: int) -> int:
        fd = sandbox.create_namespace()
        endpoint = {
            "host_name": f"veth{number}",
            "name": "eth0",
            "mac": f"02:42:ac:11:00:{number:02x}",
            "mtu": 1400,
            "bridge": "br0",
            "addresses": [f"172.17.0.{number}/16"],
            "gateway": "172.17.0.1",
        }
        sandbox.configure(fd, [endpoint])
        return fd

    def work() -> list[float]:
        with Netlink() as netlink:
            netlink.run([add_bridge("br0", mac="02:42:00:00:00:01")])
            netlink.run([add_address(get_link(netlink, "br0").index, "172.17.0.1/16")])
        times: dict[Callable[[int], int], list[float]] = {bare: [], whole: []}
        fds = []
        try:
            for number in range(2, 12):
                for make, taken in times.items():
                    began = time.perf_counter()
                    fds.append(make(number))
                    taken.append(time.perf_counter() - began)
        finally:
            for fd in fds:
                os.close(fd)
        return [min(taken) for taken in times.values()]

    control, sandboxed = netns.inside(host, work)
    assert sandboxed < 4 * control, (sandboxed, control)
