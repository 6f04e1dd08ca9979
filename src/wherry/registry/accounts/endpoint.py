"""`/token`: bearer tokens for Docker's clients (distribution's token and OAuth 2 specifications)."""

import re
import time
from typing import Any, Final

from aiohttp import web

from wherry.errors import InvalidArgument, Unauthorized, WherryError
from wherry.registry.access import DELETE, PULL, PUSH
from wherry.registry.accounts import roles
from wherry.registry.accounts.bearer import SERVICE, Claims
from wherry.registry.accounts.callers import ANYBODY, Known, parse_basic
from wherry.registry.accounts.service import Accounts
from wherry.registry.accounts.standing import allowed
from wherry.registry.api.replies import reply_error, reply_json
from wherry.registry.errors import Challenge
from wherry.registry.forms import read_form
from wherry.registry.names import repository_name

_SCOPES_MAX: Final = 64
_FORM_MAX: Final = 64 << 10
_GRANTED: Final = (PULL, PUSH, DELETE)
_SCOPE = re.compile(r"(repository|registry)(?:\([a-z0-9]+\))?:([^:]+(?::[0-9]+/[^:]+)?):([a-z*,]*)")


def add_routes(app: web.Application, accounts: Accounts) -> None:
    """Add `/token` to the application."""
    endpoint = _Endpoint(accounts)
    app.router.add_get("/token", endpoint.get)
    app.router.add_post("/token", endpoint.post)


class _Endpoint:
    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer to Basic credentials, or to nobody in particular: who reads what is public."""
        try:
            _check_service(request.query)
            caller = await self._by_header(request)
            token, _ = await self._grant(caller, _scopes(request.query))
        except WherryError as error:
            return self._refuse(request, error)
        return self._answer({"token": token, "access_token": token})

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Answer to OAuth 2's grant `password`."""
        try:
            if (request.content_length or 0) > _FORM_MAX:
                raise InvalidArgument("the form is too large")
            fields = await read_form(request)
            if fields.get("grant_type", "password") != "password":
                return web.json_response({"error": "unsupported_grant_type"}, status=400)
            _check_service(fields)
            if "username" in fields:
                caller = await self._accounts.callers.login(
                    request, fields["username"], fields.get("password", ""), quiet="scope" in fields
                )
            else:
                caller = await self._by_header(request)
            token, granted = await self._grant(caller, fields.get("scope", "").split())
        except WherryError as error:
            return self._refuse(request, error)
        return self._answer({"access_token": token, "scope": granted})

    async def _by_header(self, request: web.Request) -> Known:
        header = request.headers.get("Authorization")
        if header is None:
            return ANYBODY
        scheme, _, value = header.partition(" ")
        if scheme.lower() != "basic":
            raise Unauthorized("authorization: Basic")
        name, password = parse_basic(value.strip())
        # a login asks for no scope; every pull and push does, and would flood the log
        return await self._accounts.callers.login(request, name, password, quiet="scope" in request.query)

    async def _grant(self, caller: Known, scopes: list[str]) -> tuple[str, str]:
        """A token for those of `scopes` that the caller may have, and these in words; others are left out."""
        accounts = self._accounts
        if len(scopes) > _SCOPES_MAX:
            raise InvalidArgument(f"more than {_SCOPES_MAX} scopes")
        access: dict[str, frozenset[str]] = {}
        for scope in scopes:
            found = _SCOPE.fullmatch(scope)
            if found is None:
                continue
            kind, name, asked = found[1], found[2], frozenset(found[3].split(","))
            if kind == "registry":
                if name == "catalog":
                    access[""] = frozenset("*")
                continue
            try:
                repository_name(name)
            except WherryError:
                continue
            standing = await accounts.authorizer.standing(caller, name)
            may = allowed(standing, caller.robot, name)
            granted = frozenset(action for action in _GRANTED if action in may and ("*" in asked or action in asked))
            if granted:
                access[name] = access.get(name, roles.NOTHING) | granted
        account = caller.account
        token = accounts.bearer.make(
            Claims(
                name=caller.name,
                account=account.id if account is not None else 0,
                serial=account.serial if account is not None else 0,
                robot=caller.robot.id if caller.robot is not None else 0,
                access=access,
                expires=0,
            )
        )
        if caller.robot is not None:
            await accounts.run(accounts.robots.note_use, caller.robot)
        words = [
            f"repository:{name}:{','.join(a for a in _GRANTED if a in actions)}" if name else "registry:catalog:*"
            for name, actions in access.items()
        ]
        return token, " ".join(words)

    def _answer(self, facts: dict[str, Any]) -> web.Response:
        issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        facts |= {"expires_in": self._accounts.bearer.lifetime, "issued_at": issued}
        return reply_json(facts, Cache_Control="no-store")

    def _refuse(self, request: web.Request, error: WherryError) -> web.Response:
        if isinstance(error, Unauthorized):
            realm = self._accounts.authorizer.url(request)
            error = Challenge(error.message, f'Basic realm="{realm}"')
        return reply_error(error, {"Cache-Control": "no-store"})


def _scopes(query: Any) -> list[str]:
    return [scope for value in query.getall("scope", []) for scope in value.split()]


def _check_service(values: Any) -> None:
    if values.get("service") not in (None, "", SERVICE):
        raise InvalidArgument("unknown service")
