"""Connections that may stop being HTTP: our subclass of aiohttp's request handler, and the hand-over of its socket.

Docker's attach and exec start turn the connection into a plain byte stream. aiohttp alone goes on parsing HTTP after
the answer, loses what the client sent along with the request, and takes the client's half-close for the end. So:

- A connection that is between two requests looks at the request line before the parser does. On a hijack route it
  holds the request until it is whole (its small body included), gives exactly that to the parser, stops reading, and
  keeps what came behind it (the tail). What the client sends later stays in the kernel.
- `Connection.hand_over` writes the head, waits until the client has taken it, duplicates the socket, closes the
  transport without shutting the connection down, and gives descriptor and tail to the ticket. No byte passes through
  here any more.
- The parser never sees `Upgrade`, so the way it treats one does not matter.

The descriptor given away shares its file status flags with the socket asyncio used: it is non-blocking.
"""

import asyncio
import logging
import os
import re
from typing import TYPE_CHECKING, Any

from aiohttp.web import BaseRequest, RequestHandler
from aiohttp.web import Server as BaseServer

from wherry.api.errors import describe
from wherry.api.facade import Ticket
from wherry.api.reply import Answer, error_reply
from wherry.errors import WherryError
from wherry.linux.taken import until_taken

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from wherry.api.reply import Stream

log = logging.getLogger("wherry.api")

_ROUTE = re.compile(
    rb"POST (?:/v[0-9.]+)?/(?:containers/[^ ?]+/attach|exec/[^ ?]+/start|session|wherry/v1/build/connect)"
    rb"(?:\?[^ ]*)? HTTP/1\.[01]"
)
_LINE_LIMIT = 8190
_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 64 * 1024

_WHOLE, _MORE, _GIVE_UP = 0, 1, 2


class Hijack:
    """A request that may take its connection over: whether it asks for an upgrade, and what came behind it."""

    __slots__ = ("message", "tail", "upgrade")

    def __init__(self, upgrade: bool, tail: bytes) -> None:
        self.upgrade = upgrade
        self.tail = tail
        self.message: object = None  # what the parser made of it, by which it is told from other requests


class HandedOver(Answer):
    """The answer of a request whose connection now belongs to somebody else: nothing to write, nothing to keep."""

    __slots__ = ()


