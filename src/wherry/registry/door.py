"""A registry without accounts: who may reach it, and how it closes when the first account is made.

Nobody has to show a credential there, so that a web page which the operator visits could push, too: what browsers add
to their requests is looked at.
"""

import asyncio
import ipaddress
import logging
import os
from collections.abc import Awaitable, Callable

from aiohttp.web import BaseRequest, StreamResponse

from wherry.errors import Forbidden, InvalidArgument
from wherry.registry.config import Settings

log = logging.getLogger("wherry.registry")

_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test", ".example")
_READ = ("GET", "HEAD")

Handle = Callable[[BaseRequest], Awaitable[StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether a host to listen on is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listening(settings: Settings, *, has_accounts: bool) -> None:
    """Refuse to offer a registry to a network without accounts, unless that was asked for.

    Raises:
        InvalidArgument: it would be offered.
    """
    if has_accounts or settings.without_accounts or is_loopback(settings.endpoint[0]):
        return
    may = "pull" if settings.read_only else "push"
    raise InvalidArgument(
        f"{settings.addr}: this registry has no accounts, and anybody who reaches that address could {may}: "
        "add an account (wherry-registry user add --admin NAME), or serve with --without-accounts"
    )


def check_page(request: BaseRequest, settings: Settings, *, has_accounts: bool) -> None:
    """Keep web pages out of `/v2/` (CSRF, DNS rebinding): clients of registries say nothing of what is looked at.

    Raises:
        Forbidden: a page of another site writes; or, without accounts on loopback, the name is not this machine's.
    """
    headers = request.headers
    if request.method not in _READ and (
        "Origin" in headers or headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
    ):
        raise Forbidden("requests from web pages are not allowed")
    if has_accounts or not is_loopback(settings.endpoint[0]):
        return
    host = headers.get("Host", "").lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    # a name without a dot is nobody's on the public internet
    if name in settings.hosts or ("." not in name.rstrip(".") and ":" not in name) or name.endswith(_LOCAL_SUFFIXES):
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise Forbidden(f'host "{name[:80]}" is not allowed: add it to "hosts" in the configuration') from None


class Door:
    """Hands requests to the application; to another one from the moment on at which there are accounts.

    Args:
        handle: of the application without accounts, or of the only one.
        file: whose appearance says that there are accounts; "" where nothing will change.
        close: makes the application with accounts; returns its handler.
    """

    def __init__(self, handle: Handle, file: str, close: Callable[[], Awaitable[Handle]]) -> None:
        self._handle = handle
        self._file = file
        self._close = close
        self._lock = asyncio.Lock()

    async def answer(self, request: BaseRequest) -> StreamResponse:
        """Answer a request."""
        if self._file and os.path.exists(self._file):
            await self.look()
        return await self._handle(request)

    async def look(self) -> None:
        """Close, if the first account was made."""
        async with self._lock:
            if self._file and os.path.exists(self._file):
                self._handle = await self._close()
                self._file = ""
                log.info("the first account was made: from now on accounts decide who may do what")
