"""Links, addresses and routes as netlink requests (rtnetlink(7)), and what the kernel tells about them.

The functions that change something only *describe* it: they return a `Request`, and `Netlink.run` carries out many at
once. Names and addresses are text, as `ip` shows them.
"""

import _socket
import struct

from wherry.errors import InvalidArgument
from wherry.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    attributes,
    string,
    text,
    u8,
    u16,
    u32,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_GROUP = 27
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_IFLA_BRPORT_MODE = 4
_VETH_INFO_PEER = 1
_IFLA_LINK, _IFLA_MACVLAN_MODE, _IFLA_IPVLAN_MODE = 5, 1, 1
_IFLA_BR_FORWARD_DELAY, _IFLA_BR_STP_STATE, _IFLA_BR_MULTI_BOOLOPT = 1, 5, 46
_BR_BOOLOPT_NO_LL_LEARN = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 6, 8, 15
_RTAX_MTU = 2
_RT_TABLE_MAIN, _RTPROT_BOOT = 254, 3
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_NOWHERE = 0, 253, 255
_RTN_UNICAST = 1
_IFF_UP = 1
_NAME_MAX = 15

_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, protocol, scope, type, flags


class Link:
    """A network interface, as the kernel tells it: `master` is an index (0: none), `mac` colon-separated or empty."""

    __slots__ = ("group", "index", "kind", "mac", "master", "mtu", "name", "up")

    def __init__(
        self, index: int, name: str, mac: str, mtu: int, master: int, kind: str, up: bool, group: int = 0
    ) -> None:
        self.index = index
        self.name = name
        self.mac = mac
        self.mtu = mtu
        self.master = master
        self.kind = kind
        self.up = up
        self.group = group


def split_address(address: str) -> "tuple[int, bytes, int]":
    """Take `172.17.0.2/16` (or without a length: a single address) apart: family, packed bytes, prefix length.

    Raises:
        InvalidArgument: it is no address.
    """
    host, _, length = address.partition("/")
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    try:
        packed = _socket.inet_pton(family, host)
        bits = int(length) if length else len(packed) * 8
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"invalid address {address!r}") from error
    if not 0 <= bits <= len(packed) * 8:
        raise InvalidArgument(f"invalid address {address!r}")
    return family, packed, bits


def pack_mac(mac: str) -> bytes:
    """Turn `02:42:ac:11:00:02` into its six bytes.

    Raises:
        InvalidArgument: it is no MAC address.
    """
    try:
        packed = bytes(int(part, 16) for part in mac.split(":") if len(part) == 2)
    except ValueError:
        packed = b""
    if len(packed) != 6 or len(mac) != 17:
        raise InvalidArgument(f"{mac} is not a valid mac address")
    return packed


def add_bridge(name: str, *, mac: str) -> Request:
    """Describe a new bridge, up, that forwards at once (no spanning tree)."""
    data = u32(_IFLA_BR_FORWARD_DELAY, 0) + u32(_IFLA_BR_STP_STATE, 0)
    body = _link(0, up=True) + _name(name) + attribute(_IFLA_ADDRESS, pack_mac(mac))
    body += _info("bridge", data)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add bridge {name}")


def no_local_learning(bridge: int) -> Request:
    """Have the bridge with this index learn no MAC from frames to addresses that IEEE 802.1D reserves.

    Such frames are not forwarded and pass no firewall rule: without this, any port could claim any MAC by one.
    """
    value_and_mask = struct.pack("=II", _BR_BOOLOPT_NO_LL_LEARN, _BR_BOOLOPT_NO_LL_LEARN)
    body = _link(bridge) + _info("bridge", attribute(_IFLA_BR_MULTI_BOOLOPT, value_and_mask))
    return Request(RTM_NEWLINK, 0, body, "set the bridge's learning")


def add_veth(name: str, *, master: int, peer: str, peer_netns: int, peer_mac: str, mtu: int, group: int = 0) -> Request:
    """Describe a pair of virtual Ethernet links: one here, up, a port of a bridge; its peer in another namespace.

    The peer is *made* in the other namespace: moving it there afterwards takes ten times as long. The kernel refuses
    to have it up before the pair is joined (ENOTCONN): its namespace sets it up.

    Args:
        name: name of the link on this side.
        master: index of the bridge that it joins (0: none).
        peer: name of the other end.
        peer_netns: descriptor of the other end's network namespace.
        peer_mac: MAC address of the other end.
        mtu: for both ends; 0 is the kernel's default.
        group: the device group of the link on this side (ip-link(8)); 0 is everybody's.
    """
    size = u32(_IFLA_MTU, mtu) if mtu else b""
    other = _link(0) + _name(peer) + attribute(_IFLA_ADDRESS, pack_mac(peer_mac)) + size
    other += u32(_IFLA_NET_NS_FD, peer_netns)
    body = _link(0, up=True) + _name(name) + size
    if master:
        body += u32(_IFLA_MASTER, master)
    if group:
        body += u32(_IFLA_GROUP, group)
    body += _info("veth", attribute(_VETH_INFO_PEER, other))
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add link {name} with peer {peer}")


