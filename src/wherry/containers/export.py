"""Export: a container's file system as an archive, from whatever state it is in."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.errors import Conflict
from wherry.linux.namespace import open_namespace

_PIECE = 256 * 1024


def export(context: Context, container: Container) -> AsyncGenerator[bytes, None]:
    """Return the archive, piece by piece: everything below `/` but what is mounted there.

    Raises:
        Conflict: the container is being removed. At once, before the first byte.
    """
    if container.status in ("dead", "removing"):
        raise Conflict(f"You cannot export container {container.id} which is {container.status.capitalize()}")
    return _read(context, container)


async def _read(context: Context, container: Container) -> AsyncGenerator[bytes, None]:
    data = context.roots.container(container.id)
    args = {"trees": context.layers.trees(container.record.chain_ids, f"{data}/upper"), "point": f"{data}/work"}
    fds: dict[str, int] = {}
    reading, fds["target"] = os.pipe2(os.O_CLOEXEC)
    try:
        if container.running:
            fds["namespace"] = open_namespace("mount", container.pid)
        worker = asyncio.ensure_future(context.run_worker("export", args, dict(fds)))
        try:
            async with aclosing(_pieces(reading, worker, fds.pop("target"))) as pieces:
                async for piece in pieces:
                    yield piece
            await worker
        finally:
            worker.cancel()
            await asyncio.wait([worker])
    finally:
        for fd in (reading, *fds.values()):
            os.close(fd)


async def _pieces(fd: int, worker: "asyncio.Future[dict[str, object]]", writing: int) -> AsyncGenerator[bytes, None]:
    """Read a pipe to its end, which comes when the worker has ended and our copy of its end is closed."""
    loop = asyncio.get_running_loop()
    worker.add_done_callback(lambda _: os.close(writing))
    os.set_blocking(fd, False)
    while True:
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(fd, _settle, readable)
        try:
            await readable
        finally:
            loop.remove_reader(fd)
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            continue
        if not piece:
            return
        yield piece


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
