"""Multi-platform indexes: which of their images fits a machine, and what of one is here.

A name points at one image, the one of a platform. Where it came by an index, the index is kept beside it with all that
is here of it, so that a push sends what was pulled or loaded, and digests stay what they were.
"""

from wherry.errors import HostileInput, NotFound, WherryError
from wherry.images.stores import Stores
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.oci.image import Descriptor, Index, Manifest
from wherry.oci.platform import Platform
from wherry.store.images import IndexRecord

NESTING = 4
_LIMIT = 1024


class Document:
    """A manifest or an index that is here, as it came."""

    __slots__ = ("descriptor", "raw")

    def __init__(self, descriptor: Descriptor, raw: bytes) -> None:
        self.descriptor = descriptor
        self.raw = raw


class Kept:
    """What is here of an index.

    Attributes:
        top: the index itself; its descriptor says what it is and how long.
        nested: indexes in it, the innermost first.
        manifests: those whose config and layers are all here, each with its document.
        whole: whether nothing is missing.
    """

    __slots__ = ("manifests", "nested", "top", "whole")

    def __init__(self, top: Document) -> None:
        self.top = top
        self.nested: list[Document] = []
        self.manifests: list[tuple[Document, Manifest]] = []
        self.whole = True

    def record(self) -> IndexRecord:
        """What the database says of it."""
        blobs = {document.descriptor.digest for document in (self.top, *self.nested)}
        for document, manifest in self.manifests:
            blobs |= {document.descriptor.digest, *blobs_of(manifest)}
        return IndexRecord(self.top.descriptor.digest, tuple(sorted(blobs)))

    def fitting(self, wanted: Platform) -> tuple[Document, Manifest]:
        """Return the manifest of a platform. Raises `NotFound`: it is not in the index, or not here."""
        here = {document.descriptor.digest: (document, manifest) for document, manifest in self.manifests}
        listed = [document.descriptor for document, _ in self.manifests if document.descriptor.platform]
        return here[fitting(Index(2, listed), wanted).digest]


def blobs_of(manifest: Manifest) -> set[str]:
    """Digests of its config and its layers."""
    return {manifest.config.digest, *(layer.digest for layer in manifest.layers)}


def survey(stores: Stores, digest: str) -> Kept:
    """Look what is here of an index. Blocks: for a thread.

    Raises:
        NotFound, StoreCorrupt, InvalidSpec: the index itself is not here, or damaged.
        HostileInput: it is nested too deep, or too large.
    """
    raw = stores.blobs.read(Digest(digest), documents.MANIFEST_LIMIT)
    index = documents.read_index(raw)
    kept = Kept(Document(Descriptor(index.media_type or documents.OCI_INDEX, digest, len(raw)), raw))
    _look(stores, index, kept, 1, [0])
    return kept


def _look(stores: Stores, index: Index, kept: Kept, depth: int, count: list[int]) -> None:
    if depth > NESTING:
        raise HostileInput(f"indexes are nested deeper than {NESTING}")
    for descriptor in index.manifests:
        count[0] += 1
        if count[0] > _LIMIT:
            raise HostileInput(f"index has more than {_LIMIT} manifests")
        known = descriptor.media_type in documents.INDEXES | documents.MANIFESTS
        if not known or not stores.blobs.exists(descriptor.verified):
            kept.whole = False
            continue
        try:
            raw = stores.blobs.read(descriptor.verified, documents.MANIFEST_LIMIT)
            if descriptor.media_type in documents.INDEXES:
                nested = documents.read_index(raw, descriptor.media_type)
                _look(stores, nested, kept, depth + 1, count)
                kept.nested.append(Document(descriptor, raw))
                continue
            manifest = documents.read_manifest(raw, descriptor.media_type)
        except HostileInput:
            raise
        except WherryError:
            kept.whole = False  # damaged, or not what the index says: as good as absent
            continue
        if all(stores.blobs.exists(Digest(blob)) for blob in blobs_of(manifest)):
            kept.manifests.append((Document(descriptor, raw), manifest))
        else:
            kept.whole = False


def fitting(index: Index, wanted: Platform) -> Descriptor:
    """Return what an index has for a platform: exactly that, else what runs there, else what says nothing.

    Raises:
        NotFound: nothing fits.
        HostileInput: it is too large.
    """
    if len(index.manifests) > _LIMIT:
        raise HostileInput(f"index has more than {_LIMIT} manifests")
    candidates = [
        (descriptor.platform.normalized() if descriptor.platform else None, descriptor)
        for descriptor in index.manifests
        if descriptor.media_type in documents.MANIFESTS | documents.INDEXES
    ]
    exact = [descriptor for found, descriptor in candidates if found == wanted]
    if exact:
        return exact[0]
    running = [(str(found), descriptor) for found, descriptor in candidates if found is not None and wanted.runs(found)]
    same = [item for item in running if f"/{wanted.architecture}" in item[0]]
    if same or running:
        return max(same or running, key=lambda item: item[0])[1]
    unsaid = [descriptor for found, descriptor in candidates if found is None]
    if unsaid:
        return unsaid[0]
    raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
