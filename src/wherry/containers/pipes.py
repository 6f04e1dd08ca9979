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


async def _piece(fd: int) -> bytes:
    """Read what comes next from a non-blocking pipe; nothing at its end."""
    while True:
        try:
            return os.read(fd, _PIECE)
        except BlockingIOError:
            await _ready(fd, write=False)


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


class Received(AsyncGenerator[bytes, None]):
    """What a worker writes to its descriptor `data`: read to the end, or closed.

    Nothing that must happen waits for the reader: one that is cancelled, in whatever turn of the loop and however
    often, or that never begins, leaves no worker, and `settling` goes on without it.

    Args:
        fd: our end of the pipe; belongs to this object.
        work: the worker.
        settling: done when nothing is left of the worker.
    """

    def __init__(self, fd: int, work: "asyncio.Future[Json]", settling: "asyncio.Future[None]") -> None:
        self._fd = fd
        self._work = work
        self._settling = settling

    async def asend(self, _value: None) -> bytes:
        """Return the next piece.

        Raises:
            StopAsyncIteration: there is none, and the worker ended well.
            WherryError: the worker failed.
        """
        if self._fd < 0:
            raise StopAsyncIteration
        try:
            piece = await _piece(self._fd)
            if piece:
                return piece
            await asyncio.wait({self._settling})
            self._work.result()
        except BaseException:
            await self.aclose()
            raise
        await self.aclose()
        raise StopAsyncIteration

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> bytes:
        """Close it, and raise what was thrown."""
        await self.aclose()
        return await super().athrow(typ, val, tb)

    async def aclose(self) -> None:
        """End the worker, if it has not ended, and wait until nothing is left of it."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            self._work.cancel()
        await asyncio.wait({self._settling})


async def receive(start: Start, done: Callable[[], Awaitable[None]]) -> tuple[Json, Received]:
    """Read what a worker writes to its descriptor `data`.

    Args:
        done: called once nothing is left of the worker, whatever became of it and of us.

    Returns:
        What the worker told first, and its bytes: to be read to their end, or closed. What the worker raises later is
        raised there.

    Raises:
        WherryError: the worker failed before it told anything.
        OSError: there can be no pipe.
    """
    told: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
    try:
        read, write = os.pipe2(os.O_CLOEXEC)
    except OSError:
        await done()
        raise
    os.set_blocking(read, False)
    work = asyncio.ensure_future(_as_coroutine(start({"data": write}, _once(told))))
    writing = [write]
    received = Received(read, work, asyncio.ensure_future(_settle(work, writing, done)))
    try:
        await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
        # the worker has its copy, or is gone: its end must be the end of the pipe
        while writing:
            os.close(writing.pop())
        if not told.done():
            work.result()
            raise Unavailable("the worker ended before it began")
    except BaseException:
        await received.aclose()
        raise
    return told.result(), received


async def _settle(work: "asyncio.Future[Json]", writing: list[int], done: Callable[[], Awaitable[None]]) -> None:
    await asyncio.wait({work})
    # not before: its number must not become another descriptor's while a worker is being started with it
    while writing:
        os.close(writing.pop())
    if not work.cancelled():
        work.exception()  # whoever reads is told; one that has left is not
    await done()


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
