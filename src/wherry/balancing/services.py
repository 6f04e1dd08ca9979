"""`engine.services`: containers behind HAProxy, by labels of their create requests (`proxy/labels.py`).

Who belongs into which pool follows from the containers alone: running, healthy where there is a check, and listening.
One task compares that with HAProxy's slots and changes what differs: members by the runtime API, anything else by a
seamless reload. HAProxy is a helper: it runs from the first member on, and serves while wherryd is away.
"""

import asyncio
import logging
import os
from collections.abc import Callable

from wherry.balancing.service_files import Files, check_bindable
from wherry.containers import health
from wherry.containers.model import Container
from wherry.containers.records import Registry
from wherry.errors import Conflict, NotFound, NotSupported, WherryError
from wherry.linux.background import background
from wherry.paths import Roots
from wherry.proxy.config import MASTER_SOCKET, Pool, Slot, empty_pool
from wherry.proxy.labels import Service, conflict
from wherry.proxy.pools import Change, State, arrange
from wherry.proxy.runtime import Row, Runtime
from wherry.sandbox.helpers import Helpers
from wherry.values.jsontypes import Json

log = logging.getLogger("wherry.services")

PROGRAM = "/usr/sbin/haproxy"
_RETRY_SECONDS = 0.5
_RETRY_PLACES_SECONDS = 5.0
_PROBE_PAUSE = 0.03
_PROBE_SECONDS = 2.0
_DRAIN_PAUSE = 0.02
_SETTLE_SECONDS = 5.0

Address = Callable[[Container], str]


