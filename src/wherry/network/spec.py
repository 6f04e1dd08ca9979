"""A user-defined network: what was asked, checked in Docker's words, and what was chosen. A value; durable as JSON."""

import secrets
import time
from ipaddress import ip_address, ip_network

from msgspec import Struct, field

from wherry.config_checks import SPOOF_PROTECTIONS
from wherry.errors import Forbidden, InvalidArgument, NotFound, NotSupported, Unavailable
from wherry.network.ipam import Pool, Subnet
from wherry.values import times
from wherry.values.gotext import parse_bool
from wherry.wire.networks import IpamPool, NetworkCreate

VERSION = 1
DRIVERS = ("bridge", "macvlan", "ipvlan")
PREDEFINED = ("bridge", "host", "none", "default")
_BRIDGE = "com.docker.network.bridge."
MTU = "com.docker.network.driver.mtu"
PREFIX = "com.docker.network.container_iface_prefix"
IPV6 = "com.docker.network.enable_ipv6"
SPOOF_PROTECTION = "com.wherry.network.bridge.spoof_protection"
_NAME_MAX = 255
_LINK_NAME_MAX = 15
_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


class NetworkSpec(Struct):
    """`networks/<id>/network.json`. `pools` is what was asked, `chosen` what is in force (set before it is written)."""

    id: str
    name: str
    created: str
    driver: str = "bridge"
    internal: bool = False
    attachable: bool = False
    ipv6: bool = False
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    pools: list[IpamPool] = field(default_factory=list)
    chosen: list[IpamPool] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    version: int = VERSION

    def flag(self, name: str, default: bool) -> bool:
        """A truth value among the bridge's options."""
        text = self.options.get(_BRIDGE + name)
        return default if text is None else _truth(_BRIDGE + name, text)

    @property
    def icc(self) -> bool:
        """Whether its containers may talk to each other."""
        return self.flag("enable_icc", True)

    @property
    def masquerade(self) -> bool:
        """Whether what leaves it gets the host's address."""
        return self.flag("enable_ip_masquerade", True)

    @property
    def spoof_protection(self) -> str:
        """What was asked for: `off`, `on` or `strict` (see `ruleset.Protected`); empty: nothing."""
        return self.options.get(SPOOF_PROTECTION, "")

    @property
    def host_binding(self) -> str:
        """The host address on which its ports are published where none is named; empty: every."""
        return self.options.get(f"{_BRIDGE}host_binding_ipv4", "")

    @property
    def link_name(self) -> str:
        """The bridge's name on the host."""
        return self.options.get(f"{_BRIDGE}name") or f"br-{self.id[:12]}"

    @property
    def mtu(self) -> int:
        """The MTU that was asked for; 0: none."""
        return int(self.options.get(MTU, "0"))

    @property
    def prefix(self) -> str:
        """What the names of its interfaces in containers begin with."""
        return self.options.get(PREFIX, "eth")


def now() -> str:
    """The time as Docker writes it."""
    return times.exact(time.time_ns())


def parse_create(request: NetworkCreate) -> NetworkSpec:
    """Check a create request and make a spec of it; nothing is chosen yet.

    Raises:
        InvalidArgument, Forbidden, NotFound: in Docker's words.
        NotSupported: what this engine does not have.
    """
    name = request.name.strip()
    if not name:
        raise InvalidArgument("invalid name: ")
    if not name.isprintable() or len(name) > _NAME_MAX or name.startswith("container:"):
        raise InvalidArgument(f"invalid name: {name[:_NAME_MAX]}")
    if name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {name} network ")
    _scope(request)
    driver = _driver(request.driver or "bridge")
    ipam = request.ipam
    if ipam is not None and ipam.driver not in ("", "default"):
        raise NotFound(f'plugin "{ipam.driver}" not found')
    if request.enable_ipv4 is False:
        raise NotSupported("networks without IPv4 are not supported yet")
    pools = list((ipam.config if ipam else None) or [])
    options = dict(request.options or {})
    wanted = request.enable_ipv6
    if wanted is None and IPV6 in options:
        wanted = _truth(IPV6, options[IPV6])
    ipv6 = bool(wanted)
    _pools(pools)
    _options(driver, options)
    return NetworkSpec(
        id=secrets.token_hex(32),
        name=name,
        created=now(),
        driver=driver,
        internal=request.internal,
        attachable=request.attachable,
        ipv6=ipv6,
        ipam_options=dict(ipam.options) if ipam and ipam.options is not None else None,
        pools=pools,
        options=options,
        labels=dict(request.labels or {}),
    )


