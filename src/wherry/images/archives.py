"""What images an archive holds: docker-archive (`manifest.json`, every `docker save`) and OCI layout (`index.json`).

Reading is of the table of members only; each document's and each blob's digest is compared with what refers to it
before anything is stored. What an archive says twice (`docker save` since 25 writes both forms) is taken from
`manifest.json`, with the OCI manifest where one fits, so that its digest survives.
"""

import posixpath
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from wherry.errors import DigestMismatch, HostileInput, InvalidArgument, InvalidReference, InvalidSpec
from wherry.images.members import Member, Members
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.oci.image import Descriptor, ImageConfig, Index, Manifest
from wherry.oci.platform import Platform, host
from wherry.oci.reference import Reference, parse_normalized

_JSON_LIMIT = 4 << 20
_IMAGES_LIMIT = 1024
_NESTING = 4
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Layer:
    """One layer of a planned image: which blob it is, and the member that brings it (None: it must be here already)."""

    __slots__ = ("descriptor", "diff_id", "member")

    def __init__(self, descriptor: Descriptor, diff_id: str, member: Member | None) -> None:
        self.descriptor = descriptor
        self.diff_id = diff_id
        self.member = member


class Planned:
    """An image as an archive describes it, its documents verified.

    Args:
        raw_config: config document; its digest is the image's id.
        raw_manifest: the archive's own manifest, or one made for it.
        layers: oldest first.
        names: names that shall point at it.
    """

    __slots__ = (
        "beside",
        "config",
        "id",
        "indexes",
        "layers",
        "manifest_digest",
        "names",
        "raw_config",
        "raw_manifest",
    )

    def __init__(
        self, raw_config: bytes, config: ImageConfig, raw_manifest: bytes, layers: list[Layer], names: list[Reference]
    ) -> None:
        self.id = digests.of(raw_config)
        self.config = config
        self.raw_config = raw_config
        self.raw_manifest = raw_manifest
        self.manifest_digest = digests.of(raw_manifest)
        self.layers = layers
        self.names = names
        # multi-platform indexes that names stand for, and what the archive has of them
        self.indexes: dict[str, str] = {}
        self.beside: dict[str, Member] = {}


class _Entry(Struct, rename={"config": "Config", "repo_tags": "RepoTags", "layers": "Layers"}):
    """One image of a docker-archive's `manifest.json`."""

    config: str
    layers: list[str] | None = None
    repo_tags: list[str] | None = None


def plan(members: Members, platform: Platform | None = None) -> list[Planned]:
    """Return the images of an archive.

    Args:
        members: its table.
        platform: which image of an index to take; the machine's where None.

    Raises:
        InvalidArgument, InvalidSpec, InvalidReference: it is no image archive, or a document is wrong.
        DigestMismatch: a document or layer is not what refers to it.
        HostileInput: a limit is broken.
    """
    if members.find("manifest.json") is not None:
        return _with_indexes(members, _docker(members))
    if members.find("index.json") is not None:
        return _with_indexes(members, _oci(members, platform or host()))
    if members.find("repositories") is not None:
        raise InvalidArgument("unsupported archive: docker save format v1 (repositories without manifest.json)")
    raise InvalidArgument("invalid archive: does not contain a manifest.json")


def layer_media_type(first: bytes) -> str:
    """Return the media type of a layer blob that begins with these bytes."""
    if first.startswith(_GZIP):
        return documents.OCI_LAYER + "+gzip"
    if first.startswith(_ZSTD):
        return documents.OCI_LAYER + "+zstd"
    return documents.OCI_LAYER


def is_packed(first: bytes) -> bool:
    """Whether a layer that begins so is compressed in a form without a media type: such a one is stored inflated."""
    return first.startswith((b"\xfd7zXZ\0", b"BZh"))


