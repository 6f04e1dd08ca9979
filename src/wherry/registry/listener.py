"""Accept connections within limits, and close those that keep the server waiting.

A connection costs a descriptor, so that is what a stranger can exhaust. The limit of descriptors decides how many
connections are taken; one address gets a share of them. When all are in use, the one whose client has been silent for
longest is closed in favour of the new one. A client is waited for only so long: for a request's head, for the rest of
its body, and for it to take the answer. The kernel's counters (tcp(7), TCP_INFO) tell whether a client makes progress,
so that one which reads slowly is not mistaken for one which does not read.
"""

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import logging
import os
import resource
import socket
import ssl
import struct
import termios
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import InvalidURLError
from aiohttp.web import BaseRequest, RequestHandler, StreamResponse

from wherry.registry.accounts.settings import Network
from wherry.registry.config import Limits, Timeouts
from wherry.registry.observe import SELDOM

log = logging.getLogger("wherry.registry")

_SPARE: Final = 128
"""Descriptors for the database, the log and the threads' work."""
_DESCRIPTORS_EACH: Final = 3
"""Of a connection that pushes: the socket, the session's file, its lock."""
_MOST: Final = 16_384
_MOST_OF_ONE: Final = 1024
_BURST: Final = 64
_PAUSE: Final = 0.25
_SWEEP: Final = 2.0
_SILENT: Final = 1.0
_TRIES: Final = 8
_HANDSHAKE: Final = 15.0
_INFO: Final = struct.Struct("=120xQ")
"""bytes_acked of struct tcp_info (linux/tcp.h)."""
_FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Handle = Callable[[BaseRequest], Awaitable[StreamResponse]]


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of descriptors to the hard one; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


class _Connection:
    """One connection, from its acceptance on.

    Attributes:
        since: when the client last did something, monotonic.
        waited_for: when the server began to wait for a request's head.
    """

    __slots__ = ("acked", "party", "protocol", "since", "sock", "waited_for")

    def __init__(self, sock: socket.socket, party: str, now: float) -> None:
        self.sock = sock
        self.party = party
        self.since = self.waited_for = now
        self.acked = self._acked()
        self.protocol: _Guarded | None = None

    def look(self, now: float) -> None:
        """Ask the kernel whether the client took anything since the last look; what it sends, the protocol hears."""
        acked = self._acked()
        if acked != self.acked:
            self.acked = acked
            self.since = now
        elif self.protocol is not None and not self.protocol.waits_for_client(self.sock):
            self.since = now  # it is the server's turn

    def _acked(self) -> int:
        try:
            return int(_INFO.unpack(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))[0])
        except (OSError, struct.error):
            return 0

    def close(self) -> None:
        """End it, whatever it is doing."""
        # ends a TLS handshake, and a sendfile that would wait for ever if its descriptor were only closed
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        asyncio.get_running_loop().call_later(_SILENT, self._abort)

    def _abort(self) -> None:
        if self.protocol is not None and self.protocol.transport is not None:
            self.protocol.transport.abort()


