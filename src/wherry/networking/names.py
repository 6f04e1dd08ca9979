"""Names in user-defined networks: netd is told who is called what, and given the resolver's sockets of each container.

netd runs from the first container that needs it on. It keeps what it was told while wherryd is away; a later wherryd
says everything again, in one stroke. When netd dies, the next one is told, and the monitors lend their sockets again.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from wherry.config import EngineConfig
from wherry.containers.model import Container
from wherry.errors import WherryError
from wherry.linux.background import background
from wherry.network.ports import HeldPort
from wherry.networking.netd import HELPER, NetdLine
from wherry.networking.relays import Relays
from wherry.sandbox.helpers import Helpers
from wherry.values.jsontypes import Json

log = logging.getLogger("wherry.names")

_TASK_SECONDS = 60.0
# netd or a monitor has died: its successor gets everything
_EXPECTED = (WherryError, OSError, TimeoutError)
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


class View(Protocol):
    """What `engine.networks` knows."""

    def members(self, network_id: str) -> Sequence[Member]:
        """The live endpoints of a network, in order of connection; raises NetworkNotFound."""

    def named_on(self, container: Container) -> Sequence[str]:
        """Ids of the networks that a container is in, in order; empty where it needs no names of ours."""

    def relayed_by(self, container: Container) -> Sequence[HeldPort]:
        """The ports of a container that are relayed."""

    def watch_members(self, callback: Callable[[str], None]) -> None:
        """Have `callback` called with a network's id after its members changed."""


class Nothing:
    """No networks at all."""

    def members(self, _network_id: str) -> Sequence[Member]:
        return ()

    def named_on(self, _container: Container) -> Sequence[str]:
        return ()

    def relayed_by(self, _container: Container) -> Sequence[HeldPort]:
        return ()

    def watch_members(self, _callback: Callable[[str], None]) -> None:
        return None


class Names:
    """See the module.

    Args:
        helpers: netd is one of them.
        config: `dns` and `dns-opts` of daemon.json.
        containers: all of them.
    """

    def __init__(self, helpers: Helpers, config: EngineConfig, containers: Containers) -> None:
        self._config = config
        self._containers = containers
        self._view: View = Nothing()
        self._helper = helpers.helper("netd", HELPER)
        self._helper.on_started = self._netd_started
        self._line: NetdLine | None = None
        self.guests: Mapping[str, Container] = {}
        """What asks for names as containers do, and is none: the steps of builds."""
        self._told: dict[str, dict[str, tuple[list[str], list[str]]]] = {}  # network -> container -> names, addresses
        self._askers: dict[str, Json] = {}
        self._lent: dict[str, int] = {}  # container -> pid of the monitor that lends its sockets
        self._tasks: set[asyncio.Task[None]] = set()
        self.relays = Relays(lambda: self._line, self._helper.ensure, self._find, self._keep)
        self._closed = False
        self._adopted = False

    def watch(self, view: View) -> None:
        """Look at these networks from now on; before adoption."""
        self._view = view
        view.watch_members(self.changed)

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
            for container in self._containers:
                self.relays.adopt(container.id, self._view.relayed_by(container))
            if self._askers or self.relays:
                await self._helper.ensure()
                if self._line is not None:
                    await self._line.sync()  # whoever is served from now on finds all that it was told
            elif self._helper.left:
                await self._helper.end()
        except (WherryError, ConnectionError, TimeoutError) as error:
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
            return self._view.members(network_id)
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

    def _asker(self, id_: str) -> Json | None:
        container = self._find(id_)
        if container is None:
            return None
        networks, links, forward = [], {}, False
        for network in self._view.named_on(container):
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

    # ---- netd

    def _send(self, message: Json, fds: dict[str, int] | None = None) -> None:
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
        self._keep("lend netd what it lacks", self._after_start(self._line))

    async def _after_start(self, line: NetdLine) -> None:
        holds = await line.sync()
        lost = self._askers.keys() - set(holds["sandboxes"])
        for id_ in self._askers.keys() - lost:
            container = self._find(id_)
            if container is not None and container.monitor is not None:
                self._lent[id_] = container.monitor.pid
        self._lend_all(lost)
        self.relays.restore(line, holds["relays"])

    def _line_lost(self) -> None:
        self._line = None  # its monitor says when the next one runs

    def _find(self, id_: str) -> Container | None:
        if id_ in self.guests:
            return self.guests[id_]
        try:
            return self._containers.find(id_)
        except WherryError:
            return None

    # ---- sockets

    def _lend_all(self, ids: Iterable[str]) -> None:
        for id_ in ids if self._adopted else ():
            if id_ in self._askers and id_ not in self._lent:
                self._lent[id_] = 0
                self._keep(f"names for {id_[:12]}", self._lend(id_))

    async def _lend(self, id_: str) -> None:
        for _ in range(_TRIES):
            await self._helper.ensure()
            container = self._find(id_)
            if container is None or self._lent.get(id_) != 0:
                break
            # the monitor can lend once it has said that the container runs
            monitor = container.monitor
            if monitor is not None and container.running and self._line is not None:
                try:
                    fd = self._line.another()
                    try:
                        await monitor.request("resolver", fds={"to": fd})
                    finally:
                        os.close(fd)
                    self._lent[id_] = monitor.pid
                    return
                except (WherryError, OSError) as error:
                    # it has just ended and starts again, or netd has: both come back, or the container is forgotten
                    log.info("names for %s: %s", id_[:12], error)
            await asyncio.sleep(_TRY_PAUSE)
        if self._lent.get(id_) == 0:
            del self._lent[id_]

    def _keep(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = background().start(name, work, _TASK_SECONDS, awaited=False, expected=_EXPECTED)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _member(network: str, container: str, value: tuple[list[str], list[str]]) -> Json:
    names, addresses = value
    return {"op": "member", "network": network, "container": container, "names": names, "addresses": addresses}
