"""Published ports that the kernel cannot translate: `::1` (and IPv6 into networks without it), relayed to a container.

One listening socket per port, opened by wherryd, which thereby holds the port. Each connection costs two sockets and,
while one side is slower than the other, a bounded buffer; each UDP client a socket for as long as it is heard of.
"""

import _socket
import errno
import time

from wherry.linux.loop import ERR, HUP, IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.linux.loop import Loop

_CHUNK = 1 << 16
_BUFFER = 1 << 18
_MAX_CONNECTIONS = 4096
_UDP_SECONDS = 90.0
_MAX_CLIENTS = 1024
_CONNECT_SECONDS = 30.0
_DATAGRAMS_AT_ONCE = 32


def _family(address: str) -> int:
    return int(_socket.AF_INET6 if ":" in address else _socket.AF_INET)


class StreamRelay:
    """A TCP port.

    Args:
        loop: netd's.
        fd: a bound, listening socket; owned.
        target: address and port of the container.
        catch_up: takes what wherryd has said; whoever comes after that goes where it says.
    """

    def __init__(self, loop: "Loop", fd: int, target: "tuple[str, int]", catch_up: "Callable[[], None]") -> None:
        self._loop = loop
        self._catch_up = catch_up
        self._listener = _socket.socket(fileno=fd)
        self.target = target
        self._pairs: set[_Pair] = set()
        self._listener.setblocking(False)
        loop.watch(fd, IN, self._accept)

    def close(self, *, last: bool = True) -> None:
        """Break what is open; the `last` one of a port ends the queue at it, too, in which others hold the socket."""
        self._loop.unwatch(self._listener.fileno())
        if last:
            self._listener.shutdown(_socket.SHUT_RDWR)
        self._listener.close()
        for pair in tuple(self._pairs):
            pair.close()

    def sweep(self, now: float) -> None:
        """Give up connections to a container that does not answer."""
        for pair in [p for p in self._pairs if not p.connected and p.born + _CONNECT_SECONDS < now]:
            pair.close()

    def _accept(self, _bits: int) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        near = _socket.socket(fileno=fd)
        near.setblocking(False)
        self._catch_up()
        if self._listener.fileno() < 0 or len(self._pairs) >= _MAX_CONNECTIONS:
            near.close()
            return
        try:
            far = _socket.socket(_family(self.target[0]), _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        except OSError:
            near.close()
            return
        far.setblocking(False)
        try:
            far.connect(self.target)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                near.close()
                far.close()
                return
        self._pairs.add(_Pair(self._loop, near, far, self._pairs.discard))


class _Pair:
    """One relayed connection: what either side says goes to the other, and so does its end."""

    __slots__ = ("_far", "_gone", "_loop", "_near", "born", "connected")

    def __init__(
        self, loop: "Loop", near: "_socket.socket", far: "_socket.socket", gone: "Callable[[_Pair], None]"
    ) -> None:
        self._loop = loop
        self._near = _Side(near)
        self._far = _Side(far)
        self._gone = gone
        self.connected = False
        self.born = time.monotonic()
        loop.watch(far.fileno(), OUT, self._connected)

    def close(self) -> None:
        """Break it."""
        for side in (self._near, self._far):
            if side.sock.fileno() >= 0:
                self._loop.unwatch(side.sock.fileno())
                side.sock.close()
        self._gone(self)

    def _connected(self, _bits: int) -> None:
        if self._far.sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
            self.close()
            return
        self.connected = True
        for side in (self._near, self._far):
            side.sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._arm()

    def _arm(self) -> None:
        if self._near.finished and self._far.finished:
            self.close()
            return
        for side, other in ((self._near, self._far), (self._far, self._near)):
            bits = (IN if not side.ended and len(other.unsent) < _BUFFER else 0) | (OUT if side.unsent else 0)
            if bits == side.watched:
                continue
            side.watched = bits
            if bits:
                self._loop.watch(side.sock.fileno(), bits, self._handler(side, other))
            else:
                # nothing to do with it: a hang-up, which cannot be masked, would wake us without end
                self._loop.unwatch(side.sock.fileno())

    def _handler(self, side: "_Side", other: "_Side") -> "Callable[[int], None]":
        def ready(bits: int) -> None:
            if side.sock.fileno() < 0:
                return
            try:
                if bits & OUT:
                    side.flush()
                if bits & (IN | HUP | ERR) and not side.ended and len(other.unsent) < _BUFFER:
                    side.read(other)
            except OSError:
                self.close()
                return
            self._arm()

        return ready


class _Side:
    """One socket of a pair; `unsent` is what the other side said and this one has not taken."""

    __slots__ = ("_ending", "ended", "finished", "sock", "unsent", "watched")

    def __init__(self, sock: "_socket.socket") -> None:
        self.sock = sock
        self.unsent = bytearray()
        self.ended = False  # it has said its last
        self._ending = False  # the other has, and it will be told once it has everything before
        self.finished = False  # it has been told
        self.watched = -1

    def read(self, other: "_Side") -> None:
        """Take what it says to the other side; raises OSError."""
        try:
            data = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        if data:
            other.unsent += data
        else:
            self.ended = True
            other._ending = True
        other.flush()

    def flush(self) -> None:
        """Send what fits; raises OSError."""
        try:
            while self.unsent:
                del self.unsent[: self.sock.send(self.unsent)]
        except BlockingIOError:
            return
        if self._ending and not self.finished:
            self.finished = True
            self.sock.shutdown(_socket.SHUT_WR)


class DatagramRelay:
    """A UDP port: each client gets a socket towards the container, by which answers find back.

    Args:
        loop: netd's.
        fd: a bound socket; owned.
        target: address and port of the container.
        catch_up: takes what wherryd has said; whoever comes after that goes where it says.
    """

    def __init__(self, loop: "Loop", fd: int, target: "tuple[str, int]", catch_up: "Callable[[], None]") -> None:
        self._loop = loop
        self._catch_up = catch_up
        self._socket = _socket.socket(fileno=fd)
        self.target = target
        self._clients: dict[tuple[object, ...], tuple[_socket.socket, list[float]]] = {}
        self._socket.setblocking(False)
        loop.watch(fd, IN, self._ready)

    def close(self, *, last: bool = True) -> None:  # noqa: ARG002 - as of a stream's
        """Close everything."""
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        for client in tuple(self._clients):
            self._drop(client)

    def sweep(self, now: float) -> None:
        """Forget clients that neither side has written to for long."""
        for client in [c for c, (_, heard) in self._clients.items() if heard[0] + _UDP_SECONDS < now]:
            self._drop(client)

    def _drop(self, client: "tuple[object, ...]") -> None:
        sock, _ = self._clients.pop(client)
        self._loop.unwatch(sock.fileno())
        sock.close()

    def _ready(self, _bits: int) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                data, client = self._socket.recvfrom(_CHUNK)
            except OSError:
                return
            self._catch_up()
            if self._socket.fileno() < 0:
                return
            entry = self._clients.get(client) or self._meet(client)
            if entry is None:
                continue
            entry[1][0] = time.monotonic()
            try:
                entry[0].send(data)
            except OSError:
                continue  # nobody listens there, or its buffer is full: datagrams get lost

    def _meet(self, client: "tuple[object, ...]") -> "tuple[_socket.socket, list[float]] | None":
        if len(self._clients) >= _MAX_CLIENTS:
            return None
        try:
            sock = _socket.socket(_family(self.target[0]), _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        except OSError:
            return None
        sock.setblocking(False)
        try:
            sock.connect(self.target)
        except OSError:
            sock.close()
            return None
        entry = self._clients[client] = (sock, [0.0])

        def back(_bits: int) -> None:
            try:
                data = sock.recv(_CHUNK)
                self._socket.sendto(data, client)
            except OSError:
                return
            entry[1][0] = time.monotonic()

        self._loop.watch(sock.fileno(), IN, back)
        return entry
