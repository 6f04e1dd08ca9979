"""Image documents: OCI image-spec 1.1 and Docker schema 2 manifests, indexes and image configs.

The raw bytes are the truth: a digest is of them, they are stored and handed out as they came, and what this module
returns is a reading of them. Keys that it does not know stay in the bytes. Documents are read strictly, because every
reader must read the same: bounded size and depth, no key twice (nor twice but for its case, which Go would take for
the same), no document that is a manifest and an index at once (CVE-2021-41190).
"""

import hashlib
import json
import re
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from wherry.errors import HostileInput, InvalidReference, InvalidSpec
from wherry.oci import digest as digests
from wherry.oci.digest import Digest
from wherry.oci.platform import Platform

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MANIFESTS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
INDEXES = frozenset((OCI_INDEX, DOCKER_INDEX))
CONFIGS = frozenset((OCI_CONFIG, DOCKER_CONFIG))

ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
ANNOTATION_IMAGE_NAME = "io.containerd.image.name"

MANIFEST_LIMIT = 4 << 20
CONFIG_LIMIT = 8 << 20
DEPTH_LIMIT = 64
VALUES_LIMIT = 200_000
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
LAYERS_LIMIT = 512

# keys that steer; Go's decoder takes them in any case, so two spellings in one object are two readings
_STEERING = frozenset(
    (
        "manifests",
        "layers",
        "config",
        "mediatype",
        "digest",
        "size",
        "urls",
        "platform",
        "rootfs",
        "diff_ids",
        "fslayers",
    )
)

T = TypeVar("T")


class PlatformSpec(Struct, omit_defaults=True):
    """`platform` of a descriptor in an index."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = field(default="", name="os.version")
    os_features: list[str] | None = field(default=None, name="os.features")

    def normalized(self) -> Platform:
        """The platform with its names as this machine's are."""
        return Platform(self.os or "linux", self.architecture or "unknown", self.variant)


class Descriptor(Struct, omit_defaults=True):
    """What points at a blob: type, digest, size in bytes."""

    media_type: str = field(default="", name="mediaType")
    digest: str = ""
    size: int = -1
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: PlatformSpec | None = None
    artifact_type: str = field(default="", name="artifactType")
    data: str = ""

    @property
    def verified(self) -> Digest:
        """The digest; it was checked when the document was read."""
        return Digest(self.digest)


class Manifest(Struct, omit_defaults=True):
    """One image: its config and its layers, oldest first."""

    schema_version: int = field(name="schemaVersion")
    config: Descriptor
    layers: list[Descriptor]
    media_type: str = field(default="", name="mediaType")
    artifact_type: str = field(default="", name="artifactType")
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(Struct, omit_defaults=True):
    """Several images under one name, one for each platform; also a layout's `index.json`."""

    schema_version: int = field(name="schemaVersion")
    manifests: list[Descriptor]
    media_type: str = field(default="", name="mediaType")
    artifact_type: str = field(default="", name="artifactType")
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Healthcheck(Struct, omit_defaults=True):
    """Docker's `Healthcheck`; durations in nanoseconds."""

    test: list[str] | None = field(default=None, name="Test")
    interval: int = field(default=0, name="Interval")
    timeout: int = field(default=0, name="Timeout")
    start_period: int = field(default=0, name="StartPeriod")
    start_interval: int = field(default=0, name="StartInterval")
    retries: int = field(default=0, name="Retries")


class ContainerConfig(Struct, omit_defaults=True):
    """`config` of an image: what a container of it starts with. OCI's keys and Docker's further ones."""

    hostname: str = field(default="", name="Hostname")
    domainname: str = field(default="", name="Domainname")
    user: str = field(default="", name="User")
    exposed_ports: dict[str, Any] | None = field(default=None, name="ExposedPorts")
    env: list[str] | None = field(default=None, name="Env")
    cmd: list[str] | None = field(default=None, name="Cmd")
    healthcheck: Healthcheck | None = field(default=None, name="Healthcheck")
    args_escaped: bool = field(default=False, name="ArgsEscaped")
    volumes: dict[str, Any] | None = field(default=None, name="Volumes")
    working_dir: str = field(default="", name="WorkingDir")
    entrypoint: list[str] | None = field(default=None, name="Entrypoint")
    on_build: list[str] | None = field(default=None, name="OnBuild")
    labels: dict[str, str] | None = field(default=None, name="Labels")
    stop_signal: str = field(default="", name="StopSignal")
    stop_timeout: int | None = field(default=None, name="StopTimeout")
    shell: list[str] | None = field(default=None, name="Shell")


