"""`push`: an image of the store to a registry; only what is missing there travels."""

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wherry.distribution.credentials import Credential
from wherry.distribution.destination import Destination, Places
from wherry.distribution.settings import Settings
from wherry.errors import ImageNotFound, NotFound
from wherry.images.fetch import all_of
from wherry.images.indexes import Document, Kept, blobs_of, survey
from wherry.images.load import discard
from wherry.images.stores import Progress, Stores
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.oci.image import Descriptor, Manifest
from wherry.oci.platform import Platform
from wherry.oci.reference import Reference, parse_normalized
from wherry.store.blobs import Blobs
from wherry.store.leases import Lease

if TYPE_CHECKING:
    from wherry.store.images import IndexRecord

AT_ONCE = 5
_TOLD = 0.1
_CHUNK = 1 << 20
_LEVEL = 2
_PLAIN = frozenset((documents.OCI_LAYER, documents.DOCKER_LAYER.removesuffix(".gzip")))

Compressed = dict[str, Descriptor]
_COMPRESSED_LIMIT = 4096


async def push(
    stores: Stores,
    settings: Settings,
    name: Reference,
    credential: Credential,
    progress: Progress,
    *,
    platform: Platform | None = None,
    places: "Places | None" = None,
    compressed: "Compressed | None" = None,
    at_once: int = AT_ONCE,
) -> list[tuple[Reference, str]]:
    """Push one tag, or all tags of a repository where `name` has none.

    What came by an index, and is here whole, goes as that index with all its images; else the one image goes.

    Args:
        progress: takes Docker's messages.
        platform: only the image of this platform.
        places: where uploads are that broke off, of earlier pushes.
        compressed: what plain layers became when they were compressed for earlier pushes.
        at_once: how many layers are sent at a time.

    Returns:
        what was pushed, and the digests of the manifests or indexes.

    Raises:
        ImageNotFound: `An image does not exist locally with the tag: X`.
        NotFound: there is no image of that platform.
        Unauthorized, Forbidden, Unavailable: the registry does not take it.
    """
    progress({"status": f"The push refers to repository [{name.name}]"})
    chosen = _meant(stores, name)
    if not chosen:
        # only a registry that answers is told of: Docker asks it first
        async with Destination(settings, name, credential):
            raise ImageNotFound(f"tag does not exist: {name.familiar()}")
    plans = [await asyncio.to_thread(_plan, stores, tagged, id_, platform) for tagged, id_ in chosen]
    sources = _sources(stores, name, {blob for plan in plans for blob in plan.blobs})
    pushed: list[tuple[Reference, str]] = []
    async with (
        await stores.leases.take() as lease,
        Destination(
            settings, name, credential, sources=(p for found in sources.values() for p in found), places=places
        ) as there,
    ):
        run = _Push(stores, there, sources, lease, {} if compressed is None else compressed, progress, at_once)
        try:
            for plan in plans:
                pushed += [(plan.name, await run.one(plan))]
        finally:
            # what was compressed for this push only
            await lease.release()
            discard(stores, run.made, set())
    return pushed


class _Plan:
    """What one tag means to the registry: manifests by digest, indexes by digest, and what the tag shall point at."""

    __slots__ = ("id", "index", "kept", "manifests", "name", "stripped")

    def __init__(self, name: Reference, id_: str) -> None:
        self.name = name
        self.id = id_
        self.manifests: list[tuple[Document, Manifest]] = []
        self.kept: Kept | None = None  # the index, where all of it goes
        self.index: IndexRecord | None = None
        self.stripped: Document | None = None  # an index that is not whole, so that one image goes instead

    @property
    def blobs(self) -> set[str]:
        """Digests of configs and layers."""
        return {blob for _, manifest in self.manifests for blob in blobs_of(manifest)}


