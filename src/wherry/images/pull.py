"""`pull`: an image from a registry into the store. Nothing of it is visible before all of it is verified."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from wherry.distribution.credentials import Credential
from wherry.distribution.settings import Settings
from wherry.distribution.source import SCHEMA_1, Fetched, Source
from wherry.errors import (
    DigestMismatch,
    HostileInput,
    InvalidArgument,
    InvalidSpec,
    NotFound,
    NotSupported,
    StoreCorrupt,
    Unauthorized,
    WherryError,
)
from wherry.images.fetch import Gates, Layer, all_of, fetch_layer, forget, is_here
from wherry.images.indexes import NESTING, blobs_of, fitting, survey
from wherry.images.layers import Batch
from wherry.images.load import discard
from wherry.images.stores import Progress, Stores
from wherry.linux.loopwatch import aside, read_aside
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.oci.image import ImageConfig, Index, Manifest
from wherry.oci.platform import Platform, host
from wherry.oci.reference import Reference
from wherry.store.images import ImageRecord, IndexRecord, LayerRecord

_LAYERS = frozenset(
    (
        documents.OCI_LAYER,
        documents.OCI_LAYER + "+gzip",
        documents.OCI_LAYER + "+zstd",
        documents.DOCKER_LAYER,
        documents.DOCKER_LAYER.removesuffix(".gzip"),
        documents.DOCKER_LAYER.removesuffix("gzip") + "zstd",
    )
)
# what a registry sent is worthless, and another attempt would get the same
_WORTHLESS = (DigestMismatch, HostileInput, InvalidArgument, StoreCorrupt, NotSupported)


class Pulled:
    """What a pull brought: the image's id, and the digest that the registry knows it by."""

    __slots__ = ("digest", "id", "newer")

    def __init__(self, id_: str, digest: str, newer: bool) -> None:
        self.id = id_
        self.digest = digest
        self.newer = newer


async def pull(
    stores: Stores,
    settings: Settings,
    gates: Gates,
    name: Reference,
    credential: Credential,
    progress: Progress,
    *,
    platform: Platform | None = None,
) -> Pulled:
    """Pull one image.

    Args:
        name: with a tag or a digest; with both, the digest counts.
        platform: which image of an index; this machine's where None.
        progress: takes Docker's messages.

    Raises:
        NotFound: `manifest for X not found…`, `pull access denied for X…`, no image for the platform.
        Unauthorized, Unavailable, Forbidden: the registry does not give it; what came is kept, and the next pull goes
            on from there.
        DigestMismatch, HostileInput, InvalidSpec, StoreCorrupt, NotSupported: it is not what it should be; the store
            is as before.
    """
    async with Source(settings, name, credential) as source:
        try:
            top = await source.manifest(str(name.digest or name.tag))
            chosen = await choose(source, top, platform or host())
        except WherryError as error:
            raise translated(error, name) from None
        progress({"status": f"Pulling from {name.path}", "id": str(name.digest or name.tag)})
        pulled = await _store(stores, source, gates, name, top, chosen, progress)
    progress({"status": status(name.familiar(), newer=pulled.newer)})
    await aside(stores.image, pulled.id)  # its configuration is read once, and then kept
    _check_platform(stores, pulled.id, name, platform)
    return pulled


def status(name: str, *, newer: bool) -> str:
    """The last line of a pull, as Docker has it."""
    return f"Status: {'Downloaded newer image for' if newer else 'Image is up to date for'} {name}"


async def pull_all(
    stores: Stores,
    settings: Settings,
    gates: Gates,
    name: Reference,
    credential: Credential,
    progress: Progress,
    *,
    platform: Platform | None = None,
) -> list[Pulled]:
    """Pull every tag of a repository, one after the other; arguments and errors are those of `pull`."""
    async with Source(settings, name, credential) as source:
        try:
            tags = await source.tags()
        except WherryError as error:
            raise translated(error, name) from None
        if not tags:
            raise NotFound(f"repository {name.familiar_name()} has no tags")
        pulled = []
        for tag in tags:
            one = name.with_tag(tag)
            try:
                top = await source.manifest(tag)
                chosen = await choose(source, top, platform or host())
            except WherryError as error:
                raise translated(error, one) from None
            progress({"status": f"Pulling from {name.path}", "id": tag})
            pulled.append(await _store(stores, source, gates, one, top, chosen, progress))
            _check_platform(stores, pulled[-1].id, one, platform)
    newer = any(found.newer for found in pulled)
    progress({"status": status(name.familiar_name(), newer=newer)})
    return pulled


def translated(error: WherryError, name: Reference) -> WherryError:
    """Say in Docker's words why a registry does not give `name`."""
    code, status = error.facts.get("code"), error.facts.get("status")
    if code == "MANIFEST_UNKNOWN":
        return NotFound(f"manifest for {name.familiar()} not found: {error}", **error.facts)
    if code == "NAME_UNKNOWN":
        return NotFound(f"repository {name.familiar_name()} not found: {error}", **error.facts)
    if code == "DENIED":
        return NotFound(
            f"pull access denied for {name.familiar_name()}, repository does not exist or may require 'docker login': "
            f"{error}",
            **error.facts,
        )
    if status == 404 and isinstance(error, NotFound):
        return NotFound(f"manifest for {name.familiar()} not found: {error}", **error.facts)
    if isinstance(error, Unauthorized):
        return Unauthorized(str(error), **error.facts)
    return error


