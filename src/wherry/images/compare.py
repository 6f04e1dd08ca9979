"""Is a snapshot what was unpacked into it? Its blob says so; without that its own archive, where its digest is known.

Nothing is written for it, but where the blob's archive leaves to unpacking what it means (`snapshots.verify`): then the
layer is unpacked a second time, beside the first.
"""

import asyncio
import os
from collections.abc import Callable
from errno import EPIPE
from typing import Any

from wherry.images.layers import watch
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.store.images import LayerRecord

Told = Callable[[int], None]
"""Takes how many bytes of a blob were compared."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WHOLE_TREE: dict[str, Any] = {"gzip": False, "newest": None, "mounted": False, "below": []}


async def with_blob(stores: Stores, chain_id: str, layer: LayerRecord, told: Told) -> str:
    """Compare a snapshot with its blob.

    Returns:
        what differs, for people; nothing where it is what it should be.

    Raises:
        NotFound, DigestMismatch, HostileInput, StoreCorrupt: the blob is not what it should be.
        KernelError: something could not be read, or there is no room to unpack it once more.
    """
    tree = os.open(stores.overlay.path(chain_id), _DIRECTORY)
    try:
        blob = stores.blobs.open(digests.parse(layer.blob))
        watching = asyncio.ensure_future(watch(blob, told))
        try:
            difference = str((await stores.compare(blob, tree, layer.diff_id))["difference"])
            if not difference:
                return ""
            os.lseek(blob, 0, os.SEEK_SET)
            return await _unpacked_again(stores, blob, tree, layer.diff_id)
        finally:
            watching.cancel()
            os.close(blob)
    finally:
        os.close(tree)


async def archive_digest(stores: Stores, chain_id: str) -> str:
    """Return what the archive of a snapshot hashes to. The same tree gives the same archive.

    Raises:
        HostileInput, InvalidArgument, KernelError: it cannot be archived.
    """
    tree = os.open(stores.overlay.path(chain_id), _DIRECTORY)
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return str((await stores.write_layer(tree, null, null, _WHOLE_TREE))["diff_id"])
    finally:
        os.close(tree)
        os.close(null)


async def _unpacked_again(stores: Stores, blob: int, tree: int, diff_id: str) -> str:
    staging = stores.overlay.stage()
    try:
        fresh = os.open(staging, _DIRECTORY)
        try:
            await stores.unpack(blob, fresh, diff_id, sync=False)
            return await _same_tree(stores, fresh, tree)
        finally:
            os.close(fresh)
    finally:
        await asyncio.to_thread(stores.overlay.abandon, staging)


async def _same_tree(stores: Stores, fresh: int, tree: int) -> str:
    """Compare two trees, one of them on its way through a pipe."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    # each end is closed here when the worker that has it is done, so that the other one notices
    writer = asyncio.ensure_future(stores.write_layer(fresh, writing, null, _WHOLE_TREE))
    writer.add_done_callback(lambda _: os.close(writing))
    reader = asyncio.ensure_future(stores.compare(reading, tree, None))
    reader.add_done_callback(lambda _: os.close(reading))
    try:
        await asyncio.wait([writer, reader])
    finally:
        writer.cancel()
        reader.cancel()
        await asyncio.wait([writer, reader])
        os.close(null)
    failure = writer.exception()
    if failure is not None and not (isinstance(failure, OSError) and failure.errno == EPIPE):
        raise failure
    return str(reader.result()["difference"])
