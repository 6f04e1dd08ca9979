"""`image copy`: an image from one engine to another, blob by blob. Only what is missing travels, from its byte on.

The engine that has the image makes an offer; the other one says what it misses, takes those blobs, and assembles the
image from them. A client carries them between the two. Blobs arrive in the ingests that a pull writes too, so either
goes on where the other broke off; a lease named for the manifest holds them until the image is assembled.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator

from wherry.distribution.source import Fetched
from wherry.errors import Conflict, DigestMismatch, HostileInput, InvalidArgument, NotFound, StoreCorrupt
from wherry.images.fetch import Gates, copy_into, take_up
from wherry.images.indexes import survey
from wherry.images.pull import Chosen, bring, check
from wherry.images.resolve import is_id_prefix, resolve_id
from wherry.images.stores import Progress, Stores
from wherry.linux.loopwatch import read_aside
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.oci.reference import parse_normalized
from wherry.wire.copies import Blob, Missing, Offer

_CHUNK = 1 << 20
_BLOBS_LIMIT = 10_000


def offer(stores: Stores, name_or_id: str) -> Offer:
    """Describe an image for another engine.

    Args:
        name_or_id: a name is given along with the digests of its repository; an id offers the image nameless.

    Raises:
        ImageNotFound, AmbiguousPrefix, InvalidReference: as `resolve`.
        StoreCorrupt: a blob of it is gone.
    """
    id_ = resolve_id(stores, name_or_id)
    records = stores.records
    record = records.by_id[id_]
    names: list[str] = []
    index = None
    if not is_id_prefix(id_, name_or_id):
        meant = parse_normalized(name_or_id)
        own = meant.with_digest(meant.digest) if meant.digest else meant.with_default_tag()
        index = records.indexes.get(str(own))
        known = [parse_normalized(name) for name in records.names_of(id_)]
        names = [str(own), *(str(name) for name in known if name.digest and name.name == own.name and name != own)]
    wanted = record.blobs | set(index.blobs if index else ())
    try:
        blobs = [Blob(digest, stores.blobs.size(Digest(digest))) for digest in sorted(wanted)]
    except NotFound as error:
        raise StoreCorrupt(f"image {name_or_id}: {error}: load or pull it again") from None
    return Offer(names, record.manifest, blobs, index.digest if index else "")


async def missing(stores: Stores, offered: Offer) -> list[Missing]:
    """Say what of an offer is not here; what is here is held from now on.

    Raises:
        InvalidReference, InvalidArgument: the offer is none.
    """
    manifest = digests.parse(offered.manifest)
    if len(offered.blobs) > _BLOBS_LIMIT:
        raise InvalidArgument(f"an image of more than {_BLOBS_LIMIT} blobs")
    wanted = [digests.parse(blob.digest) for blob in offered.blobs]
    lease = await stores.leases.take(_lease(manifest))
    await lease.add(*(str(digest) for digest in wanted))

    def look() -> list[Missing]:
        return [
            Missing(str(digest), stores.blobs.pending(f"blob {digest}"))
            for digest in wanted
            if not stores.blobs.exists(digest)
        ]

    return await asyncio.to_thread(look)


async def read(stores: Stores, digest_: str, offset: int) -> AsyncGenerator[bytes, None]:
    """Yield a blob's bytes from `offset` on. Raises `NotFound`, `InvalidReference`."""
    fd = stores.blobs.open(digests.parse(digest_))
    try:
        while data := await asyncio.to_thread(os.pread, fd, _CHUNK, offset):
            offset += len(data)
            yield data
    finally:
        os.close(fd)


async def receive(
    stores: Stores, gates: Gates, digest_: str, size: int, offset: int, chunks: AsyncIterator[bytes]
) -> None:
    """Take a blob's bytes from `offset` on; it is visible once all are here and its digest is right.

    Raises:
        Conflict: not as much of it is here as the sender thinks.
        DigestMismatch: it is something else; what came is thrown away.
        Unavailable and others: it broke off; what came is kept.
    """
    digest = digests.parse(digest_)
    async with gates.of(str(digest)):
        if stores.blobs.exists(digest):
            async for _ in chunks:
                continue  # somebody else brought it in the meantime
            return
        ingest = await take_up(stores, digest)
        try:
            if ingest.offset > size:
                ingest.restart()
            if ingest.offset != offset:
                raise Conflict(f"blob {digest}: {ingest.offset} bytes are here, not {offset}")
            await copy_into(ingest, chunks, size, lambda *_: None)
            if ingest.offset < size:
                raise InvalidArgument(f"blob {digest}: the sender stopped after {ingest.offset} of {size} bytes")
            await asyncio.to_thread(ingest.commit, digest, size)
        except DigestMismatch:
            ingest.abort()
            raise
        except BaseException:
            ingest.close()
            raise


async def assemble(stores: Stores, gates: Gates, offered: Offer, progress: Progress) -> str:
    """Make the image of an offer whose blobs are all here; returns its id.

    Raises:
        NotFound: a blob is not here.
        InvalidReference, InvalidSpec, NotSupported, HostileInput, DigestMismatch: it is no image of ours.
    """
    digest = digests.parse(offered.manifest)
    raw = await asyncio.to_thread(stores.blobs.read, digest, documents.MANIFEST_LIMIT)
    manifest = await read_aside(documents.read_manifest, raw)
    check(manifest)
    for layer in manifest.layers:
        if not stores.blobs.exists(layer.verified):
            raise NotFound(f"blob {layer.digest}: not found")
    indexes = []
    if offered.index:
        kept = await asyncio.to_thread(survey, stores, offered.index)
        if offered.manifest not in kept.record().blobs:
            raise HostileInput(f"manifest {digest} is not in index {offered.index}")
        top = kept.top
        indexes.append(Fetched(top.raw, top.descriptor.media_type, top.descriptor.verified))
    names = [parse_normalized(name) for name in offered.names]
    for name in names:
        if name.digest and name.digest not in (digest, offered.index):
            raise InvalidArgument(f"{name.familiar()} is the name of something else than {digest}")
    chosen = Chosen(raw, digest, manifest, indexes)
    full = [str(name if name.digest else name.with_default_tag()) for name in names]
    record = await bring(stores, None, gates, _lease(digest), chosen, full, progress)
    return record.id


def _lease(manifest: Digest) -> str:
    return f"copy {manifest}"
