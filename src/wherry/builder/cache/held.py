"""What a running build stands on, and what it has made: held in memory, so that collection leaves it alone.

A lease in the database would say the same at the price of a disk's flush for each word; after a crash there is nothing
to hold, and what finished steps have made is held by the cache.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from wherry.images.load import discard
from wherry.images.stores import Stores
from wherry.store.images import ImageRecord, LayerRecord


class Held:
    """One build's."""

    def __init__(self) -> None:
        self.chain_ids: set[str] = set()
        self.blob_digests: set[str] = set()

    def snapshots(self, chain_ids: Iterable[str]) -> None:
        """Hold these snapshots, there already or about to come."""
        self.chain_ids.update(chain_ids)

    def blobs(self, *wanted: str) -> None:
        """Hold these blobs (by digest), there already or about to come."""
        self.blob_digests.update(str(digest) for digest in wanted)

    def drop(self, digest: str) -> None:
        """Hold a blob no longer: it turned out to be worthless."""
        self.blob_digests.discard(digest)

    def image(self, record: ImageRecord) -> None:
        """Hold all that a stored image is made of."""
        self.snapshots(record.chain_ids)
        self.blobs(*record.blobs)


class AllHeld:
    """All running builds': a holder of the stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._running: set[Held] = set()
        stores.holders.append(self)

    def chains(self) -> set[str]:
        """Chain ids that running builds stand on."""
        return {chain for held in self._running for chain in held.chain_ids}

    def blobs(self) -> set[str]:
        """Digests that running builds need."""
        return {digest for held in self._running for digest in held.blob_digests}

    name = "a running build"

    def layers(self) -> tuple[tuple[str, LayerRecord, str | None], ...]:
        """None: what is half made cannot be checked."""
        return ()

    def busy(self) -> set[str]:
        """All that running builds stand on."""
        return self.chains()

    async def forget(self, chain_id: str) -> None:
        """A build that has lost a layer fails by itself."""

    @contextmanager
    def build(self) -> Iterator[Held]:
        """Hold for one build. When it fails, what it stored and nobody else needs goes."""
        held = Held()
        self._running.add(held)
        try:
            yield held
        except BaseException:
            self._running.discard(held)
            discard(self._stores, held.blob_digests, held.chain_ids)
            raise
        finally:
            self._running.discard(held)