class Services:
    """See the module.

    Args:
        roots: this engine's.
        helpers: HAProxy is one of them.
        registry: all containers.
        address_of: where the host reaches a running container; empty for nowhere.
    """

    def __init__(self, roots: Roots, helpers: Helpers, registry: Registry, address_of: Address) -> None:
        self._registry = registry
        self._address_of = address_of
        self._files = Files(roots.helper("haproxy"))
        what = {
            "argv": [PROGRAM, "-W", "-f", self._files.config, "-S", f"unix@{MASTER_SOCKET},mode,600"],
            "cwd": roots.helper_run("haproxy"),
        }
        self._helper = helpers.helper("haproxy", what)
        self._helper.on_started = self._proxy_started
        self._runtime = Runtime(self._helper.run_dir)
        self._verified = False
        self._leaving: set[str] = set()
        self._listening: dict[str, int] = {}  # container -> pid of process 1 that has been seen listening
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._work: asyncio.Task[None] | None = None

    def start(self) -> None:
        """After adoption: go on with what an earlier wherryd left."""
        self._files.load()
        for pool in self._files.state.pools.values():
            for slot in pool.slots:
                container = self._find(slot.container) if slot is not None else None
                if container is not None and container.running:
                    self._listening[container.id] = container.pid  # it was: no gap
        for container in self._registry:
            self._watch(container)
        self._work = background().stand("services", self._run)
        if self._helper.left or self._definitions():
            self._news.set()

    def close(self) -> None:
        """Stop looking; HAProxy is the helpers' business."""
        for task in [*self._probes.values(), *([self._work] if self._work else [])]:
            task.cancel()
        self._probes.clear()

    # ---- what verbs call

    def check(self, service: Service) -> None:
        """Whether a container of that service may be created.

        Raises:
            NotSupported: HAProxy is not installed.
            Conflict: it is not compatible with a service that there is.
            PortUnavailable: somebody else listens on its port.
        """
        if not os.access(PROGRAM, os.X_OK):
            raise NotSupported(f"services need HAProxy ({PROGRAM}, package haproxy)")
        definitions = self._definitions()
        if words := conflict(service, definitions):
            raise Conflict(f"service {service.name}: {words}")
        if not any(other.place == service.place for other in definitions.values()):
            check_bindable(*service.place)

    async def leave(self, container: Container) -> None:
        """Before a container is told to stop: no new requests, and its time for those it has."""
        service = container.record.service
        if service is None:
            return
        self._leaving.add(container.id)
        pool = self._files.state.pools.get(service.name)
        number = pool.slot_of(container.id) if pool is not None else None
        if pool is None or number is None or not self._helper.running:
            return
        deadline = asyncio.get_running_loop().time() + service.drain
        try:
            await self._runtime.drain(pool.backend, number)
            while container.running and asyncio.get_running_loop().time() < deadline:
                if await self._runtime.sessions(pool.backend, number) == 0:
                    return
                await asyncio.sleep(_DRAIN_PAUSE)
        except WherryError as error:
            log.warning("service %s: %s", service.name, error)

    def on_event(self, kind: str, action: str, id_: str) -> None:
        """Take what the event stream says."""
        if kind == "network":
            if self._files.state.pools:
                self._news.set()
            return
        if kind != "container":
            return
        container = self._find(id_)
        if container is None or container.record.service is None:
            if action == "destroy":
                self._leaving.discard(id_)
                self._news.set()
            return
        if action == "start":
            self._leaving.discard(id_)
            self._watch(container)
        if action in ("start", "die", "create", "destroy") or action.startswith("health_status"):
            self._news.set()

    # ---- what is shown

    async def listing(self) -> list[Json]:
        """Every service, with how many containers it has and how many get requests."""
        await self._settle()
        return [self._describe(name, service) for name, service in sorted(self._definitions().items())]

    async def inspect(self, name: str) -> Json:
        """One service with its members.

        Raises:
            NotFound: there is none of that name.
        """
        await self._settle()
        service = self._definitions().get(name)
        if service is None:
            raise NotFound(f"No such service: {name}")
        pool = self._files.state.pools.get(name)
        members = []
        for container in self._of(name):
            number = pool.slot_of(container.id) if pool is not None else None
            slot = pool.slots[number] if pool is not None and number is not None else None
            members.append(
                {
                    "Container": container.id,
                    "Name": container.name,
                    "Address": f"{slot.address}:{slot.port}" if slot is not None else "",
                    "Slot": f"s{number + 1}" if number is not None else "",
                    "State": self._state_of(container, slot),
                }
            )
        return {
            **self._describe(name, service),
            "Port": service.port,
            "Balance": service.balance,
            "Sticky": service.sticky,
            "Check": service.check,
            "TLS": service.tls,
            "Drain": service.drain,
            "Slots": len(pool.slots) if pool is not None else 0,
            "Members": members,
        }

    async def statistics(self) -> list[Json]:
        """HAProxy's counts for each service (`Member` empty) and for each member that has a slot.

        Raises:
            Unavailable: it does not answer.
        """
        if not self._helper.running:
            return []
        rows = await self._runtime.statistics()
        by_backend = {pool.backend: (name, pool) for name, pool in self._files.state.pools.items()}
        found = []
        for row in rows:
            if row["pxname"] not in by_backend or row["svname"] == "FRONTEND":
                continue
            name, pool = by_backend[row["pxname"]]
            if row["svname"] == "BACKEND":
                found.append(_counts(name, "", row))
                continue
            slot = pool.slots[int(row["svname"][1:]) - 1]
            if slot is not None:
                container = self._find(slot.container)
                found.append(_counts(name, container.name if container is not None else slot.container[:12], row))
        return sorted(found, key=lambda one: (one["Service"], one["Member"]))

    async def _settle(self) -> None:
        """Wait until HAProxy does what was wanted at this moment; not for ever."""
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                if self._news.is_set():
                    await asyncio.sleep(0)
                await self._settled.wait()
        except TimeoutError:
            log.warning("services: HAProxy does not follow")

    def _describe(self, name: str, service: Service) -> Json:
        pool = self._files.state.pools.get(name)
        ready = sum(slot is not None and slot.ready for slot in pool.slots) if pool is not None else 0
        return {
            "Name": name,
            "Mode": service.mode,
            "Publish": f"{service.address or '*'}:{service.publish}",
            "Hosts": list(service.hosts),
            "Path": service.path,
            "Containers": len(self._of(name)),
            "Ready": ready,
            "Error": "address already in use" if service.place in self._files.unbindable else "",
        }

    def _state_of(self, container: Container, slot: Slot | None) -> str:
        if slot is not None:
            return "ready" if slot.ready and container.id not in self._leaving else "draining"
        if not container.running:
            return container.status
        if health.status(container) in ("starting", "unhealthy"):
            return health.status(container)
        return "joining"

    # ---- who belongs where

    def _find(self, id_: str) -> Container | None:
        try:
            return self._registry.find(id_)
        except WherryError:
            return None

    def _of(self, name: str) -> list[Container]:
        found = [c for c in self._registry if c.record.service is not None and c.record.service.name == name]
        return sorted(found, key=lambda c: c.record.created)

    def _definitions(self) -> dict[str, Service]:
        """Each service as its newest container has it."""
        found: dict[str, Service] = {}
        for container in sorted(self._registry, key=lambda c: c.record.created):
            if container.record.service is not None:
                found[container.record.service.name] = container.record.service
        return found

    def _members(self, name: str) -> dict[str, tuple[str, int]]:
        """The containers that should get requests: where each is reached."""
        found = {}
        for container in self._of(name):
            service = container.record.service
            if service is None or not container.running or container.id in self._leaving:
                continue
            if health.status(container) in ("starting", "unhealthy"):
                continue
            address = self._address_of(container)
            if address and self._listening.get(container.id) == container.pid:
                found[container.id] = (address, service.port)
        return found

    def _watch(self, container: Container) -> None:
        """Find out when a container listens on its port: before that it gets nothing."""
        if container.record.service is None or not container.running:
            return
        if self._listening.get(container.id) == container.pid:
            return
        old = self._probes.pop(container.id, None)
        if old is not None:
            old.cancel()
        probe = background().stand(f"wait until {container.id[:12]} listens", lambda: self._probe(container))
        self._probes[container.id] = probe

    async def _probe(self, container: Container) -> None:
        service, pid = container.record.service, container.pid
        while service is not None and container.running and container.pid == pid:
            address = self._address_of(container)
            if address and await _listens(address, service.port):
                self._listening[container.id] = pid
                self._news.set()
                return
            await asyncio.sleep(_PROBE_PAUSE)

    # ---- HAProxy

    def _proxy_started(self) -> None:
        self._verified = False
        self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            self._settled.clear()
            try:
                await self._reconcile()
            except (WherryError, OSError, TimeoutError) as error:
                log.error("%s", error)
                self._verified = False
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._news.set)
            if not self._news.is_set():
                self._settled.set()

    async def _reconcile(self) -> None:
        definitions = self._definitions()
        if not definitions:
            if self._helper.left:
                await self._helper.end()
            self._files.state = State(key=self._files.state.key)
            return
        members = {name: self._members(name) for name in definitions}
        if not self._helper.running and not self._helper.left and not any(members.values()):
            return
        changes = self._plan(definitions, members)
        shape = self._files.write()
        if not self._helper.running:
            left = self._helper.left
            await self._helper.ensure()
            await self._runtime.ready()
            if not left:
                self._read(shape)
        if shape != self._files.state.loaded:
            await self._runtime.reload()
            self._read(shape)
        elif not self._verified:
            await self._verify()
        else:
            for pool, number, before, after in changes:
                await self._apply(pool, number, before, after)
        self._verified = True
        if self._files.unbindable:
            asyncio.get_running_loop().call_later(_RETRY_PLACES_SECONDS, self._news.set)

    def _read(self, shape: str) -> None:
        """HAProxy has read the configuration that was written last."""
        self._files.state.loaded, self._files.state.bound = shape, sorted(self._files.places() - self._files.unbindable)
        self._files.save()
        self._verified = True

    def _plan(self, definitions: dict[str, Service], members: dict[str, dict[str, tuple[str, int]]]) -> list[Change]:
        """Bring the pools to what is wanted; gives what changes in their slots."""
        pools = self._files.state.pools
        for name in pools.keys() - definitions.keys():
            del pools[name]
        changes: list[Change] = []
        for name, service in definitions.items():
            pool = pools.get(name) or empty_pool(service, len(members[name]))
            pools[name] = Pool(service, pool.slots, self._files.certificate(service))
            arrange(pools[name], members[name], self._alive, changes)
        return changes

    def _alive(self, id_: str) -> bool:
        container = self._find(id_)
        return container is not None and container.running

    async def _apply(self, pool: Pool, number: int, before: Slot | None, after: Slot | None) -> None:
        if after is None:
            await self._runtime.empty(pool.backend, number, cut=True)
        elif not after.ready:
            await self._runtime.drain(pool.backend, number)
        else:
            if before is not None and (before.address, before.port) != (after.address, after.port):
                await self._runtime.empty(pool.backend, number, cut=True)
            await self._runtime.fill(pool.backend, number, after.address, after.port)

    async def _verify(self) -> None:
        """Compare every slot with what HAProxy has: a wherryd may have been killed between the two."""
        actual = await self._runtime.servers()
        for pool in self._files.state.pools.values():
            for number, slot in enumerate(pool.slots):
                address, port, ready = actual.get((pool.backend, f"s{number + 1}"), ("", 0, False))
                if slot is None:
                    if ready:
                        await self._runtime.empty(pool.backend, number, cut=True)
                elif (address, port, ready) != (slot.address, slot.port, slot.ready):
                    await self._apply(pool, number, Slot("", address, port), slot)


async def _listens(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _counts(service: str, member: str, row: Row) -> Json:
    def number(key: str) -> int:
        return int(row.get(key) or 0)

    return {
        "Service": service,
        "Member": member,
        "Status": row["status"],
        "Sessions": number("scur"),
        "Total": number("stot"),
        "Rate": number("rate"),
        "BytesIn": number("bin"),
        "BytesOut": number("bout"),
        "Errors": number("econ") + number("eresp") + number("hrsp_5xx"),
        "Retries": number("wretr") + number("wredis"),
    }
