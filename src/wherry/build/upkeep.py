"""What the builder keeps beside layers: cache mounts and sent contexts, as `system df` and `builder prune` see them."""

import os
import shutil
import time
from typing import Any

import msgspec

from wherry.build.cache import moment
from wherry.build.mounts import CacheLocks
from wherry.build.sent import SentContexts

Json = dict[str, Any]


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
            entries.append(_entry(key[:25], "exec.cachemount", f"cache mount {id_}", self._size(key, used), used))
            entries[-1]["InUse"] = self._locks.used.get(key, 0) > 0
        size = self._sent.size()
        if size:
            entries.append(_entry("contexts", "source.local", "build contexts that clients sent", size, time.time()))
        return entries

    def prune(self, filters: dict[str, list[str]]) -> tuple[list[str], int]:
        """Remove cache mounts that no step uses; returns ids and bytes. Blocks.

        Args:
            filters: `type` and `id` count here; with others nothing is removed.
        """
        if set(filters) - {"type", "id"}:
            return [], 0
        if "type" in filters and "exec.cachemount" not in filters["type"]:
            return [], 0
        gone, freed = [], 0
        for key in sorted(os.listdir(self._directory)):
            meta = self._meta(key)
            if self._locks.used.get(key, 0) or ("id" in filters and not key.startswith(tuple(filters["id"]))):
                continue
            freed += self._size(key, meta[1]) if meta is not None else 0
            shutil.rmtree(f"{self._directory}/{key}", ignore_errors=True)
            gone.append(key[:25])
        return gone, freed

    def _meta(self, key: str) -> tuple[str, float] | None:
        try:
            with open(f"{self._directory}/{key}/meta.json", "rb") as file:
                value = msgspec.json.decode(file.read())
                return str(value.get("id")), os.fstat(file.fileno()).st_mtime
        except (OSError, msgspec.MsgspecError):
            return None

    def _size(self, key: str, used: float) -> int:
        known = self._sizes.get(key)
        if known is not None and known[0] == used and not self._locks.used.get(key, 0):
            return known[1]
        total, linked = 0, set()
        for top, _, files in os.walk(f"{self._directory}/{key}/fs"):
            for name in files:
                try:
                    found = os.lstat(f"{top}/{name}")
                except FileNotFoundError:
                    continue
                if found.st_ino in linked:
                    continue  # another name of a file that was counted
                if found.st_nlink > 1:
                    linked.add(found.st_ino)
                total += found.st_size
        self._sizes[key] = (used, total)
        return total


def _entry(id_: str, kind: str, description: str, size: int, used: float) -> Json:
    when = moment(int(used * 1e9))
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
