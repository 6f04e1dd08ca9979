"""Bridge networks: the default one (a bridge of this engine's own, that chooses its subnet) and those of users."""

import secrets
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from wherry.config import EngineConfig
from wherry.errors import Forbidden, InvalidArgument, KernelError
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import Link, addresses, get_link, links
from wherry.network import device, uplink
from wherry.network.addressing import Addressed
from wherry.network.endpoint import Endpoint
from wherry.network.ipam import Pool, choose_subnet, choose_subnet6, overlaps
from wherry.network.records import load_record
from wherry.network.ruleset import group_of
from wherry.network.spec import MTU, NetworkSpec
from wherry.paths import Roots
from wherry.wire.networks import IpamPool

NAME = "bridge"


class BridgeNetwork(Addressed):
    """A bridge network, with its device on the host.

    Args:
        spec: see `Addressed`.
        forwards: whether the engine switches the host's IP forwarding on (`ip-forward`).
    """

    def __init__(self, spec: NetworkSpec, *, forwards: bool = True) -> None:
        super().__init__(spec)
        self._forwards = forwards

    @property
    def link_name(self) -> str:
        """Its bridge on the host."""
        return self.spec.link_name

    def ensure(self) -> None:
        """Make the bridge, or take over the one that is there; a few milliseconds, blocking.

        Afterwards it is up, has its addresses, routes to loopback addresses (published ports need it), and the host
        forwards what the network speaks.

        Raises:
            Conflict: its name is that of another link.
            KernelError: a step failed.
        """
        with Netlink() as netlink:
            self.follow(uplink.find(netlink).mtu)
            device.ensure(netlink, self.link_name, self.gateways)
            self._group_ports(netlink)
        self._forward()

    def _group_ports(self, netlink: Netlink) -> None:
        """Have the firewall know the ports of containers that live: they may be of an engine without groups."""
        device.group_ports(netlink, self.link_name, group_of(self.link_name))

    def _forward(self) -> bool:
        """Have the host forward what the network speaks; tells whether it did not forward IPv4 before."""
        if not self._forwards:
            return False
        if self.subnet6:
            device.forward(ipv6=True)
        return device.forward()

    def follow(self, mtu: int) -> None:
        """Take the uplink's MTU for containers that start from now on, unless one was asked for."""
        self.mtu = self.spec.mtu or mtu

    def _make(self, **values: Any) -> Endpoint:
        # new at each start: the former namespace may still be dying, and its link with it
        host_name = f"{device.PORT}{values['container_id'][:4]}{secrets.token_hex(3)}"
        places = {"bridge": self.link_name, "host_name": host_name, "group": group_of(self.link_name)}
        return super()._make(**{**values, **places})

    def sweep(self) -> list[str]:
        """Delete ports of the bridge that belong to no endpoint we know; returns their names.

        For start-up, after all `reserve`. Blocking, up to 35 ms for each.
        """
        return device.sweep(self.link_name, [endpoint.host_name for endpoint in self.endpoints])

    def remove(self) -> None:
        """Delete the bridge; its record stays. None there is fine.

        Raises:
            Forbidden: containers are on it.
        """
        if self._endpoints:
            raise Forbidden(f"error while removing network: network {self.name} id {self.id} has active endpoints")
        device.remove(self.link_name)


