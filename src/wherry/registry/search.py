"""`/v1/search`, as `docker search` asks it: the one call of Docker's first registry protocol that is still in use.

dockerd asks `GET /v1/_ping` and then `GET /v1/search?q=TERM&n=LIMIT`, with Basic credentials where its user is logged
in, and shows what comes in the shape of Docker Hub's old answer. What a caller may not know of is not found.
"""

from typing import Any, Final

import msgspec
from aiohttp import web

from wherry.errors import Unauthorized, WherryError
from wherry.registry.accounts.callers import ANYBODY, Known
from wherry.registry.accounts.service import Accounts
from wherry.registry.api.replies import reply_error
from wherry.registry.errors import Challenge
from wherry.registry.service import SERVICE, Service

_PAGE: Final = 25
_PAGE_MAX: Final = 100
_TERM_MAX: Final = 200


class Found(msgspec.Struct, frozen=True):
    """One repository that was found; `public` and times (seconds since the epoch) where they are known."""

    name: str
    summary: str
    public: bool
    updated: int


class Search:
    """Finds repositories.

    Args:
        service: the registry.
        accounts: who may know of which; None: everybody of all.
    """

    def __init__(self, service: Service, accounts: Accounts | None) -> None:
        self._service = service
        self._accounts = accounts

    async def find(
        self, caller: Known, text: str, *, offset: int = 0, count: int = _PAGE, namespace: str | None = None
    ) -> tuple[int, list[Found]]:
        """How many repositories have all words of `text`, and one page of them, best match first."""
        text = text[:_TERM_MAX]
        if self._accounts is None:
            return await self._service.run(self._find_open, text, offset, count)
        robot = caller.robot
        total, page = await self._accounts.run(
            self._accounts.shelves.search,
            caller.account,
            text,
            everything=robot is not None and robot.maker is None,
            within=robot.repository if robot is not None else None,
            namespace=namespace,
            offset=offset,
            count=count,
        )
        return total, [Found(shelf.name, shelf.summary, shelf.public, shelf.pushed) for shelf in page]

    def _find_open(self, text: str, offset: int, count: int) -> tuple[int, list[Found]]:
        words = text.lower().split()[:8]
        found: list[str] = []
        last = ""
        while page := self._service.database.names(last, 1000):
            found += [name for name in page if all(word in name for word in words)]
            last = page[-1]
        if words:
            first = words[0]
            found.sort(
                key=lambda name: (
                    name != first,
                    not name.endswith(f"/{first}"),
                    not name.startswith(first),
                    f"/{first}" not in name,
                    len(name),
                    name,
                )
            )
        return len(found), [Found(name, "", True, 0) for name in found[offset : offset + count]]


def add_routes(app: web.Application, accounts: Accounts | None) -> None:
    """Add `/v1/` to the application."""
    endpoint = _Endpoint(Search(app[SERVICE], accounts), accounts)
    app.router.add_get("/v1/_ping", endpoint.ping)
    app.router.add_get("/v1/search", endpoint.search)


class _Endpoint:
    def __init__(self, search: Search, accounts: Accounts | None) -> None:
        self._search = search
        self._accounts = accounts

    async def ping(self, _: web.Request) -> web.StreamResponse:
        """`standalone` tells dockerd to send its user's credentials here, and to no index."""
        return web.json_response({"standalone": True}, headers={"X-Docker-Registry-Standalone": "true"})

    async def search(self, request: web.Request) -> web.StreamResponse:
        """Docker Hub's old answer, page by page."""
        try:
            caller = await self._caller(request)
        except WherryError as error:
            return reply_error(error)
        size = min(max(_number(request, "n", _number(request, "page_size", _PAGE)), 1), _PAGE_MAX)
        page = max(_number(request, "page", 1), 1)
        term = request.query.get("q", "")
        total, found = await self._search.find(caller, term, offset=(page - 1) * size, count=size)
        results: list[dict[str, Any]] = [
            {
                "name": item.name,
                "description": item.summary,
                "star_count": 0,
                "pull_count": 0,
                "is_official": "/" not in item.name,
                "is_automated": False,
                "is_trusted": False,
                "is_private": not item.public,
            }
            for item in found
        ]
        return web.json_response(
            {
                "query": term[:_TERM_MAX],
                "page": page,
                "page_size": size,
                "num_pages": -(-total // size),
                "num_results": total,
                "results": results,
            }
        )

    async def _caller(self, request: web.Request) -> Known:
        if self._accounts is None:
            return ANYBODY
        if "Authorization" not in request.headers and request.headers.get("User-Agent", "").startswith("containers/"):
            # podman never sends credentials to this address; refused, it asks the catalog instead, and with them
            challenge = self._accounts.authorizer.challenge(request, "registry:catalog:*")
            raise Challenge("authentication required", challenge)
        try:
            return await self._accounts.callers.identify(request)
        except Unauthorized as error:
            challenge = self._accounts.authorizer.challenge(request, "registry:catalog:*", "invalid_token")
            raise Challenge(error.message, challenge) from None


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    return int(text[:6]) if text.isascii() and text.isdigit() else default
