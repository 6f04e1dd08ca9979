"""Image archives made by hand: as `docker save` 20.10 and 25 write them, as OCI layouts, and as an attacker would."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

# name -> content; a tuple is (tar type, link target)
Files = Mapping[str, "bytes | tuple[bytes, str]"]


def sha(data: bytes) -> str:
    """The sha256 digest of data."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(files: "Files | Iterable[tuple[str, bytes | tuple[bytes, str]]]") -> bytes:
    """A tar archive of some files, in order; pairs may name one twice."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            header = tarfile.TarInfo(name)
            header.mtime = 1_600_000_000
            if isinstance(content, tuple):
                header.type, header.linkname = content
                archive.addfile(header)
            elif name.endswith("/"):
                header.type = tarfile.DIRTYPE
                header.mode = 0o755
                archive.addfile(header)
            else:
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def config(layers: Iterable[bytes], **more: Any) -> bytes:
    """An image config over some plain layers."""
    document: dict[str, Any] = {
        "architecture": "amd64",
        "config": {"Env": ["A=b"], "Cmd": ["sh"]},
        "created": "2020-01-02T03:04:05.678Z",
        "history": [{"created": "2020-01-02T03:04:05.678Z", "created_by": "made", "comment": "c"} for _ in layers],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [sha(layer) for layer in layers]},
    }
    document.update(more)
    return json.dumps(document).encode()


def docker20(images: "list[tuple[bytes, list[bytes], list[str] | None]]") -> dict[str, Any]:
    """Members of an archive of 20.10: a directory for each layer, a repeated layer as a link to the first."""
    members: dict[str, Any] = {}
    first: dict[str, str] = {}
    manifest = []
    for raw_config, layers, tags in images:
        paths = []
        for number, layer in enumerate(layers):
            name = hashlib.sha256(f"{sha(raw_config)} {number}".encode()).hexdigest()
            members[f"{name}/"] = b""
            members[f"{name}/VERSION"] = b"1.0"
            members[f"{name}/json"] = b"{}"
            if sha(layer) in first:
                members[f"{name}/layer.tar"] = (tarfile.SYMTYPE, f"../{first[sha(layer)]}/layer.tar")
            else:
                members[f"{name}/layer.tar"] = layer
                first[sha(layer)] = name
            paths.append(f"{name}/layer.tar")
        config_name = sha(raw_config)[7:] + ".json"
        members[config_name] = raw_config
        manifest.append({"Config": config_name, "RepoTags": tags, "Layers": paths})
    members["manifest.json"] = json.dumps(manifest).encode()
    members["repositories"] = b"{}"
    return members


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    """What points at a blob."""
    return {"mediaType": media_type, "digest": sha(data), "size": len(data), **more}


def blob(data: bytes) -> tuple[str, bytes]:
    """A member of an OCI layout."""
    return "blobs/sha256/" + sha(data)[7:], data


def manifest(raw_config: bytes, layers: Iterable[bytes], kinds: Iterable[str] = (), **more: Any) -> bytes:
    """An OCI manifest; `kinds` are what follows the layers' media type (`+gzip`)."""
    suffixes = [*kinds] or [""] * len(list(layers))
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(raw_config, CONFIG),
        "layers": [descriptor(layer, LAYER + suffix) for layer, suffix in zip(layers, suffixes, strict=True)],
        **more,
    }
    return json.dumps(document).encode()


def layout(descriptors: list[dict[str, Any]], blobs: Iterable[bytes]) -> dict[str, Any]:
    """Members of an OCI layout."""
    members: dict[str, Any] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    members.update(dict(blob(data) for data in blobs))
    members["index.json"] = json.dumps({"schemaVersion": 2, "manifests": descriptors}).encode()
    return members


def named(data: bytes, name: str, media_type: str = MANIFEST, **more: Any) -> dict[str, Any]:
    """A descriptor with containerd's name."""
    annotations = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    return descriptor(data, media_type, annotations=annotations, **more)
