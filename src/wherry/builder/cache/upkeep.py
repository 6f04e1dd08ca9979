"""What the builder keeps beside layers: cache mounts and sent contexts, as `system df` and `builder prune` see them."""

import os
import shutil
import time

import msgspec

from wherry.builder.cache.store import Record
from wherry.builder.contexts.sent import SentContexts
from wherry.builder.mounts import CacheLocks
from wherry.errors import KernelError
from wherry.snapshots.diff import usage
from wherry.store.images import LayerRecord
from wherry.values import times
from wherry.values.jsontypes import Json

KIND = "exec.cachemount"


class Upkeep:
    """Looks after both.

    Args:
        directory: where cache mounts lie.
        locks: who uses them.
        sent: the contexts.
    """

    def __init__(self, directory: str, locks: CacheLocks, sent: SentContexts) -> None:
        self._directory = directory
        self._locks = locks
        self._sent = sent
        self._sizes: dict[str, tuple[float, int]] = {}

    def listing(self) -> list[Json]:
        """Docker's `BuildCache` entries. Blocks: directories that were used since the last time are walked."""
        entries = []
        for key in sorted(os.listdir(self._directory)):
            meta = self._meta(key)
            if meta is None:
                continue
            id_, used = meta
            entries.append(_entry(key, KIND, f"cache mount {id_}", self._size(key, used), used))
            entries[-1]["InUse"] = self._locks.used.get(key, 0) > 0
        size = self._sent.size()
        if size:
            entries.append(_entry("contexts", "source.local", "build contexts that clients sent", size, time.time()))
        return entries

    def any(self) -> bool:
        """Whether there is a cache mount."""
        with os.scandir(self._directory) as entries:
            return next(entries, None) is not None

    def records(self) -> list[Record]:
        """Cache mounts as records of the cache, to be pruned beside it. Blocks: those that were used are walked."""
        found = []
        for key in sorted(os.listdir(self._directory)):
            meta = self._meta(key)
            if meta is not None:
                size, used = self._size(key, meta[1]), int(meta[1] * 1e9)
                layer = LayerRecord("", 0, "", size)
                found.append(Record(key, layer, f"mount:{key}", "", f"cache mount {meta[0]}", KIND, used, used, 1))
        return found

    def in_use(self, mounts: list[Record]) -> set[str]:
        """Chains, so to say, of those that a step has now."""
        return {record.chain for record in mounts if self._locks.used.get(record.id, 0)}

    def remove(self, ids: list[str]) -> None:
        """Remove those cache mounts of a list of records' ids that no step has. Blocks."""
        for key in ids:
            if len(key) > 25 and not self._locks.used.get(key, 0):
                shutil.rmtree(f"{self._directory}/{key}", ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a crash has left half. Blocks."""
        for key in os.listdir(self._directory):
            if self._meta(key) is None and not self._locks.used.get(key, 0):
                shutil.rmtree(f"{self._directory}/{key}", ignore_errors=True)

    def _meta(self, key: str) -> tuple[str, float] | None:
        try:
            with open(f"{self._directory}/{key}/meta.json", "rb") as file:
                value = msgspec.json.decode(file.read())
                return str(value.get("id")), os.fstat(file.fileno()).st_mtime
        except (OSError, msgspec.MsgspecError):
            return None

    def _size(self, key: str, used: float) -> int:
        if self._locks.used.get(key, 0):
            return _bytes(f"{self._directory}/{key}/fs")
        known = self._sizes.get(key)
        if known is None or known[0] != used:
            known = self._sizes[key] = (used, _bytes(f"{self._directory}/{key}/fs"))
        return known[1]


def _bytes(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0  # the step that makes it has not come so far
    try:
        return usage(fd)[0]
    except KernelError:
        return 0  # a step changes it under our eyes; it is measured again once none does
    finally:
        os.close(fd)


def _entry(id_: str, kind: str, description: str, size: int, used: float) -> Json:
    when = times.exact(int(used * 1e9))
    return {
        "ID": id_,
        "Type": kind,
        "Description": description,
        "InUse": False,
        "Shared": False,
        "Size": size,
        "CreatedAt": when,
        "LastUsedAt": when,
        "UsageCount": 1,
    }
