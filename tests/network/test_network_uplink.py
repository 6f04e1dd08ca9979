"""The way out of a host: which it is, and which news of links and routes matter to it."""

import os
import select
import socket
from collections.abc import Iterator, Sequence

import pytest

from wherry.linux import netns
from wherry.linux.netlink import Netlink, Request
from wherry.linux.rtnetlink import (
    add_address,
    add_bridge,
    add_route,
    add_veth,
    delete_default_route,
    delete_link,
    get_link,
    set_link,
)
from wherry.network import uplink
from wherry.network.uplink import UplinkWatch

pytestmark = pytest.mark.root


class Host:
    """A namespace with a link `up0` of MTU 1400, and the other end of it."""

    def __init__(self) -> None:
        self.there, self.far = netns.create(), netns.create()
        pair = add_veth("up0", master=0, peer="far0", peer_netns=self.far, peer_mac="02:00:00:00:00:01", mtu=1400)
        self.change([pair])
        self.index = self.index_of("up0")
        self.change([set_link(self.index, up=True), add_address(self.index, "192.0.2.1/24")])
        self.watch = netns.inside(self.there, UplinkWatch)

    def change(self, requests: Sequence[Request]) -> None:
        """Have the kernel carry out requests there."""

        def run() -> None:
            with Netlink() as netlink:
                netlink.run(requests)

        netns.inside(self.there, run)

    def index_of(self, name: str) -> int:
        """The index of a link there."""

        def look() -> int:
            with Netlink() as netlink:
                return get_link(netlink, name).index

        return netns.inside(self.there, look)

    def found(self) -> tuple[int, int]:
        """Index and MTU of the uplink; the watch learns which it is."""

        def find() -> uplink.Uplink:
            with Netlink() as netlink:
                return uplink.find(netlink)

        one = netns.inside(self.there, find)
        self.watch.index = one.index
        return one.index, one.mtu

    def told(self) -> bool:
        """Whether there was news that matters; there was some."""
        assert select.select([self.watch], [], [], 5.0)[0]
        return self.watch.drain()

    def close(self) -> None:
        """Let both namespaces die."""
        self.watch.close()
        os.close(self.there)
        os.close(self.far)


@pytest.fixture
def host() -> Iterator[Host]:
    """The host."""
    made = Host()
    try:
        yield made
    finally:
        made.close()


def test_which_it_is(host: Host) -> None:
    """Without a default route the usual MTU; with one the link's, or the route's own."""
    assert host.found() == (-1, 1500)
    host.change([add_route(host.index, gateway="192.0.2.2")])
    assert host.found() == (host.index, 1400)
    host.change([set_link(host.index, mtu=9000)])
    assert host.found() == (host.index, 1500)


def test_which_news_matter(host: Host) -> None:
    """Default routes and the uplink's own link do, containers' links and networks' routes do not."""
    host.change([add_route(host.index, gateway="192.0.2.2")])
    assert host.told()
    host.found()
    host.change([add_bridge("br0", mac="02:00:00:00:00:09")])
    bridge = host.index_of("br0")
    ports = add_veth("p0", master=bridge, peer="eth0", peer_netns=host.far, peer_mac="02:00:00:00:00:02", mtu=1500)
    host.change([add_address(bridge, "10.9.0.1/24"), ports, delete_link("p0"), set_link(bridge, mtu=1300)])
    assert not host.told()
    host.change([set_link(host.index, mtu=1300)])
    assert host.told()
    host.change([delete_default_route(socket.AF_INET)])
    assert host.told()


def test_news_that_were_lost(host: Host) -> None:
    """More than the socket holds: something may have been among them."""
    host.found()
    for _ in range(60):
        host.change([add_bridge(f"br{number}", mac="02:00:00:00:00:09") for number in range(20)])
        host.change([delete_link(f"br{number}") for number in range(20)])
        if host.watch.drain():
            return
    pytest.fail("the socket held it all")
