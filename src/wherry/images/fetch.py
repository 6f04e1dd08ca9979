"""One layer from a registry into the stores: its blob, going on where an earlier attempt broke off, and its snapshot.

A blob is written into an ingest named for its digest, so that whoever pulls it next goes on from its last byte, over
restarts too. Bytes of an earlier attempt may have come from anybody: when the whole has another digest, it is fetched
once more from its beginning before anyone is blamed.
"""

import asyncio
import os
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any

from wherry.distribution.source import Source
from wherry.errors import DigestMismatch, NotFound, Unavailable
from wherry.images.layers import AT_ONCE, Batch, verify_diff_id, watch
from wherry.images.stores import Stores
from wherry.oci.digest import Digest
from wherry.oci.image import Descriptor
from wherry.store.blobs import Ingest

DOWNLOADS = 3
_PIECE = 1 << 20
_TOLD = 0.1

Tell = Callable[[str, int, int], None]
"""Takes a layer's status, how many bytes are done, and of how many; 0 of 0 where nothing is counted."""


class Gates:
    """What all pulls of an engine share: one fetch of a blob at a time, and how much goes on at once."""

    def __init__(self, downloads: int = DOWNLOADS) -> None:
        self.downloads = asyncio.Semaphore(downloads)
        self.unpacking = asyncio.Semaphore(AT_ONCE)
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def of(self, digest: str) -> asyncio.Lock:
        """The lock of a blob."""
        lock = self._locks.get(digest)
        if lock is None:
            lock = self._locks[digest] = asyncio.Lock()
        return lock


class Layer:
    """A layer that an image needs."""

    __slots__ = ("chain_id", "descriptor", "diff_id", "parent")

    def __init__(self, descriptor: Descriptor, diff_id: str, chain_id: str, parent: str | None) -> None:
        self.descriptor = descriptor
        self.diff_id = diff_id
        self.chain_id = chain_id
        self.parent = parent


def is_here(stores: Stores, layer: Layer) -> bool:
    """Whether blob and snapshot are here, and an image says that the one is the content of the other."""
    return (
        stores.blobs.exists(layer.descriptor.verified)
        and stores.overlay.exists(layer.chain_id)
        and any(
            known.blob == layer.descriptor.digest and known.diff_id == layer.diff_id
            for record in stores.records.by_id.values()
            for known in record.layers
        )
    )


async def fetch_layer(
    stores: Stores, source: Source | None, gates: Gates, batch: Batch, layer: Layer, tell: Tell
) -> int:
    """Make blob and snapshot of a layer; what is there already is not fetched, nor unpacked.

    Args:
        batch: which the snapshot becomes visible with.
        source: where blobs come from; None where they must be here already.
        tell: progress, in Docker's words; that the pull is complete is for who commits the batch to tell.

    Returns:
        bytes of the snapshot's files.

    Raises:
        DigestMismatch, HostileInput, StoreCorrupt: it is not what it should be; nothing of it is visible.
        Unavailable and others: the registry does not give it; what came is kept for the next attempt.
    """
    digest = layer.descriptor.verified
    # held until the layer is unpacked: a second pull then finds it done
    async with gates.of(digest):
        if is_here(stores, layer):
            tell("Already exists", 0, 0)
            return stores.overlay.size(layer.chain_id)
        if stores.blobs.exists(digest):
            tell("Download complete", 0, 0)
            return await _unpack(stores, gates, batch, stores.blobs.open(digest), layer, tell)
        if source is None:
            raise NotFound(f"blob {digest}: not found", digest=digest)
        if gates.downloads.locked():
            tell("Waiting", 0, 0)
        async with gates.downloads:
            ingest = await _download(stores, source, layer.descriptor, tell)
        tell("Verifying Checksum", 0, 0)
        if digest.algorithm != "sha256":
            await asyncio.to_thread(ingest.commit, digest, layer.descriptor.size)
            tell("Download complete", 0, 0)
            return await _unpack(stores, gates, batch, stores.blobs.open(digest), layer, tell)
        # its digest is right: the disk makes it durable while it is being unpacked
        fd = ingest.read_fd()
        storing = asyncio.ensure_future(asyncio.to_thread(ingest.commit, digest, layer.descriptor.size))
        tell("Download complete", 0, 0)
        try:
            return await _unpack(stores, gates, batch, fd, layer, tell)
        finally:
            await _until_done(storing)
            storing.result()


async def fetch_blob(stores: Stores, source: Source, gates: Gates, descriptor: Descriptor, tell: Tell) -> None:
    """Make a blob be here, its digest compared; what is there already is not fetched.

    Raises:
        DigestMismatch: it is not what it should be; nothing is kept.
        Unavailable and others: the registry does not give it; what came is kept for the next attempt.
    """
    digest = descriptor.verified
    async with gates.of(digest):
        if stores.blobs.exists(digest):
            return
        async with gates.downloads:
            ingest = await _download(stores, source, descriptor, tell)
        await asyncio.to_thread(ingest.commit, digest, descriptor.size)


