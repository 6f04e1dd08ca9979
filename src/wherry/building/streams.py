"""Connections that a running build asks of its client: to an ssh agent, or to somebody at a terminal.

The engine tells a token in the build's progress; the client answers with `POST /wherry/v1/build/connect?id=<token>`,
whose connection becomes the stream.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable

from wherry.errors import NotFound, Unavailable

_SECONDS = 60.0

Came = tuple[socket.socket, bytes]
"""A client's connection, and what was already read from it."""


class Asked:
    """One connection that is waited for; what the API needs to hand it over."""

    tty = True

    def __init__(self, came: "asyncio.Future[Came]") -> None:
        self._came = came

    async def connect(self, fd: int, tail: bytes = b"", /) -> None:
        """Take the client's socket."""
        sock = socket.socket(fileno=fd)
        if self._came.done():
            sock.close()  # nobody waits any more
        else:
            self._came.set_result((sock, tail))


class BuildStreams:
    """All of an engine."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Came]] = {}

    async def ask(self, tell: Callable[[str], None]) -> Came:
        """Ask a client for a connection, and wait for it.

        Args:
            tell: tells the client the token.

        Returns:
            a non-blocking socket, the caller closes it; and what was already read from it.

        Raises:
            Unavailable: the client does not come.
        """
        token = secrets.token_hex(16)
        came: asyncio.Future[Came] = asyncio.get_running_loop().create_future()
        self._waiting[token] = came
        try:
            tell(token)
            return await asyncio.wait_for(asyncio.shield(came), _SECONDS)
        except TimeoutError:
            raise Unavailable("the client does not connect") from None
        finally:
            del self._waiting[token]
            came.cancel()

    def ticket(self, token: str) -> Asked:
        """What a client's connection is handed to.

        Raises:
            NotFound: nobody waits for it.
        """
        came = self._waiting.get(token)
        if came is None or came.done():
            raise NotFound("no build waits for this connection")
        return Asked(came)
