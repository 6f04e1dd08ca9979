"""The addresses of one network: its pools, who is on it, and what a new endpoint gets. In memory only.

What drivers differ in is below: `network.bridge`, `network.macvlan`.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import Any

from wherry.errors import Conflict, Forbidden, InvalidArgument, WherryError
from wherry.linux.rtnetlink import pack_mac
from wherry.network.endpoint import Endpoint
from wherry.network.ipam import Exhausted, Pool, choose_subnet, choose_subnet6, derive_mac, overlaps
from wherry.network.records import describe, member
from wherry.network.spec import NetworkSpec
from wherry.wire.networks import EndpointWish, IpamPool, ipam_shown


def choose_pools(
    spec: NetworkSpec,
    taken: Sequence[str],
    others: Iterable[str],
    seed: str,
    defaults: Sequence[tuple[str, int]] = (),
) -> None:
    """Fill in `spec.chosen`: the pools that were asked for, and ours for a family without one.

    Args:
        taken: what the host uses; ours keep away from it.
        others: subnets of this engine's networks; nobody's may overlap them.
        seed: for IPv6, see `choose_subnet6`.
        defaults: the pools of `choose_subnet`.

    Raises:
        Forbidden: a pool that was asked for is another network's, in Docker's words.
        WherryError: no subnet is free.
    """
    reserved = list(others)
    chosen = []
    for pool in spec.pools:
        if ":" in pool.subnet and not spec.ipv6:
            continue  # shown, and not used, as dockerd does: Compose files name one beside `enable_ipv6: false`
        if overlaps(pool.subnet, reserved):
            raise Forbidden("Pool overlaps with other one on this address space")
        gateway = Pool(pool.subnet, pool.gateway or None, pool.ip_range).gateway
        chosen.append(IpamPool(pool.subnet, pool.ip_range, gateway, pool.auxiliary))
    families = {ip_network(pool.subnet).version for pool in chosen}
    avoid = [*taken, *reserved, *(pool.subnet for pool in chosen)]
    if spec.ipv6 and 6 not in families:
        subnet = choose_subnet6(avoid, seed)
        chosen.append(IpamPool(subnet, gateway=Pool(subnet).gateway))
    if 4 not in families:
        subnet = choose_subnet(avoid, defaults)
        chosen.append(IpamPool(subnet, gateway=Pool(subnet).gateway))
    spec.chosen = chosen


class Addressed:
    """A network whose containers get addresses from it.

    Args:
        spec: with `chosen` filled in, or later by `set_pools`.
    """

    default = False
    """Whether it is the default bridge, on which Docker serves no names."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec
        self.mtu = spec.mtu
        self._pool: Pool | None = None
        self._pool6: Pool | None = None
        self._endpoints: dict[str, Endpoint] = {}
        if spec.chosen:
            self.set_pools(spec.chosen)

    def set_pools(self, pools: Sequence[IpamPool]) -> None:
        """Give it its pools; of each family one."""
        self._pool = self._pool6 = None
        for entry in pools:
            pool = Pool(entry.subnet, entry.gateway or None, entry.ip_range, (entry.auxiliary or {}).values())
            if ":" in entry.subnet:
                self._pool6 = pool
            else:
                self._pool = pool

    @property
    def id(self) -> str:
        """The network's id."""
        return self.spec.id

    @property
    def name(self) -> str:
        """The network's name."""
        return self.spec.name

    @property
    def driver(self) -> str:
        """`bridge`, `macvlan`, `ipvlan`."""
        return self.spec.driver

    @property
    def _addresses(self) -> Pool:
        if self._pool is None:
            raise Conflict(f"the network {self.name} is not set up")
        return self._pool

    @property
    def subnet(self) -> str:
        """Its IPv4 subnet."""
        return self._addresses.subnet

    @property
    def gateway(self) -> str:
        """Its IPv4 gateway."""
        return self._addresses.gateway

    @property
    def subnet6(self) -> str:
        """Its IPv6 subnet, or empty."""
        return self._pool6.subnet if self._pool6 is not None else ""

    @property
    def gateway6(self) -> str:
        """Its IPv6 gateway, or empty."""
        return self._pool6.gateway if self._pool6 is not None else ""

    @property
    def gateways(self) -> list[str]:
        """Its gateways with prefix lengths: the host's own addresses on a bridge."""
        pools = [pool for pool in (self._pool, self._pool6) if pool is not None]
        return [f"{pool.gateway}/{pool.prefix_length}" for pool in pools]

    @property
    def endpoints(self) -> list[Endpoint]:
        """Who is on it, in the order of connection."""
        return list(self._endpoints.values())

    def allocate(
        self,
        container_id: str,
        mac: str | None = None,
        ip: str | None = None,
        *,
        wish: EndpointWish | None = None,
        name: str = "eth0",
        dns_names: Iterable[str] = (),
    ) -> Endpoint:
        """Give a container its place: addresses, MAC (from the address where none is asked for), names. Memory only.

        Args:
            container_id: 64 hexadecimal digits.
            mac, ip: what is asked for, before what the wish says.
            wish: checked (`network.wishes`).
            name: of the interface inside.
            dns_names: by which names others find it.

        Raises:
            InvalidArgument: no MAC, or no address of this subnet.
            Forbidden: the address is another's, or the container has a place already.
            WherryError: no address is free.
        """
        asked = wish or EndpointWish()
        if container_id in self._endpoints:
            raise Forbidden(f"container {container_id[:12]} is already attached to network {self.name}")
        mac = mac or asked.mac_address or None
        if mac:
            pack_mac(mac)
        ipam = asked.ipam
        ip = ip or (ipam.ipv4 if ipam else "") or None
        address = self._take(self._addresses, ip, container_id)
        try:
            ip6 = ipam.ipv6 if ipam else ""
            if ip6 and self._pool6 is None:
                raise InvalidArgument(f"no configured subnet or ip-range contain the IP address {ip6}")
            address6 = self._take(self._pool6, ip6 or None, container_id) if self._pool6 is not None else ""
        except BaseException:
            self._addresses.release(address, container_id)
            raise
        endpoint = self._make(
            id=secrets.token_hex(32),
            container_id=container_id,
            network=self.name,
            network_id=self.id,
            bridge="",
            host_name="",
            name=name,
            mac=mac.lower() if mac else derive_mac(address),
            address=address,
            prefix_length=self._addresses.prefix_length,
            gateway=self.gateway,
            mtu=self.mtu,
            kind=self.driver,
            default_bridge=self.default,
            internal=self.spec.internal,
            ipv6=self._pool6 is not None,
            address6=address6,
            prefix_length6=self._pool6.prefix_length if self._pool6 is not None else 0,
            gateway6=self.gateway6,
            link_local=list((ipam.link_local if ipam else None) or []),
            dns_names=list(dict.fromkeys(dns_names)),
            aliases=asked.aliases,
            links=asked.links,
            ipam=ipam_wish(asked),
            driver_opts=asked.driver_opts,
            host_binding=self.spec.host_binding,
            priority=asked.gw_priority,
        )
        self._endpoints[container_id] = endpoint
        return endpoint

    def _make(self, **values: Any) -> Endpoint:
        if self.spec.internal:
            values["gateway"] = values["gateway6"] = ""
        return Endpoint(**values)

    def _take(self, pool: Pool, asked: str | None, owner: str) -> str:
        if asked is None:
            try:
                return pool.allocate(owner)
            except Exhausted as error:
                raise Exhausted(f"{error}: {self.name} ({self.id})") from None
        pool.reserve(asked, owner)
        return asked

    def reserve(self, endpoint: Endpoint) -> None:
        """Take over the endpoint of a container that lives already.

        Raises:
            InvalidArgument: its address is not of this subnet.
            Forbidden: the address is another's. Nothing is taken then.
        """
        if endpoint.address:
            self._addresses.reserve(endpoint.address, endpoint.container_id)
        if endpoint.address6 and self._pool6 is not None:
            try:
                self._pool6.reserve(endpoint.address6, endpoint.container_id)
            except WherryError:
                if endpoint.address:
                    self._addresses.release(endpoint.address, endpoint.container_id)
                raise
        self._endpoints[endpoint.container_id] = endpoint

    def release(self, container_id: str) -> Endpoint | None:
        """Take a container's place back; its link is the monitor's to remove. None where it has none."""
        endpoint = self._endpoints.pop(container_id, None)
        if endpoint is not None:
            if endpoint.address:
                self._addresses.release(endpoint.address, container_id)
            if endpoint.address6 and self._pool6 is not None:
                self._pool6.release(endpoint.address6, container_id)
        return endpoint

    def inspect(self, name_of: Callable[[str], str] = str) -> dict[str, Any]:
        """Docker's JSON of the network; `name_of` gives a container's name by its id."""
        containers = {
            endpoint.container_id: member(
                name_of(endpoint.container_id), endpoint.id, endpoint.mac, endpoint.cidr, endpoint.cidr6
            )
            for endpoint in self._endpoints.values()
        }
        return describe(
            self.spec,
            ipam=ipam_shown(self.spec.ipam_driver, self._ipam_options(), self._shown_pools()),
            containers=containers,
            options=self._options(),
        )

    def _ipam_options(self) -> dict[str, str] | None:
        return self.spec.ipam_options

    def _shown_pools(self) -> list[IpamPool]:
        asked = {pool.subnet for pool in self.spec.pools}
        return [*self.spec.pools, *(pool for pool in self.spec.chosen if pool.subnet not in asked)]

    def _options(self) -> dict[str, str]:
        return self.spec.options


def ipam_wish(wish: EndpointWish) -> dict[str, Any] | None:
    """Docker's `IPAMConfig` of an endpoint, as it was asked for."""
    if wish.ipam is None:
        return None
    pairs = (("IPv4Address", wish.ipam.ipv4), ("IPv6Address", wish.ipam.ipv6), ("LinkLocalIPs", wish.ipam.link_local))
    return {key: value for key, value in pairs if value}
