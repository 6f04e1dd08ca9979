"""The way out of this host, whose MTU the networks follow: what it is, and when it changes."""

from wherry.linux.netlink import NETLINK_ROUTE, Netlink, News
from wherry.linux.rtnetlink import concerns_default_route, concerns_link, default_routes, links

USUAL_MTU = 1500
_LINKS, _IPV4_ROUTES, _IPV6_ROUTES = 1 << 0, 1 << 6, 1 << 10  # RTMGRP_LINK, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE


class Uplink:
    """What containers go out by: the link's index, -1 where there is none, and the MTU for containers."""

    __slots__ = ("index", "mtu")

    def __init__(self, index: int = -1, mtu: int = USUAL_MTU) -> None:
        self.index = index
        self.mtu = mtu


def find(netlink: Netlink) -> Uplink:
    """Look for the way out; its MTU counts where it is smaller than the usual one."""
    ways = default_routes(netlink)
    if not ways:
        return Uplink()
    _, index, mtu = min(ways)
    own = next((link.mtu for link in links(netlink) if link.index == index), USUAL_MTU)
    return Uplink(index, min(mtu or own, USUAL_MTU))


class UplinkWatch(News):
    """Becomes readable when links or routes change.

    Attributes:
        index: the link that matters besides default routes; whoever looks for the uplink sets it.

    Raises:
        KernelError: the kernel gives no such news.
    """

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE, _LINKS | _IPV4_ROUTES | _IPV6_ROUTES, "links and routes")
        self.index = -1

    def drain(self) -> bool:
        """Take all news; says whether the uplink may be another, or have another MTU.

        Containers' links come and go all the time, and matter nothing.
        """
        news = self.read()
        return news is None or any(
            concerns_default_route(kind, body) or concerns_link(kind, body, self.index) for kind, body in news
        )
