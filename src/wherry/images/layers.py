"""From layer blobs to snapshots: unpack what is not there yet, several at once."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Self, TypeVar

from wherry.errors import Conflict, DigestMismatch, StoreCorrupt
from wherry.images.model import Image
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.snapshots.inflate import Stream
from wherry.snapshots.limits import Limits
from wherry.snapshots.overlay import Staged

T = TypeVar("T")
AT_ONCE = max(2, os.cpu_count() or 1)


async def unpack_layer(stores: Stores, source_fd: int, chain_id: str, diff_id: str, parent: str | None) -> int:
    """Make the snapshot `chain_id` from a layer, unless it is there.

    Args:
        source_fd: the layer's blob, at its beginning; stays open.
        chain_id, diff_id: of that layer.
        parent: chain id of the layer below it.

    Returns:
        bytes of its files.

    Raises:
        DigestMismatch, HostileInput, StoreCorrupt: the layer is not what it should be; nothing is left of it.
    """
    if stores.overlay.exists(chain_id):
        return stores.overlay.size(chain_id)
    async with Batch(stores) as batch:
        size = await batch.unpack(source_fd, chain_id, diff_id, parent)
        await batch.commit()
    return size


class Batch:
    """Layers that become visible together, made durable by one sync for all of them.

    A sync for each would make the others' files wait for the journal again and again. An async context manager: what
    was not committed when it ends is thrown away.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._staged: list[Staged] = []

    async def unpack(self, source_fd: int, chain_id: str, diff_id: str, parent: str | None) -> int:
        """Unpack a layer; arguments and errors are those of `unpack_layer`."""
        overlay = self._stores.overlay
        tree = overlay.stage()
        try:
            dir_fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                applied = await self._stores.unpack(source_fd, dir_fd, diff_id, sync=False)
            finally:
                os.close(dir_fd)
            if applied["diff_id"] != diff_id:
                raise DigestMismatch(f"layer content is {applied['diff_id']}, expected {diff_id}")
        except BaseException:
            overlay.abandon(tree)
            raise
        size = int(applied["size"])
        self._staged.append(Staged(tree, chain_id, size, diff_id, parent))
        return size

    async def commit(self) -> None:
        """Make all layers visible, and durable what was written before. Raises `KernelError`."""
        staged = self._staged
        await whole(asyncio.to_thread(self._stores.overlay.commit_all, staged))
        self._staged = []

    async def replace(self) -> None:
        """Put each layer in the place of the damaged one that has its name, durably.

        Raises:
            Conflict: something stands on that one at this moment.
            KernelError: a system call failed.
        """
        await whole(asyncio.to_thread(self._stores.overlay.settle, self._staged))
        while self._staged:
            # asked and acted upon without an await between: nothing can begin to stand on it in the meantime
            if self._stores.is_busy(self._staged[-1].chain_id):
                raise Conflict("something runs on it: stop that first")
            self._stores.overlay.replace(self._staged[-1])
            self._staged.pop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for layer in self._staged:
            self._stores.overlay.abandon(layer.tree)


async def watch(fd: int, told: Callable[[int], None], every: float = 0.1) -> None:
    """Tell, until cancelled, how far a worker is: it reads the same open file, so that its place is ours."""
    while True:
        told(os.lseek(fd, 0, os.SEEK_CUR))
        await asyncio.sleep(every)


async def whole(work: Awaitable[T]) -> T:
    """Wait for work in a thread also when cancelled: what it works on must not be taken away meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def ensure(stores: Stores, image: Image) -> None:
    """Make every snapshot of an image that is missing (lost by hand, or with a damaged disk) from its blob.

    Raises:
        StoreCorrupt: a blob is gone too.
    """
    record = image.record
    parents = [None, *image.chain_ids]
    for layer, chain_id, parent in zip(record.layers, image.chain_ids, parents, strict=False):
        if stores.overlay.exists(chain_id):
            continue
        digest = digests.parse(layer.blob)
        if not stores.blobs.exists(digest):
            raise StoreCorrupt(f"image {image.short_id}: layer {digest} is missing: load or pull it again")
        fd = stores.blobs.open(digest)
        try:
            await unpack_layer(stores, fd, chain_id, layer.diff_id, parent)
        finally:
            os.close(fd)


def verify_diff_id(fd: int, diff_id: str) -> None:
    """Read a layer blob to its end; raise `DigestMismatch` where its content is another. Blocks: for a thread."""
    stream = Stream(fd, Limits())
    stream.drain()
    if stream.digest != diff_id:
        raise DigestMismatch(f"layer content is {stream.digest}, expected {diff_id}")


async def gather_limited(calls: Iterable[Callable[[], Awaitable[T]]], at_once: int = AT_ONCE) -> list[T]:
    """Run calls, a few at once, and return their results in order; on an error wait until none runs, then raise it."""
    gate = asyncio.Semaphore(at_once)

    async def run(call: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await call()

    tasks = [asyncio.ensure_future(run(call)) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