class Bridge(BridgeNetwork):
    """The default network, `bridge`.

    Args:
        roots: name the bridge, and say where its record is kept.
        config: the engine's settings.

    Raises:
        StoreCorrupt, NewerSchema: its record cannot be read.
        InvalidArgument: `bip` is no address of a bridge.
    """

    default = True

    def __init__(self, roots: Roots, config: EngineConfig) -> None:
        self._link_name = roots.bridge
        self._bip = parse_bip(config.bip or _first_of(config.fixed_cidr)) if config.bip or config.fixed_cidr else None
        self._range = config.fixed_cidr if config.bip else ""
        self._subnet6 = config.fixed_cidr_v6
        self._seed = roots.data
        self._defaults = [(pool["base"], pool["size"]) for pool in config.default_address_pools]
        self._record = load_record(roots, NAME)
        prefix = "com.docker.network.bridge"
        options = {
            f"{prefix}.default_bridge": "true",
            f"{prefix}.enable_icc": "true" if config.icc else "false",
            f"{prefix}.enable_ip_masquerade": "true" if config.ip_masq else "false",
            f"{prefix}.host_binding_ipv4": config.ip or "0.0.0.0",
            f"{prefix}.name": self._link_name,
        }
        if config.mtu:
            options[MTU] = str(config.mtu)
        spec = NetworkSpec(self._record.id, NAME, self._record.created, ipv6=config.ipv6, options=options)
        super().__init__(spec, forwards=config.ip_forward)

    @property
    def link_name(self) -> str:
        return self._link_name

    def ensure(self) -> None:
        """Make the bridge, or take over the one that is there; a few milliseconds, blocking.

        That forwarding was off before is noted in the record; it is never switched off again, others may rely on it
        by then. While containers are on the bridge it keeps its address: a changed `bip` waits.

        Raises:
            KernelError: a step failed.
            WherryError: no subnet is free.
        """
        with Netlink() as netlink, device.one_chooser():
            interface = self._choose(netlink, device.find(netlink, self._link_name))
            self.follow(uplink.find(netlink).mtu)
            chosen = [IpamPool(str(interface.network), self._range, str(interface.ip))]
            if self.spec.ipv6:
                chosen.append(self._choose6(netlink, device.find(netlink, self._link_name)))
            self.spec.chosen = chosen
            self.set_pools(chosen)
            device.ensure(netlink, self._link_name, self.gateways)
            self._group_ports(netlink)
        was_off = self._forward()
        settings = {"address": str(interface)}
        if was_off or self._record.settings.get("forwarding_was_off"):
            settings["forwarding_was_off"] = "1"
        if settings != self._record.settings:
            self._record.settings = settings
            self._record.save()

    def _choose(self, netlink: Netlink, link: Link | None) -> IPv4Interface:
        index = link.index if link else -1
        current = [text for at, text in addresses(netlink) if at == index and ":" not in text]
        kept = self._record.settings.get("address")
        if link and current and any(port.master == index for port in links(netlink)):
            return IPv4Interface(kept if kept in current else current[0])
        if self._bip:
            return self._bip
        taken = device.in_use(netlink, but=index)
        if kept and not overlaps(str(IPv4Interface(kept).network), taken):
            return IPv4Interface(kept)
        subnet, length = choose_subnet(taken, self._defaults).split("/")
        return IPv4Interface(f"{IPv4Interface(subnet).ip + 1}/{length}")

    def _choose6(self, netlink: Netlink, link: Link | None) -> IpamPool:
        subnet = self._subnet6
        if not subnet:
            subnet = choose_subnet6(device.in_use(netlink, but=link.index if link else -1), self._seed)
        return IpamPool(subnet, gateway=Pool(subnet).gateway)

    def remove(self) -> None:
        super().remove()
        self._pool = self._pool6 = None

    def _ipam_options(self) -> dict[str, str] | None:
        return None

    def _options(self) -> dict[str, str]:
        return {**self.spec.options, MTU: str(self.mtu)}


def exists(name: str) -> bool:
    """Whether the host has a link of that name."""
    with Netlink() as netlink:
        try:
            get_link(netlink, name)
        except KernelError:
            return False
        return True


def _first_of(subnet: str) -> str:
    """The bridge's address where only `fixed-cidr` is given: the first of it, as dockerd takes it."""
    if not subnet:
        return ""
    network = IPv4Network(subnet)
    return f"{network.network_address + 1}/{network.prefixlen}"


def parse_bip(text: str) -> IPv4Interface:
    """Read the default bridge's address.

    Raises:
        InvalidArgument: it is no address of a bridge.
    """
    try:
        interface = IPv4Interface(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid bip {text!r}: {error}") from None
    network = interface.network
    if "/" not in text or network.prefixlen > 30:
        raise InvalidArgument(f"invalid bip {text!r}: want an address with a prefix length of at most 30")
    if interface.ip in (network.network_address, network.broadcast_address):
        raise InvalidArgument(f"invalid bip {text!r}: want a host address of the network, such as 172.30.0.1/24")
    return interface
