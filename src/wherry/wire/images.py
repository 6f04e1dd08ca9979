"""An image as Docker's API shows it: a line of the list, and the whole of `inspect`.

The image's own config document is the source: what Docker's clients read (`Config`, `RootFS`, `Architecture`…) is
taken from it as it stands, with the keys that dockerd always writes filled in.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from wherry.values import times

_decode = msgspec.json.Decoder(dict[str, Any]).decode

# what dockerd writes of a container config also where the image says nothing
_CONFIG: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


class ImageFacts(Protocol):
    """What an image must say of itself to be shown."""

    @property
    def id(self) -> str:
        """`sha256:…`, the digest of the config."""

    @property
    def raw_config(self) -> bytes:
        """The config document."""

    @property
    def names(self) -> Sequence[str]:
        """Its tags, in their familiar form."""

    @property
    def repo_digests(self) -> Sequence[str]:
        """`repository@digest` for each name that it was pulled or pushed by."""

    @property
    def parent(self) -> str:
        """Id of the image it was built from, or nothing."""

    @property
    def layers(self) -> Sequence[str]:
        """Directories of its unpacked layers, lowest first."""

    @property
    def named_at(self) -> int:
        """When it last got a name: nanoseconds since the epoch, 0 never."""

    @property
    def size(self) -> int:
        """Bytes of all its layers, unpacked."""


def seconds(timestamp: Any) -> int:
    """Turn an RFC 3339 time into Unix seconds; 0 for none, for what is no time, and for one before 1970."""
    return max(0, times.seconds(str(timestamp).strip()))


def summary(
    image: ImageFacts, version: tuple[int, ...], containers: int = -1, shared: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Render a line of `GET /images/json`.

    Args:
        version: API version, (1, 41).
        containers: how many containers use it, -1: not counted.
        shared: bytes that other images have too, by id; None: not counted.
    """
    document = _decode(image.raw_config)
    line: dict[str, Any] = {
        "Containers": containers,
        "Created": seconds(document.get("created")),
        "Id": image.id,
        "Labels": (document.get("config") or {}).get("Labels"),
        "ParentId": image.parent,
        "RepoDigests": list(image.repo_digests),
        "RepoTags": list(image.names),
        "SharedSize": -1 if shared is None else shared.get(image.id, 0),
        "Size": image.size,
    }
    if version < (1, 43):
        # nameless images had these names, and docker-py of the time counts on them
        nameless = not image.names and not image.repo_digests
        line["RepoTags"] = ["<none>:<none>"] if nameless else line["RepoTags"] or None
        line["RepoDigests"] = ["<none>@<none>"] if nameless else line["RepoDigests"] or None
    if version < (1, 44):
        line["VirtualSize"] = image.size
    return line


def inspect(image: ImageFacts, version: tuple[int, ...]) -> dict[str, Any]:
    """Render `GET /images/{name}/json`.

    Args:
        version: API version, (1, 41).
    """
    document = _decode(image.raw_config)
    config = {**_CONFIG, **(document.get("config") or {})}
    shown: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.names),
        "RepoDigests": list(image.repo_digests),
        "Parent": image.parent,
        "Comment": document.get("comment") or "",
        "Created": document.get("created") or (times.ZERO if version < (1, 44) else None),
    }
    if shown["Created"] is None:
        del shown["Created"]
    if version < (1, 45):
        shown["Container"] = document.get("container") or ""
    # newer dockerds leave it out, or leave it empty; the first Compose (1.29) finds a service's volumes by it and takes
    # the newest API version that there is
    shown["ContainerConfig"] = {**config, **(document.get("container_config") or {})}
    shown["DockerVersion"] = document.get("docker_version") or ""
    shown["Author"] = document.get("author") or ""
    shown["Config"] = config
    shown["Architecture"] = document.get("architecture") or ""
    if document.get("variant"):
        shown["Variant"] = document["variant"]
    shown["Os"] = document.get("os") or ""
    if document.get("os.version"):
        shown["OsVersion"] = document["os.version"]
    shown["Size"] = image.size
    if version < (1, 44):
        shown["VirtualSize"] = image.size
    layers = image.layers
    # the work and the merged directory of a layer are named, as a container's are, and are not there
    beside = os.path.dirname(layers[-1]) if layers else ""
    data = {"MergedDir": f"{beside}/merged", "UpperDir": layers[-1], "WorkDir": f"{beside}/work"} if layers else {}
    if len(layers) > 1:
        data["LowerDir"] = ":".join(reversed(layers[:-1]))
    shown["GraphDriver"] = {"Data": data or None, "Name": "overlay2"}
    shown["RootFS"] = {"Type": "layers", "Layers": (document.get("rootfs") or {}).get("diff_ids") or []}
    shown["Metadata"] = {"LastTagTime": times.exact(image.named_at) if image.named_at else times.ZERO}
    return shown