def _scope(request: NetworkCreate) -> None:
    if request.ingress:
        raise Forbidden("Ingress network can only be global scope network")
    if request.scope == "swarm":
        raise Unavailable("cannot create a swarm scoped network when swarm is not active")
    if request.config_only or (request.config_from is not None and request.config_from.network):
        raise NotSupported("configuration-only networks are not supported")


def _driver(driver: str) -> str:
    if driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver == "overlay":
        raise Forbidden(_NO_SWARM)
    if driver not in DRIVERS:
        raise NotFound(f'plugin "{driver}" not found')
    return driver


def _pools(pools: list[IpamPool]) -> None:
    complaints: list[str] = []
    subnets: list[Subnet] = []
    for pool in pools:
        try:
            if "/" not in pool.subnet:
                raise ValueError
            subnet = ip_network(pool.subnet, strict=False)
        except ValueError:
            complaints.append(f"invalid subnet {pool.subnet}: invalid CIDR block notation")
            continue
        address = pool.subnet.partition("/")[0]
        if ip_address(address) != subnet.network_address:
            complaints.append(f"invalid subnet {pool.subnet}: it should be {subnet}")
            continue
        pool.subnet = str(subnet)
        _range(pool, subnet, complaints)
        _addresses(pool, subnet, complaints)
        if subnet.is_loopback or subnet.is_multicast or subnet.prefixlen == 0:
            complaints.append(f"invalid subnet {pool.subnet}: no containers can live there")
        subnets.append(subnet)
    if complaints:
        words = complaints[0] if len(complaints) == 1 else "\n".join(f"* {one}" for one in complaints)
        raise InvalidArgument(f"invalid network config:\n{words}")
    for version in (4, 6):
        if sum(subnet.version == version for subnet in subnets) > 1:
            raise Forbidden("bridge driver doesn't support multiple subnets")
    for pool in pools:
        _collisions(pool)


