"""Which hosts a Dockerfile may send the engine to: not the engine's own machine, its link, or a cloud's metadata.

Whoever writes a Dockerfile, or the server that it names, is no user of the machine that builds it. Names are judged by
the addresses that they have, at each connection, so that a name that changes its mind wins nothing. The owner of the
engine may allow hosts: `builder.allowed-hosts` of daemon.json.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from wherry.distribution.guard import Blocked
from wherry.errors import Forbidden, InvalidArgument

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_METADATA = tuple(
    ipaddress.ip_network(text) for text in ("fd00:ec2::254/128", "168.63.129.16/32", "100.100.100.200/32")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_WHY = "a build may not reach it unless builder.allowed-hosts of daemon.json names it"


class Reach:
    """What builds may reach.

    Args:
        allowed: names, addresses and networks that they may reach wherever that is.

    Raises:
        InvalidArgument: one that is none of these.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for word in allowed:
            try:
                self._networks.append(ipaddress.ip_network(word.strip("[]"), strict=False))
            except ValueError:
                if not word or not all(char.isalnum() or char in "-._" for char in word):
                    raise InvalidArgument(
                        f"daemon.json: builder.allowed-hosts: {word!r} is no host and no network"
                    ) from None
                self._names.add(word.lower())

    def check(self, host: str, address: str) -> None:
        """Judge one address of a host before it is connected to.

        Raises:
            Blocked: and why.
        """
        found = read(address)
        if found is None or not closed(found) or host.lower().rstrip(".") in self._names:
            return
        plain = _plain(found)
        if any(
            one in network for network in self._networks for one in (found, plain) if one.version == network.version
        ):
            return
        raise Blocked(f"{host} leads to {address}: {_WHY}" if host != address else f"{address}: {_WHY}")

    def check_host(self, host: str) -> None:
        """Judge a host that may be an address as it is written; a name is judged when it is resolved.

        Raises:
            Forbidden: and why.
        """
        if read(host) is not None:
            try:
                self.check(host, host)
            except Blocked as error:
                raise Forbidden(str(error)) from None


def settings(builder: Mapping[str, Any]) -> Reach:
    """What `builder.allowed-hosts` of daemon.json says.

    Raises:
        InvalidArgument: it is no list of hosts.
    """
    allowed = builder.get("allowed-hosts", [])
    if not isinstance(allowed, list) or not all(isinstance(word, str) for word in allowed):
        raise InvalidArgument("daemon.json: builder.allowed-hosts is no list of hosts")
    return Reach(allowed)


def closed(address: Address) -> bool:
    """Whether an address is the machine's own, of its link, or a cloud's metadata service."""
    plain = _plain(address)
    return (
        plain.is_loopback
        or plain.is_link_local
        or plain.is_unspecified
        or plain.is_multicast
        or (plain.version == 4 and plain in ipaddress.IPv4Network("0.0.0.0/8"))
        or any(plain in network for network in _METADATA if network.version == plain.version)
    )


def read(host: str) -> Address | None:
    """The address that a host is, if it is one."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if address.version == 4:
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour or address
