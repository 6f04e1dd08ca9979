"""A build's result as a stream: the root's files as one archive."""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from wherry.builder.contexts.root import Root
from wherry.builder.ports import RunWorker
from wherry.images.stores import Stores

_READ = 256 * 1024


async def root_archive(
    stores: Stores, run_worker: RunWorker, root: Root, newest: int | None = None
) -> AsyncGenerator[bytes, None]:
    """The files of a root, as one uncompressed archive, piece by piece.

    Args:
        newest: nanoseconds; later times become this one.

    Raises:
        KernelError: it cannot be read.
    """
    place = f"{stores.roots.run}/build/{secrets.token_hex(8)}"
    os.makedirs(place, mode=0o700)
    args: dict[str, Any] = {
        "root": stores.overlay.mounts(root.chain_ids, None, None)[0].to_json(),
        "at": place,
        "newest": newest,
    }
    try:
        async with aclosing(_archive(run_worker, args, {})) as pieces:
            async for piece in pieces:
                yield piece
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def _archive(run_worker: RunWorker, args: dict[str, Any], fds: dict[str, int]) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    worker = asyncio.ensure_future(run_worker("rootfs", args, {**fds, "out": writing}))
    worker.add_done_callback(lambda _: os.close(writing))
    try:
        while data := await loop.run_in_executor(None, os.read, reading, _READ):
            yield data
        await worker
    finally:
        os.close(reading)
        worker.cancel()
        await asyncio.wait([worker])
