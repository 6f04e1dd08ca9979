"""Pages that change a repository: create, settings, members, tokens, delete."""

from aiohttp import web

from wherry.errors import Forbidden, InvalidArgument, NotFound, NotSupported, WherryError
from wherry.registry.accounts import roles
from wherry.registry.accounts.shelves import README_LIMIT
from wherry.registry.accounts.standing import Standing
from wherry.registry.names import repository_name
from wherry.registry.units import seconds
from wherry.registry.web.site import Site, Visitor, path_of, said, see, signed_in

_LIFETIMES = {"30d": "30 days", "90d": "90 days", "365d": "a year", "0": "no end"}


async def _administers(site: Site, visitor: Visitor, name: str) -> Standing:
    _ = site.known_accounts
    signed_in(visitor)
    standing = await site.standing(visitor, name)
    if not standing.administers:
        raise Forbidden("Only those who administer this repository may do that.")
    return standing


async def create(site: Site, request: web.Request, visitor: Visitor) -> web.Response:
    """`/new`."""
    accounts = site.known_accounts
    account = signed_in(visitor)
    spaces = [account.name]
    organisations = await accounts.run(accounts.people.organisations, account)
    spaces += [member.name for member in organisations if member.role in (roles.WRITER, roles.OWNER)]
    values = {
        "namespace": request.query.get("namespace", account.name),
        "name": "",
        "summary": "",
        "visibility": accounts.settings.new_repositories,
    }
    problem = ""
    if request.method == "POST":
        values |= await site.form(request, visitor)
        try:
            if values["namespace"] not in spaces:
                raise Forbidden("You may not make repositories there.")
            name = repository_name(f"{values['namespace']}/{values['name'].strip()}")
            public = values["visibility"] == "public"
            await accounts.run(accounts.shelves.add, name, public=public, summary=values["summary"].strip())
        except WherryError as error:
            problem = _name_problem(error)
        else:
            site.tell("repository.create", request, visitor, repository=name, public=public)
            return see(f"/r/{path_of(name)}")
    return site.render(
        request, visitor, "new.html", spaces=spaces, values=values, problem=problem, status=400 if problem else 200
    )


def _name_problem(error: WherryError) -> str:
    if error.message == "invalid repository name":
        return "A name has lower-case letters and digits; dots, dashes, underscores and slashes only between them."
    return said(error)


async def settings(site: Site, request: web.Request, visitor: Visitor, name: str) -> web.Response:
    """Summary, description, visibility, immutable tags."""
    standing = await _administers(site, visitor, name)
    accounts = site.known_accounts
    shelf = await accounts.run(accounts.shelves.find, name)
    if shelf is None:
        raise NotFound("There is no such repository.")
    readme = await accounts.run(accounts.shelves.readme, name)
    problem = ""
    if request.method == "POST":
        fields = await site.form(request, visitor)
        readme = fields.get("readme", "").replace("\r\n", "\n")
        changed = {
            "summary": fields.get("summary", "").strip()[:200],
            "readme": readme,
            "public": fields.get("visibility") == "public",
            "immutable": fields.get("immutable") == "on",
        }
        if len(readme.encode()) > README_LIMIT:
            problem = f"The description is larger than {README_LIMIT >> 10} KiB."
        else:
            await accounts.run(lambda: accounts.shelves.set(name, **changed))
            public, immutable = changed["public"], changed["immutable"]
            site.tell("repository.change", request, visitor, repository=name, public=public, immutable=immutable)
            return see(f"/r/{path_of(name)}")
    return site.render(
        request,
        visitor,
        "settings.html",
        tab="settings",
        name=name,
        standing=standing,
        shelf=shelf,
        readme=readme,
        problem=problem,
        status=400 if problem else 200,
    )


async def members(site: Site, request: web.Request, visitor: Visitor, name: str) -> web.Response:
    """Who has a role in the repository."""
    standing = await _administers(site, visitor, name)
    accounts = site.known_accounts
    problem = ""
    if request.method == "POST":
        fields = await site.form(request, visitor)
        user, role = fields.get("user", "").strip(), fields.get("role", "")
        try:
            await accounts.run(accounts.shelves.set_member, name, user, role)
        except WherryError as error:
            problem = said(error)
        else:
            event = "member.set" if role else "member.remove"
            site.tell(event, request, visitor, repository=name, user=user, role=role)
            return see(f"/r/{path_of(name)}/-/members")
    found = await accounts.run(accounts.shelves.members, name)
    return site.render(
        request,
        visitor,
        "members.html",
        tab="members",
        name=name,
        standing=standing,
        members=found,
        roles=roles.REPOSITORY_ROLES,
        problem=problem,
        status=400 if problem else 200,
    )


