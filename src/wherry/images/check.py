"""`system check`: is everything there that images need, and is it what it should be? And mend what can be mended.

Every blob is hashed again. Of every snapshot the description is read and the files' bytes are counted: they must be
those that were unpacked (a change that leaves every length as it was is not seen). A layer whose blob is whole is
unpacked again; a blob that is not is written anew from its snapshot, where that gives the same bytes (layers that were
made here), or pulled again, where the image has a name in a registry. What cannot be mended is said to be so; nothing
is thrown away that nothing replaces, but for blobs that no longer are what their name says.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import Awaitable, Callable
from typing import Any

from wherry.errors import StoreCorrupt, WherryError
from wherry.images.layers import unpack_layer
from wherry.images.stores import Progress, Stores
from wherry.oci import digest as digests
from wherry.oci.digest import Digest
from wherry.oci.reference import Reference, parse_normalized
from wherry.snapshots.measure import inodes
from wherry.store.images import ImageRecord, LayerRecord

_CHUNK = 1 << 20

PullAgain = Callable[[Reference], Awaitable[object]]
"""Pull a name with a digest."""


class Finding:
    """One thing that is not as it should be.

    Fields: `kind` (`blob`, `snapshot`), `id` (digest or chain id), `problem` (`missing`, `corrupt`), `detail`, `images`
    (names or short ids of those that need it; none where nobody does), `outcome` (what repair came to, or nothing),
    `mended`.
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


async def check(stores: Stores, progress: Progress, pull_again: PullAgain | None = None) -> dict[str, Any]:
    """Check everything, and with `pull_again` mend what can be mended.

    Args:
        progress: takes `{"status", "id", "progressDetail"}` for each thing that is checked.
        pull_again: pulls a name with a digest; None only looks.

    Returns:
        `{"Blobs", "Snapshots", "Images"}` (how many were checked) and `Findings`.
    """
    needs = _Needs(stores)
    findings = [*await _blobs(stores, needs, progress), *await _snapshots(stores, needs, progress)]
    if pull_again is not None and findings:
        await _Repair(stores, needs, pull_again, progress).run(findings)
    return {
        "Blobs": needs.checked_blobs,
        "Snapshots": needs.checked_snapshots,
        "Images": len(stores.records.by_id),
        "Findings": [finding.to_json() for finding in findings],
    }


class _Needs:
    """Who needs what."""

    def __init__(self, stores: Stores) -> None:
        self.blobs: dict[str, list[ImageRecord]] = {}
        self.snapshots: dict[str, tuple[LayerRecord, str | None, list[ImageRecord]]] = {}
        self.checked_blobs = self.checked_snapshots = 0
        self._stores = stores
        for record in stores.records.by_id.values():
            for digest in record.blobs:
                self.blobs.setdefault(digest, []).append(record)
            parents = [None, *record.chain_ids]
            for chain_id, layer, parent in zip(record.chain_ids, record.layers, parents, strict=False):
                self.snapshots.setdefault(chain_id, (layer, parent, []))[2].append(record)

    def names(self, records: list[ImageRecord]) -> list[str]:
        """What people call these images."""
        shown = []
        for record in records:
            names = [parse_normalized(name).familiar() for name in sorted(self._stores.records.names_of(record.id))]
            shown.append(names[0] if names else Digest(record.id).short)
        return sorted(shown)


async def _blobs(stores: Stores, needs: _Needs, progress: Progress) -> list[Finding]:
    found: list[Finding] = []
    there = await asyncio.to_thread(lambda: dict(stores.blobs.walk()))
    for digest, size in there.items():
        progress({"status": "Checking blob", "id": digest.short, "progressDetail": {"current": size, "total": size}})
        problem = await asyncio.to_thread(_hash, stores.blobs.path(digest), digest)
        needs.checked_blobs += 1
        # what went away meanwhile was removed
        if problem and (stores.blobs.exists(digest) or str(digest) in needs.blobs):
            users = needs.blobs.get(str(digest), [])
            found.append(Finding("blob", str(digest), "corrupt", problem, needs.names(users)))
    for wanted, users in needs.blobs.items():
        if wanted not in there and users[0].id in stores.records.by_id:
            found.append(Finding("blob", wanted, "missing", "its file is not there", needs.names(users)))
    return found


