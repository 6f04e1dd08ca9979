"""The image that a build comes to: configuration, history, manifest; stored and named in one transaction.

A build of which every step was known gives the very image it gave before: times are those at which the steps were
made, and that of the image is remembered beside them (`SOURCE_DATE_EPOCH` sets all of them).
"""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from wherry.builder.cache.held import Held
from wherry.builder.cache.store import Cache, Record
from wherry.builder.contexts.root import Root
from wherry.builder.graph.config import ordered
from wherry.builder.graph.convert import State
from wherry.images import archives
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.oci.image import Descriptor
from wherry.oci.platform import Platform, host
from wherry.oci.reference import Reference
from wherry.store.images import ImageRecord
from wherry.values import times
from wherry.values.jsontypes import Json

# what of a base's document is about the base alone
_OWN = frozenset(
    "config container container_config created history rootfs id parent parent_id docker_version comment "
    "architecture os variant author moby.buildkit.buildinfo.v1 moby.buildkit.cache.v0".split()
)

# of layers that were looked at; what a digest stands for never changes
_MEDIA_TYPES: dict[str, str] = {}
_REMEMBERED = 2000


class Built:
    """An image that was made.

    Fields: `id` (digest of its configuration), `manifest` (of its manifest), `raw_config`, `raw_manifest`, `root`.
    """

    __slots__ = ("id", "manifest", "raw_config", "raw_manifest", "root")

    def __init__(self, raw_config: bytes, raw_manifest: bytes, root: Root) -> None:
        self.raw_config = raw_config
        self.raw_manifest = raw_manifest
        self.id = str(digests.of(raw_config))
        self.manifest = str(digests.of(raw_manifest))
        self.root = root


def document(
    state: State, root: Root, records: Mapping[str, Record], *, platform: Platform | None, created: str, epoch: bool
) -> Json:
    """The image's configuration document.

    Args:
        state: what the target has come to.
        root: its layers.
        records: of the steps, by digest of the vertex.
        platform: what it is for; the base's, or this machine's, where None.
        created: when, where nothing else says it.
        epoch: every time is `created`.
    """
    base = state.base
    found = platform or host()
    value: Json = {
        "architecture": base.get("architecture") if platform is None and base else found.architecture,
    }
    variant = base.get("variant") if platform is None and base else found.variant
    if variant:
        value["variant"] = variant
    if state.author:
        value["author"] = state.author
    value["config"] = ordered(state.config)
    value["created"] = created
    history = []
    for entry in state.history:
        told = {key: item for key, item in entry.items() if key != "vertex"}
        record = records.get(entry.get("vertex", ""))
        if record is not None:
            moment = created if epoch else times.exact(record.created_at)
            told = {"created": moment, **told, **({"empty_layer": True} if record.layer is None else {})}
        elif "created" not in told:
            told = {"created": created, **told}
        history.append(told)
    value["history"] = history
    value["os"] = base.get("os") or found.os
    value["rootfs"] = {"type": "layers", "diff_ids": root.diff_ids}
    return value | {key: item for key, item in base.items() if key not in _OWN and item is not None}


async def when(cache: Cache, value: Json, *, fresh: bool) -> str:
    """When an image with this content was first made here: now, if it was not."""
    key = _key(value)
    record = None if fresh else cache.find(key)
    if record is None:
        now = time.time_ns()
        record = Record(secrets.token_hex(13)[:25], None, "", "", "image configuration", "internal", now, now)
        await cache.put([key], record)
    return times.exact(record.created_at)


def was_made(cache: Cache, value: Json) -> bool:
    """Whether an image with this content was made here before."""
    return cache.find(_key(value)) is not None


def _key(value: Json) -> str:
    return "sha256:" + hashlib.sha256(b"image\0" + documents.encode({**value, "created": ""})).hexdigest()


def assemble(stores: Stores, value: Json, root: Root, annotations: Mapping[str, str] | None = None) -> Built:
    """Make the documents. Blocks shortly, unless `is_known(root)`: the first bytes of layers are read."""
    raw_config = documents.encode(value)
    layers = [Descriptor(_media_type(stores, layer.blob), layer.blob, layer.size) for layer in root.layers]
    return Built(raw_config, archives.make_manifest(raw_config, layers, annotations), root)


def is_known(root: Root) -> bool:
    """Whether nothing has to be read to assemble an image of these layers."""
    return all(layer.blob in _MEDIA_TYPES for layer in root.layers)


def _media_type(stores: Stores, blob: str) -> str:
    found = _MEDIA_TYPES.get(blob)
    if found is None:
        fd = stores.blobs.open(digests.parse(blob))
        try:
            found = archives.layer_media_type(os.read(fd, 8))
        finally:
            os.close(fd)
        if len(_MEDIA_TYPES) >= _REMEMBERED:
            _MEDIA_TYPES.clear()
        _MEDIA_TYPES[blob] = found
    return found


async def store(stores: Stores, held: Held, built: Built, names: Iterable[Reference], *, anew: bool = False) -> None:
    """Write the documents and, in one transaction, the record and its names.

    Args:
        anew: an image that is known gets this manifest (it has annotations).
    """
    held.blobs(built.id, built.manifest)
    records, wanted = stores.records, [str(name) for name in names]
    known = records.by_id.get(built.id)
    if (
        known is not None
        and (not anew or known.manifest == built.manifest)
        and all(records.names.get(n) == built.id for n in wanted)
    ):
        return  # every step was known, and the names are what they were
    await asyncio.to_thread(_write, stores, built)
    record = ImageRecord(built.id, built.manifest, built.root.layers, time.time_ns())
    async with stores.changing:
        await records.put(record, wanted, anew=anew)
        if anew:
            stores.forget(built.id)


def _write(stores: Stores, built: Built) -> None:
    stores.blobs.write(built.raw_config, digests.parse(built.id))
    stores.blobs.write(built.raw_manifest, digests.parse(built.manifest))


def short(value: Any) -> str:
    """The short id of a configuration that is not stored: what the classic view shows behind each step."""
    return hashlib.sha256(documents.encode(value)).hexdigest()[:12]
