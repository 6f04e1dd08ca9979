"""Build caches that come and go: `--cache-from` and `--cache-to`, to and from registries and the client's directories.

A cache is one manifest (`build.cacheimages`); in a registry it has a name like an image, in a directory it lies in an
OCI layout. What comes is offered to the build (`build.offers`): its layers are fetched when a step needs them. A cache
that cannot be read, or is not what it should be, is told of and not used; it never fails a build.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any

from wherry.builder.build import Build as One
from wherry.builder.cache import documents as cacheimages
from wherry.builder.cache.mounts import CacheMounts, named
from wherry.builder.cache.offers import Offers
from wherry.builder.cache.recompress import Packing, is_packed, media_type, packing, repack
from wherry.builder.graph.operations import ContextSource, Vertex
from wherry.builder.progress import Sink, Step
from wherry.distribution.destination import Destination
from wherry.distribution.source import Source
from wherry.errors import DigestMismatch, InvalidArgument, InvalidSpec, WherryError
from wherry.images.layers import whole
from wherry.images.load import discard
from wherry.images.pull import choose
from wherry.images.save import blob_member, directory_member, file_member
from wherry.linux import inodes
from wherry.linux.loopwatch import aside, read_aside
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.oci.image import Descriptor, Manifest
from wherry.oci.platform import host
from wherry.oci.reference import Reference, parse_normalized
from wherry.store.images import LayerRecord
from wherry.wire.build import Place

if TYPE_CHECKING:
    from wherry.builder.contexts.context import Tree
    from wherry.building.build import Build

Write = Callable[[bytes], Awaitable[None]]
_COMMON = frozenset(
    "mode compression compression-level force-compression oci-mediatypes image-manifest ignore-error mounts".split()
)
_TO = {"registry": _COMMON | {"ref"}, "local": _COMMON | {"dest", "tag", "have"}, "inline": frozenset({"mode"})}
_FROM = {"registry": frozenset({"ref", "mounts"}), "local": frozenset({"src", "tag", "digest", "mounts", "sent"})}
_AT_ONCE = 5


def checked(places: list[Place], *, to: bool) -> None:
    """Refuse what a cache's address cannot say, before anything is built.

    Raises:
        InvalidArgument: a type, key or value that there is not, or that is not supported.
    """
    for place in places:
        known, attrs = (_TO if to else _FROM).get(place.type), place.attrs
        what = "exporter" if to else "importer"
        if known is None:
            raise InvalidArgument(f"unknown cache {what}: {place.type!r}")
        unknown = sorted(set(attrs) - known)
        if unknown:
            raise InvalidArgument(f"unknown attribute {unknown[0]!r} of cache {what} {place.type!r}")
        if place.type == "registry":
            parse_normalized(_required(attrs, "ref", what))
        if attrs.get("mode", "min") not in ("min", "max"):
            raise InvalidArgument(f"unknown cache mode {attrs['mode']!r}: min or max")
        for key in ("force-compression", "oci-mediatypes", "image-manifest", "ignore-error", "mounts"):
            if attrs.get(key, "true") not in ("true", "false", "1", "0"):
                raise InvalidArgument(f"non-bool value {attrs[key]!r} specified for {key}")
        if not _flag(attrs, "image-manifest", default=True):
            raise InvalidArgument("image-manifest=false is not supported: a cache is an image manifest")
        packing(attrs.get("compression", ""), attrs.get("compression-level", ""))


def _required(attrs: Mapping[str, str], key: str, what: str) -> str:
    if not attrs.get(key):
        raise InvalidArgument(f"{key} not set for registry cache {what}")
    return attrs[key]


def _flag(attrs: Mapping[str, str], key: str, *, default: bool = False) -> bool:
    return attrs[key] in ("true", "1") if key in attrs else default


class CacheTransfer:
    """What one build takes in and gives away.

    Args:
        build: the engine's.
        offers: what is taken in goes there.
        sink: gets the progress.
        credential: gives what a registry's domain is told.
        stack: registries stay connected until it ends: layers are fetched late.
    """

    def __init__(
        self, build: "Build", offers: Offers, sink: Sink, credential: Callable[[str], Any], stack: AsyncExitStack
    ) -> None:
        self._build = build
        self._offers = offers
        self._sink = sink
        self._credential = credential
        self._stack = stack
        self._stores = build.builder.stores
        self._mounts = CacheMounts(
            f"{build.builder.directory}/mounts", build.builder.locks, self._stores, build.builder.run_worker
        )

    # -- in

    async def take(self, place: Place) -> None:
        """Take in one cache. That it cannot be used is told, and is no error."""
        shown = place.attrs.get("ref") or place.attrs.get("src", "")
        step = self._step(f"importing cache manifest from {shown}")
        step.start()
        try:
            if place.type == "registry":
                await self._from_registry(place.attrs, step)
            else:
                await self._from_directory(self._build.sent.tree(place.attrs.get("sent", "")), place.attrs)
        except WherryError as error:
            step.complete(error=error.message)
            self._sink({"warnings": [{"short": f"failed to import cache {shown}: {error.message}"}]})
            return
        step.complete()

    async def _from_registry(self, attrs: Mapping[str, str], step: Step) -> None:
        reference = parse_normalized(attrs["ref"]).with_default_tag()
        source = await self._stack.enter_async_context(
            Source(self._build.registries, reference, self._credential(reference.domain))
        )
        top = await source.manifest(str(reference.digest or reference.tag))
        chosen = await choose(source, top, host())
        told = chosen.manifest.config
        config = await source.small_blob(told.verified, told.size, documents.CONFIG_LIMIT)
        types = {descriptor.digest: descriptor for descriptor in chosen.manifest.layers}

        async def bring(layer: LayerRecord) -> None:
            def tell(_status: str, current: int, total: int) -> None:
                if total:
                    step.status(digests.parse(layer.blob).short, current, total)

            await self._build.images.fetch_blob(source, types[layer.blob], tell)

        await self._offer(config, chosen.manifest, bring, attrs)

    async def _from_directory(self, tree: "Tree", attrs: Mapping[str, str]) -> None:
        await tree.ready()
        index = await read_aside(documents.read_index, tree.read("index.json", documents.MANIFEST_LIMIT))
        descriptor = pick(index.manifests, attrs.get("tag", ""), attrs.get("digest", ""))
        raw = _document(tree, descriptor, documents.MANIFEST_LIMIT)
        manifest = await read_aside(lambda data: documents.read_manifest(data, descriptor.media_type), raw)
        config = _document(tree, manifest.config, documents.CONFIG_LIMIT)

        async def bring(layer: LayerRecord) -> None:
            await asyncio.to_thread(self._copied, tree, layer)

        await self._offer(config, manifest, bring, attrs)

    def _copied(self, tree: "Tree", layer: LayerRecord) -> None:
        digest = digests.parse(layer.blob)
        top = tree.open()
        try:
            try:
                held = openat2(top, _path(digest), inodes.HOLD, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
                fd = inodes.read_held(held, f"blob {digest} of the build cache")
            except OSError as error:
                raise InvalidSpec(f"blob {digest} of the build cache: {error.strerror}") from None
        finally:
            os.close(top)
        with os.fdopen(fd, "rb") as file, self._stores.blobs.ingest() as ingest:
            while data := file.read(1 << 20):
                ingest.write(data)
            ingest.commit(digest, layer.size)

    async def _offer(
        self,
        config: bytes,
        manifest: Manifest,
        bring: Callable[[LayerRecord], Awaitable[None]],
        attrs: Mapping[str, str],
    ) -> None:
        contents = await aside(cacheimages.read, config, manifest)
        self._offers.add(contents.steps, bring)
        if not _flag(attrs, "mounts"):
            return
        for entry, layer in contents.mounts:
            async with await self._stores.leases.take() as lease:
                await lease.add(layer.blob)
                await bring(layer)
                await self._mounts.restore(entry, layer)
            discard(self._stores, {layer.blob}, set())

    # -- out

    async def give(self, one: One, place: Place, write: Write | None) -> None:
        """Give a cache of a build away.

        Args:
            one: the build, done, all of it still held.
            write: takes the bytes of an archive of an OCI layout, for a client's directory.

        Raises:
            WherryError: it cannot be; with `ignore-error=true` that is only told.
        """
        attrs = place.attrs
        step = self._step("exporting cache to " + ("registry" if place.type == "registry" else "client directory"))
        step.start()
        try:
            async with AsyncExitStack() as stack:
                manifest, written = await self._made(one, attrs, stack)
                if write is not None:
                    have = frozenset(attrs.get("have", "").split())
                    layout = _layout(self._stores, manifest, written, attrs.get("tag") or "latest", have)
                    async with aclosing(layout) as pieces:
                        async for piece in pieces:
                            await write(piece)
                else:
                    await self._push(parse_normalized(attrs["ref"]).with_default_tag(), manifest, written, step)
        except WherryError as error:
            step.complete(error=error.message)
            if not _flag(attrs, "ignore-error"):
                raise
            self._sink({"warnings": [{"short": f"failed to export cache: {error.message}"}]})
            if write is not None:
                await write(bytes(1024))  # an archive of nothing
            return
        step.complete()

    async def _made(self, one: One, attrs: Mapping[str, str], stack: AsyncExitStack) -> tuple[Manifest, bytes]:
        """Manifest of a cache of a build, and its document; its blobs are held until the stack ends."""
        stores = self._stores
        how = packing(attrs.get("compression", ""), attrs.get("compression-level", ""))
        layers, told = await one.cache_layers(attrs.get("mode", "min") == "max")
        made: set[str] = set()

        def release() -> None:
            for blob in made:
                one.held.drop(blob)
            discard(stores, made, set())

        stack.callback(release)

        def hold(blob: str) -> None:
            if blob not in one.held.blob_digests:
                made.add(blob)
                one.held.blobs(blob)

        layers = [await self._packed(layer, how, hold) for layer in layers]
        mounts = []
        if _flag(attrs, "mounts"):
            for key, alone in named([one.converted.target.root], one.solver.result):
                found = await self._mounts.archive(key, alone=alone, packing=how, hold=hold)
                if found is not None:
                    mounts.append({"key": key, "id": found[0], "layer": len(layers)})
                    layers.append(found[1])
        if len(layers) > documents.LAYERS_LIMIT:
            raise InvalidArgument(
                f"the cache has {len(layers)} layers, more than {documents.LAYERS_LIMIT}: use mode=min"
            )
        config = documents.encode({"diff_ids": [layer.diff_id for layer in layers], **told, "mounts": mounts})
        raw = await asyncio.to_thread(
            _manifest, stores.blobs, config, layers, oci=_flag(attrs, "oci-mediatypes", default=True)
        )
        for document in (config, raw):
            hold(str(digests.of(document)))
            await asyncio.to_thread(stores.blobs.write, document)
        return documents.read_manifest(raw), raw

    async def _packed(self, layer: LayerRecord, how: Packing, hold: Callable[[str], None]) -> LayerRecord:
        blobs = self._stores.blobs
        if is_packed(blobs, layer, how):
            return layer
        with blobs.ingest() as ingest:
            await whole(asyncio.to_thread(repack, ingest, blobs, layer, how))
            size = ingest.offset
            hold(str(ingest.digest))
            digest = await whole(asyncio.to_thread(ingest.commit))
        return LayerRecord(str(digest), size, layer.diff_id, layer.unpacked)

    async def _push(self, name: Reference, manifest: Manifest, raw: bytes, step: Step) -> None:
        stores, gate = self._stores, asyncio.Semaphore(_AT_ONCE)
        places = self._build.images.places
        async with Destination(self._build.registries, name, self._credential(name.domain), places=places) as there:

            async def send(descriptor: Descriptor) -> None:
                async with gate:
                    digest = descriptor.verified
                    if await there.has_blob(digest):
                        return
                    fd = stores.blobs.open(digest)
                    try:
                        await there.upload(
                            None,
                            digest,
                            fd,
                            descriptor.size,
                            lambda done: step.status(f"writing layer {digest}", done, descriptor.size),
                        )
                    finally:
                        os.close(fd)

            blobs = {descriptor.digest: descriptor for descriptor in (manifest.config, *manifest.layers)}
            tasks = [asyncio.ensure_future(send(descriptor)) for descriptor in blobs.values()]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            await there.put_manifest(str(name.tag), raw, manifest.media_type, digests.of(raw))
        step.output(1, f"writing cache manifest {digests.of(raw)} done\n".encode())

    def _step(self, name: str) -> Step:
        return Step(Vertex(ContextSource(name), (), name), self._sink)


def pick(manifests: list[Descriptor], tag: str, digest: str) -> Descriptor:
    """The manifest of a layout that is meant: of a digest, a tag, `latest`, or the only one.

    Raises:
        InvalidSpec: there is none, or it is no manifest.
    """
    wanted = tag or "latest"
    found = (
        [one for one in manifests if one.digest == digest]
        if digest
        else [one for one in manifests if (one.annotations or {}).get(documents.ANNOTATION_REF_NAME) == wanted]
    )
    if not found and not tag and not digest and len(manifests) == 1:
        found = manifests
    if not found:
        raise InvalidSpec(f"could not find build cache {digest or wanted!r} in index.json")
    if found[-1].media_type not in documents.MANIFESTS:
        raise InvalidSpec(f"unsupported build cache of type {found[-1].media_type[:128]!r}")
    return found[-1]


def _document(tree: "Tree", descriptor: Descriptor, limit: int) -> bytes:
    digest = descriptor.verified
    raw = tree.read(_path(digest), limit)
    if digests.of(raw) != digest or len(raw) != descriptor.size:
        raise DigestMismatch(f"blob {digest} of the build cache is not what its name says")
    return raw


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _manifest(blobs: Any, config: bytes, layers: list[LayerRecord], *, oci: bool) -> bytes:
    descriptors = []
    for layer in layers:
        kind = media_type(blobs, layer)
        if not oci and not kind.endswith("+zstd"):
            kind = documents.DOCKER_LAYER if kind.endswith("+gzip") else documents.DOCKER_LAYER.removesuffix(".gzip")
        descriptors.append(Descriptor(kind, layer.blob, layer.size))
    top = documents.OCI_MANIFEST if oci else documents.DOCKER_MANIFEST
    return documents.encode(
        {
            "schemaVersion": 2,
            "mediaType": top,
            "config": Descriptor(cacheimages.CONFIG_TYPE, str(digests.of(config)), len(config)),
            "layers": descriptors,
        }
    )


async def _layout(
    stores: Any, manifest: Manifest, raw: bytes, tag: str, have: frozenset[str]
) -> AsyncGenerator[bytes, None]:
    """An archive of an OCI layout; blobs that the other side has (`hex:size`) are left out."""
    yield directory_member("blobs") + directory_member("blobs/sha256")
    sizes = {one.digest: one.size for one in (manifest.config, *manifest.layers)}
    sizes[str(digests.of(raw))] = len(raw)
    for digest, size in sorted(sizes.items()):
        if f"{digests.parse(digest).hex}:{size}" in have:
            continue
        async for piece in blob_member(stores, digests.parse(digest)):
            yield piece
    descriptor = Descriptor(
        manifest.media_type, str(digests.of(raw)), len(raw), annotations={documents.ANNOTATION_REF_NAME: tag}
    )
    index = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": [descriptor]}
    yield file_member("oci-layout", documents.encode({"imageLayoutVersion": "1.0.0"}))
    yield file_member("index.json", documents.encode(index))
    yield bytes(1024)
