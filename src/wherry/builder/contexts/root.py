"""What vertices come to: a root (layers on one another), or a tree of files that somebody gave."""

from collections.abc import Sequence

from wherry.builder.contexts.context import Tree
from wherry.oci import image as documents
from wherry.store.images import LayerRecord


class Root:
    """Layers on one another.

    Args:
        layers: lowest first.
    """

    __slots__ = ("chain_ids", "layers")

    def __init__(self, layers: Sequence[LayerRecord] = ()) -> None:
        self.layers = tuple(layers)
        self.chain_ids = documents.chain_ids([layer.diff_id for layer in self.layers])

    @property
    def chain(self) -> str:
        """Name of the whole; "" for the empty root."""
        return self.chain_ids[-1] if self.chain_ids else ""

    @property
    def diff_ids(self) -> list[str]:
        """Digests of the layers' archives."""
        return [layer.diff_id for layer in self.layers]

    def on_top(self, layer: LayerRecord) -> "Root":
        """This root with one more layer."""
        return Root((*self.layers, layer))


EMPTY_ROOT = Root()
Result = Root | Tree
