"""From a path below `/v2/` to the function that answers it.

A repository name may have any number of parts, and parts may be called `blobs` or `manifests`: paths are read from
their end. That is also quicker than trying patterns in turn.
"""

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from wherry.errors import NotFound, NotSupported, WherryError
from wherry.registry import names
from wherry.registry.access import Caller, Open
from wherry.registry.api import blobs, listing, manifests, uploads
from wherry.registry.api.replies import headers, reply_error
from wherry.registry.door import check_page
from wherry.registry.errors import RangeInvalid, answer_for
from wherry.registry.observe import CALLER, REQUEST_ID, log, route_of
from wherry.registry.service import Service

Handler = Callable[[Service, web.BaseRequest, Caller, str, str], Awaitable[web.StreamResponse]]

_HANDLERS: Final[dict[str, dict[str, Handler]]] = {
    "manifests": {"GET": manifests.get, "HEAD": manifests.get, "PUT": manifests.put, "DELETE": manifests.delete},
    "blobs": {"GET": blobs.get, "HEAD": blobs.get, "DELETE": blobs.delete},
    "start": {"POST": uploads.start},
    "upload": {
        "GET": uploads.status,
        "HEAD": uploads.status,
        "PATCH": uploads.patch,
        "PUT": uploads.put,
        "DELETE": uploads.cancel,
    },
    "tags": {"GET": listing.tags, "HEAD": listing.tags},
    "referrers": {"GET": listing.referrers, "HEAD": listing.referrers},
}


def split(path: str) -> tuple[str, str, str]:
    """Read the path behind `/v2/`.

    Returns:
        kind of resource (a key of the table of handlers), repository, and what is named in it.

    Raises:
        NameInvalid: the repository's name is none.
        NotFound: no resource has such a path.
    """
    head, _, last = path.rpartition("/")
    name, _, kind = head.rpartition("/")
    if kind == "uploads" and name.endswith("/blobs"):
        name = name[:-6]
        kind = "upload" if last else "start"
    elif kind == "blobs" and last == "uploads":
        kind, last = "start", ""
    elif kind not in ("manifests", "blobs", "referrers") and not (kind == "tags" and last == "list"):
        raise NotFound("no such resource")
    if "%" in last:
        last = unquote(last)
    return kind, names.repository_name(name), last


class Dispatcher:
    """Answers everything below `/v2/`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; every refusal becomes one here."""
        try:
            return await self._answer(request)
        except WherryError as error:
            if answer_for(error)[0] == 500:
                log.error("request failed", extra={"request": request.get(REQUEST_ID, ""), "reason": str(error)})
            return reply_error(error, uploads.where(error) if isinstance(error, RangeInvalid) else None)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        service = self._service
        check_page(request, service.settings, has_accounts=not isinstance(service.authorizer, Open))
        caller = await service.authorizer.identify(request)
        request[CALLER] = caller.name
        path = request.rel_url.raw_path[4:]
        if not path:
            return web.Response(body=b"{}", headers=headers(Content_Type="application/json"))
        if path == "_catalog" and request.method in ("GET", "HEAD"):
            return await listing.catalog(service, request, caller)
        kind, name, last = split(path)
        route_of(request, kind)
        handler = _HANDLERS[kind].get(request.method)
        if handler is None:
            raise NotSupported("the operation is unsupported")
        return await handler(service, request, caller, name, last)
