"""Bytes between the event loop and a worker's pipe, as slow as the slower one."""

import asyncio
import os
from collections.abc import AsyncIterator

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


async def pieces(fd: int) -> AsyncIterator[bytes]:
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
