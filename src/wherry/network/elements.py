"""Published ports as elements of the firewall's maps: in nft's language, and as the kernel's messages.

The text goes into the transaction that builds a table; the messages change single ports of one that is there, and
need nobody's rules read. See `network.firewall` for what the maps mean.
"""

import socket
import struct
from collections.abc import Iterable, Iterator

from wherry.linux.nfnetlink import NFPROTO_IPV4, NFPROTO_IPV6, Message, add_elements, delete_elements
from wherry.network.ports import PublishedPort, is_wildcard

_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_SETS = {"everywhere": "offered", "addressed": "offered_at"}


def render_elements(table: str, ports: Iterable[PublishedPort], *, asks: bool = False) -> str:
    """Write the commands that add the elements of published ports; `asks` as of `ruleset.render`."""
    lines = []
    for port in ports:
        family = "ip6" if ":" in port.host_ip else "ip"
        key = f"{port.protocol} . {port.host_port}"
        if not is_wildcard(port.host_ip):
            key = f"{port.host_ip} . {key}"
        value = f"{port.container_ip} . {port.container_port}"
        lines.append(f"add element {family} {table} {_map_of(port)} {{ {key} : {value} }}")
        if asks:
            lines.append(f"add element {family} {table} {_SETS[_map_of(port)]} {{ {key} }}")
    return "\n".join(lines)


def messages(table: str, ports: Iterable[PublishedPort], *, add: bool, asks: bool = False) -> Iterator[Message]:
    """Give the messages that add or delete the elements of published ports; `asks` as of `ruleset.render`."""
    places: dict[tuple[int, str], list[tuple[bytes, bytes]]] = {}
    for port in ports:
        family = NFPROTO_IPV6 if ":" in port.host_ip else NFPROTO_IPV4
        key = struct.pack("=B3x", _PROTOCOLS[port.protocol]) + _number(port.host_port)
        if not is_wildcard(port.host_ip):
            key = _address(port.host_ip) + key
        value = _address(port.container_ip) + _number(port.container_port)
        places.setdefault((family, _map_of(port)), []).append((key, value))
        if asks:
            places.setdefault((family, _SETS[_map_of(port)]), []).append((key, b""))
    change = add_elements if add else delete_elements
    for (family, name), elements in places.items():
        yield from change(family, table, name, elements)


def _map_of(port: PublishedPort) -> str:
    return "everywhere" if is_wildcard(port.host_ip) else "addressed"


def _number(port: int) -> bytes:
    return struct.pack("!H2x", port)


def _address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
