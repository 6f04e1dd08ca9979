"""`index.json` of an OCI layout: which manifests a repository has, and their tags (image-spec 1.1, image-layout.md).

Every manifest of the repository is listed: with `org.opencontainers.image.ref.name` once for each of its tags, without
where it has none. Entries of other tools that say more are kept as they are while their manifest is there.
"""

from typing import Any, Final

import msgspec

from wherry.errors import InvalidReference, StoreCorrupt
from wherry.oci import digest as digests
from wherry.registry.names import is_tag

REF_NAME: Final = "org.opencontainers.image.ref.name"
INDEX_LIMIT: Final = 256 << 20
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_PLAIN = frozenset(("mediaType", "digest", "size", "annotations"))


class Entry:
    """One manifest: media type, size in bytes."""

    __slots__ = ("media_type", "size")

    def __init__(self, media_type: str, size: int) -> None:
        self.media_type = media_type
        self.size = size


class Snapshot:
    """What a repository had at one moment; never changed once made.

    Attributes:
        version: of the `index.json` it was read from.
        tags: tag -> digest.
        manifests: digest -> entry.
        foreign: descriptors of other tools, verbatim.
    """

    __slots__ = ("_names", "foreign", "manifests", "tags", "version")

    def __init__(
        self, version: str, tags: dict[str, str], manifests: dict[str, Entry], foreign: list[dict[str, Any]]
    ) -> None:
        self.version = version
        self.tags = tags
        self.manifests = manifests
        self.foreign = foreign
        self._names: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """The tags, sorted by code point."""
        if self._names is None:
            self._names = sorted(self.tags)
        return self._names

    def draft(self) -> "Snapshot":
        """A copy to change."""
        return Snapshot("", dict(self.tags), dict(self.manifests), list(self.foreign))

    def resolve(self, reference: str) -> str | None:
        """Digest of a tag, or the digest itself; None where there is no such manifest."""
        if ":" in reference:
            return reference if reference in self.manifests else None
        return self.tags.get(reference)

    def untagged(self) -> set[str]:
        """Manifests without a tag."""
        return self.manifests.keys() - set(self.tags.values())


def empty() -> Snapshot:
    """A repository without manifests."""
    return Snapshot("", {}, {}, [])


def parse(raw: bytes, version: str) -> Snapshot:
    """Read an `index.json`.

    Raises:
        StoreCorrupt: it is none.
    """
    try:
        document = msgspec.json.decode(raw)
        tags: dict[str, str] = {}
        manifests: dict[str, Entry] = {}
        foreign: list[dict[str, Any]] = []
        for item in document.get("manifests") or ():
            digest = str(digests.parse(item["digest"]))
            manifests[digest] = Entry(str(item.get("mediaType", "")), int(item["size"]))
            annotations = item.get("annotations") or {}
            tag = annotations.get(REF_NAME)
            if tag is not None and is_tag(tag):
                tags[tag] = digest
            if not item.keys() <= _PLAIN or annotations.keys() - {REF_NAME} or (tag is not None and not is_tag(tag)):
                foreign.append(item)
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError, InvalidReference) as error:
        raise StoreCorrupt(f"index.json is not an image index: {error}") from None
    return Snapshot(version, tags, manifests, foreign)


def encode(snapshot: Snapshot) -> bytes:
    """Write an `index.json`."""
    entries: list[dict[str, Any]] = []
    said: set[tuple[str, str]] = set()
    listed: set[str] = set()
    for item in snapshot.foreign:
        tag = (item.get("annotations") or {}).get(REF_NAME, "")
        if item["digest"] not in snapshot.manifests or (is_tag(tag) and snapshot.tags.get(tag) != item["digest"]):
            continue
        entries.append(item)
        said.add((tag, item["digest"]))
        listed.add(item["digest"])
    for tag, digest in snapshot.tags.items():
        if (tag, digest) not in said:
            entries.append({**_descriptor(snapshot, digest), "annotations": {REF_NAME: tag}})
        listed.add(digest)
    entries += [_descriptor(snapshot, digest) for digest in snapshot.manifests if digest not in listed]
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": entries})


def _descriptor(snapshot: Snapshot, digest: str) -> dict[str, Any]:
    entry = snapshot.manifests[digest]
    return {"mediaType": entry.media_type, "digest": digest, "size": entry.size}
