"""The table of pages.

A repository's pages are below `/r/NAME`; what belongs to it follows `/-/`, which no name can have in it.
"""

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Final

from aiohttp import web

from wherry.errors import NotFound, NotSupported
from wherry.registry.accounts.service import Accounts
from wherry.registry.names import repository_name
from wherry.registry.service import Service
from wherry.registry.web import browse, manage, people
from wherry.registry.web.site import Site, Visitor

Simple = Callable[[Site, web.Request, Visitor], Awaitable[web.StreamResponse]]
OfRepository = Callable[[Site, web.Request, Visitor, str], Awaitable[web.StreamResponse]]

_PAGES: Final[dict[str, tuple[str, Simple]]] = {
    "/": ("GET", browse.home),
    "/search": ("GET", browse.home),
    "/u/{name}": ("GET", browse.owner),
    "/u/{name}/members": ("POST", people.organisation),
    "/new": ("GET POST", manage.create),
    "/new-organisation": ("GET POST", people.new_organisation),
    "/account": ("GET POST", people.account),
    "/sign-in": ("GET POST", people.sign_in),
    "/sign-up": ("GET POST", people.sign_up),
    "/sign-out": ("POST", people.sign_out),
}

_OF_REPOSITORY: Final[dict[str, tuple[str, OfRepository]]] = {
    "": ("GET", browse.repository),
    "tags": ("GET", browse.tags),
    "settings": ("GET POST", manage.settings),
    "members": ("GET POST", manage.members),
    "tokens": ("GET POST", manage.tokens),
    "delete": ("GET POST", manage.delete),
}

_STATIC: Final = {"wherry.css": "text/css", "wherry.js": "text/javascript", "icon.svg": "image/svg+xml"}


def add_routes(app: web.Application, service: Service, accounts: Accounts | None) -> None:
    """Add the pages to the application."""
    site = Site(service, accounts)

    def simple(handler: Simple) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        return site.page(lambda request, visitor: handler(site, request, visitor))

    for path, (methods, handler) in _PAGES.items():
        for method in methods.split():
            if method == "GET":
                app.router.add_get(path, simple(handler))
            else:
                app.router.add_route(method, path, simple(handler))
    answer = site.page(lambda request, visitor: _of_repository(site, request, visitor))
    app.router.add_get("/r/{rest:.+}", answer)
    app.router.add_post("/r/{rest:.+}", answer)
    for name, kind in _STATIC.items():
        app.router.add_get(f"/static/{name}", _static(name, kind))
    app.router.add_get("/{rest:.+}", simple(_nowhere))


async def _nowhere(_: Site, __: web.Request, ___: Visitor) -> web.StreamResponse:
    raise NotFound("There is no such page.")


async def _of_repository(site: Site, request: web.Request, visitor: Visitor) -> web.StreamResponse:
    name, _, rest = request.match_info["rest"].rstrip("/").partition("/-/")
    repository_name(name)
    kind, _, what = rest.partition("/")
    method = "GET" if request.method == "HEAD" else request.method
    if kind == "tag" and what:
        reference, _, verb = what.partition("/")
        if verb == "delete":
            return await manage.delete_tag(site, request, visitor, name, reference)
        if not verb and method == "GET":
            return await browse.tag(site, request, visitor, name, reference)
        raise NotFound("There is no such page.")
    methods, handler = _OF_REPOSITORY.get(kind, ("", browse.repository))
    if what or not methods:
        raise NotFound("There is no such page.")
    if method not in methods.split():
        raise NotSupported("That page only shows.")
    return await handler(site, request, visitor, name)


def _static(name: str, kind: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    body = (resources.files("wherry.registry.web") / "static" / name).read_bytes()

    async def answer(_: web.Request) -> web.StreamResponse:
        made = web.Response(body=body, content_type=kind, charset="utf-8")
        made.headers["Cache-Control"] = "public, max-age=31536000, immutable"  # the link has its hash
        made.headers["X-Content-Type-Options"] = "nosniff"
        return made

    return answer