async def _download(stores: Stores, source: Source, descriptor: Descriptor, tell: Tell) -> Ingest:
    """Return the whole blob in an ingest that is sealed; a sha256 digest is compared."""
    digest, size = descriptor.verified, descriptor.size
    ingest = await take_up(stores, digest)
    try:
        inherited = ingest.offset > 0
        await _fill(ingest, source, digest, size, tell)
        if inherited and digest.algorithm == "sha256" and ingest.digest != digest:
            ingest.restart()
            await _fill(ingest, source, digest, size, tell)
        if digest.algorithm == "sha256" and ingest.digest != digest:
            raise DigestMismatch(
                f"filesystem layer verification failed for digest {digest}: its content is {ingest.digest}",
                expected=digest,
                found=ingest.digest,
            )
        ingest.seal()
    except (DigestMismatch, MemoryError):
        ingest.abort()
        raise
    except BaseException:
        ingest.close()
        raise
    return ingest


async def take_up(stores: Stores, digest: Digest) -> Ingest:
    """Take up the ingest of a blob; in a thread, for what is there is hashed again."""
    opening = asyncio.ensure_future(asyncio.to_thread(stores.blobs.ingest, f"blob {digest}"))
    try:
        await _until_done(opening)
    except asyncio.CancelledError:
        if opening.exception() is None:
            opening.result().close()
        raise
    return opening.result()


async def _fill(ingest: Ingest, source: Source, digest: Digest, size: int, tell: Tell) -> None:
    """Write what is missing of a blob; a transfer that breaks off goes on from its byte, some times."""
    if ingest.offset > size:
        ingest.restart()
    failures = 0
    tell("Downloading", ingest.offset, size)
    while ingest.offset < size or size == 0:
        before = ingest.offset
        try:
            async with source.download(digest, size, ingest.offset) as download:
                if download.offset != ingest.offset:
                    ingest.restart()
                await copy_into(ingest, download, size, tell)
            return
        except Unavailable:
            failures = 1 if ingest.offset > before else failures + 1
            if failures > len(source.delays):
                raise
            delay = source.delays[failures - 1]
            tell(f"Retrying in {max(1, round(delay))} second{'s' if delay >= 1.5 else ''}", 0, 0)
            await asyncio.sleep(delay)


async def copy_into(ingest: Ingest, chunks: AsyncIterable[bytes], size: int, tell: Tell) -> None:
    """Write while the next piece arrives; the event loop neither hashes nor waits for the disk."""
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    gathered = 0
    writing: asyncio.Future[None] | None = None
    told = loop.time()
    try:
        try:
            async for part in chunks:
                parts.append(part)
                gathered += len(part)
                if gathered < _PIECE:
                    continue
                if writing is not None:
                    await writing
                writing = loop.run_in_executor(None, _write, ingest, parts)
                parts, gathered = [], 0
                if loop.time() - told >= _TOLD:
                    told = loop.time()
                    tell("Downloading", ingest.offset, size)
        finally:
            # what came is kept, whatever ended the transfer
            if writing is not None:
                await _until_done(writing)
    finally:
        if parts and (writing is None or writing.exception() is None):
            writing = loop.run_in_executor(None, _write, ingest, parts)
            await _until_done(writing)
        if writing is not None:
            writing.exception()  # taken: what ended the transfer is told instead, if anything did
    if writing is not None:
        writing.result()


def _write(ingest: Ingest, parts: list[bytes]) -> None:
    for part in parts:
        ingest.write(part)


async def _unpack(stores: Stores, gates: Gates, batch: Batch, fd: int, layer: Layer, tell: Tell) -> int:
    """Unpack from `fd`, which it closes."""
    try:
        async with gates.unpacking:
            if stores.overlay.exists(layer.chain_id):
                await asyncio.to_thread(verify_diff_id, fd, layer.diff_id)
                unpacked = stores.overlay.size(layer.chain_id)
            else:
                size = layer.descriptor.size
                watching = asyncio.ensure_future(watch(fd, lambda done: tell("Extracting", done, size)))
                try:
                    unpacked = await batch.unpack(fd, layer.chain_id, layer.diff_id, layer.parent)
                finally:
                    watching.cancel()
                # it stands until the batch is durable, which takes the disk a while when much came
                tell("Extracting", size, size)
        return unpacked
    finally:
        os.close(fd)


async def _until_done(work: "asyncio.Future[Any]") -> None:
    """Wait until `work` has ended, also when cancelled: it uses descriptors that the caller is about to close."""
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not work.cancelled():
            work.exception()  # taken: nobody asks for it any more
        raise asyncio.CancelledError


async def all_of(work: Iterable[Awaitable[int]]) -> list[int]:
    """Wait for all; when one fails the others are cancelled, and have ended, before its error is raised."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def forget(stores: Stores, digests: Iterable[Digest]) -> None:
    """Throw away what came of these blobs, unless somebody else fetches them at this moment. Blocks."""
    for digest in digests:
        try:
            stores.blobs.ingest(f"blob {digest}").abort()
        except Unavailable:
            continue  # another pull's now
