"""Cache mounts that travel: what `RUN --mount=type=cache` keeps, as archives in an exported cache, and back.

A mount goes out as it is while nobody writes it: for one that steps have one after the other (`sharing=locked`,
`private`) the next step waits; a shared one is read again where it changed too much. It comes back whole or not at all:
unpacked in a staged directory by the worker that brings in volumes, then renamed to its place. One that is there stays.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import msgspec

from wherry.builder.cache.documents import MountEntry
from wherry.builder.cache.recompress import Packing, fill
from wherry.builder.graph.operations import Exec, Vertex, walk
from wherry.builder.mounts import CacheLocks, cache_key
from wherry.builder.ports import RunWorker
from wherry.errors import Conflict, KernelError
from wherry.images.layers import whole
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.store.atomic import discard, fsync_dir, write_atomic
from wherry.store.images import LayerRecord

if TYPE_CHECKING:
    from wherry.builder.contexts.root import Result

_ATTEMPTS = 5


class CacheMounts:
    """The cache mounts of an engine.

    Args:
        directory: where they lie.
        locks: who uses them.
        stores: for blobs, and for staging.
        run_worker: the engine's.
    """

    def __init__(self, directory: str, locks: CacheLocks, stores: Stores, run_worker: RunWorker) -> None:
        self._directory = directory
        self._locks = locks
        self._stores = stores
        self._run_worker = run_worker

    async def archive(
        self, key: str, *, alone: bool, packing: Packing, hold: Callable[[str], None]
    ) -> tuple[str, LayerRecord] | None:
        """Write a mount's content into a blob.

        Args:
            key: its directory's name.
            alone: one step at a time has it: that step is waited for.
            packing: how it is compressed.
            hold: is told the blob's digest before it is there.

        Returns:
            its id, and the blob; None where there is no such mount.

        Raises:
            Conflict: it changed again and again while it was read.
            KernelError: it cannot be read, or the disk is full.
        """
        async with self._locks.lock(key) if alone else nullcontext():
            id_ = self._id(key)
            if id_ is None:
                return None
            # it is not pruned meanwhile
            self._locks.used[key] = self._locks.used.get(key, 0) + 1
            try:
                for attempt in range(_ATTEMPTS):
                    try:
                        return id_, await self._read(f"{self._directory}/{key}/fs", packing, hold)
                    except Conflict:
                        if attempt == _ATTEMPTS - 1:
                            raise
            finally:
                self._locks.used[key] -= 1
        raise AssertionError("the last attempt returns or raises")

    async def _read(self, path: str, packing: Packing, hold: Callable[[str], None]) -> LayerRecord:
        loop = asyncio.get_running_loop()
        source = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with self._stores.blobs.ingest() as ingest:
            packed = loop.run_in_executor(None, fill, ingest, reading, packing)
            try:
                await self._run_worker("volume-copy", {"action": "export"}, {"source": source, "data": writing})
            finally:
                os.close(writing)
                os.close(source)
                await whole(packed)  # its error says more than that of the pipe it closed
            size = ingest.offset
            hold(str(ingest.digest))
            digest = await whole(asyncio.to_thread(ingest.commit))
            return LayerRecord(str(digest), size, packed.result(), 0)

    async def restore(self, entry: MountEntry, layer: LayerRecord) -> bool:
        """Make a mount of an archive whose blob is here, unless there is one; returns whether it was made.

        Raises:
            HostileInput, StoreCorrupt: the archive is not what it should be; nothing of it is left.
        """
        target = f"{self._directory}/{entry.key}"
        async with self._locks.lock(f"{entry.key} new"):
            if self._id(entry.key) is not None or self._locks.used.get(entry.key, 0):
                return False
            overlay = self._stores.overlay
            staging = overlay.stage()
            try:
                await self._unpack(staging, layer)
                await asyncio.to_thread(_show, os.path.dirname(staging), target, entry.id, self._stores.roots.trash)
            except BaseException:
                overlay.abandon(staging)
                raise
        return True

    async def _unpack(self, staging: str, layer: LayerRecord) -> None:
        data = self._stores.blobs.open(digests.parse(layer.blob))
        try:
            into = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                await self._run_worker("volume-copy", {"action": "import"}, {"target": into, "data": data})
            finally:
                os.close(into)
        finally:
            os.close(data)

    def _id(self, key: str) -> str | None:
        try:
            with open(f"{self._directory}/{key}/meta.json", "rb") as file:
                return str(msgspec.json.decode(file.read()).get("id"))
        except (OSError, msgspec.MsgspecError, AttributeError):
            return None


def named(ends: list[Vertex | None], result_of: "Callable[[Vertex], Result]") -> list[tuple[str, bool]]:
    """The cache mounts of a graph: the directory's name, and whether one step at a time has it; each once.

    Args:
        ends: what was built.
        result_of: gives what a vertex, solved, has come to.
    """
    found: dict[str, bool] = {}
    for vertex in walk(ends):
        for mount in vertex.op.mounts if isinstance(vertex.op, Exec) else ():
            if mount.kind != "cache":
                continue
            below = vertex.inputs[mount.input] if mount.input >= 0 else None
            key = cache_key(mount, result_of(below) if below is not None else None)
            # of those that each step has for itself, the first
            found[f"{key}-0" if mount.sharing == "private" else key] = mount.sharing in ("locked", "private")
    return list(found.items())


def _show(staged: str, target: str, id_: str, trash: str) -> None:
    """Give a staged mount its place; its files are durable."""
    write_atomic(f"{staged}/meta.json", msgspec.json.encode({"v": 1, "id": id_}))
    if os.path.exists(target):
        discard(target, trash)  # one that was begun when a crash came
    try:
        os.rename(staged, target)
        fsync_dir(os.path.dirname(target))
    except OSError as error:
        raise KernelError("restore cache mount", error.errno or 0, target) from error
