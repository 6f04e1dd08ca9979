"""An upper directory becomes a layer: blob and snapshot. What commit and a step of a build do alike.

    async with claim(stores) as claims:
        await claims.image(base)                      # what it stands on stays, whatever happens to its names
        sealed = await seal(stores, claims, upper_fd, base.chain_ids)
        …                                             # further layers, then the record: `stores.records.put`

While the claims hold, nothing of it is collected; when the block is left by an error, what it stored and nobody else
needs goes. After `stores.records.put` the image holds its parts itself.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from errno import EPIPE
from typing import Any

from wherry.errors import DigestMismatch
from wherry.images.load import discard
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.store.images import ImageRecord, LayerRecord
from wherry.store.leases import Lease

GZIP = documents.OCI_LAYER + "+gzip"


class Claims:
    """What an operation holds until its image is recorded: blobs by a lease, snapshots by a pin. `claim` makes it."""

    def __init__(self, stores: Stores, lease: Lease, pins: ExitStack) -> None:
        self._stores = stores
        self._lease = lease
        self._pins = pins
        self.blob_digests: set[str] = set()
        self.chain_ids: set[str] = set()

    async def blobs(self, *wanted: str) -> None:
        """Hold these blobs (by digest), there already or about to come."""
        self.blob_digests.update(wanted)
        await self._lease.add(*wanted)

    def snapshots(self, chain_ids: Iterable[str]) -> None:
        """Hold these snapshots, there already or about to come."""
        held = list(chain_ids)
        self.chain_ids.update(held)
        self._pins.enter_context(self._stores.pinned(held))

    async def image(self, record: ImageRecord) -> None:
        """Hold all that a stored image is made of."""
        self.snapshots(record.chain_ids)
        await self.blobs(*record.blobs)


@asynccontextmanager
async def claim(stores: Stores) -> AsyncIterator[Claims]:
    """Give claims, which end with the block; see the module."""
    with ExitStack() as pins:
        lease = await stores.leases.take()
        claims = Claims(stores, lease, pins)
        try:
            yield claims
        except BaseException:
            await lease.release()
            pins.close()
            discard(stores, claims.blob_digests, claims.chain_ids)
            raise
        await lease.release()


class Sealed:
    """A layer that was made.

    Fields: `layer` (its record: blob, sizes, diff id), `chain_id` (its snapshot's name, on top of what was below),
    `media_type` of the blob.
    """

    __slots__ = ("chain_id", "layer", "media_type")

    def __init__(self, layer: LayerRecord, chain_id: str, media_type: str) -> None:
        self.layer = layer
        self.chain_id = chain_id
        self.media_type = media_type


async def seal(
    stores: Stores,
    claims: Claims,
    upper_fd: int,
    below: Sequence[str],
    *,
    mounted: bool = True,
    newest: int | None = None,
    gzip: bool = True,
) -> Sealed | None:
    """Make a layer of what an overlay's upper directory holds: blob and snapshot, both durable, and claimed.

    The directory is read from outside, by descriptor, once: compressed into the blob, and unpacked into the snapshot by
    a confined worker at the same time. The same tree gives the same diff id, and with the same version of the
    compressor the same blob. The directory may be in use; a file that shrinks under the reader is an error.

    Args:
        claims: take what is made.
        upper_fd: the directory; stays the caller's.
        below: chain ids of the layers below it, oldest first.
        mounted: it was the root of a container that ran: empty places that the runtime made to mount on (`/dev`,
            `/etc/hosts`…) are left out. False for a directory that was only written into from outside.
        newest: nanoseconds since the epoch; later times become this one (`SOURCE_DATE_EPOCH`).
        gzip: compress the blob.

    Returns:
        the layer, or None where nothing was changed: there is no layer then.

    Raises:
        Conflict: a file became shorter while it was read; try again.
        HostileInput, InvalidArgument: the tree cannot be a layer (too deep, a name with `.wh.` in front).
        KernelError: the disk is full, and the like. Nothing of it is left.
    """
    staging = stores.overlay.stage()
    try:
        with stores.blobs.ingest() as ingest:
            args: dict[str, Any] = {
                "gzip": gzip,
                "newest": newest,
                "mounted": mounted,
                "below": [stores.overlay.path(chain_id) for chain_id in reversed(below)],
            }
            written, applied = await _write_and_unpack(stores, upper_fd, ingest.write_fd(), staging, args)
            if applied["diff_id"] != written["diff_id"]:
                raise DigestMismatch(f"layer content is {applied['diff_id']}, expected {written['diff_id']}")
            if not written["entries"]:
                await asyncio.to_thread(stores.overlay.abandon, staging)
                return None
            diff_id, digest = written["diff_id"], digests.parse(written["digest"])
            chain_id = documents.chain_ids([below[-1], diff_id])[-1] if below else diff_id
            await claims.blobs(digest)
            claims.snapshots([chain_id])
            await asyncio.to_thread(ingest.commit_written, digest, written["compressed_size"])
        size = int(applied["size"])
        parent = below[-1] if below else None
        await asyncio.to_thread(stores.overlay.commit, staging, chain_id, size, diff_id=diff_id, parent=parent)
    except BaseException:
        stores.overlay.abandon(staging)
        raise
    layer = LayerRecord(str(digest), written["compressed_size"], diff_id, size)
    return Sealed(layer, chain_id, GZIP if gzip else documents.OCI_LAYER)


async def _write_and_unpack(
    stores: Stores, upper_fd: int, blob_fd: int, staging: str, args: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let one worker write the layer and another unpack it; takes over `blob_fd`."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    target = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # each end is closed here when the worker that has it is done, so that the other one notices
    writer = asyncio.ensure_future(stores.write_layer(upper_fd, blob_fd, writing, args))
    writer.add_done_callback(lambda _: _close(writing, blob_fd))
    reader = asyncio.ensure_future(stores.unpack(reading, target, None))
    reader.add_done_callback(lambda _: _close(reading, target))
    try:
        await asyncio.wait([writer, reader])
    finally:
        writer.cancel()
        reader.cancel()
        await asyncio.wait([writer, reader])
    # of two errors the first was the cause: a reader that fails breaks the writer's pipe, one that is left reads half
    failure = writer.exception()
    if isinstance(failure, OSError) and failure.errno == EPIPE:
        failure = reader.exception() or failure
    if failure is not None:
        raise failure
    return writer.result(), reader.result()


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