# -- which image


class Chosen:
    """The manifest that was picked, verified; and the indexes that led to it, the outermost first."""

    __slots__ = ("digest", "indexes", "manifest", "raw")

    def __init__(self, raw: bytes, digest: Digest, manifest: Manifest, indexes: list[Fetched]) -> None:
        self.raw = raw
        self.digest = digest
        self.manifest = manifest
        self.indexes = indexes


async def choose(source: Source, top: Fetched, wanted: Platform) -> Chosen:
    """Follow indexes to the manifest of a platform.

    Raises:
        NotFound: there is none.
        HostileInput, InvalidSpec, DigestMismatch, NotSupported: a document is not what it should be.
    """
    fetched = top
    indexes: list[Fetched] = []
    for _ in range(NESTING):
        document = await document_aside(fetched)
        if isinstance(document, Manifest):
            return Chosen(fetched.raw, fetched.digest, document, indexes)
        indexes.append(fetched)
        descriptor = fitting(document, wanted)
        if descriptor.size > documents.MANIFEST_LIMIT:
            raise HostileInput(f"manifest {descriptor.digest} is larger than {documents.MANIFEST_LIMIT} bytes")
        fetched = await source.manifest(descriptor.digest)
        if len(fetched.raw) != descriptor.size:
            raise DigestMismatch(f"manifest {descriptor.digest}: size {len(fetched.raw)}, expected {descriptor.size}")
        fetched.media_type = _agreed(fetched.media_type, descriptor.media_type)
    raise HostileInput(f"indexes are nested deeper than {NESTING}")


def _agreed(told: str, announced: str) -> str:
    """The type of a document that an index announces, and that a registry tells: they must be one."""
    if told and announced and told != announced:
        raise InvalidSpec(f"invalid manifest: media type {told[:128]!r} is not the announced {announced[:128]!r}")
    return announced or told


async def document_aside(fetched: Fetched) -> Manifest | Index:
    """`read_document`; a large one beside the event loop."""
    return await read_aside(lambda _: read_document(fetched), fetched.raw)


def read_document(fetched: Fetched) -> Manifest | Index:
    """Read a manifest or an index as what the registry says it is.

    Raises:
        InvalidSpec, HostileInput, NotSupported: it is none, or both.
    """
    told = fetched.media_type
    if told in SCHEMA_1:
        raise NotSupported(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest "
            "the author to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2"
        )
    if told in documents.INDEXES:
        return documents.read_index(fetched.raw, told)
    if told in documents.MANIFESTS:
        return documents.read_manifest(fetched.raw, told)
    if told:
        raise InvalidSpec(f"unsupported manifest media type {told[:128]!r}")
    # a registry that does not say leaves it to the document; one that is both is refused by either reader
    try:
        return documents.read_index(fetched.raw)
    except InvalidSpec:
        return documents.read_manifest(fetched.raw)


# -- its content


async def _store(
    stores: Stores,
    source: Source,
    gates: Gates,
    name: Reference,
    top: Fetched,
    chosen: Chosen,
    progress: Progress,
) -> Pulled:
    check(chosen.manifest)
    names = [str(name.with_digest(top.digest))]
    if not name.digest:
        names.append(str(name))
    id_ = str(chosen.manifest.config.digest)
    old = stores.records.names.get(names[-1])
    record = stores.records.by_id.get(id_)
    if record is not None and _is_whole(stores, record):
        async with await stores.leases.take() as lease:
            await lease.add(*(str(fetched.digest) for fetched in chosen.indexes))
            await _put(stores, record, names, chosen)
    else:
        lease_name = f"pull {name} {chosen.digest}"
        try:
            record = await bring(stores, source, gates, lease_name, chosen, names, progress)
        except WherryError as error:
            raise translated(error, name) from None
    progress({"status": f"Digest: {top.digest}"})
    return Pulled(id_, str(top.digest), old != id_)


def check(manifest: Manifest) -> None:
    """Refuse what is no image of ours, before anything of it is fetched."""
    if manifest.config.media_type not in documents.CONFIGS:
        raise NotSupported(f"unsupported config media type {manifest.config.media_type[:128]!r}: this is no image")
    for layer in manifest.layers:
        if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
            raise NotSupported(f"foreign layer {layer.digest} is not supported: it is not kept by the registry")
        if layer.media_type not in _LAYERS:
            raise NotSupported(f"unsupported layer media type {layer.media_type[:128]!r}")


def _is_whole(stores: Stores, record: ImageRecord) -> bool:
    return all(stores.overlay.exists(chain_id) for chain_id in record.chain_ids) and all(
        stores.blobs.exists(Digest(digest)) for digest in record.blobs
    )


