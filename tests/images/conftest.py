"""An image store in a temporary directory, its layers unpacked by a thread."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from wherry.images.images import Images
from wherry.paths import Roots
from wherry.snapshots import sealing
from wherry.snapshots.overlay import Overlay
from wherry.snapshots.unpack import apply_layer
from wherry.snapshots.verify import verify_layer
from wherry.store.blobs import Blobs
from wherry.store.database import open_database
from wherry.wire import images as wire

T = TypeVar("T")


async def unpack(
    source_fd: int, target_dir_fd: int, expect_diff_id: str | None, *, sync: bool = True
) -> dict[str, Any]:
    """Unpack in a thread what the engine unpacks in a worker."""
    applied = await asyncio.to_thread(
        apply_layer, source_fd, target_dir_fd, None, expect_diff_id=expect_diff_id, sync=sync
    )
    return applied.to_json()


async def write_layer(tree_fd: int, blob_fd: int, copy_fd: int, args: dict[str, Any]) -> dict[str, Any]:
    """Write a layer in a thread, as the engine does in a worker."""
    lowers = sealing.open_trees(args["below"])
    fds = {"tree": tree_fd, "blob": blob_fd, "copy": copy_fd}
    try:
        return (await asyncio.to_thread(sealing.write_layer, args, fds, lowers)).to_json()
    finally:
        for fd in lowers:
            os.close(fd)


async def compare(source_fd: int, tree_fd: int, expect_diff_id: str | None) -> dict[str, Any]:
    """Compare in a thread what the engine compares in a worker."""
    return {"difference": await asyncio.to_thread(verify_layer, source_fd, tree_fd, expect_diff_id=expect_diff_id)}


async def chunks(data: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    """A request body."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


NEWEST = (1, 51)


class Store:
    """One data root and its images; `run` runs a coroutine on a loop that lives as long."""

    def __init__(self, root: str) -> None:
        self.roots = Roots(root, f"{root}/run")
        self.messages: list[dict[str, Any]] = []
        self.used: set[str] = set()
        self.mounted: set[str] = set()
        self.loop = asyncio.new_event_loop()
        self.open()

    def open(self) -> None:
        """Open the data root, as a started engine does."""
        self.blobs = Blobs(self.roots.blobs, self.roots.ingest, self.roots.trash)
        self.database = open_database(self.roots.database)
        self.overlay = Overlay(self.roots)
        self.images = Images(
            self.roots,
            self.blobs,
            self.database,
            self.overlay,
            unpack,
            write_layer,
            compare,
            lambda: self.used,
            lambda: self.mounted,
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one call."""
        return self.loop.run_until_complete(work)

    def load(self, data: bytes, **options: Any) -> list[str]:
        """Load an archive; its messages are collected."""
        self.messages.clear()
        return self.run(self.images.load(chunks(data), self.messages.append, **options))

    def remove(self, name: str, force: bool = False, users: "list[tuple[str, bool]] | None" = None) -> list[str]:
        """Remove, and return the report as lines."""
        report = self.run(self.images.remove(name, force, in_use=lambda _: users or []))
        return [f"{word}: {what}" for entry in report for word, what in entry.items()]

    async def save(self, *names: str) -> bytes:
        """The whole archive."""
        return b"".join([chunk async for chunk in self.images.save(names)])

    @property
    def stream(self) -> list[str]:
        """The last load's lines."""
        return [message["stream"] for message in self.messages if "stream" in message]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(name for image in self.images.select() for name in image.names)

    def listing(self, filters: "dict[str, list[str]] | None" = None, **rest: bool) -> "list[dict[str, Any]]":
        """The entries of `GET /images/json`."""
        return [wire.summary(image, NEWEST) for image in self.images.select(filters, **rest)]

    def inspect(self, name_or_id: str) -> "dict[str, Any]":
        """The answer to `GET /images/{name}/json`."""
        return wire.inspect(self.images.resolve(name_or_id), NEWEST)

    def close(self) -> None:
        """Close the data root, as an engine that ends does."""
        self.run(self.images.close())
        self.database.close()

    def check(self) -> None:
        """Hold that the store is whole: every blob is its name, every image has all it needs, and nothing is over."""
        self.run(self.images.close())
        for digest, size in self.blobs.walk():
            with open(self.blobs.path(digest), "rb") as file:
                data = file.read()
            assert len(data) == size
            assert hashlib.new(digest.algorithm, data).hexdigest() == digest.hex
        stores = self.images._stores
        blobs = {str(digest) for digest, _ in self.blobs.walk()}
        kept = {digest for index in stores.records.indexes.values() for digest in index.blobs}
        assert blobs == kept | {digest for record in stores.records.by_id.values() for digest in record.blobs}
        chains = {chain for record in stores.records.by_id.values() for chain in record.chain_ids} | self.used
        assert set(self.overlay.walk()) == chains
        assert os.listdir(self.roots.ingest) == []
        assert stores.leases.protected() == set()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    made = Store(f"{tmp_path}/data")
    yield made
    made.close()
    made.run(made.loop.shutdown_default_executor())
    made.loop.close()