def add_child(name: str, *, kind: str, mode: int, below: int, netns: int, mac: str, mtu: int) -> Request:
    """Describe a macvlan or ipvlan link, made in another namespace, over the link with index `below` of this one.

    Args:
        kind: `macvlan` or `ipvlan`.
        mode: macvlan: 1 private, 2 vepa, 4 bridge, 8 passthru; ipvlan: 0 l2, 1 l3, 2 l3s.
        netns: descriptor of the namespace in which it is born.
        mac: its MAC address (an ipvlan has its parent's: empty).
    """
    data = u32(_IFLA_MACVLAN_MODE, mode) if kind == "macvlan" else u16(_IFLA_IPVLAN_MODE, mode)
    body = _link(0) + _name(name) + u32(_IFLA_LINK, below) + u32(_IFLA_NET_NS_FD, netns)
    if mac:
        body += attribute(_IFLA_ADDRESS, pack_mac(mac))
    if mtu:
        body += u32(_IFLA_MTU, mtu)
    body += _info(kind, data)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"add {kind} link {name}")


def set_link(
    index: int,
    *,
    up: bool | None = None,
    name: str = "",
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    netns: int | None = None,
    group: int | None = None,
) -> Request:
    """Describe a change to a link: state, name, MAC, MTU, master (0 frees it), group, or the namespace it moves to."""
    body = _link(index, up=up)
    if name:
        body += _name(name)
    if mac:
        body += attribute(_IFLA_ADDRESS, pack_mac(mac))
    if mtu:
        body += u32(_IFLA_MTU, mtu)
    if master is not None:
        body += u32(_IFLA_MASTER, master)
    if netns is not None:
        body += u32(_IFLA_NET_NS_FD, netns)
    if group is not None:
        body += u32(_IFLA_GROUP, group)
    return Request(RTM_NEWLINK, 0, body, f"change link {index}")


def set_hairpin(name: str) -> Request:
    """Describe that a bridge port may send a frame back where it came from.

    A container that reaches its own published port needs it where bridged frames pass the firewall
    (`net.bridge.bridge-nf-call-iptables`): translated there, they turn round inside the bridge.
    """
    port = attribute(_IFLA_INFO_SLAVE_DATA, u8(_IFLA_BRPORT_MODE, 1))
    body = _link(0) + _name(name) + attribute(_IFLA_LINKINFO, string(_IFLA_INFO_SLAVE_KIND, "bridge") + port)
    return Request(RTM_NEWLINK, 0, body, f"set hairpin mode of {name}")


def delete_link(name: str) -> Request:
    """Describe the removal of a link by name; of a pair, both ends go."""
    return Request(RTM_DELLINK, 0, _link(0) + _name(name), f"delete link {name}")


def add_address(index: int, address: str) -> Request:
    """Describe an address on a link (`172.17.0.2/16`). IPv6 addresses are used at once, without duplicate detection."""
    family, packed, bits = split_address(address)
    body = _IFADDR.pack(family, bits, 0, 0, index) + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    if family == _socket.AF_INET6:
        body += u32(_IFA_FLAGS, _IFA_F_NODAD)
    elif bits < 31:
        number = int.from_bytes(packed, "big") | ((1 << (32 - bits)) - 1)
        body += attribute(_IFA_BROADCAST, number.to_bytes(4, "big"))
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body, f"add address {address}")


def delete_address(index: int, address: str) -> Request:
    """Describe the removal of an address from a link."""
    family, packed, bits = split_address(address)
    body = _IFADDR.pack(family, bits, 0, 0, index) + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    return Request(RTM_DELADDR, 0, body, f"delete address {address}")


def add_route(index: int, destination: str = "", gateway: str = "", *, replace: bool = False) -> Request:
    """Describe a route through a link: to `destination` (empty: all) by way of `gateway` (empty: on the link).

    With `replace` it takes the place of the one that is there.
    """
    target = split_address(destination) if destination else None
    via = split_address(gateway) if gateway else None
    family = target[0] if target else via[0] if via else _socket.AF_INET
    scope = _RT_SCOPE_UNIVERSE if via or family == _socket.AF_INET6 else _RT_SCOPE_LINK
    bits = target[2] if target else 0
    body = _RTMSG.pack(family, bits, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0)
    if target and bits:
        body += attribute(_RTA_DST, target[1])
    if via:
        body += attribute(_RTA_GATEWAY, via[1])
    body += u32(_RTA_OIF, index)
    words = f"add route to {destination or 'default'}" + (f" via {gateway}" if gateway else "")
    return Request(RTM_NEWROUTE, NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL), body, words)


def delete_default_route(family: int) -> Request:
    """Describe the removal of the default route of one family (`AF_INET`, `AF_INET6`)."""
    body = _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, 0, _RT_SCOPE_NOWHERE, 0, 0)
    return Request(RTM_DELROUTE, 0, body, "delete the default route")


def get_link(netlink: Netlink, name: str) -> Link:
    """Look up one link by name.

    Raises:
        KernelError: with ENODEV when there is none.
    """
    request = Request(RTM_GETLINK, 0, _link(0) + _name(name), f"look up link {name}")
    return _parse_link(netlink.get(request)[0][1])


