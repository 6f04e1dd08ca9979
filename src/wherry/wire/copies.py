"""What two engines tell each other when an image is copied from one to the other: `/wherry/v1/copy/…`."""

from msgspec import Struct


class Blob(Struct):
    """A blob that travels."""

    digest: str
    size: int


class Offer(Struct):
    """An image, as the engine that has it offers it.

    Args:
        names: full references that shall point at it.
        manifest: digest of its manifest.
        blobs: all that it needs: its manifest, its config and layers, its index and what is kept of that.
        index: digest of the multi-platform index that the names stand for, or empty.
    """

    names: list[str]
    manifest: str
    blobs: list[Blob]
    index: str = ""


class Missing(Struct):
    """A blob that the other engine does not have.

    Args:
        digest: which.
        offset: how much of it is there already, of an earlier copy or pull that broke off.
    """

    digest: str
    offset: int
