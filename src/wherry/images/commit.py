"""`commit`: what a container changed becomes one more layer on its image."""

import time
from typing import Any

import msgspec

from wherry import __version__
from wherry.images.archives import make_manifest
from wherry.images.model import Image
from wherry.images.seal import claim, seal
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.oci.image import Descriptor
from wherry.oci.reference import Reference
from wherry.store.images import ImageRecord
from wherry.values import times


class Commit:
    """What an image is made with.

    Args:
        container: id of the container.
        container_config: its own configuration, Docker's JSON.
        config: what the image says of how it is run.
        author, comment: of the person who commits.
        name: what shall point at the image.
    """

    __slots__ = ("author", "comment", "config", "container", "container_config", "name")

    def __init__(
        self,
        container: str,
        container_config: dict[str, Any],
        config: dict[str, Any],
        *,
        author: str = "",
        comment: str = "",
        name: Reference | None = None,
    ) -> None:
        self.container = container
        self.container_config = container_config
        self.config = config
        self.author = author
        self.comment = comment
        self.name = name


async def commit(stores: Stores, base: Image, upper_fd: int, what: Commit) -> str:
    """Make an image of a container's changes on top of the image that it was made from.

    Args:
        base: the container's image.
        upper_fd: the container's upper directory; stays the caller's.

    Returns:
        the image id. A container that changed nothing gives an image without a further layer, as with Docker.

    Raises:
        Conflict, HostileInput, InvalidArgument, KernelError: as `seal`; the store is as before.
    """
    async with claim(stores) as claims:
        await claims.image(base.record)
        sealed = await seal(stores, claims, upper_fd, base.chain_ids)
        layers = base.record.layers
        manifest = documents.read_manifest(stores.blobs.read(digests.parse(base.manifest), documents.MANIFEST_LIMIT))
        descriptors = [Descriptor(layer.media_type, layer.digest, layer.size) for layer in manifest.layers]
        if sealed is not None:
            layers = (*layers, sealed.layer)
            descriptors.append(Descriptor(sealed.media_type, sealed.layer.blob, sealed.layer.size))
        raw_config = _document(base, what, [layer.diff_id for layer in layers], empty=sealed is None)
        documents.read_config(raw_config)  # what we would refuse to load is not made either
        raw_manifest = make_manifest(raw_config, descriptors)
        id_, manifest_digest = digests.of(raw_config), digests.of(raw_manifest)
        await claims.blobs(id_, manifest_digest)
        await stores.write_documents({id_: raw_config, manifest_digest: raw_manifest})
        record = ImageRecord(str(id_), str(manifest_digest), layers, time.time_ns(), base.id)
        async with stores.changing:
            await stores.records.put(record, [str(what.name)] if what.name else ())
    return str(id_)


def _document(base: Image, what: Commit, diff_ids: list[str], *, empty: bool) -> bytes:
    """The image's configuration, with dockerd's keys in dockerd's order."""
    below: dict[str, Any] = msgspec.json.decode(base.raw_config)
    created = times.exact(time.time_ns() // 1000 * 1000)
    step: dict[str, Any] = {"created": created}
    if words := what.container_config.get("Cmd"):
        step["created_by"] = " ".join(words)
    if what.author:
        step["author"] = what.author
    if what.comment:
        step["comment"] = what.comment
    if empty:
        step["empty_layer"] = True
    document: dict[str, Any] = {"architecture": below.get("architecture") or ""}
    if what.author:
        document["author"] = what.author
    if what.comment:
        document["comment"] = what.comment
    document |= {
        "config": what.config,
        "container": what.container,
        "container_config": what.container_config,
        "created": created,
        "docker_version": __version__,
        "history": [*(below.get("history") or []), step],
        "os": below.get("os") or "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    for kept in ("os.version", "os.features", "variant"):
        if below.get(kept):
            document[kept] = below[kept]
    return documents.encode(document)