def _hash(path: str, digest: Digest) -> str:
    """Read a blob to its end; returns what is wrong, or nothing."""
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


async def _snapshots(stores: Stores, needs: _Needs, progress: Progress) -> list[Finding]:
    found: list[Finding] = []
    for chain_id, (layer, _, users) in needs.snapshots.items():
        progress({"status": "Checking layer", "id": Digest(chain_id).short, "progressDetail": {}})
        if not await asyncio.to_thread(stores.overlay.exists, chain_id):
            if users[0].id in stores.records.by_id:
                found.append(Finding("snapshot", chain_id, "missing", "its tree is not there", needs.names(users)))
            continue
        needs.checked_snapshots += 1
        problem = await _tree(stores, chain_id, layer)
        if problem and stores.overlay.exists(chain_id):
            found.append(Finding("snapshot", chain_id, "corrupt", problem, needs.names(users)))
    others = sorted(set(stores.layers_in_use()) - needs.snapshots.keys())
    gone = await asyncio.to_thread(lambda: [chain_id for chain_id in others if not stores.overlay.exists(chain_id)])
    words = "a container stands on it, its image is gone"
    return [*found, *(Finding("snapshot", chain_id, "missing", words, []) for chain_id in gone)]


async def _tree(stores: Stores, chain_id: str, layer: LayerRecord) -> str:
    """Look at a snapshot; returns what is wrong, or nothing."""
    try:
        counted = await asyncio.to_thread(_look, stores, chain_id, layer)
    except (WherryError, OSError) as error:
        return str(error)
    if counted == layer.unpacked or counted == await _unpacked_again(stores, layer):
        return ""
    return f"its files have {counted} bytes, {layer.unpacked} were unpacked"


def _look(stores: Stores, chain_id: str, layer: LayerRecord) -> int:
    stores.overlay.check(chain_id)
    said = stores.overlay.meta(chain_id).get("diff_id")
    if said not in (layer.diff_id, None):
        raise StoreCorrupt(f"layer {chain_id}: its description is of {said}")
    return _count(stores.overlay.path(chain_id))


def _count(tree: str) -> int:
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return sum(found.st_size for found in inodes(fd) if not stat.S_ISDIR(found.st_mode))
    finally:
        os.close(fd)


async def _unpacked_again(stores: Stores, layer: LayerRecord) -> int | None:
    """What a layer's tree holds when it is unpacked: less than was counted where the layer writes a file twice."""
    staging = stores.overlay.stage()
    try:
        source = stores.blobs.open(digests.parse(layer.blob))
        target = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            await stores.unpack(source, target, layer.diff_id)
        finally:
            os.close(source)
            os.close(target)
        return await asyncio.to_thread(_count, staging)
    except WherryError:
        return None  # its blob is bad, which is found by itself
    finally:
        await asyncio.to_thread(stores.overlay.abandon, staging)


