"""Names in user-defined networks: netd is told who is called what, and given the resolver's sockets of each container.

netd runs from the first container that needs it on. It keeps what it was told while wherryd is away; a later wherryd
says everything again, in one stroke. When netd dies, the next one is told, and the monitors lend their sockets again.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from wherry.config import EngineConfig
from wherry.containers.model import Container
from wherry.engine.helpers import Helpers
from wherry.engine.netd import HELPER, Message, NetdLine
from wherry.errors import PortUnavailable, WherryError
from wherry.network.ports import PublishedPort

log = logging.getLogger("wherry.names")

_RELAY_BACKLOG = 1024
_TRIES = 400
_TRY_PAUSE = 0.005


class Member(Protocol):
    """One container's place in one network, as `engine.networks.members` gives it."""

    container_id: str
    network_id: str
    network: str
    internal: bool
    default_bridge: bool
    names: list[str]
    address: str
    address6: str
    links: dict[str, str]


class Containers(Protocol):
    """The registry of containers."""

    def __iter__(self) -> Iterator[Container]: ...

    def find(self, reference: str) -> Container: ...


class Names:
    """See the module.

    Args:
        helpers: netd is one of them.
        config: `dns` and `dns-opts` of daemon.json.
        containers: all of them.
        members: the live endpoints of a network, in order of connection.
        networks_of: ids of the networks that a container is in, in order; empty where it needs no names of ours.
    """

    def __init__(
        self,
        helpers: Helpers,
        config: EngineConfig,
        containers: Containers,
        members: Callable[[str], Sequence[Member]],
        networks_of: Callable[[Container], Sequence[str]],
    ) -> None:
        self._config = config
        self._containers = containers
        self._members = members
        self._networks_of = networks_of
        self._helper = helpers.helper("netd", HELPER)
        self._helper.on_started = self._netd_started
        self._line: NetdLine | None = None
        self._told: dict[str, dict[str, tuple[list[str], list[str]]]] = {}  # network -> container -> names, addresses
        self._askers: dict[str, Message] = {}
        self._lent: dict[str, int] = {}  # container -> pid of the monitor that lends its sockets
        self._relays: dict[str, PublishedPort] = {}
        self._relaying = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._adopted = False

    async def start(self, networks: Iterable[str] = ()) -> None:
        """After adoption: find netd where something lives that needs it, and end a left-over one that nobody needs.

        Args:
            networks: ids of all networks.
        """
        for id_ in networks:
            self.changed(id_)
        # from here on sockets are lent; a netd that is found again has those of who lived on
        self._adopted = True
        try:
            if self._askers or self._relays:
                await self._helper.ensure()
            elif self._helper.left:
                await self._helper.end()
        except WherryError as error:
            log.error("netd: %s", error)

    def close(self) -> None:
        """Let go of netd; what becomes of it is the helpers' business."""
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        if self._line is not None:
            self._line.close()
            self._line = None

    # ---- what happens to containers and networks

    def changed(self, network_id: str) -> None:
        """Something about the members of a network has changed: netd knows it before this returns, if it runs."""
        members = [member for member in self._on(network_id) if not member.default_bridge]
        if not members and network_id not in self._told:
            return
        self._tell_network(network_id, members)
        for member in members:
            self._tell_asker(member.container_id)
        for id_ in [i for i, asker in self._askers.items() if network_id in asker["networks"]]:
            self._tell_asker(id_)
        self._lend_all(member.container_id for member in members)

    def started(self, id_: str) -> None:
        """A container runs: its sockets are lent to netd."""
        self._lend_all([id_])

    def _on(self, network_id: str) -> Sequence[Member]:
        try:
            return self._members(network_id)
        except WherryError:
            return ()  # it was removed

    def _tell_network(self, id_: str, members: Sequence[Member]) -> None:
        known = self._told.setdefault(id_, {})
        now = {m.container_id: (list(m.names), [a for a in (m.address, m.address6) if a]) for m in members}
        if now and not known:
            self._send({"op": "network", "id": id_, "name": members[0].network})
        for container, value in now.items():
            if known.get(container) != value:
                self._send(_member(id_, container, value))
        for container in known.keys() - now.keys():
            self._send({"op": "no-member", "network": id_, "container": container})
        self._told[id_] = now
        if not now:
            del self._told[id_]
            self._send({"op": "no-network", "id": id_})

    def _tell_asker(self, id_: str) -> None:
        asker = self._asker(id_)
        known = self._askers.get(id_)
        if asker == known:
            return
        if asker is None:
            del self._askers[id_]
            self._lent.pop(id_, None)
            self._send({"op": "no-asker", "id": id_})
        else:
            self._askers[id_] = asker
            self._send(asker)

    def _asker(self, id_: str) -> Message | None:
        try:
            container = self._containers.find(id_)
        except WherryError:
            return None
        networks, links, forward = [], {}, False
        for network in self._networks_of(container):
            mine = next((m for m in self._on(network) if m.container_id == id_), None)
            if mine is None:
                continue
            forward = forward or not mine.internal
            if not mine.default_bridge:
                networks.append(network)
                links.update(self._targets(mine.links))
        if not networks:
            return None
        host = container.record.host_config
        options = host.dns_options or self._config.dns_options
        return {
            "op": "asker",
            "id": id_,
            "networks": networks,
            "links": links,
            "servers": list(host.dns or self._config.dns or []),
            "forward": forward,
            "dotted_only": any(option.startswith("ndots:") and option != "ndots:0" for option in options or []),
        }

    def _targets(self, links: dict[str, str]) -> dict[str, str]:
        found = {}
        for alias, reference in links.items():
            try:
                found[alias] = self._containers.find(reference).id
            except WherryError:
                continue  # it is gone: the name leads nowhere
        return found

    # ---- relays

    async def publish(self, owner: str, ports: Sequence[PublishedPort]) -> None:
        """Have netd relay ports. What is relayed already stays.

        Args:
            owner: the container.
            ports: with IPv6 host addresses.

        Raises:
            PortUnavailable: a port is taken by another.
            WherryError: netd cannot be started.
        """
        await self._helper.ensure()
        async with self._relaying:
            held = set((await self._line.sync())["relays"]) if self._line is not None else set()
            for port in ports:
                key = _relay_key(owner, port)
                if key not in held:
                    self._send_relay(key, port)
                self._relays[key] = port

    async def withdraw(self, owner: str) -> None:
        """End all relays of a container."""
        for key in [key for key in self._relays if key.startswith(f"{owner}/")]:
            del self._relays[key]
            self._send({"op": "no-relay", "id": key})
        if self._line is not None:
            try:
                await self._line.sync()  # the port is free when this returns
            except (ConnectionError, TimeoutError) as error:
                log.warning("netd: %s", error)

    def _send_relay(self, key: str, port: PublishedPort) -> None:
        fd = _listen(port)
        try:
            self._send(
                {
                    "op": "relay",
                    "id": key,
                    "protocol": port.protocol,
                    "address": port.container_ip,
                    "port": port.container_port,
                },
                {"socket": fd},
            )
        finally:
            os.close(fd)

    # ---- netd

    def _send(self, message: Message, fds: dict[str, int] | None = None) -> None:
        if self._line is not None:
            self._line.send(message, fds)

    def _netd_started(self) -> None:
        """It runs, anew or still: say everything."""
        if self._closed:
            return
        if self._line is not None:
            self._line.close()
        self._lent.clear()
        try:
            self._line = NetdLine(self._helper.run_dir, self._line_lost)
        except OSError as error:
            log.error("netd does not take connections: %s", error)
            self._line = None
            return
        self._send({"op": "begin"})
        for id_, members in self._told.items():
            name = next((m.network for m in self._on(id_)), "")
            self._send({"op": "network", "id": id_, "name": name})
            for container, value in members.items():
                self._send(_member(id_, container, value))
        for asker in self._askers.values():
            self._send(asker)
        self._send({"op": "commit"})
        self._keep(self._after_start(self._line))

    async def _after_start(self, line: NetdLine) -> None:
        holds = await line.sync()
        lost = self._askers.keys() - set(holds["sandboxes"])
        for id_ in self._askers.keys() - lost:
            container = self._find(id_)
            if container is not None and container.monitor is not None:
                self._lent[id_] = container.monitor.pid
        self._lend_all(lost)
        async with self._relaying:
            held = set((await line.sync())["relays"])
            for key in held - self._relays.keys():
                owner = self._find(key.partition("/")[0])
                if owner is None or not owner.running:  # a living one's are published again in a moment
                    self._send({"op": "no-relay", "id": key})
            for key in self._relays.keys() - held:
                try:
                    self._send_relay(key, self._relays[key])
                except WherryError as error:
                    log.error("relay %s: %s", key, error)

    def _line_lost(self) -> None:
        self._line = None  # its monitor says when the next one runs

    def _find(self, id_: str) -> Container | None:
        try:
            return self._containers.find(id_)
        except WherryError:
            return None

    # ---- sockets

    def _lend_all(self, ids: Iterable[str]) -> None:
        for id_ in ids if self._adopted else ():
            if id_ in self._askers and id_ not in self._lent:
                self._lent[id_] = 0
                self._keep(self._lend(id_))

    async def _lend(self, id_: str) -> None:
        for _ in range(_TRIES):
            await self._helper.ensure()
            container = self._find(id_)
            if container is None or self._lent.get(id_) != 0:
                break
            # the monitor can lend once it has said that the container runs
            if container.monitor is not None and container.running and self._line is not None:
                try:
                    fd = self._line.another()
                    try:
                        await container.monitor.request("resolver", fds={"to": fd})
                    finally:
                        os.close(fd)
                    self._lent[id_] = container.monitor.pid
                    return
                except (WherryError, OSError) as error:
                    # it has just ended and starts again, or netd has: both come back, or the container is forgotten
                    log.info("names for %s: %s", id_[:12], error)
            await asyncio.sleep(_TRY_PAUSE)
        if self._lent.get(id_) == 0:
            del self._lent[id_]

    def _keep(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("netd: %s", error)


def _member(network: str, container: str, value: tuple[list[str], list[str]]) -> Message:
    names, addresses = value
    return {"op": "member", "network": network, "container": container, "names": names, "addresses": addresses}


def _relay_key(owner: str, port: PublishedPort) -> str:
    return f"{owner}/{port.host_ip}/{port.host_port}/{port.protocol}"


def _listen(port: PublishedPort) -> int:
    """The socket of a relayed port; raises PortUnavailable in Docker's words."""
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6, kind) as made:
        try:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((port.host_ip, port.host_port))
            if kind == socket.SOCK_STREAM:
                made.listen(_RELAY_BACKLOG)
        except OSError as error:
            reason = os.strerror(error.errno or errno.EADDRINUSE).lower()
            raise PortUnavailable(
                f"failed to bind host port for [{port.host_ip}]:{port.host_port}:"
                f"{port.container_ip}:{port.container_port}/{port.protocol}: {reason}",
                host_ip=port.host_ip,
                host_port=port.host_port,
            ) from None
        return made.detach()
