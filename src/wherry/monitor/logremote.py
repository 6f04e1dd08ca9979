"""Logs that go elsewhere: to a syslog server, or to the journal. Neither may stall a container, nor end it.

What the other side does not take waits in memory up to `BUFFER` bytes; beyond it the newest is lost, and the number of
lost lines is told in a line of its own once there is room. A connection that broke is tried again.
"""

import _socket
import errno
import os
import time

from wherry.linux.loop import ERR, HUP, OUT
from wherry.monitor.logwriter import MAX_LINE, JsonFileLog, split_long
from wherry.oci.syslog import ERROR, INFORMATION, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop
else:
    from _collections import deque  # `collections` would be an import for this alone

JOURNAL = "/run/systemd/journal/socket"
BUFFER = 1 << 20
CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 2.0
_RETRY_SECONDS = 1.0
_PIECE = 16 * 1024
_SEVERITIES = {1: INFORMATION, 2: ERROR}


class RemoteLog:
    """A log that is sent, line by line, and also kept for `logs` where that was not declined.

    Args:
        loop: the monitor's.
        values: `remote` of a launch's `log`; see `containers.logs`.
        encode: makes of (stream, line, whether its newline is still to come) what is sent.
        address: socket family, type and address.
        cache: keeps a copy, or None.
        on_error: told once about each run of failures.

    Raises:
        OSError: nobody is there. A container is not started that could not be heard.
    """

    __slots__ = (
        "_address",
        "_cache",
        "_encode",
        "_failed",
        "_loop",
        "_lost",
        "_on_error",
        "_partial",
        "_queue",
        "_size",
        "_sock",
        "path",
    )

    def __init__(
        self,
        loop: "Loop",
        encode: "Callable[[int, bytes, bool], bytes]",
        address: "tuple[int, int, Any]",
        cache: "JsonFileLog | None",
        on_error: "Callable[[OSError], None]",
    ) -> None:
        self._loop = loop
        self._encode = encode
        self._address = address
        self._cache = cache
        self._on_error = on_error
        self._failed = False
        self._lost = 0
        self._partial = {1: b"", 2: b""}
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._sock: _socket.socket | None = None
        self.path = cache.path if cache is not None else ""
        self._connect()

    def write(self, stream: int, data: bytes) -> None:
        """Send output of stream 1 or 2, a line at a time. Never raises."""
        if self._cache is not None:
            self._cache.write(stream, data)
        data = self._partial[stream] + data
        end = data.rfind(b"\n") + 1
        if len(data) - end < MAX_LINE:
            pieces, rest = split_long(data[:end]), data[end:]
        else:
            # a long unfinished line: all whole pieces of it go out now
            pieces = split_long(data)
            rest = b"" if pieces[-1][1] else pieces.pop()[0]
            cut = rest.rfind(b"\n") + 1
            if cut:
                pieces.append((rest[:cut], False))
                rest = rest[cut:]
        self._partial[stream] = rest
        for piece, unfinished in pieces:
            for line in (piece,) if unfinished else piece.removesuffix(b"\n").split(b"\n"):
                self._put(stream, line, unfinished)
        self._flush()

    def flush(self) -> None:
        """Send lines that never got their newline: the process is dead."""
        if self._cache is not None:
            self._cache.flush()
        for stream, rest in self._partial.items():
            if rest:
                self._partial[stream] = b""
                self._put(stream, rest, False)
        self._flush()

    def close(self) -> None:
        """Send what can be sent now, and close."""
        self.flush()
        if self._cache is not None:
            self._cache.close()
        if self._sock is not None:
            # nobody comes after this: what is left may take its time, but not much of it
            self._sock.settimeout(CLOSE_SECONDS)
            try:
                while self._queue:
                    self._sock.sendall(self._queue.popleft(), _socket.MSG_NOSIGNAL)
            except OSError as error:
                self._on_error(error)
        self._drop()

    # ---- inner

    def _put(self, stream: int, line: bytes, unfinished: bool) -> None:
        if self._size >= BUFFER:
            self._lost += 1
            return
        self._add(self._encode(stream, line, unfinished))

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        if self._address[1] == _socket.SOCK_STREAM and self._queue and len(self._queue[-1]) < _PIECE:
            self._queue[-1] += data  # one call and one buffer of the kernel's for many lines
        else:
            self._queue.append(data)

    def _connect(self) -> None:
        family, kind, address = self._address
        sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC)
        try:
            # once, before anything runs: then it is known whether anybody is there
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(address)
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        self._sock = sock

    def _reconnect(self) -> None:
        if self._sock is not None:
            return
        family, kind, address = self._address
        sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC)
        sock.setblocking(False)
        try:
            sock.connect(address)
        except BlockingIOError:
            pass  # under way: the first that is sent will tell
        except OSError:
            sock.close()
            self._loop.call_later(_RETRY_SECONDS, self._reconnect)
            return
        self._sock = sock
        self._loop.watch(sock.fileno(), OUT, self._ready)

    def _ready(self, bits: int) -> None:
        if bits & (ERR | HUP):
            self._broken(OSError(errno.EPIPE, os.strerror(errno.EPIPE)))
        else:
            self._flush()

    def _flush(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            while self._queue:
                sent = sock.send(self._queue[0], _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
                self._size -= sent
                if sent < len(self._queue[0]):
                    self._queue[0] = self._queue[0][sent:]
                else:
                    self._queue.popleft()
        except BlockingIOError:
            self._loop.watch(sock.fileno(), OUT, self._ready)
            return
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                self._size -= len(self._queue.popleft())  # a datagram that cannot be; the next one may
                self._flush()
            else:
                self._broken(error)
            return
        self._failed = False
        self._loop.unwatch(sock.fileno())
        if self._lost:
            lost, self._lost = self._lost, 0
            self._add(self._encode(2, b"%d lines were lost: the log server did not take them" % lost, False))
            self._flush()

    def _broken(self, error: OSError) -> None:
        self._drop()
        if not self._failed:
            self._failed = True
            self._on_error(error)
        self._loop.call_later(_RETRY_SECONDS, self._reconnect)

    def _drop(self) -> None:
        if self._sock is not None:
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None


def syslog_encoder(values: "dict[str, Any]", pid: int) -> "Callable[[int, bytes, bool], bytes]":
    """What makes syslog messages of lines."""
    head = values["format"], values["facility"]

    def encode(stream: int, line: bytes, _unfinished: bool) -> bytes:
        at = time.time_ns()
        made = message(*head, _SEVERITIES[stream], values["host"], values["tag"], pid, at, line)
        # RFC 6587: the end of a message on a stream; a datagram ends by itself, but dockerd sends it there too
        return made + b"\n"

    return encode


def syslog_target(values: "dict[str, Any]") -> "tuple[int, int, Any]":
    """Socket family, type and address of a syslog server; raises OSError for a name that is nobody's."""
    scheme, place = values["scheme"], values["place"]
    if scheme.startswith("unix"):
        return _socket.AF_UNIX, _socket.SOCK_STREAM if scheme == "unix" else _socket.SOCK_DGRAM, place
    host, _, port = place.rpartition(":")
    kind = _socket.SOCK_STREAM if scheme == "tcp" else _socket.SOCK_DGRAM
    family, _, _, _, address = _socket.getaddrinfo(host, int(port), 0, kind)[0]
    return family, kind, address


def journal_encoder(values: "dict[str, str]") -> "Callable[[int, bytes, bool], bytes]":
    """What makes datagrams of the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    fixed = b"".join(_field(name, value.encode("utf-8", "replace")) for name, value in values.items())

    def encode(stream: int, line: bytes, unfinished: bool) -> bytes:
        head = b"PRIORITY=%d\n" % _SEVERITIES[stream]
        partial = b"CONTAINER_PARTIAL_MESSAGE=true\n" if unfinished else b""
        return head + fixed + partial + _field("MESSAGE", line)

    return encode


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
    return b"%s=%s\n" % (name.encode(), value)
