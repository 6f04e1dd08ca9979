"""Questions that nobody here can answer, asked of upstream servers: one socket per question, in the asking sandbox's
own network namespace, so that its routes and the firewall decide. netd has no right to open one there: the sandbox's
monitor opens it. A server on the host's loopback is asked from the host.

Servers are tried in order. What comes back is passed on if it answers this question under this id from this server. A
wrong reply by UDP is ignored, because anybody may have sent it; by TCP it is the server's, which is then given up.

When as many questions are under way as netd allows, a new one takes the place of the oldest one of the container that
has the most: no container's flood takes the places of the others.
"""

import _socket
import errno
import os
import time

from wherry.linux.loop import IN, OUT
from wherry.network.dns_message import FORMERR, NOTIMP, REFUSED, SERVFAIL, is_reply, with_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.linux.loop import Loop

    GiveSocket = Callable[[int, int, Callable[["_socket.socket | None"], None]], None]
    Done = Callable[["bytes | None"], None]

MAX_SERVERS = 3
SECONDS = 3.0
_TICK = 0.25
MAX_AT_ONCE = 2048
_PORT = 53
_NEXT_PLEASE = (SERVFAIL, REFUSED, NOTIMP, FORMERR)
_BUFFER = 65536


class Forwarder:
    """All questions under way.

    Args:
        loop: netd's.
    """

    def __init__(self, loop: "Loop") -> None:
        self.loop = loop
        self.pending: dict[Forward, None] = {}
        self._shares: dict[str, dict[Forward, None]] = {}
        self._ticking = False

    def ask(
        self,
        asker: str,
        data: bytes,
        question: bytes,
        servers: "list[str]",
        stream: bool,
        give: "GiveSocket",
        done: "Done",
    ) -> "Forward | None":
        """Ask; `done` gets the answer under the question's own id, or None.

        Args:
            asker: the container's id, by which shares are counted.
            data: the whole query.
            question: its question section.
            servers: addresses, in order.
            stream: by TCP.
            give: opens a socket of a family and a kind in the sandbox's namespace.
            done: called once, unless the forward is dropped.

        Returns:
            What can be dropped; None when there are too many at once (`done` has been called).
        """
        if len(self.pending) >= MAX_AT_ONCE and not self._make_room(asker):
            done(None)
            return None
        made = Forward(self, asker, data, question, servers[:MAX_SERVERS], stream, give, done)
        self.pending[made] = None
        self._shares.setdefault(asker, {})[made] = None
        if not self._ticking:
            self._ticking = True
            self.loop.call_later(_TICK, self._tick)
        made.next()
        return made

    def forget(self, forward: "Forward") -> bool:
        """Count a forward no more; returns whether it was under way."""
        if self.pending.pop(forward, 0) is not None:
            return False
        share = self._shares[forward.asker]
        del share[forward]
        if not share:
            del self._shares[forward.asker]
        return True

    def _make_room(self, asker: str) -> bool:
        """End the oldest question of the container that has the most, unless the asker would then have as many."""
        largest = max(self._shares.values(), key=len)
        if len(self._shares.get(asker, ())) + 1 >= len(largest):
            return False
        next(iter(largest)).give_up()
        return True

    def _tick(self) -> None:
        now = time.monotonic()
        for forward in [f for f in self.pending if f.deadline <= now]:
            forward.next()
        self._ticking = bool(self.pending)
        if self._ticking:
            self.loop.call_later(_TICK, self._tick)