def _range(pool: IpamPool, subnet: Subnet, complaints: list[str]) -> None:
    text = pool.ip_range
    if not text:
        return
    try:
        if "/" not in text:
            raise ValueError
        found = ip_network(text, strict=False)
    except ValueError:
        complaints.append(f"invalid ip-range {text}: invalid CIDR block notation")
        return
    if found.version != subnet.version:
        complaints.append(f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block")
    elif found.prefixlen < subnet.prefixlen:
        complaints.append(f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}")
    elif ip_address(text.partition("/")[0]) != found.network_address:
        complaints.append(f"invalid ip-range {text}: it should be {found}")
    elif found.network_address not in subnet:
        complaints.append(f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range")


def _addresses(pool: IpamPool, subnet: Subnet, complaints: list[str]) -> None:
    named = [("gateway", pool.gateway, pool.gateway)] if pool.gateway else []
    named += [("auxiliary address", name, text) for name, text in (pool.auxiliary or {}).items()]
    for what, name, text in named:
        try:
            address = ip_address(text)
        except ValueError:
            complaints.append(f"invalid {what} {name}: invalid address")
            continue
        if address.version != subnet.version:
            complaints.append(f"invalid {what} {name}: parent subnet is an IPv{subnet.version} block")
        elif address not in subnet:
            complaints.append(f"invalid {what} {name}: parent subnet {subnet} doesn't contain this address")


def _collisions(pool: IpamPool) -> None:
    trial = Pool(pool.subnet, pool.gateway or None, pool.ip_range)
    subnet = ip_network(pool.subnet)
    if pool.gateway and subnet.num_addresses > 2:
        ends = {str(subnet.network_address)} | ({str(subnet.broadcast_address)} if subnet.version == 4 else set())
        if pool.gateway in ends:
            raise Forbidden(f"failed to allocate gateway ({pool.gateway}): Address already in use")
    for name, text in (pool.auxiliary or {}).items():
        if str(ip_address(text)) == trial.gateway:
            raise Forbidden(f"failed to allocate secondary ip address ({name}:{text}): Address already in use")


def _options(driver: str, options: dict[str, str]) -> None:
    for name in ("enable_icc", "enable_ip_masquerade"):
        text = options.get(_BRIDGE + name)
        if text is not None:
            _truth(_BRIDGE + name, text)
    binding = options.get(f"{_BRIDGE}host_binding_ipv4")
    if binding is not None and not _is_address4(binding):
        raise InvalidArgument(f"failed to parse {_BRIDGE}host_binding_ipv4 value: {binding} (nil ip)")
    _mtu(options.get(MTU))
    prefix = options.get(PREFIX, "eth")
    if not prefix or not prefix.isascii() or not prefix.isalnum() or len(prefix) > _LINK_NAME_MAX - 3:
        raise InvalidArgument(f"invalid interface prefix {prefix!r}")
    link = options.get(f"{_BRIDGE}name")
    if link is not None and not is_link_name(link):
        raise InvalidArgument(f"invalid bridge name {link!r}: numerical result out of range")
    _spoof_protection(driver, options)
    known = {_BRIDGE + n for n in ("name", "enable_icc", "enable_ip_masquerade", "host_binding_ipv4")} | {
        MTU,
        PREFIX,
        IPV6,
    }
    for name in options:
        foreign = name not in known if driver == "bridge" else name not in (MTU, PREFIX, IPV6)
        if foreign and name.startswith("com.docker.network."):
            raise NotSupported(f"the network option {name} is not supported")


def _spoof_protection(driver: str, options: dict[str, str]) -> None:
    for name in options:
        if name.startswith("com.wherry.") and (name != SPOOF_PROTECTION or driver != "bridge"):
            raise InvalidArgument(f"the {driver} driver has no network option {name}")
    text = options.get(SPOOF_PROTECTION, "on")
    if text not in SPOOF_PROTECTIONS:
        wanted = ", ".join(SPOOF_PROTECTIONS)
        raise InvalidArgument(f"invalid {SPOOF_PROTECTION} value {text!r}: expected one of {wanted}")


def is_link_name(text: str) -> bool:
    """Whether the kernel takes `text` for an interface, and it means nothing to a shell or to nft."""
    plain = text.isascii() and all(character.isalnum() or character in "-_." for character in text)
    return plain and 0 < len(text) <= _LINK_NAME_MAX and text not in (".", "..")


def _mtu(text: str | None) -> None:
    if text is None:
        return
    try:
        number = int(text)
    except ValueError:
        raise InvalidArgument(
            f'failed to parse {MTU} value: {text} (strconv.Atoi: parsing "{text}": invalid syntax)'
        ) from None
    if number < 0:
        raise InvalidArgument(f"invalid MTU number: {number}")
    if number and not 68 <= number <= 65535:
        raise InvalidArgument("invalid argument")


def _truth(name: str, text: str) -> bool:
    try:
        return parse_bool(text)
    except ValueError as error:
        raise InvalidArgument(f"failed to parse {name} value: {text} ({error})") from None


def _is_address4(text: str) -> bool:
    try:
        return ip_address(text).version == 4
    except ValueError:
        return False
