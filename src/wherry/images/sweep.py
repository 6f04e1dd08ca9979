"""What is done once, at the start of an engine: clean what a crash left, and find again what a lost database forgot."""

import os
import time
from errno import ENOENT, ENOTEMPTY

from wherry.errors import KernelError, WherryError
from wherry.images.stores import Stores
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.snapshots.remove import remove_tree
from wherry.store.images import ImageRecord, LayerRecord


def sweep(stores: Stores) -> int:
    """Remove interrupted ingests and staged layers, and empty the trash. Blocks; nobody may be loading yet.

    Returns:
        how many ingests were removed.
    """
    stores.overlay.clean()
    count = stores.blobs.sweep()
    empty_trash(stores.roots.trash)
    return count


def empty_trash(trash: str) -> None:
    """Delete everything in the trash; slow for large trees. Blocks: for a thread.

    What a worker of an engine that was killed still writes to stays until the trash is emptied again.
    """
    fd = os.open(trash, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(fd):
            try:
                remove_tree(fd, name)
            except KernelError as error:
                if error.errno not in (ENOENT, ENOTEMPTY):
                    raise
    finally:
        os.close(fd)


def find_images(stores: Stores) -> list[ImageRecord]:
    """Walk the blobs for manifests whose config and layers are all there, and return a record for each image. Blocks.

    Names are not found again: those were in the database only.
    """
    sizes = dict(stores.blobs.walk())
    found: dict[str, ImageRecord] = {}
    for digest, size in sizes.items():
        if size > documents.MANIFEST_LIMIT or not _looks_like_json(stores.blobs.path(digest)):
            continue
        try:
            manifest = documents.read_manifest(stores.blobs.read(digest, documents.MANIFEST_LIMIT))
            if manifest.config.media_type not in documents.CONFIGS:
                continue
            config = documents.read_config(stores.blobs.read(Digest(manifest.config.digest), documents.CONFIG_LIMIT))
        except WherryError:
            continue  # a document of another kind, or an image that is not whole
        diff_ids = config.rootfs.diff_ids
        if len(diff_ids) != len(manifest.layers) or any(layer.digest not in sizes for layer in manifest.layers):
            continue
        chain = documents.chain_ids(diff_ids)
        layers = tuple(
            LayerRecord(
                layer.digest,
                layer.size,
                diff_id,
                stores.overlay.size(chain_id) if stores.overlay.exists(chain_id) else 0,
            )
            for layer, diff_id, chain_id in zip(manifest.layers, diff_ids, chain, strict=True)
        )
        found.setdefault(
            manifest.config.digest, ImageRecord(manifest.config.digest, str(digest), layers, time.time_ns())
        )
    return list(found.values())


def _looks_like_json(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(1) in (b"{", b" ", b"\n", b"\t")