def make_manifest(raw_config: bytes, layers: list[Descriptor], annotations: Mapping[str, str] | None = None) -> bytes:
    """Return an OCI manifest for an image that came without one."""
    config = Descriptor(documents.OCI_CONFIG, digests.of(raw_config), len(raw_config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_MANIFEST,
        "config": config,
        "layers": layers,
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return documents.encode(manifest)


# -- multi-platform


def _with_indexes(members: Members, images: list[Planned]) -> list[Planned]:
    """Note for each name which index of the archive it stands for."""
    if members.find("index.json") is None:
        return images
    owners = {str(name): image for image in images for name in image.names}
    for descriptor in _index(members).manifests:
        name = _annotated_name(descriptor) if descriptor.media_type in documents.INDEXES else None
        image = owners.get(str(name))
        if image is not None and _blob(members, descriptor) is not None:
            image.indexes[str(name)] = descriptor.digest
            image.beside.update(_content(members, descriptor, 0, [0]))
    return images


def _content(members: Members, descriptor: Descriptor, depth: int, count: list[int]) -> dict[str, Member]:
    """Return what the archive has below a manifest or an index, and itself, by digest; nothing where it is absent."""
    count[0] += 1
    if depth > _NESTING or count[0] > _IMAGES_LIMIT:
        raise HostileInput(f"indexes are nested deeper than {_NESTING}, or have more than {_IMAGES_LIMIT} manifests")
    member = _blob(members, descriptor)
    if member is None:
        return {}
    found = {descriptor.digest: member}
    if descriptor.media_type in documents.INDEXES:
        for item in documents.read_index(member.read(documents.MANIFEST_LIMIT), descriptor.media_type).manifests:
            found.update(_content(members, item, depth + 1, count))
    elif descriptor.media_type in documents.MANIFESTS:
        manifest = documents.read_manifest(member.read(documents.MANIFEST_LIMIT), descriptor.media_type)
        for item in (manifest.config, *manifest.layers):
            blob = _blob(members, item)
            if blob is not None:
                found[item.digest] = blob
    return found


# -- docker-archive


def _docker(members: Members) -> list[Planned]:
    value = documents.read_json(members.get("manifest.json").read(_JSON_LIMIT), _JSON_LIMIT, "manifest.json")
    try:
        entries = msgspec.convert(value, list[_Entry])
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"invalid manifest.json: {error}") from None
    if len(entries) > _IMAGES_LIMIT:
        raise HostileInput(f"archive has more than {_IMAGES_LIMIT} images")
    manifests = _oci_manifests(members)
    return [_docker_image(members, entry, manifests) for entry in entries]


def _docker_image(members: Members, entry: _Entry, manifests: dict[str, list[tuple[bytes, Manifest]]]) -> Planned:
    raw_config = _document(members, entry.config, documents.CONFIG_LIMIT)
    config = documents.read_config(raw_config)
    paths = entry.layers or []
    diff_ids = config.rootfs.diff_ids
    if len(paths) != len(diff_ids):
        raise InvalidSpec(f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(paths)}")
    names = []
    for tag in entry.repo_tags or []:
        name = parse_normalized(tag)
        if not name.tag or name.digest:
            raise InvalidReference(f'invalid tag "{tag}"')
        names.append(name)
    layers = []
    for position, (path, diff_id) in enumerate(zip(paths, diff_ids, strict=True)):
        member = members.get(path)
        _check_name(path, member)
        media_type = layer_media_type(first_bytes(member))
        if media_type == documents.OCI_LAYER and not is_packed(first_bytes(member)) and member.digest != diff_id:
            raise DigestMismatch(
                f'invalid diffID for layer {position}: expected "{diff_id}", got "{member.digest}"',
                expected=diff_id,
                found=member.digest,
            )
        layers.append(Layer(Descriptor(media_type, member.digest, member.size), diff_id, member))
    own = _fitting(manifests.get(digests.of(raw_config), []), layers)
    raw_manifest = own or make_manifest(raw_config, [layer.descriptor for layer in layers])
    return Planned(raw_config, config, raw_manifest, layers, names)


def _fitting(manifests: list[tuple[bytes, Manifest]], layers: list[Layer]) -> bytes | None:
    blobs = [layer.descriptor.digest for layer in layers]
    for raw, manifest in manifests:
        if [descriptor.digest for descriptor in manifest.layers] == blobs:
            return raw
    return None


def _oci_manifests(members: Members) -> dict[str, list[tuple[bytes, Manifest]]]:
    """Manifests that the archive's `index.json` reaches, by digest of their config."""
    found: dict[str, list[tuple[bytes, Manifest]]] = {}
    if members.find("index.json") is None:
        return found
    for raw, manifest, _ in _walk(members, _index(members).manifests, 0, [0]):
        found.setdefault(manifest.config.digest, []).append((raw, manifest))
    return found


def _document(members: Members, path: str, limit: int) -> bytes:
    member = members.get(path)
    _check_name(path, member)
    return member.read(limit)


def _check_name(path: str, member: Member) -> None:
    """A name that is a digest (`<hex>.json`, `blobs/sha256/<hex>`) promises content; the rest are only names."""
    stem = posixpath.basename(path).removesuffix(".json")
    if len(stem) == 64 and digests.is_hex(stem) and member.digest.hex != stem:
        raise DigestMismatch(
            f"unexpected digest {member.digest} of archive member {path!r}",
            expected=f"sha256:{stem}",
            found=member.digest,
        )


def first_bytes(member: Member) -> bytes:
    """Return the first 8 bytes of a member: they tell how it is compressed."""
    if member.data is not None:
        return member.data[:8]
    assert member.ingest is not None
    with open(member.ingest.path, "rb") as file:
        return file.read(8)


# -- OCI layout


def _oci(members: Members, platform: Platform) -> list[Planned]:
    layout = documents.read_json(members.get("oci-layout").read(1 << 16), 1 << 16, "oci-layout")
    if not isinstance(layout, dict) or layout.get("imageLayoutVersion") != "1.0.0":
        raise InvalidSpec("invalid oci-layout: unsupported imageLayoutVersion")
    index = _index(members)
    # a name may stand at several platforms of one image: they are one image here, the one that runs here
    groups: dict[str, list[Descriptor]] = {}
    for number, descriptor in enumerate(index.manifests):
        name = _annotated_name(descriptor)
        groups.setdefault(str(name) if name else f"#{number}", []).append(descriptor)
    images: dict[str, Planned] = {}
    for key, descriptors in groups.items():
        reached = list(_walk(members, descriptors, 0, [0]))
        if not reached:
            continue
        chosen = _choose(members, reached, platform)
        names = [] if key.startswith("#") else [parse_normalized(key)]
        image = _oci_image(members, *chosen, names)
        if image.id in images:
            images[image.id].names.extend(name for name in names if name not in images[image.id].names)
        else:
            images[image.id] = image
    if not images:
        raise InvalidArgument("invalid archive: index.json leads to no image in the archive")
    return list(images.values())


def _index(members: Members) -> Index:
    raw = members.get("index.json").read(documents.MANIFEST_LIMIT)
    return documents.read_index(raw)


def _walk(
    members: Members, descriptors: list[Descriptor], depth: int, count: list[int]
) -> "list[tuple[bytes, Manifest, Descriptor]]":
    """Return the manifests that descriptors lead to, through nested indexes; what is not in the archive is left out."""
    if depth > _NESTING:
        raise HostileInput(f"indexes are nested deeper than {_NESTING}")
    found: list[tuple[bytes, Manifest, Descriptor]] = []
    for descriptor in descriptors:
        count[0] += 1
        if count[0] > _IMAGES_LIMIT:
            raise HostileInput(f"archive has more than {_IMAGES_LIMIT} manifests")
        if _is_attestation(descriptor):
            continue
        member = _blob(members, descriptor)
        if member is None:
            continue
        raw = member.read(documents.MANIFEST_LIMIT)
        if descriptor.media_type in documents.INDEXES:
            nested = documents.read_index(raw, descriptor.media_type).manifests
            found += _walk(members, nested, depth + 1, count)
        elif descriptor.media_type in documents.MANIFESTS:
            manifest = documents.read_manifest(raw, descriptor.media_type)
            if manifest.config.media_type in documents.CONFIGS:
                found.append((raw, manifest, descriptor))
    return found


def _choose(
    members: Members, reached: list[tuple[bytes, Manifest, Descriptor]], wanted: Platform
) -> tuple[bytes, Manifest]:
    def platform_of(item: tuple[bytes, Manifest, Descriptor]) -> Platform:
        _, manifest, descriptor = item
        if descriptor.platform and descriptor.platform.architecture:
            return descriptor.platform.normalized()
        member = _blob(members, manifest.config)
        if member is None:
            return wanted
        return documents.read_config(member.read(documents.CONFIG_LIMIT)).platform

    ranked = reached
    if len(reached) > 1:
        platforms = [platform_of(item) for item in reached]
        exact = [item for item, found in zip(reached, platforms, strict=True) if found == wanted]
        running = [item for item, found in zip(reached, platforms, strict=True) if wanted.runs(found)]
        ranked = exact or running or reached
    raw, manifest, _ = ranked[0]
    return raw, manifest


def _oci_image(members: Members, raw_manifest: bytes, manifest: Manifest, names: list[Reference]) -> Planned:
    member = _blob(members, manifest.config)
    if member is None:
        raise InvalidArgument(f"invalid archive: config {manifest.config.digest} is missing")
    raw_config = member.read(documents.CONFIG_LIMIT)
    config = documents.read_config(raw_config)
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise InvalidSpec(
            f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(manifest.layers)}"
        )
    layers = [
        Layer(descriptor, diff_id, _blob(members, descriptor))
        for descriptor, diff_id in zip(manifest.layers, diff_ids, strict=True)
    ]
    return Planned(raw_config, config, raw_manifest, layers, names)


