"""One request as a handler sees it: who is asked, what for, and the body."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from aiohttp.web import BaseRequest, RequestPayloadError

from wherry.api.facade import Engine, Filters
from wherry.api.reply import JSON, Stream
from wherry.errors import InvalidArgument
from wherry.linux.loopwatch import read_aside
from wherry.wire.decode import decode

if TYPE_CHECKING:
    from wherry.api.hijack import Connection

T = TypeVar("T")

BODY_LIMIT = 4 << 20
_FIELDS_LIMIT = 1000
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}\Z")


class Call:
    """A request that found its handler.

    Attributes:
        engine: the engine's facade.
        connection: the client's connection.
        version: the API version that is asked for, (1, 41).
        name: what stands for `{id}` in the path, decoded.
    """

    __slots__ = ("_query", "connection", "engine", "name", "query_string", "request", "version")

    def __init__(self, request: BaseRequest, engine: Engine, version: tuple[int, ...], name: str, query: str) -> None:
        self.request = request
        self.engine = engine
        self.connection: Connection = request.protocol  # type: ignore[assignment]
        self.version = version
        self.name = name
        self.query_string = query
        self._query: dict[str, list[str]] | None = None

    # -- query

    def texts(self, key: str) -> list[str]:
        """Give all values of a query parameter."""
        if self._query is None:
            if self.query_string:
                try:
                    self._query = parse_qs(self.query_string, keep_blank_values=True, max_num_fields=_FIELDS_LIMIT)
                except ValueError:
                    raise InvalidArgument("too many query parameters") from None
            else:
                self._query = {}
        return self._query.get(key, [])

    def text(self, key: str, default: str = "") -> str:
        """Give the first value of a query parameter."""
        values = self.texts(key)
        return values[0] if values else default

    def flag(self, key: str, default: bool = False) -> bool:
        """Read a truth value as dockerd does: all but nothing, `0`, `no`, `false` and `none` is true."""
        values = self.texts(key)
        if not values:
            return default
        return values[0].strip().lower() not in ("", "0", "no", "false", "none")

    def number(self, key: str, default: int | None = None) -> int | None:
        """Read an integer; `default` where there is none, or an empty one.

        Raises:
            InvalidArgument: it is no number, in Go's words.
        """
        text = self.text(key)
        if not text and default is not None:
            return default
        if not text and key not in (self._query or {}):
            return default
        if not _NUMBER.match(text):
            raise InvalidArgument(f'strconv.Atoi: parsing "{text}": invalid syntax')
        return int(text)

    def filters(self) -> Filters:
        """Read `filters`: `{"label": ["a"]}`, or the older `{"label": {"a": true}}`.

        Raises:
            InvalidArgument: `invalid filter`, as dockerd says.
        """
        text = self.text("filters")
        if not text:
            return {}
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            raise InvalidArgument("invalid filter") from None
        found: Filters = {}
        if not isinstance(value, dict):
            raise InvalidArgument("invalid filter")
        for key, items in value.items():
            if not isinstance(items, list | dict) or not all(isinstance(item, str) for item in items):
                raise InvalidArgument("invalid filter")
            found[key] = list(items)
        return found

    # -- body

    @property
    def has_body(self) -> bool:
        """Whether a body was announced."""
        headers = self.request.headers
        return headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers

    async def body(self, limit: int = BODY_LIMIT) -> bytes:
        """Read the whole body.

        Raises:
            InvalidArgument: it is longer than `limit` bytes.
        """
        if self.request.content.at_eof():
            return b""
        parts, size = [], 0
        async for part in self.chunks():
            size += len(part)
            if size > limit:
                raise InvalidArgument(f"request body is larger than {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read the body piece by piece; a client that waits for `100 Continue` gets it.

        Raises:
            ConnectionError: the client went before its end.
        """
        if self.request.headers.get("Expect", "").lower() == "100-continue" and self.connection.transport is not None:
            self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        content = self.request.content
        while True:
            try:
                part = await content.readany()
            except RequestPayloadError as error:
                raise InvalidArgument(f"malformed request body: {error}") from None
            if not part:
                return
            yield part

    async def json(self, type_: type[T]) -> T | None:
        """Read a JSON body; None when there is none, or `null`.

        Raises:
            InvalidArgument: another content type, or what `wire.decode` refuses.
        """
        if not self.has_body:
            return None
        self.check_content_type()
        return await read_aside(lambda raw: decode(raw, type_), await self.body())

    def check_content_type(self) -> None:
        """Refuse a body that does not say it is JSON (browsers send forms and text without asking).

        Raises:
            InvalidArgument: in dockerd's words.
        """
        sent = self.request.headers.get("Content-Type", "")
        if sent == JSON:
            return
        media = sent.partition(";")[0].strip().lower()
        if not media:
            raise InvalidArgument(f"malformed Content-Type header ({sent}): mime: no media type")
        if not _MEDIA_TYPE.match(media):
            raise InvalidArgument(f"malformed Content-Type header ({sent}): mime: expected token after slash")
        if media != JSON:
            raise InvalidArgument(f"unsupported Content-Type header ({sent}): must be 'application/json'")

    # -- answering

    def stream(self, content_type: str = JSON) -> Stream:
        """Make a streamed answer."""
        return Stream(self.request, content_type)

    @contextmanager
    def while_client_stays(self) -> "Iterator[None]":
        """Do something long, which is cancelled when the client goes away.

        Raises:
            ConnectionResetError: it went.
        """
        self.connection.cancel_on_loss(asyncio.current_task())
        try:
            yield
        except asyncio.CancelledError:
            if self.connection.lost:
                raise ConnectionResetError("the client is gone") from None
            raise
        finally:
            self.connection.cancel_on_loss(None)


def required(value: Any, message: str) -> Any:
    """Give `value`, or raise InvalidArgument(message) when it is empty."""
    if not value:
        raise InvalidArgument(message)
    return value
