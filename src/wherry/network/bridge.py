"""Bridge networks: the default one (a bridge of this engine's own, that chooses its subnet) and those of users."""

import secrets
from ipaddress import IPv4Interface
from typing import Any, Protocol

from wherry.errors import Forbidden, InvalidArgument, KernelError
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import Link, addresses, get_link, links
from wherry.network import device, uplink
from wherry.network.addressing import Addressed
from wherry.network.endpoint import Endpoint
from wherry.network.ipam import choose_subnet, overlaps
from wherry.network.records import load_record
from wherry.network.spec import NetworkSpec
from wherry.paths import Roots
from wherry.wire.networks import IpamPool

NAME = "bridge"


class BridgeConfig(Protocol):
    """What of daemon.json matters here: `bip` is the bridge's address (`10.9.0.1/24`), or empty."""

    bip: str


class BridgeNetwork(Addressed):
    """A bridge network, with its device on the host."""

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
        device.forward()
        if self.subnet6:
            device.forward(ipv6=True)

    def follow(self, mtu: int) -> None:
        """Take the uplink's MTU for containers that start from now on, unless one was asked for."""
        self.mtu = self.spec.mtu or mtu

    def _make(self, **values: Any) -> Endpoint:
        # new at each start: the former namespace may still be dying, and its link with it
        host_name = f"{device.PORT}{values['container_id'][:4]}{secrets.token_hex(3)}"
        return super()._make(**{**values, "bridge": self.link_name, "host_name": host_name})

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
        icc: whether its containers may talk to each other.

    Raises:
        StoreCorrupt, NewerSchema: its record cannot be read.
    """

    default = True

    def __init__(self, roots: Roots, config: BridgeConfig, *, icc: bool = True) -> None:
        self._link_name = roots.bridge
        self._bip = _parse_bip(config.bip) if config.bip else None
        self._record = load_record(roots, NAME)
        prefix = "com.docker.network.bridge"
        options = {
            f"{prefix}.default_bridge": "true",
            f"{prefix}.enable_icc": "true" if icc else "false",
            f"{prefix}.enable_ip_masquerade": "true",
            f"{prefix}.host_binding_ipv4": "0.0.0.0",
            f"{prefix}.name": self._link_name,
        }
        super().__init__(NetworkSpec(self._record.id, NAME, self._record.created, options=options))

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
            device.ensure(netlink, self._link_name, [str(interface)])
        was_off = device.forward()
        self.spec.chosen = [IpamPool(str(interface.network), gateway=str(interface.ip))]
        self.set_pools(self.spec.chosen)
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
        subnet, length = choose_subnet(taken).split("/")
        return IPv4Interface(f"{IPv4Interface(subnet).ip + 1}/{length}")

    def remove(self) -> None:
        super().remove()
        self._pool = None

    def _ipam_options(self) -> dict[str, str] | None:
        return None

    def _options(self) -> dict[str, str]:
        return {**self.spec.options, "com.docker.network.driver.mtu": str(self.mtu)}


def exists(name: str) -> bool:
    """Whether the host has a link of that name."""
    with Netlink() as netlink:
        try:
            get_link(netlink, name)
        except KernelError:
            return False
        return True


def _parse_bip(text: str) -> IPv4Interface:
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
