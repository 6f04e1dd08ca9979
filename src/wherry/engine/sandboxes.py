"""What one sandbox holds of the network, for each network mode: bridge, none, host, another container's."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Protocol

from wherry.network.bridge import Bridge
from wherry.network.endpoint import Endpoint
from wherry.network.firewall import Firewall
from wherry.network.ports import HeldPort, HostPorts, PublishedPort, parse_port_key
from wherry.wire.network_settings import endpoint_settings, network_settings

Files = Callable[[], dict[str, str]]


class Wiring(Protocol):
    """What a bridge sandbox needs of the engine's network."""

    bridge: Bridge
    host_ports: HostPorts
    firewall: Firewall


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

    async def publish(self) -> None:
        return None

    async def release(self) -> None:
        self.started()


class BridgeSandbox:
    """A sandbox on the default bridge, with an address and published ports.

    Args:
        endpoint: its place on the bridge.
        held: published ports with the sockets that reserve them; after a crash the monitor alone has those.
        exposed: container ports that are shown without a host port.
    """

    def __init__(
        self, wiring: Wiring, endpoint: Endpoint, held: list[HeldPort], exposed: list[str], files: Files
    ) -> None:
        self._wiring = wiring
        self.endpoint = endpoint
        self._held = held
        self._exposed = exposed
        self._files = files
        # the container may end while its ports are being published: the withdrawal comes after, and nothing after that
        self._changing = asyncio.Lock()
        self._released = False

    @property
    def ports(self) -> list[PublishedPort]:
        """What is published."""
        return [held.port for held in self._held]

    def plan(self) -> dict[str, Any]:
        return {"namespace": "new", "endpoints": [self.endpoint.plan()]}

    def fds(self) -> dict[str, int]:
        return {f"port:{index}": held.fd for index, held in enumerate(self._held) if held.fd >= 0}

    def files(self) -> dict[str, str]:
        return self._files()

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
        return network_settings(
            networks={self.endpoint.network: self.endpoint.settings()},
            ports=ports,
            default=self.endpoint.settings(),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "bridge",
            "endpoint": self.endpoint.to_json(),
            "ports": [port.to_json() for port in self.ports],
            "exposed": self._exposed,
        }

    async def publish(self) -> None:
        if not self.ports:
            return
        async with self._changing:
            if not self._released:
                await asyncio.get_running_loop().run_in_executor(
                    None, self._wiring.firewall.publish, self.endpoint.container_id, self.ports
                )

    async def release(self) -> None:
        self.started()
        owner = self.endpoint.container_id
        self._released = True
        if self.ports:
            async with self._changing:
                await asyncio.get_running_loop().run_in_executor(None, self._wiring.firewall.unpublish, owner)
        self._wiring.host_ports.release(owner, self.ports)
        self._wiring.bridge.release(owner)


def sorted_ports(exposed: dict[str, Any] | None) -> list[str]:
    """Exposed ports in the order in which they are shown."""
    return sorted(exposed or {}, key=parse_port_key)
