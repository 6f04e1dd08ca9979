"""resolv.conf of a container: the host's, made fit for another network namespace (resolv.conf(5)).

A resolver on the host's loopback is not there in the container. systemd-resolved's stub is replaced by the servers that
it forwards to; others are left out; where nothing remains, Docker's defaults are written, as dockerd does.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from wherry.errors import InvalidArgument

_HOST_FILE = "/etc/resolv.conf"
_RESOLVED_FILE = "/run/systemd/resolve/resolv.conf"
_STUB = "127.0.0.53"
_EMBEDDED = "127.0.0.11"
DEFAULT_SERVERS = ("8.8.8.8", "8.8.4.4")
_LIMIT = 1 << 20


class ResolvConf:
    """The lines of a resolv.conf that mean something, in order."""

    __slots__ = ("nameservers", "options", "search")

    def __init__(
        self, nameservers: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
    ) -> None:
        self.nameservers = list(nameservers)
        self.search = list(search)
        self.options = list(options)

    def render(self) -> str:
        """Write the file."""
        lines = [f"nameserver {server}" for server in self.nameservers]
        if self.search:
            lines.append("search " + " ".join(self.search))
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "".join(f"{line}\n" for line in lines)


def parse(text: str) -> ResolvConf:
    """Read a resolv.conf; comments and what is not understood are left out. Of several `search` the last counts."""
    found = ResolvConf()
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) < 2:
            continue
        match words[0]:
            case "nameserver" if _is_address(words[1]):
                found.nameservers.append(words[1])
            case "search" | "domain":
                found.search = words[1:]
            case "options":
                found.options += words[1:]
            case _:
                continue
    return found


def host_resolver(path: str = _HOST_FILE, resolved: str = _RESOLVED_FILE) -> ResolvConf:
    """Read the host's resolver settings; behind systemd-resolved's stub, the real ones. A missing file is empty."""
    settings = parse(_read(path))
    if settings.nameservers == [_STUB]:
        behind = parse(_read(resolved))
        if behind.nameservers:
            return behind
    return settings


def read_nameservers() -> list[str]:
    """Give the host's name servers beyond loopback: a subnet that holds one of them would cut it off."""
    return [server for server in host_resolver().nameservers if not _is_loopback(server) and "%" not in server]


def render_resolv_conf(
    host: ResolvConf,
    *,
    dns: Iterable[str] = (),
    search: Iterable[str] = (),
    options: Iterable[str] = (),
    same_namespace: bool = False,
    ipv6: bool = False,
) -> str:
    """Write a container's resolv.conf.

    Args:
        host: from `host_resolver` (for `same_namespace` better `parse` of the host's file).
        dns: `--dns`; replaces the host's servers, and is taken as it is.
        search: `--dns-search`; replaces the host's; `.` means none.
        options: `--dns-option`; replaces the host's.
        same_namespace: the container uses the host's network: loopback resolvers work there.
        ipv6: the container can reach IPv6.

    Raises:
        InvalidArgument: a server that is no address, or a word that would break the line.
    """
    servers = list(dns)
    for server in servers:
        if not _is_address(server):
            raise InvalidArgument(f"bad nameserver address: {server}")
    if not servers:
        servers = host.nameservers
        if not same_namespace:
            servers = [s for s in servers if not _is_loopback(s) and (ipv6 or ":" not in s)] or list(DEFAULT_SERVERS)
    domains = [_word(word) for word in search] or host.search
    chosen = [_word(word) for word in options] or host.options
    return ResolvConf(servers, domains, chosen).render()


def render_embedded(host: ResolvConf, *, search: Iterable[str] = (), options: Iterable[str] = ()) -> str:
    """Write the resolv.conf of a container that asks the embedded server.

    Args:
        host: from `host_resolver`.
        search: `--dns-search`; replaces the host's; `.` means none.
        options: `--dns-option`; replaces the host's. `ndots:0` is added unless it says something about ndots: the
            embedded server knows single words.

    Raises:
        InvalidArgument: a word that would break the line.
    """
    domains = [_word(word) for word in search] or host.search
    chosen = [_word(word) for word in options] or host.options
    if not any(option.startswith("ndots:") for option in chosen):
        chosen = [*chosen, "ndots:0"]
    return ResolvConf([_EMBEDDED], domains, chosen).render()


def _word(text: str) -> str:
    if not text or not text.isprintable() or any(character.isspace() for character in text):
        raise InvalidArgument(f"bad word for resolv.conf: {text!r}")
    return text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    return bool(ip_address(text).is_loopback)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT).decode("utf-8", "replace")
    except OSError:
        return ""
