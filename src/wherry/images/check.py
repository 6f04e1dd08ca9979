"""`system check`: is everything there that images and the build cache need, and is it what it should be?

Every blob is hashed again. Every snapshot is compared with its blob, file by file (`compare`); one whose image is gone,
and which a container stands on, with the digest that was written down when its blob went. `repair` mends what is found.
"""

import asyncio
import hashlib
import os
from typing import Any

from wherry.errors import StoreCorrupt, WherryError
from wherry.images.compare import archive_digest, with_blob
from wherry.images.stores import Progress, Stores
from wherry.oci.digest import Digest
from wherry.oci.reference import parse_normalized
from wherry.store.images import ImageRecord, LayerRecord

_CHUNK = 1 << 20

MISSING, CORRUPT, UNVERIFIED = "missing", "corrupt", "unverified"


class Finding:
    """One thing that is not as it should be.

    Fields: `kind` (`blob`, `snapshot`), `id` (digest or chain id), `problem` (`missing`, `corrupt`, `unverified`: it
    could not be compared), `detail`, `images` (names or short ids of those that need it; none where nobody does),
    `outcome` (what repair came to, or nothing), `mended`.
    """

    __slots__ = ("detail", "id", "images", "kind", "mended", "outcome", "problem")

    def __init__(self, kind: str, id_: str, problem: str, detail: str, images: list[str]) -> None:
        self.kind = kind
        self.id = id_
        self.problem = problem
        self.detail = detail
        self.images = images
        self.outcome = ""
        self.mended = False

    def to_json(self) -> dict[str, Any]:
        """The fields as the API gives them."""
        return {
            "Kind": self.kind,
            "Id": self.id,
            "Problem": self.problem,
            "Detail": self.detail,
            "Images": self.images,
            "Outcome": self.outcome,
            "Mended": self.mended,
        }


