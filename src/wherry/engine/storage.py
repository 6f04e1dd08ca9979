"""The data root: its schema, and the stores in it."""

import os
import shutil
from collections.abc import Callable, Iterable

from wherry.builder.cache.store import Cache
from wherry.errors import NewerSchema
from wherry.images.images import Images
from wherry.images.stores import Compare, Unpack, WriteLayer
from wherry.paths import Roots
from wherry.snapshots.overlay import Overlay
from wherry.store.atomic import write_atomic
from wherry.store.blobs import Blobs
from wherry.store.database import open_database
from wherry.store.journal import Journal
from wherry.volumes.store import Volumes

SCHEMA = 1


def prepare(roots: Roots) -> None:
    """Make the directories, and check that no newer version wrote here.

    Raises:
        NewerSchema: one did.
    """
    for path, mode in (
        (roots.blobs, 0o700),
        (roots.ingest, 0o700),
        (roots.snapshots, 0o710),
        (roots.containers, 0o710),
        (roots.volumes, 0o710),
        (roots.trash, 0o700),
        (roots.seccomp, 0o700),
        (roots.build, 0o700),
    ):
        os.makedirs(path, mode=mode, exist_ok=True)
    os.makedirs(roots.run, mode=0o711, exist_ok=True)
    os.makedirs(roots.sandboxes, mode=0o700, exist_ok=True)
    try:
        with open(roots.schema, encoding="ascii") as file:
            found = int(file.read())
    except FileNotFoundError:
        write_atomic(roots.schema, f"{SCHEMA}\n".encode())
        return
    if found > SCHEMA:
        raise NewerSchema(
            f"the data root {roots.data} was written by a newer version (schema {found}, this is {SCHEMA})"
        )


def remove_small_tree(path: str) -> None:
    """Delete a volatile directory of ours at once."""
    shutil.rmtree(path, ignore_errors=True)


class Storage:
    """The stores of one data root.

    Args:
        roots: where they lie; `prepare` has run.
        unpack: how a layer is unpacked.
        write_layer: how a directory becomes a layer.
        compare: how a layer's tree is compared with its archive.
        layers_in_use: chain ids of the snapshots that containers stand on.
        layers_mounted: those of them that are mounted.
        swept: takes paths that are to be deleted.
    """

    def __init__(
        self,
        roots: Roots,
        unpack: Unpack,
        write_layer: WriteLayer,
        compare: Compare,
        layers_in_use: Callable[[], Iterable[str]],
        layers_mounted: Callable[[], Iterable[str]],
        swept: Callable[[str], None],
    ) -> None:
        self._database = open_database(roots.database)
        self.overlay = Overlay(roots)
        self.volumes = Volumes(roots, swept)
        blobs = Blobs(roots.blobs, roots.ingest, roots.trash)
        self.journal = Journal(self._database)
        self.images = Images(
            roots, blobs, self._database, self.overlay, unpack, write_layer, compare, layers_in_use, layers_mounted
        )
        self.build_cache = Cache(self._database, self.images.stores)
        self.images.stores.holders.append(self.build_cache)

    def close(self) -> None:
        """Write out what is waiting, and close the database."""
        self.build_cache.write_uses()
        self._database.close()
