"""The registry's `Authorizer` where there are accounts."""

from collections.abc import Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

from aiohttp.web import BaseRequest

from wherry.errors import Forbidden, NotSupported, Unauthorized
from wherry.registry.access import CATALOG, DELETE, METRICS, OVERWRITE, PULL, PUSH, Caller
from wherry.registry.accounts import roles
from wherry.registry.accounts.bearer import SERVICE
from wherry.registry.accounts.callers import ANYBODY, Callers, Known
from wherry.registry.accounts.standing import FIXED, Memory, Standing, allowed
from wherry.registry.errors import Challenge, NameUnknown

DENIED: Final = "requested access to the resource is denied"
_ORDER: Final = (PULL, PUSH, DELETE)


class VisibleNames(Protocol):
    """What the authorizer needs of the rows of repositories."""

    async def visible(self, caller: Known, names: Sequence[str]) -> list[str]:
        """Those of `names` that a caller may know of."""

    async def begin(self, repository: str) -> None:
        """A repository is pushed to for the first time."""


class AccountsAuthorizer:
    """Decides by accounts.

    Args:
        callers: tells who it is.
        memory: tells what they may do.
        shelves: asked for the visible ones of many names, and told of a first push.
        url: how clients reach the server, if it is not what they say.
        read_only, delete: what nobody may do, whatever their role.
    """

    def __init__(
        self,
        callers: Callers,
        memory: Memory,
        shelves: VisibleNames,
        *,
        url: str = "",
        read_only: bool = False,
        delete: bool = True,
    ) -> None:
        self._callers = callers
        self._memory = memory
        self._shelves = shelves
        self._url = url.rstrip("/")
        refused = {PUSH, OVERWRITE, DELETE} if read_only else set()
        if not delete:
            refused.add(DELETE)
        self._refused = frozenset(refused)

    async def identify(self, request: BaseRequest) -> Caller:
        """Who makes this request; at `/v2/` itself, nobody is asked for a credential."""
        try:
            caller = await self._callers.identify(request)
        except Unauthorized as error:
            raise Challenge(error.message, self.challenge(request, error="invalid_token")) from None
        if caller is ANYBODY and request.path == "/v2/":
            raise Challenge("authentication required", self.challenge(request))
        return caller

    async def require(self, request: BaseRequest, caller: Caller, repository: str, actions: frozenset[str]) -> None:
        """Return if the caller may do all of `actions`; see `access.Authorizer`."""
        if refused := actions & self._refused:
            raise NotSupported(
                f"the operation is unsupported: this registry does not allow: {', '.join(sorted(refused))}"
            )
        caller = _known(caller)
        if actions == {METRICS}:
            self._require_administrator(request, caller)
            return
        if actions == {CATALOG}:
            if caller is ANYBODY:
                # clients send credentials only when they are asked; a token for nobody lists what is public
                raise Challenge("authentication required", self.challenge(request, "registry:catalog:*"))
            if caller.claims is not None and "*" not in caller.claims.access.get("", roles.NOTHING):
                raise self._insufficient(request, "registry:catalog:*")
            return
        standing = await self.standing(caller, repository)
        may = allowed(standing, caller.robot, repository)
        asked = _within(caller, standing, repository)
        if actions <= may & asked:
            if PUSH in actions and not standing.known:
                await self._shelves.begin(repository)
            return
        wanted = ",".join(action for action in _ORDER if action in actions)
        if caller is ANYBODY:
            raise Challenge("authentication required", self.challenge(request, f"repository:{repository}:{wanted}"))
        if actions <= may or (caller.claims is not None and caller.name == ""):
            raise self._insufficient(request, f"repository:{repository}:{wanted}")
        if actions == {PULL}:
            # the same for what is not there and for what is not theirs
            raise NameUnknown("repository name not known to registry", name=repository)
        if DELETE in actions and standing.immutable and standing.administers:
            raise Forbidden(
                "the repository's tags are immutable: they cannot be deleted until its settings say otherwise",
                name=repository,
            )
        raise Forbidden(DENIED, name=repository)

    def _require_administrator(self, request: BaseRequest, caller: Known) -> None:
        """Return for an administrator's password, and for a robot that the operator made."""
        if caller is ANYBODY:
            raise Challenge("authentication required", f'Basic realm="{self.url(request)}"')
        by_password = caller.claims is None and caller.robot is None
        administers = by_password and caller.account is not None and caller.account.admin
        if not administers and (caller.robot is None or caller.robot.maker is not None):
            raise Forbidden(DENIED)

    async def may(self, caller: Caller, repository: str, action: str) -> bool:
        """Whether it may do one thing."""
        if action in self._refused:
            return False
        if action == CATALOG:
            return True
        caller = _known(caller)
        standing = await self.standing(caller, repository)
        return action in allowed(standing, caller.robot, repository) & _within(caller, standing, repository)

    async def visible(self, caller: Caller, names: Sequence[str]) -> list[str]:
        """Those of `names` that it may know of."""
        caller = _known(caller)
        found = await self._shelves.visible(caller, names)
        if caller.robot is None:
            return found
        return [name for name in found if PULL in allowed(await self.standing(caller, name), caller.robot, name)]

    async def standing(self, caller: Known, repository: str) -> Standing:
        """What the user behind a caller may do: for an operator's robot, everything."""
        found = await self._memory.standing(caller.account, repository)
        if caller.robot is not None and caller.robot.maker is None:
            actions = roles.ALL - FIXED if found.immutable else roles.ALL
            return Standing(roles.OWNER, actions, found.public, found.known, found.immutable)
        return found

    def challenge(self, request: BaseRequest, scope: str = "", error: str = "") -> str:
        """The value of `WWW-Authenticate` (distribution's token specification)."""
        parts = [f'Bearer realm="{self.url(request)}/token"', f'service="{SERVICE}"']
        if scope:
            parts.append(f'scope="{scope}"')
        if error:
            parts.append(f'error="{error}"')
        return ",".join(parts)

    def url(self, request: BaseRequest) -> str:
        """How the client reaches this server: as configured, else as it says itself."""
        if self._url:
            return self._url
        scheme = request.scheme
        if self._callers.is_proxied(request):
            forwarded = request.headers.get("X-Forwarded-Proto", "")
            scheme = forwarded if forwarded in ("http", "https") else scheme
        return f"{scheme}://{host_of(request)}"

    def _insufficient(self, request: BaseRequest, scope: str) -> Challenge:
        return Challenge("authentication required", self.challenge(request, scope, "insufficient_scope"))


def _known(caller: Caller) -> Known:
    # one who came before the first account was made is nobody in particular
    return caller if isinstance(caller, Known) else ANYBODY


def _within(caller: Known, standing: Standing, repository: str) -> frozenset[str]:
    """What the credential was made for; everybody reads what is public."""
    if caller.claims is None:
        return roles.ALL
    asked = caller.claims.access.get(repository, roles.NOTHING)
    if PUSH in asked:
        asked |= {OVERWRITE}  # no scope of its own in Docker's grammar: the role decides
    return asked | {PULL} if standing.public else asked


def host_of(request: BaseRequest) -> str:
    """Host and port that the client says it asks; ours where that is not one."""
    host = request.host
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return "localhost"
    plain = all(char.isascii() and (char.isalnum() or char in "-._:[]") for char in host)
    return host if plain and parts.hostname and parts.netloc == host else "localhost"


def netloc_of(url: str) -> str:
    """Host and port of a URL, in lower case; "" where it has none, or is not one."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
