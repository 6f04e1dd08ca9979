"""Why something cannot be reached, in words: route, rule, name, listener. Looks, and changes nothing. Blocking."""

import os
from collections.abc import Sequence

from wherry.errors import KernelError
from wherry.linux import netns
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import addresses, default_routes, links
from wherry.network.endpoint import Endpoint
from wherry.network.gateway import leaving
from wherry.network.ports import PublishedPort, bracketed, is_wildcard

_LISTENING, _BOUND = "0A", "07"  # states of /proc/net: a TCP listener, a UDP socket without a peer


class Finding:
    """One thing that was looked at: whether it is as it should be, and what it is."""

    __slots__ = ("ok", "text")

    def __init__(self, ok: bool, text: str) -> None:
        self.ok = ok
        self.text = text


def host(endpoints: Sequence[Endpoint]) -> list[Finding]:
    """What of the host matters to a container: forwarding, a way out, the bridges and their ports."""
    found = [_switch("/proc/sys/net/ipv4/ip_forward", "IPv4")]
    if any(endpoint.address6 for endpoint in endpoints):
        found.append(_switch("/proc/sys/net/ipv6/conf/all/forwarding", "IPv6"))
    with Netlink() as netlink:
        present = {link.name: link for link in links(netlink)}
        ways = default_routes(netlink)
    way_out = any(not endpoint.internal for endpoint in endpoints)
    if way_out and not ways:
        found.append(Finding(False, "this host has no default route: containers reach its own networks only"))
    for endpoint in endpoints:
        below = present.get(endpoint.bridge)
        what = "bridge" if endpoint.kind == "bridge" else "parent interface"
        if below is None:
            found.append(Finding(False, f"the {what} {endpoint.bridge} of network {endpoint.network} is gone"))
            continue
        if not below.up:
            found.append(Finding(False, f"the {what} {endpoint.bridge} of network {endpoint.network} is down"))
        port = present.get(endpoint.host_name)
        if endpoint.host_name and (port is None or port.master != below.index or not port.up):
            state = "gone" if port is None else "down" if not port.up else "not a port of it"
            found.append(Finding(False, f"the link {endpoint.host_name} to bridge {endpoint.bridge} is {state}"))
        elif below.up:
            found.append(Finding(True, f"network {endpoint.network}: {what} {endpoint.bridge} is up"))
    return found


def _switch(path: str, family: str) -> Finding:
    with open(path, encoding="ascii") as file:
        on = file.read().strip() == "1"
    return Finding(on, f"this host {'forwards' if on else 'does not forward'} {family}")


def inside(pid: int, endpoints: Sequence[Endpoint]) -> list[Finding]:
    """What a container's own namespace has: addresses, and the way out.

    Args:
        pid: process 1.
        endpoints: what it should have.
    """
    try:
        there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return [Finding(False, "the container has ended meanwhile")]
    try:
        with netns.inside(there, Netlink) as netlink:
            names = {link.index: link for link in links(netlink)}
            held = {text.partition("/")[0] for _, text in addresses(netlink)}
            ways = default_routes(netlink)
    except KernelError as error:
        return [Finding(False, f"the container's network cannot be looked at: {error}")]
    finally:
        os.close(there)
    found = []
    by_name = {link.name: link for link in names.values()}
    for endpoint in endpoints:
        link = by_name.get(endpoint.name)
        mine = [address for address in (endpoint.address, endpoint.address6) if address]
        missing = [address for address in mine if address not in held]
        if link is None or not link.up:
            state = "gone" if link is None else "down"
            found.append(Finding(False, f"{endpoint.name} ({endpoint.network}) is {state} inside the container"))
        elif missing:
            found.append(Finding(False, f"{endpoint.name} ({endpoint.network}) has lost {', '.join(missing)}"))
        else:
            found.append(Finding(True, f"{endpoint.name} ({endpoint.network}) has {', '.join(mine)}"))
    return [*found, _way_out(endpoints, [names[index].name for _, index, _ in ways if index in names])]


def _way_out(endpoints: Sequence[Endpoint], ways: Sequence[str]) -> Finding:
    wanted = leaving(endpoints)
    if wanted is None:
        internal = [endpoint.network for endpoint in endpoints if endpoint.internal]
        if internal:
            return Finding(True, f"nothing outside is reached, by intent: {', '.join(internal)} is internal")
        return Finding(True, "it is on no network with a way out")
    if wanted.name not in ways:
        return Finding(False, f"its default route through {wanted.name} ({wanted.network}) is gone")
    return Finding(True, f"its way out is {wanted.gateway} through {wanted.name} ({wanted.network})")


def listener(pid: int, port: int, protocol: str) -> Finding:
    """Whether something listens on a container's port, where others can reach it."""
    heard: set[str] = set()
    readable = False
    state = _LISTENING if protocol == "tcp" else _BOUND
    for family in ("", "6"):
        try:
            with open(f"/proc/{pid}/net/{protocol}{family}", encoding="ascii") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        readable = True
        for line in lines:
            words = line.split()
            address, _, number = words[1].partition(":")
            if words[3] == state and int(number, 16) == port:
                heard.add(address)
    if not readable:
        return Finding(True, f"who listens on {port}/{protocol} cannot be told")
    if not heard:
        return Finding(False, f"nothing listens on {port}/{protocol} inside the container")
    if all(_is_loopback(address) for address in heard):
        return Finding(
            False,
            f"{port}/{protocol} is listened on for the container's own loopback only: let it listen on 0.0.0.0",
        )
    return Finding(True, f"something listens on {port}/{protocol} inside the container")


def _is_loopback(address: str) -> bool:
    """Of the hexadecimal addresses of /proc/net, which has each group of four bytes in the machine's order."""
    return address in ("00000000000000000000000001000000",) or (len(address) == 8 and address.endswith("7F"))


def published(ports: Sequence[PublishedPort], port: int, protocol: str, *, asks: bool) -> list[Finding]:
    """Where on the host a container's port is published.

    Args:
        asks: whether the host's own input rules are asked (`publish-policy`).
    """
    mine = [one for one in ports if one.container_port == port and one.protocol == protocol]
    if not mine:
        return [
            Finding(
                True,
                f"{port}/{protocol} is not published on this host: only containers of its networks reach it"
                f" (-p {port}:{port} publishes it, for a new container)",
            )
        ]
    found = []
    for one in mine:
        where = f"{bracketed(one.host_ip)}:{one.host_port}"
        leads = f"{where} leads to {bracketed(one.container_ip)}:{one.container_port}"
        if one.host_ip.startswith("127."):
            found.append(Finding(True, f"{leads}, for this host only"))
        elif is_wildcard(one.host_ip):
            found.append(Finding(True, f"{leads}, from everywhere"))
        else:
            found.append(Finding(True, f"{leads}, through that address of the host only"))
    if asks:
        found.append(Finding(True, "from outside the host's own input rules decide (publish-policy is host-firewall)"))
    return found