def links(netlink: Netlink) -> "list[Link]":
    """List all links of the socket's namespace."""
    found = netlink.get(Request(RTM_GETLINK, NLM_F_DUMP, _link(0), "list links"))
    return [_parse_link(body) for kind, body in found if kind == RTM_NEWLINK]


def addresses(netlink: Netlink) -> "list[tuple[int, str]]":
    """List all addresses of the socket's namespace: `(link index, "172.17.0.1/16")`."""
    listed = []
    for kind, body in netlink.get(Request(RTM_GETADDR, NLM_F_DUMP, _IFADDR.pack(0, 0, 0, 0, 0), "list addresses")):
        if kind != RTM_NEWADDR:
            continue
        family, bits, _flags, _scope, index = _IFADDR.unpack_from(body)
        values = attributes(body, _IFADDR.size)
        packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if packed:
            listed.append((index, f"{_socket.inet_ntop(family, packed)}/{bits}"))
    return listed


def routes(netlink: Netlink) -> "list[tuple[int, str]]":
    """List the unicast routes of all tables that have a destination: `(link index, "10.0.0.0/8")`; not the default."""
    listed = []
    for kind, body in netlink.get(Request(RTM_GETROUTE, NLM_F_DUMP, _RTMSG.pack(*[0] * 9), "list routes")):
        if kind != RTM_NEWROUTE:
            continue
        family, bits, _src, _tos, _table, _protocol, _scope, type_, _flags = _RTMSG.unpack_from(body)
        values = attributes(body, _RTMSG.size)
        packed = values.get(_RTA_DST)
        if packed and bits and type_ == _RTN_UNICAST and family in (_socket.AF_INET, _socket.AF_INET6):
            listed.append((_u32(values.get(_RTA_OIF)), f"{_socket.inet_ntop(family, packed)}/{bits}"))
    return listed


def default_routes(netlink: Netlink) -> "list[tuple[int, int, int]]":
    """List the default routes of the main table: `(metric, link index, MTU of the route or 0)`, IPv4 and IPv6."""
    listed = []
    for kind, body in netlink.get(Request(RTM_GETROUTE, NLM_F_DUMP, _RTMSG.pack(*[0] * 9), "list routes")):
        if kind != RTM_NEWROUTE:
            continue
        family, bits, _src, _tos, table, _protocol, _scope, type_, _flags = _RTMSG.unpack_from(body)
        if bits or table != _RT_TABLE_MAIN or type_ != _RTN_UNICAST:
            continue
        values = attributes(body, _RTMSG.size)
        mtu = _u32(attributes(values.get(_RTA_METRICS, b"")).get(_RTAX_MTU))
        # of equal ones IPv4's is the way that counts
        metric = 2 * _u32(values.get(_RTA_PRIORITY)) + (family == _socket.AF_INET6)
        listed.append((metric, _u32(values.get(_RTA_OIF)), mtu))
    return listed


def concerns_default_route(kind: int, body: bytes) -> bool:
    """Whether a message of news is of a default route that came, went or changed."""
    return kind in (RTM_NEWROUTE, RTM_DELROUTE) and len(body) >= _RTMSG.size and not _RTMSG.unpack_from(body)[1]


def concerns_link(kind: int, body: bytes, index: int) -> bool:
    """Whether a message of news is of the link with this index."""
    return kind in (RTM_NEWLINK, RTM_DELLINK) and len(body) >= _IFINFO.size and _IFINFO.unpack_from(body)[2] == index


def _link(index: int, *, up: bool | None = None) -> bytes:
    flags, change = (0, 0) if up is None else (_IFF_UP if up else 0, _IFF_UP)
    return _IFINFO.pack(0, 0, index, flags, change)


def _name(name: str) -> bytes:
    if not 0 < len(name) <= _NAME_MAX or "/" in name:
        raise InvalidArgument(f"invalid interface name {name!r}")
    return string(_IFLA_IFNAME, name)


def _info(kind: str, data: bytes) -> bytes:
    return attribute(_IFLA_LINKINFO, string(_IFLA_INFO_KIND, kind) + attribute(_IFLA_INFO_DATA, data))


def _u32(payload: "bytes | None") -> int:
    return int(struct.unpack("=I", payload)[0]) if payload and len(payload) == 4 else 0


def _parse_link(body: bytes) -> Link:
    _family, _type, index, flags, _change = _IFINFO.unpack_from(body)
    values = attributes(body, _IFINFO.size)
    hardware = values.get(_IFLA_ADDRESS, b"")
    info = attributes(values.get(_IFLA_LINKINFO, b""))
    return Link(
        index,
        text(values.get(_IFLA_IFNAME)),
        hardware.hex(":") if len(hardware) == 6 else "",
        _u32(values.get(_IFLA_MTU)),
        _u32(values.get(_IFLA_MASTER)),
        text(info.get(_IFLA_INFO_KIND)),
        bool(flags & _IFF_UP),
        _u32(values.get(_IFLA_GROUP)),
    )
