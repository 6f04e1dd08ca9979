"""Collection of what nothing refers to, while everything else goes on.

A repository needs the manifests that its `index.json` lists, what they list, and nothing more. What it does not need
goes, once its lease is over: `delay` after it was last written, mounted, asked for or let go of (`Driver.touch`).

There is no window in which pushes wait: the long part (reading manifests, listing blobs) is done without a lock, on a
snapshot. Then, under the repository's lock and in small batches, the snapshot is brought up to date and every candidate
is looked at again, so that one is deleted only if at that moment nothing refers to it and its lease is over. Pushes,
mounts, tags and renewals hold the same lock for their own last step: they come before, and are seen, or after, and find
the blob gone, which they say. A blob that another repository links stays there.

If a manifest cannot be read, nobody knows what it needs: nothing of that repository is deleted.
"""

import logging
import time
from collections.abc import Iterable

from sqlalchemy.exc import SQLAlchemyError

from wherry.errors import Conflict, WherryError
from wherry.oci.digest import ALGORITHMS
from wherry.registry import names
from wherry.registry.content import manifests
from wherry.registry.content.layout import Snapshot
from wherry.registry.content.manifests import Facts
from wherry.registry.content.repositories import Repositories
from wherry.registry.errors import NameUnknown, OutOfSpace
from wherry.registry.storage.driver import Missing

log = logging.getLogger("wherry.registry")

_BATCH = 128
_TRIES = 3


class Freed:
    """What a collection did.

    Attributes:
        blobs, manifests, uploads, repositories: how many went.
        size: bytes that became free on the storage.
        damaged: repositories that were left alone because a manifest cannot be read.
    """

    __slots__ = ("blobs", "damaged", "manifests", "repositories", "size", "uploads")

    def __init__(self) -> None:
        self.blobs = 0
        self.manifests = 0
        self.uploads = 0
        self.repositories = 0
        self.size = 0
        self.damaged: list[str] = []


