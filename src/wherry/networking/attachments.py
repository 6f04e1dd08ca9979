"""What a container's network mode becomes at its start, and after a crash: its endpoints, ports and files."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from wherry.containers.asked import wishes_of
from wherry.containers.model import Container, Record
from wherry.containers.ports import SandboxNetwork
from wherry.containers.records import Registry
from wherry.containers.spec.security import administers_network
from wherry.errors import Conflict, InvalidArgument, WherryError
from wherry.network import wishes
from wherry.network.addressing import Addressed
from wherry.network.endpoint import Endpoint
from wherry.network.gateway import receiving
from wherry.network.ports import HeldPort, HostPorts, PublishedPort, parse_requests
from wherry.network.records import PlainNetwork
from wherry.networking.container_files import ContainerFiles
from wherry.networking.sandboxes import AttachedSandbox, PlainSandbox, Wiring, sorted_ports
from wherry.networking.table import NetworkTable
from wherry.wire.networks import EndpointWish

_INTERFACES = 1000


class Attachments:
    """Makes the sandboxes of one engine.

    Args:
        table: the networks.
        registry: the containers, for names and for namespaces that others join.
        files: makes what a sandbox brings along.
        wiring: what live sandboxes go back to.
        host_ports: the ports that were given out.
    """

    def __init__(
        self,
        table: NetworkTable,
        registry: Registry,
        files: ContainerFiles,
        wiring: Wiring,
        host_ports: HostPorts,
    ) -> None:
        self._table = table
        self._registry = registry
        self._files = files
        self._wiring = wiring
        self._host_ports = host_ports

    def check(self, record: Record) -> None:
        """Say at create what would fail at each start. A network that is not there (yet) is no mistake.

        Raises:
            InvalidArgument: in dockerd's words.
        """
        if record.host_config.network_mode.startswith("container:"):
            return
        for name, wish in wishes_of(record).items():
            try:
                network = self._table.find("bridge" if name == "default" else name)
            except WherryError:
                continue
            self.check_wish(network, wish, name)

    def check_wish(self, network: Addressed | PlainNetwork, wish: EndpointWish, name: str = "") -> None:
        """Check what is asked of one endpoint.

        Args:
            name: the network as a create request named it; empty for connect.

        Raises:
            InvalidArgument: in dockerd's words.
        """
        plain = isinstance(network, PlainNetwork) or network is self._table.bridge
        try:
            wishes.check(wish, network.spec.pools, user_defined=not plain)
        except InvalidArgument as error:
            if name and error.message.startswith("invalid endpoint settings"):
                raise InvalidArgument(f"invalid config for network {name}: {error}") from None
            raise

    def make(self, container: Container) -> SandboxNetwork:
        """Allot what the container's networks are.

        Raises:
            NetworkNotFound, Conflict, Forbidden, PortUnavailable…: in dockerd's words; nothing stays allotted.
        """
        mode = "none" if container.record.config.network_disabled else container.record.host_config.network_mode
        if mode.startswith("container:"):
            return self._join(container, mode.removeprefix("container:"))
        if mode == "host" or (mode == "none" and self._on_none(container)):
            return self._plain(container, mode, self._table.plain[mode].id)
        wanted = [(self._table.addressed_by(name), wish, name) for name, wish in wishes_of(container.record).items()]
        endpoints: list[Endpoint] = []
        named = {wishes.interface_name(wish.driver_opts) for _, wish, _ in wanted}
        try:
            for network, wish, name in wanted:
                self.check_wish(network, wish, name)
                endpoints.append(self.allocate(network, container, wish, endpoints, named))
            held = self.hold_ports(container, endpoints)
        except BaseException:
            for endpoint in endpoints:
                self._wiring.release(endpoint, lived=False)
            raise
        return self._sandbox(container, endpoints, held)

    def allocate(
        self,
        network: Addressed,
        container: Container,
        wish: EndpointWish,
        beside: Sequence[Endpoint],
        named: Collection[str] = (),
    ) -> Endpoint:
        """Give a container its place on one network, beside those it has.

        Args:
            network, container, wish: where, who, and what it asks for.
            beside: its other endpoints.
            named: names of interfaces that some of its endpoints ask for: no other one gets them.

        Raises:
            InvalidArgument: another interface of the container has the name.
        """
        record = container.record
        taken = {endpoint.name for endpoint in beside}
        prefix = network.spec.prefix
        name = wishes.interface_name(wish.driver_opts)
        if name in taken:
            raise InvalidArgument(f"the interface name {name} is asked for on two networks of the container")
        free = (f"{prefix}{n}" for n in range(_INTERFACES))
        name = name or next(one for one in free if one not in taken and one not in named)
        names = [record.name, *(wish.aliases or []), record.id[:12], record.config.hostname]
        return network.allocate(container.id, wish=wish, name=name, dns_names=[one for one in names if one])

    def hold_ports(self, container: Container, endpoints: Sequence[Endpoint]) -> list[HeldPort]:
        """Get the host ports that a container asks for; none where nothing could come in.

        Raises:
            PortUnavailable, InvalidArgument, NotSupported: in dockerd's words.
        """
        record = container.record
        requests = parse_requests(
            record.config.exposed_ports, record.host_config.port_bindings, record.host_config.publish_all_ports
        )
        way, way6 = receiving(endpoints), receiving(endpoints, ipv6=True)
        if not requests or (way is None and way6 is None):
            return []
        first = way or way6
        shown = f"{container.name} ({first.id if first else ''})"
        return self._host_ports.allocate(
            container.id,
            requests,
            way.address if way is not None else "",
            shown,
            way6.address6 if way6 is not None else "",
            way.host_binding if way is not None else "",
        )

    def _sandbox(self, container: Container, endpoints: list[Endpoint], held: list[HeldPort]) -> AttachedSandbox:
        return AttachedSandbox(
            self._wiring,
            container.id,
            endpoints,
            held,
            sorted_ports(container.record.config.exposed_ports),
            lambda now: self._files.all(container, now),
            administers=administers_network(container.record.host_config),
        )

    def bare(self, container: Container) -> AttachedSandbox:
        """A sandbox that is on no network yet: `none` was taken from it."""
        return self._sandbox(container, [], [])

    @staticmethod
    def _on_none(container: Container) -> bool:
        return container.record.config.network_disabled or "none" in wishes_of(container.record)

    def _plain(self, container: Container, name: str, network_id: str) -> PlainSandbox:
        host = name == "host"
        return PlainSandbox(
            "host" if host else "new", name, network_id, lambda: self._files.all(container, [], same_namespace=host)
        )

    def _join(self, container: Container, reference: str) -> PlainSandbox:
        other = self._registry.find(reference)
        if not other.running:
            raise Conflict(f"cannot join network of a non running container: {other.id}")
        if other.id == container.id:
            raise Conflict("cannot join own network")
        # process 1 of the other is in the namespace that its monitor keeps
        namespace = os.open(f"/proc/{other.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        network = other.network
        return PlainSandbox(
            "join",
            "",
            "",
            network.files if network is not None else lambda: self._files.all(other, []),
            namespace,
        )

    def restore(self, container: Container, saved: Mapping[str, Any]) -> SandboxNetwork:
        """Take back what a live sandbox holds.

        Raises:
            NetworkNotFound: a network was removed from under it.
            Forbidden, PortUnavailable: an address or a port is another's. Nothing is taken then.
        """
        if saved.get("kind") != "bridge":
            mode = saved.get("mode", "new")
            return PlainSandbox(
                mode,
                saved.get("name", ""),
                saved.get("network_id", ""),
                lambda: self._files.all(container, [], same_namespace=mode == "host"),
            )
        # one endpoint alone is what versions before 0.2 wrote
        values = saved["endpoints"] if "endpoints" in saved else [saved["endpoint"]]
        endpoints = [Endpoint.from_json(value) for value in values]
        ports = [PublishedPort.from_json(port) for port in saved["ports"]]
        taken: list[Endpoint] = []
        try:
            for endpoint in endpoints:
                self._table.addressed_by(endpoint.network_id).reserve(endpoint)
                taken.append(endpoint)
            self._host_ports.reserve(container.id, ports)
        except WherryError:
            for endpoint in taken:
                self._wiring.release(endpoint, lived=False)
            self._host_ports.release(container.id, ports)
            raise
        return self._sandbox(container, endpoints, [HeldPort(port) for port in ports])
