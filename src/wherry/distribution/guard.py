"""Where a registry may send us, and with what: hostile ones point at other hosts (CVE-2020-15157, ggcr#2193).

What a registry names by itself (a token server's realm, a redirect) is followed only to http or https, never from
https to http, never to a link-local address (cloud metadata), and to this machine only where the registry is on this
machine. Its credential goes to its own host, and to a token server of its own site.
"""

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any, Protocol

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from wherry.distribution.settings import host_of
from wherry.errors import Forbidden


class Blocked(OSError):
    """A name that leads where a registry must not send us; an OSError, for that is what resolvers raise."""


def check_target(url: URL, came_from: URL, *, what: str) -> None:
    """Refuse a realm or redirect (`what`) that must not be followed.

    Raises:
        Forbidden: and why.
    """
    if url.scheme not in ("http", "https") or not url.host:
        raise Forbidden(f"registry {host_of(came_from)}: {what} has no http address")
    if came_from.scheme == "https" and url.scheme == "http":
        raise Forbidden(f"registry {host_of(came_from)}: {what} leads from https to http ({host_of(url)})")
    if same_host(url, came_from):
        return
    try:
        address = ipaddress.ip_address(url.host)
    except ValueError:
        if url.host.lower() != "localhost":
            return
        address = ipaddress.ip_address("127.0.0.1")
    if not _may_reach(address, _is_local(came_from.host or "")):
        raise Forbidden(f"registry {host_of(came_from)}: {what} leads to {address}")


def same_host(first: URL, second: URL) -> bool:
    """Whether both are on one host; ports may differ."""
    return (first.host or "").lower() == (second.host or "").lower()


def same_origin(first: URL, second: URL) -> bool:
    """Whether scheme, host and port are the same."""
    return same_host(first, second) and first.port == second.port and first.scheme == second.scheme


def may_see_credential(realm: URL, registry: URL, further: Iterable[str] = ()) -> bool:
    """Whether a token server may be given the registry's credential: it is on its host, or on its site.

    A site is what is left of the registry's name without its first label, where that is a domain of somebody's
    (`registry-1.docker.io` and `auth.docker.io` are one); or what the settings name.
    """
    host, own = (realm.host or "").lower(), (registry.host or "").lower()
    if host == own or host in {name.lower() for name in further} or host_of(realm) in further:
        return True
    if _address(host) or _address(own):
        return False
    site = own.partition(".")[2]
    labels = site.split(".")
    if len(labels) < 2 or (len(labels) == 2 and len(labels[1]) == 2 and len(labels[0]) <= 3):
        return False  # `io`, `co.uk`: everybody's
    return host == site or host.endswith("." + site)


class Judge(Protocol):
    """Judges one address of a host; raises `Blocked`."""

    def __call__(self, host: str, address: str, /) -> None: ...


class GuardedResolver(AbstractResolver):
    """Resolves names; one that the registry gave us must not lead to link-local addresses, nor to this machine.

    Args:
        trusted: the host that the user named: it may be anywhere.
        judge: where nobody is trusted: judges every address of every host.
        proxies: hosts that the engine's owner named, which are not judged.
    """

    def __init__(self, trusted: str, judge: Judge | None = None, proxies: Iterable[str] = ()) -> None:
        self._judge = judge
        self._proxies = {name.lower() for name in proxies}
        self._trusted = trusted.lower()
        self._local = _is_local(trusted)
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve, as aiohttp's own."""
        found = await self._resolver.resolve(host, port, family)
        if self._judge is not None:
            for entry in () if host.lower() in self._proxies else found:
                self._judge(host, entry["host"])
            return found
        if host.lower() == self._trusted:
            return found
        for entry in found:
            address = _address(entry["host"])
            if address is not None and not _may_reach(address, self._local):
                raise Blocked(f"{host} leads to {address}")
        return found

    async def close(self) -> None:
        """Nothing is held."""
        await self._resolver.close()


def _may_reach(address: Any, local: bool) -> bool:
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_link_local or mapped.is_unspecified or mapped.is_multicast:
        return False
    return local or not mapped.is_loopback


def _is_local(host: str) -> bool:
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> Any:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
