"""The default network: a bridge of this engine's own, its subnet, and the endpoints that are on it."""

import errno
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface
from typing import Any, Protocol

from wherry.errors import Conflict, InvalidArgument, KernelError
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import (
    Link,
    add_address,
    add_bridge,
    addresses,
    delete_address,
    delete_link,
    get_link,
    links,
    pack_mac,
    routes,
    set_link,
)
from wherry.network.endpoint import Endpoint
from wherry.network.ipam import Pool, choose_subnet, derive_mac, overlaps
from wherry.network.records import describe, load_record, member
from wherry.network.resolver import read_nameservers
from wherry.network.sandbox import remove_host_links
from wherry.paths import Roots

NAME = "bridge"
_MTU = 1500
_PORT = "veth"  # and ten hexadecimal digits: the name of a port of ours
_CHOICE_SECONDS = 3.0


class BridgeConfig(Protocol):
    """What of daemon.json matters here: `bip` is the bridge's address (`10.9.0.1/24`), or empty."""

    bip: str


class Bridge:
    """The network `bridge`.

    Args:
        roots: name the bridge, and say where its record is kept.
        config: the engine's settings.

    Raises:
        StoreCorrupt, NewerSchema: its record cannot be read.
    """

    def __init__(self, roots: Roots, config: BridgeConfig) -> None:
        self.link_name = roots.bridge
        self._bip = _parse_bip(config.bip) if config.bip else None
        self._record = load_record(roots, NAME)
        self._endpoints: dict[str, Endpoint] = {}
        self._pool: Pool | None = None

    @property
    def id(self) -> str:
        """The network's id."""
        return self._record.id

    @property
    def subnet(self) -> str:
        """Its subnet; `ensure` must have been called."""
        return self._addresses.subnet

    @property
    def gateway(self) -> str:
        """The bridge's own address, also what `host-gateway` means; `ensure` must have been called."""
        return self._addresses.gateway

    @property
    def _addresses(self) -> Pool:
        if self._pool is None:
            raise Conflict("the default bridge is not set up")
        return self._pool

    def ensure(self) -> None:
        """Make the bridge, or take over the one that is there; a few milliseconds, blocking.

        Afterwards it is up, has its address, routes to loopback addresses (published ports need it), and the host
        forwards IPv4. That forwarding was off before is noted in the record; it is never switched off again, others
        may rely on it by then. While containers are on the bridge it keeps its address: a changed `bip` waits.

        Raises:
            KernelError: a step failed.
            WherryError: no subnet is free.
        """
        with Netlink() as netlink, _one_chooser():
            link = _find(netlink, self.link_name)
            interface = self._choose(netlink, link)
            if link is None:
                mac = (b"\x02\x42" + hashlib.sha256(self.link_name.encode()).digest()[:4]).hex(":")
                # a MAC of its own: else it changes with each port that comes and goes
                netlink.run([add_bridge(self.link_name, mac=mac, mtu=_MTU)])
                link = get_link(netlink, self.link_name)
                _write(f"/proc/sys/net/ipv6/conf/{self.link_name}/disable_ipv6", "1", needed=False)
            elif link.kind != "bridge":
                raise Conflict(f"interface {self.link_name} exists and is not a bridge")
            present = [text for index, text in addresses(netlink) if index == link.index and ":" not in text]
            stale = [text for text in present if text != str(interface)]
            changes = [delete_address(link.index, text) for text in stale]
            changes += [add_address(link.index, str(interface))] if str(interface) not in present else []
            netlink.run([*changes, set_link(link.index, up=True)])
        _write(f"/proc/sys/net/ipv4/conf/{self.link_name}/route_localnet", "1")
        was_off = _forward()
        self._pool = Pool(str(interface.network), str(interface.ip))
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
        taken = [text for at, text in addresses(netlink) + routes(netlink) if at != index]
        taken += read_nameservers()
        if kept and not overlaps(str(IPv4Interface(kept).network), taken):
            return IPv4Interface(kept)
        subnet, length = choose_subnet(taken).split("/")
        return IPv4Interface(f"{IPv4Interface(subnet).ip + 1}/{length}")

    def allocate(self, container_id: str, mac: str | None = None, ip: str | None = None) -> Endpoint:
        """Give a container its place: address, MAC (from the address where none is asked for), names. Memory only.

        Args:
            container_id: 64 hexadecimal digits.
            mac: asked-for MAC address.
            ip: asked-for address.

        Raises:
            InvalidArgument: no MAC, no address of this subnet, or the container has a place already.
            Forbidden: the address is another's.
            WherryError: no address is free.
        """
        pool = self._addresses
        if container_id in self._endpoints:
            raise InvalidArgument(f"container {container_id[:12]} is already attached to network {NAME}")
        if mac:
            pack_mac(mac)
        if ip:
            pool.reserve(ip, container_id)
        address = ip or pool.allocate(container_id)
        endpoint = Endpoint(
            id=secrets.token_hex(32),
            container_id=container_id,
            network=NAME,
            network_id=self.id,
            bridge=self.link_name,
            # new at each start: the former namespace may still be dying, and its link with it
            host_name=f"{_PORT}{container_id[:6]}{secrets.token_hex(2)}",
            name="eth0",
            mac=mac.lower() if mac else derive_mac(address),
            address=address,
            prefix_length=pool.prefix_length,
            gateway=pool.gateway,
            mtu=_MTU,
        )
        self._endpoints[container_id] = endpoint
        return endpoint

    def reserve(self, endpoint: Endpoint) -> None:
        """Take over the endpoint of a container that lives already.

        Raises:
            InvalidArgument: its address is not of this subnet.
            Forbidden: the address is another's.
        """
        self._addresses.reserve(endpoint.address, endpoint.container_id)
        self._endpoints[endpoint.container_id] = endpoint

    def release(self, container_id: str) -> Endpoint | None:
        """Take a container's place back; its link is the monitor's to remove. None where it has none."""
        endpoint = self._endpoints.pop(container_id, None)
        if endpoint is not None:
            self._addresses.release(endpoint.address, container_id)
        return endpoint

    def sweep(self) -> list[str]:
        """Delete ports of the bridge that belong to no endpoint we know (their engine was killed); returns their names.

        For start-up, after all `reserve`. Blocking, up to 35 ms for each.
        """
        known = {endpoint.host_name for endpoint in self._endpoints.values()}
        with Netlink() as netlink:
            index = get_link(netlink, self.link_name).index
            # what the host's owner has put on the bridge stays
            ports = [link.name for link in links(netlink) if link.master == index and link.kind == "veth"]
        stray = [name for name in ports if _is_ours(name) and name not in known]
        remove_host_links(stray)
        return stray

    def remove(self) -> None:
        """Delete the bridge; its record stays. None there is fine.

        Raises:
            Conflict: containers are on it.
        """
        if self._endpoints:
            raise Conflict(f"error while removing network: network {NAME} has active endpoints")
        with Netlink() as netlink:
            if _find(netlink, self.link_name) is not None:
                netlink.run([delete_link(self.link_name)])
        self._pool = None

    def inspect(self, name_of: Callable[[str], str] = str) -> dict[str, Any]:
        """Docker's JSON of the network; `name_of` gives a container's name by its id."""
        containers = {
            endpoint.container_id: member(name_of(endpoint.container_id), endpoint.id, endpoint.mac, endpoint.cidr)
            for endpoint in self._endpoints.values()
        }
        return describe(
            NAME,
            self._record,
            "bridge",
            ipam=[{"Subnet": self.subnet, "Gateway": self.gateway}],
            containers=containers,
            options=self._options(),
        )

    def _options(self) -> dict[str, str]:
        prefix = "com.docker.network.bridge"
        return {
            f"{prefix}.default_bridge": "true",
            f"{prefix}.enable_icc": "true",
            f"{prefix}.enable_ip_masquerade": "true",
            f"{prefix}.host_binding_ipv4": "0.0.0.0",
            f"{prefix}.name": self.link_name,
            "com.docker.network.driver.mtu": str(_MTU),
        }


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


