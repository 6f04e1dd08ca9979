"""The proxy variables, read as Go's programs read them: HTTP_PROXY, HTTPS_PROXY, NO_PROXY, in either case."""

import ipaddress
from collections.abc import Mapping

from yarl import URL

from wherry.distribution.settings import bare_host


def proxy_for(url: URL, environment: Mapping[str, str]) -> URL | None:
    """Return the proxy through which `url` is reached; None: directly. This machine is always reached directly."""
    host = (url.host or "").lower()
    name = "HTTPS_PROXY" if url.scheme == "https" else "HTTP_PROXY"
    value = environment.get(name) or environment.get(name.lower()) or ""
    if not value or _is_direct(host, url.port or 0, environment.get("NO_PROXY") or environment.get("no_proxy") or ""):
        return None
    if "://" not in value:
        value = f"http://{value}"
    return URL(value)


def _is_direct(host: str, port: int, exceptions: str) -> bool:
    address = None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host == "localhost" or host.endswith(".localhost"):
            return True
    if address is not None and address.is_loopback:
        return True
    for word in exceptions.lower().replace(",", " ").split():
        if word == "*":
            return True
        if "/" in word:
            try:
                if address is not None and address in ipaddress.ip_network(word, strict=False):
                    return True
            except ValueError:
                continue  # not a network: it fits nothing
            continue
        name = bare_host(word)
        if name != word.strip("[]") and not word.endswith(f":{port}"):
            continue
        dotted = name.removeprefix("*").lstrip(".")
        if host == dotted and not name.startswith((".", "*.")):
            return True
        if address is None and host.endswith("." + dotted):
            return True
    return False
