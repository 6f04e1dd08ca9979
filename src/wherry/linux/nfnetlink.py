"""The few nf_tables messages that are sent without libnftables (nft(8), linux/netfilter/nf_tables.h).

A monitor's rules in a fresh network namespace: the library would cost a short-lived fork 5 ms and some megabytes. The
elements of sets and maps: the library reads the rules of everybody before each change, and old ones crash on some.
Everything of one `commit` is one transaction.
"""

import _socket
import struct

from wherry.errors import KernelError
from wherry.linux.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    Netlink,
    Request,
    attribute,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NFPROTO_IPV4, NFPROTO_BRIDGE, NFPROTO_IPV6 = 2, 7, 10
HOOK_OUTPUT = 3
PRIORITY_DNAT = -100
TCP, UDP = 6, 17

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE, _GET_RULE = 0, 3, 6, 7
_NEW_ELEMENTS, _DELETE_ELEMENTS = 12, 14
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NLMSG_ERROR = 2
_NESTED = 0x8000
_REGISTER_1, _REGISTER_2 = 1, 2
_HEADER = struct.Struct("=IHHII")
_SO_SNDBUFFORCE = 32
_USUAL_BATCH = 128 * 1024  # what a socket takes at once without being asked
_ELEMENTS_AT_ONCE = 500  # an attribute ends at 64 KiB