def _plan(stores: Stores, name: Reference, id_: str, platform: Platform | None) -> _Plan:
    plan = _Plan(name, id_)
    plan.index = stores.records.indexes.get(str(name))
    kept = survey(stores, plan.index.digest) if plan.index else None
    if kept is not None and platform is None and kept.whole:
        plan.kept, plan.manifests = kept, kept.manifests
        return plan
    record = stores.records.by_id[id_]
    if platform is not None and stores.image(id_).config.platform != platform:
        try:
            if kept is None:
                raise NotFound("")
            plan.manifests = [kept.fitting(platform)]
        except NotFound:
            raise NotFound(
                f"image with reference {name.familiar()} was found but does not provide the specified platform "
                f"({platform})"
            ) from None
        return plan
    raw = stores.blobs.read(Digest(record.manifest), documents.MANIFEST_LIMIT)
    manifest = documents.read_manifest(raw)
    media_type = manifest.media_type or documents.OCI_MANIFEST
    plan.manifests = [(Document(Descriptor(media_type, record.manifest, len(raw)), raw), manifest)]
    plan.stripped = kept.top if kept is not None and platform is None else None
    return plan


def _meant(stores: Stores, name: Reference) -> list[tuple[Reference, str]]:
    """The tags of the repository that are to be pushed, and their images; none where only that tag is not there."""
    names = stores.records.names
    tagged = [parse_normalized(known) for known in sorted(names)]
    found = [(known, names[str(known)]) for known in tagged if known.name == name.name and known.tag]
    if not found:
        raise ImageNotFound(f"An image does not exist locally with the tag: {name.familiar_name()}")
    return [(known, id_) for known, id_ in found if not name.tag or known == name]


def _sources(stores: Stores, name: Reference, wanted: set[str]) -> dict[str, list[str]]:
    """Repositories of the same registry that should have a blob: its image came from there, or was pushed there."""
    found: dict[str, list[str]] = {}
    records = stores.records
    for text, id_ in records.names.items():
        known = parse_normalized(text)
        if not known.digest or known.domain != name.domain or known.path == name.path:
            continue
        index = records.indexes.get(text)
        blobs = set(index.blobs) if index else records.by_id[id_].blobs
        for blob in wanted & blobs:
            found.setdefault(blob, []).append(known.path)
    return found