def _blob(members: Members, descriptor: Descriptor) -> Member | None:
    """Return the member that a descriptor means, compared with it; None if the archive does not have it."""
    digest = digests.parse(descriptor.digest)
    member = members.find(f"blobs/{digest.algorithm}/{digest.hex}")
    if member is None:
        return None
    if member.size != descriptor.size:
        raise DigestMismatch(f"unexpected size {member.size} of {digest}, expected {descriptor.size}")
    if digest.algorithm == "sha256":
        if member.digest != digest:
            raise DigestMismatch(f"unexpected digest {member.digest}, expected {digest}")
    else:
        member.verify(digest)
    return member


def _is_attestation(descriptor: Descriptor) -> bool:
    annotations: dict[str, Any] = descriptor.annotations or {}
    return annotations.get("vnd.docker.reference.type") == "attestation-manifest" or bool(descriptor.artifact_type)


def _annotated_name(descriptor: Descriptor) -> Reference | None:
    """The name that a layout gives to an image: containerd's annotation, or the standard one if that is a whole name.

    The standard annotation is mostly a bare tag (`latest`), which names nothing without a repository.
    """
    annotations = descriptor.annotations or {}
    written = annotations.get(documents.ANNOTATION_IMAGE_NAME, "")
    if not written:
        written = annotations.get(documents.ANNOTATION_REF_NAME, "")
        if ":" not in written and "/" not in written:
            return None
    name = parse_normalized(written)
    if name.digest:
        return None
    return name.with_default_tag()