async def tokens(site: Site, request: web.Request, visitor: Visitor, name: str) -> web.Response:
    """Tokens for machines; a new one's secret is in this one answer and nowhere else."""
    standing = await _administers(site, visitor, name)
    account = signed_in(visitor)
    accounts = site.known_accounts
    problem = secret = ""
    made = None
    if request.method == "POST":
        fields = await site.form(request, visitor)
        try:
            if revoked := fields.get("revoke"):
                robot = await accounts.run(accounts.robots.by_name, revoked)
                if robot is None or robot.repository != name:
                    raise NotFound("There is no such token here.")
                await accounts.run(accounts.robots.revoke, revoked)
                site.tell("token.revoke", request, visitor, token=revoked)
                return see(f"/r/{path_of(name)}/-/tokens")
            actions = roles.robot_actions([action for action in sorted(roles.ALL) if fields.get(action) == "on"])
            if fields.get("lifetime") not in _LIFETIMES:
                raise InvalidArgument("choose how long the token is good")
            made, secret = await accounts.run(
                accounts.robots.add,
                fields.get("word", "").strip(),
                name,
                actions,
                account,
                int(seconds(fields["lifetime"])),
            )
            site.tell("token.add", request, visitor, token=made.name, repository=name, actions=sorted(actions))
        except WherryError as error:
            problem = said(error)
    found = await accounts.run(accounts.robots.of_repository, name)
    return site.render(
        request,
        visitor,
        "tokens.html",
        tab="tokens",
        name=name,
        standing=standing,
        tokens=found,
        made=made,
        secret=secret,
        lifetimes=_LIFETIMES,
        problem=problem,
        status=400 if problem else 200,
    )


async def delete(site: Site, request: web.Request, visitor: Visitor, name: str) -> web.Response:
    """The whole repository; its name must be typed."""
    standing = await _administers(site, visitor, name)
    accounts = site.known_accounts
    _may_delete(site)
    problem = ""
    if request.method == "POST":
        fields = await site.form(request, visitor)
        if fields.get("confirm", "").strip() == name:
            await site.service.run(_empty, site, name)
            await accounts.run(accounts.shelves.remove, name)
            site.tell("repository.delete", request, visitor, repository=name)
            return see("/")
        problem = "That is not the name of the repository."
    return site.render(
        request,
        visitor,
        "delete.html",
        tab="settings",
        name=name,
        standing=standing,
        tags=site.images.count(name),
        problem=problem,
        status=400 if problem else 200,
    )


def _empty(site: Site, name: str) -> None:
    """Delete every manifest; the next collection takes the layers, and the empty repository."""
    repositories = site.service.repositories
    try:
        listed = list(repositories.load(name).manifests)
    except NotFound:
        return  # nothing was pushed yet
    for digest in listed:
        try:
            repositories.delete_manifest(name, digest)
        except NotFound:
            continue  # by somebody else, meanwhile


async def delete_tag(site: Site, request: web.Request, visitor: Visitor, name: str, tag: str) -> web.Response:
    """One tag; the image stays where another tag points at it."""
    standing = await _administers(site, visitor, name)
    _may_delete(site)
    if standing.immutable:
        raise Forbidden("The tags of this repository are immutable. An administrator can change that in its settings.")
    digest, _ = await site.service.run(site.service.repositories.resolve, name, tag)
    if request.method == "POST":
        await site.form(request, visitor)
        if ":" in tag:
            gone = await site.service.run(site.service.repositories.delete_manifest, name, tag)
            site.tell("manifest.delete", request, visitor, repository=name, digest=digest, tags=gone)
        else:
            await site.service.run(site.service.repositories.delete_tag, name, tag)
            site.tell("tag.delete", request, visitor, repository=name, digest=digest, tags=[tag])
        return see(f"/r/{path_of(name)}/-/tags")
    return site.render(
        request, visitor, "delete_tag.html", tab="tags", name=name, standing=standing, reference=tag, digest=digest
    )


def _may_delete(site: Site) -> None:
    if site.service.settings.read_only or not site.service.settings.delete:
        raise NotSupported("This registry does not delete.")
