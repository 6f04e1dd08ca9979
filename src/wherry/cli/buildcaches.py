"""Build caches in directories of the caller's: what of one is sent, and what need not come back."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.buildcontext import Ignore

_LIMIT = 8 << 20


def prepare(request: "dict[str, Any]", send: "Callable[[str, Ignore], str]") -> None:
    """Send the caches that are asked for, and tell which blobs lie already where one goes.

    A directory that is no cache yet is left out: the first build of all has none.

    Args:
        request: what the engine will be asked; changed.
        send: sends a directory without what it is told to leave out, and returns what the engine calls it by.
    """
    kept = []
    for place in request["cache_from"]:
        attrs = place["attrs"]
        if place["type"] == "local":
            if not os.path.exists(os.path.join(attrs["src"], "index.json")):
                continue
            attrs["sent"] = send(attrs["src"], _only(attrs["src"], attrs))
        kept.append(place)
    request["cache_from"] = kept
    for place in request["cache_to"]:
        if place["type"] == "local":
            place["attrs"]["have"] = _have(place["attrs"]["dest"])


def _have(directory: str) -> str:
    blobs = os.path.join(directory, "blobs", "sha256")
    try:
        with os.scandir(blobs) as entries:
            return " ".join(
                f"{entry.name}:{entry.stat().st_size}" for entry in entries if entry.is_file(follow_symlinks=False)
            )
    except OSError:
        return ""


def _only(directory: str, attrs: "dict[str, str]") -> "Ignore":
    """Leave out blobs that this cache does not name; what cannot be read is for the engine to judge."""
    wanted = {"index.json", "blobs", "blobs/sha256"}
    try:
        manifest = _manifest(directory, attrs)
        wanted.add(manifest)
        document = _json(os.path.join(directory, manifest))
        # archives of cache mounts are layers too, and go along only where they are asked for
        mounts = [] if attrs.get("mounts") in ("true", "1") else _mount_layers(directory, document)
        layers = [layer for index, layer in enumerate(document["layers"]) if index not in mounts]
        wanted.update(_path(one["digest"]) for one in (document["config"], *layers))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        pass
    return (lambda path: path not in wanted), (lambda path: path in wanted)


def _mount_layers(directory: str, document: "dict[str, Any]") -> "list[int]":
    config = _json(os.path.join(directory, _path(document["config"]["digest"])))
    return [mount["layer"] for mount in config.get("mounts") or ()]


def _manifest(directory: str, attrs: "dict[str, str]") -> str:
    every = _json(os.path.join(directory, "index.json"))["manifests"]
    tag = attrs.get("tag") or "latest"
    for one in reversed(every):
        named = (one.get("annotations") or {}).get("org.opencontainers.image.ref.name")
        if one["digest"] == attrs.get("digest") or (not attrs.get("digest") and named == tag):
            return _path(one["digest"])
    return _path(every[0]["digest"])


def _path(digest: str) -> str:
    kind, _, name = digest.partition(":")
    if kind != "sha256" or len(name) != 64 or not name.isalnum():
        raise ValueError("no digest")
    return f"blobs/sha256/{name}"


def _json(path: str) -> "Any":
    from wherry.client.quickjson import loads

    with open(path, "rb") as file:
        return loads(file.read(_LIMIT))
