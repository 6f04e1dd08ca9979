"""Read a manifest that is pushed or stored: what it is, what it needs, what it refers to."""

from typing import Any, Final

from wherry.errors import HostileInput, InvalidReference, InvalidSpec
from wherry.oci import digest as digests
from wherry.oci import image as images
from wherry.registry.errors import ManifestInvalid, ManifestTooLarge

MANIFEST_LIMIT: Final = images.MANIFEST_LIMIT

_OPTIONAL_LAYERS: Final = ("nondistributable", "foreign")


class Facts:
    """What the registry needs to know of a manifest.

    Attributes:
        media_type: of the document.
        blobs: digest -> size of what the repository must hold.
        optional: digests of blobs that live elsewhere (nondistributable layers), and may be here.
        children: digest -> (media type, size) of an index's manifests.
        subject: digest that this one refers to, or "".
        artifact_type: as the referrers API gives it: of the manifest, else its config's media type; "" for an index
            that says none.
        annotations: of the document.
        config: (media type, digest) of the config; two empty strings for an index.
        layers_size: bytes of all layers and the config.
    """

    __slots__ = (
        "annotations",
        "artifact_type",
        "blobs",
        "children",
        "config",
        "layers_size",
        "media_type",
        "optional",
        "subject",
    )

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type
        self.blobs: dict[str, int] = {}
        self.optional: set[str] = set()
        self.children: dict[str, tuple[str, int]] = {}
        self.subject = ""
        self.artifact_type = ""
        self.annotations: dict[str, str] = {}
        self.config = ("", "")
        self.layers_size = 0

    def references(self) -> set[str]:
        """Every digest that must stay while this manifest does."""
        return {*self.blobs, *self.optional, *self.children}


def is_manifest_type(media_type: str) -> bool:
    """Whether a descriptor of that type points at a manifest or an index."""
    return media_type in images.MANIFESTS or media_type in images.INDEXES


def read(raw: bytes, content_type: str = "") -> Facts:
    """Read a manifest or an index.

    Args:
        raw: the document.
        content_type: what the client, or the layout's index, says it is; parameters are ignored, empty means unknown.

    Raises:
        ManifestTooLarge: above 4 MiB.
        ManifestInvalid: not a manifest, of a type that is not served, or one that two readers would read differently.
    """
    if len(raw) > MANIFEST_LIMIT:
        raise ManifestTooLarge(f"manifest is larger than {MANIFEST_LIMIT} bytes")
    announced = content_type.partition(";")[0].strip()
    try:
        kind = announced or _guess(raw)
        if kind in images.INDEXES:
            return _index(images.read_index(raw, kind), kind)
        if kind in images.MANIFESTS:
            return _manifest(images.read_manifest(raw, kind), kind)
    except (InvalidSpec, HostileInput) as error:
        raise ManifestInvalid(error.message) from None
    raise ManifestInvalid(f"manifest type is not served: {kind[:128]!r}")


def _guess(raw: bytes) -> str:
    document: Any = images.read_json(raw, MANIFEST_LIMIT, "manifest")
    if not isinstance(document, dict):
        raise InvalidSpec("invalid manifest: not a JSON object")
    written = document.get("mediaType")
    if isinstance(written, str) and written:
        return written
    return images.OCI_INDEX if "manifests" in document else images.OCI_MANIFEST


def _manifest(manifest: images.Manifest, kind: str) -> Facts:
    facts = Facts(kind)
    for descriptor in (manifest.config, *manifest.layers):
        facts.layers_size += descriptor.size
        if descriptor.urls or any(word in descriptor.media_type for word in _OPTIONAL_LAYERS):
            facts.optional.add(str(descriptor.digest))
        else:
            facts.blobs[str(descriptor.digest)] = descriptor.size
    facts.optional -= facts.blobs.keys()
    facts.config = (manifest.config.media_type, str(manifest.config.digest))
    facts.artifact_type = manifest.artifact_type or manifest.config.media_type
    facts.annotations = manifest.annotations or {}
    facts.subject = _subject(manifest.subject)
    return facts


def _index(index: images.Index, kind: str) -> Facts:
    facts = Facts(kind)
    for descriptor in index.manifests:
        if is_manifest_type(descriptor.media_type):
            facts.children[str(descriptor.digest)] = (descriptor.media_type, descriptor.size)
        else:
            facts.blobs[str(descriptor.digest)] = descriptor.size
    facts.artifact_type = index.artifact_type
    facts.annotations = index.annotations or {}
    facts.subject = _subject(index.subject)
    return facts


def _subject(descriptor: images.Descriptor | None) -> str:
    if descriptor is None:
        return ""
    try:
        return str(digests.parse(descriptor.digest))
    except InvalidReference as error:
        raise InvalidSpec(f"invalid subject: {error}") from None
