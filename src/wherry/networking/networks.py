"""The networks, who is on them, and the firewall around them."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wherry.config import EngineConfig
from wherry.containers import links
from wherry.containers.model import Container, Record
from wherry.containers.ports import SandboxNetwork
from wherry.containers.records import Registry
from wherry.errors import ContainerNotFound, InvalidArgument, KernelError, NetworkNotFound, WherryError
from wherry.linux.background import background
from wherry.linux.nftables import RulesetWatch
from wherry.network.addressing import Addressed
from wherry.network.endpoint import Endpoint
from wherry.network.firewall import Firewall
from wherry.network.guard import Guard, Watcher
from wherry.network.members import Member
from wherry.network.ports import HeldPort, HostPorts, PublishedPort
from wherry.network.records import PlainNetwork, member
from wherry.network.spec import parse_create
from wherry.network.uplink import UplinkWatch
from wherry.networking import checkup
from wherry.networking.attachments import Attachments
from wherry.networking.container_files import ContainerFiles
from wherry.networking.filters import check, fits, prunable
from wherry.networking.rewiring import Rewiring
from wherry.networking.sandboxes import AttachedSandbox, Relay
from wherry.networking.table import Network, NetworkTable
from wherry.paths import Roots
from wherry.values.jsontypes import Json
from wherry.wire.networks import ConnectRequest, DisconnectRequest, EndpointWish, NetworkCreate

_REFRESH_SECONDS = 60.0
_LOOK_SECONDS = 2.0  # dockerd changes rules with each container: one look for many changes

log = logging.getLogger("wherry.network")

JsonList = list[Json]
Filters = dict[str, list[str]]
Publish = Callable[[str, str, str, dict[str, str]], None]


class Networks:
    """The networks of one engine.

    Args:
        roots, config: this engine's.
        registry: the containers, for names and for namespaces that others join.
        publish: takes an event for the event stream.
        relay: serves ports that the kernel cannot translate.
        trash: takes the directories of networks that were removed.
    """

    def __init__(
        self,
        roots: Roots,
        config: EngineConfig,
        registry: Registry,
        publish: Publish,
        relay: Relay,
        trash: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self.relay = relay
        self._publish = publish
        self.table = NetworkTable(roots, config, trash)
        self.host_ports = HostPorts()
        self._defaults = config.default_network_opts
        self._asks = config.publish_policy == "host-firewall"
        self.firewall = Firewall(roots.scope, asks=self._asks)
        self._host_watchers: list[Watcher] = []
        self.troubles: list[str] = []
        self._watchers: list[Callable[[str], None]] = []

        def linked(container: Container) -> list[tuple[str, str]]:
            return links.hosts(registry, container.record)

        files = ContainerFiles(config, lambda: self.table.bridge.gateway, linked)
        self._attachments = Attachments(self.table, registry, files, self, self.host_ports)
        self._rewiring = Rewiring(roots, self._attachments, files, self, self.host_ports)

    # start and end

    def set_up(self) -> None:
        """Make the bridges; blocking."""
        self.table.set_up()
        self.firewall.set_networks(self.table.protected)

    def settle(self) -> None:
        """After adoption: put the firewall table in place whole, and remove links that nobody owns; blocking."""
        published: dict[str, list[PublishedPort]] = {}
        for container in self._registry:
            if isinstance(container.network, AttachedSandbox) and container.network.translated:
                published[container.id] = container.network.translated
        sources = {one.id: one.network.places for one in self._registry if isinstance(one.network, AttachedSandbox)}
        self.firewall.rebuild(published, sources)
        self.table.sweep()
        self._look_at_others()

    def _look_at_others(self) -> None:
        """Note what other programs' firewalls keep from containers, and log what is new; blocking."""
        try:
            self.firewall.pass_docker()
            found = [
                f"the firewall chain {chain} drops forwarded packets: containers reach nothing through it"
                for chain in self.firewall.obstacles()
            ]
        except KernelError as error:
            found = [f"other programs' firewall chains cannot be looked at: {error}"]
        found += self.firewall.warnings
        for text in found:
            if text not in self.troubles:
                log.warning("%s", text)
        self.troubles = found

    async def reconcile(self) -> None:
        """After adoption: end what a connect or disconnect was in the midst of when the engine was killed."""
        for container in self._registry:
            async with container.lock:
                try:
                    await self._rewiring.reconcile(container, self.table.addressed_by)
                except WherryError as error:
                    log.error("container %s: network: %s", container.id[:12], error)

    def watch(self) -> None:
        """Begin to put our table back whenever somebody flushes the ruleset, and to follow the uplink."""
        guard, uplink = Guard(self.firewall), UplinkWatch()
        follower = Watcher(lambda: uplink, lambda: self.table.follow(uplink), "the uplink")
        others = Watcher(RulesetWatch, self._look_at_others, "other programs' firewall rules", settle=_LOOK_SECONDS)
        self._host_watchers += [guard, follower, others]
        guard.start()
        others.start()
        follower.start(act=True)

    async def close(self, *, remove: bool) -> None:
        """Stop watching. With `remove`, take bridges and table away; not while containers live on them."""
        for watcher in self._host_watchers:
            await watcher.close()
        if remove:
            await asyncio.get_running_loop().run_in_executor(None, self._remove)
        self.firewall.close()

    def _remove(self) -> None:
        self.firewall.remove_table()
        self.table.tear_down()

    # what sandboxes need

    async def connect(self, container: Container) -> SandboxNetwork:
        """Allot what the container's networks are, for a start.

        Raises:
            NetworkNotFound, Conflict, PortUnavailable…: in dockerd's words; nothing stays allotted.
        """
        if container.record.host_config.links and container.record.host_config.network_mode == "bridge":
            links.check(self._registry, container.record)
        sandbox = self._attachments.make(container)
        if isinstance(sandbox, AttachedSandbox):
            for endpoint in sandbox.endpoints:
                self._event("connect", self.table.find(endpoint.network_id), container=container.id)
        return sandbox

    def restore(self, container: Container, saved: Mapping[str, Any]) -> SandboxNetwork:
        """Take back what a live sandbox holds."""
        return self._attachments.restore(container, saved)

    def check(self, record: Record) -> None:
        """Say at create what would fail at each start.

        Raises:
            InvalidArgument: in dockerd's words.
        """
        self._attachments.check(record)

    def release(self, endpoint: Endpoint, *, lived: bool = True) -> None:
        """Give an endpoint's addresses back; of one that never lived nobody is told."""
        try:
            network = self.table.addressed_by(endpoint.network_id)
        except NetworkNotFound:
            return
        network.release(endpoint.container_id)
        if lived:
            self._event("disconnect", network, container=endpoint.container_id)

    async def let_through(self, owner: str, endpoints: Sequence[Endpoint]) -> None:
        """Where containers of the default network are kept apart, let an owner's links through."""
        if self.table.bridge.spec.icc:
            return
        own = next((endpoint.address for endpoint in endpoints if endpoint.default_bridge), "")
        try:
            record = self._registry.find(owner).record if own else None
        except ContainerNotFound:
            record = None  # a build's step: it is linked to nobody
        wanted = links.passages(self._registry, record, own) if record is not None else []
        await asyncio.get_running_loop().run_in_executor(None, self.firewall.set_passages, owner, wanted)

    def moved(self, endpoints: Sequence[Endpoint]) -> None:
        """Tell who watches that these came, went or changed."""
        for network_id in dict.fromkeys(endpoint.network_id for endpoint in endpoints):
            for watcher in self._watchers:
                watcher(network_id)
            if network_id == self.table.bridge.id:
                self._linked_moved()

    def _linked_moved(self) -> None:
        """An address on the default network came or went: the hosts files of who is linked follow."""
        linked = [one for one in self._registry if one.running and one.record.host_config.links]
        if linked:
            work = self._rewiring.refresh(linked)
            background().start("write hosts files of linked containers", work, _REFRESH_SECONDS, awaited=False)

    async def renamed(self, container: Container, old: str) -> None:
        """A container that was called `old` has another name: who looks it up by name must find it by that."""
        async with container.lock:
            await self._rewiring.renamed(container, old)

    # who is on a network

    def find(self, reference: str) -> Network:
        """Find a network by name, id or id prefix; raises NetworkNotFound."""
        return self.table.find(reference)

    def members(self, network_id: str) -> list[Member]:
        """Every live endpoint of a network, in the order of connection; of `host` and `none` there are none."""
        network = self.table.find(network_id)
        if isinstance(network, PlainNetwork):
            return []
        return [Member(endpoint, self._name_of(endpoint.container_id)) for endpoint in network.endpoints]

    def named_on(self, container: Container) -> Sequence[str]:
        """Ids of the networks of a running container that is served names; it is in one of its user's."""
        sandbox = container.network
        if isinstance(sandbox, AttachedSandbox) and sandbox.embedded_dns:
            return [endpoint.network_id for endpoint in sandbox.endpoints]
        return ()

    def relayed_by(self, container: Container) -> Sequence[HeldPort]:
        """The ports of a container that are relayed."""
        return container.network.relayed if isinstance(container.network, AttachedSandbox) else ()

    def reach(self, container: Container) -> str:
        """Where the host reaches a running container's ports; empty where it does not."""
        mode = container.record.host_config.network_mode
        if mode == "host":
            return "127.0.0.1"
        if mode.startswith("container:"):
            try:
                return self.reach(self._registry.find(mode.removeprefix("container:")))
            except WherryError:
                return ""
        endpoints = container.network.endpoints if isinstance(container.network, AttachedSandbox) else []
        return next((address for e in endpoints for address in (e.address, e.address6) if address), "")

    def watch_members(self, callback: Callable[[str], None]) -> None:
        """Have `callback` called on the loop, with the network's id, after its members changed."""
        self._watchers.append(callback)

    def _name_of(self, id_: str) -> str:
        try:
            return self._registry.find(id_).name
        except WherryError:
            return id_

    # the verbs

    async def create(self, request: NetworkCreate) -> Json:
        """Create a network; Docker's answer: `Id` and `Warning`.

        Raises:
            InvalidArgument, Forbidden, Conflict, NotFound, NotSupported: in dockerd's words; nothing is left.
        """
        defaults = self._defaults.get(request.driver or "bridge")
        if defaults:
            request.options = {**defaults, **(request.options or {})}
        spec = parse_create(request)
        self.table.claim(spec.name)
        loop = asyncio.get_running_loop()
        try:
            network = await loop.run_in_executor(None, self.table.make, spec)
            await loop.run_in_executor(None, lambda: self.firewall.set_networks(self.table.protected))
        finally:
            self.table.unclaim(spec.name)
        self._event("create", network)
        return {"Id": spec.id, "Warning": ""}

    async def remove(self, reference: str) -> None:
        """Remove a network.

        Raises:
            NetworkNotFound, Forbidden: in dockerd's words.
        """
        network = self.table.withdraw(self.table.find(reference))
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.table.destroy, network)
        await loop.run_in_executor(None, lambda: self.firewall.set_networks(self.table.protected))
        self._event("destroy", network)

    async def prune(self, filters: Filters) -> Json:
        """Remove every user's network that nobody is on; Docker's answer: `NetworksDeleted`.

        Raises:
            InvalidArgument: a filter that is none.
        """
        doomed = prunable(
            [network for network in self.table if not isinstance(network, PlainNetwork) and not network.default],
            filters,
            self._asked_for(),
        )
        removed = []
        for network in doomed:
            try:
                await self.remove(network.id)
            except WherryError as error:
                log.warning("prune: %s", error)
                continue
            removed.append(network.name)
        self._publish("network", "prune", "", {"reclaimed": "0"})
        return {"NetworksDeleted": removed or None}

    def _asked_for(self) -> set[str]:
        """Networks with a live endpoint."""
        return {network.id for network in self.table.addressed if network.endpoints}

    async def attach(self, reference: str, request: ConnectRequest) -> None:
        """Connect a container to a network.

        Raises:
            NetworkNotFound, ContainerNotFound, InvalidArgument, Conflict: in dockerd's words.
        """
        container = self._container(request.container)
        network = self._addressed(reference)
        wish = request.endpoint or EndpointWish()
        async with container.lock:
            endpoint = await self._rewiring.connect(network, container, wish)
        if endpoint is not None:
            self._event("connect", network, container=container.id)

    async def detach(self, reference: str, request: DisconnectRequest) -> None:
        """Disconnect a container from a network.

        Raises:
            NetworkNotFound, ContainerNotFound, InvalidArgument: in dockerd's words.
        """
        leaves_none = self.table.find(reference) is self.table.plain["none"]
        network = None if leaves_none else self._addressed(reference)
        try:
            container = self._container(request.container)
        except ContainerNotFound:
            if request.force:
                raise NetworkNotFound(f"endpoint {request.container} not found") from None
            raise
        async with container.lock:
            if network is None:
                await self._rewiring.leave_none(container)
            else:
                await self._rewiring.disconnect(network, container)

    async def examine(self, reference: str, port: str = "") -> JsonList:
        """Say in words what stands between a container, or one of its ports, and the world.

        Returns:
            `{"ok": bool, "text": str}` for each thing that was looked at.

        Raises:
            ContainerNotFound: there is no such container.
            InvalidArgument: `port` is none.
        """
        return await checkup.check(self._container(reference), port, self.firewall, asks=self._asks)

    def _addressed(self, reference: str) -> Addressed:
        network = self.table.find(reference)
        if isinstance(network, PlainNetwork):
            if network.name == "host":
                raise InvalidArgument("container cannot be disconnected from host network or connected to host network")
            raise InvalidArgument(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
            )
        return network

    def _container(self, reference: str) -> Container:
        if not reference:
            raise InvalidArgument('invalid name or ID supplied: ""')
        return self._registry.find(reference)

    async def list(self, filters: Filters | None = None) -> JsonList:
        """Docker's JSON of every network that fits `filters` (name, id, driver, scope, type, label, dangling).

        Raises:
            InvalidArgument: a filter that is none.
        """
        chosen = filters or {}
        check(chosen)
        busy = self._asked_for() | {self.table.plain[name].id for name in ("host",)}
        return [self._inspect(network) for network in self.table if fits(network, chosen, busy=busy)]

    async def inspect(self, ref: str) -> Json:
        """Docker's JSON of one network.

        Raises:
            NetworkNotFound: in dockerd's words.
        """
        return self._inspect(self.table.find(ref))

    def _inspect(self, network: Network) -> Json:
        if isinstance(network, PlainNetwork):
            return network.inspect(
                {
                    container.id: member(container.name, "")
                    for container in self._registry
                    if container.running and container.record.host_config.network_mode == network.name
                }
            )
        return network.inspect(self._name_of)

    def _event(self, action: str, network: Network | Addressed, **attributes: str) -> None:
        self._publish("network", action, network.id, {"name": network.name, "type": network.driver, **attributes})