async def bring(
    stores: Stores,
    source: Source | None,
    gates: Gates,
    lease_name: str,
    chosen: Chosen,
    names: list[str],
    progress: Progress,
) -> ImageRecord:
    """Fetch and unpack what is missing, then record the image under its names.

    Args:
        source: where blobs come from; None where all are here.
        lease_name: of the lease that holds what comes, over restarts too; it ends with success.

    Raises:
        what `pull` does, the registry's refusals in its own words.
    """
    manifest = chosen.manifest
    blobs = {str(chosen.digest), *blobs_of(manifest), *(str(fetched.digest) for fetched in chosen.indexes)}
    lease = await stores.leases.take(lease_name)
    chain: list[str] = []
    try:
        await lease.add(*blobs)
        raw_config, config = await _config(stores, source, manifest)
        chain = documents.chain_ids(config.rootfs.diff_ids)
        layers = [
            Layer(descriptor, diff_id, chain_id, parent)
            for descriptor, diff_id, chain_id, parent in zip(
                manifest.layers, config.rootfs.diff_ids, chain, [None, *chain][: len(chain)], strict=True
            )
        ]
        with stores.pinned(chain):
            sizes = await _fetch(stores, source, gates, layers, progress)
            await asyncio.to_thread(stores.blobs.write, raw_config, manifest.config.verified)
            await asyncio.to_thread(stores.blobs.write, chosen.raw, chosen.digest)
            record = ImageRecord(
                str(manifest.config.digest),
                str(chosen.digest),
                tuple(
                    LayerRecord(
                        str(layer.descriptor.digest), layer.descriptor.size, layer.diff_id, sizes[layer.chain_id]
                    )
                    for layer in layers
                ),
                time.time_ns(),
            )
            await _put(stores, record, names, chosen)
    except WherryError as error:
        if isinstance(error, _WORTHLESS) and "status" not in error.facts:
            await lease.release()
            discard(stores, blobs, set(chain))
            await asyncio.to_thread(forget, stores, [layer.verified for layer in manifest.layers])
        raise
    await lease.release()
    return record


async def _put(stores: Stores, record: ImageRecord, names: list[str], chosen: Chosen) -> None:
    """Record the image, and the index that it came by; a lease holds what the index needs."""

    def keep() -> IndexRecord | None:
        for fetched in chosen.indexes:
            stores.blobs.write(fetched.raw, fetched.digest)
        return survey(stores, str(chosen.indexes[0].digest)).record() if chosen.indexes else None

    index = await asyncio.to_thread(keep)
    async with stores.changing:
        await stores.records.put(record, names, index)


async def _config(stores: Stores, source: Source | None, manifest: Manifest) -> tuple[bytes, ImageConfig]:
    descriptor = manifest.config
    if stores.blobs.exists(descriptor.verified):
        raw = stores.blobs.read(descriptor.verified, documents.CONFIG_LIMIT)
    elif source is None:
        raise NotFound(f"blob {descriptor.digest}: not found")
    else:
        raw = await source.small_blob(descriptor.verified, descriptor.size, documents.CONFIG_LIMIT)
    config = await read_aside(documents.read_config, raw)
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise InvalidSpec(
            f"invalid manifest, layers length mismatch: expected {len(config.rootfs.diff_ids)}, "
            f"got {len(manifest.layers)}"
        )
    if config.platform.os != "linux":
        raise NotSupported(f'image operating system "{config.platform.os}" cannot be used on this platform')
    return raw, config


async def _fetch(
    stores: Stores, source: Source | None, gates: Gates, layers: list[Layer], progress: Progress
) -> dict[str, int]:
    """Bring all layers, several at once, and return the sizes of their snapshots by chain id."""
    missing = [layer for layer in layers if not is_here(stores, layer)]
    for layer in layers:
        state = "Pulling fs layer" if layer in missing else "Already exists"
        progress({"status": state, "progressDetail": {}, "id": layer.descriptor.verified.short})
    async with Batch(stores) as batch:
        sizes = await all_of(
            fetch_layer(stores, source, gates, batch, layer, _teller(progress, layer.descriptor.verified.short))
            for layer in missing
        )
        if missing:
            await batch.commit()
    for layer in missing:
        progress({"status": "Pull complete", "progressDetail": {}, "id": layer.descriptor.verified.short})
    found = dict(zip((layer.chain_id for layer in missing), sizes, strict=True))
    return {layer.chain_id: found.get(layer.chain_id, stores.overlay.size(layer.chain_id)) for layer in layers}


def _teller(progress: Progress, short: str) -> Callable[[str, int, int], None]:
    def tell(status: str, current: int, total: int) -> None:
        detail: dict[str, Any] = {"current": current, "total": total} if total else {}
        progress({"status": status, "progressDetail": detail, "id": short})

    return tell


def _check_platform(stores: Stores, id_: str, name: Reference, wanted: Platform | None) -> None:
    """Say that what came is not for the platform that was asked for; it stays, as with Docker."""
    if wanted is None:
        return
    actual = stores.image(id_).config.platform
    if (actual.os, actual.architecture) != (wanted.os, wanted.architecture):
        raise NotFound(
            f"image with reference {name.familiar()} was found but does not match the specified platform: "
            f"wanted {wanted}, actual: {actual}"
        )
