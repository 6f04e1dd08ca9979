"""`system df`: what lies on the disk, and what for. The numbers are those of du(1): blocks, not lengths.

What Docker leaves out is counted: the compressed layers that are kept for push (as part of the images), the logs and
all other files of a container, transfers that broke off.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from wherry.containers import listing
from wherry.containers.context import Context
from wherry.errors import InvalidArgument
from wherry.images.images import Images
from wherry.images.model import Image
from wherry.values.jsontypes import Json
from wherry.wire import images as wire

JsonList = list[Json]

TYPES = ("container", "image", "volume", "build-cache")
_BLOCK = 512


class CacheRecord(Protocol):
    """A step in the build cache: its snapshot ("" for none), and its layer."""

    @property
    def id(self) -> str: ...
    @property
    def chain(self) -> str: ...
    @property
    def layer(self) -> Any: ...


class DiskUsage:
    """Measures; remembers what cannot change.

    Args:
        context: the containers' wiring.
        store: the images.
        volumes: gives Docker's JSON of each volume with `UsageData`.
        cached: gives Docker's `BuildCache` entries.
        cache_records: gives the records behind those.
    """

    def __init__(
        self,
        context: Context,
        store: Images,
        volumes: Callable[[], Awaitable[JsonList]],
        cached: Callable[[], JsonList],
        cache_records: Callable[[], Iterable[CacheRecord]],
    ) -> None:
        self._context = context
        self._store = store
        self._volumes = volumes
        self._cached = cached
        self._cache_records = cache_records
        self._snapshots: dict[str, int] = {}

    async def report(self, types: Iterable[str], version: tuple[int, ...]) -> Json:
        """Docker's answer to `GET /system/df`, and `ImagesReclaimable`: bytes that go with the images nobody uses.

        Args:
            types: of `TYPES`; none means all.
            version: API version.

        Raises:
            InvalidArgument: another type, in dockerd's words.
        """
        wanted = set(types) or set(TYPES)
        for unknown in sorted(wanted.difference(TYPES)):
            raise InvalidArgument(f"unknown object type: {unknown}")
        answer: Json = {"LayersSize": 0, "Images": None, "Containers": None, "Volumes": None, "BuildCache": None}
        blobs: dict[str, int] = {}
        if wanted & {"image", "build-cache"}:
            blobs = await asyncio.to_thread(self._measure_blobs)
            await self._measure_snapshots()
        if "image" in wanted:
            answer |= await self._images(blobs, version)
        if "container" in wanted:
            answer["Containers"] = await self._containers()
        if "volume" in wanted:
            answer["Volumes"] = await self._measured_volumes()
        if "build-cache" in wanted:
            answer["BuildCache"] = await asyncio.to_thread(self._build_cache, blobs)
        return answer

    def _measure_blobs(self) -> dict[str, int]:
        blobs = self._store.stores.blobs
        found = {}
        for digest, _ in blobs.walk():
            try:
                found[str(digest)] = os.stat(blobs.path(digest)).st_blocks * _BLOCK
            except FileNotFoundError:
                continue
        return found

    async def _measure_snapshots(self) -> None:
        overlay = self._store.stores.overlay
        there = await asyncio.to_thread(lambda: set(overlay.walk()))
        for gone in self._snapshots.keys() - there:
            del self._snapshots[gone]
        new = sorted(there - self._snapshots.keys())
        sizes = await self._measure([os.path.dirname(overlay.path(chain_id)) for chain_id in new])
        self._snapshots.update(zip(new, sizes, strict=True))

    async def _measure(self, paths: list[str]) -> list[int]:
        if not paths:
            return []
        sizes: list[int] = (await self._context.run_worker("measure", {"paths": paths}, {}))["sizes"]
        return sizes

    async def _images(self, blobs: dict[str, int], version: tuple[int, ...]) -> Json:
        # a blob and a snapshot are parts; the names cannot meet: a snapshot's has a mark in front
        sizes = {**blobs, **{f"+{chain_id}": size for chain_id, size in self._snapshots.items()}}
        images = self._store.select(all=True)
        parts = {image.id: _parts(image) for image in images}
        users = Counter(part for own in parts.values() for part in own)
        containers = Counter(container.record.image for container in self._context.registry)
        lines = []
        for image in self._store.select():
            shared = sum(sizes.get(part, 0) for part in parts[image.id] if users[part] > 1)
            line = wire.summary(image, version, containers[image.id], {image.id: shared})
            line["Size"] = sum(sizes.get(part, 0) for part in parts[image.id])
            # here, unlike in the list of images, dockerd writes null for none
            line["RepoTags"], line["RepoDigests"] = line["RepoTags"] or None, line["RepoDigests"] or None
            if "VirtualSize" in line:
                line["VirtualSize"] = line["Size"]
            lines.append(line)
        cached = {part for record in self._cache_records() for part in _cache_parts(record)}
        used = {part for image in images if containers[image.id] for part in parts[image.id]}
        used |= {f"+{chain_id}" for chain_id in self._store.stores.layers_in_use()}
        rest = (await self._measure([self._context.roots.ingest]))[0]
        total = rest + sum(size for part, size in sizes.items() if part in users or part not in cached)
        kept = sum(size for part, size in sizes.items() if part in used)
        return {"LayersSize": total, "Images": lines, "ImagesReclaimable": max(0, total - kept)}

    async def _containers(self) -> JsonList:
        lines = listing.list_containers(self._context, all_=True, limit=0, size=False, filters={})
        sizes = await self._measure([self._context.roots.container(line["Id"]) for line in lines])
        below = {image.id: image.size for image in self._store.select(all=True)}
        for line, size in zip(lines, sizes, strict=True):
            line["SizeRw"] = size
            line["SizeRootFs"] = size + below.get(line["ImageID"], 0)
        return lines

    async def _measured_volumes(self) -> JsonList:
        volumes = await self._volumes()
        sizes = await self._measure([volume["Mountpoint"] for volume in volumes])
        for volume, size in zip(volumes, sizes, strict=True):
            volume["UsageData"]["Size"] = size
        return volumes

    def _build_cache(self, blobs: dict[str, int]) -> JsonList:
        records = {record.id: record for record in self._cache_records()}
        entries = self._cached()
        for entry in entries:
            record = records.get(entry["ID"])
            if record is not None and record.chain:
                entry["Size"] = self._snapshots.get(record.chain, 0) + blobs.get(record.layer.blob, 0)
        return entries


def _parts(image: Image) -> set[str]:
    return {*image.record.blobs, *(f"+{chain_id}" for chain_id in image.chain_ids)}


def _cache_parts(record: CacheRecord) -> set[str]:
    return {f"+{record.chain}", record.layer.blob} if record.chain and record.layer is not None else set()
