"""Netlink by struct: messages, attributes, one socket, errors with the kernel's own words (netlink(7)).

Several requests travel in one `send`: the kernel works through them in order and answers only the failed ones and the
last, so a whole set of changes costs two system calls. It does not stop at a failed request; a caller that needs
"all or nothing" undoes what it made.
"""

import _socket
import struct

from wherry.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

NETLINK_ROUTE = 0
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x2, 0x4, 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NLA_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_EBUSY, _ENOBUFS = 16, 105
_RECEIVE = 64 * 1024
_DUMP_TRIES = 5


class Request:
    """One message to the kernel, without its header.

    Args:
        type: message type (`RTM_NEWLINK`…).
        flags: flags beyond NLM_F_REQUEST (`NLM_F_CREATE | NLM_F_EXCL`…).
        body: family header and attributes.
        what: what it does, in words, for the error (`add address 172.17.0.2/16 to eth0`).
    """

    __slots__ = ("body", "flags", "type", "what")

    def __init__(self, type: int, flags: int, body: bytes, what: str) -> None:  # noqa: A002
        self.type = type
        self.flags = flags
        self.body = body
        self.what = what


def attribute(kind: int, payload: bytes) -> bytes:
    """Encode one attribute, padded to four bytes. `payload` may itself be attributes."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def string(kind: int, value: str) -> bytes:
    """Encode a zero-terminated string attribute."""
    return attribute(kind, value.encode("ascii", "surrogateescape") + b"\0")


def u8(kind: int, value: int) -> bytes:
    """Encode an 8-bit attribute."""
    return attribute(kind, struct.pack("=B", value))


def u16(kind: int, value: int) -> bytes:
    """Encode a 16-bit attribute in host order."""
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """Encode a 32-bit attribute in host order."""
    return attribute(kind, struct.pack("=I", value))


def attributes(data: bytes, offset: int = 0) -> "dict[int, bytes]":
    """Decode a run of attributes; of equal ones the last counts. A broken length ends it."""
    found = {}
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            break
        found[kind & _NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def text(payload: "bytes | None") -> str:
    """Decode a zero-terminated string attribute; a missing one is empty."""
    return payload.split(b"\0", 1)[0].decode("utf-8", "surrogateescape") if payload else ""


class Netlink:
    """A netlink socket of the network namespace in which it was opened; it keeps to it wherever the thread goes.

    Args:
        protocol: netlink family (`NETLINK_ROUTE`…).
    """

    __slots__ = ("_sequence", "_socket")

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        try:
            self._socket = _socket.socket(_socket.AF_NETLINK, kind, protocol)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        except OSError as error:
            raise KernelError("open a netlink socket", error.errno or 0) from error
        self._sequence = 0

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def run(self, requests: "Sequence[Request]") -> None:
        """Have the kernel carry out all requests, in order.

        Raises:
            KernelError: the first of those that failed, naming its operation and the kernel's explanation. The ones
                behind it were tried as well.
        """
        if not requests:
            return
        first = self._sequence + 1
        parts = []
        for number, request in enumerate(requests, 1):
            flags = request.flags | NLM_F_REQUEST | (NLM_F_ACK if number == len(requests) else 0)
            parts.append(self._encode(request, flags))
        last = self._sequence
        failed: KernelError | None = None
        self._send(b"".join(parts), requests[0].what)
        while True:
            for kind, flags, sequence, body in self._receive(requests[-1].what):
                if kind != _NLMSG_ERROR or not first <= sequence <= last:
                    continue
                error = _error(requests[sequence - first].what, flags, body)
                failed = failed or error
                if sequence == last:
                    if failed is not None:
                        raise failed
                    return

    def get(self, request: Request) -> "list[tuple[int, bytes]]":
        """Ask for one object or, with NLM_F_DUMP among the flags, for all: `(message type, body)` each.

        Raises:
            KernelError: the object is not there (ENODEV…), or the dump failed.
        """
        for _ in range(_DUMP_TRIES):
            found, whole = self._get(request)
            if whole:
                return found
        # changed under our eyes each time: the caller gets an error, not half a truth
        raise KernelError(request.what, _EBUSY)

    def _get(self, request: Request) -> "tuple[list[tuple[int, bytes]], bool]":
        dump = request.flags & NLM_F_DUMP == NLM_F_DUMP
        self._send(self._encode(request, request.flags | NLM_F_REQUEST), request.what)
        found: list[tuple[int, bytes]] = []
        whole = True
        while True:
            for kind, flags, sequence, body in self._receive(request.what):
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & NLM_F_DUMP_INTR
                if kind == _NLMSG_ERROR:
                    error = _error(request.what, flags, body)
                    if error is not None:
                        raise error
                    return found, whole
                if kind == _NLMSG_DONE:
                    (code,) = struct.unpack_from("=i", body) if len(body) >= 4 else (0,)
                    if code < 0:
                        raise KernelError(request.what, -code)
                    return found, whole
                found.append((kind, body))
                if not dump:
                    return found, True

    def _encode(self, request: Request, flags: int) -> bytes:
        self._sequence += 1
        length = _HEADER.size + len(request.body)
        return _HEADER.pack(length, request.type, flags, self._sequence, 0) + request.body + bytes(-length % 4)

    def _send(self, data: bytes, what: str) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise KernelError(what, error.errno or 0) from error

    def _receive(self, what: str) -> "Iterator[tuple[int, int, int, bytes]]":
        try:
            data = self._socket.recv(_RECEIVE)
        except OSError as error:
            raise KernelError(what, error.errno or 0) from error
        yield from _messages(data)


class News:
    """A socket that becomes readable when the kernel tells of a change in the namespace in which it was opened.

    Args:
        protocol: netlink family.
        groups: bits of the multicast groups.
        what: what is watched, in words, for errors.

    Raises:
        KernelError: the kernel gives no such news.
    """

    def __init__(self, protocol: int, groups: int, what: str) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        self._what = what
        try:
            self._socket = _socket.socket(_socket.AF_NETLINK, kind, protocol)
            self._socket.bind((0, groups))
        except OSError as error:
            raise KernelError(f"watch {what}", error.errno or 0) from error

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def read(self) -> "list[tuple[int, bytes]] | None":
        """Take all news: `(message type, body)` each; None where some were lost.

        Raises:
            KernelError: they cannot be read.
        """
        found: list[tuple[int, bytes]] = []
        lost = False
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return None if lost else found
            except OSError as error:
                if error.errno != _ENOBUFS:
                    raise KernelError(f"read news of {self._what}", error.errno or 0) from error
                lost = True
            else:
                found += [(kind, body) for kind, _flags, _sequence, body in _messages(data)]


def _messages(data: bytes) -> "Iterator[tuple[int, int, int, bytes]]":
    """Take a datagram apart: type, flags, sequence number and body of each message; a broken length ends it."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            break
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _error(what: str, flags: int, body: bytes) -> "KernelError | None":
    (code,) = struct.unpack_from("=i", body)
    if code == 0:
        return None
    explanation = ""
    if flags & _NLM_F_ACK_TLVS:
        (request_length,) = struct.unpack_from("=I", body, 4)
        start = 4 + (_HEADER.size if flags & _NLM_F_CAPPED else (request_length + 3) & ~3)
        explanation = text(attributes(body, start).get(_NLMSGERR_ATTR_MSG)).rstrip(".")
    return KernelError(f"{what} ({explanation})" if explanation else what, -code)
