"""What imported caches offer to one build: steps by their keys, layers that are fetched only when somebody needs them.

An offer is good for the build that named the cache and for no other: whoever wrote the cache chose its keys, and could
have chosen those of another project's steps.

Nothing of it is believed beyond what the caller said by naming the cache: a blob must have its digest, its content its
diff id. Where one has not, or does not come at all, the whole offer is withdrawn and the build does its steps itself.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Iterable

from wherry.builder.cache.documents import Found
from wherry.builder.cache.store import Record
from wherry.builder.contexts.root import Root
from wherry.errors import NotFound, WherryError
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.store.images import LayerRecord

Bring = Callable[[LayerRecord], Awaitable[None]]
"""Makes the blob of a layer be in the store, its digest compared; raises WherryError."""


class CacheBroken(WherryError):
    """A layer that an imported cache offers is not what it says, or does not come."""


class Offers:
    """All that one build may take.

    Args:
        stores: where layers go.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._steps: dict[str, Found] = {}
        self._bring: dict[str, Bring] = {}

    def add(self, steps: Iterable[Found], bring: Bring) -> int:
        """Take an offer; what an earlier one has stays. Returns how many steps it has."""
        count = 0
        for found in steps:
            count += 1
            for key in found.keys:
                self._steps.setdefault(key, found)
            if found.layer is not None:
                self._bring.setdefault(found.layer.blob, bring)
        return count

    def withdraw(self) -> None:
        """Offer nothing any more."""
        self._steps.clear()

    def find(self, key: str, below: Root) -> Record | None:
        """The record of a step that stands on `below`; its layer may be elsewhere still (`unpacked` is -1)."""
        found = self._steps.get(key)
        if found is None:
            return None
        id_, now = secrets.token_hex(13)[:25], time.time_ns()
        if found.layer is None:
            return Record(id_, None, "", below.chain, found.description, "regular", found.created, now)
        chain = below.on_top(found.layer).chain
        return Record(id_, found.layer, chain, below.chain, found.description, "regular", found.created, now)

    async def bring(self, layer: LayerRecord) -> None:
        """Make a layer's blob be here.

        Raises:
            CacheBroken: it does not come, or is another.
        """
        if self._stores.blobs.exists(digests.parse(layer.blob)):
            return
        bring = self._bring.get(layer.blob)
        try:
            if bring is None:
                raise NotFound(f"blob {layer.blob}: not found")
            await bring(layer)
        except WherryError as error:
            raise CacheBroken(error.message) from error
