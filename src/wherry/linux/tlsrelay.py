"""A TLS connection joined with a plain stream socket, both ways, with half-closes: what a TLS socket itself cannot be.

A plain socket can be polled, spliced, half-closed and handed to another process. One record is written for each piece
that was read: clients of Docker read an answer's head through a buffer, and lose what comes with it in one piece.

A direction ends with close_notify (RFC 8446, 6.1). A TCP connection that ends without it is an error.
"""

import _socket
import math
import ssl
import time

from wherry.linux.loop import ERR, HUP, IN, OUT
from wherry.linux.tls import is_plain_http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.linux.loop import Loop

_PIECE = 1 << 16
_RECORD = 1 << 14
_BACKLOG = 1 << 18
"""Bytes for the other side beyond which nothing more is read from it: it could ask for answers and take none."""
HANDSHAKE_SECONDS = 10.0
LINGER_SECONDS = 5.0
_HTTP_ANSWER = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class Relay:
    """One connection. The owner of the loop calls `expire` from time to time.

    Args:
        loop: serves both sockets.
        wire: a connected TCP socket; owned.
        context: says who the other side must be.
        on_joined: called once after the handshake; returns the plain socket, which is owned from then on.
        on_ended: called once, with the error that broke the connection, or None.
        server_name: the server's name; None where this is the server.

    Attributes:
        established: the handshake has succeeded.
        closed: both sockets are closed.
    """

    def __init__(
        self,
        loop: "Loop",
        wire: "_socket.socket",
        context: ssl.SSLContext,
        on_joined: "Callable[[], _socket.socket]",
        on_ended: "Callable[[Exception | None], None]",
        server_name: str | None = None,
    ) -> None:
        self._loop = loop
        self._wire = wire
        self._on_joined = on_joined
        self._on_ended = on_ended
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._plain: _socket.socket | None = None
        self._sealed = memoryview(b"")  # for the wire
        self._opened = memoryview(b"")  # for the plain socket
        self._other_ended = False  # close_notify came
        self._wire_ended = False  # FIN came
        self._told_plain = False  # the plain socket knows that the other side has ended
        self._plain_ended = False  # the plain socket's peer sends no more
        self._deaf = False  # nobody reads the plain socket any more
        self._leaving = False
        self._shut = False
        self._watched_wire = self._watched_plain = -1
        self._deadline = time.monotonic() + HANDSHAKE_SECONDS
        self.established = False
        self.closed = False
        wire.setblocking(False)
        if server_name is not None:
            self._attempt(self._advance)  # a client speaks first
        else:
            self._arm()

    def expire(self, now: float) -> None:
        """End a handshake, or a farewell, that takes too long.

        Args:
            now: of time.monotonic().
        """
        if not self.closed and now > self._deadline and (self._leaving or not self.established):
            self.abort(TimeoutError("i/o timeout"))

    def abort(self, error: Exception | None = None) -> None:
        """Break it."""
        if self.closed:
            return
        self.closed = True
        if not self._leaving:
            self._on_ended(error)
        self._drop_plain()
        self._loop.unwatch(self._wire.fileno())
        self._wire.close()

    def _attempt(self, action: "Callable[[], None]") -> None:
        try:
            action()
        except (OSError, ValueError) as error:  # includes ssl.SSLError
            self._fail(error)
        self._settle()

    # ---- the wire

    def _wire_ready(self, bits: int) -> None:
        if not self.closed:
            self._attempt(lambda: self._serve_wire(bits))

    def _serve_wire(self, bits: int) -> None:
        if bits & OUT:
            self._flush()
        if self._wants_wire:
            self._read_wire()
        elif bits & (HUP | ERR):
            raise ConnectionResetError("connection reset by peer")

    @property
    def _wants_wire(self) -> bool:
        return not self._wire_ended and not self._opened and self._backlog < _BACKLOG

    @property
    def _backlog(self) -> int:
        return len(self._sealed) + self._outgoing.pending

    def _read_wire(self) -> None:
        try:
            data = self._wire.recv(_PIECE)
        except BlockingIOError:
            return
        if not data:
            self._wire_ended = True
            if not self._other_ended and not self._leaving:
                raise ConnectionResetError("unexpected EOF" if self.established else "EOF")
            return
        if self._leaving or self._other_ended:
            return  # what comes behind the end is nobody's
        self._incoming.write(data)
        self._advance()

    def _advance(self) -> None:
        """Do with what has come whatever can be done."""
        if not self.established:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                return
            self._plain = self._on_joined()
            self._plain.setblocking(False)
            self.established = True
        pieces = []
        try:
            while piece := self._tls.read(_RECORD):
                pieces.append(piece)
            self._other_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._other_ended = True
        if pieces and not self._deaf:
            self._opened = memoryview(b"".join(pieces))
        self._give()
        self._flush()

    def _flush(self) -> None:
        """Send what fits."""
        try:
            while self._sealed or self._outgoing.pending:
                if not self._sealed:
                    self._sealed = memoryview(self._outgoing.read())
                self._sealed = self._sealed[self._wire.send(self._sealed, _socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            return

    # ---- the plain socket

    def _plain_ready(self, bits: int) -> None:
        plain = self._plain
        if plain is not None:
            self._attempt(lambda: self._serve_plain(plain, bits))

    def _serve_plain(self, plain: "_socket.socket", bits: int) -> None:
        if bits & OUT:
            self._give()
        if self._wants_plain:
            self._read_plain(plain)
        elif bits & (HUP | ERR):
            self._deaf, self._opened = True, memoryview(b"")

    @property
    def _wants_plain(self) -> bool:
        return not self._plain_ended and not self._sealed

    def _read_plain(self, plain: "_socket.socket") -> None:
        try:
            data = plain.recv(_PIECE)
        except BlockingIOError:
            return
        except ConnectionResetError:  # its peer closed it with something of ours unread
            data = b""
        if data:
            self._tls.write(data)
        else:
            self._plain_ended = True
            try:
                self._tls.unwrap()  # writes close_notify; what has come was read before, so that it meets no data
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                pass
        self._flush()

    def _give(self) -> None:
        """Give the plain socket what fits, and the end."""
        plain = self._plain
        if plain is None:
            return
        try:
            while self._opened:
                self._opened = self._opened[plain.send(self._opened, _socket.MSG_NOSIGNAL) :]
            if self._other_ended and not self._told_plain:
                self._told_plain = True
                plain.shutdown(_socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            self._deaf, self._opened = True, memoryview(b"")

    # ---- the end

    def _fail(self, error: Exception) -> None:
        """Break off; the other side gets the alert, where there is one."""
        if self._leaving or not isinstance(error, ssl.SSLError):
            self.abort(error)
            return
        try:
            self._flush()
            if not self.established and is_plain_http(error) and not self._backlog:
                self._sealed = memoryview(_HTTP_ANSWER)
        except OSError:
            self.abort(error)
            return
        self._leave(error)

    def _leave(self, error: Exception | None) -> None:
        """Send what is left and wait for the other side's end: a close with unread data would break it off."""
        self._leaving = True
        # a good client may take its time for what is left: it may be a pager
        self._deadline = math.inf if self.established else time.monotonic() + LINGER_SECONDS
        self._on_ended(error)
        self._drop_plain()

    def _drop_plain(self) -> None:
        plain, self._plain, self._opened = self._plain, None, memoryview(b"")
        if plain is not None:
            self._loop.unwatch(plain.fileno())
            plain.close()

    def _settle(self) -> None:
        """Take the steps that what was done allows, and watch for what can be done next."""
        if self.closed:
            return
        if not self._leaving and self._plain_ended and (self._deaf or (self._told_plain and not self._opened)):
            self._leave(None)
        if self._leaving:
            try:
                self._flush()
                if not self._backlog and not self._shut:
                    self._shut = True
                    self._deadline = time.monotonic() + LINGER_SECONDS
                    self._wire.shutdown(_socket.SHUT_WR)
            except OSError:
                self._wire_ended = True
            if self._wire_ended:
                self.abort()
                return
        self._arm()

    def _arm(self) -> None:
        bits = (IN if self._wants_wire else 0) | (OUT if self._backlog else 0)
        if bits != self._watched_wire:
            self._watched_wire = bits
            self._loop.watch(self._wire.fileno(), bits, self._wire_ready)
        plain = self._plain
        if plain is None:
            return
        bits = (IN if self._wants_plain else 0) | (OUT if self._opened else 0)
        if not bits and not self._plain_ended:
            bits = -1  # a hang-up, which cannot be masked, would wake us without end
        if bits == self._watched_plain:
            return
        self._watched_plain = bits
        if bits < 0:
            self._loop.unwatch(plain.fileno())
        else:
            self._loop.watch(plain.fileno(), bits, self._plain_ready)
