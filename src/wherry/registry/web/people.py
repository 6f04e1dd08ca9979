"""Pages about people: sign in, out and up, the own account, organisations."""

from aiohttp import web

from wherry.errors import Forbidden, InvalidArgument, NotFound, WherryError
from wherry.registry.accounts import roles
from wherry.registry.accounts.people import ORGANISATION, Account
from wherry.registry.accounts.sessions import hash_secret
from wherry.registry.web.site import SESSION, Site, Visitor, local_path, said, see, signed_in


async def sign_in(site: Site, request: web.Request, visitor: Visitor) -> web.Response:
    """`/sign-in`."""
    accounts = site.known_accounts
    then = local_path(request.query.get("next", "/"))
    problem = name = ""
    status = 200
    if request.method == "POST":
        fields = await site.form(request, visitor)
        then = local_path(fields.get("next", "/"))
        name = fields.get("name", "").strip()
        try:
            known = await accounts.callers.login(request, name, fields.get("password", ""))
            if known.account is None or known.robot is not None:
                raise Forbidden("Tokens are for machines: sign in with a password.")
            return await _begin(site, request, known.account, then)
        except WherryError as error:
            problem, status = said(error), 400
    elif visitor.account is not None:
        return see(then)
    return site.render(request, visitor, "sign_in.html", next=then, name=name, problem=problem, status=status)


async def _begin(site: Site, request: web.Request, account: Account, then: str) -> web.Response:
    accounts = site.known_accounts
    old = request.cookies.get(SESSION, "")
    if old:
        await accounts.run(accounts.sessions.end, old)
    response = see(then)
    site.set_session(request, response, await accounts.run(accounts.sessions.begin, account))
    return response


async def sign_out(site: Site, request: web.Request, visitor: Visitor) -> web.Response:
    """`/sign-out`: a form, so that no link of another site signs anybody out."""
    accounts = site.known_accounts
    await site.form(request, visitor)
    if visitor.account is not None:
        await accounts.run(accounts.sessions.end, visitor.secret)
        site.tell("logout", request, visitor)
    response = see("/")
    site.set_session(request, response, "")
    return response


async def sign_up(site: Site, request: web.Request, visitor: Visitor) -> web.Response:
    """`/sign-up`, as the setting allows."""
    accounts = site.known_accounts
    mode = accounts.settings.sign_up
    if mode == "off":
        raise NotFound("Accounts of this registry are made by its administrator.")
    problem = ""
    values = {"name": "", "code": request.query.get("code", "")[:64]}
    if request.method == "POST":
        values |= await site.form(request, visitor)
        address = accounts.callers.address(request)
        try:
            accounts.attempts.spend("sign up", address)  # also those that succeed: each costs a hash and a row
            name = roles.account_name(values["name"].strip())
            if name in roles.RESERVED:
                raise InvalidArgument("that name is taken")
            password = roles.new_password(values.get("password", ""), name)
            invitation = hash_secret(values["code"].strip()) if mode == "invitation" else None
            hashed = await accounts.passwords.hash(password)
            made = await accounts.run(accounts.people.add_user, name, hashed, invitation=invitation)
        except WherryError as error:
            problem = said(error)
        else:
            site.tell("user.sign-up", request, Visitor(made, "-"), user=name, address=address)
            return await _begin(site, request, made, "/")
    return site.render(
        request, visitor, "sign_up.html", mode=mode, values=values, problem=problem, status=400 if problem else 200
    )


async def account(site: Site, request: web.Request, visitor: Visitor) -> web.Response:
    """`/account`: password, organisations, tokens; invitations for administrators."""
    accounts = site.known_accounts
    me = signed_in(visitor)
    problem = done = code = ""
    if request.method == "POST":
        fields = await site.form(request, visitor)
        try:
            if fields.get("do") == "password":
                await accounts.callers.login(request, me.name, fields.get("old", ""), quiet=True)
                hashed = await accounts.passwords.hash(roles.new_password(fields.get("new", ""), me.name))
                await accounts.run(accounts.people.set_password, me.name, hashed)
                site.tell("user.password", request, visitor, user=me.name)
                changed = await accounts.memory.account(me.name)
                assert changed is not None  # it has just got a password
                return await _begin(site, request, changed, "/account?done=password")
            if fields.get("do") == "about":
                await accounts.run(accounts.people.set_about, me.name, " ".join(fields.get("about", "").split()))
                return see("/account")
            if fields.get("do") == "invite":
                if not me.admin:
                    raise Forbidden("Only administrators of the registry invite.")
                code = await accounts.run(accounts.sessions.invite, me)
                site.tell("invitation.add", request, visitor)
            elif fields.get("do") == "revoke":
                mine = {robot.name for robot in await accounts.run(accounts.robots.of_maker, me)}
                if fields.get("token") not in mine:
                    raise NotFound("There is no such token of yours.")
                await accounts.run(accounts.robots.revoke, fields["token"])
                site.tell("token.revoke", request, visitor, token=fields["token"])
                return see("/account")
        except WherryError as error:
            problem = said(error)
    if request.query.get("done") == "password":
        done = "Your password is changed. All other sessions and tokens for logins have ended."
    return site.render(
        request,
        visitor,
        "account.html",
        organisations=await accounts.run(accounts.people.organisations, me),
        tokens=await accounts.run(accounts.robots.of_maker, me),
        problem=problem,
        done=done,
        code=code,
        invite_url=f"{site.url(request)}/sign-up?code={code}",
        status=400 if problem else 200,
    )


async def new_organisation(site: Site, request: web.Request, visitor: Visitor) -> web.Response:
    """`/new-organisation`."""
    accounts = site.known_accounts
    me = signed_in(visitor)
    problem = name = ""
    if request.method == "POST":
        fields = await site.form(request, visitor)
        name = fields.get("name", "").strip()
        try:
            if name in roles.RESERVED and not me.admin:
                raise InvalidArgument("that name is taken")
            await accounts.run(accounts.people.add_organisation, name, me)
        except WherryError as error:
            problem = said(error)
        else:
            site.tell("organisation.create", request, visitor, organisation=name)
            return see(f"/u/{name}")
    return site.render(
        request, visitor, "new_organisation.html", name=name, problem=problem, status=400 if problem else 200
    )


async def organisation(site: Site, request: web.Request, visitor: Visitor) -> web.Response:
    """POST to `/u/NAME/members`: give a role in an organisation, or take it."""
    accounts = site.known_accounts
    me = signed_in(visitor)
    fields = await site.form(request, visitor)
    found = await accounts.memory.account(request.match_info["name"])
    if found is None or found.kind != ORGANISATION:
        raise NotFound("There is no such organisation.")
    current = {member.name: member.role for member in await accounts.run(accounts.people.members, found)}
    user, role = fields.get("user", "").strip(), fields.get("role", "")
    leaves = not role and user == me.name and user in current
    if not me.admin and current.get(me.name) != roles.OWNER and not leaves:
        raise Forbidden("Only owners of the organisation may do that.")
    await accounts.run(accounts.people.set_member, found, user, role)
    event = "member.set" if role else "member.remove"
    site.tell(event, request, visitor, organisation=found.name, user=user, role=role)
    return see(f"/u/{found.name}")
