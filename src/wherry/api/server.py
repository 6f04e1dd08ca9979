"""The HTTP server: listeners, who may ask, dispatch, and errors."""

import asyncio
import ipaddress
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, cast

from aiohttp.web import BaseRequest

from wherry.api import routing
from wherry.api.accept import Acceptor
from wherry.api.call import Call
from wherry.api.errors import describe
from wherry.api.facade import Engine
from wherry.api.hijack import Connection, ConnectionServer, HandedOver
from wherry.api.listen import BACKLOG, open_listener
from wherry.api.reply import Answer, Reply, Stream, error_reply
from wherry.api.secured import Certificates, Front
from wherry.api.version import CURRENT, parse_version
from wherry.errors import Conflict, Forbidden
from wherry.linux import descriptors

log = logging.getLogger("wherry.api")

_IDLE_SECONDS = 300.0
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def build_app(engine: Engine, *, allowed_hosts: Iterable[str] = ()) -> "Server":
    """Make the server of an engine's API.

    Args:
        allowed_hosts: further names by which TCP clients may call this machine (`docker.example.com`).
    """
    return Server(engine, allowed_hosts=allowed_hosts)


class Server:
    """Answers an engine's API on any number of listeners. It must be made in a running event loop.

    Args:
        engine: answers.
        allowed_hosts: see `build_app`.
        certificates: with them TCP listeners speak TLS.
        idle_seconds: for which TCP clients are waited for, until the head of a request is whole.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        allowed_hosts: Iterable[str] = (),
        certificates: Certificates | None = None,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self._engine = engine
        self._front = Front(certificates, self._take) if certificates is not None else None
        self._idle = idle_seconds
        self._joining: set[asyncio.Task[Any]] = set()
        self._hosts = {"localhost", socket.gethostname().lower(), *(host.lower() for host in allowed_hosts)}
        handler = cast(Any, self._handle)  # our answers have what aiohttp uses of a StreamResponse
        self._http = ConnectionServer(
            handler,
            access_log=None,
            auto_decompress=False,
            lingering_time=2.0,
            max_line_size=32768,
            max_field_size=65536,
        )
        self._listeners: list[Acceptor] = []
        self._bound: list[socket.socket] = []
        self._sockets: list[tuple[str, int]] = []

    def bind(self, listeners: Sequence[str | socket.socket]) -> list[str]:
        """Take addresses; nobody is answered there before `start`.

        Args:
            listeners: addresses as of `dockerd -H` (`unix:///run/wherry/wherry.sock`, `tcp://127.0.0.1:2375`), or
                sockets that are bound.

        Returns:
            The addresses, with the port that was picked where 0 was asked for.

        Raises:
            InvalidArgument: an address that is none.
            Conflict: somebody answers there already.
            OSError: it cannot be bound.
        """
        bound = []
        for listener in listeners:
            secured = self._front is not None
            sock = open_listener(listener, listen=False, tls=secured) if isinstance(listener, str) else listener
            self._bound.append(sock)
            guarded = sock.family != socket.AF_UNIX
            if not guarded and isinstance(listener, str):
                path = listener.removeprefix("unix://")
                self._sockets.append((path, os.stat(path).st_ino))
            name = sock.getsockname()
            bound.append(
                f"tcp://{name[0]}:{name[1]}" if guarded else str(listener if isinstance(listener, str) else name)
            )
        return bound

    async def start(self, listeners: Sequence[str | socket.socket] = ()) -> list[str]:
        """Listen, at these and at what is bound already; arguments, result and errors as of `bind`.

        Raises:
            Conflict: somebody else has taken an address in the meantime.
        """
        names = self.bind(listeners)
        for path, inode in self._sockets:
            if not os.path.exists(path) or os.stat(path).st_ino != inode:
                raise Conflict(f"another engine has taken {path}")
        if self._front is not None:
            secured = [sock for sock in self._bound if sock.family != socket.AF_UNIX]
            for sock in secured:
                sock.listen(BACKLOG)
                self._bound.remove(sock)
            if secured:
                self._front.start(secured)
        while self._bound:
            sock = self._bound[0]
            factory = self._guarded if sock.family != socket.AF_UNIX else self._open
            self._listeners.append(Acceptor(sock, factory, BACKLOG))
            del self._bound[0]
        return names

    def _guarded(self) -> Connection:
        return self._http.connection(guarded=True, idle=self._idle)

    def _open(self) -> Connection:
        return self._http.connection(guarded=False)

    def _secured(self) -> Connection:
        return self._http.connection(guarded=True, named=True, idle=self._idle)

    def _take(self, sock: socket.socket) -> None:
        """Serve a client whose TLS handshake succeeded."""
        # over in the loop's next turn: it waits for nobody
        task = asyncio.ensure_future(self._join(sock))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join(self, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._secured, sock)
        except OSError:
            sock.close()

    def renew(self) -> bool:
        """Read the certificates anew; whether there are any.

        Raises:
            InvalidArgument: they cannot be used; the ones before are kept.
        """
        if self._front is None:
            return False
        self._front.renew()
        return True

    async def close(self, grace: float = 1.0) -> None:
        """Stop listening, let running requests finish for `grace` seconds, then end them.

        Connections that were handed over are no longer ours, and go on.
        """
        if self._front is not None:
            await self._front.close()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for sock in self._bound:
            sock.close()
        self._bound.clear()
        for path, inode in self._sockets:
            # not the socket of somebody who came after us
            with suppress(FileNotFoundError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
        self._sockets.clear()
        for connection in self._http.connections:
            cast(Connection, connection).give_up()
        await self._http.shutdown(grace)

    async def _handle(self, request: BaseRequest) -> Answer:
        connection = cast(Connection, request.protocol)
        try:
            answer = await self._answer(request, connection)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # the one place where errors become answers
            if connection.transport is None or (connection.gone and isinstance(error, ConnectionResetError)):
                if not isinstance(error, ConnectionError):
                    describe(error, f"{request.method} {request.raw_path}")
                return Answer()  # to nobody
            answer = await self._failure(request, connection.streaming, error)
        if not isinstance(answer, HandedOver):
            connection.decline(request)
        return answer

    async def _answer(self, request: BaseRequest, connection: Connection) -> Answer:
        if connection.guarded:
            self._check_caller(request)
        try:
            path, query = routing.split_target(request.raw_path)
        except routing.BadPath:
            return error_reply(400, "malformed request path")
        except routing.Moved as moved:
            return Reply(301, headers=f"Location: {moved.location}\r\n")
        method = request.method
        handler = routing.OURS.get((method, path))
        if handler is not None:
            _check_room(method, handler)
            return await handler(Call(request, self._engine, CURRENT, "", query))
        if method == "OPTIONS":
            return Reply(200)
        prefix, path = routing.split_version(path)
        found = routing.find(method, path)
        if found is None:
            return error_reply(404, "page not found")
        version = CURRENT if prefix is None else parse_version(prefix)
        handler, name = found
        _check_room(method, handler)
        return await handler(Call(request, self._engine, version, name, query))

    async def _failure(self, request: BaseRequest, stream: Stream | None, error: Exception) -> Answer:
        status, message = describe(error, f"{request.method} {request.raw_path}")
        if stream is None:
            return error_reply(status, message)
        await stream.fail(message)
        return stream

    def _check_caller(self, request: BaseRequest) -> None:
        """Keep web pages out (CSRF, DNS rebinding): a page of another origin says so, a rebound name is not ours.

        A name that was bound again has no certificate of ours, so that a client of TLS needs no look at the name.

        Raises:
            Forbidden: it is a browser, or a name by which nobody calls this machine.
        """
        headers = request.headers
        if "Origin" in headers or headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Forbidden("requests from web pages are not allowed")
        if cast(Connection, request.protocol).named:
            return
        host = headers.get("Host", "").lower()
        name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
        # a name without a dot is nobody's on the public internet
        if name in self._hosts or ("." not in name.rstrip(".") and ":" not in name) or name.endswith(_LOCAL_SUFFIXES):
            return
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise Forbidden(f'host "{name}" is not allowed') from None


def _check_room(method: str, handler: routing.Handler) -> None:
    """Refuse what begins something, at the limit of descriptors.

    Raises:
        TooManyOpenFiles: so it is.
    """
    if method in ("POST", "PUT") and handler not in routing.ALWAYS:
        descriptors.check()