class _Repair:
    def __init__(self, stores: Stores, needs: _Needs, pull_again: PullAgain, progress: Progress) -> None:
        self._stores = stores
        self._needs = needs
        self._pull_again = pull_again
        self._progress = progress
        self._pulled: dict[str, str] = {}

    async def run(self, findings: list[Finding]) -> None:
        blobs = [finding for finding in findings if finding.kind == "blob"]
        for finding in blobs:
            self._progress({"status": "Repairing blob", "id": Digest(finding.id).short, "progressDetail": {}})
            try:
                await self._blob(finding)
            except WherryError as error:
                finding.outcome = str(error)
        for finding in findings:
            if finding.kind == "snapshot":
                self._progress({"status": "Repairing layer", "id": Digest(finding.id).short, "progressDetail": {}})
                try:
                    await self._snapshot(finding)
                except WherryError as error:
                    finding.outcome = str(error)

    async def _blob(self, finding: Finding) -> None:
        digest = digests.parse(finding.id)
        users = self._needs.blobs.get(finding.id, [])
        if finding.problem == "corrupt":
            # it is not what its name says, and would only keep what is from coming
            await asyncio.to_thread(self._stores.blobs.remove, digest)
        if not users:
            finding.mended, finding.outcome = True, "removed: nobody needs it"
            return
        if await self._from_snapshot(digest):
            finding.mended, finding.outcome = True, "written again from its unpacked layer"
            return
        reasons = []
        for record in users:
            reason = await self._from_registry(record)
            if not reason and await asyncio.to_thread(self._is_good, digest):
                finding.mended, finding.outcome = True, "pulled again"
                return
            reasons.append(reason or "the registry gave something else")
        finding.outcome = f"not mended: {reasons[0]}"

    def _is_good(self, digest: Digest) -> bool:
        return self._stores.blobs.exists(digest) and not _hash(self._stores.blobs.path(digest), digest)

    async def _from_snapshot(self, digest: Digest) -> bool:
        """Archive the snapshots of the layer with that blob; True where the blob came out of it."""
        for chain_id, (layer, _, _) in self._needs.snapshots.items():
            if layer.blob != digest or not self._stores.overlay.exists(chain_id):
                continue
            for gzip in (layer.blob != layer.diff_id, False):
                if await self._archive(chain_id, digest, gzip=gzip):
                    return True
        return False

    async def _archive(self, chain_id: str, digest: Digest, *, gzip: bool) -> bool:
        args: dict[str, Any] = {"gzip": gzip, "newest": None, "mounted": False, "below": []}
        tree = os.open(self._stores.overlay.path(chain_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            with self._stores.blobs.ingest() as ingest:
                blob = ingest.write_fd()
                try:
                    written = await self._stores.write_layer(tree, blob, null, args)
                finally:
                    os.close(blob)
                if written["digest"] != digest:
                    return False
                await asyncio.to_thread(ingest.commit_written, digest, written["compressed_size"])
                return True
        finally:
            os.close(tree)
            os.close(null)

    async def _from_registry(self, record: ImageRecord) -> str:
        """Pull an image again, once; returns why that was not to be, or nothing."""
        if record.id not in self._pulled:
            self._pulled[record.id] = await self._pull(record)
        return self._pulled[record.id]

    async def _pull(self, record: ImageRecord) -> str:
        names = [parse_normalized(name) for name in sorted(self._stores.records.names_of(record.id))]
        # by the digest that it was pulled by; a tag alone may mean another image by now
        wanted = [name for name in names if name.digest]
        if not wanted:
            return "it was not pulled from a registry: load or build it again"
        reason = ""
        for name in wanted:
            try:
                await self._pull_again(name)
            except WherryError as error:
                reason = str(error)
                continue
            return ""
        return reason

    async def _snapshot(self, finding: Finding) -> None:
        if finding.id not in self._needs.snapshots:
            finding.outcome = "not mended: nothing says what it was made of; the container cannot start any more"
            return
        layer, parent, _ = self._needs.snapshots[finding.id]
        if finding.problem == "missing" and self._stores.overlay.exists(finding.id):
            finding.mended, finding.outcome = True, "unpacked again, with its blob"
            return
        digest = digests.parse(layer.blob)
        if not await asyncio.to_thread(self._is_good, digest):
            finding.outcome = f"not mended: its blob {digest.short} is not there either"
            return
        if finding.problem == "corrupt":
            if finding.id in self._stores.layers_in_use():
                finding.outcome = "not mended: a container stands on it; remove that first"
                return
            await asyncio.to_thread(self._stores.overlay.remove, finding.id)
        fd = self._stores.blobs.open(digest)
        try:
            with self._stores.pinned([finding.id]):
                await unpack_layer(self._stores, fd, finding.id, layer.diff_id, parent)
        finally:
            os.close(fd)
        finding.mended, finding.outcome = True, "unpacked again from its blob"
