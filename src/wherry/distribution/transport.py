"""Requests to one endpoint and to where it sends us: TLS, proxies, redirects, waiting and trying again.

A transport is one operation's own (a pull, a push): what it learned ends with it. It has no credential itself; a
header that proves something is given to a request, and is dropped by a redirect to another origin.
"""

import asyncio
import email.utils
import os
import random
import ssl
import time
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Self

import aiohttp
from aiohttp import ClientResponse
from yarl import URL

from wherry import __version__
from wherry.distribution import guard, refusals, tls
from wherry.distribution.proxies import proxy_for
from wherry.distribution.reach import Reach
from wherry.distribution.settings import Endpoint, Settings, host_of
from wherry.errors import HostileInput, Unavailable, WherryError

CONNECT_SECONDS = 8.0
READ_SECONDS = 60.0
PATIENCE = 120.0
_REDIRECTS = 5
_BUFFER = 1 << 20

Body = Callable[[], AsyncIterable[bytes]]
"""Makes a request's body, again for each attempt."""


class Transport:
    """An async context manager.

    Args:
        endpoint: which server.
        settings: the engine's.
        scheme: `https` or `http`.
        environment: where proxies are named.
        reach: for an address that nobody trusted has named: what may be reached, at first and by redirects.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        scheme: str,
        *,
        environment: Mapping[str, str] | None = None,
        reach: Reach | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.root = URL(f"{scheme}://{endpoint.host}")
        self.delays = settings.delays
        self._settings = settings
        self._environment = os.environ if environment is None else environment
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._reach = reach
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=self._resolver(), limit_per_host=8, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # it would also send what is in a .netrc
            read_bufsize=_BUFFER,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
            headers={"User-Agent": f"wherry/{__version__}", "Accept-Encoding": "identity"},
        )

    def _resolver(self) -> guard.GuardedResolver:
        if self._reach is None:
            return guard.GuardedResolver(self.root.host or "")
        named = [proxy_for(URL(f"{scheme}://host.invalid"), self._environment) for scheme in ("http", "https")]
        return guard.GuardedResolver("", self._reach.check, [URL(str(proxy)).host or "" for proxy in named if proxy])

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        authorization: str | None = None,
        body: "bytes | Body | None" = None,
        again: bool = True,
    ) -> ClientResponse:
        """Send a request and return its answer, whatever its status; the caller releases it.

        Args:
            authorization: sent to the origin of `url` only, not to where that redirects.
            again: try again when the answer is that of a server in trouble, or there is none.

        Raises:
            Unavailable: nobody answers; the words say why.
            Forbidden: a redirect that must not be followed.
        """
        attempts = (0.0, *self.delays) if again else (0.0,)
        for number, delay in enumerate(attempts):
            if delay:
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))
            last = number == len(attempts) - 1
            try:
                answer = await self._follow(method, url, headers, authorization, body)
            except Unavailable as error:
                if last or error.facts.get("unreachable"):
                    raise
                continue
            if answer.status not in refusals.TRANSIENT or last:
                return answer
            wait = retry_after(answer.headers.get("Retry-After"))
            if wait is not None and wait > PATIENCE:
                return answer
            answer.release()
            if wait is not None:
                await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _follow(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        authorization: str | None,
        body: "bytes | Body | None",
    ) -> ClientResponse:
        home = url
        for _ in range(_REDIRECTS + 1):
            if self._reach is not None:
                self._reach.check_host(url.host or "")
            sent = dict(headers)
            if authorization is not None and guard.same_origin(url, home):
                sent["Authorization"] = authorization
            try:
                answer = await self._session.request(
                    method,
                    url,
                    headers=sent,
                    data=body() if callable(body) else body,
                    allow_redirects=False,
                    ssl=self._context(url) if url.scheme == "https" else True,
                    proxy=proxy_for(url, self._environment),
                )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failure = refusals.from_network(method, url, error)
                failure.facts["tls"] = refusals.is_tls(error)
                raise failure from None
            except ValueError as error:  # a header that is none, a URL without host
                raise HostileInput(f"registry {host_of(self.root)}: {error}") from None
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            location = answer.headers.get("Location", "")
            answer.release()
            if method not in ("GET", "HEAD"):
                raise Unavailable(f"registry {host_of(self.root)}: redirects a {method}", status=answer.status)
            url = self.target(location, url, "a redirect")
        raise HostileInput(f"registry {host_of(self.root)}: redirects in a circle")

    def target(self, location: str, base: URL, what: str) -> URL:
        """Read where the registry sends us (a redirect, an upload's place), relative to `base`.

        Raises:
            HostileInput: it is no URL.
            Forbidden: it must not be followed.
        """
        try:
            url = base.join(URL(location, encoded=True))
        except ValueError:
            raise HostileInput(f"registry {host_of(self.root)}: {what} is no URL") from None
        if url.user or url.password:
            raise HostileInput(f"registry {host_of(self.root)}: {what} has a user in its URL")
        guard.check_target(url, base, what=what)
        guard.check_target(url, self.root, what=what)
        return url

    def _context(self, url: URL) -> ssl.SSLContext:
        # the endpoint's certificates are for its host, whatever the port: its token server is often beside it
        own = guard.same_host(url, self.root)
        host = self.endpoint.host if own else host_of(url)
        if host not in self._contexts:
            self._contexts[host] = tls.context(host, self._settings.certs, verify=self.endpoint.verify or not own)
        return self._contexts[host]


async def document(answer: ClientResponse, limit: int, what: str) -> bytes:
    """Read a whole answer of at most `limit` bytes, and release it.

    Raises:
        HostileInput: it is longer.
        Unavailable: it broke off.
    """
    parts, size = [], 0
    try:
        async for part in answer.content.iter_any():
            size += len(part)
            if size > limit:
                answer.close()
                raise HostileInput(f"{what} is larger than {limit} bytes")
            parts.append(part)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        answer.close()
        raise refusals.from_network(answer.method, answer.url, error) from None
    answer.release()
    return b"".join(parts)


async def refusal(answer: ClientResponse) -> WherryError:
    """Read the answer's words and make an error of it."""
    try:
        body = await document(answer, refusals.BODY_LIMIT, "the registry's error")
    except WherryError:
        body = b""
    error = refusals.from_answer(answer.method, answer.url, answer.status, body)
    wait = retry_after(answer.headers.get("Retry-After"))
    if answer.status == 429 and wait:
        error.message += f" (the registry asks to wait {int(wait)} seconds)"
    return error


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` asks for (RFC 9110: a number, or a date); None where it asks nothing."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())
