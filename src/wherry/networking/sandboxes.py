"""What one sandbox holds of the network, for each network mode: bridge, none, host, another container's."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from wherry.errors import MonitorLost, NotRunning
from wherry.network.endpoint import Endpoint
from wherry.network.firewall import Firewall
from wherry.network.gateway import plans
from wherry.network.ports import HeldPort, HostPorts, PublishedPort, parse_port_key
from wherry.network.sources import BridgePort, ports_of
from wherry.sandbox.ports import Monitor
from wherry.wire.network_settings import endpoint_settings, network_settings

Files = Callable[[], dict[str, str]]
_BATCH = 32  # descriptors of ports in one message: half of what a channel takes


class Relay(Protocol):
    """Serves published ports that the kernel cannot translate (`engine.names`)."""

    def publish(self, owner: str, held: Sequence[HeldPort]) -> None:
        """Relay these of an owner's ports from now on, and no others."""

    async def withdraw(self, owner: str) -> None:
        """Relay none of an owner's ports any more; they are free when this returns."""


class Wiring(Protocol):
    """What a sandbox needs of the engine's networks."""

    host_ports: HostPorts
    firewall: Firewall
    relay: Relay

    def release(self, endpoint: Endpoint, *, lived: bool = True) -> None:
        """Give an endpoint's addresses back; of one that never lived nobody is told."""

    async def let_through(self, owner: str, endpoints: Sequence[Endpoint]) -> None:
        """Where containers are kept apart, let an owner's links through; without endpoints no more."""

    def moved(self, endpoints: Sequence[Endpoint]) -> None:
        """Tell who watches that these came, went or changed."""


class PlainSandbox:
    """A sandbox without addresses of its own.

    Args:
        mode: `new` (only loopback: `none`), `host` or `join`.
        name: the network's name as inspect shows it; empty for a joined one.
        network_id: its id.
        files: makes hosts, hostname and resolv.conf.
        namespace: for `join`, a descriptor of the other's network namespace; this object closes it.
    """

    def __init__(self, mode: str, name: str, network_id: str, files: Files, namespace: int = -1) -> None:
        self._mode = mode
        self._name = name
        self._network_id = network_id
        self._files = files
        self._namespace = namespace

    def plan(self) -> dict[str, Any]:
        return {"namespace": self._mode, "endpoints": []}

    def fds(self) -> dict[str, int]:
        return {"ns:network": self._namespace} if self._namespace >= 0 else {}

    def files(self) -> dict[str, str]:
        return self._files()

    def started(self) -> None:
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def settings(self) -> dict[str, Any]:
        networks = {self._name: endpoint_settings(NetworkID=self._network_id)} if self._name else {}
        return network_settings(networks=networks, ports={})

    def to_json(self) -> dict[str, Any]:
        return {"kind": "plain", "mode": self._mode, "name": self._name, "network_id": self._network_id}

    async def prepare(self) -> None:
        return None

    async def hand_over(self, _monitor: Monitor) -> None:
        return None

    async def publish(self) -> None:
        return None

    async def release(self) -> None:
        self.started()


