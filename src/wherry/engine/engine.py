"""The composition root: builds every service once, in order, and takes them down in reverse."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wherry.balancing.services import Services
from wherry.builder.cache.space import rules
from wherry.building.build import Build
from wherry.config import EngineConfig
from wherry.containers import adopt, data, records, restart, stop
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.containers.start import start_again
from wherry.distribution.settings import registry_settings
from wherry.engine import machine, storage
from wherry.engine.containers import Containers
from wherry.engine.disk_usage import DiskUsage
from wherry.engine.images import Images
from wherry.engine.placement import Placement
from wherry.engine.system import System
from wherry.engine.volumes import Volumes
from wherry.errors import WherryError
from wherry.events import Events
from wherry.linux.background import background
from wherry.monitor.client import MonitorHandle, Spawner
from wherry.monitor.client import adopt as adopt_monitor
from wherry.networking.names import Names
from wherry.networking.networks import Networks
from wherry.sandbox.helpers import Helpers
from wherry.sandbox.ports import EventHandler, LostHandler
from wherry.store.atomic import discard

DRAIN_SECONDS = 5.0

log = logging.getLogger("wherry.engine")

_TRASH_RETRY = 2.0
_TRASH_LOOK = 60.0
# for one worker; what it has not deleted by then the next one does
_TRASH_SECONDS = 600.0


class Engine:
    """One engine over one data root; the caller holds both roots (`engine.holding`).

    Args:
        config: its settings.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.roots = config.roots
        self._registries = registry_settings(config)
        self.events = Events()
        self._spawner: Spawner | None = None
        self.helpers = Helpers(self.roots, self._spawn, self._adopt, storage.remove_small_tree)
        self._sweeper: asyncio.Task[None] | None = None
        self._trash = asyncio.Event()
        self._condemned: set[str] = set()
        self._placement = Placement(self.roots)
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Make everything ready: stores, spawner, network; adopt what lives; start what is wanted."""
        roots = self.roots
        storage.prepare(roots)
        self._spawner = Spawner(cgroups=self._placement.enter())
        await self._spawner.start()
        self._storage = storage.Storage(
            roots,
            self._unpack,
            self._write_layer,
            self._compare,
            self._layers_in_use,
            self._layers_mounted,
            self._to_be_deleted,
        )
        self._storage.images.limit(self.config.max_concurrent_downloads, self.config.max_concurrent_uploads)
        self.events.keep(self._storage.journal)
        self._storage.build_cache.rules = rules(self.config.builder, roots.data)
        await self._storage.images.recover()
        self._context = Context(
            roots=roots,
            config=self.config,
            machine=machine.look(self.config.init_path),
            resolve_image=self._storage.images.resolve,
            layers=self._storage.overlay,
            volumes=self._storage.volumes,
            spawn=self._spawn,
            adopt=self._adopt,
            run_worker=self._run_worker,
            connect=self._connect,
            restore=self._restore,
            check_networks=self._check_networks,
            renamed=self._renamed,
            publish=self._publish,
            trash=self._to_trash,
        )
        self._context.start_again = lambda container: start_again(self._context, container)
        self.services = Services(roots, self.helpers, self._context.registry, self._reach)
        self._context.check_service = self.services.check
        self._context.leave_service = self.services.leave
        loop = asyncio.get_running_loop()
        for wrong in await loop.run_in_executor(None, self._storage.volumes.load, self._volumes_wanted):
            log.error("%s; left as it is", wrong)
        self.names = Names(self.helpers, self.config, self._context.registry)
        self.networks = Networks(
            roots, self.config, self._context.registry, self._publish, self.names.relays, self._to_trash
        )
        await loop.run_in_executor(None, self.networks.set_up)
        self.names.watch(self.networks)
        wanted = await adopt.adopt_all(self._context)
        # places to mount on, of builds that a killed engine was at
        storage.remove_small_tree(f"{roots.run}/build")
        await loop.run_in_executor(None, self.networks.settle)
        await self.networks.reconcile()
        self.networks.watch()
        await self.names.start(network.id for network in self.networks.table)
        self.services.start()
        await self._storage.images.collect()
        self.containers = Containers(self._context)
        self.images = Images(self._storage.images, self._context, self.events, self._registries)
        self.volumes = Volumes(self._context)
        self.build = Build(
            self._context, self._storage.images, self._storage.build_cache, self.events, self._registries
        )
        self.names.guests = self.build.steps.running
        disk_usage = DiskUsage(
            self._context,
            self._storage.images,
            self.volumes.usage,
            self.build.usage,
            lambda: [record for record, _ in self._storage.build_cache.records().values()],
        )
        self.system = System(
            self._context,
            lambda: self._storage.images.count,
            self._registries.describe,
            disk_usage,
            lambda: self.events.watching,
            lambda: self.networks.troubles,
        )
        self._sweeper = background().stand("empty the trash", self._empty_trash)
        self._trash.set()
        self._context.adopted.set()
        adopt.start_wanted(self._context, wanted)

    async def close(self) -> None:
        """Stop serving. Containers go on unless `live-restore` is off."""
        self._context.closing = True
        if not self.config.live_restore:
            await self._stop_all()
        restart.leave_to_next(self._context)
        if late := await background().drain(DRAIN_SECONDS):
            log.warning("background work did not end within %.0f seconds: %s", DRAIN_SECONDS, "; ".join(late))
        self.events.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for container in self._context.registry:
            if container.monitor is not None:
                container.monitor.close()
        idle = not any(container.running for container in self._context.registry)
        self.services.close()
        self.names.close()
        await self.helpers.close(remove=idle)
        await self.networks.close(remove=idle)
        self._storage.close()
        if self._spawner is not None:
            await self._spawner.close()
        if idle:
            await asyncio.get_running_loop().run_in_executor(None, self._placement.leave)

    async def _stop_all(self) -> None:
        running = [c for c in self._context.registry if c.running]

        async def one(container: Any) -> None:
            try:
                await stop.shut_down(self._context, container)
            except WherryError as error:
                log.warning("stop %s: %s", container.id[:12], error)

        try:
            async with asyncio.timeout(self.config.shutdown_timeout):
                await asyncio.gather(*(one(container) for container in running))
        except TimeoutError:
            log.warning("some containers did not stop within %s seconds", self.config.shutdown_timeout)

    def _reach(self, container: Any) -> str:
        return self.networks.reach(container)

    def _publish(
        self, kind: str, action: str, id_: str, attributes: dict[str, str], happened: int | None = None
    ) -> None:
        self.events.publish(kind, action, id_, attributes, happened)
        self.services.on_event(kind, action, id_)
        if kind == "container" and action == "start":
            self.names.started(id_)

    # what the verbs are handed

    @property
    def _live_spawner(self) -> Spawner:
        if self._spawner is None:
            raise RuntimeError("the engine is not started")
        return self._spawner

    async def _spawn(
        self, launch: dict[str, Any], fds: Mapping[str, int], on_event: EventHandler, on_lost: LostHandler
    ) -> MonitorHandle:
        handle = await self._live_spawner.spawn_monitor(launch, fds)
        handle.on_lost = on_lost
        handle.on_event = on_event
        return handle

    async def _adopt(self, run_dir: str, on_event: EventHandler, on_lost: LostHandler) -> MonitorHandle:
        handle = await adopt_monitor(run_dir)
        handle.on_lost = on_lost
        handle.on_event = on_event
        return handle

    async def _run_worker(
        self,
        kind: str,
        args: dict[str, Any],
        fds: Mapping[str, int],
        progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        return await self._live_spawner.run_worker(kind, args, fds, progress)

    async def _unpack(
        self, source_fd: int, target_dir_fd: int, expect_diff_id: str | None, *, sync: bool = True
    ) -> dict[str, Any]:
        args = {"expect_diff_id": expect_diff_id, "sync": sync}
        return await self._live_spawner.run_worker("unpack", args, {"source": source_fd, "target": target_dir_fd})

    async def _write_layer(self, tree_fd: int, blob_fd: int, copy_fd: int, args: dict[str, Any]) -> dict[str, Any]:
        return await self._live_spawner.run_worker("layer", args, {"tree": tree_fd, "blob": blob_fd, "copy": copy_fd})

    async def _compare(self, source_fd: int, tree_fd: int, expect_diff_id: str | None) -> dict[str, Any]:
        args = {"expect_diff_id": expect_diff_id}
        return await self._live_spawner.run_worker("verify", args, {"source": source_fd, "tree": tree_fd})

    def _layers_in_use(self) -> set[str]:
        return _layers_of(self._context.registry)

    def _layers_mounted(self) -> set[str]:
        """Of those that run, that a verb works on at this moment, or that files are copied from or to."""
        return _layers_of(c for c in self._context.registry if c.monitor is not None or c.lock.locked() or c.copies)

    def _volumes_wanted(self, id_: str) -> set[str]:
        try:
            return data.names_of(records.load(self.roots, id_))
        except WherryError:
            return set()

    def _check_networks(self, record: Any) -> None:
        self.networks.check(record)

    async def _renamed(self, container: Any, old: str) -> None:
        await self.networks.renamed(container, old)

    async def _connect(self, container: Any) -> Any:
        return await self.networks.connect(container)

    def _restore(self, container: Any, saved: Mapping[str, Any]) -> Any:
        return self.networks.restore(container, saved)

    # the trash: a rename is the removal, deletion is nobody's waiting time

    def _to_trash(self, path: str) -> None:
        if path.startswith(self.roots.run):
            # another file system than the trash; small, and volatile
            storage.remove_small_tree(path)
            return
        discard(path, self.roots.trash)
        self._loop.call_soon_threadsafe(self._trash.set)

    def _to_be_deleted(self, path: str) -> None:
        """A path that is out of everybody's way already, and is not in the trash; told from any thread."""
        self._loop.call_soon_threadsafe(self._condemn, path)

    def _condemn(self, path: str) -> None:
        # in the loop's thread, which walks through the set
        self._condemned.add(path)
        self._trash.set()

    async def _empty_trash(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_TRASH_LOOK):
                    await self._trash.wait()
            except TimeoutError:
                pass  # what was put there without a word
            self._trash.clear()
            self._condemned = {path for path in self._condemned if os.path.lexists(path)}
            entries = [f"{self.roots.trash}/{name}" for name in os.listdir(self.roots.trash)]
            entries += sorted(self._condemned)
            if not entries:
                continue
            try:
                async with asyncio.timeout(_TRASH_SECONDS):
                    await self._run_worker("remove", {"paths": entries}, {})
            except (WherryError, OSError, TimeoutError) as error:
                log.warning("emptying the trash: %s", error)
                self._loop.call_later(_TRASH_RETRY, self._trash.set)


def _layers_of(containers: Iterable[Container]) -> set[str]:
    """Chain ids of what containers stand on, and of the images that are mounted in them."""
    found: set[str] = set()
    for container in containers:
        found.update(container.record.chain_ids)
        for point in container.record.mounts or []:
            found.update(point.chain_ids or [])
    return found