class _Push:
    """One push: what it was given, and what it made on the way."""

    def __init__(
        self,
        stores: Stores,
        there: Destination,
        sources: dict[str, list[str]],
        lease: Lease,
        compressed: Compressed,
        progress: Progress,
        at_once: int,
    ) -> None:
        self._at_once = at_once
        self.made: set[str] = set()
        self._compressed = compressed
        self._stores = stores
        self._there = there
        self._sources = sources
        self._lease = lease
        self._progress = progress

    async def one(self, plan: _Plan) -> str:
        """Push one tag; returns the digest that it points at."""
        await self._lease.add(*plan.blobs, *(plan.index.blobs if plan.index else ()))
        tag = str(plan.name.tag)
        names = self._shorts(plan)
        for short in dict.fromkeys(names.values()):
            self._progress({"status": "Preparing", "progressDetail": {}, "id": short})
        # a blob that is there twice is sent once
        layers = {layer.digest: layer for _, manifest in plan.manifests for layer in manifest.layers}
        gate = asyncio.Semaphore(self._at_once)
        packed: dict[str, Descriptor] = {}

        async def send(descriptor: Descriptor) -> int:
            async with gate:
                digest, short = descriptor.digest, names[descriptor.digest]
                # an index says which manifests it has: those are not to be changed
                if plan.index is None and descriptor.media_type in _PLAIN:
                    descriptor = packed[digest] = await self._packed(descriptor, short)
                else:
                    await self._send(descriptor, short)
            return 0

        await all_of(send(layer) for layer in layers.values())
        configs = {manifest.config.digest: manifest.config for _, manifest in plan.manifests}
        for config in configs.values():
            await self._send(config, "")
        if plan.kept is not None:
            for document in (*(document for document, _ in plan.manifests), *plan.kept.nested):
                await self._put(document.descriptor.digest, document)
            document = plan.kept.top
        else:
            ((document, manifest),) = plan.manifests
            if packed:
                raw = _with_layers(document.raw, [packed.get(layer.digest, layer) for layer in manifest.layers])
                document = Document(Descriptor(document.descriptor.media_type, str(digests.of(raw)), len(raw)), raw)
        await self._put(tag, document)
        await self._remember(plan, document)
        return document.descriptor.digest

    async def _packed(self, plain: Descriptor, short: str) -> Descriptor:
        """Bring a layer that is stored plain to the registry, compressed: again only where it is not there."""
        known = self._compressed.get(plain.digest)
        if known is not None and await self._there.has_blob(known.verified):
            self._progress({"status": "Layer already exists", "progressDetail": {}, "id": short})
            return known
        descriptor = await _compressed(self._stores.blobs, plain, self._lease)
        self.made.add(descriptor.digest)
        self._compressed[plain.digest] = descriptor
        if len(self._compressed) > _COMPRESSED_LIMIT:
            del self._compressed[next(iter(self._compressed))]
        await self._send(descriptor, short)
        return descriptor

    def _shorts(self, plan: _Plan) -> dict[str, str]:
        """What the layers are called: by their content where an image here has them, as Docker does."""
        record = self._stores.records.by_id[plan.id]
        known = {layer.blob: Digest(layer.diff_id).short for layer in record.layers}
        return {
            layer.digest: known.get(layer.digest, layer.verified.short)
            for _, manifest in plan.manifests
            for layer in manifest.layers
        }

    async def _put(self, tag_or_digest: str, document: Document) -> None:
        descriptor = document.descriptor
        await self._there.put_manifest(tag_or_digest, document.raw, descriptor.media_type, descriptor.verified)

    async def _remember(self, plan: _Plan, document: Document) -> None:
        """Record under which digest the registry has it, and tell."""
        descriptor, records = document.descriptor, self._stores.records
        digest = descriptor.digest
        async with self._stores.changing:
            if plan.id in records.by_id and (plan.kept or digest not in (plan.index.blobs if plan.index else ())):
                name = str(plan.name.with_digest(descriptor.verified))
                await records.put(records.by_id[plan.id], [name], plan.index if plan.kept else None)
        if plan.stripped is not None:
            self._progress(
                {
                    "progressDetail": {},
                    "aux": {
                        "manifestPushedInsteadOfIndex": True,
                        "originalIndex": documents.plain(plan.stripped.descriptor),
                        "selectedManifest": documents.plain(descriptor),
                    },
                }
            )
        self._progress({"status": f"{plan.name.tag}: digest: {digest} size: {descriptor.size}"})
        aux = {"Tag": str(plan.name.tag), "Digest": digest, "Size": descriptor.size}
        self._progress({"progressDetail": {}, "aux": aux})

    async def _send(self, descriptor: Descriptor, short: str) -> None:
        """Bring one blob to the registry, unless it has it; a nameless one is not told of."""

        def tell(status: str, **detail: int) -> None:
            if short:
                self._progress({"status": status, "progressDetail": detail, "id": short})

        digest = descriptor.verified
        if await self._there.has_blob(digest):
            tell("Layer already exists")
            return
        place = None
        for source in self._sources.get(descriptor.digest, ())[:1]:
            place = await self._there.begin(digest, source)
            if place is None:
                tell(f"Mounted from {source}")
                return
            # the registry began an upload instead: it is as good as any
        loop = asyncio.get_running_loop()
        last = 0.0

        def told(done: int) -> None:
            nonlocal last
            if loop.time() - last >= _TOLD:
                last = loop.time()
                tell("Pushing", current=done, total=descriptor.size)

        fd = self._stores.blobs.open(digest)
        try:
            await self._there.upload(place, digest, fd, descriptor.size, told)
        finally:
            os.close(fd)
        tell("Pushed")


def _with_layers(raw: bytes, layers: Sequence[Descriptor]) -> bytes:
    """The manifest with other layers; all else stays."""
    document = documents.read_json(raw, documents.MANIFEST_LIMIT, "manifest")
    document["layers"] = list(layers)
    return documents.encode(document)


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
