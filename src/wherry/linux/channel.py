"""JSON messages with descriptors over a SOCK_SEQPACKET unix socket (unix(7), cmsg(3)).

One datagram is one JSON object of at most 128 KiB; a larger one travels in a file without a name, whose descriptor is
passed as the last one in its place: `{"v", "fds": […, "message"]}`. Every message carries `"v"`, the protocol number,
and, when descriptors come with it, `"fds"`: their names in order.
"""

import _socket
import os
import struct
from json import dumps, loads

from wherry.errors import DescriptorsLost, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSION = 1
MAX_MESSAGE = 128 * 1024
MAX_DESCRIPTORS = 64
# of a message in a file: an exec's environment, the pids of a large container
MAX_FILE = 16 << 20

_IN_FILE = "message"
_ANCILLARY = _socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)


class Channel:
    """One end of a message socket; owns the descriptor.

    Args:
        sock: a connected SOCK_SEQPACKET socket. Its blocking mode is the caller's choice; `send` and `receive` raise
            `BlockingIOError` where a non-blocking one would wait.
    """

    __slots__ = ("sock",)

    def __init__(self, sock: "_socket.socket") -> None:
        self.sock = sock

    @classmethod
    def from_fd(cls, fd: int) -> "Channel":
        """Take over a descriptor."""
        return cls(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd))

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    def send(self, message: "Mapping[str, Any]", fds: "Mapping[str, int] | None" = None) -> None:
        """Send one message; `fds` (name to descriptor) are duplicated to the receiver and stay open here.

        Raises:
            InvalidArgument: the message is over 16 MiB, or has too many descriptors.
            BlockingIOError: the socket is non-blocking and full.
            OSError: the other end is gone (EPIPE, ECONNRESET).
        """
        data = encode(message, fds)
        if len(data) > MAX_MESSAGE:
            file = _in_file(data)
            try:
                given = {**(fds or {}), _IN_FILE: file}
                # the number too, for a receiver that has no descriptor left for the file
                outer = {"seq": message["seq"]} if "seq" in message else {}
                self._send(encode(outer, given), given)
            finally:
                os.close(file)
        else:
            self._send(data, fds)

    def _send(self, data: bytes, fds: "Mapping[str, int] | None") -> None:
        if fds and len(fds) > MAX_DESCRIPTORS:
            # the other end would take it for a broken message, and end
            raise InvalidArgument(f"{len(fds)} descriptors are too many for one message")
        if fds:
            rights = struct.pack(f"{len(fds)}i", *fds.values())
            self.sock.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)], _socket.MSG_NOSIGNAL)
        else:
            self.sock.send(data, _socket.MSG_NOSIGNAL)

    def receive(self) -> "tuple[dict[str, Any], dict[str, int]] | None":
        """Receive one message and its descriptors (close-on-exec, owned by the caller); None when the peer has closed.

        Raises:
            InvalidArgument: what came is not a message; its descriptors are closed.
            DescriptorsLost: this process is at its limit of descriptors; the connection is good.
            BlockingIOError: the socket is non-blocking and empty.
            OSError: the connection broke.
        """
        try:
            data, ancillary, flags = self._take()
        except ConnectionResetError:
            # the peer ended with messages of ours unread; the kernel says that first, and once: its own come now
            data, ancillary, flags = self._take()
        received: list[int] = []
        for level, kind, value in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                count = len(value) // 4
                received.extend(struct.unpack(f"{count}i", value[: count * 4]))
        if not data:
            close_all(received)
            return None
        try:
            if flags & _socket.MSG_TRUNC:
                raise InvalidArgument("message too large")
            message = loads(data)
            if not isinstance(message, dict):
                raise InvalidArgument("a message must be a JSON object")
            if flags & _socket.MSG_CTRUNC:
                raise DescriptorsLost(message.get("seq"))
            names = message.pop("fds", [])
            if not isinstance(names, list) or len(names) != len(received):
                raise InvalidArgument("descriptors and their names differ in number")
            if names and names[-1] == _IN_FILE:
                names.pop()
                message = _from_file(received.pop())
        except (InvalidArgument, DescriptorsLost):
            close_all(received)
            raise
        except ValueError as error:
            close_all(received)
            raise InvalidArgument(f"message is not JSON: {error}") from None
        return message, {str(name): fd for name, fd in zip(names, received, strict=True)}

    def _take(self) -> "tuple[bytes, list[tuple[int, int, bytes]], int]":
        return self.sock.recvmsg(MAX_MESSAGE, _ANCILLARY, _socket.MSG_CMSG_CLOEXEC)[:3]


def encode(message: "Mapping[str, Any]", fds: "Mapping[str, int] | None" = None) -> bytes:
    """The bytes of a message as `send` puts them on the wire, or into a file.

    Raises:
        InvalidArgument: it is over 16 MiB.
    """
    body: dict[str, Any] = {"v": VERSION, **message}
    if fds:
        body["fds"] = list(fds)
    data = dumps(body, separators=(",", ":")).encode()
    if len(data) > MAX_FILE:
        raise InvalidArgument(f"message of {len(data)} bytes is over the limit of {MAX_FILE}")
    return data


def _in_file(data: bytes) -> int:
    fd = os.memfd_create("message", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd


def _from_file(fd: int) -> "dict[str, Any]":
    """Read a message from its file, which is closed."""
    try:
        size = os.fstat(fd).st_size
        if size > MAX_FILE:
            raise InvalidArgument("message too large")
        message = loads(os.pread(fd, size, 0))
    except OSError as error:
        raise InvalidArgument(f"message cannot be read: {error}") from None
    finally:
        os.close(fd)
    if not isinstance(message, dict):
        raise InvalidArgument("a message must be a JSON object")
    message.pop("fds", None)
    return message


def pair() -> "tuple[Channel, Channel]":
    """Two connected channels, both blocking, both close-on-exec."""
    left, right = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    return Channel(left), Channel(right)


def close_all(fds: "list[int]") -> None:
    """Close descriptors that nobody will use."""
    for fd in fds:
        os.close(fd)