class AttachedSandbox:
    """A sandbox with addresses on one or more networks, and published ports.

    Args:
        owner: the container's id.
        endpoints: its places; the first is `eth0`.
        held: published ports with the sockets that reserve them; after a crash the monitor alone has those.
        exposed: container ports that are shown without a host port.
        files: makes hosts, hostname and resolv.conf of the endpoints there are.
        administers: the container may change its network (NET_ADMIN).
    """

    def __init__(
        self,
        wiring: Wiring,
        owner: str,
        endpoints: list[Endpoint],
        held: list[HeldPort],
        exposed: list[str],
        files: Callable[[Sequence[Endpoint]], dict[str, str]],
        *,
        administers: bool,
    ) -> None:
        self._wiring = wiring
        self._owner = owner
        self.endpoints = endpoints
        self._held = held
        self._exposed = exposed
        self._files = files
        self._administers = administers
        # the container may end while its ports are being published: the withdrawal comes after, and nothing after that
        self.changing = asyncio.Lock()
        self.released = False

    @property
    def held(self) -> list[HeldPort]:
        """The host ports it has; one that leads nowhere at present has no container's address."""
        return self._held

    @property
    def ports(self) -> list[PublishedPort]:
        """What is published."""
        return [held.port for held in self._held if held.port.container_ip]

    @property
    def translated(self) -> list[PublishedPort]:
        """What of it the kernel translates."""
        return [port for port in self.ports if port.translated]

    @property
    def relayed(self) -> list[HeldPort]:
        """What of it is relayed, wholly or in part."""
        return [held for held in self._held if held.port.container_ip and held.port.relayed]

    @property
    def places(self) -> list[BridgePort]:
        """Its ports on bridges, for the firewall."""
        return ports_of(self.endpoints, administers=self._administers)

    @property
    def embedded_dns(self) -> bool:
        """Whether names are served to it: it is on a user-defined network."""
        return any(not endpoint.default_bridge for endpoint in self.endpoints)

    def plan(self) -> dict[str, Any]:
        return {"namespace": "new", "endpoints": plans(self.endpoints), "dns": self.embedded_dns}

    def fds(self) -> dict[str, int]:
        # a message carries only so many: the rest follows once the monitor is there
        return self._port_fds(self._held[:_BATCH])

    @staticmethod
    def _port_fds(held: Sequence[HeldPort]) -> dict[str, int]:
        return {f"port:{index}": one.fd for index, one in enumerate(held) if one.fd >= 0}

    async def hand_over(self, monitor: Monitor) -> None:
        for start in range(_BATCH, len(self._held), _BATCH):
            fds = self._port_fds(self._held[start : start + _BATCH])
            try:
                await monitor.request("rewire", fds=fds, attach=[], detach=[], routes={})
            except (NotRunning, MonitorLost):
                return  # it has ended already: its exit gives all back

    def files(self) -> dict[str, str]:
        return self._files(self.endpoints)

    def started(self) -> None:
        for held in self._held:
            held.close()

    def settings(self) -> dict[str, Any]:
        ports: dict[str, list[dict[str, str]] | None] = dict.fromkeys(self._exposed)
        for port in self.ports:
            key = f"{port.container_port}/{port.protocol}"
            bindings = ports.get(key) or []
            bindings.append({"HostIp": port.host_ip, "HostPort": str(port.host_port)})
            ports[key] = bindings
        default = next((endpoint for endpoint in self.endpoints if endpoint.default_bridge), None)
        return network_settings(
            networks={endpoint.network: endpoint.settings() for endpoint in self.endpoints},
            ports=ports,
            default=default.settings() if default is not None else None,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "bridge",
            "endpoints": [endpoint.to_json() for endpoint in self.endpoints],
            "ports": [held.port.to_json() for held in self._held],
            "exposed": self._exposed,
        }

    async def prepare(self) -> None:
        async with self.changing:
            if not self.released:
                await self.declare()

    async def declare(self) -> None:
        """Have the firewall let it send from the places that it has now, and no others; with `changing` held."""
        await asyncio.get_running_loop().run_in_executor(
            None, self._wiring.firewall.set_sources, self._owner, self.places
        )

    async def publish(self) -> None:
        self._wiring.moved(self.endpoints)
        if self.relayed:
            self._wiring.relay.publish(self._owner, self.relayed)
        async with self.changing:
            if not self.released:
                await self._wiring.let_through(self._owner, self.endpoints)
            if self.translated and not self.released:
                await asyncio.get_running_loop().run_in_executor(
                    None, self._wiring.firewall.publish, self._owner, self.translated
                )

    async def redirect(self, held: list[HeldPort]) -> None:
        """Lead published ports elsewhere: `held` takes the place of what there is; with `changing` held."""
        loop = asyncio.get_running_loop()
        if self.translated:
            await loop.run_in_executor(None, self._wiring.firewall.unpublish, self._owner)
        relayed = self.relayed
        self._held = held
        if self.translated:
            await loop.run_in_executor(None, self._wiring.firewall.publish, self._owner, self.translated)
        if relayed or self.relayed:
            self._wiring.relay.publish(self._owner, self.relayed)

    async def release(self) -> None:
        self.started()
        self.released = True
        async with self.changing:
            relays = [self._wiring.relay.withdraw(self._owner)] if self.relayed else []
            leave = asyncio.get_running_loop().run_in_executor(None, self._wiring.firewall.leave, self._owner)
            await asyncio.gather(leave, *relays)
            self._wiring.host_ports.release(self._owner, [held.port for held in self._held])
            endpoints, self.endpoints = self.endpoints, []
            await self._wiring.let_through(self._owner, [])
            for endpoint in endpoints:
                self._wiring.release(endpoint)
            self._wiring.moved(endpoints)


def sorted_ports(exposed: dict[str, Any] | None) -> list[str]:
    """Exposed ports in the order in which they are shown."""
    return sorted(exposed or {}, key=parse_port_key)
