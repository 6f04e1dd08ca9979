"""`engine.volumes`: volumes by name, as the API and embedding programs call them."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from wherry.containers import data, mounting, pipes
from wherry.containers.context import Context
from wherry.errors import Conflict, InvalidArgument, KernelError, NotFound, VolumeNotFound
from wherry.patterns.expressions import search
from wherry.snapshots.diff import usage
from wherry.values.gotext import FALSE, TRUE
from wherry.values.jsontypes import Json
from wherry.volumes.options import is_bind, needs_mount
from wherry.volumes.store import Volume

JsonList = list[Json]
Filters = dict[str, list[str]]

LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
PRUNE_FILTERS = frozenset({"all", "label", "label!"})


class Volumes:
    """The verbs of volumes.

    Args:
        context: the containers' wiring: they say which volumes are in use.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.volumes

    async def list(self, filters: Filters) -> Json:
        """Docker's JSON of all volumes that fit.

        Raises:
            InvalidArgument: an unknown filter or value, in dockerd's words.
        """
        _known(filters, LIST_FILTERS)
        dangling = _truth(filters, "dangling")
        chosen = [volume for volume in self._store if _fits(volume, filters)]
        if dangling is not None:
            chosen = [volume for volume in chosen if dangling != self._in_use(volume.name)]
        return {"Volumes": [self._shown(volume) for volume in chosen], "Warnings": None}

    async def inspect(self, name: str) -> Json:
        """Docker's JSON of one. Raises VolumeNotFound."""
        return self._shown(self._store.get(name))

    async def create(self, name: str, driver: str, options: dict[str, str], labels: dict[str, str]) -> Json:
        """Make a volume, or find the one that has the name. Returns Docker's JSON of it.

        Raises:
            InvalidArgument: the name or an option cannot be, in dockerd's words.
            NotFound: another driver than `local`.
        """
        if driver not in ("", "local"):
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        loop = asyncio.get_running_loop()
        volume, made = await loop.run_in_executor(None, self._store.create, name, labels, options)
        if made:
            self._context.publish("volume", "create", volume.name, {"driver": "local"})
        return self._shown(volume)

    async def remove(self, name: str, force: bool) -> None:
        """Remove a volume that no container has; with `force` it is no error that there is none.

        Raises:
            VolumeNotFound, Conflict: in dockerd's words.
        """
        try:
            self._store.get(name)
        except VolumeNotFound:
            if force:
                return
            raise
        if users := data.users(self._context, name):
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        if name in self._context.claims:
            raise Conflict(f"remove {name}: volume is in use - [a container that is being created]")
        await self._remove(name)

    async def _remove(self, name: str) -> None:
        # claimed: what is in use was asked, and no container may begin to use it meanwhile
        await asyncio.get_running_loop().run_in_executor(None, self._store.remove, name)
        self._context.publish("volume", "destroy", name, {"driver": "local"})

    async def prune(self, filters: Filters) -> Json:
        """Remove the anonymous volumes that no container has; with the filter `all`, the named ones too.

        Returns:
            Docker's JSON: `VolumesDeleted` and `SpaceReclaimed` (bytes).

        Raises:
            InvalidArgument: an unknown filter or value, in dockerd's words.
        """
        _known(filters, PRUNE_FILTERS)
        every = _truth(filters, "all")
        deleted: list[str] = []
        freed = 0
        for volume in self._store:
            if not (every or volume.anonymous) or self._in_use(volume.name) or not _fits(volume, filters):
                continue
            size = await self.size(volume.name)
            try:
                await self._remove(volume.name)
            except (VolumeNotFound, OSError):
                continue
            deleted.append(volume.name)
            freed += size
        self._context.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return {"VolumesDeleted": deleted, "SpaceReclaimed": freed}

    async def export(self, name: str) -> AsyncGenerator[bytes, None]:
        """A volume's content as a tar archive. Files are read one after another: what changes meanwhile may not fit
        together, so that a database is stopped, or paused, first.

        Raises:
            VolumeNotFound: it is not there.
            KernelError: a volume that is mounted cannot be.
        """
        args, fds = await self._source(self._store.get(name))

        def start(more: dict[str, int], progress: Callable[[Json], None]) -> Awaitable[Json]:
            request = {**args, "action": "export"}
            return self._context.run_worker("volume-copy", request, {**fds, **more}, progress)

        async def done() -> None:
            for fd in fds.values():
                os.close(fd)

        _, archive = await pipes.receive(start, done)
        return archive

    async def import_(self, name: str, labels: dict[str, str], chunks: AsyncIterator[bytes]) -> Json:
        """Make a volume of a tar archive (plain or compressed): whole, or not at all. Returns Docker's JSON of it.

        Raises:
            InvalidArgument, Conflict: the name cannot be, or is taken.
            HostileInput, StoreCorrupt: the archive.
        """
        async with self._begun(name, labels) as (volume, fds):

            def start(more: dict[str, int], progress: Callable[[Json], None]) -> Awaitable[Json]:
                return self._context.run_worker("volume-copy", {"action": "import"}, {**fds, **more}, progress)

            await pipes.send(start, chunks)
        return self._shown(volume)

    async def clone(self, source: str, name: str, labels: dict[str, str]) -> Json:
        """Make a volume with another's content: whole, or not at all. Returns Docker's JSON of it.

        Raises:
            VolumeNotFound: of the source.
            InvalidArgument, Conflict: the name cannot be, or is taken.
        """
        args, fds = await self._source(self._store.get(source))
        try:
            async with self._begun(name, labels) as (volume, target):
                request = {**args, "action": "clone"}
                await self._context.run_worker("volume-copy", request, {**fds, **target}, None)
        finally:
            for fd in fds.values():
                os.close(fd)
        return self._shown(volume)

    @asynccontextmanager
    async def _begun(self, name: str, labels: dict[str, str]) -> AsyncIterator[tuple[Volume, dict[str, int]]]:
        loop = asyncio.get_running_loop()
        volume, staged = await loop.run_in_executor(None, self._store.begin, name, labels)
        try:
            fd = os.open(f"{staged}/_data", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield volume, {"target": fd}
            finally:
                os.close(fd)
        except BaseException:
            self._store.abandon(staged)
            raise
        await loop.run_in_executor(None, self._store.finish, volume, staged)
        self._context.publish("volume", "create", volume.name, {"driver": "local"})

    async def _source(self, volume: Volume) -> tuple[Json, dict[str, int]]:
        """What a worker must be told, and given, to read a volume."""
        if needs_mount(volume.options):
            async with self._context.mounting:
                fd = await mounting.namespace_of(self._context, None, volume)
            return {"path": self._store.data(volume.name)}, {"mount": fd}
        settings = volume.options or {}
        path = settings["device"] if is_bind(settings) else self._store.data(volume.name)
        try:
            return {}, {"source": os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)}
        except OSError as error:
            raise KernelError("open volume", error.errno or 0, path) from None

    async def usage(self) -> JsonList:
        """Docker's JSON of each volume with `UsageData`: `Size` in bytes, and how many containers have it."""
        found = []
        for volume in self._store:
            if is_bind(volume.options or {}):
                continue
            count = len(data.users(self._context, volume.name))
            size = await self.size(volume.name)
            found.append({**self._shown(volume), "UsageData": {"RefCount": count, "Size": size}})
        return found

    async def size(self, name: str) -> int:
        """Bytes of a volume's files."""
        return await asyncio.get_running_loop().run_in_executor(None, _size, self._store.data(name))

    def _in_use(self, name: str) -> bool:
        return name in self._context.claims or bool(data.users(self._context, name))

    def _shown(self, volume: Volume) -> Json:
        return {
            "CreatedAt": volume.created,
            "Driver": "local",
            "Labels": volume.labels,
            "Mountpoint": self._store.data(volume.name),
            "Name": volume.name,
            "Options": volume.options,
            "Scope": "local",
        }


def _size(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return usage(fd)[0]
    except KernelError:
        return 0  # it is being changed under our eyes
    finally:
        os.close(fd)


def _known(filters: Filters, names: frozenset[str]) -> None:
    for name in filters:
        if name not in names:
            raise InvalidArgument(f"invalid filter '{name}'")


def _truth(filters: Filters, name: str) -> bool | None:
    values = filters.get(name)
    if not values:
        return None
    if all(value in TRUE for value in values):
        return True
    if all(value in FALSE for value in values):
        return False
    raise InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")


def _named(name: str, pattern: str) -> bool:
    return search(pattern, name)


def _fits(volume: Volume, filters: Filters) -> bool:
    labels = volume.labels or {}

    def has(value: str) -> bool:
        key, equals, wanted = value.partition("=")
        return key in labels and (not equals or labels[key] == wanted)

    return (
        all(has(value) for value in filters.get("label", []))
        and not any(has(value) for value in filters.get("label!", []))
        and ("driver" not in filters or "local" in filters["driver"])
        and ("name" not in filters or any(_named(volume.name, value) for value in filters["name"]))
    )
