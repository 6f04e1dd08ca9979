"""`save`: images as a tar that every engine reads: docker-archive and OCI layout in one, as Docker writes it since 25.

blobs/sha256/<hex>    configs, manifests, indexes and layers, as they were stored
index.json            the OCI layout's way in, names as annotations
manifest.json         the docker-archive's way in
oci-layout
repositories          for readers from before 2016

A name that stands for a multi-platform index of which all is here leads to that index in `index.json`, with all its
images; else, and in `manifest.json`, to the one image. So it does with Docker's containerd store (moby#44833).
"""

import asyncio
import os
import tarfile
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from wherry.errors import ImageNotFound
from wherry.images import archives
from wherry.images.indexes import Kept, survey
from wherry.images.model import Image
from wherry.images.resolve import resolve
from wherry.images.stores import Stores
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.oci.reference import Reference, parse_any, parse_normalized
from wherry.store.images import LayerRecord

_CHUNK = 1 << 20


def save(stores: Stores, names: Sequence[str]) -> AsyncGenerator[bytes, None]:
    """Return the archive of some images.

    Args:
        names: names or ids; a name without a tag means all tags of that repository; an id saves the image nameless.

    Raises:
        ImageNotFound, InvalidReference, AmbiguousPrefix: at once, before the first byte.
    """
    chosen: dict[str, _Chosen] = {}
    for name in names:
        for image, reference in _meant(stores, name):
            one = chosen.setdefault(image.id, _Chosen(image))
            if reference is not None and reference not in one.references:
                one.references.append(reference)
    return _write(stores, list(chosen.values()))


class _Chosen:
    """An image, the names that it is saved under, and the whole indexes that some of those stand for."""

    __slots__ = ("image", "indexes", "references")

    def __init__(self, image: Image) -> None:
        self.image = image
        self.references: list[Reference] = []
        self.indexes: dict[Reference, Kept] = {}

    @property
    def blobs(self) -> set[str]:
        """Digests of all that goes into the archive."""
        return self.image.record.blobs.union(*(kept.record().blobs for kept in self.indexes.values()))

    def look(self, stores: Stores) -> None:
        """Find the indexes. Blocks: for a thread."""
        for reference in self.references:
            record = stores.records.indexes.get(str(reference))
            kept = survey(stores, record.digest) if record is not None else None
            if kept is not None and kept.whole:
                self.indexes[reference] = kept


def _meant(stores: Stores, name: str) -> list[tuple[Image, Reference | None]]:
    meant = parse_any(name)
    if isinstance(meant, Reference) and not meant.tag and not meant.digest:
        tagged = [parse_normalized(known) for known in sorted(stores.records.names)]
        found = [known for known in tagged if known.name == meant.name and known.tag]
        if found:
            return [(stores.image(stores.records.names[str(known)]), known) for known in found]
    try:
        image = resolve(stores, name)
    except ImageNotFound:
        raise ImageNotFound(f"No such image: {name}", kind="image", ref=name) from None
    if isinstance(meant, Reference) and stores.records.names.get(str(meant.with_default_tag())) == image.id:
        return [(image, meant.with_default_tag())]
    return [(image, None)]


async def _write(stores: Stores, chosen: list[_Chosen]) -> AsyncGenerator[bytes, None]:
    lease = await stores.leases.take()
    try:
        for one in chosen:
            await asyncio.to_thread(one.look, stores)
        blobs = {digest for one in chosen for digest in one.blobs}
        await lease.add(*blobs)
        yield b"".join(directory_member(name) for name in _directories(blobs))
        for digest in sorted(blobs):
            async for chunk in blob_member(stores, Digest(digest)):
                yield chunk
        for name, value in _documents(stores, chosen).items():
            yield file_member(name, documents.encode(value))
        yield bytes(2 * tarfile.BLOCKSIZE)
    finally:
        await lease.release()


async def blob_member(stores: Stores, digest: Digest) -> AsyncGenerator[bytes, None]:
    """A stored blob as a member of a layout's archive."""
    fd = stores.blobs.open(digest)
    try:
        size = os.fstat(fd).st_size
        yield _header(f"blobs/{digest.algorithm}/{digest.hex}", tarfile.REGTYPE, 0o644, size)
        left = size
        while left:
            chunk = await asyncio.to_thread(os.read, fd, min(left, _CHUNK))
            if not chunk:
                raise OSError(f"blob {digest} became shorter")
            left -= len(chunk)
            yield chunk
        yield bytes(-size % tarfile.BLOCKSIZE)
    finally:
        os.close(fd)


def _directories(blobs: set[str]) -> list[str]:
    return ["blobs", *sorted({f"blobs/{algorithm}" for algorithm in ("sha256", *map(_algorithm, blobs))})]


def _algorithm(digest: str) -> str:
    return digest.partition(":")[0]


def _source(stores: Stores, layer: LayerRecord) -> dict[str, Any]:
    """What a layer's file is, as dockerd tells it."""
    media_type = documents.OCI_LAYER
    if layer.blob != layer.diff_id:
        fd = stores.blobs.open(Digest(layer.blob))
        try:
            media_type = archives.layer_media_type(os.pread(fd, 16, 0))
        finally:
            os.close(fd)
    return {"mediaType": media_type, "size": stores.blobs.size(Digest(layer.blob)), "digest": layer.blob}


def _documents(stores: Stores, chosen: list[_Chosen]) -> dict[str, Any]:
    manifest_list: list[dict[str, Any]] = []
    descriptors: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for one in chosen:
        image, references = one.image, one.references
        layers = image.record.layers
        manifest_list.append(
            {
                "Config": _path(image.id),
                "RepoTags": [reference.familiar() for reference in references] or None,
                "Layers": [_path(layer.blob) for layer in layers],
                "LayerSources": {layer.diff_id: _source(stores, layer) for layer in layers},
            }
        )
        manifest = _descriptor_of_manifest(stores, image)
        if not references:
            descriptors.append(manifest)
        for reference in references:
            kept = one.indexes.get(reference)
            descriptor = documents.plain(kept.top.descriptor) if kept is not None else manifest
            annotations = {
                documents.ANNOTATION_IMAGE_NAME: str(reference),
                documents.ANNOTATION_REF_NAME: reference.tag,
            }
            descriptors.append({**descriptor, "annotations": annotations})
            if image.chain_ids:
                tags = repositories.setdefault(reference.familiar_name(), {})
                tags[reference.tag or ""] = Digest(image.chain_ids[-1]).hex
    index = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": descriptors}
    made: dict[str, Any] = {
        "index.json": index,
        "manifest.json": manifest_list,
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
    }
    if repositories:
        made["repositories"] = repositories
    return made


def _descriptor_of_manifest(stores: Stores, image: Image) -> dict[str, Any]:
    raw = stores.blobs.read(Digest(image.manifest), documents.MANIFEST_LIMIT)
    media_type = documents.read_manifest(raw).media_type or documents.OCI_MANIFEST
    return {"mediaType": media_type, "digest": image.manifest, "size": len(raw)}


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _header(name: str, kind: bytes, mode: int, size: int = 0) -> bytes:
    header = tarfile.TarInfo(name)
    header.type, header.mode, header.size = kind, mode, size
    return header.tobuf(tarfile.GNU_FORMAT)


def directory_member(name: str) -> bytes:
    """A directory as a member of an archive."""
    return _header(name + "/", tarfile.DIRTYPE, 0o755)


def file_member(name: str, data: bytes) -> bytes:
    """A small file as a member of an archive."""
    return _header(name, tarfile.REGTYPE, 0o644, len(data)) + data + bytes(-len(data) % tarfile.BLOCKSIZE)
