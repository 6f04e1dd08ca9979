"""`system check --repair`: mend what a check has found.

A layer whose blob is whole is unpacked again, and takes the place of the damaged one in one step; a blob that is not is
written anew from its snapshot, where that gives the same bytes (layers that were made here), or pulled again, where the
image has a name in a registry. What the build cache has lost it forgets. What cannot be mended is said to be so, and
nothing is thrown away that nothing replaces, but for blobs that no longer are what their name says.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from wherry.errors import WherryError
from wherry.images.check import CORRUPT, MISSING, UNVERIFIED, Check, Finding, hash_blob
from wherry.images.layers import Batch
from wherry.images.load import discard
from wherry.images.stores import Progress, Stores
from wherry.oci import digest as digests
from wherry.oci.digest import Digest
from wherry.oci.reference import Reference, parse_normalized
from wherry.store.images import ImageRecord, LayerRecord

PullAgain = Callable[[Reference], Awaitable[object]]
"""Pull a name with a digest."""


async def repair(stores: Stores, found: Check, pull_again: PullAgain, progress: Progress) -> None:
    """Mend what a check has found, and write down what came of it.

    Args:
        found: a check that has run.
        pull_again: pulls a name with a digest.
        progress: takes `{"status", "id", "progressDetail"}` for each thing that is mended.
    """
    work = _Repair(stores, found, pull_again)
    # blobs first: layers are unpacked from them
    for finding in sorted(found.findings, key=lambda one: one.kind != "blob"):
        words, one = ("blob", work.blob) if finding.kind == "blob" else ("layer", work.snapshot)
        progress({"status": f"Repairing {words}", "id": Digest(finding.id).short, "progressDetail": {}})
        try:
            await one(finding)
        except WherryError as error:
            finding.outcome = f"not mended: {error}"


class _Repair:
    def __init__(self, stores: Stores, found: Check, pull_again: PullAgain) -> None:
        self._stores = stores
        self._found = found
        self._needs = found.needs
        self._pull_again = pull_again
        self._pulled: dict[str, str] = {}

    # -- blobs

    async def blob(self, finding: Finding) -> None:
        digest = digests.parse(finding.id)
        if finding.problem == CORRUPT:
            # it is not what its name says, and would only keep what is from coming
            await asyncio.to_thread(self._stores.blobs.remove, digest)
        if finding.id not in self._needs.blobs:
            _mended(finding, "removed: nobody needs it")
        elif await self._from_snapshot(digest):
            self._is_good_again(finding, "written again from its unpacked layer")
        elif self._needs.blobs[finding.id]:
            await self._from_registry(finding, digest)
        else:
            await self._of_others(finding)

    def _is_good_again(self, finding: Finding, words: str) -> None:
        self._found.blob_is_good(finding.id)
        _mended(finding, words)

    async def _is_good(self, digest: Digest) -> bool:
        path = self._stores.blobs.path(digest)
        return self._stores.blobs.exists(digest) and not await asyncio.to_thread(hash_blob, path, digest)

    async def _from_snapshot(self, digest: Digest) -> bool:
        """Archive the snapshots of the layer with that blob; True where the blob came out of it."""
        for chain_id, (layer, _, _) in self._needs.layers.items():
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

    async def _from_registry(self, finding: Finding, digest: Digest) -> None:
        reasons = []
        for record in self._needs.blobs[finding.id]:
            # each image once, whatever is missing of it
            if record.id not in self._pulled:
                self._pulled[record.id] = await self._pull(record)
            if not self._pulled[record.id] and await self._is_good(digest):
                return self._is_good_again(finding, "pulled again")
            reasons.append(self._pulled[record.id] or "the registry gave something else")
        finding.outcome = f"not mended: {reasons[0]}"
        return None

    async def _pull(self, record: ImageRecord) -> str:
        """Pull an image again; returns why that was not to be, or nothing."""
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

    async def _of_others(self, finding: Finding) -> None:
        """A blob that only the build cache, or another platform of an index, has."""
        if await self._forgotten(
            [chain for chain, (layer, _, _) in self._needs.layers.items() if layer.blob == finding.id]
        ):
            _mended(finding, "forgotten: its step runs again when it is asked for")
        else:
            finding.outcome = "not mended: it is of another platform of that image: pull or load that again"

    async def _forgotten(self, chain_ids: list[str]) -> bool:
        """Let the build cache do without layers that no image has; False where it has none of them."""
        if not chain_ids:
            return False
        blobs = {self._needs.layers[chain_id][0].blob for chain_id in chain_ids}
        for holder in self._stores.holders:
            for chain_id in chain_ids:
                await holder.forget(chain_id)
        discard(self._stores, blobs, set(chain_ids))
        return True

    # -- snapshots

    async def snapshot(self, finding: Finding) -> None:
        if finding.id not in self._needs.layers:
            finding.outcome = "not mended: nothing says what it was made of; make its container anew"
            return None
        layer, parent, images = self._needs.layers[finding.id]
        if finding.problem == MISSING and self._stores.overlay.exists(finding.id):
            return _mended(finding, "unpacked again, with its blob")
        if not self._stores.overlay.exists(finding.id) and finding.id not in self._stores.needed_layers():
            return _mended(finding, "forgotten, with its blob")
        if not await self._is_good(digests.parse(layer.blob)):
            finding.outcome = f"not mended: its blob {digests.parse(layer.blob).short} is not there either"
            if not images and await self._forgotten([finding.id]):
                _mended(finding, "forgotten: its step runs again when it is asked for")
            return None
        if finding.problem == UNVERIFIED:
            finding.problem, finding.detail = await self._again(finding, layer)
            if not finding.problem:
                finding.problem = UNVERIFIED
                return _mended(finding, "compared with its mended blob: it is whole")
            if finding.problem == UNVERIFIED:
                finding.outcome = f"not mended: {finding.detail}"
                return None
        await self._unpack(finding, layer, parent)
        return None

    async def _again(self, finding: Finding, layer: LayerRecord) -> tuple[str, str]:
        problem, detail = await self._found.compare(finding.id, layer)
        return problem, detail or finding.detail

    async def _unpack(self, finding: Finding, layer: LayerRecord, parent: str | None) -> None:
        fd = self._stores.blobs.open(digests.parse(layer.blob))
        try:
            async with Batch(self._stores) as batch:
                await batch.unpack(fd, finding.id, layer.diff_id, parent)
                if self._stores.overlay.exists(finding.id):
                    await batch.replace()
                else:
                    with self._stores.pinned([finding.id]):
                        await batch.commit()
        finally:
            os.close(fd)
        _mended(finding, "unpacked again from its blob")


def _mended(finding: Finding, words: str) -> None:
    finding.mended, finding.outcome = True, words
