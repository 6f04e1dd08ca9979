"""One endpoint that answered: requests to it, with what proves who asks."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Self

from aiohttp import ClientResponse
from yarl import URL

from wherry.distribution import challenge, guard
from wherry.distribution.credentials import NOBODY, Credential
from wherry.distribution.settings import Endpoint, Settings
from wherry.distribution.tokens import Authorizer
from wherry.distribution.transport import Body, Transport, refusal
from wherry.errors import Unavailable, WherryError

PING_SECONDS = 9.0

_known_schemes: dict[str, str] = {}
"""Which scheme an insecure registry spoke last: asked first the next time."""


class Link:
    """Made by `connect`; an async context manager."""

    def __init__(self, transport: Transport, authorizer: Authorizer) -> None:
        self.transport = transport
        self.endpoint = transport.endpoint
        self.authorizer = authorizer

    def url(self, repository: str, rest: str) -> URL:
        """Return the URL of something of a repository (`manifests/latest`)."""
        return self.transport.root.with_path(
            f"{self.endpoint.base}/{self.endpoint.prefix}{repository}/{rest}", encoded=True
        )

    def scope(self, repository: str, actions: str = "pull") -> str:
        """Return the token's scope for a repository."""
        return f"repository:{self.endpoint.prefix}{repository}:{actions}"

    async def request(
        self,
        method: str,
        url: URL,
        *,
        scope: str,
        good: Collection[int],
        headers: "Mapping[str, str] | None" = None,
        body: "bytes | Body | None" = None,
        again: bool = True,
    ) -> ClientResponse:
        """Send a request and return its answer, whose status is one of `good`; the caller releases it.

        Raises:
            Unauthorized, Forbidden, NotFound, InvalidArgument, Unavailable, WherryError: what the registry said.
        """
        own = guard.same_origin(url, self.transport.root)
        for renewed in (False, True):
            authorization = await self.authorizer.header(scope) if own else None
            answer = await self.transport.send(
                method, url, headers or {}, authorization=authorization, body=body, again=again
            )
            if answer.status in good:
                return answer
            if answer.status == 401 and own and not renewed and guard.same_origin(answer.url, self.transport.root):
                # the token is over, or this registry asks only where it matters
                self.authorizer.forget(scope)
                if self.authorizer.challenged(challenge.parse(answer.headers.getall("WWW-Authenticate", []))):
                    answer.release()
                    continue
            break
        raise await refusal(answer)

    async def close(self) -> None:
        """Close every connection."""
        await self.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def connect(
    endpoint: Endpoint,
    settings: Settings,
    credential: Credential = NOBODY,
    *,
    domain: str = "",
) -> Link:
    """Ask an endpoint whether it is a registry (`GET /v2/`), and what it wants to be proven.

    Args:
        credential: the caller's; a mirror never gets it.
        domain: the registry that the settings know it by.

    Raises:
        Unavailable: nobody answers within `PING_SECONDS`, or no registry.
    """
    schemes = list(endpoint.schemes)
    if len(schemes) > 1 and _known_schemes.get(endpoint.host) == "http":
        schemes.reverse()
    try:
        async with asyncio.timeout(PING_SECONDS):
            return await _connect(endpoint, settings, credential, schemes, domain)
    except TimeoutError:
        raise Unavailable(
            f'Get "{schemes[0]}://{endpoint.host}{endpoint.base}/": net/http: request canceled while waiting for '
            "connection (Client.Timeout exceeded while awaiting headers)",
            status=0,
            code="",
        ) from None


async def _connect(
    endpoint: Endpoint, settings: Settings, credential: Credential, schemes: list[str], domain: str
) -> Link:
    failure: WherryError | None = None
    for scheme in schemes:
        transport = Transport(endpoint, settings, scheme)
        try:
            link = await _ping(transport, NOBODY if endpoint.mirror else credential, settings.realms.get(domain, ()))
        except BaseException as error:
            await transport.close()
            # who does not answer at all would not do so on another port either, and somebody waits
            if not isinstance(error, Unavailable) or error.facts.get("timeout"):
                raise
            # both refuse: the plain one's words are those that people know
            failure = error
            continue
        if len(schemes) > 1:
            _known_schemes[endpoint.host] = scheme
        return link
    assert failure is not None
    raise failure


async def _ping(transport: Transport, credential: Credential, realms: Collection[str]) -> Link:
    url = transport.root.with_path(f"{transport.endpoint.base}/", encoded=True)
    answer = await transport.send("GET", url, {}, again=False)
    authorizer = Authorizer(transport, credential, realms)
    if answer.status == 401:
        authorizer.challenged(challenge.parse(answer.headers.getall("WWW-Authenticate", [])))
    elif answer.status != 200:
        error = await refusal(answer)
        # not of an image: there is no registry here, or none that works
        raise Unavailable(str(error), status=answer.status, code="")
    answer.release()
    return Link(transport, authorizer)
