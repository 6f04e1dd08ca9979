"""Which servers stand for a registry: mirrors, what is insecure, where the certificates lie."""

import copy
import ipaddress
from collections.abc import Iterable, Mapping

from yarl import URL

from wherry.config import EngineConfig
from wherry.errors import InvalidArgument

HUB = "docker.io"
HUB_HOST = "registry-1.docker.io"
DELAYS = (0.5, 1.0, 2.0, 4.0)
CERTS = ("/etc/wherry/certs.d", "/etc/docker/certs.d")


class Endpoint:
    """One server to ask.

    Args:
        host: host with port, as certificates are filed.
        schemes: `https`, and behind it `http` where that is allowed; tried in order.
        verify: whether its certificate must be good.
        mirror: whether it stands in for another: it gets no credential, and its failure is not the end.
        base: path of its API (`/v2`).
        prefix: what comes before a repository's name there (a mirror that keeps several registries).
    """

    __slots__ = ("base", "host", "mirror", "prefix", "schemes", "verify")

    def __init__(
        self,
        host: str,
        schemes: tuple[str, ...],
        *,
        verify: bool = True,
        mirror: bool = False,
        base: str = "/v2",
        prefix: str = "",
    ) -> None:
        self.host = host
        self.schemes = schemes
        self.verify = verify
        self.mirror = mirror
        self.base = base
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"Endpoint({self.host!r}, {self.schemes!r}, mirror={self.mirror})"


class Settings:
    """An engine's registry settings.

    Args:
        mirrors: Docker's list: `URL` for Docker Hub, `HOST=URL` for another registry.
        insecure: hosts (with or without port), networks (`10.0.0.0/8`): plain http is tried, no certificate checked.
        hosts: for each registry `{"mirrors": [URL…], "insecure": bool, "realms": [HOST…]}`; `realms` are further
            hosts whose token servers may see this registry's credentials.
        certs: directories with `<host:port>/{ca.crt, client.cert, client.key}`, the first that has the host counts.
        delays: seconds to wait before each further attempt.

    Raises:
        InvalidArgument: a mirror that is no URL, a key that does not exist.
    """

    def __init__(
        self,
        mirrors: Iterable[str] = (),
        insecure: Iterable[str] = (),
        hosts: "Mapping[str, Mapping[str, object]] | None" = None,
        certs: tuple[str, ...] = CERTS,
        delays: tuple[float, ...] = DELAYS,
    ) -> None:
        self.delays = delays
        self.certs = certs
        self._mirrors: dict[str, list[URL]] = {}
        self._insecure: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self.realms: dict[str, list[str]] = {}
        for text in mirrors:
            host, equals, url = text.partition("=")
            if not equals or "://" in host:
                host, url = HUB, text
            self._mirrors.setdefault(host, []).append(_mirror(url))
        for text in insecure:
            self._add_insecure(text)
        for host, values in (hosts or {}).items():
            self._add_host(host, values)

    def _add_insecure(self, text: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(text))
        except ValueError:
            if "://" in text:
                raise InvalidArgument(
                    f"insecure registry {text} should not contain '{text.partition('://')[0]}://'"
                ) from None
            self._insecure.add(text.lower())

    def _add_host(self, host: str, values: "Mapping[str, object]") -> None:
        if not isinstance(values, dict):
            raise InvalidArgument(f"registries: {host}: expected an object")
        for key, value in values.items():
            strings = isinstance(value, list) and all(isinstance(item, str) for item in value)
            if key == "mirrors" and strings:
                self._mirrors.setdefault(host, []).extend(_mirror(item) for item in value)
            elif key == "realms" and strings:
                self.realms[host] = list(value)
            elif key == "insecure" and isinstance(value, bool):
                if value:
                    self._add_insecure(host)
            else:
                raise InvalidArgument(f"registries: {host}: {key}: no such setting, or a value that is none")

    def describe(self) -> dict[str, object]:
        """Return Docker's `RegistryConfig`, as `info` shows it: what holds for which registry."""
        hosts = sorted({HUB, *self._mirrors, *self._insecure})
        return {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8", *(str(network) for network in self._networks)],
            "IndexConfigs": {
                host: {
                    "Name": host,
                    "Mirrors": self._mirrors_of(host),
                    "Secure": host not in self._insecure,
                    "Official": host == HUB,
                }
                for host in hosts
            },
            "Mirrors": self._mirrors_of(HUB),
        }

    def _mirrors_of(self, host: str) -> list[str]:
        # with a slash at the end, as dockerd gives them
        return [str(url).rstrip("/") + "/" for url in self._mirrors.get(host, ())]

    def with_insecure(self, host: str) -> "Settings":
        """The same settings, but that plain http may be spoken with `host` (with port): one call asked for it."""
        changed = copy.copy(self)
        changed._insecure = {*self._insecure, host.lower()}
        return changed

    def is_insecure(self, host: str) -> bool:
        """Whether plain http may be spoken with `host` (with port): named so, or on this machine."""
        name = bare_host(host)
        if host.lower() in self._insecure or name.lower() in self._insecure or name.lower() == "localhost":
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or any(address in network for network in self._networks)

    def endpoints(self, domain: str, *, mirrors: bool = True) -> list[Endpoint]:
        """Return the servers that stand for registry `domain`, the registry itself last."""
        found = []
        for url in self._mirrors.get(domain, ()) if mirrors else ():
            host = host_of(url)
            path = url.path.strip("/")
            base, prefix = "/v2", f"{path}/" if path else ""
            if path.endswith("v2") and (path == "v2" or path.endswith("/v2")):
                base, prefix = f"/{path}", ""
            verify = not self.is_insecure(host)
            found.append(Endpoint(host, (url.scheme,), verify=verify, mirror=True, base=base, prefix=prefix))
        host = HUB_HOST if domain == HUB else domain
        insecure = self.is_insecure(host)
        found.append(Endpoint(host, ("https", "http") if insecure else ("https",), verify=not insecure))
        return found


def host_of(url: URL) -> str:
    """Return host, and port where the URL says it: what a registry is called, and its certificates are filed under."""
    host = url.host or ""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{url.explicit_port}" if url.explicit_port is not None else host


def bare_host(host: str) -> str:
    """Return a host without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and ":" not in name else host


def _mirror(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        raise InvalidArgument(f"invalid mirror: {text} is not a valid URI") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidArgument(f"invalid mirror: unsupported scheme {url.scheme!r} in {text!r}")
    if url.user or url.password:
        raise InvalidArgument("invalid mirror: username/password not allowed in URI")
    if url.query_string or url.fragment:
        raise InvalidArgument(f"invalid mirror: query or fragment at end of the URI {text!r}")
    return url


def registry_settings(config: EngineConfig) -> Settings:
    """Return what an engine's configuration says of registries.

    Raises:
        InvalidArgument: see `Settings`.
    """
    # one pause fewer than attempts; further ones are as long as the last
    delays = tuple(DELAYS[min(number, len(DELAYS) - 1)] for number in range(config.max_download_attempts - 1))
    return Settings(config.registry_mirrors, config.insecure_registries, config.registries, delays=delays)
