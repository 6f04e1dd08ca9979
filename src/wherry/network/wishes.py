"""What a create or connect request says of one endpoint, checked against its network in Docker's words."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network

from msgspec import ValidationError, convert

from wherry.errors import InvalidArgument
from wherry.linux.rtnetlink import pack_mac
from wherry.wire.networks import EndpointWish, IpamPool

_NAME_MAX = 255
IFNAME = "com.docker.network.endpoint.ifname"
SYSCTLS = "com.docker.network.endpoint.sysctls"
_LINK_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,14}")
_SYSCTL = re.compile(r"net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh)\.IFNAME\.[a-z0-9_]+")


def parse_wish(value: object) -> EndpointWish:
    """Read one entry of `EndpointsConfig`, as a request or `container.json` has it.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        return convert(_without_nulls(value) if value else {}, EndpointWish)
    except ValidationError as error:
        raise InvalidArgument(f"invalid endpoint settings: {error}") from None


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return value


def check(wish: EndpointWish, pools: Sequence[IpamPool], *, user_defined: bool) -> None:
    """Check a wish against the network's pools (those that were asked for: a chosen one may change).

    Raises:
        InvalidArgument: all that is wrong with it.
    """
    complaints: list[str] = []
    ipam = wish.ipam
    asked = [text for text in (ipam.ipv4, ipam.ipv6) if text] if ipam else []
    if not user_defined:
        if asked:
            complaints.append("user specified IP address is supported on user defined networks only")
        if wish.aliases:
            complaints.append("network-scoped alias is supported only for containers in user defined networks")
    if ipam is not None:
        for text, version in ((ipam.ipv4, 4), (ipam.ipv6, 6)):
            if text and _version(text) != version:
                complaints.append(f"invalid IPv{version} address: {text}")
        local = [text for text in ipam.link_local or [] if _version(text) is None]
        complaints += [f"invalid link-local IP address: {text}" for text in local]
        for text, version in ((ipam.ipv4, 4), (ipam.ipv6, 6)):
            if text:
                complaints += _in_range(text, version, pools)
    if complaints:
        words = complaints[0] if len(complaints) == 1 else "\n".join(f"* {one}" for one in complaints)
        raise InvalidArgument(f"invalid endpoint settings:\n{words}")
    interface_sysctls(wish.driver_opts, interface_name(wish.driver_opts) or "eth0")
    if wish.mac_address:
        pack_mac(wish.mac_address)
    for name in wish.aliases or []:
        if not name.isprintable() or any(c.isspace() for c in name) or not 0 < len(name) <= _NAME_MAX:
            raise InvalidArgument(f"invalid alias: {name[:_NAME_MAX]!r}")


def interface_name(options: Mapping[str, str] | None) -> str:
    """The name that an endpoint's options ask for its interface (API 1.49), or empty.

    Raises:
        InvalidArgument: the kernel would not take it.
    """
    name = (options or {}).get(IFNAME, "")
    if name and (_LINK_NAME.fullmatch(name) is None or name in ("lo", "all", "default")):
        raise InvalidArgument(f"invalid endpoint settings:\ninvalid interface name {name[:64]!r} in {IFNAME}")
    return name


def interface_sysctls(options: Mapping[str, str] | None, name: str) -> dict[str, str]:
    """The sysctls that an endpoint's options ask for its interface (API 1.48), for an interface of that name.

    Raises:
        InvalidArgument: one of them is not `net.ipv4.conf.IFNAME.KEY=VALUE`, or of `ipv6`, `mpls` and `neigh`.
    """
    found = {}
    for entry in (options or {}).get(SYSCTLS, "").split(","):
        key, equals, value = entry.strip().partition("=")
        if not key and not equals:
            continue
        if not equals or _SYSCTL.fullmatch(key) is None:
            raise InvalidArgument(
                f"invalid endpoint settings:\ninvalid sysctl {entry[:80]!r} in {SYSCTLS}: "
                "net.<ipv4|ipv6|mpls>.<conf|neigh>.IFNAME.<key>=<value> is needed"
            )
        found[key.replace("IFNAME", name)] = value
    return found


def _in_range(text: str, version: int, pools: Sequence[IpamPool]) -> list[str]:
    subnets = [found for pool in pools if (found := ip_network(pool.subnet)).version == version]
    if not subnets:
        return ["user specified IP address is supported only when connecting to networks with user configured subnets"]
    if _version(text) == version and any(ip_address(text) in subnet for subnet in subnets):
        return []
    return [f"no configured subnet or ip-range contain the IP address {text}"]


def _version(text: str) -> int | None:
    try:
        return ip_address(text).version
    except ValueError:
        return None