def _is_ours(name: str) -> bool:
    digits = name.removeprefix(_PORT)
    return len(digits) == 10 and digits != name and all(digit in "0123456789abcdef" for digit in digits)


def _find(netlink: Netlink, name: str) -> Link | None:
    try:
        return get_link(netlink, name)
    except KernelError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def _forward() -> bool:
    path = "/proc/sys/net/ipv4/ip_forward"
    with open(path, "rb") as file:
        if file.read(1) == b"1":
            return False
    _write(path, "1")
    return True


def _write(path: str, value: str, *, needed: bool = True) -> None:
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(value.encode())
    except OSError as error:
        if needed or error.errno != errno.ENOENT:
            raise KernelError(f"set {os.path.basename(path)}", error.errno or 0, path) from error


@contextmanager
def _one_chooser() -> Iterator[None]:
    """Let one engine at a time choose a subnet: an abstract socket is unique in its network namespace, as routes are.

    Anybody can hold that name; after a few seconds we go on without it.
    """
    deadline = time.monotonic() + _CHOICE_SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as guard:
        while time.monotonic() < deadline:
            try:
                guard.bind("\0wherry-chooses-a-subnet")
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise KernelError("take turns in choosing a subnet", error.errno or 0) from error
                time.sleep(0.01)
        yield
