"""A file from a URL that a user named: what `import` of one reads. Redirects are followed as a registry's are."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Self

import aiohttp
from yarl import URL

from wherry.distribution import refusals
from wherry.distribution.reach import Reach
from wherry.distribution.settings import Endpoint, Settings, host_of
from wherry.distribution.transport import Transport, document
from wherry.errors import HostileInput, InvalidArgument, NotFound, Unavailable, WherryError

_PIECE = 256 << 10


def parse_url(text: str) -> URL:
    """Read what a user gave as an address; without a scheme it is http.

    Raises:
        InvalidArgument: it is none, or of another scheme: in dockerd's words.
    """
    try:
        url = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        raise InvalidArgument(f'Get "{text}": invalid URL') from None
    if url.scheme not in ("http", "https"):
        raise InvalidArgument(f'Get "{text}": unsupported protocol scheme "{url.scheme}"')
    if not url.host:
        raise InvalidArgument(f'Get "{text}": http: no Host in request URL')
    return url


class Download:
    """An answer that has begun: `size` in bytes (None: not said), `modified` as its header says, then its `pieces`.

    An async context manager.

    Args:
        settings: the engine's: certificates, proxies.
        url: where from.
        limit: bytes that are read at most.
        reach: what may be reached, where the address is a stranger's.
    """

    def __init__(self, settings: Settings, url: URL, limit: int, reach: Reach | None = None) -> None:
        self._url = url
        self._limit = limit
        self._transport = Transport(Endpoint(host_of(url), (url.scheme,)), settings, url.scheme, reach=reach)
        self._answer: aiohttp.ClientResponse | None = None
        self.size: int | None = None
        self.modified = ""

    async def __aenter__(self) -> Self:
        try:
            self._answer = await self._begin()
        except BaseException:
            await self._transport.close()
            raise
        self.size = self._answer.content_length
        self.modified = self._answer.headers.get("Last-Modified", "")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._answer is not None:
            self._answer.close()
        await self._transport.close()

    async def _begin(self) -> aiohttp.ClientResponse:
        url = self._url.with_user(None)
        authorization = None
        if self._url.user is not None:
            authorization = aiohttp.BasicAuth(self._url.user, self._url.password or "").encode()
        answer = await self._transport.send("GET", url, {}, authorization=authorization, again=False)
        if answer.status == HTTPStatus.OK:
            return answer
        kind: type[WherryError] = NotFound if answer.status == HTTPStatus.NOT_FOUND else Unavailable
        try:
            words = (await document(answer, refusals.BODY_LIMIT, "its error")).decode("utf-8", "replace")
        except WherryError:
            words = ""
        raise kind(f"failed to GET {url} with status {answer.status} {answer.reason}: {words}")

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the body, piece by piece.

        Raises:
            HostileInput: it is longer than the limit.
            Unavailable: it broke off.
        """
        assert self._answer is not None
        count = 0
        try:
            async for piece in self._answer.content.iter_chunked(_PIECE):
                count += len(piece)
                if count > self._limit:
                    raise HostileInput(f"{self._url.with_user(None)} is larger than {self._limit} bytes")
                yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise refusals.from_network("GET", self._url.with_user(None), error) from None
        if self.size is not None and count != self.size:
            raise Unavailable(f'Get "{self._url.with_user(None)}": unexpected EOF')
