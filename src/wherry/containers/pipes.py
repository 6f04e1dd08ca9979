"""Bytes between the event loop and a worker's pipe, as slow as the slower one."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from wherry.errors import Unavailable

_PIECE = 1 << 17


async def pour(chunks: AsyncIterator[bytes], fd: int) -> None:
    """Write chunks to a non-blocking pipe; returns early when its reader is gone."""
    async for chunk in chunks:
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                await _ready(fd, write=True)
            except BrokenPipeError:
                return  # the reader has all it wants, or has failed: its result says which


async def pieces(fd: int) -> AsyncGenerator[bytes, None]:
    """Read a non-blocking pipe to its end."""
    while True:
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            await _ready(fd, write=False)
            continue
        if not piece:
            return
        yield piece


async def _ready(fd: int, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not ready.done():
            ready.set_result(None)

    if write:
        loop.add_writer(fd, settle)
    else:
        loop.add_reader(fd, settle)
    try:
        await ready
    finally:
        if write:
            loop.remove_writer(fd)
        else:
            loop.remove_reader(fd)


Json = dict[str, Any]
Start = Callable[[dict[str, int], Callable[[Json], None]], Awaitable[Json]]
"""Starts a worker with further descriptors, and somebody to tell what it says before its end."""


async def receive(start: Start, done: Callable[[], Awaitable[None]]) -> tuple[Json, AsyncGenerator[bytes, None]]:
    """Read what a worker writes to its descriptor `data`.

    Args:
        done: called once nothing is left of the worker, whatever became of it.

    Returns:
        What the worker told first, and its bytes: to be read to their end, or closed. What the worker raises later is
        raised there.

    Raises:
        WherryError: the worker failed before it told anything.
    """
    told: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    work = asyncio.ensure_future(_as_coroutine(start({"data": write}, _once(told))))
    try:
        await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
        # the worker has its copy, or is gone: its end must be the end of the pipe
        os.close(write)
        write = -1
        if not told.done():
            await work
            raise Unavailable("the worker ended before it began")
    except BaseException:
        await _end(work)
        os.close(read)
        if write >= 0:
            os.close(write)
        await done()
        raise

    async def bytes_() -> AsyncGenerator[bytes, None]:
        try:
            async for piece in pieces(read):
                yield piece
            await work
        finally:
            os.close(read)
            await _end(work)
            await done()

    return told.result(), bytes_()


async def send(start: Start, chunks: AsyncIterator[bytes]) -> Json:
    """Write chunks to a worker's descriptor `data`; the worker tells something when it has begun to read.

    Returns:
        The worker's result.

    Raises:
        WherryError: what the worker raised.
    """
    told: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write, False)
    work = asyncio.ensure_future(_as_coroutine(start({"data": read}, _once(told))))
    try:
        try:
            await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # only the worker reads: when it ends, writing must fail
            os.close(read)
        try:
            await pour(chunks, write)
        finally:
            os.close(write)
        return await work
    finally:
        await _end(work)


def _once(told: "asyncio.Future[Json]") -> Callable[[Json], None]:
    def tell(value: Json) -> None:
        if not told.done():
            told.set_result(value)

    return tell


async def _as_coroutine(awaitable: Awaitable[Json]) -> Json:
    return await awaitable


async def _end(work: "asyncio.Future[Json]") -> None:
    work.cancel()
    await asyncio.wait({work})
    if not work.cancelled():
        work.exception()
