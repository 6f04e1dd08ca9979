"""The bridge devices of this machine: made, addressed, swept and removed. Blocking, a few milliseconds each."""

import errno
import hashlib
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from wherry.errors import Conflict, KernelError
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import (
    Link,
    add_address,
    add_bridge,
    addresses,
    delete_address,
    delete_link,
    get_link,
    links,
    no_local_learning,
    routes,
    set_link,
)
from wherry.network.resolver import read_nameservers
from wherry.network.sandbox import remove_host_links

PORT = "veth"  # and ten hexadecimal digits: the name of a port of ours
_CHOICE_SECONDS = 3.0


def find(netlink: Netlink, name: str) -> Link | None:
    """Look a link up; None where there is none."""
    try:
        return get_link(netlink, name)
    except KernelError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def ensure(netlink: Netlink, name: str, wanted: Sequence[str]) -> None:
    """Make a bridge, or take over the one that is there: up, with exactly the global addresses `wanted`.

    Published ports need it to route to loopback addresses; IPv6 is on where it has an IPv6 address.

    Raises:
        Conflict: the name is that of a link of another kind.
        KernelError: a step failed.
    """
    link = find(netlink, name)
    ipv6 = any(":" in text for text in wanted)
    if link is None:
        mac = (b"\x02\x42" + hashlib.sha256(name.encode()).digest()[:4]).hex(":")
        # a MAC of its own: else it changes with each port that comes and goes
        # no MTU: the kernel gives it the smallest of its ports, which may differ when the uplink has changed
        netlink.run([add_bridge(name, mac=mac)])
        link = get_link(netlink, name)
    elif link.kind != "bridge":
        raise Conflict(f"interface {name} exists and is not a bridge")
    if ipv6:
        # routers' advertisements from containers must not configure the host
        _write(f"/proc/sys/net/ipv6/conf/{name}/accept_ra", "0")
    _write(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "0" if ipv6 else "1", needed=ipv6)
    present = [text for index, text in addresses(netlink) if index == link.index and not text.startswith("fe80:")]
    changes = [delete_address(link.index, text) for text in present if text not in wanted]
    changes += [add_address(link.index, text) for text in wanted if text not in present]
    netlink.run([*changes, no_local_learning(link.index), set_link(link.index, up=True)])
    _write(f"/proc/sys/net/ipv4/conf/{name}/route_localnet", "1")


def remove(name: str) -> None:
    """Delete a bridge; none there is fine."""
    with Netlink() as netlink:
        link = find(netlink, name)
        if link is not None and link.kind == "bridge":
            netlink.run([delete_link(name)])


def sweep(name: str, known: Iterable[str]) -> list[str]:
    """Delete ports of ours on a bridge that are not `known` (their engine was killed); returns their names.

    Up to 35 ms for each.
    """
    kept = set(known)
    with Netlink() as netlink:
        bridge = find(netlink, name)
        if bridge is None:
            return []
        # what the host's owner has put on the bridge stays
        ports = [link.name for link in links(netlink) if link.master == bridge.index and link.kind == "veth"]
    stray = [port for port in ports if _is_ours(port) and port not in kept]
    remove_host_links(stray)
    return stray


def group_ports(netlink: Netlink, name: str, group: int) -> None:
    """Put the ports of ours on a bridge into a device group."""
    bridge = get_link(netlink, name)
    ports = [link for link in links(netlink) if link.master == bridge.index and link.kind == "veth"]
    for port in ports:
        if _is_ours(port.name) and port.group != group:
            try:
                netlink.run([set_link(port.index, group=group)])
            except KernelError as error:
                if error.errno != errno.ENODEV:  # its container ended
                    raise


def in_use(netlink: Netlink, *, but: int = -1) -> list[str]:
    """What of the address space the host uses: addresses, routes, name servers; without those of link `but`."""
    taken = [text for at, text in addresses(netlink) + routes(netlink) if at != but]
    return taken + read_nameservers()


def forward(*, ipv6: bool = False) -> bool:
    """Have the host forward; says whether it did not before.

    A host that forwards IPv6 no longer listens to routers' advertisements, and loses its own way out: where it
    listened, it is told to go on.
    """
    path = "/proc/sys/net/ipv6/conf/all/forwarding" if ipv6 else "/proc/sys/net/ipv4/ip_forward"
    with open(path, "rb") as file:
        if file.read(1) == b"1":
            return False
    if ipv6:
        directory = "/proc/sys/net/ipv6/conf"
        for name in os.listdir(directory):
            if _read(f"{directory}/{name}/accept_ra") == "1":
                _write(f"{directory}/{name}/accept_ra", "2", needed=False)
    _write(path, "1")
    return True


def _is_ours(name: str) -> bool:
    digits = name.removeprefix(PORT)
    return len(digits) == 10 and digits != name and all(digit in "0123456789abcdef" for digit in digits)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _write(path: str, value: str, *, needed: bool = True) -> None:
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(value.encode())
    except OSError as error:
        if needed or error.errno != errno.ENOENT:
            raise KernelError(f"set {os.path.basename(path)}", error.errno or 0, path) from error


@contextmanager
def one_chooser() -> Iterator[None]:
    """Let one engine at a time choose a subnet: an abstract socket is unique in its network namespace, as routes are.

    Anybody can hold that name; after a few seconds we go on without it.
    """
    deadline = time.monotonic() + _CHOICE_SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as guard:
        while time.monotonic() < deadline:
            try:
                guard.bind("\0wherry-chooses-a-subnet")
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise KernelError("take turns in choosing a subnet", error.errno or 0) from error
                time.sleep(0.01)
        yield
