"""Answers, written straight to the transport: a whole one (`Reply`) and a streamed one (`Stream`).

aiohttp's `Response` builds a case-insensitive header map, a writer and a payload for each answer; a `docker run`
asks some eight times, so these write one bytes object instead. They have the three members that aiohttp's request
handler uses of a response: `prepare`, `write_eof`, `keep_alive`.
"""

import asyncio
import time
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp.web import BaseRequest

from wherry import __version__
from wherry.api.errors import error_body, in_band
from wherry.api.version import API_VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from wherry.api.hijack import Connection

_COMMON = (
    f"Api-Version: {API_VERSION}\r\nDocker-Experimental: false\r\nOstype: linux\r\n"
    f"Server: Wherry/{__version__} (linux)\r\n"
)
_HEADS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n{_COMMON}" for status in HTTPStatus}
_EXPERIMENTAL = ("Docker-Experimental: false\r\n", "Docker-Experimental: true\r\n")
_encode = msgspec.json.Encoder().encode

JSON = "application/json"


class _Clock:
    """The Date header, formatted once a second."""

    second = 0
    line = ""

    @classmethod
    def header(cls) -> str:
        now = int(time.time())
        if now != cls.second:
            cls.second = now
            # not strftime's %a and %b: those follow the locale
            t = time.gmtime(now)
            day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[t.tm_wday]
            month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[t.tm_mon - 1]
            cls.line = (
                f"Date: {day}, {t.tm_mday:02} {month} {t.tm_year} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT\r\n"
            )
        return cls.line


def announce_experimental(on: bool) -> None:
    """Say in every head whether this engine calls itself experimental: the docker command hides some verbs else."""
    said, wanted = _EXPERIMENTAL if on else reversed(_EXPERIMENTAL)
    for status, text in _HEADS.items():
        _HEADS[status] = text.replace(said, wanted)


def head(status: int, headers: str, keep_alive: bool) -> bytes:
    """Render status line and headers; `headers` are whole lines, each with its CRLF."""
    close = "" if keep_alive else "Connection: close\r\n"
    return f"{_HEADS[status]}{headers}{_Clock.header()}{close}\r\n".encode("latin-1")


class Answer:
    """What the request handler asks of a response; sub-classes write something."""

    __slots__ = ("keep_alive",)

    def __init__(self) -> None:
        self.keep_alive = False

    async def prepare(self, request: BaseRequest) -> None:
        """Write the answer, unless the handler has already done so."""

    async def write_eof(self, data: bytes = b"") -> None:
        """End the answer: it already ended."""


class Reply(Answer):
    """A whole answer.

    Args:
        body: sent as it is, with its length.
        headers: further header lines, each with its CRLF.
        last: end the connection after it.
    """

    __slots__ = ("body", "content_type", "headers", "last", "status")

    def __init__(
        self, status: int = 200, body: bytes = b"", content_type: str = JSON, headers: str = "", *, last: bool = False
    ) -> None:
        super().__init__()
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.last = last

    async def prepare(self, request: BaseRequest) -> None:
        connection: Connection = request.protocol  # type: ignore[assignment]  # it is ours, see server.py
        transport = connection.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        self.keep_alive = not self.last and request.keep_alive and connection.stays_open()
        headers = self.headers
        if self.status not in (204, 304):
            headers = f"{headers}Content-Length: {len(self.body)}\r\n"
            if self.body or self.content_type != JSON:
                headers = f"{headers}Content-Type: {self.content_type}\r\n"
        data = head(self.status, headers, self.keep_alive)
        if request.method != "HEAD" and self.body:
            data += self.body
        transport.write(data)
        await connection.drain()


def json_reply(value: Any, status: int = 200) -> Reply:
    """Answer with a value as JSON; Structs are encoded by their wire names."""
    return Reply(status, _encode(value) + b"\n")


def error_reply(status: int, message: str, *, last: bool = False) -> Reply:
    """Answer with an error; a 304 has no body."""
    return Reply(status, b"" if status == 304 else error_body(message), last=last)


class Stream(Answer):
    """An answer of unknown length: chunked, or until the end of the connection for an HTTP/1.0 client.

    The head goes out with `open`. What is sent in one turn of the loop goes out together, at its end: each write wakes
    the client up. What fails after the head is told in band where the stream is JSON; any other stream ends with the
    connection, so that the client never takes a part for the whole.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_finished",
        "_head_only",
        "_opened",
        "_request",
        "_waiting",
        "content_type",
        "headers",
    )

    def __init__(self, request: BaseRequest, content_type: str = JSON) -> None:
        super().__init__()
        self._request = request
        self._connection: Connection = request.protocol  # type: ignore[assignment]
        self._chunked = request.version >= (1, 1)
        self._head_only = request.method == "HEAD"
        self._opened = self._finished = False
        self._waiting: list[bytes] = []
        self.content_type = content_type
        self.headers = ""  # further header lines, each with its CRLF

    @property
    def opened(self) -> bool:
        """Whether the status is out: an error can only be told in band from then on."""
        return self._opened

    def open(self) -> None:
        """Write the head; without waiting, so that it is on its way before anything else happens."""
        self._begin()
        self._flush()

    def _begin(self) -> None:
        if self._opened:
            return
        self._opened = True
        self._connection.streaming = self
        self.keep_alive = self._chunked and self._request.keep_alive and self._connection.stays_open()
        length = "Transfer-Encoding: chunked\r\n" if self._chunked else ""
        self._write(head(200, f"Content-Type: {self.content_type}\r\n{length}{self.headers}", self.keep_alive))

    def send(self, data: bytes) -> None:
        """Write `data` (opening the stream first) without waiting for the client; for progress callbacks."""
        self._begin()
        if data and not self._head_only:
            self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def write(self, data: bytes) -> None:
        """Write `data`, and wait while the client is slow."""
        self.send(data)
        self._flush()
        await self._connection.drain()

    async def pass_on(self, pieces: "AsyncGenerator[bytes, None]") -> None:
        """Write all that comes, and end the answer.

        Whatever happens the source is closed: what it holds, a worker or a container's lock, does not wait for a
        collection of garbage.
        """
        async with aclosing(pieces):
            async for piece in pieces:
                await self.write(piece)
        await self.finish()

    def send_json(self, value: Any) -> None:
        """Write one line of JSON."""
        self.send(_encode(value) + b"\n")

    async def finish(self) -> None:
        """End the body."""
        self._begin()
        if self._chunked and not self._head_only:
            self._write(b"0\r\n\r\n")
        self._flush()
        self._finished = True
        self._connection.streaming = None
        await self._connection.drain()

    async def fail(self, message: str) -> None:
        """End an opened stream with an error."""
        if self.content_type == JSON:
            self.send(in_band(message))
            await self.finish()
            return
        self._connection.streaming = None
        self._waiting.clear()
        self.keep_alive = False
        if self._connection.transport is not None:
            self._connection.transport.abort()

    def _write(self, data: bytes) -> None:
        if self._connection.transport is None:
            raise ConnectionResetError("the client is gone")
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        waiting, transport = self._waiting, self._connection.transport
        self._waiting = []
        if waiting and transport is not None:
            transport.write(b"".join(waiting))
