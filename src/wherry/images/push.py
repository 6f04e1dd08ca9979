"""`push`: an image of the store to a registry; only what is missing there travels."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from wherry.distribution.credentials import Credential
from wherry.distribution.destination import Destination
from wherry.distribution.settings import Settings
from wherry.errors import ImageNotFound
from wherry.images.fetch import all_of
from wherry.images.load import discard
from wherry.images.stores import Progress, Stores
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.oci.image import Descriptor
from wherry.oci.reference import Reference, parse_normalized
from wherry.store.blobs import Blobs
from wherry.store.images import ImageRecord
from wherry.store.leases import Lease

AT_ONCE = 5
_TOLD = 0.1
_CHUNK = 1 << 20
_LEVEL = 2


async def push(
    stores: Stores, settings: Settings, name: Reference, credential: Credential, progress: Progress
) -> list[tuple[Reference, str]]:
    """Push one tag, or all tags of a repository where `name` has none.

    Args:
        progress: takes Docker's messages.

    Returns:
        what was pushed, and the digests of the manifests.

    Raises:
        ImageNotFound: `An image does not exist locally with the tag: X`.
        Unauthorized, Forbidden, NotFound, Unavailable: the registry does not take it.
    """
    chosen = _meant(stores, name)
    progress({"status": f"The push refers to repository [{name.name}]"})
    images = {id_: stores.records.by_id[id_] for _, id_ in chosen}
    sources = _sources(stores, name, images.values())
    made: set[str] = set()
    pushed = []
    try:
        async with (
            await stores.leases.take() as lease,
            Destination(settings, name, credential, sources=(p for found in sources.values() for p in found)) as there,
        ):
            for tagged, id_ in chosen:
                digest = await _push_one(stores, there, tagged, images[id_], sources, lease, made, progress)
                pushed.append((tagged, digest))
    finally:
        # what was compressed for this push only
        discard(stores, made, set())
    return pushed


def _meant(stores: Stores, name: Reference) -> list[tuple[Reference, str]]:
    names = stores.records.names
    if name.tag:
        if str(name) not in names:
            raise ImageNotFound(_absent(name))
        return [(name, names[str(name)])]
    tagged = [parse_normalized(known) for known in sorted(names)]
    found = [(known, names[str(known)]) for known in tagged if known.name == name.name and known.tag]
    if not found:
        raise ImageNotFound(_absent(name))
    return found


def _absent(name: Reference) -> str:
    return f"An image does not exist locally with the tag: {name.familiar_name()}"


def _sources(stores: Stores, name: Reference, images: Any) -> dict[str, list[str]]:
    """Repositories of the same registry that should have a blob: its image came from there, or was pushed there."""
    wanted = {layer.blob for record in images for layer in record.layers}
    found: dict[str, list[str]] = {}
    for record in stores.records.by_id.values():
        shared = wanted.intersection(layer.blob for layer in record.layers)
        if not shared:
            continue
        for text in stores.records.names_of(record.id):
            known = parse_normalized(text)
            if known.digest and known.domain == name.domain and known.path != name.path:
                for blob in shared:
                    found.setdefault(blob, []).append(known.path)
    return found


async def _push_one(
    stores: Stores,
    there: Destination,
    name: Reference,
    record: ImageRecord,
    sources: dict[str, list[str]],
    lease: Lease,
    made: set[str],
    progress: Progress,
) -> str:
    await lease.add(*record.blobs)
    raw = stores.blobs.read(Digest(record.manifest), documents.MANIFEST_LIMIT)
    manifest = documents.read_manifest(raw)
    shorts = [Digest(layer.diff_id).short for layer in record.layers]
    for short in shorts:
        progress({"status": "Preparing", "progressDetail": {}, "id": short})
    gate = asyncio.Semaphore(AT_ONCE)
    descriptors: list[Descriptor] = list(manifest.layers)

    async def one(number: int) -> int:
        async with gate:
            descriptor = manifest.layers[number]
            if descriptor.media_type in (documents.OCI_LAYER, documents.DOCKER_LAYER.removesuffix(".gzip")):
                progress({"status": "Compressing", "progressDetail": {}, "id": shorts[number]})
                descriptors[number] = descriptor = await _compressed(stores.blobs, descriptor, lease)
                made.add(descriptor.digest)
            await _send(stores, there, descriptor, sources.get(descriptor.digest, ()), shorts[number], progress)
        return 0

    # a blob that is there twice is sent once
    unique = {descriptor.digest: number for number, descriptor in reversed(list(enumerate(manifest.layers)))}
    await all_of(one(number) for number in sorted(unique.values()))
    for number, descriptor in enumerate(manifest.layers):
        descriptors[number] = descriptors[unique[descriptor.digest]]
    await _send(stores, there, manifest.config, (), "", lambda _: None)
    if [descriptor.digest for descriptor in descriptors] != [layer.digest for layer in manifest.layers]:
        raw = _with_layers(raw, descriptors)
        manifest = documents.read_manifest(raw)
        digest = digests.of(raw)
    else:
        digest = Digest(record.manifest)
    media_type = manifest.media_type or documents.OCI_MANIFEST
    tag = str(name.tag)
    await there.put_manifest(tag, raw, media_type, digest)
    async with stores.changing:
        if record.id in stores.records.by_id:
            await stores.records.put(record, [str(name.with_digest(digest))])
    progress({"status": f"{tag}: digest: {digest} size: {len(raw)}"})
    progress({"progressDetail": {}, "aux": {"Tag": tag, "Digest": str(digest), "Size": len(raw)}})
    return str(digest)


def _with_layers(raw: bytes, layers: Sequence[Descriptor]) -> bytes:
    """The manifest with other layers; all else stays."""
    document = documents.read_json(raw, documents.MANIFEST_LIMIT, "manifest")
    document["layers"] = list(layers)
    return documents.encode(document)


async def _send(
    stores: Stores,
    there: Destination,
    descriptor: Descriptor,
    sources: Sequence[str],
    short: str,
    progress: Progress,
) -> None:
    """Bring one blob to the registry, unless it has it."""
    digest = descriptor.verified
    if await there.has_blob(digest):
        progress({"status": "Layer already exists", "progressDetail": {}, "id": short})
        return
    place = None
    for source in sources:
        place = await there.begin(digest, source)
        if place is None:
            progress({"status": f"Mounted from {source}", "progressDetail": {}, "id": short})
            return
        break  # the registry began an upload instead: it is as good as any
    loop = asyncio.get_running_loop()
    last = 0.0

    def told(done: int) -> None:
        nonlocal last
        if loop.time() - last >= _TOLD:
            last = loop.time()
            progress({"status": "Pushing", "progressDetail": {"current": done, "total": descriptor.size}, "id": short})

    fd = stores.blobs.open(digest)
    try:
        await there.upload(place, digest, fd, descriptor.size, told)
    finally:
        os.close(fd)
    progress({"status": "Pushed", "progressDetail": {}, "id": short})


async def _compressed(blobs: Blobs, descriptor: Descriptor, lease: Lease) -> Descriptor:
    """Compress a layer that is stored plain: equal bytes in, equal bytes out, so that the next push finds it there."""
    digest, size = await asyncio.to_thread(_compress, blobs, descriptor.verified)
    await lease.add(str(digest))
    docker = descriptor.media_type != documents.OCI_LAYER
    return Descriptor(documents.DOCKER_LAYER if docker else documents.OCI_LAYER + "+gzip", str(digest), size)


def _compress(blobs: Blobs, digest: Digest) -> tuple[Digest, int]:
    from isal import isal_zlib

    compressor = isal_zlib.compressobj(level=_LEVEL, wbits=31)
    with open(blobs.open(digest), "rb") as plain, blobs.ingest() as ingest:
        while data := plain.read(_CHUNK):
            ingest.write(compressor.compress(data))
        ingest.write(compressor.flush())
        size = ingest.offset
        return ingest.commit(), size
