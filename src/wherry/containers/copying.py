"""Copy: into a container and out of it, whether it runs or not; a confined worker does it (`monitor.copying`)."""

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from wherry.containers import mounting, namespaces, pipes, upper
from wherry.containers.clock import rfc3339
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.containers.spec.mounts import depth
from wherry.errors import Conflict, InvalidArgument, KernelError, NotFound, WherryError

PATIENCE = 10.0

Json = dict[str, Any]


class Copied:
    """A copy out that has begun: what was found (Docker's path stat), and its archive."""

    def __init__(self, stat: Json, archive: AsyncGenerator[bytes, None]) -> None:
        self.stat = stat
        self.archive = archive


async def stat(context: Context, container: Container, ref: str, path: str) -> Json:
    """What lies at a path, as `X-Docker-Container-Path-Stat` tells it.

    Raises:
        NotFound, InvalidArgument: in dockerd's words.
    """
    async with _view(context, container) as (args, fds):
        try:
            found = await _run(context, container, {**args, "action": "stat", "path": path}, fds)
        except KernelError as error:
            raise worded(error, ref, path) from None
    return _shown(found["stat"])


async def get(context: Context, container: Container, ref: str, path: str) -> Copied:
    """Begin to copy out what lies at a path. The archive must be read to its end, or closed.

    Raises:
        NotFound, InvalidArgument: in dockerd's words.
    """
    view = _view(context, container)
    args, fds = await view.__aenter__()

    def start(more: dict[str, int], progress: Callable[[Json], None]) -> Awaitable[Json]:
        request = {**args, "action": "get", "path": path}
        return _run(context, container, request, {**fds, **more}, progress)

    async def done() -> None:
        await view.__aexit__(None, None, None)

    try:
        told, archive = await pipes.receive(start, done)
    except KernelError as error:
        raise worded(error, ref, path) from None
    return Copied(_shown(told["stat"]), archive)


async def put(
    context: Context,
    container: Container,
    ref: str,
    path: str,
    chunks: AsyncIterator[bytes],
    *,
    keep_kinds: bool = False,
    owner: str = "",
) -> None:
    """Unpack an archive (plain or compressed) into a directory of a container.

    Args:
        chunks: the archive.
        keep_kinds: refuse to put a file in the place of a directory, or the other way round.
        owner: user (`user[:group]`, names of the container's or numbers) that everything will belong to; empty: as the
            archive says.

    Raises:
        NotFound, InvalidArgument, HostileInput: in dockerd's words. What was unpacked before stays, as with dockerd.
    """
    async with _view(context, container) as (args, fds):
        request = {**args, "action": "put", "path": path, "keep_kinds": keep_kinds, "owner": owner}
        request["read_only"] = container.record.host_config.readonly_rootfs

        def start(more: dict[str, int], progress: Callable[[Json], None]) -> Awaitable[Json]:
            return _run(context, container, request, {**fds, **more}, progress)

        try:
            await pipes.send(start, chunks)
        except KernelError as error:
            raise worded(error, ref, path) from None


def worded(error: KernelError, ref: str, path: str) -> WherryError:
    """dockerd's words for what is wrong with a path."""
    if "entry" in error.facts:
        return error
    if error.errno == errno.ENOENT:
        return NotFound(f"Could not find the file {path} in container {ref}")
    if error.errno == errno.ENOTDIR:
        return InvalidArgument(f"lstat {path}: not a directory")
    if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL):
        return InvalidArgument(f"lstat {path}: {os.strerror(error.errno).lower()}")
    return error


async def settle(context: Context, container: Container) -> None:
    """Before the root is mounted anew: wait for the copies that still hold it, and end those that take too long."""
    if not container.copies:
        return
    _, late = await asyncio.wait(container.copies, timeout=PATIENCE)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
    await upper.free_soon(f"{context.roots.container(container.id)}/upper")


def _shown(found: Json) -> Json:
    # a file's time may be the epoch itself, which for our own records means "never"
    return {**found, "mtime": rfc3339(found["mtime"]) if found["mtime"] else "1970-01-01T00:00:00Z"}


async def _run(
    context: Context,
    container: Container,
    args: Json,
    fds: dict[str, int],
    progress: Callable[[Json], None] | None = None,
) -> Json:
    task = asyncio.ensure_future(_work(context, args, fds, progress))
    container.copies.add(task)
    task.add_done_callback(container.copies.discard)
    return await task


async def _work(context: Context, args: Json, fds: dict[str, int], progress: Callable[[Json], None] | None) -> Json:
    return await context.run_worker("copy", args, fds, progress)


@asynccontextmanager
async def _view(context: Context, container: Container) -> AsyncIterator[tuple[Json, dict[str, int]]]:
    """What a worker needs to see what the container sees; one that does not run cannot be started meanwhile."""
    if container.running:
        fds: dict[str, int] = {}
        try:
            try:
                fds["mount"] = namespaces.open_kind(context, container, "mount")
                if container.record.userns is not None:
                    fds["user"] = namespaces.open_kind(context, container, "user")
            except OSError:
                raise Conflict(f"container {container.id} is ending") from None
            yield {}, fds
        finally:
            for fd in fds.values():
                os.close(fd)
        return
    async with container.lock:
        await container.settled.wait()
        if container.status in ("removing", "dead"):
            raise Conflict(f"container {container.id} is marked for removal")
        data = context.roots.container(container.id)
        await upper.free_soon(f"{data}/upper")
        opened = await mounting.open_all(context, container, start=False)
        try:
            root = context.layers.mounts(container.record.chain_ids, f"{data}/upper", f"{data}/work")
            view = {
                "root_mounts": [mount.to_json() for mount in root],
                "mounts": [m.to_json() for m in sorted(opened.mounts, key=lambda mount: depth(mount.destination))],
                "sources": opened.sources,
                "place": context.roots.sandboxes,
            }
            yield {"view": view}, opened.fds
        finally:
            opened.close()
