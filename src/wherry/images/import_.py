"""`import`: a root file system as a tar stream becomes an image of one layer."""

import asyncio
import os
import time
from collections.abc import Iterable
from typing import Any

from wherry.images import archives, changes
from wherry.images.archives import Layer, Planned
from wherry.images.feed import Source, read_in_thread
from wherry.images.load import inflate, store_images
from wherry.images.members import Member
from wherry.images.stores import Stores
from wherry.oci import image as documents
from wherry.oci.image import Descriptor
from wherry.oci.platform import Platform, host
from wherry.oci.reference import Reference
from wherry.snapshots.inflate import Stream
from wherry.snapshots.limits import Limits
from wherry.store.blobs import Blobs, Ingest
from wherry.values import times

_CHUNK = 1 << 20


async def import_(
    stores: Stores,
    source: Source,
    name: Reference | None = None,
    *,
    edits: Iterable[str] = (),
    message: str = "",
    platform: Platform | None = None,
    created: str = "",
    config: dict[str, Any] | None = None,
    created_by: str = "",
) -> str:
    """Make an image from a root file system.

    Args:
        source: the tar stream, plain or compressed (gzip, zstd, xz, bzip2): chunks, or a descriptor.
        name: what shall point at it.
        edits: `--change` instructions.
        message: comment of the image; Docker's is `Imported from -`.
        platform: what it runs on; this machine's where None.
        created: RFC 3339 time; now where empty.
        config: what the instructions start from.
        created_by: history's word on how it was made.

    Returns:
        the image id.

    Raises:
        InvalidArgument: an instruction is not allowed or wrong.
        HostileInput, StoreCorrupt, NotSupported: the archive is not what it should be; the store is as before.
    """
    edited = changes.apply(config or {}, edits)
    runs_on = platform or host()
    when = created or times.exact(time.time_ns() // 1000 * 1000)
    ingest, diff_id = await read_in_thread(
        source, lambda fd: _spool(fd, stores.blobs), lambda spooled: spooled[0].abort()
    )
    with ingest:
        first = await asyncio.to_thread(_first, ingest)
        member = Member("layer", ingest.offset, ingest.digest, None, ingest)
        descriptor = Descriptor(archives.layer_media_type(first), member.digest, member.size)
        step: dict[str, Any] = {"created": when}
        if created_by:
            step["created_by"] = created_by
        if message:
            step["comment"] = message
        document: dict[str, Any] = {"architecture": runs_on.architecture}
        if runs_on.variant:
            document["variant"] = runs_on.variant
        if message:
            document["comment"] = message
        document |= {
            "config": edited,
            "created": when,
            "history": [step],
            "os": runs_on.os,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
        raw_config = documents.encode(document)
        image = Planned(
            raw_config,
            documents.read_config(raw_config),
            archives.make_manifest(raw_config, [descriptor]),
            [Layer(descriptor, diff_id, member)],
            [name] if name else [],
        )
        await store_images(stores, [image], lambda _: None)
    return str(image.id)


def _spool(fd: int, blobs: Blobs) -> tuple[Ingest, str]:
    """Write the stream as it comes into an ingest; xz and bzip2, which no manifest can name, inflated.

    Returns:
        the sealed ingest and the layer's diff id.
    """
    ingest = blobs.ingest()
    try:
        while chunk := os.read(fd, _CHUNK):
            ingest.write(chunk)
        ingest.seal()
        first = _first(ingest)
        if archives.layer_media_type(first) == documents.OCI_LAYER and not archives.is_packed(first):
            return ingest, ingest.digest
        source = ingest.read_fd()
        try:
            if archives.is_packed(first):
                inflated = inflate(source, blobs)
                ingest.abort()
                return inflated, inflated.digest
            stream = Stream(source, Limits())
            stream.drain()
            return ingest, stream.digest
        finally:
            os.close(source)
    except BaseException:
        ingest.abort()
        raise


def _first(ingest: Ingest) -> bytes:
    with open(ingest.path, "rb") as file:
        return file.read(8)
