"""Who may do what: the seam at which accounts are joined to the registry.

The API asks one `Authorizer` before it does anything, and again where more is learned (a mount's source). It
raises `Challenge` (the caller may show who it is), `Forbidden` (it did, and must not) or `NameUnknown` (it must not
even know).
"""

from collections.abc import Sequence
from typing import Final, Protocol

from aiohttp.web import BaseRequest

PULL: Final = "pull"
PUSH: Final = "push"  # blobs, new manifests, new tags
OVERWRITE: Final = "overwrite"  # let a tag that exists point elsewhere
DELETE: Final = "delete"
CATALOG: Final = "catalog"  # of the registry itself, repository ""

READ: Final = frozenset((PULL,))
WRITE: Final = frozenset((PULL, PUSH))
METRICS: Final = "metrics"
"""To read the counters of the server; an action on no repository."""
REMOVE: Final = frozenset((DELETE,))


class Caller:
    """Who asks.

    Args:
        name: of the user or robot; "" for nobody in particular.
        actions: what the credential was made for, by repository; None where it may do what its user may.
    """

    __slots__ = ("actions", "name")

    def __init__(self, name: str = "", actions: dict[str, frozenset[str]] | None = None) -> None:
        self.name = name
        self.actions = actions


NOBODY: Final = Caller()


class Authorizer(Protocol):
    """Decides. Implementations must be quick: every request passes through, twice where it pushes."""

    async def identify(self, request: BaseRequest) -> Caller:
        """Who makes this request.

        Raises:
            Challenge: a credential is needed for anything at all (`GET /v2/` asks only this), or is wrong.
            TooManyRequests: too many wrong ones.
        """

    async def require(self, request: BaseRequest, caller: Caller, repository: str, actions: frozenset[str]) -> None:
        """Return if the caller may do all of `actions` with the repository, which need not exist.

        Raises:
            Challenge, Forbidden, NameUnknown: it may not.
        """

    async def may(self, caller: Caller, repository: str, action: str) -> bool:
        """Whether it may do one thing: without a challenge, for what is optional (`OVERWRITE`, a mount's source)."""

    async def visible(self, caller: Caller, names: Sequence[str]) -> list[str]:
        """Those of `names` that the caller may know of, in the same order."""


class Open:
    """Everybody may do everything: a registry without accounts.

    Args:
        read_only: everybody may only read.
        delete: whether anything may be deleted.
    """

    def __init__(self, *, read_only: bool = False, delete: bool = True) -> None:
        allowed = {PULL, CATALOG, METRICS}
        if not read_only:
            allowed |= {PUSH, OVERWRITE}
            if delete:
                allowed.add(DELETE)
        self._allowed = frozenset(allowed)

    async def identify(self, request: BaseRequest) -> Caller:  # noqa: ARG002 — the protocol's
        return NOBODY

    async def require(self, request: BaseRequest, caller: Caller, repository: str, actions: frozenset[str]) -> None:  # noqa: ARG002
        if not actions <= self._allowed:
            from wherry.errors import NotSupported

            refused = ", ".join(sorted(actions - self._allowed))
            raise NotSupported(f"the operation is unsupported: this registry does not allow: {refused}")

    async def may(self, caller: Caller, repository: str, action: str) -> bool:  # noqa: ARG002
        return action in self._allowed

    async def visible(self, caller: Caller, names: Sequence[str]) -> list[str]:  # noqa: ARG002
        return list(names)
