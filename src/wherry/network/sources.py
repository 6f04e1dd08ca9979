"""Which source addresses a container may use on a bridge: rules and elements of the firewall's table of family bridge.

Each port of a guarded bridge has elements, which say what frames from it may carry:

    macs     port . MAC                the source of every frame, and the sender of an ARP probe
    ipv4     port . MAC . address      the source of IPv4, the sender of ARP
    ipv6     port . MAC . address      the source of IPv6
    targets  port . MAC . address      what a neighbour advertisement may speak for (RFC 4861), in two halves
    exempt   port . device group       anything: its container administers networks (NET_ADMIN)

A frame from a port of the bridge's device group that matches none is dropped, so a port whose elements were deleted is
silent. Frames are judged before the bridge learns their source; those to addresses that IEEE 802.1D reserves pass no
chain, so bridges do not learn from them (`rtnetlink.no_local_learning`). A tagged frame is judged by what it carries,
as its receiver reads it; one with two tags is dropped.

The sets have several fields each: see `network.ruleset`. `targets` has the address in two halves because no one form
of it is read by both nftables 1.0 (`@th,64,128`) and 1.1 (`icmpv6 taddr`).
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

from wherry.linux.nfnetlink import NFPROTO_BRIDGE, Message, add_elements, delete_elements
from wherry.linux.rtnetlink import pack_mac
from wherry.network.endpoint import Endpoint
from wherry.network.ruleset import Protected, group_of

CHAIN = "sources"
"""The chain that judges."""

_SETS_AND_CHAINS = """\
table bridge {table} {{
  set macs {{ type ifname . ether_addr; }}
  set ipv4 {{ type ifname . ether_addr . ipv4_addr; }}
  set ipv6 {{ type ifname . ether_addr . ipv6_addr; }}
  set targets {{ typeof {target}; }}
  set exempt {{ type ifname . devgroup; }}

  chain entering {{ type filter hook prerouting priority -300; policy accept; }}
  chain {chain} {{ }}
}}
flush chain bridge {table} entering
flush chain bridge {table} {chain}
"""
_RULES = """\
table bridge {table} {{
  chain entering {{
    iifgroup {groups} jump {chain}
  }}
  chain {chain} {{
    meta protocol ip iifname . ether saddr . ip saddr @ipv4 accept
    iifname . iifgroup @exempt accept
    meta protocol arp iifname . ether saddr . arp saddr ip @ipv4 iifname . arp saddr ether . arp saddr ip @ipv4 accept
    meta protocol arp arp operation request arp saddr ip 0.0.0.0 {mac} iifname . arp saddr ether @macs accept
    meta protocol ip6 icmpv6 type nd-neighbor-advert {target} != @targets drop
    meta protocol ip6 iifname . ether saddr . ip6 saddr @ipv6 accept
    meta protocol ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit {target} @targets accept
    meta protocol ip6 ip6 saddr :: icmpv6 type {unspecified} {mac} accept
    meta protocol {{ ip, arp, ip6, 8021q, 8021ad }} drop
    {mac} accept
    drop
  }}
}}
"""
# what a host without an address may send (RFC 4861, 3810, 2710): router solicitations and reports of multicast groups
_UNSPECIFIED = "{ nd-router-solicit, mld-listener-report, mld-listener-done, mld2-listener-report }"
_TARGET = "iifname . ether saddr . @th,64,64 . @th,128,64"
_MAC = "iifname . ether saddr @macs"
_HALF = 8


class BridgePort:
    """One port of a bridge, and what its container has there.

    Args:
        name: of the link on the host.
        bridge: its bridge's.
        mac, addresses: the container's, the addresses without prefix lengths.
        administers: the container may change its network (NET_ADMIN).
    """

    __slots__ = ("addresses", "administers", "bridge", "mac", "name")

    def __init__(self, name: str, bridge: str, mac: str, addresses: Iterable[str], *, administers: bool) -> None:
        self.name = name
        self.bridge = bridge
        self.mac = mac
        self.addresses = tuple(dict.fromkeys([*addresses, link_local(mac)]))
        self.administers = administers


def ports_of(endpoints: Iterable[Endpoint], *, administers: bool) -> list[BridgePort]:
    """Give the bridge ports among a container's endpoints, with the addresses that it was given.

    Args:
        administers: as of `BridgePort`.
    """
    found = []
    for one in endpoints:
        if one.kind == "bridge":
            given = [one.address, one.address6, *one.link_local]
            addresses = [text.partition("/")[0] for text in given if text]
            found.append(BridgePort(one.host_name, one.bridge, one.mac, addresses, administers=administers))
    return found


def link_local(mac: str) -> str:
    """Give the link-local IPv6 address that the kernel makes of a MAC (RFC 4291, appendix A)."""
    packed = pack_mac(mac)
    interface = bytes([packed[0] ^ 2]) + packed[1:3] + b"\xff\xfe" + packed[3:]
    return socket.inet_ntop(socket.AF_INET6, b"\xfe\x80" + bytes(6) + interface)


def guarded(networks: Iterable[Protected]) -> dict[str, str]:
    """Give the bridges whose ports are judged: name -> `on` or `strict`."""
    return {network.bridge: network.spoof_protection for network in networks if network.spoof_protection != "off"}


def render_sources(table: str, bridges: Iterable[str]) -> str:
    """Write the rules for the ports of these bridges in the place of those that are there; elements stay."""
    groups = ", ".join(str(group_of(bridge)) for bridge in bridges)
    text = _SETS_AND_CHAINS + (_RULES if groups else "")
    return text.format(
        table=table, chain=CHAIN, groups=f"{{ {groups} }}", target=_TARGET, mac=_MAC, unspecified=_UNSPECIFIED
    )


def render_source_elements(table: str, ports: Iterable[BridgePort], bridges: Mapping[str, str]) -> str:
    """Write the commands that add the elements of ports; `bridges` as `guarded` gives them."""
    lines = []
    for port in ports:
        for name, fields in _elements(port, bridges):
            lines.append(f"add element bridge {table} {name} {{ {' . '.join(map(_text, fields))} }}")
    return "\n".join(lines)


def source_messages(
    table: str, ports: Sequence[BridgePort], bridges: Mapping[str, str], *, add: bool
) -> Iterator[Message]:
    """Give the messages that add or delete the elements of ports; `bridges` as `guarded` gives them."""
    keys: dict[str, list[tuple[bytes, bytes]]] = {}
    for port in ports:
        for name, fields in _elements(port, bridges):
            keys.setdefault(name, []).append((b"".join(map(_packed, fields)), b""))
    change = add_elements if add else delete_elements
    for name, elements in keys.items():
        yield from change(NFPROTO_BRIDGE, table, name, elements)


class _Field:
    """One field of a concatenation, in nft's language and as the kernel has it (filled up to four bytes)."""

    __slots__ = ("packed", "text")

    def __init__(self, text: str, packed: bytes) -> None:
        self.text = text
        self.packed = packed


def _text(field: _Field) -> str:
    return field.text


def _packed(field: _Field) -> bytes:
    return field.packed


def _elements(port: BridgePort, bridges: Mapping[str, str]) -> Iterator[tuple[str, tuple[_Field, ...]]]:
    """Give set and key of each element of a port."""
    name = _Field(f'"{port.name}"', port.name.encode().ljust(16, b"\0"))
    if port.administers and bridges[port.bridge] == "on":
        group = group_of(port.bridge)
        yield "exempt", (name, _Field(str(group), struct.pack("=I", group)))
        return
    mac = _Field(port.mac, pack_mac(port.mac).ljust(8, b"\0"))
    yield "macs", (name, mac)
    for address in port.addresses:
        if ":" not in address:
            yield "ipv4", (name, mac, _Field(address, socket.inet_pton(socket.AF_INET, address)))
            continue
        packed = socket.inet_pton(socket.AF_INET6, address)
        yield "ipv6", (name, mac, _Field(address, packed))
        halves = (packed[:_HALF], packed[_HALF:])
        yield "targets", (name, mac, *(_Field(f"0x{half.hex()}", half) for half in halves))