class Forward:
    """One question on its way; made by `Forwarder.ask`."""

    __slots__ = (
        "_buffer",
        "_data",
        "_done",
        "_give",
        "_id",
        "_last",
        "_out",
        "_owner",
        "_question",
        "_round",
        "_servers",
        "_socket",
        "_stream",
        "asker",
        "deadline",
    )

    def __init__(
        self,
        owner: Forwarder,
        asker: str,
        data: bytes,
        question: bytes,
        servers: "list[str]",
        stream: bool,
        give: "GiveSocket",
        done: "Done",
    ) -> None:
        self._owner = owner
        self.asker = asker
        self._data = data
        self._question = question
        self._servers = servers
        self._stream = stream
        self._give = give
        self._done = done
        self._id = 0
        self._socket: _socket.socket | None = None
        self._out = b""
        self._buffer = bytearray()
        self._last: bytes | None = None  # a server's refusal, to be passed on when nobody answers better
        self._round = 0
        self.deadline = time.monotonic() + SECONDS

    def next(self) -> None:
        """Give the server at hand up and try the next."""
        self._close()
        if not self._servers:
            self._finish(self._last)
            return
        server = self._servers.pop(0)
        self.deadline = time.monotonic() + SECONDS
        self._round += 1
        number = self._round
        family = _socket.AF_INET6 if ":" in server else _socket.AF_INET
        kind = _socket.SOCK_STREAM if self._stream else _socket.SOCK_DGRAM

        def given(sock: "_socket.socket | None") -> None:
            if number != self._round or self not in self._owner.pending:
                if sock is not None:
                    sock.close()
            elif sock is None:
                self.next()
            else:
                self._begin(sock, server)

        if is_loopback(server):
            given(_open(family, kind))
        else:
            self._give(family, kind, given)

    def drop(self) -> None:
        """Nobody waits for it any more."""
        self._close()
        self._round += 1
        self._owner.forget(self)

    def give_up(self) -> None:
        """End it without an answer."""
        self._finish(None)

    def _begin(self, sock: "_socket.socket", server: str) -> None:
        self._socket = sock
        self._id = int.from_bytes(os.urandom(2), "big")
        message = with_id(self._data, self._id)
        sock.setblocking(False)
        try:
            # connected: the kernel takes answers from this server's address and port only
            sock.connect((server, _PORT))
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                self.next()
                return
        if self._stream:
            self._out = len(message).to_bytes(2, "big") + message
            self._owner.loop.watch(sock.fileno(), OUT, self._writable)
            return
        try:
            sock.send(message)
        except OSError:
            self.next()
            return
        self._owner.loop.watch(sock.fileno(), IN, self._datagram)

    def _datagram(self, _bits: int) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            self.next()
            return
        self._take(data)

    def _writable(self, _bits: int) -> None:
        if self._socket is None:
            return
        try:
            self._out = self._out[self._socket.send(self._out) :]
        except BlockingIOError:
            return
        except OSError:
            self.next()
            return
        if not self._out:
            self._owner.loop.watch(self._socket.fileno(), IN, self._readable)

    def _readable(self, _bits: int) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._buffer += data
        whole = 2 + int.from_bytes(self._buffer[:2], "big")
        if len(self._buffer) >= max(whole, 14):
            if not self._take(bytes(self._buffer[2:whole])):
                self.next()
        elif not data:
            self.next()

    def _take(self, data: bytes) -> bool:
        """Pass a reply on; returns whether it is one to this question."""
        if not is_reply(data, self._id, self._question):
            return False
        if data[3] & 0xF in _NEXT_PLEASE:
            self._last = data
            if self._servers:
                self.next()
                return True
        self._finish(data)
        return True

    def _finish(self, data: "bytes | None") -> None:
        self._close()
        if self._owner.forget(self):
            self._done(with_id(data, int.from_bytes(self._data[:2], "big")) if data is not None else None)

    def _close(self) -> None:
        if self._socket is not None:
            self._owner.loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._buffer.clear()


def is_loopback(server: str) -> bool:
    """An address of the host's own loopback."""
    return server.startswith("127.") or server == "::1"


def _open(family: int, kind: int) -> "_socket.socket | None":
    try:
        return _socket.socket(family, kind | _socket.SOCK_CLOEXEC)
    except OSError:
        return None