class Message:
    """One message of a transaction.

    Args:
        kind: `NFT_MSG_…`.
        flags: netlink flags.
        body: attributes.
        what: in words, for the error.
        family: that of its table.
    """

    __slots__ = ("body", "family", "flags", "kind", "what")

    def __init__(self, kind: int, flags: int, body: bytes, what: str, family: int = NFPROTO_IPV4) -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.what = what
        self.family = family


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def _name(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def add_table(name: str) -> Message:
    """Add an IPv4 table."""
    return Message(_NEW_TABLE, NLM_F_CREATE, _name(1, name), f"add table {name}")


def add_nat_chain(table: str, chain: str, hook: int, priority: int) -> Message:
    """Add a chain of type nat to a hook."""
    place = _nest(4, _be32(1, hook), _be32(2, priority))
    body = _name(1, table) + _name(3, chain) + place + _name(7, "nat")
    return Message(_NEW_CHAIN, NLM_F_CREATE, body, f"add chain {chain}")


def add_redirect(table: str, chain: str, protocol: int, address: str, port: int, to_port: int) -> Message:
    """Append a rule: what is sent to `address`:`port` goes to another port of the same address."""
    packed = _socket.inet_aton(address)
    expressions = (
        _expression("meta", _be32(1, _REGISTER_1), _be32(2, 16)),  # the transport protocol
        _equals(bytes([protocol])),
        _load(1, 16, 4),  # network header: destination address
        _equals(packed),
        _load(2, 2, 2),  # transport header: destination port
        _equals(struct.pack("!H", port)),
        _immediate(_REGISTER_1, packed),
        _immediate(_REGISTER_2, struct.pack("!H", to_port)),
        _expression("nat", _be32(1, 1), _be32(2, NFPROTO_IPV4), _be32(3, _REGISTER_1), _be32(5, _REGISTER_2)),
    )
    body = _name(1, table) + _name(2, chain) + _nest(4, *expressions)
    return Message(_NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, body, f"redirect port {port} of {address}")


def add_elements(family: int, table: str, name: str, elements: "Sequence[tuple[bytes, bytes]]") -> "Iterator[Message]":
    """Add elements to a set or a map; one that is there already is fine, one that leads elsewhere is EEXIST (or EBUSY).

    Args:
        family: `NFPROTO_…` of the table.
        table, name: the table's and the set's.
        elements: key and value; the value is empty in a set. Each field of a concatenation is filled up to four bytes.
    """
    return _elements(_NEW_ELEMENTS, NLM_F_CREATE, family, table, name, elements)


def delete_elements(
    family: int, table: str, name: str, elements: "Sequence[tuple[bytes, bytes]]"
) -> "Iterator[Message]":
    """Delete elements of a set or a map, by their keys; one that is not there is ENOENT."""
    return _elements(_DELETE_ELEMENTS, 0, family, table, name, [(key, b"") for key, _ in elements])


def flush_elements(family: int, table: str, name: str) -> Message:
    """Delete all elements of a set or a map."""
    return Message(_DELETE_ELEMENTS, 0, _name(1, table) + _name(2, name), f"empty {name}", family)


def _elements(
    kind: int, flags: int, family: int, table: str, name: str, elements: "Sequence[tuple[bytes, bytes]]"
) -> "Iterator[Message]":
    place = _name(1, table) + _name(2, name)
    for start in range(0, len(elements), _ELEMENTS_AT_ONCE):
        some = elements[start : start + _ELEMENTS_AT_ONCE]
        listed = [_nest(1, _value(1, key), _value(2, value) if value else b"") for key, value in some]
        yield Message(kind, flags, place + _nest(3, *listed), f"change elements of {name}", family)


def _value(kind: int, data: bytes) -> bytes:
    return _nest(kind, attribute(1, data))


def _expression(name: str, *data: bytes) -> bytes:
    return _nest(1, _name(1, name), _nest(2, *data))


def _load(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _be32(1, _REGISTER_1), _be32(2, base), _be32(3, offset), _be32(4, length))


def _equals(value: bytes) -> bytes:
    return _expression("cmp", _be32(1, _REGISTER_1), _be32(2, 0), _nest(3, attribute(1, value)))


def _immediate(register: int, value: bytes) -> bytes:
    return _expression("immediate", _be32(1, register), _nest(2, attribute(1, value)))


class Transactions:
    """A way to the nf_tables of the network namespace in which it is first used. One thread at a time.

    Its sockets stay open: who closes one after somebody deleted elements waits until no packet can see them any more,
    ten milliseconds on a quiet machine.
    """

    __slots__ = ("_questions", "_socket")

    def __init__(self) -> None:
        self._socket: _socket.socket | None = None
        self._questions: Netlink | None = None

    def close(self) -> None:
        """Close the sockets; the next use opens others."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._questions is not None:
            self._questions.close()
            self._questions = None

    def has_rules(self, family: int, table: str, chain: str) -> bool:
        """Whether a chain is there and has a rule.

        Raises:
            KernelError: the kernel does not say.
        """
        if self._questions is None:
            self._questions = Netlink(_NETLINK_NETFILTER)
        body = struct.pack("!BBH", family, 0, 0) + _name(1, table) + _name(2, chain)
        what = f"look for rules of {chain}"
        try:
            return bool(self._questions.get(Request(_SUBSYSTEM << 8 | _GET_RULE, NLM_F_DUMP, body, what)))
        except BaseException:
            self.close()  # the rest of an answer may wait in it
            raise

    def commit(self, messages: "Sequence[Message]") -> None:
        """Carry out all messages, or none.

        Raises:
            KernelError: what the kernel refused first.
        """
        parts = [_encode(_BATCH_BEGIN, 0, 0, struct.pack("!BBH", 0, 0, _SUBSYSTEM))]
        for number, message in enumerate(messages, 1):
            # the end of a batch is acknowledged by new kernels only: the last message is asked for
            flags = message.flags | (NLM_F_ACK if number == len(messages) else 0)
            kind = _SUBSYSTEM << 8 | message.kind
            parts.append(_encode(kind, flags, number, struct.pack("!BBH", message.family, 0, 0) + message.body))
        parts.append(_encode(_BATCH_END, 0, len(messages) + 1, struct.pack("!BBH", 0, 0, _SUBSYSTEM)))
        batch = b"".join(parts)
        try:
            sock = self._open()
            if len(batch) > _USUAL_BATCH:
                sock.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * len(batch))
            sock.send(batch)
            _wait(sock, messages)
        except BaseException as error:
            self.close()  # further refusals may wait in it
            if isinstance(error, OSError) and not isinstance(error, KernelError):
                raise KernelError("nftables", error.errno or 0) from error
            raise

    def _open(self) -> "_socket.socket":
        if self._socket is None:
            try:
                kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
                self._socket = _socket.socket(_socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
                self._socket.settimeout(10.0)
            except OSError as error:
                raise KernelError("open a netlink socket", error.errno or 0) from None
        return self._socket


def commit(messages: "Sequence[Message]") -> None:
    """Carry out all messages, or none, in the calling thread's network namespace.

    Raises:
        KernelError: what the kernel refused first.
    """
    transactions = Transactions()
    try:
        transactions.commit(messages)
    finally:
        transactions.close()


def _wait(sock: "_socket.socket", messages: "Sequence[Message]") -> None:
    while True:
        data = sock.recv(65536)
        offset = 0
        while offset + _HEADER.size + 4 <= len(data):
            length, kind, _flags, sequence, _port = _HEADER.unpack_from(data, offset)
            if kind == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", data, offset + _HEADER.size)
                if code:
                    number = min(max(sequence, 1), len(messages))
                    raise KernelError(messages[number - 1].what, -code)
                if sequence == len(messages):
                    return
            offset += (length + 3) & ~3


def _encode(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    length = _HEADER.size + len(body)
    return _HEADER.pack(length, kind, flags | NLM_F_REQUEST, sequence, 0) + body + bytes(-length % 4)