class History(Struct, omit_defaults=True):
    """How one step of the image was made; one without a layer says `empty_layer`."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class RootFS(Struct, omit_defaults=True):
    """The uncompressed digests of the layers, oldest first."""

    type: str = "layers"
    diff_ids: list[str] = field(default_factory=list)


class ImageConfig(Struct, omit_defaults=True):
    """An image config; its digest is the image's id."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = field(default="", name="os.version")
    created: str = ""
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    container: str = ""
    config: ContainerConfig = field(default_factory=ContainerConfig)
    container_config: dict[str, Any] | None = None
    rootfs: RootFS = field(default_factory=RootFS)
    history: list[History] = field(default_factory=list)

    @property
    def platform(self) -> Platform:
        """What the image runs on; a config that does not say is taken for Linux on this machine."""
        from wherry.oci.platform import host

        here = host()
        return Platform(self.os or "linux", self.architecture or here.architecture, self.variant)


def read_manifest(raw: bytes, media_type: str = "") -> Manifest:
    """Read an image manifest.

    Args:
        raw: the document.
        media_type: what pointed at it says it is (a descriptor's or Content-Type); empty checks nothing.

    Raises:
        InvalidSpec: not a manifest of schema version 2, or one that is also something else.
        HostileInput: a limit is broken.
    """
    document = _load(raw, MANIFEST_LIMIT, "manifest")
    if _has(document, "manifests", "fslayers"):
        raise InvalidSpec("ambiguous manifest: a manifest must not have the keys of an index or of schema version 1")
    _check_type(document, media_type, MANIFESTS, "manifest")
    manifest = _convert(document, Manifest, "manifest")
    if len(manifest.layers) > LAYERS_LIMIT:
        raise HostileInput(f"manifest has {len(manifest.layers)} layers, more than {LAYERS_LIMIT}")
    for descriptor in (manifest.config, *manifest.layers):
        _check_descriptor(descriptor)
    return manifest


def read_index(raw: bytes, media_type: str = "") -> Index:
    """Read an image index; arguments and errors are those of `read_manifest`."""
    document = _load(raw, MANIFEST_LIMIT, "index")
    if _has(document, "config", "layers", "fslayers"):
        raise InvalidSpec("ambiguous index: an index must not have the keys of a manifest")
    _check_type(document, media_type, INDEXES, "index")
    index = _convert(document, Index, "index")
    for descriptor in index.manifests:
        _check_descriptor(descriptor)
    return index


def read_config(raw: bytes) -> ImageConfig:
    """Read an image config: OCI's, or Docker's (schema 2, `docker save`).

    Raises:
        InvalidSpec: not an image config.
        HostileInput: a limit is broken.
    """
    document = _load(raw, CONFIG_LIMIT, "image config")
    config = document.get("config")
    if isinstance(config, dict):
        for key in ("Cmd", "Entrypoint"):  # old documents hold one string
            if isinstance(config.get(key), str):
                config[key] = [config[key]]
    image = _convert(document, ImageConfig, "image config")
    if image.rootfs.type not in ("layers", ""):
        raise InvalidSpec(f"invalid image config: unsupported rootfs type {image.rootfs.type!r}")
    if len(image.rootfs.diff_ids) > LAYERS_LIMIT:
        raise HostileInput(f"image config has {len(image.rootfs.diff_ids)} layers, more than {LAYERS_LIMIT}")
    try:
        for diff_id in image.rootfs.diff_ids:
            if digests.parse(diff_id).algorithm != "sha256":
                raise InvalidReference("unsupported digest algorithm")
    except InvalidReference as error:
        raise InvalidSpec(f"invalid image config: diff_ids: {error}") from None
    return image


def read_json(raw: bytes, limit: int, what: str) -> Any:
    """Decode any JSON document under this module's rules (size, depth, no key twice, text that is Unicode).

    Args:
        raw: the document.
        limit: its largest size in bytes.
        what: its name in errors.

    Raises:
        InvalidSpec: not such a document.
        HostileInput: a limit is broken.
    """
    if len(raw) > limit:
        raise HostileInput(f"{what} is larger than {limit} bytes")
    # the decoder lets nobody else work meanwhile; commas inside strings count too, and no document comes near it
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > VALUES_LIMIT:
        raise HostileInput(f"{what} has more than {VALUES_LIMIT} values")
    _check_depth(raw, what)
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=lambda pairs: _object(pairs, what))
        if _SURROGATE.search(raw):
            json.dumps(
                value, ensure_ascii=False
            ).encode()  # half a pair is no character: it could never be written again
        return value
    except (ValueError, RecursionError) as error:
        raise InvalidSpec(f"invalid {what}: {error}") from None


