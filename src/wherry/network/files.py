"""/etc/hosts and /etc/hostname of a container, in dockerd's form."""

from collections.abc import Iterable
from ipaddress import ip_address

from wherry.errors import InvalidArgument

_BASE = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("ff00::0", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)
_GATEWAY = "host-gateway"


def render_hostname(hostname: str) -> str:
    """Write /etc/hostname."""
    return f"{hostname}\n"


def render_hosts(
    hostname: str,
    addresses: Iterable[str] = (),
    *,
    domainname: str = "",
    extra: Iterable[tuple[str, str]] = (),
    base: str | None = None,
) -> str:
    """Write /etc/hosts.

    Args:
        hostname: the container's name for itself.
        addresses: its own addresses; each gets a line with the hostname.
        domainname: makes the first name on those lines a qualified one.
        extra: `(name, address)` from `parse_extra_hosts`.
        base: text to begin with instead of the usual lines (with the host's network: the host's file).
    """
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    lines = [f"{address}\t{name}" for address, name in _BASE] if base is None else base.splitlines()
    lines += [f"{address}\t{name}" for name, address in extra]
    lines += [f"{address}\t{names}" for address in addresses]
    return "".join(f"{line}\n" for line in lines)


def parse_extra_hosts(entries: Iterable[str], gateway: str = "") -> list[tuple[str, str]]:
    """Read `--add-host` entries, `name:address` or `name=address`; `host-gateway` is the bridge's address.

    Args:
        entries: `HostConfig.ExtraHosts`.
        gateway: the host as this container sees it.

    Raises:
        InvalidArgument: in Docker's words.
    """
    found = []
    for entry in entries:
        separator = "=" if "=" in entry else ":"
        name, _, address = entry.partition(separator)
        if not name or not address or not name.isprintable() or any(c.isspace() or c == "#" for c in name):
            raise InvalidArgument(f'bad format for add-host: "{entry}"')
        if address == _GATEWAY:
            if not gateway:
                raise InvalidArgument("unable to derive the IP value for host-gateway")
            address = gateway
        try:
            found.append((name, str(ip_address(address.removeprefix("[").removesuffix("]")))))
        except ValueError:
            raise InvalidArgument(f'invalid IP address in add-host: "{address}"') from None
    return found