class Connection(RequestHandler):
    """One client connection.

    Args:
        guarded: the listener is reachable by browsers (TCP): Origin is checked.
        named: the client has verified by TLS that it is this machine that has the name by which it called; without
            it, the name is checked, too.
    """

    __slots__ = (
        *("_cancel_on_loss", "_closing", "_ended", "_held", "_last", "_pending", "guarded", "lost", "named"),
        "streaming",
    )

    def __init__(
        self,
        manager: "ConnectionServer",
        *,
        guarded: bool,
        named: bool,
        loop: asyncio.AbstractEventLoop,
        **options: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **options)
        self.guarded = guarded
        self.named = named
        self.lost = False
        self._held = b""  # the beginning of what may be a hijack request
        self._pending: Hijack | None = None
        self._last: StreamReader | None = None  # body of the latest request: at its end, the parser is between two
        self._ended = False  # the client will send no more
        self._closing = False  # no further request is read
        self.streaming: Stream | None = None  # an answer whose status is out and whose end is not
        self._cancel_on_loss: asyncio.Task[Any] | None = None

    # -- reading

    def data_received(self, data: bytes) -> None:
        if not data or not self._between_requests():
            self._feed(data)
            return
        if self._held:
            data, self._held = self._held + data, b""
        line_end = data.find(b"\r\n")
        if line_end < 0:
            if len(data) <= _LINE_LIMIT and data[:5] == b"POST "[: len(data)]:
                self._held = data
            else:
                self._feed(data)
            return
        if not _ROUTE.fullmatch(data, 0, line_end):
            self._feed(data)
            return
        state, hijack, request = _split(data)
        if state == _MORE:
            self._held = data
        elif state == _GIVE_UP or hijack is None:
            self._feed(data)
        else:
            self._pending = hijack
            # whatever follows waits in the kernel for whoever gets the socket
            if self.transport is not None:
                self.transport.pause_reading()
            self._feed(request)
            if self._messages:
                hijack.message = self._messages[-1][0]

    def _between_requests(self) -> bool:
        return (
            self._pending is None
            and not self._messages
            and (self._last is None or self._last.is_eof())
            and not self._upgraded
        )

    def _feed(self, data: bytes) -> None:
        count = self._request_count
        super().data_received(data)
        if self._request_count != count and self._messages:
            self._last = self._messages[-1][1]

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep the other direction open: a client may end its side and still wait for its answer.

        A client that waits for something that may never come is taken to be gone, as dockerd does: on a unix socket
        there is no difference between a half-close and an end.
        """
        self._ended = True
        if self._cancel_on_loss is not None or self._held:
            return False
        if self._last is not None and not self._last.is_eof():
            return False  # in the middle of a body: the rest of it will never come
        self._loop.call_soon(self._close_when_idle)
        return True

    def _close_when_idle(self) -> None:
        if self._waiter is not None and not self._waiter.done() and not self._messages and self.transport is not None:
            self.transport.close()

    def stays_open(self) -> bool:
        """Whether the client may still send a request (or has already sent the next)."""
        return not self._closing and (not self._ended or bool(self._messages))

    @property
    def gone(self) -> bool:
        """Whether the client has left, as far as one can know."""
        return self.transport is None or self._ended

    def give_up(self) -> None:
        """End an answer that may last for ever (events, wait)."""
        if self._cancel_on_loss is not None:
            self._cancel_on_loss.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost = True
        task = self._cancel_on_loss
        super().connection_lost(exc)
        if task is not None:
            task.cancel()

    # -- answering

    async def drain(self) -> None:
        """Wait until the client has read enough of what was written.

        Raises:
            ConnectionError: it is gone.
        """
        if self._paused or self.transport is None:
            await self._drain_helper()

    def cancel_on_loss(self, task: "asyncio.Task[Any] | None") -> None:
        """Cancel `task` when the client goes; None: no longer. Raises ConnectionResetError when it already went."""
        self._cancel_on_loss = task
        if task is not None and self.gone:
            self._cancel_on_loss = None
            raise ConnectionResetError("the client is gone")

    def handle_error(
        self, _request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> Any:
        """Answer what the parser refused, or what no handler caught."""
        if status == 500 and exc is not None:
            status, message = describe(exc, "a request")
        return error_reply(status, f"bad request: {message}" if message else "bad request", last=True)

    def pending(self, request: BaseRequest) -> Hijack | None:
        """Give what was kept for a hijack request; None for any other request."""
        hijack = self._pending
        return hijack if hijack is not None and hijack.message is request._message else None

    def decline(self, request: BaseRequest) -> None:
        """Go back to HTTP after a hijack request was refused; when a tail was sent, the connection ends instead."""
        hijack = self.pending(request)
        if hijack is None:
            return
        self._pending = None
        if hijack.tail:
            self._closing = True
        elif self.transport is not None:
            self.transport.resume_reading()

    async def hand_over(self, head: bytes, ticket: Ticket, tail: bytes = b"", *, wait: bool = True) -> HandedOver:
        """Answer with `head` and give the socket away.

        Args:
            head: status and headers.
            ticket: gets the socket.
            tail: what the client sent behind its request.
            wait: until the client has taken the head (`linux.taken`). A ticket that may have to be connected before
                the client's next request comes waits by itself, where something is to be written.

        Once the head is out an error can only be told in the stream; that is the ticket's to do.

        Raises:
            ConnectionError: the client is gone; the ticket was not used.
        """
        transport = self.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        # first what may fail (too many open files): after the head no status can be told
        fd = os.dup(transport.get_extra_info("socket").fileno())
        try:
            self._pending = None
            transport.pause_reading()
            # with these limits, not paused means all written
            transport.set_write_buffer_limits(0, 0)
            transport.write(head)
            await self.drain()
            if self.transport is None:
                raise ConnectionResetError("the client is gone")
            if wait:
                await until_taken(fd)
        except BaseException:
            os.close(fd)
            raise
        # closes our descriptor in the next turn of the loop; the connection lives on in `fd`
        transport.abort()
        try:
            await ticket.connect(fd, tail)
        except WherryError as error:
            # the status is out, and the ticket has told the client what it could
            log.warning("a stream could not be connected: %s", error)
        except Exception:
            log.exception("a stream could not be connected")
        return HandedOver()


class ConnectionServer(BaseServer):
    """Makes a `Connection` for each accepted socket; `factory` gives the one for a listener."""

    def connection(self, *, guarded: bool, named: bool = False, idle: float | None = None) -> Connection:
        """Make the protocol of one accepted connection.

        Args:
            guarded, named: see `Connection`.
            idle: seconds for which a request's head is waited for.
        """
        options = self._kwargs if idle is None else {**self._kwargs, "keepalive_timeout": idle}
        return Connection(self, guarded=guarded, named=named, loop=self._loop, **options)


def _split(data: bytes) -> tuple[int, Hijack | None, bytes]:
    """Divide what a client sent into a hijack request (as the parser is to see it) and the tail.

    Returns:
        `_WHOLE` with both, `_MORE` when the request is not complete, `_GIVE_UP` when the parser should refuse it.
    """
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return (_MORE if len(data) <= _HEAD_LIMIT else _GIVE_UP), None, b""
    lines = data[:head_end].split(b"\r\n")
    kept, length, chunked, upgrade = [lines[0]], 0, False, False
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-length":
            value = value.strip()
            if not value.isdigit() or len(value) > 9:
                return _GIVE_UP, None, b""
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"upgrade":
            upgrade = True
            continue
        elif name == b"connection":
            continue
        elif line[:1] in (b" ", b"\t"):
            return _GIVE_UP, None, b""
        kept.append(line)
    body_at = head_end + 4
    if chunked:
        end = _chunks_end(data, body_at)
        if end is None:
            return _GIVE_UP, None, b""
    else:
        end = body_at + length
    if end - body_at > _BODY_LIMIT:
        return _GIVE_UP, None, b""
    if end < body_at or end > len(data):
        return _MORE, None, b""
    request = b"\r\n".join(kept) + b"\r\n\r\n" + data[body_at:end]
    return _WHOLE, Hijack(upgrade, data[end:]), request


def _chunks_end(data: bytes, at: int) -> int | None:
    """Find the end of a chunked body without trailers; -1: not all of it is there, None: not worth waiting for."""
    start = at
    while True:
        if at - start > _BODY_LIMIT:
            return None
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return -1 if len(data) - at < 64 else None
        size = data[at:line_end]
        if not re.fullmatch(rb"[0-9a-fA-F]{1,6}", size):
            return None
        at = line_end + 2 + int(size, 16) + 2
        if int(size, 16) == 0:
            return at if at <= len(data) else -1