def chain_ids(diff_ids: "list[str] | tuple[str, ...]") -> list[str]:
    """Return the chain id of every layer, oldest first (OCI image-spec, config.md): what a snapshot is named by."""
    chain: list[str] = []
    for diff_id in diff_ids:
        if not chain:
            chain.append(diff_id)
        else:
            chain.append("sha256:" + hashlib.sha256(f"{chain[-1]} {diff_id}".encode()).hexdigest())
    return chain


def encode(document: object) -> bytes:
    """Encode a document that we make ourselves: compact, keys in the order of the fields."""
    return msgspec.json.encode(document, enc_hook=_plain)


def plain(document: Struct) -> dict[str, Any]:
    """Return a document as plain values, for a message."""
    return dict(json.loads(encode(document)))


def _plain(value: object) -> str:
    if isinstance(value, Digest):
        return str(value)
    raise NotImplementedError(type(value))


def _load(raw: bytes, limit: int, what: str) -> dict[str, Any]:
    document = read_json(raw, limit, what)
    if not isinstance(document, dict):
        raise InvalidSpec(f"invalid {what}: not a JSON object")
    return _without_nulls(document)


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    # Go writes null for what is absent; inside maps (ExposedPorts, Labels) a null has a meaning and is kept
    cleaned = {key: item for key, item in value.items() if item is not None}
    for key in ("config", "rootfs", "platform", "subject", "Healthcheck"):
        if isinstance(cleaned.get(key), dict):
            cleaned[key] = _without_nulls(cleaned[key])
    for key in ("history", "layers", "manifests"):
        if isinstance(cleaned.get(key), list):
            cleaned[key] = [_without_nulls(item) if isinstance(item, dict) else item for item in cleaned[key]]
    return cleaned


def _object(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    seen: set[str] = set()
    for key, value in pairs:
        folded = key.casefold()
        if key in made or (folded in _STEERING and folded in seen):
            raise InvalidSpec(f"invalid {what}: key {key[:64]!r} is there twice")
        seen.add(folded)
        made[key] = value
    return made


def _check_depth(raw: bytes, what: str) -> None:
    # brackets inside strings count too: that only makes the limit stricter, and no document comes near it
    depth = 0
    in_string = escaped = False
    if raw.count(b"[") + raw.count(b"{") <= DEPTH_LIMIT:
        return
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            if depth > DEPTH_LIMIT:
                raise HostileInput(f"{what} is nested deeper than {DEPTH_LIMIT}")
        elif byte in (0x5D, 0x7D):
            depth -= 1


def _convert(document: dict[str, Any], kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"invalid {what}: {error}") from None


def _has(document: dict[str, Any], *keys: str) -> bool:
    """Whether a document has one of these keys, in any case, as Go would take it."""
    return any(key.casefold() in keys for key in document)


def _check_type(document: dict[str, Any], expected: str, allowed: frozenset[str], what: str) -> None:
    written = document.get("mediaType", "")
    if document.get("schemaVersion") != 2:
        raise InvalidSpec(f"invalid {what}: unsupported schema version {document.get('schemaVersion')!r}")
    if not isinstance(written, str) or (written and written not in allowed):
        raise InvalidSpec(f"invalid {what}: unexpected media type {str(written)[:128]!r}")
    if expected and written and expected != written:
        raise InvalidSpec(f"invalid {what}: media type {written!r} is not the announced {expected[:128]!r}")
    if expected and expected not in allowed:
        raise InvalidSpec(f"invalid {what}: announced as {expected[:128]!r}")


def _check_descriptor(descriptor: Descriptor) -> None:
    try:
        digests.parse(descriptor.digest)
    except InvalidReference as error:
        raise InvalidSpec(f"invalid descriptor: {error}") from None
    if not 0 <= descriptor.size < 1 << 63:
        raise InvalidSpec(f"invalid descriptor: size {descriptor.size}")
