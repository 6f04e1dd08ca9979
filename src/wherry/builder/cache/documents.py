"""A cache as documents: which step each layer is the result of, beside the layers themselves.

A cache that stands alone is a manifest whose config (`CONFIG_TYPE`) is

    {"diff_ids": […], "records": [{"keys": […], "layer": n, "created": ns, "description"}, …], "mounts": […]}

`layer` is a place among the layers, -1 for a step that changed nothing; the layers are no image, only what some step
made. An inline cache is `{"records": […]}` under `KEY` in the configuration of the result itself. Either is read only
where a caller names it with `--cache-from`; no other image is ever asked.
"""

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from wherry.builder.cache.store import Record
from wherry.builder.contexts.root import Root
from wherry.errors import InvalidSpec
from wherry.oci import image as documents
from wherry.oci.image import Manifest
from wherry.store.images import LayerRecord
from wherry.values.jsontypes import Json

KEY = "wherry.buildcache.v1"
CONFIG_TYPE = "application/vnd.wherry.buildcache.config.v1+json"
_MAX_RECORDS = 10_000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOUNT = re.compile(r"[0-9a-f]{32}(-[0-9]{1,3})?")


class MountEntry(Struct, frozen=True):
    """One cache mount of an exported cache.

    Args:
        key: its directory's name: a digest of its id and of what it began with.
        id: what people call it by.
        layer: place of its archive among the layers.
    """

    key: str
    id: str
    layer: int


class Found(Struct, frozen=True):
    """One step that a cache names: its keys, and its layer (None: it changed nothing)."""

    keys: list[str]
    layer: LayerRecord | None
    description: str
    created: int


class Contents(Struct, frozen=True):
    """What a cache holds.

    Args:
        steps: what its steps are called by.
        mounts: cache mounts, with their archives.
    """

    steps: list[Found]
    mounts: list[tuple[MountEntry, LayerRecord]] = field(default_factory=list)


def described(
    layers: Iterable[LayerRecord], root: Root | None, records: Mapping[str, Record], keys: Mapping[str, list[str]]
) -> Json:
    """What the steps of a build are called by.

    Args:
        layers: those that go along; a step whose layer is not among them is left out.
        root: what it came to: a step without a layer counts where it stands on a part of it; None takes all.
        records: of the build's steps, by digest of the vertex.
        keys: their cache keys, by the same.
    """
    places = {layer.blob: index for index, layer in reversed(list(enumerate(layers)))}
    under = {"", *root.chain_ids} if root is not None else None
    found = []
    for digest, record in records.items():
        if record.layer is None:
            if under is not None and record.parent not in under:
                continue
            index = -1
        else:
            index = places.get(record.layer.blob, -1)
            if index < 0:
                continue
        found.append(
            {
                "keys": keys.get(digest, []),
                "layer": index,
                "created": record.created_at,
                "description": record.description,
            }
        )
    return {"records": found}


def read(config: bytes, manifest: Manifest) -> Contents:
    """Read a cache of its own, or an inline one; it was written by a stranger.

    Args:
        config: the document, compared with its digest.
        manifest: whose layers it speaks of.

    Returns:
        what is as it should be; single steps that are not are left out. An image without a cache has none.

    Raises:
        InvalidSpec, HostileInput: it is no cache and no image.
    """
    document = documents.read_json(config, documents.CONFIG_LIMIT, "build cache")
    if not isinstance(document, dict):
        raise InvalidSpec("invalid build cache: not an object")
    inline = manifest.config.media_type in documents.CONFIGS
    if not inline and manifest.config.media_type != CONFIG_TYPE:
        raise InvalidSpec(f"unsupported cache config type {manifest.config.media_type[:128]!r}: this is no build cache")
    told = document.get(KEY) if inline else document
    holder = document.get("rootfs") if inline else document
    diff_ids = holder.get("diff_ids") if isinstance(holder, dict) else None
    entries = told.get("records") if isinstance(told, dict) else None
    if inline and entries is None:
        return Contents([])
    if not isinstance(entries, list) or not isinstance(diff_ids, list) or len(entries) > _MAX_RECORDS:
        raise InvalidSpec("invalid build cache: no records, or too many")
    if len(diff_ids) != len(manifest.layers) or not all(_is_digest(one) for one in diff_ids):
        raise InvalidSpec("invalid build cache: its layers are not those of its manifest")
    layers = [
        LayerRecord(descriptor.digest, descriptor.size, diff_id, -1)
        for descriptor, diff_id in zip(manifest.layers, diff_ids, strict=True)
    ]
    steps = [found for entry in entries if (found := _step(entry, layers)) is not None]
    return Contents(steps, [] if inline else _mounts(document.get("mounts"), layers))


def _step(entry: Any, layers: list[LayerRecord]) -> Found | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("keys"), list):
        return None
    keys, index, created = entry["keys"], entry.get("layer"), entry.get("created")
    if not keys or len(keys) > 4 or not all(_is_digest(key) for key in keys):
        return None
    if type(index) is not int or not -1 <= index < len(layers):
        return None
    now = time.time_ns()
    return Found(
        keys,
        layers[index] if index >= 0 else None,
        str(entry.get("description") or "")[:1000],
        created if type(created) is int and 0 <= created <= now else now,
    )


def _mounts(entries: Any, layers: list[LayerRecord]) -> list[tuple[MountEntry, LayerRecord]]:
    found = []
    for entry in entries if isinstance(entries, list) else ():
        try:
            one = msgspec.convert(entry, MountEntry)
        except msgspec.ValidationError:
            continue
        if _MOUNT.fullmatch(one.key) and 0 <= one.layer < len(layers):
            found.append((one, layers[one.layer]))
    return found


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
