"""`engine.containers`: the verbs by reference, as the API and embedding programs call them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec

from wherry.containers import (
    checkpoints,
    commit,
    copying,
    create,
    execs,
    export,
    inspect,
    links,
    listing,
    names,
    records,
    remove,
    start,
    stats,
    stop,
    streams,
    top,
    update,
    wait,
)
from wherry.containers.context import Context
from wherry.containers.ticket import Ticket
from wherry.errors import AmbiguousPrefix, ContainerNotFound, ImageNotFound, InvalidArgument, NameInUse, NotRunning
from wherry.oci import platform as platforms
from wherry.values.jsontypes import Json
from wherry.wire.containers import (
    AttachOptions,
    CheckpointCreate,
    CreateRequest,
    CreateResponse,
    ExecConfig,
    ExecStart,
    LogOptions,
    UpdateRequest,
)

PRUNE_FILTERS = frozenset({"label", "label!", "until"})

JsonList = list[Json]
Names = list[str]
Filters = dict[str, list[str]]


class Containers:
    """Every method takes a name, an id or an unambiguous id prefix, and raises `ContainerNotFound` for others."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(
        self, request: CreateRequest, name: str | None = None, platform: str | None = None
    ) -> CreateResponse:
        """See `containers.create`. Only this machine's platform can be had."""
        if platform and request.image:
            self._check_platform(request.image, platform)
        return await create.create(self._context, request, name)

    def _check_platform(self, name: str, text: str) -> None:
        wanted = platforms.parse(text)
        config = msgspec.json.decode(self._context.resolve_image(name).raw_config)
        actual = platforms.Platform(
            str(config.get("os") or "linux"), str(config.get("architecture")), str(config.get("variant") or "")
        )
        if wanted != actual and not (wanted == platforms.host() and wanted.runs(actual)):
            # a 404, as dockerd: the command then pulls the image for that platform
            raise ImageNotFound(
                f"image with reference {name} was found but does not match the specified platform: "
                f"wanted {wanted}, actual: {actual}"
            )

    async def start(self, ref: str, detach_keys: str = "", checkpoint: str = "", directory: str = "") -> None:
        """See `containers.start`."""
        container = self._context.registry.find(ref)
        if detach_keys:
            for client in container.pending:
                client.request["detach_keys"] = detach_keys
        await start.start(self._context, container, checkpoint=checkpoint, directory=directory)

    async def checkpoint(self, ref: str, request: CheckpointCreate) -> None:
        """See `containers.checkpoints`."""
        container, leave = self._context.registry.find(ref), not request.exit
        await checkpoints.create(
            self._context, container, ref, request.checkpoint_id, request.checkpoint_dir, leave=leave
        )

    async def checkpoints(self, ref: str, directory: str = "") -> JsonList:
        """Name a container's checkpoints."""
        return await checkpoints.listing(self._context, self._context.registry.find(ref), ref, directory)

    async def remove_checkpoint(self, ref: str, name: str, directory: str = "") -> None:
        """Remove one of a container's checkpoints."""
        await checkpoints.remove(self._context, self._context.registry.find(ref), ref, name, directory)

    async def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        """See `containers.stop`."""
        await stop.stop(self._context, self._context.registry.find(ref), timeout, signal)

    async def restart(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        """Stop, then start."""
        await stop.restart_container(self._context, self._context.registry.find(ref), timeout, signal)

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal."""
        try:
            container = self._context.registry.find(ref)
        except (ContainerNotFound, AmbiguousPrefix) as error:
            raise type(error)(f"cannot kill container: {ref}: {error.message}") from None
        await stop.kill(self._context, container, signal)

    async def pause(self, ref: str) -> None:
        """Freeze."""
        await stop.pause(self._context, self._context.registry.find(ref))

    async def unpause(self, ref: str) -> None:
        """Thaw."""
        await stop.unpause(self._context, self._context.registry.find(ref))

    async def remove(self, ref: str, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        """See `containers.remove`. `volumes`: the anonymous ones go too."""
        if link:
            record = links.remove(self._context.registry, ref)
            await asyncio.get_running_loop().run_in_executor(None, records.save, self._context.roots, record)
            return
        await remove.remove(self._context, self._context.registry.find(ref), force=force, volumes=volumes)

    async def rename(self, ref: str, name: str) -> None:
        """Give a container another name.

        Raises:
            InvalidArgument, NameInUse: in dockerd's words.
        """
        container = self._context.registry.find(ref)
        if not name:
            raise InvalidArgument("Neither old nor new names may be empty")
        try:
            wanted = names.check(name if name.startswith("/") else f"/{name}")
        except InvalidArgument as error:
            raise InvalidArgument(f"Error when allocating new name: {error.message}") from None
        if wanted == container.name:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        old = container.name
        try:
            self._context.registry.reserve(wanted, container.id)
        except NameInUse as error:
            raise NameInUse(f"Error when allocating new name: {error.message}") from None
        container.record.name = wanted
        try:
            await asyncio.get_running_loop().run_in_executor(None, records.save, self._context.roots, container.record)
        except BaseException:
            container.record.name = old
            self._context.registry.unreserve(wanted)
            raise
        self._context.registry.unreserve(old)
        self._context.event(container, "rename", oldName=f"/{old}")
        await self._context.renamed(container, old)

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set the window of process 1's terminal (rows, columns)."""
        container = self._context.registry.find(ref)
        if not container.running or container.monitor is None:
            raise NotRunning(f"container {container.id} is not running")
        await container.monitor.request("resize", exec_id=None, height=height, width=width)
        self._context.event(container, "resize", height=str(height), width=str(width))

    async def wait(self, ref: str, condition: str = "not-running") -> "asyncio.Future[dict[str, Any]]":
        """See `containers.wait`: raises at once, the future comes later."""
        return wait.wait(self._context.registry.find(ref), condition)

    async def list(
        self,
        all: bool = False,
        limit: int = 0,
        size: bool = False,
        filters: Filters | None = None,
    ) -> JsonList:
        """See `containers.listing`."""
        return listing.list_containers(self._context, all_=all, limit=limit, size=size, filters=filters or {})

    async def inspect(self, ref: str, size: bool = False) -> dict[str, Any]:
        """Docker's JSON."""
        return inspect.inspect(self._context, self._context.registry.find(ref), size=size)

    async def attach(self, ref: str, options: AttachOptions) -> Ticket:
        """See `containers.streams`."""
        return streams.attach(self._context, self._context.registry.find(ref), options)

    async def logs(self, ref: str, options: LogOptions) -> Ticket:
        """See `containers.streams`."""
        return streams.logs(self._context, self._context.registry.find(ref), options)

    async def exec_create(self, ref: str, config: ExecConfig) -> str:
        """Prepare an exec; returns its id."""
        return execs.create(self._context, self._context.registry.find(ref), config)

    async def exec_start(self, exec_id: str, options: ExecStart) -> Ticket:
        """Start an exec on a client's connection."""
        return execs.start(self._context, exec_id, options)

    async def exec_start_detached(self, exec_id: str, options: ExecStart) -> None:
        """Start an exec without a client."""
        await execs.start_detached(self._context, exec_id, options)

    async def exec_inspect(self, exec_id: str) -> dict[str, Any]:
        """Docker's JSON of an exec."""
        return await execs.inspect(self._context, exec_id)

    async def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the window of an exec's terminal."""
        await execs.resize(self._context, exec_id, height, width)

    async def path_stat(self, ref: str, path: str) -> dict[str, Any]:
        """See `containers.copying.stat`."""
        return await copying.stat(self._context, self._context.registry.find(ref), ref, path)

    async def copy_out(self, ref: str, path: str) -> copying.Copied:
        """See `containers.copying.get`."""
        container = self._context.registry.find(ref)
        copied = await copying.get(self._context, container, ref, path)
        self._context.event(container, "archive-path")
        return copied

    async def copy_in(
        self,
        ref: str,
        path: str,
        chunks: AsyncIterator[bytes],
        keep_kinds: bool = False,
        as_user: bool = False,
        chown: str = "",
    ) -> None:
        """See `containers.copying.put`. With `as_user` all belongs to the container's own user."""
        container = self._context.registry.find(ref)
        owner = chown or (container.record.config.user if as_user else "")
        await copying.put(self._context, container, ref, path, chunks, keep_kinds=keep_kinds, owner=owner)
        self._context.event(container, "extract-to-dir")

    async def top(self, ref: str, ps_args: str = "") -> dict[str, Any]:
        """Processes as ps shows them."""
        container = self._context.registry.find(ref)
        found = dict(await top.top(container, ps_args))
        self._context.event(container, "top")
        return found

    def export(self, ref: str) -> AsyncGenerator[bytes, None]:
        """Its file system as an archive, piece by piece; what is wrong is raised at once."""
        container = self._context.registry.find(ref)
        pieces = export.export(self._context, container)
        self._context.event(container, "export")
        return pieces

    async def changes(self, ref: str) -> JsonList:
        """What it added, changed and deleted; Docker's list."""
        return await commit.changes(self._context, self._context.registry.find(ref))

    async def update(self, ref: str, request: UpdateRequest) -> Names:
        """Change limits and restart policy; see `containers.update`."""
        return await update.update(self._context, self._context.registry.find(ref), request)

    async def stats(self, ref: str, quick: bool) -> Json:
        """What a container uses; see `containers.stats`."""
        return await stats.once(self._context, self._context.registry.find(ref), quick=quick)

    def watch_stats(self, ref: str, quick: bool) -> AsyncGenerator[Json, None]:
        """What it uses, each second. Raises at once."""
        return stats.stream(self._context, self._context.registry.find(ref), quick=quick)

    async def prune(self, filters: Filters | None = None) -> dict[str, Any]:
        """Remove all containers that do not run."""
        chosen = filters or {}
        for name in chosen:
            if name not in PRUNE_FILTERS:
                raise InvalidArgument(f"invalid filter '{name}'")
        return await remove.prune(self._context, chosen)
