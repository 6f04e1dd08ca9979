"""Image records and names: what the database says about images, and all of it in memory.

A record says which manifest and which layers an image id stands for; a name is a full reference that points at an id.
Configs and manifests themselves are blobs, so records can be made again from those (`images.recover`), names cannot.
"""

import sqlite3
import time
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from wherry.oci import image as documents
from wherry.store.database import Database


class LayerRecord(Struct, frozen=True):
    """One layer of an image.

    Args:
        blob: digest of the blob as it came (compressed or not).
        size: length of the blob in bytes.
        diff_id: digest of the uncompressed tar stream.
        unpacked: bytes of file content in the snapshot.
    """

    blob: str
    size: int
    diff_id: str
    unpacked: int


class ImageRecord(Struct, frozen=True):
    """One stored image.

    Args:
        id: digest of its config.
        manifest: digest of the manifest.
        layers: oldest first.
        stored_at: when it came here, in nanoseconds.
        parent: id of the image that a build here made it from, or empty.
    """

    id: str
    manifest: str
    layers: tuple[LayerRecord, ...]
    stored_at: int
    parent: str = ""

    @property
    def chain_ids(self) -> list[str]:
        """Names of its snapshots, oldest first."""
        return documents.chain_ids([layer.diff_id for layer in self.layers])

    @property
    def blobs(self) -> set[str]:
        """Digests of all that it needs."""
        return {self.id, self.manifest, *(layer.blob for layer in self.layers)}

    @property
    def unpacked(self) -> int:
        """Bytes of all its snapshots."""
        return sum(layer.unpacked for layer in self.layers)


class IndexRecord(Struct, frozen=True):
    """A multi-platform index that a name stands for, beside the one image of it that the name points at.

    Args:
        digest: of the index.
        blobs: all that is kept of it: itself, indexes in it, and the manifests, configs and layers that are whole.
    """

    digest: str
    blobs: tuple[str, ...]


class ImageRecords:
    """Records and names of a data root. Reading is from memory; every change is durable when its await returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.by_id: dict[str, ImageRecord] = {}
        self.names: dict[str, str] = {}
        self.indexes: dict[str, IndexRecord] = {}
        self._named: dict[str, dict[str, int]] = {}
        self.version = 0  # grows with every change: what was resolved before may mean something else now
        decoder = msgspec.json.Decoder(tuple[LayerRecord, ...])
        for id_, manifest, layers, stored_at, parent in database.read(
            "SELECT id, manifest, layers, stored_at, parent FROM images"
        ):
            self.by_id[id_] = ImageRecord(id_, manifest, decoder.decode(layers), stored_at, parent)
        for name, id_, set_at in database.read("SELECT name, image, set_at FROM image_names ORDER BY set_at, name"):
            if id_ in self.by_id:
                self._point(name, id_, set_at)
        for name, digest, blobs in database.read("SELECT name, digest, blobs FROM image_indexes"):
            if name in self.names:
                self.indexes[name] = IndexRecord(digest, tuple(msgspec.json.decode(blobs, type=list[str])))

    def names_of(self, id_: str) -> list[str]:
        """Full references that point at the image, in the order in which they were set."""
        return list(self._named.get(id_, ()))

    def named_at(self, id_: str) -> int:
        """When the image last got a name (nanoseconds); 0 if it has none."""
        return max(self._named.get(id_, {}).values(), default=0)

    async def put(
        self,
        record: ImageRecord,
        names: Iterable[str] = (),
        index: IndexRecord | None = None,
        *,
        anew: bool = False,
    ) -> dict[str, str]:
        """Record an image and point `names` at it, in one transaction. An image that is known keeps its record.

        Args:
            anew: it does not keep it: the same image has another manifest.
            index: what the names stand for beside the image; what they stood for before is forgotten.

        Returns:
            the names that pointed elsewhere before, with the ids that they pointed at.
        """
        pointing = dict.fromkeys(names, record.id)
        return await self.put_all([record], pointing, dict.fromkeys(pointing, index) if index else {}, anew=anew)

    async def put_all(
        self,
        records: Iterable[ImageRecord],
        names: Mapping[str, str],
        indexes: "Mapping[str, IndexRecord] | None" = None,
        *,
        anew: bool = False,
    ) -> dict[str, str]:
        """Do what `put` does, for several images in one transaction; `names` maps a name to an id."""
        standing = dict(indexes or {})
        new = {record.id: record for record in records if anew or record.id not in self.by_id}
        set_at = time.time_ns()

        def change(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?)",
                [(r.id, r.manifest, msgspec.json.encode(r.layers), r.stored_at, r.parent) for r in new.values()],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO image_names VALUES (?, ?, ?)",
                [(name, id_, set_at) for name, id_ in names.items()],
            )
            connection.executemany("DELETE FROM image_indexes WHERE name = ?", [(name,) for name in names])
            connection.executemany(
                "INSERT INTO image_indexes VALUES (?, ?, ?)",
                [(name, index.digest, msgspec.json.encode(index.blobs)) for name, index in standing.items()],
            )

        await self._database.write(change)
        self.version += 1
        self.by_id.update(new)
        replaced: dict[str, str] = {}
        for name, id_ in names.items():
            old = self.names.get(name)
            if old is not None and old != id_:
                replaced[name] = old
            self._point(name, id_, set_at)
            self.indexes.pop(name, None)
        self.indexes.update(standing)
        return replaced

    async def drop(self, names: Iterable[str], ids: Iterable[str] = ()) -> None:
        """Forget names, and images with all names that they still have, in one transaction."""
        gone_ids = list(ids)
        gone = {*names, *(name for id_ in gone_ids for name in self.names_of(id_))}

        def change(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM image_names WHERE name = ?", [(name,) for name in gone])
            connection.executemany("DELETE FROM image_indexes WHERE name = ?", [(name,) for name in gone])
            connection.executemany("DELETE FROM images WHERE id = ?", [(id_,) for id_ in gone_ids])

        await self._database.write(change)
        self.version += 1
        for name in gone:
            self._unpoint(name)
            self.indexes.pop(name, None)
        for id_ in gone_ids:
            self.by_id.pop(id_, None)

    def _point(self, name: str, id_: str, set_at: int) -> None:
        if self.names.get(name) != id_:
            self._unpoint(name)
        self.names[name] = id_
        self._named.setdefault(id_, {})[name] = set_at

    def _unpoint(self, name: str) -> None:
        old = self.names.pop(name, None)
        if old is not None:
            self._named[old].pop(name, None)
            if not self._named[old]:
                del self._named[old]
