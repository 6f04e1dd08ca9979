"""Forgetting tracked connections by netlink (the kernel's ctnetlink), so that a changed translation takes effect.

Translation is decided by a flow's first packet. A UDP client that goes on sending from the same port keeps its flow,
and with it the old decision, for as long as it sends.
"""

import _socket
import errno
import struct

from wherry.errors import KernelError
from wherry.linux.netlink import NLM_F_DUMP, Netlink, Request, attribute, attributes, u8, u32

_NETLINK_NETFILTER = 12
_CTNETLINK = 1 << 8
_GET, _DELETE = _CTNETLINK | 1, _CTNETLINK | 2
_NLA_F_NESTED = 0x8000
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_FILTER = 1, 2, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_SRC = {_socket.AF_INET: 1, _socket.AF_INET6: 3}
_CTA_PROTO_NUM, _CTA_PROTO_DST_PORT = 1, 3
_CTA_FILTER_ORIG_FLAGS, _CTA_FILTER_REPLY_FLAGS = 1, 2
_FILTER_PROTO_NUM = 1 << 3
_GENERIC = struct.Struct("=BBH")
_UNAVAILABLE = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)
_BATCH = 128


def forget_udp(ports: "frozenset[int]" = frozenset(), answered_by: "frozenset[str]" = frozenset()) -> int:
    """Forget UDP flows of the caller's network namespace, and return how many.

    Args:
        ports: flows over IPv4 that were sent to one of these ports; over IPv6 too where `answered_by` has such an
            address, or is empty.
        answered_by: flows that one of these addresses answers (a container's: what was translated to it).

    Raises:
        KernelError: the tracker is there and refuses. One that is not there has nothing to forget.
    """
    families = {_socket.AF_INET6 if ":" in address else _socket.AF_INET for address in answered_by}
    with Netlink(_NETLINK_NETFILTER) as netlink:
        return sum(
            _forget(netlink, family, ports, answered_by) for family in families or {_socket.AF_INET, _socket.AF_INET6}
        )


def _forget(netlink: Netlink, family: int, ports: "frozenset[int]", answered_by: "frozenset[str]") -> int:
    texts = [text for text in answered_by if (":" in text) == (family == _socket.AF_INET6)]
    addresses = {_socket.inet_pton(family, text) for text in texts}
    generic = _GENERIC.pack(family, 0, 0)
    try:
        listed = netlink.get(_list_udp(generic))
    except KernelError as error:
        if error.errno in _UNAVAILABLE:
            return 0
        raise
    source = _CTA_IP_SRC[family]
    doomed = [tuple_ for _, body in listed if (tuple_ := _match(body, ports, addresses, source)) is not None]
    for start in range(0, len(doomed), _BATCH):
        requests = [
            Request(_DELETE, 0, generic + attribute(_NLA_F_NESTED | _CTA_TUPLE_ORIG, one), "forget a UDP flow")
            for one in doomed[start : start + _BATCH]
        ]
        try:
            netlink.run(requests)
        except KernelError as error:
            if error.errno != errno.ENOENT:  # ended by itself meanwhile; the others were tried
                raise
    return len(doomed)


def _list_udp(generic: bytes) -> Request:
    # kernels before 5.8 do not filter and list all: `_match` looks at the protocol again
    tuple_ = attribute(_NLA_F_NESTED | _CTA_TUPLE_PROTO, u8(_CTA_PROTO_NUM, _socket.IPPROTO_UDP))
    flags = u32(_CTA_FILTER_ORIG_FLAGS, _FILTER_PROTO_NUM) + u32(_CTA_FILTER_REPLY_FLAGS, 0)
    body = generic + attribute(_NLA_F_NESTED | _CTA_TUPLE_ORIG, tuple_) + attribute(_NLA_F_NESTED | _CTA_FILTER, flags)
    return Request(_GET, NLM_F_DUMP, body, "list tracked UDP flows")


def _match(body: bytes, ports: "frozenset[int]", addresses: "set[bytes]", source: int) -> "bytes | None":
    values = attributes(body, _GENERIC.size)
    original, reply = values.get(_CTA_TUPLE_ORIG, b""), values.get(_CTA_TUPLE_REPLY, b"")
    protocol = attributes(attributes(original).get(_CTA_TUPLE_PROTO, b""))
    if protocol.get(_CTA_PROTO_NUM) != bytes([_socket.IPPROTO_UDP]):
        return None
    port = int.from_bytes(protocol.get(_CTA_PROTO_DST_PORT, b""), "big")
    answering = attributes(attributes(reply).get(_CTA_TUPLE_IP, b"")).get(source)
    return original if port in ports or answering in addresses else None
