"""A cache as images: the layers of a result, and in its configuration which step each of them is the result of.

    "wherry.buildcache.v1": {"records": [{"keys": […], "layer": n, "parent": chain id, "description"}, …]}

`layer` is a place among the image's layers, -1 for a step that changed nothing. An inline cache is this in the result
itself. It is read only from images that a caller names with `--cache-from`; no other image is ever asked.
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from wherry.build.cache import Cache, Record
from wherry.build.root import Root
from wherry.images.model import Image
from wherry.oci.platform import host

KEY = "wherry.buildcache.v1"
_MAX_RECORDS = 10_000

Json = dict[str, Any]


def described(root: Root, records: Mapping[str, Record], keys: Mapping[str, list[str]]) -> Json:
    """What the steps of a root are called by.

    Args:
        root: the layers.
        records: of the build's steps, by digest of the vertex.
        keys: their cache keys, by the same.
    """
    places = {chain: index for index, chain in enumerate(root.chain_ids)}
    found = []
    for digest, record in records.items():
        index = places.get(record.chain, -1)
        if (record.layer is None and record.parent not in ("", *places)) or (record.layer is not None and index < 0):
            continue
        if record.layer is not None and record.parent != (root.chain_ids[index - 1] if index else ""):
            continue
        found.append(
            {
                "keys": keys.get(digest, []),
                "layer": index if record.layer is not None else -1,
                "parent": record.parent,
                "description": record.description,
            }
        )
    return {"records": found}


def document(root: Root, cache: Json) -> Json:
    """The configuration of an image that is only a cache."""
    here = host()
    return {
        "architecture": here.architecture,
        "config": {},
        "created": "1970-01-01T00:00:00Z",
        "history": [{"created_by": "wherry build cache"} for _ in root.layers],
        "os": here.os,
        "rootfs": {"type": "layers", "diff_ids": root.diff_ids},
        KEY: cache,
    }


def leaves(roots: Iterable[Root]) -> list[Root]:
    """Those roots that are not the lower part of another one."""
    every = {root.chain: root for root in roots if root.layers}
    lower = {chain for root in every.values() for chain in root.chain_ids[:-1]}
    return [root for chain, root in every.items() if chain not in lower]


async def take(cache: Cache, image: Image) -> int:
    """Take the records of an image into the cache; its layers are there. Returns how many.

    What is not as it should be is left out: it was written by a stranger.
    """
    document_ = msgspec.json.decode(image.raw_config)
    told = document_.get(KEY) if isinstance(document_, dict) else None
    entries = told.get("records") if isinstance(told, dict) else None
    if not isinstance(entries, list) or len(entries) > _MAX_RECORDS:
        return 0
    count, now = 0, time.time_ns()
    for entry in entries:
        record = _record(entry, image, now)
        if record is None:
            continue
        keys = [key for key in entry["keys"] if cache.find(key) is None]
        if keys:
            await cache.put(keys, record)
            count += 1
    return count


def _record(entry: Any, image: Image, now: int) -> Record | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("keys"), list):
        return None
    if not all(isinstance(key, str) and key.startswith("sha256:") and len(key) == 71 for key in entry["keys"]):
        return None
    index, parent = entry.get("layer"), entry.get("parent")
    name = str(entry.get("description") or "")[:1000]
    id_ = secrets.token_hex(13)[:25]
    if index == -1 and (parent == "" or parent in image.chain_ids):
        return Record(id_, None, "", str(parent), name, "regular", now, now)
    if not isinstance(index, int) or not 0 <= index < len(image.chain_ids):
        return None
    below = image.chain_ids[index - 1] if index else ""
    if parent != below:
        return None
    return Record(id_, image.record.layers[index], image.chain_ids[index], below, name, "regular", now, now)
