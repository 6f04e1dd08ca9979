"""`load`: an archive of images into the store. Nothing of it is visible before all of it is verified."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

from wherry.errors import InvalidArgument
from wherry.images import archives
from wherry.images.archives import Layer, Planned
from wherry.images.feed import Source, read_in_thread
from wherry.images.indexes import survey
from wherry.images.layers import Batch, gather_limited, verify_diff_id, whole
from wherry.images.members import LIMITS, Member, Members, read_archive
from wherry.images.stores import Progress, Stores
from wherry.linux.loopwatch import aside
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.oci.image import Descriptor
from wherry.oci.platform import Platform
from wherry.snapshots.inflate import Stream
from wherry.store.blobs import Blobs, Ingest
from wherry.store.images import ImageRecord, IndexRecord, LayerRecord


async def load(
    stores: Stores,
    source: Source,
    progress: Progress,
    *,
    quiet: bool = False,
    platform: Platform | None = None,
) -> list[str]:
    """Load every image of an archive.

    Args:
        source: the archive (`docker save` of any age, or an OCI layout as a tar; plain or compressed): chunks, or a
            descriptor.
        progress: takes Docker's messages, `{"stream": "Loaded image: busybox:latest\\n"}` the last of them.
        quiet: no message for each layer.
        platform: which image of a multi-platform index is meant; the machine's where None.

    Returns:
        the ids, in the archive's order.

    Raises:
        InvalidArgument, InvalidSpec, InvalidReference, HostileInput, StoreCorrupt, DigestMismatch: the archive is not
            what it should be; the store is as before.
    """
    with Members() as members:
        await read_in_thread(source, lambda fd: read_archive(fd, stores.blobs, members))
        images = await asyncio.to_thread(_plan, members, stores.blobs, platform)
        await store_images(stores, images, progress, quiet=quiet)
    return [str(image.id) for image in images]


async def store_images(stores: Stores, images: list[Planned], progress: Progress, *, quiet: bool = False) -> None:
    """Store planned images: their blobs, their snapshots, then, in one transaction, their records and names.

    When it fails, what it stored and nobody else needs is taken away again.
    """
    chains = [documents.chain_ids([layer.diff_id for layer in image.layers]) for image in images]
    chain_ids = {chain_id for chain in chains for chain_id in chain}
    blobs = {digest for image in images for digest in _digests(image)}
    try:
        async with await stores.leases.take() as lease:
            with stores.pinned(chain_ids):
                await lease.add(*blobs)
                async with Batch(stores) as batch:
                    sizes = await _unpack(stores, batch, images, chains, (lambda _: None) if quiet else progress)
                    # one sync for blobs and layers: each of its own would make the others wait for the journal
                    await batch.commit()
                    await whole(asyncio.to_thread(_store_blobs, stores.blobs, images))
                records = [_record(image, chain, sizes) for image, chain in zip(images, chains, strict=True)]
                names = {str(name): str(image.id) for image in images for name in image.names}
                indexes = await asyncio.to_thread(_indexes, stores, images)
                async with stores.changing:
                    replaced = await stores.records.put_all(records, names, indexes)
    except BaseException:
        discard(stores, blobs, chain_ids)
        raise
    # parts of an index whose other parts the archive does not have
    discard(stores, {digest for image in images for digest in image.beside}, set())
    for image in images:
        await aside(stores.image, str(image.id))  # its configuration is read once, and then kept
    for image in images:
        for name in image.names:
            if old := replaced.get(str(name)):
                text = (
                    f"The image {name.familiar()} already exists, renaming the old one with ID {old} to empty string\n"
                )
                progress({"stream": text})
            progress({"stream": f"Loaded image: {name.familiar()}\n"})
        if not image.names:
            progress({"stream": f"Loaded image ID: {image.id}\n"})


def discard(stores: Stores, blobs: set[str], chain_ids: set[str]) -> None:
    """Take away what a failed operation stored, where no image, container, lease or running load needs it.

    Where the record itself could not be written for sure, all stays for collection: the next start may find the image.
    """
    if stores.database.doubtful:
        return
    for digest in blobs - stores.needed_blobs():
        stores.blobs.remove(digests.parse(digest))
    for chain_id in chain_ids - stores.needed_layers():
        if stores.overlay.exists(chain_id):
            stores.overlay.remove(chain_id)


def _record(image: Planned, chain: list[str], sizes: dict[str, int]) -> ImageRecord:
    layers = tuple(
        LayerRecord(str(layer.descriptor.digest), layer.descriptor.size, str(layer.diff_id), sizes[chain_id])
        for layer, chain_id in zip(image.layers, chain, strict=True)
    )
    return ImageRecord(str(image.id), str(image.manifest_digest), layers, time.time_ns())


def _indexes(stores: Stores, images: list[Planned]) -> dict[str, IndexRecord]:
    named = {name: digest for image in images for name, digest in image.indexes.items()}
    known = {digest: survey(stores, digest).record() for digest in set(named.values())}
    return {name: known[digest] for name, digest in named.items()}


def _plan(members: Members, blobs: Blobs, platform: Platform | None) -> list[Planned]:
    images = archives.plan(members, platform)
    diff_ids: dict[str, str] = {}
    for image in images:
        for layer in image.layers:
            if layer.member is None and not blobs.exists(layer.descriptor.verified):
                raise InvalidArgument(f"invalid archive: layer {layer.descriptor.digest} is missing")
            if diff_ids.setdefault(layer.descriptor.digest, layer.diff_id) != layer.diff_id:
                raise InvalidArgument(f"invalid archive: layer {layer.descriptor.digest} has two diff ids")
        if _inflate_packed(image, members, blobs):
            descriptors = [layer.descriptor for layer in image.layers]
            image.raw_manifest = archives.make_manifest(image.raw_config, descriptors)
            image.manifest_digest = digests.of(image.raw_manifest)
    return images


def _inflate_packed(image: Planned, members: Members, blobs: Blobs) -> bool:
    """Inflate layers in forms that manifests have no media type for (xz, bzip2); returns whether there were any."""
    found = False
    for layer in image.layers:
        if layer.member is None or not archives.is_packed(archives.first_bytes(layer.member)):
            continue
        found = True
        fd = _open(layer.member)
        try:
            ingest = inflate(fd, blobs)
        finally:
            os.close(fd)
        member = Member(f"{layer.member.name} (inflated {layer.diff_id})", ingest.offset, ingest.digest, None, ingest)
        layer.descriptor = Descriptor(documents.OCI_LAYER, member.digest, member.size)
        known = members.files.get(member.name)
        if known is None:
            members.add(member)
        else:
            ingest.abort()
        layer.member = known or member
    return found


def inflate(fd: int, blobs: Blobs) -> Ingest:
    """Write the inflated content of `fd` into a new ingest and return that, sealed."""
    ingest = blobs.ingest()
    try:
        stream = Stream(fd, LIMITS)
        while piece := stream.piece():
            ingest.write(piece)
        ingest.seal()
    except BaseException:
        ingest.abort()
        raise
    return ingest


def _store_blobs(blobs: Blobs, images: list[Planned]) -> None:
    """Make the blobs visible under their digests; a lease holds them, what is large is synced. Blocks: for a thread."""
    for image in images:
        for layer in image.layers:
            digest = layer.descriptor.verified
            if layer.member is not None and not blobs.exists(digest):
                layer.member.store(blobs, digest)
        for text, member in image.beside.items():
            if not blobs.exists(Digest(text)):
                member.store(blobs, Digest(text))
        blobs.write(image.raw_config, image.id)
        blobs.write(image.raw_manifest, image.manifest_digest)
    blobs.sync_names()


def _digests(image: Planned) -> list[str]:
    return [image.id, image.manifest_digest, *(layer.descriptor.digest for layer in image.layers), *image.beside]


async def _unpack(
    stores: Stores, batch: Batch, images: list[Planned], chains: list[list[str]], progress: Progress
) -> dict[str, int]:
    """Unpack all layers that have no snapshot yet; returns their sizes by chain id."""
    wanted: dict[str, tuple[Layer, str | None]] = {}
    for image, chain in zip(images, chains, strict=True):
        parent = None
        for layer, chain_id in zip(image.layers, chain, strict=True):
            wanted.setdefault(chain_id, (layer, parent))
            parent = chain_id

    def call(chain_id: str, layer: Layer, parent: str | None) -> Callable[[], Awaitable[int]]:
        return lambda: _one(stores, batch, chain_id, layer, parent, progress)

    sizes = await gather_limited([call(chain_id, *what) for chain_id, what in wanted.items()])
    return dict(zip(wanted, sizes, strict=True))


async def _one(
    stores: Stores, batch: Batch, chain_id: str, layer: Layer, parent: str | None, progress: Progress
) -> int:
    fd = _open_layer(stores.blobs, layer)
    try:
        if stores.overlay.exists(chain_id):
            if layer.descriptor.digest != layer.diff_id and not _is_known(stores, layer):
                await asyncio.to_thread(verify_diff_id, fd, layer.diff_id)
            return stores.overlay.size(chain_id)
        short, size = digests.parse(layer.diff_id).short, layer.descriptor.size
        message = {"status": "Loading layer", "id": short}
        progress({**message, "progressDetail": {"current": 0, "total": size}})
        unpacked = await batch.unpack(fd, chain_id, layer.diff_id, parent)
        progress({**message, "progressDetail": {"current": size, "total": size}})
        return unpacked
    finally:
        os.close(fd)


def _open_layer(blobs: Blobs, layer: Layer) -> int:
    """Open a layer that may at this moment turn from an ingest into a blob."""
    member, digest = layer.member, layer.descriptor.verified
    ingest = member.ingest if member is not None else None
    if member is not None and member.data is not None:
        return _open(member)
    if ingest is not None and not blobs.exists(digest):
        try:
            return ingest.read_fd()
        except FileNotFoundError:
            pass  # it was committed a moment ago
    return blobs.open(digest)


def _is_known(stores: Stores, layer: Layer) -> bool:
    """Whether an image that is stored already says that this blob is that content."""
    return any(
        known.blob == layer.descriptor.digest and known.diff_id == layer.diff_id
        for record in stores.records.by_id.values()
        for known in record.layers
    )


def _open(member: Member) -> int:
    if member.ingest is not None:
        return member.ingest.read_fd()
    assert member.data is not None
    fd = os.memfd_create("layer", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(member.data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