class Collector:
    """Collects; one at a time in a process, any number of processes.

    Args:
        repositories: what to collect.
        delay: seconds for which something unreferenced is kept.
        upload_delay: seconds for which an unfinished upload is kept after its last byte.
        delete_untagged: whether a manifest that has no tag, is part of no index and refers to no manifest that stays
            counts as unreferenced.
    """

    def __init__(
        self,
        repositories: Repositories,
        *,
        delay: float = 3600,
        upload_delay: float = 86400,
        delete_untagged: bool = False,
    ) -> None:
        self._repositories = repositories
        self._driver = repositories.driver
        self.delay = delay
        self.upload_delay = upload_delay
        self.delete_untagged = delete_untagged
        self._quiet: dict[str, str] = {}  # repository -> what it looked like when there was nothing to do

    def collect(self) -> Freed:
        """Do it once, everywhere."""
        freed = Freed()
        for name in list(self._repositories.names()):
            self._try(name, freed)
        self._expire_uploads(freed)
        freed.size += self._driver.sweep(time.time_ns() - int(max(self.delay, 60) * 1e9))
        return freed

    # --- one repository

    def _try(self, name: str, freed: Freed) -> None:
        """Collect a repository; begin anew where it changed under the part that is done without the lock."""
        try:
            for _ in range(_TRIES):
                snapshot = self._repositories.load(name)
                try:
                    self._collect_repository(name, snapshot, freed)
                    return
                except WherryError as error:
                    # a manifest that was deleted, and collected by another process, since the snapshot is no damage
                    if self._repositories.load(name).version != snapshot.version:
                        continue
                    freed.damaged.append(name)
                    log.error("repository not collected", extra={"repository": name, "reason": str(error)})
                    return
        except NameUnknown:
            return  # it went meanwhile
        except WherryError as error:
            freed.damaged.append(name)
            log.error("repository not collected", extra={"repository": name, "reason": str(error)})

    def _collect_repository(self, name: str, snapshot: Snapshot, freed: Freed) -> None:
        held = self._held(name)
        looks = f"{snapshot.version} {hash(frozenset(held))}"
        if self._quiet.get(name) == looks:
            return
        known: dict[str, Facts] = {}
        needed = self._needed(name, snapshot, known)
        waiting = False
        if self.delete_untagged:
            try:
                removed, waiting = self._delete_untagged(name, snapshot, known, freed)
            except OutOfSpace:  # the index cannot be written; that is when deleting blobs matters most
                removed, waiting = 0, True
            if removed:
                snapshot = self._repositories.load(name)
                needed = self._needed(name, snapshot, known)
        spare = [digest for digest in held if digest not in needed]
        due = [digest for digest in spare if self._is_due(name, digest)]
        gone: list[str] = []
        for start in range(0, len(due), _BATCH):
            gone += self._delete_blobs(name, due[start : start + _BATCH], known, freed)
        if gone:
            try:
                self._repositories.database.drop(name, gone)
            except SQLAlchemyError as error:
                log.warning("metadata not updated", extra={"repository": name, "reason": str(error)[:300]})
        if not snapshot.manifests and len(gone) == len(held) and self._delete_repository(name):
            freed.repositories += 1
        elif not spare and not waiting and (snapshot.manifests or held):
            self._quiet[name] = looks
        else:
            self._quiet.pop(name, None)

    def _held(self, name: str) -> list[str]:
        return [
            f"{algorithm}:{encoded}"
            for algorithm in ALGORITHMS
            for encoded in self._driver.list(names.blobs_key(name, algorithm))
        ]

    def _is_due(self, name: str, digest: str) -> bool:
        stat = self._driver.stat(names.blob_key(name, digest))
        return stat is not None and stat.modified <= time.time_ns() - int(self.delay * 1e9)

    def _needed(self, name: str, snapshot: Snapshot, known: dict[str, Facts]) -> set[str]:
        """Every digest that must stay; `known` keeps what was read, since a manifest never changes."""
        needed: set[str] = set()
        walked: set[str] = set()
        queue = [(digest, entry.media_type) for digest, entry in snapshot.manifests.items()]
        while queue:
            digest, media_type = queue.pop()
            if digest in walked:  # many indexes may lead to it, by as many ways as their levels multiply to
                continue
            walked.add(digest)
            needed.add(digest)
            facts = known.get(digest)
            if facts is None:
                raw = self._repositories.read_manifest(name, digest)
                facts = known[digest] = manifests.read(raw, media_type)
            needed |= facts.references()
            # what other tools put there lists only the outermost index
            queue += [
                (child, child_type)
                for child, (child_type, _) in facts.children.items()
                if child not in snapshot.manifests
                and child not in walked
                and self._driver.stat(names.blob_key(name, child)) is not None
            ]
        return needed

    def _delete_blobs(self, name: str, due: Iterable[str], known: dict[str, Facts], freed: Freed) -> list[str]:
        gone = []
        with self._driver.exclusive(names.lock_key(name)):
            needed = self._needed(name, self._repositories.load(name), known)
            for digest in due:
                key = names.blob_key(name, digest)
                stat = self._driver.stat(key)
                if digest in needed or stat is None or not self._is_due(name, digest):
                    continue
                if self._driver.delete(key):
                    gone.append(digest)
                    freed.blobs += 1
                    freed.size += stat.size if stat.links <= 1 else 0
        return gone

    def _delete_repository(self, name: str) -> bool:
        """Forget a repository that has held nothing for the delay."""
        with self._driver.exclusive(names.lock_key(name)):
            stat = self._driver.stat(names.index_key(name))
            if stat is None or stat.modified > time.time_ns() - int(self.delay * 1e9):
                return False
            if self._repositories.load(name).manifests or self._held(name):
                return False
            self._driver.delete(names.index_key(name))
            self._driver.delete(names.layout_key(name))
            self._driver.prune(names.repository_key(name))
            try:
                self._repositories.database.forget(name)
            except SQLAlchemyError as error:
                log.warning("metadata not updated", extra={"repository": name, "reason": str(error)[:300]})
        return True

    # --- untagged manifests

    def _delete_untagged(
        self, name: str, snapshot: Snapshot, known: dict[str, Facts], freed: Freed
    ) -> tuple[int, bool]:
        """Take what is due out of the index; returns how many, and whether more will be due."""
        loose = self._loose(snapshot, known)
        due = {digest for digest in loose if self._is_due(name, digest)}
        if not due:
            return 0, bool(loose)
        with self._driver.exclusive(names.lock_key(name)):
            now = self._repositories.load(name)
            self._needed(name, now, known)
            gone = [digest for digest in self._loose(now, known) if digest in due and self._is_due(name, digest)]
            if gone:
                self._repositories.remove_listed(name, now, gone)
        freed.manifests += len(gone)
        return len(gone), len(gone) < len(loose)

    @staticmethod
    def _loose(snapshot: Snapshot, known: dict[str, Facts]) -> set[str]:
        """Manifests that no tag leads to: neither through indexes, nor as the referrer of one that it leads to."""
        by_subject: dict[str, list[str]] = {}
        for digest in snapshot.manifests:
            if known[digest].subject:
                by_subject.setdefault(known[digest].subject, []).append(digest)
        kept: set[str] = set()
        queue = list(snapshot.tags.values())
        while queue:
            digest = queue.pop()
            if digest in kept or digest not in known:
                continue
            kept.add(digest)
            queue += known[digest].children
            queue += by_subject.get(digest, ())
        return snapshot.manifests.keys() - kept

    # --- uploads

    def _expire_uploads(self, freed: Freed) -> None:
        before = time.time_ns() - int(self.upload_delay * 1e9)
        for entry in self._driver.list(names.UPLOADS):
            prefix = f"{names.UPLOADS}/{entry}"
            for session in self._driver.list(prefix):
                key = f"{prefix}/{session}"
                stat = self._driver.stat(key)
                if stat is None or stat.modified > before:
                    continue
                try:
                    writer = self._driver.append(key)
                except (Missing, Conflict):
                    continue  # it ended, or goes on
                with writer:
                    freed.size += writer.size
                    freed.uploads += 1
                    writer.cancel()
