"""Ethernet frames as a hostile container would make them, byte by byte."""

import socket
import struct

BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES_MAC, ALL_NODES = "33:33:00:00:00:01", "ff02::1"
ARP, IPV4, IPV6, TAG, EXPERIMENTAL = 0x0806, 0x0800, 0x86DD, 0x8100, 0x88B5
REQUEST, REPLY = 1, 2
ROUTER_SOLICITATION, SOLICITATION, ADVERTISEMENT, MLD_REPORT = 133, 135, 136, 131
_UDP, _ICMPV6 = 17, 58


def packed_mac(text: str) -> bytes:
    """The six bytes of a MAC."""
    return bytes.fromhex(text.replace(":", ""))


def ethernet(source: str, kind: int, payload: bytes, *, to: str = BROADCAST, tags: int = 0) -> bytes:
    """A frame; with `tags` it has that many 802.1Q tags of VLAN 0, which a receiver takes as if there were none."""
    return packed_mac(to) + packed_mac(source) + struct.pack("!HH", TAG, 0) * tags + struct.pack("!H", kind) + payload


def arp(operation: int, mac: str, address: str, asked: str, asked_mac: str = "00:00:00:00:00:00") -> bytes:
    """An ARP message (RFC 826): `mac` says that it has `address`, to the one that has `asked`."""
    sender = packed_mac(mac) + socket.inet_aton(address)
    return struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + sender + packed_mac(asked_mac) + socket.inet_aton(asked)


def ipv4(source: str, target: str, port: int, data: bytes) -> bytes:
    """A UDP datagram in an IPv4 packet."""
    udp = struct.pack("!HHHH", 4444, port, 8 + len(data), 0) + data  # no checksum (RFC 768)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, _UDP, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + _checksum(head) + head[12:] + udp


def ipv6(source: str, target: str, port: int, data: bytes) -> bytes:
    """A UDP datagram in an IPv6 packet."""
    return _ipv6(source, target, _UDP, struct.pack("!HHHH", 4444, port, 8 + len(data), 0) + data, 6)


def icmpv6(source: str, target: str, kind: int, body: bytes) -> bytes:
    """An ICMPv6 message of a kind."""
    return _ipv6(source, target, _ICMPV6, struct.pack("!BBH", kind, 0, 0) + body, 2)


def advertisement(source: str, target: str, address: str, mac: str, data: bytes = b"") -> bytes:
    """A neighbour advertisement that `mac` has `address`, overriding what was known (RFC 4861, 4.4).

    Args:
        data: further options.
    """
    body = struct.pack("!I", 0x20000000) + socket.inet_pton(socket.AF_INET6, address)
    return icmpv6(source, target, ADVERTISEMENT, body + b"\x02\x01" + packed_mac(mac) + data)


def solicitation(source: str, address: str, data: bytes) -> bytes:
    """A neighbour solicitation of an address, to everybody; from `::` it asks whether somebody has it already."""
    return icmpv6(source, ALL_NODES, SOLICITATION, bytes(4) + socket.inet_pton(socket.AF_INET6, address) + data)


def _ipv6(source: str, target: str, protocol: int, body: bytes, place: int) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    total = _checksum(ends + struct.pack("!II", len(body), protocol) + body)
    body = body[:place] + total + body[place + 2 :]
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 255) + ends + body


def _checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", total ^ 0xFFFF)
