"""What the verbs of this package work on: blobs, records, leases, snapshots, and the way to unpack a layer."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from wherry.images.model import Image
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.paths import Roots
from wherry.snapshots.overlay import Overlay
from wherry.store.blobs import Blobs
from wherry.store.database import Database
from wherry.store.images import ImageRecords, LayerRecord
from wherry.store.leases import Leases


class Unpack(Protocol):
    """Unpacks one layer; the engine wires it to a confined worker.

    Args:
        source_fd: the layer blob, compressed or not, at its beginning; stays the caller's.
        target_dir_fd: an empty directory; stays the caller's.
        expect_diff_id: what the uncompressed stream must hash to; None takes what comes.
        sync: make it durable; else the caller does, before anything refers to it.

    Returns:
        `{"diff_id", "size", …}`: digest of the uncompressed stream, bytes of file content.

    Raises:
        DigestMismatch, HostileInput: the layer is not what it should be.
    """

    def __call__(
        self, source_fd: int, target_dir_fd: int, expect_diff_id: str | None, *, sync: bool = True
    ) -> Awaitable[dict[str, Any]]: ...


class WriteLayer(Protocol):
    """Writes an upper directory as a layer; the engine wires it to a worker (`snapshots.sealing.layer_worker`).

    Args:
        tree_fd: the directory, which may change meanwhile; stays the caller's.
        blob_fd: takes the layer; stays the caller's.
        copy_fd: takes its plain archive, for whoever unpacks it; stays the caller's.
        args: as the worker has them.

    Returns:
        the fields of `snapshots.archive.Written`.

    Raises:
        Conflict, HostileInput, InvalidArgument, KernelError: as `snapshots.archive.write_archive`.
    """

    def __call__(self, tree_fd: int, blob_fd: int, copy_fd: int, args: dict[str, Any]) -> Awaitable[dict[str, Any]]: ...


class Compare(Protocol):
    """Compares a layer's tree with an archive of it; the engine wires it to a confined worker (`snapshots.verify`).

    Args:
        source_fd: the layer's blob at its beginning, or a pipe; stays the caller's.
        tree_fd: the tree; stays the caller's.
        expect_diff_id: what the uncompressed stream must hash to; None takes what comes.

    Returns:
        `{"difference"}`: what differs, for people; empty where nothing does.

    Raises:
        DigestMismatch, HostileInput, StoreCorrupt: the archive is not what it should be.
        KernelError: something could not be read.
    """

    def __call__(self, source_fd: int, tree_fd: int, expect_diff_id: str | None) -> Awaitable[dict[str, Any]]: ...


class Holder(Protocol):
    """Somebody else who needs what is stored: the builder's cache, and the builds that run."""

    name: str
    """What people call it."""

    def layers(self) -> Iterable[tuple[str, LayerRecord, str | None]]:
        """Chain id, record, and chain id of the layer below, of each layer."""

    def busy(self) -> Iterable[str]:
        """Chain ids of those that something runs on at this moment."""

    async def forget(self, chain_id: str) -> None:
        """Do without a layer, which is lost."""

    def chains(self) -> Iterable[str]:
        """Chain ids of the snapshots."""

    def blobs(self) -> Iterable[str]:
        """Digests of the blobs."""


Progress = Callable[[dict[str, Any]], None]


class Stores:
    """The stores of one data root. Used on the event loop's thread, except where a method says otherwise.

    Args:
        roots: where things lie.
        blobs, database, overlay: the stores.
        unpack: how a layer is unpacked.
        write_layer: how a directory becomes a layer.
        compare: how a layer's tree is compared with its archive.
        layers_in_use: chain ids of the snapshots that containers stand on, whatever became of their images.
        layers_mounted: those of them that are mounted, or about to be.
    """

    def __init__(
        self,
        roots: Roots,
        blobs: Blobs,
        database: Database,
        overlay: Overlay,
        unpack: Unpack,
        write_layer: WriteLayer,
        compare: Compare,
        layers_in_use: Callable[[], Iterable[str]],
        layers_mounted: Callable[[], Iterable[str]],
    ) -> None:
        self.roots = roots
        self.blobs = blobs
        self.overlay = overlay
        self.unpack = unpack
        self.write_layer = write_layer
        self.compare = compare
        self.layers_in_use = layers_in_use
        self._layers_mounted = layers_mounted
        self.database = database
        self.records = ImageRecords(database)
        self.leases = Leases(database)
        # one change of records at a time: a name that is checked is still so when it is written
        self.changing = asyncio.Lock()
        self._images: dict[str, Image] = {}
        self._pinned: Counter[str] = Counter()
        self.holders: list[Holder] = []

    def image(self, id_: str) -> Image:
        """Return the image of a known id; its config is read once and then kept.

        Raises:
            StoreCorrupt, NotFound: its config blob is damaged or gone.
        """
        record = self.records.by_id[id_]
        image = self._images.get(id_)
        if image is None:
            image = Image(record, self.blobs.read(Digest(id_), documents.CONFIG_LIMIT))
            image.layers = [self.overlay.path(chain_id) for chain_id in image.chain_ids]
            self._images[id_] = image
        image.set_names(self.records.names_of(id_), self.records.named_at(id_))
        return image

    def forget(self, id_: str) -> None:
        """Drop a removed image from memory."""
        self._images.pop(id_, None)

    async def write_documents(self, made: Mapping[Digest, bytes]) -> None:
        """Store documents of our own making under their digests, durably; the caller's lease holds them."""

        def write() -> None:
            for digest, raw in made.items():
                self.blobs.write(raw, digest)

        await asyncio.to_thread(write)

    @contextmanager
    def pinned(self, chain_ids: Iterable[str]) -> Iterator[None]:
        """Keep these snapshots from being removed while an image that will stand on them is not recorded yet."""
        held = list(chain_ids)
        self._pinned.update(held)
        try:
            yield
        finally:
            for chain_id in held:
                self._pinned[chain_id] -= 1
                if not self._pinned[chain_id]:
                    del self._pinned[chain_id]

    def is_busy(self, chain_id: str) -> bool:
        """Whether a snapshot is mounted, or a running operation stands on it: it must not be swapped for another."""
        if chain_id in self._pinned or chain_id in self._layers_mounted():
            return True
        return any(chain_id in holder.busy() for holder in self.holders)

    def needed_layers(self) -> set[str]:
        """Chain ids of all snapshots that an image, a container or a running load needs."""
        needed = {*self.layers_in_use(), *self._pinned}
        for holder in self.holders:
            needed.update(holder.chains())
        for record in self.records.by_id.values():
            needed.update(record.chain_ids)
        return needed

    def needed_blobs(self) -> set[str]:
        """Digests of all blobs that an image, an index or a lease needs."""
        needed = self.leases.protected() | self.recorded_blobs()
        for holder in self.holders:
            needed.update(holder.blobs())
        return needed

    def recorded_blobs(self) -> set[str]:
        """Digests of all blobs that an image or an index needs."""
        needed: set[str] = set()
        for record in self.records.by_id.values():
            needed |= record.blobs
        for index in self.records.indexes.values():
            needed.update(index.blobs)
        return needed
