"""Pages to look at: home, search, repositories, tags, people."""

from aiohttp import web

from wherry.errors import NotFound
from wherry.registry.accounts import roles
from wherry.registry.accounts.people import USER
from wherry.registry.names import repository_name
from wherry.registry.web.site import Site, Visitor

_PAGE = 25
_TAGS = 50


async def home(site: Site, request: web.Request, visitor: Visitor) -> web.Response:
    """`/` and `/search`; with `part`, only the list, for the script that searches as one types."""
    text = request.query.get("q", "").strip()
    number = _page(request)
    total, found = await site.search.find(visitor.caller, text, offset=(number - 1) * _PAGE, count=_PAGE)
    template = "results.html" if "part" in request.query else "home.html"
    return site.render(
        request,
        visitor,
        template,
        total=total,
        found=found,
        text=text[:200],
        page=number,
        pages=-(-total // _PAGE),
        base="/search",
    )


async def repository(site: Site, request: web.Request, visitor: Visitor, name: str) -> web.Response:
    """Description, the latest tags, how to pull."""
    repository_name(name)
    standing = await site.standing(visitor, name)
    shelf = readme = None
    if site.accounts is not None:
        shelf = await site.accounts.run(site.accounts.shelves.find, name)
        readme = await site.accounts.run(site.accounts.shelves.readme, name)
    total, tags = await site.service.run(site.images.latest, name, count=8)
    if shelf is None and total == 0 and site.images.count(name) == 0:
        raise NotFound("There is no such repository, or you may not see it.")
    return site.render(
        request,
        visitor,
        "repository.html",
        tab="overview",
        name=name,
        standing=standing,
        shelf=shelf,
        readme=readme or "",
        tags=tags,
        total=total,
    )


async def tags(site: Site, request: web.Request, visitor: Visitor, name: str) -> web.Response:
    """All tags, latest push first."""
    standing = await site.standing(visitor, name)
    number = _page(request)
    text = request.query.get("t", "").strip()[:128]
    total, found = await site.service.run(site.images.latest, name, offset=(number - 1) * _TAGS, count=_TAGS, text=text)
    return site.render(
        request,
        visitor,
        "tags.html",
        tab="tags",
        name=name,
        standing=standing,
        tags=found,
        total=total,
        text=text,
        page=number,
        pages=-(-total // _TAGS),
    )


async def tag(site: Site, request: web.Request, visitor: Visitor, name: str, reference: str) -> web.Response:
    """One tag, or digest."""
    standing = await site.standing(visitor, name)
    details = await site.service.run(site.images.details, name, reference, request.query.get("platform", "")[:200])
    pull = f"{name}@{reference}" if ":" in reference else f"{name}:{reference}"
    return site.render(
        request,
        visitor,
        "tag.html",
        tab="tags",
        name=name,
        standing=standing,
        reference=reference,
        details=details,
        pull=pull,
    )


async def owner(site: Site, request: web.Request, visitor: Visitor) -> web.Response:
    """`/u/NAME`: a user or an organisation, and the repositories that the visitor may see."""
    accounts = site.known_accounts
    name = request.match_info["name"]
    found = await accounts.memory.account(name)
    if found is None:
        raise NotFound("There is nobody of that name.")
    number = _page(request)
    total, shelves = await site.search.find(
        visitor.caller, "", namespace=name, offset=(number - 1) * _PAGE, count=_PAGE
    )
    if visitor.account is None and total == 0:
        raise NotFound("There is nobody of that name.")  # who has an account is not everybody's to know
    members = []
    role = ""
    if found.kind != USER:
        members = await accounts.run(accounts.people.members, found)
        mine = [m.role for m in members if visitor.account is not None and m.name == visitor.account.name]
        role = roles.OWNER if visitor.account is not None and visitor.account.admin else (mine[0] if mine else "")
        if not role:
            members = []  # who works together is theirs to know
    elif visitor.account is not None and (visitor.account.name == name or visitor.account.admin):
        role = roles.OWNER
    return site.render(
        request,
        visitor,
        "owner.html",
        owner=found,
        members=members,
        role=role,
        total=total,
        found=shelves,
        page=number,
        pages=-(-total // _PAGE),
        base=f"/u/{name}",
        text="",
    )


def _page(request: web.Request) -> int:
    text = request.query.get("page", "1")[:6]
    return max(1, int(text)) if text.isascii() and text.isdigit() else 1