class Needs:
    """Who needs what: images, indexes that names stand for, holders (the build cache).

    Attributes:
        blobs: images by blob; none for what only an index or a holder needs.
        layers: by chain id: what is said of a layer, the chain id of the one below, the images that have it.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self.blobs: dict[str, list[ImageRecord]] = {}
        self.layers: dict[str, tuple[LayerRecord, str | None, list[ImageRecord]]] = {}
        self._others: dict[str, list[str]] = {}
        for record in stores.records.by_id.values():
            for digest in record.blobs:
                self.blobs.setdefault(digest, []).append(record)
            parents = [None, *record.chain_ids]
            for chain_id, layer, parent in zip(record.chain_ids, record.layers, parents, strict=False):
                self.layers.setdefault(chain_id, (layer, parent, []))[2].append(record)
        for name, index in stores.records.indexes.items():
            for digest in index.blobs:
                if digest not in self.blobs or digest in self._others:
                    self.blobs.setdefault(digest, [])
                    self._others.setdefault(digest, []).append(parse_normalized(name).familiar())
        for holder in stores.holders:
            for chain_id, layer, parent in holder.layers():
                if not self.layers.setdefault(chain_id, (layer, parent, []))[2]:
                    self._others.setdefault(chain_id, []).append(holder.name)
                if not self.blobs.setdefault(layer.blob, []):
                    self._others.setdefault(layer.blob, []).append(holder.name)

    def users(self, id_: str) -> list[str]:
        """What people call those who need a blob or a layer."""
        records = self.blobs.get(id_) or (self.layers[id_][2] if id_ in self.layers else [])
        shown = []
        for record in records:
            names = [parse_normalized(name).familiar() for name in sorted(self._stores.records.names_of(record.id))]
            shown.append(names[0] if names else Digest(record.id).short)
        return sorted({*shown, *self._others.get(id_, ())})


class Check:
    """One check: what it looks at, and what it has found.

    Args:
        progress: takes `{"status", "id", "progressDetail"}` for each thing that is looked at.
    """

    def __init__(self, stores: Stores, progress: Progress) -> None:
        self._stores = stores
        self._progress = progress
        self.needs = Needs(stores)
        self.findings: list[Finding] = []
        self._bad_blobs: set[str] = set()
        self._blobs = self._snapshots = 0

    async def run(self) -> None:
        """Look at everything."""
        await self._all_blobs()
        await self._all_snapshots()

    def report(self) -> dict[str, Any]:
        """`{"Blobs", "Snapshots", "Images"}` (how many were looked at) and `Findings`."""
        return {
            "Blobs": self._blobs,
            "Snapshots": self._snapshots,
            "Images": len(self._stores.records.by_id),
            "Findings": [finding.to_json() for finding in self.findings],
        }

    def _found(self, kind: str, id_: str, problem: str, detail: str) -> None:
        self.findings.append(Finding(kind, id_, problem, detail, self.needs.users(id_)))
        if kind == "blob":
            self._bad_blobs.add(id_)

    # -- blobs

    async def _all_blobs(self) -> None:
        stores = self._stores
        there = await asyncio.to_thread(lambda: dict(stores.blobs.walk()))
        for digest, size in there.items():
            self._tell("Checking blob", digest, size, size)
            problem = await asyncio.to_thread(hash_blob, stores.blobs.path(digest), digest)
            self._blobs += 1
            # what went away meanwhile was removed
            if problem and (stores.blobs.exists(digest) or str(digest) in self.needs.blobs):
                self._found("blob", str(digest), CORRUPT, problem)
        for wanted in self.needs.blobs.keys() - {str(digest) for digest in there}:
            if wanted in stores.recorded_blobs() or any(wanted in holder.blobs() for holder in stores.holders):
                self._found("blob", wanted, MISSING, "its file is not there")

    # -- snapshots

    async def _all_snapshots(self) -> None:
        for chain_id, (layer, _, _) in self.needs.layers.items():
            self._tell("Checking layer", Digest(chain_id), 0, layer.size)
            if self._is_there(chain_id):
                problem, detail = await self.compare(chain_id, layer)
                # what went away meanwhile was removed
                if problem and self._stores.overlay.exists(chain_id):
                    self._found("snapshot", chain_id, problem, detail)
        for chain_id in sorted(set(self._stores.layers_in_use()) - self.needs.layers.keys()):
            self._tell("Checking layer", Digest(chain_id), 0, 0)
            if not self._stores.overlay.exists(chain_id):
                self._found("snapshot", chain_id, MISSING, "a container stands on it, its image is gone")
                continue
            self._snapshots += 1
            problem, detail = await self._orphan(chain_id)
            if problem and self._stores.overlay.exists(chain_id):
                self._found("snapshot", chain_id, problem, detail)

    def _is_there(self, chain_id: str) -> bool:
        if self._stores.overlay.exists(chain_id):
            self._snapshots += 1
            return True
        if chain_id in self._stores.needed_layers():
            self._found("snapshot", chain_id, MISSING, "its tree is not there")
        return False

    async def compare(self, chain_id: str, layer: LayerRecord) -> tuple[str, str]:
        """Look at a snapshot; returns what kind of problem it has, and in words, or nothing twice."""
        try:
            said = await asyncio.to_thread(_described, self._stores, chain_id)
            if said.get("diff_id") not in (layer.diff_id, None):
                raise StoreCorrupt(f"layer {chain_id}: its description is of {said['diff_id']}")
        except WherryError as error:
            return CORRUPT, str(error)
        if layer.blob in self._bad_blobs:
            return await self._by_archive(chain_id, layer.diff_id, "its blob is not what it should be")

        def told(done: int) -> None:
            self._tell("Checking layer", Digest(chain_id), done, layer.size)

        try:
            difference = await with_blob(self._stores, chain_id, layer, told)
        except WherryError as error:
            return UNVERIFIED, str(error)
        return (CORRUPT, difference) if difference else ("", "")

    async def _orphan(self, chain_id: str) -> tuple[str, str]:
        """Look at a snapshot that has no image any more."""
        try:
            said = await asyncio.to_thread(_described, self._stores, chain_id)
        except WherryError as error:
            return CORRUPT, str(error)
        known = said.get("tree")
        if known is None:
            words = "a container stands on it, its image is gone, and nothing says what it was"
            return await self._by_archive(chain_id, said.get("diff_id"), words)
        problem, detail = await self._by_archive(chain_id, known, "its files are not those that it had")
        return (CORRUPT if problem and known else problem), detail

    async def _by_archive(self, chain_id: str, wanted: object, words: str) -> tuple[str, str]:
        """Compare the archive of a snapshot with a digest; other bytes may come from another archiver."""
        try:
            found = await archive_digest(self._stores, chain_id)
        except WherryError as error:
            return UNVERIFIED, str(error)
        return ("", "") if found == wanted else (UNVERIFIED, words)

    def blob_is_good(self, digest: str) -> None:
        """Note that a blob was mended."""
        self._bad_blobs.discard(digest)

    def _tell(self, status: str, digest: Digest, current: int, total: int) -> None:
        detail = {"current": current, "total": total} if total else {}
        self._progress({"status": status, "id": digest.short, "progressDetail": detail})


def _described(stores: Stores, chain_id: str) -> dict[str, object]:
    """Return what was written about a snapshot. Raises `StoreCorrupt`, `NewerSchema`."""
    stores.overlay.check(chain_id)
    return stores.overlay.meta(chain_id)


def hash_blob(path: str, digest: Digest) -> str:
    """Read a blob to its end; returns what is wrong, or nothing. Blocks: for a thread."""
    hasher = hashlib.new(digest.algorithm)
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
    except FileNotFoundError:
        return "its file is not there"
    except OSError as error:
        return f"it cannot be read: {os.strerror(error.errno or 0).lower()}"
    if hasher.hexdigest() != digest.hex:
        return f"its content is {digest.algorithm}:{hasher.hexdigest()}"
    return ""
