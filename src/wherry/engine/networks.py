"""`engine.networks`, and what a container's network mode becomes at its start."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from wherry.config import EngineConfig
from wherry.containers.model import Container
from wherry.containers.ports import SandboxNetwork
from wherry.containers.records import Registry
from wherry.engine.sandboxes import BridgeSandbox, PlainSandbox, sorted_ports
from wherry.errors import Conflict, InvalidArgument, NetworkNotFound, WherryError
from wherry.network.bridge import Bridge
from wherry.network.endpoint import Endpoint
from wherry.network.files import parse_extra_hosts, render_hostname, render_hosts
from wherry.network.firewall import Firewall
from wherry.network.guard import Guard
from wherry.network.ports import HeldPort, HostPorts, PublishedPort, parse_requests
from wherry.network.records import PlainNetwork, member
from wherry.network.resolver import host_resolver, render_resolv_conf
from wherry.paths import Roots

log = logging.getLogger("wherry.network")

Json = dict[str, Any]
JsonList = list[Json]
Filters = dict[str, list[str]]


class Networks:
    """The predefined networks: bridge, host, none.

    Args:
        roots, config: this engine's.
        registry: the containers, for names and for namespaces that others join.
    """

    def __init__(self, roots: Roots, config: EngineConfig, registry: Registry) -> None:
        self._config = config
        self._registry = registry
        self.bridge = Bridge(roots, config)
        self.host_ports = HostPorts()
        self.firewall = Firewall(roots.scope, {})
        self._table = roots.scope
        self._guard: Guard | None = None
        self._plain = {name: PlainNetwork(roots, name) for name in ("host", "none")}

    def set_up(self) -> None:
        """Make the bridge; blocking."""
        self.bridge.ensure()
        self.firewall = Firewall(self._table, {self.bridge.link_name: self.bridge.subnet})

    def settle(self) -> None:
        """After adoption: put the firewall table in place whole, and remove links that nobody owns; blocking."""
        published: dict[str, list[PublishedPort]] = {}
        for container in self._registry:
            if isinstance(container.network, BridgeSandbox) and container.network.ports:
                published[container.id] = container.network.ports
        self.firewall.rebuild(published)
        self.bridge.sweep()
        for chain in self.firewall.obstacles():
            log.warning("the firewall chain %s drops forwarded packets: containers reach nothing through it", chain)

    async def connect(self, container: Container) -> SandboxNetwork:
        """Allot what the container's network mode asks for.

        Raises:
            NetworkNotFound, Conflict, PortUnavailable…: in dockerd's words; nothing stays allotted.
        """
        mode = container.record.host_config.network_mode
        if container.record.config.network_disabled:
            mode = "none"
        if mode in ("host", "none"):
            plain = self._plain[mode]
            return PlainSandbox("host" if mode == "host" else "new", mode, plain.id, self._files(container, mode, list))
        if mode.startswith("container:"):
            return self._join(container, mode.removeprefix("container:"))
        if mode not in ("default", "bridge", self.bridge.id):
            raise NetworkNotFound(f"network {mode} not found")
        return self._on_bridge(container)

    def _on_bridge(self, container: Container) -> BridgeSandbox:
        record = container.record
        requests = parse_requests(
            record.config.exposed_ports, record.host_config.port_bindings, record.host_config.publish_all_ports
        )
        wishes = (record.networking or {}).get("EndpointsConfig") or {}
        wish = wishes.get("bridge") or wishes.get("default") or {}
        addresses = wish.get("IPAMConfig") or {}
        if any(addresses.get(key) for key in ("IPv4Address", "IPv6Address", "LinkLocalIPs")):
            raise InvalidArgument(
                "invalid config for network bridge: invalid endpoint settings:\n"
                "* user specified IP address is supported on user defined networks only"
            )
        mac = record.config.mac_address or wish.get("MacAddress") or None
        endpoint = self.bridge.allocate(container.id, mac)
        try:
            held = self.host_ports.allocate(
                container.id, requests, endpoint.address, f"{container.name} ({endpoint.id})"
            )
        except BaseException:
            self.bridge.release(container.id)
            raise
        return self._bridge_sandbox(container, endpoint, held)

    def _bridge_sandbox(self, container: Container, endpoint: Endpoint, held: list[HeldPort]) -> BridgeSandbox:
        return BridgeSandbox(
            self,
            endpoint,
            held,
            sorted_ports(container.record.config.exposed_ports),
            self._files(container, "bridge", lambda: [endpoint.address]),
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
        files = network.files if network is not None else self._files(other, "none", list)
        return PlainSandbox("join", "", "", files, namespace)

    def _files(
        self, container: Container, mode: str, addresses: Callable[[], list[str]]
    ) -> Callable[[], dict[str, str]]:
        record = container.record
        host = record.host_config

        def make() -> dict[str, str]:
            base = None
            if mode == "host":
                with open("/etc/hosts", encoding="utf-8", errors="surrogateescape") as file:
                    base = file.read()
            gateway = self.bridge.gateway if mode == "bridge" else ""
            return {
                "hosts": render_hosts(
                    record.config.hostname,
                    addresses(),
                    domainname=record.config.domainname,
                    extra=parse_extra_hosts(host.extra_hosts or [], gateway),
                    base=base,
                ),
                "hostname": render_hostname(record.config.hostname),
                "resolv.conf": render_resolv_conf(
                    host_resolver(),
                    dns=host.dns or self._config.dns,
                    search=host.dns_search or self._config.dns_search,
                    options=host.dns_options or self._config.dns_options,
                    same_namespace=mode == "host",
                ),
            }

        return make

    def restore(self, container: Container, saved: Mapping[str, Any]) -> SandboxNetwork:
        """Take back what a live sandbox holds."""
        if saved.get("kind") != "bridge":
            mode = saved.get("name") or "none"
            return PlainSandbox(
                saved.get("mode", "new"),
                saved.get("name", ""),
                saved.get("network_id", ""),
                self._files(container, mode, list),
            )
        endpoint = Endpoint.from_json(saved["endpoint"])
        self.bridge.reserve(endpoint)
        ports = [PublishedPort.from_json(port) for port in saved["ports"]]
        self.host_ports.reserve(container.id, ports)
        return self._bridge_sandbox(container, endpoint, [HeldPort(port) for port in ports])

    async def list(self, filters: Filters | None = None) -> JsonList:
        """Docker's JSON of every network that fits `filters` (name, id, driver, scope, type, label, dangling)."""
        chosen = filters or {}
        return [network for network in self._all() if _fits(network, chosen)]

    def _all(self) -> JsonList:
        return [self.bridge.inspect(self._name_of), *(self._inspect_plain(name) for name in ("host", "none"))]

    def _name_of(self, id_: str) -> str:
        try:
            return self._registry.find(id_).name
        except WherryError:
            return id_

    def _inspect_plain(self, name: str) -> dict[str, Any]:
        on_it = {
            container.id: member(container.name, "")
            for container in self._registry
            if container.running and container.record.host_config.network_mode == name
        }
        return self._plain[name].inspect(on_it)

    async def inspect(self, ref: str) -> dict[str, Any]:
        """Docker's JSON of one network.

        Raises:
            NetworkNotFound: in dockerd's words.
        """
        networks = self._all()
        for network in networks:
            if ref in (network["Name"], network["Id"]):
                return network
        matches = [network for network in networks if ref and network["Id"].startswith(ref)]
        if len(matches) == 1:
            return matches[0]
        raise NetworkNotFound(f"network {ref} not found")

    def watch(self) -> None:
        """Begin to put our table back whenever somebody flushes the ruleset."""
        self._guard = Guard(self.firewall)
        self._guard.start()

    async def close(self, *, remove: bool) -> None:
        """Stop watching. With `remove`, take bridge and table away; not while containers live on them."""
        if self._guard is not None:
            await self._guard.close()
        if remove:
            await asyncio.get_running_loop().run_in_executor(None, self._remove)
        self.firewall.close()

    def _remove(self) -> None:
        self.firewall.remove_table()
        try:
            self.bridge.remove()
        except WherryError as error:
            log.warning("%s", error)


def _fits(network: dict[str, Any], filters: dict[str, list[str]]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda value: value in network["Name"],
        "id": network["Id"].startswith,
        "driver": network["Driver"].__eq__,
        "scope": network["Scope"].__eq__,
        "type": "builtin".__eq__,
        "label": lambda value: value.partition("=")[0] in network["Labels"],
        "dangling": lambda value: value in ("false", "0") or not network["Containers"],
    }
    return all(any(tests[name](value) for value in values) for name, values in filters.items() if name in tests)
