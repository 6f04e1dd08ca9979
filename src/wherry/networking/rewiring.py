"""`network connect` and `disconnect`: of a container that runs through its monitor, of any in its record.

The record is the truth. Connecting writes it last and disconnecting first, so whatever a crash interrupts, an interface
that lives and is not on record is one to take away (`Rewiring.reconcile`).
"""

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any

import msgspec

from wherry.containers import records
from wherry.containers.asked import wishes_of
from wherry.containers.model import Container
from wherry.errors import Conflict, Forbidden, InvalidArgument, WherryError
from wherry.network.addressing import Addressed
from wherry.network.endpoint import Endpoint
from wherry.network.gateway import default_routes, receiving
from wherry.network.ports import RELAYED_PROTOCOLS, HeldPort, HostPorts, PublishedPort
from wherry.networking.attachments import Attachments
from wherry.networking.container_files import ContainerFiles
from wherry.networking.sandboxes import AttachedSandbox, Wiring
from wherry.paths import Roots
from wherry.sandbox.ports import Monitor
from wherry.store.atomic import write_atomic
from wherry.wire.networks import EndpointWish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger("wherry.network")

_PREFIX = 4  # shorter ones are names
_EMBEDDED_LINE = "nameserver 127.0.0.11\n"


class Rewiring:
    """Changes the networks of containers; each call with the container's lock held."""

    def __init__(
        self,
        roots: Roots,
        attachments: Attachments,
        files: ContainerFiles,
        wiring: Wiring,
        host_ports: HostPorts,
    ) -> None:
        self._roots = roots
        self._host_ports = host_ports
        self._attachments = attachments
        self._files = files
        self._wiring = wiring

    async def connect(self, network: Addressed, container: Container, wish: EndpointWish) -> Endpoint | None:
        """Put a container onto a network; gives the endpoint, where it runs.

        Raises:
            Forbidden, InvalidArgument, Conflict…: in dockerd's words; nothing is changed.
        """
        mode = container.record.host_config.network_mode
        if mode == "host" or mode.startswith("container:"):
            raise InvalidArgument(
                "container sharing network namespace with another container or host cannot be connected to any other "
                "network"
            )
        if "none" in wishes_of(container.record):
            raise InvalidArgument(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
            )
        if _key(container, network) is not None:
            raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")
        self._attachments.check_wish(network, wish)
        if not container.running and not wish.mac_address and mode in (network.name, network.id):
            # Compose takes a new container off its network and puts it back with aliases
            wish.mac_address = container.record.config.mac_address or ""
        endpoint = None
        sandbox = container.network
        if container.running and isinstance(sandbox, AttachedSandbox):
            async with sandbox.changing:
                endpoint = await self._attach(network, container, sandbox, wish)
        elif container.running:
            raise Conflict(f"container {container.id} has no network to add to")
        wish.network_id = network.id
        await self._record(container, {**wishes_of(container.record), network.name: wish})
        return endpoint

    async def _attach(
        self, network: Addressed, container: Container, sandbox: AttachedSandbox, wish: EndpointWish
    ) -> Endpoint:
        self._alive(container, sandbox)
        endpoint = self._attachments.allocate(network, container, wish, sandbox.endpoints)
        before = sandbox.endpoints
        try:
            await self._switch(container, sandbox, [*before, endpoint], attach=[endpoint])
        except BaseException:
            sandbox.endpoints = before
            self._wiring.release(endpoint, lived=False)
            await sandbox.declare()
            await self._remember(container, sandbox)
            raise
        self._wiring.moved([endpoint])
        return endpoint

    async def disconnect(self, network: Addressed, container: Container) -> Endpoint | None:
        """Take a container off a network; gives the endpoint that it had, where it runs.

        Raises:
            Forbidden: it is not on it, in dockerd's words.
            KernelError: its interface does not go.
        """
        key = _key(container, network)
        if key is None:
            words = "the network" if not container.running else "network"
            raise Forbidden(f"container {container.id} is not connected to {words} {network.name}")
        rest = {name: wish for name, wish in wishes_of(container.record).items() if name != key}
        await self._record(container, rest)
        sandbox = container.network
        if not container.running or not isinstance(sandbox, AttachedSandbox):
            return None
        async with sandbox.changing:
            return await self._detach(network, container, sandbox)

    async def leave_none(self, container: Container) -> None:
        """Take a container off `none`: what it has then can be connected to networks.

        Raises:
            Forbidden: it is not on it, in dockerd's words.
        """
        if "none" not in wishes_of(container.record):
            words = "the network" if not container.running else "network"
            raise Forbidden(f"container {container.id} is not connected to {words} none")
        await self._record(container, {})
        if container.running and container.network is not None:
            sandbox = container.network = self._attachments.bare(container)
            async with sandbox.changing:
                await self._remember(container, sandbox)

    async def _detach(self, network: Addressed, container: Container, sandbox: AttachedSandbox) -> Endpoint | None:
        self._alive(container, sandbox)
        gone = next((one for one in sandbox.endpoints if one.network_id == network.id), None)
        if gone is None:
            return None
        await self._switch(container, sandbox, [one for one in sandbox.endpoints if one is not gone], detach=[gone])
        self._wiring.release(gone)
        self._wiring.moved([gone])
        await sandbox.declare()
        return gone

    async def _switch(
        self,
        container: Container,
        sandbox: AttachedSandbox,
        endpoints: list[Endpoint],
        *,
        attach: list[Endpoint] | None = None,
        detach: list[Endpoint] | None = None,
    ) -> None:
        """Go over from what a sandbox has to `endpoints`: saved, made, ports led there, files written."""
        monitor = container.monitor
        if monitor is None:
            raise Conflict(f"container {container.id} is not running")
        before, sandbox.endpoints = sandbox.endpoints, endpoints
        if attach:
            # its addresses must be known to who adopts, before there is anything that has them
            await self._remember(container, sandbox, more=True)
        held, fresh = self._ports(container, sandbox, before, endpoints)
        made = False
        try:
            if attach:
                await sandbox.declare()
            await monitor.request(
                "rewire",
                fds={f"port:{index}": one.fd for index, one in enumerate(fresh) if one.fd >= 0},
                attach=[endpoint.plan(default=False, default6=False) for endpoint in attach or ()],
                detach=[endpoint.name for endpoint in detach or ()],
                routes=default_routes(endpoints),
            )
            made = True
            if held is not None:
                await sandbox.redirect(held)
        except BaseException:
            sandbox.endpoints = before
            self._host_ports.release(container.id, [one.port for one in fresh])
            if made and attach:
                await _take_back(monitor, attach, before)
            raise
        finally:
            for one in fresh:
                one.close()
        await self._remember(container, sandbox)

    def _ports(
        self, container: Container, sandbox: AttachedSandbox, before: list[Endpoint], after: list[Endpoint]
    ) -> tuple[list[HeldPort] | None, list[HeldPort]]:
        """What is published from now on (None: as before), and which of that is held anew."""
        old = (receiving(before), receiving(before, ipv6=True))
        new = (receiving(after), receiving(after, ipv6=True))
        if old == new:
            return None, []
        if not sandbox.held:
            fresh = self._attachments.hold_ports(container, after)
            return fresh, fresh
        moved = []
        for one in sandbox.held:
            port, ipv6 = one.port, ":" in one.port.host_ip
            way, way6 = new
            # without a way in the port stays held, and leads nowhere; a relay leads from IPv6 to IPv4
            target = way.address if way is not None and (not ipv6 or port.protocol in RELAYED_PROTOCOLS) else ""
            if ipv6 and way6 is not None:
                target = way6.address6
            moved.append(
                HeldPort(PublishedPort(port.protocol, port.host_ip, port.host_port, target, port.container_port))
            )
        return moved, []

    async def _remember(self, container: Container, sandbox: AttachedSandbox, *, more: bool = False) -> None:
        """Write down what a sandbox has now; `more` than before, or less.

        What was interrupted is found by an endpoint that is written down and not on record: so one that comes is
        written down before anything else tells of it, and one that goes is forgotten last.
        """
        await asyncio.get_running_loop().run_in_executor(None, self._write, container, sandbox, more)

    def _write(self, container: Container, sandbox: AttachedSandbox, more: bool) -> None:
        if not more:
            self._write_files(container, sandbox)
        path = f"{self._roots.sandbox(container.id)}/launch.json"
        write_atomic(path, msgspec.json.encode(sandbox.to_json()), durable=False)
        if more:
            self._write_files(container, sandbox)

    def _write_files(self, container: Container, sandbox: AttachedSandbox) -> None:
        self._write_hosts(container, sandbox)
        directory = self._roots.container(container.id)
        resolver = self._files.resolv_conf(container, sandbox.endpoints)
        with open(f"{directory}/resolv.conf", encoding="utf-8", errors="surrogateescape") as file:
            present = file.read()
        # only from one kind of resolver to the other: what somebody wrote into it inside stays
        if (_EMBEDDED_LINE in present) != (_EMBEDDED_LINE in resolver):
            _overwrite(f"{directory}/resolv.conf", resolver)

    def _write_hosts(self, container: Container, sandbox: AttachedSandbox) -> None:
        path = f"{self._roots.container(container.id)}/hosts"
        _overwrite(path, self._files.hosts(container, sandbox.endpoints))

    async def refresh(self, containers: "Sequence[Container]") -> None:
        """Write the hosts files of running containers again: whom they are linked to has moved."""
        loop = asyncio.get_running_loop()
        for container in containers:
            sandbox = container.network
            if isinstance(sandbox, AttachedSandbox):
                async with sandbox.changing:
                    if not sandbox.released:
                        await loop.run_in_executor(None, self._write_hosts, container, sandbox)

    async def _record(self, container: Container, wanted: dict[str, EndpointWish]) -> None:
        record = container.record
        before = record.networking
        endpoints: dict[str, Any] = {name: msgspec.to_builtins(wish) for name, wish in wanted.items()}
        record.networking = {**(before or {}), "EndpointsConfig": endpoints, "Chosen": True}
        try:
            await asyncio.get_running_loop().run_in_executor(None, records.save, self._roots, record)
        except BaseException:
            record.networking = before
            raise

    @staticmethod
    def _alive(container: Container, sandbox: AttachedSandbox) -> None:
        if sandbox.released or container.network is not sandbox or not container.running:
            raise Conflict(f"container {container.id} is not running")

    async def renamed(self, container: Container, old: str) -> None:
        """Let the others find it by its new name only; with the container's lock held."""
        sandbox = container.network
        if not isinstance(sandbox, AttachedSandbox) or sandbox.released:
            return
        for endpoint in sandbox.endpoints:
            others = [name for name in endpoint.dns_names if name not in (old, container.name)]
            endpoint.dns_names = [container.name, *others]
        await self._remember(container, sandbox)
        self._wiring.moved(sandbox.endpoints)

    async def reconcile(self, container: Container, find: "Callable[[str], Addressed]") -> None:
        """After a crash: take away what lives and is not on record; with the container's lock held."""
        sandbox = container.network
        if not container.running or not isinstance(sandbox, AttachedSandbox):
            return
        for endpoint in list(sandbox.endpoints):
            network = find(endpoint.network_id)
            if _key(container, network) is None:
                async with sandbox.changing:
                    await self._detach(network, container, sandbox)


def _overwrite(path: str, text: str) -> None:
    """Write a file in place, since it is bound into the container; it is not empty meanwhile, whoever is killed."""
    data = text.encode("utf-8", "surrogateescape")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


async def _take_back(monitor: Monitor, attached: list[Endpoint], before: list[Endpoint]) -> None:
    """Take interfaces away again; a monitor that cannot is ending anyway, and they with it."""
    try:
        await monitor.request(
            "rewire", attach=[], detach=[endpoint.name for endpoint in attached], routes=default_routes(before)
        )
    except WherryError as error:
        log.warning("taking back %s: %s", ", ".join(endpoint.name for endpoint in attached), error)


def _key(container: Container, network: Addressed) -> str | None:
    """Under which name a container has asked for a network; None: it has not."""
    for name in wishes_of(container.record):
        if name in (network.name, network.id) or (network.default and name == "default"):
            return name
        if len(name) >= _PREFIX and network.id.startswith(name):
            return name
    return None
