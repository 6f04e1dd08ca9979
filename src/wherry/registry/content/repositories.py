"""Repositories: what can be read of them, and the few steps by which they change.

The layout on disk is the truth. A repository changes only under its lock, by one new `index.json` that was preceded by
everything it points at; the database is told afterwards and catches up by itself where it was not (`version`).
A blob is in a repository when its file is: nothing else makes it readable there.

What nothing refers to yet is protected by the time it was last written or touched (its lease, see `collect`); whoever
tells a client that a blob is there renews it, under the lock that the collection takes too.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from sqlalchemy.exc import SQLAlchemyError

from wherry.errors import Forbidden, StoreCorrupt, WherryError
from wherry.oci.digest import ALGORITHMS
from wherry.registry import names
from wherry.registry.content import layout, manifests
from wherry.registry.content.digesting import digest_of
from wherry.registry.content.layout import Entry, Snapshot
from wherry.registry.content.manifests import Facts
from wherry.registry.errors import BlobUnknown, DigestInvalid, InUse, ManifestBlobUnknown, ManifestUnknown, NameUnknown
from wherry.registry.metadata.database import Database, Referrer
from wherry.registry.storage.driver import Driver, Missing, Reader, Stat, Writer

log = logging.getLogger("wherry.registry")

_CACHED_ENTRIES = 60_000


class Pushed:
    """What a manifest became: its digest, subject (or ""), and the tags that now point at it."""

    __slots__ = ("digest", "subject", "tags")

    def __init__(self, digest: str, subject: str, tags: list[str]) -> None:
        self.digest = digest
        self.subject = subject
        self.tags = tags


class Repositories:
    """All repositories of one place. Blocks; may be used from any thread.

    Args:
        driver: where they lie.
        database: what is kept about them.
    """

    def __init__(self, driver: Driver, database: Database) -> None:
        self.driver = driver
        self.database = database
        self._cache: OrderedDict[str, Snapshot] = OrderedDict()
        self._cached = 0
        self._cache_lock = threading.Lock()

    # --- reading

    def names(self) -> Iterator[str]:
        """Every repository on the disk, sorted."""
        for entry in self.driver.list(names.REPOSITORIES):
            name = names.name_of(entry)
            if name is not None and self.driver.stat(names.index_key(name)) is not None:
                yield name

    def load(self, name: str) -> Snapshot:
        """What a repository has now.

        Raises:
            NameUnknown: there is none of that name.
        """
        key = names.index_key(name)
        stat = self.driver.stat(key)
        cached = self._cache.get(name)
        if stat is not None and cached is not None and cached.version == stat.version:
            return cached
        try:
            if stat is None:
                raise Missing(key)
            raw, stat = self.driver.read(key, layout.INDEX_LIMIT)
        except Missing:
            self._remember(name, None)
            raise NameUnknown("repository name not known to registry", name=name) from None
        snapshot = layout.parse(raw, stat.version)
        self._remember(name, snapshot)
        return snapshot

    def _remember(self, name: str, snapshot: Snapshot | None) -> None:
        with self._cache_lock:
            old = self._cache.pop(name, None)
            if old is not None:
                self._cached -= _weight(old)
            if snapshot is not None:
                self._cache[name] = snapshot
                self._cached += _weight(snapshot)
                while self._cached > _CACHED_ENTRIES and len(self._cache) > 1:
                    self._cached -= _weight(self._cache.popitem(last=False)[1])

    def resolve(self, name: str, reference: str) -> tuple[str, Entry]:
        """Digest and entry of a manifest, by tag or digest.

        Raises:
            NameUnknown, ManifestUnknown: it is not there.
        """
        snapshot = self.load(name)
        digest = snapshot.resolve(reference)
        if digest is None:
            raise ManifestUnknown("manifest unknown", name=name, reference=reference)
        return digest, snapshot.manifests[digest]

    def read_manifest(self, name: str, digest: str) -> bytes:
        """The bytes of a manifest that the repository lists.

        Raises:
            StoreCorrupt: its file is gone.
        """
        try:
            return self.driver.read(names.blob_key(name, digest), manifests.MANIFEST_LIMIT)[0]
        except Missing:
            raise StoreCorrupt(f"manifest {digest} of {name} is listed, and its file is not there") from None

    def open_blob(self, name: str, digest: str) -> Reader:
        """Open a blob of the repository. Raises `BlobUnknown`."""
        try:
            return self.driver.open(names.blob_key(name, digest))
        except Missing:
            raise BlobUnknown("blob unknown to registry", digest=digest) from None

    def stat_blob(self, name: str, digest: str) -> Stat:
        """Size and age of a blob of the repository. Raises `BlobUnknown`."""
        stat = self.driver.stat(names.blob_key(name, digest))
        if stat is None:
            raise BlobUnknown("blob unknown to registry", digest=digest)
        return stat

    def referrers(self, name: str, subject: str) -> list[Referrer]:
        """Manifests of the repository that refer to `subject`, which need not be there; none in an unknown one."""
        try:
            snapshot = self.load(name)
            if self.database.version(name) != snapshot.version:
                with self.driver.exclusive(names.lock_key(name)):
                    snapshot = self.load(name)
                    if self.database.version(name) != snapshot.version:
                        self._index(name, snapshot)
        except NameUnknown:
            return []
        return [r for r in self.database.referrers(name, subject) if r.digest in snapshot.manifests]

    # --- blobs

    def renew(self, name: str, digest: str) -> None:
        """Renew the lease of a blob: who asks for it may be about to refer to it. Raises `BlobUnknown`."""
        with self.driver.exclusive(names.lock_key(name)):
            try:
                self.driver.touch(names.blob_key(name, digest))
            except Missing:
                raise BlobUnknown("blob unknown to registry", digest=digest) from None

    def add_blob(self, name: str, digest: str, writer: Writer) -> None:
        """Make what was written, and verified, a blob of the repository."""
        writer.sync()  # the long part, before the lock
        with self.driver.exclusive(names.lock_key(name)):
            self._ensure(name)
            key = names.blob_key(name, digest)
            size = writer.size
            stat = self.driver.stat(key)
            if stat is not None and stat.size == size:
                self.driver.touch(key)
                writer.cancel()
            elif self._share(name, digest, size):
                writer.cancel()
            else:
                writer.commit(key)
        self._hold(name, digest, size)

    def _share(self, name: str, digest: str, size: int) -> bool:
        """Link the blob from another repository, so that it is stored once; the client has shown that it has it."""
        key = names.blob_key(name, digest)
        try:
            for other in self.database.holders(digest, 4):
                source = names.blob_key(names.repository_name(other), digest)
                stat = self.driver.stat(source)
                if other != name and stat is not None and stat.size == size:
                    self.driver.link(source, key)
                    self.driver.touch(key)
                    return True
        except (Missing, SQLAlchemyError):
            return False  # collected meanwhile, or no database: stored twice then
        return False

    def mount(self, name: str, source: str, digest: str) -> None:
        """Give the repository a blob of another one.

        Raises:
            BlobUnknown: `source` does not hold it.
        """
        key = names.blob_key(name, digest)
        with self.driver.exclusive(names.lock_key(name)):
            stat = self.stat_blob(source, digest)
            self._ensure(name)
            if self.driver.stat(key) is None:
                try:
                    self.driver.link(names.blob_key(source, digest), key)
                except Missing:
                    raise BlobUnknown("blob unknown to registry", digest=digest) from None
            self.driver.touch(key)
        self._hold(name, digest, stat.size)

    def holders(self, digest: str, count: int) -> list[str]:
        """Up to `count` repositories that hold a blob."""
        return [
            name
            for name in self.database.holders(digest, count)
            if self.driver.stat(names.blob_key(names.repository_name(name), digest)) is not None
        ]

    def delete_blob(self, name: str, digest: str) -> None:
        """Take a blob out of the repository.

        Raises:
            BlobUnknown: it is not there.
            InUse: a manifest of the repository needs it.
        """
        # the long part, before the lock: the repository's pushes, and those of others that share the lock, go on
        looked: set[str] = set()
        snapshot = self.load(name)
        self.stat_blob(name, digest)
        try:
            user = self._user_of(name, snapshot, digest, looked)
        except StoreCorrupt:
            user = ""  # deleted and collected meanwhile, or damaged: the look under the lock tells
        with self.driver.exclusive(names.lock_key(name)):
            snapshot = self.load(name)
            self.stat_blob(name, digest)
            if user not in snapshot.manifests:
                user = self._user_of(name, snapshot, digest, looked)
            if digest in snapshot.manifests or user:
                raise InUse("blob is referenced by a manifest of the repository", digest=digest)
            self.driver.delete(names.blob_key(name, digest))
        self._told(name, lambda: self.database.drop(name, [digest]))

    def _user_of(self, name: str, snapshot: Snapshot, digest: str, looked: set[str]) -> str:
        """A manifest that refers to a digest, or ""; `looked` are those known not to, and gets those found not to."""
        for listed, entry in snapshot.manifests.items():
            if listed in looked:
                continue
            if digest in manifests.read(self.read_manifest(name, listed), entry.media_type).references():
                return listed
            looked.add(listed)
        return ""

    def _hold(self, name: str, digest: str, size: int) -> None:
        self._told(name, lambda: self.database.hold(name, digest, size))

    # --- manifests

    def put_manifest(
        self,
        name: str,
        reference: str,
        raw: bytes,
        content_type: str,
        *,
        tags: Iterable[str] = (),
        may_overwrite: bool = True,
    ) -> Pushed:
        """Store a manifest, durably, and let tags point at it.

        Args:
            name: the repository.
            reference: a tag, or the digest that `raw` must have.
            raw: the document, kept as it is.
            content_type: what the client says it is.
            tags: further tags.
            may_overwrite: whether a tag that points elsewhere may be moved.

        Raises:
            ManifestInvalid, ManifestTooLarge: see `manifests.read`.
            ManifestBlobUnknown: it refers to what the repository does not hold.
            DigestInvalid: `raw` has another digest than `reference`.
            Forbidden: a tag would have to be moved.
        """
        facts = manifests.read(raw, content_type)
        if ":" in reference:
            digest = digest_of(raw, reference.partition(":")[0])
            if digest != reference:
                raise DigestInvalid("provided digest did not match uploaded content", digest=reference, found=digest)
            wanted = list(dict.fromkeys(tags))
        else:
            digest = digest_of(raw)
            wanted = list(dict.fromkeys((reference, *tags)))
        entry = Entry(facts.media_type, len(raw))
        with self.driver.exclusive(names.lock_key(name)):
            before = self._load_or_empty(name)
            moved = {before.tags[tag] for tag in wanted if before.tags.get(tag, digest) != digest}
            if moved and not may_overwrite:
                raise Forbidden("the tag exists and must not be overwritten", tags=wanted)
            self._require(name, before, facts)
            key = names.blob_key(name, digest)
            stat = self.driver.stat(key)
            if stat is None or stat.size != len(raw):
                self.driver.put(key, raw)
            else:
                self.driver.touch(key)
            for old in moved:  # from now on it may be unreferenced
                self._touch(name, old)
            after = before.draft()
            after.manifests[digest] = entry
            after.tags.update(dict.fromkeys(wanted, digest))
            self._write(name, after)
            told = self._told(
                name, lambda: self.database.add(name, before.version, after.version, digest, entry, facts, wanted)
            )
            if told is False:
                self._index(name, after)
        return Pushed(digest, facts.subject, wanted)

    def _require(self, name: str, snapshot: Snapshot, facts: Facts) -> None:
        missing = []
        for digest, size in facts.blobs.items():
            stat = self.driver.stat(names.blob_key(name, digest))
            if stat is None or stat.size != size:
                missing.append(digest)
        for digest, (_, size) in facts.children.items():
            child = snapshot.manifests.get(digest)
            if child is None or child.size != size:
                missing.append(digest)
        if missing:
            raise ManifestBlobUnknown("manifest references a manifest or blob unknown to registry", digests=missing)

    def delete_tag(self, name: str, tag: str) -> str:
        """Remove a tag; its manifest stays. Returns the digest it had.

        Raises:
            NameUnknown, ManifestUnknown: it is not there.
        """
        with self.driver.exclusive(names.lock_key(name)):
            before = self.load(name)
            digest = before.tags.get(tag)
            if digest is None:
                raise ManifestUnknown("manifest unknown", name=name, reference=tag)
            self._touch(name, digest)
            self._remove(name, before, [], [tag])
        return digest

    def delete_manifest(self, name: str, digest: str) -> list[str]:
        """Remove a manifest and its tags, which are returned.

        Raises:
            NameUnknown, ManifestUnknown: it is not there.
        """
        with self.driver.exclusive(names.lock_key(name)):
            before = self.load(name)
            entry = before.manifests.get(digest)
            if entry is None:
                raise ManifestUnknown("manifest unknown", name=name, reference=digest)
            tags = [tag for tag, of in before.tags.items() if of == digest]
            # whoever pulls it now shall still get all of it: the leases begin anew
            self._touch(name, digest)
            try:
                facts = manifests.read(self.read_manifest(name, digest), entry.media_type)
                for blob in facts.references():
                    self._touch(name, blob)
            except WherryError as error:
                log.warning("deleted manifest was damaged", extra={"repository": name, "reason": str(error)})
            self._remove(name, before, [digest], tags)
        return tags

    def remove_listed(self, name: str, before: Snapshot, digests: list[str]) -> Snapshot:
        """Take manifests without a tag out of the index; the caller holds the lock and has just loaded `before`."""
        return self._remove(name, before, digests, [])

    def _remove(self, name: str, before: Snapshot, digests: list[str], tags: list[str]) -> Snapshot:
        after = before.draft()
        for tag in tags:
            del after.tags[tag]
        for digest in digests:
            del after.manifests[digest]
        self._write(name, after)
        told = self._told(name, lambda: self.database.remove(name, before.version, after.version, digests, tags))
        if told is False:
            self._index(name, after)
        return after

    # --- under the lock

    def _load_or_empty(self, name: str) -> Snapshot:
        try:
            return self.load(name)
        except NameUnknown:
            self._ensure(name)
            return self.load(name)

    def _ensure(self, name: str) -> None:
        """Make the repository's layout if it is not there."""
        if self.driver.stat(names.index_key(name)) is not None:
            return
        self.driver.put(names.layout_key(name), layout.LAYOUT)
        snapshot = layout.empty()
        self._write(name, snapshot)
        self._told(name, lambda: self.database.replace(name, snapshot.version, {}, ()))

    def _write(self, name: str, snapshot: Snapshot) -> None:
        stat = self.driver.put(names.index_key(name), layout.encode(snapshot))
        snapshot.version = stat.version
        self._remember(name, snapshot)

    def _touch(self, name: str, digest: str) -> None:
        try:
            self.driver.touch(names.blob_key(name, digest))
        except Missing:
            return  # an optional layer, or a manifest whose file was lost

    def _told(self, name: str, tell: Callable[[], bool | None]) -> bool | None:
        """Tell the database; it is not the truth, so that its failure fails nothing: the versions will differ."""
        try:
            return tell()
        except SQLAlchemyError as error:
            log.warning("metadata not updated", extra={"repository": name, "reason": str(error)[:300]})
            return None

    # --- rebuilding

    def index(self, name: str, *, normalize: bool = False) -> None:
        """Write the database's rows of a repository from the disk.

        Args:
            name: the repository; where it is gone, so are its rows.
            normalize: also list the manifests that listed indexes point at, as other tools do not.
        """
        with self.driver.exclusive(names.lock_key(name)):
            try:
                snapshot = self.load(name)
            except NameUnknown:
                self.database.forget(name)
                return
            self._index(name, snapshot, normalize=normalize)
            held = {}
            for algorithm in ALGORITHMS:
                for encoded in self.driver.list(names.blobs_key(name, algorithm)):
                    digest = f"{algorithm}:{encoded}"
                    stat = self.driver.stat(names.blob_key(name, digest))
                    if stat is not None and digest not in snapshot.manifests:
                        held[digest] = stat.size
            self.database.set_blobs(name, held)

    def _index(self, name: str, snapshot: Snapshot, *, normalize: bool = False) -> None:
        rows = []
        found: dict[str, Entry] = {}
        queue = list(snapshot.manifests.items())
        while queue:
            digest, entry = queue.pop()
            try:
                facts = manifests.read(self.read_manifest(name, digest), entry.media_type)
                stat = self.driver.stat(names.blob_key(name, digest))
            except WherryError as error:
                log.warning("damaged manifest", extra={"repository": name, "digest": digest, "reason": str(error)})
                continue
            found[digest] = entry
            rows.append((digest, entry, facts, stat.modified if stat is not None else 0))
            if not normalize:
                continue
            for child, (media_type, size) in facts.children.items():
                there = self.driver.stat(names.blob_key(name, child))
                if child not in found and child not in snapshot.manifests and there is not None and there.size == size:
                    found[child] = Entry(media_type, size)
                    queue.append((child, found[child]))
        if found.keys() - snapshot.manifests.keys():
            after = snapshot.draft()
            after.manifests.update(found)
            self._write(name, after)
            snapshot = after
        self.database.replace(name, snapshot.version, snapshot.tags, rows)

    def catch_up(self) -> int:
        """Index every repository whose rows are not those of its index.json; return how many."""
        known = self.database.versions()
        done = 0
        for name in self.names():
            stat = self.driver.stat(names.index_key(name))
            if stat is not None and known.pop(name, None) != stat.version:
                self.index(name)
                done += 1
        for name in known:
            self.index(name)
            done += 1
        return done


def _weight(snapshot: Snapshot) -> int:
    return len(snapshot.tags) + len(snapshot.manifests) + 1