class _Guarded(RequestHandler):
    """aiohttp's connection, with a head that is waited for only so long and one short line for what is malformed."""

    __slots__ = ("_connection", "_listener")

    def __init__(self, listener: "Listener", connection: _Connection, **options: Any) -> None:
        super().__init__(listener.server, loop=asyncio.get_running_loop(), **options)
        self._listener = listener
        self._connection = connection
        connection.protocol = self
        self._request_handler = self._check_expect

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        self._listener.touched(connection)
        idle = self.is_idle
        if idle and self._request_count and connection.waited_for < 0:
            connection.waited_for = connection.since
        super().data_received(data)
        if not (idle and self.is_idle):
            connection.waited_for = -1.0

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._listener.release(self._connection)

    @property
    def is_idle(self) -> bool:
        """Whether no request's head has come whole since the last answer."""
        if self._request_in_progress or self._messages:
            return False
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    def waits_for_client(self, sock: socket.socket) -> bool:
        """Whether the server can do nothing until the client sends, or takes, something."""
        if not self._request_in_progress:
            return True  # idle, or reading on behind an answer
        request = self._current_request
        if request is not None and not request.content.is_eof() and not self._reading_paused:
            return True
        transport = self.transport
        if transport is not None and transport.get_write_buffer_size() > 0:
            return True
        with contextlib.suppress(OSError):
            return bool(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
        return False

    async def _check_expect(self, request: BaseRequest) -> StreamResponse:
        # aiohttp puts an unknown expectation into its answer, whose text it then cannot encode
        if request.headers.get("Expect", "100-continue").lower() != "100-continue":
            self._listener.malformed(self._connection, 417, "unknown expectation")
            return web.Response(status=417, text="417: unknown expectation")
        return await self._listener.handle(request)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        if status < 500:
            # without what follows the colon: it quotes the request, which may hold a credential
            reason = "invalid URL" if isinstance(exc, InvalidURLError) else (message or "").partition(":")[0][:80]
            self._listener.malformed(self._connection, status, reason)
        else:
            reason = "the server failed to answer; its log says more"
            SELDOM.exception("request failed", exc, remote=self._connection.party)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer was sent already")
        answer = web.Response(status=status, text=f"{status}: {reason}\n")
        answer.force_close()
        return answer

    def log_exception(self, *_: Any, **options: Any) -> None:
        SELDOM.exception("connection failed", options.get("exc_info"), remote=self._connection.party)


class Listener:
    """Takes connections from a listening socket and hands them to aiohttp.

    Args:
        server: of the application's runner, set up.
        handle: answers a request.
        sock: the listening socket, not blocking.
        limits, timeouts: of the configuration.
        context: for TLS; None speaks plain HTTP.
        proxies: networks that speak for many clients: an address in them has no share to keep to.
        malformed: told of each request that could not be read: remote address, status, reason.
        options: for aiohttp's `RequestHandler`.
    """

    def __init__(
        self,
        server: web.Server,
        handle: Handle,
        sock: socket.socket,
        limits: Limits,
        timeouts: Timeouts,
        *,
        context: ssl.SSLContext | None = None,
        proxies: Sequence[Network] = (),
        malformed: Callable[[str, int, str], None] | None = None,
        **options: Any,
    ) -> None:
        self.server = server
        self.handle = handle
        self._sock = sock
        self._context = context
        self._proxies = proxies
        self._timeouts = timeouts
        self._tell = malformed
        self._options = {"keepalive_timeout": timeouts.idle, **options}
        room = max((raise_descriptor_limit() - _SPARE) // _DESCRIPTORS_EACH, 16)
        self.most = min(room, limits.connections or _MOST)
        self.most_of_one = min(limits.connections_per_address or _MOST_OF_ONE, max(self.most // 2, 1))
        self._all: dict[_Connection, None] = {}
        """In the order in which their clients were last heard."""
        self._of: dict[str, dict[_Connection, None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._paused: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to accept."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._accept)
        self._timer = self._loop.call_later(_SWEEP, self._sweep)

    def stop(self) -> None:
        """Accept no more; what is connected stays so."""
        self._loop.remove_reader(self._sock.fileno())
        for timer in (self._timer, self._paused):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._sock.close()

    # --- connections

    def _accept(self) -> None:
        for _ in range(_BURST):
            if len(self._all) >= self.most and not self._make_room(self._all):
                self._pause("all connections are in use")
                return
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._pause(os.strerror(error.errno))
                return
            sock.setblocking(False)
            party = self._party(address[0])
            of = self._of.setdefault(party, {})
            if len(of) >= self.most_of_one and not self._is_proxy(address[0]) and not self._make_room(of):
                sock.close()
                SELDOM.warning("too many connections from one address", remote=party)
                continue
            connection = _Connection(sock, party, time.monotonic())
            self._all[connection] = of[connection] = None
            task = self._loop.create_task(self._begin(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _begin(self, connection: _Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: _Guarded(self, connection, **self._options),
                connection.sock,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE if self._context is not None else None,
            )
        except (OSError, TimeoutError):  # includes ssl.SSLError: not TLS, or no common version
            self.release(connection)
            connection.sock.close()
        except asyncio.CancelledError:
            self.release(connection)
            connection.sock.close()
            raise

    def release(self, connection: _Connection) -> None:
        """Forget a connection that ended."""
        self._all.pop(connection, None)
        of = self._of.get(connection.party)
        if of is not None:
            of.pop(connection, None)
            if not of:
                del self._of[connection.party]

    def touched(self, connection: _Connection) -> None:
        """Its client sent something."""
        connection.since = time.monotonic()
        if connection in self._all:
            of = self._of[connection.party]
            for order in (self._all, of):
                del order[connection]
                order[connection] = None

    def _make_room(self, order: dict[_Connection, None]) -> bool:
        """Close the connection whose client has been silent for longest; False if none has been for a second."""
        now = time.monotonic()
        for _ in range(min(_TRIES, len(order))):
            connection = next(iter(order))
            connection.look(now)
            if now - connection.since >= _SILENT:
                SELDOM.warning("closed a silent connection for a new one", remote=connection.party)
                connection.close()
                self.release(connection)
                return True
            del order[connection]
            order[connection] = None
        return False

    def _pause(self, reason: str) -> None:
        SELDOM.warning("accepting pauses", reason=reason, connections=len(self._all))
        self._loop.remove_reader(self._sock.fileno())
        self._paused = self._loop.call_later(_PAUSE, self._loop.add_reader, self._sock.fileno(), self._accept)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._all):
            connection.look(now)
            protocol = connection.protocol
            if protocol is None:
                continue  # asyncio ends a handshake that takes too long
            if protocol.is_idle:
                late = connection.waited_for >= 0 and now - connection.waited_for > self._timeouts.head
            else:
                late = now - connection.since > self._timeouts.body
            if late:
                connection.close()
        self._timer = self._loop.call_later(_SWEEP, self._sweep)

    def malformed(self, connection: _Connection, status: int, reason: str) -> None:
        """A request could not be read."""
        if self._tell is not None:
            self._tell(connection.party, status, reason)

    def _is_proxy(self, host: str) -> bool:
        if not self._proxies:
            return False
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in network for network in self._proxies)

    @staticmethod
    def _party(host: str) -> str:
        """Who shares a share: an IPv4 address, or an IPv6 network of 64 bits, which is what one host gets."""
        if ":" not in host:
            return host
        address = ipaddress.IPv6Address(host.partition("%")[0])
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
